"""Readers of data cubes: names, axes and units put right, and the features of a map model.

What is ambiguous ends in one error. Only coordinates and a sample are read, values strip by strip.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.cube import AXES, find_axes
from tamrl.data.gridfiles import MONTH_DAYS
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import DRIVERS, KOPPEN_MAIN
from tamrl.data.units import KNOWN, conversion, to_our_units
from tamrl.errors import DataError
from tamrl.maps.cubefiles import DAMAGE, open_source
from tamrl.maps.possible import impossible, wrong_dims
from tamrl.maps.timeaxis import fill_leap_days, leap_note, read_time, time_edges

Floats = npt.NDArray[np.float32]

BARE = ("SNO", "BSV")  # classes without flux: no tower stands there (FLUXCOM likewise)
PERIODS = {"step": "", "month": "M", "year": "Y"}  # what a map may be averaged to
FULL = 0.8  # share of the days of a month or year that must be predicted
SAMPLE_ROWS = 9  # rows of latitude that are looked at before a long computation starts


@dataclass(frozen=True)
class Cube:
    """A cube on ascending axes with what it takes to read features from it in our units."""

    ds: xr.Dataset  # (time, lat, lon), nothing loaded
    features: tuple[str, ...]
    convert: dict[str, tuple[float, float]]  # variable -> factor, offset
    climatology: bool  # twelve months of a mean year, or dates
    name: str
    every: str = "step"  # of `PERIODS`: the map's own steps
    leap: tuple[int, ...] = ()  # times that a 365-day calendar lacks, filled when rows are loaded

    @property
    def drivers(self) -> Sequence[int]:
        """Positions of the features that change in time."""
        none = xr.DataArray(0)
        return [i for i, f in enumerate(self.features) if "time" in self.ds.get(f, none).dims]

    @property
    def stored_rows(self) -> int:
        """Rows of latitude that lie in one chunk of the source's files; 1 if each can be read."""
        series = (v.encoding for v in self.ds.values() if "time" in v.dims)
        chunks = [(str(d), n) for e in series for d, n in e.get("preferred_chunks", {}).items()]
        return max((n for d, n in chunks if d.lower() in AXES["lat"][2]), default=1)

    def sample(self) -> xr.Dataset:
        """Load a few rows of latitude, as they are."""
        pick = np.linspace(0, self.ds.sizes["lat"] - 1, SAMPLE_ROWS, dtype=int)
        return self._loaded(np.unique(pick))

    @property
    def note(self) -> str:
        """What was done to its time axis, and what has no mean; an empty text: nothing."""
        notes = [leap_note(self.ds["time"].to_numpy(), self.leap)]
        if self.every != "step" and len(few := self.time[self.share() < FULL]):
            dates = ", ".join(str(date.astype(f"M8[{PERIODS[self.every]}]")) for date in few)
            notes.append(f"no mean of {dates}: the cube has fewer than four fifths of the days")
        return "; ".join(filter(None, notes))

    @property
    def starts(self) -> npt.NDArray[np.intp]:
        """Which of the cube's times begin the steps of the map."""
        return self._steps[1]

    @property
    def time(self) -> npt.NDArray[np.datetime64]:
        """Dates (step,) of the map: the cube's, or first days of months or years."""
        return self._steps[0]

    @property
    def _steps(self) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.intp]]:
        time = self.ds["time"].to_numpy()
        if unit := PERIODS[self.every]:
            dates, starts = np.unique(time.astype(f"datetime64[{unit}]"), return_index=True)
            return dates.astype("datetime64[ns]"), starts
        return time, np.arange(len(time))

    def edges(self) -> npt.NDArray[np.datetime64]:
        """Edges (step + 1) of the steps of a map of dates."""
        if unit := PERIODS[self.every]:
            dates = self.time.astype(f"datetime64[{unit}]")
            return np.append(dates, dates[-1] + 1).astype("datetime64[ns]")
        return time_edges(self.time)

    def step_days(self) -> npt.NDArray[np.float64]:
        """Length of each step (step,), d."""
        if self.climatology:
            return MONTH_DAYS
        return np.diff(self.edges()) / np.timedelta64(1, "D")

    def share(self) -> npt.NDArray[np.float64]:
        """Find which share (step,) of the days of each step the cube has."""
        return np.diff(self.starts, append=self.ds.sizes["time"]) / self.step_days()

    def averaged(self, values: npt.NDArray) -> npt.NDArray:
        """Mean over the steps (…, step) of what is known (…, time), NaN below `FULL` of it."""
        if self.every == "step":
            return values
        known = np.isfinite(values)
        days = np.add.reduceat(known, self.starts, axis=-1, dtype=float)
        total = np.add.reduceat(np.where(known, values, 0), self.starts, axis=-1, dtype=float)
        return np.where(days >= FULL * self.step_days(), total / np.maximum(days, 1), np.nan)

    def rows(self, rows: slice) -> xr.Dataset:
        """Load rows of latitude (time, lat, lon), in our units, checked for possible values."""
        ds = self._loaded(rows)
        double = {n: v.astype(np.float32) for n, v in ds.data_vars.items() if v.dtype == float}
        return to_our_units(ds.assign(double), self.convert, self.name)

    def _loaded(self, rows: Any) -> xr.Dataset:
        """Load rows of latitude, as they are."""
        try:
            with dask.config.set(scheduler="synchronous"):  # the caller is the parallel part
                return fill_leap_days(self.ds.isel(lat=rows).load(), self.leap)
        except DAMAGE as error:
            text = f"cannot be read ({error}); get its files again"
            raise DataError(f"{self.name}: {text}") from error


