"""Hourly series of one point, as CDS (ERA5, ERA5-Land) and services like Open-Meteo give them.

CDS writes csv or NetCDF: `valid_time` in UTC, t2m and d2m in K, ssrd in J m-2 and tp in m of the
hour before the stamp; ERA5-Land's own files accumulate from 00 UTC instead
(https://confluence.ecmwf.int/display/CKB/ERA5-Land), which is undone here. Open-Meteo writes two
lines of facts before its table (https://open-meteo.com/en/docs/historical-weather-api).
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.daily import MISSING_CODE, Floats
from tamrl.data.own.csvfiles import Table, read_csv
from tamrl.data.own.tables import wanted
from tamrl.data.own.vocabulary import recognise
from tamrl.errors import DataError

ACCUMULATED = {"SW_IN": ("J m-2", "J m**-2"), "P": ("m",), "PET": ("m",)}
GROWS = 0.999  # share of hours in which a series that accumulates over the day does not fall
HOURS = 48  # at least, to judge that


def read_point(path: Path, notes: list[str], further: Iterable[str] = ()) -> Table:
    """Table of one tower or point: csv of any kind that `tower_days` knows, or NetCDF of CDS.

    Of csv only known columns are read, and those named in ``further``. What ERA5-Land accumulated
    from 00 UTC becomes the amounts of hours. DataError, naming the file, where it cannot be read,
    or holds more than one point.
    """
    picked = partial(wanted, further=further)
    netcdf = path.suffix.lower() in (".nc", ".nc4", ".netcdf")
    table = _netcdf(path) if netcdf else read_csv(path, picked)
    return _of_hours(table, notes)


def _netcdf(path: Path) -> Table:
    try:
        with xr.open_dataset(path) as opened:
            ds = opened.load()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as NetCDF ({error})") from error
    clock = next((n for n in ("valid_time", "time") if n in ds.dims), None)
    if clock is None:
        raise DataError(f"{path}: no dimension valid_time or time; have {[*map(str, ds.dims)]}")
    for dim, size in ds.sizes.items():
        if dim != clock and size > 1:
            many = f"{dim} has {size} entries; a file of one point is expected"
            raise DataError(f"{path}: {many} (for cubes there is tamrl map)")
    units = {str(n): str(v.attrs["units"]) for n, v in ds.items() if v.attrs.get("units")}
    facts = {n: str(ds[n].item()) for n in ("latitude", "longitude") if n in ds and ds[n].size == 1}
    ds = ds.squeeze(drop=True)
    frame = ds[[n for n, v in ds.items() if v.dims == (clock,)]].reset_coords(drop=True)
    return Table(frame.to_dataframe(), str(path), units, 0.0, facts)


def _of_hours(table: Table, notes: list[str]) -> Table:
    """Undo the accumulation over the day of ERA5-Land, column by column."""
    frame = table.frame
    stamps = next((c for c in frame.columns if str(c).casefold() == "valid_time"), None)
    if stamps is None and not isinstance(frame.index, pd.DatetimeIndex):
        return table
    times = frame.index if stamps is None else pd.to_datetime(frame[stamps], errors="coerce")
    time = pd.DatetimeIndex(times).to_numpy()
    if len(time) < HOURS or np.isnat(time).any() or (np.diff(time) <= np.timedelta64(0)).any():
        return table
    hours = pd.date_range(time[0], time[-1], freq="h").to_numpy()
    if np.median(np.diff(time)) != np.timedelta64(1, "h") or not np.isin(time, hours).all():
        return table
    found = recognise(frame.columns, table.units)
    for name, units in ACCUMULATED.items():
        if name in found and found[name].unit in units:
            column = found[name].column
            given = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
            given = np.where(given == MISSING_CODE, np.nan, given)
            whole = pd.Series(given, time).reindex(hours).to_numpy()
            if accumulates(whole, hours):
                hourly = amounts(whole, hours)
                frame = frame.assign(**{column: hourly[np.searchsorted(hours, time)]})
                notes.append(f"{name}: amounts of hours made of sums from 00 UTC ({column})")
    return Table(frame, table.source, table.units, table.utc_offset, table.facts, table.unread)


def accumulates(values: Floats, time: NDArray[np.datetime64], first: int = 1) -> bool:
    """Whether sums (time,) run from ``first`` to 24 h UTC: they fall at that hour alone, and do."""
    step, within = np.diff(values), _hour(time)[1:] != first
    known = np.isfinite(step)
    grows = (step >= -1e-6 * np.nanmax(np.abs(values), initial=0))[known & within]
    if np.nanmean(values) < 0:  # evaporation, a downward flux
        grows = (step <= 1e-6 * np.nanmax(np.abs(values), initial=0))[known & within]
    resets = np.abs(values[1:]) < np.abs(values[:-1])
    some = np.abs(values[:-1]) > 0
    falls = resets[known & ~within & some]
    return bool(grows.size and falls.size and grows.mean() > GROWS and falls.mean() > GROWS)


def amounts(values: Floats, time: NDArray[np.datetime64], first: int = 1) -> Floats:
    """Amounts (time, …) between stamps of sums from 00 UTC; NaN where the sum before is absent."""
    fresh = (_hour(time) == first).reshape(-1, *[1] * (values.ndim - 1))
    return np.where(fresh, values, np.diff(values, prepend=np.nan, axis=0))


def _hour(time: NDArray[np.datetime64]) -> NDArray[np.int_]:
    return (time.astype("datetime64[h]").astype(int)) % 24
