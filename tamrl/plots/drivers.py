"""Figures of what drives the fluxes, in the look of `tamrl.plots.style`; no logic here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from tamrl.plots.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    UNIT,
    _legend,
    _shown_once,
)

PREDICTORS = {
    "light": (ORANGE, "-"), "temperature": (RED, "-"), "humidity": (SKY, "--"),
    "greenness": (GREEN, "-"), "water": (BLUE, "--"), "place facts": (GREY, "-"),
    "own history": (PINK, "-"), "light x greenness": (GREEN, ":"),
}  # fmt: skip
MODELS = ((BLUE, "o-"), (RED, "s--"), (GREY, "^:"))


@_shown_once
def importance(table: pd.DataFrame) -> Figure:
    """Draw the ``rise`` of error with its interval by predictors, one panel a flux."""
    fluxes, kinds = list(table.flux.unique()), list(table.predictors.unique())
    fig, axes = plt.subplots(1, len(fluxes), figsize=(8, 0.3 * len(kinds) + 1), sharey=True)
    y = np.arange(len(kinds))[::-1]
    for ax, flux in zip(axes, fluxes, strict=True):
        rows = table[table.flux == flux].set_index("predictors").loc[kinds]
        ax.barh(y, rows.rise, 0.7, color=[PREDICTORS.get(k, (GREY,))[0] for k in kinds])
        ax.hlines(y, rows.lower, rows.upper, colors="black", linewidth=0.9)
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set(title=flux, xlabel=f"rise of RMSE\n({UNIT})", yticks=y, yticklabels=kinds)
    return fig


@_shown_once
def by_biome(tables: Mapping[str, pd.DataFrame], label: str) -> Figure:
    """Draw one field a flux, classes down and predictors across, with its numbers."""
    first = next(iter(tables.values()))
    height = 0.3 * len(first) + 1.6
    size = (3.1 * len(tables) + 0.6, height)
    fig, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    top = max(float(np.nanmax(t.to_numpy())) for t in tables.values())
    for ax, (title, table) in zip(axes[0], tables.items(), strict=True):
        values = table.to_numpy()
        image = ax.imshow(values, cmap="cividis", vmin=0, vmax=top, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            dark = value < 0.6 * top
            said = f"{value:.1f}".replace("-0.0", "0.0")
            ax.text(column, row, said, ha="center", va="center", fontsize=9,
                    color="white" if dark else "black")  # fmt: skip
        ax.set(title=title, xticks=range(table.shape[1]), yticks=range(len(table)))
        ax.set_xticklabels(table.columns, rotation=60, ha="right")
        ax.set_yticklabels(table.index)
    fig.colorbar(image, ax=axes[0], label=label, shrink=0.8)
    return fig


@_shown_once
def memory(strength: xr.DataArray, fluxes: Sequence[str] = ("GPP", "RECO")) -> Figure:
    """Draw how strongly each group of drivers acts by the days that it lies back.

    ``strength`` (flux, lag, predictors), gC m-2 d-1.
    """
    fig, axes = plt.subplots(1, len(fluxes), figsize=(7.6, 3.1), sharey=True)
    for ax, flux in zip(axes, fluxes, strict=True):
        for name in strength.predictors.values:
            colour, dash = PREDICTORS.get(str(name), (GREY, "-"))
            line = strength.sel(flux=flux, predictors=name)
            ax.plot(line.lag + 1, line, dash, color=colour, label=str(name))
        ax.set(title=flux, xscale="log", yscale="log", xlabel="days back (1: the day itself)")
    top = float(strength.max())
    axes[0].set_ylim(1e-4 * top, 2 * top)
    axes[0].set_ylabel(f"mean |attribution| ({UNIT})")
    _legend(fig, axes[0])
    return fig


@_shown_once
def gates(table: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw gates around 1, one panel a flux: classes down, latent features across."""
    fig, axes = plt.subplots(len(table), 1, figsize=(7.6, 2.1 * len(table) + 0.6), squeeze=False)
    span = max(float(np.abs(t.to_numpy() - 1).max()) for t in table.values())
    for ax, (flux, field) in zip(axes[:, 0], table.items(), strict=True):
        image = ax.imshow(field, cmap="PuOr", vmin=1 - span, vmax=1 + span, aspect="auto")
        ax.set(yticks=range(len(field)), yticklabels=field.index, xticks=[])
        ax.set_title(flux, loc="left")
    axes[-1, 0].set_xlabel("latent features, those that move the flux most on the left")
    fig.colorbar(image, ax=axes[:, 0], label="gate (1: as for all)", shrink=0.8)
    return fig


@_shown_once
def gap_curves(table: pd.DataFrame) -> Figure:
    """Draw the error against the share of satellite months removed, one line a model."""
    fluxes = list(table.flux.unique())
    fig, axes = plt.subplots(1, len(fluxes), figsize=(8, 2.9), sharey=True)
    for ax, flux in zip(axes, fluxes, strict=True):
        for m, model in enumerate(table.model.unique()):
            rows = table[(table.flux == flux) & (table.model == model)]
            colour, mark = MODELS[m % len(MODELS)]
            x = 100 * rows.share
            ax.plot(x, rows.change, mark, color=colour, markersize=4, label=model)
            ax.fill_between(x, rows.change_lower, rows.change_upper, color=colour, alpha=0.2)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(title=flux, xlabel="satellite months\nremoved (%)")
    axes[0].set_ylabel("change of RMSE (%)")
    _legend(fig, axes[0])
    return fig


@_shown_once
def label_curves(table: pd.DataFrame) -> Figure:
    """Draw the change of error against the number of labelled days, one line a way of adapting."""
    fluxes = list(table.flux.unique())
    fig, axes = plt.subplots(1, len(fluxes), figsize=(8, 2.9), sharey=True)
    for ax, flux in zip(axes, fluxes, strict=True):
        for m, mode in enumerate(table["mode"].unique()):
            rows = table[(table.flux == flux) & (table["mode"] == mode)]
            colour, mark = MODELS[m % len(MODELS)]
            ax.plot(rows.days, rows.change, mark, color=colour, markersize=4, label=mode)
            ax.fill_between(rows.days, rows.lower, rows.upper, color=colour, alpha=0.2)
        ax.axhline(0, color="black", linewidth=0.6)
        ax.set(title=flux, xlabel="labelled days")
    axes[0].set_ylabel("change of RMSE (%)")
    _legend(fig, axes[0])
    return fig
