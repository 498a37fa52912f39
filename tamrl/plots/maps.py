"""Figures of maps, their seasons and how far to trust them, in the look of `tamrl.plots.style`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from cartopy import crs as ccrs
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tamrl.plots.style import (
    BLUE,
    COLOUR_MAPS,
    FLUX_COLOURS,
    GREY,
    RED,
    UNIT,
    _colour,
    _globe,
    _land,
    _legend,
    _shown_once,
)

MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December")  # fmt: skip
DEGREES = ccrs.PlateCarree()
FLAT = "#f2f2f2"
SOUTH, NORTH = -57, 84  # of land with fluxes, degrees


def _mesh(ax: Any, field: xr.DataArray, **options: Any) -> Any:
    """Draw a field (lat, lon) as coloured cells."""
    values = field.transpose("lat", "lon")
    return ax.pcolormesh(field.lon, field.lat, values, transform=DEGREES, zorder=1, **options)


def limits(fields: xr.DataArray, flux: str) -> tuple[float, float]:
    """Limits of colour for all panels: 1st to 99th percentile; NEE symmetric around zero."""
    low, high = (float(v) for v in np.nanpercentile(fields, [1, 99]))
    return (-max(-low, high), max(-low, high)) if flux == "NEE" else (min(low, 0.0), high)


@_shown_once
def mean_and_spread(rows: Mapping[str, tuple[xr.DataArray, xr.DataArray]], spread: str) -> Figure:
    """Draw each flux's mean beside its uncertainty, each with a colour bar of its own.

    ``rows``: flux -> mean and uncertainty (lat, lon), gC m-2 d-1; ``spread`` names the second.
    """
    fig = plt.figure(figsize=(8.2, 2.7 * len(rows)))
    for r, (flux, (mean, sd)) in enumerate(rows.items()):
        low, high = limits(mean, flux)
        for c, (field, name, options) in enumerate((
            (mean, flux, {"cmap": COLOUR_MAPS[flux], "vmin": low, "vmax": high}),
            (sd, f"{flux}, {spread}", {"cmap": "magma", "vmin": 0, "vmax": limits(sd, "GPP")[1]}),
        )):  # fmt: skip
            ax = _globe(fig, len(rows), 2, 2 * r + c + 1)
            image = _mesh(ax, field, **options)
            ax.set_title(name)
            fig.colorbar(image, ax=ax, location="bottom", shrink=0.8, extend="both", label=UNIT)
    return fig


@_shown_once
def region(panels: Mapping[str, xr.DataArray], flux: str, title: str) -> Figure:
    """Draw fields (lat, lon) of a region side by side, all with the same limits, under a title."""
    low, high = limits(xr.concat([*panels.values()], "panel"), flux)
    fig = plt.figure(figsize=(8.2, 3.4))
    axes = []
    for c, (name, field) in enumerate(panels.items()):
        west, east = float(field.lon[0]), float(field.lon[-1])
        middle = (west + east) / 2, float(field.lat.mean())
        ax: Any = fig.add_subplot(1, len(panels), c + 1, projection=ccrs.AlbersEqualArea(*middle))
        ax.set_extent((west, east, float(field.lat[0]), float(field.lat[-1])), DEGREES)
        image = _mesh(_land(ax), field, cmap=COLOUR_MAPS[flux], vmin=low, vmax=high)
        ax.set_title(name)
        axes.append(ax)
    bar = fig.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=35, extend="both")
    bar.set_label(f"{flux} ({UNIT})\n{title}")
    return fig


@_shown_once
def hovmoller(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw mean fluxes by latitude (index, deg) and month (columns 1 to 12), one panel a flux."""
    fig, axes = plt.subplots(1, len(tables), figsize=(8.4, 3.8), sharey=True, squeeze=False)
    for ax, (flux, table) in zip(axes[0], tables.items(), strict=True):
        low, high = limits(xr.DataArray(table.to_numpy()), flux)
        image = ax.pcolormesh(
            table.columns, table.index, table, cmap=COLOUR_MAPS[flux], vmin=low, vmax=high,
            shading="nearest",
        )  # fmt: skip
        ax.set_facecolor(FLAT)
        ax.set(title=flux, xticks=(1, 4, 7, 10), xticklabels=("Jan", "Apr", "Jul", "Oct"))
        ax.set_ylim(SOUTH, NORTH)
        fig.colorbar(image, ax=ax, location="bottom", extend="both", label=UNIT)
    axes[0, 0].set_ylabel("latitude (degrees north)")
    return fig


