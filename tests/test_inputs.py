"""Own towers become the samples of the benchmark; faults are put right and said, or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from halfhours import Tower, daily_csv
from typer.testing import CliRunner

from tamrl.cli.app import app
from tamrl.data import fetch_grid, fetch_tower_predictors, open_towers
from tamrl.data.cache import cache_dir
from tamrl.data.own.checks import check_climate
from tamrl.data.own.vocabulary import VOCABULARY, convert, listed, recognise
from tamrl.data.phenology import fetch_phenology
from tamrl.data.physics import saturation_pressure
from tamrl.data.schema import FLUXES, tower_facts
from tamrl.errors import DataError
from tamrl.evaluate.score_file import score
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.shipped.inputs import own_samples

SITES = ["AU-Tum", "CH-Dav", "FI-Hyy", "US-Ha1"]
HOURLY = ("AU-Tum", "US-Ha1")
STORE = {"ta": "TA_F", "vpd": "VPD_F", "sw_in": "SW_IN_F", "nee": "NEE_VUT_REF"}
STORE |= {"gpp_nt": "GPP_NT_VUT_REF", "nee_qc": "NEE_VUT_REF_QC"}


@dataclass
class Real:
    """Four real towers as files of a user, beside what the benchmark makes of them."""

    folder: Path
    towers: xr.Dataset
    monthly: Path
    evi: Path


@pytest.fixture(scope="module")
def real(need, real_towers: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """Write half-hours or hours, table, and satellite tables of four real towers as csv."""
    need("grid/")
    need("tower_predictors/")
    folder = tmp_path_factory.mktemp("real")
    facts = tower_facts().loc[SITES]
    store = xr.open_zarr(cache_dir() / "fluxnet2015.zarr", consolidated=False, chunks=None)
    place = {site: i for i, site in enumerate(store.site.values.astype(str))}
    for site in SITES:
        half = {new: store[old][place[site]].values for old, new in STORE.items()}
        minutes = 60 if site in HOURLY else 30
        local = store.time.values + np.timedelta64(int(60 * facts.utc_offset_h[site]), "m")
        on = np.flatnonzero(np.isfinite(half["TA_F"]))
        keep = slice(on[0], on[-1] + 1)
        table = pd.DataFrame({name: x[keep] for name, x in half.items()})
        start = pd.DatetimeIndex(local[keep] - np.timedelta64(minutes, "m"))
        table.insert(0, "TIMESTAMP_START", start.strftime("%Y%m%d%H%M"))
        if minutes == 60:
            table = table[start.minute == 0]
        tag = {30: "HH", 60: "HR"}[minutes]
        table.to_csv(folder / f"FLX_{site}_FLUXNET2015_{tag}.csv", index=False, na_rep="-9999")
    names = ["lat", "lon", "igbp", "utc_offset_h"]
    facts[names].to_csv(folder / "towers.csv")
    monthly = fetch_tower_predictors().reindex(site=SITES).to_dataframe().reset_index()
    monthly.rename(columns={"month": "date"}).to_csv(folder / "monthly.csv.txt", index=False)
    evi = (
        fetch_phenology()
        .reindex(site=SITES, time=real_towers.time)
        .to_dataframe()
        .reset_index()
        .dropna()
    )
    evi.rename(columns={"time": "date"}).to_csv(folder / "evi.csv.txt", index=False)
    towers = real_towers.sel(site=SITES)
    return Real(folder, towers, folder / "monthly.csv.txt", folder / "evi.csv.txt")


@pytest.mark.slow
@pytest.mark.parametrize("with_satellites", [False, True])
def test_files_become_the_samples_of_the_benchmark_bit_for_bit(
    real: Real, with_satellites: bool
) -> None:
    """Half-hours, a table without climate or elevation, satellite tables give equal arrays."""
    monthly = fetch_tower_predictors() if with_satellites else None
    expected = make_samples(real.towers, monthly, fetch_grid())
    evi = fetch_phenology().reindex(time=real.towers.time) if with_satellites else None
    expected = with_phenology(expected, evi)
    own = own_samples(real.folder, None, [real.monthly, real.evi] if with_satellites else None)
    assert own.site.tolist() == expected.site.tolist()
    assert own.features == expected.features
    same = np.isin(expected.time, own.time)
    assert not expected.has_drivers[:, ~same].any()
    np.testing.assert_array_equal(own.has_drivers, expected.has_drivers[:, same])
    np.testing.assert_array_equal(own.x, expected.x[:, same])
    np.testing.assert_array_equal(own.static, expected.static)
    if with_satellites:
        known = np.isfinite(own.x[..., own.features.index("LAI")]).mean((1,))
        assert (known > 0).sum() >= 2


PLACE = {"lat": 50.0, "lon": 10.0, "igbp": "ENF"}
ONE = pd.DataFrame({"site": ["XX-One"], **{name: [value] for name, value in PLACE.items()}})
OTHER = {"TA_F": "TA", "VPD_F": "VPD", "SW_IN_F": "SW_IN", "P_F": "P"}
OTHER |= {"NEE_VUT_REF": "NEE", "GPP_NT_VUT_REF": "GPP", "RECO_NT_VUT_REF": "RECO"}


@pytest.fixture(autouse=True)
def _grid(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give all tests but those of real towers the virtual globe."""
    if "real" not in request.fixturenames:
        globe = request.getfixturevalue("globe")
        monkeypatch.setattr("tamrl.data.fetch_grid", lambda: globe)


