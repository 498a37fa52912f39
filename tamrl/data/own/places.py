"""The table of a user's towers: where they are, what grows there, and which file is theirs."""

import re
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from tamrl.data import schema
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.own.csvfiles import read_csv
from tamrl.data.own.tables import Place
from tamrl.data.own.vocabulary import SITE_FACTS, bare
from tamrl.errors import DataError

PathArg = str | PathLike[str]
NUMBERS = ("lat", "lon", "utc_offset_h", "elevation_m")
LIMITS = {"elevation_m": (-500, 9000)}  # land; others are judged with their towers
EMPTY = ("", "nan", "none", "<na>", "na", "n/a", "-", "-9999", "-9999.0", "unknown")
OWN = ("site", "drivers", "listed")
SHOWN = 3  # towers named in a line
# Lines that say what went as it should: what was read, and filled from where.
_ROUTINE = re.compile(
    r"(^|: )(read |time stamps taken for |lies )|from the grid$|: monthly means of the tower's own "
    r"|: \S+ \S+, [1-9]\d* of \d+ dates "
)


def tower_table(
    table: PathArg | pd.DataFrame | None, beside: Iterable[Path], store: bool, notes: list[str]
) -> tuple[pd.DataFrame, str]:
    """Facts of the user's towers, completed by those that we know; and where they are from.

    ``table`` is a csv file or DataFrame, else the first of ``beside`` that is there. Columns may
    have any name of the vocabulary; what is not used is said in ``notes``. Column ``listed`` marks
    the user's. DataError for a table that cannot be read, or lacks a column.
    """
    known = schema.tower_facts()
    if table is None:
        table = next((p for p in beside if p.is_file()), None)
    if table is None:
        name = "the known towers; hand in a table with site, lat, lon, igbp, utc_offset_h"
        return known.assign(listed=False), name
    name = "table" if isinstance(table, pd.DataFrame) else str(table)
    if not isinstance(table, pd.DataFrame):
        try:
            table = read_csv(Path(table)).frame
        except DataError as error:
            why = str(error).removeprefix(f"{name}: ")
            raise DataError(f"{name}: not a readable table of towers ({why})") from error
    listed = table.reset_index() if table.index.name == "site" else table.copy()
    listed = listed.rename(columns=_names(listed.columns))
    for column in listed.columns[listed.columns.duplicated()]:
        raise DataError(f"{name}: column {column} is there twice; keep one of them")
    for column in ("site", "lat", "lon", "igbp", *(["utc_offset_h"] if store else [])):
        if column not in listed:
            why = "; it makes local days of a store's half-hours" * column.startswith("utc")
            have = [*table.columns]
            raise DataError(f"{name}: column {column} is missing; have {have}{why}")
    used = {*OWN, *(row.name for row in SITE_FACTS)}
    if rest := [str(c) for c in listed.columns if c not in used]:
        notes.append(f"not used in {name}: {', '.join(rest)} (the model does not know them)")
    listed["site"] = listed["site"].astype(str).str.strip()
    for site in listed["site"][listed["site"].duplicated()]:
        raise DataError(f"{name}: tower {site} is listed twice; keep one row")
    listed = listed.set_index("site")
    for column in listed.columns.intersection([*NUMBERS]):
        listed[column] = _numbers(listed[column], name)
    if "koppen" in listed:
        listed["koppen"] = [_koppen(k, f"{name}: tower {s}") for s, k in listed["koppen"].items()]
    listed["igbp"] = listed["igbp"].astype(str).str.strip()
    if isinstance(table.attrs.get("folder"), str):
        listed.attrs["folder"] = table.attrs["folder"]
    others = known.loc[known.index.difference(listed.index)].assign(listed=False)
    return pd.concat([listed.assign(listed=True), others]), name


