"""Synthetic pre-training: the network first learns simulated towers, then real ones.

The simulated towers of `tamrl.virtual` stand in all climates by their share of land. Training on
real towers starts with their weights (Liu et al. 2024, doi 10.1038/s41467-023-43860-5). These
depend on settings and seed alone, on no real label, and are stored once, for all folds and
processes: in the folder ``TAMRL_PRETRAINING_DIR``, or in ``pretraining`` of the cache.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import ndtr

from tamrl.data.cache import cache_dir
from tamrl.data.grid import grid_at
from tamrl.evaluate.learner import versions
from tamrl.files import atomic_write
from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import (
    PHENOLOGY,
    PHENOLOGY_STATIC,
    Samples,
    make_samples,
    require_same,
)
from tamrl.samples.phenology import with_phenology
from tamrl.shipped.annual import ANNUAL, own_means, with_statics
from tamrl.shipped.weights import digest_of
from tamrl.virtual.grid import greenness, virtual_grid
from tamrl.virtual.noise import draw
from tamrl.virtual.phenology import virtual_phenology
from tamrl.virtual.simulator import YEAR
from tamrl.virtual.towers import simulated_months, virtual_predictors, virtual_towers

Weights = dict[str, NDArray]
YEARS = (2001, 2003)
VIRTUAL_SEED_OFFSET = 1000  # added to the seed of the data sets
DATASET_SEED_STEP = 10_000  # between the seeds of data sets that follow each other
SCALES = ("x_mean", "x_sd", "s_mean", "s_sd", "y_mean", "y_sd")  # real towers have their own
OWN_COVER_SHARE = (0.3, 0.9)  # least and greatest share of a cell that is like the tower
# How the grid errs about the rest: sd of a factor of all months, and of each month, in EVI.
FACTOR, MONTH = 0.1, 0.02
PRIOR_ERROR = 0.35  # sd of the logarithm of annual fluxes, as of the prior at towers left out
MIDDLE = (np.arange(12) + 0.5) / 12 * YEAR + 1  # of months, days of the year
_globe = cache(virtual_grid)


@dataclass
class SyntheticPretraining(TamRLModel):
    """TAM-RL that begins with weights learnt at simulated towers.

    It learns ``datasets`` of ``n_sites`` towers one after the other, ``epochs_each``, under one
    schedule of learning rates; they differ in weather, noise, gaps and places around real towers.
    Those follow with ``lr_factor`` of the learning rate. Satellites drop out by site throughout.
    """

    version: ClassVar[int] = 1
    n_sites: int = 1000
    datasets: int = 10
    epochs_each: int = 1
    lr_factor: float = 1 / 3
    start: Weights = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.recipe = replace(self.recipe, satellite_dropout="site")

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Train on from simulated towers; DataError for other drivers or statics than theirs."""
        # Towers that are simulated themselves must not be met before: theirs are other data sets.
        seed_of_data = seed + VIRTUAL_SEED_OFFSET if samples.attrs.get("virtual") else seed
        more = PHENOLOGY[0] in samples.features, ANNUAL[0] in samples.static_names
        base = make_samples(virtual_towers(1, YEARS))
        features = base.features + PHENOLOGY * more[0]
        statics = base.static_names + PHENOLOGY_STATIC * more[0] + ANNUAL * more[1]
        require_same(samples.features, features, "simulated towers have other features:")
        require_same(samples.static_names, statics, "simulated towers have other static_names:")
        learnt, recipe = self._learnt(seed_of_data, more), self.recipe
        self.start = {name: value for name, value in learnt.items() if name not in SCALES}
        self.recipe = replace(recipe, lr=recipe.lr * self.lr_factor)
        try:
            return super().fit(replace(samples, maps=None), train, valid, seed)
        finally:
            self.recipe = recipe

    def build(self, config: Config) -> TamRL:
        """Make the network with the weights of the simulated towers, but for their scales."""
        net = super().build(config)
        start = {name: torch.from_numpy(value) for name, value in self.start.items()}
        net.load_state_dict(start, strict=False)
        return net

    def _learnt(self, seed: int, more: tuple[bool, bool]) -> Weights:
        """Weights after training at the simulated towers: stored, or learnt and then stored."""
        recipe = replace(self.recipe, epochs=self.datasets * self.epochs_each)
        sizes = self.n_sites, self.datasets, self.epochs_each
        key = repr([sorted(self.overrides.items()), recipe, *sizes, seed, versions(self), more])
        folder = Path(os.environ.get("TAMRL_PRETRAINING_DIR") or cache_dir() / "pretraining")
        path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
        weights = _read(path, key)
        if weights is None:
            model = _OnSimulated(
                self.overrides, recipe, self.device,
                n_sites=self.n_sites, epochs_each=self.epochs_each, seed_of_data=seed,
                more=more,
            )  # fmt: skip
            held = np.arange(self.n_sites) % 10 == 0  # these stop it early
            towers = np.flatnonzero(~held), np.flatnonzero(held)
            model.fit(model.simulated(0), *towers, seed)
            weights = model.store()[1]
            with atomic_write(path) as part:  # two processes may both learn it: they learn the same
                save_file(weights, part, {"key": key, "sha256": digest_of(weights)})
        return weights


