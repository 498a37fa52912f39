"""Whose table it is: where its own columns say that it is from, and of which tower."""

import numpy as np
import pandas as pd

from tamrl.data.own.csvfiles import Table
from tamrl.data.own.oneflux import is_code
from tamrl.errors import DataError

SITE = ("site", "site_id", "sitename")  # columns that name the tower
POSITION = {"lat": ("latitude", "lat"), "lon": ("longitude", "lon")}
APART = 0.5  # degrees between a place and the cell of a reanalysis that its series is from
SAME = 0.02  # degrees within which rows are of one place


def check_place(table: Table, lat: float, lon: float) -> None:
    """Refuse a table whose own position is not that of the place, in degrees, or is several."""
    for here, names in zip((lat, lon), POSITION.values(), strict=True):
        column = next((n for n in names if n in table.frame), None)
        given = table.facts.get(names[0], np.nan) if column is None else table.frame[column]
        each = pd.Series(given).dropna().drop_duplicates()
        degrees = pd.to_numeric(each, errors="coerce").astype(float)
        for text in each[~np.isfinite(degrees)]:
            raise DataError(f"{table.source}: {names[0]} is {text!r}; degrees are expected")
        for own in degrees[((degrees - here + 180) % 360 - 180).abs() > APART]:
            what = f"its {names[0]} is {own:g}, that of the place {here:g}"
            raise DataError(f"{table.source}: {what}; get the series of the place")
        if degrees.max() - degrees.min() > SAME:
            what = (
                f"its {names[0]} is {degrees.min():g} to {degrees.max():g}: rows of several places"
            )
            raise DataError(f"{table.source}: {what}; write each into a file of its own")


def check_site(table: Table, site: str, notes: list[str]) -> None:
    """Refuse rows of several towers, or of another than ``site`` by its code; say another name."""
    column = next((c for c in table.frame.columns if str(c).casefold() in SITE), None)
    if column is None:
        return
    given = table.frame[column].dropna().astype(str).str.strip().unique().tolist()
    if len(given) > 1:
        what = f"column {column} names {given[0]} and {given[1]}: rows of several towers"
        raise DataError(f"{table.source}: {what}; write each into a file of its own")
    for name in (n for n in given if n.replace("_", "-").casefold() != site.casefold()):
        if is_code(name) and is_code(site):
            what = f"column {column} names {name}, but the table is taken for that of {site}"
            raise DataError(f"{table.source}: {what}; correct the file's name, or the column")
        if is_code(site):
            notes.append(f"column {column} names {name}, the table is taken for that of {site}")
