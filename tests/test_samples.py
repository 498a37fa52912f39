"""Drivers and labels are masked apart, nothing leaks, nothing depends on file order."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tamrl.samples.arrays import SCORE_QC, Samples, Scaler, make_samples, windows
from tamrl.virtual.towers import virtual_predictors


@pytest.fixture(scope="module")
def samples(virtual: xr.Dataset) -> Samples:
    return make_samples(virtual, virtual_predictors(virtual))


def test_a_missing_label_never_costs_a_driver_day(virtual: xr.Dataset) -> None:
    some = virtual.copy(deep=True)
    some["NEE"][0, 100:200] = np.nan
    a, b = make_samples(virtual), make_samples(some)
    assert np.array_equal(a.x, b.x, equal_nan=True)
    assert np.array_equal(a.has_drivers, b.has_drivers)
    assert not b.scored[0, 100:200].any()
    assert np.array_equal(a.scored[1:], b.scored[1:])


def test_a_missing_driver_masks_that_driver_only(virtual: xr.Dataset) -> None:
    some = virtual.copy(deep=True)
    some["TA_max"][2, 50:90] = np.nan
    a, b = make_samples(virtual), make_samples(some)
    assert np.array_equal(a.has_drivers, b.has_drivers)
    assert np.array_equal(a.scored, b.scored)
    assert np.isnan(b.x[2, 50:90, b.features.index("TA_max")]).all()
    some["TA"][2, 50:90] = np.nan  # a minimal driver: the day can't be predicted
    c = make_samples(some)
    assert not c.has_drivers[2, 50:90].any()
    assert not c.scored[2, 50:90].any()


def test_scored_and_trained_days_follow_the_quality_shares(
    samples: Samples, virtual: xr.Dataset
) -> None:
    qc = virtual.NEE_QC.values
    assert (qc[samples.scored] >= SCORE_QC).all()
    assert (samples.weight[samples.scored] >= SCORE_QC - 1e-6).all()
    assert samples.scored.sum() > 0.3 * samples.has_drivers.sum()
    used = samples.weight > 0
    np.testing.assert_allclose(samples.weight[used], qc[used])


def test_features_are_the_same_whatever_is_missing(virtual: xr.Dataset, samples: Samples) -> None:
    bare = make_samples(virtual[["TA", "VPD", "SW_IN"]])
    assert bare.features == samples.features
    assert bare.static_names == samples.static_names
    assert bare.has_drivers.sum() == samples.has_drivers.sum()
    assert not bare.scored.any()


def test_monthly_values_never_cross_a_missing_month(virtual: xr.Dataset) -> None:
    monthly = virtual_predictors(virtual).copy(deep=True)
    monthly["FPAR"][:] = 0.5
    gone = (monthly.month >= np.datetime64("2002-03-01")) & (
        monthly.month < np.datetime64("2002-06-01")
    )
    monthly["FPAR"] = monthly.FPAR.where(~gone)
    s = make_samples(virtual, monthly)
    fpar = s.x[..., s.features.index("FPAR")]
    inside = (s.time > np.datetime64("2002-03-16")) & (s.time < np.datetime64("2002-05-14"))
    assert np.isnan(fpar[:, inside]).all()
    outside = (s.time < np.datetime64("2002-02-28")) & (s.time > np.datetime64("2001-02-01"))
    np.testing.assert_allclose(fpar[:, outside][s.has_drivers[:, outside]], 0.5, rtol=1e-6)


def test_row_order_does_not_matter(virtual: xr.Dataset, samples: Samples) -> None:
    order = np.random.default_rng(0).permutation(virtual.sizes["site"])
    mixed = make_samples(virtual.isel(site=order), virtual_predictors(virtual))
    assert np.array_equal(mixed.x, samples.x[order], equal_nan=True)
    assert np.array_equal(mixed.static, samples.static[order], equal_nan=True)
    assert mixed.fingerprint != samples.fingerprint
    again = make_samples(virtual, virtual_predictors(virtual))
    assert again.fingerprint == samples.fingerprint


def test_scaling_sees_training_towers_only(samples: Samples) -> None:
    train = np.arange(6)
    before = Scaler.fit(samples, train)
    samples_changed = Samples(**{**vars(samples), "x": samples.x.copy(), "y": samples.y.copy()})
    samples_changed.x[6:] *= 100
    samples_changed.y[6:] += 50
    after = Scaler.fit(samples_changed, train)
    for name in vars(before):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(1, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_windows_cover_every_labelled_day(days: list[bool], length: int, extra: int) -> None:
    on = np.array([days])
    found = windows(on, length, length)
    covered = np.zeros_like(on)
    for tower, start in found:
        assert on[tower, start : start + length].any()
        assert not covered[tower, start : start + length].any()  # each day once
        covered[tower, start : start + length] = True
    assert (covered >= on).all()


def test_real_towers_give_the_known_number_of_days(real_towers: xr.Dataset) -> None:
    s = make_samples(real_towers)
    assert len(s.site) == 180
    assert 335_000 < s.scored.sum() < 346_000
    used = s.y[s.weight > 0]
    np.testing.assert_allclose(used[:, 2], used[:, 1] - used[:, 0], atol=1e-4)
