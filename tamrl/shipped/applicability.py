"""Area of applicability: how far a place is from the training towers in what matters to a model.

Dissimilarity index of Meyer & Pebesma (2021, doi:10.1111/2041-210X.13650): predictors scaled by the
training points (missing ones at their mean) and weighted by importance; distance to the nearest
training point over the mean distance between training points. Beyond the outer whisker of the
training points' own indices, each against the other folds, the error is unknown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

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
    """Scaled and weighted attributes of the training points, and what counts as far from them."""

    names: tuple[str, ...]  # of columns
    mean: Floats  # (column,), as the two below
    scale: Floats
    weight: Floats
    points: Floats  # (point, column of weight above 0)
    distance: float  # mean over all pairs of points
    training: Floats  # (point,): index against points of other folds
    threshold: float  # outer whisker of these

    def placed(self, samples: Samples) -> Floats:
        """Points (site, column of weight above 0) of places, by their static attributes.

        A missing attribute is at the mean of the training points.
        """
        at = [samples.static_names.index(name) for name in self.names]
        return _scaled(samples.static[:, at].astype(float), self.mean, self.scale, self.weight)

    def index(self, points: npt.NDArray) -> Floats:
        """Dissimilarity (…) of points (…, column) of this space."""
        return np.asarray(cKDTree(self.points).query(points)[0] / self.distance)

    def dissimilarity(self, samples: Samples) -> Floats:
        """Dissimilarity (site,) of places, by their static attributes."""
        return self.index(self.placed(samples))


def _scaled(values: npt.NDArray, mean: Floats, scale: Floats, weight: Floats) -> Floats:
    used = weight > 0
    return np.nan_to_num((values[..., used] - mean[used]) / scale[used]) * weight[used]


def span(values: npt.NDArray, weight: Floats, fold: Indices, names: tuple[str, ...]) -> Space:
    """Span the space of training points.

    ``values`` (point, column by ``names``), ``fold`` (point,). A ``weight`` (column,) below 0
    counts as 0. DataError when none is above 0, or all points are in one fold.
    """
    from sklearn.preprocessing import StandardScaler  # slow to load: not to predict

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
    return Space(names, *about, outer_whisker(training))


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
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.preprocessing import StandardScaler

    values, fold = samples.static.astype(float), np.empty(len(samples.site), np.intp)
    count = max(2, min(FOLDS, len(np.unique(blocks(samples.table)))))
    for k, part in enumerate(folds(samples, count)):
        fold[part.test] = k
    y = own_means(samples)
    known = np.isfinite(y).all(1)
    if known.sum() < 2:
        return span(values, np.ones(values.shape[1]), fold, samples.static_names)
    trees = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
    with np.errstate(invalid="ignore"):
        x = np.nan_to_num(StandardScaler().fit_transform(values))
    trees.fit(x[known], StandardScaler().fit_transform(y[known]))
    return span(values, trees.feature_importances_, fold, samples.static_names)


def to_dict(space: Space) -> dict[str, Any]:
    """Give a space as plain lists; columns without weight are left out.

    Points are rounded to 1e-5 of the scale, the columns' sd times their weight.
    """
    used = np.flatnonzero(space.weight > 0)
    columns = {n: getattr(space, n)[used].tolist() for n in ("mean", "scale", "weight")}
    points = space.points.round(5).tolist()
    rest = {"points": points, "distance": space.distance, "threshold": space.threshold}
    return {"names": [space.names[k] for k in used], **columns, **rest}


def from_dict(about: Mapping[str, Any]) -> Space:
    """Make a space again of what `to_dict` gave; the training points' indices are not in it."""
    mean, scale, weight, points = (
        np.array(about[n], float) for n in ("mean", "scale", "weight", "points")
    )
    known = mean, scale, weight, points, about["distance"]
    return Space(tuple(about["names"]), *known, np.empty(0), about["threshold"])
