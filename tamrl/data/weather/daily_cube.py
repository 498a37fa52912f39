"""From hourly fields to a cube of local days, block by block of days, that `tamrl map` reads.

A block is the unit of work, storage and resumption. Hours are added up one after the other, so that
the cube is the same to the last bit whatever the blocks, on one thread or many, in one go or not.
"""

import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr
import zarr
from joblib import cpu_count
from numpy.typing import NDArray
from tqdm.dask import TqdmCallback

from tamrl.data.daily import Floats
from tamrl.data.own.vocabulary import DAY
from tamrl.data.physics import LIT, potential_radiation, saturation_pressure
from tamrl.data.units import KNOWN, plausible
from tamrl.data.weather.daily_layout import identity_of, layout, prepare
from tamrl.data.weather.gridsource import Region, Source
from tamrl.data.weather.hourly import Hours, open_hours
from tamrl.data.weather.local_days import Days, Noon, Years, asked, days_of, shifts_of
from tamrl.data.weather.vegetation import Vegetation, open_vegetation
from tamrl.errors import DataError
from tamrl.files import DONE, STORE, alone, check_store, made_of

BYTES = 128e6  # of sums of days, and of hours read at once, in each worker
BLOCK_DAYS = 32  # at most
WORKERS = 4  # at most, unless more are asked for
# Radiation of a day against that above the atmosphere (FAO-56): never more, but for the twilight
# and the hours between local time and the sun's; over a block of days and cells never as little.
MOST, TWILIGHT, LEAST, BRIGHT = 1.05, 10.0, 0.01, 20.0
# Of a single day and cell never as little where the sun is above LIT, nor one temperature all day;
# both may be in so many of a block, by a fault of a measurement.
DARK, FEW = 0.002, 0.01
# VPD_max as a share of saturation at TA_max in so many values of a block: no air is so damp or dry.
DAMP, DRY, ENOUGH = 0.005, 0.992, 40
# W m-2 and mm d-1; below zero: what packed numbers make of none.
LIMITS = {"SW_IN": (-1.0, 500.0), "PRCP": (-1.0, plausible("PRCP")[1])}


