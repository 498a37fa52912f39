"""Map models: from twelve months of gridded predictors to twelve months of fluxes.

A map model is trained on what the grid says at the towers, not on the towers' own weather, so that
nothing means one thing at a tower and another on the map. `BoostedMap` is the first of them, and
the rival to any later one.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import joblib
import lightgbm
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from sklearn.model_selection import GroupKFold

from tamrl.data.grid import grid_at
from tamrl.data.gridfiles import LAND_CLASSES
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.cubes import stack_features

Floats = npt.NDArray[np.float32]
Towers = npt.NDArray[np.intp]

MONTHLY = ("TA", "PRCP", "SW_IN", "SW_POT", "VPD", "EVI")
STATIC = ("elevation", "awc", "sand", "clay", "soil_cn", "stand_age", "lma", "ndep", "fapar_mean")
MAP_FEATURES = (*MONTHLY, *STATIC, *(f"igbp_{code}" for code in LAND_CLASSES))

# What the trees of `BoostedMap` split on: the month, and the year around it.
INPUTS = (*MAP_FEATURES, *(f"{name}_mean" for name in MONTHLY), *(f"{n}_range" for n in MONTHLY))

TRAIN_QC = 0.5  # smallest share of measured or good half-hours of a day that counts
MONTH_MIN_DAYS = 10.0  # good days that a calendar month needs over all its years, d


class MapModel(Protocol):
    """What `upscale` asks of a model: named features in, fluxes out, the same ones every time.

    A model may name drivers that it can do without on some days in ``optional``.
    """

    features: tuple[str, ...]
    digest: str  # hex digest of the weights

    def __call__(self, x: Floats) -> Floats:
        """Map (place, month, feature), NaN missing, to (place, month, 3): GPP, RECO, NEE."""


def model_inputs(x: Floats) -> Floats:
    """Append each driver's mean and range over the year: (place, month, column) of INPUTS."""
    drivers = x[..., : len(MONTHLY)]
    with np.errstate(invalid="ignore"):
        mean = drivers.mean(axis=1, keepdims=True)
        span = np.ptp(drivers, axis=1, keepdims=True)
    year = [np.broadcast_to(part, drivers.shape) for part in (mean, span)]
    return np.concatenate([x, *year], axis=-1)


def monthly_training_table(
    towers: xr.Dataset, cube: xr.Dataset, features: Sequence[str] = MAP_FEATURES
) -> xr.Dataset:
    """Mean seasonal fluxes of towers beside the cube's predictors of their cells.

    Days count by their share of good half-hours, from one half; a calendar month needs ten good
    days over all its years. A tower without a land cell within reach has missing predictors and
    weight 0.

    Parameters
    ----------
    towers
        Daily towers (site, time).
    cube
        Predictor cube (month, lat, lon) as from `fetch_grid`.
    features
        Names as for `tamrl.maps.cubes.stack_features`.

    Returns
    -------
    xarray.Dataset
        x (site, month, feature); y (site, month, flux) in gC m-2 d-1; weight (site, month), good
        days; coordinates of the towers and of their cells.
    """
    at = grid_at(cube, towers["lat"], towers["lon"])
    x = stack_features(at, features, ("site",))
    y = np.stack([towers[f].transpose("site", "time").to_numpy() for f in FLUXES], axis=-1)
    share = np.nan_to_num(towers["NEE_QC"].transpose("site", "time").to_numpy())
    day_weight = np.where((share >= TRAIN_QC) & np.isfinite(y).all(axis=-1), share, 0.0)
    member = np.eye(12)[towers["time"].dt.month.to_numpy() - 1]  # (time, month)
    weight = day_weight @ member
    total = np.einsum("st,stf,tm->smf", day_weight, np.nan_to_num(y), member, optimize=True)
    enough = (weight >= MONTH_MIN_DAYS) & np.isfinite(x[..., 0])
    mean = np.divide(
        total, weight[..., None], where=enough[..., None], out=np.full_like(total, np.nan)
    )
    site_coords = {n: c for n, c in towers.coords.items() if c.dims == ("site",)}
    cells = {n: ("site", at[n].to_numpy()) for n in ("cell_lat", "cell_lon")}
    return xr.Dataset(
        {
            "x": (("site", "month", "feature"), x),
            "y": (("site", "month", "flux"), mean.astype(np.float32), {"units": "gC m-2 d-1"}),
            "weight": (("site", "month"), np.where(enough, weight, 0.0), {"units": "d"}),
        },
        coords={
            **site_coords,
            **cells,
            "month": np.arange(1, 13),
            "feature": list(features),
            "flux": list(FLUXES),
        },
        attrs={k: towers.attrs[k] for k in ("virtual", "tower_source") if k in towers.attrs},
    )


