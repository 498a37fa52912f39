"""A csv file as users have it: delimiters, comments, a preface of facts, decimal commas."""

import codecs
import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from tamrl.data.units import UNITS
from tamrl.errors import DataError
from tamrl.files import check_regular

HEAD = 60  # lines looked at
BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x80-\x9f]")  # no text has these
KNOWN_UNITS = {written for ways in UNITS.values() for written in ways}
CALENDAR = ("year", "doy", "hour")
OPEN_METEO = "latitude,longitude"  # how its preface begins


@dataclass(frozen=True)
class Table:
    """A table and what its file says about it: units of columns, hours of its clock to UTC."""

    frame: pd.DataFrame
    source: str
    units: dict[str, str] = field(default_factory=dict)
    utc_offset: float = np.nan
    facts: dict[str, str] = field(default_factory=dict)  # of the preface: Site, latitude, ...
    unread: tuple[str, ...] = ()  # columns that were passed over


def read_csv(path: Path, wanted: Callable[[list[str]], set[str]] | None = None) -> Table:
    """Read a csv file (comma, semicolon or tab) whose first lines may be comments or a preface.

    Comment lines begin with "#", as in AmeriFlux BASE and MODISTools; "name: value" in them are
    facts. Open-Meteo's preface of two lines is read as such, and a line of units below the heads.
    Dates and codes of towers stay text. ``wanted`` picks from the columns' names, for large files.
    DataError, naming the file, where it cannot be read, or a row is longer than the head.
    """
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise DataError(f"{path}: a workbook; save its sheet as csv")
    check_regular(path, "a csv file")
    try:
        text = path.read_bytes()[: 1 << 20]
        encoding = encoding_of(text)
        lines = text.decode(encoding, errors="ignore").splitlines()[:HEAD]
        if BINARY.search("".join(lines)):
            raise DataError(f"{path}: not a readable csv file (it holds binary data)")
        skipped, facts, clock = _preface(lines)
        offset = float(pd.to_numeric(clock, errors="coerce")) / 3600
        if clock and not np.isfinite(offset):
            raise DataError(f"{path}: utc_offset_seconds is {clock!r}; a number is expected")
        if len(lines) <= skipped:
            raise DataError(f"{path}: not a readable csv file (it is empty)")
        head = lines[skipped]
        mark = max(",;\t", key=head.count)
        row = lines[skipped + 1] if len(lines) > skipped + 1 else ""
        if not head.count(mark) and len(lines) > skipped + 1:
            what = f"its head {head[:40]!r} is of one column"
            remedy = "part cells by comma, semicolon or tab, with the heads in the first line"
            raise DataError(f"{path}: {what}; {remedy}")
        heads = [h.strip().strip('"') for h in head.split(mark)]
        units = _units(row, heads, mark)
        row = lines[skipped + 2] if units and len(lines) > skipped + 2 else row
        comma = mark == ";" and re.search(r"(^|;)-?\d+,\d+(;|$)", row) is not None
        picked = set(heads) if wanted is None else wanted(heads)
        rows = _second_table(path, encoding, skipped) if facts.get("preface") else None
        _check_lengths(path, encoding, skipped, mark, rows)
        if twice := {h for h in picked if h and heads.count(h) > 1}:
            raise DataError(f"{path}: column {min(twice)} is there twice; keep one of them")
        frame = pd.read_csv(
            path, sep=mark, decimal="," if comma else ".", encoding=encoding,
            skiprows=[*range(skipped), *([skipped + 1] if units else [])],
            dtype=dict.fromkeys(_texts(heads), str), skip_blank_lines=False,
            usecols=None if wanted is None else lambda c: str(c).strip() in picked,
            nrows=rows, low_memory=False, index_col=False,
        )  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error, pd.errors.ParserError,
            pd.errors.EmptyDataError) as error:  # fmt: skip
        raise DataError(f"{path}: not a readable csv file ({error})") from error
    frame = frame.dropna(how="all")
    frame.columns = [str(c).strip() for c in frame.columns]
    return Table(frame, str(path), units, offset, facts, tuple(h for h in heads if h not in picked))


