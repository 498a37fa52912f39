"""Sums per tower that every score follows from: the one aggregation rule, in one place.

All sums of rule 2 in `tamrl.evaluate.scores` are additive over tower-days, so that scores of any group of
towers (all, a biome, a draw with replacement) follow from sums per tower. Predictions are then no
longer needed: a comparison that took hours boils down to a small table that can be kept.

All fluxes in gC m-2 d-1. Dimensions: model, tower, flux.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tamrl.errors import DataError
from tamrl.evaluate.timescales import split, years

Array = NDArray[np.float64]
MIN_DAYS = 30  # scored days of a tower that has scores of its own
QUARTILES = (25, 50, 75)
SCORES = ("R2", "RMSE", "bias", "MAE")
LEVEL = 0.9  # of all intervals
WITHIN = ("seasonal cycle", "daily anomalies", "between years")  # scales with zero mean per tower


@dataclass(frozen=True)
class Scale:
    """Squares of one time scale within towers: seasons, days or years.

    ``n`` (tower,) values; ``observed`` (tower, flux) squares of the observed component, which has
    mean zero at each tower; ``square`` (model, tower, flux) squared errors of the component.
    """

    n: Array
    observed: Array
    square: Array


@dataclass(frozen=True)
class Sums:
    """Sums over the scored days of each tower, for models that stand on the same days.

    ``towers`` facts (site, igbp, …), one row a tower; ``n`` (tower,) scored days; ``mean`` and
    ``within`` (tower, flux): observed mean, and squares about it; ``error``, ``square``,
    ``absolute`` (model, tower, flux): sums of predicted - observed, its square, its absolute value;
    ``scales``: squared errors by time scale, for towers of at least 30 scored days, if asked for.
    """

    models: tuple[str, ...]
    fluxes: tuple[str, ...]
    towers: pd.DataFrame
    n: Array
    mean: Array
    within: Array
    error: Array
    square: Array
    absolute: Array
    scales: Mapping[str, Scale] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        models: Sequence[str],
        fluxes: Sequence[str],
        towers: pd.DataFrame,
        tower: NDArray[np.intp],
        observed: Array,
        predicted: Array,
    ) -> Sums:
        """Sum daily values: ``tower`` (day,) rows of ``towers``, sorted, each at least once.

        ``observed`` (day, flux), ``predicted`` (model, day, flux).
        """
        first = np.flatnonzero(np.diff(tower, prepend=-1))
        n = np.diff([*first, len(tower)]).astype(float)
        mean = np.add.reduceat(observed, first) / n[:, None]
        within = np.add.reduceat((observed - mean[tower]) ** 2, first)
        e = predicted - observed
        error, square, absolute = (np.add.reduceat(v, first, 1) for v in (e, e**2, np.abs(e)))
        facts = towers.reset_index(drop=True)
        return cls(tuple(models), tuple(fluxes), facts, n, mean, within, error, square, absolute)

    def with_scales(
        self, tower: NDArray[np.intp], when: pd.DatetimeIndex, observed: Array, predicted: Array
    ) -> Sums:
        """Add squares by time scale; arguments as for `of`, ``when`` (day,) the dates."""
        long = self.has_own_scores[tower]
        rows, site = np.unique(tower[long], return_inverse=True)
        doy, year = when[long].day_of_year.to_numpy() - 1, when[long].year.to_numpy()
        truth = split(observed[long], site, doy, year)
        parts = [split(values, site, doy, year) for values in predicted[:, long]]
        owner = dict.fromkeys(WITHIN, site) | {"between years": years(site, year)[2]}

        def per_tower(values: Array, at: NDArray[np.intp]) -> Array:
            out = np.zeros((len(self.n), values.shape[-1]))
            np.add.at(out, rows[at], values)
            return out

        scales = {}
        for name in WITHIN:
            at = owner[name]
            square = [per_tower((part[name] - truth[name]) ** 2, at) for part in parts]
            n = np.bincount(rows[at], minlength=len(self.n)).astype(float)
            scales[name] = Scale(n, per_tower(truth[name] ** 2, at), np.stack(square))
        return replace(self, scales=scales)

    @property
    def has_own_scores(self) -> NDArray[np.bool_]:
        """Towers (tower,) that have scores of their own."""
        return self.n >= MIN_DAYS

    def classes(self, by: str | None) -> tuple[list[str], NDArray[np.intp]]:
        """Return the classes of a column of ``towers`` and the class (tower,) of each tower."""
        if by is None:
            return [""], np.zeros(len(self.n), np.intp)
        column = self.towers[by]
        if not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.astype(str)
        labels = pd.Categorical(column).remove_unused_categories()  # keeps an order that there is
        return [str(c) for c in labels.categories], np.asarray(labels.codes, np.intp)

    def scores(self, group: NDArray[np.intp]) -> dict[str, Array]:
        """Scores (model, group, flux) pooled over towers of equal ``group`` (tower,), 0, 1, …."""
        one = np.zeros((group.max(initial=-1) + 1, len(group)))
        one[group, np.arange(len(group))] = 1
        n = (one @ self.n)[:, None]
        mean = one @ (self.n[:, None] * self.mean) / n
        total = one @ (self.within + self.n[:, None] * (self.mean - mean[group]) ** 2)
        square = one @ self.square
        with np.errstate(invalid="ignore", divide="ignore"):  # no spread: R2 undefined
            r2 = np.where(total > 0, 1 - square / total, np.nan)
        rmse, mae = np.sqrt(square / n), one @ self.absolute / n
        return {"R2": r2, "RMSE": rmse, "bias": one @ self.error / n, "MAE": mae}

    def select(self, models: Sequence[str]) -> Sums:
        """Return the sums of some models, in the order asked for.

        Raises
        ------
        DataError
            For a model that is not there.
        """
        for name in models:
            if name not in self.models:
                raise DataError(f"model {name!r} is not among the predictions {list(self.models)}")
        at = [self.models.index(name) for name in models]
        scales = {k: replace(s, square=s.square[at]) for k, s in self.scales.items()}
        parts = {k: getattr(self, k)[at] for k in ("error", "square", "absolute")}
        return replace(self, models=tuple(models), scales=scales, **parts)


def per_tower(sums: Sums) -> pd.DataFrame:
    """Score every tower on its own days.

    Returns
    -------
    Table with columns model, flux, site, n (scored days), R2, RMSE, bias, MAE, and the facts of
    the towers; every tower with a scored day is there, also those too short for the percentiles.
    """
    names = ["model", "site", "flux"]
    index = pd.MultiIndex.from_product([sums.models, sums.towers.site, sums.fluxes], names=names)
    scores = sums.scores(np.arange(len(sums.n)))
    table = pd.DataFrame({name: scores[name].ravel() for name in SCORES}, index).reset_index()
    repeats = (len(sums.models), len(sums.fluxes))
    table["n"] = np.tile(np.repeat(sums.n.astype(int), repeats[1]), repeats[0])
    facts = [name for name in sums.towers if name != "site"]
    for name in facts:
        table[name] = np.tile(np.repeat(sums.towers[name].to_numpy(), repeats[1]), repeats[0])
    return table[["model", "flux", "site", "n", *SCORES, *facts]]


def summarise(sums: Sums, by: str | None = None) -> pd.DataFrame:
    """Pooled scores and percentiles over towers, by model and flux; see `tamrl.evaluate.scores`.

    ``by`` is a column of ``towers`` whose classes are told apart.
    """
    classes, group = sums.classes(by)
    pooled = sums.scores(group)
    own = sums.scores(np.arange(len(sums.n)))
    rows = []
    for g, name in enumerate(classes):
        inside = group == g
        long = inside & sums.has_own_scores
        for m, model in enumerate(sums.models):
            for f, flux in enumerate(sums.fluxes):
                row: dict[str, object] = {by: name} if by else {}
                row |= {"model": model, "flux": flux, "towers": int(inside.sum())}
                row |= {"days": int(sums.n[inside].sum()), "long_towers": int(long.sum())}
                row |= {score: float(pooled[score][m, g, f]) for score in SCORES}
                for score in SCORES:
                    known = own[score][m, long, f]
                    known = known[np.isfinite(known)]
                    quartiles = np.percentile(known, QUARTILES) if known.size else [np.nan] * 3
                    row |= {f"{score}_{q}": v for q, v in zip(QUARTILES, quartiles, strict=True)}
                rows.append(row)
    spread = [f"{score}_{q}" for score in SCORES for q in QUARTILES]
    columns = ["model", "flux", "towers", "days", "long_towers", *SCORES, *spread]
    return pd.DataFrame(rows, columns=[by, *columns] if by else columns)


def bootstrap_weights(towers: int, n_boot: int = 1000, seed: int = 0) -> Array:
    """How often each tower is drawn (draw, tower); the same seed draws the same towers."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(towers, np.full(towers, 1 / towers), size=n_boot).astype(float)


