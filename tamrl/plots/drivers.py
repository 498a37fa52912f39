"""Figures of what drives the fluxes, and of what labels at a new tower are worth."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from tamrl.plots import style

PREDICTORS = {
    "light": (style.ORANGE, "-"), "temperature": (style.RED, "-"), "humidity": (style.SKY, "--"),
    "greenness": (style.GREEN, "-"), "water": (style.BLUE, "--"), "place facts": (style.GREY, "-"),
    "own history": (style.PINK, "-"), "light x greenness": (style.GREEN, ":"),
}  # fmt: skip
LINES = ((style.BLUE, "o-"), (style.RED, "s--"), (style.GREY, "^:"))


@style.figure
def importance(table: pd.DataFrame) -> Figure:
    """Draw the ``rise`` of error with its interval by predictors, one panel a flux."""
    kinds = list(table.predictors.unique())
    fig, panels = style.by_flux(table, (8, 0.3 * len(kinds) + 1))
    y = np.arange(len(kinds))[::-1]
    for ax, _, rises in panels:
        here = rises.set_index("predictors").loc[kinds]
        ax.barh(y, here.rise, 0.7, color=[PREDICTORS.get(k, (style.GREY,))[0] for k in kinds])
        ax.hlines(y, here.lower, here.upper, colors="black", linewidth=0.9)
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set(xlabel=f"rise of RMSE\n({style.UNIT})", yticks=y, yticklabels=kinds)
    return fig


@style.figure
def by_biome(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Draw one field a flux, classes down and predictors across, with its numbers."""
    height = 0.3 * len(next(iter(tables.values()))) + 1.6
    fig, axes = style.columns(len(tables), (3.1 * len(tables) + 0.6, height))
    top = max(float(np.nanmax(t.to_numpy())) for t in tables.values())
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        values = table.to_numpy()
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=top, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            text = f"{value:.1f}".replace("-0.0", "0.0")
            ax.text(column, row, text, ha="center", va="center", fontsize=9,
                    color="white" if value < 0.6 * top else "black")  # fmt: skip
        ax.set(title=title, yticks=range(len(table)), yticklabels=table.index)
        ax.set_xticks(range(table.shape[1]), table.columns, rotation=60, ha="right")
    fig.colorbar(image, ax=axes, label=label, shrink=0.8)
    return fig


@style.figure
def memory(strength: xr.DataArray, fluxes: Sequence[str] = ("GPP", "RECO")) -> Figure:
    """Draw how strongly each group of drivers acts by the days that it lies back.

    ``strength`` (flux, lag, predictors), gC m-2 d-1.
    """
    fig, axes = style.columns(len(fluxes), (7.6, 3.1))
    for ax, flux in zip(axes, fluxes, strict=True):
        for name in map(str, strength.predictors.values):
            colour, dash = PREDICTORS.get(name, (style.GREY, "-"))
            line = strength.sel(flux=flux, predictors=name)
            ax.plot(line.lag + 1, line, dash, color=colour, label=name)
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
    bounds = {"change_lower": "lower", "change_upper": "upper"}
    table = table.drop(columns=[*bounds.values()], errors="ignore").rename(columns=bounds)
    return _curves(table.assign(percent=100 * table.share), "percent", "model",
                   "satellite months\nremoved (%)")  # fmt: skip


def label_curves(table: pd.DataFrame) -> Figure:
    """Draw the change of error against the number of labelled days, one line a way of adapting."""
    return _curves(table, "days", "mode", "labelled days")


@style.figure
def _curves(table: pd.DataFrame, x: str, by: str, label: str) -> Figure:
    """Draw ``change`` within lower..upper (%) against ``x``, a panel a flux, a line each of by."""
    fig, panels = style.by_flux(table, (8, 2.9))
    for ax, _, of_flux in panels:
        for name, (colour, mark) in zip(table[by].unique(), LINES, strict=False):
            here = of_flux[of_flux[by] == name]
            ax.plot(here[x], here.change, mark, color=colour, markersize=4, label=name)
            ax.fill_between(here[x], here.lower, here.upper, color=colour, alpha=0.2)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set_xlabel(label)
    fig.axes[0].set_ylabel("change of RMSE (%)")
    return fig
