"""What a notebook leaves to the book: tables as csv, and values that pages quote."""

import os
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tamrl.files import atomic_write

OF_STUDY = "TAMRL_STUDY"  # environment variable: the runner of the study executes this notebook


def tables_folder(attrs: Mapping[str, object]) -> Path:
    """Folder, made here, of what a notebook computes on the towers of ``attrs``.

    ``runs/<towers>`` in the study, else (plain Papermill, by hand) ``runs/papermill/<towers>``:
    other parameters must not change the tables that the study takes for its own.
    """
    alone = () if os.environ.get(OF_STUDY) else ("papermill",)
    folder = Path("runs", *alone, str(attrs["tower_source"]))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def publish(folder: Path, name: str, attrs: Mapping[str, object],
            tables: Mapping[str, pd.DataFrame], values: Mapping[str, object]) -> None:  # fmt: skip
    """Write ``<name>_<table>.csv``, "virtual_" before it where towers are; glue the values."""
    from myst_nb import glue

    prefix = "virtual_" if attrs.get("virtual") else ""
    folder.mkdir(parents=True, exist_ok=True)
    for table, frame in tables.items():
        with atomic_write(folder / f"{prefix}{name}_{table}.csv") as part:
            frame.to_csv(part, index=False)
    for key, value in values.items():
        glue(key, value, display=False)
