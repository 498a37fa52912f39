"""Figures of the course, in the look of `tamrl.plots.style`; no logic here."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tamrl.plots.style import BIOMES, BLUE, GREEN, GREY, ORANGE, RED, UNIT, _legend, _shown_once

PLACES = ((GREEN, "o", "-"), (RED, "s", "--"), (BLUE, "^", ":"), (ORANGE, "D", "-."))


@_shown_once
def responses(frames: Mapping[str, pd.DataFrame], driver: str, flux: str, label: str) -> Figure:
    """Draw one flux against one driver, a dot a day, a colour and marker a place.

    ``frames`` hold columns ``driver`` and ``flux``; ``label`` is that of the driver, with its unit.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    for (name, frame), (colour, marker, _) in zip(frames.items(), PLACES, strict=False):
        ax.plot(frame[driver], frame[flux], marker, color=colour, markersize=3, label=name,
                alpha=0.6, markeredgewidth=0)  # fmt: skip
    ax.set(xlabel=label, ylabel=f"{flux} ({UNIT})")
    _legend(fig, ax)
    return fig


@_shown_once
def before_and_after(table: pd.DataFrame, before: str, after: str) -> Figure:
    """Draw the error of each place under two models, one panel a flux, worst places on the left.

    ``table`` has columns site, flux and the two models' RMSE.
    """
    fluxes = list(table.flux.unique())
    fig, axes = plt.subplots(1, len(fluxes), figsize=(7.6, 3.2), sharey=True)
    for ax, flux in zip(np.atleast_1d(axes), fluxes, strict=True):
        rows = table[table.flux == flux].sort_values(before, ascending=False)
        x = np.arange(len(rows))
        ax.vlines(x, rows[before], rows[after], color=GREY, linewidth=0.8)
        ax.plot(x, rows[before], "s", color=RED, markersize=4, label=before)
        ax.plot(x, rows[after], "o", color=BLUE, markersize=4, label=after)
        ax.set(title=flux, xlabel="towers", xticks=[], ylim=(0, None))
    np.atleast_1d(axes)[0].set_ylabel(f"RMSE ({UNIT})")
    _legend(fig, ax)
    return fig


@_shown_once
def supports(frames: Mapping[str, pd.DataFrame], labels: Mapping[str, str]) -> Figure:
    """Draw the support windows of places, one panel a driver: index day of the year.

    ``labels`` give each driver's name and unit.
    """
    fig, axes = plt.subplots(1, len(labels), figsize=(8.0, 3.0), sharex=True)
    for ax, (driver, label) in zip(np.atleast_1d(axes), labels.items(), strict=True):
        for (name, frame), (colour, marker, line) in zip(frames.items(), PLACES, strict=False):
            ax.plot(frame.index, frame[driver], line, marker=marker, color=colour, markersize=3,
                    linewidth=1, label=name)  # fmt: skip
        ax.set(xlabel="day of the year", title=label)
    _legend(fig, ax)
    return fig


@_shown_once
def embedding(table: pd.DataFrame) -> Figure:
    """Draw places in the plane of z: columns first, second and igbp."""
    fig, ax = plt.subplots(figsize=(6.4, 4.0))
    for code in (c for c in BIOMES if (table.igbp == c).any()):
        rows = table[table.igbp == code]
        colour, marker = BIOMES[code]
        ax.scatter(rows["first"], rows["second"], s=34, c=colour, marker=marker, label=code,
                   edgecolors="black", linewidths=0.4)  # fmt: skip
    ax.set(xlabel="first principal component of z", ylabel="second")
    ax.set_aspect("equal", "datalim")
    fig.legend(loc="outside right center")
    return fig


@_shown_once
def kinds(frame: pd.DataFrame, label: str) -> Figure:
    """Draw one flux under one weather, a line for each kind of place that the columns name."""
    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    for (name, column), (colour, _, line) in zip(frame.items(), PLACES, strict=False):
        ax.plot(column.index, column, line, color=colour, linewidth=1.3, label=str(name))
    ax.set(ylabel=label)
    ax.axhline(0, color=GREY, linewidth=0.6)
    _legend(fig, ax)
    return fig
