"""A weighted mean of several models whose carbon balance is closed.

Models whose errors differ err less together (Wolpert 1992, doi 10.1016/S0893-6080(05)80023-1). A
mean of models need not close, nor be positive; `close_balance` makes it do both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.learner import Fluxes, Wrapper
from tamrl.samples.arrays import Samples


def close_balance(flux: ArrayLike) -> Fluxes:
    """Move GPP, RECO, NEE (…, 3) to the nearest that close to the last bit and are not negative.

    In gC m-2 d-1, float32; nearest by the sum of squared differences. NaN stays NaN.
    """
    gpp, reco, nee = np.moveaxis(np.asarray(flux, np.float64), -1, 0)
    third = (nee - reco + gpp) / 3  # a third of what is out of balance falls to each flux
    inside = np.stack([gpp - third, reco + third])
    reco_edge, gpp_edge = np.maximum((reco + nee) / 2, 0), np.maximum((gpp - nee) / 2, 0)
    zero = np.zeros_like(gpp)
    edges = np.array([[zero, reco_edge], [gpp_edge, zero]])  # nearest with GPP = 0, with RECO = 0
    far = ((edges - [gpp, reco]) ** 2).sum(1) + (edges[:, 1] - edges[:, 0] - nee) ** 2
    edge = np.where(far[0] <= far[1], edges[0], edges[1])
    at = np.where((inside >= 0).all(0), inside, edge)
    at = np.where(np.isfinite(third), at, np.nan).astype(np.float32)
    return np.stack([at[0], at[1], at[1] - at[0]], -1)


@dataclass
class Blend(Wrapper):
    """Mean of unfitted ``models`` by ``weights`` (any sum), moved to the nearest that closes."""

    models: Sequence[Any]
    weights: tuple[float, ...]
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "blend"

    def __post_init__(self) -> None:
        w = np.array(self.weights, float)
        if len(w) != len(self.models) or (w < 0).any() or not 0 < w.sum() < np.inf:
            what = f"weights {self.weights} for {len(self.models)} models"
            raise DataError(f"{what}: give each one that is not negative, and not 0 to all")

    @property
    def parts(self) -> Sequence[Any]:
        """The models, unfitted."""
        return self.models

    def learn(self, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> Samples:
        """Refuse other targets than GPP, RECO and NEE (DataError)."""
        if samples.targets != FLUXES:
            raise DataError(f"a blend closes the carbon balance of {FLUXES}, not {samples.targets}")
        return samples

    def combine(self, samples: Samples, sites: NDArray, fluxes: Sequence[Fluxes]) -> Fluxes:
        """Mean of the parts' fluxes (site, time, flux) that closes; NaN where a part has none."""
        shares = np.array(self.weights, float) / sum(self.weights)
        return close_balance((np.stack(fluxes) * shares[:, None, None, None]).sum(0))

    def store(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Give the weights and the fitted models for a file."""
        return {"weights": list(self.weights), "parts": self.fitted}, {}

    @classmethod
    def restore(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray], device: str) -> Self:
        """Make the blend again of what `store` gave."""
        return cls(about["parts"], tuple(about["weights"]), fitted=about["parts"])
