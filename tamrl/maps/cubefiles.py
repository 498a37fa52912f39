"""A cube's files, opened as one Dataset; those of a folder must hold the same in the same units."""

import re
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from tamrl.data.cube import AXES
from tamrl.data.units import KNOWN
from tamrl.errors import DataError
from tamrl.files import ENDS, is_store

ROUNDED = 0.01  # of a cell by which axes of two files may differ: those of the first are taken
DAMAGE = (  # what readers raise on broken files
    OSError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, SystemError,
)  # fmt: skip


def open_source(source: xr.Dataset | str | Path) -> xr.Dataset:
    """Open a Zarr store, a NetCDF file or a folder of them lazily; a Dataset is handed back."""
    if isinstance(source, xr.Dataset):
        return source
    if not isinstance(source, str | PathLike):
        text = "give an xarray.Dataset or a path"
        raise DataError(f"a cube cannot be read of {type(source).__name__}: {text}")
    if re.match(r"\w{2,}:/|arco-era5$", str(source)):
        address = re.sub(r":/(?!/)", "://", str(source))  # of which a Path keeps one stroke
        text = "a map is made of local files; copy the cube, or make one of hours there: tamrl cube"
        raise DataError(f"{address}: {text}")
    if not (path := Path(source)).exists():
        raise DataError(f"{path}: no such file or folder; correct the path")
    try:
        if is_store(path):
            ds = xr.open_zarr(path, consolidated=False, chunks=None)
        elif path.is_dir():
            ds = _folder(path)
        else:
            ds = xr.open_dataset(path)
    except DataError:
        raise
    except DAMAGE as error:
        why = str(error)
        if "IO backends" in why or "no files to open" in why:  # a page of xarray's advice
            text = "is no folder of NetCDF files" if path.is_dir() else "is no NetCDF file"
            raise DataError(f"{path}: {text} or Zarr store; give one of these") from error
        raise DataError(f"{path}: cannot be opened as a cube ({why})") from error
    ds.encoding["source"] = str(path)
    return ds


def _folder(path: Path) -> xr.Dataset:
    """Open the NetCDF files of a folder as one; DataError where they differ in what they hold."""
    units: dict[str, tuple[str, str]] = {}
    times: Counter[str] = Counter()
    axes: dict[str, list[xr.DataArray]] = {}

    def look(ds: xr.Dataset) -> xr.Dataset:
        file = Path(ds.encoding["source"]).name
        for name, unit in ((str(n), str(v.attrs.get("units"))) for n, v in ds.data_vars.items()):
            first, other = units.setdefault(name, (unit, file))
            if unit != first:
                text = f"{name} is in {first!r} in {other} and in {unit!r} in {file}"
                raise DataError(f"{path}: {text}; convert one of them")
            times[name] += ds.sizes.get("time", 0)
        for name in (n for _, _, names in AXES.values() for n in names if n in ds.indexes):
            near, alike = axes.setdefault(name, []), ds[name]
            for one in (a for a in near if a.shape == alike.shape and a.size > 1):
                if (abs(one - alike.values) < ROUNDED * abs(one[1] - one[0])).all():
                    ds = ds.assign_coords({name: one})
            near.append(ds[name])
        return ds

    files = sorted(p for p in path.iterdir() if p.suffix in ENDS["NetCDF file"])
    how: Any = {"combine": "by_coords", "join": "outer", "compat": "no_conflicts"}
    ds = xr.open_mfdataset(files, preprocess=look, **how)
    for name in sorted(KNOWN.keys() & times.keys()):
        if "time" in ds[name].dims and times[name] < ds.sizes["time"]:
            text = (
                f"{name} is lacking at {ds.sizes['time'] - times[name]} of {ds.sizes['time']} times"
            )
            raise DataError(f"{path}: {text}, since not all files have it; get those of all")
    return ds
