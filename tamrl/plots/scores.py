"""Figures of scores, series, anomalies and budgets of fluxes, and of the carbon balance."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tamrl.plots import style

ROUNDING = 1e-7  # gC m-2 d-1: a float32 of 1 has no finer step
HATCHES = {"^": "//", "s": "..", "v": "\\\\", "D": "xx", "P": "++", "X": "--", "o": ""}


@style.figure
def stacked_years(counts: pd.DataFrame, ylabel: str) -> Figure:
    """Draw stacked bars of ``counts`` (index year, one column a vegetation class)."""
    fig, ax = plt.subplots(figsize=(7.2, 2.8))
    base = np.zeros(len(counts))
    for code in (c for c in style.BIOMES if c in counts):
        colour, marker = style.BIOMES[code]
        ax.bar(counts.index, counts[code], 0.85, base, color=colour, label=code,
               hatch=HATCHES[marker] * 2, edgecolor="#444444", linewidth=0.3)  # fmt: skip
        base += counts[code].to_numpy()
    ax.set(xlabel="year", ylabel=ylabel)
    fig.legend(loc="outside right center", reverse=True)
    return fig


@style.figure
def score_boxes(scores: pd.DataFrame, metric: str, label: str, by: str = "flux") -> Figure:
    """Draw quartiles and 5-95 % whiskers of ``metric`` over towers by model, cut at 1 and -1."""
    groups, colours = list(scores[by].unique()), style.model_colours(scores.model.unique())
    known = list(style.MODEL_COLOURS)  # the ensemble first, climatology last
    order = sorted(colours, key=lambda m: known.index(k) if (k := style.kind(m)) in known else 99)
    colours = {model: colours[model] for model in order}
    fig, ax = plt.subplots(figsize=(7.6, 3.2))
    for model, (x, width) in _beside(colours, groups).items():
        of_model = scores[scores.model == model]
        values = [of_model.loc[of_model[by] == g, metric].dropna() for g in groups]
        box = ax.boxplot(values, positions=x, widths=width * 0.85, whis=(5, 95), showfliers=False,
                         patch_artist=True, medianprops={"color": "black"})  # fmt: skip
        for patch in box["boxes"]:
            patch.set(facecolor=colours[model], alpha=0.85, label=model)
    ax.set(xticks=range(len(groups)), xticklabels=groups, ylabel=label, ylim=(-1, 1))
    return fig


def _beside(models: Mapping[str, str], groups: list) -> dict[str, tuple[NDArray, float]]:
    """Positions and width of the models' bars, side by side in each group."""
    x, width, middle = np.arange(len(groups)), 0.8 / len(models), (len(models) - 1) / 2
    return {name: (x + (m - middle) * width, width) for m, name in enumerate(models)}


@style.figure
def density(pairs: Mapping[str, tuple[NDArray, NDArray]], xlabel: str, ylabel: str) -> Figure:
    """Draw y against x for each flux as tower-days a cell (log), with the 1:1 line."""
    fig, axes = style.columns(len(pairs), (2.7 * len(pairs) + 0.4, 2.8), sharey=False)
    for ax, (flux, (x, y)) in zip(axes, pairs.items(), strict=True):
        low, high = np.percentile(np.concatenate([x, y]), [0.1, 99.9])
        image = ax.hexbin(x, y, gridsize=60, extent=(low, high, low, high), bins="log", mincnt=1)
        ax.axline((low, low), slope=1, color=style.RED, linewidth=1)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=flux,
               xlabel=f"{xlabel} ({style.UNIT})")  # fmt: skip
    axes[0].set_ylabel(f"{ylabel} ({style.UNIT})")
    fig.colorbar(image, ax=axes, label="tower-days", shrink=0.8)
    return fig


@style.figure
def bars(table: pd.DataFrame, value: str, label: str, by: str) -> Figure:
    """Draw ``value`` by class ``by`` and model, one panel a flux; ``table`` has flux and model."""
    fluxes, groups = list(table.flux.unique()), list(table[by].unique())
    colours = style.model_colours(table.model.unique())
    fig, axes = style.rows(len(fluxes), 1.7 * len(fluxes) + 0.5, sharex=True)
    for ax, flux in zip(axes, fluxes, strict=True):
        for model, (x, width) in _beside(colours, groups).items():
            here = (table.flux == flux) & (table.model == model)
            height = table[here].set_index(by)[value].reindex(groups)
            ax.bar(x, height, width * 0.9, color=colours[model], label=model)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(ylabel=f"{flux}\n{label}", xticks=range(len(groups)), xticklabels=groups)
    return fig


