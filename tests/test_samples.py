"""Drivers and labels are masked apart, nothing leaks, nothing depends on file order."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import DEFINED

from tamrl.data import grid
from tamrl.data.grid import grid_at
from tamrl.data.physics import daylength, potential_radiation
from tamrl.model.network import Config, ConvLSTM, TamRL
from tamrl.model.tensors import set_scale
from tamrl.samples import neighbourhood
from tamrl.samples.arrays import (
    SCORE_QC,
    TRAIN_QC,
    Samples,
    between_months,
    interpolate,
    make_samples,
    mean_and_range,
    month_means,
    process_scalars,
    season_to_daily,
    windows,
)
from tamrl.virtual.towers import virtual_predictors

pytestmark = DEFINED


def test_a_missing_label_never_costs_a_driver_day(virtual: xr.Dataset) -> None:
    some = virtual.copy(deep=True)
    some["NEE"][3, 100:200] = np.nan
    a, b = make_samples(virtual), make_samples(some)
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.has_drivers, b.has_drivers)
    assert a.scored[3, 100:200].any()
    assert b.has_drivers[3, 100:200].mean() > 0.9
    assert not b.scored[3, 100:200].any()
    others = np.arange(12) != 3
    np.testing.assert_array_equal(a.scored[others], b.scored[others])


def test_a_missing_driver_masks_that_driver_only(virtual: xr.Dataset) -> None:
    some = virtual.copy(deep=True)
    some["TA_max"][3, 50:90] = np.nan
    a, b = make_samples(virtual), make_samples(some)
    np.testing.assert_array_equal([a.has_drivers, a.scored], [b.has_drivers, b.scored])
    assert np.isnan(b.x[3, 50:90, b.features.index("TA_max")]).all()
    assert b.has_drivers[3, 50:90].mean() > 0.9
    some["TA"][3, 50:90] = np.nan  # a minimal driver: the day can't be predicted
    c = make_samples(some)
    assert not (c.has_drivers | c.scored)[3, 50:90].any()


def test_scored_and_trained_days_follow_the_quality_shares(samples, virtual) -> None:
    qc, used = virtual.NEE_QC.values, samples.weight > 0
    assert (TRAIN_QC, SCORE_QC) == (0.5, 0.8)
    assert (qc[samples.scored] >= SCORE_QC).all()
    assert used[samples.scored].all()
    assert samples.scored.sum() > 0.3 * samples.has_drivers.sum()
    np.testing.assert_allclose(samples.weight[used], qc[used])


@pytest.mark.parametrize(("share", "trained", "scored"), [
    (0.49, False, False), (0.5, True, False), (0.79, True, False), (0.8, True, True),
])  # fmt: skip
def test_half_of_a_day_trains_and_four_fifths_are_scored(virtual, share, trained, scored) -> None:
    s = make_samples(virtual.assign(NEE_QC=virtual.NEE_QC * 0 + np.float32(share)))
    labelled = s.has_drivers & np.isfinite(s.y).all(-1) & np.isfinite(virtual.NEE_QC.values)
    np.testing.assert_array_equal(s.weight, np.where(labelled & trained, np.float32(share), 0))
    np.testing.assert_array_equal(s.scored, labelled & scored)


def test_what_the_sun_gives_is_known_within_a_record_alone(samples: Samples) -> None:
    """From its first to its last day with drivers, gaps included."""
    sun = np.isfinite(samples.x[..., samples.features.index("SW_POT")])
    for known, on in zip(sun, samples.has_drivers, strict=True):
        days = np.flatnonzero(on)
        assert np.flatnonzero(known).tolist() == [*range(days[0], days[-1] + 1)]


def test_other_targets_are_trained_on_where_one_is_known(virtual: xr.Dataset) -> None:
    """And scored where all are; the fluxes of carbon are known together or not at all."""
    gas = virtual.NEE * 0 + 5
    ds = virtual.assign(
        CH4=gas.where(virtual.time.dt.day > 10), N2O=gas.where(virtual.time.dt.day < 20)
    )
    s = make_samples(ds, targets=("CH4", "N2O"))
    one, two = np.isfinite(s.y).transpose(2, 0, 1)
    good = s.has_drivers & (virtual.NEE_QC.values >= TRAIN_QC)
    assert (s.targets, s.y.shape[-1]) == (("CH4", "N2O"), 2)
    np.testing.assert_array_equal(s.weight > 0, good & (one | two))
    high = good & (virtual.NEE_QC.values >= SCORE_QC)
    np.testing.assert_array_equal(s.scored, high & one & two)
    assert 0 < s.scored.sum() < (s.weight > 0).sum()
    part = make_samples(virtual.assign(RECO=virtual.RECO.where(virtual.time.dt.day > 10)))
    assert not part.weight[:, virtual.time.dt.day <= 10].any()


def test_features_are_the_same_whatever_is_missing(virtual: xr.Dataset, samples: Samples) -> None:
    bare = make_samples(virtual[["TA", "VPD", "SW_IN"]])
    assert (bare.features, bare.static_names) == (samples.features, samples.static_names)
    assert bare.has_drivers.sum() == samples.has_drivers.sum()
    assert not bare.scored.any()


def test_monthly_values_never_cross_a_missing_month(virtual: xr.Dataset) -> None:
    monthly = virtual_predictors(virtual).copy(deep=True)
    monthly["FPAR"][:] = 0.5
    gone = monthly.month.isin(np.arange("2002-03", "2002-06", dtype="M8[M]").astype("M8[ns]"))
    monthly["FPAR"] = monthly.FPAR.where(~gone)
    s = make_samples(virtual, monthly)
    fpar = s.x[..., s.features.index("FPAR")]
    inside = (s.time > np.datetime64("2002-03-16")) & (s.time < np.datetime64("2002-05-14"))
    assert np.isnan(fpar[:, inside]).all()
    later = make_samples(virtual, monthly.isel(month=slice(2, -2)))
    fpar_later, last = later.x[..., later.features.index("FPAR")], monthly.month.values[-3]
    unknown = (s.time < np.datetime64("2001-03-01")) | (s.time > last + np.timedelta64(30, "D"))
    assert np.isnan(fpar_later[:, unknown]).all()
    assert np.isfinite(fpar_later[:, s.time == np.datetime64("2001-03-01")]).any()
    assert monthly.month[0] == np.datetime64("2001-01-01") == s.time[0]
    outside = (s.time < np.datetime64("2002-02-28")) & (s.time >= np.datetime64("2001-01-01"))
    np.testing.assert_allclose(fpar[:, outside][s.has_drivers[:, outside]], 0.5, rtol=1e-6)


def test_a_day_lies_between_the_middles_of_two_months() -> None:
    """By its days from either; before the first and after the last middle that month alone is."""
    month = np.array(["2001-01", "2001-02", "2001-03"], "M8[M]")
    table = {"2000-12-31": (0, 0, np.nan), "2001-01-01": (0, 0, 0), "2001-01-15": (0, 0, 0),
             "2001-01-16": (0, 1, 1 / 31), "2001-02-15": (0, 1, 1), "2001-02-16": (1, 2, 1 / 28),
             "2001-03-01": (1, 2, 0.5), "2001-03-16": (2, 2, 1), "2001-03-31": (2, 2, 1),
             "2001-04-01": (2, 2, np.nan)}  # fmt: skip
    left, right, w = between_months(month.astype("M8[ns]"), np.array([*table], "M8[D]"))
    for got, want in zip((left, right, w), zip(*table.values(), strict=True), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    values = np.array([1.0, 3.0, 7.0], np.float32)
    got = interpolate(values, left, right, w)
    expected = [np.nan, 1, 1, 1 + 2 / 31, 3, 3 + 4 / 28, 5, 7, 7, np.nan]
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    values[1] = np.nan  # of the days beside, those nearer to the other month are known
    got = interpolate(values, left, right, w)
    expected = [np.nan, 1, 1, 1, np.nan, np.nan, 7, 7, 7, np.nan]
    np.testing.assert_allclose(got, expected)


def test_a_season_has_half_of_its_months() -> None:
    """Mean and range are of the months that are known, six at least; days follow the circle."""
    season = np.arange(24.0).reshape(2, 12) - 3
    season[0, 6:], season[1, 5:] = np.nan, np.nan
    mean, span = mean_and_range(season)
    np.testing.assert_array_equal(mean, [-0.5, np.nan])
    np.testing.assert_array_equal(span, [5, np.nan])
    daily = np.array([4.0, 2.0, np.nan, 1.0, np.nan])
    got = month_means(daily, np.array([0, 0, 0, 11, 5]))
    np.testing.assert_array_equal(got, [3, *[np.nan] * 10, 1])
    ends = season_to_daily(np.arange(12.0), np.array([1, 366]))
    assert ends == pytest.approx([5.5, 11 * (1 - 0.4918)], abs=1e-3)  # both are of one winter


def test_process_scalars_have_the_constants_of_their_sources() -> None:
    """Half of the light at 150 W m-2, VPD from 8 hPa by 25, warmth about 6 degC by 3."""

    def light(ta: float = 40.0, vpd: float = 0.0, sw: float = 1e9) -> float:
        return float(process_scalars(np.array(ta), np.array(vpd), np.array(sw))[0])

    assert light(sw=150) == pytest.approx(light() / 2)
    assert light(vpd=8) == light()
    assert light(vpd=33) == pytest.approx(light() / np.e)
    assert light(ta=6) == pytest.approx(light() * (0.03 + 0.97 / 2), rel=1e-4)
    assert light(ta=9) == pytest.approx(light() * (0.03 + 0.97 / (1 + 1 / np.e)), rel=1e-4)
    air = np.array([-60.0, 15.0, 45.0, 60.0])
    cold, mild, *hot = process_scalars(air, np.zeros(4), np.ones(4))[:, 1]
    assert (cold, mild) == pytest.approx((0.05, 1.0))
    assert hot == pytest.approx([np.exp(308.56 * (1 / 61.02 - 1 / 91.02))] * 2, rel=1e-5)


def test_a_season_is_that_of_its_own_month(gridded: Samples, virtual, globe) -> None:
    """In mid-month the days have the value of that month, not of one before or after."""
    monthly, cells = virtual_predictors(virtual), grid_at(globe, virtual.lat, virtual.lon)
    doy = np.array([46, 74, 196, 349])  # mid-months
    assert season_to_daily(np.arange(12.0), doy) == pytest.approx([1, 2, 6, 11], abs=0.12)
    assert season_to_daily(np.arange(12.0), np.array([366])) == pytest.approx(5.5, abs=0.4)
    days = np.flatnonzero(
        gridded.time.astype("datetime64[M]") + np.timedelta64(14, "D") == gridded.time
    )
    seasons = {f"{n}_grid": cells[n] for n in ("EVI", "PRCP")}
    seasons["FPAR_season"] = monthly.FPAR.groupby("month.month").mean()
    expected = {n: v.transpose("site", "month").values for n, v in seasons.items()}
    month = gridded.time[days].astype("datetime64[M]").astype(int) % 12
    expected = {n: v[:, month] for n, v in expected.items()}
    expected["FPAR"] = monthly.FPAR.sel(
        month=gridded.time[days].astype("M8[M]").astype("M8[ns]")
    ).values
    for name, truth in expected.items():
        x = gridded.x[:, days, gridded.features.index(name)]
        off = [np.nanmean(np.abs(x - np.roll(truth, k, 1))) for k in (0, 1, -1)]
        assert off[0] < 0.3 * min(off[1:]), name
    sun = {"SW_POT": potential_radiation, "DAYLENGTH": daylength}
    day = virtual.time.dt.dayofyear.values
    for name, formula in sun.items():
        x = gridded.x[..., gridded.features.index(name)]
        truth = np.where(np.isfinite(x), formula(virtual.lat.values[:, None], day[None]), np.nan)
        np.testing.assert_allclose(x, truth, rtol=1e-5, atol=1e-4)


def test_attributes_of_climate_are_those_of_the_tower(gridded: Samples, virtual) -> None:
    """Mean and range of the months' means of its own days."""
    monthly = virtual[["TA", "VPD", "SW_IN"]].groupby("time.month").mean()
    for name, season in monthly.items():
        at = [gridded.static_names.index(f"{name}_{of}") for of in ("mean", "range")]
        span = season.max("month") - season.min("month")
        expected = np.stack([season.mean("month"), span], -1)
        np.testing.assert_allclose(gridded.static[:, at], expected, rtol=5e-3)
    known = gridded.has_drivers
    process = process_scalars(*(virtual[n].values for n in ("TA", "VPD", "SW_IN")))
    np.testing.assert_allclose(gridded.process[known], process[known], rtol=1e-5)


