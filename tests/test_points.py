"""Hourly series of a point: ERA5(-Land) as CDS gives it, Open-Meteo; to local days."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.data import open_towers
from tamrl.data.own.places import one_place
from tamrl.data.physics import saturation_pressure
from tamrl.errors import DataError

LAT, LON, OFFSET = 50.0, 30.0, 2.0  # local standard time is two hours ahead
DAYS = 6
# Truth, by the local hour that a record covers.
HOURS = np.arange(DAYS * 24)
LOCAL = np.datetime64("2010-06-01T00:00") + HOURS.astype("timedelta64[h]")
SUN = 700 * np.maximum(0, np.sin((HOURS % 24 + 0.5 - 6) / 12 * np.pi)) * (1 + HOURS / 500)
TA = 15 + 6 * np.sin((HOURS % 24 - 9) / 12 * np.pi) + HOURS / 100
DEW = TA - 3 - 4 * (SUN > 0)
RAIN = np.where(HOURS % 7 == 0, 0.6, 0.0)
STAMP = pd.DatetimeIndex(LOCAL + np.timedelta64(60 - 120, "m"))  # UTC, end of the hour
TABLE = one_place(LAT, LON, "GRA")


def truth(values: np.ndarray) -> np.ndarray:
    return values.reshape(DAYS, 24).mean(1)


def expect(ds: xr.Dataset, lost: int = 0) -> None:
    """Local days as they truly were."""
    one = ds.isel(site=0, time=slice(0, DAYS))
    vpd = saturation_pressure(TA) - saturation_pressure(DEW)
    names = {"TA": TA, "VPD": vpd, "SW_IN": SUN, "P": RAIN * 24}
    for name, values in names.items():
        np.testing.assert_allclose(one[name][lost:], truth(values)[lost:], rtol=2e-3, err_msg=name)
    np.testing.assert_allclose(one.TA_max[lost:], TA.reshape(DAYS, 24).max(1)[lost:], rtol=1e-4)
    assert str(ds.time.values[0])[:10] == "2010-06-01"


def era5() -> pd.DataFrame:
    """Make amounts of hours, as ERA5 and the time series of ERA5-Land have them."""
    return pd.DataFrame({
        "valid_time": STAMP.strftime("%Y-%m-%d %H:%M:%S"), "t2m": TA + 273.15, "d2m": DEW + 273.15,
        "ssrd": SUN * 3600, "tp": RAIN / 1000, "latitude": LAT, "longitude": LON,
    })  # fmt: skip


def accumulated() -> pd.DataFrame:
    """Make sums from 00 UTC, as the hourly files of ERA5-Land have them."""
    table = era5()
    day = (STAMP - pd.Timedelta(hours=1)).normalize()
    for name in ("ssrd", "tp"):
        table[name] = table[name].groupby(day).cumsum()
    return table


def said(ds: xr.Dataset, *texts: str) -> None:
    for text in texts:
        assert text in ds.attrs["inputs"]


def test_era5_csv(tmp_path: Path) -> None:
    era5().to_csv(tmp_path / "point.csv", index=False)
    ds = open_towers(tmp_path / "point.csv", TABLE)
    expect(ds)
    said(ds, "TA: converted from K (t2m)", "VPD: made of TA and the dew point")
    said(ds, "time moved by +2 h to local standard time (longitude / 15)")
    assert ds.lat.item() == LAT


def test_era5_land_accumulates_over_the_day(tmp_path: Path) -> None:
    """The first hour before the first reset is unknown; all other hours come back."""
    accumulated().to_csv(tmp_path / "point.csv", index=False)
    ds = open_towers(tmp_path / "point.csv", TABLE)
    expect(ds, lost=1)
    said(ds, "SW_IN: amounts of hours made of sums from 00 UTC", "P: amounts of hours")


def test_era5_netcdf(tmp_path: Path) -> None:
    """With axes of length one, units as CDS writes them, and an offset by the table."""
    table = era5().set_index(STAMP.rename("valid_time")).drop(columns="valid_time")
    ds = table[["t2m", "d2m", "ssrd", "tp"]].to_xarray()
    for name, units in (("t2m", "K"), ("d2m", "K"), ("ssrd", "J m**-2"), ("tp", "m")):
        ds[name].attrs["units"] = units
    ds = ds.expand_dims(latitude=[LAT], longitude=[LON], number=[0])
    ds.to_netcdf(tmp_path / "point.nc")
    out = open_towers(tmp_path / "point.nc", TABLE.assign(utc_offset_h=2.0))
    expect(out)
    assert "longitude / 15" not in out.attrs["inputs"]
    cube = xr.concat([ds, ds.assign_coords(latitude=[LAT + 1])], "latitude")
    cube.to_netcdf(tmp_path / "cube.nc")
    with pytest.raises(DataError, match=r"cube\.nc: latitude has 2 entries; a file of one point"):
        open_towers(tmp_path / "cube.nc", TABLE)


@pytest.mark.parametrize("clock", [0, 2])
@pytest.mark.parametrize("with_vpd", [True, False])
def test_open_meteo(clock: int, with_vpd: bool, tmp_path: Path) -> None:
    """Two lines of facts first, a daily table last; kPa; the clock of the file, not the place's."""
    vpd = saturation_pressure(TA) - saturation_pressure(DEW)
    head = "latitude,longitude,elevation,utc_offset_seconds,timezone,timezone_abbreviation\n"
    head += f"50.0,30.0,151.0,{3600 * clock},Europe/Kyiv,GMT+{clock}\n\n"
    stamps = STAMP + pd.Timedelta(hours=clock)
    table = pd.DataFrame({
        "time": stamps.strftime("%Y-%m-%dT%H:%M"), "temperature_2m (°C)": TA.round(4),
        "shortwave_radiation (W/m²)": SUN.round(3), "precipitation (mm)": RAIN,
    })  # fmt: skip
    if with_vpd:
        table["vapour_pressure_deficit (kPa)"] = vpd / 10
    else:
        table["relative_humidity_2m (%)"] = 100 * (1 - vpd / saturation_pressure(TA))
    text = head + table.to_csv(index=False) + "\ntime,rain_sum (mm)\n2010-06-01,2.4\n"
    (tmp_path / "om.csv").write_text(text, encoding="utf-8")
    ds = open_towers(tmp_path / "om.csv", TABLE)
    expect(ds)
    said(ds, "VPD: converted from kPa" if with_vpd else "VPD: made of TA and the relative humidity")
    (tmp_path / "om.csv").write_text(text.replace(f",{3600 * clock},", ",CEST,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"om.csv: utc_offset_seconds is 'CEST'; a number is expec"):
        open_towers(tmp_path / "om.csv", TABLE)
    if not with_vpd:  # a share, whatever its head says
        share = table.assign(
            **{"relative_humidity_2m (%)": table["relative_humidity_2m (%)"] / 100}
        )
        (tmp_path / "om.csv").write_text(head + share.to_csv(index=False), encoding="utf-8")
        expect(open_towers(tmp_path / "om.csv", TABLE))


def test_several_places_by_a_table(tmp_path: Path) -> None:
    """Each row of the table names the file of its place; files lie beside it."""
    for name in ("a", "b"):
        era5().to_csv(tmp_path / f"{name}.csv", index=False)
    table = pd.concat(
        [TABLE.assign(site=name, drivers=f"{name}.csv") for name in ("north", "south")]
    )
    table["drivers"] = ["a.csv", "b.csv"]
    table.to_csv(tmp_path / "places.csv", index=False)
    ds = open_towers(None, tmp_path / "places.csv")
    assert ds.site.values.tolist() == ["north", "south"]
    expect(ds.isel(site=[1]))
    table.assign(drivers="a.csv").to_csv(tmp_path / "places.csv", index=False)
    shared = open_towers(None, tmp_path / "places.csv")  # two fields in one cell of a reanalysis
    assert shared.site.values.tolist() == ["north", "south"]
    expect(shared.isel(site=[0]))
    assert "not used" not in shared.attrs["history"]
    table.assign(drivers=["a.csv", None]).to_csv(tmp_path / "places.csv", index=False)
    with pytest.raises(DataError, match=r"places\.csv: column drivers is missing or has gaps"):
        open_towers(None, tmp_path / "places.csv")


@pytest.mark.parametrize(("spoil", "text"), [
    (lambda t: t.drop(columns="ssrd"), "column SW_IN_F is missing"),
    (lambda t: t.drop(columns="d2m"), "column VPD_F is missing"),
    (lambda t: t.iloc[::3], "records are 180 min apart"),
    (lambda t: t.drop(columns="valid_time"), "column TIMESTAMP"),
    (lambda t: t.assign(latitude=51.0), "its latitude is 51, that of the place 50"),
    (lambda t: t.assign(valid_time="noon"), "valid_time is 'noon' in line 2"),
])  # fmt: skip
def test_a_point_that_cannot_be_used(spoil, text: str, tmp_path: Path) -> None:
    spoil(era5()).to_csv(tmp_path / "point.csv", index=False)
    with pytest.raises(DataError, match=rf"point\.csv: {text}"):
        open_towers(tmp_path / "point.csv", TABLE)


FAULTS = {  # of an hourly series, and what is said
    "light that is a mean": (lambda t: t.assign(ssrd=t.ssrd / 3600), r"J m-2 \(ssrd\); .*ssrd \(W"),
    "two cells": (lambda t: pd.concat([t, t.assign(latitude=50.25)]), "rows of several places"),
    "two cells in turn": (
        lambda t: pd.concat([t, t.assign(latitude=50.25)]).sort_values("valid_time"),
        "its latitude is 50 to 50.25: rows of several places"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_series_that_cannot_be(fault: str, tmp_path: Path) -> None:
    change, words = FAULTS[fault]
    change(era5()).to_csv(tmp_path / "point.csv", index=False)
    with pytest.raises(DataError, match=rf"point\.csv: .*{words}"):
        open_towers(tmp_path / "point.csv", TABLE)


def test_sums_of_the_day_are_undone_beside_a_lost_hour(tmp_path: Path) -> None:
    """An hour that is absent, or coded as missing, costs its day alone."""
    gap = accumulated()
    for table in (gap.drop(index=70), gap.assign(ssrd=gap.ssrd.where(gap.index != 70, -9999))):
        table.to_csv(tmp_path / "point.csv", index=False)
        ds = open_towers(tmp_path / "point.csv", TABLE)
        said(ds, "SW_IN: amounts of hours made of sums from 00 UTC")
        days = ds.SW_IN[0, :DAYS].to_numpy()
        near = np.abs(days / truth(SUN) - 1) < 0.05
        assert near.sum() >= DAYS - 2  # the first day, whose first hour is unknown, and this
        assert (np.isnan(days) | near).all()


@pytest.mark.parametrize("dims", [False, True])
def test_a_file_or_dataset_of_another_place_is_refused(tmp_path: Path, dims: bool) -> None:
    ds = era5().assign(valid_time=STAMP).set_index("valid_time")[["t2m", "d2m", "ssrd"]].to_xarray()
    for lat in (LAT, -20.0):
        there = {"latitude": lat, "longitude": LON}
        one = (
            ds.expand_dims({n: [v] for n, v in there.items()}) if dims else ds.assign_coords(there)
        )
        one.to_netcdf(tmp_path / "point.nc")
        days = one[["t2m"]].rename(valid_time="time").resample(time="D").mean() - 273.15
        days = days.rename(t2m="TA").assign(VPD=4.0 + days.t2m / 9, SW_IN=200.0 + days.t2m)
        for source in (tmp_path / "point.nc", days):
            if lat == LAT:
                assert open_towers(source, TABLE).sizes["site"] == 1
                continue
            with pytest.raises(DataError, match="its latitude is -20, that of the place 50"):
                open_towers(source, TABLE)
