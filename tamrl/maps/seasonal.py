"""TAM-RL as a map model: trained on towers' mean seasons from the grid's predictors.

A mean year has no start, so the decoder goes round it three times and the last two rounds count;
the task encoder reads the same twelve months. Each member of an ensemble is fitted to towers drawn
with replacement, as in `tamrl.maps.boosted.BoostedMap`.
"""

from __future__ import annotations

from typing import Self

import joblib
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.errors import DataError
from tamrl.maps.boosted import MAP_FEATURES, MONTHLY, Floats, Towers
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, process_scalars
from tamrl.samples.splits import blocks, validation_blocks
from tamrl.shipped.weights import digest

ROUNDS = 3  # times round the year; the first sets the state
STEADY_DAYS = 30.0  # good days beyond which a tower's month counts no more than another's, d
NET = {"hidden": 32, "latent": 8, "embed": 8, "dropout": 0.3}
RECIPE = Recipe(
    epochs=40,
    batch=24,
    length=12 * ROUNDS,
    warmup=12,
    windows_of_support=1,
    contrast=0.0,  # one mean year a place: there is no second window to be like
    drop_satellite=0.0,
)


class TamRLMap:
    """One member: ``features`` names what it reads of a cube, calling it gives fluxes."""

    features = MAP_FEATURES

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.model = TamRLModel(NET, RECIPE)
        self.digest = ""

    def fit(self, table: xr.Dataset, train: Towers | None = None) -> Self:
        """Fit to the towers ``train`` of a `monthly_training_table`, early stopping on an eighth.

        The early-stopping towers are whole blocks 50 km apart from the rest.
        """
        towers = np.arange(table.sizes["site"]) if train is None else np.asarray(train)
        towers = towers[(table["weight"] > 0).any("month").to_numpy()[towers]]
        facts = pd.DataFrame(
            {n: table[n].to_numpy() for n in ("lat", "lon", "igbp", "koppen_main")}
        )
        part = facts.iloc[towers]
        valid = validation_blocks(blocks(part), part["igbp"].to_numpy(str), self.seed)
        drawn = np.random.default_rng(self.seed).choice(towers[~valid], (~valid).sum())
        x = table["x"].sel(feature=list(self.features)).to_numpy()
        weight = np.minimum(table["weight"].to_numpy() / STEADY_DAYS, 1.0)
        samples = _year_samples(x, table["y"].to_numpy(), weight, facts)
        self.model.fit(samples, drawn, towers[valid], self.seed)
        self.digest = digest(self.model)
        return self

    def __call__(self, x: Floats) -> Floats:
        """Map (place, month, feature) to (place, month, 3) in gC m-2 d-1, each place on its own.

        A place without temperature, radiation or VPD in some month is NaN there. DataError unless
        there are twelve months: a mean year has no more.
        """
        if x.shape[1] != 12:
            raise DataError(
                f"cube: {x.shape[1]} times, but a TAM-RL map goes round one year of twelve months; "
                "select a year, or use weights from `tamrl train-map --model boosting`"
            )
        n = len(x)
        nothing = np.full((n, 12, 3), np.nan, np.float32)
        samples = _year_samples(x, nothing, np.zeros((n, 12)), pd.DataFrame(index=range(n)))
        return self.model.predict(samples, np.arange(n))[:, -12:]


def _year_samples(x: Floats, y: Floats, weight: NDArray, table: pd.DataFrame) -> Samples:
    """Make samples (place, 36 months, driver) that go round the year three times."""
    around = (slice(None), np.tile(np.arange(12), ROUNDS))
    k = len(MONTHLY)
    drivers = x[around][..., :k]
    factors = [drivers[..., MONTHLY.index(n)] for n in ("TA", "VPD", "SW_IN")]
    has_drivers = np.logical_and.reduce([np.isfinite(f) for f in factors])
    return Samples(
        site=np.arange(len(x)).astype(str),
        time=np.arange("2001-01", "2004-01", dtype="datetime64[M]").astype("datetime64[D]"),
        x=drivers,
        features=MONTHLY,
        static=x[:, 0, k:],
        static_names=MAP_FEATURES[k:],
        y=y[around],
        weight=(weight[around] * has_drivers).astype(np.float32),
        scored=(weight[around] > 0) & has_drivers,
        has_drivers=has_drivers,
        process=process_scalars(*factors),
        table=table,
    )


def tamrl_ensemble(
    table: xr.Dataset,
    train: Towers | None = None,
    members: int = 5,
    seed: int = 0,
    jobs: int = 1,
) -> list[TamRLMap]:
    """Fit ``members`` TAM-RL map models, each to its own draw of towers, in ``jobs`` processes."""
    fits = (joblib.delayed(_fit)(seed * 1000 + i, table, train) for i in range(members))
    return list(joblib.Parallel(jobs)(fits))


def _fit(seed: int, table: xr.Dataset, train: Towers | None) -> TamRLMap:
    return TamRLMap(seed).fit(table, train)
