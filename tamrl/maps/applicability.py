"""Area of applicability of an average year: how unlike each cell is to the training towers.

A cell is taken for towers, as the map takes it (`tamrl.maps.cells`), and these are placed in the
space of attributes that the training towers span (`tamrl.shipped.applicability`).
"""

import numpy as np
import xarray as xr

from tamrl.maps.cells import AVERAGE_YEAR, Cells
from tamrl.maps.cubes import stack_features
from tamrl.shipped.applicability import Space

CELLS = 2048  # taken for towers at once: bounds the memory


def dissimilarity_map(space: Space, grid: xr.Dataset) -> xr.Dataset:
    """Place the land cells of a grid (month, lat, lon) in a space; NaN without drivers or land.

    Dataset: DI, the dissimilarity index, and outside, the share of the cell's vegetation that is
    beyond the threshold (both lat, lon; 1); point (lat, lon, column of the space), where the
    class of the largest share stands.
    """
    grid = grid.transpose(..., "lat", "lon")
    x = stack_features(grid, AVERAGE_YEAR, ("lat", "lon"))
    land = np.isfinite(x).all(axis=(1, 2)) & (grid["land_fraction"].to_numpy().ravel() > 0)
    cells, places = Cells(AVERAGE_YEAR, None, grid), np.flatnonzero(land)
    shape = grid.sizes["lat"], grid.sizes["lon"]
    index, outside = (np.full(len(x), np.nan, np.float32) for _ in range(2))
    point = np.full((len(x), space.points.shape[1]), np.nan, np.float32)
    for at in np.array_split(places, -(-len(places) // CELLS) or 1):
        parts = cells(x[at])
        placed = space.placed(parts.samples)
        found = space.index(placed)
        index[at], outside[at] = parts.added(found), parts.added(found > space.threshold)
        point[at] = placed[parts.largest]
    axes = {"lat": grid["lat"], "lon": grid["lon"]}
    about = {"threshold": space.threshold, "references": "doi:10.1111/2041-210X.13650"}
    out = xr.Dataset(coords=axes, attrs=about)
    text = "dissimilarity to the training towers (1: their mean distance)"
    out["DI"] = tuple(axes), index.reshape(shape), {"units": "1", "long_name": text}
    text = "share of the vegetation outside the area of applicability"
    out["outside"] = tuple(axes), outside.reshape(shape), {"units": "1", "long_name": text}
    out["point"] = (*axes, "column"), point.reshape(*shape, -1), {"units": "1"}
    return out
