"""A user's own towers: formats, metadata, and one clear error for each way to be wrong."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from halfhours import Tower, daily_csv, facts, write_store

from tamrl.data import open_towers, schema
from tamrl.data.schema import UMOL_TO_GC
from tamrl.errors import DataError

NAME = "FLX_AA-Aaa_FLUXNET2015_SUBSET_DD_2005-2006_1-3.csv"
TABLE = pd.DataFrame({"site": ["AA-Aaa"], "lat": [50.0], "lon": [10.0], "igbp": ["ENF"]})
ONE = {"AA-Aaa": Tower()}
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


def save(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False, na_rep="-9999")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a store of one tower, AA-Aaa."""
    return write_store(tmp_path / "own.zarr", ONE)


def hourly_csv(tower: Tower, stamp: str = "TIMESTAMP_START") -> pd.DataFrame:
    """Write one tower's records as an HH or HR file has them."""
    shift = np.timedelta64(tower.minutes if stamp == "TIMESTAMP_END" else 0, "m")
    stamps = pd.DatetimeIndex((tower.start + shift).astype("datetime64[ns]"))
    names = {"TA_F": "ta", "VPD_F": "vpd", "SW_IN_F": "sw_in", "NEE_VUT_REF": "nee"}
    names |= {"GPP_NT_VUT_REF": "gpp_nt", "NEE_VUT_REF_QC": "nee_qc"}
    columns = {column: tower.values[name] for column, name in names.items()}
    columns["RECO_NT_VUT_REF"] = tower.values["nee"] + tower.values["gpp_nt"]
    return pd.DataFrame({stamp: stamps.strftime("%Y%m%d%H%M")} | columns | {"P_F": 0.1})


def test_daily_csv(tmp_path: Path) -> None:
    table = daily_csv()
    table.loc[3, ["NEE_VUT_REF", "GPP_NT_VUT_REF"]] = np.nan
    ds = open_towers(save(table, tmp_path / NAME), TABLE)
    assert ds.attrs["tower_source"] == "user"
    assert ds.attrs["virtual"] == 0
    one = ds.sel(site="AA-Aaa")
    np.testing.assert_allclose(one["GPP"], table["GPP_NT_VUT_REF"], atol=1e-5)  # gC already
    np.testing.assert_allclose(one["RECO"] - one["GPP"] - one["NEE"], one["NEE"] * 0, atol=1e-5)
    np.testing.assert_allclose(one["P"], table["P_F"], rtol=1e-5)
    assert np.isnan(one["NEE"][3])
    assert one["TA"].count() == 400
    assert one["TA_min"].count() == 0  # not in a daily file: a missing input, not an invented one
    assert ds["TA"].attrs["units"] == "degC"


def test_a_vegetation_index_may_be_added(tmp_path: Path) -> None:
    """It is read where it is, checked like any driver, and is no variable where it is not."""
    table = daily_csv()
    assert "EVI" not in open_towers(save(table, tmp_path / NAME), TABLE)
    table["EVI"] = np.linspace(0.2, 0.6, len(table))
    ds = open_towers(save(table, tmp_path / NAME), TABLE)
    np.testing.assert_allclose(ds["EVI"][0], table["EVI"], rtol=1e-5)
    whole = table.assign(EVI=(table["EVI"] * 10_000).round())
    raw = open_towers(save(whole, tmp_path / NAME), TABLE)
    np.testing.assert_allclose(raw["EVI"][0], table["EVI"], atol=1e-4)  # integers of MODIS files
    with pytest.raises(DataError, match="EVI"):
        open_towers(save(table.assign(EVI=table["EVI"] * 300), tmp_path / NAME), TABLE)


@pytest.mark.parametrize("stamp", ["TIMESTAMP_START", "TIMESTAMP_END"])
@pytest.mark.parametrize(("minutes", "tag"), [(30, "HH"), (60, "HR")])
def test_csv_and_store_mean_the_same(tmp_path: Path, stamp: str, minutes: int, tag: str) -> None:
    tower = Tower(days=8, minutes=minutes, offset=-5)
    csv = save(hourly_csv(tower, stamp), tmp_path / f"AMF_AA-Aaa_FLUXNET_FULLSET_{tag}_2003.csv")
    a = open_towers(csv, TABLE)
    store = write_store(tmp_path / "own.zarr", {"AA-Aaa": tower})
    b = open_towers(store, facts({"AA-Aaa": tower}))
    assert float(a["P"].mean()) == pytest.approx(0.1 * 1440 / minutes, rel=1e-5)
    for name in b:
        np.testing.assert_allclose(a[name], b[name], atol=0.02, err_msg=name)
    truth = tower.values["nee"].reshape(8, -1).mean(axis=1) * UMOL_TO_GC
    np.testing.assert_allclose(a["NEE"][0], truth, atol=1e-5)


