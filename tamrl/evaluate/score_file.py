"""Scores of a file of predictions against measured fluxes, by the rules of `tamrl.evaluate.scores`."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.sums import SCORES, Sums, per_tower, summarise
from tamrl.samples.arrays import SCORE_QC

if TYPE_CHECKING:
    PathArg = str | PathLike[str]

ALL = "all"


def open_fluxes(path: PathArg, table: PathArg | None = None) -> xr.Dataset:
    """Open daily fluxes (site, time): a NetCDF file, or what `tamrl.data.open_towers` reads.

    Raises
    ------
    DataError
        For a file that is neither, or holds no flux by site and day.
    """
    from tamrl.data import open_towers

    if Path(path).suffix not in (".nc", ".nc4"):
        return open_towers(path, table)
    try:
        with xr.open_dataset(path, engine="netcdf4") as opened:
            found = opened.load()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as NetCDF ({error})") from error
    known = [f for f in FLUXES if f in found and set(found[f].dims) == {"site", "time"}]
    if not known:
        raise DataError(f"{path}: none of {', '.join(FLUXES)} by site and time is in it")
    return found


def score_file(predicted: PathArg | xr.Dataset, observed: xr.Dataset) -> pd.DataFrame:
    """Score predicted daily fluxes on the days on which they are measured.

    Parameters
    ----------
    predicted
        Dataset, or its file: GPP, RECO, NEE (site, time), gC m-2 d-1, perhaps with ``*_lower`` and
        ``*_upper``.
    observed
        Measured fluxes likewise. Where it has NEE_QC, days below 0.8 do not count, as everywhere
        in this study.

    Returns
    -------
    Table with columns site ("all": pooled over towers), flux, towers, days, R2, RMSE, bias, MAE,
    and the share ``inside`` the bounds, NaN without any.

    Raises
    ------
    DataError
        When both share no flux, tower or day with values.

    Examples
    --------
    Two of three days count: on the last less than four fifths were measured.

    >>> import numpy as np
    >>> days = {"site": ["XX-One"], "time": np.arange("2001-06-01", "2001-06-04", dtype="M8[D]")}
    >>> said = xr.Dataset({"NEE": (("site", "time"), [[-2.0, -3.0, -9.0]])}, days)
    >>> seen = xr.Dataset({"NEE": (("site", "time"), [[-1.0, -3.0, -1.0]])}, days)
    >>> seen["NEE_QC"] = ("site", "time"), [[1.0, 0.9, 0.2]]
    >>> score_file(said, seen).iloc[0][["site", "flux", "days", "bias", "MAE"]].to_dict()
    {'site': 'all', 'flux': 'NEE', 'days': 2, 'bias': -0.5, 'MAE': 0.5}
    """
    pred = predicted if isinstance(predicted, xr.Dataset) else open_fluxes(predicted)
    pred, seen = xr.align(pred, observed, join="inner")
    if not pred.sizes.get("site") or not pred.sizes.get("time"):
        raise DataError(
            "predictions and measurements share no tower and day; towers are matched by their site"
        )
    good = True if "NEE_QC" not in seen else (seen.NEE_QC >= SCORE_QC).transpose("site", "time")
    tables = []
    for flux in (f for f in FLUXES if f in pred and f in seen):
        p, y = (d[flux].transpose("site", "time").values.astype(float) for d in (pred, seen))
        on = np.isfinite(p) & np.isfinite(y) & np.asarray(good)
        if not on.any():
            continue
        site, tower = np.unique(np.nonzero(on)[0], return_inverse=True)
        facts = pd.DataFrame({"site": pred.site.values[site]})
        sums = Sums.of(("",), (flux,), facts, tower, y[on][:, None], p[on][None, :, None])
        each = per_tower(sums).rename(columns={"n": "days"}).assign(towers=1)
        pooled = summarise(sums).assign(site=ALL)
        inside = np.full(on.shape, np.nan)
        if f"{flux}_lower" in pred:
            low, high = (
                pred[f"{flux}_{side}"].transpose("site", "time").values
                for side in ("lower", "upper")
            )
            inside = ((y >= low) & (y <= high)).astype(float)
        each["inside"] = [inside[i][on[i]].mean() for i in site]
        pooled["inside"] = inside[on].mean()
        tables += [pooled, each]
    if not tables:
        raise DataError(
            f"no day has both a predicted and a measured flux, with NEE_QC of at least {SCORE_QC}"
        )
    columns = ["site", "flux", "towers", "days", *SCORES, "inside"]
    return pd.concat(tables, ignore_index=True)[columns]


def score(
    predicted: PathArg | xr.Dataset,
    observed: PathArg | xr.Dataset,
    table: PathArg | None = None,
) -> pd.DataFrame:
    """Score predicted daily fluxes against measured ones, either of them a file: `score_file`.

    ``observed`` may be all that `open_fluxes` reads, ``table`` the facts about its towers.
    """
    seen = observed if isinstance(observed, xr.Dataset) else open_fluxes(observed, table)
    return score_file(predicted, seen)
