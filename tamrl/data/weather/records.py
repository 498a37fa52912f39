"""What files hold records of: their columns by our names, their times, and who has which record."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamrl.data.own.vocabulary import DAY, Column, recognise
from tamrl.data.weather.gridsource import Opened, Window, check_dims
from tamrl.errors import DataError

Ints = NDArray[np.int64]

HUMID = ("VPD", "TDEW", "RH")  # what VPD is made of, by preference
NEEDED = {
    "TA": "temperature (t2m, 2m_temperature)",
    "SW_IN": "solar radiation (ssrd, surface_solar_radiation_downwards)",
    "VPD": "dew point (d2m, 2m_dewpoint_temperature) or humidity",
}
WANTED = ("TA", *HUMID, "SW_IN", "P")
EXTREME = re.compile("maximum|minimum")  # in cell_methods: no mean or instant
LEVEL = re.compile("isobaric|pressure|plev|^level$", re.IGNORECASE)  # not of the ground
LONGEST = 360  # min between records, beyond which a day has no minimum and no mean


def take(cells: Window, array: Any, at: Ints, one: Opened) -> NDArray[Any]:
    """Values (time, lat, lon) of the steps ``at`` of one file; DataError if it cannot be read."""
    try:
        return cells.take(array, at, one.zarr)
    except Exception as error:  # every file system and format has errors of its own
        text = f"cannot be read ({type(error).__name__}: {error})"
        raise DataError(f"{one.file}: {array.name} {text}; run it again to go on") from error


def columns_of(opened: list[Opened], name: str) -> dict[str, list[Column | None]]:
    """Column of each needed variable in each file (None: not there), by name or standard name."""
    found: dict[str, list[Column | None]] = {n: [None] * len(opened) for n in WANTED}
    unclear: dict[str, str] = {}  # what is wrong with a driver, should it be needed
    for k, one in enumerate(opened):
        maps = {
            str(n): v for n, v in one.ds.data_vars.items() if {"time", "lat", "lon"} <= {*v.dims}
        }
        units = {n: str(v.attrs["units"]) for n, v in maps.items() if v.attrs.get("units")}
        by_name = recognise(maps, units)
        formal: dict[str, list[str]] = {}
        for n, v in sorted(maps.items(), key=lambda item: item[1].ndim):
            same = formal.setdefault(str(v.attrs.get("standard_name")), [])
            if not EXTREME.search(str(v.attrs.get("cell_methods"))) and (v.ndim == 3 or not same):
                same.append(n)
        formal = {s: n for s, n in formal.items() if n}
        stated = {s: units[n[0]] for s, n in formal.items() if n[0] in units}
        by_standard = recognise(formal, stated)
        for driver in WANTED:
            if driver in by_name:
                found[driver][k] = by_name[driver]
            elif driver in by_standard:
                column = by_standard[driver]
                same = formal[column.column]
                at = (c for c in maps[same[0]].coords.values() if not c.ndim)
                level = next((c for c in at if LEVEL.search(str(c.name))), None)
                if len(same) > 1:
                    text = f"{', '.join(same)} are each {column.column}; leave one"
                    unclear.setdefault(driver, f"{one.file}: {text}")
                elif level is not None:
                    text = f"{same[0]} is of the level {level.name} {level.item()}"
                    unclear.setdefault(
                        driver, f"{one.file}: {text}; get it of 2 m above the ground"
                    )
                else:
                    found[driver][k] = column._replace(column=same[0])
    for columns in found.values():
        for one, there in zip(opened, columns, strict=True):
            if there is not None:
                check_dims(one, there.column)
    found = {n: columns for n, columns in found.items() if any(columns)}
    humid = next((n for n in HUMID if n in found), None)
    for driver, why in unclear.items():
        if not (humid and driver in HUMID):
            raise DataError(why)
    have = [*dict.fromkeys(str(v) for one in opened for v in one.ds.data_vars)]
    more = f" and {len(have) - 8} more" if len(have) > 8 else ""
    for lost, means in NEEDED.items():
        if lost not in found and not (lost == "VPD" and humid):
            text = f"no variable of {means}; it has {', '.join(have[:8])}{more}"
            raise DataError(f"{name}: {text}; get the file that has it")
    for driver, columns in found.items():
        kinds = {(c.column, c.unit) for c in columns if c}
        if len({unit for _, unit in kinds}) > 1 or len({column for column, _ in kinds}) > 1:
            text = f"{driver} is in different units or columns: {sorted(kinds)}"
            raise DataError(f"{name}: {text}; make the files alike")
    return {n: c for n, c in found.items() if n not in HUMID or n == humid}


def ends_of(one: Opened, notes: list[str]) -> Ints:
    """Give the ends of a file's records, min since 1970 UTC."""
    ds = one.ds
    time = _minutes(ds["time"].to_numpy())
    bounds = ds.get(str(ds["time"].attrs.get("bounds", "")))
    if bounds is not None and bounds.dtype.kind == "M":
        edges = _minutes(bounds.to_numpy())
        if (edges[:, 1] > edges[:, 0]).all():
            return edges[:, 1]
    if len(time) > 1:
        step = int(np.median(np.diff(np.sort(time))))
        if 0 < step <= LONGEST and step % 2 == 0 and (time % step == step // 2).all():
            notes.append(f"time stamps are in the middle of each record ({one.file})")
            return time + step // 2
    return time


def _minutes(time: NDArray[np.datetime64]) -> Ints:
    seconds = time.astype("datetime64[s]").astype(np.int64)
    return (seconds + 30) // 60


def step_of(found: dict[str, list[Column | None]], ends: list[Ints], name: str) -> tuple[int, int]:
    """Minutes between records, the same for all variables, and their offset to whole steps."""
    steps: dict[int, str] = {}
    for driver, columns in found.items():
        own = np.unique(np.concatenate([ends[k] for k, c in enumerate(columns) if c]))
        if len(own) < 2:
            raise DataError(f"{name}: {driver} has a single time; get whole days of hours")
        steps.setdefault(int(np.median(np.diff(own))), driver)
    (step, driver), *others = steps.items()
    if others:
        text = f"{driver} comes every {step / 60:g} h, {others[0][1]} every {others[0][0] / 60:g} h"
        raise DataError(f"{name}: {text}; get both every hour")
    if step >= DAY:
        text = f"its times are {step / DAY:g} d apart, not hours"
        raise DataError(f"{name}: {text}; `tamrl map` reads a cube of days with TA, VPD and SW_IN")
    if step > LONGEST or DAY % step:
        text = f"its times are {step / 60:g} h apart; 1 h is expected, and 3 or 6 h are the most"
        raise DataError(f"{name}: {text} that days are made of")
    used = np.concatenate([ends[k] for c in found.values() for k, one in enumerate(c) if one])
    phase = int(np.bincount(used % step).argmax())
    if (odd := used % step != phase).any():
        when = used[odd][:1].astype("datetime64[m]")[0]
        text = f"mixed time steps: most are {step / 60:g} h apart, but not at {when}"
        raise DataError(f"{name}: {text}; make a cube of each step")
    return step, phase


def lookup(
    column: Column, parts: list[Opened], cells: list[Window], number: list[Ints], first: int,
    last: int, notes: list[str],
) -> tuple[Ints, Ints]:  # fmt: skip
    """Which part, and where in it, holds each record; what is there twice must be alike."""
    part, at = (np.full(last - first + 1, -1) for _ in range(2))
    twice = 0
    for k, own in enumerate(number):
        inside = np.flatnonzero((own >= first) & (own <= last))
        numbers, once = np.unique(own[inside] - first, return_index=True)
        fresh = once[part[numbers] < 0]
        n = own[inside[fresh]] - first
        part[n], at[n] = k, inside[fresh]
        again = np.delete(inside, fresh)
        for i, n in zip(again, own[again] - first, strict=True):
            a, b = (take(cells[p], parts[p].ds[column.column], np.array([j]), parts[p])
                    for p, j in ((part[n], at[n]), (k, i)))  # fmt: skip
            if not np.array_equal(a, b, equal_nan=True):
                when = str(parts[k].ds["time"].to_numpy()[i])[:16].replace("T", " ")
                files = " and ".join(dict.fromkeys((parts[part[n]].file, parts[k].file)))
                text = f"{column.column} is there twice at {when} UTC, with different values"
                raise DataError(f"{files}: {text}; keep one of them")
            twice += 1
    if twice:
        notes.append(
            f"{column.column}: {twice} records are there twice, alike; one of each is used"
        )
    return part, at