def compare(
    sums: Sums, model: str, rival: str, n_boot: int = 1000, seed: int = 0, level: float = LEVEL
) -> pd.DataFrame:
    """Relative change of pooled RMSE from a rival to a model, paired; see `tamrl.evaluate.scores`."""
    pair = sums.select([model, rival])
    mine, theirs = (bootstrap_weights(len(sums.n), n_boot, seed) @ square for square in pair.square)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = 100 * (np.sqrt(mine / theirs) - 1)  # (draw, flux)
    rmse = np.sqrt(pair.square.sum(1) / pair.n.sum())
    return pd.DataFrame(
        {
            "flux": sums.fluxes,
            "RMSE": rmse[0],
            "rival_RMSE": rmse[1],
            "change": 100 * (rmse[0] / rmse[1] - 1),
            "lower": np.quantile(change, (1 - level) / 2, axis=0),
            "upper": np.quantile(change, (1 + level) / 2, axis=0),
            "better": (pair.square[0] < pair.square[1]).mean(0),
        }
    )


def by_scale(sums: Sums) -> pd.DataFrame:
    """R2 and RMSE by time scale, pooled over towers, tower-days, tower-days and tower-years.

    Returns
    -------
    Table with columns model, flux, scale, n, R2, RMSE.

    Raises
    ------
    DataError
        When the sums were made without time scales.
    """
    if sums.models and not sums.scales:
        raise DataError("these sums hold no time scales; make them with `Sums.with_scales`")
    rows = []
    for m, model in enumerate(sums.models):
        means = sums.mean[sums.has_own_scores]
        offset = sums.error[m, sums.has_own_scores] / sums.n[sums.has_own_scores, None]
        centred = means - means.mean(0) if len(means) else means
        parts = {"between towers": (len(means), (centred**2).sum(0), (offset**2).sum(0))}
        for name, scale in sums.scales.items():
            parts[name] = (int(scale.n.sum()), scale.observed.sum(0), scale.square[m].sum(0))
        for name, (n, total, square) in parts.items():
            for f, flux in enumerate(sums.fluxes):
                r2 = 1 - square[f] / total[f] if total[f] > 0 else np.nan
                rmse = np.sqrt(square[f] / n) if n else np.nan
                row = {"model": model, "flux": flux, "scale": name, "n": n}
                rows.append(row | {"R2": r2, "RMSE": rmse})
    return pd.DataFrame(rows, columns=["model", "flux", "scale", "n", "R2", "RMSE"])
