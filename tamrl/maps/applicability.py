"""Area of applicability of a map: the dissimilarity of a cell's months from the training towers'.

The index and its threshold are those of `tamrl.shipped.applicability`; a point is a month at a
place, and predictors are weighted by permutation importance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

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
from tamrl.shipped.applicability import Space, span

Floats = npt.NDArray[np.float64]
PLACES = 4096  # looked up at once: bounds the memory


@dataclass(frozen=True)
class FeatureSpace(Space):
    """Space of the training towers' months; ``training`` is (site, month), NaN without fluxes."""

    def place(self, x: npt.NDArray[np.float32]) -> Floats:
        """Points (place, month, column) of predictors (place, month, MAP_FEATURES)."""
        return self.scaled(model_inputs(season_samples(x), np.arange(len(x))))

    def dissimilarity(self, x: npt.NDArray[np.float32]) -> Floats:
        """Index (place, month) of predictors (place, month, MAP_FEATURES)."""
        return self.index(model_inputs(season_samples(x), np.arange(len(x))))


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

    Importance below 0 counts as 0. Errors as of `span`.
    """
    samples = table_samples(table)
    known = samples.weight > 0
    inputs = model_inputs(samples, np.arange(len(known)))[known].astype(float)
    weight = importance.reindex(list(INPUTS)).to_numpy(float)
    space = span(inputs, weight, np.repeat(fold, known.sum(axis=1)))
    training = np.full(known.shape, np.nan)
    training[known] = space.training
    return FeatureSpace(**{**vars(space), "training": training})


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