def test_a_tower_is_marked_by_its_own_class_and_climate(gridded: Samples) -> None:
    statics = pd.DataFrame(gridded.static, columns=gridded.static_names)
    for start, own in (("igbp_", gridded.table.igbp), ("koppen_", gridded.table.koppen_main)):
        marks = statics.filter(regex=f"^{start}[A-Z]")
        assert (marks.sum(axis=1) == own.isin(marks.columns.str.removeprefix(start))).all()
        assert len(set(own)) > 1
        for name, mark in marks.items():
            assert ((mark == 1) == (own.to_numpy() == str(name).removeprefix(start))).all()


def test_row_order_does_not_matter(virtual: xr.Dataset, samples: Samples) -> None:
    order = np.random.default_rng(0).permutation(virtual.sizes["site"])
    mixed = make_samples(virtual.isel(site=order), virtual_predictors(virtual))
    np.testing.assert_array_equal(mixed.x, samples.x[order])
    np.testing.assert_array_equal(mixed.static, samples.static[order])
    assert mixed.fingerprint != samples.fingerprint
    again = make_samples(virtual, virtual_predictors(virtual))
    assert again.fingerprint == samples.fingerprint


def test_scale_is_of_days_with_drivers_and_of_labelled_days(samples: Samples) -> None:
    net, some = TamRL(Config(len(samples.features), len(samples.static_names))), np.arange(6)
    set_scale(net, samples, some)
    x = samples.x[some][samples.has_drivers[some]].astype(float)
    y = samples.y[some][samples.weight[some] > 0].astype(float)
    for name, rows in (("x", x), ("s", samples.static[some].astype(float)), ("y", y)):
        known = np.isfinite(rows).any(0)
        mean, sd = (getattr(net, f"{name}_{of}").numpy() for of in ("mean", "sd"))
        expected = np.nanstd(rows[:, known], 0)
        assert (expected > 1e-6).sum() > 2
        np.testing.assert_allclose(sd[known], np.where(expected > 1e-6, expected, 1), rtol=1e-4)
        np.testing.assert_allclose(mean[known], np.nanmean(rows[:, known], 0), rtol=1e-4, atol=1e-4)
        assert (mean[~known] == 0).all()
        assert (sd[~known] == 1).all()


