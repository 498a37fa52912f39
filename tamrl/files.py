"""Files appear complete or not at all."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

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
