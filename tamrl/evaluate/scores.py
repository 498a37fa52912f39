"""Scores of predictions at towers: one rule, the same for all models.

1. Scored days. A tower-day counts when scored in the samples and every model predicts all fluxes. A
   model that misses more than 1 % of the days of another is an error; fewer are left out for all.
2. Statistics. With e = predicted - observed, `sum_up` sums e, e2, |e|, the squares of observed and
   of predicted values about their means, and their product, by tower.
3. Scores are functions of means over days: RMSE = sqrt(mean e2), bias = mean e, MAE = mean |e| and
   R2 = 1 - mean e2 / variance of the observations, never clipped: below 0 is worse than the mean.
   Pooled: over all days of all towers, or of a group, so that a long record counts more. Per tower:
   over its own days, given as quartiles over long towers, of at least 30 scored days. The main
   score is the mean over long towers of their RMSE: each tower counts once.
4. Intervals hold 90 % of the scores of 1,000 bootstrap samples of towers, because the days of one
   tower are not independent. Differences of models are paired on the same days and samples.

Fluxes in gC m-2 d-1; predictions as from `tamrl.evaluate.crossval.cross_validate`. Sums are a
Dataset of ``n`` (site), scored days; ``observed`` and ``within`` (site, flux), mean of the
observations and squares about it; ``error``, ``square``, ``absolute``, ``spread`` (squares of
predictions about their mean), ``joint`` (predictions about their mean times observations) (model,
site, flux). Coordinates along site are the facts of the towers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.errors import DataError
from tamrl.samples.arrays import Samples

Array = NDArray[np.float64]
MAX_MISSED = 0.01  # share of the days that others predict which a model may miss
MIN_DAYS = 30  # scored days of a tower that has scores of its own
LEVEL = 0.9  # of all intervals
QUARTILES = {25: 0.25, 50: 0.5, 75: 0.75}
TOP = 5  # towers that favour a model most, without which its gain is given, too
SCORES = ("R2", "RMSE", "bias", "MAE")
STATISTICS = ("error", "square", "absolute", "spread", "joint")


class Days(NamedTuple):
    """Scored tower-days: ``tower`` (day,) sorted rows of ``facts``, fluxes ([model,] day, flux)."""

    models: Sequence[str]
    fluxes: Sequence[str]
    facts: pd.DataFrame
    tower: NDArray[np.intp]
    time: pd.DatetimeIndex
    observed: Array
    predicted: Array


def scored_days(pred: xr.Dataset, samples: Samples) -> Days:
    """Align predictions and labels on the tower-days that all models are scored on (rule 1).

    DataError if predictions name a tower or day that the samples lack, a model misses more than 1 %
    of the scored days that another predicts, or no day is left.
    """
    fluxes = tuple(flux for flux in samples.targets if flux in pred)
    if not fluxes:
        raise DataError(f"predictions hold none of {', '.join(samples.targets)}")
    site = pd.Index(samples.site).get_indexer(pred.site.values)
    time = pd.DatetimeIndex(samples.time).get_indexer(pd.DatetimeIndex(pred.time.values))
    for name, index in (("site", site), ("time", time)):
        if (index < 0).any():
            missing = pred[name].values[index < 0][0]
            raise DataError(f"predictions: {name} {missing} is not in the samples")
    names = tuple(map(str, pred.model.values))
    values = [pred[f].transpose("model", "site", "time").values for f in fluxes]
    complete = np.asarray(np.isfinite(values).all(0))
    score = samples.scored[np.ix_(site, time)]
    some = score & complete.any(0)
    for name, has in zip(names, complete, strict=True):
        missed = some & ~has
        if missed.sum() > MAX_MISSED * some.sum():
            i, t = np.argwhere(missed)[0]
            first = f"first: {pred.site.values[i]}, {str(pred.time.values[t])[:10]}"
            text = f"{missed.sum()} of {some.sum()} scored days that others predict ({first})"
            raise DataError(f"model {name} misses {text}; they are compared on the same days")
    common = score & complete.all(0)
    if not common.any():
        raise DataError("predictions: no scored day is predicted; check towers, days and folds")
    columns = [samples.targets.index(flux) for flux in fluxes]
    order = np.argsort(site[np.nonzero(common)[0]], kind="stable")
    i, t = (index[order] for index in np.nonzero(common))
    observed = samples.y[site[i], time[t]][:, columns].astype(float)
    predicted = np.stack([v[:, i, t] for v in values], -1).astype(float)
    rows, tower = np.unique(site[i], return_inverse=True)
    facts = samples.table.iloc[rows].assign(site=samples.site[rows])
    when = pd.DatetimeIndex(samples.time)[time[t]]
    return Days(names, fluxes, facts, tower, when, observed, predicted)


def sum_up(pred: xr.Dataset, samples: Samples) -> xr.Dataset:
    """Sum up predictions by tower over the scored days (rule 2); DataError as `scored_days`."""
    return sum_days(scored_days(pred, samples))


def sum_days(days: Days) -> xr.Dataset:
    """Sum up given days by tower (rule 2)."""
    _, first, count = np.unique(days.tower, return_index=True, return_counts=True)
    n = count.astype(float)
    total = partial(np.add.reduceat, indices=first, axis=-2)
    mean = total(days.observed) / n[:, None]
    e = days.predicted - days.observed
    p = days.predicted - (total(days.predicted) / n[:, None])[:, days.tower]
    daily = zip(STATISTICS, (e, e**2, np.abs(e), p**2, p * days.observed), strict=True)
    flat, deep = ("site", "flux"), ("model", "site", "flux")
    return xr.Dataset(
        {"n": ("site", n), "observed": (flat, mean)}
        | {"within": (flat, total((days.observed - mean[days.tower]) ** 2))}
        | {name: (deep, total(values)) for name, values in daily},
        {"model": list(days.models), "flux": list(days.fluxes)}
        | {str(name): ("site", days.facts[name].to_numpy()) for name in days.facts},
    )


def groups_of(sums: xr.Dataset, by: str | None = None) -> xr.DataArray:
    """1 or 0 (group, site) by class of a fact, or all; in order of its attribute ``classes``."""
    names, values = [""], np.full(sums.sizes["site"], "")
    if by is not None:
        values = sums[by].values.astype(str)
        names = [c for c in sums[by].attrs.get("classes", np.unique(values)) if c in values]
    inside = np.array(names, str)[:, None] == values
    return xr.DataArray(inside.astype(float), {"group": names}, ("group", "site"))


def bootstrap_weights(towers: int, n_boot: int = 1000, seed: int = 0) -> Array:
    """How often each tower is drawn (draw, tower); the same seed draws the same towers."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(towers, np.full(towers, 1 / towers), size=n_boot).astype(float)