def test_what_one_tower_knows_is_its_own_mean(samples: Samples) -> None:
    static = np.full_like(samples.static, np.nan)
    static[4, 0] = 7.0
    net = TamRL(Config(len(samples.features), len(samples.static_names)))
    set_scale(net, replace(samples, static=static), np.arange(6))
    assert (net.s_mean[0], net.s_sd[0]) == (7, 1)


def test_scaling_sees_training_towers_only(samples: Samples) -> None:
    changed = replace(samples, x=samples.x.copy(), y=samples.y.copy())
    changed.x[6:] *= 100
    changed.y[6:] += 50
    nets = [TamRL(Config(len(samples.features), len(samples.static_names))) for _ in range(2)]
    for net, data in zip(nets, (samples, changed), strict=True):
        set_scale(net, data, np.arange(6))
    before, after = (dict(net.named_buffers()) for net in nets)
    assert len(before) == 6
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_labelled_day(days: list[bool], length: int, extra: int) -> None:
    on = np.array([days])
    covered = np.zeros_like(on)
    for tower, start in windows(on, length, length):
        assert on[tower, start : start + length].any()
        assert not covered[tower, start : start + length].any()  # each day once
        covered[tower, start : start + length] = True
    assert (covered >= on).all()
    assert windows(on & False, length, length).shape == (0, 2)