@dataclass
class _OnSimulated(TamRLModel):
    """TAM-RL trained on simulated data sets one after the other, none of which is met again."""

    n_sites: int = 1000
    epochs_each: int = 1
    seed_of_data: int = 0
    more: tuple[bool, bool] = (False, False)  # of `simulated_samples`

    def simulated(self, number: int) -> Samples:
        """Make the samples of a data set."""
        seed = self.seed_of_data + DATASET_SEED_STEP * number
        return simulated_samples(self.n_sites, seed, *self.more)

    def epoch_data(self, epoch: int, net: TamRL, data: DeviceData) -> DeviceData:
        """Go on with the next data set after ``epochs_each``, with the scales of the first."""
        number, again = divmod(epoch, self.epochs_each)
        if number == 0 or again:
            return data
        return DeviceData(self.simulated(number), net, data.device)


def _read(path: Path, key: str) -> Weights | None:
    """Read stored weights; None where there are none or, with a warning, where they are damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "np") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            if stored.metadata() == {"key": key, "sha256": digest_of(weights)}:
                return weights
    except (SafetensorError, OSError):
        pass
    warnings.warn(f"{path}: damaged; the weights are learnt again", stacklevel=2)
    return None


def simulated_samples(n: int, seed: int, phenology: bool = False, annual: bool = False) -> Samples:
    """Make samples of ``n`` simulated towers, with satellites and a grid as real ones have.

    On demand they have a daily vegetation index, and a prior of annual fluxes that errs like one.
    """
    towers, globe = virtual_towers(n, YEARS, seed=seed), _globe()
    samples = make_samples(towers, virtual_predictors(towers), globe)
    samples = with_own_cells(samples, towers, globe)
    if phenology:
        samples = with_phenology(samples, virtual_phenology(towers))
    if not annual:
        return samples
    own = own_means(samples)
    own = np.where(np.isfinite(own), own, np.nanmean(own, 0))
    z = draw(towers.site.values, seed, "annual prior", (len(ANNUAL),))
    return with_statics(samples, (own * np.exp(PRIOR_ERROR * z)).astype(np.float32), ANNUAL)


def with_own_cells(samples: Samples, towers: xr.Dataset, cube: xr.Dataset) -> Samples:
    """Let the greenness of a simulated tower's grid cell be partly that of the tower.

    Real towers mostly stand in what covers their cell, simulated cells have the nearest's class. Of
    ``samples`` by ``cube``, ``EVI_grid``, its mean and range and ``fapar_mean_grid`` change.
    """
    fpar = simulated_months(towers)["FPAR_season"]
    z = draw(towers.site.values, towers.attrs["virtual_seed"], "cell", (14,))
    share = OWN_COVER_SHARE[0] + (OWN_COVER_SHARE[1] - OWN_COVER_SHARE[0]) * ndtr(z[:, :1])
    cell = grid_at(cube, towers.lat.values, towers.lon.values)
    own = greenness(fpar) * np.exp(FACTOR * z[:, 1:2]) + MONTH * z[:, 2:]
    evi = share * own + (1 - share) * cell.EVI.transpose("site", "month").to_numpy()
    mean = share[:, 0] * fpar.mean(1) + (1 - share[:, 0]) * cell.fapar_mean.to_numpy()

    x, static = samples.x.copy(), samples.static.copy()
    day = (samples.time - samples.time.astype("datetime64[Y]")).astype(int) + 1
    daily = np.stack([np.interp(day, MIDDLE, season, period=YEAR) for season in evi])
    at = samples.features.index("EVI_grid")
    x[..., at] = np.where(np.isfinite(x[..., at]), daily, np.nan)
    names = ("EVI_grid_mean", "EVI_grid_range", "fapar_mean_grid")
    for name, values in zip(names, (evi.mean(1), np.ptp(evi, axis=1), mean), strict=True):
        column = samples.static_names.index(name)
        static[:, column] = np.where(np.isfinite(static[:, column]), values, np.nan)
    return replace(samples, x=x, static=static)