def draws_of(sums: xr.Dataset, n_boot: int = 1000, seed: int = 0) -> xr.DataArray:
    """Bootstrap samples of the towers of ``sums``: how often each is drawn (draw, site)."""
    return xr.DataArray(bootstrap_weights(sums.sizes["site"], n_boot, seed), dims=("draw", "site"))


def interval(values: xr.DataArray) -> list[Array]:
    """Lower and upper bound of 90 % of bootstrap samples (draw, …)."""
    return list(values.quantile([(1 - LEVEL) / 2, (1 + LEVEL) / 2], "draw", skipna=False).values)


def mean_of(statistic: xr.DataArray, n: xr.DataArray, weights: xr.DataArray) -> xr.DataArray:
    """Mean over days of a ``statistic`` and ``n`` summed by site, towers weighted (any, site)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return xr.dot(weights, statistic, dim="site") / xr.dot(weights, n, dim="site")


def score(sums: xr.Dataset, weights: xr.DataArray) -> xr.Dataset:
    """R2 (NaN without variance), RMSE, bias and MAE (rule 3), towers weighted as for `mean_of`."""
    n = sums.n
    square = mean_of(sums.square, n, weights)
    level = mean_of(n * sums.observed, n, weights)
    variance = mean_of(sums.within + n * (sums.observed - level) ** 2, n, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = {"R2": (1 - square / variance).where(variance > 0), "RMSE": np.sqrt(square)}
    plain = {"bias": "error", "MAE": "absolute"}
    scores |= {k: mean_of(sums[v], n, weights) for k, v in plain.items() if v in sums}
    return xr.Dataset(scores)


def score_towers(sums: xr.Dataset) -> pd.DataFrame:
    """Score every tower on its own days: model, flux, site, n (scored days), scores, facts."""
    each = xr.DataArray(np.eye(sums.sizes["site"]), {"group": sums.site.values}, ("group", "site"))
    table = score(sums, each).to_dataframe(dim_order=["model", "group", "flux"]).reset_index()
    names = [str(name) for name in sums.coords if sums[name].dims == ("site",)]
    facts = pd.DataFrame({"n": sums.n.values.astype(int)} | {k: sums[k].values for k in names})
    table = table.rename(columns={"group": "site"}).merge(facts, on="site", how="left")
    first = ["model", "flux", "site", "n", *SCORES]
    return table[[*first, *(name for name in names if name not in first)]]


def summarise(sums: xr.Dataset, by: str | None = None) -> pd.DataFrame:
    """Pooled scores and percentiles over towers (rule 3), by model and flux.

    ``by`` names a fact of the towers (``igbp``, ``koppen_main``) whose classes are scored apart.
    Columns are [by,] model, flux, towers, days, long_towers (of at least 30 scored days), R2, RMSE,
    bias, MAE (pooled), and over the long towers tower_RMSE (mean of their RMSE: the main score),
    ``R2_25``, ``R2_50``, ``R2_75``, ….
    """
    groups = groups_of(sums, by)
    keys = ["group", "model", "flux"]
    pooled = score(sums, groups)
    pooled["towers"], pooled["days"] = groups.sum("site"), groups @ sums.n
    pooled["long_towers"] = groups @ (sums.n >= MIN_DAYS)
    table = pooled.to_dataframe(dim_order=keys)
    own = score_towers(sums)
    own = own.assign(group=own[by].astype(str) if by else "")[own.n >= MIN_DAYS]
    spread = own.groupby(keys)[list(SCORES)].quantile(np.array([*QUARTILES.values()])).unstack()  # noqa: PD010
    for name in SCORES:
        for q, share in QUARTILES.items():
            table[f"{name}_{q}"] = spread.get((name, share), pd.Series(dtype=float))
    table["tower_RMSE"] = own.groupby(keys).RMSE.mean()
    whole = ["towers", "days", "long_towers"]
    table[whole] = table[whole].astype(int)
    names = [*whole, *SCORES, "tower_RMSE", *(f"{name}_{q}" for name in SCORES for q in QUARTILES)]
    table = table[names].reset_index()
    return table.rename(columns={"group": by}) if by else table.drop(columns="group")


def compare(
    sums: xr.Dataset, model: str, rival: str, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Relative change of RMSE from a rival to a model (%, negative: less error), paired (rule 4).

    Columns are flux; of the pooled RMSE (gC m-2 d-1): RMSE, rival_RMSE, change, lower, upper; the
    same of the mean over towers of their RMSE, beginning with ``mean_``; ``without_top``, pooled
    change without the `TOP` towers that favour the model most; ``better``, share of towers with
    less error. DataError for a model that is not there.
    """
    for name in (model, rival):
        if name not in sums.model.values:
            raise DataError(f"model {name!r} is not among the predictions {sums.model.values}")
    square, long = sums.square.sel(model=[model, rival]), sums.n >= MIN_DAYS
    each = np.sqrt(square / sums.n).where(long, 0)
    resampled, saved = draws_of(sums, n_boot, seed), square[1] - square[0]
    all_towers = xr.ones_like(resampled[:1])
    table: dict[str, Any] = {"flux": sums.flux.values}
    means: dict[str, Callable[[xr.DataArray], xr.DataArray]] = {
        "": lambda weights: mean_of(square, sums.n, weights) ** 0.5,
        "mean_": lambda weights: mean_of(each, long.astype(float), weights),
    }
    for prefix, mean in means.items():
        own, other = mean(all_towers)[0].transpose("model", "flux").values
        with np.errstate(invalid="ignore", divide="ignore"):
            lower, upper = interval(_change(mean(resampled)))
        named = ("RMSE", "rival_RMSE", "change", "lower", "upper")
        values = (own, other, 100 * (own / other - 1), lower, upper)
        table |= {prefix + name: v for name, v in zip(named, values, strict=True)}
    order = saved.argsort(saved.get_axis_num("site")).argsort(saved.get_axis_num("site"))
    rest = square.where(order < sums.sizes["site"] - TOP)
    table["without_top"] = _change(np.sqrt(rest.sum("site"))).values  # of the same days: n cancels
    table["better"] = (saved > 0).mean("site").values
    return pd.DataFrame(table)


