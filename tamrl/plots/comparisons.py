"""Figures of long comparisons, in the look of `tamrl.plots.style`; no logic here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tamrl.plots.style import FLUX_COLOURS, GREY, RED, UNIT, _shown_once

ROW, HEAD = 0.27, 0.95  # inches: of a row, and of all that is above and below the rows
ABSENT = "not computed"


def _dots(ax: Axes, rows: pd.DataFrame, y: Sequence[float], colour: str, limit: float) -> None:
    """Draw values with intervals; filled where zero is left out, as a number if off the axis."""
    for at, (_, row) in zip(y, rows.iterrows(), strict=True):
        if np.isnan(row.change):
            ax.annotate(ABSENT, (0, at), ha="center", va="center", fontsize=8, color=GREY,
                        backgroundcolor="white")  # fmt: skip
            continue
        if abs(row.change) > limit:
            side = np.sign(row.change)
            ax.annotate(
                f"{row.change:+.0f} %".replace("-", "\N{MINUS SIGN}"), (side * limit, at),
                (side * 0.8 * limit, at), ha="right" if side > 0 else "left", va="center",
                fontsize=9, color=colour, arrowprops={"arrowstyle": "->", "color": colour},
            )  # fmt: skip
            continue
        ax.hlines(at, row.lower, row.upper, colors=colour, linewidth=2)
        told = row.lower > 0 or row.upper < 0
        ax.plot(row.change, at, "o", color=colour, markersize=6, zorder=3, markeredgewidth=1.5,
                markerfacecolor=colour if told else "white")  # fmt: skip


def _mark(label: str, filled: bool, marker: str = "o") -> Line2D:
    """Make an entry of a legend: a dot on its interval."""
    face = GREY if filled else "white"
    return Line2D(
        [], [], label=label, marker=marker, color=GREY, markerfacecolor=face, markersize=6,
        linewidth=2, markeredgewidth=1.5,
    )  # fmt: skip


def _resolved() -> list[Line2D]:
    """Explain filled and hollow dots."""
    return [_mark("interval leaves out zero", True), _mark("cannot be told from zero", False)]


@_shown_once
def forest(
    table: pd.DataFrame, groups: Mapping[str, Sequence[str]], label: str, name: str = "model",
    limit: float = 12.0,
) -> Figure:  # fmt: skip
    """Draw changes with intervals, a panel a flux, a row a model, under the headings of groups.

    ``table`` has ``name`` (that of the rows), flux, change, lower, upper in %; NaN is not
    computed. What lies beyond ``limit`` (%) is given as a number with an arrow.
    """
    fluxes = list(table.flux.unique())
    names: list[str] = []
    for head, members in groups.items():
        names += [head, *members] if members else []
    heads = {head for head, members in groups.items() if members}
    height = ROW * len(names) + HEAD
    fig, axes = plt.subplots(1, len(fluxes), figsize=(7.8, height), sharey=True, squeeze=False)
    ends = table[["change", "lower", "upper"]].abs().max()
    reach = limit if ends.change > limit else min(limit, 1.1 * np.nanmax([1.0, *ends]))
    y = np.arange(len(names))[::-1]
    rows = [(at, row) for at, row in zip(y, names, strict=True) if row not in heads]
    for ax, flux in zip(axes[0], fluxes, strict=True):
        own = table[table.flux == flux].set_index(name).reindex([row for _, row in rows])
        _dots(ax, own, [at for at, _ in rows], FLUX_COLOURS.get(flux, GREY), reach)
        ax.axvline(0, color="black", linewidth=0.8, zorder=0)
        ax.set(title=flux, xlim=(-1.02 * reach, 1.02 * reach), ylim=(-0.7, len(names) - 0.3))
        ax.grid(axis="x", linewidth=0.3)
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(y, names)
    for text in axes[0, 0].get_yticklabels():
        text.set_weight("bold" if text.get_text() in heads else "normal")
    axes[0, len(fluxes) // 2].set_xlabel(label)  # a label of the figure would lie on the legend
    fig.legend(handles=_resolved(), loc="outside lower center", ncols=2)
    return fig


@_shown_once
def targets(table: pd.DataFrame, label: str) -> Figure:
    """Draw changes against rivals beside the change that was aimed at, a row a rival and flux.

    ``table`` is from `tamrl.study.benchmark.against_targets`: against, rival, flux, change, lower, upper
    and target in % (NaN: not computed, or none set).
    """
    fig, ax = plt.subplots(figsize=(7.6, 0.4 * len(table) + 1.3))
    y = np.arange(len(table))[::-1]
    for at, (_, row) in zip(y, table.iterrows(), strict=True):
        _dots(ax, row.to_frame().T.infer_objects(), [at], FLUX_COLOURS.get(row.flux, GREY), np.inf)
    aimed = table.target.notna().to_numpy()
    ax.plot(-table.target[aimed], y[aimed], "|", color=RED, markersize=16, markeredgewidth=2.5)
    ax.axvline(0, color="black", linewidth=0.8, zorder=0)
    ends = [0, *table.lower.dropna(), *table.upper.dropna(), *-table.target.dropna()]
    room = 0.06 * (max(ends) - min(ends))
    names = table.flux + " against " + table.rival
    ax.set(yticks=y, yticklabels=names, ylim=(-0.7, len(table) - 0.3), xlabel=label)
    ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.grid(axis="x", linewidth=0.3)
    handle = Line2D([], [], marker="|", color=RED, linewidth=0, markersize=14, markeredgewidth=2.5)
    handle.set_label("aimed at")
    fig.legend(handles=[handle, *_resolved()], loc="outside lower center", ncols=3)
    return fig


@_shown_once
def class_bias(table: pd.DataFrame, share: float, absolute: float) -> Figure:
    """Draw the bias by class with its interval, a panel a flux, over what is allowed.

    ``table`` is from `tamrl.study.benchmark.class_bias`, one or several classifications below each other
    (class, flux, towers, mean, bias, lower, upper, off); allowed are ``share`` % of the class's
    mean, and ``absolute`` gC m-2 d-1 for NEE. What is beyond is drawn as a filled diamond.
    """
    fluxes = list(table.flux.unique())
    classes = list(table["class"].unique())
    fig, axes = plt.subplots(
        1, max(len(fluxes), 1), figsize=(7.8, ROW * max(len(classes), 3) + 1.2), sharey=True,
        squeeze=False,
    )  # fmt: skip
    if not classes:
        axes[0, 0].text(0.5, 0.5, f"{ABSENT}, or no class has enough towers", ha="center")
        axes[0, 0].set_axis_off()
        return fig
    y = np.arange(len(classes))[::-1]
    for ax, flux in zip(axes[0], fluxes, strict=True):
        own = table[table.flux == flux].set_index("class").reindex(classes)
        allowed = own["mean"].abs() * share / 100 if flux != "NEE" else own["mean"] * 0 + absolute
        ax.barh(y, 2 * allowed, 0.8, -allowed, color="#dddddd", zorder=0)
        colour = FLUX_COLOURS.get(flux, GREY)
        ax.hlines(y, own.lower, own.upper, colors=colour, linewidth=2)
        for at, (_, row) in zip(y, own.iterrows(), strict=True):
            marker, face = ("D", colour) if row.off else ("o", "white")
            ax.plot(row.bias, at, marker, color=colour, markersize=6, markerfacecolor=face,
                    markeredgewidth=1.5, zorder=3)  # fmt: skip
        ax.axvline(0, color="black", linewidth=0.8, zorder=0)
        ax.set(title=flux, ylim=(-0.7, len(classes) - 0.3))
        ax.tick_params(axis="y", length=0)
    counts = table.groupby("class").towers.first()
    axes[0, 0].set_yticks(y, [f"{name} ({counts[name]})" for name in classes])
    axes[0, len(fluxes) // 2].set_xlabel(f"predicted - observed ({UNIT})")
    handles = [
        Patch(color="#dddddd", label="allowed"),
        _mark("within", False),
        _mark("beyond", True, "D"),
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig
