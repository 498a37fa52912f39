"""Whole commands as a user types them, each in a fresh process: seconds, CPU seconds, memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from tamrl.data import fetch_grid, fetch_towers
from tamrl.data.cache import cache_dir
from tamrl.data.schema import tower_facts
from tamrl.data.store import STORE_NAMES
from tamrl.errors import DataError
from tamrl.study.world_map import daily_drivers, every_cell

STORE = "fluxnet2015.zarr"
EVERY, TOWERS = 7, 24  # every seventh tower of the shipped list, 24 of them
ONE, YEAR = "FI-Hyy", 2005  # one of these with a long record, and the year of its labels
REGION = {"lat": slice(45, 55), "lon": slice(0, 30)}  # of the map of half a degree
SIDES = {"small": 10, "large": 30}  # cells of a tenth of a degree along each side of a daily cube
HOURLY, DAYS = 60, 31  # cells along each side of hourly weather, and its days
# This process is small: Linux counts the memory of the one that starts another as the other's.
LAUNCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
code = subprocess.run(sys.argv[1], shell=True, stdout=sys.stderr).returncode
wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e9]))
"""


class Command(NamedTuple):
    """A command, unit of what it writes, and how often it runs: the fastest counts."""

    what: str
    line: str
    unit: str = ""
    runs: int = 3


COMMANDS = {
    "help": Command("list the commands", "tamrl --help"),
    "predict": Command("predict one tower, a table of half-hours",
                       f"tamrl predict {ONE}.csv --table towers.csv -o tower.nc", "tower-days"),
    "store": Command(f"predict {TOWERS} towers, a store of half-hours",
                     f"tamrl predict {STORE} --table towers.csv -o fluxes.nc", "tower-days"),
    "adapt": Command("adapt to one tower, a year of labels",
                     f"tamrl adapt {ONE}-{YEAR}.csv --table towers.csv -o mine.safetensors"),
    "monitor": Command("monitor one tower", f"tamrl monitor {ONE}.csv --table towers.csv -o new"),
    "region": Command("map an average year, 10° x 30° at 0.5°",
                      "tamrl map region.nc -o region.zarr", "cell-months", 1),
    "globe": Command("map an average year, the globe at 2°",
                     "tamrl map globe.nc -o globe.zarr", "cell-months", 1),
    **{name: Command(f"map every day of a year, {n} x {n} cells, on one core",
                     f"OMP_NUM_THREADS=1 tamrl map {name}.nc -o {name}.zarr --workers 1",
                     "cell-days", 1) for name, n in SIDES.items()},
    **{f"{name}_two": Command(
        f"map every day of a year, {n} x {n} cells, by two processes",
        f"OMP_NUM_THREADS=1 tamrl map {name}.nc -o {name}-two.zarr --workers 2", "cell-days", 1,
    ) for name, n in SIDES.items()},
    "cube": Command(f"make {DAYS} days of made-up hours in ERA5's form, {HOURLY} x {HOURLY} cells",
                    "tamrl cube hours.nc -o days.zarr --workers 1", "cell-days"),
    "train": Command("train one member for 2 epochs, not first on simulated towers",
                     "tamrl train -o member.safetensors --epochs 2 --virtual 0", runs=1),
}  # fmt: skip


def run(name: str, command: Command, folder: Path) -> dict[str, Any]:
    """Run a command in ``folder``; DataError if it fails.

    Returns name, its fields, wall and cpu (s), peak_gb (GB, of its largest process) and, with a
    unit, amount: how many values of GPP, or else of temperature, its output holds.
    """
    typed = command.line.replace("tamrl ", f"'{sys.executable}' -m tamrl ", 1)
    of_make = ("OMP_", "MALLOC_", "PYTHONDONT")  # settings that a user does not have
    given = {key: value for key, value in os.environ.items() if not key.startswith(of_make)}
    launch, spent = [sys.executable, "-c", LAUNCH, typed], []
    for _ in range(command.runs):
        done = subprocess.run(launch, cwd=folder, env=given, capture_output=True, text=True)
        code, *used = json.loads(done.stdout)
        if code:
            raise DataError(f"{command.line}: failed: {done.stderr.strip()[-500:]}")
        spent.append(used)
    row = {"name": name, **command._asdict()}
    row |= zip(("wall", "cpu", "peak_gb"), min(spent), strict=True)
    if command.unit:
        output = folder / command.line.split(" -o ")[1].split(" ")[0]
        plain: Any = {"consolidated": False} if output.suffix == ".zarr" else {}
        made = xr.open_dataset(output, **plain)
        row["amount"] = int(made["GPP" if "GPP" in made else "TA"].count())
    return row


def prepare(folder: Path) -> None:
    """Write what the commands read into ``folder``; errors as of `fetch_towers`."""
    fetch_towers()
    facts, grid = tower_facts()[["lat", "lon", "igbp", "utc_offset_h"]], fetch_grid(0.5)
    facts[::EVERY][:TOWERS].to_csv(folder / "towers.csv")
    (folder / STORE).symlink_to(cache_dir() / STORE)
    store = xr.open_zarr(folder / STORE, consolidated=False, chunks=None)[[*STORE_NAMES]]
    at = store.site.to_numpy().astype(str).tolist().index(ONE)
    hours = store.isel(site=at).drop_vars("site").to_dataframe().dropna(how="all")
    hours.index += pd.Timedelta(facts.utc_offset_h[ONE] - 0.5, "h")  # local, of their start
    hours = hours.rename(columns=STORE_NAMES).rename_axis("TIMESTAMP_START")
    form: Any = {"na_rep": "-9999", "date_format": "%Y%m%d%H%M"}
    hours.to_csv(folder / f"{ONE}.csv", **form)
    hours.loc[hours.index.year != YEAR, ["NEE", "GPP"]] = np.nan
    hours.to_csv(folder / f"{ONE}-{YEAR}.csv", **form)
    grid.sel(REGION).to_netcdf(folder / "region.nc")
    every_cell(grid, 4).to_netcdf(folder / "globe.nc")
    for name, n in SIDES.items():
        lat, lon = slice(48, 48 + n / 10), slice(8, 8 + n / 10)
        daily_drivers(grid, lat, lon, 0.1).to_netcdf(folder / f"{name}.nc")
    hourly(HOURLY, DAYS).to_netcdf(folder / "hours.nc")


def hourly(side: int, days: int) -> xr.Dataset:
    """Make ``side`` x ``side`` cells of hours as the Climate Data Store has them, by formulas."""
    time = np.datetime64("2015-06-01T00", "ns") + np.arange(24 * days) * np.timedelta64(1, "h")
    north, east = 48 + 0.25 * np.arange(side)[::-1], 8 + 0.25 * np.arange(side)
    axes = {"valid_time": time, "latitude": north, "longitude": east}
    local = np.arange(24 * days)[:, None, None] + east / 15  # h
    high = np.maximum(np.sin((local - 6.5) / 12 * np.pi), 0)  # of the sun, which is up for 12 h
    cool = 0.3 * (north[:, None] - 48)
    noise = np.random.default_rng(0).normal(0, 1, (24 * days, side, side))
    values = {
        "t2m": (288 - cool + 6 * high + noise, "K"), "d2m": (280 - cool - noise**2, "K"),
        "ssrd": (2e6 * high * np.exp(-0.1 * noise**2), "J m**-2"),
        "tp": (1e-4 * np.maximum(noise, 0), "m"),
    }  # fmt: skip
    fields = {
        n: ([*axes], v.astype(np.float32), {"units": unit}) for n, (v, unit) in values.items()
    }
    ds = xr.Dataset(fields, axes)
    for name, unit in (("latitude", "degrees_north"), ("longitude", "degrees_east")):
        ds[name].attrs = {"units": unit, "standard_name": name}
    return ds


def measure() -> list[dict[str, Any]]:
    """Run all `COMMANDS`; a row of `run` for each."""
    with TemporaryDirectory() as name:
        prepare(Path(name))
        return [run(*each, Path(name)) for each in tqdm(COMMANDS.items(), "commands")]