def by_day(n: int = 400) -> pd.DataFrame:
    """Make days of one tower by plain names, with dates as an index."""
    table = daily_csv(n).rename(columns=OTHER).drop(columns="NEE_VUT_REF_QC")
    table.index = pd.to_datetime(table.pop("TIMESTAMP"), format="%Y%m%d")
    return table


def by_half_hour(days: int = 40, offset: float = 0.0) -> pd.DataFrame:
    """Make half-hours of one tower, stamped with their beginning."""
    tower = Tower(days=days)
    names = {"TA": "ta", "VPD": "vpd", "SW_IN": "sw_in", "NEE": "nee"}
    start = pd.DatetimeIndex(tower.start.astype("datetime64[ns]"))
    columns = {name: tower.values[old] for name, old in names.items()}
    return pd.DataFrame(columns, start - pd.Timedelta(hours=offset))


def said(samples: Samples) -> str:
    return "\n".join(samples.attrs["inputs"])


def test_a_data_frame_and_a_place_are_enough() -> None:
    """Labels without a flag all count, and it is said; a csv of the same says the same."""
    own = own_samples(by_day(), **PLACE)
    assert own.site.tolist() == ["50.000N 10.000E"]
    assert (own.weight > 0).sum() == own.scored.sum() == 400
    assert "400 labelled days without a quality flag all count" in said(own)
    with pytest.raises(DataError, match="all three of lat, lon and igbp"):
        own_samples(by_day(), lat=50.0)


@pytest.mark.parametrize("form", ["comma", "semicolon", "tab", "comments", "bytes", "utf-16"])
def test_csv_of_any_make(form: str, tmp_path: Path) -> None:
    """ISO dates, decimal commas, comment lines, tabs, another encoding: the same arrays."""
    table = by_day().rename_axis("date").reset_index()
    plain = own_samples(by_day(), **PLACE)
    path, how = tmp_path / "mine.csv", {"index": False}
    if form == "semicolon":
        table.to_csv(path, sep=";", decimal=",", **how)
    elif form == "tab":
        table.to_csv(path, sep="\t", **how)
    elif form == "comments":
        path.write_text("# Site: XX-One\n# Version: 3\n" + table.to_csv(**how))
    else:
        table = table.rename(columns={"TA": "TA (°C)"}) if form == "bytes" else table
        table.to_csv(path, encoding="utf-16" if form == "utf-16" else "latin-1", **how)
    own = own_samples(path, **PLACE)
    np.testing.assert_array_equal(own.x, plain.x)
    np.testing.assert_array_equal(own.y, plain.y)