def _change(pair: xr.DataArray) -> xr.DataArray:
    """Relative difference (%) of the first of two models to the second."""
    return 100 * (pair.isel(model=0, drop=True) / pair.isel(model=1, drop=True) - 1)


def imbalance(pred: xr.Dataset) -> xr.Dataset:
    """Sum of abs(NEE - (RECO - GPP)) (gC m-2 d-1), and ``predicted`` days (model, site)."""
    gap = abs(pred.NEE - (pred.RECO - pred.GPP)).astype(float)
    return xr.Dataset({"imbalance": gap.sum("time"), "predicted": gap.count("time")})


def violations(balance: xr.Dataset, rival: str) -> pd.DataFrame:
    """Mean imbalance of each model, from `imbalance`, and by how much it is below a rival's.

    Table (index model): ``violation`` = mean abs(NEE - (RECO - GPP)) (gC m-2 d-1) over all
    predicted tower-days; ``cut`` (% less than the rival's; 100: none left) with bounds ``lower``,
    ``upper`` at 90 % from bootstrap samples of towers, NaN without the rival. Two days at one
    tower, of which the second is out of balance by 1:

    >>> dims = ("model", "site", "time")
    >>> fluxes = {"GPP": [[[5.0, 5.0]]], "RECO": [[[3.0, 3.0]]], "NEE": [[[-2.0, -1.0]]]}
    >>> pred = xr.Dataset({n: (dims, v) for n, v in fluxes.items()}, {"model": ["free"]})
    >>> violations(imbalance(pred), "none")[["violation", "days"]].to_dict("index")
    {'free': {'violation': 0.5, 'days': 2}}
    """
    total, days = balance.imbalance.sum("site"), balance.predicted.sum("site")
    table = pd.DataFrame({"violation": (total / days).values, "days": days.values.astype(int)})
    table = table.set_index(pd.Index(balance.model.values, name="model"))
    table[["cut", "lower", "upper"]] = np.nan
    if rival in table.index:
        resampled = mean_of(balance.imbalance, balance.predicted, draws_of(balance))
        with np.errstate(invalid="ignore", divide="ignore"):
            table["cut"] = 100 * (1 - table.violation / table.violation[rival])
            cut = 100 * (1 - resampled / resampled.sel(model=rival, drop=True))
        table["lower"], table["upper"] = interval(cut)
    return table
