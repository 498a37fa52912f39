"""The time axis of a cube: what it may be, where a calendar lacks days, where a step ends."""

from typing import Any

import cftime
import numpy as np
import pytest
import xarray as xr

from tamrl.errors import DataError
from tamrl.maps.timeaxis import check_days, fill_leap_days, leap_note, read_time, time_edges


def on(time: Any, name: str = "time") -> xr.Dataset:
    """Give values that count along an axis."""
    axis = np.array(time, "M8[ns]") if isinstance(time[0], str) else time
    return xr.Dataset({"TA": (name, np.arange(len(axis), dtype=float))}, {name: axis})


def test_an_average_year_has_twelve_months_in_any_order() -> None:
    months = np.array([3, 1, 2, *range(4, 13)])
    ds, climatology, leap = read_time(on(months, "month"), "cube")
    assert (ds["time"].values.tolist(), climatology, leap) == ([*range(1, 13)], True, ())
    assert ds["TA"].values[:3].tolist() == [1, 2, 0]
    for wrong in ([*range(1, 12)], [*range(1, 12), 11], [*range(12)], [*range(1, 14)]):
        with pytest.raises(DataError, match=r"month is .*; expected 1 to 12"):
            read_time(on(wrong, "month"), "cube")


def test_dates_ascend_and_are_those_of_the_store() -> None:
    """By the name of the Climate Data Store, whatever it has in the place of ``time``."""
    ds, climatology, leap = read_time(on(["2001-01-03", "2001-01-01", "2001-01-02"]), "cube")
    assert ds["TA"].values.tolist() == [1, 2, 0]
    assert (climatology, leap) == (False, ())
    store = on(["2001-01-01", "2001-01-02"], "valid_time").assign_coords(time=3)
    assert len(read_time(store, "cube")[0]["time"]) == 2
    both = on(["2001-01-01", "2001-01-02"]).assign_coords(valid_time=3)
    assert len(read_time(both, "cube")[0]["time"]) == 2
    with pytest.raises(DataError, match="neither month nor time is a dimension"):
        read_time(store.isel(valid_time=0), "cube")


@pytest.mark.parametrize(("time", "words"), [
    (["1900-01-01", "1900-01-02"], ""), (["1899-12-31", "1900-01-01"], "outside 1900 to 2100"),
    (["2100-12-30", "2100-12-31"], ""), (["2100-12-31", "2101-01-01"], "outside 1900 to 2100"),
    (["2001-01-01"], "at least two dates"), ([0, 1, 2], "at least two dates"),
    (["2001-01-01", "2001-01-01", "2001-01-02"], "the time 2001-01-01 occurs twice"),
    (["2001-01-02T06", "2001-01-01", "2001-01-02T06"], "time 2001-01-02T06:00 occurs twice"),
    (["2001-01-01T00", "2001-01-02T00"], ""),
    (["2001-01-01T00", "2001-01-01T23"], "in steps of 23 hours; .* tamrl cube FILE -o"),
    (["2001-01-01T00", "2001-01-01T01"], "is hourly; .* tamrl cube FILE -o"),
    (["2001-01-01T00", "2001-01-01T02"], "in steps of 2 hours"),
])  # fmt: skip
def test_an_axis_is_of_days_that_can_be(time: Any, words: str) -> None:
    if words:
        with pytest.raises(DataError, match=f"cube: .*{words}"):
            read_time(on(time), "cube")
        if "FILE" in words:
            with pytest.raises(DataError, match=r"tamrl cube era5\.nc -o"):
                read_time(on(time), "era5.nc")
    else:
        assert read_time(on(time), "cube")[0]["time"].dtype.kind == "M"


def dates(*days: str, calendar: str = "noleap") -> list[Any]:
    return [cftime.datetime(*map(int, day.split("-")), calendar=calendar) for day in days]


