"""Models with the towers that they never saw, and their errors there."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tamrl.evaluate.scores import LEVEL, bootstrap_weights
from tamrl.model.network import TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import TamRLModel
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold


class Fitted(NamedTuple):
    """A trained model and the towers (indices into the samples) that it never saw."""

    model: TamRLModel
    test: NDArray[np.intp]


def fit_folds(factory: Callable[[], TamRLModel], samples: Samples, folds: Sequence[Fold],
              seed: int = 0, jobs: int = 1) -> list[Fitted]:  # fmt: skip
    """Train one model a fold, ``jobs`` processes side by side."""
    return in_parallel(_fit, [(factory, samples, fold, seed) for fold in folds], jobs)


def _fit(factory: Callable[[], TamRLModel], samples: Samples, fold: Fold, seed: int) -> Fitted:
    return Fitted(factory().fit(samples, fold.train, fold.valid, seed), fold.test)


def trained(model: TamRLModel) -> TamRL:
    """Network of a fitted model, its dropout off."""
    if model.net is None:
        raise ValueError("fit or load the model first")
    return model.net.eval()


def on_device(model: TamRLModel, samples: Samples) -> tuple[TamRL, DeviceData]:
    """Network of a fitted model, its dropout off, and tensors of the samples on its device."""
    net = trained(model)
    return net, DeviceData(samples, net, next(net.parameters()).device)


def tower_squares(model: TamRLModel, samples: Samples, data: DeviceData | None = None) -> NDArray:
    """Sum of squared errors on scored days (tower, flux) of all towers of ``samples``."""
    e = model.predict(samples, np.arange(len(samples.site)), data=data) - samples.y
    return np.where(samples.scored[..., None], e.astype(float) ** 2, 0).sum(1)


def bootstrap_rmse(squares: NDArray, days: NDArray, n_boot: int = 500, seed: int = 0) -> NDArray:
    """RMSE (1 + n_boot, flux) pooled over towers: as they are, then resampled, paired by seed."""
    weights = np.concatenate([np.ones((1, len(days))), bootstrap_weights(len(days), n_boot, seed)])
    return np.asarray(np.sqrt(weights @ squares / (weights @ days)[:, None]))


def interval(resampled: NDArray) -> NDArray:
    """Bounds (2, flux) of the 90 % interval of a statistic from `bootstrap_rmse`."""
    return np.asarray(np.quantile(resampled[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))
