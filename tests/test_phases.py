"""MCD12Q2 as users get it: the daily index is that of training, whatever was done to the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.data import cache, phenology
from tamrl.data.own.satellites import read_satellites
from tamrl.data.schema import tower_facts
from tamrl.errors import DataError

LAYERS = dict(zip(phenology.PHASES, (
    "Greenup", "MidGreenup", "Maturity", "Peak", "Senescence", "MidGreendown", "Dormancy"
), strict=True)) | {"minimum": "EVI_Minimum", "amplitude": "EVI_Amplitude"}  # fmt: skip
AWAY = {"Greenup": -80, "MidGreenup": -50, "Maturity": -20, "Peak": 0, "Senescence": 30,
        "MidGreendown": 60, "Dormancy": 90}  # fmt: skip
YEARS = range(2003, 2009)
PEAK = {y: int(np.datetime64(f"{y}-07-{10 + y % 7}").astype(int)) for y in YEARS}
ONE = xr.Dataset(coords={"site": ["AA-Aaa"], "lat": ("site", [50.0]), "lon": ("site", [8.0])})


def appeears(version: str = "061") -> pd.DataFrame:
    """Make a point sample as AppEEARS writes it: one cycle a year, a second one in 2005 only."""
    table = pd.DataFrame({
        "ID": "AA-Aaa", "Latitude": 50.0, "Longitude": 8.0, "Date": [f"{y}-01-01" for y in YEARS],
    })  # fmt: skip
    at = f"MCD12Q2_{version}_"
    second = np.array([y == 2005 for y in YEARS])
    for name, away in AWAY.items():
        table[f"{at}{name}_0"] = [PEAK[y] + away for y in YEARS]
        table[f"{at}{name}_1"] = np.where(second, PEAK[2005] + 120 + away // 4, 32767)
    table[f"{at}EVI_Minimum_0"], table[f"{at}EVI_Amplitude_0"] = 0.1812, 0.4021
    table[f"{at}EVI_Minimum_1"] = np.where(second, 0.2, 3.2767)
    table[f"{at}EVI_Amplitude_1"] = np.where(second, 0.1, 3.2767)
    table[f"{at}QA_Overall_0"], table[f"{at}QA_Overall_1"] = 0, np.where(second, 3, 32767)
    return table.assign(**{f"{at}NumCycles": 1 + second, f"{at}QA_Overall_0_bitmask": "0b0"})


def read(table: pd.DataFrame, path: Path) -> tuple[pd.Series, list[str]]:
    table.to_csv(path, index=False)
    notes: dict[str, list[str]] = {"": []}
    seen = read_satellites(path, ONE, notes).evi
    assert seen is not None
    return seen.sel(site="AA-Aaa").to_series(), [line for said in notes.values() for line in said]


def test_a_tower_of_training_has_its_own_index(need: Callable[[str], None], tmp_path: Path) -> None:
    """The published cycles of two towers, written as AppEEARS would: not a day differs."""
    need(phenology.FILE)
    import rdata

    (path,) = cache.fetch([phenology.FILE], "phenology")
    table, facts = rdata.read_rds(path).set_index("site_name"), tower_facts()
    train = phenology.fetch_phenology()
    sites = ["AU-Tum", "US-Ne2"]
    files = {"gup": "gup", "minimum": "EVImin", "amplitude": "EVIamp"}
    for site in sites:
        own = table.loc[site]
        columns = {"Date": [f"{y}-01-01" for y in own["year"].astype(int)], "ID": site}
        columns |= {"Latitude": facts.lat[site], "Longitude": facts.lon[site]}
        for name, layer in LAYERS.items():
            for k in (0, 1):
                values = pd.to_numeric(own[f"m_{files.get(name, name)}_{k + 1}"]).astype(float)
                columns[f"MCD12Q2_006_{layer}_{k}"] = values.fillna(32767).to_numpy()
        pd.DataFrame(columns).to_csv(tmp_path / f"{site}.csv", index=False)
    towers = xr.Dataset(coords={"site": sites, "lat": ("site", facts.lat[sites]),
                                "lon": ("site", facts.lon[sites])})  # fmt: skip
    seen = read_satellites([tmp_path / f"{site}.csv" for site in sites], towers, {"": []}).evi
    assert seen is not None
    known = train.sel(site=sites)
    assert np.isfinite(known).sum() > 2000
    np.testing.assert_array_equal(seen.reindex_like(known), known)


def test_appeears_and_ornl_are_the_same_cycles(tmp_path: Path) -> None:
    """Integers under the names of the subset service, with scale factors, a file of a layer."""
    table = appeears()
    evi, lines = read(table, tmp_path / "a.csv")
    top = pd.Timestamp(f"2004-07-{10 + 2004 % 7}")
    assert evi[top] == pytest.approx(0.1812 + 0.4021)
    assert evi[top - pd.Timedelta(days=50)] == pytest.approx(0.1812 + 0.4021 / 2)
    assert evi["2005-11"].max() == pytest.approx(0.3)  # the second cycle
    assert "EVI: MCD12Q2, 7 growing cycles of 2003 to 2008, 1 poor by QA_Overall" in "".join(lines)
    assert "not used: NumCycles of MCD12Q2" in lines
    files = []
    for name in (*LAYERS.values(), "QA_Overall"):
        scale = 1e-4 if name.startswith("EVI") else 1.0
        for k in (0, 1):
            raw = (table[f"MCD12Q2_061_{name}_{k}"] / scale).round().astype(int)
            band = f"{name}.Num_Modes_0{k + 1}"
            rows = {"modis_date": "A", "calendar_date": table["Date"], "band": band, "value": raw}
            rows |= {"scale": scale, "site": "mine", "product": "MCD12Q2", "latitude": 50.0}
            files.append(tmp_path / f"{band}.csv")
            pd.DataFrame(rows | {"longitude": 8.0, "pixel": 1}).to_csv(files[-1], index=False)
    same = read_satellites(files, ONE, {"": []}).evi
    assert same is not None
    np.testing.assert_allclose(same.sel(site="AA-Aaa"), evi, rtol=1e-6)


@pytest.mark.parametrize(
    ("factor", "said"), [(1e4, "applied to"), (1e-4, "had been applied twice")]
)
@pytest.mark.parametrize("name", ["EVI_Minimum", "EVI_Amplitude"])
def test_a_scale_not_applied_or_twice(name: str, factor: float, said: str, tmp_path: Path) -> None:
    table, ours = appeears(), name.split("_")[1].lower()
    evi, _ = read(table, tmp_path / "a.csv")
    columns = [f"MCD12Q2_061_{name}_{k}" for k in (0, 1)]
    table[columns] = table[columns].where(table[columns] == 3.2767, table[columns] * factor)
    same, lines = read(table, tmp_path / "b.csv")
    np.testing.assert_allclose(same, evi, rtol=1e-6)
    assert any(f"scale factor 0.0001 {said}" in line and ours in line for line in lines)


def test_cycles_that_do_not_count_are_said(tmp_path: Path) -> None:
    """As in training a cycle needs its dates in order, its minimum and its amplitude."""
    table = appeears().drop(columns=["MCD12Q2_061_QA_Overall_0", "MCD12Q2_061_QA_Overall_1"])
    table.loc[1, "MCD12Q2_061_Maturity_0"] += 100
    table.loc[4, "MCD12Q2_061_EVI_Minimum_0"] = 3.2767
    evi, lines = read(table, tmp_path / "a.csv")
    assert evi["2004-07"].isna().all()
    said = next(line for line in lines if line.startswith("EVI: MCD12Q2"))
    assert said.startswith("EVI: MCD12Q2, 5 growing cycles of 2003 to 2008, 1 without all their")
    assert "1 with dates out of order" in said
    assert "no QA_Overall in the file" in said


def test_another_index_stands_back(tmp_path: Path) -> None:
    """Composites have another level than the cycles that models learnt from."""
    days = pd.date_range("2003-01-01", "2008-12-31", freq="16D").strftime("%Y-%m-%d")
    other = pd.DataFrame({"ID": "AA-Aaa", "Date": days, "MOD13Q1_061__250m_16_days_EVI": 0.9})
    other.to_csv(tmp_path / "b.csv", index=False)
    evi, _ = read(appeears(), tmp_path / "a.csv")
    notes: dict[str, list[str]] = {"": []}
    both = read_satellites([tmp_path / "a.csv", tmp_path / "b.csv"], ONE, notes).evi
    assert both is not None
    np.testing.assert_array_equal(both.sel(site="AA-Aaa"), evi)
    assert f"EVI: {len(days)} other dates not used, as MCD12Q2" in "\n".join(notes["AA-Aaa"])


def test_versions_that_meet_are_said_and_that_differ_refused(tmp_path: Path) -> None:
    old, new = appeears("006")[:3], appeears()[3:]
    old.to_csv(tmp_path / "b.csv", index=False)
    new.to_csv(tmp_path / "a.csv", index=False)
    notes: dict[str, list[str]] = {"": []}
    files = tmp_path / "a.csv", tmp_path / "b.csv"
    read_satellites(files, ONE, notes)
    assert "MCD12Q2 of versions 006 and 061, whose levels may differ" in "".join(notes["AA-Aaa"])
    appeears("006").assign(MCD12Q2_006_Peak_0=PEAK[2003]).to_csv(files[1], index=False)
    with pytest.raises(DataError, match="Peak_0 has two values in 2006 of versions 006 and 061"):
        read_satellites(files, ONE, {"": []})
