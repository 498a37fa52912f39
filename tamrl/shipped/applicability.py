"""Area of applicability: how far a place is from the training towers in what matters to a model.

Dissimilarity index of Meyer & Pebesma (2021, doi:10.1111/2041-210X.13650): predictors scaled by the
training points (missing ones at their mean) and weighted by importance; distance to the nearest
training point over the mean distance between training points. Beyond the outer whisker of the
training points' own indices, each against the other folds, the error is unknown.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.preprocessing import StandardScaler

from tamrl.errors import DataError
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import blocks, folds
from tamrl.shipped.annual import own_means

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
TREES = 300  # for the importance of site attributes
FOLDS = 10  # of towers, blocks of 50 km apart


@dataclass(frozen=True)
class Space:
    """Scaled and weighted predictors of the training points, and what counts as far from them."""

    mean: Floats  # (column,), as the two below
    scale: Floats
    weight: Floats
    points: Floats  # (point, column of weight above 0)
    distance: float  # mean over all pairs of points
    training: Floats  # (point,): index against points of other folds
    threshold: float  # outer whisker of these

    def scaled(self, values: npt.NDArray) -> Floats:
        """Scale and weight values (…, column); missing ones at the mean, no column of weight 0."""
        return _scaled(values, self.mean, self.scale, self.weight)

    def index(self, values: npt.NDArray) -> Floats:
        """Dissimilarity (…) of values (…, column)."""
        return np.asarray(cKDTree(self.points).query(self.scaled(values))[0] / self.distance)


def _scaled(values: npt.NDArray, mean: Floats, scale: Floats, weight: Floats) -> Floats:
    used = weight > 0
    return np.nan_to_num((values[..., used] - mean[used]) / scale[used]) * weight[used]


def span(values: npt.NDArray, weight: Floats, fold: Indices) -> Space:
    """Span the space of training points: ``values`` (point, column), ``fold`` (point,).

    A ``weight`` (column,) below 0 counts as 0. DataError when none is above 0, or all points are in
    one fold.
    """
    weight = np.maximum(weight, 0)
    if not (weight > 0).any():
        raise DataError("importance: no predictor has one above 0; the model has learned nothing")
    if len(np.unique(fold)) < 2:
        raise DataError("folds: all towers are in one; at least two are needed for the threshold")
    with np.errstate(invalid="ignore"):  # a predictor unknown at all towers
        scaler = StandardScaler().fit(values)
    weight = np.where(np.isfinite(scaler.mean_), weight, 0)  # known nowhere: it sets nobody apart
    points = _scaled(values, scaler.mean_, scaler.scale_, weight)
    distance, near = float(pdist(points).mean()), np.empty(len(points))
    for k in np.unique(fold):
        near[fold == k], _ = cKDTree(points[fold != k]).query(points[fold == k])
    training = near / distance
    about = scaler.mean_, scaler.scale_, weight, points, distance, training
    return Space(*about, outer_whisker(training))


def outer_whisker(values: Floats) -> float:
    """Largest value within 1.5 interquartile ranges above the upper quartile."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.25, 0.75])
    return float(known[known <= high + 1.5 * (high - low)].max())


def attribute_space(samples: Samples) -> Space:
    """Span the space of the training towers' static attributes (`Samples.static_names`).

    They are climate and season of the tower's own weather, satellites, the grid, soil, vegetation
    and climate class. Importance: decrease of variance in extremely randomised trees (Geurts et al.
    2006, doi:10.1007/s10994-006-6226-1) from them to the towers' annual GPP and RECO; equal where
    fewer than two towers have ten labelled months. DataError for fewer than two blocks of towers.
    """
    values, fold = samples.static.astype(float), np.empty(len(samples.site), np.intp)
    count = max(2, min(FOLDS, len(np.unique(blocks(samples.table)))))
    for k, part in enumerate(folds(samples, count)):
        fold[part.test] = k
    y = own_means(samples)
    known = np.isfinite(y).all(1)
    if known.sum() < 2:
        return span(values, np.ones(values.shape[1]), fold)
    trees = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
    with np.errstate(invalid="ignore"):
        x = np.nan_to_num(StandardScaler().fit_transform(values))
    trees.fit(x[known], StandardScaler().fit_transform(y[known]))
    return span(values, trees.feature_importances_, fold)


def to_dict(space: Space, names: tuple[str, ...]) -> dict[str, Any]:
    """Give a space and the ``names`` of its columns as plain lists; unimportant ones are left out.

    Points are rounded to 1e-5 of the scale, the columns' sd times their weight.
    """
    used = np.flatnonzero(space.weight > 0)
    columns = {n: getattr(space, n)[used].tolist() for n in ("mean", "scale", "weight")}
    points = space.points.round(5).tolist()
    rest = {"points": points, "distance": space.distance, "threshold": space.threshold}
    return {"names": [names[k] for k in used], **columns, **rest}


def from_dict(about: dict[str, Any]) -> tuple[Space, tuple[str, ...]]:
    """Make a space and the names of its columns again of what `to_dict` gave."""
    mean, scale, weight, points = (
        np.array(about[n], float) for n in ("mean", "scale", "weight", "points")
    )
    rest = about["distance"], np.empty(0), about["threshold"]
    return Space(mean, scale, weight, points, *rest), tuple(about["names"])