def open_cube(source: xr.Dataset | str | Path, features: Sequence[str]) -> Cube:
    """Make any regular cube readable as `features`.

    ``source``: Dataset, Zarr store, NetCDF file or folder of them; (time or month, lat, lon),
    statics (lat, lon); any order. ``features``: variables, igbp_XXX (a class of igbp_fraction),
    koppen_Main (a main class of koppen), abs_lat, latitude, longitude. DataError for a source that
    cannot be opened, a missing variable, class or dimension, an irregular axis, a unit unknown or
    against the values, and for what `tamrl.maps.possible` says no place shows.
    """
    source = open_source(source)
    name = str(source.encoding.get("source", "cube"))
    ds, climatology, leap = read_time(_axes(source, name), name)
    needed = [_variable(f) for f in features]
    if missing := [v for v in needed if v not in ds]:
        text = f"variable {missing[0]} is missing, which the model needs; the cube has"
        raise DataError(f"{name}: {text} {', '.join(map(str, ds.data_vars))}")
    wanted = {"land_fraction", "igbp_fraction", "EVI_filled", *needed}
    ds = ds[[v for v in ds.data_vars if v in wanted]]
    if extra := set(ds.dims) - {"time", "igbp", "lat", "lon"}:
        raise DataError(f"{name}: dimensions {sorted(map(str, extra))} are too many; select one")
    if why := wrong_dims(ds, needed):
        raise DataError(f"{name}: {why}")
    if lost := [f for f in features if f[:5] == "igbp_" and f[5:] not in ds["igbp"]]:
        raise DataError(f"{name}: igbp has no class {lost[0][5:]}, which the model needs; add it")
    ds = ds.transpose("time", "igbp", "lat", "lon", missing_dims="ignore")
    cube = Cube(ds, tuple(features), {}, climatology, name, leap=leap)
    sample = cube.sample()
    convert = {str(v): conversion(sample[v], name) for v in ds.data_vars if v in KNOWN}
    sample = to_our_units(sample, convert, name)
    if empty := [n for n in DRIVERS if n in needed and not np.isfinite(sample[n]).any()]:
        where = (
            "" if sample.sizes["lat"] == ds.sizes["lat"] else f" in {SAMPLE_ROWS} rows of latitude"
        )
        raise DataError(f"{name}: {empty[0]} has no value at all{where}; fill it")
    if why := impossible(sample, cube.step_days()):
        raise DataError(f"{name}: {why}")
    return replace(cube, convert=convert)


