"""Prediction intervals: the spread of an ensemble, calibrated on towers that it was not trained on.

Members of an ensemble share what the drivers do not hold: their spread is too small, and is scaled
by residuals of cross-validation (`tamrl.evaluate.conformal`). Errors of days are correlated, so
sums over months and years are calibrated on sums. `cross_intervals` gives each fold intervals of
the other folds' towers, whose residuals come from models trained on that fold: a slight dependence
(Vovk 2015, doi:10.1007/s10472-013-9368-4).

Cases are Datasets (flux, site, time) with observed, mean and spread, as `cases` makes them.
"""

from collections.abc import Mapping, Sequence
from itertools import product

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
DIMS = ("flux", "site", "time")
PERIODS = {"day": "D", "month": "M", "year": "Y"}
FULL = 0.8  # share of the days of a period that must be labelled
NORMAL_90 = 3.2897  # width of the central 90 % of a normal distribution, in standard deviations
MIN_TOWERS = 5  # of a class that is judged
GRID = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # levels of a reliability diagram


def cases(members: xr.Dataset, samples: Samples, period: str = "day") -> xr.Dataset:
    """Labels beside ensemble mean and spread, by day or summed by month or year.

    ``members`` are one model's GPP, RECO, NEE (seed, site, time) in gC m-2 d-1. ``period`` "day":
    scored days; "month", "year": mean over the labelled days that are trained on, times the days
    of the period, gC m-2, missing below 80 % of days. Returns observed, mean and spread (flux,
    site, time); time is the first day of the period.
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
    first, starts = np.unique(days.astype(f"datetime64[{PERIODS[period]}]"), return_index=True)
    length = np.diff(np.stack([first, first + 1]).astype("datetime64[D]"), axis=0)[0].astype(int)
    out = []
    for k, flux in enumerate(FLUXES):
        values = members[flux].transpose("seed", "site", "time").values
        label = samples.y[..., k][rows]
        ok = use & np.isfinite(label) & np.isfinite(values).all(0)
        count = np.add.reduceat(ok, starts, axis=-1, dtype=float)
        factor = np.where(count >= FULL * length, length / np.maximum(count, 1), np.nan)
        both = np.where(ok, np.stack([label, *values]), 0)
        sums = np.add.reduceat(both, starts, axis=-1, dtype=float) * factor
        out.append((sums[0], np.mean(sums[1:], 0), np.std(sums[1:], 0)))
    units = {"units": "gC m-2 d-1" if period == "day" else "gC m-2"}
    names = zip(("observed", "mean", "spread"), np.stack(out, 1), strict=True)
    dims = {"flux": list(FLUXES), "site": members.site.values, "time": first.astype("M8[ns]")}
    return xr.Dataset({k: (DIMS, v, units) for k, v in names}, dims, {"period": period})


def calibrate(
    table: xr.Dataset, stratum: ArrayLike = "", levels: Sequence[float] = LEVELS
) -> dict[str, Conformal]:
    """Calibrate each flux on `cases` of towers that the predicting models were not trained on.

    ``stratum``: class of each tower (site,), e.g. IGBP; ``levels`` as for `Conformal.fit`.
    """
    strata = np.broadcast_to(np.asarray(stratum, dtype=str), table.sizes["site"])
    fitted = {}
    for flux in table.flux.values:
        columns = table.sel(flux=flux)[["observed", "mean", "spread"]].to_array().values
        site, time = np.nonzero(np.isfinite(columns).all(0))
        y, mean, spread = columns[:, site, time]
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
    for (k, level), (f, flux) in product(enumerate(levels), enumerate(fluxes)):
        mean, spread = (table[name].values[f] for name in ("mean", "spread"))
        bounds[:, k, f] = fitted[flux].interval(mean, spread, strata, level)
    lower, upper = ((("level", *DIMS), bound, table["mean"].attrs) for bound in bounds)
    dims = {"level": levels, **{dim: table[dim] for dim in DIMS}}
    return xr.Dataset({"lower": lower, "upper": upper}, dims)


def cross_intervals(
    table: xr.Dataset, samples: Samples, folds: Sequence[Fold], levels: Sequence[float] = LEVELS
) -> xr.Dataset:
    """Bounds for the towers of each fold, calibrated on those of all other folds, by IGBP class.

    ``table`` is from `cases`, of out-of-fold predictions; bounds are NaN where no fold tests.
    """
    at = pd.Index(samples.site).get_indexer(table.site.values)
    strata = samples.table.igbp.to_numpy(str)[at]
    tested = [np.isin(at, fold.test) for fold in folds]
    known = np.logical_or.reduce(tested)
    parts = []
    for inside in tested:
        rest = known & ~inside
        fitted = calibrate(table.isel(site=rest), strata[rest], levels)
        parts.append(intervals(table.isel(site=inside), fitted, strata[inside]))
    return xr.concat(parts, "site").reindex(site=table.site)


def reliability(table: xr.Dataset, bounds: xr.Dataset, stratum: ArrayLike = "") -> pd.DataFrame:
    """Coverage and width of intervals of `cases` beside the level that was promised.

    Returns a table with columns flux, stratum ("": all towers), level, towers, cases, coverage (of
    cases), tower_coverage (mean over towers), low and high (share below and above), width.
    """
    strata = np.broadcast_to(np.asarray(stratum, dtype=str), table.sizes["site"])
    rows = []
    for flux, level in product(table.flux.values, bounds.level.values):
        y = table.observed.sel(flux=flux).values
        low, high = (bounds[k].sel(flux=flux, level=level).values for k in ("lower", "upper"))
        known = np.isfinite(y) & np.isfinite(low)
        for name in ["", *sorted(set(strata) - {""})]:
            on = known & ((strata == name) | (name == ""))[:, None]
            count = on.sum(1)
            some, n = count > 0, count.sum()
            below, above = ((on & side).sum(1) for side in (y < low, y > high))
            inside = (count - below - above)[some] / count[some]
            out = [below.sum(), above.sum()]
            means = (
                [1 - sum(out) / n, inside.mean(), (high - low)[on].mean()] if n else [np.nan] * 3
            )
            shares = [total / max(n, 1) for total in out]
            rows.append((str(flux), name, level, some.sum(), n, *means[:2], *shares, means[2]))
    columns = ["flux", "stratum", "level", "towers", "cases", "coverage", "tower_coverage"]
    return pd.DataFrame(rows, columns=[*columns, "low", "high", "width"])


def crps_gaussian(observed: ArrayLike, mean: ArrayLike, sd: ArrayLike) -> Array:
    """Continuous ranked probability score of normal predictions, in their unit; less is better.

    Closed form of Gneiting et al. 2005 (doi:10.1175/MWR2904.1); the absolute error where sd is 0.
    Of three predictions of the same mean the honest one scores best:

    >>> crps_gaussian(3.0, 2.0, [0.0, 1.0, 5.0]).round(3).tolist()
    [1.0, 0.602, 1.248]
    """
    y, m, s = (np.asarray(v, float) for v in (observed, mean, sd))
    safe = np.where(s > 0, s, 1)
    z = (y - m) / safe
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    score = safe * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return np.where(s > 0, score, np.abs(y - m))


def interval_table(pred: xr.Dataset, samples: Samples, folds: Sequence[Fold]) -> pd.DataFrame:
    """Compare the `cross_intervals` of one model (model, seed, site, time) with the labels.

    Returns a table with columns period (day, month, year), those of `reliability` by IGBP class,
    and crps, for all towers at 90 %: of a normal distribution as wide as the interval. Units: gC
    m-2 d-1 for days, gC m-2 for sums. Levels other than 50 and 90 % for days of all towers only.
    """
    single = pred.isel(model=0, drop=True)
    at = pd.Index(samples.site).get_indexer(single.site.values)
    igbp = samples.table.igbp.to_numpy(str)[at]
    tables = []
    for period in PERIODS:
        table = cases(single, samples, period)
        bounds = cross_intervals(table, samples, folds, GRID if period == "day" else LEVELS)
        rows = reliability(table, bounds, igbp)
        rows = rows[rows.level.isin(LEVELS) | (rows.stratum == "")]
        most = bounds.sel(level=0.9)
        middle, sd = (most.upper + most.lower) / 2, (most.upper - most.lower) / NORMAL_90
        crps = map(np.nanmean, crps_gaussian(table.observed, middle, sd))
        score = rows.flux.map(dict(zip(FLUXES, crps, strict=True)))
        score = score.where((rows.stratum == "") & (rows.level == 0.9))
        tables.append(rows.assign(period=period, crps=score))
    return pd.concat(tables, ignore_index=True)


def by_class(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Coverage of one model's 90 % intervals in classes with at least five towers."""
    rows = table[(table.model == model) & (table.level == 0.9) & (table.stratum != "")]
    columns = ["period", "stratum", "flux", "towers", "coverage", "cases"]
    return rows.loc[rows.towers >= MIN_TOWERS, columns]


def overall(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """One model's intervals over all towers: coverage by period, flux and level, and sharpness."""
    rows = table[(table.model == model) & (table.stratum == "")]
    columns = ["period", "flux", "level", "cases", "coverage", "tower_coverage", "width", "crps"]
    return rows[columns].reset_index(drop=True)


def sharpness(table: pd.DataFrame) -> pd.DataFrame:
    """Put CRPS, width and coverage of the 90 % intervals of days side by side, a row a model."""
    rows = table[(table.period == "day") & (table.stratum == "") & (table.level == 0.9)]
    return rows.pivot_table(["crps", "width", "coverage"], "model", "flux", sort=False)
