"""Predicting whole records: streamed along time, or exactly as in training, window by window.

Streaming carries the LSTM's state from day to day. A window starts from an empty state, as in
training, and keeps its last days only; it is slower by the overlap.
"""

import platform

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamrl.model.network import TamRL
from tamrl.model.tensors import DeviceData, to_device

STREAM_DAYS = 256  # days decoded in one piece, which fits the cache; the state is carried on
TOWERS = 32  # decoded at once by a processor, whose cache they fit
FILLING = 4096  # towers decoded at once by a GPU: fewer leave it idle between days
WINDOWS = 512  # windows decoded at once
PRECISIONS = ("fp32", "bf16")

Fluxes = NDArray[np.float32]


def products(device: torch.device, precision: str) -> torch.autocast:
    """Context in which matrices are multiplied in one of `PRECISIONS`; ValueError for another."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        why = "this processor lacks AVX-512, without which torch has no LSTM in 16 bits"
        raise ValueError(f"precision 'bf16': {why}; choose fp32")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def cpu_has_bf16() -> bool:
    """Whether torch computes an LSTM in bf16 on this processor."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not x86 or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@torch.inference_mode()
def stream(
    net: TamRL, data: DeviceData, has_drivers: NDArray, sites: NDArray, support: int
) -> Fluxes:
    """Fluxes (site, time, flux) by one pass along time, from a site's first to its last drivers."""
    out, first, last = _blank(net, has_drivers, sites)
    length = last - first + 1
    order = np.argsort(-length, kind="stable")
    most = TOWERS if data.device.type == "cpu" else FILLING
    for group in np.array_split(order, -(-len(sites) // most)):
        group = group[length[group] > 0]
        if not len(group):
            continue
        site, begin, longest = np.asarray(sites)[group], first[group], int(length[group].max())
        (facts, z), state = embed_sites(net, data, site, support), None
        for at in range(0, longest, STREAM_DAYS):
            on = np.flatnonzero(begin + at <= last[group])  # towers whose record goes on
            if len(on) < len(group):
                group, site, begin = group[on], site[on], begin[on]
                left = to_device(on, facts.device)
                facts, z = facts[left], None if z is None else z[left]
                state = None if state is None else (state[0][:, left], state[1][:, left])
            days = begin[:, None] + np.arange(at, min(at + STREAM_DAYS, longest))
            here = data.at(site, np.minimum(days, has_drivers.shape[1] - 1))
            flux, state, _ = net.decode(*data.drivers(here), facts, z, state)
            rows = zip(group, begin + at, last[group] + 1, flux.float().cpu().numpy(), strict=True)
            for row, day, end, piece in rows:
                out[row, day:end][: len(piece)] = piece[: end - day]
    return out


@torch.inference_mode()
def windowed(
    net: TamRL, data: DeviceData, has_drivers: NDArray, sites: NDArray, support: int,
    length: int, keep: int,
) -> Fluxes:  # fmt: skip
    """Fluxes (site, time, flux) from windows of ``length`` days: their last ``keep``."""
    out, first, last = _blank(net, has_drivers, sites)
    length = min(length, has_drivers.shape[1])
    sites = np.ascontiguousarray(sites)  # torch takes no reversed view
    facts, z = embed_sites(net, data, sites, support)
    starts = [(i, day) for i in range(len(sites)) for day in range(first[i], last[i] + 1, keep)]
    for at in range(0, len(starts), WINDOWS):
        i, day = np.array(starts[at : at + WINDOWS]).T
        begin = np.clip(day + keep - length, 0, has_drivers.shape[1] - length)
        here = data.at(sites[i], begin[:, None] + np.arange(length))
        row = to_device(i, facts.device)
        task = None if z is None else z[row]
        flux = net.decode(*data.drivers(here), facts[row], task).flux.float().cpu().numpy()
        column, after = (v[:, None] + np.arange(keep) for v in (day - begin, day))
        w, c = np.nonzero((column < length) & (after <= last[i][:, None]))
        out[i[w], after[w, c]] = flux[w, column[w, c]]
    return out


def embed_sites(
    net: TamRL, data: DeviceData, site: NDArray, support: int
) -> tuple[Tensor, Tensor | None]:
    """Embed the facts and the task of sites: (site, embed), (site, latent) or None."""
    place = to_device(site, data.device)
    facts = net.embed_site(data.static[place])
    maps = None if data.maps is None else data.maps[place]
    windows = data.support.sample_windows(site, np.full(len(site), -1), support, None)
    return facts, net.encode(*windows, facts, maps)[0]


def _blank(net: TamRL, has_drivers: NDArray, sites: NDArray) -> tuple[Fluxes, NDArray, NDArray]:
    """Return missing fluxes, and the first and last active day of each site (1, 0 if none)."""
    on, days = has_drivers[sites], has_drivers.shape[1]
    first = np.where(on.any(1), on.argmax(1), 1)
    last = np.where(on.any(1), days - 1 - on[:, ::-1].argmax(1), 0)
    return np.full((*on.shape, len(net.config.targets)), np.nan, np.float32), first, last