def test_drivers_alone_suffice(tmp_path: Path) -> None:
    table = daily_csv()[["TIMESTAMP", "TA_F", "VPD_F", "SW_IN_F"]]
    ds = open_towers(save(table, tmp_path / NAME), TABLE)
    assert ds.count()[["TA", "GPP", "NEE_QC"]].to_array().values.tolist() == [400, 0, 0]


@pytest.mark.parametrize("lost", ["NEE_VUT_REF", "GPP_NT_VUT_REF", "RECO_NT_VUT_REF"])
@pytest.mark.parametrize("table", [daily_csv(), hourly_csv(Tower(days=8))])
def test_two_fluxes_give_the_third(tmp_path: Path, table: pd.DataFrame, lost: str) -> None:
    """Also in half-hours, from which any two of them make the same days as all three."""
    name, path = lost.partition("_")[0], tmp_path / NAME
    whole = open_towers(save(table, path), TABLE)[name]
    ds = open_towers(save(table.drop(columns=lost), path), TABLE)
    np.testing.assert_allclose(ds[name], whole, atol=1e-5)


@pytest.mark.parametrize("table", [daily_csv(), hourly_csv(Tower(days=8))])
@pytest.mark.parametrize(("old", "new", "said"), [
    ("VUT", "CUT", "NEE: one u* threshold for all years (NEE_CUT_REF)"),
    ("_NT_", "_DT_", "GPP: daytime partitioning (GPP_DT_VUT_REF), as the usual"),
])  # fmt: skip
def test_other_versions_of_fluxes_stand_in(tmp_path: Path, table, old: str, new: str, said) -> None:
    """Only where the usual ones are absent; then RECO = NEE + GPP, whatever the model's NEE was."""
    path = tmp_path / NAME
    usual = open_towers(save(table, path), TABLE)
    other = table.rename(columns=lambda c: c.replace(old, new))
    if new == "_DT_":
        other["RECO_DT_VUT_REF"] += 3
    ds = open_towers(save(other, path), TABLE)
    np.testing.assert_allclose(ds["GPP"], usual["GPP"], atol=1e-5)
    np.testing.assert_allclose(ds["RECO"], usual["RECO"], atol=1e-5)
    np.testing.assert_allclose(ds["NEE_QC"], usual["NEE_QC"])
    assert said in ds.attrs["inputs"]
    both = other.assign(**{c: table[c] for c in table}).assign(
        GPP_DT_VUT_REF=99.0, NEE_CUT_REF=99.0
    )
    ds = open_towers(save(both, path), TABLE)
    np.testing.assert_allclose(ds["GPP"], usual["GPP"], atol=1e-5)
    assert "usual columns" not in ds.attrs["inputs"]


