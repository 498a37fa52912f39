"""Figures of maps, their seasons and budgets, and how far to trust them."""

import calendar
from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from cartopy import crs as ccrs
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from tamrl.plots import style
from tamrl.plots.scores import differences

MONTHS = tuple(calendar.month_name)[1:]
DEGREES = ccrs.PlateCarree()
EUROPE = (-11, 31, 35.5, 70)  # west, east, south, north, degrees
SOUTH, NORTH = -57, 84  # of land with fluxes, degrees


def limits(fields: ArrayLike, flux: str) -> tuple[float, float]:
    """Limits of colour for all panels: 1st to 99th percentile; NEE symmetric around zero."""
    low, high = map(float, np.nanpercentile(np.asarray(fields), [1, 99]))
    return (-max(-low, high), max(-low, high)) if flux == "NEE" else (min(low, 0.0), high)


def _mesh(ax: Any, field: xr.DataArray, cmap: str, span: tuple[float, float]) -> Any:
    """Draw a field (lat, lon) as coloured cells."""
    return ax.pcolormesh(field.lon, field.lat, field.transpose("lat", "lon"), transform=DEGREES,
                         zorder=1, cmap=cmap, vmin=span[0], vmax=span[1])  # fmt: skip


def _bar(fig: Figure, image: Any, ax: Any, label: str, extend: str = "both") -> None:
    fig.colorbar(image, ax=ax, location="bottom", shrink=0.6, aspect=35, extend=extend, label=label)


@style.figure
def towers_map(table: pd.DataFrame) -> Figure:
    """Draw towers where they stand, on the globe and in Europe; ``table`` has lat, lon, igbp."""
    fig = plt.figure(figsize=(8.4, 3.6))
    grid = fig.add_gridspec(1, 2, width_ratios=[3.1, 1])
    europe: Any = fig.add_subplot(grid[1], projection=ccrs.AlbersEqualArea(10, 52))
    europe.set_extent(EUROPE, DEGREES)
    for ax in (style.globe(fig, grid[0]), style.land(europe)):
        for code, colour, marker, here in style.by_class(table):
            name = f"{code} ({len(here)})"
            ax.scatter(here.lon, here.lat, 18, colour, marker=marker, edgecolors="black",
                       linewidths=0.4, zorder=3, transform=DEGREES, label=name)  # fmt: skip
    return fig


