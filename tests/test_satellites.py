"""Satellite tables: two services and plain csv; their scales, flags, gaps and months."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.data.own.composites import Predictors, between
from tamrl.data.own.satellites import read_satellites
from tamrl.errors import DataError

TOWERS = xr.Dataset(
    coords={"site": ["AA-Aaa", "BB-Bbb"], "lat": ("site", [50.0, 10.0]), "lon": ("site", [8.0, 20])}
)
ONE = TOWERS.isel(site=[0])
DATES = pd.date_range("2004-01-01", "2004-12-31", freq="8D")
N = len(DATES)
LAI = np.round(2 + 1.5 * np.sin(np.arange(N) / N * 2 * np.pi - 1.5), 1)


def appeears(**columns: object) -> pd.DataFrame:
    """Make a point sample as AppEEARS writes it: values scaled, flags as numbers and decoded."""
    product = "MOD15A2H_061_"
    table = pd.DataFrame({
        "ID": "AA-Aaa", "Category": "tower", "Latitude": 50.0, "Longitude": 8.0,
        "Date": DATES.strftime("%Y-%m-%d"), "MODIS_Tile": "h18v03",
        f"{product}Line_Y_500m": 1199, f"{product}Sample_X_500m": 1000,
        f"{product}Lai_500m": LAI, f"{product}Fpar_500m": (LAI / 5).round(2),
        f"{product}FparLai_QC": 0, f"{product}FparLai_QC_bitmask": "0b00000000",
        f"{product}FparLai_QC_CloudState": "0b00",
    })  # fmt: skip
    return table.assign(**{product + name: values for name, values in columns.items()})


def read(table: pd.DataFrame, path: Path, towers: xr.Dataset = ONE) -> tuple[Predictors, list[str]]:
    notes: dict[str, list[str]] = {"": []}
    table.to_csv(path, index=False)
    return read_satellites(path, towers, notes), [
        line for lines in notes.values() for line in lines
    ]


def months(values: np.ndarray, dates: pd.DatetimeIndex = DATES, step: int = 8) -> pd.Series:
    """Mean values by month of the middle of each composite."""
    middle = dates + pd.Timedelta(days=step // 2)
    return pd.Series(values, middle).groupby(middle.to_period("M")).mean()


def lai_of(seen: Predictors, name: str = "LAI", site: str = "AA-Aaa") -> np.ndarray:
    assert seen.monthly is not None
    return seen.monthly[name].sel(site=site, month="2004").values


def test_appeears(tmp_path: Path) -> None:
    """Values are scaled already; fill values are scaled as well, or not; clouds are masked."""
    lai, quality = LAI.copy(), np.zeros(N, int)
    lai[[3, 4]] = 25.5, 255  # fill, scaled or not
    quality[[10, 11, 12]] = 0b01000, 0b10000, 0b11000  # clouds, mixed, assumed clear
    quality[20] = 0b10000000  # not retrieved
    seen, lines = read(appeears(Lai_500m=lai, FparLai_QC=quality), tmp_path / "a.csv")
    masked = LAI.copy()
    masked[[3, 4, 10, 11, 20]] = np.nan
    np.testing.assert_allclose(lai_of(seen), months(masked), rtol=1e-6)
    assert lai_of(seen, "FPAR").max() < 1
    (line,) = [line for line in lines if line.startswith("LAI")]
    assert (
        line == f"LAI: MOD15A2H Lai_500m, {N - 5} of {N} dates (3 cloudy or bad, 2 without a value)"
    )


def test_versions_that_meet_are_said_once(tmp_path: Path) -> None:
    """Of a series that begins in one version of a product and goes on in another."""
    later, files = appeears(), (tmp_path / "6.csv", tmp_path / "61.csv")
    later.iloc[: N // 2].rename(columns=lambda c: c.replace("_061_", "_006_")).to_csv(files[0])
    later.iloc[N // 2 :].to_csv(files[1])
    notes: dict[str, list[str]] = {"": []}
    assert np.isfinite(lai_of(read_satellites(files, ONE, notes))).all()
    (line,) = [line for line in notes["AA-Aaa"] if line.startswith("LAI")]
    assert line.count("of versions 006 and 061, whose levels may differ") == 1


@pytest.mark.parametrize(("columns", "said"), [
    ({"Lai_500m": (LAI * 10).round()}, "LAI: scale factor 0.1 applied"),
    ({"Fpar_500m": LAI / 5 * 0.01 * 0.1}, "FPAR: scale factor 0.01 had been applied twice"),
])  # fmt: skip
def test_a_scale_not_applied_or_twice(columns, said: str, tmp_path: Path) -> None:
    seen, lines = read(appeears(**columns), tmp_path / "a.csv")
    assert any(line.startswith(said) for line in lines)
    if "Lai_500m" in columns:
        np.testing.assert_allclose(lai_of(seen), months(LAI), rtol=1e-6)


@pytest.mark.parametrize(("name", "values", "said"), [
    ("LST_day", (280 + 10 * LAI / LAI.max()) * 0.02, "LST_day: scale factor 0.02 had been applied"),
    ("LST_day", 9 * LAI / LAI.max() * 0.02, "LST_day is never above 0.18 degC: had its scale"),
    ("LAI", LAI * 0.1, "m2 m-2: had its scale factor 0.1 been applied twice"),
])  # fmt: skip
def test_a_factor_applied_twice_is_put_right_or_asked(name, values, said, tmp_path: Path) -> None:
    """Kelvin of 5 to 6 have no other reading; little leaf area may be a desert's."""
    seen, lines = read(pd.DataFrame({"date": DATES, name: values}), tmp_path / "p.csv")
    assert any(said in line for line in lines)
    assert seen.monthly is not None
    if "had been applied" in said:
        assert 280 - 273.15 < float(seen.monthly[name].mean()) < 290 - 273.15
    _, lines = read(pd.DataFrame({"date": DATES, "LAI": LAI}), tmp_path / "p.csv")
    assert not any("scale factor" in line for line in lines)