@pytest.mark.parametrize("form", ["calendar", "R"])
def test_reddyproc(tmp_path: Path, form: str) -> None:
    """Records end at the stamp; a line of units below the heads; midnight by R has no hour."""
    tower = Tower(days=8)
    ends = pd.DatetimeIndex((tower.start + np.timedelta64(30, "m")).astype("datetime64[ns]"))
    v = tower.values
    table = pd.DataFrame({
        "Tair": v["ta"], "Rg": v["sw_in"], "VPD": v["vpd"], "NEE": np.nan, "NEE_uStar_f": v["nee"],
        "NEE_uStar_fqc": v["nee_qc"], "GPP_uStar_f": v["gpp_nt"],
        "Reco_uStar": v["nee"] + v["gpp_nt"] + 0.5,
    })  # fmt: skip
    path = tmp_path / "export.txt"
    if form == "R":
        stamps = [f"{t:%Y-%m-%d %H:%M:%S}".replace(" 00:00:00", "") for t in ends]
        table.insert(0, "DateTime", stamps)
        table.to_csv(path, na_rep="NA", quoting=2)
    else:
        hour = ends.hour + ends.minute / 60
        for k, (name, values) in enumerate(
            {"Year": ends.year, "DoY": ends.day_of_year, "Hour": hour}.items()
        ):
            table.insert(k, name, values)
        head, rest = table.to_csv(index=False, na_rep="-9999", sep="\t").split("\n", 1)
        units = "-\t-\t-\tdegC\tWm-2\thPa" + 2 * "\tumolm-2s-1" + "\t-" + 2 * "\tumolm-2s-1"
        path.write_text(f"{head}\n{units}\n{rest}")
    ds = open_towers(path, TABLE)
    plain = save(hourly_csv(tower).drop(columns="P_F"), tmp_path / "FLX_AA-Aaa_HH.csv")
    expected = open_towers(plain, TABLE)
    for name in ("TA", "TA_max", "SW_IN", "NEE", "GPP", "RECO", "NEE_QC"):
        np.testing.assert_allclose(ds[name], expected[name], atol=1e-4, err_msg=name)
    assert "time stamps taken for the end of each record" in ds.attrs["inputs"]


@pytest.mark.parametrize("table", [daily_csv(), hourly_csv(Tower())])
def test_labels_without_a_flag_all_count(tmp_path: Path, table: pd.DataFrame) -> None:
    ds = open_towers(save(table.drop(columns="NEE_VUT_REF_QC"), tmp_path / NAME), TABLE)
    assert ds["NEE_QC"].sum() == ds["NEE"].count() > 0


def test_folder_prefers_half_hours_and_leaves_other_products(tmp_path: Path) -> None:
    save(hourly_csv(Tower(days=8)), tmp_path / "ICOSETC_AA-Aaa_FLUXNET_HH_L2.csv")
    for name in ("ICOSETC_AA-Aaa_FLUXNET_DD_L2", "ICOSETC_AA-Aaa_FLUXNET_MM_L2", "FLX_BB-Bbb_DD_x"):
        save(daily_csv(), tmp_path / f"{name}.csv")
    save(pd.concat([TABLE, TABLE.assign(site="BB-Bbb")]), tmp_path / "towers.csv")
    ds = open_towers(tmp_path)
    assert ds.site.values.tolist() == ["AA-Aaa", "BB-Bbb"]
    assert ds["TA_min"].count("time").values.tolist() == [8, 0]
    assert "ICOSETC_AA-Aaa_FLUXNET_DD_L2.csv not used" in ds.attrs["history"]


def test_known_towers_need_no_table(tmp_path: Path) -> None:
    ds = open_towers(save(daily_csv(), tmp_path / "FLX_FI-Hyy_FLUXNET2015_SUBSET_DD_x.csv"))
    assert ds.igbp.values.tolist() == ["ENF"]
    assert float(ds.lat[0]) == pytest.approx(61.85, abs=0.01)
    assert ds.koppen_main.values.tolist() == ["Cold"]


def test_a_single_file_may_have_any_name_with_a_table_of_one_row(tmp_path: Path) -> None:
    """As in the README; two towers in the table leave open which one it is."""
    path = save(daily_csv(), tmp_path / "my-tower.csv")
    assert open_towers(path, TABLE).site.values.tolist() == ["AA-Aaa"]
    for table in (pd.concat([TABLE, TABLE.assign(site="BB-Bbb")]), None):
        with pytest.raises(DataError, match=r"no tower code such as US-Ha1.*a table of one row"):
            open_towers(path, table)


def test_store_with_towers_csv_beside(tmp_path: Path) -> None:
    many = {"AA-Aaa": Tower(offset=9.5), "BB-Bbb": Tower(days=3, minutes=60)}
    write_store(tmp_path / "own.zarr", many)
    facts(many, koppen="Dfb", elevation_m=[100, np.nan]).to_csv(tmp_path / "towers.csv")
    ds = open_towers(str(tmp_path / "own.zarr"))
    assert ds.site.values.tolist() == ["AA-Aaa", "BB-Bbb"]
    assert ds.koppen_main.values.tolist() == ["Cold", "Cold"]
    assert ds.utc_offset.values.tolist() == [9.5, 0]
    assert np.isnan(ds.elevation.values[1])
    assert ds["NEE"].count("time").values.tolist() == [5, 3]


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_store_of_another_make(own: Path, tmp_path: Path) -> None:
    """Zarr 3, plain floats, no flags: what a user's own script is likely to write."""
    ds = xr.open_zarr(own, consolidated=False).drop_vars("nee_qc").astype("float32")
    ds.drop_encoding().to_zarr(tmp_path / "v3.zarr", zarr_format=3, consolidated=False)
    packed, plain = (open_towers(path, facts(ONE)) for path in (own, tmp_path / "v3.zarr"))
    np.testing.assert_allclose(packed["TA_max"], plain["TA_max"], atol=1e-4)
    assert plain["NEE_QC"].sum() == plain["NEE"].count() > 0