def encoding_of(text: bytes) -> str:
    r"""Find the encoding of a file by its beginning: UTF-8, UTF-16 by its mark, or Latin-1.

    >>> [encoding_of(text.encode(code)) for text, code in (("é\n", "utf-8"), ("é\n", "latin-1"))]
    ['utf-8-sig', 'latin-1']
    """
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data"  # in the middle of the last sign
        return "utf-8-sig" if cut or text.startswith(codecs.BOM_UTF8) else "latin-1"
    return "utf-8-sig"


def _preface(lines: list[str]) -> tuple[int, dict[str, str], str]:
    """Lines to skip, the facts in them, seconds of the file's clock to UTC, if stated."""
    facts: dict[str, str] = {}
    skipped = 0
    while skipped < len(lines) and lines[skipped].startswith("#"):
        name, _, value = lines[skipped].lstrip("# ").partition(":")
        facts[name.strip()] = value.strip()
        skipped += 1
    if lines[skipped : skipped + 1] and lines[skipped].startswith(OPEN_METEO):
        names, values = (line.split(",") for line in lines[skipped : skipped + 2])
        if "utc_offset_seconds" in names:
            facts |= dict(zip(names, values, strict=False)) | {"preface": "Open-Meteo"}
            return skipped + 3, facts, facts.get("utc_offset_seconds", "absent")
    return skipped, facts, ""


def _units(row: str, heads: list[str], mark: str) -> dict[str, str]:
    """Units of columns, where the line below the heads has them, as REddyProc's; else none."""
    cells = [cell.strip().strip('"') for cell in row.split(mark)]
    if len(cells) < 2 or len(cells) != len(heads) or not all(cells):
        return {}
    if not KNOWN_UNITS & {*cells} or any(re.match(r"[-+.]?\d", cell) for cell in cells):
        return {}
    return {head: unit.strip("-") for head, unit in zip(heads, cells, strict=True)}


def dated(frame: pd.DataFrame) -> pd.DataFrame:
    """Add to a table that has Year, DoY and Hour, as of REddyProc, the end of records: DateTime."""
    heads = {str(c).casefold(): c for c in frame.columns}
    if "datetime" in heads or not {*CALENDAR} <= heads.keys():
        return frame
    year, day, hour = (pd.to_numeric(frame[heads[n]], errors="coerce") for n in CALENDAR)
    first = pd.to_datetime(year.astype("Int64").astype(str), format="%Y", errors="coerce")
    time = first + pd.to_timedelta(day - 1, "D") + pd.to_timedelta((60 * hour).round(), "min")
    return frame.assign(DateTime=time.dt.strftime("%Y-%m-%d %H:%M").fillna("none"))


def _second_table(path: Path, encoding: str, skipped: int) -> int | None:
    """Rows before the blank line that parts Open-Meteo's hourly table from its daily one."""
    with path.open(encoding=encoding) as stream:
        for number, line in enumerate(stream):
            if number > skipped and not line.strip():
                return number - skipped - 1
    return None


def _check_lengths(path: Path, encoding: str, skipped: int, mark: str, rows: int | None) -> None:
    """Refuse a row with more cells than the head, which would stand under the wrong heads."""
    most = None
    with path.open(encoding=encoding, errors="replace") as stream:
        for number, line in enumerate(stream):
            if number < skipped or (most is not None and line.count(mark) <= most):
                continue
            if rows is not None and number > skipped + rows:
                return
            cells = next(csv.reader([line.rstrip("\n")], delimiter=mark), [])
            if most is None:
                most = len(cells) - 1
            elif any(cell.strip() for cell in cells[most + 1 :]):
                what = f"line {number + 1} has {len(cells)} cells, the head {most + 1}"
                raise DataError(f"{path}: {what}; is there a comma within a number or a text?")


def _texts(heads: list[str]) -> list[str]:
    """Columns that stay text: time stamps, and codes of towers such as 001."""
    starts = ("timestamp", "time", "date", "day", "valid")
    codes = ("site", "sitename", "site_id", "id")
    return [h for h in heads if h.casefold().startswith(starts) or h.casefold() in codes]
