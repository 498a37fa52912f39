"""The time axis of a cube: days of the standard calendar, or twelve months of an average year."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.own.tables import YEARS
from tamrl.errors import DataError

Dates = npt.NDArray[np.datetime64]
STANDARD = ("standard", "gregorian", "proleptic_gregorian")  # alike since 1582
NO_LEAP = ("noleap", "365_day")
DAY, HOUR = np.timedelta64(1, "D"), np.timedelta64(1, "h")


def read_time(ds: xr.Dataset, name: str) -> tuple[xr.Dataset, bool, tuple[int, ...]]:
    """Put the time axis of a cube right, lazily.

    Returns the cube, ascending in time; whether it is a climatology (month 1 to 12); and which of
    its times are a 29 February that a 365-day calendar lacks and `fill_leap_days` fills. DataError
    for an axis that is absent, shorter than two dates, of another calendar, doubled or below a day.
    """
    if "month" in ds.dims:
        months = ds["month"].to_numpy().tolist()
        if len(months) != 12 or {*months} != {*range(1, 13)}:
            raise DataError(f"{name}: month is {ds['month'].to_numpy()}; expected 1 to 12")
        return ds.sortby("month").rename(month="time"), True, ()
    if "time" not in ds.dims and "valid_time" in ds.dims:  # as the Climate Data Store names it
        ds = ds.drop_vars("time", errors="ignore").rename(valid_time="time")
    if "time" not in ds.dims:
        raise DataError(f"{name}: neither month nor time is a dimension; add one of them")
    time, leap = _standard(ds["time"].to_numpy(), name)
    if not np.issubdtype(time.dtype, np.datetime64) or len(time) < 2:
        raise DataError(f"{name}: time must hold at least two dates of the standard calendar")
    if not ((time >= YEARS[0]) & (time < YEARS[1])).all():
        raise DataError(f"{name}: a time is missing, or outside 1900 to 2100; correct it")
    if ds["time"].dtype.kind != "M":
        ds = ds.assign_coords(time=time.astype("M8[ns]"))
    if (np.diff(time) < np.timedelta64(0)).any():
        ds = ds.sortby("time")
    time = ds["time"].to_numpy()
    step = np.diff(time)
    if (same := np.flatnonzero(step == np.timedelta64(0))).size:
        raise DataError(f"{name}: the time {_said(time[same[0]])} occurs twice; keep one")
    if (hours := float(np.median(step / HOUR))) < 24:
        often = "hourly" if hours == 1 else f"in steps of {hours:g} hours"
        file = "FILE" if name == "cube" else name
        text = f"the cube is {often}; make it daily: tamrl cube {file} -o days.zarr"
        raise DataError(f"{name}: {text}")
    return _with_leap_days(ds, time) if leap else (ds, False, ())


def _standard(time: npt.NDArray, name: str) -> tuple[npt.NDArray, bool]:
    """Turn dates of cftime into those of the standard calendar; whether leap days are absent."""
    calendar = str(getattr(time.flat[0], "calendar", "")) if time.dtype == object else ""
    if not calendar:
        return time, False
    if calendar not in (*STANDARD, *NO_LEAP):
        remedy = "interpolate it to days of the standard one, in xarray: cube.interp_calendar(days)"
        raise DataError(f"{name}: time is of the calendar {calendar}; {remedy}")
    return np.array([one.isoformat() for one in time], "M8[us]"), calendar in NO_LEAP


def _with_leap_days(ds: xr.Dataset, time: Dates) -> tuple[xr.Dataset, bool, tuple[int, ...]]:
    """Take 28 February again for each 29 February between two days, until it is filled."""
    day = time.astype("M8[D]")
    before = np.flatnonzero((np.diff(day) == 2 * DAY) & _leap_follows(day[:-1]))
    taken = np.insert(np.arange(len(time)), before + 1, before)
    leap = before + 1 + np.arange(len(before))
    dates = time[taken]
    dates[leap] += DAY
    return ds.isel(time=taken).assign_coords(time=dates), False, tuple(leap.tolist())


def _leap_follows(day: Dates) -> npt.NDArray[np.bool_]:
    """Whether the day after is a 29 February."""
    month = (day + DAY).astype("M8[M]")
    return (month.astype(int) % 12 == 1) & (day - month.astype("M8[D]") == 27 * DAY)


def fill_leap_days(ds: xr.Dataset, leap: Sequence[int]) -> xr.Dataset:
    """Give days ``leap`` (positions in time) of a loaded cube the mean of their neighbours."""
    at, out = np.asarray(leap, int), {}
    for name, v in ds.data_vars.items():
        if len(at) and "time" in v.dims and v.dtype.kind == "f":
            mean = 0.5 * (v.isel(time=at - 1).variable + v.isel(time=at + 1).variable)
            out[name] = v.copy()
            out[name][{"time": at}] = mean.astype(v.dtype)
    return ds.assign(out)


def leap_note(time: Dates, leap: Sequence[int]) -> str:
    """Say which days `fill_leap_days` filled; an empty text: none."""
    years = ", ".join(str(date)[:4] for date in time[list(leap)])
    return f"365-day calendar: 29 February ({years}) is the mean of its neighbours" if years else ""


def check_days(time: Dates, name: str) -> None:
    """Refuse (DataError) an axis that is not daily, by its first gap if days have some."""
    step = np.diff(time)
    if (bad := np.flatnonzero(step != DAY)).size and np.median(step / DAY) == 1:
        first, then = time[bad[0]], time[bad[0] + 1]
        text = f"time has a gap: after {_said(first)} comes {_said(then)}"
        raise DataError(f"{name}: {text}; fill the missing days, or map the parts one by one")
    if bad.size:
        text = "neither daily without a gap, nor twelve months of an average year (dimension month)"
        raise DataError(f"{name}: the cube is {text}; make it daily: tamrl cube")


def _said(date: np.datetime64) -> str:
    """Write a date, with its hour if it is not midnight."""
    day = date.astype("M8[D]")
    return str(day if day == date else date.astype("M8[m]"))


def time_edges(time: Dates) -> Dates:
    """Edges (n + 1) of n time steps: whole months for month starts, else half-way dates."""
    months, step = time.astype("datetime64[M]"), np.diff(time)
    # Stamps at midnight begin their day; others, but for months, stand in the middle of their step.
    if time[0] == time[0].astype("datetime64[D]") and (step == DAY).all():
        edges = [time, time[-1:] + step[-1:]]
    elif (np.diff(months) == np.timedelta64(1, "M")).all():
        edges = [months, months[-1:] + 1]
    else:
        edges = [time[:1] - step[:1] / 2, time[:-1] + step / 2, time[-1:] + step[-1:] / 2]
    return np.concatenate(edges).astype("datetime64[ns]")
