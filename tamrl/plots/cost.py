"""Figures of what the study costs."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from tamrl.plots.style import FLUX_COLOURS, GREY, RED, columns, figure

MARKS = {"fp32": "o", "bf16": "s"}
COLOURS = {"training": FLUX_COLOURS["RECO"], "prediction": FLUX_COLOURS["GPP"]}
AXES = {"towers": "towers", "length": "days of a window", "hidden": "hidden size of the LSTM"}


@figure
def against_peer(table: pd.DataFrame, size: str) -> Figure:
    """Draw each stage's tower-days per operation, as a multiple of the authors' code.

    ``table`` is from `tamrl.study.cost.tables.stages`; 1 is the authors' code at the same ``size``.
    """
    rows = table[(table["size"] == size) & table.times.notna()]
    names = list(dict.fromkeys(rows.stage))[::-1]
    fig, ax = plt.subplots(figsize=(6.4, 0.9 + 0.45 * len(names)))
    for precision, part in rows.groupby("precision", sort=False):
        y = [names.index(name) for name in part.stage]
        ax.plot(part.times, y, MARKS.get(str(precision), "o"), label=str(precision), markersize=7)
    ax.axvline(1, color=RED, linewidth=1, label="the authors' code, fp32")
    ax.set(xscale="log", ylim=(-0.6, len(names) - 0.4))
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("tower-days per operation, as a multiple of the authors' code")
    return fig


@figure
def scaling(table: pd.DataFrame) -> Figure:
    """Draw rates (tower-days/s) against towers, days of a window and hidden size."""
    shown = [name for name in AXES if name in set(table.axis)]
    fig, axes = columns(len(shown), (7.8, 3.4))
    for ax, name in zip(axes, shown, strict=True):
        part = table[table.axis == name]
        for (stage, precision), line in part.groupby(["stage", "precision"], sort=False):
            kind = str(stage).partition(",")[0]
            ax.plot(
                line.value, line.rate, marker=MARKS.get(str(precision), "o"), markersize=5,
                color=COLOURS.get(kind, GREY), label=f"{kind}, {precision}",
                linestyle="-" if precision == "fp32" else "--",
            )  # fmt: skip
        ticks = sorted(set(part.value))
        ax.set(xscale="log", yscale="log", xlabel=AXES[name])
        ax.set_xticks(ticks, [str(t) for t in ticks], fontsize=9)
        ax.minorticks_off()
    axes[0].set_ylabel("tower-days/s, one core")
    return fig
