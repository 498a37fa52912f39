"""Hourly fields of weather in one piece: which file holds what and when, in units used here.

A record is the hour (or 3 h, 6 h) that ends at its stamp, as ERA5 has it for sums
(https://confluence.ecmwf.int/display/CKB/ERA5), and as series of points are read, unless
the file has time bounds.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import dask
import numpy as np
from numpy.typing import NDArray

from tamrl.data.daily import Floats
from tamrl.data.own.points import ACCUMULATED, accumulates, amounts
from tamrl.data.own.records import add_deficit
from tamrl.data.own.vocabulary import DAY, Column, convert
from tamrl.data.weather.gridsource import Opened, Region, Source, Window, four, open_sources, window
from tamrl.data.weather.records import Ints, columns_of, ends_of, lookup, step_of, take
from tamrl.errors import DataError

Span = tuple[np.datetime64, np.datetime64]
SUMS = ("auto", "step", "day")  # sums of the time since the stamp before, or since 00 UTC
DEW_LEAST = -110.0  # degC; the coldest air on Earth was of -98
DEW_SLACK, DEW_SHARE, DEW_MOST = 0.5, 0.01, 5.0  # K above TA, by interpolation; in so many hours
FALL = 1e-3  # of the greatest sum: a fall that is no rounding
FALLEN = {"SW_IN": -20.0, "P": -1.0}  # W m-2, mm: what sums of a day never lose, but by rounding
HUMID_MOST = 150.0  # %, beyond which no air is
HUGE = 1e15  # codes for missing of many models
SAMPLE_HOURS = 50  # two resets of sums from 00 UTC
SAMPLE_CELLS = 4_000_000  # read at once


@dataclass
class Series:
    """One variable from one file or several: which file (-1: none) and place record by record."""

    column: Column
    parts: list[Opened]
    windows: list[Window]
    part: Ints
    at: Ints


@dataclass
class Hours:
    """Weather (record, lat, lon); record k begins at ``step`` * (k - 1) + ``phase`` min UTC.

    ``first`` is the number of the first record that all variables have, ``last`` of the last.
    """

    series: dict[str, Series]
    window: Window
    step: int
    phase: int
    first: int
    last: int
    sums: dict[str, str]
    name: str

    def read(self, start: int, stop: int, notes: list[str] | None = None) -> dict[str, Floats]:
        """TA degC, VPD hPa, SW_IN W m-2 and P mm (record, lat, lon) of records start to stop - 1.

        DataError for a dew point that no air has, or above the temperature by more than rounding.
        """
        said: list[str] = [] if notes is None else notes
        values = {}
        for name, series in self.series.items():
            before = int(self.sums.get(name) == "day" and start > self.first)
            raw = self.raw(name, start - before, stop)
            if self.sums.get(name) == "day":
                time = self.stamps(start - before, stop)
                raw = amounts(raw, time, self.step // 60)[before:]
            values[name] = convert(raw, series.column, self.step, self.name, said)
            if self.sums.get(name) == "day" and (fell := values[name] < FALLEN[name]).any():
                why = "sums from 00 UTC do not (another: --sums)"
                self._refuse(name, "falls", fell, start, why)
        if "RH" in values and (wet := values["RH"] > HUMID_MOST).any():
            self._refuse("RH", f"is {values['RH'][wet][0]:.6g} %", wet, start, "no air is so humid")
        if "TDEW" in values:
            self._check_dew(values["TDEW"], values["TA"], start)
        add_deficit(values, said)
        return values

    @property
    def usable(self) -> int:
        """Number of the first record whose amounts are known."""
        hour = self.stamp(self.first).astype("datetime64[h]").astype(int) % 24
        return self.first + int("day" in self.sums.values() and hour != self.step // 60)

    def stamp(self, number: int) -> np.datetime64:
        """Give the end of a record, UTC."""
        return np.datetime64(int(number) * self.step + self.phase, "m")

    def stamps(self, start: int, stop: int) -> NDArray[np.datetime64]:
        """Give the ends of records, UTC."""
        return self.stamp(start) + self.step * np.arange(stop - start)

    def raw(self, name: str, start: int, stop: int) -> Floats:
        """Values (record, lat, lon) as the files have them."""
        series, span = self.series[name], slice(start - self.first, stop - self.first)
        part, at = series.part[span], series.at[span]
        out = np.empty((stop - start, len(self.window.lat), len(self.window.lon)))
        with dask.config.set(scheduler="synchronous"):  # the caller is the parallel part
            for k in np.unique(part):
                one, rows = series.parts[k], np.flatnonzero(part == k)
                array = one.ds[series.column.column]
                out[rows] = take(series.windows[k], array, at[rows], one)
        if (code := abs(out) > HUGE).any():
            text = f"is {out[code][0]:.6g}"
            self._refuse(
                name, text, code, start, "a code for missing left in; mark it by _FillValue"
            )
        return out

    def _refuse(self, name: str, what: str, bad: NDArray[np.bool_], start: int, why: str) -> None:
        when = str(self.stamp(start + np.argwhere(bad)[0][0])).replace("T", " ")
        column = self.series[name].column.column
        raise DataError(f"{self.name}: {column} {what} at {when} UTC: {why}; correct the files")

    def require(self, start: int, stop: int) -> None:
        """DataError unless each variable has all records from start to stop - 1."""
        for series in self.series.values():
            lost = np.flatnonzero(series.part[start - self.first : stop - self.first] < 0)
            if lost.size:
                when = f"{self.stamp(start + lost[0])}".replace("T", " ")
                text = f"{series.column.column} lacks {lost.size} records, the first at {when} UTC"
                raise DataError(f"{self.name}: {text}; get them, or ask for other years")

    def _check_dew(self, dew: Floats, ta: Floats, start: int) -> None:
        name, above = self.series["TDEW"].column.column, dew - ta
        if (least := np.min(dew, initial=np.inf, where=np.isfinite(dew))) < DEW_LEAST:
            text = f"the dew point is {least:.4g} degC, which no air is"
            unit = self.series["TDEW"].column.unit
            raise DataError(f"{self.name}: {text}; correct the units attribute of {name}, {unit!r}")
        known = np.isfinite(above)
        most = np.max(above, initial=-np.inf, where=known)
        many = (above > DEW_SLACK).sum() > DEW_SHARE * known.sum()
        if not many and most <= DEW_MOST:
            return
        when = str(self.stamp(start + np.argwhere(above == most)[0][0])).replace("T", " ")
        text = f"the dew point is above the temperature, by {most:.3g} K at {when} UTC"
        both = f"{name} and {self.series['TA'].column.column}"
        raise DataError(f"{self.name}: {text}; are {both} mixed up, or in other units?")


def open_hours(
    source: Source, region: Region | None, span: Span | None, sums: str, notes: list[str],
    files: ExitStack,
) -> Hours:  # fmt: skip
    """Open hourly weather of a region; nothing but axes and a sample is read.

    ``source``, ``files`` as for `open_sources`, ``region`` as for `window`; ``span``: first and
    last day. ``sums``: whether radiation and rain in J m-2 and m are those since the stamp before
    ("step"), or since 00 UTC ("day", as ERA5-Land has them); "auto" asks the values. DataError for
    a variable, unit or record that is missing, and for sums that could be either.
    """
    if sums not in SUMS:
        raise DataError(f"sums {sums!r}: write one of {', '.join(SUMS)}")
    region = four(region)
    opened = open_sources(source, notes, files)
    name = opened[0].file if len(opened) == 1 else f"{opened[0].file} and {len(opened) - 1} more"
    found = columns_of(opened, name)
    windows = [window(one, region) for one in opened]
    for one, cells in zip(opened, windows, strict=True):
        for axis in ("lat", "lon"):
            a, b = getattr(cells, axis), getattr(windows[0], axis)
            if len(a) != len(b) or abs(a - b).max() > 1e-3 * abs(b[1] - b[0]):
                text = f"its cells ({axis}) are not those of {opened[0].file}"
                raise DataError(f"{one.file}: {text}; make a cube of each grid")
    _say_less(region, windows[0], name, notes)
    ends = [ends_of(one, notes) for one in opened]
    step, phase = step_of(found, ends, name)
    spans = []
    series = {}
    for driver, columns in found.items():
        ks = [k for k, column in enumerate(columns) if column is not None]
        number = [(ends[k] - phase) // step for k in ks]
        spans.append((min(n.min() for n in number), max(n.max() for n in number)))
        series[driver] = (ks, number)
    first, last = max(a for a, _ in spans), min(b for _, b in spans)
    begin, end = min(a for a, _ in spans), max(b for _, b in spans)
    for driver, (a, b) in zip(series, spans, strict=True):
        if span is None and max(a - begin, end - b) > DAY // step:
            since, until = (str(np.datetime64(int(n) * step + phase, "m"))[:10] for n in (a, b))
            notes.append(f"days as far as {driver} is there, from {since} to {until}")
    if last < first:
        raise DataError(f"{name}: its variables have no time in common; get the same months of all")
    if span is not None:  # and half a day more, which other longitudes need
        begin, end = (int((d - np.datetime64(0, "D")).astype(int)) * DAY // step for d in span)
        if first <= end and last >= begin:
            n = DAY // step
            first, last = max(first, begin - n // 2), min(last, end + n + n // 2)
    made = {}
    for driver, (ks, number) in series.items():
        parts, own = [opened[k] for k in ks], [windows[k] for k in ks]
        column = next(c for c in found[driver] if c is not None)
        part, at = lookup(column, parts, own, number, first, last, notes)
        made[driver] = Series(column, parts, own, part, at)
    hours = Hours(made, windows[0], step, phase, int(first), int(last), {}, name)
    hours.sums |= _sums(hours, sums, notes)
    if step != 60:
        notes.append(f"records every {step / 60:g} h, each taken for the time before its stamp")
    return hours


def _say_less(region: Region | None, cells: Window, name: str, notes: list[str]) -> None:
    """Say that a file ends within a region that is asked for."""
    if region is None:
        return
    south, west, north, east = region
    y, x = cells.lat, cells.lon
    wide = (east - west) % 360 or 360
    if max(y[0] - south, north - y[-1]) > y[1] - y[0] or wide - (x[-1] - x[0]) > 2 * (x[1] - x[0]):
        text = f"latitude {y[0]:g} to {y[-1]:g}, longitude {x[0]:g} to {x[-1]:g}"
        notes.append(f"the region goes beyond what is there, {text} ({name})")


def _sums(hours: Hours, asked: str, notes: list[str]) -> dict[str, str]:
    """How each variable that is a sum accumulates: "step" or "day"."""
    found: dict[str, str] = {}
    for one in hours.series.values():  # refuses a unit that is unknown
        convert(np.full(1, np.nan), one.column, hours.step, hours.name, [])
    for name, units in ACCUMULATED.items():
        if name not in hours.series or hours.series[name].column.unit not in units:
            continue
        column = hours.series[name].column.column
        kind = asked if asked != "auto" else _judged(hours, name)
        kind = kind or found.get("SW_IN", "")
        if kind == "day" and (hours.step % 60 or hours.phase):
            raise DataError(f"{hours.name}: {column}: sums from 00 UTC need whole hours")
        if asked == "auto" and (not kind or (kind == "step" and hours.step != 60)):
            about = f"sums every {hours.step / 60:g} h" if kind else "sums since an unknown time"
            text = f"{column} holds {about}: say sums=step if since the stamp before, or sums=day"
            hint = "" if not kind else "; sums of one hour alone do not make a day: get every hour"
            raise DataError(f"{hours.name}: {text} if since 00 UTC (--sums){hint}")
        found[name] = kind
        if kind == "day":
            notes.append(f"{name}: amounts made of sums from 00 UTC ({column})")
    return found


def _judged(hours: Hours, name: str) -> str:
    """Distinguish sums of a step from sums of the day by two samples; "" if neither shows."""
    last = hours.last + 1
    said = set()
    length = SAMPLE_HOURS * 60 // hours.step
    half = hours.first + min((last - hours.first) // 2, 183 * DAY // hours.step)  # another season
    for start in {hours.first, half}:
        stop = min(start + length, last)
        if (hours.series[name].part[start - hours.first : stop - hours.first] < 0).any():
            continue
        cells = len(hours.window.lat) * len(hours.window.lon)
        slab = max(1, SAMPLE_CELLS // cells)
        parts = [hours.raw(name, k, min(k + slab, stop)) for k in range(start, stop, slab)]
        total = np.concatenate([np.nansum(part, (1, 2)) for part in parts])
        time = hours.stamps(start, stop)
        within = time.astype("datetime64[h]").astype(int)[1:] % 24 != hours.step // 60
        falls = (np.diff(total) < -FALL * total.max(initial=0))[within]
        if accumulates(total, time, hours.step // 60):
            said.add("day")
        elif falls.any():
            said.add("step")
    return said.pop() if len(said) == 1 else ""