def test_ameriflux_base(tmp_path: Path) -> None:
    """Comment lines, qualifiers of position, humidity instead of VPD, no flags, gaps of -9999."""
    half = by_half_hour()
    table = pd.DataFrame({
        "TIMESTAMP_START": half.index.strftime("%Y%m%d%H%M"),
        "TIMESTAMP_END": (half.index + pd.Timedelta(minutes=30)).strftime("%Y%m%d%H%M"),
        "TA_1_1_1": half.TA, "SW_IN_1_1_1": half.SW_IN, "FC_1_1_1": 1.0, "NEE_PI_F": half.NEE,
        "RH_1_1_1": 100 * (1 - half.VPD / saturation_pressure(half.TA)), "SWC_1_1_1": 31.0,
        "USTAR_1_1_1": 0.2,
    })  # fmt: skip
    table.iloc[100:104, table.columns.get_loc("TA_1_1_1")] = -9999
    path = tmp_path / "AMF_XX-One_BASE_HH_3-5.csv"
    path.write_text("# Site: XX-One\n# Version: 3-5\n" + table.to_csv(index=False))
    own, plain = own_samples(path, ONE), own_samples(half, ONE)
    days = np.delete(np.arange(40), [2])
    for name in ("TA", "TA_max", "SW_IN"):
        k = own.features.index(name)
        np.testing.assert_allclose(own.x[0, days, k], plain.x[0, days, k], rtol=1e-5)
    k = own.features.index("VPD")
    np.testing.assert_allclose(own.x[0, days, k], plain.x[0, days, k], atol=1e-3)
    assert np.nanmax(own.x[..., own.features.index("SM")]) == pytest.approx(0.31)
    for text in ("SM: converted from %", "VPD: made of TA and the relative", "not used: FC_1_1_1"):
        assert text in said(own)


def test_what_the_towers_own_table_holds_becomes_predictors() -> None:
    """LAI, FPAR, rain, soil water by month, EVI by day; satellite files come first."""
    table = by_day().assign(LAI=3.0, FPAR=0.6, EVI=0.4, SWC_F_MDS_1=25.0, albedo=0.1)
    own = own_samples(table, **PLACE)
    seen = {name: own.x[0, 200, own.features.index(name)] for name in ("LAI", "FPAR", "EVI", "SM")}
    assert seen == pytest.approx({"LAI": 3.0, "FPAR": 0.6, "EVI": 0.4, "SM": 0.25})
    rain = own.x[0, :, own.features.index("PRCP")]
    assert 0 < np.nanmean(rain) < 10
    assert "not used: albedo" in said(own)
    assert "LAI: monthly means of the tower's own LAI" in said(own)
    month = pd.date_range("2005-01-01", "2006-02-01", freq="MS").to_numpy()
    lai = xr.DataArray([[5.0] * len(month)], {"site": own.site, "month": month}, ("site", "month"))
    both = own_samples(table, satellites=lai.to_dataset(name="LAI"), **PLACE)
    assert both.x[0, 200, own.features.index("LAI")] == 5.0
    assert both.x[0, 200, own.features.index("FPAR")] == pytest.approx(0.6)


def test_composites_of_evi_in_a_daily_table_are_linear_between() -> None:
    """As those of a satellite file; a daily column stays as it is, gaps and all."""
    table = by_day()
    season = 0.4 + 0.2 * np.sin(np.arange(400) / 60)
    sparse = table.assign(EVI=np.where(np.arange(400) % 16 == 0, season, np.nan))
    own = own_samples(sparse, **PLACE)
    evi = own.x[0, :, own.features.index("EVI")]
    assert np.isfinite(evi).mean() > 0.95
    assert evi[208] == pytest.approx((season[192] + season[208]) / 2, abs=1e-6)  # middle: 8 later
    assert "EVI: 25 dates taken for the first days of composites, linear between them" in said(own)
    cloudy = table.assign(EVI=np.where(np.arange(400) % 5 == 0, np.nan, season))
    plain = own_samples(cloudy, **PLACE)
    np.testing.assert_allclose(
        plain.x[0, :, plain.features.index("EVI")], cloudy.EVI.astype(np.float32)
    )
    assert "linear between" not in said(plain)


def test_a_few_days_of_rain_are_no_month() -> None:
    own = own_samples(by_day(10), **PLACE)
    assert "PRCP: too few days of P for a month" in said(own)
    assert np.isnan(own.x[..., own.features.index("PRCP")]).all()


