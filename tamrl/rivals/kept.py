"""Trees that were checked and ordered before: kept in the cache, by the hash of all they are.

To unpack and check those of the package takes longer than to predict a tower with them.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tamrl.data.cache import cache_dir
from tamrl.files import atomic_write

if TYPE_CHECKING:
    from tamrl.rivals.forest import Splits


def arrays_kept(
    packed: Mapping[str, NDArray[np.uint8]], make: Callable[[], "Splits"]
) -> dict[str, NDArray]:
    """Fields of `Splits` for compressed trees by name: kept ones, else what ``make`` gives.

    Kept ones count if whole, of the same bytes, and ordered by the same code. A cache that cannot
    be written costs a second each time, and is no fault. Errors are those of ``make``.
    """
    digest = hashlib.sha256(Path(__file__).with_name("forest.py").read_bytes())
    for name, text in packed.items():
        digest.update(f"{name} {len(text)} ".encode() + text.tobytes())
    path = cache_dir() / "derived" / f"trees-{digest.hexdigest()[:24]}.safetensors"
    with suppress(OSError, SafetensorError):
        content = path.read_bytes()
        if hashlib.sha256(digest.digest() + content[32:]).digest() == content[:32]:
            return {name: value.copy() for name, value in load(content[32:]).items()}
    arrays = make()._asdict()
    content = save(arrays)
    with suppress(OSError), atomic_write(path) as part:
        part.write_bytes(hashlib.sha256(digest.digest() + content).digest() + content)
    return arrays
