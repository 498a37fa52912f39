"""Directions that put models together: learning what boosting leaves, means of members, an oracle.

`ResidualOnBoosting` adds to boosted trees what a network has learnt of their errors (as in boosting
itself: Friedman 2001, doi 10.1214/aos/1013203451). `Members` averages networks that differ in seed
and in the towers that stop them. `OtherYears` is no rival: it has seen the tower it predicts, in
other years, and so tells what is lost by never having seen it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from tamrl.baselines import Boosting
from tamrl.blend import project
from tamrl.errors import DataError
from tamrl.provenance import code_version
from tamrl.samples import Samples
from tamrl.splits import blocks, hold_out, other_years
from tamrl.train import TamRLModel

Array = NDArray[np.float32]
# A residual closes as little as it is positive: three free heads, nothing cut off at 0.
FREE_HEADS: dict[str, Any] = {"closure": "none", "process": False, "positive": ()}


@dataclass(repr=False)
class ResidualOnBoosting:
    """Boosted trees, plus a network trained on their errors at towers they had not seen.

    Parameters
    ----------
    model
        Unfitted network, whose ``overrides`` give way to three free heads; ``epochs = 0`` of its
        recipe leaves the boosting alone.
    boosting
        Unfitted trees.
    inner
        Parts of the training and early-stopping towers; the errors of each part are those of trees
        that were grown on the others, 50 km away.
    """

    model: TamRLModel = field(default_factory=TamRLModel)
    boosting: Boosting = field(default_factory=Boosting)
    inner: int = 3
    trees: Any = None
    network: TamRLModel | None = None

    def __repr__(self) -> str:
        """Tell the settings, and the code of both parts."""
        code = [code_version(type(part)) for part in (self.model, self.boosting)]
        parts = f"{self.model!r}, {self.boosting!r}, inner={self.inner}"
        return f"ResidualOnBoosting({parts}, code={code})"

    def fit(
        self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0
    ) -> ResidualOnBoosting:
        """Grow trees without each part of the towers, learn their errors there, grow on all.

        Raises
        ------
        DataError
            When the towers are too near each other to be dealt into ``inner`` parts.
        """
        self.trees = deepcopy(self.boosting).fit(samples, train, valid, seed)
        self.network = None
        if self.model.recipe.epochs == 0:
            return self
        towers, none = np.sort(np.concatenate([train, valid])), np.empty(0, np.intp)
        block = blocks(samples.table)[towers]
        if (n := len(np.unique(block))) < self.inner:
            raise DataError(
                f"{n} separate blocks of towers can't be dealt into {self.inner} parts; give a "
                "smaller inner"
            )
        left = np.full_like(samples.y, np.nan)  # of other towers no error is known, nor asked for
        for stay, away in GroupKFold(self.inner).split(towers, groups=block):
            grown = deepcopy(self.boosting).fit(samples, towers[stay], none, seed)
            out = towers[away]
            left[out] = samples.y[out] - grown.predict(samples, out)
        known = np.isfinite(left).any(-1)
        errors = replace(samples, y=left, weight=np.where(known, samples.weight, 0))
        network = deepcopy(self.model)
        network.overrides = {**network.overrides, **FREE_HEADS}
        self.network = network.fit(errors, train, valid, seed)
        return self

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Fluxes (site, time, flux) in gC m-2 d-1: trees plus their foreseen errors, closed."""
        if self.trees is None:
            raise ValueError("fit before predicting")
        flux = self.trees.predict(samples, sites)
        if self.network is not None:
            flux = flux + self.network.predict(samples, sites)
        return project(flux)


@dataclass(repr=False)
class Members:
    """Mean of ``n`` models that differ in seed and in which training towers stop them.

    The first keeps the towers it is given to stop on; each other holds out other whole blocks of
    the training and early-stopping towers (`tamrl.splits.hold_out`). All closing, so does the mean.
    """

    model: Any
    n: int = 4
    fitted: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        """Tell the settings, and the code of the model."""
        return f"Members({self.model!r}, n={self.n}, code={code_version(type(self.model))})"

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Members:
        """Train all members on the same towers, dealt differently."""
        towers = np.sort(np.concatenate([train, valid]))
        block = blocks(samples.table)[towers]
        igbp = samples.table.igbp.to_numpy(str)[towers]
        self.fitted = []
        for member in range(self.n):
            own = seed * self.n + member
            inner, held = train, valid
            if member:
                mask = hold_out(block, igbp, own)
                inner, held = towers[~mask], towers[mask]
            self.fitted.append(deepcopy(self.model).fit(samples, inner, held, own))
        return self

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Mean fluxes (site, time, flux) in gC m-2 d-1."""
        if not self.fitted:
            raise ValueError("fit before predicting")
        flux = np.mean([model.predict(samples, sites) for model in self.fitted], 0)
        return np.asarray(flux, np.float32)


@dataclass(repr=False)
class OtherYears:
    """Not zero-shot, an oracle: every tower is predicted by a model that saw its other years.

    It trains when asked to predict, because only then it is known which towers are tested: once
    with the labels of one half of their years, once with those of the other
    (`tamrl.splits.other_years`), each time predicting the half that it has not seen. A tower with
    one labelled year is predicted without labels of its own, as by any other model.
    """

    model: Any
    given: tuple[NDArray, NDArray, int] | None = None

    def __repr__(self) -> str:
        """Tell the settings, and the code of the model."""
        return f"OtherYears({self.model!r}, code={code_version(type(self.model))})"

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> OtherYears:
        """Note the towers; the training follows in `predict`."""
        self.given = (train, valid, seed)
        return self

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Fluxes (site, time, flux) in gC m-2 d-1; labels of ``sites`` in other years are used."""
        if self.given is None:
            raise ValueError("fit before predicting")
        train, valid, seed = self.given
        sites = np.asarray(sites)
        half = other_years(samples)[sites]
        out = np.full((*half.shape, len(samples.targets)), np.nan, np.float32)
        for this in (0, 1):
            y, weight = samples.y.copy(), samples.weight.copy()
            y[sites] = np.where((half == this)[..., None], np.nan, y[sites])
            weight[sites] = np.where(half == this, 0, weight[sites])
            told = replace(samples, y=y, weight=weight)
            both = np.concatenate([train, sites])
            fitted = deepcopy(self.model).fit(told, both, valid, seed)
            out = np.where((half == this)[..., None], fitted.predict(told, sites), out)
        return out