def test_decimals_without_a_scale_factor_name_it(tmp_path: Path) -> None:
    """Means of pixels of raw integers: the factor is named, in both kinds of files."""
    remedy = r"are they 10000 times as large\? Multiply by 0.0001"
    table = pd.DataFrame({"date": DATES, "EVI": 2100.5 + np.arange(N) * 10})
    with pytest.raises(DataError, match=rf"EVI of AA-Aaa is .*check the units; {remedy}"):
        read(table, tmp_path / "p.csv")
    table = pd.DataFrame({
        "ID": "AA-Aaa", "Latitude": 50.0, "Longitude": 8.0, "Date": DATES.strftime("%Y-%m-%d"),
        "MOD13Q1_061__250m_16_days_EVI": table.EVI,
    })  # fmt: skip
    with pytest.raises(DataError, match=rf"no value is left \(EVI.* 0 of {N} dates.*{remedy}"):
        read(table, tmp_path / "a.csv")


def test_without_flags_it_says_so(tmp_path: Path) -> None:
    table = appeears()
    table = table[[c for c in table if "QC" not in c]]
    _, lines = read(table, tmp_path / "a.csv")
    assert all("clouds are not masked" in line for line in lines)


def test_evi_by_day_leaves_gaps_of_over_32_days_open(tmp_path: Path) -> None:
    """16-day composites count for their middle; a snowy month and a cloudy one are not bridged."""
    dates = pd.date_range("2004-01-01", "2004-12-31", freq="16D")
    evi = np.round(0.3 + 0.2 * np.sin(np.arange(len(dates))), 4)
    reliability = np.zeros(len(dates), int)
    reliability[[5, 6]], reliability[[12]], reliability[15] = 3, 2, -1
    table = pd.DataFrame({
        "ID": "AA-Aaa", "Latitude": 50.0, "Longitude": 8.0, "Date": dates.strftime("%Y-%m-%d"),
        "MOD13Q1_061__250m_16_days_EVI": np.where(reliability == -1, -0.3, evi),
        "MOD13Q1_061__250m_16_days_pixel_reliability": reliability,
    })  # fmt: skip
    seen, _ = read(table, tmp_path / "a.csv")
    assert seen.monthly is None
    assert seen.evi is not None
    one = seen.evi.sel(site="AA-Aaa")
    middle = dates + pd.Timedelta(days=8)
    np.testing.assert_allclose(one.sel(time=middle[[0, 1, 4, 7]]), evi[[0, 1, 4, 7]], rtol=1e-6)
    assert float(one.sel(time=middle[0] + pd.Timedelta(days=8))) == pytest.approx(evi[:2].mean())
    assert np.isnan(one.sel(time=middle[5]))  # 48 days between views
    assert float(one.sel(time=middle[12])) == pytest.approx(evi[[11, 13]].mean(), rel=1e-6)  # 32
    assert np.isnan(one.sel(time="2004-01-05"))
    assert np.isfinite(one).sum() < 366


