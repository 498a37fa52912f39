"""A prior of a site's mean annual GPP and RECO, and two ways for daily models to use it.

Most of a daily model's error at a new site is a constant bias. A Gaussian process (`AnnualMeans`)
learns annual means from the grid, at several hundred more sites with annual fluxes alone.
`AnnualPrior` adds its prediction to a daily model's static attributes, at a training tower always
without that tower. `AnnualRescaling` shrinks a model's annual means towards the prior.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.learner import Fluxes, Wrapper
from tamrl.samples.arrays import Samples, require_same
from tamrl.samples.site_attributes import SiteAttributes
from tamrl.samples.splits import blocks, distance_km
from tamrl.shipped.kernel import Alike

Array = NDArray[np.float64]
CLASSES = ("igbp_", "koppen_")  # statics that stay beside the annual means
ANNUAL = ("annual_GPP", "annual_RECO")
MIN_DAYS = 8  # labelled days of a calendar month, over all years, for its mean
MIN_MONTHS = 10  # such months for an annual mean
APART_KM = 50.0  # as between the folds
LIMIT = 4.0  # sd beyond which a feature says no more
# A vegetation class that differs counts like this many sd of a feature; half for shares of a cell.
CLASS_SCALE = 3.0
WEIGHT = 0.5  # of the prior, in logarithms: two estimates of one quantity that err by as much
MOST = 2.0  # a flux is at most doubled or halved
FLOOR = 0.3  # gC m-2 d-1; below, a ratio of means is noise
KERNEL = Alike()


def own_means(samples: Samples) -> Array:
    """Mean annual GPP, RECO (site, 2) of labels by month, gC m-2 d-1; NaN below `MIN_MONTHS`."""
    month, first = np.unique(samples.time.astype("datetime64[M]"), return_index=True)
    known = samples.weight > 0
    flux = np.where(known[..., None], samples.y[..., :2], 0)
    days, total = (np.add.reduceat(v, first, axis=1, dtype=float) for v in (known, flux))
    calendar = month.astype(int) % 12
    days, total = (
        np.stack([v[:, calendar == m].sum(1) for m in range(12)], 1) for v in (days, total)
    )
    enough = days >= MIN_DAYS
    means = np.divide(1, days, out=np.zeros_like(days), where=enough)[..., None] * total
    count = enough.sum(1)[:, None]
    return means.sum(1) / np.where(count >= MIN_MONTHS, count, np.nan)


def with_statics(samples: Samples, values: NDArray, names: Sequence[str]) -> Samples:
    """Append static attributes (site, static) to those of the samples."""
    static = np.concatenate([samples.static, values], 1)
    return replace(samples, static=static, static_names=(*samples.static_names, *names))


@dataclass
class AnnualMeans:
    """Gaussian process from features of places to mean GPP and RECO, gC m-2 d-1.

    A fit leaves ``kernel`` and ``arrays``: mean, sd (feature,) of the features; points (place,
    feature), scaled, and their coefficients alpha (place, 2); centre, spread (2,) of the fluxes.
    """

    kind: ClassVar[str] = "annual means"  # in files of weights
    names: tuple[str, ...]
    kernel: Alike | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict, repr=False)
    latest: tuple[bytes, Array] | None = field(default=None, repr=False)  # for the next member

    def fit(self, x: Array, y: Array, kernel: Alike | None = None) -> Self:
        """Fit to ``x`` (place, feature) and ``y`` (place, 2); learn ``kernel`` if None."""
        some = np.where(np.isfinite(x).any(0), x, 0.0)  # what is known of no place is 0 everywhere
        sd, centre, spread = np.nanstd(some, 0), y.mean(0), np.maximum(y.std(0), 1e-9)
        scale = {"mean": np.nanmean(some, 0), "sd": np.where(sd > 1e-9, sd, 1.0)}
        self.arrays, self.latest = scale, None
        process = (kernel or KERNEL).process(learn=kernel is None)
        process.fit(self._scaled(x), (y - centre) / spread)
        fitted = {"points": process.X_train_, "alpha": process.alpha_}
        self.arrays = scale | fitted | {"centre": centre, "spread": spread}
        self.kernel = Alike.of_fitted(process.kernel_)
        return self

    def predict(self, x: Array) -> Array:
        """Mean GPP and RECO (place, 2), not negative, at places (place, feature)."""
        if self.kernel is None:
            raise ValueError("fit before predicting")
        asked, a, latest = x.tobytes(), self.arrays, self.latest  # read once: threads share it
        if latest is None or latest[0] != asked:
            alike = self.kernel(self._scaled(x), a["points"])
            # Not by matrix product: its rounding depends on how many places are asked for at once.
            means = np.einsum("ij,jk->ik", alike, a["alpha"]) * a["spread"] + a["centre"]
            latest = self.latest = asked, np.maximum(means, 0)
        return latest[1].copy()

    def _scaled(self, x: Array) -> Array:
        """Scale by the training places; unknown is 0, their mean; classes as they are."""
        out = np.nan_to_num(np.clip((x - self.arrays["mean"]) / self.arrays["sd"], -LIMIT, LIMIT))
        for prefix, scale in (("igbp_", CLASS_SCALE), ("share_", CLASS_SCALE / 2)):
            at = [k for k, name in enumerate(self.names) if name.startswith(prefix)]
            out[:, at] = np.nan_to_num(x[:, at]) * scale
        return out

    def store(self) -> tuple[dict[str, Any], Mapping[str, Array]]:
        """Give names, kernel and arrays for a file; fitted only."""
        assert self.kernel is not None
        return {"names": list(self.names), "theta": self.kernel.theta.tolist()}, self.arrays

    @classmethod
    def restore(cls, about: Mapping[str, Any], arrays: Mapping[str, Array], device: str) -> Self:
        """Make the process again of what `store` gave."""
        return cls(tuple(about["names"]), Alike.of_theta(np.array(about["theta"])), arrays)


@dataclass
class _WithAnnual(Wrapper):
    """A ``model`` of daily fluxes beside a prior of annual ones."""

    model: Any
    annual: AnnualMeans | None = field(default=None, repr=False, kw_only=True)

    def prior_of(self, samples: Samples) -> Array:
        """Mean annual GPP, RECO (site, 2), gC m-2 d-1; DataError without places, or with others."""
        if self.annual is None:
            raise ValueError("fit before predicting")
        places, text = _places(samples), "places: described by other features than in training:"
        require_same(places.names, self.annual.names, text)
        return self.annual.predict(places.x)

    def store(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Give settings, prior and model for a file; ValueError before a fit."""
        if self.annual is None:
            raise ValueError("fit the model before saving it")
        settings = {k: v for k, v in vars(self).items() if k in ("statics", "weight")}
        return settings | {"annual": self.annual, "model": self.fitted[0]}, {}

    @classmethod
    def restore(cls, about: Mapping[str, Any], arrays: Mapping[str, Array], device: str) -> Self:
        """Make the model again of what `store` gave."""
        settings = {k: about[k] for k in ("statics", "weight") if k in about}
        if "statics" in settings:
            settings["statics"] = tuple(settings["statics"])
        return cls(about["model"], **settings, annual=about["annual"], fitted=[about["model"]])


