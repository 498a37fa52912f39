"""Mean annual GPP and RECO of a place, predicted from the grid, as knowledge for daily models.

A daily model that has seen 150 places knows much of days and little of places: most of its error
at a new tower is a constant. Hundreds of further towers of which only annual sums are known speak
to just that. A Gaussian process learns from all of them; what it predicts joins the daily model's
statics. At a training tower this is always a prediction made without it, so that the daily model
learns how far to trust it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.model_selection import GroupKFold

from tamrl.errors import DataError
from tamrl.places import Places
from tamrl.provenance import code_version
from tamrl.samples import Samples
from tamrl.splits import blocks, distance_km

Array = NDArray[np.float64]
CLASSES = ("igbp_", "koppen_")  # statics that stay beside the annual means
ANNUAL = ("annual_GPP", "annual_RECO")
MIN_DAYS = 8  # labelled days of a calendar month, over all years, for its mean
MIN_MONTHS = 10  # such months for an annual mean
APART_KM = 50.0  # as between the folds
LIMIT = 4.0  # sd beyond which a feature says no more
# A vegetation class that differs counts like this many sd of a feature; half for shares of a cell.
CLASS_SCALE = 3.0
KERNEL = (
    ConstantKernel(1.0) * Matern(20.0, nu=1.5)
    + ConstantKernel(1.0) * Matern(3.0, nu=1.5)
    + WhiteKernel(0.5)
)


def own_means(samples: Samples) -> Array:
    """Mean annual GPP and RECO (site, 2) in gC m-2 d-1 of the labels, by calendar months.

    NaN for a tower with fewer than 10 months that have at least 8 labelled days.
    """
    month = samples.time.astype("datetime64[M]").astype(int) % 12
    out = np.full((len(samples.site), 2), np.nan)
    for i, (y, weight) in enumerate(zip(samples.y, samples.weight, strict=True)):
        on = [(weight > 0) & (month == m) for m in range(12)]
        means = [y[days, :2].mean(0, dtype=float) for days in on if days.sum() >= MIN_DAYS]
        if len(means) >= MIN_MONTHS:
            out[i] = np.mean(means, 0)
    return out


@dataclass
class AnnualMeans:
    """Gaussian process from features of places to mean GPP and RECO, gC m-2 d-1.

    What a fit leaves: ``mean``, ``sd`` (feature,) of the features; ``points`` (place, feature),
    scaled, and their coefficients ``alpha`` (place, 2); ``centre``, ``spread`` (2,) of the fluxes.
    """

    names: tuple[str, ...]
    mean: Array = field(default_factory=lambda: np.empty(0))
    sd: Array = field(default_factory=lambda: np.empty(0))
    points: Array = field(default_factory=lambda: np.empty((0, 0)))
    alpha: Array = field(default_factory=lambda: np.empty((0, 2)))
    centre: Array = field(default_factory=lambda: np.zeros(2))
    spread: Array = field(default_factory=lambda: np.ones(2))
    kernel: Kernel | None = None

    def fit(self, x: Array, y: Array, kernel: Kernel | None = None) -> AnnualMeans:
        """Fit to ``x`` (place, feature) and ``y`` (place, 2); learn ``kernel`` if None."""
        some = np.where(np.isfinite(x).any(0), x, 0.0)  # what is known of no place is 0 everywhere
        mean, sd = np.nanmean(some, 0), np.nanstd(some, 0)
        self.mean, self.sd = mean, np.where(sd > 1e-9, sd, 1.0)
        self.centre, self.spread = y.mean(0), np.maximum(y.std(0), 1e-9)
        process = GaussianProcessRegressor(
            kernel or KERNEL, optimizer=None if kernel else "fmin_l_bfgs_b"
        ).fit(self._scaled(x), (y - self.centre) / self.spread)
        self.kernel, self.points, self.alpha = process.kernel_, process.X_train_, process.alpha_
        return self

    def predict(self, x: Array) -> Array:
        """Predict mean GPP and RECO (place, 2), not negative, of places (place, feature)."""
        if self.kernel is None:
            raise ValueError("fit before predicting")
        alike = self.kernel(self._scaled(x), self.points)
        # Not by matrix product: its rounding depends on how many places are asked for at once.
        told = np.einsum("ij,jk->ik", alike, self.alpha)
        return np.asarray(np.maximum(told * self.spread + self.centre, 0))

    def _scaled(self, x: Array) -> Array:
        """Scale by the training places; unknown is 0, their mean; classes as they are."""
        out = np.nan_to_num(np.clip((x - self.mean) / self.sd, -LIMIT, LIMIT))
        for prefix, scale in (("igbp_", CLASS_SCALE), ("share_", CLASS_SCALE / 2)):
            at = [k for k, name in enumerate(self.names) if name.startswith(prefix)]
            out[:, at] = np.nan_to_num(x[:, at]) * scale
        return out


@dataclass(repr=False)
class WithAnnualMeans:
    """A model that is told the predicted mean annual GPP and RECO of each place.

    Parameters
    ----------
    model
        Unfitted, with ``fit`` and ``predict``; it stays as it is.
    statics
        Beginnings of the names of statics that the model still sees beside the annual means.
    inner
        Parts of the training towers, each predicted by a process that has not seen it; as many as
        there are towers far enough apart, if that is less.
    """

    model: Any
    statics: tuple[str, ...] = CLASSES
    inner: int = 10
    annual: AnnualMeans | None = None
    fitted: Any = None

    def __repr__(self) -> str:
        """Tell the settings, and the code of the model, which may come from anywhere."""
        code = code_version(type(self.model))
        return f"WithAnnualMeans({self.model!r}, {self.statics!r}, {self.inner}, code={code})"

    def fit(
        self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0
    ) -> WithAnnualMeans:
        """Learn annual means of all places but the towers left out, then train the model.

        Other places within 50 km of a tower that is neither trained nor validated on are left out.

        Raises
        ------
        DataError
            When ``samples`` have no places, or fewer than two blocks of towers 50 km apart.
        """
        places, towers = _places(samples), np.sort(np.concatenate([train, valid]))
        y = own_means(samples)
        known = towers[np.isfinite(y[towers]).all(1)]
        block = blocks(samples.table)
        inner = min(self.inner, len(np.unique(block[towers])))
        if inner < 2:
            raise DataError("all towers to train on lie within 50 km; annual means need two places")
        near = _near(samples, places)
        left_out = np.setdiff1d(np.arange(len(samples.site)), towers)
        free = ~np.any(near[:, left_out], axis=1)
        self.annual = self._process(places, y, known, free)
        told = np.full((len(samples.site), 2), np.nan)
        for _, away in GroupKFold(inner).split(towers, groups=block[towers]):
            out = towers[away]
            others = free & ~np.any(near[:, out], axis=1)
            known_else = np.setdiff1d(known, out)
            without = self._process(places, y, known_else, others, self.annual.kernel)
            told[out] = without.predict(places.x[out])
        told[left_out] = self.annual.predict(places.x[left_out])
        self.fitted = deepcopy(self.model).fit(self._tell(samples, told), train, valid, seed)
        return self

    def predict(self, samples: Samples, sites: NDArray) -> NDArray[np.float32]:
        """Fluxes (site, time, flux) as the model predicts them."""
        return np.asarray(self.fitted.predict(self.tell(samples), sites))

    def tell(self, samples: Samples) -> Samples:
        """Put the annual means that are predicted of each tower among its statics.

        Raises
        ------
        DataError
            When the samples have no places, or places described by other features.
        """
        if self.annual is None:
            raise ValueError("fit before predicting")
        places = _places(samples)
        if places.names != self.annual.names:
            unknown = sorted(set(places.names) ^ set(self.annual.names))
            raise DataError(f"places: described by other features than in training: {unknown}")
        return self._tell(samples, self.annual.predict(places.x))

    def _process(
        self, places: Places, y: Array, towers: NDArray, others: NDArray, kernel: Any = None
    ) -> AnnualMeans:
        """Fit to some towers and some other places."""
        x = np.concatenate([places.x[towers], places.other_x[others]])
        return AnnualMeans(places.names).fit(
            x, np.concatenate([y[towers], places.other_y[others]]), kernel
        )

    def _tell(self, samples: Samples, annual: Array) -> Samples:
        """Put the annual means (site, 2) in the place of all statics but those that stay."""
        stay = [k for k, name in enumerate(samples.static_names) if name.startswith(self.statics)]
        static = np.concatenate([samples.static[:, stay], annual.astype(np.float32)], 1)
        names = (*(samples.static_names[k] for k in stay), *ANNUAL)
        return replace(samples, static=static, static_names=names)


def _places(samples: Samples) -> Places:
    if samples.places is None:
        raise DataError(
            "annual means need the places of the towers on the grid; make the samples with a cube "
            "and `tamrl.places.gather`, as `tamrl.sources.load_samples` does"
        )
    return samples.places


def _near(samples: Samples, places: Places) -> NDArray[np.bool_]:
    """Which other places lie within 50 km of which tower (place, site)."""
    table, n = samples.table, len(places.other_lat)
    lat = np.concatenate([places.other_lat, table.lat.to_numpy(float)])
    lon = np.concatenate([places.other_lon, table.lon.to_numpy(float)])
    return np.asarray(distance_km(lat, lon)[:n, n:] <= APART_KM)
