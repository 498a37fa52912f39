"""Training data of monthly map models: towers' mean seasons beside what the grid says there.

A map model is trained on the grid's predictors at the towers, not on the towers' own weather, so
that a predictor means the same at a tower and on the map. The table becomes ordinary samples with
a time axis of months (`season_samples`), monthly models ordinary learners
(`tamrl.maps.monthly`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.sparse.csgraph import connected_components

from tamrl.data.grid import grid_at
from tamrl.data.gridfiles import LAND_CLASSES
from tamrl.data.schema import FLUXES
from tamrl.maps.cubes import stack_features
from tamrl.samples.arrays import GRID_STATIC, TRAIN_QC, Samples, process_scalars
from tamrl.samples.splits import distance_km

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

MONTHLY = ("TA", "PRCP", "SW_IN", "SW_POT", "VPD", "EVI")
STATIC = (*GRID_STATIC, *(f"igbp_{code}" for code in LAND_CLASSES))
MAP_FEATURES = (*MONTHLY, *STATIC)
# What trees split on: the month, and the year around it.
INPUTS = (*MAP_FEATURES, *(f"{name}_mean" for name in MONTHLY), *(f"{n}_range" for n in MONTHLY))

MONTH_MIN_DAYS = 10.0  # good days that a calendar month needs over all its years, d
BUFFER_KM = 50.0  # towers nearer to each other stay in one fold


def monthly_training_table(
    towers: xr.Dataset, cube: xr.Dataset, features: Sequence[str] = MAP_FEATURES
) -> xr.Dataset:
    """Mean seasonal fluxes of towers beside the cube's predictors of their cells.

    Days count by their share of good half-hours, from one half; a calendar month needs ten good
    days over all its years. A tower without a land cell nearby has missing predictors and weight 0.

    Parameters
    ----------
    towers, cube
        Daily towers (site, time); predictor cube (month, lat, lon) as from `fetch_grid`.
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
    mean = total / np.where(enough, weight, np.nan)[..., None]
    site_coords = {n: c for n, c in towers.coords.items() if c.dims == ("site",)}
    cells = {n: ("site", at[n].to_numpy()) for n in ("cell_lat", "cell_lon")}
    axes = {"month": np.arange(1, 13), "feature": list(features), "flux": list(FLUXES)}
    return xr.Dataset(
        {
            "x": (("site", "month", "feature"), x),
            "y": (("site", "month", "flux"), mean.astype(np.float32), {"units": "gC m-2 d-1"}),
            "weight": (("site", "month"), np.where(enough, weight, 0.0), {"units": "d"}),
        },
        coords={**site_coords, **cells, **axes},
        attrs={k: towers.attrs[k] for k in ("virtual", "tower_source") if k in towers.attrs},
    )


def season_samples(x: Floats, table: xr.Dataset | None = None) -> Samples:
    """Make samples on months of predictors (place, month, feature) of MAP_FEATURES.

    ``table``, from `monthly_training_table`, adds the towers, their fluxes, and as weights their
    good days.
    """
    n, months, k = *x.shape[:2], len(MONTHLY)
    drivers = x[..., :k]
    factors = [drivers[..., MONTHLY.index(name)] for name in ("TA", "VPD", "SW_IN")]
    y = np.full((n, months, len(FLUXES)), np.nan, np.float32)
    days: npt.NDArray[Any] = np.zeros((n, months))
    site, towers = np.arange(n).astype(str), pd.DataFrame(index=range(n))
    if table is not None:
        y, days, site = (table[v].to_numpy() for v in ("y", "weight", "site"))
        known = [c for c, v in table.coords.items() if v.dims == ("site",)]
        towers = pd.DataFrame({str(c): table[c].to_numpy() for c in known})
    return Samples(
        site=site,
        time=(np.datetime64("2001-01") + np.arange(months)).astype("datetime64[D]"),
        x=drivers,
        features=MONTHLY,
        static=x[:, 0, k:],
        static_names=STATIC,
        y=y,
        weight=days,  # float64: sums of shares
        scored=days > 0,
        has_drivers=np.logical_and.reduce([np.isfinite(f) for f in factors]),
        process=process_scalars(*factors),
        table=towers,
        attrs={"virtual": 0, "tower_source": "unknown", **({} if table is None else table.attrs)},
    )


def table_samples(table: xr.Dataset) -> Samples:
    """Make samples (site, month) of a training table; see `season_samples`."""
    return season_samples(table["x"].sel(feature=list(MAP_FEATURES)).to_numpy(), table)


def model_inputs(samples: Samples, sites: Indices) -> Floats:
    """Month's predictors with each driver's mean and range over the year: (site, month, INPUTS)."""
    x, static = samples.x[sites], samples.static[sites][:, None]
    with np.errstate(invalid="ignore"):
        year = [x.mean(axis=1, keepdims=True), np.ptp(x, axis=1, keepdims=True)]
    parts = [static, *year]
    wide = [np.broadcast_to(part, (*x.shape[:2], part.shape[-1])) for part in parts]
    return np.concatenate([x, *wide], axis=-1)


def with_fluxes(table: xr.Dataset) -> xr.Dataset:
    """Towers of a monthly training table that have fluxes in some month."""
    return table.isel(site=(table["weight"] > 0).any("month").to_numpy())


def tower_blocks(table: xr.Dataset) -> Indices:
    """Label towers (site,): those within 50 km or in one cell of the grid share a block."""
    near = distance_km(table["lat"].to_numpy(), table["lon"].to_numpy()) <= BUFFER_KM
    cells = table["cell_lat"].to_numpy() * 1000 + table["cell_lon"].to_numpy()
    same = near | (cells[:, None] == cells)
    return np.asarray(connected_components(same, directed=False)[1], np.intp)


def tower_folds(table: xr.Dataset, folds: int = 10, seed: int = 0) -> Indices:
    """Assign whole blocks of towers to folds at random: a number for each tower (site,)."""
    block = tower_blocks(table)
    return np.random.default_rng(seed).permutation(block.max() + 1)[block] % folds