@dataclass(frozen=True)
class _Job:
    """What every worker needs."""

    hours: Hours
    shifts: NDArray[np.int64]  # (lon,) records that local time is ahead of UTC
    days: Days
    vegetation: Vegetation | None
    part: Path
    block: int  # days

    def __call__(self, number: int) -> None:
        """Make one block and write it; the marker comes last, so that a kill costs one block."""
        days = self.days[number * self.block : (number + 1) * self.block]
        fields, noon = self._sum_up(days)
        _check(fields, days, self.hours)
        noon.check()
        if self.vegetation is not None:
            fields["EVI"] = self.vegetation.days(days)
        out = zarr.open_group(self.part / STORE, mode="r+")
        at = slice(number * self.block, number * self.block + len(days))
        for name, values in fields.items():
            target: Any = out[name]
            target[at] = values.astype(np.float32)
        known = int(np.isfinite(fields["TA"] + fields["VPD"] + fields["SW_IN"]).any())
        mark = self.part / DONE / f".{number}"
        mark.write_text(str(known))
        os.replace(mark, self.part / DONE / str(number))

    def _sum_up(self, days: Days) -> tuple[dict[str, Floats], Noon]:
        """Means, extremes and sums (day, lat, lon) of local days, and when the sun was highest."""
        hours, day_records = self.hours, DAY // self.hours.step
        begin = int(days[0].astype(int)) * day_records + 1
        first = begin - int(self.shifts.max())
        stop = begin + len(days) * day_records - int(self.shifts.min())
        groups = [np.flatnonzero(self.shifts == s) for s in np.unique(self.shifts)]
        columns = [(int(self.shifts[g[0]]), slice(g[0], g[-1] + 1)) for g in _runs(groups)]
        shape = (len(days), len(hours.window.lat), len(hours.window.lon))
        out: dict[str, Floats] = {}
        noon = Noon(hours.name, hours.step)
        slab = max(1, int(BYTES // (8 * shape[1] * shape[2] * (len(hours.series) + 2))))
        for start in range(first, stop, slab):
            values = hours.read(start, min(start + slab, stop))
            noon.add(
                values["SW_IN"], hours.stamps(start, min(start + slab, stop)), hours.window.lon
            )
            for k, (shift, cols) in product(range(min(slab, stop - start)), columns):
                day, within = divmod(start + k - begin + shift, day_records)
                if 0 <= day < len(days):
                    for name, field in values.items():
                        at = (day, slice(None), cols)
                        _add(out, name, shape, at, field[k, :, cols], within)
        for name in out.keys() & {"TA", "VPD", "SW_IN"}:
            out[name] /= day_records
        if "P" in out:
            out["PRCP"] = out.pop("P")
        return out, noon


def _runs(groups: Sequence[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Split columns into runs that lie side by side."""
    return [r for g in groups for r in np.split(g, np.flatnonzero(np.diff(g) != 1) + 1)]


def _add(
    out: dict[str, Floats], name: str, shape: tuple[int, ...], at: Any, field: Floats, within: int
) -> None:
    """Add a record to the sum and the extremes of its day."""
    for own, more in ((name, np.add), (f"{name}_max", np.maximum), (f"{name}_min", np.minimum)):
        if own != name and own not in KNOWN:
            continue
        days = out.setdefault(own, np.zeros(shape))
        days[at] = field if within == 0 else more(days[at], field)


def _check(fields: dict[str, Floats], days: Days, hours: Hours) -> None:
    """Refuse what no day on Earth shows: wrong units, sums taken for rates or the other way."""
    lat, lon = hours.window.lat, hours.window.lon
    doy = (days - days.astype("datetime64[Y]")).astype(int) + 1
    sun = potential_radiation(lat, doy[:, None])[..., None]
    sw = fields["SW_IN"]
    for name, field in fields.items():
        low, high = LIMITS.get(name) or plausible(name)
        bad = (field < low) | (field > high)
        if name == "SW_IN":
            bad |= sw > MOST * sun + TWILIGHT
        for t, i, j in np.argwhere(bad)[:1]:
            value = f"{name} is {field[t, i, j]:.6g} {KNOWN[name].units}"
            where = f"on {days[t]} at {lat[i]:g}, {lon[j]:g}"
            why = f"outside {low:g} to {high:g}"
            if name == "SW_IN":
                why += f" or above the sun's {sun[t, i, 0]:.0f}"
            raise DataError(f"{hours.name}: {value} {where}, {why}; {_remedy(hours, name)}")
    sunny = np.broadcast_to(sun > BRIGHT, sw.shape) & np.isfinite(sw)
    if sunny.any() and sw[sunny].sum() < LEAST * np.broadcast_to(sun, sw.shape)[sunny].sum():
        text = f"SW_IN from {days[0]} on is {sw[sunny].mean():.3g} W m-2 in the mean"
        raise DataError(f"{hours.name}: {text}, dark for any sky; {_remedy(hours, 'SW_IN')}")
    none, still = (sw < DARK * sun) & (sun > LIT), fields["TA_max"] <= fields["TA_min"]
    odd = {"SW_IN": (none, "dark by day"), "TA": (still, "the same at all hours of the day")}
    for name, (bad, what) in odd.items():
        if bad.sum() > FEW * np.isfinite(fields[name]).sum():
            t, i, j = np.argwhere(bad)[0]
            text = (
                f"{name} is {what} on {days[t]} at {lat[i]:g}, {lon[j]:g} and {bad.sum() - 1} more"
            )
            raise DataError(
                f"{hours.name}: {text}; mark what is missing by NaN, or else {_remedy(hours, name)}"
            )
    full = saturation_pressure(fields["TA_max"])
    known = np.isfinite(vpd := fields["VPD_max"] + 0 * full)
    share = vpd[known].sum() / full[known].sum() if known.sum() >= ENOUGH else DRY
    if not DAMP <= share <= DRY:
        text = f"VPD_max from {days[0]} on is {share:.2%} of saturation in the mean"
        raise DataError(f"{hours.name}: {text}, as no air is; {_remedy(hours, 'VPD')}")
    for name in fields.keys() & LIMITS.keys():
        np.maximum(fields[name], 0, out=fields[name])


def _remedy(hours: Hours, name: str) -> str:
    source = {"PRCP": "P"}.get(name, name.split("_m")[0])
    names = ["TA", "TDEW", "RH"] if source == "VPD" else [source]
    columns = [hours.series[n].column for n in (source, *names) if n in hours.series]
    units = ", ".join(dict.fromkeys(f"{c.column} in {c.unit!r}" for c in columns))
    kinds = [hours.sums[n] for n in (source,) if n in hours.sums]
    since = {"step": "the stamp before", "day": "00 UTC"}
    text = f", as sums since {since[kinds[0]]} (another: --sums)" if kinds else ""
    return f"it was read as {units}{text}; correct the units attribute or the option"


def build_cube(
    source: Source, out: str | Path, *, region: Region | None = None,
    years: Years = None, vegetation: Source | None = None,
    sums: str = "auto", workers: int | None = None,
) -> xr.Dataset:  # fmt: skip
    """Make a cube of local days (time, lat, lon) from hourly weather, for `tamrl map`.

    ``source``: "arco-era5" (public object storage, `pip install 'tamrl[cloud]'`), an address that
    fsspec knows, a Zarr store, files or a folder as the Climate Data Store gives them, NetCDF after
    CF, or a Dataset: temperature, dew point (or humidity), solar radiation and, if there, rain.
    ``region``: south, west, north, east, degrees, across the dateline if west > east (None: all).
    ``years``: "2015", "2015-2020" or first and last day ("2015-03-01:2016-02-29", or two texts).
    ``vegetation``: EVI of composites or months on any grid. ``sums``: whether J m-2 and m are sums
    since the stamp before ("step", ERA5) or 00 UTC ("day", ERA5-Land); "auto" asks the values.
    ``workers``: threads, each with some 400 MB at most.

    A day lasts from midnight to midnight of local time, UTC + longitude / 15 to the half-hour, as
    at towers (`tamrl.data.own.points`); records belong to the time before their stamp. It holds
    TA, TA_min, TA_max (degC), VPD, VPD_max (hPa, FAO-56 eq. 11 hour by hour, then the mean), SW_IN
    (W m-2), PRCP (mm d-1) and EVI. It grows in ``out`` + ".part" and takes its name when complete;
    called again, it goes on, or only opens the complete cube, a lazy Dataset whose attribute
    ``inputs`` says in lines what was read, converted and left out.

    DataError for a source that cannot be read, lacks a variable, an hour or the region, is of
    other units or steps than it says, or for an ``out`` that holds anything else.
    """
    out, notes = Path(out), list[str]()
    span = asked(years)
    if workers is not None and workers < 1:
        raise DataError(f"workers {workers}: 1 or more")
    check_store(out, source, vegetation)
    with ExitStack() as files:
        hours = open_hours(source, region, span, sums, notes, files)
        shifts = shifts_of(hours)
        days = days_of(hours, shifts, span, notes)
        evi = None
        if vegetation is not None:
            evi = open_vegetation(vegetation, hours.window.lat, hours.window.lon, notes, files)
            _check_span(evi, days, notes)
        first = hours.read(hours.usable, hours.usable + 1, notes)
        identity = identity_of(hours, days, evi)
        if made_of(out, identity, "cube", source, vegetation):
            return open_daily_cube(out)
        part = out.with_name(out.name + ".part")
        cells = len(hours.window.lat) * len(hours.window.lon)
        block = int(np.clip(BYTES // (8 * cells * (2 * len(first) + 1)), 1, BLOCK_DAYS))
        block = min(block, len(days))
        names = ["TA", "TA_min", "TA_max", "VPD", "VPD_max", "SW_IN"]
        names += ["PRCP"] * ("P" in first) + ["EVI"] * (evi is not None)
        facts = {"identity": identity, "inputs": "\n".join(notes), "source": hours.name}
        with alone(out, "cube"):
            prepare(part, *layout(hours.window, days, names, block, facts), identity)
            todo = [k for k in range(-(-len(days) // block)) if not (part / DONE / str(k)).exists()]
            job = _Job(hours, shifts, days, evi, part.absolute(), block)
            with TqdmCallback(desc="Days", leave=False):
                lazy = [dask.delayed(job, pure=False, traverse=False)(number) for number in todo]
                threads = workers or min(WORKERS, cpu_count())
                dask.compute(*lazy, scheduler="threads", num_workers=threads)
            if not any(mark.read_text() == "1" for mark in (part / DONE).glob("[0-9]*")):
                shutil.rmtree(part)
                text = "no value in any cell of the region; is it sea, or are hours NaN?"
                raise DataError(f"{hours.name}: {text}")
            shutil.rmtree(part / DONE)
            os.replace(part / STORE, out)
            part.rmdir()
    return open_daily_cube(out)


def _check_span(evi: Vegetation, days: Days, notes: list[str]) -> None:
    """Refuse an index of other years; say where it ends too early."""
    first, last = evi.span
    if last < days[0] or first > days[-1]:
        text = f"its dates, {first} to {last}, are none of the days {days[0]} to {days[-1]}"
        raise DataError(f"{evi.views[0][1].file}: {text}; get those years")
    lost = int((days < first).sum() + (days > last).sum())
    notes.append(f"EVI ({evi.name}) from {first} to {last}: {lost} days have none")


def open_daily_cube(path: str | Path) -> xr.Dataset:
    """Open a cube made by `build_cube`, lazily."""
    return xr.open_zarr(path, consolidated=False, decode_coords="all")