@_shown_once
def country_bars(tables: Mapping[str, pd.DataFrame], flux: str, count: int = 15) -> Figure:
    """Draw the totals of the countries with the largest ones, one bar a model, with intervals.

    ``tables``: model -> as from `tamrl.maps.budgets.totals` by country.
    """
    first = next(iter(tables.values()))
    first = first[(first.flux == flux) & (first.region != "unassigned")]
    names = list(first.reindex(first.total.abs().sort_values(ascending=False).index).region[:count])
    fig, ax = plt.subplots(figsize=(7.6, 0.42 * count + 1.2))
    height = 0.8 / len(tables)
    for m, (model, table) in enumerate(tables.items()):
        rows = table[table.flux == flux].set_index("region").loc[names]
        y = np.arange(count)[::-1] - (m - (len(tables) - 1) / 2) * height
        ax.barh(y, rows.total, height * 0.9, color=_colour(model, m), label=model)
        ax.hlines(y, rows.lower, rows.upper, colors="black", linewidth=1)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set(yticks=range(count), yticklabels=names[::-1], xlabel=f"{flux} (PgC yr$^{{-1}}$)")
    _legend(fig, ax)
    return fig


@_shown_once
def against_reference(maps: xr.Dataset, zonal: pd.DataFrame, name: str = "FLUXCOM") -> Figure:
    """Draw the difference of two maps of mean GPP, and both by latitude.

    ``maps`` and ``zonal`` as from `tamrl.maps.budgets.compare_gpp`.
    """
    fig = plt.figure(figsize=(8.8, 3.7))
    grid = fig.add_gridspec(2, 2, width_ratios=[2.6, 1], height_ratios=[18, 1])
    ax = _globe(fig, grid[0, 0])
    top = float(np.nanpercentile(np.abs(maps.difference), 99))
    image = _mesh(ax, maps.difference, cmap="PuOr", vmin=-top, vmax=top)
    fig.colorbar(
        image, cax=fig.add_subplot(grid[1, 0]), orientation="horizontal", extend="both",
        label=f"this study minus {name} ({UNIT})",
    )  # fmt: skip
    side = fig.add_subplot(grid[0, 1])
    for column, colour, dash in zip(zonal, (BLUE, GREY), ("-", "--"), strict=True):
        side.plot(zonal[column], zonal.index, dash, color=colour, label=column)
    side.set(xlabel=f"GPP ({UNIT})", ylabel="degrees north", ylim=(SOUTH, NORTH))
    _legend(fig, side)
    return fig


@_shown_once
def hatched(panels: Mapping[str, tuple[xr.DataArray, str, str]], outside: xr.DataArray) -> Figure:
    """Draw fields (lat, lon) with hatching where a place is outside for half of the year or more.

    ``panels``: title -> field, colour map, label of its colour bar; ``outside`` (lat, lon): share
    of the year.
    """
    fig = plt.figure(figsize=(7.6, 3.9 * len(panels)))
    for row, (title, (field, colours, label)) in enumerate(panels.items()):
        ax = _globe(fig, len(panels), 1, row + 1)
        top = float(np.nanpercentile(field, 99))
        image = _mesh(ax, field, cmap=colours, vmin=0, vmax=top)
        with plt.rc_context({"hatch.linewidth": 0.9, "hatch.color": RED}):
            ax.contourf(
                outside.lon, outside.lat, outside.transpose("lat", "lon").fillna(0),
                levels=[0.5, 1.1], colors="none", hatches=["//////"], transform=DEGREES, zorder=2,
            )  # fmt: skip
        ax.set_title(title)
        fig.colorbar(image, ax=ax, location="bottom", shrink=0.6, aspect=35, extend="max",
                     label=label)  # fmt: skip
    return fig


