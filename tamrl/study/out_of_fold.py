"""Models and the towers that they never saw: fit them once, then ask them several things."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.typing import NDArray

from tamrl.model.network import TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold

LEVEL = 0.9  # of all intervals
BY_TOWER = ("site", "x", "static", "y", "weight", "scored", "has_drivers", "process", "maps")


class Fitted(NamedTuple):
    """A trained model and the towers (indices into the samples) that it never saw."""

    model: TamRLModel
    test: NDArray[np.intp]


def fit_folds(
    factory: Callable[[], TamRLModel],
    samples: Samples,
    folds: Sequence[Fold],
    seed: int = 0,
    jobs: int = 1,
) -> list[Fitted]:
    """Train one model a fold, ``jobs`` processes side by side."""
    fits = joblib.Parallel(jobs, mmap_mode="c")(
        joblib.delayed(factory().fit)(samples, f.train, f.valid, seed) for f in folds
    )
    return [Fitted(model, f.test) for model, f in zip(fits, folds, strict=True)]


def only(samples: Samples, towers: NDArray) -> Samples:
    """Return the samples of some towers (indices), in that order."""
    arrays = {name: getattr(samples, name) for name in BY_TOWER}
    part: dict[str, Any] = {n: None if a is None else a[towers] for n, a in arrays.items()}
    if samples.places is not None:
        part["places"] = replace(samples.places, x=samples.places.x[towers])
    return replace(samples, table=samples.table.iloc[towers].reset_index(drop=True), **part)


def tower_squares(model: TamRLModel, samples: Samples, data: DeviceData | None = None) -> NDArray:
    """Sum of squared errors on scored days (tower, flux) of all towers of ``samples``."""
    e = model.predict(samples, np.arange(len(samples.site)), data=data) - samples.y
    return np.where(samples.scored[..., None], e.astype(float) ** 2, 0).sum(1)


def drawn_rmse(squares: NDArray, days: NDArray, n_boot: int = 500, seed: int = 0) -> NDArray:
    """RMSE (1 + n_boot, flux) pooled over towers: as they are, then drawn with replacement.

    The same seed draws the same towers, so that differences are paired.
    """
    towers = len(days)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(towers, np.full(towers, 1 / towers), n_boot)
    times = np.concatenate([np.ones((1, towers)), drawn])
    return np.asarray(np.sqrt(times @ squares / (times @ days)[:, None]))


def interval(drawn: NDArray) -> NDArray:
    """Bounds (2, flux) at `LEVEL` of a statistic from `drawn_rmse`."""
    return np.asarray(np.quantile(drawn[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))


def trained(model: TamRLModel) -> TamRL:
    """Network of a fitted model, its dropout off."""
    if model.net is None:
        raise ValueError("fit or load the model first")
    return model.net.eval()
