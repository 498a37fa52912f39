"""Rivals without a network: climatology, and boosted trees of LightGBM and XGBoost.

`Boosting` is a FLUXCOM-style upscaler: trees from drivers of the day (and past means) to each flux
(Nelson et al. 2024, doi 10.5194/bg-21-5079-2024); `XGBoost` is by the library of FLUXCOM-X-BASE.
"""

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import NDArray

from tamrl.data.schema import DRIVERS, FLUXES
from tamrl.errors import DataError
from tamrl.rivals.forest import Forest
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import blocks

Array = NDArray[np.float32]
LAGS = (7, 30, 90)  # days over which past drivers are averaged


@dataclass
class Climatology:
    """Mean flux of the class (all towers if unknown) and day of the year, smoothed over 31 days."""

    version: ClassVar[int] = 1
    smooth: int = 31
    table: dict[str, NDArray] = field(default_factory=dict, repr=False)

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Average over all labelled days of training and validation towers."""
        towers = np.concatenate([train, valid])
        igbp = samples.table.igbp.to_numpy(str)
        self.table = {"": self._mean(samples, towers)}
        for code in sorted(set(igbp[towers])):
            mean = self._mean(samples, towers[igbp[towers] == code])
            self.table[code] = np.where(np.isfinite(mean), mean, self.table[""])
        return self

    def _mean(self, samples: Samples, towers: NDArray) -> NDArray:
        """Weighted mean season (366, flux) of southern towers shifted by half a year."""
        from scipy.ndimage import uniform_filter1d

        doy = _season_day(samples, towers)
        w, y = samples.weight[towers], np.nan_to_num(samples.y[towers])
        n = np.bincount(doy.ravel(), w.ravel(), 366)
        sums = [np.bincount(doy.ravel(), (w * y[..., k]).ravel(), 366) for k in range(3)]
        total = uniform_filter1d(np.stack(sums, 1), self.smooth, axis=0, mode="wrap")
        n = uniform_filter1d(n, self.smooth, mode="wrap")[:, None]
        return np.divide(total, n, out=np.full_like(total, np.nan), where=n > 1e-6)

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Fluxes (site, time, flux) in gC m-2 d-1, NaN where the minimal drivers are missing."""
        igbp, doy = samples.table.igbp.to_numpy(str)[sites], _season_day(samples, sites)
        seasons = [self.table.get(code, self.table[""]) for code in igbp]
        out = np.stack([season[d] for season, d in zip(seasons, doy, strict=True)])
        return np.where(samples.has_drivers[sites][..., None], out, np.nan).astype(np.float32)


def _season_day(samples: Samples, towers: NDArray) -> NDArray[np.intp]:
    """Day of the season (site, time), 0..365, counted from midwinter in both hemispheres."""
    doy = (samples.time - samples.time.astype("datetime64[Y]")).astype(int)
    south = samples.table.lat.to_numpy(float)[towers] < 0
    return np.where(south[:, None], (doy + 183) % 366, doy)


