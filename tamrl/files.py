"""Files appear complete or not at all, and nothing that is read or protected is written over."""

import os
import re
import tempfile
import threading
import time
import warnings
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EIO, ELOOP
from mmap import ACCESS_READ, mmap
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from filelock import FileLock, Timeout

from tamrl.errors import DataError, InputWarning, expect

if TYPE_CHECKING:
    import xarray as xr

PART = re.compile(r"\..+\.[0-9a-f]{32}\.part")  # names of unfinished files
STALE = 600.0  # s, an unfinished file untouched for so long belongs to a killed process
BESIDE = ("towers.csv", "{}.csv")  # tables of towers that are read beside a store or a folder
ENDS = {  # of the names of outputs
    "prediction": (".nc", ".nc4", ".csv"), "NetCDF file": (".nc", ".nc4"), "table": (".csv",),
    "picture": (".png", ".pdf", ".svg"), "file of weights": (".safetensors",),
    "Zarr store": (".zarr", ""),
}  # fmt: skip
REPLACED = ("prediction", "NetCDF file", "table", "picture")  # if by tamrl
BEGINS = re.compile(rb"#.*tamrl|site,flux,towers,|flux,day,mean,", re.DOTALL)  # csv begins so
WRITTEN = (*ENDS["NetCDF file"], *ENDS["picture"], ".zarr")  # may be new in a folder that is read
STORE, DONE = "store", ".done"  # in an unfinished store (NAME.part): it, and marks of its parts
MARK = re.compile(r"\.?\d+|identity")
LOOK = 1 << 16  # bytes in which a csv file says what it is
PROBE = 1 << 20  # bytes that must be free for an output


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a file to write; it becomes ``path`` if the block ends well; else nothing changes.

    OSError that names ``path`` where a disk is full, or another fault of it ends the writing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")  # unique in threads and processes
    try:
        yield part
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        known = getattr(error, "errno", None)
        if getattr(error, "filename", None) or not (known or "NetCDF" in str(error)):
            raise
        why = error.strerror if isinstance(error, OSError) else f"{error}; is the disk full?"
        raise OSError(known or EIO, f"{why}; nothing was written", str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def write_netcdf(ds: "xr.Dataset", path: Path | str, **how: Any) -> None:
    """Write a Dataset in memory as NetCDF-4, whole or not at all; ``how`` as ``dump_to_store``."""
    from xarray.backends import NetCDF4DataStore

    with atomic_write(path) as part:
        # With a lock of its own: to look for one, to_netcdf imports dask.distributed, a second.
        store = NetCDF4DataStore.open(part, mode="w", lock=threading.Lock())
        try:
            ds.dump_to_store(store, **how)
        finally:
            store.close()


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished, but not what another one writes now."""
    for part in filter(lambda path: PART.fullmatch(path.name), folder.glob(".*.part")):
        with suppress(OSError):  # gone meanwhile, or a shared folder that we may only read
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


@contextmanager
def alone(out: Path, what: str) -> Iterator[None]:
    """Hold an output, which is a ``what``, until the block, or the process, ends.

    DataError if another process holds it.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out.with_name(f".{out.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        text = f"another {what} is being written there; let it end, or name another output"
        raise DataError(f"{out}: {text}") from error
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def is_store(path: Path, by_name: bool = True) -> bool:
    """Whether a folder is a Zarr store, by what is in it, or by its name."""
    inside = any((path / n).exists() for n in (".zgroup", "zarr.json"))
    return path.is_dir() and (inside or (by_name and path.suffix == ".zarr"))


def origins(*sources: Any) -> list[Path]:
    """Local files and folders that Datasets, paths, or lists of these were opened from."""
    out: list[Path] = []
    for one in sources:
        if hasattr(one, "encoding"):
            variables = getattr(one, "variables", {}).values()
            one = {str(v.encoding["source"]) for v in (one, *variables) if "source" in v.encoding}
        expect(one, (str, os.PathLike, Iterable, NoneType), "an input", "a Dataset or a path")
        named = [one] if isinstance(one, str | os.PathLike) else (one or ())
        out += [Path(name) for name in named if "://" not in str(name)]
    return out


def check_store(out: Path, *sources: Any) -> None:
    """Refuse (DataError) a Zarr store that would cost what is read, or what is not a store's."""
    check_outputs(origins(*sources), out, ends="Zarr store")
    if out.is_symlink() and not out.exists():
        raise DataError(f"{out}: is a link to nothing; remove it, or name another output")
    if out.exists() and not is_store(out, by_name=False):
        raise DataError(f"{out}: is there already, and no Zarr store; name another output")
    part = out.with_name(out.name + ".part")
    if part.is_dir():
        inside = {p.name for p in part.iterdir()} - {STORE, DONE}
        inside |= {p.name for p in (part / DONE).glob("*") if not MARK.fullmatch(p.name)}
        if not inside and (part / DONE).is_dir():
            return
    if part.exists():
        text = "is in the way, and not what a run that was broken off left; move it"
        raise DataError(f"{part}: {text}")


def made_of(out: Path, identity: str, what: str, *sources: Any) -> bool:
    """Whether a store is there that is the ``what`` of this identity; DataError if it is not.

    InputWarning where one of the ``sources`` was changed since it, or its unfinished part, was
    begun: what is looked at of them may have stayed as it was.
    """
    begun = out if out.exists() else out.with_name(out.name + ".part") / DONE / "identity"
    for path in origins(*sources) if begun.exists() else ():
        inside = path.iterdir() if path.is_dir() else [path]
        files = [f for f in inside if f.is_file() or is_store(path)]
        if max((f.stat().st_mtime for f in files), default=0.0) > begun.stat().st_mtime:
            text = f"was changed after {out} was begun; remove that to make it anew"
            warnings.warn(f"{path}: {text}", InputWarning, stacklevel=4)
    if not out.exists():
        return False
    import zarr

    with suppress(OSError, ValueError, LookupError, TypeError):  # another's, or damaged
        if zarr.open_group(out, mode="r").attrs.get("identity") == identity:
            return True
    raise DataError(f"{out}: holds another {what}, or something else; name another output")


def check_outputs(
    inputs: Iterable[Path | None], *outputs: Path | None, ends: str | tuple[str, ...] = ()
) -> None:
    """Refuse outputs (DataError), before any work, that are read, protected or cannot be written.

    Read are ``inputs``, files and folders, all that is in stores, and tables of towers beside them.
    ``ends``: what each output is, of `ENDS`; its name must end so, and what is there already be
    by tamrl.
    """
    read = [_resolved(path) for path in inputs if path]
    read += [place / n.format(p.stem) for p in read for place in (p, p.parent) for n in BESIDE]
    written = [_resolved(path) for path in outputs if path]
    for given, path in zip(filter(None, outputs), written, strict=True):
        for other in read:
            new = other.is_dir() and (not path.exists() or path.suffix in WRITTEN)
            if path == other or (other in path.parents and (is_store(other) or not new)):
                raise DataError(f"{given}: is read as an input; write to another file")
        if sum(path == other or other in path.parents for other in written) > 1:
            raise DataError(f"{given}: another output is to be written there, too; name two places")
        if path.is_dir() and not is_store(path):
            raise DataError(f"{given}: is a folder of something else; name another output")
        check_writable(given)
    for output, kind in zip(outputs, (ends,) if isinstance(ends, str) else ends, strict=False):
        if output and output.suffix.lower() not in (known := ENDS[kind]):
            names = " or ".join(output.with_suffix(end).name for end in known if end)
            raise DataError(f"{output}: the name says what is written; a {kind} needs {names}")
        if output and output.is_file() and kind in REPLACED and not by_tamrl(output):
            what = "is there already, and tamrl has not written it"
            raise DataError(f"{output}: {what}; move it, or name another output")


def by_tamrl(path: Path) -> bool:
    """Whether a file is empty or one that tamrl has written, by what it says of itself."""
    if not path.stat().st_size:
        return True
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if path.suffix.lower() == ".csv":
            return BEGINS.match(data[:LOOK].removeprefix(BOM_UTF8)) is not None
        return data.find(b"tamrl") >= 0


def _resolved(path: Path) -> Path:
    """Follow links; DataError for one that leads to itself."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == ELOOP:
            raise DataError(f"{path}: is a link that leads to itself; name a file") from error
    except ValueError as error:
        raise DataError(f"{str(path)!a}: no name of a file ({error})") from error
    return path.resolve()


def check_regular(path: Path | str | os.PathLike[str], what: str) -> None:
    """Refuse (DataError) a folder, a device or a pipe where a file, which is a ``what``, is read.

    A pipe would be waited for without end.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{path}: is a folder, a device or a pipe; name a file, {what}")


def check_writable(path: Path) -> None:
    """Refuse (DataError) what begins with "~", is protected, or whose disk is full or read-only."""
    place = path.absolute()
    if path.parts[1:] and path.parts[0].startswith("~"):
        raise DataError(f"{path}: only a shell knows whose folder ~ is; write it in full")
    if str(path) != str(path).encode("utf-8", "replace").decode():
        raise DataError(f"{str(path)!a}: the name has letters of no encoding; name another output")
    if place.exists() and not (place.is_file() or place.is_dir()):
        raise DataError(f"{path}: is a device or a pipe; name a file to write")
    if place.exists() and not place.stat().st_mode & 0o222:
        raise DataError(f"{path}: is write-protected; name another output")
    folder = place if place.is_dir() else next(p for p in place.parents if p.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(PROBE))
            probe.flush()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); name another output"
        ) from error
