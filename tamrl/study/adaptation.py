"""What labels are worth: error and coverage at held-out towers, adapted to few labelled days.

Every way of adapting (`WAYS`) starts from the whole ensemble of the tower's fold, which never saw
it, and gets the same labels. What a way learns across towers, it learns without the fold.
"""

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.crossval import digest
from tamrl.evaluate.intervals import calibrate, cases
from tamrl.evaluate.learner import Fluxes
from tamrl.evaluate.scores import LEVEL, bootstrap_weights
from tamrl.evaluate.tables import read_plain, stored
from tamrl.files import atomic_write
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.shipped.adaptation import corrected, evidence, narrowing, posterior
from tamrl.shipped.calibration import (
    LENGTHS,
    STARTS,
    learn_errors,
    mean_flux,
    split_days,
    tower_rng,
)
from tamrl.shipped.error_model import TERMS, ErrorModel
from tamrl.shipped.out_of_fold import FoldEnsemble, predict_held_out
from tamrl.sources import load_towers
from tamrl.study.comparisons.effects import with_interval
from tamrl.study.comparisons.of_folds import of_folds

NONE, ADAPTED, FACTOR = "not adapted", "error model", "factor"
WAYS = (NONE, ADAPTED, FACTOR)
AIMS = {  # change of pooled RMSE (%) by labelled days, set beforehand
    30: {"GPP": -6, "RECO": -12, "NEE": -2},
    90: {"GPP": -10, "RECO": -16, "NEE": -4},
    365: {"GPP": -14, "RECO": -28, "NEE": -11},
}
MOST_WORSE = 1 / 3  # of the towers, at any length
WORSE = 1.1  # a tower whose RMSE grows by more than a tenth is counted apart
SUMS = ("fold", "site", "way", "days", "flux", "n", "square", "error", "inside", "before")
GRADIENT = "gradient.csv"  # stored beside: gradient steps on the networks, which help less
FACTOR_SD, EFFECTIVE = 0.35, 20.0  # prior of one factor; days that are worth one


def one_factor() -> ErrorModel:
    """Prior of one factor each for GPP and RECO, apart, and of days that are independent."""
    model = ErrorModel()
    far = torch.tensor(-30.0, dtype=torch.float64)
    with torch.no_grad():
        model.root.zero_()
        model.root[0, 0] = model.root[TERMS, TERMS] = FACTOR_SD
        model.log_variance[:] = torch.stack([torch.tensor(EFFECTIVE).log().double(), far, far])
        model.link.zero_()
    return model.requires_grad_(False)


