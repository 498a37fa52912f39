"""Scores of predictions at towers: one rule, the same for all models.

1. Scored days. A tower-day counts when it is scored in the samples (good quality, all labels and
   minimal drivers there) and every model predicts all its fluxes. So all models stand on exactly
   the same tower-days. A model that misses more than 1 % of the days that another predicts is an
   error; the few below that are left out for all. A tower that no model predicts is not scored.
2. Scores. With e = predicted - observed: RMSE = sqrt(mean e2), bias = mean e, MAE = mean |e| and
   R2 = 1 - sum e2 / sum (observed - mean observed)2, never clipped: below 0 is worse than the mean.
3. Pooled: over all scored tower-days of all towers (or of a group of towers), so that a long
   record counts more. Per tower: over its own days, given as 25th, 50th and 75th percentile over
   towers of at least 30 scored days, so that each tower counts once. Never a mean of one score and
   a median of another.
4. Differences between models are paired on the same days; their intervals come from drawing towers
   with replacement, because the days of one tower are not independent.

All fluxes in gC m-2 d-1. Predictions come as from `cross_validate`: GPP, RECO, NEE (model, site,
time).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.crossval import cross_validate as cross_validate  # handed on: one place for the protocol
from tamrl.errors import DataError
from tamrl.timescales import split

if TYPE_CHECKING:
    from tamrl.samples import Samples

Array = NDArray[np.float64]
MIN_DAYS = 30  # scored days of a tower that has scores of its own
MAX_MISSED = 0.01  # share of the days that others predict which a model may miss
QUARTILES = (25, 50, 75)


@dataclass(frozen=True)
class Days:
    """Scored tower-days, sorted by tower.

    ``site``, ``time`` indices into the samples (day,); ``observed`` (day, flux) and ``predicted``
    (model, day, flux) in gC m-2 d-1.
    """

    models: tuple[str, ...]
    fluxes: tuple[str, ...]
    site: NDArray[np.intp]
    time: NDArray[np.intp]
    observed: Array
    predicted: Array


def scored_days(pred: xr.Dataset, samples: Samples) -> Days:
    """Align predictions and labels on the tower-days that all models are scored on.

    Raises
    ------
    DataError
        If predictions name a tower or day that the samples lack, a model misses more than 1 % of
        the scored days that another predicts, or no day is left.
    """
    fluxes = tuple(flux for flux in samples.targets if flux in pred)
    if not fluxes:
        raise DataError(f"predictions hold none of {', '.join(samples.targets)}")
    site = pd.Index(samples.site).get_indexer(pred.site.values)
    days = pd.DatetimeIndex(samples.time)
    time = days.get_indexer(pd.DatetimeIndex(pred.time.values))
    for name, index in (("site", site), ("time", time)):
        if (index < 0).any():
            missing = pred[name].values[index < 0][0]
            raise DataError(f"predictions: {name} {missing} is not in the samples")
    names = tuple(str(m) for m in pred.model.values)
    values = [pred[f].transpose("model", "site", "time").values for f in fluxes]
    complete = np.logical_and.reduce([np.isfinite(v) for v in values])
    score = samples.score[np.ix_(site, time)]
    some = score & complete.any(0)
    for name, has in zip(names, complete, strict=True):
        missed = some & ~has
        if missed.sum() > MAX_MISSED * some.sum():
            i, t = np.argwhere(missed)[0]
            raise DataError(
                f"model {name} misses {missed.sum()} of {some.sum()} scored days that others "
                f"predict (first: {pred.site.values[i]}, {str(pred.time.values[t])[:10]}); "
                "models can only be compared on the same days"
            )
    common = score & complete.all(0)
    if not common.any():
        raise DataError("predictions: no scored day is predicted; check towers, days and folds")
    columns = [samples.targets.index(flux) for flux in fluxes]
    order = np.argsort(site[np.nonzero(common)[0]], kind="stable")
    i, t = (index[order] for index in np.nonzero(common))
    observed = samples.y[site[i], time[t]][:, columns].astype(float)
    predicted = np.stack([v[:, i, t] for v in values], -1).astype(float)
    return Days(names, fluxes, site[i], time[t], observed, predicted)


@dataclass(frozen=True)
class _Sums:
    """Sums a tower (tower, …) that all scores of rule 2 follow from, for any group of towers."""

    tower: NDArray[np.intp]
    n: Array  # (tower, 1)
    mean: Array  # of observations (tower, flux)
    within: Array  # squares about the tower's mean (tower, flux)
    error: Array  # (model, tower, flux)
    square: Array
    absolute: Array

    @classmethod
    def of(cls, days: Days) -> _Sums:
        tower, first = np.unique(days.site, return_index=True)
        n = np.diff([*first, len(days.site)]).astype(float)[:, None]
        mean = np.add.reduceat(days.observed, first) / n
        spread = days.observed - np.repeat(mean, n[:, 0].astype(int), axis=0)
        e = days.predicted - days.observed
        error, square, absolute = (np.add.reduceat(v, first, 1) for v in (e, e**2, np.abs(e)))
        return cls(tower, n, mean, np.add.reduceat(spread**2, first), error, square, absolute)

    def scores(self, group: NDArray[np.intp]) -> dict[str, Array]:
        """Scores (model, group, flux) pooled over towers of equal ``group`` (tower,), 0, 1, …."""
        one = np.zeros((group.max() + 1, len(group)))
        one[group, np.arange(len(group))] = 1
        n = one @ self.n
        mean = one @ (self.n * self.mean) / n
        total = one @ (self.within + self.n * (self.mean - mean[group]) ** 2)
        square = one @ self.square
        with np.errstate(invalid="ignore", divide="ignore"):  # no spread: R2 undefined
            r2 = np.where(total > 0, 1 - square / total, np.nan)
        return {
            "R2": r2,
            "RMSE": np.sqrt(square / n),
            "bias": one @ self.error / n,
            "MAE": one @ self.absolute / n,
        }


def score_towers(pred: xr.Dataset, samples: Samples) -> pd.DataFrame:
    """Score every tower on its own days (rule 2).

    Returns
    -------
    Table with columns model, flux, site, n (scored days), R2, RMSE, bias, MAE, igbp, koppen_main;
    every tower with a scored day is there, also those too short for the percentiles.
    """
    days = scored_days(pred, samples)
    return _towers(days, _Sums.of(days), samples)


def _towers(days: Days, sums: _Sums, samples: Samples) -> pd.DataFrame:
    scores = sums.scores(np.arange(len(sums.tower)))
    facts = samples.table.iloc[sums.tower]
    index = pd.MultiIndex.from_product(
        [days.models, samples.site[sums.tower], days.fluxes], names=["model", "site", "flux"]
    )
    table = pd.DataFrame({name: value.ravel() for name, value in scores.items()}, index)
    table = table.reset_index()
    for name in ("igbp", "koppen_main"):
        table[name] = np.tile(
            np.repeat(facts[name].to_numpy(str), len(days.fluxes)), len(days.models)
        )
    table["n"] = np.tile(np.repeat(sums.n[:, 0].astype(int), len(days.fluxes)), len(days.models))
    return table[["model", "flux", "site", "n", *scores, "igbp", "koppen_main"]]


def summarise(pred: xr.Dataset, samples: Samples, by: str | None = None) -> pd.DataFrame:
    """Pooled scores and percentiles over towers (rule 3), by model and flux.

    Parameters
    ----------
    pred, samples
        Predictions and what they are scored on.
    by
        A column of the towers' table (``igbp``, ``koppen_main``) whose classes are told apart.

    Returns
    -------
    Table with columns [by,] model, flux, towers, days, R2, RMSE, bias, MAE (pooled), and
    ``R2_25``, ``R2_50``, ``R2_75``, … over the ``long_towers`` of at least 30 scored days.
    """
    days = scored_days(pred, samples)
    sums = _Sums.of(days)
    labels = samples.table[by].to_numpy(str)[sums.tower] if by else np.full(len(sums.tower), "")
    classes, group = np.unique(labels, return_inverse=True)
    pooled = sums.scores(group)
    towers = _towers(days, sums, samples)
    rows = []
    for g, name in enumerate(classes):
        inside = sums.tower[group == g]
        part = towers[towers.site.isin(samples.site[inside]) & (towers.n >= MIN_DAYS)]
        for m, model in enumerate(days.models):
            for f, flux in enumerate(days.fluxes):
                own = part[(part.model == model) & (part.flux == flux)]
                row = {by: name} if by else {}
                row |= {"model": model, "flux": flux, "towers": len(inside)}
                row |= {"days": int(sums.n[group == g].sum()), "long_towers": len(own)}
                row |= {score: float(value[m, g, f]) for score, value in pooled.items()}
                for score in pooled:
                    known = own[score].dropna().to_numpy()
                    quartiles = np.percentile(known, QUARTILES) if known.size else [np.nan] * 3
                    row |= {f"{score}_{q}": v for q, v in zip(QUARTILES, quartiles, strict=True)}
                rows.append(row)
    return pd.DataFrame(rows)


def compare(
    pred: xr.Dataset,
    samples: Samples,
    model: str,
    rival: str,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.9,
) -> pd.DataFrame:
    """Relative change of pooled RMSE from a rival to a model, paired, drawn over towers (rule 4).

    Returns
    -------
    Table with columns flux, RMSE, rival_RMSE (gC m-2 d-1), change, lower, upper (%; negative: the
    model is better; bounds at ``level``), better (share of towers where the model has less error).
    """
    for name in (model, rival):
        if name not in pred.model.values:
            raise DataError(
                f"model {name!r} is not among the predictions {list(pred.model.values)}"
            )
    days = scored_days(pred.sel(model=[model, rival]), samples)
    sums = _Sums.of(days)
    towers = len(sums.tower)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(towers, np.full(towers, 1 / towers), size=n_boot).astype(float)
    mine, theirs = (drawn @ square for square in sums.square)  # (draw, flux)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = 100 * (np.sqrt(mine / theirs) - 1)
    total = sums.square.sum(1)
    rmse = np.sqrt(total / sums.n.sum())
    return pd.DataFrame(
        {
            "flux": days.fluxes,
            "RMSE": rmse[0],
            "rival_RMSE": rmse[1],
            "change": 100 * (rmse[0] / rmse[1] - 1),
            "lower": np.quantile(change, (1 - level) / 2, axis=0),
            "upper": np.quantile(change, (1 + level) / 2, axis=0),
            "better": (sums.square[0] < sums.square[1]).mean(0),
        }
    )


def timescales(pred: xr.Dataset, samples: Samples) -> pd.DataFrame:
    """Split skill by time scale: towers, seasons, days, years (see `tamrl.timescales.split`).

    On the scored days of towers that have at least 30; R2 and RMSE pooled over towers, tower-days,
    tower-days and tower-years.

    Returns
    -------
    Table with columns model, flux, scale, n, R2, RMSE.
    """
    days = scored_days(pred, samples)
    long = np.bincount(days.site, minlength=len(samples.site))[days.site] >= MIN_DAYS
    _, site = np.unique(days.site[long], return_inverse=True)
    when = pd.DatetimeIndex(samples.time)[days.time[long]]
    doy, year = when.day_of_year.to_numpy() - 1, when.year.to_numpy()
    observed = split(days.observed[long], site, doy, year)
    rows = []
    for model, values in zip(days.models, days.predicted[:, long], strict=True):
        predicted = split(values, site, doy, year)
        for scale, truth in observed.items():
            e, n = predicted[scale] - truth, len(truth)
            total = ((truth - truth.mean(0)) ** 2).sum(0) if n else np.zeros(truth.shape[1])
            for f, flux in enumerate(days.fluxes):
                r2 = 1 - (e[:, f] ** 2).sum() / total[f] if total[f] > 0 else np.nan
                rmse = np.sqrt((e[:, f] ** 2).mean()) if n else np.nan
                row = {"model": model, "flux": flux, "scale": scale, "n": n}
                rows.append(row | {"R2": r2, "RMSE": rmse})
    return pd.DataFrame(rows)


def balance_violation(pred: xr.Dataset) -> pd.DataFrame:
    """Mean |NEE - (RECO - GPP)| over all predicted tower-days, by model.

    Returns
    -------
    Table with columns model, violation (gC m-2 d-1), days (with all three fluxes).
    """
    gap = abs(pred.NEE - (pred.RECO - pred.GPP)).astype(float)
    dims = ("site", "time")
    columns = {"violation": gap.mean(dims).values, "days": gap.count(dims).values}
    return pd.DataFrame({"model": pred.model.values} | columns)