@_shown_once
def rank_correlations(table: pd.DataFrame, label: str) -> Figure:
    """Draw ``rho`` with its interval by flux and kind of error, against zero."""
    kinds = list(table.error.unique())
    fig, ax = plt.subplots(figsize=(6.8, 0.5 * len(table) + 1.2))
    y = np.arange(len(table))[::-1]
    for k, kind in enumerate(kinds):
        on = (table.error == kind).to_numpy()
        colours = [FLUX_COLOURS[f] for f in table.flux[on]]
        ax.hlines(y[on], table.lower[on], table.upper[on], colors=colours, linewidth=2)
        ax.scatter(table.rho[on], y[on], c=colours, marker="os"[k % 2], s=40, zorder=3, label=kind)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(yticks=y, yticklabels=table.flux + ", " + table.error, xlabel=label, xlim=(-1, 1))
    ax.grid(axis="x", linewidth=0.3)
    return fig


@_shown_once
def next_towers(cells: pd.DataFrame, towers: pd.DataFrame, index: xr.DataArray) -> Figure:
    """Draw where towers stand and where the next ones help most, numbered, over dissimilarity.

    ``cells``: index rank, lat, lon; ``towers``: lat, lon; ``index`` (lat, lon).
    """
    fig = plt.figure(figsize=(7.8, 4.6))
    ax = _globe(fig, 1, 1, 1)
    top = float(np.nanpercentile(index, 98))
    image = _mesh(ax, index, cmap="cividis", vmin=0, vmax=top)
    ax.scatter(towers.lon, towers.lat, s=9, c="white", edgecolors="black", linewidths=0.5,
               transform=DEGREES, zorder=3, label="towers that exist")  # fmt: skip
    ax.scatter(cells.lon, cells.lat, s=130, c=RED, edgecolors="white", linewidths=0.8,
               transform=DEGREES, zorder=4, label="next towers, by rank")  # fmt: skip
    for rank, row in cells.iterrows():
        ax.text(row.lon, row.lat, str(rank), transform=DEGREES, zorder=5, ha="center",
                va="center", fontsize=7.5, color="white", weight="bold")  # fmt: skip
    fig.colorbar(image, ax=ax, location="bottom", shrink=0.6, aspect=35, extend="max",
                 label="dissimilarity to the towers, mean over the year")  # fmt: skip
    _legend(fig, ax)
    return fig


@_shown_once
def gain_curve(curve: pd.DataFrame, label: str) -> Figure:
    """Draw what is left of the mean dissimilarity, %, as towers are added by rule or by chance.

    ``curve`` as from `tamrl.maps.network_design.next_towers`.
    """
    left = 100 * curve / curve.rule.iloc[0]
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    ax.fill_between(left.index, left.lowest, left.highest, color=GREY, alpha=0.25)
    ax.plot(left.index, left.random, "--", color=GREY, label="by chance (band: all draws)")
    ax.plot(left.index, left.rule, "o-", color=BLUE, markersize=4, label="by the rule")
    ax.set(xlabel="towers added", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", linewidth=0.3)
    _legend(fig, ax)
    return fig


@_shown_once
def withheld(curve: pd.DataFrame) -> Figure:
    """Draw the error at towers apart as withheld towers come back, by rule or by chance."""
    fluxes = list(curve.flux.unique())
    fig, axes = plt.subplots(1, len(fluxes), figsize=(8.2, 3.3), squeeze=False)
    for ax, flux in zip(axes[0], fluxes, strict=True):
        rows = curve[curve.flux == flux]
        ax.plot(rows.added, rows.chance, "s--", color=GREY, markersize=4, label="by chance")
        ax.plot(rows.added, rows.rule, "o-", color=BLUE, markersize=4, label="by the rule")
        ax.set(title=flux, xlabel="towers added")
        ax.grid(axis="y", linewidth=0.3)
    axes[0, 0].set_ylabel(f"RMSE ({UNIT})")
    _legend(fig, axes[0, 0])
    return fig


@_shown_once
def month_frame(field: xr.DataArray, flux: str, span: tuple[float, float], title: str) -> Figure:
    """Draw one month's map with given limits of colour: a frame of `tamrl.study.world_map.stepped`."""
    fig = plt.figure(figsize=(7.0, 4.1))
    ax = _globe(fig, 1, 1, 1)
    image = _mesh(ax, field, cmap=COLOUR_MAPS[flux], vmin=span[0], vmax=span[1])
    ax.set_title(title)
    fig.colorbar(image, ax=ax, location="bottom", shrink=0.6, aspect=35, extend="both",
                 label=f"{flux} ({UNIT})")  # fmt: skip
    return fig