@style.figure
def differences(table: pd.DataFrame, label: str, span: tuple[float, float] | None = None) -> Figure:
    """Draw ``change`` within lower..upper by flux and rival, or by ``label`` where there is one."""
    fig, ax = plt.subplots(figsize=(7.0, 0.42 * len(table) + 1.1))
    y = np.arange(len(table))[::-1]
    _dots(ax, y, table.change, table, [style.FLUX_COLOURS.get(f, style.GREY) for f in table.flux])
    ax.axvline(0, color="black", linewidth=0.8)
    names = table.label if "label" in table else table.flux + " against " + table.rival
    low, high = min(table.lower.min(), 0), max(table.upper.max(), 0)
    room = 0.06 * (high - low)  # so that neither zero nor an end lies on the frame
    ax.set(yticks=y, yticklabels=names, xlim=span or (low - room, high + room), xlabel=label,
           ylim=(-0.7, len(table) - 0.3))  # fmt: skip
    return fig


def _dots(ax: Any, y: NDArray, values: pd.Series, table: pd.DataFrame, colours: Any,
          marker: str = "o", **line: Any) -> None:  # fmt: skip
    """Draw values as marks on their intervals (columns lower, upper of ``table``)."""
    ax.hlines(y, table.lower, table.upper, colors=colours, **{"linewidth": 2, **line})
    ax.scatter(values, y, c=colours, s=36, marker=marker, zorder=3)


@style.figure
def series(frames: Mapping[str, pd.DataFrame], label: str = f"NEE ({style.UNIT})") -> Figure:
    """Draw daily series, a panel a tower, limits alike: "observed" as dots, others as lines."""
    fig, axes = style.rows(len(frames), 1.8 * len(frames) + 0.4, sharey=True)
    for ax, (title, frame) in zip(axes, frames.items(), strict=True):
        ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(ax.xaxis.get_major_locator()))
        for name, colour in style.model_colours(frame).items():
            look: dict[str, Any] = {"marker": ".", "markersize": 2, "linestyle": ""}
            look = look if name == "observed" else {"linewidth": 1}
            ax.plot(frame.index, frame[name], color=colour, label=name, **look)
        ax.axhline(0, color=style.GREY, linewidth=0.6)
        ax.xaxis.get_offset_text().set_visible(False)  # years are among the ticks
        ax.set_title(title, loc="left")
    fig.supylabel(label, fontsize=11)
    return fig


@style.figure
def violations(table: pd.DataFrame) -> Figure:
    """Draw the mean imbalance of each model: index model, column ``violation``, log axis."""
    fig, ax = plt.subplots(figsize=(7.6, 0.4 * len(table) + 1.0))
    y = np.arange(len(table))[::-1]
    shown = table.violation.clip(lower=ROUNDING)
    ax.scatter(shown, y, c=style.FLUX_COLOURS["NEE"], s=60, zorder=3)
    for row, x, value in zip(y, shown, table.violation, strict=True):
        text = f"{value:.2g}" if value > 1e-4 else "0 to rounding"
        ax.annotate(text, (x, row), (8, 4), textcoords="offset points", fontsize=10)
    ax.set(xscale="log", yticks=y, yticklabels=table.index, ylim=(-0.7, len(table) - 0.3),
           xlabel=f"mean |NEE {style.MINUS} (RECO {style.MINUS} GPP)| ({style.UNIT})")  # fmt: skip
    ax.grid(axis="x", linewidth=0.3)
    ax.margins(x=0.12)
    return fig


