"""Tables of one tower or place, from a csv file or a DataFrame, to its local days.

Read are daily, hourly and half-hourly tables whose columns the vocabulary knows, with time stamps
as ONEFlux, AmeriFlux BASE, FluxDataKit, CDS or Open-Meteo write them.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tamrl.data.daily import FULL_DAY, Floats, TowerDays, to_days
from tamrl.data.own.checks import check_offset
from tamrl.data.own.csvfiles import CALENDAR, Table, dated
from tamrl.data.own.fluxes import closed, turn_records
from tamrl.data.own.labels import quality, say_gaps
from tamrl.data.own.records import (
    HUMIDITY,
    add_deficit,
    check_dew,
    check_night,
    say_absent,
    without_impossible,
)
from tamrl.data.own.stamps import ONEFLUX_FORMS, STAMPS, UTC_STAMPS, stamp_column, times
from tamrl.data.own.vocabulary import DAY, Column, convert, recognise
from tamrl.data.own.whose import POSITION, SITE, check_place, check_site
from tamrl.data.schema import DRIVERS, UMOL_TO_GC, check_days
from tamrl.errors import DataError

NOON_OFF, NOON_NEAR = 2.5, 1.0  # h: radiation is centred so far from local noon, so near to UTC's
FALLBACKS = {"_DT_": "daytime partitioning", "_CUT_": "one u* threshold for all years"}
YEARS = np.array(["1900", "2101"], "datetime64[m]")  # times that are taken for real
ABSENT = 0.1  # share of days without a record from which on it is said
SHOWN = 4  # columns named in a line


class Place(NamedTuple):
    """Where a table is from: degrees, and hours that turn UTC into local standard time, or NaN."""

    lat: float = np.nan
    lon: float = np.nan
    utc_offset: float = np.nan

    @property
    def offset(self) -> float:
        """Hours to local time, by longitude to the half-hour where nothing better is known."""
        known = np.isfinite(self.utc_offset)
        return self.utc_offset if known else round(self.lon / 15 * 2) / 2


def tower_days(
    table: Table, place: Place, notes: list[str], further: Iterable[str] = (), site: str = ""
) -> TowerDays:
    """Local days of a tower ``site``, in our names and units; ``notes`` say what was done to them.

    Columns named in ``further`` are read, too, in their own unit. TA, SW_IN and VPD (or RH, or a
    dew point) are needed. DataError, naming the file, for a table that cannot be used.
    """
    source, frame = table.source, dated(table.frame)
    found = recognise(frame.columns, table.units, further)
    twice = {*map(str, frame.columns[frame.columns.duplicated()])}
    for head in sorted(twice & wanted([*map(str, frame.columns)], further)):
        raise DataError(f"{source}: column {head} is there twice; keep one of them")
    check_place(table, place.lat, place.lon)
    check_site(table, site, notes)
    stamps = stamp_column(frame, source)
    lacking = [n for n in DRIVERS if n not in found]
    if "VPD" in lacking and {"RH", "TDEW"} & found.keys():
        lacking.remove("VPD")
    if lacking:
        named = {"TA": "TA_F", "VPD": "VPD_F", "SW_IN": "SW_IN_F"}[lacking[0]]
        what = f"column {named} is missing; tables have TA_F, VPD_F, SW_IN_F, or t2m, d2m, ssrd"
        raise DataError(f"{source}: {what}")
    if frame.empty:
        raise DataError(f"{source}: no records; get the file again")
    frame, start, minutes, ends, clock = _ordered(frame, stamps, source, notes)
    values = {}
    for name, column in found.items():
        change = quality if name == "NEE_QC" else convert
        given = _numbers(frame, column.column, source)
        values[name] = change(given, column, minutes, source, notes)
    looked_at = values if minutes != DAY else {n: values[n] for n in HUMIDITY if n in values}
    without_impossible(looked_at, start, source, notes)
    values |= looked_at
    check_dew(values, source)
    add_deficit(values, notes)
    by_day = any("_DT_" in _flux_name(found, flux) for flux in ("GPP", "RECO"))
    if by_day and {"NEE", "GPP"} <= values.keys():  # these close with a modelled NEE alone
        values.pop("RECO", None)
    sure = False  # of the sign of NEE
    if minutes == DAY:
        check_days(pd.DatetimeIndex(start), source)
        days = TowerDays(start.astype("datetime64[D]"), values)
    else:
        sure = turn_records(values, notes)
        reco = values.pop("RECO", None)
        start = start - np.timedelta64(minutes if ends else 0, "m")
        start = _local(start, values["SW_IN"], stamps, table, place, clock, notes)
        days = _to_days(start, minutes, values, source, notes)
        check_night(start, values["SW_IN"], place.lat, source)
        if reco is not None:  # its days are compared with those of NEE + GPP
            days.data["RECO"] = (
                UMOL_TO_GC * to_days(start, minutes, {"RECO": reco}, source).data["RECO"]
            )
    span = int((days.days[-1] - days.days[0]).astype(int)) + 1
    if (absent := span - len(days.days)) > ABSENT * span:
        notes.append(f"{absent} of {span} days from {days.days[0]} on have no record")
    _say_used(found, frame, table.unread, stamps, notes)
    units = {name: found[name].unit for name in further if name in found}
    return closed(days._replace(units=units), source, notes, _flux_name(found, "NEE"), sure)


def _flux_name(found: dict[str, Column], flux: str) -> str:
    return found[flux].column if flux in found else flux


def _say_used(
    found: dict[str, Column], frame: pd.DataFrame, unread: Iterable[str], stamps: str,
    notes: list[str],
) -> None:  # fmt: skip
    notes.insert(0, "read " + ", ".join(
        name if name == c.column else f"{name} ({c.column})" for name, c in found.items()
    ))  # fmt: skip
    for name, column in found.items():
        if other := next((what for tag, what in FALLBACKS.items() if tag in column.column), ""):
            notes.append(f"{name}: {other} ({column.column}), as the usual columns are not there")
    used = {c.column for c in found.values()} | {stamps, *ONEFLUX_FORMS}
    used |= {str(c) for c in frame.columns if str(c).casefold() in CALENDAR}
    used |= {name for names in POSITION.values() for name in names}
    used |= {str(c) for c in frame.columns if str(c).casefold() in SITE}
    if rest := [c for c in (*map(str, frame.columns), *unread) if c not in used]:
        more = f" and {len(rest) - SHOWN} more" if len(rest) > SHOWN else ""
        notes.append(f"not used: {', '.join(rest[:SHOWN])}{more}")


def wanted(heads: list[str], further: Iterable[str] = ()) -> set[str]:
    """Columns of a table that are read: what the vocabulary knows, further ones, time stamps."""
    known = {column.column for column in recognise(heads, None, further).values()}
    position = {name for names in POSITION.values() for name in names}
    return known | {h for h in heads if h.casefold() in {*STAMPS, *SITE} or h in position}


def _ordered(
    frame: pd.DataFrame, stamps: str, source: str, notes: list[str]
) -> tuple[pd.DataFrame, NDArray[np.datetime64], int, bool, float]:
    """Table without repeated records, stamps, minutes between, whether ends, their stated clock."""
    time, clock = times(frame.index if not stamps else frame[stamps], stamps, source)
    try:
        repeated = frame.assign(_stamp=time).duplicated().to_numpy()
    except TypeError as error:
        raise DataError(f"{source}: a cell is neither number nor text ({error})") from error
    if repeated.any():
        notes.append(f"{repeated.sum()} records stood there twice, alike: one of each was used")
        frame, time = frame[~repeated], time[~repeated]
    for stamp in time[(time < YEARS[0]) | (time >= YEARS[1])]:
        text = f"{stamp}"[:10]
        raise DataError(f"{source}: {stamps or 'time'} is {text}, outside 1900 to 2100; correct it")
    steps = np.diff(time).astype("timedelta64[m]").astype(int)
    minutes = DAY if stamps == "TIMESTAMP" else int(np.median(steps)) if steps.size else 0
    if minutes == DAY and len(steps) > 2 and (days := np.median(steps) / DAY) > 1:
        raise DataError(f"{source}: records are {days:g} days apart; every day is expected")
    if minutes != DAY and (steps < 0).any():
        at = f"{time[1:][steps < 0][0]}"[:16]
        remedy = "sort the records, on one clock without daylight saving"
        raise DataError(f"{source}: time goes back at {at}; {remedy}")
    if len(time) > 1 and not minutes:
        raise DataError(f"{source}: time {f'{time[0]}'[:16]} is there twice; keep one record each")
    if stamps == "TIMESTAMP":
        return frame, time, DAY, False, clock
    if len(time) == 1 and minutes != DAY:
        raise DataError(f"{source}: it has a single record; half-hours, hours or days are expected")
    if minutes not in (DAY, *FULL_DAY):
        raise DataError(f"{source}: records are {minutes} min apart; 30, 60 or a day are expected")
    if minutes != DAY and (odd := (steps % minutes != 0) & (steps > 0)).any():
        at = f"{time[1:][odd][0]}"[:16]
        what = f"mixed time steps: most records are {minutes} min apart, but not at {at}"
        raise DataError(f"{source}: {what}; write each step into a file of its own")
    ends = stamps == "TIMESTAMP_END"
    if minutes != DAY and stamps not in ONEFLUX_FORMS:
        ends = stamps.casefold() in UTC_STAMPS or _accumulates(frame)
        notes.append(f"time stamps taken for the {'end' if ends else 'beginning'} of each record")
    return frame, time, minutes, ends, clock


def _accumulates(frame: pd.DataFrame) -> bool:
    """Whether records end at the stamp, as those of ERA5, Open-Meteo and REddyProc do."""
    heads = " ".join(map(str, frame.columns))
    return any(n in heads.casefold() for n in ("shortwave_radiation", "ssrd")) or (
        bool({"Rg", "Rg_f"} & {*frame.columns}) and "DateTime" in heads
    )


def _numbers(frame: pd.DataFrame, column: str, source: str) -> Floats:
    given = frame[column]
    kinds = {type(value) for value in given} if given.dtype == object else {given.dtype.type}
    if no_numbers := kinds & {bool, np.bool_, complex, np.complex64, np.complex128}:
        name = no_numbers.pop().__name__
        raise DataError(f"{source}: {column} holds values of the type {name}; numbers are expected")
    try:
        numbers = pd.to_numeric(given, errors="coerce").astype(np.float64)
    except OverflowError as error:  # whole numbers of hundreds of digits
        raise DataError(f"{source}: {column} holds a number beyond 1e308; correct it") from error
    for row in np.flatnonzero(numbers.isna() & given.notna()):
        value = given.iloc[row]
        raise DataError(f"{source}: {column} is {value!r} in line {row + 2}; a number is expected")
    return numbers.to_numpy(copy=True)


def _local(
    start: NDArray[np.datetime64], sw_in: Floats, stamps: str, table: Table, place: Place,
    clock: float, notes: list[str],
) -> NDArray[np.datetime64]:  # fmt: skip
    """Turn UTC into local standard time: where stamps or format state it, or the sun says so.

    A ``clock`` (h ahead of UTC) that the stamps state and the longitude allows is the local one,
    unless the place has a better known.
    """
    offset = table.utc_offset if np.isnan(clock) else clock  # h ahead of UTC; NaN if none is stated
    near = abs((clock - place.lon / 15 + 12) % 24 - 12) <= (NOON_OFF if clock else NOON_NEAR)
    if near and not np.isfinite(place.utc_offset):
        notes.append(f"time stamps state {clock:+g} h to UTC: taken for local standard time")
        return start
    if not np.isfinite(offset) and stamps.casefold() in UTC_STAMPS:
        offset = 0.0
    if np.isfinite(offset):
        check_offset(offset, np.nan, f"{table.source}: utc_offset of the file", notes)
        move = place.offset - offset
    else:
        hour = (start - start.astype("datetime64[D]")).astype(int) / 60
        sun = np.nan_to_num(np.maximum(sw_in, 0)) * np.exp(2j * np.pi * hour / 24)
        noon = np.angle(sun.sum()) * 12 / np.pi % 24 if sun.any() else 12.0
        utc_noon = (12 - place.lon / 15) % 24
        if not (abs(noon - 12) > NOON_OFF and abs(noon - utc_noon) < NOON_NEAR):
            return start
        move = place.offset
        notes.append(f"radiation is centred at {noon:.1f} h: time stamps are UTC")
    if not np.isfinite(move):
        raise DataError(f"{table.source}: times are UTC; name the place (lat, lon) or utc_offset_h")
    if move:
        how = "" if np.isfinite(place.utc_offset) else " (longitude / 15)"
        notes.append(f"time moved by {move:+g} h to local standard time{how}")
    return start + np.timedelta64(round(60 * move), "m")


def _to_days(
    start: NDArray[np.datetime64], minutes: int, values: dict[str, Floats], source: str,
    notes: list[str],
) -> TowerDays:  # fmt: skip
    days = to_days(start, minutes, values, source)
    whole = np.logical_and.reduce([np.isfinite(days.data[n]) for n in DRIVERS])
    say_absent(start, minutes, notes)
    rule = f"{FULL_DAY[minutes]} of {DAY // minutes} records"
    if (lost := int((~whole).sum())) and lost > 2:
        needed = f"{rule} of TA, VPD and SW_IN are needed"
        notes.append(f"{lost} of {len(whole)} days are incomplete ({needed})")
    rest = {name: x for name, x in values.items() if name not in (*DRIVERS, "NEE_QC", "P")}
    say_gaps(rest, days.data, start.astype("datetime64[D]"), rule, notes)
    return days
