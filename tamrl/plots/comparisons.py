"""Figures of long comparisons and of the coverage of intervals."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from tamrl.plots.style import (
    FLUX_COLOURS,
    GREY,
    MINUS,
    UNIT,
    by_flux,
    columns,
    figure,
    model_colours,
)
from tamrl.plots.style import rows as stacked

ROW, HEAD = 0.27, 0.95  # inches: of a row, and of all that is above and below the rows
ABSENT = "not computed"
MARKERS = {"GPP": "o", "RECO": "s", "NEE": "D"}


def _effects(ax: Any, table: pd.DataFrame, y: Any, colour: str, limit: float = np.inf) -> None:
    """Draw changes with intervals: filled where zero is left out, a number if off the axis."""
    for height, (_, row) in zip(y, table.iterrows(), strict=True):
        if np.isnan(row.change):
            ax.annotate(ABSENT, (0, height), ha="center", va="center", fontsize=8, color=GREY,
                        backgroundcolor="white")  # fmt: skip
        elif abs(row.change) > limit:
            side = np.sign(row.change)
            ax.annotate(f"{row.change:+.0f} %".replace("-", MINUS),
                        (side * limit, height), (side * 0.8 * limit, height),
                        ha="right" if side > 0 else "left", va="center", fontsize=9, color=colour,
                        arrowprops={"arrowstyle": "->", "color": colour})  # fmt: skip
        else:
            ax.hlines(height, row.lower, row.upper, colors=colour, linewidth=2)
            look = _mark(row.lower > 0 or row.upper < 0, colour=colour)
            ax.plot(row.change, height, zorder=3, **look)


def _mark(filled: bool, marker: str = "o", colour: str = GREY) -> dict[str, Any]:
    return {"marker": marker, "color": colour, "markersize": 6, "markeredgewidth": 1.5,
            "markerfacecolor": colour if filled else "white", "linewidth": 2}  # fmt: skip


def _entry(label: str, *look: Any) -> Line2D:
    return Line2D([], [], label=label, **_mark(*look))


def _resolved() -> list[Line2D]:
    return [_entry("interval leaves out zero", True), _entry("interval includes zero", False)]


def _names(axes: Sequence[Any], y: Any, names: Sequence[str], label: str) -> None:
    """Name the rows on the left and label the middle panel, clear of the legend below."""
    for ax in axes:
        ax.axvline(0, color="black", linewidth=0.8, zorder=0)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(-0.7, len(names) - 0.3)
    axes[0].set_yticks(y, names)
    axes[len(axes) // 2].set_xlabel(label)


def _room(end: float, limit: float) -> float:
    """Room of an axis on the side of zero where changes are below zero, at least 2 %."""
    return 1.02 * min(limit, 1.1 * max(2.0, -end if np.isfinite(end) else 0.0))


@figure
def forest(table: pd.DataFrame, groups: Mapping[str, Sequence[str]], label: str,
           name: str = "model", limit: float = 12.0) -> Figure:  # fmt: skip
    """Draw changes (``table``: ``name``, flux, change, lower, upper, %) under headings of groups.

    A panel a flux, a row a model; beyond ``limit`` (%) a number with an arrow. Models that are not
    computed have no row, unless none is.
    """
    known = set(table[name][table.change.notna()]) or set(table[name])
    groups = {head: [m for m in models if m in known] for head, models in groups.items()}
    names = [n for head, models in groups.items() if models for n in (head, *models)]
    heads = {head for head, models in groups.items() if models}
    fig, panels = by_flux(table, (7.8, ROW * len(names) + HEAD))
    ends = table[["change", "lower", "upper"]]
    low, high = _room(ends.min().min(), limit), _room(-ends.max().max(), limit)
    y = np.arange(len(names))[::-1]
    rows = {row: height for height, row in zip(y, names, strict=True) if row not in heads}
    for ax, flux, changes in panels:
        of_flux = changes.set_index(name).reindex(list(rows))
        _effects(ax, of_flux, list(rows.values()), FLUX_COLOURS.get(flux, GREY), limit)
        ax.set_xlim(-low, high)
        ax.grid(axis="x", linewidth=0.3)
    whose = {row: head for head, models in groups.items() for row in models}
    shown = [n.removeprefix(f"{whose.get(n, '')}, ") for n in names]
    _names(fig.axes, y, shown, label)
    for text in fig.axes[0].get_yticklabels():
        text.set_fontweight("bold" if text.get_text() in heads else "normal")
    fig.legend(handles=_resolved(), loc="outside lower center", ncols=2)
    return fig


@figure
def class_bias(table: pd.DataFrame, share: float, absolute: float) -> Figure:
    """Draw `tamrl.study.benchmark.class_bias`, a panel a flux; what is not allowed is a diamond.

    Allowed are ``share`` % of a class's mean, and ``absolute`` gC m-2 d-1 for NEE.
    """
    classes = list(table["class"].unique())
    fig, panels = by_flux(table, (7.8, ROW * max(len(classes), 3) + 1.2))
    if not classes:
        fig.axes[0].text(0.5, 0.5, f"{ABSENT}, or no class has enough towers", ha="center")
        fig.axes[0].set_axis_off()
        return fig
    y = np.arange(len(classes))[::-1]
    for ax, flux, biases in panels:
        rows, colour = biases.set_index("class").reindex(classes), FLUX_COLOURS.get(flux, GREY)
        allowed = rows["mean"].abs() * share / 100 if flux != "NEE" else rows["mean"] * 0 + absolute
        ax.barh(y, 2 * allowed, 0.8, -allowed, color="#dddddd", zorder=0)
        ax.hlines(y, rows.lower, rows.upper, colors=colour, linewidth=2)
        for height, (_, row) in zip(y, rows.iterrows(), strict=True):
            look = _mark(bool(row.off), "D" if row.off else "o", colour)
            ax.plot(row.bias, height, zorder=3, **look)
    counts = table.groupby("class").towers.first()
    names = [f"{name} ({counts[name]})" for name in classes]
    _names(fig.axes, y, names, f"predicted {MINUS} observed ({UNIT})")
    marks = [_entry("within", False), _entry("beyond", True, "D")]
    handles = [Patch(color="#dddddd", label="allowed"), *marks]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


@figure
def reliability(table: pd.DataFrame) -> Figure:
    """Draw the ``coverage`` of intervals of one model against their ``level``, a line a flux."""
    fig, ax = plt.subplots(figsize=(7.6, 4.2))
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="nominal")
    for flux, rows in table.groupby("flux", sort=False):
        line, name = rows.sort_values("level"), str(flux)
        ax.plot(line.level, line.coverage, marker=MARKERS.get(name, "o"), markersize=6,
                color=FLUX_COLOURS.get(name, GREY), label=name)  # fmt: skip
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="nominal level of the interval (%)",
           ylabel="share of days inside at unseen towers (%)")  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=""))
    return fig


@figure
def coverage_by_class(table: pd.DataFrame) -> Figure:
    """Draw the coverage of 90 % intervals, a row a stratum, a panel a period, a mark a flux."""
    periods = list(dict.fromkeys(table.period)) or ["day"]  # none: an empty panel
    towers = table.groupby("stratum").towers.max().astype(int).sort_values()
    fig, axes = columns(len(periods), (7.6, max(1.3 + 0.3 * len(towers), 2.5)), sharex=True)
    for ax, period in zip(axes, periods, strict=True):
        ax.axvspan(0.85, 0.95, color="#e4e4e4", zorder=0, label="85 to 95 %")
        ax.axvline(0.9, color=GREY, linewidth=1, zorder=1)
        for flux, rows in table[table.period == period].groupby("flux", sort=False):
            name, y = str(flux), towers.index.get_indexer(rows.stratum)
            ax.plot(rows.coverage, y, MARKERS.get(name, "o"), color=FLUX_COLOURS.get(name, GREY),
                    label=name, markeredgecolor="black", markeredgewidth=0.4)  # fmt: skip
        ax.set_title(f"values of a {period}", loc="left")
        ax.set_xlabel("share inside (%)")
        ax.xaxis.set_major_formatter(PercentFormatter(1, 0, symbol=""))
    axes[0].set_yticks(range(len(towers)), [f"{name} ({n})" for name, n in towers.items()])
    axes[0].set_xlim(min([0.7, *table.coverage.dropna()]) - 0.02, 1.02)
    axes[0].set_ylabel("class (towers)")
    return fig


@figure
def beside_others(table: pd.DataFrame, label: str, lines: Mapping[str, float] | None = None,
                  line: str = "") -> Figure:  # fmt: skip
    """Draw values (``table``: panel, model, mark, value), a row a model, a shape each ``mark``.

    ``lines``: a value for a panel, drawn as a dashed vertical line that ``line`` explains.
    """
    panels, names, marks = (list(table[key].unique()) for key in ("panel", "model", "mark"))
    colours, y = model_colours(names), pd.Series(np.arange(len(names))[::-1], names)
    fig, axes = columns(len(panels), (6.6, 0.4 * len(names) + 1.4))
    shapes = dict(zip(marks, "oDs^", strict=False))
    for ax, panel in zip(axes, panels, strict=True):
        here = table[table.panel == panel].dropna(subset="value")
        ends = here.groupby("model", sort=False).value.agg(["min", "max"])
        used = [colours[name] for name in ends.index]
        ax.hlines(y[ends.index], ends["min"], ends["max"], colors=used, linewidth=2)
        for mark, shape in shapes.items():
            rows = here[here["mark"] == mark]
            ax.scatter(rows.value, y[rows.model], c=rows.model.map(colours), s=44, marker=shape,
                       edgecolors="black", linewidths=0.6, zorder=3)  # fmt: skip
        if lines is not None:
            ax.axvline(lines[panel], color="black", linestyle="--", linewidth=1, zorder=0)
        ax.set(title=panel, ylim=(-0.7, len(names) - 0.3))
        ax.grid(axis="x", linewidth=0.3)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(y, [fill(name, 19) for name in names])
    for ax in axes if len(axes) < 3 else axes[len(axes) // 2 :][:1]:  # clear of the legend below
        ax.set_xlabel(label)
    handles = [_entry(mark, True, shape) for mark, shape in shapes.items()]
    for handle in handles:
        handle.set(linestyle="none", markeredgecolor="black", markeredgewidth=0.6)
    if lines is not None:
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label=line))
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


@figure
def scorecard(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Draw a field of scores a flux (title), models down and kinds of score across, with numbers.

    Colours go from 0 to 1; what is below 0 has the colour of 0.
    """
    height = 0.34 * sum(len(table) for table in tables.values()) + 0.6 * len(tables) + 0.8
    fig, axes = plt.subplots(len(tables), 1, figsize=(7.6, height), squeeze=False, sharex=True)
    for ax, (flux, table) in zip(axes[:, 0], tables.items(), strict=True):
        image = ax.imshow(table.to_numpy(float), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy(float)):
            colour = "black" if value > 0.5 else "white"
            text = f"{round(value, 2) + 0:.2f}".replace("-", MINUS)
            ax.text(column, row, text, ha="center", va="center", color=colour)
        ax.set(title=flux, yticks=range(len(table)), yticklabels=table.index,
               xticks=range(table.shape[1]),
               xticklabels=[str(name).replace(" ", "\n", 1) for name in table.columns])  # fmt: skip
    fig.colorbar(image, ax=axes[:, 0], location="bottom", shrink=0.6, aspect=35, extend="min",
                 label=label)  # fmt: skip
    return fig


