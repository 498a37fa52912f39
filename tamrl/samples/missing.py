"""What a place may lack of the inputs that the model was trained on, and samples without it."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tamrl.samples.arrays import PHENOLOGY, PHENOLOGY_STATIC, SATELLITE, SEASONAL, Samples

INPUTS = ("satellites", "EVI", "grid")  # groups: monthly satellites, daily EVI, the grid's cell
SEEN_FROM_ORBIT = INPUTS[:2]
LEAVES = 2  # drivers of `SEASONAL`, at least, by which satellites see the leaves of a place


def present(samples: Samples) -> NDArray[np.bool_]:
    """Which of `INPUTS` each tower has (site, input), on at least half of its days.

    Satellites are there where two at least see the leaves (`SEASONAL`): neither rain, as of ERA5,
    nor a single index is what bounds of towers with satellites were calibrated with.
    """
    days = np.maximum(samples.has_drivers.sum(1), 1)
    columns = []
    for names, least in ((SEASONAL, LEAVES), (PHENOLOGY[:1], 1)):
        at = [samples.features.index(name) for name in names if name in samples.features]
        known = (np.isfinite(samples.x[..., at]).sum(-1) >= least) & samples.has_drivers
        columns.append(2 * known.sum(1) >= days)
    places = samples.places
    grid = np.zeros(len(days)) if places is None else np.isfinite(places.x).mean(1)
    return np.stack([*columns, grid > 0.5], 1)


def without(samples: Samples, missing: Iterable[str]) -> Samples:
    """Take away some of `INPUTS` from all towers, as a user's samples lack them.

    Without the grid a tower's elevation and climate class are unknown, too.
    """
    gone = {name for name in (*samples.features, *samples.static_names) if _of(name) in missing}
    x, static = samples.x.copy(), samples.static.copy()
    x[..., [k for k, name in enumerate(samples.features) if name in gone]] = np.nan
    for k, name in enumerate(samples.static_names):
        if name in gone:
            static[:, k] = 0 if name.startswith("koppen") else np.nan
    places = None if "grid" in missing else samples.places
    return replace(samples, x=x, static=static, places=places)


def _of(name: str) -> str:
    """Which of `INPUTS` a driver or a static attribute comes from; "" if it is the tower's own."""
    if name in (*PHENOLOGY, *PHENOLOGY_STATIC):
        return "EVI"
    if name in SATELLITE or "_season" in name:
        return "satellites"
    return "grid" if "_grid" in name or name.startswith(("elevation", "koppen")) else ""


def key(has: Iterable[bool]) -> str:
    """Name the combination of `INPUTS` that are there, e.g. "EVI, grid"."""
    return ", ".join(name for name, there in zip(INPUTS, has, strict=True) if there)


def without_satellites(samples: Samples) -> Samples:
    """Take away from all towers what comes from satellites."""
    return without(samples, SEEN_FROM_ORBIT)


def of_satellites(samples: Samples) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which drivers (driver,) and which statics (static,) a tower without satellites lacks."""
    names = samples.features, samples.static_names
    drivers, statics = (np.array([_of(n) in SEEN_FROM_ORBIT for n in each]) for each in names)
    return drivers, statics
