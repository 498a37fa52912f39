"""What a notebook leaves to the book: tables as csv, and values that pages quote."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def publish(folder: Path, name: str, attrs: Mapping[str, object],
            tables: Mapping[str, pd.DataFrame], values: Mapping[str, object]) -> None:  # fmt: skip
    """Write ``<name>_<table>.csv``, "virtual_" before it where towers are; glue the values."""
    from myst_nb import glue

    prefix = "virtual_" if attrs.get("virtual") else ""
    folder.mkdir(parents=True, exist_ok=True)
    for table, frame in tables.items():
        frame.to_csv(folder / f"{prefix}{name}_{table}.csv", index=False)
    for key, value in values.items():
        glue(key, value, display=False)
