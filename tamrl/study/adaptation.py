"""What labels are worth: error at held-out towers against the number of days adapted to."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from tamrl.errors import DataError
from tamrl.evaluate.learner import versions
from tamrl.evaluate.scores import LEVEL, bootstrap_weights
from tamrl.model.adapt import FROZEN, Mask, finetune
from tamrl.model.train import TamRLModel
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold
from tamrl.study.comparisons.effects import verdict, with_interval

MODES = {"frozen": True, "full": False}
GAP = 10  # days beside labelled ones that are not scored either: weather lasts
MIN_SCORED = 90  # a tower with fewer days left to score is no test


def adapt_towers(
    model: TamRLModel | Callable[[], TamRLModel], samples: Samples, folds: Sequence[Fold],
    lengths: Sequence[int] = (0, 30, 90, 365), modes: Sequence[str] = ("frozen", "full"),
    seed: int = 0, folder: Path | None = None, limit: int | None = None, jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Adapt the model of each fold to each of its test towers, on ever more labelled days.

    A tower's labelled days follow each other from a random day; shorter sets begin longer ones. The
    days more than 10 from the longest set are scored; towers with fewer than 90 are left out.
    ``model`` was trained without the test towers, or is a factory: one is trained a fold, with
    weights in ``folder`` for the next call. ``limit``: most towers of a fold, at random. Columns
    fold, site, mode, days, flux, n (scored), square, error (sums; predicted - observed).
    """
    tasks = [(model, samples, fold, lengths, modes, seed, folder, limit) for fold in folds]
    tables = [table for part in in_parallel(_adapt_fold, tasks, jobs) for table in part]
    if not tables:
        raise DataError(f"no test tower has {max(lengths)} labelled days and {MIN_SCORED} more")
    return pd.concat(tables, ignore_index=True)


def _adapt_fold(model: TamRLModel | Callable[[], TamRLModel], samples: Samples, fold: Fold,
                lengths: Sequence[int], modes: Sequence[str], seed: int, folder: Path | None,
                limit: int | None) -> list[pd.DataFrame]:  # fmt: skip
    if not isinstance(model, TamRLModel):
        model = model()
        if folder is not None:
            version = versions(model).replace(" ", "").replace(",", "-")
            model.checkpoint = folder / f"fold-{fold.name}-{seed}-{version}.pt"
        model.fit(samples, fold.train, fold.valid, seed)
    tables = []
    days_of = {t: _split_days(samples, t, max(lengths), seed) for t in fold.test}
    usable = [t for t, (_, scored) in days_of.items() if scored.sum() >= MIN_SCORED]
    for tower in np.random.default_rng(seed).permutation(usable)[:limit]:
        given, scored = days_of[tower]
        site, observed = np.array([tower]), samples.y[tower][scored]
        for mode, days in product(modes, lengths):
            on = (given & (given.cumsum() <= days))[None]
            adapted = finetune(model, samples, site, on, MODES[mode]) if days else model
            e = adapted.predict(samples.select(site, on), np.array([0]))[0][scored] - observed
            tables.append(pd.DataFrame({
                "fold": fold.name, "site": samples.site[tower], "mode": mode, "days": days,
                "flux": samples.targets, "n": len(e), "square": (e.astype(float) ** 2).sum(0),
                "error": e.sum(0).astype(float),
            }))  # fmt: skip
    return tables


def _split_days(samples: Samples, tower: int, longest: int, seed: int) -> tuple[Mask, Mask]:
    """Split a tower's days (time,) into those that may be learnt from and those that are scored."""
    given, scored = np.zeros(len(samples.time), bool), np.zeros(len(samples.time), bool)
    on = np.flatnonzero(samples.weight[tower] > 0)
    if len(on) < longest:
        return given, scored
    name = [ord(letter) for letter in samples.site[tower]]
    first = np.random.default_rng([seed, *name]).integers(len(on) - longest + 1)
    given[on[first : first + longest]] = True
    scored |= samples.scored[tower]
    scored[max(on[first] - GAP, 0) : on[first + longest - 1] + GAP + 1] = False
    return given, scored


def adaptation_curve(errors: pd.DataFrame, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Pool errors of `adapt_towers` by labelled days, with bootstrap intervals over towers.

    Returns a table with columns mode, days, flux, towers, RMSE (gC m-2 d-1), change, lower, upper
    (% of the zero-shot RMSE, paired, 90 %) and better (share of towers with less error).
    """
    rows = []
    for (mode, flux), part in errors.groupby(["mode", "flux"], sort=False):
        square = part.pivot_table("square", "site", "days")
        n = part[part.days == 0].set_index("site").n.reindex(square.index)
        weights = bootstrap_weights(len(square), n_boot, seed)
        for days in square:
            sums = weights @ square[[days, 0]].to_numpy()
            change = 100 * (np.sqrt(sums[:, 0] / sums[:, 1]) - 1)
            lower, upper = np.quantile(change, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            rows.append({"mode": mode, "days": days, "flux": flux, "towers": len(square),
                         "RMSE": np.sqrt(square[days].sum() / n.sum()),
                         "change": 100 * (np.sqrt(square[days].sum() / square[0].sum()) - 1),
                         "lower": lower, "upper": upper,
                         "better": (square[days] < square[0]).mean()})  # fmt: skip
    return pd.DataFrame(rows)


def values(curve: pd.DataFrame) -> dict[str, str]:
    """Gather what the page quotes of `adaptation_curve`: verdict, towers, harm, changes."""
    later = curve[curve.days > 0]
    longest = later.days.max()
    full = later[(later.days == longest) & (later["mode"] == "frozen")]
    worse = int((later.lower > 0).sum())
    text = verdict(full, f"TAM-RL adapted to {longest} days of labels", "zero-shot TAM-RL")
    out = {"verdict": text, "harm": f"{worse} of {len(later)}" if worse else "none",
           "n_towers": str(curve.towers.max()), "offsets": ", ".join(FROZEN)}  # fmt: skip
    for _, row in later.iterrows():
        out[f"change_{row['mode']}_{row.days}_{row.flux}"] = with_interval(row)
    return out
