"""What a large map takes: daily, 0.25 degrees, the globe, planned from rates that were measured.

Strips are independent of each other, so that time falls as cores are added until the disks are
busy; the plan takes that as given and says so. A region with daily steps shows that the way is
open; its drivers are a climatology drawn out to days (`daily_drivers`), not weather.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import xarray as xr

from tamrl.data.gridfiles import MID_MONTH, MONTH_DAYS
from tamrl.errors import DataError
from tamrl.maps.boosted import MapModel
from tamrl.maps.daily import tower_maps
from tamrl.maps.upscale import upscale
from tamrl.model.network import Config, TamRL
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import make_samples

GB = 1e9
FLOAT = 4  # bytes of a number
KEPT = 12 * FLOAT + 1  # bytes of a place and day: three fluxes with sd and two bounds, quality
CORES = (2, 16, 64, 256)  # a laptop, a server, a node of a cluster, a few of them
GPU_AS_CORES = 50.0  # an assumption, not measured; the table says so


@dataclass(frozen=True)
class Rate:
    """What was measured: place-days a second on one core for one model."""

    place_days: float
    cores: int
    seconds: float


def daily_drivers(
    cube: xr.Dataset, lat: slice, lon: slice, step: float = 0.25, year: int = 2001
) -> xr.Dataset:
    """Draw a monthly climatology out to the days of a year on a finer grid.

    Between the middles of months lines are drawn, round the year; a fine cell has the values of the
    cell that it lies in, so that no detail is invented. There is no weather in the result, and its
    title says so.

    Parameters
    ----------
    cube
        Predictor cube (month, lat, lon).
    lat, lon
        The region, deg.
    step
        Cell size, deg; it divides the cube's.
    year
        Whose days.

    Returns
    -------
    Dataset (time, lat, lon), statics (lat, lon), float32.
    """
    axes: dict[Hashable, npt.NDArray[np.float64]] = {}
    for name, span in (("lat", lat), ("lon", lon)):
        n = round((span.stop - span.start) / step)
        axes[name] = span.start + step * (np.arange(n) + 0.5)
    part = cube.drop_vars(["lat_bnds", "lon_bnds"], errors="ignore")
    part = part.sel(axes, method="nearest", tolerance=abs(float(cube["lat"][1] - cube["lat"][0])))
    part = part.assign_coords(axes)
    days = pd.date_range(f"{year}-01-01", f"{year}-12-31")
    weights = xr.DataArray(
        _between_months(days.day_of_year.to_numpy()), {"time": days}, ("time", "month")
    )
    monthly = [str(name) for name, v in part.data_vars.items() if "month" in v.dims]
    out = part.drop_vars([*monthly, "area"], errors="ignore").drop_vars("month")
    for name in monthly:
        days_of = xr.dot(weights, part[name].drop_vars("month"), dim="month").astype(np.float32)
        out[name] = days_of.transpose("time", "lat", "lon").assign_attrs(part[name].attrs)
    return out.assign_attrs(
        cube.attrs | {"title": "Daily drivers drawn from a monthly climatology: no weather in them"}
    )


def _between_months(day: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Weights (day, month) of linear interpolation between the middles of months."""
    year = float(MONTH_DAYS.sum())
    middle = np.concatenate([[MID_MONTH[-1] - year], MID_MONTH, [MID_MONTH[0] + year]])
    at = day - 0.5
    left = np.clip(np.searchsorted(middle, at) - 1, 0, 12)
    w = (at - middle[left]) / (middle[left + 1] - middle[left])
    weights = np.zeros((len(day), 12), np.float32)
    rows = np.arange(len(day))
    weights[rows, (left - 1) % 12] = 1 - w
    weights[rows, left % 12] += w
    return weights


def untrained_daily(cube: xr.Dataset) -> list[MapModel]:
    """Make a daily TAM-RL of default size with random weights for a cube: for timing alone."""
    towers = xr.Dataset(
        {n: (("site", "time"), np.ones((1, 2), np.float32)) for n in ("TA", "VPD", "SW_IN")},
        {
            "site": ["none"], "time": pd.date_range("2001-01-01", periods=2),
            **{n: ("site", [0.0]) for n in ("lat", "lon", "elevation")},
            **{n: ("site", [""]) for n in ("igbp", "koppen", "koppen_main")},
        },
    )  # fmt: skip
    samples = make_samples(towers)
    torch.manual_seed(0)
    config = Config(features=len(samples.features), statics=len(samples.static_names))
    model = TamRLModel(net=TamRL(config), features=samples.features)
    header = {"features": samples.features}
    return list(tower_maps([model], header, cube, None))


def measure(models: Sequence[MapModel], cube: xr.Dataset, out: Path, cores: int = 2) -> Rate:
    """Map a cube and take the time, with all reading and writing.

    Parameters
    ----------
    models, cube, out
        As for `tamrl.maps.upscale.upscale`; ``out`` must not exist.
    cores
        Threads to use.

    Raises
    ------
    DataError
        When ``out`` exists: opening a finished map would take no time.
    """
    if out.exists():
        raise DataError(f"{out}: exists already; remove it, or nothing is measured")
    started = time.perf_counter()
    made = upscale(models, cube, out, workers=cores)
    seconds = time.perf_counter() - started
    places = int((made["GPP"].count("time") > 0).sum())
    used = min(cores, os.cpu_count() or 1)
    amount = places * made.sizes["time"] * len(models)
    return Rate(amount / seconds / used, used, seconds)


def land_cells(cube: xr.Dataset, step: float) -> int:
    """Count the land cells of a grid of ``step`` degrees, from a coarser cube: an upper bound.

    Every fine cell in a coarse one with land and drivers counts.
    """
    drivers = np.isfinite(cube["TA"].transpose("month", "lat", "lon").to_numpy()).all(axis=0)
    known = (cube["land_fraction"].to_numpy() > 0) & drivers
    coarse = abs(float(cube["lat"][1] - cube["lat"][0]))
    return int(known.sum()) * round(coarse / step) ** 2


def plan(
    rate: Rate, cells: int, days: int = 365, members: int = 5, drivers: int = 16,
    grid: int = 720 * 1440, cores: Sequence[int] = CORES,
) -> pd.DataFrame:  # fmt: skip
    """Compute hours and storage of a daily map from a measured rate.

    Parameters
    ----------
    rate
        From `measure`.
    cells, days, members
        Land cells, days, models in the ensemble.
    drivers
        Daily variables that are read.
    grid
        All cells of the grid, sea and land: what a file of drivers holds.
    cores
        Machines to plan for, by their cores.

    Returns
    -------
    Table by machine: hours, core-hours, and in GB, without compression, what is read, kept, and
    kept as int16. The row of a GPU rests on an assumption, the rest on linear scaling of the rate.
    """
    core_hours = cells * days * members / rate.place_days / 3600
    hours = {f"{n} cores": core_hours / n for n in cores}
    hours[f"1 GPU, if it does the work of {GPU_AS_CORES:.0f} cores (not measured)"] = (
        core_hours / GPU_AS_CORES
    )
    table = pd.DataFrame({"hours": pd.Series(hours)})
    table["core-hours"] = core_hours
    table["read (GB)"] = grid * days * drivers * FLOAT / GB
    table["kept (GB)"] = cells * days * KEPT / GB
    table["kept as int16 (GB)"] = cells * days * (KEPT // 2 + 1) / GB
    return table.rename_axis("machine")
