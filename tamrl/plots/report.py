"""The picture of one tower's prediction: its days, its mean season, its cumulative NEE."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from tamrl.plots import style

LONG = 3 * 366  # days drawn one by one
WHOLE = 350  # predicted days that make a year whole enough for a sum
MONTHS = "JFMAMJJASOND"
SIZE = (7.2, 11.5)  # inches: upright, as a phone is held


@style.figure
def prediction(fluxes: xr.Dataset, measured: xr.Dataset | None = None) -> Figure:
    """Draw one tower's GPP, RECO, NEE (time), gC m-2 d-1, with bounds and what was measured.

    ``fluxes`` has perhaps ``*_lower`` and ``*_upper``, 90 % of daily values; ``measured`` has days
    of the same fluxes, NaN where there is none. Daily series (of more than three years, the last
    three), mean season by month with its range over years, and NEE summed up year by year.
    """
    table = _by_day(fluxes).dropna(subset=["NEE"])
    dots = None if measured is None else _by_day(measured)
    fig, axes = plt.subplots(5, 1, figsize=SIZE, height_ratios=(2, 2, 2, 2.4, 2.4))
    last = table[table.index > table.index[-1] - pd.Timedelta(days=LONG)].asfreq("D")
    for ax, name in zip(axes, style.FLUX_COLOURS, strict=False):
        _days(ax, last, dots, name)
        ax.sharex(axes[2])
        ax.tick_params(labelbottom=ax is axes[2])
    where = f"{fluxes.site.item()}: " if "site" in fluxes.coords else ""
    axes[0].set_title(f"{where}{axes[0].get_title('left')}", loc="left")
    axes[2].xaxis.set_major_formatter(ConciseDateFormatter(axes[2].xaxis.get_major_locator()))
    _season(axes[3], table)
    _cumulative(axes[4], table)
    return fig


def _by_day(fluxes: xr.Dataset) -> pd.DataFrame:
    days = [name for name, values in fluxes.data_vars.items() if values.dims == ("time",)]
    return fluxes[days].reset_coords(drop=True).to_dataframe()


def _days(ax: Axes, table: pd.DataFrame, dots: pd.DataFrame | None, name: str) -> None:
    """Draw daily values within their bounds, gaps as gaps, and dots where measured."""
    colour, title = style.FLUX_COLOURS[name], f"{name} by day"
    if f"{name}_lower" in table:
        low, high = table[f"{name}_lower"], table[f"{name}_upper"]
        ax.fill_between(table.index, low, high, color=colour, alpha=0.3, linewidth=0)
        title += ", shaded: 90 % bounds"
    ax.plot(table.index, table[name], color=colour, linewidth=1.1, label=name)
    if dots is not None and name in dots and (seen := dots[name].reindex(table.index)).any():
        ax.plot(seen.index, seen, ".", color="black", markersize=2.5, alpha=0.6, zorder=3)
        title += ", dots: measured"
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_title(title, loc="left")
    ax.set_ylabel(style.UNIT)


def _season(ax: Axes, table: pd.DataFrame) -> None:
    """Draw monthly means over all years, and how far single years lie apart."""
    when = pd.DatetimeIndex(table.index)
    month = table.groupby([when.year, when.month])[list(style.FLUX_COLOURS)].mean()
    each = month.groupby(level=1)
    for name, colour in style.FLUX_COLOURS.items():
        mean, low, high = (getattr(each[name], of)() for of in ("mean", "min", "max"))
        ax.plot(mean.index, mean, "o-", color=colour, markersize=4, label=name)
        ax.fill_between(mean.index, low, high, color=colour, alpha=0.2, linewidth=0)
    years = month.index.get_level_values(0).nunique()
    spread = f", range over {years} years" if years > 1 else ""
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_xticks(np.arange(1, 13), list(MONTHS))
    ax.set_title(f"Mean season{spread}", loc="left")
    ax.set_ylabel(style.UNIT)


def _cumulative(ax: Axes, table: pd.DataFrame) -> None:
    """Draw NEE summed up over each whole year; without any, over all days."""
    nee, colour = table.NEE.asfreq("D"), style.FLUX_COLOURS["NEE"]
    years = {
        year: days.fillna(0).cumsum()
        for year, days in nee.groupby(pd.DatetimeIndex(nee.index).year)
        if days.notna().sum() >= WHOLE
    }
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set_ylabel("gC m$^{-2}$")
    if not years:
        ax.plot(nee.index, nee.fillna(0).cumsum(), color=colour)
        ax.set_title("NEE summed up over the predicted days (down: uptake)", loc="left")
        return
    for total in years.values():
        ax.plot(
            pd.DatetimeIndex(total.index).day_of_year, total, color=colour, linewidth=1, alpha=0.7
        )
    sums = pd.Series({year: total.iloc[-1] for year, total in years.items()}).sort_values()
    for year, va in {sums.index[0]: "top", sums.index[-1]: "bottom"}.items():
        ax.annotate(f" {year}: {sums[year]:.0f}", (366, sums[year]), va=va)
    first = pd.date_range("2001-01-01", periods=12, freq="MS").day_of_year
    ax.set_xticks(first, list(MONTHS))
    ax.set_xlim(1, 420)
    mean = f", mean {sums.mean():.0f}" if len(sums) > 1 else ""
    ax.set_title(f"NEE summed up over {len(sums)} whole year(s){mean} (down: uptake)", loc="left")
