"""Figures of what the study costs, in the look of `tamrl.plots.style`."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from tamrl.plots.style import FLUX_COLOURS, GREY, RED, _legend, _shown_once

MARKS = {"fp32": "o", "bf16": "s"}
COLOURS = {"training": FLUX_COLOURS["RECO"], "prediction": FLUX_COLOURS["GPP"]}
AXES = {
    "towers": "towers", "length": "days of a window", "hidden": "hidden size of the LSTM",
}  # fmt: skip


@_shown_once
def against_peer(table: pd.DataFrame, size: str) -> Figure:
    """Draw each stage's tower-days per operation, as a multiple of the authors' code.

    ``table`` is from `tamrl.study.cost.tables.stages`; 1 is the authors' code at the same ``size``.
    """
    rows = table[(table["size"] == size) & table.times.notna()]
    names = list(dict.fromkeys(rows.stage))[::-1]
    fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(names)))
    for precision, part in rows.groupby("precision", sort=False):
        at = [names.index(name) for name in part.stage]
        ax.plot(part.times, at, MARKS.get(str(precision), "o"), label=str(precision), markersize=7)
    ax.axvline(1, color=RED, linewidth=1, label="the authors' code, fp32")
    ax.set_xscale("log")
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel("tower-days per operation, as a multiple of the authors' code")
    _legend(fig, ax)
    return fig


@_shown_once
def scaling(table: pd.DataFrame) -> Figure:
    """Draw rates against towers, days of a window and hidden size; see `tamrl.study.cost.tables.scaling`."""
    axes_there = [name for name in AXES if name in set(table.axis)]
    fig, axes = plt.subplots(
        1, len(axes_there), figsize=(7.8, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, name in zip(axes[0], axes_there, strict=True):
        part = table[table.axis == name]
        for (stage, precision), line in part.groupby(["stage", "precision"], sort=False):
            kind = str(stage).partition(",")[0]
            ax.plot(
                line.value, line.rate, marker=MARKS.get(str(precision), "o"), markersize=5,
                color=COLOURS.get(kind, GREY), label=f"{kind}, {precision}",
                linestyle="-" if precision == "fp32" else "--",
            )  # fmt: skip
        ax.set(xscale="log", yscale="log")
        ticks = sorted(set(part.value))
        ax.set_xticks(ticks, [str(t) for t in ticks], fontsize=9)
        ax.minorticks_off()
        ax.set_xlabel(AXES[name])
    axes[0][0].set_ylabel("tower-days/s, one core")
    _legend(fig, axes[0][0])
    return fig
