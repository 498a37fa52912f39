"""Time stamps of a user's tables: the column they are in, their form, and the clock they state."""

import re

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tamrl.data.own.csvfiles import CALENDAR
from tamrl.errors import DataError

# Columns of time stamps, by preference; those of ONEFlux have fixed forms.
ONEFLUX_FORMS = {
    "TIMESTAMP_START": "%Y%m%d%H%M", "TIMESTAMP_END": "%Y%m%d%H%M", "TIMESTAMP": "%Y%m%d",
}  # fmt: skip
OTHER_STAMPS = ("valid_time", "time", "date", "datetime", "timestamp", "day")
STAMPS = {name.casefold() for name in (*ONEFLUX_FORMS, *OTHER_STAMPS, *CALENDAR)}
UTC_STAMPS = ("valid_time",)  # of CDS
SHOWN = 4  # heads named in a line
HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")
_OFFSET = re.compile(r"(?:([zZ])|([+-])(\d\d):?(\d\d)?)$")
_YEAR_LAST = re.compile(r"(\d\d?)([/.-])(\d\d?)\2\d{4}")


def stamp_column(frame: pd.DataFrame, source: str) -> str:
    """Name of the column of time stamps, "" for an index of times; DataError if there is none."""
    if isinstance(frame.index, pd.DatetimeIndex):
        return ""
    heads = {str(c).casefold(): str(c) for c in frame.columns}
    for name in (*ONEFLUX_FORMS, *OTHER_STAMPS):
        if name.casefold() in heads:
            return heads[name.casefold()]
    have = f"have {', '.join([*heads.values()][:SHOWN])} and an index {type(frame.index).__name__}"
    remedy = "add it, or an index of dates of the standard calendar"
    raise DataError(
        f"{source}: column TIMESTAMP (or TIMESTAMP_START) is missing; {remedy} ({have})"
    )


def times(
    column: pd.Series | pd.Index, name: str, source: str
) -> tuple[NDArray[np.datetime64], float]:
    """Read times (record,) as the table's clock shows them, and its hours ahead of UTC, or NaN.

    Where stamps state several offsets, as with daylight saving, days keep the dates that they show,
    and shorter records are in UTC, 0. DataError for what is no time, or a clock stated in part.
    """
    if not isinstance(column, pd.Series) or pd.api.types.is_datetime64_any_dtype(column):
        index = pd.DatetimeIndex(column)
        if index.tz is None:
            return index.to_numpy().astype("datetime64[m]"), np.nan
        utc, shown = index.tz_convert("UTC").tz_localize(None), index.tz_localize(None)
        return _clock(utc.to_numpy(), (shown - utc).to_numpy() / HOUR, name, source)
    texts, form = column.astype(str).str.strip(), ONEFLUX_FORMS.get(name, "ISO8601")
    if form != "ISO8601" and texts.str.contains("-", regex=False).all():
        form = "ISO8601"
    read = pd.to_datetime(texts, format=form, errors="coerce", utc=form == "ISO8601")
    wrong = read.isna()
    if form != "ISO8601":
        wrong |= texts.str.len() != len(pd.Timestamp(0).strftime(form))
    for row in np.flatnonzero(wrong):
        raise DataError(
            f"{source}: {name} is {texts.iloc[row]!r} in line {row + 2}; write days as yyyymmdd or "
            "yyyy-mm-dd, half-hours as yyyymmddHHMM or yyyy-mm-ddTHH:MM; weeks, months "
            "or years are not read"
        )
    which, tails = pd.factorize(texts.str.slice(10))  # of the time of day, and the offset
    ahead = np.array([_hours(str(tail)) for tail in tails])[which]
    return _clock(read.dt.tz_localize(None).to_numpy(), ahead, name, source)


def _hours(tail: str) -> float:
    """Hours ahead of UTC that the end of a time stamp states, or NaN."""
    if (found := _OFFSET.search(tail)) is None:
        return np.nan
    zulu, sign, hours, minutes = found.groups()
    return 0.0 if zulu else float(f"{sign}1") * (int(hours) + int(minutes or 0) / 60)


def _clock(
    utc: NDArray[np.datetime64], ahead: NDArray[np.float64], name: str, source: str
) -> tuple[NDArray[np.datetime64], float]:
    """Give times as the table shows them, in UTC where offsets (record,) differ; its offset."""
    utc, stated = utc.astype("datetime64[m]"), np.isfinite(ahead)
    if not stated.any():
        return utc, np.nan
    for row in np.flatnonzero(~stated):
        what = f"{name or 'time'} states no offset to UTC in line {row + 2}, but in other lines"
        raise DataError(f"{source}: {what}; write all time stamps on one clock")
    shown = utc + np.round(60 * ahead).astype("timedelta64[m]")
    if (ahead == ahead[0]).all():
        return shown, float(ahead[0])
    of_day = shown - shown.astype("datetime64[D]")
    return (shown, np.nan) if (of_day == of_day[0]).all() else (utc, 0.0)


def dates(column: pd.Series, name: str, source: str) -> pd.Series:
    """Read days (row,) of dates of one form; DataError for what can be read two ways.

    >>> dates(pd.Series(["6/3/2005", "22/3/2005"]), "date", "x.csv").dt.month.tolist()
    [3, 3]
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.dt.tz_localize(None).dt.normalize()
    texts = column.astype(str).str.strip().str.replace(r"[T ]\d\d?:.*$", "", regex=True)
    form = "%Y%m" if texts.str.fullmatch(r"\d{6}").all() else "mixed"
    parts = texts.str.extract(f"^{_YEAR_LAST.pattern}$")
    if not parts.empty and parts.notna().all(axis=None):
        first, second = (parts[i].astype(int).max() > 12 for i in (0, 2))
        if first == second or (parts[1] != parts[1].iloc[0]).any():
            what = f"{name} is {texts.iloc[0]!r}: which is the day and which the month"
            both = "no line says" if not first else "lines differ"
            raise DataError(f"{source}: {what}, {both}; write dates as yyyy-mm-dd")
        form = "{}/{}/%Y".format(*(("%d", "%m") if first else ("%m", "%d")))
        form = form.replace("/", parts[1].iloc[0])
    read = pd.to_datetime(texts, errors="coerce", format=form)
    if form == "mixed":  # by year first, or with the month in words
        read = read.where(texts.str.contains(r"^\d{4}|[A-Za-z]{3}", regex=True))
    for row in np.flatnonzero(read.isna()):
        what = f"{name} is {texts.iloc[row]!r} in line {row + 2}"
        raise DataError(f"{source}: {what}; write all dates as yyyy-mm-dd")
    return read
