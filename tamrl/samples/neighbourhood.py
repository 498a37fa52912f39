"""Neighbourhood of a tower on the grid: the input of the spatio-temporal encoder."""

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
    layers = [cube[n].transpose("month", "lat", "lon").values for n in MONTHLY]
    fixed = [cube[n] for n in STATIC] + [cube["igbp_fraction"].sel(igbp=c) for c in CLASSES]
    stack = np.stack([*layers, *(np.broadcast_to(f.values, layers[0].shape) for f in fixed)], 1)
    mean = np.nanmean(stack, (0, 2, 3), keepdims=True, dtype=np.float64)
    sd = np.nanstd(stack, (0, 2, 3), keepdims=True, dtype=np.float64)
    return np.clip((stack - mean) / np.maximum(sd, 1e-6), -8, 8).astype(np.float32)


def padded(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Margins of half a neighbourhood: round the globe along longitude, unknown past the poles."""
    half = PATCH // 2
    channels = np.concatenate([channels[..., -half:], channels, channels[..., :half]], -1)
    widths = [(0, 0)] * (channels.ndim - 2) + [(half, half), (0, 0)]
    return np.pad(channels, widths, constant_values=np.nan)


def with_neighbourhoods(samples: Samples, cube: xr.Dataset) -> Samples:
    """Add ``maps`` (site, 12, channel, 9, 9): the climatology of 9 x 9 cells around each tower."""
    margin = padded(globe(cube))
    lat, lon = samples.table.lat.to_numpy(float), samples.table.lon.to_numpy(float)
    row = np.abs(cube.lat.values[None] - lat[:, None]).argmin(1)
    col = np.abs((cube.lon.values[None] - lon[:, None] + 180) % 360 - 180).argmin(1)
    patches = [margin[..., r : r + PATCH, c : c + PATCH] for r, c in zip(row, col, strict=True)]
    return replace(samples, maps=np.stack(patches))
