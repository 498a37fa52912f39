"""TAM-RL: carbon fluxes from flux towers to everywhere, by task-aware modulation.

Begin with ``tamrl.data`` (towers and grids), ``tamrl.samples.arrays`` and ``tamrl.model.train``; the whole model
is ``tamrl.model.network``. The command line is ``tamrl --help``.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__version__ = version("tamrl")
__all__ = ["__version__", "load_pretrained"]


def __getattr__(name: str) -> Any:
    """Load PyTorch only for those who ask for a model."""
    if name == "load_pretrained":
        from tamrl.shipped.pretrained import load_pretrained

        return load_pretrained
    raise AttributeError(f"module 'tamrl' has no attribute {name!r}")
