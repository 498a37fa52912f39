"""Figures of drivers, of what labels are worth, of the course, of the method and of its cost."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from IPython.display import SVG
from matplotlib.figure import Figure

from tamrl.plots import style

PREDICTORS = {"light": (style.ORANGE, "-"), "temperature": (style.RED, "-"),
              "humidity": (style.SKY, "--"), "greenness": (style.GREEN, "-"),
              "water": (style.BLUE, "--"), "place facts": (style.GREY, "-"),
              "own history": (style.PINK, "-"),
              "light x greenness": (style.GREEN, ":")}  # fmt: skip
LINES = ((style.BLUE, "o-"), (style.RED, "s--"), (style.GREY, "^:"), (style.ORANGE, "D-."))
PLACES = ((style.GREEN, "o", "-"), (style.RED, "s", "--"), (style.BLUE, "^", ":"),
          (style.ORANGE, "D", "-."))  # fmt: skip
TIMES = " \N{MULTIPLICATION SIGN} "
MARKS = {"fp32": ("o", style.BLUE), "bf16": ("s", style.ORANGE)}


@style.figure
def importance(table: pd.DataFrame) -> Figure:
    """Draw the ``rise`` of error with its interval by predictors, one panel a flux."""
    kinds = list(table.predictors.unique())
    fig, panels = style.by_flux(table, (8, 0.3 * len(kinds) + 1), sharex=True)
    y = np.arange(len(kinds))[::-1]
    for ax, _, rises in panels:
        here = rises.set_index("predictors").loc[kinds]
        ax.barh(y, here.rise, 0.7, color=[PREDICTORS.get(k, (style.GREY,))[0] for k in kinds])
        ax.hlines(y, here.lower, here.upper, colors="black", linewidth=0.9)
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set(xlabel=f"rise of RMSE\n({style.UNIT})", yticks=y,
               yticklabels=[kind.replace(" x ", TIMES) for kind in kinds])  # fmt: skip
    return fig


@style.figure
def by_biome(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Draw one field a flux, classes down and predictors across, with its numbers."""
    height = 0.3 * len(next(iter(tables.values()))) + 1.6
    fig, axes = style.columns(len(tables), (3.1 * len(tables) + 0.6, height))
    top = max(float(np.nanmax(t.to_numpy())) for t in tables.values())
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        image = ax.imshow(table, cmap="cividis", vmin=0, vmax=top, aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            number = f"{value:.1f}".replace("-0.0", "0.0").replace("-", style.MINUS)
            ax.text(column, row, number, ha="center", va="center",
                    fontsize=9, color="white" if value < 0.6 * top else "black")  # fmt: skip
        ax.set(title=title, yticks=range(len(table)), yticklabels=table.index)
        ax.set_xticks(range(table.shape[1]), table.columns, rotation=60, ha="right")
    fig.colorbar(image, ax=axes, label=label, shrink=0.8)
    return fig


@style.figure
def memory(strength: xr.DataArray, fluxes: Sequence[str] = ("GPP", "RECO")) -> Figure:
    """Draw ``strength`` (flux, lag, predictors), gC m-2 d-1, against the days it lies back."""
    fig, axes = style.columns(len(fluxes), (7.6, 3.1))
    for ax, flux in zip(axes, fluxes, strict=True):
        for name, line in strength.sel(flux=flux).to_pandas().items():
            colour, dash = PREDICTORS.get(str(name), (style.GREY, "-"))
            ax.plot(line.index + 1, line, dash, color=colour, label=str(name))
        ax.set(title=flux, xscale="log", yscale="log", xlabel="days back (1: the day itself)")
    top = float(strength.max())
    axes[0].set(ylim=(1e-4 * top, 2 * top), ylabel=f"mean |attribution| ({style.UNIT})")
    return fig


@style.figure
def gates(table: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw gates around 1, one panel a flux: classes down, latent features across."""
    fig, axes = style.rows(len(table), 2.1 * len(table) + 0.6)
    span = max(float(np.abs(t.to_numpy() - 1).max()) for t in table.values())
    for ax, (flux, field) in zip(axes, table.items(), strict=True):
        image = ax.imshow(field, cmap="PuOr", vmin=1 - span, vmax=1 + span, aspect="auto")
        ax.set(yticks=range(len(field)), yticklabels=field.index, xticks=[])
        ax.set_title(flux, loc="left")
    axes[-1].set_xlabel("latent features, those that move the flux most on the left")
    fig.colorbar(image, ax=axes, label="gate (1: as for all)", shrink=0.8)
    return fig


def gap_curves(table: pd.DataFrame) -> Figure:
    """Draw the error against the share of satellite months removed, one line a model."""
    low, high = table.change_lower, table.change_upper
    table = table.assign(lower=low, upper=high, share=100 * table.share)
    return _curves(table, "share", "model", "satellite months\nremoved (%)")


def label_curves(table: pd.DataFrame) -> Figure:
    """Draw the change of error against the number of labelled days, one line a way of adapting."""
    return _curves(table, "days", "way", "labelled days", sorted(table.days.unique()))


@style.figure
def _curves(table: pd.DataFrame, x: str, by: str, label: str,
            ticks: Sequence[float] = ()) -> Figure:  # fmt: skip
    """Draw ``change`` within lower..upper (%) against ``x``, a panel a flux, a line each of by."""
    fig, panels = style.by_flux(table, (8, 2.9))
    for ax, _, of_flux in panels:
        for name, (colour, mark) in zip(table[by].unique(), LINES, strict=False):
            here = of_flux[of_flux[by] == name]
            ax.plot(here[x], here.change, mark, color=colour, markersize=4, label=name)
            ax.fill_between(here[x], here.lower, here.upper, color=colour, alpha=0.2)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_xlabel(label)
        if ticks:
            ax.set_xticks(ticks)
    fig.axes[0].set_ylabel("change of RMSE (%)")
    return fig


def model() -> SVG:
    """Show the drawing of TAM-RL that the package carries."""
    return SVG(files("tamrl").joinpath("web/model.svg").read_text(encoding="utf-8"))


@style.figure
def responses(frames: Mapping[str, pd.DataFrame], driver: str, flux: str, label: str) -> Figure:
    """Draw the column ``flux`` against ``driver`` (``label``), a dot a day, a colour a place."""
    fig, ax = plt.subplots(figsize=(7.6, 3.8))
    for (name, frame), (colour, marker, _) in zip(frames.items(), PLACES, strict=False):
        ax.plot(frame[driver], frame[flux], marker, color=colour, markersize=3, label=name,
                alpha=0.6, markeredgewidth=0)  # fmt: skip
    ax.set(xlabel=label, ylabel=f"{flux} ({style.UNIT})")
    return fig


@style.figure
def before_and_after(table: pd.DataFrame, before: str, after: str) -> Figure:
    """Draw the RMSE of each site under two models, one panel a flux, worst sites on the left."""
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
            ax.plot(frame[driver], line, marker=marker, color=colour, markersize=3, linewidth=1,
                    label=name)  # fmt: skip
        ax.set(xlabel="day of the year", title=label)
    return fig


@style.figure
def embedding(table: pd.DataFrame) -> Figure:
    """Draw places in the plane of z: columns first, second and igbp."""
    fig, ax = plt.subplots(figsize=(7.6, 4.4))
    for code, colour, marker, here in style.by_class(table):
        ax.scatter(here["first"], here["second"], s=34, c=colour, marker=marker, label=code,
                   edgecolors="black", linewidths=0.4)  # fmt: skip
    ax.set(xlabel="first principal component of z", ylabel="second")
    ax.set_aspect("equal", "datalim")
    fig.legend(loc="outside right center")
    return fig


@style.figure
def kinds(frame: pd.DataFrame, label: str) -> Figure:
    """Draw one flux under one weather, a line for each kind of place that the columns name."""
    fig, ax = plt.subplots(figsize=(7.6, 3.2))
    for (name, column), (colour, _, line) in zip(frame.items(), PLACES, strict=False):
        ax.plot(column, line, color=colour, linewidth=1.3, label=str(name))
    ax.set_ylabel(label)
    ax.axhline(0, color=style.GREY, linewidth=0.6)
    return fig


@style.figure
def against_peer(table: pd.DataFrame) -> Figure:
    """Draw ``times``, how often the authors' code takes our time, with ranges, by precision."""
    names = list(dict.fromkeys(table.what))[::-1]
    fig, ax = plt.subplots(figsize=(7.6, 1.1 + 0.32 * len(names)))
    for precision, part in table.groupby("precision", sort=False):
        y = [names.index(name) for name in part.what]
        ax.hlines(y, part.lower, part.upper, colors="black", linewidth=1)
        marker, colour = MARKS[str(precision)]
        ax.plot(part.times, y, marker, color=colour, label=str(precision), markersize=6)
        for at, times in zip(y, part.times, strict=True):
            ax.annotate(f"{times:g}", (times, at), (0, 6), textcoords="offset points", fontsize=9)
    ax.axvline(1, color="black", linestyle="--", linewidth=1, label="equal time")
    ax.set(xscale="log", ylim=(-0.6, len(names) - 0.2), yticks=range(len(names)),
           yticklabels=names, xlabel="CPU time, authors' code over this package")  # fmt: skip
    return fig


@style.figure
def class_seasons(table: pd.DataFrame, models: Sequence[str], fluxes: Sequence[str]) -> Figure:
    """Draw mean seasons by class of vegetation (rows) and flux: observed dots, lines of models.

    ``table`` has class, towers, month, flux, observed and a column a model, gC m-2 d-1.
    """
    classes = list(dict.fromkeys(table["class"]))
    size = (7.6, 0.9 * len(classes) + 0.9)
    fig, axes = plt.subplots(len(classes), len(fluxes), figsize=size, squeeze=False, sharex=True,
                             sharey="col")  # fmt: skip
    for (row, code), (column, flux) in product(enumerate(classes), enumerate(fluxes)):
        here = table[(table["class"] == code) & (table.flux == flux)].sort_values("month")
        ax: Any = axes[row, column]
        ax.plot(here.month, here.observed, "o", color="black", markersize=3, label="observed")
        for name, colour in style.model_colours(models).items():
            ax.plot(here.month, here[name], color=colour, label=name)
        ax.axhline(0, color="#888888", linewidth=0.5)
        ax.set(xticks=(1, 4, 7, 10), xticklabels=("Jan", "Apr", "Jul", "Oct"))
        if column == 0:
            ax.set_ylabel(f"{code} ({here.towers.iloc[0]})")
        if row == 0:
            ax.set_title(f"{flux} ({style.UNIT})")
    return fig
