"""The store of a cube of local days: axes, attributes, what it is made of; and its beginning."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr

from tamrl.data.cube import lat_lon_axes
from tamrl.data.derived import code_version
from tamrl.data.units import KNOWN
from tamrl.data.weather.gridsource import Window
from tamrl.data.weather.hourly import Hours
from tamrl.data.weather.local_days import Days
from tamrl.data.weather.vegetation import Vegetation
from tamrl.errors import DataError
from tamrl.files import DONE, STORE

ROWS = 10  # of a chunk: the map reads as many at a time
SAMPLES = 5  # records of which the identity is made
MADE_BY = (
    "weather/gridsource.py", "weather/hourly.py", "weather/records.py", "weather/local_days.py",
    "weather/daily_cube.py", "weather/daily_layout.py", "weather/vegetation.py", "own/points.py",
    "own/tables.py", "own/composites.py", "own/vocabulary.py", "physics.py",
    "facts/vocabulary.csv", "facts/units.csv",
)  # fmt: skip
_EPOCH = np.datetime64("1991-01-01", "D")


def identity_of(hours: Hours, days: Days, evi: Vegetation | None) -> str:
    """Digest of axes, options, code, and records that are looked at here and there."""
    digest = hashlib.sha256(code_version(MADE_BY).encode())
    for values in (hours.window.lat, hours.window.lon, days):
        digest.update(np.ascontiguousarray(values).tobytes())
    digest.update(repr((hours.step, hours.phase, sorted(hours.sums.items()))).encode())
    for name, series in hours.series.items():
        digest.update(f"{name} {series.column}".encode())
        for k in np.unique(np.linspace(hours.usable, hours.last, SAMPLES, dtype=int)):
            if series.part[k - hours.first] >= 0:
                digest.update(hours.raw(name, int(k), int(k) + 1).tobytes())
    digest.update(b"" if evi is None else evi.identity)
    return digest.hexdigest()


def layout(
    cells: Window, days: Days, names: Sequence[str], block: int, facts: Mapping[str, Any]
) -> tuple[xr.Dataset, xr.Dataset]:
    """Axes, and lazy empty arrays (time, lat, lon) of ``names``, ``block`` days to a chunk."""
    epoch = f"days since {_EPOCH}"
    time = {
        "standard_name": "time", "long_name": "local day", "axis": "T", "units": epoch,
        "calendar": "standard",
    }  # fmt: skip
    axes = lat_lon_axes(cells.lat, cells.lon) | {
        "time": xr.Variable("time", (days - _EPOCH).astype(np.int64), time)
    }
    attrs = {
        "Conventions": "CF-1.11", "title": "Daily weather for maps of carbon fluxes",
        "institution": "computed by the user of tamrl", "history": "made by tamrl.build_cube",
        "comment": "Days of local solar time, UTC + longitude / 15 to the half-hour.",
        "licence": "that of the source", **facts,
    }  # fmt: skip
    small, large = xr.Dataset(coords=axes, attrs=attrs), xr.Dataset(attrs=attrs)
    shape = (len(days), len(cells.lat), len(cells.lon))
    for name in names:
        kind = {"min": "minimum", "max": "maximum"}.get(name.rpartition("_")[2], "mean")
        about = {**KNOWN[name].attrs, "cell_methods": f"time: {kind}"}
        empty = da.full(shape, np.float32(np.nan), dtype=np.float32, chunks=-1)
        large[name] = xr.Variable(("time", "lat", "lon"), empty, about)
        large[name].encoding = {
            "chunks": (block, min(ROWS, shape[1]), shape[2]), "_FillValue": np.float32(np.nan),
        }  # fmt: skip
    return small, large


def prepare(part: Path, small: xr.Dataset, large: xr.Dataset, identity: str) -> None:
    """Make the empty store, unless one of the same identity waits to be completed.

    DataError if something else is there of which a part is finished.
    """
    note = part / DONE / "identity"
    if part.exists():
        whole = all((part / STORE / name).exists() for name in (".zgroup", *map(str, large)))
        if whole and note.is_file() and note.read_text("utf-8") == identity:
            return
        if any(note.parent.glob("[0-9]*")):
            text = "is there already, begun with other data or options, or damaged"
            raise DataError(f"{part}: {text}; remove it, or name another output")
        shutil.rmtree(part)  # nothing of it was finished
    empty = part.with_name(f".{part.name}.{uuid4().hex}")
    try:
        options: Any = {"zarr_format": 2, "consolidated": False}
        no_fill = {name: {"_FillValue": None} for name in small.variables}
        small.to_zarr(empty / STORE, mode="w", encoding=no_fill, **options)
        fill = {name: v.encoding for name, v in large.data_vars.items()}
        large.to_zarr(empty / STORE, mode="a", encoding=fill, compute=False, **options)
        (empty / DONE).mkdir()
        (empty / DONE / "identity").write_text(identity, "utf-8")
        os.replace(empty, part)
    finally:
        shutil.rmtree(empty, ignore_errors=True)
