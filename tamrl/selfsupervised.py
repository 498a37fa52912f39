"""An encoder that has read the drivers of all land before it meets a tower's fluxes.

The support encoder is trained by its own losses alone (Ghosh et al. 2021, arXiv 2109.06429): it
rebuilds drivers that are hidden from it, and finds windows of one place alike. Half of the windows
come from the climate of the whole globe (months of the predictor grid, drawn by area, brought to
the ten-day steps of a support window; drivers that the grid lacks are missing), half from the
training towers' years. No flux has a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from sklearn.metrics.pairwise import haversine_distances
from torch import Tensor

from tamrl import loss
from tamrl.data import fetch_grid
from tamrl.data.solar import daylength, potential_radiation
from tamrl.errors import DataError
from tamrl.knowledge import globe
from tamrl.model import Config, SupportEncoder, TamRL
from tamrl.samples import Samples
from tamrl.splits import EARTH_RADIUS_KM
from tamrl.tensors import STEP_DAYS, STEPS, Support, set_scale
from tamrl.train import TamRLModel

# Drivers of `samples` that the grid has, by their names there; the two of the sun are computed.
FROM_GRID = {
    "TA": "TA", "VPD": "VPD", "SW_IN": "SW_IN", "PRCP": "PRCP",
    "EVI_grid": "EVI", "PRCP_grid": "PRCP",
}  # fmt: skip
APART_KM = 100.0  # from a cell to a tower that must stay unknown: no cell of its own, or next to it
WEATHER = 0.2  # sd of noise on a cell's climate, in sd of the driver: no two years are alike
HIDE_DRIVER = 0.2  # share of drivers hidden in a window, besides steps
CONTRAST = 0.2  # weight beside the reconstruction, as in `train.Recipe`: 0.02 beside 0.1
UNSEEN = 10  # every such cell is kept to measure by


class Cells(NamedTuple):
    """Support windows ``x`` (cell, step, driver) of land cells, raw, NaN = missing; positions."""

    x: NDArray[np.float32]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]


def windows_of(cube: xr.Dataset, features: tuple[str, ...], n: int, seed: int = 0) -> Cells:
    """Draw ``n`` land cells of a predictor cube by area, as support windows of ``features``."""
    ta = cube.TA.transpose("month", "lat", "lon").to_numpy()
    land = (cube.area * cube.land_fraction).transpose("lat", "lon").to_numpy()
    land = np.where(np.isfinite(ta).all(0), np.nan_to_num(land), 0).ravel()
    rng = np.random.default_rng(seed)
    chosen = rng.choice(
        land.size, min(n, int((land > 0).sum())), replace=False, p=land / land.sum()
    )
    i, j = np.unravel_index(np.sort(chosen), ta.shape[1:])
    lat, lon = cube.lat.to_numpy()[i], cube.lon.to_numpy()[j]
    doy = np.arange(STEPS) * STEP_DAYS + STEP_DAYS / 2
    out = np.full((len(i), STEPS, len(features)), np.nan, np.float32)
    for k, name in enumerate(features):
        if name in FROM_GRID:
            month = cube[FROM_GRID[name]].transpose("month", "lat", "lon").to_numpy()[:, i, j]
            out[..., k] = _between_months(month.T, doy)
        elif name in ("SW_POT", "DAYLENGTH"):
            sun = potential_radiation if name == "SW_POT" else daylength
            out[..., k] = sun(lat[:, None], doy)
    return Cells(out, lat, lon)


def _between_months(month: NDArray, doy: NDArray) -> NDArray:
    """Interpolate cyclic months (cell, 12) to days of the year -> (cell, day)."""
    at = (doy - 1) / 365.25 * 12 - 0.5
    left = np.floor(at).astype(int)
    w = at - left
    return month[:, left % 12] * (1 - w) + month[:, (left + 1) % 12] * w


@cache
def _cells(virtual: bool, features: tuple[str, ...], n: int, seed: int) -> Cells:
    """Cells of the globe that the towers stand on, read once a process."""
    return windows_of(globe() if virtual else fetch_grid(), features, n, seed)


@dataclass
class SelfSupervised(TamRLModel):
    """TAM-RL whose encoder begins with what the drivers of the globe have taught it.

    ``cells`` of land are drawn, none within 100 km of a tower that is not trained on, and
    ``steps`` updates of ``pairs`` pairs of windows made. ``rebuilt`` holds the error of rebuilding
    hidden drivers (sd^2) at cells never trained on, before and after.
    """

    cells: int = 4000
    steps: int = 1000
    pairs: int = 128
    start: dict[str, Tensor] = field(default_factory=dict, repr=False)
    rebuilt: tuple[float, float] | None = field(default=None, repr=False)

    def fit(
        self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0
    ) -> SelfSupervised:
        """Train the encoder on drivers, then the whole on the training towers.

        Raises
        ------
        DataError
            When the model has no encoder of support windows.
        """
        maps = samples.maps
        config = Config(
            features=len(samples.features), statics=len(samples.static_names),
            map_variables=0 if maps is None else maps.shape[2], **self.overrides,
        )  # fmt: skip
        torch.manual_seed(seed)
        net = TamRL(config)
        if net.encoder is None or net.encoder.series is None:
            raise DataError("only an encoder of support windows can learn from drivers; use bilstm")
        set_scale(net, samples, train)
        encoder = net.encoder.series
        land = _cells(bool(samples.attrs.get("virtual")), samples.features, self.cells, seed)
        rest = np.setdiff1d(np.arange(len(samples.site)), train)
        x, seen = net.scale(torch.from_numpy(land.x[_away(land, samples, rest)]))
        support = Support.build(samples, net)
        self._learn(encoder, (x, seen), support, train, seed)
        kept = encoder.state_dict()
        self.start = {f"encoder.series.{k}": v.detach().clone() for k, v in kept.items()}
        super().fit(samples, train, valid, seed)
        return self

    def build(self, config: Config) -> TamRL:
        """Make the network with the encoder that the globe left."""
        net = super().build(config)
        net.load_state_dict(self.start, strict=False)
        return net

    def _learn(
        self, encoder: SupportEncoder, globe: tuple[Tensor, Tensor], support: Support,
        train: NDArray, seed: int,
    ) -> None:  # fmt: skip
        """Train the encoder by reconstruction and contrast."""
        rng = np.random.default_rng([seed, 0])
        x, seen = globe
        held = np.arange(len(x)) % UNSEEN == 0
        test, pool = np.flatnonzero(held), np.flatnonzero(~held)
        before = self._error(encoder, x[test], seen[test])
        opt = torch.optim.AdamW(encoder.parameters(), lr=self.recipe.lr)
        plan = torch.optim.lr_scheduler.OneCycleLR(opt, self.recipe.lr, total_steps=self.steps + 1)
        towers = train[support.usable[train].any(1)]
        encoder.train()
        for _ in range(self.steps):
            n = self.pairs // 2
            at = torch.from_numpy(rng.choice(pool, min(n, len(pool)), replace=False))
            noise = torch.from_numpy(rng.normal(0, WEATHER, (len(at), 2, *x.shape[1:])))
            pair = x[at][:, None] + noise.to(x.dtype)
            pair_seen = seen[at][:, None].expand_as(pair)
            site = rng.choice(towers, min(n, len(towers)), replace=False)
            own, own_seen = support.choose(site, np.full(len(site), -1), 2, rng)
            both = torch.cat([pair * pair_seen, own])
            known = torch.cat([pair_seen, own_seen])
            shown = known * _hide(known, self.recipe.hide, rng)
            each, rebuilt = encoder(both, shown)
            place = torch.from_numpy(np.concatenate([at.numpy() + len(support.x), site]))
            used = known.flatten(2).any(-1)
            value = loss.reconstruction(rebuilt, both, known - shown)
            value = value + CONTRAST * loss.contrast(each, used, place)
            opt.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), self.recipe.clip)
            opt.step()
            plan.step()
        self.rebuilt = (before, self._error(encoder, x[test], seen[test]))

    @torch.no_grad()
    def _error(self, encoder: SupportEncoder, x: Tensor, seen: Tensor) -> float:
        """Squared error (sd^2) of rebuilding what is hidden of cells, always the same parts."""
        x, seen = x[:, None], seen[:, None]
        shown = seen * _hide(seen, self.recipe.hide, np.random.default_rng(0))
        return float(loss.reconstruction(encoder(x, shown)[1], x, seen - shown))


def _hide(seen: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Mask (B, W, L, F) that hides a share of steps, and some drivers over the whole window."""
    b, w, length, f = seen.shape
    steps = rng.random((b, w, length, 1)) >= share
    drivers = rng.random((b, w, 1, f)) >= HIDE_DRIVER
    return torch.from_numpy(steps & drivers).to(seen.dtype)


def _away(globe: Cells, samples: Samples, towers: NDArray) -> NDArray[np.bool_]:
    """Cells (cell,) that are farther than 100 km from all of these towers."""
    if len(towers) == 0:
        return np.ones(len(globe.lat), bool)
    table = samples.table.iloc[towers]
    there = np.radians(table[["lat", "lon"]].to_numpy(float))
    km = haversine_distances(np.radians(np.stack([globe.lat, globe.lon], 1)), there)
    return np.asarray((km * EARTH_RADIUS_KM > APART_KM).all(1))
