"""Training data of monthly map models: towers' mean seasons beside the grid's predictors there.

The towers' own weather is not used, so that a predictor means the same at a tower and on the map.
"""

from collections.abc import Sequence

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
from tamrl.samples.average_year import mean_season
from tamrl.samples.splits import distance_km

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

MONTHLY = ("TA", "PRCP", "SW_IN", "SW_POT", "VPD", "EVI")
STATIC = (*GRID_STATIC, *(f"igbp_{code}" for code in LAND_CLASSES))
MAP_FEATURES = (*MONTHLY, *STATIC)
BUFFER_KM = 50.0  # towers nearer to each other stay in one fold


def monthly_training_table(
    towers: xr.Dataset, cube: xr.Dataset, features: Sequence[str] = MAP_FEATURES
) -> xr.Dataset:
    """Mean seasons of daily ``towers`` (site, time) beside the predictors (month, lat, lon) there.

    Days count by their share of good half-hours, from one half; a calendar month needs ten good
    days over all its years. A tower without land nearby has missing predictors and weight 0.
    Dataset: x (site, month, feature); y (site, month, flux), gC m-2 d-1; weight (site, month), d;
    coordinates of the towers and of their cells.
    """
    at = grid_at(cube, towers["lat"], towers["lon"])
    x = stack_features(at, features, ("site",))
    y = np.stack([towers[f].transpose("site", "time").to_numpy() for f in FLUXES], axis=-1)
    share = np.nan_to_num(towers["NEE_QC"].transpose("site", "time").to_numpy())
    usable = np.where((share >= TRAIN_QC) & np.isfinite(y).all(axis=-1), share, 0.0)
    mean, weight = mean_season(y, usable, towers["time"].to_numpy())
    on_land = np.isfinite(x[..., 0])
    coords: dict = {n: c for n, c in towers.coords.items() if c.dims == ("site",)}
    coords |= {n: ("site", at[n].to_numpy()) for n in ("cell_lat", "cell_lon")}
    coords |= {"month": np.arange(1, 13), "feature": list(features), "flux": list(FLUXES)}
    fields = {
        "x": (("site", "month", "feature"), x),
        "y": (
            ("site", "month", "flux"),
            np.where(on_land[..., None], mean, np.float32(np.nan)),
            {"units": "gC m-2 d-1"},
        ),
        "weight": (("site", "month"), np.where(on_land, weight, 0.0), {"units": "d"}),
    }
    attrs = {k: towers.attrs[k] for k in ("virtual", "tower_source") if k in towers.attrs}
    return xr.Dataset(fields, coords, attrs)


def season_samples(x: Floats, table: xr.Dataset | None = None) -> Samples:
    """Make samples of predictors (place, month, MAP_FEATURES), with fluxes of a ``table``."""
    n, months, k = *x.shape[:2], len(MONTHLY)
    if table is None:
        table = xr.Dataset(coords={"site": np.arange(n).astype(str)})
        table["y"] = ("site", "month", "flux"), np.full((n, months, 3), np.nan, np.float32)
        table["weight"] = ("site", "month"), np.zeros((n, months))
    factors = [x[..., MONTHLY.index(name)] for name in ("TA", "VPD", "SW_IN")]
    days = table["weight"].to_numpy()  # float64: sums of shares
    about = {str(c): v.to_numpy() for c, v in table.coords.items() if v.dims == ("site",)}
    return Samples(
        site=table["site"].to_numpy(), y=table["y"].to_numpy(), weight=days, scored=days > 0,
        time=(np.datetime64("2001-01") + np.arange(months)).astype("datetime64[D]"),
        x=x[..., :k], features=MONTHLY, static=x[:, 0, k:], static_names=STATIC,
        has_drivers=np.logical_and.reduce(np.isfinite(factors)), process=process_scalars(*factors),
        table=pd.DataFrame(about), attrs={"virtual": 0, "tower_source": "unknown", **table.attrs},
    )  # fmt: skip


def table_samples(table: xr.Dataset) -> Samples:
    """Make samples (site, month) of a training table; see `season_samples`."""
    return season_samples(table["x"].sel(feature=list(MAP_FEATURES)).to_numpy(), table)


def model_inputs(samples: Samples, sites: Indices) -> Floats:
    """Make what trees split on (site, month, column): a month's predictors, the year around it."""
    x, static = samples.x[sites], samples.static[sites][:, None]
    with np.errstate(invalid="ignore"):
        year = [static, x.mean(axis=1, keepdims=True), np.ptp(x, axis=1, keepdims=True)]
    return np.concatenate([x, *(part.repeat(x.shape[1], axis=1) for part in year)], axis=-1)


def with_fluxes(table: xr.Dataset) -> xr.Dataset:
    """Towers of a monthly training table that have fluxes in some month."""
    return table.isel(site=(table["weight"] > 0).any("month").to_numpy())


def tower_blocks(table: xr.Dataset) -> Indices:
    """Label towers (site,): those within 50 km or in one cell of the grid share a block."""
    near = distance_km(table["lat"].to_numpy(), table["lon"].to_numpy()) <= BUFFER_KM
    cells = table["cell_lat"].to_numpy() * 1000 + table["cell_lon"].to_numpy()
    same = near | (cells[:, None] == cells)
    return np.asarray(connected_components(same, directed=False)[1], np.intp)
