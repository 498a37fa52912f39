"""Half-hours to local days: known truth in small stores, published figures in the real one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from halfhours import START, Tower, facts, write_store
from hypothesis import given, settings
from hypothesis import strategies as st

from tamrl.data import daily, schema, store, towers
from tamrl.data.physics import potential_radiation
from tamrl.data.schema import FLUXES, SEALED, UMOL_TO_GC
from tamrl.errors import DataError

STEP = 0.003  # largest packing error of the test stores' fluxes and weather, in their units
Read = Callable[[Tower], dict[str, np.ndarray]]


@pytest.fixture
def read_one(tmp_path: Path) -> Read:
    """Give a function that stores a tower, reads it as days, and checks which days they are."""

    def read(tower: Tower) -> dict[str, np.ndarray]:
        path = write_store(tmp_path / "s.zarr", {"AA-Aaa": tower})
        towers, left_out = store.read_store(path, facts({"AA-Aaa": tower}))
        assert not left_out
        np.testing.assert_array_equal(towers["AA-Aaa"].days, START + np.arange(tower.days))
        return towers["AA-Aaa"].data

    return read


@pytest.mark.parametrize("offset", [-9.0, 0.0, 1.0, 9.5, 11.0])
@pytest.mark.parametrize("minutes", [30, 60])
def test_a_local_day_is_a_local_day(read_one: Read, offset: float, minutes: int) -> None:
    """What happens between two local midnights belongs to that day, to its last record."""
    assert pytest.approx(1.0377, abs=1e-4) == UMOL_TO_GC
    nee = np.repeat([0.0, 0.0, 1.0, 0.0, 0.0], 1440 // minutes)
    data = read_one(Tower(minutes=minutes, offset=offset, values={"nee": nee}))
    np.testing.assert_allclose(data["NEE"], [0, 0, UMOL_TO_GC, 0, 0], atol=STEP)


@pytest.mark.parametrize("minutes", [30, 60])
@pytest.mark.parametrize(("lost", "full"), [(1, True), (2, False)])
def test_a_full_day_misses_one_at_most(read_one: Read, minutes: int, lost: int, full: bool) -> None:
    tower, n = Tower(minutes=minutes), 1440 // minutes
    tower.values["nee"][n + 3 : n + 3 + lost] = np.nan
    data = read_one(tower)
    for name in ("NEE", "RECO"):
        assert np.isfinite(data[name]).tolist() == [True, full, True, True, True]
    assert np.isfinite([data["TA"], data["GPP"]]).all()  # a missing label costs no driver


def test_quality_is_the_share_of_measured_and_well_filled(read_one: Read) -> None:
    flags = np.repeat([0, 0, 1, 2, 0, 3], [48, 48, 48, 48, 38, 10]).astype(float)
    flags[48:96] = np.tile([0, 1, 2, 3], 12)
    data = read_one(Tower(values={"nee_qc": flags}))
    np.testing.assert_allclose(data["NEE_QC"], [1, 0.5, 1, 0, 38 / 48], atol=1e-12)


def test_labels_close_and_are_not_clipped(read_one: Read) -> None:
    data = read_one(Tower(values={"gpp_nt": np.full(240, -2.0)}))
    np.testing.assert_allclose(data["GPP"], -2 * UMOL_TO_GC, atol=STEP)
    np.testing.assert_allclose(data["RECO"], data["NEE"] + data["GPP"], atol=1e-12)


def test_extremes_are_those_of_the_day(read_one: Read) -> None:
    tower = Tower()
    data = read_one(tower)
    ta, vpd, sun = (tower.values[k].reshape(5, 48) for k in ("ta", "vpd", "sw_in"))
    for name, truth in (("TA_min", ta.min(1)), ("TA_max", ta.max(1)), ("VPD_max", vpd.max(1))):
        np.testing.assert_allclose(data[name], truth, atol=STEP)
    np.testing.assert_allclose(data["SW_IN"], sun.mean(1), atol=1)


def test_rain_is_summed_and_missing_is_no_number() -> None:
    start = START.astype("datetime64[m]") + np.arange(48) * np.timedelta64(30, "m")
    days = daily.to_days(start, 30, {"P": np.full(48, 0.5), "TA": np.full(48, 2.0)}, "test")
    assert (days.data["P"].tolist(), days.data["TA"].tolist()) == ([24.0], [2.0])
    with pytest.raises(DataError, match="TA holds -9999; replace it by NaN"):
        daily.to_days(start, 30, {"TA": np.full(48, -9999.0)}, "test")


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 47), st.floats(0, 0.1))
def test_days_agree_with_pandas(seed: int, late: int, gaps: float) -> None:
    """An independent aggregation of gappy records that begin at any time of day."""
    rng = np.random.default_rng(seed)
    start = START.astype("datetime64[m]") + (late + np.arange(500)) * np.timedelta64(30, "m")
    x = rng.normal(5, 10, 500)
    x[rng.random(500) < gaps] = np.nan
    here = rng.random(500) > gaps / 3  # records that are not there at all
    recomputed = daily.to_days(start[here], 30, {"TA": x[here]}, "test")
    group = pd.Series(x[here], start[here].astype("datetime64[ns]")).resample("D")
    truth = pd.DataFrame({"TA": group.mean(), "TA_min": group.min(), "TA_max": group.max()})
    truth = truth.where(group.count() >= 47).loc[recomputed.days.astype("datetime64[ns]")]
    for name in truth:
        np.testing.assert_allclose(recomputed.data[name], truth[name], atol=1e-12)


def test_a_broken_chunk_costs_its_tower_only(tmp_path: Path) -> None:
    many = {"AA-Aaa": Tower(), "BB-Bbb": Tower()}
    path = write_store(tmp_path / "s.zarr", many, nee={"chunks": (1, 10_000)})
    (path / "nee" / "1.0").write_bytes(b"half a chunk")
    read, left_out = store.read_store(path, facts(many))
    assert list(read) == ["AA-Aaa"]
    assert "BB-Bbb cannot be decoded" in left_out["BB-Bbb"]


@pytest.mark.parametrize(("minutes", "known"), [
    ([0, 30], 30), ([0, 60], 60), ([0, 30, 90, 120], 30), ([0], None), ([0, 15, 30], None),
])  # fmt: skip
def test_records_are_of_half_an_hour_or_one(minutes: list[int], known: int | None) -> None:
    stamps = START.astype("datetime64[m]") + np.array(minutes)
    if known:
        assert daily.record_minutes(stamps, "test") == known
    else:
        with pytest.raises(DataError, match=r"test .* min apart; 30 or 60 are expected"):
            daily.record_minutes(stamps, "test")


def test_records_must_ascend() -> None:
    start = START.astype("datetime64[m]") + np.array([0, 30, 30, 60]) * np.timedelta64(1, "m")
    with pytest.raises(DataError, match="repeats at 2003-01-01T00:30"):
        daily.to_days(start, 30, {"TA": np.zeros(4)}, "test")


def years_of(*gpp: np.ndarray, qc: tuple[float, ...] = (1, 1, 1)) -> xr.Dataset:
    """One tower with given daily GPP year by year, RECO a steady share of it."""
    x = np.concatenate(gpp)
    days = np.datetime64("2001-01-01") + np.arange(len(x))
    fluxes = {"GPP": x, "RECO": 0.8 * x, "NEE": -0.2 * x, "NEE_QC": np.repeat(qc, 365)[: len(x)]}
    weather = dict.fromkeys(("TA", "VPD", "SW_IN"), np.ones(len(x)))
    tower = {"AA-Aaa": daily.TowerDays(days, fluxes | weather)}
    return daily.assemble(tower, facts({"AA-Aaa": Tower()}))


def season(mean: float) -> np.ndarray:
    return mean * (1 + np.sin(np.arange(365) / 365 * 2 * np.pi))


def labelled(days: int, value: float) -> np.ndarray:
    return np.where(np.arange(365) < days, value, np.nan)


@pytest.mark.parametrize(("years", "qc", "broken"), [
    ([season(4), season(5), season(4)], (1, 1, 1), {}),
    ([season(4), np.full(365, 2.0), season(4)], (1, 0, 1), {2002: "constant GPP"}),
    ([season(4), np.full(365, -6.9), season(4)], (1, 1, 1), {2002: "constant GPP"}),
    ([season(4), -season(0.5), season(4)], (1, 1, 1), {2002: "negative GPP"}),
    ([season(4), season(7.3), season(4)], (1, 0.29, 1), {2002: "doubled GPP and RECO"}),
    ([season(4), season(7.1), season(4)], (1, 0.29, 1), {}),  # less than 1.8 times as much
    ([season(4), season(7.3), season(4)], (1, 0.31, 1), {}),  # measured: a good year
    ([season(0.3), season(1.2), season(0.3)], (1, 0.1, 1), {}),  # a rainy year in a desert
    ([season(4), season(9)], (1, 0.1), {}),  # two years cannot tell which is wrong
    ([season(0.05) - 0.1, season(4), season(4)], (1, 1, 1), {}),  # noise about nothing
    ([season(4), 2 + 0.015 * (-1.0) ** np.arange(365), season(4)], (1, 1, 1), {}),  # it varies
    ([season(4), labelled(30, 2.0), season(4)], (1, 1, 1), {2002: "constant GPP"}),
    ([season(4), labelled(29, 2.0), season(4)], (1, 1, 1), {}),  # days too few to judge
])  # fmt: skip
def test_broken_years(years: list[np.ndarray], qc: tuple, broken: dict[int, str]) -> None:
    ds = years_of(*years, qc=qc)
    assert daily.broken_years(ds) == {("AA-Aaa", y): why for y, why in broken.items()}


def test_broken_years_lose_labels_only() -> None:
    ds = years_of(season(4), np.full(365, 2.0), season(4))
    clean = daily.without_labels(ds, daily.broken_years(ds))
    for name in FLUXES:
        assert clean[name].groupby("time.year").count(...).values.tolist() == [365, 0, 365]
        assert ds[name].count() == 1095  # the input is left alone
    assert clean["TA"].count() == 1095
    assert clean.attrs["excluded"] == "1 site-years: AA-Aaa 2002 (constant GPP)"


@pytest.fixture
def conversions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand for the conversion of the real store; count how often it is asked for."""
    calls: list[int] = []
    monkeypatch.setenv("TAMRL_DATA_DIR", str(tmp_path))
    short = years_of(season(4))
    monkeypatch.setattr(towers, "_convert", lambda: calls.append(1) or short)
    return calls


