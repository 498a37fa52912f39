"""Monthly map models: ensembles on bootstrap samples of towers, with calibrated intervals."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import lightgbm
import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.model_selection import GroupKFold

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.learner import Wrapper
from tamrl.maps.training import MAP_FEATURES, Floats, Indices, model_inputs, season_samples
from tamrl.model.train import Recipe, TamRLModel
from tamrl.parallel import in_parallel
from tamrl.rivals.boosting import Boosting
from tamrl.rivals.forest import Forest
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import blocks, validation_blocks
from tamrl.shipped import pretrained
from tamrl.shipped.weights import digest

NONE: Indices = np.empty(0, np.intp)
ROUNDS = (40, 80, 120, 200)  # numbers of trees to choose from
TREES: Mapping[str, Any] = {
    "learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 10, "lambda_l2": 5.0,
    "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1,
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
}  # fmt: skip
CYCLES = 3  # times round the year; the first sets the state
STEADY_DAYS = 30.0  # good days beyond which a tower's month counts no more than another's, d
NET = {"hidden": 32, "latent": 8, "embed": 8, "dropout": 0.3}
# No contrast: a mean year of a place has no second window to be like.
RECIPE = Recipe(epochs=40, batch=24, length=12 * CYCLES, warmup=12, windows_of_support=1,
                contrast=0.0, drop_satellite=0.0)  # fmt: skip


@dataclass
class BoostedMap:
    """Gradient-boosted trees, one booster a flux, from a month and the year around it to fluxes.

    Equal shares of the residual close RECO - GPP = NEE; GPP and RECO are clipped at 0. With
    ``bootstrap`` towers are resampled by the seed; ``rounds`` of trees, None: by cross-validation.
    """

    version: ClassVar[int] = 1
    bootstrap: bool = True
    rounds: int | None = None
    forest: Forest | None = field(default=None, repr=False)

    def fit(self, samples: Samples, train: Indices, valid: Indices = NONE, seed: int = 0) -> Self:
        """Fit to all towers with fluxes, early-stopping ones too; DataError for fewer than five."""
        towers = np.concatenate([train, valid])
        towers = towers[(samples.weight[towers] > 0).any(axis=1)]
        if len(towers) < 5:
            raise DataError(f"training table: {len(towers)} towers have fluxes, 5 are needed")
        if self.bootstrap:
            towers = np.random.default_rng(seed).choice(np.sort(towers), len(towers))
        known = samples.weight[towers] > 0
        x, y = model_inputs(samples, towers)[known], samples.y[towers][known]
        # A month seen for years is known better than one seen for weeks, but not in proportion.
        w = np.sqrt(np.minimum(samples.weight[towers][known], 120.0))
        group = np.broadcast_to(towers[:, None], known.shape)[known]
        texts = {}
        for k, flux in enumerate(FLUXES):
            booster = self._boost(x, np.ascontiguousarray(y[:, k]), w, group, seed)
            texts[flux] = booster.model_to_string(num_iteration=-1)
        self.forest = Forest(texts)
        return self

    def _boost(self, x: Floats, y: Floats, w: Floats, group: Indices, seed: int) -> Any:
        """Grow the trees of one flux, as many as predict left-out towers best."""
        parameters, data = {**TREES, "seed": seed}, lightgbm.Dataset(x, y, weight=w)
        if self.rounds is not None:
            return lightgbm.train(parameters, data, self.rounds)
        error = np.zeros(len(ROUNDS))
        for a, b in GroupKFold(min(5, len(np.unique(group)))).split(x, y, group):
            part = lightgbm.Dataset(x[a], y[a], weight=w[a], params={"verbosity": -1})
            booster = lightgbm.train(parameters, part, max(ROUNDS))
            for i, rounds in enumerate(ROUNDS):
                guess = booster.predict(x[b], num_iteration=rounds)
                error[i] += (w[b] * (guess - y[b]) ** 2).sum()
        return lightgbm.train(parameters, data, ROUNDS[int(error.argmin())])

    def predict(self, samples: Samples, sites: Indices) -> Floats:
        """Fluxes (site, month, 3): GPP, RECO, NEE in gC m-2 d-1."""
        rows = model_inputs(samples, sites)
        return self.from_inputs(rows.reshape(-1, rows.shape[-1])).reshape(*rows.shape[:2], 3)

    def from_inputs(self, rows: Floats) -> Floats:
        """Fluxes (row, 3) of rows of `model_inputs`."""
        assert self.forest is not None, "fit before predicting"
        predicted = self.forest(rows)
        raw = np.stack([predicted[flux] for flux in FLUXES], axis=-1)
        third = (raw[:, 1] - raw[:, 0] - raw[:, 2]) / 3
        gpp, reco = np.maximum(raw[:, 0] + third, 0.0), np.maximum(raw[:, 1] - third, 0.0)
        return np.stack([gpp, reco, reco - gpp], axis=-1).astype(np.float32)

    @property
    def stored(self) -> Boosting:
        """What the file of weights holds of it: its trees."""
        return Boosting(lags=False, tune=False, forest=self.forest)


@dataclass
class SeasonalTamRL(Wrapper):
    """TAM-RL on mean seasons: the decoder goes round the year three times, the last two count."""

    version: ClassVar[int] = 1
    alters_samples: ClassVar[bool] = True
    model: Any = field(default_factory=lambda: TamRLModel(NET, RECIPE))
    bootstrap: bool = True

    def fit(self, samples: Samples, train: Indices, valid: Indices = NONE, seed: int = 0) -> Self:
        """Fit to towers with fluxes; without ``valid``, an eighth (whole blocks) stops training."""
        train = train[(samples.weight[train] > 0).any(axis=1)]
        if not len(valid):
            part = samples.table.iloc[train]
            held = validation_blocks(blocks(part), part["igbp"].to_numpy(str), seed)
            train, valid = train[~held], train[held]
        if self.bootstrap:
            train = np.random.default_rng(seed).choice(train, len(train))
        return super().fit(samples, train, valid, seed)

    def learn(self, samples: Samples, train: Indices, valid: Indices, seed: int) -> Samples:
        """Go round the year."""
        return self.inputs(samples)

    def inputs(self, samples: Samples) -> Samples:
        """Repeat the twelve months; DataError unless there are twelve: a mean year has no more."""
        if (months := len(samples.time)) != 12:
            text = f"cube: {months} times, but a TAM-RL map goes round one year of twelve months;"
            raise DataError(f"{text} select a year, or `tamrl train-map --model boosting`")
        around = (slice(None), np.tile(np.arange(12), CYCLES))
        cycles = {n: getattr(samples, n)[around] for n in ("x", "y", "process", "has_drivers")}
        days = samples.weight[around] * cycles["has_drivers"]
        weight = np.minimum(days / STEADY_DAYS, 1.0).astype(np.float32)
        time = (samples.time[0].astype("M8[M]") + np.arange(12 * CYCLES)).astype("M8[D]")
        return replace(samples, time=time, weight=weight, scored=days > 0, **cycles)

    def combine(self, samples: Samples, sites: Indices, fluxes: Sequence[Floats]) -> Floats:
        """Take the last round; NaN at a place without temperature, radiation or VPD in a month."""
        return fluxes[0][:, -12:]

    @property
    def stored(self) -> TamRLModel:
        """What the file of weights holds of it: its network."""
        return cast(TamRLModel, self.fitted[0])


@dataclass
class MonthlyMap:
    """An ensemble of fitted learners of one kind, to be applied to a cube of months."""

    members: Sequence[BoostedMap] | Sequence[SeasonalTamRL]
    features: tuple[str, ...] = MAP_FEATURES
    optional: tuple[str, ...] = ()

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""
        return [digest(member.stored) for member in self.members]

    def __call__(self, x: Floats) -> Floats:
        """Map (place, month, feature) to (member, place, month, 3) in gC m-2 d-1."""
        samples, places = season_samples(x), np.arange(len(x))
        return np.stack([member.predict(samples, places) for member in self.members])

    def classes(self, x: Floats) -> npt.NDArray[np.str_]:
        """Strata of the intervals (place,): one for all."""
        return np.full(len(x), "")

    def save(
        self, path: Path, samples: Samples, intervals: Mapping[str, Conformal] | None = None,
        **facts: object,
    ) -> None:  # fmt: skip
        """Write the ensemble to one file; arguments as of `tamrl.shipped.pretrained.save`."""
        kind = next(name for name, cls in KINDS.items() if isinstance(self.members[0], cls))
        towers = int((samples.weight > 0).any(axis=1).sum())
        stored = [member.stored for member in self.members]
        pretrained.save(stored, path, samples, intervals, map=kind, towers=towers, **facts)

    @classmethod
    def restore(cls, stored: Sequence[Any], header: Mapping[str, Any]) -> Self:
        """Rebuild the ensemble from what `tamrl.shipped.pretrained.load` reads."""
        if header["map"] == "boosting":
            return cls([BoostedMap(forest=member.forest) for member in stored])
        return cls([SeasonalTamRL(member, fitted=[member]) for member in stored])


KINDS: Mapping[str, Any] = {"tam-rl": SeasonalTamRL, "boosting": BoostedMap}


def fit_members(
    learner: Any, samples: Samples, members: int = 5, seed: int = 0, jobs: int = 1
) -> MonthlyMap:
    """Fit an ensemble to all towers of monthly samples, ``jobs`` members side by side."""
    everyone, seeds = np.arange(len(samples.site)), range(seed * 1000, seed * 1000 + members)
    tasks = [(deepcopy(learner), samples, everyone, NONE, s) for s in seeds]
    return MonthlyMap(in_parallel(type(learner).fit, tasks, jobs, "Training"))


def out_of_fold(
    learner: Any, samples: Samples, fold: Indices, members: int = 5, seed: int = 0, jobs: int = 1
) -> xr.Dataset:
    """Predict every tower's season by ensembles that have not seen its fold (site,).

    Dataset: mean and sd over the ensemble, and observed (site, month, flux), gC m-2 d-1.
    """
    cases = [(k, i) for k in np.unique(fold) for i in range(members)]
    train = {k: np.flatnonzero(fold != k) for k, _ in cases}
    tasks = [(deepcopy(learner), samples, train[k], NONE, seed * 1000 + i) for k, i in cases]
    models = in_parallel(type(learner).fit, tasks, jobs, "Calibrating")
    each = np.full((members, *samples.y.shape), np.nan, np.float32)
    for (k, i), model in zip(cases, models, strict=True):
        test = np.flatnonzero(fold == k)
        each[i, test] = model.predict(samples, test)
    data = {"mean": each.mean(axis=0), "sd": each.std(axis=0), "observed": samples.y}
    fields = {name: (("site", "month", "flux"), values) for name, values in data.items()}
    return xr.Dataset(fields, {"site": samples.site, "flux": list(FLUXES)})


def calibrate(held_out: xr.Dataset, level: float = 0.9) -> dict[str, Conformal]:
    """Conformal intervals by flux for an ensemble, from `out_of_fold`; every tower-month counts."""
    out = {}
    for flux in FLUXES:
        one = held_out.sel(flux=flux)
        y, mean, sd = (one[name].to_numpy() for name in ("observed", "mean", "sd"))
        known = np.isfinite(y + mean + sd)
        towers = np.broadcast_to(held_out["site"].to_numpy()[:, None], known.shape)[known]
        out[flux] = Conformal.fit(y[known], mean[known], sd[known], towers, levels=(level,))
    return out
