"""Figures of intervals held against what was measured, in the look of `tamrl.plots.style`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tamrl.plots.style import FLUX_COLOURS, GREY, _legend, _shown_once

MARKERS = {"GPP": "o", "RECO": "s", "NEE": "D"}


@_shown_once
def reliability(table: pd.DataFrame) -> Figure:
    """Draw the share of days inside intervals against what the intervals promise, a line a flux.

    ``table`` has flux, level, coverage, as of one model in `tamrl.evaluate.interval_coverage.interval_table`.
    """
    fig, ax = plt.subplots(figsize=(4.6, 4.2))
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as promised")
    for flux, rows in table.groupby("flux", sort=False):
        line = rows.sort_values("level")
        name = str(flux)
        ax.plot(
            line.level, line.coverage, color=FLUX_COLOURS.get(name, GREY), label=name,
            marker=MARKERS.get(name, "o"), markersize=6, linewidth=1.5,
        )  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set_xlabel("promised share of days inside (%)")
    ax.set_ylabel("share of days inside at unseen towers (%)")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
    _legend(fig, ax)
    return fig


@_shown_once
def coverage_by_class(table: pd.DataFrame, allowed: tuple[float, float] = (0.85, 0.95)) -> Figure:
    """Draw the share inside intervals of 90 %, a row a class, a panel a period, a mark a flux.

    ``table`` has period, stratum, flux, towers, coverage; ``allowed`` is shaded.
    """
    periods = list(dict.fromkeys(table.period)) or ["day"]  # none: an empty panel
    towers = table.groupby("stratum").towers.max().sort_values()
    height = max(1.3 + 0.3 * len(towers), 2.5)
    fig, axes = plt.subplots(
        1, len(periods), figsize=(7.6, height), sharey=True, sharex=True, squeeze=False
    )
    for ax, period in zip(axes[0], periods, strict=True):
        ax.axvspan(*allowed, color="#e4e4e4", zorder=0, label="85 to 95 %")
        ax.axvline(0.9, color=GREY, linewidth=1, zorder=1)
        for flux, rows in table[table.period == period].groupby("flux", sort=False):
            at = [towers.index.get_loc(name) for name in rows.stratum]
            name = str(flux)
            ax.plot(
                rows.coverage, at, MARKERS.get(name, "o"), color=FLUX_COLOURS.get(name, GREY),
                markersize=6, label=name, markeredgecolor="black", markeredgewidth=0.4,
            )  # fmt: skip
        ax.set_title(f"values of a {period}", loc="left")
        ax.set_xlabel("share inside (%)")
        ax.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    labels = [f"{name} ({count})" for name, count in towers.items()]
    axes[0][0].set_yticks(range(len(towers)), labels)
    axes[0][0].set_xlim(min([0.7, *table.coverage.dropna()]) - 0.02, 1.02)
    axes[0][0].set_ylabel("class (towers)")
    _legend(fig, axes[0][0])
    return fig
