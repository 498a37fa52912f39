"""Records of hourly weather: which hour each is, which of them make a day, what no air can be."""

from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import xarray as xr
from settings import DEFINED
from weather import cds, truth

from tamrl.data.weather import hourly
from tamrl.data.weather.hourly import Hours, open_hours
from tamrl.data.weather.local_days import Noon, days_of, shifts_of
from tamrl.errors import DataError

pytestmark = DEFINED

LAT, LON = np.arange(48.0, 50.0, 0.5), np.arange(-2.0, 3.0, 0.5)
BEGIN, HOURS = "2019-12-28T00", 24 * 16
HOUR = np.timedelta64(1, "h")


def opened(source: Any = None, region: Any = None, span: Any = None, sums: str = "auto") -> tuple:
    """Open hours of two weeks, or of ``source``; give them and what was said."""
    source, notes = cds(BEGIN, HOURS, LAT, LON) if source is None else source, list[str]()
    if span is not None:
        span = tuple(np.datetime64(day) for day in span)
    return open_hours(source, region, span, sums, notes, ExitStack()), "\n".join(notes)


def number(stamp: str) -> int:
    """Give the number of the record that ends at a full hour."""
    return int(np.datetime64(stamp, "h").astype(int))


def changed(ds: xr.Dataset, name: str, at: int, by: float) -> xr.Dataset:
    """Add to the values of one record in one cell."""
    ds = ds.copy(deep=True)
    ds[name][at, 1, 2] += by
    return ds


@pytest.mark.parametrize(("begin", "step"), [
    ("2020-01-01T00", 1), ("2020-01-01T01", 1), ("2020-01-01T07", 1), ("2020-01-01T03", 3),
    ("2020-01-01T09", 3),
])  # fmt: skip
def test_sums_of_a_day_are_told_apart_from_any_record_on(begin: str, step: int) -> None:
    """The first record of a file is known only where it is the first of its day."""
    ds = cds(begin, 24 * 5, LAT, LON, step, land=True)
    stamps = ds.valid_time.to_numpy()
    hours, said = opened(ds, sums="day")
    assert ("records every" in said) == (step > 1)
    assert (hours.stamps(hours.first, hours.last + 1) == stamps).all()
    known = hours.usable - hours.first
    assert known == (begin[11:] != f"{step:02d}")
    whole = hours.read(hours.usable, hours.last + 1)
    late = hours.read(hours.first + 9, hours.first + 20)  # of any part of the file
    want = truth(stamps, LAT, LON)
    for name, factor, atol in (("TA", 1, 1e-9), ("SW_IN", 1 / step, 1e-2), ("P", 1, 1e-6)):
        np.testing.assert_allclose(whole[name], want[name][known:] * factor, atol=atol)
        np.testing.assert_allclose(late[name], want[name][9:20] * factor, atol=atol)
    assert opened(ds.isel(valid_time=slice(1, None)), sums="step")[0].usable == hours.first + 1


def test_a_record_ends_at_its_stamp_whatever_the_minute() -> None:
    """Stamps at 40 past: records are of the hours that end then, and of the day they begin in."""
    ds = cds("2020-01-01T00", 24 * 6, LAT, LON).drop_vars("expver")
    stamps = ds.valid_time.to_numpy() + np.timedelta64(40, "m")
    hours, _ = opened(ds.assign_coords(valid_time=stamps), sums="step")
    assert (hours.stamps(hours.first, hours.last + 1) == stamps).all()
    np.testing.assert_array_equal(hours.raw("TA", hours.first + 5, hours.first + 7)[:, ::-1],
                                  ds.t2m[5:7])  # fmt: skip
    hours.window = hours.window._replace(lon=np.array([0.0, 7.5, 22.5, 352.5]))
    # Half an hour ahead of UTC, a record that begins at 23:40 UTC is of the next day.
    assert shifts_of(hours).tolist() == [0, 1, 2, 0]
    hours.step, hours.phase = 30, 0
    hours.window = hours.window._replace(lon=np.array([3.5, 4.0, 181.0, 356.5, -3.5, -4.0]))
    assert shifts_of(hours).tolist() == [0, 1, -24, 0, 0, -1]  # the half-hour of a longitude
    with pytest.raises(DataError, match="sums from 00 UTC need whole hours"):
        opened(ds.assign_coords(valid_time=stamps), sums="day")


