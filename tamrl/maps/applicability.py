"""Where a map may be believed: how far a cell is from all that the towers have shown.

The dissimilarity index of Meyer & Pebesma (2021, doi:10.1111/2041-210X.13650), in the feature space
of `tamrl.maps.boosted.BoostedMap`: the month's drivers, their mean and range over the year, and the
facts about the place. A point is a month at a place. Predictors are scaled by the training towers
and weighted by permutation importance; the index is the distance to the nearest training month
divided by the mean distance between training months. Beyond the outer whisker of the training
towers' own indices, each taken against towers of other folds, nothing is known of the error.

A missing predictor counts as the mean over the training towers, as in `tamrl.samples.arrays.Scaler`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from tamrl.data.cube import cell_area
from tamrl.data.gridfiles import MONTH_DAYS
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.boosted import INPUTS, MAP_FEATURES, MONTHLY, BoostedMap, model_inputs
from tamrl.maps.cubes import stack_features
from tamrl.maps.upscale import vegetated
from tamrl.samples.splits import distance_km

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

BUFFER_KM = 50.0  # towers nearer to each other stay in one fold
WHISKER = 1.5  # interquartile ranges beyond the upper quartile
PLACES = 4096  # looked up at once: bounds the memory


@dataclass(frozen=True)
class FeatureSpace:
    """Scaled and weighted predictors of the training towers, and what counts as far from them.

    ``mean``, ``scale``, ``weight`` (column,); ``points`` (point, column); ``distance``: mean over
    all pairs of points; ``training`` (site, month): index of each against towers of other folds,
    NaN where there are no fluxes; ``threshold``: outer whisker of these.
    """

    mean: Floats
    scale: Floats
    weight: Floats
    points: Floats
    distance: float
    training: Floats
    threshold: float

    def place(self, inputs: npt.NDArray[np.floating]) -> Floats:
        """Put rows of `model_inputs` (…, column) into the space; columns of weight 0 are gone."""
        used = self.weight > 0
        scaled = (inputs[..., used] - self.mean[used]) / self.scale[used]
        return np.nan_to_num(scaled) * self.weight[used]

    def dissimilarity(self, x: npt.NDArray[np.floating]) -> Floats:
        """Index (place, month) of predictors (place, month, feature) in the order of a map's."""
        placed = self.place(model_inputs(x))
        near, _ = cKDTree(self.points).query(placed.reshape(-1, placed.shape[-1]))
        return near.reshape(x.shape[:2]) / self.distance


def tower_blocks(table: xr.Dataset) -> Indices:
    """Label towers (site,): those within 50 km or in one cell of the grid share a block."""
    near = distance_km(table["lat"].to_numpy(), table["lon"].to_numpy()) <= BUFFER_KM
    cells = table["cell_lat"].to_numpy() * 1000 + table["cell_lon"].to_numpy()
    same = near | (cells[:, None] == cells)
    return np.asarray(connected_components(same, directed=False)[1], np.intp)


def tower_folds(table: xr.Dataset, folds: int = 10, seed: int = 0) -> Indices:
    """Deal whole blocks of towers to folds at random: a number for each tower (site,)."""
    block = tower_blocks(table)
    return np.random.default_rng(seed).permutation(block.max() + 1)[block] % folds


def with_fluxes(table: xr.Dataset) -> xr.Dataset:
    """Keep the towers of a monthly training table that have fluxes in some month."""
    return table.isel(site=(table["weight"] > 0).any("month").to_numpy())


def held_out(
    table: xr.Dataset, fold: Indices, seed: int = 0, repeats: int = 3, rounds: int | None = None
) -> tuple[xr.Dataset, pd.Series]:
    """Predict every tower by a model that has not seen its fold, and weigh the predictors there.

    A predictor's importance is the rise of squared error when its values are shuffled among the
    months of the held-out towers, as a share of the fluxes' variance and averaged over fluxes.

    Parameters
    ----------
    table
        From `tamrl.maps.boosted.monthly_training_table`, towers with fluxes only.
    fold
        As from `tower_folds`.
    seed, repeats
        Of the shuffling.
    rounds
        Number of trees; None chooses it by cross-validation within the training towers.

    Returns
    -------
    predictions, importance
        mean and observed (site, month, flux), gC m-2 d-1; importance by name of INPUTS.
    """
    x = table["x"].sel(feature=list(MAP_FEATURES)).to_numpy()
    y, known = table["y"].to_numpy(), table["weight"].to_numpy() > 0
    variance = y[known].var(axis=0)
    mean = np.full(y.shape, np.nan, np.float32)
    rise = np.zeros(len(INPUTS))
    for k in np.unique(fold):
        model = BoostedMap(seed=None, rounds=rounds).fit(table, np.flatnonzero(fold != k))
        inside = (fold == k)[:, None] & known
        rows, truth = model_inputs(x[fold == k])[known[fold == k]], y[inside]
        mean[inside] = model.from_inputs(rows)
        error = ((mean[inside] - truth) ** 2 / variance).sum()
        rng = np.random.default_rng([seed, k])
        for j in range(len(INPUTS)):
            for _ in range(repeats):
                shuffled = rows.copy()
                shuffled[:, j] = rng.permutation(rows[:, j])
                changed = ((model.from_inputs(shuffled) - truth) ** 2 / variance).sum()
                rise[j] += (changed - error) / repeats
    dims = ("site", "month", "flux")
    predictions = xr.Dataset({"mean": (dims, mean), "observed": table["y"]})
    return predictions, pd.Series(rise / (known.sum() * len(FLUXES)), INPUTS, name="importance")