def test_real_towers_give_the_known_number_of_days(real_towers: xr.Dataset) -> None:
    s = make_samples(real_towers)
    assert len(s.site) == 180
    assert 335_000 < s.scored.sum() < 346_000
    gpp, reco, nee = s.y[s.weight > 0].T
    np.testing.assert_allclose(nee, reco - gpp, atol=1e-4)


def test_selected_towers_bring_all_of_theirs(gridded: Samples) -> None:
    """Arrays, table and grid attributes; labels only of the days that are asked for."""
    some = np.array([7, 2])
    labelled = gridded.weight[some] > 0
    labelled[:, ::2] = False
    part = gridded.select(some, labelled)
    assert part.table.site.tolist() == part.site.tolist() == gridded.site[some].tolist()
    np.testing.assert_array_equal(part.places.x, gridded.places.x[some])
    np.testing.assert_array_equal(part.x, gridded.x[some])
    assert ((part.weight > 0) == labelled).all()
    assert np.isnan(part.y[~labelled]).all()
    np.testing.assert_array_equal(part.scored, gridded.scored[some])


def test_the_grid_is_searched_once(virtual: xr.Dataset, globe: xr.Dataset, monkeypatch) -> None:
    trees = []
    monkeypatch.setattr(grid, "cKDTree", lambda x, make=grid.cKDTree: trees.append(x) or make(x))
    cube = globe.copy()
    for _ in range(2):
        make_samples(virtual.isel(site=[0, 5], time=slice(0, 50)), None, cube)
    assert len(trees) == 1


