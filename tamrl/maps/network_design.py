"""Where the next tower helps most: cells that bring most land nearer to a tower.

A tower stands in the class of vegetation that covers most of its cell, and adds that point to the
space of `tamrl.maps.applicability`. Each step takes the cell that lowers the weighted mean
dissimilarity over land by most. The mean is submodular: an old gain bounds a new one (lazy greedy;
Minoux 1978, doi:10.1007/BFb0006528), and the whole gain is at least 63 % of the best (Nemhauser et
al. 1978, doi:10.1007/BF01588971).
"""

import heapq

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.spatial import cKDTree

from tamrl.data.cube import cell_area
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.errors import DataError
from tamrl.maps.cubes import BARE
from tamrl.maps.upscale import vegetated
from tamrl.shipped.applicability import Floats, Indices, Space

MOST = 20_000  # cells that compete and are counted; a finer grid is thinned evenly


class Cover:
    """Distance of each place to the nearest tower, and what another tower would change.

    ``points`` (place, column): all places; ``weight`` (place,), 0 for those that only can be added;
    ``towers`` (tower, column); ``near`` (counted place,): distance to the nearest tower.
    """

    def __init__(self, points: npt.NDArray, weight: npt.NDArray, towers: npt.NDArray) -> None:
        self.points = points.astype(np.float32)
        self.counted = self.points[weight > 0]
        self.norm = (self.counted**2).sum(axis=1)
        self.share = weight[weight > 0] / weight.sum()
        self.near = cKDTree(towers).query(self.counted)[0]

    def _distance(self, place: int) -> npt.NDArray:
        """Distance of each counted place to one place."""
        one = self.points[place]
        square = self.norm + one @ one - 2 * (self.counted @ one)
        return np.sqrt(np.maximum(square, 0))

    def mean(self) -> float:
        """Weighted mean distance."""
        return float(self.near @ self.share)

    def gain(self, place: int) -> float:
        """By how much a tower at a place would lower the mean."""
        return float(np.maximum(self.near - self._distance(place), 0) @ self.share)

    def add(self, place: int) -> float:
        """Put a tower at a place; the mean distance after it."""
        self.near = np.minimum(self.near, self._distance(place))
        return self.mean()


def greedy(start: Cover, candidates: Indices, count: int) -> tuple[Indices, Floats]:
    """Add `count` of the candidate places to ``start``, each time the one of largest gain.

    Returns the places in order (count,), and the mean distance before and after each (count + 1,).
    """
    queue = [(-start.gain(int(c)), int(c)) for c in candidates]
    heapq.heapify(queue)
    order, means = list[int](), [start.mean()]
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
    space: Space, index: xr.Dataset, grid: xr.Dataset, count: int = 20,
    weight: xr.DataArray | None = None, draws: int = 10, seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Rank land cells by how much a tower there lowers the mean dissimilarity over land.

    ``index`` of `dissimilarity_map` for this space and ``grid``; more than 20,000 land cells are
    thinned to every second, third … row and column. Land counts by its vegetated area, times
    ``weight`` (lat, lon), such as the uncertainty of GPP, also in ``draws`` random networks.
    DataError when no land cell counts.

    Two tables: rank, lat, lon, igbp (largest vegetated share), koppen, gain (% of the mean
    dissimilarity); and by number of towers added, mean dissimilarity by the rule ("rule"), its mean
    and range over random networks ("random", "lowest", "highest").
    """
    area = cell_area(grid["lat"], grid["lon"])
    land = np.nan_to_num(grid["land_fraction"].transpose("lat", "lon").to_numpy())
    counted = land * area * vegetated(grid).reshape(area.shape)
    counted = np.where(np.isfinite(index["DI"].to_numpy()), counted, 0)
    if weight is not None:
        counted = counted * np.nan_to_num(weight.transpose("lat", "lon").to_numpy())
    step = max(int(np.ceil(np.sqrt((counted > 0).sum() / MOST))), 1)
    thin = slice(step // 2, None, step)
    row, col = (k * step + step // 2 for k in np.nonzero(counted[thin, thin] > 0))
    if not len(row):
        raise DataError("network: no land cell with all drivers counts; check grid and weight")
    counts = counted[row, col].astype(np.float64)
    start = Cover(index["point"].to_numpy()[row, col], counts, space.points)
    bare = start.near
    order, means = greedy(start, np.arange(len(row)), count)
    rng = np.random.default_rng(seed)
    chance = np.full((draws, len(order) + 1), means[0])
    for k in range(draws):
        start.near = bare
        picks = rng.choice(len(row), len(order), replace=False, p=counts / counts.sum())
        chance[k, 1:] = [start.add(int(place)) for place in picks]
    curve = pd.DataFrame({"rule": means, "random": chance.mean(axis=0)}) / space.distance
    curve["lowest"], curve["highest"] = np.array([chance.min(0), chance.max(0)]) / space.distance
    curve = curve.rename_axis("towers added")
    at = grid.isel(lat=("rank", row[order]), lon=("rank", col[order]))
    classes = at["igbp_fraction"].sel(igbp=~at["igbp"].isin(BARE)).fillna(0)
    cells = {
        "lat": at["lat"].to_numpy(), "lon": at["lon"].to_numpy(),
        "igbp": classes["igbp"][classes.argmax("igbp")].to_numpy(),
        "koppen": np.array(("", *KOPPEN_CODES))[at["koppen"].to_numpy().astype(int)],
        "gain": -100 * np.diff(means) / means[0],
    }  # fmt: skip
    return pd.DataFrame(cells, pd.RangeIndex(1, len(order) + 1, name="rank")), curve
