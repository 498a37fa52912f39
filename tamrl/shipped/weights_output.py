"""Where weights may be written; apart from PyTorch, which takes a second to load."""

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from tamrl.errors import DataError
from tamrl.files import check_outputs

HEADER = "tamrl"  # the one text in a file, for several are stored in no order: header, SEAL, digest


def check_weights_output(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Refuse (DataError) to write weights over ``inputs``, or over a file of anything else."""
    check_outputs(inputs, path, ends="file of weights")
    if path.exists() and path.stat().st_size:
        try:
            with safe_open(path, "np") as stored:
                known = HEADER in (stored.metadata() or {})
        except (SafetensorError, OSError):
            known = False
        if not known:
            raise DataError(f"{path}: holds something else than weights of tamrl; name a new file")