def _numbers(given: pd.Series, source: str) -> pd.Series:
    """Numbers of a column, NaN where it is empty; what is no number there can be is refused."""
    numbers = pd.to_numeric(given, errors="coerce")
    numbers = numbers.where(numbers != -9999)
    low, high = LIMITS.get(str(given.name), (-np.inf, np.inf))
    for site, value, number in zip(given.index, given, numbers.to_numpy(float), strict=True):
        at, text = f"{source}: tower {site}: {given.name} is", str(value).strip()
        if np.isnan(number) and text.casefold() not in EMPTY:
            raise DataError(
                f"{at} {text!r}; give a number (degrees, south and west negative; m; h)"
            )
        if np.isinf(number) or not (np.isnan(number) or low <= number <= high):
            raise DataError(f"{at} {number:g}, outside {low:g} to {high:g}; correct it")
    return numbers


def _koppen(given: object, source: str) -> str:
    """Koppen code as we write it, "" where it is not known; DataError for what is none."""
    text = str(given).strip()
    if text.casefold() in EMPTY:
        return ""
    if (code := {k.casefold(): k for k in KOPPEN_CODES}.get(text.casefold())) is None:
        raise DataError(f"{source}: koppen is {text!r}; give a code such as Cfb, or leave it empty")
    return code


def _names(columns: Iterable[object]) -> dict[object, str]:
    """Our names of a table's columns, where they have others."""
    known = {row.alias.casefold(): row.name for row in SITE_FACTS}
    found: dict[object, str] = {}
    for column in columns:
        name = known.get(bare(str(column))[0].casefold())
        if name and name not in found.values():
            found[column] = name
    named = next((c for c in columns if str(c).casefold() in ("site", "sitename", "site_id")), "")
    return found | {named: "site"}


def place(facts: pd.DataFrame, site: str) -> Place:
    """Where a tower is; nowhere if it is not in the table."""
    if site not in facts.index:
        return Place()
    row = facts.loc[site].to_dict()
    return Place(*(float(row.get(name, np.nan)) for name in ("lat", "lon", "utc_offset_h")))


def one_place(lat: float, lon: float, igbp: str, site: str = "") -> pd.DataFrame:
    """Table of one tower or place, degrees; without a code it is called by its position."""
    ns, ew = "S" if lat < 0 else "N", "W" if lon < 0 else "E"
    name = site or f"{abs(lat):.3f}{ns} {abs(lon):.3f}{ew}"
    return pd.DataFrame({"site": [name], "lat": [lat], "lon": [lon], "igbp": [igbp]})


def summary(notes: Mapping[str, list[str]]) -> list[str]:
    """Lines that say what was found, once for all towers of which it is true; "": of no tower.

    >>> summary({"AA-One": ["P: read"], "AA-Two": ["P: read", "TA: in K"], "": ["no grid"]})
    ['AA-One, AA-Two: P: read', 'AA-Two: TA: in K', 'no grid']
    """
    sites: dict[str, list[str]] = {}
    for site, lines in notes.items():
        for line in lines:
            sites.setdefault(line, []).append(site)
    text = []
    for line, named in sites.items():
        who = ", ".join(named) if len(named) <= SHOWN else f"{len(named)} towers"
        text.append(f"{who}: {line}" if any(named) else line)
    return text


def notable(lines: Iterable[str]) -> list[str]:
    """Lines of `summary` that say what was converted, not used, lost or odd.

    That some days with a flux do not count as labels is usual; that most do not is not.

    >>> notable(["AA-One: read P", "AA-One: P: converted from m (tp)", "AA-One: not used: wind"])
    ['AA-One: P: converted from m (tp)', 'AA-One: not used: wind']
    >>> notable([f"AA-One: {n} of 90 days with a flux count as labels (why)" for n in (87, 20)])
    ['AA-One: 20 of 90 days with a flux count as labels (why)']
    """
    return [line for line in lines if not (_ROUTINE.search(line) or _mostly_labelled(line))]


def _mostly_labelled(line: str) -> bool:
    found = re.search(r": (\d+) of (\d+) days with a flux count as labels", line)
    return found is not None and 2 * int(found[1]) >= int(found[2])
