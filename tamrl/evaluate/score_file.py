"""Scores of a file of predictions against measured fluxes, as in `tamrl.evaluate.scores`."""

from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import open_towers
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.scores import SCORES, Days, score_towers, sum_days, summarise
from tamrl.samples.arrays import SCORE_QC

Source = str | PathLike[str]


def open_fluxes(path: Source, table: Source | None = None) -> xr.Dataset:
    """Open daily fluxes (site, time), NetCDF or as `tamrl.data.open_towers`; DataError for none."""
    if Path(path).suffix not in (".nc", ".nc4"):
        return open_towers(path, table)
    try:
        with xr.open_dataset(path, engine="netcdf4") as opened:
            fluxes = opened.load()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as NetCDF ({error})") from error
    if not any(f in fluxes and set(fluxes[f].dims) == {"site", "time"} for f in FLUXES):
        raise DataError(f"{path}: none of {', '.join(FLUXES)} by site and time is in it")
    return fluxes


def score(
    predicted: Source | xr.Dataset, observed: Source | xr.Dataset, table: Source | None = None
) -> pd.DataFrame:
    """Score predicted daily fluxes on the days on which they are measured.

    Both are GPP, RECO, NEE (site, time), gC m-2 d-1, or all that `open_fluxes` reads, ``table``
    with the facts about the observed towers; ``predicted`` perhaps with ``*_lower`` and
    ``*_upper``. Where ``observed`` has NEE_QC, days below 0.8 do not count.

    Returns a table with columns site ("all": pooled over towers), flux, towers, days, R2, RMSE,
    bias, MAE, and the share ``inside`` the bounds, NaN without any; attrs["virtual"] is 1 if either
    is virtual. DataError when both share no flux, tower or day with values. Here two days count; on
    the last too little was measured:

    >>> import numpy as np
    >>> days = {"site": ["XX-One"], "time": np.arange("2001-06-01", "2001-06-04", dtype="M8[D]")}
    >>> pred = xr.Dataset({"NEE": (("site", "time"), [[-2.0, -3.0, -9.0]])}, days)
    >>> seen = xr.Dataset({"NEE": (("site", "time"), [[-1.0, -3.0, -1.0]])}, days)
    >>> seen["NEE_QC"] = ("site", "time"), [[1.0, 0.9, 0.2]]
    >>> score(pred, seen).iloc[0][["site", "flux", "days", "bias", "MAE"]].to_dict()
    {'site': 'all', 'flux': 'NEE', 'days': 2, 'bias': -0.5, 'MAE': 0.5}
    """
    pred = predicted if isinstance(predicted, xr.Dataset) else open_fluxes(predicted)
    seen = observed if isinstance(observed, xr.Dataset) else open_fluxes(observed, table)
    pred, seen = xr.align(pred, seen, join="inner")
    if not pred.sizes.get("site") or not pred.sizes.get("time"):
        raise DataError("predictions and measurements share no tower and day; towers match by site")
    pred, seen = (d.transpose("site", "time", ...) for d in (pred, seen))
    good = np.asarray(seen.NEE_QC >= SCORE_QC if "NEE_QC" in seen else True)
    tables = []
    for flux in (f for f in FLUXES if f in pred and f in seen):
        p, y = (d[flux].values.astype(float) for d in (pred, seen))
        on = np.isfinite(p) & np.isfinite(y) & good
        if not on.any():
            continue
        site, tower = np.unique(np.nonzero(on)[0], return_inverse=True)
        facts = pd.DataFrame({"site": pred.site.values[site]})
        when = pd.DatetimeIndex(pred.time.values[np.nonzero(on)[1]])
        days = Days([""], [flux], facts, tower, when, y[on][:, None], p[on][None, :, None])
        sums = sum_days(days)
        each = score_towers(sums).rename(columns={"n": "days"}).assign(towers=1)
        pooled = summarise(sums).assign(site="all")
        inside = np.full(on.shape, np.nan)
        if f"{flux}_lower" in pred:
            low, high = (pred[f"{flux}_{end}"].values for end in ("lower", "upper"))
            inside = ((y >= low) & (y <= high)).astype(float)
        each["inside"] = [inside[i][on[i]].mean() for i in site]
        pooled["inside"] = inside[on].mean()
        tables += [pooled, each]
    if not tables:
        text = "no day has both a predicted and a measured flux, with NEE_QC of at least"
        raise DataError(f"{text} {SCORE_QC}")
    columns = ["site", "flux", "towers", "days", *SCORES, "inside"]
    scores = pd.concat(tables, ignore_index=True)[columns]
    scores.attrs["inputs"] = str(seen.attrs.get("inputs", "")).splitlines()
    scores.attrs["virtual"] = int(any(d.attrs.get("virtual") for d in (pred, seen)))
    return scores