def test_places_without_data_in_a_store_are_not_there(tmp_path: Path) -> None:
    empty = Tower(values=dict.fromkeys(Tower().values, np.full(240, np.nan)))
    many = {"AA-Aaa": Tower(), "FI-Hyy": Tower(), "US-Ha1": empty}
    path = write_store(tmp_path / "own.zarr", many)
    with pytest.warns(UserWarning, match="AA-Aaa is not in the known towers"):
        assert open_towers(path).site.values.tolist() == ["FI-Hyy"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a table without the empty place: nothing to report
        open_towers(path, facts({k: many[k] for k in ("AA-Aaa", "FI-Hyy")}))


def test_a_sealed_code_is_admitted_among_a_users_own_towers(tmp_path: Path) -> None:
    tower = {sorted(schema.SEALED)[0]: Tower()}
    ds = open_towers(write_store(tmp_path / "own.zarr", tower), facts(tower))
    assert ds.site.values.tolist() == [*tower]


def test_broken_years_of_a_user_are_left_out(tmp_path: Path) -> None:
    table = daily_csv(365).drop(columns="RECO_NT_VUT_REF").assign(GPP_NT_VUT_REF=-3.0)
    ds = open_towers(save(table, tmp_path / NAME), TABLE)
    assert ds.attrs["excluded"] == "1 site-years: AA-Aaa 2005 (constant GPP)"
    assert ds["NEE"].count() == 0
    assert ds["TA"].count() == 365
    assert (
        "AA-Aaa: 365 labelled days of 2005 are left out as broken: constant GPP"
        in (ds.attrs["inputs"])
    )


@pytest.mark.parametrize(("factor", "unit", "said"), [
    (1e-3, "kgC m-2 d-1", "as if it were in kg"),
    (44.009 / 12.011 * 1e-3, "kgCO2 m-2 d-1", "as if it were in kg"),
    (44.009 / 12.011, "gCO2 m-2 d-1", "is it CO2, not carbon"),
    (44.009 / 12.011 / 86.4, "mgCO2 m-2 s-1", "is it mg of CO2 a second"),
])  # fmt: skip
def test_the_unit_of_fluxes_shows_in_their_size(
    tmp_path: Path, factor: float, unit: str, said: str
) -> None:
    """Refused in kg, doubted in CO2, converted where the unit is stated."""
    path, plain = tmp_path / NAME, daily_csv()
    right = open_towers(save(plain, path), TABLE)
    assert "reaches" not in right.attrs["inputs"]
    table = plain.assign(**{name: plain[name] * factor for name in ALL_FLUXES})
    save(table, path)
    if "kg" in unit:
        with pytest.raises(DataError, match=rf"GPP reaches 0\.0.*{said}; state the unit"):
            open_towers(path, TABLE)
    else:
        assert said in open_towers(path, TABLE).attrs["inputs"]
    save(table.rename(columns={name: f"{name} ({unit})" for name in ALL_FLUXES}), path)
    stated = open_towers(path, TABLE)
    np.testing.assert_allclose(stated["GPP"], right["GPP"], rtol=1e-3)
    assert "reaches" not in stated.attrs["inputs"]


def test_few_days_of_little_flux_are_said_not_refused(tmp_path: Path) -> None:
    """Winters of the far north stay below 0.1 gC, too."""
    table = daily_csv(90)
    table = table.assign(**{name: table[name] / 1000 for name in ALL_FLUXES})
    ds = open_towers(save(table, tmp_path / NAME), TABLE)
    assert "as if it were in kg; if so, state the unit" in ds.attrs["inputs"]


def double(t: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([t.iloc[:10], t.iloc[9:].assign(TA_F=t["TA_F"] + 0.1)])


def lose(column: str) -> Spoil:
    return lambda t: t.drop(columns=column)


def change(column: str, how: Callable[[pd.Series], object]) -> Callable[..., pd.DataFrame]:
    return lambda t: t.assign(**{column: how(t[column])})


ALL_FLUXES = ("NEE_VUT_REF", "GPP_NT_VUT_REF", "RECO_NT_VUT_REF")


@pytest.mark.parametrize(("spoil", "said"), [
    (lose("TA_F"), "column TA_F is missing"),
    (lose("TIMESTAMP"), r"column TIMESTAMP \(or TIMESTAMP_START\) is missing"),
    (double, "time 2005-01-10 occurs twice"),
    (lambda t: t.iloc[[0, 1, 3, 2, *range(4, 400)]], "time goes back at 2005-01-03"),
    (change("TIMESTAMP", lambda x: x.str[:6]), "TIMESTAMP is '200501' in line 2"),
    (change("TA_F", lambda x: x + 273.15 * (x > 12)), "TA is 2[89].*outside -90 to 60 degC"),
    (change("VPD_F", lambda x: x * 100), "VPD is .*outside -1 to 120 hPa"),
    (change("VPD_F", lambda x: x / 10), "VPD never exceeds .* looks like kPa"),
    (change("SW_IN_F", lambda x: x * 0.0864), "SW_IN never exceeds .* looks like MJ"),
    (change("SW_IN_F", lambda x: x * 10), "SW_IN is .*outside -30 to 550 W m-2"),
    (change("NEE_VUT_REF", lambda x: 3 - x), r"NEE_VUT_REF is not RECO - GPP \(mean gap"),
    (change("NEE_VUT_REF_QC", lambda x: x * 101), "NEE_QC is 101, outside 0 to 1"),
    (change("NEE_VUT_REF_QC", lambda x: x * 0 - 6999), "NEE_QC is -6999, a code for missing"),
    (change("TA_F", lambda x: ["x", *x[1:]]), "TA_F is 'x' in line 2; a number"),
    (change("TA_F", lambda x: x * np.nan), "AA-Aaa has no valid day"),
    (lambda t: t.assign(**{c: t[c] * 80 for c in ALL_FLUXES}), "NEE is .*outside -100 to 100"),
    (lambda t: t.iloc[:0], "no records"),
])  # fmt: skip
def test_bad_daily_file(tmp_path: Path, spoil: Spoil, said: str) -> None:
    path = save(spoil(daily_csv()), tmp_path / NAME)
    with pytest.raises(DataError, match=rf"^{path}.*{said}[^\n]*$"):
        open_towers(path, TABLE)


def test_mean_gpp_of_400(tmp_path: Path) -> None:
    """A flux that is within bounds day by day, but cannot be the mean of a tower."""
    for gpp, why in ((60.0, "mean GPP of 60, outside -5 to 40 gC"), (400.0, "GPP is 400, outside")):
        table = daily_csv(GPP_NT_VUT_REF=gpp, RECO_NT_VUT_REF=gpp + 3, NEE_VUT_REF=3.0)
        with pytest.raises(DataError, match=why):
            open_towers(save(table, tmp_path / NAME), TABLE)


@pytest.mark.parametrize(("change", "said"), [
    ({"lat": 123.0}, "latitude 123 is outside -90 to 90"),
    ({"lat": np.nan}, "latitude nan is outside"),
    ({"lon": 400.0}, "longitude 400 is outside"),
    ({"igbp": "XYZ"}, "unknown IGBP class 'XYZ'; use one of"),
    ({"site": "ZZ-Zzz"}, "tower AA-Aaa is not in table; add a row"),
])  # fmt: skip
def test_bad_table(own: Path, tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = save(daily_csv(), tmp_path / NAME)
    for data, table in ((path, TABLE), (own, facts(ONE).reset_index())):
        with pytest.raises(DataError, match=said):
            open_towers(data, table.assign(**change))


@pytest.mark.parametrize("column", ["site", "lat", "igbp", "utc_offset_h"])
def test_table_without_a_column(own: Path, column: str) -> None:
    save(facts(ONE).reset_index().drop(columns=column), own.with_suffix(".csv"))
    with pytest.raises(DataError, match=rf"own\.csv: column {column} is missing; have"):
        open_towers(own)


def test_table_with_a_tower_twice(own: Path) -> None:
    with pytest.raises(DataError, match="AA-Aaa is listed twice"):
        open_towers(own, pd.concat([facts(ONE), facts(ONE)]))


def test_code_of_missing_left_in_a_store(tmp_path: Path) -> None:
    nee = np.full(240, 1.0)
    nee[7] = -9999
    tower, plain = Tower(values={"nee": nee}), {"dtype": "float32", "_FillValue": np.nan}
    path = write_store(tmp_path / "own.zarr", {"AA-Aaa": tower}, nee=plain)
    with pytest.raises(DataError, match="tower AA-Aaa: NEE holds -9999; replace it by NaN"):
        open_towers(path, facts(ONE))


def test_store_without_a_driver(own: Path) -> None:
    shutil.rmtree(own / "vpd")
    with pytest.raises(DataError, match=r"own\.zarr: variable vpd \(site, time\) is missing"):
        open_towers(own, facts(ONE))


def test_not_a_store_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.zarr").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / NAME).write_bytes(b"\x89HDF\xff\xfe" * 99)
    for path, why in (
        (tmp_path / "own.zarr", r"own\.zarr: not a readable Zarr store"),
        (tmp_path / "nowhere.csv", r"nowhere\.csv: no such file"),
        (tmp_path / "empty", "no daily or half-hourly ONEFlux csv"),
        ([], "the list of files is empty"),
        (tmp_path / NAME, "not a readable csv file"),
    ):
        with pytest.raises(DataError, match=why):
            open_towers(path, TABLE.assign(utc_offset_h=0))


def test_the_rest_of_a_batch_is_not_lost(tmp_path: Path) -> None:
    good = daily_csv()
    tables = {"AA-Aaa": good, "BB-Bbb": good.drop(columns="VPD_F"), "CC-Ccc": double(good)}
    tables["DD-Ddd"] = good
    for code, content in tables.items():
        save(content, tmp_path / NAME.replace("AA-Aaa", code))
    table = pd.concat(TABLE.assign(site=code) for code in tables)
    table.loc[table["site"] == "DD-Ddd", "lat"] = 123
    with pytest.warns(UserWarning, match="left out 3 of 4 towers"):
        ds = open_towers(tmp_path, table)
    assert ds.site.values.tolist() == ["AA-Aaa"]
    for named in ("3 towers", "VPD_F is missing", "2005-01-10 occurs twice", "latitude 123"):
        assert named in ds.attrs["excluded"]
    (tmp_path / NAME).unlink()
    with pytest.raises(DataError, match="none of 3 towers can be used"):
        open_towers(sorted(tmp_path.iterdir()), table)


def test_the_official_daily_file_of_us_ar1(real_towers: xr.Dataset) -> None:
    """Our half-hours to days against FLUXNET's own: unit, local day, closure."""
    path = os.environ.get("TAMRL_USAR1_CSV")
    if not path:
        pytest.skip("TAMRL_USAR1_CSV does not name the official daily csv file of US-AR1")
    official = open_towers(path).sel(site="US-AR1")
    recomputed = real_towers.sel(site="US-AR1", time=official.time)
    # Weather agrees to the last stored digit only if every record falls into its own local day.
    for name, tolerance in (("TA", 0.002), ("VPD", 0.002), ("SW_IN", 0.01)):
        assert float(abs(recomputed[name] - official[name]).max()) < tolerance
    # The daily REF version is chosen anew among the ustar versions: fluxes agree, not to the digit.
    for name in ("NEE", "GPP", "RECO"):
        assert float(xr.corr(recomputed[name], official[name])) > 0.997
        assert abs(float((recomputed[name] - official[name]).mean())) < 0.02
    ratio = (recomputed["NEE"] / official["NEE"]).where(abs(official["NEE"]) > 1)
    assert float(ratio.median()) == pytest.approx(1, abs=1e-3)  # a factor of 12 or 44 would show
    table = pd.read_csv(path)
    gap = table["RECO_NT_VUT_REF"] - table["GPP_NT_VUT_REF"] - table["NEE_VUT_REF"]
    assert gap.abs().max() < 1e-3
