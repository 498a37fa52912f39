"""Gridded files of others, opened lazily: Zarr (local or object storage), NetCDF, GRIB; axes named.

Known are the layouts of ARCO-ERA5 (https://github.com/google-research/arco-era5), of the Climate
Data Store, old and new (https://confluence.ecmwf.int/display/CKB/ERA5), and of CF.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from functools import reduce
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.cube import AXES, find_axes
from tamrl.errors import DataError, expect
from tamrl.files import is_store

File = str | PathLike[str]
Source = File | Iterable[File] | xr.Dataset
Region = tuple[float, float, float, float]  # south, west, north, east, degrees

ARCO_ERA5 = "gs://gcp-public-data-arco-era5/ar/full_37-1h-0p25deg-chunk-1.zarr-v3"
SHORT = {"arco-era5": ARCO_ERA5}  # what may be written instead of an address
ANONYMOUS: dict[str, dict[str, Any]] = {
    "gs": {"token": "anon"}, "gcs": {"token": "anon"}, "s3": {"anon": True},
}  # fmt: skip
NETCDF = (".nc", ".nc4", ".netcdf", ".cdf", ".h5")
GRIB = (".grib", ".grib2", ".grb", ".grb2")
GRIB_NAMES = ("2t", "2d", "ssrd", "tp")
PRELIMINARY = "0005"  # `expver` of ERA5T, which ERA5 replaces after three months
SLACK = 1e-6  # degrees
DAY_HOURS = 24


class Opened(NamedTuple):
    """One file or store: dims (time, lat, lon) named so, in its own order; nothing is loaded."""

    ds: xr.Dataset
    file: str
    zarr: bool


class Window(NamedTuple):
    """Cells of a file that are read: rows and columns, and the ascending axes they make, degrees.

    ``lon`` goes on beyond 180 where a region lies across the dateline.
    """

    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    rows: slice
    flip: bool  # the file's rows go from north to south
    cols: NDArray[np.intp]

    def take(self, array: xr.DataArray, at: NDArray[np.intp], whole: bool) -> NDArray[Any]:
        """Values (time, lat, lon) of the steps ``at``; ``whole``: any columns in one reading."""
        array = array.isel(time=_slice(at), lat=self.rows).transpose("time", "lat", "lon")
        runs = np.split(self.cols, np.flatnonzero(np.diff(self.cols) != 1) + 1)
        if whole and len(runs) > 1:
            values = array.isel(lon=self.cols).to_numpy()
        else:
            values = np.concatenate([array.isel(lon=_slice(r)).to_numpy() for r in runs], axis=2)
        return values[:, ::-1] if self.flip else values


def _slice(at: NDArray[np.intp]) -> Any:
    return slice(int(at[0]), int(at[-1]) + 1) if (np.diff(at) == 1).all() else at


def open_sources(source: Source, notes: list[str], files: ExitStack) -> list[Opened]:
    """Open what lies at paths or addresses, file by file; what was put right goes to ``notes``.

    ``files`` closes them: one left to the collector may crash Python where others are opened.

    ``source``: "arco-era5", an address that fsspec knows (anonymous), a Zarr store, NetCDF or GRIB
    files, a folder of them, or a Dataset. A single member and the two versions of the newest months
    (`expver`) lose their dimension. DataError for what is missing, cannot be opened, needs a
    package that is not installed, or has further dimensions or another calendar.
    """
    if isinstance(source, xr.Dataset):
        return [one for ds in _by_step(source) for one in [_named(ds, "Dataset", False, notes)]]
    expect(source, (str, PathLike, Iterable), "the weather", "a Dataset, a path or several")
    names = [source] if isinstance(source, str | PathLike) else [*source]
    found = [f for name in names for f in _files(SHORT.get(str(name).lower(), str(name)))]
    if not found:
        text = "no NetCDF or GRIB file here; name a folder with some, a Zarr store or an address"
        raise DataError(f"{', '.join(map(str, names)) or 'no path'}: {text}")
    opened = []
    for file in found:
        parts, is_zarr = _open(file)
        for part in parts:
            files.callback(part.close)
        opened += [_named(ds, file, is_zarr, notes) for part in parts for ds in _by_step(part)]
    return opened


def _files(name: str) -> list[str]:
    path = Path(name)
    if "://" in name:
        return [name]
    if not path.exists():
        raise DataError(f"{name}: no such file or folder; correct the path")
    if not path.is_dir() or is_store(path):
        return [name]
    return [str(p) for p in sorted(path.iterdir()) if p.suffix.lower() in (*NETCDF, *GRIB, ".zip")]


def _open(file: str) -> tuple[list[xr.Dataset], bool]:
    """Open one file or store; GRIB gives one Dataset for each variable."""
    path, remote = Path(file), "://" in file
    try:
        if remote or path.is_dir():
            options = ANONYMOUS.get(file.partition("://")[0]) if remote else None
            return [xr.open_zarr(file, chunks=None, storage_options=options)], True
        with path.open("rb") as stream:
            head = stream.read(4)
        if head[:2] == b"PK":
            text = "is a zip, as CDS packs instants and sums in two files: unzip it into a folder"
            raise DataError(f"{file}: {text} and name that")
        if path.suffix.lower() in GRIB or head == b"GRIB":
            if find_spec("cfgrib") is None:
                text = "GRIB needs a package that is not installed: pip install cfgrib eccodes"
                raise DataError(f"{file}: {text}; or download NetCDF instead")
            each = [{"filter_by_keys": {"shortName": n}, "indexpath": ""} for n in GRIB_NAMES]
            parts = [xr.open_dataset(file, engine="cfgrib", backend_kwargs=k) for k in each]
            if not any(part.data_vars for part in parts):
                text = f"has none of {', '.join(GRIB_NAMES)}, as GRIB calls what is needed"
                raise DataError(f"{file}: {text}; download these, or NetCDF")
            return [part for part in parts if part.data_vars], False
        return [xr.open_dataset(file)], False
    except ImportError as error:
        text = f"needs a package that is not installed ({error})"
        raise DataError(f"{file}: {text}: pip install 'tamrl[cloud]'") from error
    except DataError:
        raise
    except Exception as error:  # every file system and format has errors of its own
        raise DataError(f"{file}: cannot be opened ({type(error).__name__}: {error})") from error


def _by_step(ds: xr.Dataset) -> list[xr.Dataset]:
    """Take forecasts (time, step), as GRIB has sums, step by step, by the time they are valid."""
    if not {"time", "step"} <= {*ds.dims} or "valid_time" not in ds.coords:
        return [ds]
    steps = [ds.isel(step=k) for k in range(ds.sizes["step"])]
    return [s.assign_coords(time=s["valid_time"].to_numpy()).drop_vars("valid_time") for s in steps]


def _named(ds: xr.Dataset, file: str, is_zarr: bool, notes: list[str]) -> Opened:
    """Name time, lat and lon; drop dimensions of one entry."""
    if "valid_time" in ds.coords and ds["valid_time"].dims == ("time",) and "time" in ds.coords:
        ds = ds.assign_coords(time=ds["valid_time"].to_numpy()).drop_vars("valid_time")
    clocks = [n for n in ("valid_time", "time") if n in ds.dims] or [
        str(d) for d in ds.dims if d in ds.coords and ds[d].attrs.get("standard_name") == "time"
    ]
    names = {clocks[0]: "time"} if clocks else {}
    names |= {found[0]: axis for axis, found in find_axes(ds).items() if len(found) == 1}
    if lost := {"time", *AXES} - {*names.values()}:
        text = f"no dimension {', '.join(sorted(lost))} with a coordinate, in degrees or dates; it"
        text += f" has {', '.join(map(str, ds.dims)) or 'none'}; regrid it, or leave the file out"
        raise DataError(f"{file}: {text}")
    ds = ds.drop_vars([n for n in names.values() if n in ds.variables and n not in names])
    ds = ds.rename({old: new for old, new in names.items() if old != new})
    for axis in AXES:
        if ds[axis].dtype.kind not in "iuf" or not np.isfinite(ds[axis]).all():
            text = f"{axis} holds values of {ds[axis].dtype}, or none; degrees are expected"
            raise DataError(f"{file}: {text}")
    if len(off := ds["lat"].to_numpy()[abs(ds["lat"].to_numpy()) > 90 + SLACK]):
        raise DataError(f"{file}: latitude {off[0]:g} is off the Earth; correct the axis")
    if ds["time"].dtype.kind != "M":
        calendar = ds["time"].encoding.get("calendar") or ds["time"].attrs.get("calendar")
        if not (calendar or hasattr(ds["time"].to_numpy().flat[0], "calendar")):
            text = f"time holds values of {ds['time'].dtype}, no dates; give it units such as"
            raise DataError(f"{file}: {text} 'hours since 2015-01-01'")
        text = f"its time is no date of the standard calendar (calendar: {calendar})"
        raise DataError(f"{file}: {text}; the days of a model's year are none of a real one")
    if len(none := np.flatnonzero(np.isnat(ds["time"].to_numpy()))):
        text = f"time {none[0] + 1} of {ds.sizes['time']} is missing (NaT)"
        raise DataError(f"{file}: {text}; correct it, or drop that record")
    first, last = (ds.attrs.get(n) for n in ("valid_time_start", "valid_time_stop"))
    if first and last:  # ARCO-ERA5: the axis is longer than the data
        ds = ds.sel(
            time=slice(str(first), str(ds.attrs.get("valid_time_stop_era5t", last)) + "T23")
        )
    if "expver" in ds.dims and ds.sizes["expver"] > 1:
        ds = ds.chunk(time=DAY_HOURS)
        parts = [ds.isel(expver=k, drop=True) for k in range(ds.sizes["expver"])]
        ds = reduce(lambda a, b: a.fillna(b), parts)
        notes.append(f"ERA5 where it is there, else the preliminary ERA5T (expver; {file})")
    elif "expver" in ds.coords and ds["expver"].dims == ("time",):
        late = np.array([str(v).zfill(4) == PRELIMINARY for v in ds["expver"].to_numpy()])
        if late.any():
            when = str(ds["time"].to_numpy()[late][0])[:10]
            notes.append(f"preliminary ERA5T from {when} on (expver {PRELIMINARY}; {file})")
    one = [d for d, size in ds.sizes.items() if size == 1 and d not in ("time", *AXES)]
    return Opened(ds.isel(dict.fromkeys(one, 0)), file, is_zarr)


def check_dims(opened: Opened, name: str) -> None:
    """DataError unless a variable has no dimension but time, lat and lon."""
    for dim in opened.ds[name].dims:
        if dim not in ("time", *AXES):
            text = f"dimension {dim} of {name} has {opened.ds.sizes[dim]} entries"
            raise DataError(f"{opened.file}: {text}; select one of them")


def four(region: Any) -> Region | None:
    """Check that a region is four numbers; DataError if not."""
    try:
        if region is None:
            return None
        south, west, north, east = map(float, () if isinstance(region, str) else region)
    except (TypeError, ValueError) as error:
        text = "write four numbers, south, west, north, east in degrees"
        raise DataError(f"region {region!r}: {text}") from error
    return south, west, north, east


def window(opened: Opened, region: Region | None) -> Window:
    """Cells of a file within a region (all of them if None), whichever way its axes run.

    West may be east of east: the region then lies across the dateline. DataError for a region that
    is none or holds less than two rows or columns of the file, or axes that are not regular.
    """
    lat, lon = (opened.ds[axis].to_numpy().astype(float) for axis in AXES)
    south, west, north, east = (-90.0, -180.0, 90.0, 180.0) if region is None else region
    sides = -180 <= west <= 360 and -180 <= east <= 360 and west != east
    if not (sides and -90 <= south < north <= 90):
        text = "write south, west, north, east in degrees, south below north, west not east itself"
        raise DataError(f"region {south:g},{west:g},{north:g},{east:g}: {text}")
    rows = np.flatnonzero((lat >= south - SLACK) & (lat <= north + SLACK))
    width = 360.0 if region is None else (east - west) % 360 or 360.0
    beyond = (lon - west + SLACK) % 360 - SLACK
    cols = np.flatnonzero(beyond <= width + SLACK)
    _, first = np.unique(beyond[cols].round(5), return_index=True)  # 0 and 360 are one meridian
    cols = cols[first]
    if region is None and len(cols) > 1:  # a file across the dateline begins behind its gap
        gaps = np.diff(np.append(beyond[cols], beyond[cols[0]] + 360))
        cols = np.roll(cols, -(int(gaps.argmax()) + 1)) if gaps.max() > 1.5 * gaps.min() else cols
    if min(len(rows), len(cols)) < 2:
        degrees = (lon + 180) % 360 - 180
        text = f"latitude {lat.min():g} to {lat.max():g}, longitude {degrees.min():g} to"
        found = f"{len(rows)} row(s) and {len(cols)} column(s) of cells; a map needs two of each"
        raise DataError(f"{opened.file}: it has {text} {degrees.max():g}, and the region "
                        f"{south:g},{west:g},{north:g},{east:g} {found}")  # fmt: skip
    x = np.rad2deg(np.unwrap(np.deg2rad(lon[cols])))
    x -= 360 * np.floor((x[0] + 180) / 360)
    flip = lat[rows[0]] > lat[rows[-1]]
    y = lat[rows][::-1] if flip else lat[rows]
    for name, values in (("latitude", np.diff(y)), ("longitude", np.diff(x))):
        if not np.allclose(values, values.mean(), rtol=1e-3) or values.mean() <= 0:
            text = f"{name} is not equally spaced within the region; choose another, or regrid"
            raise DataError(f"{opened.file}: {text}")
    return Window(y, x.round(6), _slice(rows), bool(flip), cols)