def feature_space(table: xr.Dataset, importance: pd.Series, fold: Indices) -> FeatureSpace:
    """Span the space of the towers of a training table.

    Parameters
    ----------
    table, fold
        As for `held_out`.
    importance
        By name of INPUTS; below 0 (no use at held-out towers) counts as 0.

    Raises
    ------
    DataError
        When no predictor has a positive importance, or all towers are in one fold.
    """
    weight = np.maximum(importance.reindex(list(INPUTS)).to_numpy(float), 0)
    if not (weight > 0).any():
        raise DataError("importance: no predictor has one above 0; the model has learned nothing")
    if len(np.unique(fold)) < 2:
        raise DataError("folds: all towers are in one; at least two are needed for the threshold")
    x = table["x"].sel(feature=list(MAP_FEATURES)).to_numpy()
    known = table["weight"].to_numpy() > 0
    inputs = model_inputs(x)[known].astype(float)
    with np.errstate(invalid="ignore"):
        mean, scale = _moments(inputs)
    start = FeatureSpace(mean, scale, weight, np.empty((0, 0)), 1.0, np.empty((0, 0)), 0.0)
    points = start.place(inputs)
    distance = float(pdist(points).mean())
    training = np.full(known.shape, np.nan)
    own = np.broadcast_to(fold[:, None], known.shape)[known]
    index = np.empty(len(points))
    for k in np.unique(fold):
        index[own == k], _ = cKDTree(points[own != k]).query(points[own == k])
    training[known] = index / distance
    return FeatureSpace(mean, scale, weight, points, distance, training, outer_whisker(training))


def outer_whisker(values: Floats) -> float:
    """Largest value within 1.5 interquartile ranges above the upper quartile."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.25, 0.75])
    return float(known[known <= high + WHISKER * (high - low)].max())


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Column means and standard deviations of known values; (0, 1) where nothing varies."""
    known = np.isfinite(values)
    n = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0).sum(axis=0) / n
    scale = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(axis=0) / n)
    return mean, np.where(scale > 1e-6, scale, 1.0)


def dissimilarity_map(space: FeatureSpace, cube: xr.Dataset) -> xr.Dataset:
    """Draw the index over a predictor cube (month, lat, lon).

    Returns
    -------
    Dataset with DI (month, lat, lon), NaN where a driver is missing or there is no land, and
    outside (lat, lon): share of the year in which the index is beyond the threshold.
    """
    cube = cube.transpose(..., "lat", "lon")
    x = stack_features(cube, MAP_FEATURES, ("lat", "lon"))
    drivers = x[..., : len(MONTHLY)]
    land = np.isfinite(drivers).all(axis=(1, 2))
    land &= np.nan_to_num(cube["land_fraction"].to_numpy().ravel()) > 0
    index = np.full(x.shape[:2], np.nan, np.float32)
    cells = np.flatnonzero(land)
    for part in np.array_split(cells, -(-len(cells) // PLACES) or 1):
        index[part] = space.dissimilarity(x[part])
    days = MONTH_DAYS / MONTH_DAYS.sum()
    outside = np.where(land, ((index > space.threshold) * days).sum(axis=1), np.nan)
    shape = (cube.sizes["lat"], cube.sizes["lon"])
    text = {"long_name": "dissimilarity to the training towers (1: their mean distance)"}
    share = {"long_name": "share of the year outside the area of applicability", "units": "1"}
    return xr.Dataset(
        {
            "DI": (("month", "lat", "lon"), index.T.reshape(12, *shape), {"units": "1", **text}),
            "outside": (("lat", "lon"), outside.reshape(shape), share),
        },
        coords={"month": np.arange(1, 13), "lat": cube["lat"], "lon": cube["lon"]},
        attrs={"threshold": space.threshold, "references": "doi:10.1111/2041-210X.13650"},
    )


def shares_outside(index: xr.Dataset, fluxes: xr.Dataset, cube: xr.Dataset) -> pd.Series:
    """Share (0 to 1) of land, of each flux and of its uncertainty outside the area, over the year.

    Land counts by area and length of the months outside, all of it and the vegetated part; a flux
    by its amount there (NEE by its absolute value); its uncertainty by the standard deviation over
    the ensemble. Land whose drivers are unknown counts neither as inside nor as outside.

    Parameters
    ----------
    index
        From `dissimilarity_map`.
    fluxes
        Monthly climatology as from `tamrl.maps.upscale.upscale`.
    cube
        Predictor cube that both were made from.

    Raises
    ------
    DataError
        When the three are not on one grid.
    """
    for other in (index, cube):
        if not all(np.array_equal(other[axis], fluxes[axis]) for axis in ("lat", "lon")):
            raise DataError("share outside: map, index and cube are on different grids; redo one")
    land = np.nan_to_num(fluxes["land_fraction"].transpose("lat", "lon").to_numpy())
    weight = MONTH_DAYS[:, None, None] * cell_area(fluxes["lat"], fluxes["lon"]) * land
    value = index["DI"].to_numpy()
    weight, beyond = np.where(np.isfinite(value), weight, 0), value > index.attrs["threshold"]
    green = vegetated(cube).reshape(land.shape)
    amounts = {"land": np.ones(land.shape), "vegetated land": green}
    for flux in FLUXES:
        amounts[flux] = np.abs(fluxes[flux].transpose("time", "lat", "lon").to_numpy())
    for flux in FLUXES:
        spread = fluxes[f"{flux}_sd"].transpose("time", "lat", "lon").to_numpy()
        amounts[f"uncertainty of {flux}"] = spread
    sums = {name: np.nan_to_num(amount) * weight for name, amount in amounts.items()}
    shares = {name: part[beyond].sum() / part.sum() for name, part in sums.items()}
    return pd.Series(shares, name="share outside")
