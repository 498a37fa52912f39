"""Files appear complete or not at all."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from tamrl.errors import DataError

STALE = 600.0  # s, an unfinished file untouched for so long belongs to a killed process


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a file to write; it becomes ``path`` if the block ends well; else nothing changes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")  # unique in threads and processes
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left unfinished, but not what another one writes now."""
    for part in folder.glob(".*.part"):
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