@dataclass
class Boosting:
    """LightGBM, one model a flux, settings chosen by cross-validation grouped by towers.

    With ``lags`` the drivers' means over the past 7, 30 and 90 days join. With ``process`` the
    trees learn the flux relative to the light-use or respiration scalar of the day (by the same
    squared error); NEE is then RECO - GPP, mixed half and half with its own model. ``statics`` are
    beginnings of the names of the static attributes that the trees see; none means all.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "LightGBM"  # in files of weights
    lags: bool = True
    process: bool = False
    statics: tuple[str, ...] = ()
    trees: int = 400
    every: int = 2  # use every n-th labelled day: neighbouring days repeat each other
    tune: bool = True
    threads: int = 1
    params: dict[str, Any] = field(default_factory=dict)  # chosen by fit when tune
    forest: Forest | None = field(default=None, repr=False)  # a booster for each flux
    GRID = (
        {"num_leaves": 31, "min_child_samples": 200, "learning_rate": 0.06},
        {"num_leaves": 63, "min_child_samples": 500, "learning_rate": 0.05},
        {"num_leaves": 15, "min_child_samples": 500, "learning_rate": 0.08},
    )

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Fit on training and validation towers; the trees' settings are chosen inside them."""
        towers = np.sort(np.concatenate([train, valid]))
        on = samples.weight[towers] > 0
        on &= (np.cumsum(on, 1) + seed) % self.every == 0
        x, w = self._inputs(samples, towers, on), samples.weight[towers][on]
        y, site = samples.y[towers][on].T.copy(), np.broadcast_to(towers[:, None], on.shape)[on]
        targets = {f: (y[k], w) for k, f in enumerate(FLUXES)}
        for k, f in enumerate(("GPP", "RECO") if self.process else ()):
            scale = np.maximum(samples.process[towers][on][:, k], 0.1)
            targets[f] = (y[k] / scale, w * scale**2)
        if self.tune:
            self.params = self._choose(x, targets["GPP"], samples, site, seed)
        params = self.params or self.GRID[0]
        texts = {
            f: self._grow(x, *target, seed * 10 + i, self.trees, params)
            for i, (f, target) in enumerate(targets.items())
        }
        self.forest = Forest(texts)
        return self

    def _grow(
        self, x: Array, y: NDArray, w: NDArray, seed: int, trees: int, params: dict[str, Any]
    ) -> str:
        """Fit ``y`` (day,) weighted by ``w`` (day,), which differs between libraries.

        Returns the trees as LightGBM's text.
        """
        import lightgbm  # not needed to predict

        settings = {
            "objective": "l2", "verbosity": -1, "seed": seed, "num_threads": self.threads,
            "deterministic": True, "force_row_wise": True, "feature_fraction": 0.4,
            "bagging_fraction": 0.6, "bagging_freq": 1, "lambda_l2": 5.0, "max_bin": 127, **params,
        }  # fmt: skip
        grown = lightgbm.train(settings, lightgbm.Dataset(x, y, weight=w), trees)
        return grown.model_to_string(num_iteration=-1)

    def _choose(
        self, x: Array, target: tuple[NDArray, NDArray], samples: Samples, site: NDArray, seed: int
    ) -> dict[str, Any]:
        """Pick the settings of least squared error on left-out blocks of towers (thinned data)."""
        from sklearn.model_selection import GroupKFold

        thin = np.arange(seed % 4, len(x), 4)
        block = blocks(samples.table)[site[thin]]
        (y, w), errors = target, np.zeros(len(self.GRID))
        for k, params in enumerate(self.GRID):
            for a, b in GroupKFold(3).split(thin, groups=block):
                i, o = thin[a], thin[b]
                text = self._grow(x[i], y[i], w[i], seed, self.trees // 2, params)
                guess = Forest({"": text})(x[o])[""]
                errors[k] += float((w[o] * (guess - y[o]) ** 2).sum())
        return dict(self.GRID[int(errors.argmin())])

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Fluxes (site, time, flux) in gC m-2 d-1 by each one's trees; ValueError unless fitted."""
        if self.forest is None:
            raise ValueError("fit before predicting")
        on = samples.has_drivers[sites]
        out = np.full((*on.shape, 3), np.nan, np.float32)
        daily = _daily_inputs(samples, sites, on, self.lags, keep=True)
        flux = self.forest(self._with_statics(daily, samples, sites, on))
        if self.process:
            scale = np.maximum(samples.process[sites][on], 0.1)
            flux |= {f: flux[f] * scale[:, k] for k, f in enumerate(("GPP", "RECO"))}
            flux["NEE"] = 0.5 * flux["NEE"] + 0.5 * (flux["RECO"] - flux["GPP"])
        out[on] = np.stack([flux[f] for f in FLUXES], -1)
        return out

    def _inputs(self, samples: Samples, sites: NDArray, on: NDArray) -> Array:
        """Drivers, past means and statics (day, input) of days ``on`` (site, time)."""
        daily = _daily_inputs(samples, sites, on, self.lags)
        return self._with_statics(daily, samples, sites, on)

    def _with_statics(self, daily: Array, samples: Samples, sites: NDArray, on: NDArray) -> Array:
        seen = [n.startswith(self.statics or "") for n in samples.static_names]
        fixed = samples.static[sites][:, seen]
        return np.concatenate([daily, np.repeat(fixed, on.sum(1), axis=0)], -1)

    def store(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Give settings and trees, as LightGBM's compressed text, for a file; fitted only."""
        if self.forest is None:
            raise ValueError("fit the model before saving it")
        about = {"lags": self.lags, "process": self.process, "statics": list(self.statics)}
        return {"fluxes": list(self.forest.names), **about}, dict(self.forest.packed)

    @classmethod
    def restore(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray], device: str) -> Self:
        """Make the model again of what `store` gave; ``device`` does not matter to trees."""
        forest = Forest.unpack({flux: arrays[flux] for flux in about["fluxes"]})
        settings = about["lags"], about["process"], tuple(about["statics"])
        return cls(*settings, tune=False, forest=forest)


@dataclass
class XGBoost(Boosting):
    """`Boosting` by XGBoost; ``fit`` raises `DataError` where the library is not installed.

    Its trees are turned into LightGBM's, so that predicting needs neither library.
    """

    version: ClassVar[int] = 1
    GRID = (
        {"max_depth": 6, "min_child_weight": 100, "learning_rate": 0.06},
        {"max_depth": 8, "min_child_weight": 250, "learning_rate": 0.05},
        {"max_depth": 4, "min_child_weight": 250, "learning_rate": 0.08},
    )

    @staticmethod
    def library() -> Any:
        """Return the library, or raise `DataError` with what to do where it is missing."""
        try:
            import xgboost
        except ImportError as error:
            text = "XGBoost is not installed; install it with: pip install 'tamrl[rivals]'"
            raise DataError(text) from error
        return xgboost

    def _grow(
        self, x: Array, y: NDArray, w: NDArray, seed: int, trees: int, params: dict[str, Any]
    ) -> str:
        xgboost = self.library()
        from tamrl.rivals.trees import as_lightgbm

        settings = {
            "objective": "reg:squarederror", "verbosity": 0, "seed": seed, "nthread": self.threads,
            "tree_method": "hist", "colsample_bytree": 0.4, "subsample": 0.6, "lambda": 5.0,
            "max_bin": 128, **params,
        }  # fmt: skip
        data = xgboost.QuantileDMatrix(x, y, weight=w, max_bin=128, nthread=self.threads)
        return as_lightgbm(xgboost.train(settings, data, trees))


_latest = threading.local()  # inputs of this thread's last prediction, for the next forest


def _daily_inputs(
    samples: Samples, sites: NDArray, on: NDArray, lags: bool, keep: bool = False
) -> Array:
    """Drivers, process scalars and past means (day, input) of days ``on`` (site, time).

    An input may be missing: trees bear that. The forests of an ensemble read the same drivers:
    ``keep`` them for the next.
    """
    key, held = (sites.tobytes(), on.tobytes(), lags), getattr(_latest, "held", None)
    if keep and held is not None and held[0]() is samples.x and held[1] == key:
        return cast(Array, held[2])
    site, day = np.nonzero(on)
    parts = [samples.x[sites[site], day], samples.process[sites[site], day]]
    if lags:
        past = [samples.x[sites, :, samples.features.index(f)] for f in DRIVERS]
        parts += [mean[on][:, None] for p in past for mean in _past_means(p, LAGS)]
    daily = np.concatenate(parts, -1)
    if keep:
        _latest.held = weakref.ref(samples.x), key, daily
    return daily


def _past_means(x: Array, lags: Iterable[int]) -> Iterator[Array]:
    """Mean of the known values of the past so many days, today included (site, time)."""
    ok = np.isfinite(x)
    sums = np.cumsum(np.stack([np.where(ok, x, 0), ok]), 2, dtype=np.float64)
    for days in lags:
        total, count = past = sums.copy()
        past[..., days:] -= sums[..., :-days]
        mean = np.divide(total, count, out=np.full(x.shape, np.nan), where=count > 0)
        yield mean.astype(np.float32)