def test_converted_once_unless_damaged(conversions: list[int], tmp_path: Path) -> None:
    first, second = towers.fetch_towers(), towers.fetch_towers()
    assert len(conversions) == 1
    xr.testing.assert_identical(first, second)
    (path,) = (tmp_path / "derived").iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="unreadable"):
        xr.testing.assert_identical(towers.fetch_towers(), first)
    assert len(conversions) == 2


@pytest.mark.parametrize("days", [2, 3])
@pytest.mark.parametrize("off", [-3.7, -3.3, 0.0, 3.3, 3.7])
def test_the_sun_is_highest_around_noon(days: int, off: float) -> None:
    """As on all clocks of the Earth, of which western China's is farthest from the sun's."""
    start = np.datetime64("2001-06-01T00:00") + 30 * np.arange(48 * days).astype("m8[m]")
    hour = (np.arange(48 * days) % 48 + 0.5) / 2 - 12 - off
    light = {"SW_IN": np.maximum(np.cos(hour * np.pi / 12), 0) * 800}
    if days >= 3 and abs(off) > 3.5:
        with pytest.raises(DataError, match=f"centred at {12 + off:.1f} h of the local day"):
            daily.to_days(start, 30, light, "own.csv")
    else:
        assert len(daily.to_days(start, 30, light, "own.csv").data["SW_IN"]) == days