@style.figure
def flux_maps(panels: Mapping[str, xr.DataArray], flux: str, columns: int = 2,
              span: tuple[float, float] | None = None,
              outside: xr.DataArray | None = None) -> Figure:  # fmt: skip
    """Draw fields (lat, lon), all with the same limits (``span``); NEE diverges around zero.

    Hatched is where ``outside`` (lat, lon), a share of the land, is half or more.
    """
    n_rows, width = -(-len(panels) // columns), 7.6 / columns
    fig = plt.figure(figsize=(7.6, 0.53 * width * n_rows + 0.6))
    span = span or limits(np.concatenate([*map(np.ravel, panels.values())]), flux)
    axes = [style.globe(fig, n_rows, columns, position + 1) for position in range(len(panels))]
    for ax, (title, field) in zip(axes, panels.items(), strict=True):
        image = _mesh(ax, field, style.COLOUR_MAPS[flux], span)
        ax.set_title(title)
        _hatch(ax, outside)
    _bar(fig, image, axes, f"{flux} ({style.UNIT})")
    return fig


def _hatch(ax: Any, outside: xr.DataArray | None, colour: str = "#222222",
           width: float = 0.5) -> None:  # fmt: skip
    """Hatch where ``outside`` (lat, lon) is half or more; None: not known."""
    if outside is None:
        return
    with plt.rc_context({"hatch.linewidth": width, "hatch.color": colour}):
        ax.contourf(outside.lon, outside.lat, outside.transpose("lat", "lon").fillna(0),
                    [0.5, 1.1], colors="none", hatches=["//////"], transform=DEGREES,
                    zorder=2)  # fmt: skip


@style.figure
def annual(fields: Mapping[str, xr.DataArray], profiles: Mapping[str, pd.DataFrame],
           outside: xr.DataArray | None = None) -> Figure:  # fmt: skip
    """Draw each flux's annual mean (lat, lon), gC m-2 d-1, beside its profiles over latitude.

    ``profiles`` has a table a flux: index latitude (deg), a line a column. Hatched is where
    ``outside`` (lat, lon) is half or more.
    """
    fig = plt.figure(figsize=(8.2, 3.4 * len(fields) + 0.3))
    grid = fig.add_gridspec(len(fields), 2, width_ratios=[3, 1])
    layout: Any = fig.get_layout_engine()
    layout.set(hspace=0.16)  # for the labels of the bars, which the layout does not know
    for row, (flux, field) in enumerate(fields.items()):
        ax = style.globe(fig, grid[row, 0])
        image = _mesh(ax, field, style.COLOUR_MAPS[flux], limits(field, flux))
        ax.set_title(flux)
        _hatch(ax, outside)
        bar = ax.inset_axes((0.2, -0.1, 0.6, 0.045))  # beside the labels of the profile
        fig.colorbar(image, cax=bar, orientation="horizontal", extend="both", label=style.UNIT)
        side = fig.add_subplot(grid[row, 1])
        for name, colour in style.model_colours(profiles[flux]).items():
            dash = "--" if colour == style.GREY else "-"
            side.plot(profiles[flux][name], profiles[flux].index, dash, color=colour, label=name)
        side.axvline(0, color="black", linewidth=0.5)
        side.set(xlabel=style.UNIT, ylabel="degrees north", ylim=(SOUTH, NORTH))
    return fig


@style.figure
def region(panels: Mapping[str, xr.DataArray], flux: str, title: str,
           outside: xr.DataArray | None = None) -> Figure:  # fmt: skip
    """Draw fields (lat, lon) of a region side by side, all with the same limits, under a title.

    Hatched where ``outside`` (lat, lon) is half or more.
    """
    span = limits(np.concatenate([*map(np.ravel, panels.values())]), flux)
    fig = plt.figure(figsize=(8.2, 3.4))
    for column, (name, field) in enumerate(panels.items()):
        west, east, south, north = (float(at[i]) for at in (field.lon, field.lat) for i in (0, -1))
        centre = ccrs.AlbersEqualArea((west + east) / 2, float(field.lat.mean()))
        ax: Any = fig.add_subplot(1, len(panels), column + 1, projection=centre, title=name)
        ax.set_extent((west, east, south, north), DEGREES)
        image = _mesh(style.land(ax), field, style.COLOUR_MAPS[flux], span)
        _hatch(ax, outside)
    _bar(fig, image, fig.axes, f"{flux} ({style.UNIT})\n{title}")
    return fig


@style.figure
def hovmoller(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw mean fluxes by latitude (index, deg) and month (columns 1 to 12), one panel a flux."""
    fig, axes = style.columns(len(tables), (8.4, 3.8))
    for ax, (flux, table) in zip(axes, tables.items(), strict=True):
        image = ax.pcolormesh(table.columns, table.index, table, cmap=style.COLOUR_MAPS[flux],
                              clim=limits(table, flux), shading="nearest")  # fmt: skip
        ax.set(title=flux, xticks=(1, 4, 7, 10), xticklabels=("Jan", "Apr", "Jul", "Oct"),
               ylim=(SOUTH, NORTH), facecolor="#f2f2f2")  # fmt: skip
        fig.colorbar(image, ax=ax, location="bottom", extend="both", label=style.UNIT)
    axes[0].set_ylabel("latitude (degrees north)")
    return fig


@style.figure
def zonal(profiles: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Draw latitude profiles, one panel a title: index latitude (deg), one line a column."""
    fig, axes = style.columns(len(profiles), (2.6 * len(profiles) + 0.6, 3.6))
    for ax, (title, table) in zip(axes, profiles.items(), strict=True):
        for name, colour in style.model_colours(table).items():
            ax.plot(table[name], table.index, color=colour, label=name)
        ax.axvline(0, color="black", linewidth=0.5)
        ax.set(title=title, xlabel=label)
    axes[0].set_ylabel("latitude (degrees north)")
    return fig


@style.figure
def against_reference(difference: xr.DataArray, name: str = "FLUXCOM",
                      outside: xr.DataArray | None = None) -> Figure:  # fmt: skip
    """Draw the difference (lat, lon) of two maps of GPP, as of `tamrl.maps.budgets.compare_gpp`.

    Hatched where ``outside`` (lat, lon) is half or more.
    """
    fig = plt.figure(figsize=(7.6, 4.4))
    top = float(np.nanpercentile(np.abs(difference), 99))
    ax = style.globe(fig, 1, 1, 1)
    image = _mesh(ax, difference, "PuOr", (-top, top))
    _hatch(ax, outside)
    _bar(fig, image, ax, f"GPP, this study minus {name} ({style.UNIT})")
    return fig


@style.figure
def hatched(panels: Mapping[str, tuple[xr.DataArray, str, str]], outside: xr.DataArray) -> Figure:
    """Draw fields (title: field, colour map, label), hatched where ``outside`` is half or more."""
    fig = plt.figure(figsize=(7.6, 3.9 * len(panels)))
    for row, (title, (field, colours, label)) in enumerate(panels.items()):
        ax = style.globe(fig, len(panels), 1, row + 1)
        image = _mesh(ax, field, colours, (0, float(np.nanpercentile(field, 99))))
        _hatch(ax, outside, style.RED, 0.9)
        ax.set_title(title)
        _bar(fig, image, ax, label, "max")
    return fig


def rank_correlations(table: pd.DataFrame, label: str) -> Figure:
    """Draw ``rho`` with its interval by flux and kind of error, against zero."""
    table = table.assign(change=table.rho, label=table.flux + ", " + table.error)
    return differences(table, label, (-1, 1))


@style.figure
def next_towers(cells: pd.DataFrame, towers: pd.DataFrame, index: xr.DataArray) -> Figure:
    """Draw towers and the cells (index rank) where the next help most, over dissimilarity."""
    fig = plt.figure(figsize=(7.8, 4.6))
    ax = style.globe(fig, 1, 1, 1)
    image = _mesh(ax, index, "cividis", (0, float(np.nanpercentile(index, 98))))
    ax.scatter(towers.lon, towers.lat, s=9, c="white", edgecolors="black", linewidths=0.5,
               transform=DEGREES, zorder=3, label="towers that exist")  # fmt: skip
    ax.scatter([], [], s=130, c=style.RED, label="next towers, by rank")
    disc = {
        "boxstyle": "circle,pad=0.18",
        "facecolor": style.RED,
        "edgecolor": "white",
        "linewidth": 0.8,
    }
    for rank, row in cells[::-1].iterrows():  # the best site last, on top of all others
        ax.text(row.lon, row.lat, str(rank), transform=DEGREES, zorder=5, ha="center",
                va="center", fontsize=7.5, color="white", bbox=disc)  # fmt: skip
    _bar(fig, image, ax, "dissimilarity to the towers (1)", "max")
    return fig


@style.figure
def gain_curve(curve: pd.DataFrame, label: str) -> Figure:
    """Draw the mean dissimilarity left, %, as `tamrl.maps.network_design.next_towers` adds some."""
    left = 100 * curve / curve.rule.iloc[0]
    fig, ax = plt.subplots(figsize=(7.6, 3.4))
    ax.fill_between(left.index, left.lowest, left.highest, color=style.GREY, alpha=0.25)
    _added(ax, left.index, left.random, left.rule, "by chance (band: all draws)")
    ax.set_ylabel(label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


@style.figure
def withheld(curve: pd.DataFrame) -> Figure:
    """Draw the error at test towers as withheld towers are added, by rule or by chance."""
    fig, panels = style.by_flux(curve, (8.2, 3.3), sharey=False)
    for ax, _, here in panels:
        _added(ax, here.added, here.chance, here.rule, "by chance")
    fig.axes[0].set_ylabel(f"RMSE ({style.UNIT})")
    return fig


def _added(ax: Any, towers: Any, chance: pd.Series, rule: pd.Series, by_chance: str) -> None:
    ax.plot(towers, chance, "s--", color=style.GREY, markersize=4, label=by_chance)
    ax.plot(towers, rule, "o-", color=style.BLUE, markersize=4, label="by the rule")
    ax.set_xlabel("towers added")
    ax.grid(axis="y", linewidth=0.3)
