"""Phenology as drivers, and the mean of two partitionings as labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from settings import DEFINED

from tamrl.data import phenology
from tamrl.data.schema import SEALED
from tamrl.errors import DataError
from tamrl.samples.arrays import PHENOLOGY, PHENOLOGY_STATIC, Samples
from tamrl.samples.labels import with_mean_labels, with_tower_weights
from tamrl.samples.missing import without_satellites
from tamrl.samples.phenology import from_season, with_phenology, without_phenology
from tamrl.virtual.phenology import SHARE, virtual_phenology
from tamrl.virtual.towers import virtual_towers

pytestmark = DEFINED

BOUND = 3.0  # how many times the median tower one counts, at most
DAYS = np.arange("2001-01-01", "2004-01-01", dtype="datetime64[D]")


def cycles(*peaks: str, minimum: float = 0.2, amplitude: float = 0.4) -> pd.DataFrame:
    """Growing cycles of 120 days about their peaks."""
    around = dict(zip(phenology.PHASES, range(-60, 61, 20), strict=True))
    days = [int(np.datetime64(peak).astype(int)) for peak in peaks]
    rows = [{name: day + offset for name, offset in around.items()} for day in days]
    return pd.DataFrame(rows).assign(minimum=minimum, amplitude=amplitude)


@given(st.floats(0.0, 0.4), st.floats(0.05, 0.5))
def test_the_curve_stays_within_its_cycle_and_peaks_on_the_day(low: float, size: float) -> None:
    evi = phenology.daily_evi(cycles("2002-07-01", minimum=low, amplitude=size), DAYS)
    known = np.isfinite(evi)
    assert known.sum() == 121
    assert np.nanmin(evi) >= low
    assert DAYS[np.nanargmax(evi)] == np.datetime64("2002-07-01")
    assert np.nanmax(evi) == pytest.approx(low + size, abs=1e-6)


def test_nothing_is_known_across_a_long_gap() -> None:
    near = phenology.daily_evi(cycles("2001-07-01", "2002-07-01"), DAYS)
    far = phenology.daily_evi(cycles("2001-07-01", "2003-07-01"), DAYS)
    winter = np.datetime64("2002-01-01") == DAYS
    assert near[winter] == pytest.approx(0.26)  # 15 % of the amplitude above the minimum
    assert np.isnan(far[winter])


def test_drivers_of_a_daily_index(samples: Samples, virtual: xr.Dataset) -> None:
    evi = virtual_phenology(virtual)
    s = with_phenology(samples, evi)
    assert s.features[-3:] == PHENOLOGY
    assert s.static_names[-2:] == PHENOLOGY_STATIC
    level, anomaly, amplitude = np.moveaxis(s.x[..., -3:], -1, 0)
    row = int(np.isfinite(level).any(1).argmax())
    own = evi[row].groupby("time.dayofyear")
    usual, on = (own - own.mean()).values, np.isfinite(anomaly[row])
    np.testing.assert_allclose(anomaly[row, on], usual[on], atol=0.02)  # leap years shift a day
    year = s.time.astype("datetime64[Y]") == s.time[800].astype("datetime64[Y]")
    assert amplitude[row, 800] == pytest.approx(np.ptp(evi.values[row, year]), abs=1e-6)
    bare = with_phenology(samples, None)
    assert np.isnan(bare.x[..., -3:]).all()
    gone = without_satellites(s)
    assert np.isnan(gone.x[..., -3:]).all()
    assert np.isnan(gone.static[:, -2:]).all()
    np.testing.assert_array_equal(s.x[..., :-3], samples.x)
    own = np.isfinite(samples.x[..., samples.features.index("SW_POT")])
    assert np.isfinite(level[row][own[row]]).all()
    assert np.isnan(s.x[~own][:, -3:]).all()  # before and after the record nothing is known


@pytest.mark.parametrize(("days", "anomaly", "amplitude"), [
    (1095, True, True), (366, True, True), (365, False, True), (300, False, True),
    (299, False, False),
])  # fmt: skip
def test_an_anomaly_takes_two_years_and_an_amplitude_most_of_one(
    samples: Samples, days: int, anomaly: bool, amplitude: bool
) -> None:
    """The level is known on any day; one year alone is its own mean season."""
    values = np.broadcast_to(0.5 + 0.1 * np.arange(1095) / 1095, (12, 1095)).copy()
    values[:, days:] = np.nan
    evi = xr.DataArray(values, {"site": samples.site, "time": samples.time.astype("M8[ns]")})
    x = with_phenology(samples, evi).x[3, :, -3:]  # of the first year
    assert np.isfinite(x[samples.has_drivers[3].argmax(), 0])
    assert np.isfinite(x).any(0).tolist() == [True, anomaly, amplitude]
    if amplitude:
        assert np.nanmax(x[:365, 2]) == pytest.approx(np.ptp(values[0, : min(days, 365)]))


def test_a_third_of_the_virtual_towers_has_no_index() -> None:
    evi = virtual_phenology(virtual_towers(150, (2001, 2002)))
    assert np.isfinite(evi).any("time").mean() == pytest.approx(SHARE, abs=0.1)
    assert -0.1 < np.nanmin(evi) < np.nanmax(evi) < 1


def test_labels_are_the_mean_and_close(samples: Samples, virtual: xr.Dataset) -> None:
    day = virtual.GPP + 1
    day[0] = np.nan
    s = with_mean_labels(samples, day)
    known = np.isfinite(samples.y[..., 0])
    known[0] = False
    np.testing.assert_allclose((s.y - samples.y)[known], [[0.5, 0.5, 0]] * known.sum(), atol=1e-5)
    np.testing.assert_array_equal(s.y[0], samples.y[0])
    np.testing.assert_array_equal(s.y[..., 1], s.y[..., 2] + s.y[..., 0])
    with pytest.raises(DataError, match="partitionings"):
        with_mean_labels(replace(samples, targets=("GPP",)), day)


def test_a_tower_that_varies_twice_as_much_has_half_the_weight(samples: Samples) -> None:
    y = samples.y.copy()
    y[0] *= 2
    twice = replace(samples, y=y)
    before, after = (with_tower_weights(s).weight[0].sum() for s in (samples, twice))
    assert after == pytest.approx(before / 2, rel=0.1)  # the median moves a little
    ratio = with_tower_weights(samples).weight / np.where(samples.weight > 0, samples.weight, 1)
    on = samples.weight > 0
    assert 1 / BOUND - 1e-6 <= ratio[on].min() <= ratio[on].max() <= BOUND + 1e-6
    assert (ratio[~on] == 0).all()
    sd = np.array([row[days, 0].std() for row, days in zip(samples.y, on, strict=True)])
    expected = np.clip(np.median(sd) / sd, 1 / BOUND, BOUND)
    np.testing.assert_allclose(ratio.max(1), expected, rtol=1e-4)


def test_towers_that_hardly_vary_weigh_alike(samples: Samples) -> None:
    """Below 0.1 gC m-2 d-1 what varies is noise."""
    on = samples.weight > 0
    sd = np.array([row[days, 0].std() for row, days in zip(samples.y, on, strict=True)])
    scale = np.float32(0.08 / np.median(sd))
    after = with_tower_weights(replace(samples, y=samples.y * scale)).weight
    expected = np.clip(0.08 / np.maximum(sd * scale, 0.1), 1 / BOUND, BOUND)
    assert (sd * scale < 0.1).sum() > 3
    ratio = (after / np.where(on, samples.weight, 1)).max(1)
    np.testing.assert_allclose(ratio, expected, rtol=1e-4)


def test_few_labels_say_nothing_of_a_tower(samples: Samples) -> None:
    """With 29 labelled days it counts as it did, with 30 by their spread, within bounds."""
    y = samples.y.copy()
    y[:2, :, 0] *= 0.01
    for labels in (29, 30):
        weight = samples.weight.copy()
        weight[0, (weight[0] > 0).cumsum() > labels] = 0
        after = with_tower_weights(replace(samples, y=y, weight=weight)).weight
        np.testing.assert_allclose(after[0], weight[0] * (BOUND if labels == 30 else 1), rtol=1e-5)
        np.testing.assert_allclose(after[1], weight[1] * BOUND, rtol=1e-5)


@pytest.mark.slow
def test_phenology_of_the_real_towers(real_towers: xr.Dataset) -> None:
    evi = phenology.fetch_phenology()
    assert not SEALED & set(evi.site.values)
    assert set(evi.site.values) <= set(real_towers.site.values)
    summer = evi.sel(site="US-Ne1", time="2005-07-25")
    assert 0.5 < summer < 0.95  # maize in Nebraska
    assert evi.sel(site="US-Ne1", time="2005-01-15") < 0.3


def test_a_mean_season_has_no_anomaly_and_its_own_amplitude(samples: Samples) -> None:
    """The same for a month as for years: a map of a few days sees the whole season."""
    season = xr.DataArray(
        0.3 + 0.2 * np.sin(np.arange(12) / 12 * 2 * np.pi)[None] * np.arange(1, 4)[:, None] / 3,
        {"site": samples.site[:3], "month": np.arange(1, 13)}, ("site", "month"),
    )  # fmt: skip
    few = replace(samples, time=samples.time[:40], x=samples.x[:, :40])
    short, long = (with_phenology(s, from_season(season, s.time)) for s in (few, samples))
    np.testing.assert_allclose(short.x, long.x[:, :40], atol=1e-6)
    np.testing.assert_allclose(short.static, long.static, atol=1e-6)
    days = [from_season(season, s.time).time.values[[0, -1]] for s in (few, samples)]
    assert [str(day)[:10] for pair in days for day in pair] == [
        "2001-01-01", "2002-12-31", "2001-01-01", "2003-12-31",
    ]  # fmt: skip
    evi, anomaly, amplitude = np.moveaxis(short.x[:3, ..., -3:], -1, 0)
    own = np.isfinite(few.x[:3, :, few.features.index("SW_POT")])
    there = own.any(1)
    assert there.any()
    np.testing.assert_allclose(anomaly[own], 0, atol=0.01)  # but for leap years
    assert ((evi[own] > 0.05) & (evi[own] < 0.55)).all()
    middle = {np.datetime64("2001-01-15"): 0, np.datetime64("2001-02-05"): 0.68}
    for day, month in middle.items():  # of three quarters of the way from January to February
        at = season.interp(month=month + 1).to_numpy()
        np.testing.assert_allclose(from_season(season, few.time).sel(time=day), at, atol=0.01)
    swing = (season.max("month") - season.min("month")).to_numpy()
    np.testing.assert_allclose(np.nanmax(amplitude[there], 1), swing[there], rtol=0.03)
    assert np.isnan(short.x[3:, :, -3:]).all()
    bare = without_phenology(short)
    np.testing.assert_array_equal(bare.x, few.x)
    assert (bare.features, bare.static_names) == (few.features, few.static_names)
