"""Knowledge-guided pre-training: the network first learns a simulated world, then real towers.

The world of `tamrl.virtual.towers` obeys light-use efficiency, temperature response and the water balance;
its towers stand in all climates by their share of land. What a network has learnt there is where
training on real towers begins (Liu et al. 2024, Knowledge-guided machine learning can improve
carbon cycle quantification, doi 10.1038/s41467-023-43860-5). No label of a real tower goes into it.
In both worlds some places are shown without satellites (`tamrl.model.satellite_dropout`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from tamrl.errors import DataError
from tamrl.model.network import Config, TamRL
from tamrl.model.satellite_dropout import VeiledModel
from tamrl.model.tensors import DeviceData
from tamrl.model.train import Recipe
from tamrl.samples.arrays import Samples, make_samples
from tamrl.shipped.virtual_cells import with_own_cells
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

YEARS = (2001, 2003)
ELSEWHERE = 1000  # added to the seed of the world
APART = 10_000  # between the seeds of worlds that follow each other
SCALES = ("x_mean", "x_sd", "s_mean", "s_sd", "y_mean", "y_sd")  # real towers have their own


@dataclass
class FromVirtual(VeiledModel):
    """TAM-RL that begins with what it learnt at ``n_virtual`` virtual towers.

    Real towers are learnt with the share ``caution`` of the recipe's learning rate: at the full one
    they overwrite what the world has taught, and the first passes are the best.
    """

    version: ClassVar[int] = 1
    n_virtual: int = 1000
    virtual_epochs: int = 4
    caution: float = 1 / 3
    start: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> FromVirtual:
        """Train at virtual towers, once for all folds of a seed, then at the real ones.

        Raises
        ------
        DataError
            When ``samples`` have other drivers or statics than virtual towers.
        """
        # Towers that are virtual themselves must not be met before: theirs is another world.
        draw = seed + ELSEWHERE if samples.attrs.get("virtual") else seed
        world = virtual_samples(self.n_virtual, draw)
        for what in ("features", "static_names"):
            if getattr(world, what) != getattr(samples, what):
                unknown = set(getattr(world, what)) ^ set(getattr(samples, what))
                raise DataError(f"virtual towers have other {what}: {sorted(unknown)}")
        key = tuple(sorted(self.overrides.items()))
        recipe = replace(self.recipe, epochs=self.virtual_epochs)
        learnt = self.learn(draw, key, recipe)
        self.start = {name: value for name, value in learnt.items() if name not in SCALES}
        given = self.recipe
        self.recipe = replace(given, lr=given.lr * self.caution)
        try:
            super().fit(replace(samples, maps=None), train, valid, seed)
        finally:
            self.recipe = given
        return self

    def learn(
        self, draw: int, overrides: tuple[tuple[str, Any], ...], recipe: Recipe
    ) -> dict[str, Tensor]:
        """Weights that the virtual world leaves."""
        return _learnt(self.n_virtual, draw, overrides, recipe, self.device)

    def build(self, config: Config) -> TamRL:
        """Make the network with the weights that the virtual world left, but for its scales."""
        net = super().build(config)
        net.load_state_dict(self.start, strict=False)
        return net


@dataclass
class FromManyWorlds(FromVirtual):
    """TAM-RL that meets ``n_virtual`` new virtual towers in each of ``worlds`` epochs.

    No world is met twice and none is kept, so that ten thousand towers take the memory of one
    thousand. Worlds differ in weather, noise, gaps and in the places drawn around real towers; the
    180 places of real towers are in each. One schedule of learning rates runs through all of them.
    """

    version: ClassVar[int] = 1
    worlds: int = 10

    def learn(
        self, draw: int, overrides: tuple[tuple[str, Any], ...], recipe: Recipe
    ) -> dict[str, Tensor]:
        """Weights that all the worlds leave, one epoch each."""
        recipe = replace(recipe, epochs=self.worlds)
        return _learnt(self.n_virtual, draw, overrides, recipe, self.device, fresh=True)


@dataclass
class _FreshWorlds(VeiledModel):
    """Training in which every epoch but the first has a world of its own."""

    draw: int = 0

    def _epoch(
        self, net: TamRL, mean_net: TamRL, data: DeviceData, train: NDArray,
        opt: torch.optim.Optimizer, plan: Any, rng: np.random.Generator, alone: bool,
    ) -> dict[str, float]:  # fmt: skip
        """Run one epoch in the next world, with the scales of the first."""
        if self.log:
            n = len(data.weight_np)
            world = virtual_samples.__wrapped__(n, self.draw + APART * len(self.log))
            data = DeviceData(world, net, data.device)
        until = _Until(plan)
        return super()._epoch(net, mean_net, data, train, opt, until, rng, alone)


@dataclass
class _Until:
    """A schedule that stays at its end: another world may have some windows more."""

    plan: Any

    def step(self) -> None:
        """Go on, unless at the end."""
        if self.plan.last_epoch + 1 < self.plan.total_steps:
            self.plan.step()


@cache
def virtual_samples(n: int, seed: int) -> Samples:
    """Make samples of ``n`` virtual towers, with satellite data and a grid as real ones have."""
    towers = virtual_towers(n, YEARS, seed=seed)
    samples = make_samples(towers, virtual_predictors(towers), globe())
    return with_own_cells(samples, towers, globe())


@cache
def globe() -> xr.Dataset:
    """Make the virtual globe, the same for all worlds, once a process."""
    return virtual_grid()


@cache
def _learnt(
    n: int, seed: int, overrides: tuple[tuple[str, Any], ...], recipe: Recipe, device: str,
    fresh: bool = False,
) -> dict[str, Tensor]:  # fmt: skip
    """Weights after training at the virtual towers, every tenth of which stops it early."""
    samples = virtual_samples(n, seed)
    held = np.arange(n) % 10 == 0
    model = VeiledModel(dict(overrides), recipe, device)
    if fresh:
        model = _FreshWorlds(dict(overrides), recipe, device, draw=seed)
    model.fit(samples, np.flatnonzero(~held), np.flatnonzero(held), seed)
    assert model.net is not None
    return {name: value.cpu() for name, value in model.net.state_dict().items()}