def ornl_json(band: str, values: list[list[float]], scale: str, product: str = "MOD11A2") -> str:
    """Make an answer of the subset service: several pixels a date, the tower's in the middle."""
    header = f"https://modis.ornl.gov/rst/api/v1/{product}/subset?latitude=50&longitude=8"
    subset = [
        {"modis_date": f"A{date:%Y%j}", "calendar_date": f"{date:%Y-%m-%d}", "band": band,
         "tile": "h18v03", "proc_date": "2020048120243", "data": data}
        for date, data in zip(DATES, values, strict=True)
    ]  # fmt: skip
    facts = {"xllcorner": "1", "yllcorner": "2", "cellsize": 926.6, "nrows": 3, "ncols": 3}
    facts |= {"band": band, "units": "Kelvin", "scale": scale, "latitude": 50.01, "longitude": 8.0}
    return json.dumps(facts | {"header": header, "subset": subset})


def test_ornl_json(tmp_path: Path) -> None:
    """Raw integers, 0 for missing; the flags come as a band of their own."""
    kelvin = 280 + 10 * np.sin(np.arange(N) / N * 2 * np.pi)
    raw = np.round(kelvin / 0.02)
    raw[7], cloudy = 0, np.zeros(N)
    cloudy[9] = 2
    files = tmp_path / "lst.json", tmp_path / "qc.json"
    pixels = [[9999.0] * 4 + [value] + [9999.0] * 4 for value in raw]
    files[0].write_text(ornl_json("LST_Day_1km", pixels, "0.02"))
    files[1].write_text(ornl_json("QC_Day", [[65.0] * 4 + [q] + [65.0] * 4 for q in cloudy], "NA"))
    notes: dict[str, list[str]] = {"": []}
    seen = read_satellites(files, TOWERS, notes)
    celsius = raw * 0.02 - 273.15
    celsius[[7, 9]] = np.nan
    np.testing.assert_allclose(lai_of(seen, "LST_day"), months(celsius), rtol=1e-5)
    assert "1 cloudy or bad, 1 without a value" in notes["AA-Aaa"][-1]
    files[0].write_text(ornl_json("LST_Day_1km", pixels, "0.1"))
    with pytest.raises(
        DataError, match=r"lst\.json: LST_Day_1km has the scale factor 0.1, 0.02 is"
    ):
        read_satellites(files, TOWERS, notes)


