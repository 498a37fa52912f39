"""Area of applicability: the dissimilarity of a cell from the training towers.

Dissimilarity index of Meyer & Pebesma (2021, doi:10.1111/2041-210X.13650): predictors of a month at
a place, scaled by the training towers (missing ones at their mean) and weighted by permutation
importance; distance to the nearest training month over the mean distance between training months.
Beyond the outer whisker of towers' indices against other folds, the error is unknown.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from sklearn.preprocessing import StandardScaler

from tamrl.data.cube import cell_area
from tamrl.data.gridfiles import MONTH_DAYS
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.monthly import BoostedMap
from tamrl.maps.training import (
    INPUTS,
    Indices,
    land_predictors,
    model_inputs,
    season_samples,
    table_samples,
)
from tamrl.maps.upscale import vegetated

Floats = npt.NDArray[np.float64]
PLACES = 4096  # looked up at once: bounds the memory


@dataclass(frozen=True)
class FeatureSpace:
    """Scaled and weighted predictors of the training towers, and what counts as far from them."""

    mean: Floats  # (column,), as the two below
    scale: Floats
    weight: Floats
    points: Floats  # (point, column)
    distance: float  # mean over all pairs of points
    training: Floats  # (site, month): index against towers of other folds, NaN without fluxes
    threshold: float  # outer whisker of these

    def place(self, x: npt.NDArray[np.float32]) -> Floats:
        """Points (place, month, column) of predictors (place, month, MAP_FEATURES)."""
        inputs = model_inputs(season_samples(x), np.arange(len(x)))
        return _scaled(inputs, self.mean, self.scale, self.weight)

    def dissimilarity(self, x: npt.NDArray[np.float32]) -> Floats:
        """Index (place, month) of predictors (place, month, MAP_FEATURES)."""
        return np.asarray(cKDTree(self.points).query(self.place(x))[0] / self.distance)


def _scaled(values: npt.NDArray, mean: Floats, scale: Floats, weight: Floats) -> Floats:
    """Scale and weight columns (…, column); missing values at the mean, no column of weight 0."""
    used = weight > 0
    return np.nan_to_num((values[..., used] - mean[used]) / scale[used]) * weight[used]


def held_out(
    table: xr.Dataset, fold: Indices, seed: int = 0, repeats: int = 3, rounds: int | None = None
) -> tuple[xr.Dataset, pd.Series]:
    """Predict every tower by trees that have not seen its fold; permutation importance there.

    Importance: rise of squared error when values are shuffled among held-out months, as a share of
    the fluxes' variance, mean over fluxes. ``table``: towers with fluxes; ``fold`` (site,): see
    `tower_folds`; ``rounds`` of trees, None: by cross-validation. Returns mean and observed (site,
    month, flux), gC m-2 d-1, and importance by name of INPUTS.
    """
    samples = table_samples(table)
    inputs = model_inputs(samples, np.arange(len(samples.site)))
    y, known = samples.y, samples.weight > 0
    variance, rise = y[known].var(axis=0), np.zeros(len(INPUTS))
    mean = np.full(y.shape, np.nan, np.float32)
    for k in np.unique(fold):
        model = BoostedMap(bootstrap=False, rounds=rounds).fit(samples, np.flatnonzero(fold != k))
        inside = (fold == k)[:, None] & known
        rows, truth = inputs[inside], y[inside]
        mean[inside] = model.from_inputs(rows)
        error = ((mean[inside] - truth) ** 2 / variance).sum()
        rng = np.random.default_rng([seed, k])
        for j in np.repeat(np.arange(len(INPUTS)), repeats):
            shuffled = rows.copy()
            shuffled[:, j] = rng.permutation(rows[:, j])
            changed = ((model.from_inputs(shuffled) - truth) ** 2 / variance).sum()
            rise[j] += (changed - error) / repeats
    predictions = xr.Dataset({"mean": (table["y"].dims, mean), "observed": table["y"]})
    return predictions, pd.Series(rise / (known.sum() * len(FLUXES)), INPUTS, name="importance")


def feature_space(table: xr.Dataset, importance: pd.Series, fold: Indices) -> FeatureSpace:
    """Span the space of training towers; ``table``, ``fold`` and ``importance`` as of `held_out`.

    Importance below 0 counts as 0. DataError when none is above 0, or all towers are in one fold.
    """
    weight = np.maximum(importance.reindex(list(INPUTS)).to_numpy(float), 0)
    if not (weight > 0).any():
        raise DataError("importance: no predictor has one above 0; the model has learned nothing")
    if len(np.unique(fold)) < 2:
        raise DataError("folds: all towers are in one; at least two are needed for the threshold")
    samples = table_samples(table)
    known = samples.weight > 0
    inputs = model_inputs(samples, np.arange(len(known)))[known].astype(float)
    with np.errstate(invalid="ignore"):  # a predictor unknown at all towers
        scaler = StandardScaler().fit(inputs)
    points = _scaled(inputs, scaler.mean_, scaler.scale_, weight)
    distance, of_point = float(pdist(points).mean()), np.repeat(fold, known.sum(axis=1))
    training, near = np.full(known.shape, np.nan), np.empty(len(points))
    for k in np.unique(fold):
        near[of_point == k], _ = cKDTree(points[of_point != k]).query(points[of_point == k])
    training[known] = near / distance
    whisker = outer_whisker(training)
    return FeatureSpace(scaler.mean_, scaler.scale_, weight, points, distance, training, whisker)


def outer_whisker(values: Floats) -> float:
    """Largest value within 1.5 interquartile ranges above the upper quartile."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.25, 0.75])
    return float(known[known <= high + 1.5 * (high - low)].max())


