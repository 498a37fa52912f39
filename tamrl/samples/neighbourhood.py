"""Neighbourhood of a tower on the grid: the input of the spatio-temporal encoder."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.samples.arrays import Samples

PATCH = 9  # cells of 0.5 degrees on each side of a neighbourhood
MONTHLY = ("TA", "PRCP", "SW_IN", "VPD", "EVI")
STATIC = ("elevation", "awc")
CLASSES = ("ENF", "EBF", "DBF", "MF", "OSH", "SAV", "GRA", "WET", "CRO")  # of the land


def globe(cube: xr.Dataset) -> NDArray[np.float32]:
    """Channels (12, channel, lat, lon) of the grid, scaled over all land, not over towers."""
    shape = (12, cube.sizes["lat"], cube.sizes["lon"])
    return np.stack([np.broadcast_to(layer, shape) for layer in _scaled(cube)], 1)


def _scaled(cube: xr.Dataset) -> Iterator[NDArray[np.float32]]:
    """Scale one channel at a time, (12, lat, lon) or, if the same all year, (lat, lon)."""
    fixed = [cube[n] for n in STATIC] + [cube["igbp_fraction"].sel(igbp=c) for c in CLASSES]
    for layer in [*(cube[n] for n in MONTHLY), *fixed]:
        x = layer.transpose(..., "lat", "lon").to_numpy()
        mean, sd = np.nanmean(x, dtype=np.float64), np.nanstd(x, dtype=np.float64)
        yield np.clip((x - mean) / np.maximum(sd, 1e-6), -8, 8).astype(np.float32)


def padded(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Margins of half a neighbourhood: round the globe along longitude, unknown past the poles."""
    half = PATCH // 2
    channels = np.concatenate([channels[..., -half:], channels, channels[..., :half]], -1)
    widths = [(0, 0)] * (channels.ndim - 2) + [(half, half), (0, 0)]
    return np.pad(channels, widths, constant_values=np.nan)


def with_neighbourhoods(samples: Samples, cube: xr.Dataset) -> Samples:
    """Add ``maps`` (site, 12, channel, 9, 9): the climatology of 9 x 9 cells around each tower."""
    lat, lon = samples.table.lat.to_numpy(float), samples.table.lon.to_numpy(float)
    row = np.abs(cube.lat.values[None] - lat[:, None]).argmin(1)
    col = np.abs((cube.lon.values[None] - lon[:, None] + 180) % 360 - 180).argmin(1)
    at, shape, channels = [*zip(row, col, strict=True)], (len(row), 12, PATCH, PATCH), []
    for layer in map(padded, _scaled(cube)):
        around = np.stack([layer[..., r : r + PATCH, c : c + PATCH] for r, c in at])
        around = around.reshape(len(row), -1, PATCH, PATCH)
        channels.append(np.broadcast_to(around, shape))
    return replace(samples, maps=np.stack(channels, 2))
