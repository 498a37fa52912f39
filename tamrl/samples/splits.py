"""Who is trained on and who is tested: splits by tower that leak neither places nor classes."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from tamrl.errors import DataError
from tamrl.samples.arrays import Samples

EARTH_RADIUS_KM = 6371.0088  # mean radius (Moritz 2000, doi 10.1007/s001900050278)
BUFFER_KM = 50.0  # two towers within it are never on different sides of a split
SHARE = 8  # one tower in so many stops the training early


@dataclass(frozen=True)
class Fold:
    """Towers to train on, to stop early on, and to test on (indices into ``Samples.site``)."""

    name: str
    train: NDArray[np.intp]
    valid: NDArray[np.intp]
    test: NDArray[np.intp]


def distance_km(lat: NDArray, lon: NDArray) -> NDArray:
    """Great-circle distances (site, site) in km.

    >>> distance_km(np.array([60.0, 61.0, 60.0]), np.array([10.0, 10.0, 11.0]))[0].round(1).tolist()
    [0.0, 111.2, 55.6]
    """
    phi, lam = np.radians(np.stack([lat, lon]).astype(float))
    a, b = (np.sin(0.5 * (x[:, None] - x)) for x in (phi, lam))
    part = a * a + np.cos(phi)[:, None] * np.cos(phi) * b * b
    return 2 * np.arcsin(np.sqrt(np.minimum(part, 1))) * EARTH_RADIUS_KM


def blocks(table: pd.DataFrame) -> NDArray[np.intp]:
    """Label towers (site,) so that two towers within 50 km always share a block.

    A row of towers, each 33 km from the next, is one block, however long; the last stands apart:

    >>> blocks(pd.DataFrame({"lat": [50.0, 50.3, 50.6, 50.9, 52.0], "lon": 10.0})).tolist()
    [0, 0, 0, 0, 1]
    """
    near = distance_km(table.lat.to_numpy(), table.lon.to_numpy()) <= BUFFER_KM
    return np.asarray(connected_components(near, directed=False)[1], np.intp)


def assign_folds(block: NDArray, stratum: NDArray, k: int, seed: int) -> NDArray[np.intp]:
    """Assign blocks, largest first, each to the fold poorest in its strata, then in towers."""
    rng = np.random.default_rng(seed)
    labels, size = np.unique(block, return_counts=True)
    order = rng.permutation(len(labels))
    order = order[np.argsort(-size[order], kind="stable")]
    strata = {s: i for i, s in enumerate(sorted(set(stratum)))}
    count = np.zeros((len(strata), k))
    fold = np.empty(len(block), np.intp)
    for b in labels[order]:
        members = np.flatnonzero(block == b)
        rows = [strata[stratum[m]] for m in members]
        cost = count[rows].sum(0) + 0.01 * count.sum(0)
        fold[members] = best = int(np.argmin(cost))
        np.add.at(count, (rows, best), 1)
    return fold


def folds(samples: Samples, k: int = 10, scheme: str = "blocked", seed: int = 0) -> list[Fold]:
    """Split towers so that no test tower lies within 50 km of a training tower.

    ``blocked``: k folds, strata by IGBP; ``koppen``: by climate. ``biome``: one fold a class,
    absent from training and validation. The order of towers has no effect. Early-stopping towers
    are whole blocks, about one in eight. ValueError: unknown scheme; DataError: 1 fold, or more
    than blocks.

    >>> from tamrl.samples.arrays import make_samples
    >>> from tamrl.virtual.towers import virtual_towers
    >>> parts = folds(make_samples(virtual_towers(20, years=(2001, 2001))), 4)
    >>> [len(part.test) for part in parts], set(parts[0].test) & set(parts[0].train)
    ([5, 5, 5, 5], set())
    """
    order = np.argsort(samples.site)
    table = samples.table.iloc[order].reset_index(drop=True)
    block = blocks(table)
    igbp, climate = table.igbp.to_numpy(str), table.koppen_main.to_numpy(str)
    if scheme == "biome":
        test_of = {name: igbp == name for name in sorted(set(igbp))}
    elif scheme in ("blocked", "koppen"):
        if not (n := block.max() + 1) >= k >= 2:
            raise DataError(f"{k} folds asked for; {n} separate blocks of towers allow 2 to {n}")
        fold_of = assign_folds(block, climate if scheme == "koppen" else igbp, k, seed)
        test_of = {f"{i}": fold_of == i for i in range(k)}
    else:
        raise ValueError(f"unknown scheme {scheme!r}; choose blocked, koppen or biome")
    parts = []
    for i, (name, test) in enumerate(test_of.items()):
        rest = np.flatnonzero(~test & ~np.isin(block, block[test]))
        valid = validation_blocks(block[rest], igbp[rest], seed + i)
        parts.append(Fold(name, order[rest[~valid]], order[rest[valid]], order[test]))
    return parts


def resplit_validation(fold: Fold, samples: Samples, seed: int) -> Fold:
    """Choose other early-stopping towers for another member; seed 0 leaves the fold as it is."""
    if seed == 0 or not len(fold.valid):
        return fold
    towers = np.concatenate([fold.train, fold.valid])
    towers = towers[np.argsort(samples.site[towers])]  # not by their order in the file
    table = samples.table.iloc[towers]
    held = validation_blocks(blocks(table), table.igbp.to_numpy(str), seed)
    return replace(fold, train=towers[~held], valid=towers[held])


def validation_blocks(block: NDArray[np.intp], stratum: NDArray, seed: int) -> NDArray[np.bool_]:
    """Choose whole blocks, about one tower in eight, as a mask (site,) for early stopping.

    A part at random: the first would always hold the largest block, ten towers of one landscape.
    """
    k = min(SHARE, len(np.unique(block)))
    if k < 2:
        raise ValueError("early stopping needs at least two separate blocks of towers")
    part = np.random.default_rng([seed, k]).integers(k)
    return np.asarray(assign_folds(block, stratum, k, seed) == part)
