"""Memory that stays with the process: large tensors that come and go must not cost page faults.

The C library of Linux (glibc) maps every block beyond 32 MB anew and gives it back when it is
freed, so that each step of training and each piece of a prediction has its pages zeroed by the
kernel again. At hidden size 128 that is a quarter of a training step (see the page on cost).
"""

from __future__ import annotations

import ctypes
import platform

LARGEST = 1 << 30  # bytes; larger blocks are mapped one by one, and no more than this stays unused
_TRIM, _MAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h


def keep_pages() -> bool:
    """Have the process keep up to 1 GiB that it freed, to be used again without page faults.

    Returns True where that is so from now on. With another C library (macOS, Windows, musl)
    nothing is done, because their allocators have no such settings. Results do not change.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_TRIM, LARGEST)) and bool(mallopt(_MAP, LARGEST))