def weather_difference(towers: xr.Dataset, cube: xr.Dataset) -> pd.DataFrame:
    """Show how far the towers' own weather is from the grid's climate, as monthly means.

    Returns
    -------
    pandas.DataFrame
        variable: n (tower-months), bias (grid minus tower), RMSE, r; in the variable's unit.
    """
    at = grid_at(cube, towers["lat"], towers["lon"])
    rows = []
    for name in ("TA", "VPD", "SW_IN"):
        tower = towers[name].groupby("time.month").mean().transpose("site", "month").to_numpy()
        grid = at[name].transpose("site", "month").to_numpy()
        both = np.isfinite(tower) & np.isfinite(grid)
        difference = grid[both] - tower[both]
        rows.append(
            {
                "variable": name,
                "units": cube[name].attrs["units"],
                "n": int(both.sum()),
                "bias": float(difference.mean()),
                "RMSE": float(np.sqrt((difference**2).mean())),
                "r": float(np.corrcoef(grid[both], tower[both])[0, 1]),
            }
        )
    return pd.DataFrame(rows).set_index("variable")


class BoostedMap:
    """Gradient-boosted trees from a month's predictors and the year around it to its fluxes.

    One booster a flux; the three are then moved together to RECO - GPP = NEE, by equal shares,
    and GPP and RECO kept from falling below 0. Each member of an ensemble is fitted to towers drawn
    with replacement, so that the spread shows what the choice of towers does.

    Parameters
    ----------
    features
        Names of the predictors.
    seed
        Of the drawing of towers and the boosters; None fits all towers once, without drawing.
    rounds
        Number of trees; None chooses it for each flux by cross-validation over towers.
    """

    PARAMETERS = {  # noqa: RUF012 - read only
        "learning_rate": 0.05,
        "num_leaves": 7,
        "min_data_in_leaf": 10,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "lambda_l2": 5.0,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    ROUNDS = (40, 80, 120, 200)

    def __init__(
        self,
        features: Sequence[str] = MAP_FEATURES,
        seed: int | None = 0,
        rounds: int | None = None,
    ) -> None:
        self.features = tuple(features)
        self.seed = seed
        self.rounds = rounds
        self.boosters: list[lightgbm.Booster] = []
        self.digest = ""

    def fit(self, table: xr.Dataset, train: Towers | None = None) -> Self:
        """Fit to the towers `train` (positions; all by default) of a monthly training table.

        Raises
        ------
        DataError
            When the table lacks a feature or has fewer than five towers with fluxes.
        """
        absent = set(self.features) - set(table["feature"].to_numpy().tolist())
        if absent:
            raise DataError(f"training table: features {sorted(absent)} are missing")
        towers = np.arange(table.sizes["site"]) if train is None else np.asarray(train)
        usable = (table["weight"] > 0).any("month").to_numpy()
        towers = towers[usable[towers]]
        if len(towers) < 5:
            raise DataError(f"training table: {len(towers)} towers have fluxes, 5 are needed")
        if self.seed is not None:
            towers = np.random.default_rng(self.seed).choice(towers, len(towers))
        picked = table.isel(site=towers)
        x = model_inputs(picked["x"].sel(feature=list(self.features)).to_numpy())
        weight = picked["weight"].to_numpy()
        keep = weight.ravel() > 0
        group = np.repeat(towers, 12)[keep]
        x = x.reshape(-1, x.shape[-1])[keep]
        y = picked["y"].to_numpy().reshape(-1, 3)[keep]
        # A month seen for years is known better than one seen for weeks, but not in proportion.
        w = np.sqrt(np.minimum(weight.ravel()[keep], 120.0))
        self.boosters = [self._boost(x, np.ascontiguousarray(y[:, k]), w, group) for k in range(3)]
        self.digest = hashlib.sha256("".join(self.texts()).encode()).hexdigest()
        return self

    def texts(self) -> list[str]:
        """Give the trees of each flux as LightGBM's text."""
        return [booster.model_to_string() for booster in self.boosters]

    def _boost(self, x: Floats, y: Floats, w: Floats, group: Towers) -> lightgbm.Booster:
        parameters = self.PARAMETERS | {"seed": self.seed or 0}
        data = lightgbm.Dataset(x, y, weight=w)
        if self.rounds is not None:
            return lightgbm.train(parameters, data, self.rounds)
        error = np.zeros(len(self.ROUNDS))
        folds = GroupKFold(min(5, len(np.unique(group))))
        for train, test in folds.split(x, y, group):
            part = lightgbm.Dataset(x[train], y[train], weight=w[train], params={"verbosity": -1})
            booster = lightgbm.train(parameters, part, max(self.ROUNDS))
            for i, rounds in enumerate(self.ROUNDS):
                guess = booster.predict(x[test], num_iteration=rounds)
                error[i] += (w[test] * (guess - y[test]) ** 2).sum()
        return lightgbm.train(parameters, data, self.ROUNDS[int(error.argmin())])

    def __call__(self, x: Floats) -> Floats:
        """Predict (place, month, 3): GPP, RECO, NEE in gC m-2 d-1."""
        rows = model_inputs(x)
        return self.from_inputs(rows.reshape(-1, rows.shape[-1])).reshape(*x.shape[:2], 3)

    def from_inputs(self, rows: Floats) -> Floats:
        """Predict (row, 3) from rows of `model_inputs`."""
        raw = np.stack([b.predict(rows, num_threads=1) for b in self.boosters], axis=-1)
        residual = (raw[:, 1] - raw[:, 0] - raw[:, 2]) / 3
        gpp = np.maximum(raw[:, 0] + residual, 0.0)
        reco = np.maximum(raw[:, 1] - residual, 0.0)
        return np.stack([gpp, reco, reco - gpp], axis=-1).astype(np.float32)


def boosted_ensemble(
    table: xr.Dataset,
    members: int = 5,
    seed: int = 0,
    train: Towers | None = None,
    jobs: int = 2,
) -> list[BoostedMap]:
    """Fit `members` boosted map models to the towers `train`, each to its own draw of them."""
    fits = (
        joblib.delayed(BoostedMap(seed=seed * 1000 + i).fit)(table, train) for i in range(members)
    )
    return list(joblib.Parallel(jobs, prefer="threads")(fits))


def out_of_fold(
    table: xr.Dataset,
    make: Callable[[xr.Dataset, Towers], Sequence[MapModel]],
    folds: int = 10,
    seed: int = 0,
) -> xr.Dataset:
    """Predict every tower's season by models that have not seen the tower.

    Towers in one cell of the grid stay together.

    Parameters
    ----------
    table
        As from `monthly_training_table`.
    make
        Fits an ensemble to the table's towers at the given positions.

    Returns
    -------
    xarray.Dataset
        mean and sd over the ensemble (site, month, flux), gC m-2 d-1; observed (site, month, flux).
    """
    cell = table["cell_lat"].to_numpy() * 1000 + table["cell_lon"].to_numpy()
    names, group = np.unique(cell, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[group] % folds
    shape = table["y"].shape
    mean, sd = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for k in range(folds):
        models = make(table, np.flatnonzero(fold != k))
        test = np.flatnonzero(fold == k)
        features = list(models[0].features)
        x = table["x"].isel(site=test).sel(feature=features).to_numpy()
        each = np.stack([model(x) for model in models])
        mean[test] = each.mean(axis=0)
        sd[test] = each.std(axis=0, ddof=1) if len(models) > 1 else np.nan
    dims = ("site", "month", "flux")
    return xr.Dataset(
        {"mean": (dims, mean), "sd": (dims, sd), "observed": table["y"]},
        coords=table.drop_dims("feature").coords,
    )


def spread_factors(held_out: xr.Dataset, level: float = 0.9) -> dict[str, float]:
    """Factor by flux that widens an ensemble's spread to hold `level` of held-out tower-months.

    The split-conformal quantile of |observed - mean| / sd over all towers (Vovk et al. 2005,
    doi:10.1007/b106715); one number a flux, so that the interval is as local as the spread is.
    """
    factors = {}
    for flux in held_out["flux"].to_numpy().tolist():
        one = held_out.sel(flux=flux)
        ratio = (abs(one["observed"] - one["mean"]) / one["sd"]).to_numpy().ravel()
        ratio = ratio[np.isfinite(ratio)]
        rank = min(np.ceil(level * (len(ratio) + 1)) / len(ratio), 1.0)
        factors[flux] = float(np.quantile(ratio, rank, method="higher"))
    return factors