@pytest.mark.parametrize(("name", "fall"), [("ssrd", 20 * 3600.0), ("tp", 1e-3)])
def test_sums_of_a_day_fall_by_no_more_than_rounding(name: str, fall: float) -> None:
    """20 W m-2 or a millimetre at most; the hour is named, also beyond the first of the file."""
    ds = cds(BEGIN, 24 * 4, LAT, LON, land=True)
    value = ds[name].to_numpy()
    value[26:] *= 0  # a dark and dry end, so that what is added is what falls
    for factor in (0.9, 1.1):
        ds[name] = (ds[name].dims, value, ds[name].attrs)
        hours, _ = opened(changed(ds, name, 40, factor * fall), sums="day")
        if factor < 1:
            hours.read(hours.first + 30, hours.first + 50)
            continue
        with pytest.raises(DataError, match=f"{name} falls at 2019-12-29 17:00 UTC"):
            hours.read(hours.first + 30, hours.first + 50)


@pytest.mark.parametrize(("name", "at", "by", "words"), [
    ("t2m", 40, 0.9e15, ""), ("t2m", 40, 1.1e15, r"t2m is 1\.1e\+15 at 2019-12-29 16:00 UTC"),
    ("rh", 40, 89.0, ""), ("rh", 40, 91.0, r"rh is 151 % at 2019-12-29 16:00 UTC"),
])  # fmt: skip
def test_what_no_air_is(name: str, at: int, by: float, words: str) -> None:
    ds = cds(BEGIN, 96, LAT, LON)
    ds = ds.drop_vars("d2m").assign(rh=(ds.t2m * 0 + 60).assign_attrs(units="%"))
    hours, _ = opened(changed(ds, name, at, by))
    if words:
        with pytest.raises(DataError, match=words):
            hours.read(hours.first + 30, hours.first + 50)
    else:
        assert hours.raw("TA", hours.first + 30, hours.first + 50).shape[0] == 20
        if name == "rh":
            hours.read(hours.first + 30, hours.first + 50)


@pytest.mark.parametrize(("by", "every", "words"), [
    (0.4, 1, ""), (0.6, 1, r"by 0\.6 K at 2019-12-29 06:00 UTC"), (0.6, 180, ""),
    (0.6, 70, r"by 0\.6 K at"), (4.9, 3840, ""),
    (5.1, 3840, r"by 5\.1 K at 2019-12-29 17:00 UTC"),
    (-109.0, 1, ""), (-111.0, 1, r"the dew point is -1\d\d\.?\d? degC, which no air is"),
])  # fmt: skip
def test_a_dew_point_is_not_above_the_temperature(by: float, every: int, words: str) -> None:
    """By half a kelvin in one hour of a hundred, 5 K in any; nor is it below -110 degC."""
    ds = cds(BEGIN, 96, LAT, LON)
    some = np.arange(96 * 40).reshape(ds.t2m.shape) % every == 1642 % every
    dew = ds.t2m + by if by > -50 else ds.t2m * 0 + 273.15 + by
    ds["d2m"] = dew.where(some, ds.t2m - 3).assign_attrs(units="K")
    if every > 1:
        ds["d2m"][45, 3, 3] = np.nan  # sea
    hours, _ = opened(ds)
    if words:
        with pytest.raises(DataError, match=words):
            hours.read(hours.first + 30, hours.first + 50)
    else:
        hours.read(hours.first + 30, hours.first + 50)


def test_of_the_years_asked_for_half_a_day_more_is_taken() -> None:
    """Which other longitudes need; and no more than is there."""
    ds = cds(BEGIN, HOURS, LAT, LON)
    hours, _ = opened(ds, span=("2020-01-02", "2020-01-04"))
    assert (hours.first, hours.last) == (number("2020-01-01T12"), number("2020-01-05T12"))
    for span in (("2019-12-28", "2020-01-12"), ("2018-01-01", "2018-01-02"), (None, None)):
        hours, _ = opened(ds, span=None if span[0] is None else span)
        assert (hours.first, hours.last) == (number(BEGIN), number(BEGIN) + HOURS - 1)
    more = opened(cds(BEGIN, HOURS + 1, LAT, LON), span=("2020-01-13", "2020-01-14"))[0]
    assert more.last - more.first == 12  # of the day that the last record begins
    last = opened(ds, span=("2019-12-27", "2019-12-28"))[0]  # the first record ends on that day
    assert (last.first, last.last) == (number(BEGIN), number("2019-12-29T12"))
    six = cds(BEGIN, HOURS, LAT, LON, 6)
    hours, _ = opened(six, span=("2020-01-02", "2020-01-04"), sums="step")
    stamps = hours.stamps(hours.first, hours.last + 1)
    assert [str(t) for t in stamps[[0, -1]]] == ["2020-01-01T12:00", "2020-01-05T12:00"]


