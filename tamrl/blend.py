"""A blend of several models: their weighted mean, moved as little as need be to where it closes.

Models that err differently err less together (Wolpert 1992, doi 10.1016/S0893-6080(05)80023-1).
Weights are fixed or learnt, flux by flux, from towers that were left out inside the training
towers (Breiman 1996, Stacked regressions, doi 10.1007/BF00117832: none negative; here they sum
to 1). A mean of models need not close, nor be positive; `project` makes it do both.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.model_selection import GroupKFold

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.provenance import code_version
from tamrl.samples import Samples
from tamrl.splits import blocks

Array = NDArray[np.float32]


def project(flux: ArrayLike) -> Array:
    """Move fluxes to the nearest ones that close and can be.

    Parameters
    ----------
    flux
        GPP, RECO, NEE (…, 3) in gC m-2 d-1; NaN stays NaN.

    Returns
    -------
    The (…, 3) float32 with GPP >= 0, RECO >= 0 and NEE = RECO - GPP to the last bit, that are next
    to ``flux`` in the sum of the three squared differences.
    """
    gpp, reco, nee = np.moveaxis(np.asarray(flux, np.float64), -1, 0)
    third = (nee - reco + gpp) / 3  # a third of what is out of balance falls to each flux
    zero = np.zeros_like(gpp)
    inside = np.stack([gpp - third, reco + third])
    edges = np.stack(  # the nearest points with GPP = 0, and with RECO = 0
        [
            np.stack([zero, np.maximum((reco + nee) / 2, 0)]),
            np.stack([np.maximum((gpp - nee) / 2, 0), zero]),
        ]
    )
    far = (edges - np.stack([gpp, reco])) ** 2
    far = far.sum(1) + (edges[:, 1] - edges[:, 0] - nee) ** 2
    edge = np.where(far[0] <= far[1], edges[0], edges[1])
    at = np.where((inside >= 0).all(0), inside, edge)
    at = np.where(np.isfinite(third), at, np.nan).astype(np.float32)
    return np.stack([at[0], at[1], at[1] - at[0]], -1)


@dataclass(repr=False)
class Blend:
    """Weighted mean of several models, projected to closure.

    Parameters
    ----------
    parts
        Unfitted models with ``fit`` and ``predict``; they stay as they are.
    weights
        One for each part, of all fluxes; None: learnt for each flux from ``inner`` parts of the
        training towers, each predicted by models that were not trained on it.
    inner
        Number of these parts; every model is fitted that many times more.
    """

    parts: Sequence[Any]
    weights: tuple[float, ...] | None = None
    inner: int = 3
    fitted: list[Any] = field(default_factory=list)
    shares: NDArray = field(default_factory=lambda: np.empty((0, 3)))  # (part, flux), sum 1

    def __repr__(self) -> str:
        """Tell the settings, and the code of the parts, which may come from anywhere."""
        code = [code_version(type(part)) for part in self.parts]
        return f"Blend({self.parts!r}, {self.weights!r}, inner={self.inner}, code={code})"

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Blend:
        """Fit all parts, before that the weights if none are given.

        Raises
        ------
        DataError
            If the targets are not GPP, RECO and NEE, weights do not fit the parts, or the training
            towers are too near each other to be dealt into ``inner`` parts.
        """
        if samples.targets != FLUXES:
            raise DataError(f"a blend closes the carbon balance of {FLUXES}, not {samples.targets}")
        if self.weights is None:
            self.shares = self._learn(samples, train, valid, seed)
        else:
            self.shares = self._given()
        self.fitted = [deepcopy(part).fit(samples, train, valid, seed) for part in self.parts]
        return self

    def _given(self) -> NDArray:
        """Weights (part, flux) as they were given."""
        w = np.array(self.weights, float)
        if len(w) != len(self.parts) or (w < 0).any() or not 0 < w.sum() < np.inf:
            raise DataError(
                f"weights {self.weights} for {len(self.parts)} models: give each one that is "
                "not negative, and not 0 to all"
            )
        return np.repeat(w[:, None] / w.sum(), 3, 1)

    def _learn(self, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> NDArray:
        """Weights (part, flux) of least squared error at training towers that were left out."""
        block = blocks(samples.table)[train]
        if (n := len(np.unique(block))) < self.inner:
            raise DataError(
                f"{n} separate blocks of training towers can't be dealt into {self.inner} parts; "
                "give weights, or a smaller inner"
            )
        on = samples.weight[train] > 0
        out = np.empty((len(self.parts), int(on.sum()), 3))
        for stay, left in GroupKFold(self.inner).split(train, groups=block):
            row = np.zeros(on.shape, bool)
            row[left] = on[left]
            for k, part in enumerate(self.parts):
                model = deepcopy(part).fit(samples, train[stay], valid, seed)
                out[k, row[on]] = model.predict(samples, train[left])[on[left]]
        y, w = samples.y[train][on], samples.weight[train][on]
        return np.stack([simplex(out[..., f], y[:, f], w) for f in range(3)], 1)

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Fluxes (site, time, flux) in gC m-2 d-1 that close; NaN where a part has none."""
        return self.mean([part.predict(samples, sites) for part in self.fitted])

    def mean(self, each: Sequence[NDArray]) -> Array:
        """Mean of the parts' fluxes, a (site, time, flux) each, that closes; weights are given."""
        shares = self.shares if self.weights is None else self._given()
        return project((np.stack(each) * shares[:, None, None]).sum(0))


def simplex(predicted: NDArray, observed: NDArray, weight: NDArray) -> NDArray:
    """Weights (model,), none negative, sum 1, of least weighted squared error of their mean.

    ``predicted`` (model, day); ``observed``, ``weight`` (day,); days on which one is missing do
    not count.
    """
    known = np.isfinite(predicted).all(0) & np.isfinite(observed)
    root = np.sqrt(weight[known])
    error = (predicted[:, known] - observed[known]) * root  # of their mean: the mean of errors
    small = np.linalg.qr(error.T, mode="r")  # (model, model) of the same squares
    # The sum to 1 is one more row of a least-squares problem, of great weight.
    heavy = 1e4 * max(float(np.linalg.norm(small)), 1e-6)
    rows = np.vstack([small, np.full((1, len(predicted)), heavy)])
    found, _ = nnls(rows, np.append(np.zeros(len(small)), heavy))
    return np.asarray(found / found.sum())