def test_a_dataset_states_its_units(virtual: xr.Dataset) -> None:
    """Units named by attribute are converted, coordinates that lack are filled; the rest stays."""
    table = by_day().rename_axis("time")
    ds = table.to_xarray().expand_dims(site=["XX-One"])
    ds = ds.assign_coords(lat=("site", [50.0]), lon=("site", [10.0]), igbp=("site", ["ENF"]))
    ds["TA"], ds["VPD"] = ds.TA + 273.15, ds.VPD / 10
    ds.TA.attrs["units"], ds.VPD.attrs["units"] = "K", "kPa"
    own, plain = own_samples(ds), own_samples(by_day(), **PLACE)
    np.testing.assert_allclose(own.x, plain.x, rtol=1e-4, atol=1e-4)
    assert own.table.koppen[0] == plain.table.koppen[0] != ""
    ds.VPD.attrs["units"] = "torr"
    with pytest.raises(DataError, match="VPD is in 'torr'; convert it to hPa"):
        own_samples(ds)
    np.testing.assert_array_equal(
        own_samples(virtual).has_drivers, make_samples(virtual).has_drivers
    )


def test_the_grid_fills_climate_and_elevation(globe: xr.Dataset) -> None:
    own = own_samples(by_day(), **PLACE)
    assert "and elevation" in said(own)
    assert "from the grid" in said(own)
    assert np.isfinite(own.static[0, own.static_names.index("elevation")])
    known = own_samples(by_day(), ONE.assign(koppen="Dfb", elevation_m=7.0))
    assert known.table.koppen[0] == "Dfb"
    assert known.static[0, own.static_names.index("elevation")] == 7.0


def test_latitude_and_longitude_swapped(globe: xr.Dataset) -> None:
    """A place in the sea whose swapped position is on land is refused; the open sea is said."""
    land = np.isfinite(globe.elevation)
    sea = [
        (float(y), float(x))
        for y in globe.lat.values[::3]
        for x in globe.lon.values[::3]
        if abs(x) < 89 and not land.sel(lat=slice(y - 4, y + 4), lon=slice(x - 4, x + 4)).any()
    ]
    swapped = [p for p in sea if land.sel(lat=p[1], lon=p[0], method="nearest")]
    assert swapped
    lat, lon = swapped[0]
    with pytest.raises(DataError, match=r"in the sea, but .* on land; swap the columns lat"):
        own_samples(by_day(), lat=lat, lon=lon, igbp="ENF")


SEASON = np.tile(8 - 10 * np.cos(np.arange(12) / 6 * np.pi), (31, 1)).T.ravel()  # degC, day by day
CLIMATES: dict[str, tuple[np.ndarray, str]] = {  # TA of a year whose climate is SEASON, what of it
    "the other hemisphere": (
        16 - SEASON,
        "differs by 12 K from the climate of its place, 18 instead",
    ),
    "tenths": (SEASON / 10 + 8, ""),
    "another place": (SEASON + 20, "differs by 20 K from the climate of its place"),
    "degF": (SEASON * 1.8 + 32, "differs by 38 K from the climate of its place, .*unit of TA"),
}


@pytest.mark.parametrize("fault", CLIMATES)
def test_a_temperature_of_no_such_place_is_refused(fault: str) -> None:
    """What any tower shows is not: a mountain in its cell, a warm year, a month of frost."""
    (ta, words), month = CLIMATES[fault], np.repeat(np.arange(1, 13), 31)
    usual, notes = SEASON[::31], list[str]()
    for sound in (
        SEASON + 8.7,
        SEASON * 1.3,
        np.where(month == 2, SEASON - 17, np.nan),
        ta * np.nan,
    ):
        check_climate("AA-Aaa", sound, month, usual, notes)
    assert not notes
    if words:
        with pytest.raises(DataError, match=f"^tower AA-Aaa: TA {words}"):
            check_climate("AA-Aaa", ta, month, usual, notes)
    else:
        check_climate("AA-Aaa", ta, month, usual, notes)
        assert "check the unit of TA, its dates, lat and lon" in notes[0]


def test_a_class_that_hardly_any_tower_has_is_said() -> None:
    for igbp, count in (("WAT", 0), ("URB", 0), ("SNO", 1)):
        own = own_samples(by_day(), lat=50.0, lon=10.0, igbp=igbp)
        assert f"({igbp}) is the class of {count} of 180 towers" in said(own)
    assert "is the class of" not in said(own_samples(by_day(), **PLACE))


