"""Samples without satellite data, as at most towers of a user."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tamrl.samples.arrays import SATELLITE, SEASONAL, Samples


def of_satellites(samples: Samples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which drivers (driver,) and which statics (static,) a tower without satellites lacks."""
    seasons = tuple(f"{name}_season" for name in SEASONAL)
    drivers = [name in (*SATELLITE, *seasons) for name in samples.features]
    return np.array(drivers), np.array([name.startswith(seasons) for name in samples.static_names])


def without_satellites(samples: Samples) -> Samples:
    """Set missing at all towers what comes from satellites (`of_satellites`)."""
    drivers, statics = of_satellites(samples)
    x = np.where(drivers, np.float32(np.nan), samples.x)
    return replace(samples, x=x, static=np.where(statics, np.float32(np.nan), samples.static))