@pytest.mark.parametrize("comments", [True, False])
def test_modistools(comments: bool, tmp_path: Path) -> None:
    """Facts as columns or in comment lines; raw integers; the middle pixel."""
    facts = {"xllcorner": "1", "cellsize": 463.3, "nrows": 3, "ncols": 3, "band": "Lai_500m"}
    facts |= {"units": "m^2/m^2", "scale": 0.1, "latitude": 50.0, "longitude": 8.0}
    facts |= {"site": "mine", "product": "MCD15A2H"}
    rows = pd.DataFrame({
        "modis_date": np.repeat([f"A{d:%Y%j}" for d in DATES], 9),
        "calendar_date": np.repeat(DATES.strftime("%Y-%m-%d"), 9), "tile": "h18v03",
        "pixel": np.tile(np.arange(1, 10), N), "value": np.repeat((LAI * 10).round(), 9),
    })  # fmt: skip
    rows.loc[rows.pixel != 5, "value"] = 90
    rows.loc[rows.calendar_date == "2004-01-25", "value"] = 254  # of 249..255: no vegetation
    path = tmp_path / "lai.csv"
    if comments:
        head = "".join(f"# {name}: {value}\n" for name, value in facts.items())
        path.write_text(head + rows.to_csv(index=False))
    else:
        rows.assign(**facts).to_csv(path, index=False)
    notes: dict[str, list[str]] = {"": []}
    seen = read_satellites(path, TOWERS, notes)
    known = np.where(np.arange(N) == 3, np.nan, LAI)
    np.testing.assert_allclose(lai_of(seen), months(known), rtol=1e-6)


@pytest.mark.parametrize("scaled", [True, False])
def test_the_order_tool_of_ornl(scaled: bool, tmp_path: Path) -> None:
    """No head; "F" stands for a pixel that a flag masked."""
    lines = []
    for i, (date, lai) in enumerate(zip(DATES, LAI, strict=True)):
        day = f"A{date:%Y%j}"
        name = f"MCD15A2H.{day}.h18v03.061.2020048120243.Lai_500m"
        value = "F" if i == 3 else f"{lai:.1f}" if scaled else f"{round(lai * 10)}"
        lines.append(f"{name},MCD15A2H,{day},Lat50.0Lon8.0Samp1Line1,2020048120243,{value}")
    path = tmp_path / f"{'filtered_scaled' if scaled else 'raw'}_Lai_500m.csv"
    path.write_text("\n".join(lines))
    seen = read_satellites(path, TOWERS, {"": []})
    np.testing.assert_allclose(lai_of(seen), months(np.where(np.arange(N) == 3, np.nan, LAI)))


def test_plain_csv(tmp_path: Path) -> None:
    """By day, composite or month; several towers; kelvin and percent by their size."""
    month = pd.date_range("2004-01-01", "2004-12-01", freq="MS")
    table = pd.concat([
        pd.DataFrame({"site": site, "date": month.strftime("%Y-%m-%d"),
                      "LAI": np.linspace(1, 4, 12),
                      "LST_day": np.linspace(270, 300, 12), "fapar": np.linspace(10, 80, 12),
                      "colour": 1})
        for site in ("AA-Aaa", "BB-Bbb", "ZZ-Zzz")
    ])  # fmt: skip
    seen, lines = read(table, tmp_path / "p.csv", TOWERS)
    np.testing.assert_allclose(lai_of(seen, site="BB-Bbb"), np.linspace(1, 4, 12))
    np.testing.assert_allclose(
        lai_of(seen, "LST_day"), np.linspace(270, 300, 12) - 273.15, rtol=1e-5
    )
    np.testing.assert_allclose(lai_of(seen, "FPAR"), np.linspace(0.1, 0.8, 12), rtol=1e-6)
    for said in ("LST_day: converted from K", "FPAR: scale factor 0.01", "colour", "ZZ-Zzz"):
        assert any(said in line for line in lines)


@pytest.mark.parametrize(("change", "said"), [
    ({"ID": "XX-Xxx", "Latitude": -50.0}, "its places .XX-Xxx.* are none of the towers"),
    ({"Date": "spring"}, "date is 'spring' in line 2"),
    ({"MOD15A2H_061_Lai_500m": 255.0, "MOD15A2H_061_Fpar_500m": 255.0}, "no value is left"),
])  # fmt: skip
def test_what_cannot_be_used_is_one_error(change, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"a\.csv: {said}"):
        read(appeears().assign(**change), tmp_path / "a.csv")


