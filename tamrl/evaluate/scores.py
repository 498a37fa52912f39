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

What follows from rules 2 to 4 is computed in `tamrl.evaluate.sums` from sums per tower, and so is the same
whether it starts from predictions here or from a kept table (`tamrl.study.comparisons.compute`).

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

from tamrl.errors import DataError
from tamrl.evaluate import sums
from tamrl.evaluate.crossval import (
    cross_validate as cross_validate,  # handed on: one place for the protocol
)
from tamrl.evaluate.sums import Sums

if TYPE_CHECKING:
    from tamrl.samples.arrays import Samples

Array = NDArray[np.float64]
MAX_MISSED = 0.01  # share of the days that others predict which a model may miss


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
    score = samples.scored[np.ix_(site, time)]
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


def sum_up(pred: xr.Dataset, samples: Samples, scales: bool = False) -> Sums:
    """Sum up per tower what all scores follow from, with time scales or without.

    Raises
    ------
    DataError
        As `scored_days`.
    """
    days = scored_days(pred, samples)
    site, tower = np.unique(days.site, return_inverse=True)
    facts = samples.table.iloc[site].assign(site=samples.site[site])
    found = Sums.of(days.models, days.fluxes, facts, tower, days.observed, days.predicted)
    if not scales:
        return found
    when = pd.DatetimeIndex(samples.time)[days.time]
    return found.with_scales(tower, when, days.observed, days.predicted)


def score_towers(pred: xr.Dataset, samples: Samples) -> pd.DataFrame:
    """Score every tower on its own days (rule 2).

    Returns
    -------
    Table with columns model, flux, site, n (scored days), R2, RMSE, bias, MAE, igbp, koppen_main;
    every tower with a scored day is there, also those too short for the percentiles.
    """
    table = sums.per_tower(sum_up(pred, samples))
    return table[["model", "flux", "site", "n", *sums.SCORES, "igbp", "koppen_main"]]


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
    return sums.summarise(sum_up(pred, samples), by)


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
    pair = sum_up(pred.sel(model=[model, rival]), samples)
    return sums.compare(pair, model, rival, n_boot, seed, level)


def timescales(pred: xr.Dataset, samples: Samples) -> pd.DataFrame:
    """Split skill by time scale: towers, seasons, days, years (see `tamrl.evaluate.timescales.split`).

    On the scored days of towers that have at least 30; R2 and RMSE pooled over towers, tower-days,
    tower-days and tower-years.

    Returns
    -------
    Table with columns model, flux, scale, n, R2, RMSE.
    """
    return sums.by_scale(sum_up(pred, samples, scales=True))


def balance_violation(pred: xr.Dataset) -> pd.DataFrame:
    """Mean size of NEE - (RECO - GPP) over all predicted tower-days, by model.

    Returns
    -------
    Table with columns model, violation (gC m-2 d-1), days (with all three fluxes).

    Examples
    --------
    Two days, of which the second is out of balance by 1:

    >>> dims = ("model", "site", "time")
    >>> fluxes = {"GPP": [[[5.0, 5.0]]], "RECO": [[[3.0, 3.0]]], "NEE": [[[-2.0, -1.0]]]}
    >>> pred = xr.Dataset({n: (dims, v) for n, v in fluxes.items()}, {"model": ["free"]})
    >>> balance_violation(pred).to_dict("records")
    [{'model': 'free', 'violation': 0.5, 'days': 2}]
    """
    gap = abs(pred.NEE - (pred.RECO - pred.GPP)).astype(float)
    dims = ("site", "time")
    columns = {"violation": gap.mean(dims).values, "days": gap.count(dims).values}
    return pd.DataFrame({"model": pred.model.values} | columns)
