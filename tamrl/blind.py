"""Any model where no satellite has looked: as at most towers of one's own.

Models are trained on all there is. At the towers they are tested on, satellites are taken away, and
with them what is made of them, as if the towers had no row in the table of monthly predictors.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamrl.provenance import code_version
from tamrl.samples import Samples
from tamrl.veil import of_satellites


def hide(samples: Samples) -> Samples:
    """Take from all places what a tower without satellites lacks (`veil.of_satellites`)."""
    drivers, statics = of_satellites(samples)
    x = np.where(drivers, np.float32(np.nan), samples.x)
    return replace(samples, x=x, static=np.where(statics, np.float32(np.nan), samples.static))


@dataclass(repr=False)
class WithoutSatellites:
    """A model that is trained on all drivers and predicts from those that are left without them."""

    model: Any
    fitted: Any = None

    def __repr__(self) -> str:
        """Tell the settings, and the code of the model, which may come from anywhere."""
        return f"WithoutSatellites({self.model!r}, code={code_version(type(self.model))})"

    def fit(
        self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0
    ) -> WithoutSatellites:
        """Train the model as it is."""
        self.fitted = deepcopy(self.model).fit(samples, train, valid, seed)
        return self

    def predict(self, samples: Samples, sites: NDArray) -> NDArray[np.float32]:
        """Fluxes (site, time, flux) in gC m-2 d-1, from drivers without satellites."""
        if self.fitted is None:
            raise ValueError("fit before predicting")
        return np.asarray(self.fitted.predict(hide(samples), sites), np.float32)