def _axes(ds: xr.Dataset, name: str) -> xr.Dataset:
    """Name the axes lat and lon, ascending, a region across the dateline in one piece."""
    found = find_axes(ds)
    for axis, matches in found.items():
        if (n := len(matches)) != 1:
            text = f"{n} dimensions look like {AXES[axis][0]}; name exactly one {axis}, in degrees"
            raise DataError(f"{name}: {text}")
    ds = ds.rename({one: axis for axis, (one,) in found.items() if one != axis})
    for axis in AXES:
        if ds[axis].dtype.kind not in "iuf":
            raise DataError(
                f"{name}: {axis} holds values of {ds[axis].dtype}; degrees are expected"
            )
        values = ds[axis].to_numpy().astype(np.float64)
        if axis == "lon":
            values = (values + 180) % 360 - 180
        elif len(off := values[np.abs(values) > 90]):
            raise DataError(f"{name}: latitude {off[0]:g} is off the Earth")
        if len(values) < 2:
            raise DataError(f"{name}: {axis} has {len(values)} value; a map needs two of each axis")
        order, values = np.argsort(values, kind="stable"), np.sort(values)
        if axis == "lon":
            gaps = np.append(np.diff(values), values[0] + 360 - values[-1])
            first = (int(gaps.argmax()) + 1) % len(values) if gaps.max() > 1.5 * gaps.min() else 0
            order, values = np.roll(order, -first), np.roll(values, -first)
            values = np.where(np.arange(len(values)) < len(values) - first, values, values + 360)
        steps = np.diff(values)
        if not np.allclose(steps, steps.mean(), rtol=1e-3) or steps.mean() <= 0:
            text = "is not equally spaced or has a value twice; regrid the cube"
            raise DataError(f"{name}: {axis} {text}")
        ds = ds if (np.diff(order) == 1).all() else ds.isel({axis: order})
        ds = ds.assign_coords({axis: (axis, values)})
    return ds


def _variable(feature: str) -> str:
    """Name the cube's variable behind a feature."""
    if feature.startswith(("igbp_", "koppen_")):
        return "igbp_fraction" if feature.startswith("igbp_") else "koppen"
    return {"abs_lat": "lat", "latitude": "lat", "longitude": "lon"}.get(feature, feature)


def stack_features(ds: xr.Dataset, features: Sequence[str], place: Sequence[str]) -> Floats:
    """Features (place, time, feature) of rows of a cube or of its sample at towers (site, month).

    ``features`` as for `open_cube`; ``place``: its dims, ("lat", "lon") or ("site",).
    """
    ds = ds.rename(month="time") if "month" in ds.dims else ds
    full = xr.DataArray(0).expand_dims({d: ds.sizes[d] for d in (*place, "time")})
    columns = [_feature(ds, f).broadcast_like(full).transpose(*full.dims) for f in features]
    x = np.stack(columns, axis=-1).astype(np.float32)
    return x.reshape(-1, ds.sizes["time"], len(features))


def _feature(ds: xr.Dataset, feature: str) -> xr.DataArray:
    variable = _variable(feature)
    if variable == "igbp_fraction":
        return ds[variable].sel(igbp=feature.removeprefix("igbp_"), drop=True)
    if variable == "koppen":
        main = feature.removeprefix("koppen_")
        members = [i for i, c in enumerate(KOPPEN_CODES, 1) if KOPPEN_MAIN[c[0]] == main]
        return ds[variable].isin(members).where(ds[variable] > 0)
    if variable in ("lat", "lon"):
        axis = ds[f"cell_{variable}"] if f"cell_{variable}" in ds.coords else ds[variable]
        return abs(axis) if feature == "abs_lat" else axis
    return ds[variable]