def adapt_held_out(
    samples: Samples, predicted: xr.Dataset, ensembles: Sequence[FoldEnsemble], folder: Path,
    lengths: Sequence[int] = LENGTHS, seed: int = 0, jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Adapt each fold's ensemble to each of its test towers, on random runs of labelled days.

    ``predicted`` are the ensembles' held-out fluxes (seed, site, time). What is learnt across
    towers is stored in ``folder`` for the next call. A record too short for labels and other days
    to score has no row. Columns fold, site, way, days, flux, and sums over scored days of three
    runs: n, square, error (predicted - observed), inside (days in bounds of 90 %), before (square
    on the same days without adapting).
    """
    tasks = [
        (samples, predicted, each, f"{k}", folder, lengths, seed)
        for k, each in enumerate(ensembles)
    ]
    return pd.concat(in_parallel(_adapt_fold, tasks, jobs, "folds"), ignore_index=True)


def _adapt_fold(
    samples: Samples, predicted: xr.Dataset, ensemble: FoldEnsemble, name: str, folder: Path,
    lengths: Sequence[int], seed: int,
) -> pd.DataFrame:  # fmt: skip
    known = np.isin(samples.site, predicted.site.values)
    others = np.setdiff1d(np.flatnonzero(known), ensemble.test)
    model = _stored(folder / f"fold-{name}.json", samples, predicted, others)
    table, igbp = cases(predicted, samples), samples.table.igbp.to_numpy(str)
    rest = np.isin(table.site.values, samples.site[others])
    fitted = calibrate(table.isel(site=rest), igbp[others])
    flux = mean_flux(predicted, samples)
    spread = predicted.reindex(site=samples.site).std("seed").to_array().to_numpy()
    rows = []
    for tower in ensemble.test:
        one, rng = samples.select(np.array([tower])), tower_rng(samples, int(tower), seed)
        before, size = flux[[tower]], spread[:, tower].T
        for days, _ in product(lengths, range(STARTS)):
            if (split := split_days(samples, int(tower), days, rng)) is None:
                continue
            given, scored = split
            y = samples.y[tower, scored].astype(float)
            for way in WAYS:
                mean, share = _adapted(way, model, one, before, given)
                bounds = [
                    _bounds(fitted[f], mean[:, k], size[:, k], share[:, k], igbp[tower])
                    for k, f in enumerate(FLUXES)
                ]
                low, high = np.stack(bounds, -1)[:, scored]
                e, e0 = mean[scored] - y, before[0, scored] - y
                rows.append(pd.DataFrame({
                    "fold": name, "site": samples.site[tower], "way": way, "days": days,
                    "flux": FLUXES, "n": len(e), "square": (e**2).sum(0), "error": e.sum(0),
                    "inside": ((low <= y) & (y <= high)).sum(0), "before": (e0**2).sum(0),
                }))  # fmt: skip
    keys = ["fold", "site", "way", "days", "flux"]
    return pd.concat(rows).groupby(keys, sort=False).sum().reset_index()


def _stored(
    path: Path, samples: Samples, predicted: xr.Dataset, towers: NDArray[np.intp]
) -> ErrorModel:
    """Model of errors of these towers, from a file where it has been learnt before."""
    if not path.exists():
        model = learn_errors(samples, predicted, towers)
        with atomic_write(path) as part:
            part.write_text(json.dumps(model.store()))
    return ErrorModel.restore(json.loads(path.read_text()))


def _bounds(
    fitted: Conformal, mean: NDArray, spread: NDArray, share: NDArray, igbp: str
) -> tuple[NDArray, NDArray]:
    """Bounds of 90 % (day,), ``share`` times as far from the mean as without labels."""
    low, high = fitted.interval(mean, spread, igbp, LEVEL)
    return mean + share * (low - mean), mean + share * (high - mean)


def _adapted(
    way: str, model: ErrorModel, one: Samples, first: Fluxes, given: NDArray[np.bool_]
) -> tuple[Fluxes, NDArray]:
    """Fluxes (time, flux) after adapting to labels of ``given``, and how wide bounds are."""
    if way == NONE:
        return first[0], np.ones_like(first[0])
    errors = one_factor() if way == FACTOR else model
    weights, covariance = posterior(errors, evidence(errors, one, first, given[None]))
    lat = float(one.table.lat.iloc[0])
    share = narrowing(errors, covariance, first[0], lat, one.time)
    return corrected(first, weights, one, np.array([0]))[0], share


def curve(errors: pd.DataFrame, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Pool `adapt_held_out` by way and number of labels, with bootstrap intervals over towers.

    Returns a table with columns way, days, flux, towers, RMSE (gC m-2 d-1), change, lower, upper (%
    of the RMSE on the same days without adapting, paired, 90 %), tower_change (% of the mean over
    towers of RMSE), worse and much_worse (share of towers with more error, with 10 % more) and
    inside (share of days within bounds of 90 %).
    """
    rows = []
    for (way, days, flux), after in errors.groupby(["way", "days", "flux"], sort=False):
        square = after[["square", "before"]].to_numpy()
        rmse = np.sqrt(square / after.n.to_numpy()[:, None])
        sums = bootstrap_weights(len(square), n_boot, seed) @ square
        change = 100 * (np.sqrt(sums[:, 0] / sums[:, 1]) - 1)
        lower, upper = np.quantile(change, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        total, ratio = square.sum(0), rmse[:, 0] / rmse[:, 1]
        rows.append({
            "way": way, "days": days, "flux": flux, "towers": len(square),
            "RMSE": np.sqrt(total[0] / after.n.sum()),
            "change": 100 * (np.sqrt(total[0] / total[1]) - 1), "lower": lower, "upper": upper,
            "tower_change": 100 * (rmse[:, 0].mean() / rmse[:, 1].mean() - 1),
            "worse": (ratio > 1).mean(), "much_worse": (ratio > WORSE).mean(),
            "inside": after.inside.sum() / after.n.sum(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def by_tower(errors: pd.DataFrame, way: str = ADAPTED) -> pd.DataFrame:
    """Quantiles over towers of the change in RMSE (%), a row a flux and number of labels."""
    part = errors[errors.way == way].assign(
        change=lambda t: 100 * np.sqrt(t.square / t.before) - 100
    )
    quantiles = ("5 %", 0.05), ("25 %", 0.25), ("50 %", 0.5), ("75 %", 0.75), ("95 %", 0.95)
    each = part.groupby(["flux", "days"], sort=False).change
    return pd.DataFrame({name: each.quantile(q) for name, q in quantiles})


def compute(towers: str = "auto", out: Path | None = None, jobs: int = 2, **settings: Any) -> Path:
    """Adapt the ensembles of the folds to their test towers; return the path of the table.

    Arguments as of `tamrl.study.comparisons.of_folds.of_folds`.
    """
    samples, each, source, folder = of_folds("adaptation", towers, out, jobs=jobs, **settings)
    predicted = predict_held_out(samples, each, jobs)
    name = digest([str(path) for part in each for path in part.members])
    table = adapt_held_out(samples, predicted, each, source / "adapt" / name, jobs=jobs)
    with atomic_write(folder / "towers.csv") as part:
        table.to_csv(part, index=False, float_format="%.6g")
    return folder / "towers.csv"


def changes(path: Path) -> pd.DataFrame:
    """Pivot changes of pooled RMSE (%) in a table of `compute`, a row a way and length."""
    table = curve(read_plain(path, *SUMS))
    wide = table[table.way != NONE].pivot_table("change", ["way", "days"], "flux", sort=False)
    return wide.reset_index()


def load(towers: str = "auto", recompute: bool = False, **settings: Any) -> pd.DataFrame:
    """Read the stored table of real towers; on virtual ones, or when asked, compute it.

    Stored beside it, as they were computed once, are gradient steps on the networks' offsets, put
    back into the ensemble, at three towers of a fold, on one run of labels of each length.
    """
    auto = towers == "auto"
    if recompute or towers == "virtual" or (auto and load_towers(towers).attrs["virtual"]):
        return pd.read_csv(compute(towers, **settings))
    path = stored("adaptation") / "towers.csv"
    if not path.exists():
        raise DataError(f"{path}: no such table; compute it: tamrl compare adaptation")
    gradient = path.with_name(GRADIENT)
    return pd.concat(
        [read_plain(p, *SUMS) for p in (path, gradient) if p.exists()], ignore_index=True
    )


def oracle(errors: pd.DataFrame) -> pd.Series:
    """Change of pooled RMSE (%) by (days, flux) were the mean error of each tower known.

    On the same scored days, without adapting: what no knowledge of a place's level alone exceeds.
    """
    before = errors[errors.way == NONE]
    left = (before.square - before.error**2 / before.n).rename("left")
    keys = [before.days, before.flux]
    sums = before.square.groupby(keys, sort=False).sum()
    return 100 * (left.groupby(keys, sort=False).sum() / sums) ** 0.5 - 100


def values(table: pd.DataFrame, errors: pd.DataFrame) -> dict[str, str]:
    """Gather what the page quotes of `curve`, beside aims and what an `oracle` leaves.

    ``short``: changes that miss their aim, and by how much; ``harmed``: shares of towers with more
    error that exceed a third.
    """
    out, left = {"n_towers": str(table.towers.max())}, oracle(errors)
    short, harmed = dict[str, list[str]](), dict[str, list[str]]()
    for _, row in table[table.way == ADAPTED].iterrows():
        name, days = f"{row.days}_{row.flux}", f"{row.days} days"
        out[f"change_{name}"] = with_interval(row)
        out[f"worse_{name}"] = f"{100 * row.worse:.0f} %"
        out[f"inside_{name}"] = f"{100 * row.inside:.1f} %"
        known = f"{left[row.days, row.flux]:+.0f} %"
        out[f"oracle_{name}"] = known.replace("-", "\N{MINUS SIGN}")
        if (aim := AIMS.get(row.days, {}).get(row.flux)) is None:
            continue
        out[f"aim_{name}"] = f"{aim:+d} %".replace("-", "\N{MINUS SIGN}")
        if (by := row.change - aim) > 0:
            short.setdefault(days, []).append(f"{row.flux} by {by:.1f}")
        if row.worse > MOST_WORSE:
            harmed.setdefault(days, []).append(f"{row.flux} {100 * row.worse:.0f} %")
    for name, rows in (("short", short), ("harmed", harmed)):
        said = "; ".join(f"at {days} {', '.join(parts)}" for days, parts in rows.items())
        out[name] = said or "none"
    return out
