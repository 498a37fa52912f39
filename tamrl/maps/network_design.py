"""Where the next tower helps most: cells that bring most land nearer to a tower.

A tower adds the twelve months of its cell to the feature space of `tamrl.maps.applicability`. Each
step takes the cell that lowers the weighted mean dissimilarity over land by most. The mean is
submodular: an old gain bounds a new one (lazy greedy; Minoux 1978, doi:10.1007/BFb0006528), and the
whole gain is at least 63 % of the best (Nemhauser et al. 1978, doi:10.1007/BF01588971).
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
from tamrl.maps.cubes import BARE
from tamrl.maps.training import Floats, Indices, land_predictors
from tamrl.maps.upscale import vegetated

ROWS = 8192  # counted months looked up at once: bounds the memory
MOST = 4500  # cells that compete and are counted; a finer grid is thinned evenly


class Cover:
    """Distance of each month of each place to the towers, and what another tower would change.

    ``points`` (place, month, column): all places; ``weight`` (place,), 0 for those that only can be
    added; ``towers`` (tower month, column); ``near`` (counted place * month,): nearest tower.
    """

    def __init__(self, points: npt.NDArray, weight: npt.NDArray, towers: npt.NDArray) -> None:
        self.points, counted = points.astype(np.float32), np.flatnonzero(weight > 0)
        self.flat = self.points[counted].reshape(-1, points.shape[-1])
        self.norm = (self.flat**2).sum(axis=1)
        self.share = weight[counted] / weight.sum() / points.shape[1]
        towers = towers.astype(np.float32)
        parts = (slice(i, i + ROWS) for i in range(0, len(self.flat), ROWS))
        self.near = np.concatenate([self._distance(towers, part) for part in parts])

    def _distance(self, others: Floats, part: slice = slice(None)) -> Floats:
        """Distance of each counted month to the nearest of other points (point, column)."""
        square = (others**2).sum(axis=1)[:, None] + self.norm[part] - 2 * others @ self.flat[part].T
        return np.sqrt(np.maximum(square.min(axis=0), 0))

    def mean(self, distance: Floats) -> float:
        """Weighted mean of distances (counted place * month,)."""
        return float(distance.reshape(len(self.share), -1).sum(axis=1) @ self.share)

    def gain(self, place: int) -> float:
        """By how much a tower at a place would lower the mean."""
        return self.mean(np.maximum(self.near - self._distance(self.points[place]), 0))

    def add(self, place: int) -> float:
        """Put a tower at a place; the mean distance after it."""
        self.near = np.minimum(self.near, self._distance(self.points[place]))
        return self.mean(self.near)


def greedy(start: Cover, candidates: Indices, count: int) -> tuple[Indices, npt.NDArray]:
    """Add `count` of the candidate places to ``start``, each time the one of largest gain.

    Returns the places in order (count,), and the mean distance before and after each (count + 1,).
    """
    queue = [(-start.gain(int(c)), int(c)) for c in candidates]
    heapq.heapify(queue)
    order, means = list[int](), [start.mean(start.near)]
    while queue and len(order) < count:
        _, place = heapq.heappop(queue)
        gain = start.gain(place)
        if queue and gain < -queue[0][0]:  # another may be better now
            heapq.heappush(queue, (-gain, place))
        else:
            order.append(place)
            means.append(start.add(place))
    return np.array(order, np.intp), np.array(means)


def next_towers(
    space: FeatureSpace, cube: xr.Dataset, count: int = 20,
    weight: xr.DataArray | None = None, draws: int = 10, seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Rank land cells by how much a tower there lowers the mean dissimilarity over land.

    More than 4,500 land cells of ``cube`` (month, lat, lon) are thinned to every second, third …
    row and column. Land counts by its vegetated area, times ``weight`` (lat, lon), such as the
    uncertainty of GPP, also in ``draws`` random networks. DataError when no land cell counts.

    Two tables: rank, lat, lon, igbp (largest vegetated share), koppen, gain (% of the mean
    dissimilarity); and by number of towers added, mean dissimilarity by the rule ("rule"), its mean
    and range over random networks ("random", "lowest", "highest").
    """
    x, land = land_predictors(cube)
    area = cell_area(cube["lat"], cube["lon"])
    counted = land.reshape(area.shape) * area * vegetated(cube).reshape(area.shape)
    if weight is not None:
        counted = counted * np.nan_to_num(weight.transpose("lat", "lon").to_numpy())
    step = max(int(np.ceil(np.sqrt((counted > 0).sum() / MOST))), 1)
    thin = slice(step // 2, None, step)
    row, col = (k * step + step // 2 for k in np.nonzero(counted[thin, thin] > 0))
    if not len(row):
        raise DataError("network: no land cell with all drivers counts; check cube and weight")
    x, counts = x[row * cube.sizes["lon"] + col], counted[row, col].astype(np.float64)
    start = Cover(space.place(x), counts, space.points)
    bare = start.near
    order, means = greedy(start, np.arange(len(x)), count)
    rng = np.random.default_rng(seed)
    chance = np.full((draws, len(order) + 1), means[0])
    for k in range(draws):
        start.near = bare
        picks = rng.choice(len(x), len(order), replace=False, p=counts / counts.sum())
        chance[k, 1:] = [start.add(int(place)) for place in picks]
    curve = pd.DataFrame({"rule": means, "random": chance.mean(axis=0)}) / space.distance
    curve["lowest"], curve["highest"] = np.array([chance.min(0), chance.max(0)]) / space.distance
    curve = curve.rename_axis("towers added")
    at = cube.isel(lat=("rank", row[order]), lon=("rank", col[order]))
    classes = at["igbp_fraction"].sel(igbp=~at["igbp"].isin(BARE)).fillna(0)
    cells = {
        "lat": at["lat"].to_numpy(), "lon": at["lon"].to_numpy(),
        "igbp": classes["igbp"][classes.argmax("igbp")].to_numpy(),
        "koppen": np.array(("", *KOPPEN_CODES))[at["koppen"].to_numpy().astype(int)],
        "gain": -100 * np.diff(means) / means[0],
    }  # fmt: skip
    return pd.DataFrame(cells, pd.RangeIndex(1, len(order) + 1, name="rank")), curve
