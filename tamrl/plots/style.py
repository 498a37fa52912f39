"""Figures and maps, drawn from tables and Datasets that others computed; no logic here.

Every function returns a closed `matplotlib.figure.Figure`, so a notebook shows it once. Colours
tell apart under colour blindness (Okabe & Ito 2008, https://jfly.uni-koeln.de/color/); class is
never told by colour alone. After ``style(attrs)`` with ``virtual`` set, every figure says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import cartopy
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from cartopy import crs as ccrs
from cartopy import feature
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

cartopy.config["pre_existing_data_dir"] = str(Path(__file__).parents[1] / "natural_earth")

UNIT = "gC m$^{-2}$ d$^{-1}$"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PINK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"
MODEL_COLOURS = {"TAM-RL": BLUE, "Boosting": RED, "Climatology": GREY}
SPARE = (ORANGE, GREEN, PINK, SKY, YELLOW)
FLUX_COLOURS = {"GPP": GREEN, "RECO": ORANGE, "NEE": BLUE}
BIOMES = {  # colour by kind of vegetation, marker by class
    "ENF": (GREEN, "^"), "EBF": (GREEN, "s"), "DNF": (GREEN, "v"), "DBF": (GREEN, "o"),
    "MF": (GREEN, "D"), "CSH": (ORANGE, "P"), "OSH": (ORANGE, "X"), "WSA": (ORANGE, "s"),
    "SAV": (ORANGE, "o"), "GRA": (YELLOW, "o"), "WET": (BLUE, "o"), "CRO": (RED, "o"),
    "CVM": (RED, "s"), "URB": (PINK, "s"), "SNO": (SKY, "s"), "BSV": (SKY, "D"), "WAT": (SKY, "v"),
}  # fmt: skip
LAND = feature.NaturalEarthFeature("physical", "land", "110m")
EUROPE = (-11, 31, 35.5, 70)  # west, east, south, north, degrees
COLOUR_MAPS = {"GPP": "viridis", "RECO": "cividis", "NEE": "BrBG_r"}

ROUNDING = 1e-7  # gC m-2 d-1: a float32 of 1 has no finer step

_note = ""
P = ParamSpec("P")


def use_style(attrs: Mapping[str, Any]) -> None:
    """Set the study's look; ``attrs`` of the towers decide whether figures say "virtual towers"."""
    global _note
    _note = "virtual towers" if int(attrs.get("virtual", 0)) else ""
    mpl.rcParams.update({
        "figure.dpi": 130, "figure.constrained_layout.use": True, "font.size": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
        "axes.grid": False, "legend.frameon": False, "legend.fontsize": 10,
    })  # fmt: skip


