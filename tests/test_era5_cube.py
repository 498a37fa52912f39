"""Hourly weather in the layouts that people have becomes a cube of local days for maps."""

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from commandline import call, passed
from weather import arco, cds, expected

import tamrl
from tamrl import data
from tamrl.data import open_towers
from tamrl.data.own.places import one_place
from tamrl.data.weather import daily_cube, gridsource
from tamrl.data.weather.daily_cube import build_cube
from tamrl.data.weather.local_days import asked
from tamrl.errors import DataError
from tamrl.files import alone
from tamrl.maps.cubes import open_cube

LAT, LON = np.arange(48.0, 51.0, 0.5), np.arange(-2.0, 3.0, 0.5)
NAMES = {"TA", "TA_min", "TA_max", "VPD", "VPD_max", "SW_IN", "PRCP"}
BEGIN, HOURS = "2019-12-28T00", 24 * 16
EASTWARD = np.sort(LON % 360)  # as CDS and ARCO have them, Greenwich between the ends


def holds(cube: xr.Dataset, atol: float = 2e-5) -> None:
    """Each day of each cell is what an independent calculation gives."""
    days = cube.time.to_numpy().astype("M8[D]")
    x = (cube.lon.to_numpy() + 180) % 360 - 180
    want = expected(days, cube.lat.to_numpy(), x, np.round(x / 15 * 2) / 2)
    for name in NAMES:
        np.testing.assert_allclose(cube[name], want[name], rtol=2e-6, atol=atol, err_msg=name)


def said(cube: xr.Dataset) -> str:
    return str(cube.attrs["inputs"])


def alike(a: xr.Dataset, b: xr.Dataset) -> None:
    """Two cubes hold the same bits."""
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name].to_numpy(), b[name].to_numpy(), err_msg=str(name))


def as_cf(ds: xr.Dataset) -> xr.Dataset:
    """Turn the download into another CF file: own names and units, means with time bounds."""
    time = ds["valid_time"].to_numpy()
    ds = ds.drop_vars(["number", "expver"]).rename(valid_time="time", latitude="y", longitude="x")
    out = xr.Dataset(coords=ds.coords)
    for name, standard, units, values in (
        ("tas", "air_temperature", "degC", ds["t2m"] - 273.15),
        ("tdps", "dew_point_temperature", "K", ds["d2m"]),
        ("rsds", "surface_downwelling_shortwave_flux_in_air", "W m-2", ds["ssrd"] / 3600),
        ("pr", "precipitation_flux", "kg m-2 s-1", ds["tp"] * 1000 / 3600),
    ):
        out[name] = values.assign_attrs(standard_name=standard, units=units)
    out = out.assign_coords(time=time - np.timedelta64(30, "m"))
    out["time"].attrs = {"standard_name": "time", "bounds": "time_bnds"}
    edges = np.stack([time - np.timedelta64(60, "m"), time], 1)
    out["time_bnds"] = (("time", "bnds"), edges)
    return out.sortby("y").transpose("x", "time", "y", "bnds")


def old_layout(ds: xr.Dataset) -> xr.Dataset:
    """Turn the download into the old layout: time, a dimension expver, short integers."""
    ds = ds.drop_vars(["number", "expver"]).rename(valid_time="time")
    late = ds["time"] >= ds["time"][200]
    both = [ds.where(~late), ds.where(late)]
    return xr.concat(both, "expver").assign_coords(expver=[1, 5])


def put(ds: xr.Dataset, layout: str, folder: Path) -> Path:
    """Write hours in a layout; give the path of it."""
    folder.mkdir()
    path = folder / "era5.nc"
    if layout == "arco":
        path, ds = folder / "era5.zarr", arco(ds)
        whole = {n: dict(zip(v.dims, v.shape, strict=True)) | {"time": 1} for n, v in ds.items()}
        chunks = {n: {"chunks": tuple(sizes.values())} for n, sizes in whole.items()}
        ds.to_zarr(path, zarr_format=2, encoding=chunks)
    elif layout == "split":  # what a zip of CDS holds, a pair for each year
        for year, part in ds.groupby("valid_time.year"):
            part[["t2m", "d2m"]].to_netcdf(folder / f"{year}_stepType-instant.nc")
            part[["ssrd", "tp"]].to_netcdf(folder / f"{year}_stepType-accum.nc")
        path = folder
    else:
        change = {"cds": lambda x: x, "cf": as_cf, "old": old_layout}[layout]
        change(ds).to_netcdf(path)
    return path


