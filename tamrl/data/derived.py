"""Datasets computed from the registry's files: stored in the cache, computed once."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import xarray as xr

from tamrl.data.cache import cache_dir, registry_sha256
from tamrl.errors import DataError
from tamrl.files import write_netcdf


def code_version(made_by: Sequence[str]) -> str:
    """Digest (12 hex digits) of files of `tamrl.data`, modules or tables: it changes with any."""
    content = b"".join((Path(__file__).parent / name).read_bytes() for name in made_by)
    return hashlib.sha256(content).hexdigest()[:12]


def derived_path(name: str, made_by: Sequence[str]) -> Path:
    """Where a result belongs, by all that decides it: registry, code, tables of facts."""
    return cache_dir() / "derived" / f"{name}-{registry_sha256()}-{code_version(made_by)}.nc"


def derived(name: str, made_by: Sequence[str], build: Callable[[], xr.Dataset]) -> xr.Dataset:
    """Read a stored Dataset, or build and store it.

    ``name`` begins the file's name in the cache's folder ``derived``; ``made_by`` are the files of
    `tamrl.data` that decide the result beside the registry: after a change of either, or when the
    stored file is unreadable, ``build`` computes it. Raises DataError when it cannot be written.
    """
    path = derived_path(name, made_by)
    if path.is_file():
        try:
            with xr.open_dataset(path, engine="netcdf4") as ds:
                return ds.load()
        except (OSError, ValueError, KeyError) as error:  # a disk that lost bytes: start again
            warnings.warn(f"{path} is unreadable ({error}); computing anew", stacklevel=3)
    ds = build()
    try:
        how = {"zlib": True, "complevel": 1, "shuffle": False}  # half as slow to read
        write_netcdf(ds, path, encoding=dict.fromkeys(ds.data_vars, how))
    except OSError as error:
        remedy = "free some space or set TAMRL_DATA_DIR elsewhere"
        raise DataError(f"cannot write {path} ({error}); {remedy}") from error
    return ds
