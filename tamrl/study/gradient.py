"""What gradient steps on the FiLM offsets of one network make of few labels, at held-out towers."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from tamrl.errors import DataError
from tamrl.model.adapt import finetune
from tamrl.model.train import TamRLModel
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold
from tamrl.shipped.calibration import split_days, tower_rng
from tamrl.study.adaptation import curve

WAY = "FiLM offsets"


def network_curve(
    model: TamRLModel | Callable[[], TamRLModel], samples: Samples, folds: Sequence[Fold],
    lengths: Sequence[int], seed: int = 0, limit: int | None = None, jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Change of error by labelled days, as `tamrl.study.adaptation.curve`; see `adapt_network`."""
    return curve(adapt_network(model, samples, folds, lengths, seed, limit, jobs), seed=seed)


def adapt_network(
    model: TamRLModel | Callable[[], TamRLModel], samples: Samples, folds: Sequence[Fold],
    lengths: Sequence[int], seed: int = 0, limit: int | None = None, jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Adapt the network of each fold to each of its test towers, on runs of labelled days.

    ``model`` was trained without the test towers, or is a factory: one is trained a fold.
    ``limit``: most towers of a fold, at random. Returns the table that
    `tamrl.study.adaptation.curve` pools. DataError where no record is long enough.
    """
    tasks = [(model, samples, fold, lengths, seed, limit) for fold in folds]
    rows = [row for part in in_parallel(_adapt_fold, tasks, jobs) for row in part]
    if not rows:
        raise DataError(f"no test tower has {min(lengths)} labelled days and as many to score")
    return pd.concat(rows, ignore_index=True)


def _adapt_fold(
    model: TamRLModel | Callable[[], TamRLModel], samples: Samples, fold: Fold,
    lengths: Sequence[int], seed: int, limit: int | None,
) -> list[pd.DataFrame]:  # fmt: skip
    if not isinstance(model, TamRLModel):
        model = model().fit(samples, fold.train, fold.valid, seed)
    rows = []
    for tower in np.random.default_rng(seed).permutation(fold.test)[:limit]:
        rng, site = tower_rng(samples, int(tower), seed), np.array([tower])
        before = model.predict(samples, site)[0]
        for days in lengths:
            if (split := split_days(samples, int(tower), days, rng)) is None:
                continue
            given, scored = split
            after = finetune(model, samples, site, given[None]).predict(samples, site)[0]
            e0, e = (p[scored] - samples.y[tower][scored].astype(float) for p in (before, after))
            rows.append(pd.DataFrame({
                "fold": fold.name, "site": samples.site[tower], "way": WAY, "days": days,
                "flux": samples.targets, "n": len(e), "square": (e**2).sum(0),
                "before": (e0**2).sum(0), "inside": np.nan,
            }))  # fmt: skip
    return rows