def test_a_clock_that_is_not_of_its_longitude_is_said() -> None:
    own = own_samples(by_day(), ONE.assign(utc_offset_h=-8.0))
    assert "utc_offset_h is -8, but by its longitude about 1 h" in said(own)


@pytest.mark.parametrize("name", ["time", "site", "lat", "TIMESTAMP", "Year", "NEE"])
def test_a_target_named_as_an_axis_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} is (read or written|predicted) already"):
        own_samples(by_day().assign(**{name: 1.0}), targets=(name,), **PLACE)


def test_a_tower_beside_one_of_the_training() -> None:
    where = tower_facts().loc["DE-Tha"]
    own = own_samples(by_day(), lat=where.lat + 0.01, lon=where.lon, igbp="ENF")
    assert "lies 1.1 km from DE-Tha, a tower that the weights of the package learnt from" in said(
        own
    )


def turned(column: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda t: t.assign(**{column: -t[column]})


def swapped(t: pd.DataFrame) -> pd.DataFrame:
    return t.assign(GPP=t.RECO, RECO=t.GPP)


def repeated(t: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([t.iloc[:10], t.iloc[9:]])


REPAIRED = {
    "kelvin": (lambda t: t.assign(TA=t.TA + 273.15), "TA: converted from K"),
    "uptake counted as positive": (turned("NEE"), "NEE: sign turned"),
    "GPP as a flux into the ecosystem": (turned("GPP"), "GPP: sign turned"),
    "both": (lambda t: t.assign(GPP=-t.GPP, NEE=-t.NEE), "GPP: sign turned"),
    "a record twice": (repeated, "1 records stood there twice, alike"),
    "EVI in integers": (lambda t: t.assign(EVI=4000.0), "EVI: scale factor 0.0001 applied"),
    "EVI scaled twice": (lambda t: t.assign(EVI=4e-5), "EVI: scale factor 0.0001 had been applied"),
    "FPAR in percent": (lambda t: t.assign(FPAR=55.5), "FPAR: scale factor 0.01 applied"),
    "LAI in tenths": (lambda t: t.assign(LAI=35.0), "LAI: scale factor 0.1 applied"),
    "EVI in percent": (lambda t: t.assign(EVI=45.0), "EVI: converted from %"),
    "a flag in percent": (lambda t: t.assign(NEE_QC=95.0), "NEE_QC: converted from %"),
    "a flag of -1": (lambda t: t.assign(NEE_QC=[-1.0] * 9 + [1.0] * 391), "NEE_QC: 9 times -1"),
    "RECO negative": (turned("RECO"), "RECO: sign turned; it was negative"),
    "RECO negative, and no NEE": (
        lambda t: turned("RECO")(t).drop(columns="NEE"), "RECO: sign turned; it was negative"),
    "GPP and RECO swapped": (swapped, "GPP and RECO: swapped; NEE is RECO - GPP only so"),
    "GPP and RECO swapped, and no NEE": (
        lambda t: swapped(t).drop(columns="NEE"), "GPP and RECO: swapped; RECO - GPP was greater"),
    "NEE turned in 100 days": (
        lambda t: turned("NEE")(t).drop(columns=["GPP", "RECO"])[:100],
        "NEE is greater on bright days than on dark ones"),
    "extremes that err on a day": (
        lambda t: t.assign(TA_max=t.TA + np.where(np.arange(400) == 7, -2, 3)),
        "TA is above TA_max on 1 of 400 days, first 2005-01-08"),
    "fill values of LAI": (lambda t: t.assign(LAI=[255.0] * 9 + [3.0] * 391), "LAI: fill values"),
    "soil water as a share": (lambda t: t.assign(SWC=0.25), "SM: a share, not percent"),
    "five labelled days": (
        lambda t: t.assign(**{f: t[f].where(np.arange(len(t)) < 5) for f in FLUXES}),
        "only 5 labelled days",
    ),
    "labels of one season": (
        lambda t: t.assign(**{f: t[f].where(t.index.month < 4) for f in FLUXES}),
        "labels of one season only (90 days of the year)",
    ),
    "NEE alone": (lambda t: t.drop(columns=["GPP", "RECO"]), "labels of NEE alone"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REPAIRED)
def test_what_is_unambiguous_is_put_right_and_said(fault: str) -> None:
    spoil, text = REPAIRED[fault]
    own, plain = own_samples(spoil(by_day()), **PLACE), own_samples(by_day(), **PLACE)
    assert text in said(own)
    k = [plain.features.index(name) for name in ("TA", "VPD", "SW_IN")]
    days = own.has_drivers
    np.testing.assert_allclose(
        own.x[..., k][days], plain.x[:, : days.shape[1], k][days], rtol=1e-4, atol=1e-4
    )
    if "sign" in text or "swapped" in text:
        np.testing.assert_allclose(own.y, plain.y, atol=1e-4)


REFUSED = {
    "kPa": (lambda t: t.assign(VPD=t.VPD / 10), "VPD never exceeds .* looks like kPa"),
    "Pa": (lambda t: t.assign(VPD=t.VPD * 100), "VPD is .*outside -1 to 120 hPa"),
    "MJ": (lambda t: t.assign(SW_IN=t.SW_IN * 0.0864), "SW_IN never exceeds .* looks like MJ"),
    "some kelvin": (lambda t: t.assign(TA=t.TA + 273.15 * (t.TA > 12)), "TA is 2.*outside -90"),
    "latitude twice": (
        lambda t: pd.concat([t.assign(lat=50.0), t.assign(lat=51.0)[["lat"]]], axis=1),
        "column lat is there twice"),
    "latitude in words": (lambda t: t.assign(lat="north"), "latitude is 'north'"),
    "a list in a cell": (lambda t: t.assign(notes=[[1]] * 400), "neither number nor text"),
    "umol": (lambda t: t.assign(**{f: t[f] * 80 for f in FLUXES}), "outside -100"),
    "another code for missing": (
        lambda t: t.assign(NEE=t.NEE.mask(t.index.day == 3, -9999.99)),
        r"NEE is -9999.99, a code for missing left in \(NEE, 14 records\); replace it by NaN",
    ),
    "no balance": (lambda t: t.assign(NEE=3 - t.NEE), r"NEE is not RECO - GPP"),
    "two values for a day": (
        lambda t: pd.concat([t.iloc[:10], t.iloc[9:] + 0.1]), "time 2005-01-10 occurs twice",
    ),
    "LAI in odd units": (lambda t: t.assign(LAI=55.5), "LAI is 55.5, outside 0 to 10"),
    "weeks": (lambda t: t.iloc[::7], "10080 min apart; 30, 60 or a day"),
    "words": (lambda t: t.assign(TA=["cold", *t.TA[1:]]), "TA is 'cold' in line 2; a number"),
    "another unit": (lambda t: t.rename(columns={"TA": "TA [F]"}), "is in 'F'; convert it to degC"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_not_is_one_error(fault: str) -> None:
    spoil, text = REFUSED[fault]
    table = spoil(by_day())
    if fault == "two values for a day":
        table = table.rename_axis("date").reset_index().sort_values("date")
    with pytest.raises(DataError, match=text) as error:
        own_samples(table, **PLACE)
    assert "\n" not in str(error.value)


def test_uptake_counted_as_positive_by_half_hours() -> None:
    """More NEE by day than by night cannot be."""
    plain, own = own_samples(by_half_hour(), ONE), own_samples(turned("NEE")(by_half_hour()), ONE)
    assert "NEE: sign turned" in said(own)
    assert "labels of NEE alone" in said(plain)
    nee = own.targets.index("NEE")
    np.testing.assert_allclose(own.y[..., nee], plain.y[..., nee], atol=1e-5)
    weak = by_half_hour().assign(NEE=lambda t: 1 + t.SW_IN / 400)  # as at CN-Sw2
    doubtful = own_samples(weak, ONE)
    assert "is uptake negative" in said(doubtful)
    assert np.nanmin(doubtful.y[..., nee]) > 0


def test_gpp_as_a_flux_into_the_ecosystem_by_half_hours() -> None:
    """Half of its records are nights about 0, of either sign: light decides, and RECO is right."""
    half = by_half_hour()
    noise = np.random.default_rng(0).normal(0, 0.2, len(half))
    half["GPP"] = 12 * half.SW_IN / 250 + noise
    plain, own = own_samples(half, ONE), own_samples(turned("GPP")(half), ONE)
    assert "GPP: sign turned" in said(own)
    assert "GPP: sign turned" not in said(plain)
    np.testing.assert_allclose(own.y, plain.y, atol=1e-5)
    assert np.nanmin(own.y[..., own.targets.index("RECO")]) > 0


def test_utc_taken_for_local_time_shows_in_the_radiation() -> None:
    """At 120 degrees east noon by UTC is at 4 h; at 10 degrees nothing is moved."""
    far = ONE.assign(lon=120.0)
    own, plain = own_samples(by_half_hour(offset=8), far), own_samples(by_half_hour(), far)
    assert "radiation is centred at 4.0 h: time stamps are UTC" in said(own)
    assert "UTC" not in said(plain)
    k = [own.features.index(name) for name in ("TA_min", "VPD_max", "SW_IN")]
    np.testing.assert_array_equal(own.x[..., k], plain.x[..., k])


def test_half_hours_that_cannot_be_are_left_out_and_said() -> None:
    """A spike costs its record, not the day; an infinity, absent records and -1 are counted."""
    half, plain = by_half_hour().assign(NEE_QC=0.0), own_samples(by_half_hour(), ONE)
    half.iloc[20, half.columns.get_loc("TA")] = 99.0
    half.iloc[100, half.columns.get_loc("SW_IN")] = np.inf
    half.iloc[200, half.columns.get_loc("NEE_QC")] = -1
    own = own_samples(half.drop(half.index[300]), ONE)
    assert "TA: 1 of 1919 records are outside -95 to 65, first 99 at 2003-01-01T10:00" in said(own)
    assert "SW_IN: 1 of 1919 records are outside -50 to 1600, first inf at" in said(own)
    assert "1 of 1920 records of 30 min are not in the table" in said(own)
    assert "NEE_QC: 1 times -1, taken for missing" in said(own)
    assert own.has_drivers.all()
    k = [own.features.index(name) for name in ("TA", "TA_max", "SW_IN")]
    assert np.abs(own.x[..., k] - plain.x[..., k]).max() < 3


def test_gpp_and_reco_swapped_by_half_hours() -> None:
    """The days' balance shows it, as RECO is no longer passed over."""
    half = by_half_hour()
    light = half.SW_IN / 250
    half = half.assign(GPP=12 * light + 0.1, RECO=half.NEE + 12 * light + 0.1)
    plain, own = own_samples(half, ONE), own_samples(swapped(half), ONE)
    assert "swapped" in said(own) or "sign turned" in said(own)
    assert "swapped" not in said(plain)
    np.testing.assert_allclose(own.y, plain.y, atol=1e-4)


def test_mixed_steps_and_missing_hours() -> None:
    """Half-hours and hours in one table are refused; days with a gap are counted."""
    half = by_half_hour()
    hours = half.iloc[::2].copy()
    with pytest.raises(DataError, match="mixed time steps: most records are 30 min apart, but not"):
        own_samples(
            pd.concat([half.iloc[:1200], half.iloc[[1203]], half.iloc[1204:]])
            .assign(TA=1.0)
            .set_axis(np.r_[half.index[:1200], half.index[1200:-3] + np.timedelta64(10, "m")]),
            ONE,
        )
    gone = half.drop(half.index[[*range(60, 65), *range(500, 505), *range(900, 905)]])
    own = own_samples(gone, ONE)
    assert "3 of 40 days are incomplete (47 of 48 records" in said(own)
    assert own.has_drivers.sum() == 37
    assert own_samples(hours, ONE).has_drivers.sum() == 40


def test_labels_that_gaps_and_flags_cost_are_counted() -> None:
    """One half-hour in seven is enough to lose all days; a poor flag to lose most."""
    half = by_half_hour()
    half.loc[half.index[::7], "NEE"] = -9999.0
    own = own_samples(half, ONE)
    assert not own.weight.any()
    assert "NEE: 40 of 40 days are lost to gaps (47 of 48 records); fill them first" in said(own)
    days = by_day().assign(NEE_QC=[1.0] * 5 + [0.2] * 195 + [1.0] * 200)
    days.loc[days.index[200:], "TA"] = np.nan
    own = own_samples(days, ONE)
    assert (own.weight > 0).sum() == 5
    why = "195 with NEE_QC below 0.5 or missing, 200 without TA, VPD or SW_IN"
    assert f"5 of 400 days with a flux count as labels ({why})" in said(own)
    assert "only 5 labelled days" in said(own)
    bad = own_samples(by_day().assign(NEE_QC=0.2), ONE)
    assert "0 of 400 days with a flux count as labels" in said(bad)
    assert "only 0 labelled days" in said(bad)
    gpp = own_samples(by_day().drop(columns=["NEE", "RECO"]), ONE)
    assert "labels of GPP alone are scored, not learnt from: add NEE" in said(gpp)
    assert not gpp.weight.any()


def test_without_a_grid_it_says_so_or_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> None:
        raise DataError("no grid here")

    monkeypatch.setattr("tamrl.data.fetch_grid", gone)
    with pytest.raises(DataError, match="no grid here"):
        own_samples(by_day(), **PLACE)
    own = own_samples(by_day(), **PLACE, need_grid=False)
    assert "going on without gridded drivers: no grid here" in said(own)
    assert own.places is None


def test_a_place_on_the_command_line(tmp_path: Path) -> None:
    """A place without a tower, its satellites beside it; what was found is on stderr."""
    by_day().drop(columns=["NEE", "GPP", "RECO"]).rename_axis("date").to_csv(tmp_path / "d.csv")
    pd.DataFrame({"date": ["2005-03-01", "2005-09-01"], "LAI": [1, 4]}).to_csv(tmp_path / "l.csv")
    place = ["--at", "50,10", "--igbp", "ENF", "--drivers", str(tmp_path / "d.csv")]
    out = ["-o", str(tmp_path / "o.nc"), "--device", "cpu"]
    call = CliRunner().invoke
    done = call(app, ["predict", *place, "--satellites", str(tmp_path / "l.csv"), *out])
    assert done.exit_code == 0, done.output
    assert "read LAI, 2 dates (l.csv)" in done.stderr
    assert np.isfinite(xr.load_dataset(tmp_path / "o.nc").NEE).sum() == 400
    for wrong in (["--at", "50", *place[2:]], place[:2], place[2:], []):
        assert call(app, ["predict", *wrong, *out]).exit_code == 2


def test_labels_without_a_flag_are_scored(tmp_path: Path) -> None:
    """Also where only one flux is measured."""
    table = by_day().rename_axis("date")
    table.drop(columns=["RECO", "NEE"]).to_csv(tmp_path / "mine.csv")
    ONE.to_csv(tmp_path / "facts.csv", index=False)
    seen = open_towers(tmp_path / "mine.csv", tmp_path / "facts.csv")
    scores = score(seen[["GPP"]] + 1, tmp_path / "mine.csv", tmp_path / "facts.csv")
    assert scores.iloc[0][["flux", "days", "bias"]].tolist() == ["GPP", 400, pytest.approx(1)]
    assert any("without a quality flag all count" in line for line in scores.attrs["inputs"])


def test_notes_of_vocabulary_are_true() -> None:
    """Each alias leads to its name, in a unit that is known; steps are those that are read."""
    for row in VOCABULARY:
        assert row.unit
        assert row.used_by
        if row.steps == "site":
            continue
        found = recognise([row.alias])
        assert found[row.name].column == row.alias
        minutes = {"h": 60, "d": 1440}.get(row.steps[0], 30)
        values = convert(np.array([1.0, 0.5]), found[row.name], minutes, "file", [])
        assert np.isfinite(values).all()


def test_the_vocabulary_is_listed_whole_with_its_units() -> None:
    """A row an alias; what a reader is told is the unit that a column without one is taken in."""
    table = listed().reset_index()
    assert [*table.alias] == [row.alias for row in VOCABULARY]
    for row in table[table["time steps"] != "site"].itertuples():
        assert recognise([row.alias])[row.name].unit in (row.unit, "flux")
    assert table.set_index("alias").loc["t2m", ["name", "our unit", "unit"]].tolist() == [
        "TA", "degC", "K",
    ]  # fmt: skip