@pytest.mark.parametrize(("lacking", "note"), [(24, ""), (25, "from 2019-12-28 to 2020-01-11")])
def test_a_variable_that_ends_a_day_before_others_is_named(lacking: int, note: str) -> None:
    """By more than a day; records are those that all variables have, be it a single one."""
    ds = cds(BEGIN, HOURS, LAT, LON)
    for cut, expected in ((slice(0, -lacking), note), (slice(lacking, None), note)):
        part = ds[["ssrd"]].isel(valid_time=cut)
        hours, said = opened_from(ds.drop_vars("ssrd"), part)
        assert ("days as far as SW_IN is there" in said) == bool(expected)
        if cut.start == 0:
            assert expected in said
        assert hours.last - hours.first + 1 == HOURS - lacking
    early, late = ds.drop_vars("ssrd").isel(valid_time=slice(0, -1)), ds[["ssrd"]]
    one, _ = opened_from(early, late.isel(valid_time=slice(-2, None)), sums="step")
    assert one.first == one.last


def opened_from(*parts: xr.Dataset, sums: str = "auto") -> tuple[Hours, str]:
    """Open what several files would hold."""
    notes: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        real = hourly.open_sources
        several = [real(part, notes, ExitStack())[0]._replace(file=f"{k}.nc")
                   for k, part in enumerate(parts)]  # fmt: skip
        patch.setattr(hourly, "open_sources", lambda *_: several)
        return open_hours("", None, None, sums, notes, ExitStack()), "\n".join(notes)


@pytest.mark.parametrize(("axis", "off", "same"), [
    ("latitude", 4e-4, True), ("latitude", 6e-4, False), ("longitude", 4e-4, True),
    ("longitude", 6e-4, False), ("longitude", None, False),
])  # fmt: skip
def test_files_are_of_one_grid(axis: str, off: float | None, same: bool) -> None:
    """To a thousandth of a cell, at each of them."""
    ds = cds(BEGIN, 96, LAT, LON)
    other = ds[["ssrd"]]
    if off is None:
        other = other.isel({axis: slice(0, -1)})
    else:  # the more, the farther along the axis
        values = other[axis].to_numpy()
        other = other.assign_coords({axis: values + off * np.linspace(0, 1, len(values))})
    if same:
        hours, _ = opened_from(ds.drop_vars("ssrd"), other)
        assert [part.file for part in hours.series["SW_IN"].parts] == ["1.nc"]
        assert (hours.name, opened(ds)[0].name) == ("0.nc and 1 more", "Dataset")
    else:
        with pytest.raises(DataError, match=r"1\.nc: its cells \(l\w+\) are not those of 0\.nc"):
            opened_from(ds.drop_vars("ssrd"), other)


@pytest.mark.parametrize(("region", "beyond"), [
    ((47.5, -2, 49.5, 2.5), False), ((47.4, -2, 49.5, 2.5), True), ((48, -2, 50, 2.5), False),
    ((48, -2, 50.1, 2.5), True), ((48, -2.5, 49.5, 3.0), False), ((48, -2.6, 49.5, 3.0), True),
    ((48, -2, 49.5, 3.6), True), ((48, -180, 49.5, 180), True), ((48, -1, 49.5, 1), False),
])  # fmt: skip
def test_a_region_that_is_not_all_there_is_said(region: Any, beyond: bool) -> None:
    """Where a row or column would fit between its edge and the first cell."""
    assert ("goes beyond what is there" in opened(region=region)[1]) == beyond