# Neighbourhoods: centred on the tower, closed round the globe, ending at the poles.


@pytest.fixture
def cube() -> xr.Dataset:
    lat, lon = np.arange(-89.0, 90, 2), np.arange(-179.0, 180, 2)
    field = np.random.default_rng(0).normal(size=(12, len(lat), len(lon))).astype(np.float32)
    monthly, classes = neighbourhood.MONTHLY, list(neighbourhood.CLASSES)
    data = {n: (("month", "lat", "lon"), field * (i + 1)) for i, n in enumerate(monthly)}
    data |= {n: (("lat", "lon"), field[i]) for i, n in enumerate(neighbourhood.STATIC)}
    data["igbp_fraction"] = (("igbp", "lat", "lon"), np.abs(field[: len(classes)]))
    return xr.Dataset(data, {"month": np.arange(1, 13), "lat": lat, "lon": lon, "igbp": classes})


def maps_at(lat: list[float], lon: list[float], samples: Samples, cube: xr.Dataset) -> np.ndarray:
    placed = replace(samples, table=pd.DataFrame({"lat": lat, "lon": lon}))
    return neighbourhood.with_neighbourhoods(placed, cube).maps


def test_neighbourhoods_are_those_of_the_globe(samples: Samples, cube: xr.Dataset) -> None:
    maps = maps_at([51.1, 0.0, 88.9], [10.5, 179.9, 0.0], samples, cube)
    whole = neighbourhood.globe(cube)
    assert maps.shape == (3, 12, whole.shape[1], 9, 9)
    places = (("lat", 51.1), ("lon", 10.5), ("lat", 0))
    i, j, equator = (int(abs(cube[k].data - v).argmin()) for k, v in places)
    np.testing.assert_array_equal(maps[0, :, :, 4, 4], whole[:, :, i, j])
    np.testing.assert_array_equal(maps[0, :, :, 5, 3], whole[:, :, i + 1, j - 1])
    np.testing.assert_array_equal(maps[1, :, :, 4, 5], whole[:, :, equator, 0])  # the dateline
    assert np.isnan(maps[2, :, :, 5:]).all()  # the pole
    assert np.isfinite(maps[2, :, :, :5]).all()
    alone = maps_at([51.1], [10.5], samples, cube)  # scaled without regard to other towers
    np.testing.assert_array_equal(alone[0], maps[0])


def test_globe_at_once_equals_place_by_place(samples: Samples, cube: xr.Dataset) -> None:
    torch.manual_seed(0)
    globe = neighbourhood.globe(cube)
    net = ConvLSTM(Config(3, 3, latent=5, map_variables=globe.shape[1])).eval()
    whole = net(torch.from_numpy(neighbourhood.padded(globe))[None])
    assert whole.shape[-2:] == (cube.sizes["lat"], cube.sizes["lon"])
    lat, lon = [11.0, -41.0, 89.0], [-179.0, 35.0, 9.0]  # at the dateline, on land, at the pole
    places = net(torch.from_numpy(maps_at(lat, lon, samples, cube)))[..., 0, 0]
    i, j = cube.indexes["lat"].get_indexer(lat), cube.indexes["lon"].get_indexer(lon)
    torch.testing.assert_close(places, whole[0][:, i, j].T, rtol=1e-4, atol=1e-5)


def test_attributes_of_a_file_are_plain_numbers(virtual: xr.Dataset) -> None:
    """A store gives numbers of NumPy, which no header of weights takes."""
    samples = make_samples(virtual.assign_attrs(virtual=np.int64(1)))
    assert json.dumps(samples.attrs)