def dissimilarity_map(space: FeatureSpace, cube: xr.Dataset) -> xr.Dataset:
    """Dissimilarity index DI (month, lat, lon) over a cube, NaN without drivers or land.

    And outside (lat, lon): share of the year in which the index is beyond the threshold.
    """
    x, land = land_predictors(cube)
    index, cells = np.full(x.shape[:2], np.nan, np.float32), np.flatnonzero(land)
    for part in np.array_split(cells, -(-len(cells) // PLACES) or 1):
        index[part] = space.dissimilarity(x[part])
    days = MONTH_DAYS / MONTH_DAYS.sum()
    outside = np.where(land > 0, ((index > space.threshold) * days).sum(axis=1), np.nan)
    axes = {"month": np.arange(1, 13), "lat": cube["lat"], "lon": cube["lon"]}
    shape = (12, cube.sizes["lat"], cube.sizes["lon"])
    about = {"threshold": space.threshold, "references": "doi:10.1111/2041-210X.13650"}
    out = xr.Dataset(coords=axes, attrs=about)
    text = "dissimilarity to the training towers (1: their mean distance)"
    out["DI"] = tuple(axes), index.T.reshape(shape), {"units": "1", "long_name": text}
    text = "share of the year outside the area of applicability"
    out["outside"] = ("lat", "lon"), outside.reshape(shape[1:]), {"units": "1", "long_name": text}
    return out


def shares_outside(index: xr.Dataset, fluxes: xr.Dataset, cube: xr.Dataset) -> pd.Series:
    """Share (0 to 1) of land, of each flux and of its uncertainty outside the area, over the year.

    Land (all, vegetated) counts by area and length of months; a flux by its absolute amount; its
    uncertainty by the ensemble's sd. Land with unknown drivers is left out. ``index``: from
    `dissimilarity_map`; ``fluxes``: monthly climatology; DataError when grids differ.
    """
    for other in (index, cube):
        if not all(np.array_equal(other[axis], fluxes[axis]) for axis in ("lat", "lon")):
            raise DataError("share outside: map, index and cube are on different grids; redo one")
    land = np.nan_to_num(fluxes["land_fraction"].transpose("lat", "lon").to_numpy())
    weight = MONTH_DAYS[:, None, None] * cell_area(fluxes["lat"], fluxes["lon"]) * land
    value = index["DI"].to_numpy()
    weight, beyond = np.where(np.isfinite(value), weight, 0), value > index.attrs["threshold"]
    amounts = {"land": np.ones(land.shape), "vegetated land": vegetated(cube).reshape(land.shape)}
    fields = {flux: fluxes[flux] for flux in FLUXES}
    fields |= {f"uncertainty of {flux}": fluxes[f"{flux}_sd"] for flux in FLUXES}
    amounts |= {n: np.abs(v.transpose("time", "lat", "lon").values) for n, v in fields.items()}
    sums = {name: np.nan_to_num(amount) * weight for name, amount in amounts.items()}
    shares = {name: part[beyond].sum() / part.sum() for name, part in sums.items()}
    return pd.Series(shares, name="share outside")
