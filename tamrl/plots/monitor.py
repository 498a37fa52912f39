"""Figures of the monitor: a tower's newest year against its own earlier ones."""

from typing import Any

import matplotlib.dates as mdates
import xarray as xr
from matplotlib.figure import Figure

from tamrl.plots.style import FLUX_COLOURS, GREY, UNIT, figure, rows


@figure
def monitor_record(judged: xr.Dataset) -> Figure:
    """Draw the judged days of each flux over what is usual: mean, one sd over the years.

    ``judged`` is from `tamrl.monitor.anomalies`.
    """
    fig, axes = rows(judged.sizes["flux"], 6.0, sharex=True)
    for ax, flux in zip(axes, judged.flux.values, strict=True):
        one, colour = judged.sel(flux=flux), FLUX_COLOURS.get(str(flux), GREY)
        low, high = one.usual - one.usual_sd, one.usual + one.usual_sd
        ax.fill_between(one.time, low, high, color=GREY, alpha=0.35, label="usual, one sd of years")
        ax.plot(one.time, one.usual, color=GREY, linestyle="--", linewidth=1, label="usual")
        ax.plot(one.time, one["mean"], color=colour, linewidth=1.5, label="this year")
    return _labelled(fig, axes, judged, "mean")


@figure
def monitor_anomaly(judged: xr.Dataset) -> Figure:
    """Draw the anomaly of each flux with its interval, and the observed one where it is known."""
    fig, axes = rows(judged.sizes["flux"], 6.0, sharex=True)
    for ax, flux in zip(axes, judged.flux.values, strict=True):
        one, colour = judged.sel(flux=flux), FLUX_COLOURS.get(str(flux), GREY)
        ax.fill_between(one.time, one.lower, one.upper, color=GREY, alpha=0.35, label="90 %")
        ax.plot(one.time, one.anomaly, color=colour, linewidth=1.5, label="predicted")
        ax.plot(one.time, one.observed, ".", color="black", markersize=3, label="observed")
        ax.axhline(0, color=GREY, linewidth=0.8)
    return _labelled(fig, axes, judged, "anomaly")


def _labelled(fig: Figure, axes: list[Any], judged: xr.Dataset, what: str) -> Figure:
    for ax, flux in zip(axes, map(str, judged.flux.values), strict=True):
        ax.set_title(flux, loc="left", color=FLUX_COLOURS.get(flux, GREY), weight="bold")
        ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(ax.xaxis.get_major_locator()))
    fig.supylabel(f"{what} of {judged.attrs['window']} days ({UNIT})", fontsize=11)
    return fig
