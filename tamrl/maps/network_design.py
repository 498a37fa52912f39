"""Where the next tower helps most: cells that bring most land nearer to a tower.

A tower in a cell adds the twelve months of that cell to the training towers' feature space
(`tamrl.maps.applicability`). Each step takes the cell that lowers the weighted mean dissimilarity
over land by most. That mean can only fall, and the more towers there are, the less one more helps
(it is submodular): an old gain bounds a new one from above, so that few cells need to be looked at
again (lazy greedy; Minoux 1978, doi:10.1007/BFb0006528), and the whole gain is at least 63 % of the
best possible (Nemhauser et al. 1978, doi:10.1007/BF01588971).

Whether the rule finds towers that help is tested where there are towers: `tamrl.study.trust`.
"""

import heapq

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from tamrl.data.cube import cell_area
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.errors import DataError
from tamrl.maps.applicability import FeatureSpace
from tamrl.maps.cubes import stack_features
from tamrl.maps.training import MAP_FEATURES, MONTHLY, Indices, model_inputs, season_samples
from tamrl.maps.upscale import BARE, vegetated

Floats = npt.NDArray[np.float32]

ROWS = 8192  # counted months looked up at once: bounds the memory
MOST = 4500  # cells that compete and are counted; a finer grid is thinned evenly


class Cover:
    """Distance of each month of each place to the towers, and what another tower would change.

    ``points`` (place, month, column): all places, in a feature space; ``weight`` (place,): what
    each counts, 0 for places that are not counted but can still be added; ``towers`` (tower month,
    column) to start from; ``near`` (counted place * month,): distance to the nearest tower.
    """

    def __init__(
        self,
        points: npt.NDArray[np.floating],
        weight: npt.NDArray[np.float64],
        towers: npt.NDArray[np.floating],
    ) -> None:
        self.points = points.astype(np.float32)
        self.months = points.shape[1]
        counted = np.flatnonzero(weight > 0)
        self.flat = self.points[counted].reshape(-1, points.shape[-1])
        self.norm = (self.flat**2).sum(axis=1)
        self.share = weight[counted] / weight.sum() / self.months
        towers = towers.astype(np.float32)
        parts = (slice(i, i + ROWS) for i in range(0, len(self.flat), ROWS))
        self.near = np.concatenate([self._distance(towers, part) for part in parts])

    def _distance(self, others: Floats, part: slice = slice(None)) -> Floats:
        """Distance of each counted month to the nearest of other points (point, column)."""
        square = (others**2).sum(axis=1)[:, None] + self.norm[part] - 2 * others @ self.flat[part].T
        return np.sqrt(np.maximum(square.min(axis=0), 0))

    def _mean(self, distance: Floats) -> float:
        return float(distance.reshape(-1, self.months).sum(axis=1) @ self.share)

    def mean(self) -> float:
        """Weighted mean distance."""
        return self._mean(self.near)

    def gain(self, place: int) -> float:
        """By how much a tower at a place would lower the mean."""
        return self._mean(np.maximum(self.near - self._distance(self.points[place]), 0))

    def add(self, place: int) -> None:
        """Put a tower at a place."""
        self.near = np.minimum(self.near, self._distance(self.points[place]))


def greedy(start: Cover, candidates: Indices, count: int) -> tuple[Indices, npt.NDArray]:
    """Add `count` of the candidate places, each time the one that lowers the mean by most.

    Returns the places in the order in which they are taken, (count,), and the mean distance before
    any and after each of them, (count + 1,). ``start`` holds all of them afterwards.
    """
    queue = [(-start.gain(int(c)), int(c)) for c in candidates]
    heapq.heapify(queue)
    order: list[int] = []
    means = [start.mean()]
    while queue and len(order) < count:
        _, place = heapq.heappop(queue)
        gain = start.gain(place)
        if queue and gain < -queue[0][0]:  # another may be better now
            heapq.heappush(queue, (-gain, place))
            continue
        start.add(place)
        order.append(place)
        means.append(start.mean())
    return np.array(order, np.intp), np.array(means)


