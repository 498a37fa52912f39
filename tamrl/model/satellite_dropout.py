"""Training for towers without satellites: all that satellites know of a place is hidden at times.

`tensors.DeviceData.keep` hides the satellites' days of a window, but a tower that never had any lacks
more: their mean seasons, the facts made of these, and what the support set shows of them. It has
one thing that `keep` hides as well, the greenness that the grid knows of its cell. Here some places
of every batch are shown as such a tower would be, and as a tower of one's own mostly is.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tamrl.model.network import TamRL
from tamrl.model.tensors import DeviceData, to_device
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples
from tamrl.samples.satellites import of_satellites


class Veil:
    """The data of a batch in which the places ``hidden`` have no satellites.

    It answers as `tensors.DeviceData` does to what a training step asks: drivers of days, what of
    them is kept, statics, and support windows.
    """

    def __init__(
        self, data: DeviceData, site: NDArray, hidden: NDArray,
        drivers: NDArray[np.bool_], statics: NDArray[np.bool_],
    ):  # fmt: skip
        self.data, self.hidden, self.drivers_hidden = data, hidden, drivers
        self.rows = np.isin(site, hidden)
        self.static = data.static
        if len(hidden):
            row, column = (
                to_device(hidden, data.device),
                to_device(np.flatnonzero(statics), data.device),
            )
            self.static = data.static.clone()
            self.static[row[:, None], column] = float("nan")
        self.support = self

    def __getattr__(self, name: str) -> Any:
        """Give all else as it is."""
        return getattr(self.data, name)

    def keep(self, n: int, satellite: float, driver: float, rng: np.random.Generator) -> Tensor:
        """Mask (n, 1, driver) of drivers shown; see `DeviceData.keep`. ``satellite`` is not used."""
        hide = rng.random((n, len(self.drivers_hidden))) < driver
        hide |= self.rows[:, None] & self.drivers_hidden
        return to_device(~hide, self.data.device).to(self.data.x.dtype)[:, None]

    def sample_windows(
        self, site: NDArray, year: NDArray, n: int, rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Gather support windows; see `tensors.Support.choose`."""
        x, seen = self.data.support.sample_windows(site, year, n, rng)
        hide = np.isin(site, self.hidden)[:, None] & self.drivers_hidden
        shown = to_device(~hide, x.device).to(x.dtype)[:, None, None]
        return x * shown, seen * shown


class VeiledModel(TamRLModel):
    """TAM-RL trained behind a `Veil`: ``recipe.drop_satellite`` is the share of places hidden."""

    version: ClassVar[int] = 1

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> VeiledModel:
        """Train; see `TamRLModel.fit`."""
        self._lacking = of_satellites(samples)
        super().fit(samples, train, valid, seed)
        return self

    def _terms(
        self, net: TamRL, data: DeviceData, site: NDArray, start: NDArray,
        rng: np.random.Generator, alone: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Loss terms of a batch in which some places have no satellites."""
        places = np.unique(site)
        hidden = places[rng.random(len(places)) < self.recipe.drop_satellite]
        veiled: Any = Veil(data, site, hidden, *self._lacking)
        return super()._terms(net, veiled, site, start, rng, alone)