def test_a_sun_that_does_not_set_says_little_of_the_clock() -> None:
    """Light that is nearly the same at all hours has no noon to be compared with."""
    start = np.datetime64("2001-06-21T00:00") + 30 * np.arange(48 * 9).astype("m8[m]")
    hour = np.arange(48 * 9) % 48 / 2
    for swing in (50, 100):  # the light's centre is at most a quarter of the way from the middle
        light = {"SW_IN": 200 + swing * np.cos((hour - 18) * np.pi / 12)}
        assert len(daily.to_days(start, 30, light, "own.csv").data["SW_IN"]) == 9
    light = {"SW_IN": 200 + 180 * np.cos((hour - 18) * np.pi / 12)}
    with pytest.raises(DataError, match=r"centred at 18\.\d h of the local day"):
        daily.to_days(start, 30, light, "own.csv")


def test_a_flag_is_0_to_3_and_below_it_there_is_none() -> None:
    """Fractions are of files that average flags; -1 says that there is none."""
    start = START.astype("datetime64[m]") + np.arange(48) * np.timedelta64(30, "m")
    for flag, share in ((0, 1), (1.4, 1), (1.6, 0), (3, 0), (3.4, 0), (-1, np.nan)):
        got = daily.to_days(start, 30, {"NEE_QC": np.full(48, float(flag))}, "test")
        np.testing.assert_array_equal(got.data["NEE_QC"], [share])
    for bad in (3.6, 4.0):
        with pytest.raises(
            DataError, match=r"NEE_QC holds .*; infinities are NaN, flags are 0 to 3"
        ):
            daily.to_days(start, 30, {"NEE_QC": np.full(48, bad)}, "test")