def test_sums_are_judged_by_two_seasons_and_any_slabs(monkeypatch) -> None:
    """Amounts fall within the day, sums from 00 UTC only after it; rain follows the sun."""
    for land in (False, True):
        ds = cds(BEGIN, HOURS, LAT, LON, land=land)
        dry = ds.assign(tp=ds.tp * 0)
        for slab in (4_000_000, 40 * 7, 1):
            monkeypatch.setattr(hourly, "SAMPLE_CELLS", slab)
            for one in (ds, dry.assign(tp=dry.tp.assign_attrs(units="m"))):
                kind = "day" if land else "step"
                hours, said = opened(one)
                assert hours.sums == {"SW_IN": kind, "P": kind}
                assert ("SW_IN: amounts made of sums from 00 UTC (ssrd)" in said) == land
    three = cds("2019-12-28T03", HOURS, LAT, LON, 3, land=True)
    assert opened(three)[0].sums == {"SW_IN": "day", "P": "day"}
    both = xr.concat([cds(BEGIN, 192, LAT, LON, land=True),
                      cds(BEGIN, HOURS, LAT, LON).isel(valid_time=slice(192, None))],
                     "valid_time")  # fmt: skip
    with pytest.raises(DataError, match="ssrd holds sums since an unknown time"):
        opened(both)
    assert opened(both, sums="step")[0].sums == {"SW_IN": "step", "P": "step"}


def test_a_fall_by_a_thousandth_is_no_rounding() -> None:
    """Of the most that falls; the second sample is of half a year later, if there is one."""
    ds = cds(BEGIN, 96, LAT, LON)
    for share, kind in ((9e-4, ""), (1.1e-3, "step")):
        value = np.where(np.arange(96) % 2, 1e6 * (1 - share), 1e6)
        value[0] = 1e3
        odd = ds.assign(ssrd=(ds.ssrd * 0 + value[:, None, None]).assign_attrs(units="J m-2"))
        if kind:
            assert opened(odd)[0].sums["SW_IN"] == kind
        else:
            with pytest.raises(DataError, match="ssrd holds sums since an unknown time"):
                opened(odd)
    few = {"lat": LAT[:2], "lon": LON[:2]}
    year, land = (cds(BEGIN, 24 * 600, **few, land=on) for on in (False, True))
    for day, unclear in ((183, True), (300, False)):
        there = np.abs(np.arange(24 * 600) - 24 * day - 36) < 48
        mixed = year.assign(
            {n: year[n].where(~there[:, None, None], land[n]) for n in ("ssrd", "tp")}
        )
        for name in ("ssrd", "tp"):
            mixed[name].attrs = year[name].attrs
        if unclear:
            with pytest.raises(DataError, match="ssrd holds sums since an unknown time"):
                opened(mixed)
        else:
            assert opened(mixed)[0].sums == {"SW_IN": "step", "P": "step"}


# Which records make the local days of all columns.


@pytest.mark.parametrize(("west", "lost", "lacks"), [
    (-2.0, "2020-01-05T00", False), (-2.0, "2020-01-05T01", True),
    (-2.0, "2020-01-08T00", True), (-2.0, "2020-01-08T01", False),
    (-40.0, "2020-01-04T22", False), (-40.0, "2020-01-04T23", True),
    (-40.0, "2020-01-08T03", True), (-40.0, "2020-01-08T04", False),
])  # fmt: skip
def test_each_record_of_a_local_day_is_needed_and_no_other(west, lost: str, lacks: bool) -> None:
    """Records end at their stamps: at Greenwich the first of a day at 01, the last at 24 h."""
    lon = LON if west == -2 else np.array([-40.0, 0.0, 40.0])  # 2 h 30 min behind and ahead
    ds = cds(BEGIN, HOURS, LAT, lon)
    hours, _ = opened(ds.sel(valid_time=ds.valid_time != np.datetime64(lost)), sums="step")
    if west == -40:
        assert shifts_of(hours).tolist() == [-3, 0, 2]
    span = np.datetime64("2020-01-05"), np.datetime64("2020-01-07")
    if lacks:
        with pytest.raises(
            DataError, match=f"lacks 1 records, the first at {lost[:10]} {lost[11:]}"
        ):
            days_of(hours, shifts_of(hours), span, [])
    else:
        assert len(days_of(hours, shifts_of(hours), span, [])) == 3