def _shown_once(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Note virtual towers on the figure, and close it so that only its return value is shown."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        fig = draw(*args, **kwargs)
        if _note:
            fig.suptitle(_note, x=0.99, ha="right", fontsize=10, color=RED, weight="bold")
        plt.close(fig)
        return fig

    return drawn


def _globe(fig: Figure, *place: Any) -> Any:
    """Add a world map in equal-area projection: grey land under coastlines, a thin frame."""
    ax: Any = fig.add_subplot(*place, projection=ccrs.EqualEarth())
    ax.set_global()
    return _land(ax)


def _land(ax: Any) -> Any:
    ax.add_feature(LAND, facecolor="#ececec", zorder=0)
    ax.coastlines("110m", linewidth=0.4, color="#555555", zorder=2)
    ax.spines["geo"].set(linewidth=0.4, color="#999999")
    return ax


def _legend(fig: Figure, ax: Axes) -> None:
    """Name each thing drawn in ``ax`` once, below all panels."""
    named = {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(named.values(), named.keys(), loc="outside lower center", ncols=min(len(named), 7))


def _rows(panels: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    fig, axes = plt.subplots(panels, 1, figsize=(7.6, height), squeeze=False, **options)
    return fig, list(axes[:, 0])


def _colour(model: object, position: int) -> str:
    return MODEL_COLOURS.get(str(model), SPARE[position % len(SPARE)])


@_shown_once
def towers_map(table: pd.DataFrame) -> Figure:
    """Draw towers where they stand, on the globe and in Europe; ``table`` has lat, lon, igbp."""
    fig = plt.figure(figsize=(8.4, 3.6))
    grid = fig.add_gridspec(1, 2, width_ratios=[3.1, 1])
    europe: Any = fig.add_subplot(grid[1], projection=ccrs.AlbersEqualArea(10, 52))
    europe.set_extent(EUROPE, ccrs.PlateCarree())
    for ax in (_globe(fig, grid[0]), _land(europe)):
        for code in (c for c in BIOMES if (table.igbp == c).any()):
            rows = table[table.igbp == code]
            colour, marker = BIOMES[code]
            ax.scatter(
                rows.lon, rows.lat, s=18, c=colour, marker=marker, edgecolors="black", zorder=3,
                linewidths=0.4, transform=ccrs.PlateCarree(), label=f"{code} ({len(rows)})",
            )  # fmt: skip
    _legend(fig, ax)
    return fig


@_shown_once
def stacked_years(counts: pd.DataFrame, ylabel: str) -> Figure:
    """Draw stacked bars of ``counts`` (index year, one column a vegetation class)."""
    fig, ax = plt.subplots(figsize=(7.2, 2.8))
    base = np.zeros(len(counts))
    hatches = {"^": "//", "s": "..", "v": "\\\\", "D": "xx", "P": "++", "X": "--", "o": ""}
    for code in (c for c in BIOMES if c in counts):
        colour, marker = BIOMES[code]
        ax.bar(
            counts.index, counts[code], 0.85, base, color=colour, label=code,
            hatch=hatches[marker] * 2, edgecolor="#444444", linewidth=0.3,
        )  # fmt: skip
        base += counts[code].to_numpy()
    ax.set(xlabel="year", ylabel=ylabel)
    fig.legend(loc="outside right center", reverse=True)
    return fig


@_shown_once
def score_boxes(
    scores: pd.DataFrame,
    metric: str,
    label: str,
    by: str = "flux",
    limits: tuple[float, float] = (-1.0, 1.0),
) -> Figure:
    """Draw the spread of ``metric`` over towers: quartile box, 5-95 % whiskers, one a model.

    ``scores`` has model, flux, site and the metric; groups on the axis are the values of ``by``.
    ``limits`` of the axis are those of R2 as a rule: one bad tower must not hide the others.
    """
    groups, models = list(scores[by].unique()), list(scores.model.unique())
    named = 1 + 0.12 * len(groups) * max(len(str(group)) for group in groups)  # names side by side
    fig, ax = plt.subplots(figsize=(max(4.8, 0.5 * len(groups) * len(models), named), 3.2))
    width = 0.8 / len(models)
    for m, model in enumerate(models):
        mine = scores[scores.model == model]
        data = [mine.loc[mine[by] == g, metric].dropna() for g in groups]
        box = ax.boxplot(
            data, positions=np.arange(len(groups)) + (m - (len(models) - 1) / 2) * width,
            widths=width * 0.85, whis=(5, 95), showfliers=False, patch_artist=True,
            medianprops={"color": "black"},
        )  # fmt: skip
        for patch in box["boxes"]:
            patch.set(facecolor=_colour(model, m), alpha=0.85, label=model)
    ax.set(xticks=range(len(groups)), xticklabels=groups, ylabel=label, ylim=limits)
    _legend(fig, ax)
    return fig


@_shown_once
def density(pairs: Mapping[str, tuple[NDArray, NDArray]], xlabel: str, ylabel: str) -> Figure:
    """Draw y against x for each flux as tower-days a cell (log), with the 1:1 line."""
    fig, axes = plt.subplots(1, len(pairs), figsize=(2.7 * len(pairs) + 0.4, 2.8), squeeze=False)
    for ax, (flux, (x, y)) in zip(axes[0], pairs.items(), strict=True):
        low, high = np.percentile(np.concatenate([x, y]), [0.1, 99.9])
        extent = (low, high, low, high)
        image = ax.hexbin(x, y, gridsize=60, extent=extent, bins="log", mincnt=1, cmap="viridis")
        ax.axline((low, low), slope=1, color=RED, linewidth=1)
        ax.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=flux)
        ax.set(xlabel=f"{xlabel} ({UNIT})", ylabel=f"{ylabel} ({UNIT})" if ax is axes[0, 0] else "")
    fig.colorbar(image, ax=axes[0], label="tower-days", shrink=0.8)
    return fig


@_shown_once
def bars(
    table: pd.DataFrame, value: str, label: str, by: str, lower: str = "", upper: str = ""
) -> Figure:
    """Draw ``value`` by class and model, one panel a flux, with intervals when columns name them.

    ``table`` has flux, model and the class column ``by``.
    """
    fluxes, models, groups = (list(table[c].unique()) for c in ("flux", "model", by))
    fig, axes = _rows(len(fluxes), 1.7 * len(fluxes) + 0.5, sharex=True)
    width = 0.8 / len(models)
    for ax, flux in zip(axes, fluxes, strict=True):
        for m, model in enumerate(models):
            mine = (table.flux == flux) & (table.model == model)
            rows = table[mine].set_index(by).reindex(groups)
            x = np.arange(len(groups)) + (m - (len(models) - 1) / 2) * width
            ax.bar(x, rows[value], width * 0.9, color=_colour(model, m), label=model)
            if lower:
                error = [rows[value] - rows[lower], rows[upper] - rows[value]]
                ax.errorbar(x, rows[value], error, fmt="none", ecolor="black", elinewidth=0.8)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(ylabel=f"{flux}\n{label}", xticks=range(len(groups)), xticklabels=groups)
    _legend(fig, ax)
    return fig


@_shown_once
def differences(table: pd.DataFrame, label: str) -> Figure:
    """Draw ``change`` with its interval ``lower``..``upper`` by flux and rival, against zero.

    A column ``label`` names the rows instead.
    """
    fig, ax = plt.subplots(figsize=(7.0, 0.42 * len(table) + 1.1))
    y = np.arange(len(table))[::-1]
    colours = [FLUX_COLOURS.get(f, GREY) for f in table.flux]
    ax.hlines(y, table.lower, table.upper, colors=colours, linewidth=2)
    ax.scatter(table.change, y, c=colours, s=36, zorder=3)
    ax.axvline(0, color="black", linewidth=0.8)
    names = table.label if "label" in table else table.flux + " against " + table.rival
    low, high = min(table.lower.min(), 0), max(table.upper.max(), 0)
    room = 0.06 * (high - low)  # so that neither zero nor an end lies on the frame
    ax.set(yticks=y, yticklabels=names, xlim=(low - room, high + room))
    ax.set(xlabel=label, ylim=(-0.7, len(table) - 0.3))
    return fig


@_shown_once
def series(frames: Mapping[str, pd.DataFrame], label: str = f"NEE ({UNIT})") -> Figure:
    """Draw daily series, one panel a tower: the first column as dots, models as lines."""
    fig, axes = _rows(len(frames), 1.8 * len(frames) + 0.4)
    for ax, (title, frame) in zip(axes, frames.items(), strict=True):
        truth, *models = frame.columns
        ax.plot(frame.index, frame[truth], ".", color="black", markersize=2, label=truth)
        for m, model in enumerate(models):
            ax.plot(frame.index, frame[model], color=_colour(model, m), linewidth=1, label=model)
        ax.axhline(0, color=GREY, linewidth=0.6)
        ax.set_title(title, loc="left")
    fig.supylabel(label, fontsize=11)
    _legend(fig, ax)
    return fig


@_shown_once
def violations(table: pd.DataFrame) -> Figure:
    """Draw the mean imbalance of each model: index model, column ``violation``, log axis."""
    fig, ax = plt.subplots(figsize=(6.4, 0.4 * len(table) + 1.0))
    y = np.arange(len(table))[::-1]
    colours = [_colour(m, i) for i, m in enumerate(table.index)]
    shown = table.violation.clip(lower=ROUNDING)
    ax.scatter(shown, y, c=colours, s=60, zorder=3)
    for row, at, value in zip(y, shown, table.violation, strict=True):
        said = f"{value:.2g}" if value > ROUNDING else "0 to rounding"
        ax.annotate(said, (at, row), (8, 4), textcoords="offset points", fontsize=10)
    ax.set(xscale="log", yticks=y, yticklabels=table.index, ylim=(-0.7, len(table) - 0.3))
    ax.set_xlabel(f"mean |NEE - (RECO - GPP)| ({UNIT})")
    ax.grid(axis="x", linewidth=0.3)
    ax.margins(x=0.12)
    return fig


@_shown_once
def flux_maps(
    panels: Mapping[str, xr.DataArray], flux: str, label: str = "", columns: int = 2
) -> Figure:
    """Draw fields (lat, lon), all with the same limits; NEE diverges around zero.

    ``flux`` chooses the colours; ``label`` is that of the colour bar, with its unit.
    """
    rows = -(-len(panels) // columns)
    width = 7.6 / columns
    fig = plt.figure(figsize=(7.6, 0.53 * width * rows + 0.6))
    low, high = np.nanpercentile(np.stack([*panels.values()]), [1, 99])
    low, high = (-max(-low, high), max(-low, high)) if flux == "NEE" else (min(low, 0), high)
    axes = []
    for position, (title, field) in enumerate(panels.items()):
        ax = _globe(fig, rows, columns, position + 1)
        image = ax.pcolormesh(
            field.lon, field.lat, field.transpose("lat", "lon"), transform=ccrs.PlateCarree(),
            cmap=COLOUR_MAPS[flux], vmin=low, vmax=high, zorder=1,
        )  # fmt: skip
        ax.set_title(title)
        axes.append(ax)
    bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=35, extend="both")
    bar.set_label(label or f"{flux} ({UNIT})")
    return fig


@_shown_once
def zonal(profiles: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Draw latitude profiles, one panel a title: index latitude (deg), one line a column."""
    fig, axes = plt.subplots(
        1, len(profiles), figsize=(2.6 * len(profiles) + 0.6, 3.6), sharey=True, squeeze=False
    )
    for ax, (title, table) in zip(axes[0], profiles.items(), strict=True):
        for position, (name, column) in enumerate(table.items()):
            ax.plot(column, table.index, color=_colour(name, position), label=str(name))
        ax.axvline(0, color="black", linewidth=0.5)
        ax.set(title=title, xlabel=label)
    _legend(fig, ax)
    axes[0, 0].set_ylabel("latitude (degrees north)")
    return fig


@_shown_once
def budget_bars(table: pd.DataFrame) -> Figure:
    """Draw global totals against published ones, one panel a flux.

    ``table`` has flux, source, value, lower, upper (PgC yr-1) and ours (bool).
    """
    fluxes = list(table.flux.unique())
    sizes = [int((table.flux == f).sum()) for f in fluxes]
    height = 0.34 * sum(sizes) + 0.75 * len(fluxes)
    fig, axes = _rows(len(fluxes), height, height_ratios=[n + 0.6 for n in sizes])
    for ax, flux in zip(axes, fluxes, strict=True):
        rows = table[table.flux == flux]
        y = np.arange(len(rows))[::-1]
        colours = [BLUE if ours else GREY for ours in rows.ours]
        ax.hlines(y, rows.lower, rows.upper, colors=colours, linewidth=5, alpha=0.5)
        ax.scatter(rows.value, y, c=colours, marker="D", s=28, zorder=3)
        ax.set(yticks=y, yticklabels=rows.source, ylim=(-0.6, len(rows) - 0.4))
        ax.set_title(flux, loc="left", weight="bold")
        ax.set_xlabel("PgC yr$^{-1}$")
        ax.grid(axis="x", linewidth=0.3)
    return fig