def test_a_full_disk_leaves_nothing_behind(
    conversions: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("xarray.backends.NetCDF4DataStore.open", full)
    with pytest.raises(DataError, match="No space left"):
        towers.fetch_towers()
    assert not list((tmp_path / "derived").iterdir())


# The real towers. Figures from an independent conversion that was checked against the official
# daily and monthly files, before broken years were left out.


def test_full_days_of_the_real_towers(real_towers: xr.Dataset) -> None:
    schema.validate(real_towers, "fetch_towers")
    assert real_towers.sizes["site"] == 180
    share = real_towers["NEE_QC"]  # known wherever a day of NEE is full, excluded years too
    assert int(share.count()) == 455_471
    # That conversion took the eleven hourly towers for half-hourly ones, hence the handful.
    assert int((share >= 0.5).sum()) == pytest.approx(369_403, abs=50)
    assert int((share >= 0.8).sum()) == pytest.approx(344_617, abs=150)


def test_distribution_of_the_real_fluxes(real_towers: xr.Dataset) -> None:
    good = real_towers[list(FLUXES)].where(real_towers["NEE_QC"] >= 0.5).astype(float)
    for name, mean, sd in (("NEE", -0.76, 2.55), ("GPP", 3.80, 4.23), ("RECO", 3.04, 2.77)):
        assert float(good[name].mean()) == pytest.approx(mean, abs=0.04)  # no broken years
        assert float(good[name].std()) == pytest.approx(sd, abs=0.06)
    assert -26.1 < float(good["NEE"].min()) < float(good["NEE"].max()) < 23.9
    assert float(good["GPP"].min()) < -1  # labels are not clipped
    gap = real_towers["NEE"] - (real_towers["RECO"] - real_towers["GPP"])
    assert float(np.abs(gap).max()) < 1e-4


def test_means_of_real_towers(real_towers: xr.Dataset) -> None:
    sites = ["US-Ha1", "FI-Hyy", "DE-Tha"]
    towers = real_towers.sel(site=sites)
    for name, digit, expected in (
        ("NEE", 0.001, (-0.497, -0.629, -1.657)),
        ("GPP", 0.001, (3.858, 3.144, 5.342)),
        ("RECO", 0.001, (3.360, 2.515, 3.684)),
        ("TA", 0.01, (7.85, 4.79, 8.82)),
        ("VPD", 0.01, (3.47, 2.79, 4.02)),
        ("SW_IN", 0.1, (149.8, 101.1, 123.7)),
    ):
        mean = towers[name].where(towers["NEE_QC"] >= 0.5).astype(float).mean("time")
        np.testing.assert_allclose(mean, expected, rtol=0, atol=0.6 * digit, err_msg=name)


def test_the_rule_finds_the_known_broken_years_and_no_other(real_towers: xr.Dataset) -> None:
    count, _, named = real_towers.attrs["excluded"].partition(": ")
    assert count == "23 site-years"
    assert {year.partition(" (")[0] for year in named.split("; ") if "GPP" in year} == {
        *("US-Syv 2007", "US-Syv 2008", "GH-Ank 2013", "CA-Man 2004", "CA-Man 2005"),
        *("ES-Amo 2007", "ES-Amo 2008", "US-Me4 1998", "SN-Dhr 2010"),
        *("IT-Ren 2000", "IT-Ren 2001", "IT-Ren 2004", "GL-ZaH 2011"),
    }
    labelled = real_towers["GPP"].count("time") > 0
    assert real_towers.site.values[~labelled.values].tolist() == ["AR-Vir"]
    assert real_towers["TA"].sel(site="AR-Vir").count() == 1461  # drivers stay


def test_no_tower_gets_more_sun_than_there_is(real_towers: xr.Dataset) -> None:
    """Radiation in W m-2, on the right day, at the right latitude, or this fails."""
    doy = real_towers.time.dt.dayofyear.values
    top = potential_radiation(real_towers.lat.values[:, None], doy[None])
    there = np.isfinite(real_towers["SW_IN"].values)
    share = real_towers["SW_IN"].values[there] / np.maximum(top[there], 20)
    assert np.quantile(share, 0.99) < 0.85
    assert (share > 1).mean() < 2e-4


def test_sealed_towers_stay_sealed(real_towers: xr.Dataset) -> None:
    assert len(SEALED) == 24
    assert not SEALED & {*real_towers.site.values, *schema.tower_facts().index}