@figure
def waterfall(table: pd.DataFrame, first: str, last: str, label: str) -> Figure:
    """Draw how steps lead from a ``first`` to a ``last`` model: a panel a flux, a row a step.

    ``table`` has flux, step, before, after (scores, named ``label``), change, lower, upper (%, of
    the step, with its interval). A step whose interval leaves out zero is filled.
    """
    steps = list(dict.fromkeys(table.step))
    names = [first, *steps, last]
    fig, panels = by_flux(table, (7.8, 0.4 * len(names) + 1.3))
    for ax, flux, rows_of in panels:
        here, colour = rows_of.set_index("step").reindex(steps), FLUX_COLOURS.get(flux, GREY)
        low, high = here[["before", "after"]].min().min(), here[["before", "after"]].max().max()
        room = max(high - low, 1e-3)
        for y, (_, row) in zip(range(len(steps), 0, -1), here.iterrows(), strict=True):
            filled = row.lower > 0 or row.upper < 0
            ax.barh(y, row.after - row.before, 0.6, row.before, edgecolor=colour, linewidth=1.5,
                    color=colour if filled else "white", zorder=2)  # fmt: skip
            ax.vlines(row.after, y - 1, y, colors=GREY, linewidth=0.8, zorder=1)
            _beside(ax, max(row.before, row.after), y, f"{row.change:+.1f} %")
        for y, value in ((len(names) - 1, here.before.iloc[0]), (0, here.after.iloc[-1])):
            ax.plot(value, y, "D", color="black", markersize=5)
            _beside(ax, value, y, f"{value:.2f}")
        ax.vlines(here.before.iloc[0], len(steps), len(steps) + 1, colors=GREY, linewidth=0.8,
                  zorder=1)  # fmt: skip
        ax.set_xlim(low - 0.15 * room, high + 0.65 * room)
        ax.tick_params(axis="y", length=0)
    axes = fig.axes
    axes[0].set_yticks(range(len(names))[::-1], [fill(name, 27) for name in names])
    axes[len(axes) // 2].set_xlabel(label)
    looks = {"interval leaves out zero": GREY, "interval includes zero": "white"}
    entries = [Patch(facecolor=c, edgecolor=GREY, label=text) for text, c in looks.items()]
    fig.legend(handles=entries, loc="outside lower center", ncols=2)
    return fig


def _beside(ax: Any, x: float, y: float, text: str) -> None:
    """Write a number right of a mark, with a true minus sign."""
    ax.annotate(text.replace("-", MINUS), (x, y), (6, 0), va="center", fontsize=9,
                textcoords="offset points")  # fmt: skip


@figure
def dumbbells(table: pd.DataFrame, model: str, rival: str) -> Figure:
    """Draw the scores of towers under two models (columns of ``table``), a panel a flux.

    A line joins both, in the colour of the one with less error; the worst of the rival come first.
    """
    fluxes, colours = list(table.flux.unique()), model_colours([model, rival])
    fig, axes = stacked(len(fluxes), 2.1 * len(fluxes) + 0.7)
    for ax, flux in zip(axes, fluxes, strict=True):
        here = table[table.flux == flux].sort_values(rival, ascending=False)
        x, better = np.arange(len(here)), (here[model] < here[rival]).to_numpy()
        shade = [colours[model if each else rival] for each in better]
        ax.vlines(x, here[rival], here[model], colors=shade, linewidth=1.1, zorder=1)
        ax.plot(x, here[rival], ".", color=colours[rival], markersize=3.5, label=rival)
        ax.plot(x, here[model], ".", color=colours[model], markersize=3.5, label=model)
        ax.set(xticks=[], ylim=(0, None), xlim=(-1, len(here)))
        ax.set_title(f"{flux}: {model} better at {better.sum()} of {len(here)} towers", loc="left")
    axes[-1].set_xlabel("towers")
    fig.supylabel(f"RMSE ({UNIT})", fontsize=11)
    return fig