@pytest.mark.parametrize(("begin", "stop", "first", "last"), [
    ("2020-01-01T01", "2020-01-05T00", "2020-01-01", "2020-01-04"),
    ("2020-01-01T02", "2020-01-05T00", "2020-01-02", "2020-01-04"),
    ("2020-01-01T01", "2020-01-04T23", "2020-01-01", "2020-01-03"),
])  # fmt: skip
def test_a_day_is_whole_from_its_first_to_its_last_record(begin, stop, first, last) -> None:
    """Also where the first sum of a file is not known; a day that is missing at an end is said."""
    hours, _ = opened(cds(begin, number(stop) - number(begin) + 1, LAT, LON), sums="step")
    notes: list[str] = []
    apart = days_of(hours, np.array([-3, 0, 2]), None, [])  # two hours ahead, and three behind
    assert [str(day) for day in apart[[0, -1]]] == ["2020-01-02", "2020-01-03"]
    days = days_of(hours, shifts_of(hours), None, notes)
    assert [str(day) for day in days[[0, -1]]] == [first, last]
    assert "what is incomplete at the ends is left out" in notes[0]
    hours.sums = {"SW_IN": "day"}
    late = days_of(hours, shifts_of(hours), None, [])[0]
    assert str(late) == ("2020-01-01" if begin.endswith("T01") else "2020-01-02")
    hours.last = number(first) + 48  # two whole days, and not an hour more
    assert len(days_of(hours, shifts_of(hours), None, [])) == 2
    hours.last -= 1
    with pytest.raises(DataError, match=f"{first} to {first} is less than two days"):
        days_of(hours, shifts_of(hours), None, [])
    hours.last = number(first) + 23
    with pytest.raises(DataError, match=f"{begin[:10]} {begin[11:]}:00 to {first} 23:00 UTC"):
        days_of(hours, shifts_of(hours), None, [])
    hours.last = number(stop)
    whole = np.datetime64(first), np.datetime64(last)
    for before, after, cut in ((0, 0, 0), (1, 0, 1), (0, 1, 1), (1, 1, 2), (2, 0, None),
                               (0, 2, None)):  # fmt: skip
        notes.clear()
        span = whole[0] - before, whole[1] + after
        if cut is None:
            with pytest.raises(DataError, match=f"from {first} to {last}, and .* are asked for"):
                days_of(hours, shifts_of(hours), span, notes)
            continue
        assert (
            len(days_of(hours, shifts_of(hours), span, notes))
            == int(np.diff(whole)[0].astype(int)) + 1
        )
        assert (f"{cut} at the ends" in notes[0]) == (cut > 0)


@pytest.mark.parametrize(("step", "share"), [(60, 0.25), (60, 0.35), (60, 1.0), (360, 0.35)])
def test_a_file_that_is_not_in_utc_shows_by_its_sun(step: int, share: float) -> None:
    """From 2 h 30 min and half a step on, where the dark half of the day is told from the other."""
    end = np.datetime64("2020-06-01T00:00") + np.arange(20 * 1440 // step) * np.timedelta64(
        step, "m"
    )
    middle = (end - end.astype("M8[D]")) / HOUR - step / 120
    lon, limit = np.array([-30.0, 0.0, 105.0]), 2.5 + step / 120
    room = 0.1 if share == 1 else 0.003
    for off in (-limit - room, room - limit, limit - room, limit + room):
        solar = middle[:, None] + lon / 15 - off
        sun = 300 * (1 + 2 * share * np.cos((solar - 12) * np.pi / 12))
        if share == 1:
            sun = np.where(sun > 300, sun, -5)  # a sensor's offset at night is no light
        noon = Noon("era5.nc", step)
        for part in (slice(0, 30), slice(30, None)):  # in pieces, with a cell at sea
            values = np.stack([sun[part], sun[part] * np.nan], 1)
            noon.add(values, end[part], lon)
        if share < 0.3 or abs(off) < limit:
            noon.check()
        else:
            with pytest.raises(DataError, match=rf"at {12 + off:.1f} h .*\{off:+.0f} h from"):
                noon.check()


def test_a_file_without_light_has_no_noon() -> None:
    """The polar night."""
    noon = Noon("era5.nc", 60)
    end = np.datetime64("2020-12-01T00") + np.arange(48) * HOUR
    noon.add(np.zeros((48, 2, 1)), end, np.zeros(1))
    noon.check()