@pytest.mark.parametrize(("table", "said"), [
    (pd.DataFrame({"date": ["2004-01-01"], "NDVI": [0.5]}), "no satellite table"),
    (pd.DataFrame({"date": ["2004-01-01", "x"], "LAI": [1, 2]}), "date is 'x' in line 3"),
    (pd.DataFrame({"date": DATES, "LAI": LAI * 3.7}), "LAI of AA-Aaa is .*outside 0 to 10"),
])  # fmt: skip
def test_a_plain_table_that_cannot_be_used(table: pd.DataFrame, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"p\.csv: {said}"):
        read(table, tmp_path / "p.csv")


def test_a_single_view_is_a_single_day() -> None:
    day = np.array(["2004-06-01"], "datetime64[D]")
    out = between(day, np.array([0.4]), np.arange(day[0] - 2, day[0] + 3))
    np.testing.assert_array_equal(np.isfinite(out), [False, False, True, False, False])


def reflectances(product: str, bands: tuple[str, str], flag: str) -> pd.DataFrame:
    """Make a point sample of two bands and their flag, which calls all dates clear."""
    near, far = np.full(N, 0.30), 0.15 + 0.05 * np.sin(np.arange(N))
    columns = {bands[0]: near.round(4), bands[1]: far.round(4), flag: 0}
    return pd.DataFrame({
        "ID": "AA-Aaa", "Latitude": 50.0, "Longitude": 8.0, "Date": DATES.strftime("%Y-%m-%d"),
        **{f"{product}_061_{name}": values for name, values in columns.items()},
    })  # fmt: skip


MOD09 = ("MOD09A1", ("sur_refl_b02", "sur_refl_b06"), "sur_refl_state_500m")
NBAR = (
    "MCD43A4",
    ("Nadir_Reflectance_Band2", "Nadir_Reflectance_Band6"),
    "BRDF_Albedo_Band_Mandatory_Quality_Band6",
)


@pytest.mark.parametrize(("source", "bad", "fill"), [(MOD09, 1, -2.8672), (NBAR, 255, 3.2767)])
@pytest.mark.parametrize("factor", [1, 1e4, 1e-4])
def test_ndwi_of_bands(source, bad: int, fill: float, factor: float, tmp_path: Path) -> None:
    """Bands 2 and 6, whatever their scale; clouds, shadows and fill values leave months their rest.

    Leaves of 0.30 and 0.15 have (0.30 - 0.15) / 0.45 = 1/3.
    """
    product, bands, flag = source
    table = reflectances(*source)
    near, far = (table[f"{product}_061_{band}"] for band in bands)
    ndwi = ((near - far) / (near + far)).to_numpy(copy=True)
    table.loc[[3], far.name], ndwi[3] = fill, np.nan
    table.loc[[5], f"{product}_061_{flag}"], ndwi[5] = bad, np.nan
    table[far.name] *= factor
    seen, lines = read(table, tmp_path / "a.csv")
    np.testing.assert_allclose(lai_of(seen, "NDWI"), months(ndwi), rtol=1e-3)
    assert 0.3 < np.nanmean(lai_of(seen, "NDWI")) < 0.4
    said = f"NDWI: {product} bands 2 and 6, {N - 2} of {N} dates (1 cloudy or bad, 1 without"
    assert any(line.startswith(said) for line in lines)
    assert any(f"NDWI: {bands[1]}, scale factor 0.0001" in line for line in lines) is (factor != 1)


def test_what_is_not_used_is_said(tmp_path: Path) -> None:
    """Layers beside those that are read, with the reason where users would expect them read."""
    _, lines = read(appeears(LaiStdDev_500m=0.1, FparStdDev_500m=0.1), tmp_path / "a.csv")
    assert "not used: LaiStdDev_500m, FparStdDev_500m of MOD15A2H" in lines
    table = appeears().assign(MOD16A2_061_PET_500m=31.5, MOD16A2_061_ET_500m=9.0)
    _, lines = read(table, tmp_path / "a.csv")
    assert any("PET_500m of MOD16A2; the model's PET is ERA5-Land's" in line for line in lines)
    assert "not used: ET_500m of MOD16A2" in lines
    assert not any("CloudState" in line or "Line_Y" in line for line in lines)