@pytest.mark.filterwarnings("error:Object at:zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("layout", ["cds", "split", "arco", "cf", "old"])
def test_every_layout_gives_the_same_local_days(layout: str, tmp_path: Path) -> None:
    """Kelvin or not, sums or rates, one file or many, north first or last, 0 to 360 or -180."""
    source = put(cds(BEGIN, HOURS, LAT, EASTWARD), layout, tmp_path / "in")
    cube = build_cube(source, tmp_path / "c.zarr").load()
    assert set(cube) == NAMES
    np.testing.assert_allclose(cube.lat, LAT)
    np.testing.assert_allclose(cube.lon, LON)
    assert str(cube.time.values[0])[:10] == "2019-12-28"
    assert cube.sizes["time"] == 15  # stamps end at 23 h: the last day is not whole
    holds(cube)
    assert "VPD: made of TA and the dew point" in said(cube)
    assert ("preliminary ERA5T" in said(cube)) == (layout == "old")
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*"))


def test_an_address(tmp_path: Path) -> None:
    """What fsspec knows is read as a local store is."""
    arco(cds(BEGIN, HOURS, LAT, EASTWARD)).to_zarr("memory://era5.zarr", zarr_format=2)
    cube = build_cube("memory://era5.zarr", tmp_path / "c.zarr", region=(48, -1, 50, 2)).load()
    assert cube["TA"].shape == (15, 5, 7)
    holds(cube)


def test_two_processes_do_not_write_one_cube(tmp_path: Path) -> None:
    with alone(tmp_path / "c.zarr", "cube"), pytest.raises(DataError, match="another cube is bei"):
        build_cube(cds(BEGIN, HOURS, LAT, LON), tmp_path / "c.zarr")


def test_a_cell_has_the_days_of_a_tower(tmp_path: Path) -> None:
    """The same hours, read as a tower's, give the same local days."""
    ds = cds(BEGIN, HOURS, LAT, np.array([24.0, 26.0, 28.0, 30.0]))
    cube = build_cube(ds, tmp_path / "c.zarr").load()
    for x in (24.0, 28.0, 30.0):  # 1.5, 2 and 2 h: a record is of the day it begins in
        ds.sel(latitude=[49.0], longitude=[x]).to_netcdf(tmp_path / "point.nc")
        tower = open_towers(tmp_path / "point.nc", one_place(49.0, x, "GRA")).isel(site=0)
        cell = cube.sel(lat=49.0, lon=x)
        tower = tower.sel(time=cell.time)
        for name in NAMES - {"PRCP"}:
            np.testing.assert_allclose(cell[name], tower[name], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(cell["PRCP"], tower["P"], atol=1e-4)


@pytest.mark.parametrize("where", ["cut", "dateline", "pacific", "globe"])
def test_regions_on_a_circle(where: str, tmp_path: Path) -> None:
    """Over Greenwich and the dateline in one piece; a globe from -180; only the region is read."""
    lon = {"pacific": np.arange(170.0, 200.0, 2.0)}.get(where, np.arange(0.0, 360.0, 2.0))
    lat = np.arange(-4.0, 6.0, 2.0)
    region = {"cut": (-1, -5, 3, 5), "dateline": (-4, 176, 2, -175)}.get(where)
    ds = cds("2020-01-01T00", 24 * 5, lat, lon)
    cube = build_cube(ds, tmp_path / "c.zarr", region=region).load()
    want = {"cut": (-4, 4), "dateline": (176, 184), "pacific": (170, 198), "globe": (-180, 178)}
    assert (float(cube.lon[0]), float(cube.lon[-1])) == want[where]
    assert (np.diff(cube.lon) == 2).all()
    rows = {"cut": [0, 2], "dateline": [-4, -2, 0, 2]}
    assert cube.lat.values.tolist() == rows.get(where, [-4, -2, 0, 2, 4])
    holds(cube)
    read = open_cube(tmp_path / "c.zarr", ("TA", "VPD", "SW_IN"))
    np.testing.assert_allclose(read.ds.lon, cube.lon)


def test_a_day_that_ends_in_the_next_file_is_left_out_and_two_are_missed(tmp_path: Path) -> None:
    """The last hour of 12 January is that of midnight, which the file of these months lacks."""
    ds = cds(BEGIN, HOURS, LAT, LON)
    cube = build_cube(ds, tmp_path / "c.zarr", years="2020-01-02:2020-01-12")
    assert str(cube.time.values[-1])[:10] == "2020-01-11"
    assert "1 at the ends, incomplete in local time, left out" in said(cube)
    with pytest.raises(DataError, match="2020-01-02 to 2020-01-13 are asked for"):
        build_cube(ds, tmp_path / "d.zarr", years="2020-01-02:2020-01-13")


def test_a_region_beyond_the_file_is_said(tmp_path: Path) -> None:
    """Cells at the edges are those whose centres lie in the region."""
    ds, inner, outer = cds(BEGIN, HOURS, LAT, LON), (48.2, -1.8, 50.3, 2.3), (46, -1.8, 50.3, 2.3)
    notes = [said(build_cube(ds, tmp_path / f"{r[0]}.zarr", region=r)) for r in (inner, outer)]
    assert ["goes beyond what is there" in note for note in notes] == [False, True]


def test_sums_of_era5_land(tmp_path: Path) -> None:
    """Sums from 00 UTC are seen by their values, said, and taken apart; sea is missing."""
    ds = cds(BEGIN, HOURS, LAT, LON, land=True)
    sea = ds["t2m"].isel(valid_time=0, drop=True) * 0 + 1
    sea[1, 2] = np.nan
    cube = build_cube(ds * sea, tmp_path / "c.zarr", sums="auto").load()
    assert "SW_IN: amounts made of sums from 00 UTC (ssrd)" in said(cube)
    assert np.isnan(cube.TA[:, -2, 2]).all()
    rest = cube.where(cube.lon != LON[2], drop=True)
    holds(rest, 2e-3)
    alike(build_cube(ds * sea, tmp_path / "d.zarr", sums="day").load(), cube)
    dark = (ds * sea).assign(ssrd=ds["ssrd"] * 0, tp=ds["tp"] * 0)
    with pytest.raises(DataError, match=r"ssrd holds sums since an unknown time.*--sums"):
        build_cube(dark.assign(ssrd=dark.ssrd.assign_attrs(units="J m-2")), tmp_path / "e.zarr")


@pytest.mark.parametrize("step", [3, 6])
def test_longer_steps(step: int, tmp_path: Path) -> None:
    """Means of three or six hours are accepted and said; sums of them need a word."""
    ds = cds(BEGIN, HOURS, LAT, LON, step)
    with pytest.raises(DataError, match=rf"ssrd holds sums every {step} h.*get every hour"):
        build_cube(ds, tmp_path / "c.zarr")
    for name, factor, units in (("ssrd", 1 / 3600, "W m-2"), ("tp", 1000 * step, "mm")):
        ds[name] = (ds[name] * factor).assign_attrs(units=units)
    cube = build_cube(ds, tmp_path / "c.zarr").load()
    assert f"records every {step} h" in said(cube)
    x = np.flatnonzero(cube.lon == 0)[0]
    of_days = ds["t2m"].sel(longitude=0, latitude=49)[1:].to_numpy()  # from the first stamp on
    n = 24 // step
    days = of_days[: len(of_days) // n * n].reshape(-1, n).mean(1) - 273.15
    np.testing.assert_allclose(cube.TA[:, 2, x], days[: cube.sizes["time"]], atol=1e-4)


def test_the_same_bits_whatever_the_blocks_the_chunks_and_the_end(tmp_path, monkeypatch) -> None:
    """On one thread or three, in blocks of one day or many, in one go or after a kill."""
    ds = cds(BEGIN, 24 * 9, LAT, EASTWARD)
    source = put(ds, "cds", tmp_path / "in")
    whole = build_cube(source, tmp_path / "a.zarr", workers=1).load()
    big = arco(ds).chunk(time=100, latitude=3)
    big.to_zarr(tmp_path / "big.zarr", zarr_format=3)
    alike(build_cube(tmp_path / "big.zarr", tmp_path / "b.zarr", workers=3).load(), whole)
    monkeypatch.setattr(daily_cube, "BYTES", 8 * 60 * 11 * 3)  # three days, few hours at once
    alike(build_cube(source, tmp_path / "c.zarr", workers=3).load(), whole)

    calls, check = [], daily_cube._check

    def torn(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError("disk full")
        return check(*arguments)

    monkeypatch.setattr(daily_cube, "_check", torn)
    with pytest.raises(OSError, match="disk full"):
        build_cube(source, tmp_path / "d.zarr", workers=1)
    assert not (tmp_path / "d.zarr").exists()
    with pytest.raises(DataError, match=r"d\.zarr\.part: is there already, begun with other data"):
        build_cube(source, tmp_path / "d.zarr", years="2019-12-29:2020-01-03", workers=1)
    alike(build_cube(source, tmp_path / "d.zarr", workers=1).load(), whole)
    assert len(calls) == 1 + -(-8 // 3)  # the first block was not made again
    alike(build_cube(source, tmp_path / "d.zarr").load(), whole)  # complete: only opened
    assert len(calls) == 1 + -(-8 // 3)
    with pytest.raises(DataError, match=r"d\.zarr: holds another cube"):
        build_cube(source, tmp_path / "d.zarr", years="2019-12-29:2020-01-03")
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="notes: is a folder of something else"):
        build_cube(source, tmp_path / "notes")


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    """Hours outside the years, and other variables, may be unreadable: nobody asks for them."""
    source = put(cds(BEGIN, HOURS, LAT, EASTWARD), "arco", tmp_path / "in")
    for chunk in (source / "100m_u_component_of_wind").glob("[0-9]*"):
        chunk.write_bytes(b"garbage")
    for k in (*range(24 * 3), *range(24 * 12, HOURS)):
        (source / "2m_temperature" / f"{k}.0.0").write_bytes(b"garbage")
    with pytest.raises(DataError, match="2m_temperature cannot be read"):
        build_cube(source, tmp_path / "a.zarr")
    cube = build_cube(source, tmp_path / "b.zarr", years=("2020-01-01", "2020-01-07")).load()
    assert cube.sizes["time"] == 7
    holds(cube)
    assert "7 local days" in said(cube)


@pytest.mark.parametrize(("years", "first", "last"), [
    ("2015", "2015-01-01", "2015-12-31"), ("2015-2020", "2015-01-01", "2020-12-31"),
    ("2019-02:2020-02", "2019-02-01", "2020-02-29"),
    (("2020-02-03", "2020-03-01"), "2020-02-03", "2020-03-01"),
])  # fmt: skip
def test_years(years, first: str, last: str) -> None:
    assert [str(day) for day in asked(years)] == [first, last]


@pytest.mark.parametrize("years", ["soon", "2020-2015", "2015:2016:2017", "2015-13", "NaT", ""])
def test_years_that_are_none(years: str) -> None:
    with pytest.raises(DataError, match="write 2015, 2015-2020 or 2015-03-01:2016-02-29"):
        asked(years)


def units(name: str, text: str | None):
    """Make a change of a variable's units, the values staying as they are."""

    def change(ds: xr.Dataset) -> xr.Dataset:
        attrs = {} if text is None else {"units": text}
        return ds.assign({name: ds[name].drop_attrs().assign_attrs(attrs)})

    return change


def doubled(ds: xr.Dataset) -> xr.Dataset:
    more = ds.isel(valid_time=[100, 101])
    return xr.concat([ds, more.assign(t2m=more.t2m + 1)], "valid_time")


def warmer_dew(by: float, every: int):
    """Let the dew point be above the temperature by ``by`` K in every so many hours."""

    def change(ds: xr.Dataset) -> xr.Dataset:
        hour = xr.DataArray(
            np.arange(ds.sizes["valid_time"]) % every == 300 % every, dims="valid_time"
        )
        return ds.assign(d2m=ds["d2m"].where(~hour, ds["t2m"] + by).assign_attrs(units="K"))

    return change


def noleap(ds: xr.Dataset) -> xr.Dataset:
    ds = ds.drop_vars("expver")
    return ds.convert_calendar("noleap", dim="valid_time")


def later(hours: int, *names: str):
    """Turn the clock of all variables, or of some."""
    return lambda ds: ds.assign({n: ds[n].roll(valid_time=hours) for n in names or ds.data_vars})


def humid(percent: float):
    """Give the same relative humidity at all hours in the place of the dew point."""
    air = {"units": "%"}
    return lambda ds: ds.drop_vars("d2m").assign(rh=(ds["t2m"] * 0 + percent).assign_attrs(air))


def at_850(ds: xr.Dataset) -> xr.Dataset:
    """Give the temperature of a level in the place of that of 2 m."""
    air = (ds.t2m - 9).assign_attrs(standard_name="air_temperature")
    return ds.drop_vars("t2m").assign(t=air.expand_dims(pressure_level=[850.0]))


def named(**methods: str):
    """Give temperatures that only their standard name tells."""
    return lambda ds: ds.drop_vars("t2m").assign({
        n: ds.t2m.assign_attrs(standard_name="air_temperature", cell_methods=m)
        for n, m in methods.items()
    })  # fmt: skip


BAD = [
    (later(8), {}, r"centred at 2\d\.\d h of solar time, \+8 h from noon.*not UTC: shift"),
    (later(-5, "ssrd"), {}, r"centred at \d\.\d h of solar time, -5 h from noon"),
    (later(12, "ssrd"), {}, "h from noon"),
    (lambda ds: ds.drop_vars("d2m"), {}, "no variable of dew point.*it has t2m, ssrd, tp"),
    (lambda ds: ds.drop_vars("ssrd"), {}, "no variable of solar radiation"),
    (lambda ds: ds.drop_vars("t2m"), {}, "no variable of temperature"),
    (units("t2m", "degF"), {}, "t2m is in 'degF'; convert it to degC"),
    (units("t2m", "degC"), {}, "TA is 2.* degC.*t2m in 'degC'.*correct the units"),
    (units("ssrd", "W m-2"), {}, "SW_IN is .*above the sun's.*ssrd in 'W m-2'"),
    (lambda ds: units("ssrd", "J m-2")(ds.assign(ssrd=ds.ssrd / 3600)), {}, "dark for any sky"),
    (lambda ds: ds, {"sums": "day"}, "ssrd falls at .*sums from 00 UTC do not.*--sums"),
    (lambda ds: cds(BEGIN, HOURS, LAT, LON, land=True), {"sums": "step"}, "above the sun's"),
    (lambda ds: ds, {"sums": "week"}, "write one of auto, step, day"),
    (warmer_dew(9, HOURS), {}, "point is above the temperature, by 9 K at 2020-01-09 12:00 UTC"),
    (warmer_dew(0.8, 20), {}, r"the dew point is above the temperature, by 0\.8 K"),
    (lambda ds: ds.rename(t2m="d2m", d2m="t2m"), {}, "are d2m and t2m mixed up"),
    (lambda ds: ds.drop_isel(valid_time=[300, 301]), {},
     "t2m lacks 2 records, the first at 2020-01-09 12:00 UTC"),
    (lambda ds: ds.sel(valid_time=ds.valid_time != np.datetime64("2020-01-07T23")),
     {"years": "2020-01-05:2020-01-07"}, "t2m lacks 1 records, the first at 2020-01-07 23:00 UTC"),
    (lambda ds: ds.sel(valid_time=ds.valid_time != np.datetime64("2020-01-05T01")),
     {"years": "2020-01-05:2020-01-07"}, "t2m lacks 1 records, the first at 2020-01-05 01:00 UTC"),
    (doubled, {}, "t2m is there twice at 2020-01-01 04:00 UTC, with different values"),
    (lambda ds: ds.isel(valid_time=slice(0, None, 24)), {}, "1 d apart, not hours; `tamrl map`"),
    (lambda ds: ds.isel(valid_time=slice(0, None, 12)), {}, "12 h apart; 1 h is expected"),
    (lambda ds: ds.isel(valid_time=slice(0, 20)), {}, "hold no whole day of local time"),
    (lambda ds: ds.isel(valid_time=[3]), {}, "TA has a single time"),
    (noleap, {}, r"no date of the standard calendar \(calendar: noleap\)"),
    (lambda ds: ds.drop_vars("number").expand_dims(number=3), {},
     "dimension number of t2m has 3 entries; select one"),
    (lambda ds: ds.drop_vars("latitude"), {}, "no dimension lat"),
    (lambda ds: ds, {"region": (0, 0, 10, 10)}, "it has latitude 48 to 50.5.* 0 row"),
    (lambda ds: ds, {"region": (50, 0, 40, 10)}, "region 50,0,40,10: write south, west"),
    (lambda ds: ds.isel(longitude=[0, 1, 2, 5, 6]), {}, "longitude is not equally spaced"),
    (lambda ds: ds, {"years": "2018"}, "2018-01-01 to 2018-12-31 are asked for"),
    (lambda ds: ds, {"years": "2020-01-05"}, "less than two days"),
    (lambda ds: ds * np.nan, {"sums": "step"}, "no value in any cell"),
    (lambda ds: ds.assign(d2m=ds.d2m - 273.15), {}, "dew point is -.* no air is; .*of d2m, 'K'"),
    (lambda ds: ds.assign(d2m=ds.d2m - 120), {}, r"dew point is -1\d\d\S* degC, which no air is"),
    (lambda ds: ds.assign(d2m=ds.d2m - 60), {},
     r"VPD_max from 2019-12-28 on is 99\.\d\d% of saturation .*d2m in 'K'"),
    (humid(100), {}, "VPD_max .* is 0.00% of saturation in the mean, as no air is; .*rh in '%'"),
    (lambda ds: units("ssrd", "kJ m**-2")(ds.assign(tp=ds.tp * 0)), {},
     "ssrd is in 'kJ m..-2'; conv"),
    (lambda ds: ds.assign_coords(latitude=list("abcdef")), {}, "lat holds values of .*degrees"),
    (lambda ds: ds.assign_coords(longitude=ds.longitude.where(ds.longitude != 0)), {},
     "lon holds values of float64, or none; degrees"),
    (lambda ds: ds.assign_coords(valid_time=ds.valid_time.where(ds.valid_time != ds.valid_time[5])),
     {}, r"time 6 of 384 is missing \(NaT\); correct it"),
    (lambda ds: ds, {"region": (48, 1, 50, 1)}, "region 48,1,50,1: .*west not east itself"),
    (lambda ds: ds, {"region": (1, 2, 3)}, r"region \(1, 2, 3\): write four numbers"),
    (lambda ds: ds, {"region": "48,1,50,2"}, "region '48,1,50,2': write four numbers"),
    (lambda ds: ds, {"region": 3}, "region 3: write four numbers"),
    (lambda ds: ds, {"years": 2018}, "2018-01-01 to 2018-12-31 are asked for"),
    (lambda ds: ds, {"years": 3.5}, "years '3.5': write 2015"),
    (lambda ds: ds, {"workers": 0}, "workers 0: 1 or more"),
    (at_850, {}, "t is of the level pressure_level 850.0; get it of 2 m"),
    (named(tas="time: mean", ts="time: point"), {}, "tas, ts are each air_temperature; leave one"),
    (named(tasmax="time: maximum"), {}, "no variable of temperature"),
    (lambda ds: ds.assign_coords(latitude=ds.latitude + 40), {}, "latitude 90.5 is off the Earth"),
    (lambda ds: ds.assign_coords(latitude=("latitude", np.deg2rad(ds.latitude.data),
     {"units": "radian"})), {}, "no dimension lat with a coordinate, in degrees"),
    (lambda ds: ds.assign_coords(valid_time=np.arange(HOURS)), {}, "time holds .* no dates; give"),
    (lambda ds: ds.assign(ssrd=ds.ssrd.where(ds.longitude != 0, 0)), {},
     "SW_IN is dark by day on 2019-12-28 at 48, 0 and .* by NaN"),
    (lambda ds: ds.assign(ssrd=ds.ssrd.where(ds.valid_time < ds.valid_time[300], ds.ssrd / 3600)),
     {}, "SW_IN is dark by day on 2020-01-"),
    (lambda ds: ds.assign({n: ds[n].where(ds.longitude != 0, 273.15) for n in ("t2m", "d2m")}), {},
     "TA is the same at all hours of the day on 2019-12-28 at 48, 0 and"),
    (lambda ds: ds.assign(t2m=ds.t2m.where(ds.longitude != 0, 1e20)), {},
     "t2m is 1e.20 at .* UTC: a code for missing left in"),
    (humid(255), {}, "rh is 255 % at .* UTC: no air is so humid"),
    (lambda ds: xr.concat([cds(BEGIN, 300, LAT, LON, land=True),
                           ds.isel(valid_time=slice(300, None))], "valid_time"), {},
     "ssrd falls at 2020-01-.* UTC: sums from 00 UTC do not"),
]  # fmt: skip


def test_a_call_after_one_that_was_refused(tmp_path: Path) -> None:
    """An open file that the collector closed while it was opened again crashed Python."""
    source, kept = put(cds(BEGIN, 72, LAT, LON), "cds", tmp_path / "in"), []
    for k in range(6):
        for wrong in ({"sums": "day"}, {"years": "2018"}, {"region": (0, 0, 10, 10)}):
            with pytest.raises(DataError) as error:
                build_cube(source, tmp_path / f"{k}.zarr", **wrong)
            kept.append(error)
        if k % 3 == 0:
            kept.clear()
        assert build_cube(source, tmp_path / f"{k}.zarr").sizes["time"] == 2


@pytest.mark.parametrize(("change", "options", "text"), BAD, ids=[b[2][:30] for b in BAD])
def test_bad_input(change, options, text: str, tmp_path: Path) -> None:
    """One error with file, variable, value and remedy; nothing is left where the cube would be."""
    with xr.set_options(keep_attrs=True):
        change(cds(BEGIN, HOURS, LAT, LON)).to_netcdf(tmp_path / "era5.nc")
    name = "" if re.search("^.?region|^years|^workers|write one", text) else r"era5\.nc: "
    with pytest.raises(DataError, match=f"{name}.*{text}"):
        build_cube(tmp_path / "era5.nc", tmp_path / "c.zarr", **options)
    assert not (tmp_path / "c.zarr").exists()


def test_files_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zips, GRIB without its reader, nothing at all, other grids; buckets without their reader."""
    monkeypatch.setattr(gridsource, "find_spec", lambda name: None)
    (tmp_path / "cds.nc").write_bytes(b"PK\x03\x04zip")
    (tmp_path / "a.grib").write_bytes(b"GRIB....")
    (tmp_path / "b.nc").write_bytes(b"no data")
    (tmp_path / "empty").mkdir()
    ds = cds(BEGIN, HOURS, LAT, LON)
    ds[["t2m", "d2m"]].to_netcdf(tmp_path / "one.nc")
    cds(BEGIN, HOURS, LAT + 0.1, LON)[["ssrd"]].to_netcdf(tmp_path / "other.nc")
    for source, text in (
        (tmp_path / "cds.nc", "is a zip.*unzip it"),
        (tmp_path / "a.grib", "pip install cfgrib eccodes"),
        (tmp_path / "b.nc", "cannot be opened"),
        (tmp_path / "no.nc", "no such file"),
        (tmp_path / "empty", "no NetCDF or GRIB file"),
        ([tmp_path / "one.nc", tmp_path / "other.nc"], r"other\.nc: its cells \(lat\) are not"),
        ("gs://nowhere/x.zarr", r"pip install 'tamrl\[cloud\]'"),
        ("memory://nothing.zarr", "cannot be opened"),
    ):
        if "gs:" in str(source) and find_spec("gcsfs"):
            continue
        with pytest.raises(DataError, match=text):
            build_cube(source, tmp_path / "c.zarr")
    with pytest.raises(DataError, match=r"needs c\.zarr"):
        build_cube(tmp_path / "one.nc", tmp_path / "c.nc")


def test_what_is_unambiguous_is_repaired_and_said(tmp_path: Path) -> None:
    """Overlapping files that agree, no units by a known name, ERA5T among ERA5, no rain."""
    ds = cds(BEGIN, HOURS, LAT, LON)
    ds["expver"][-96:] = "0005"
    del ds["t2m"].attrs["units"]
    ds.isel(valid_time=slice(0, 200)).to_netcdf(tmp_path / "a.nc")
    ds.isel(valid_time=slice(190, None)).to_netcdf(tmp_path / "b.nc")
    cube = build_cube([tmp_path / "b.nc", tmp_path / "a.nc"], tmp_path / "c.zarr").load()
    holds(cube)
    assert "t2m: 10 records are there twice, alike" in said(cube)
    assert re.search(r"preliminary ERA5T from 2020-01-09 on .*b\.nc", said(cube))
    dry = build_cube(ds.drop_vars("tp"), tmp_path / "d.zarr").load()
    alike(dry, cube.drop_vars("PRCP"))
    parts = [tmp_path / "a.nc", tmp_path / "e.nc"]
    ds.isel(valid_time=slice(200, None)).drop_vars("tp").to_netcdf(parts[1])
    index = composites(16, 0.25).sel(lat=slice(None, 49.1))
    less = build_cube(parts, tmp_path / "f.zarr", region=(40, -9, 52, 9), vegetation=index)
    assert "days as far as P is there, from 2019-12-28 to 2020-01-05" in said(less)
    assert "the region goes beyond what is there, latitude 48 to 50.5, longitude -2 to" in said(
        less
    )
    assert "EVI: 2 rows or columns of cells lie beyond its pixels" in said(less)


def test_forecast_steps_of_grib(tmp_path: Path) -> None:
    """Sums of forecasts (time, step) beside instants (time), as readers of GRIB give them."""
    ds = cds("2019-12-28T07", 12 * 30, LAT, LON).drop_vars(["number", "expver"])
    begin = ds["valid_time"].to_numpy()[::12] - np.timedelta64(1, "h")
    sums = ds[["ssrd", "tp"]]
    dims = ("time", "step", "latitude", "longitude")
    folded = {
        n: (dims, v.to_numpy().reshape(30, 12, *v.shape[1:]), v.attrs) for n, v in sums.items()
    }
    step = np.arange(1, 13) * np.timedelta64(1, "h")
    axes = {"time": begin, "step": step, "latitude": ds.latitude, "longitude": ds.longitude}
    accum = xr.Dataset(folded, axes)
    accum = accum.assign_coords(valid_time=(("time", "step"), begin[:, None] + step))
    accum.to_netcdf(tmp_path / "accum.nc")
    instant = ds[["t2m", "d2m"]].rename(valid_time="time")
    instant = instant.assign_coords(valid_time=("time", instant.time.to_numpy()), step=0)
    instant.to_netcdf(tmp_path / "instant.nc")
    cube = build_cube([tmp_path / "accum.nc", tmp_path / "instant.nc"], tmp_path / "c.zarr").load()
    holds(cube)


def test_a_grib_file(tmp_path: Path) -> None:
    """Of the layout of the Climate Data Store: instants, and sums of forecasts from 06 and 18 h."""
    pytest.importorskip("cfgrib", reason="no dependency: pip install cfgrib eccodes")
    codes = pytest.importorskip("eccodes", reason="no dependency: pip install cfgrib eccodes")
    lat, lon = np.arange(45, 46.1, 0.25), np.arange(5, 6.1, 0.25)
    ds = cds(BEGIN, 96, lat, lon)
    grid = {"Ni": 5, "Nj": 5, "latitudeOfFirstGridPointInDegrees": 46.0,
            "latitudeOfLastGridPointInDegrees": 45.0, "longitudeOfFirstGridPointInDegrees": 5.0,
            "longitudeOfLastGridPointInDegrees": 6.0, "iDirectionIncrementInDegrees": 0.25,
            "jDirectionIncrementInDegrees": 0.25, "centre": 98, "bitsPerValue": 24}  # fmt: skip
    with (tmp_path / "era5.grib").open("wb") as stream:
        for name, number in {"t2m": 167, "d2m": 168, "ssrd": 169, "tp": 228}.items():
            for stamp, values in zip(ds.valid_time.to_numpy(), ds[name].to_numpy(), strict=True):
                end = pd.Timestamp(stamp)
                base = end
                if name in ("ssrd", "tp"):
                    base = (end - pd.Timedelta(7, "h")).floor("12h") + pd.Timedelta(6, "h")
                step = int((end - base) / pd.Timedelta(1, "h"))
                about = {
                    "table2Version": 128,
                    "indicatorOfParameter": number,
                    "dataDate": int(base.strftime("%Y%m%d")),
                    "dataTime": 100 * base.hour,
                }
                if step:
                    about |= {"stepType": "accum", "startStep": step - 1, "endStep": step}
                message = codes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
                for key, value in {**grid, **about}.items():
                    codes.codes_set(message, key, value)
                codes.codes_set_values(message, values.ravel())
                codes.codes_write(message, stream)
                codes.codes_release(message)
    with (tmp_path / "soil.grib").open("wb") as stream:
        message = codes.codes_grib_new_from_samples("regular_ll_sfc_grib1")
        codes.codes_set(message, "indicatorOfParameter", 85)
        codes.codes_write(message, stream)
    with pytest.raises(DataError, match=r"soil\.grib: has none of 2t, 2d, ssrd, tp"):
        build_cube(tmp_path / "soil.grib", tmp_path / "none.zarr")
    ds.to_netcdf(tmp_path / "era5.nc")
    ours, want = (
        build_cube(tmp_path / f"era5.{kind}", tmp_path / f"{kind}.zarr").load()
        for kind in ("grib", "nc")
    )
    assert set(ours) == NAMES
    xr.testing.assert_allclose(ours[[*NAMES]], want[[*NAMES]], rtol=1e-4, atol=1e-4)


def test_the_public_name_and_the_command(tmp_path: Path) -> None:
    """A line says what was read; a region that is none is not understood."""
    assert tamrl.build_cube is build_cube
    source = put(cds(BEGIN, HOURS, LAT, EASTWARD), "cds", tmp_path / "in")
    out = tmp_path / "c.zarr"
    done = passed(
        "cube", source, "-o", out, "--region", "48,-1,50,2", "--years", "2020-01-01:2020-01-10"
    )
    assert "SW_IN: converted from J m**-2 (ssrd)" in done.stdout
    assert "Cube of 10 x 5 x 7 (time, lat, lon) with" in done.stdout
    assert call("cube", source, "-o", out, "--region", "48,-1,50").exit_code == 2
    assert call("cube", source, "-o", out, "--sums", "maybe").exit_code == 2
    done = call("cube", tmp_path / "no.nc", "-o", out)
    assert (done.exit_code, done.stderr[:7]) == (1, "tamrl: ")
    assert set(zarr.open_group(out, mode="r").array_keys()) > NAMES


def composites(step: int, pixel: float, first: str = "2019-11-01", raw: bool = False) -> xr.Dataset:
    """Make an index linear in time and place, whose means over cells are known: north first."""
    days = np.datetime64(first) + step * np.arange(130 // step)
    lat = np.arange(52.25 - pixel / 2, 46, -pixel)  # no centre on an edge of a cell
    lon = np.arange(-4.25 + pixel / 2, 5, pixel)
    middle = (days - np.datetime64("2020-01-01")).astype(int) + step // 2
    evi = 0.3 + 0.002 * middle[:, None, None] + 0.01 * (lat[:, None] - 49) + 0.01 * lon
    values = (evi * 10000).round() if raw else evi
    ds = xr.Dataset({"_1_km_16_days_EVI": (("time", "lat", "lon"), values)})
    return ds.assign_coords(time=days.astype("M8[ns]"), lat=lat, lon=lon)


@pytest.mark.parametrize(("step", "pixel", "raw"), [
    (16, 0.1, False), (8, 0.1, True), (16, 0.5, False), (30, 0.25, False), (1, 0.25, False),
])  # fmt: skip
def test_a_vegetation_index_of_any_step_and_pixel(step, pixel, raw, tmp_path, monkeypatch) -> None:
    """Days on the line between the middles of composites; cells as the mean of their pixels."""
    path = tmp_path / "evi.nc"
    composites(step, pixel, raw=raw).to_netcdf(path)
    ds = cds(BEGIN, HOURS, LAT, EASTWARD)
    cube = build_cube(ds, tmp_path / "c.zarr", vegetation=path).load()
    day = (cube.time.to_numpy().astype("M8[D]") - np.datetime64("2020-01-01")).astype(int)
    shift = 0 if step < 30 else -15  # of months that do not begin on a first day, dates count
    want = 0.3 + 0.002 * (day - shift)[:, None, None] + 0.01 * (LAT[:, None] - 49) + 0.01 * LON
    np.testing.assert_allclose(cube["EVI"], want, atol=1e-4 if raw else 1e-6)
    assert ("scale factor 0.0001 applied" in said(cube)) == raw
    assert "EVI (_1_km_16_days_EVI) from 2019-" in said(cube)
    monkeypatch.setattr(daily_cube, "BLOCK_DAYS", 4)
    alike(build_cube(ds, tmp_path / "d.zarr", vegetation=path).load(), cube)


def test_a_vegetation_index_with_clouds(tmp_path: Path) -> None:
    """Views 32 days apart are interpolated between, others are not; fills are no values."""
    evi = composites(16, 0.5)
    date, name = [str(t)[:10] for t in evi.time.to_numpy()], "_1_km_16_days_EVI"
    evi[name][date.index("2020-01-04"), 5, 6] = -0.3  # fill
    evi[name][date.index("2019-12-19") :, 5, 7] = np.nan
    cube = build_cube(cds(BEGIN, HOURS, LAT, LON), tmp_path / "c.zarr", vegetation=evi).load()
    y, x = evi.lat.to_numpy()[5], evi.lon.to_numpy()[6:8]
    cells = [cube["EVI"].sel(lat=y, lon=one, method="nearest") for one in x]
    assert np.isfinite(cells[0]).all()
    assert np.isnan(cells[1]).all()
    np.testing.assert_allclose(np.diff(cells[0]), 0.002, atol=1e-5)
    for change, text in (
        (lambda e: e.rename({name: "NDVI"}), "0 variables are an EVI; it has NDVI"),
        (lambda e: e.isel(time=slice(0, None, 3)), "comes every 48 days; 32 days are the most"),
        (lambda e: e.assign_coords(time=e.time - np.timedelta64(900, "D")), "are none of the days"),
        (lambda e: e.assign_coords(lat=e.lat - 60), "0 row"),
        (lambda e: e * 3, "outside -0.3 to 1; apply its scale factor"),
        (lambda e: e * np.nan, "has no value in the dates"),
        (lambda e: xr.concat([e, e.isel(time=[1])], "time"), "a date is there twice"),
        (lambda e: (e * 250).round(), "outside -0.3 to 1; apply its scale factor"),
        (lambda e: (e * 1000).round(), "outside -0.3 to 1; apply its scale factor"),
        (lambda e: e * 1e-4, "is at most .*e-05; was its scale factor applied twice"),
        (lambda e: e > 0.3, "holds values of bool; numbers are expected"),
    ):
        with pytest.raises(DataError, match=text):
            build_cube(cds(BEGIN, HOURS, LAT, LON), tmp_path / "d.zarr", vegetation=change(evi))


@pytest.mark.slow
def test_from_a_download_to_a_map_with_bounds(globe, tmp_path, monkeypatch) -> None:
    """Two commands: the hours of a region become days, the model of the package maps them."""
    monkeypatch.setattr(data, "fetch_grid", lambda *_: globe)
    land = globe["land_fraction"].where(abs(globe["lat"] - 40) < 20, 0).argmax(["lat", "lon"])
    y, x = (float(globe[a][land[a]]) for a in ("lat", "lon"))
    lat, lon = y + np.arange(-2, 2) / 4, x + np.arange(-2, 3) / 4
    source = put(cds(BEGIN, 24 * 70, lat, np.sort(lon % 360)), "split", tmp_path / "in")
    out = tmp_path / "days.zarr"
    passed("cube", source, "-o", out, "--years", "2019-12-29:2020-02-27")
    done = passed("map", out, "-o", tmp_path / "map.zarr")
    assert "bounds of 90 %" in done.stdout
    mapped = xr.open_zarr(tmp_path / "map.zarr", consolidated=False).load()
    assert mapped["GPP"].shape == (61, 4, 5)
    for flux in ("GPP", "RECO", "NEE"):
        assert np.isfinite(mapped[flux]).all()
        assert (mapped[f"{flux}_lower"] <= mapped[flux]).all()
        assert (mapped[flux] <= mapped[f"{flux}_upper"]).all()
