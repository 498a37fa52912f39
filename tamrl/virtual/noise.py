"""Random series of the simulator: from the seed and the code of each tower, with memory."""

from collections.abc import Iterable
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


def draw(
    codes: Iterable[str], seed: int, stream: str, size: tuple[int, ...], kind: str = "normal"
) -> Array:
    """Random numbers (site, *size) that depend on seed, stream and each tower's own code."""
    name = crc32(stream.encode())
    rngs = (np.random.default_rng([seed, crc32(str(code).encode()), name]) for code in codes)
    return np.stack([getattr(rng, kind)(size=size) for rng in rngs])


def monthly_means(x: Array, time: pd.DatetimeIndex) -> Array:
    """Means (site, month) of daily values (site, time) of whole months."""
    first = np.flatnonzero(time.day == 1)
    return np.add.reduceat(x, first, axis=1) / np.diff([*first, len(time)])


def persistent(z: Array, days: float) -> Array:
    """Stationary AR(1) of unit variance (site, time) from white noise, e-folding in `days`."""
    from scipy.signal import lfilter  # slow to load: not where towers are real

    rho = np.exp(-1 / days)
    scale = np.r_[1.0, np.full(z.shape[-1] - 1, np.sqrt(1 - rho**2))]
    return np.asarray(lfilter([1.0], [1.0, -rho], z * scale, axis=-1))


def memory(x: Array, days: float) -> Array:
    """Exponential running mean (site, time) over the past `days`, from the mean of the first."""
    from scipy.signal import lfilter

    a = 1 - np.exp(-1 / days)
    start = (1 - a) * x[:, : int(days) + 1].mean(1, keepdims=True)
    return np.asarray(lfilter([a], [1.0, a - 1], x, axis=-1, zi=start)[0])