def test_each_29_february_that_a_calendar_lacks_is_the_mean_of_its_neighbours() -> None:
    """Where both are there; other gaps, and years without it, stay as they are."""
    ds = on(dates("2003-02-28", "2003-03-01", "2004-02-27", "2004-02-28", "2004-03-01",
                  "2004-03-03", "2005-02-28", "2005-03-02", "2008-02-28", "2008-03-01",
                  "2012-02-27", "2012-03-01"))  # fmt: skip
    ds["TA"] = ds["TA"] ** 2
    ds["EVI"], ds["koppen"], ds["SNOW"] = ds["TA"].astype("f4"), ds["TA"].astype(int), 2.0
    got, climatology, leap = read_time(ds, "cube")
    assert (climatology, leap) == (False, (4, 10))
    time = got["time"].to_numpy().astype("M8[D]").astype(str)
    assert time[[3, 4, 5]].tolist() == ["2004-02-28", "2004-02-29", "2004-03-01"]
    assert time[[9, 10, 11]].tolist() == ["2008-02-28", "2008-02-29", "2008-03-01"]
    assert len(time) == 14
    filled = fill_leap_days(got.load(), leap)
    assert filled["TA"].values.tolist() == [
        0,
        1,
        4,
        9,
        12.5,
        16,
        25,
        36,
        49,
        64,
        72.5,
        81,
        100,
        121,
    ]
    assert filled["EVI"].dtype == np.float32
    assert filled["EVI"].values[[4, 10]].tolist() == [12.5, 72.5]
    assert filled["koppen"].values[[4, 10]].tolist() == [9, 64]  # of the day before
    assert got["TA"].values[4] == 9  # what is given stays
    note = leap_note(got["time"].to_numpy(), leap)
    assert note == "365-day calendar: 29 February (2004, 2008) is the mean of its neighbours"
    assert leap_note(got["time"].to_numpy(), ()) == ""
    xr.testing.assert_identical(fill_leap_days(got, ()), got)


def test_calendars_of_the_same_days_are_read() -> None:
    for calendar in ("standard", "proleptic_gregorian"):
        ds, _, leap = read_time(on(dates("2004-02-28", "2004-03-01", calendar=calendar)), "cube")
        assert (ds["time"].dtype.kind, leap) == ("M", ())
    with pytest.raises(DataError, match="calendar julian; interpolate it"):
        read_time(on(dates("2004-02-28", "2004-03-01", calendar="julian")), "cube")


def test_days_without_a_gap_or_the_first_gap_is_named() -> None:
    days = np.arange("2001-02-26", "2001-03-06", dtype="M8[D]").astype("M8[ns]")
    check_days(days, "cube")
    with pytest.raises(DataError, match="after 2001-02-28 comes 2001-03-02; fill the missing days"):
        check_days(np.delete(days, [3, 5]), "cube")
    for time in (days[::2], np.arange("2001-01", "2002-01", dtype="M8[M]").astype("M8[ns]")):
        with pytest.raises(DataError, match="neither daily without a gap, nor twelve months"):
            check_days(time, "cube")


@pytest.mark.parametrize(("time", "edges"), [
    (["2001-01-01", "2001-02-01"], ["2001-01-01", "2001-02-01", "2001-03-01"]),
    (["2001-01-16", "2001-02-15", "2001-03-16"],
     ["2001-01-01", "2001-02-01", "2001-03-01", "2001-04-01"]),
    (["2001-01-01", "2001-01-02", "2001-01-03"],
     ["2001-01-01", "2001-01-02", "2001-01-03", "2001-01-04"]),
    (["2001-01-31", "2001-02-01"], ["2001-01-31", "2001-02-01", "2001-02-02"]),  # no months
    (["2001-01-01", "2001-01-02", "2001-01-05", "2001-01-09"],  # stamps of steps are their middles
     ["2000-12-31T12", "2001-01-01T12", "2001-01-03T12", "2001-01-07", "2001-01-11"]),
    (["2001-01-01", "2001-02-01", "2001-02-03"],
     ["2000-12-16T12", "2001-01-16T12", "2001-02-02", "2001-02-04"]),
    (["2001-01-01T12", "2001-01-02T12"], ["2001-01-01", "2001-01-02", "2001-01-03"]),
    (["2001-01-01T00", "2001-01-01T12", "2001-01-02T00"],
     ["2000-12-31T18", "2001-01-01T06", "2001-01-01T18", "2001-01-02T06"]),
])  # fmt: skip
def test_edges_of_time(time: list[str], edges: list[str]) -> None:
    """Days, months and hours each end where the next begins."""
    got = time_edges(np.array(time, "M8[ns]"))
    assert got.tolist() == np.array(edges, "M8[ns]").tolist()
