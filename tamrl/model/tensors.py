"""Samples as tensors that stay on the device: gathered by index, never copied per sample.

Days of all towers lie end to end, each tower's from its first to its last with drivers, so that
memory grows with days, and not with the years that any tower has.
"""

import sys
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamrl.model.network import TamRL
from tamrl.samples.arrays import Samples
from tamrl.samples.missing import of_satellites

# What a window loses: also EVI and rain of the grid, which a site that loses `of_satellites` keeps.
SATELLITE_PREFIX = ("FPAR", "LAI", "NDWI", "LST", "SNOW", "PRCP", "PET", "SIF", "SM", "EVI")
STEP_DAYS = 10  # a support window is a year in means of ten days
STEPS = 36
SHARE = 0.6  # of a device's free memory that the data may fill


def pick_device(name: str = "auto") -> torch.device:
    """Resolve ``auto`` to CUDA, Apple MPS or CPU, in this order, and print which on stderr."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
        print(f"tamrl: device {name}, {torch.get_num_threads()} thread(s)", file=sys.stderr)
    return torch.device(name)


def to_device(values: NDArray | Tensor, device: torch.device) -> Tensor:
    """Copy to the device; to a GPU from page-locked memory, without waiting for it."""
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if tensor.device.type == "cpu" and device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type == "cuda")


def room(device: torch.device) -> float:
    """Bytes of tensors that the device can store beside the network's own work."""
    if device.type == "cuda":
        return SHARE * torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return SHARE * (torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return float("inf")  # of the host: what does not fit there was never read


def take(series: Tensor, at: Tensor) -> Tensor:
    """Gather entries ``at`` (B, n) of ``series`` (entry, ...): (B, n, ...)."""
    return series.index_select(0, at.flatten()).unflatten(0, at.shape)


@dataclass
class Support:
    """Yearly support windows of all towers: ``x`` (site, year, step, driver) scaled, ``seen``."""

    x: Tensor
    seen: Tensor
    usable: NDArray[np.bool_]  # (site, year): at least half a year of drivers

    @classmethod
    def build(cls, samples: Samples, net: TamRL, device: torch.device) -> Self:
        """Average drivers to ten-day steps for every tower and calendar year."""
        year = samples.time.astype("datetime64[Y]").astype(int)
        doy = (samples.time - samples.time.astype("datetime64[Y]")).astype(int)
        years = np.unique(year)
        shape = (len(samples.site), len(years), STEPS, len(samples.features))
        mean, usable = np.full(shape, np.nan, np.float32), np.zeros(shape[:2], bool)
        step = np.minimum(doy // STEP_DAYS, STEPS - 1)
        for j, y in enumerate(years):
            days = np.flatnonzero(year == y)
            steps, starts = np.unique(step[days], return_index=True)
            usable[:, j] = have = samples.has_drivers[:, days].mean(1) >= 0.5
            x = samples.x[have][:, days]
            ok = np.isfinite(x)
            n = np.add.reduceat(ok, starts, 1, dtype=np.int32)
            total = np.add.reduceat(np.where(ok, x, 0), starts, 1)
            part = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
            mean[np.ix_(have, np.array([j]), steps)] = part[:, None]
        x, seen = net.scale(torch.from_numpy(mean))
        return cls(x.to(device), seen.to(device), usable)

    def sample_windows(
        self, site: NDArray, year: NDArray, n: int, rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Gather ``n`` windows (B, n, L, F), values and ``seen``, of other years than (site, year).

        Random ones with ``rng`` (training), else evenly spaced; the rest is unseen padding.
        """
        pick, used = np.zeros((len(site), n), np.intp), np.zeros((len(site), n), bool)
        for row, (s, y) in enumerate(zip(site, year, strict=True)):
            have = np.flatnonzero(self.usable[s])
            if y >= 0 and len(have) > 1:
                have = have[have != y]
            if rng is not None:
                have = rng.permutation(have)[:n]
            else:
                spread = np.linspace(0, len(have) - 1, min(n, len(have)))
                have = have[spread.round().astype(int)]
            pick[row, : len(have)], used[row, : len(have)] = have, True
        at = to_device(site[:, None] * self.x.shape[1] + pick, self.x.device)
        mask = to_device(used[..., None, None], at.device)
        return tuple(take(v.flatten(0, 1), at) * mask for v in (self.x, self.seen))  # type: ignore[return-value]


class DeviceData:
    """Tensors of all towers, scaled once; on the host (``home``) where the device lacks `room`.

    Days (day, ...) lie end to end; the last stands for all those that no record has: nothing of it
    is seen, and it has no label.
    """

    def __init__(self, samples: Samples, net: TamRL, device: torch.device):
        cpu_net = type(net)(net.config)
        cpu_net.load_state_dict(net.state_dict())
        on, self.length = samples.has_drivers, len(samples.time)
        self.first = np.where(on.any(1), on.argmax(1), 0)
        self.count = np.where(on.any(1), self.length - on[:, ::-1].argmax(1) - self.first, 0)
        self.begin = np.cumsum(self.count) - self.count
        x, seen = cpu_net.scale(self._laid(samples.x, np.nan))
        process = torch.nan_to_num(self._laid(samples.process, np.nan), nan=1.0)
        y, weight = self._laid(samples.y, np.nan), self._laid(samples.weight, 0)
        each = (x, seen.bool(), process, y, weight)
        home = device if sum(a.nbytes for a in each) <= room(device) else torch.device("cpu")
        self.device, self.home, self.y_np, self.weight_np = device, home, samples.y, samples.weight
        self.x, self.seen, self.process, self.y, self.weight = (v.to(home) for v in each)
        self.support = Support.build(samples, cpu_net, device)
        self.static = torch.from_numpy(samples.static).to(device)
        self.maps = None if samples.maps is None else torch.from_numpy(samples.maps).to(device)
        year = samples.time.astype("datetime64[Y]").astype(int)
        self.year = year - year.min()
        self.class_weight = torch.ones(len(samples.site), device=device)
        self.satellite = torch.tensor([f.startswith(SATELLITE_PREFIX) for f in samples.features])
        self.lacking = of_satellites(samples)  # drivers, statics: of a tower without satellites

    def _laid(self, values: NDArray, blank: float) -> Tensor:
        """Lay values (site, time, ...) end to end, and a blank day after them: (day, ...)."""
        out = np.full((self.count.sum() + 1, *values.shape[2:]), blank, np.float32)
        for row, a, i, n in zip(values, self.first, self.begin, self.count, strict=True):
            out[i : i + n] = row[a : a + n]
        return torch.from_numpy(out)

    def balance_classes(self, samples: Samples, train: NDArray, exponent: float) -> None:
        """Weigh towers by inverse frequency of IGBP x Koppen among training days, mean 1 a day."""
        days = samples.weight[train].sum(1)
        weight = np.ones(len(train))
        for name in ("igbp", "koppen_main"):
            of = samples.table[name].to_numpy(str)[train]
            share = {k: max(days[of == k].sum() / days.sum(), 1e-3) for k in set(of)}
            weight *= np.array([share[k] for k in of]) ** -exponent
        weight = (weight * (days.sum() / (weight * days).sum())).astype(np.float32)
        self.class_weight[to_device(train, self.device)] = to_device(weight, self.device)

    def at(self, site: NDArray, days: NDArray) -> Tensor:
        """Where ``days`` (B, T) of sites (B,) lie in tensors (day, ...)."""
        day = days - self.first[site][:, None]
        inside = (day >= 0) & (day < self.count[site][:, None])
        at = np.where(inside, self.begin[site][:, None] + day, len(self.x) - 1)
        return to_device(at, self.home)

    def series(self, name: str, at: Tensor) -> Tensor:
        """Days ``at`` (B, T), from `DeviceData.at`, of a tensor (day, ...): (B, T, ...)."""
        # In memory days come first, which is the order in which the LSTM reads.
        return to_device(take(getattr(self, name), at.T), self.device).transpose(0, 1)

    def drivers(self, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scaled drivers, which of them are seen, and process factors of days ``at`` (B, T)."""
        x, seen, process = (self.series(name, at) for name in ("x", "seen", "process"))
        return x, seen.to(x.dtype), process

    def keep(
        self, n: int, driver: float, satellite: float | None, rng: np.random.Generator
    ) -> Tensor:
        """Mask (n, 1, driver) of drivers shown in training; satellites or single ones drop out."""
        hide = rng.random((n, self.x.shape[-1])) < driver
        if satellite is not None:
            hide |= (rng.random((n, 1)) < satellite) & self.satellite.numpy()
        return to_device(~hide, self.device).to(self.x.dtype)[:, None]

    def without_satellites(self, hidden: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Masks (site, driver), statics (site, static): sites ``hidden`` lack `of_satellites`."""
        drivers, statics = (to_device(hidden[:, None] & n, self.device) for n in self.lacking)
        return (~drivers).to(self.x.dtype), self.static.masked_fill(statics, torch.nan)

    def score(self, net: TamRL, pred: NDArray, sites: NDArray) -> float:
        """Mean over fluxes of RMSE / sd on labelled days: what early stopping watches."""
        y, w = self.y_np[sites], self.weight_np[sites] > 0
        error = (pred[w] - y[w]) / net.y_sd.cpu().numpy()
        return float(np.sqrt(np.nanmean(error**2, 0)).mean())


def set_scale(net: TamRL, samples: Samples, train: NDArray) -> None:
    """Store means and sds of drivers, statics and fluxes over the training towers in the model."""
    x, y = samples.x[train][samples.has_drivers[train]], samples.y[train][samples.weight[train] > 0]
    for name, rows in (("x", x), ("s", samples.static[train]), ("y", y)):
        ok = np.isfinite(rows)
        n = np.maximum(ok.sum(0), 1)
        mean = np.where(ok, rows, 0).sum(0, dtype=np.float64) / n
        sd = np.sqrt(np.where(ok, (rows - mean) ** 2, 0).sum(0, dtype=np.float64) / n)
        sd = np.where(sd > 1e-6, sd, 1)  # of a feature that is constant or absent there
        getattr(net, f"{name}_mean").copy_(torch.from_numpy(mean.astype(np.float32)))
        getattr(net, f"{name}_sd").copy_(torch.from_numpy(sd.astype(np.float32)))
