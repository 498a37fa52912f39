"""Figures of the course and of the method."""

from collections.abc import Mapping
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import SVG
from matplotlib.figure import Figure

from tamrl.plots import style

PLACES = (
    (style.GREEN, "o", "-"),
    (style.RED, "s", "--"),
    (style.BLUE, "^", ":"),
    (style.ORANGE, "D", "-."),
)


def model() -> SVG:
    """Show the drawing of TAM-RL that the package carries."""
    return SVG(files("tamrl").joinpath("web/model.svg").read_text(encoding="utf-8"))


@style.figure
def responses(frames: Mapping[str, pd.DataFrame], driver: str, flux: str, label: str) -> Figure:
    """Draw one flux against one driver, a dot a day, a colour and marker a place.

    ``frames`` hold columns ``driver`` and ``flux``; ``label`` is that of the driver, with its unit.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    for (name, frame), (colour, marker, _) in zip(frames.items(), PLACES, strict=False):
        ax.plot(frame[driver], frame[flux], marker, color=colour, markersize=3, label=name,
                alpha=0.6, markeredgewidth=0)  # fmt: skip
    ax.set(xlabel=label, ylabel=f"{flux} ({style.UNIT})")
    return fig


@style.figure
def before_and_after(table: pd.DataFrame, before: str, after: str) -> Figure:
    """Draw the error of each place under two models, one panel a flux, worst places on the left.

    ``table`` has columns site, flux and the two models' RMSE.
    """
    fig, panels = style.by_flux(table, (7.6, 3.2))
    for ax, _, here in panels:
        here = here.sort_values(before, ascending=False)
        x = np.arange(len(here))
        ax.vlines(x, here[before], here[after], color=style.GREY, linewidth=0.8)
        ax.plot(x, here[before], "s", color=style.RED, markersize=4, label=before)
        ax.plot(x, here[after], "o", color=style.BLUE, markersize=4, label=after)
        ax.set(xlabel="towers", xticks=[], ylim=(0, None))
    fig.axes[0].set_ylabel(f"RMSE ({style.UNIT})")
    return fig


@style.figure
def supports(frames: Mapping[str, pd.DataFrame], labels: Mapping[str, str]) -> Figure:
    """Draw the support windows of places (index day of the year); ``labels``: driver -> unit."""
    fig, axes = style.columns(len(labels), (8.0, 3.0), sharey=False)
    for ax, (driver, label) in zip(axes, labels.items(), strict=True):
        for (name, frame), (colour, marker, line) in zip(frames.items(), PLACES, strict=False):
            ax.plot(frame.index, frame[driver], line, marker=marker, color=colour, markersize=3,
                    linewidth=1, label=name)  # fmt: skip
        ax.set(xlabel="day of the year", title=label)
    return fig


@style.figure
def embedding(table: pd.DataFrame) -> Figure:
    """Draw places in the plane of z: columns first, second and igbp."""
    fig, ax = plt.subplots(figsize=(6.4, 4.0))
    for code in (c for c in style.BIOMES if (table.igbp == c).any()):
        here, (colour, marker) = table[table.igbp == code], style.BIOMES[code]
        ax.scatter(here["first"], here["second"], s=34, c=colour, marker=marker, label=code,
                   edgecolors="black", linewidths=0.4)  # fmt: skip
    ax.set(xlabel="first principal component of z", ylabel="second")
    ax.set_aspect("equal", "datalim")
    fig.legend(loc="outside right center")
    return fig


@style.figure
def kinds(frame: pd.DataFrame, label: str) -> Figure:
    """Draw one flux under one weather, a line for each kind of place that the columns name."""
    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    for (name, column), (colour, _, line) in zip(frame.items(), PLACES, strict=False):
        ax.plot(column.index, column, line, color=colour, linewidth=1.3, label=str(name))
    ax.set_ylabel(label)
    ax.axhline(0, color=style.GREY, linewidth=0.6)
    return fig
