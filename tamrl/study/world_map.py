"""The seasons of a map: by latitude and month, and as a picture that is stepped by month.

The stepped picture is one piece of HTML with its twelve maps inside: no server, no network, no
script. The months are radio buttons, so that arrow keys step and screen readers say the month; each
map has words of its own, computed from it.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.cube import cell_area
from tamrl.errors import DataError

BELTS = {"north of 30 degrees north": (30, 90), "in the tropics": (-30, 30),
         "south of 30 degrees south": (-90, -30)}  # fmt: skip
DPI = 110
QUALITY = 90  # of the pictures (WebP)


@dataclass(frozen=True)
class Stepped:
    """A piece of HTML; a notebook that ends a cell with it shows it."""

    html: str
    months: int

    def __repr__(self) -> str:
        return f"A map of {self.months} months, to be seen in a browser"

    def _repr_html_(self) -> str:
        return self.html


def by_latitude(fluxes: xr.Dataset, flux: str) -> pd.DataFrame:
    """Mean flux of the land by latitude (index, deg) and month (columns 1 to 12), gC m-2 d-1.

    Land counts by its area; a row without predicted land is NaN.
    """
    land = fluxes["land_fraction"].fillna(0) * cell_area(fluxes["lat"], fluxes["lon"])
    mean = fluxes[flux].weighted(land).mean("lon").transpose("lat", "time").to_numpy()
    return pd.DataFrame(mean, fluxes["lat"].to_numpy(), range(1, mean.shape[1] + 1))


def compare_gpp(
    ours: xr.Dataset, theirs: xr.Dataset, name: str
) -> tuple[pd.Series, xr.Dataset, pd.DataFrame]:
    """Hold the mean GPP of one of our maps against that of another, as `budgets.compare_gpp` does.

    Returns
    -------
    statistics, difference, zonal
        r, RMSE, bias (the first minus the second, gC m-2 d-1) weighted by land, n cells; Dataset
        with difference (lat, lon); means by latitude, columns "this study" and ``name``.
    """
    a, b = (one["GPP"].mean("time").transpose("lat", "lon").load() for one in (ours, theirs))
    land = ours["land_fraction"].fillna(0) * cell_area(ours["lat"], ours["lon"])
    land = land.where(np.isfinite(a) & np.isfinite(b), 0)
    cov = np.cov(np.nan_to_num(np.stack([a, b])).reshape(2, -1), aweights=land.to_numpy().ravel())
    gap = a - b
    statistics = pd.Series(
        {
            "r": cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]),
            "RMSE": float(np.sqrt((gap**2).weighted(land).mean())),
            "bias": float(gap.weighted(land).mean()),
            "cells": int((land > 0).sum()),
        }
    )
    zonal = {"this study": a, name: b}
    profile = {k: v.weighted(land).mean("lon").to_pandas() for k, v in zonal.items()}
    return statistics, xr.Dataset({"difference": gap}), pd.DataFrame(profile)


def drawable(ds: xr.Dataset | xr.DataArray, step: float = 1.0) -> xr.Dataset | xr.DataArray:
    """Average cells to ``step`` degrees, for pictures only: a finer one shows no more on a page."""
    factor = round(step / abs(float(ds["lat"][1] - ds["lat"][0])))
    if factor <= 1:
        return ds
    return ds.coarsen(lat=factor, lon=factor, boundary="exact").mean()


def words(field: xr.DataArray, flux: str, month: str) -> str:
    """Describe a month's map (lat, lon) in a sentence: its mean in three belts."""
    area = xr.DataArray(
        cell_area(field["lat"], field["lon"]), {"lat": field["lat"], "lon": field["lon"]}
    )
    parts = []
    for name, (low, high) in BELTS.items():
        belt = field.where((field["lat"] >= low) & (field["lat"] < high))
        mean = float(belt.weighted(area).mean())
        if np.isfinite(mean):
            parts.append(f"{mean:.1f} {name}".replace("-", "\N{MINUS SIGN}"))
    said = ", ".join(parts) or "no land with values"
    return f"World map of {flux} in {month}; mean over land in gC per square metre and day: {said}."


def stepped(
    fluxes: xr.Dataset, flux: str = "NEE", name: str = "seasons", start: int = 7
) -> Stepped:
    """Draw twelve months of a flux into one piece of HTML that is stepped by month.

    Parameters
    ----------
    fluxes
        Monthly climatology as from `tamrl.maps.upscale.upscale`.
    flux
        Which of them.
    name
        Unique on a page: a beginning for ids.
    start
        Month that is shown first, 1 to 12.

    Raises
    ------
    DataError
        Unless there are twelve times.
    """
    from tamrl.plots.maps import MONTHS, limits, month_frame

    if fluxes.sizes["time"] != len(MONTHS):
        raise DataError(f"stepped seasons: {fluxes.sizes['time']} times; twelve months are needed")
    fields = fluxes[flux].transpose("time", "lat", "lon").load()
    span = limits(fields, flux)
    virtual = "Virtual towers. " if fluxes.attrs.get("virtual") else ""
    buttons, frames, rules = [], [], []
    for k, month in enumerate(MONTHS):
        figure = month_frame(fields[k], flux, span, f"{flux}, {month}")
        stream = io.BytesIO()
        figure.savefig(stream, format="webp", dpi=DPI, pil_kwargs={"quality": QUALITY})
        picture = base64.b64encode(stream.getvalue()).decode()
        id_ = f"{name}-{k + 1}"
        checked = " checked" if k + 1 == start else ""
        buttons.append(
            f'<span><input type="radio" name="{name}" id="{id_}"{checked}>'
            f'<label for="{id_}">{month[:3]}</label></span>'
        )
        alt = html.escape(virtual + words(fields[k], flux, month), quote=True)
        frames.append(f'<img class="{id_}" alt="{alt}" src="data:image/webp;base64,{picture}">')
        rules.append(f".tamrl-seasons:has(#{id_}:checked) .{id_}")
    style = (
        ".tamrl-seasons{margin:0;max-width:100%}"
        ".tamrl-seasons img{display:none;width:100%;height:auto}"
        ".tamrl-seasons fieldset{display:flex;flex-wrap:wrap;gap:.1rem .7rem;border:0;padding:0;"
        "margin:0 0 .5rem}"
        ".tamrl-seasons legend{float:left;padding:0;font-size:1em;font-weight:600;width:auto}"
        ".tamrl-seasons span{display:inline-flex;gap:.25rem;align-items:center;min-height:1.6rem}"
        ".tamrl-seasons label{margin:0}"
        ".tamrl-seasons figcaption{color:inherit}"
        f"{','.join(rules)}{{display:block}}"
        f"@supports not selector(:has(a)){{.tamrl-seasons img.{name}-{start}{{display:block}}}}"
    )
    caption = (
        f"{virtual}{flux} of an average year, month by month, all with the same colours. Choose a "
        "month, or step with the arrow keys."
    )
    page = (
        f'<figure class="tamrl-seasons"><style>{style}</style><fieldset><legend>Month</legend>'
        f"{''.join(buttons)}</fieldset>{''.join(frames)}<figcaption>{caption}</figcaption></figure>"
    )
    return Stepped(page, len(MONTHS))
