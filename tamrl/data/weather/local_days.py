"""Which records of which column make which local day, and which days are whole."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamrl.data.daily import Floats
from tamrl.data.own.tables import NOON_OFF, Place
from tamrl.data.own.vocabulary import DAY
from tamrl.data.weather.hourly import Hours, Span
from tamrl.errors import DataError

Days = NDArray[np.datetime64]
Years = str | int | tuple[str, str] | None
SUNNY = 0.3  # of 1: how much of the sun's circle must be dark, so that its middle is known


@dataclass
class Noon:
    """At which hour of solar time the sun of a file is centred: whether its clock is UTC."""

    name: str
    step: int  # min
    light: float = 0.0
    turned: complex = 0j

    def add(self, sw_in: Floats, end: Days, lon: Floats) -> None:
        """Count radiation (record, lat, lon) of records that ``end`` at these times, UTC."""
        by_column = np.nansum(np.maximum(sw_in, 0), axis=1)
        hour = (end - end.astype("datetime64[D]")) / np.timedelta64(1, "h") - self.step / 120
        clock = hour[:, None] + lon / 15
        self.light += float(by_column.sum())
        self.turned += complex((by_column * np.exp(2j * np.pi * clock / 24)).sum())

    def check(self) -> None:
        """Refuse (DataError) times that are off the sun's by hours, and name by how many."""
        off = (np.angle(self.turned) * 12 / np.pi) % 24 - 12
        sunny = self.light and abs(self.turned) > SUNNY * self.light
        if sunny and abs(off) > NOON_OFF + self.step / 120:  # stamps may be of the middle or an end
            text = f"radiation is centred at {off + 12:.1f} h of solar time, {off:+.0f} h from noon"
            raise DataError(f"{self.name}: {text}; its times are not UTC: shift them back by that")


def shifts_of(hours: Hours) -> NDArray[np.int64]:
    """Whole records (lon,) by which local time is ahead of UTC: longitude / 15 to the half-hour.

    A record is of the local day in which it begins, as at towers.
    """
    degrees = (hours.window.lon + 180) % 360 - 180
    minutes = np.array([round(60 * Place(lon=float(x)).offset) for x in degrees], dtype=np.int64)
    return (minutes + hours.phase) // hours.step


def asked(years: Years) -> Span | None:
    """First and last day of "2015", "2015-2020" or "2015-03-01:2016-02-29"; None: all there are.

    >>> asked("2015-2016")
    (np.datetime64('2015-01-01'), np.datetime64('2016-12-31'))
    """
    if years is None:
        return None
    text = ":".join(map(str, years)) if isinstance(years, tuple | list) else str(years)
    span = re.fullmatch(r"(\d{4})-(\d{4})", text.strip())
    parts = list(span.groups()) if span else text.strip().split(":")
    try:
        if len(parts) > 2 or not all(re.match(r"\d{4}", part.strip()) for part in parts):
            raise ValueError("neither years nor days")
        first, last = (np.datetime64(part.strip()) for part in (parts[0], parts[-1]))
        begin = first.astype("datetime64[D]")
        end = (last + 1).astype("datetime64[D]") - 1  # the last day of a day, a month or a year
        if np.datetime_data(last.dtype)[0] not in "YMD" or end < begin:
            raise ValueError("the end is before the beginning")
    except ValueError as error:
        form = "write 2015, 2015-2020 or 2015-03-01:2016-02-29"
        raise DataError(f"years {text!r}: {form} ({error})") from error
    return begin, end


def days_of(hours: Hours, shifts: NDArray[np.int64], span: Span | None, notes: list[str]) -> Days:
    """Local days that are whole in every column, among those that are asked for.

    DataError for years that the data do not have, none that is whole, or a record that is missing.
    """
    n = DAY // hours.step
    first = -((1 - hours.usable - int(shifts.max())) // n)  # rounded up
    last = (hours.last + int(shifts.min())) // n - 1
    held = f"{np.datetime64(first, 'D')} to {np.datetime64(last, 'D')}"
    if last < first:
        stamps = np.datetime_as_string(hours.stamps(hours.first, hours.last + 1))
        when = f"{stamps[0]} to {stamps[-1]}".replace("T", " ")
        text = f"its times, {when} UTC, hold no whole day of local time"
        raise DataError(f"{hours.name}: {text}; get the days before and after")
    if span is not None:
        begin, end = (int(day.astype(int)) for day in span)
        if first > begin + 1 or last < end - 1:
            text = (
                f"whole local days are there from {held}, and {span[0]} to {span[1]} are asked for"
            )
            raise DataError(f"{hours.name}: {text}; get the rest, or ask for fewer (--years)")
        cut = (first > begin) + (last < end)
        first, last = max(first, begin), min(last, end)
        left_out = f": {cut} at the ends, incomplete in local time, left out" if cut else ""
    else:
        left_out = ": what is incomplete at the ends is left out"
    if last < first + 1:
        raise DataError(f"{hours.name}: {held} is less than two days; a map needs more")
    days = np.arange(first, last + 1).astype("datetime64[D]")
    notes.append(f"{len(days)} local days (longitude / 15), {days[0]} to {days[-1]}{left_out}")
    begin = first * n + 1 - int(shifts.max())
    hours.require(begin, (last + 1) * n + 1 - int(shifts.min()))
    return days
