"""The map's rival: boosted trees from a month's climate to its mean fluxes (FLUXCOM-style).

As in Jung et al. 2020 (doi:10.5194/bg-17-1343-2020) months of towers are rows of a table, and a
place is described by its cell of the grid. An ensemble on bootstrap samples of towers.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import lightgbm
import numpy as np
import xarray as xr
from sklearn.model_selection import GroupKFold

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.models import Mapped
from tamrl.maps.training import MAP_FEATURES, Floats, Indices, model_inputs, season_samples
from tamrl.parallel import in_parallel
from tamrl.rivals.forest import Forest
from tamrl.samples.arrays import Samples
from tamrl.shipped.weights import digest_of

NONE: Indices = np.empty(0, np.intp)
ROUNDS = (40, 80, 120, 200)  # numbers of trees to choose from
TREES: Mapping[str, Any] = {
    "learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 10, "lambda_l2": 5.0,
    "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1,
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "verbosity": -1,
}  # fmt: skip


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


@dataclass
class MonthlyMap:
    """An ensemble of fitted rivals, to be applied to a cube of months."""

    members: Sequence[BoostedMap]
    features: tuple[str, ...] = MAP_FEATURES
    optional: tuple[str, ...] = ()
    grid: None = None  # all that it reads is in the cube
    days: None = None

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""
        forests = [member.forest for member in self.members]
        texts = [{} if forest is None else forest.texts for forest in forests]
        return [
            digest_of({flux: np.frombuffer(text.encode(), np.uint8) for flux, text in each.items()})
            for each in texts
        ]

    def __call__(self, x: Floats) -> Mapped:
        """Map (place, month, feature)."""
        samples, places = season_samples(x), np.arange(len(x))
        each = [member.predict(samples, places) for member in self.members]
        return Mapped(np.stack(each), np.full(len(x), ""))


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