@dataclass
class AnnualPrior(_WithAnnual):
    """A ``model`` with the prior of mean annual GPP and RECO among its static attributes.

    Only those that begin with one of ``statics`` stay beside it. The training towers are split in
    ``inner`` parts (fewer with fewer blocks of 50 km), each predicted by a process without it.
    """

    statics: tuple[str, ...] = CLASSES
    inner: int = 10
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "annual prior"
    alters_samples: ClassVar[bool] = True

    def learn(self, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> Samples:
        """Fit the prior without the towers left out, and out of fold for the others."""
        known = _Known.of(samples, train, valid)
        self.annual = known.fit()
        from sklearn.model_selection import GroupKFold  # slow to load: not to predict

        block = blocks(samples.table)[known.towers]
        inner = min(self.inner, len(np.unique(block)))
        if inner < 2:
            raise DataError("all towers to train on lie within 50 km; annual means need two places")
        prior = self.annual.predict(known.places.x)
        for _, away in GroupKFold(inner).split(known.towers, groups=block):
            out = known.towers[away]
            prior[out] = known.without(out).fit(self.annual.kernel).predict(known.places.x[out])
        return self._with(samples, prior)

    def inputs(self, samples: Samples) -> Samples:
        """Add the prior to the static attributes; errors as `prior_of`."""
        return self._with(samples, self.prior_of(samples))

    def _with(self, samples: Samples, prior: Array) -> Samples:
        stay = [k for k, name in enumerate(samples.static_names) if name.startswith(self.statics)]
        names = tuple(samples.static_names[k] for k in stay)
        samples = replace(samples, static=samples.static[:, stay], static_names=names)
        return with_statics(samples, prior.astype(np.float32), ANNUAL)


@dataclass
class AnnualRescaling(_WithAnnual):
    """A ``model`` whose mean annual GPP and RECO are shrunk towards the prior; it closes.

    ``weight`` is that of the prior, in logarithms (0.5: two estimates that err by as much).
    """

    weight: float = WEIGHT
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "annual rescaling"

    def learn(self, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> Samples:
        """Fit the prior without the towers left out; of GPP, RECO and NEE alone (DataError)."""
        if samples.targets != FLUXES:
            raise DataError(f"annual means are known of GPP and RECO, not of {samples.targets}")
        self.annual = _Known.of(samples, train, valid).fit()
        return samples

    def combine(self, samples: Samples, sites: NDArray, fluxes: Sequence[Fluxes]) -> Fluxes:
        """Rescale GPP and RECO (site, time, flux) by a factor a site; NEE = RECO - GPP."""
        flux = np.array(fluxes[0], np.float32)
        known = np.asarray(np.isfinite(flux).all(-1), np.float32)
        own = own_means(replace(samples, site=samples.site[sites], y=flux, weight=known))
        factors = rescaling_factors(own, self.prior_of(samples)[sites], self.weight)[:, None]
        flux[..., :2] *= factors.astype(np.float32)
        flux[..., 2] = flux[..., 1] - flux[..., 0]
        return flux


def rescaling_factors(own: Array, prior: Array, weight: float = WEIGHT) -> Array:
    """Factors (site, 2) of GPP and RECO that move their ``own`` means towards the ``prior``.

    Means (site, 2) are in gC m-2 d-1. Where days do not make a year, ``own`` is NaN, the factor 1.

    >>> rescaling_factors(np.array([[2.0, 4.0]]), np.array([[4.0, 1.0]])).round(2).tolist()
    [[1.41, 0.5]]
    """
    ratio = np.maximum(prior, FLOOR) / np.maximum(own, FLOOR)
    return np.where(np.isfinite(own), np.clip(ratio**weight, 1 / MOST, MOST), 1.0)


@dataclass(frozen=True)
class _Known:
    """Sites whose mean annual fluxes ``y`` (site, 2) are known: towers, and other places."""

    places: SiteAttributes
    y: Array
    towers: NDArray[np.intp]
    others: NDArray[np.bool_]
    near: NDArray[np.bool_]  # (place, site): within 50 km

    @classmethod
    def of(cls, samples: Samples, train: NDArray, valid: NDArray) -> Self:
        """All towers to learn from, and all other places not near a tower that is left out."""
        places, everyone = _places(samples), np.arange(len(samples.site))
        table, n = samples.table, len(places.other_lat)
        lat, lon = np.r_[places.other_lat, table.lat], np.r_[places.other_lon, table.lon]
        near = distance_km(lat, lon)[:n, n:] <= APART_KM
        known = cls(places, own_means(samples), everyone, np.ones(n, bool), near)
        return known.without(np.setdiff1d(everyone, np.concatenate([train, valid])))

    def without(self, out: NDArray) -> Self:
        """Leave out towers and the other places near them."""
        others = self.others & ~self.near[:, out].any(1)
        return replace(self, towers=np.setdiff1d(self.towers, out), others=others)

    def fit(self, kernel: Alike | None = None) -> AnnualMeans:
        """Fit the process; learn its ``kernel`` if None."""
        towers = self.towers[np.isfinite(self.y[self.towers]).all(1)]
        x = np.concatenate([self.places.x[towers], self.places.other_x[self.others]])
        y = np.concatenate([self.y[towers], self.places.other_y[self.others]])
        if kernel is not None:
            return AnnualMeans(self.places.names).fit(x, y, kernel)
        return _learnt(self.places.names, x.shape, x.tobytes(), y.tobytes())


@lru_cache(32)
def _learnt(names: tuple[str, ...], shape: tuple[int, int], x: bytes, y: bytes) -> AnnualMeans:
    """Fit once what every member and mixture of a fold learns from the same places."""
    known = np.frombuffer(x).reshape(shape), np.frombuffer(y).reshape(len(y) // 16, 2)
    return AnnualMeans(names).fit(*known)


def _places(samples: Samples) -> SiteAttributes:
    if samples.places is None:
        remedy = "make samples with a cube, as `tamrl.sources.load_samples` does"
        raise DataError(f"annual means need the places of the towers on the grid; {remedy}")
    return samples.places