def next_towers(
    space: FeatureSpace,
    cube: xr.Dataset,
    count: int = 20,
    weight: xr.DataArray | None = None,
    draws: int = 10,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank land cells by how much a tower there lowers the mean dissimilarity over land.

    ``space`` is from `tamrl.maps.applicability.feature_space`; ``cube`` has predictors (month, lat,
    lon), and more than 4,500 land cells are thinned to every second, third … row and column. Land
    counts by its vegetated area, times ``weight`` (lat, lon), such as the uncertainty of GPP; cells
    without a value count nothing. ``draws`` random networks of ``seed`` serve for comparison; their
    cells are sampled by what they count. DataError when no land cell counts.

    Two tables: rank, lat, lon, igbp (largest vegetated share), koppen, gain (% of the mean
    dissimilarity that the tower takes away); and by number of towers added, mean dissimilarity by
    the rule ("rule"), its mean and range over random networks ("random", "lowest", "highest").
    """
    row, col, x, counts = _cells(cube, weight)
    points = space.place(model_inputs(season_samples(x), np.arange(len(x))))
    start = Cover(points, counts, space.points)
    bare = start.near.copy()
    order, means = greedy(start, np.arange(len(points)), count)
    rng = np.random.default_rng(seed)
    chance = np.empty((draws, len(order) + 1))
    for k in range(draws):
        start.near = bare
        chance[k, 0] = start.mean()
        picks = rng.choice(len(points), len(order), replace=False, p=counts / counts.sum())
        for i, place in enumerate(picks):
            start.add(int(place))
            chance[k, i + 1] = start.mean()
    curve = pd.DataFrame(
        {"rule": means, "random": chance.mean(axis=0), "lowest": chance.min(axis=0),
         "highest": chance.max(axis=0)},
        index=pd.RangeIndex(len(means), name="towers added"),
    ) / space.distance  # fmt: skip
    classes = cube["igbp_fraction"].sel(igbp=[c for c in cube["igbp"].to_numpy() if c not in BARE])
    share = classes.transpose("lat", "lon", "igbp").to_numpy()[row, col]
    climate = cube["koppen"].transpose("lat", "lon").to_numpy()[row, col].astype(int)
    cells = pd.DataFrame(
        {
            "lat": cube["lat"].to_numpy()[row[order]],
            "lon": cube["lon"].to_numpy()[col[order]],
            "igbp": classes["igbp"].to_numpy()[np.nan_to_num(share[order]).argmax(axis=1)],
            "koppen": [("", *KOPPEN_CODES)[k] for k in climate[order]],
            "gain": -100 * np.diff(means) / means[0],
        },
        index=pd.RangeIndex(1, len(order) + 1, name="rank"),
    )
    return cells, curve


def _cells(
    cube: xr.Dataset, weight: xr.DataArray | None
) -> tuple[Indices, Indices, Floats, npt.NDArray[np.float64]]:
    """Rows, columns, predictors (cell, month, feature) and weights (cell,) of the thinned land."""
    cube = cube.transpose(..., "lat", "lon")
    land = np.nan_to_num(cube["land_fraction"].to_numpy())
    count = land * cell_area(cube["lat"], cube["lon"]) * vegetated(cube).reshape(land.shape)
    if weight is not None:
        count = count * np.nan_to_num(weight.transpose("lat", "lon").to_numpy())
    known = count > 0
    for name in MONTHLY:
        known &= np.isfinite(cube[name].to_numpy()).all(axis=0)
    step = max(int(np.ceil(np.sqrt(known.sum() / MOST))), 1)
    thin = np.zeros_like(known)
    thin[step // 2 :: step, step // 2 :: step] = True
    row, col = np.nonzero(known & thin)
    if not len(row):
        raise DataError("network: no land cell with all drivers counts; check cube and weight")
    x = stack_features(cube, MAP_FEATURES, ("lat", "lon"))
    return row, col, x[row * cube.sizes["lon"] + col], count[row, col].astype(np.float64)
