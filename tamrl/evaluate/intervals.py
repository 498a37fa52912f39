"""Prediction intervals: the spread of an ensemble, calibrated on towers that it was not trained on.

Members of a deep ensemble share what the drivers do not hold, so their spread is too small. It is
scaled by the residuals of cross-validation (`tamrl.evaluate.conformal`). Errors of days are
correlated, so sums over months and years are calibrated on sums. To judge the intervals themselves,
`cross_intervals` gives each fold those of the other folds' towers; their residuals come from models
that were trained on that fold, a slight dependence (Vovk 2015, doi:10.1007/s10472-013-9368-4).

Cases are Datasets (flux, site, time) with observed, mean and spread, as `cases` makes them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import LEVELS, Conformal
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold

Array = NDArray[np.float64]
PERIODS = {"day": "D", "month": "M", "year": "Y"}
FULL = 0.8  # share of the days of a period that must be labelled


def cases(members: xr.Dataset, samples: Samples, period: str = "day") -> xr.Dataset:
    """Labels beside ensemble mean and spread, by day or summed by month or year.

    ``members`` are one model's GPP, RECO, NEE (seed, site, time) in gC m-2 d-1. ``period`` "day":
    scored days; "month", "year": mean over the labelled days that are trained on, times the days
    of the period, gC m-2, missing below 80 % of days.

    Returns
    -------
    Dataset (flux, site, time) with observed, mean, spread; time is the first day of the period.
    """
    if period not in PERIODS:
        raise DataError(f"period {period!r} is unknown; choose from {', '.join(PERIODS)}")
    site = pd.Index(samples.site).get_indexer(members.site.values)
    days = members.time.values.astype("datetime64[D]")
    time = pd.Index(samples.time.astype("datetime64[D]")).get_indexer(days)
    if (site < 0).any() or (time < 0).any():
        raise DataError("members: towers or days are not all in the samples")
    rows = np.ix_(site, time)
    use = samples.scored[rows] if period == "day" else samples.weight[rows] > 0
    unit = days.astype(f"datetime64[{PERIODS[period]}]")
    starts = np.flatnonzero(np.diff(unit.astype(int), prepend=np.iinfo(int).min))
    first = unit[starts]
    length = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(int)
    out: dict[str, list[Array]] = {"observed": [], "mean": [], "spread": []}
    for k, flux in enumerate(FLUXES):
        values = members[flux].transpose("seed", "site", "time").values
        label = samples.y[..., k][rows]
        ok = use & np.isfinite(label) & np.isfinite(values).all(0)
        count = np.add.reduceat(ok, starts, axis=-1, dtype=float)
        factor = np.where(count >= FULL * length, length / np.maximum(count, 1), np.nan)
        both = np.where(ok, np.stack([label, *values]), 0)
        sums = np.add.reduceat(both, starts, axis=-1, dtype=float) * factor
        out["observed"].append(sums[0])
        out["mean"].append(np.mean(sums[1:], 0))
        out["spread"].append(np.std(sums[1:], 0))
    coords = {
        "flux": list(FLUXES),
        "site": members.site.values,
        "time": first.astype("datetime64[ns]"),
    }
    units = "gC m-2 d-1" if period == "day" else "gC m-2"
    return xr.Dataset(
        {
            name: (("flux", "site", "time"), np.stack(v), {"units": units})
            for name, v in out.items()
        },
        coords,
        {"period": period},
    )


def calibrate(
    table: xr.Dataset, stratum: ArrayLike = "", levels: Sequence[float] = LEVELS
) -> dict[str, Conformal]:
    """Calibrate each flux on `cases` of towers that the predicting models were not trained on.

    ``stratum``: class of each tower (site,), e.g. IGBP; ``levels`` as for `Conformal.fit`.
    """
    strata = np.broadcast_to(np.asarray(stratum, dtype=str), table.sizes["site"])
    fitted = {}
    for flux in table.flux.values:
        part = table.sel(flux=flux)
        columns = [part[name].values for name in ("observed", "mean", "spread")]
        ok = np.isfinite(columns).all(0)
        site = np.nonzero(ok)[0]
        y, mean, spread = (column[ok] for column in columns)
        fitted[str(flux)] = Conformal.fit(y, mean, spread, site, strata[site], levels)
    return fitted


def intervals(
    table: xr.Dataset, fitted: Mapping[str, Conformal], stratum: ArrayLike = ""
) -> xr.Dataset:
    """Bounds of all cases: lower and upper (level, flux, site, time), in the unit of the cases."""
    strata = np.broadcast_to(np.asarray(stratum, dtype=str), table.sizes["site"])[:, None]
    fluxes = [str(flux) for flux in table.flux.values]
    levels = list(fitted[fluxes[0]].quantiles)
    bounds = np.empty((2, len(levels), *table["mean"].shape))
    for f, flux in enumerate(fluxes):
        mean, spread = (table[name].sel(flux=flux).values for name in ("mean", "spread"))
        for k, level in enumerate(levels):
            bounds[:, k, f] = fitted[flux].interval(mean, spread, strata, level)
    dims, attrs = ("level", "flux", "site", "time"), table["mean"].attrs
    return xr.Dataset(
        {name: (dims, bounds[i], attrs) for i, name in enumerate(("lower", "upper"))},
        {"level": levels, **{dim: table[dim] for dim in dims[1:]}},
    )


def cross_intervals(
    table: xr.Dataset, samples: Samples, folds: Sequence[Fold], levels: Sequence[float] = LEVELS
) -> xr.Dataset:
    """Bounds for the towers of each fold, calibrated on those of all other folds, by IGBP class.

    ``table`` is from `cases`, of out-of-fold predictions; ``samples`` and ``folds`` are as given to
    ``cross_validate``. NaN for towers that no fold tests.
    """
    at = pd.Index(samples.site).get_indexer(table.site.values)
    strata = samples.table.igbp.to_numpy(str)[at]
    tested = [np.isin(at, fold.test) for fold in folds]
    known = np.logical_or.reduce(tested)
    out = intervals(table, calibrate(table, strata, levels), strata) * np.nan
    for inside in tested:
        rest = known & ~inside
        fitted = calibrate(table.isel(site=rest), strata[rest], levels)
        own = intervals(table.isel(site=inside), fitted, strata[inside])
        for name in ("lower", "upper"):
            out[name][:, :, inside] = own[name].values
    return out


def reliability(table: xr.Dataset, bounds: xr.Dataset, stratum: ArrayLike = "") -> pd.DataFrame:
    """Coverage and width of intervals of `cases` beside the level that was promised.

    Returns
    -------
    Table with columns flux, stratum ("": all towers), level, towers, cases, coverage (of cases),
    tower_coverage (mean over towers of their own), low and high (share of cases below and above),
    width.
    """
    strata = np.broadcast_to(np.asarray(stratum, dtype=str), table.sizes["site"])
    rows = []
    for flux in table.flux.values:
        for level in bounds.level.values:
            y = table.observed.sel(flux=flux).values
            low, high = (bounds[k].sel(flux=flux, level=level).values for k in ("lower", "upper"))
            known = np.isfinite(y) & np.isfinite(low)
            for name in ["", *sorted(set(strata) - {""})]:
                on = known & ((strata == name) | (name == ""))[:, None]
                count = on.sum(1)
                below, above = (on & (y < low)).sum(1), (on & (y > high)).sum(1)
                inside = (count - below - above)[count > 0] / count[count > 0]
                n = max(count.sum(), 1)
                row = {"flux": str(flux), "stratum": name, "level": float(level)}
                row |= {"towers": int((count > 0).sum()), "cases": int(count.sum())}
                row |= {"coverage": 1 - (below.sum() + above.sum()) / n if count.any() else np.nan}
                row |= {"tower_coverage": inside.mean() if inside.size else np.nan}
                row |= {"low": below.sum() / n, "high": above.sum() / n}
                row |= {"width": (high - low)[on].mean() if count.any() else np.nan}
                rows.append(row)
    return pd.DataFrame(rows)


def crps_gaussian(observed: ArrayLike, mean: ArrayLike, sd: ArrayLike) -> Array:
    """Continuous ranked probability score of normal predictions, in their unit; less is better.

    Closed form of Gneiting et al. 2005 (doi:10.1175/MWR2904.1); the absolute error where sd is 0.

    Examples
    --------
    Of three predictions of the same mean the honest one scores best: the first claims too much, the
    last too little.

    >>> crps_gaussian(3.0, 2.0, [0.0, 1.0, 5.0]).round(3).tolist()
    [1.0, 0.602, 1.248]
    """
    y, m, s = (np.asarray(v, float) for v in (observed, mean, sd))
    safe = np.where(s > 0, s, 1)
    z = (y - m) / safe
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = safe * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.where(s > 0, score, np.abs(y - m))
