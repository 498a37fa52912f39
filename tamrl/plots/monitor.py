"""Figures of the monitor, in the look of `tamrl.plots.style`."""

from __future__ import annotations

import matplotlib.dates as mdates
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tamrl.plots.style import FLUX_COLOURS, GREY, UNIT, _legend, _rows, _shown_once


@_shown_once
def monitor_record(found: xr.Dataset) -> Figure:
    """Draw the judged days of each flux over what is usual: mean, one sd over the years.

    ``found`` is from `tamrl.monitor.anomalies`.
    """
    fig, axes = _rows(found.sizes["flux"], 6.0, sharex=True)
    for ax, flux in zip(axes, found.flux.values, strict=True):
        one, name = found.sel(flux=flux), str(flux)
        low, high = one.usual - one.usual_sd, one.usual + one.usual_sd
        ax.fill_between(one.time, low, high, color=GREY, alpha=0.35, label="usual, one sd of years")
        ax.plot(one.time, one.usual, color=GREY, linestyle="--", linewidth=1, label="usual")
        ax.plot(one.time, one["mean"], color="black", linewidth=1.5, label="this year")
        ax.set_title(name, loc="left", color=FLUX_COLOURS.get(name, GREY), weight="bold")
        _months(ax)
    fig.supylabel(f"mean of {found.attrs['window']} days ({UNIT})", fontsize=11)
    _legend(fig, ax)
    return fig


@_shown_once
def monitor_anomaly(found: xr.Dataset) -> Figure:
    """Draw the anomaly of each flux with its interval, and the observed one where it is known."""
    fig, axes = _rows(found.sizes["flux"], 6.0, sharex=True)
    for ax, flux in zip(axes, found.flux.values, strict=True):
        one, name = found.sel(flux=flux), str(flux)
        colour = FLUX_COLOURS.get(name, GREY)
        ax.fill_between(one.time, one.lower, one.upper, color=GREY, alpha=0.35, label="90 %")
        ax.plot(one.time, one.anomaly, color="black", linewidth=1.5, label="predicted")
        ax.plot(one.time, one.observed, ".", color="black", markersize=3, label="observed")
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set_title(name, loc="left", color=colour, weight="bold")
        _months(ax)
    fig.supylabel(f"anomaly of {found.attrs['window']} days ({UNIT})", fontsize=11)
    _legend(fig, ax)
    return fig


def _months(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(ax.xaxis.get_major_locator()))