@style.figure
def budget_bars(table: pd.DataFrame) -> Figure:
    """Draw global totals beside published ones: flux, source, value, lower, upper (PgC yr-1)."""
    fluxes, sizes = list(table.flux.unique()), table.groupby("flux", sort=False).size().tolist()
    height = 0.34 * sum(sizes) + 0.75 * len(fluxes)
    fig, axes = style.rows(len(fluxes), height, height_ratios=[n + 0.6 for n in sizes])
    for ax, flux in zip(axes, fluxes, strict=True):
        totals = table[table.flux == flux]
        y = np.arange(len(totals))[::-1]
        colours = np.where(totals.mapped, style.WINE, style.GREY)
        _dots(ax, y, totals.value, totals, colours, "D", linewidth=5, alpha=0.5)
        ax.set(yticks=y, yticklabels=totals.source, ylim=(-0.6, len(totals) - 0.4))
        ax.set_title(flux, loc="left", weight="bold")
        ax.set_xlabel("PgC yr$^{-1}$")
        ax.grid(axis="x", linewidth=0.3)
    return fig


@style.figure
def country_bars(tables: Mapping[str, pd.DataFrame], flux: str, count: int = 15) -> Figure:
    """Draw the largest totals of countries (`tamrl.maps.budgets.totals`), a bar a model."""
    first = next(iter(tables.values()))
    first = first[(first.flux == flux) & (first.region != "unassigned")]
    names = list(first.reindex(first.total.abs().sort_values(ascending=False).index).region[:count])
    fig, ax = plt.subplots(figsize=(7.6, 0.42 * count + 1.2))
    colours = style.model_colours(tables)
    for model, (x, height) in _beside(colours, names).items():
        totals = tables[model][tables[model].flux == flux].set_index("region").loc[names]
        y = count - 1 - x
        ax.barh(y, totals.total, height * 0.9, color=colours[model], label=model)
        ax.hlines(y, totals.lower, totals.upper, colors="black", linewidth=1)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set(yticks=range(count), yticklabels=names[::-1], xlabel=f"{flux} (PgC yr$^{{-1}}$)")
    return fig


@style.figure
def monitor_record(judged: xr.Dataset) -> Figure:
    """Draw `tamrl.monitor.anomalies` of each flux over what is usual: mean, one sd over years."""
    fig, panels = _judged([judged], "mean")
    for ax, one, colour in panels:
        ax.fill_between(one.time, one.usual - one.usual_sd, one.usual + one.usual_sd, alpha=0.35,
                        color=style.GREY, label="usual, one sd of years")  # fmt: skip
        ax.plot(one.time, one.usual, "--", color=style.GREY, linewidth=1, label="usual")
        ax.plot(one.time, one["mean"], color=colour, linewidth=1.5, label="this year")
    return fig


@style.figure
def monitor_anomaly(*judged: xr.Dataset) -> Figure:
    """Draw the anomaly of each flux with its interval, and the observed one where it is known.

    A column for each record that was ``judged``; of several each says which tower and year.
    """
    fig, panels = _judged(judged, "anomaly")
    for ax, one, colour in panels:
        ax.fill_between(one.time, one.lower, one.upper, color=style.GREY, alpha=0.35, label="90 %")
        ax.plot(one.time, one.anomaly, color=colour, linewidth=1.5, label="predicted")
        ax.plot(one.time, one.observed, ".", color="black", markersize=3, label="observed")
        ax.axhline(0, color=style.GREY, linewidth=0.8)
    return fig


def _judged(
    judged: Sequence[xr.Dataset], what: str
) -> tuple[Figure, list[tuple[Any, xr.Dataset, str]]]:
    """Make a row of panels for each flux, a column a record, with its series and colour."""
    fluxes = list(map(str, judged[0].flux.values))
    fig, axes = plt.subplots(len(fluxes), len(judged), figsize=(7.6, 6.0), squeeze=False,
                             sharex="col", sharey="row")  # fmt: skip
    fig.supylabel(f"{what} of {judged[0].attrs['window']} days ({style.UNIT})", fontsize=11)
    panels = []
    for (row, flux), (column, record) in product(enumerate(fluxes), enumerate(judged)):
        ax, colour = axes[row, column], style.FLUX_COLOURS.get(flux, style.GREY)
        year = str(record.time.values[-1])[:4]
        where = f", {record.attrs['site']} in {year}" if len(judged) > 1 else ""
        ax.set_title(f"{flux}{where}", loc="left", color=colour, weight="bold")
        ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(ax.xaxis.get_major_locator()))
        panels.append((ax, record.sel(flux=flux), colour))
    return fig, panels
