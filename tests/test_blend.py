"""A blend closes exactly, can't be negative, and leans on the model that errs less."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize

from tamrl.errors import DataError
from tamrl.evaluate.crossval import cross_validate
from tamrl.rivals.boosting import Boosting, Climatology
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold
from tamrl.shipped.blend import Blend, close_balance, simplex
from tamrl.virtual.towers import virtual_predictors

TRAIN, VALID, TEST = np.arange(7), np.arange(7, 9), np.arange(9, 12)
fluxes = arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32))


@pytest.fixture(scope="module")
def samples(virtual: xr.Dataset) -> Samples:
    return make_samples(virtual, virtual_predictors(virtual))


@dataclass
class Truth:
    """The labels and an error of its own: a model whose skill is known."""

    noise: float
    bias: float = 0.0

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Truth:
        self.seed = seed
        return self

    def predict(self, samples: Samples, sites: NDArray) -> NDArray:
        draw = np.random.default_rng([self.seed, int(10 * self.noise)])
        error = draw.normal(self.bias, self.noise, samples.y.shape)[sites]
        y = np.where(np.isfinite(samples.y), samples.y, 0)[sites] + error
        return np.where(samples.has_drivers[sites][..., None], y, np.nan).astype(np.float32)


@given(fluxes)
@settings(max_examples=300, deadline=None)
def test_what_is_projected_closes_and_can_be(flux: NDArray) -> None:
    gpp, reco, nee = close_balance(flux).T
    assert (nee == reco - gpp).all()  # to the last bit
    assert gpp.min() >= 0
    assert reco.min() >= 0


@given(fluxes)
@settings(max_examples=100, deadline=None)
def test_what_closes_stays(flux: NDArray) -> None:
    once = close_balance(flux)
    np.testing.assert_allclose(close_balance(once), once, rtol=1e-6, atol=1e-5)


@given(fluxes)
@settings(max_examples=25, deadline=None)
def test_no_other_fluxes_that_close_are_nearer(flux: NDArray) -> None:
    """Against a general solver of the same problem with bounds."""

    def far(at: NDArray, f: NDArray) -> float:
        return float(((np.array([at[0], at[1], at[1] - at[0]]) - f) ** 2).sum())

    for f, found in zip(flux.astype(float), close_balance(flux).astype(float), strict=True):
        best = minimize(far, np.maximum(f[:2], 0), (f,), bounds=[(0, None)] * 2)
        assert far(found, f) <= best.fun + 1e-4 * max(1, best.fun)


def test_a_missing_flux_leaves_the_day_missing() -> None:
    flux = np.array([[1, 2, np.nan], [np.nan, 2, 1], [3, 2, -1]], np.float32)
    assert np.isfinite(close_balance(flux)).all(1).tolist() == [False, False, True]
    np.testing.assert_allclose(close_balance(flux)[2], [3, 2, -1])


def test_weights_by_hand() -> None:
    """Independent errors of sd 1 and 2: the mean errs least with weights 4/5 and 1/5."""
    rng = np.random.default_rng(0)
    y = rng.normal(0, 5, 200_000)
    predicted = y + np.stack([rng.normal(0, 1, y.size), rng.normal(0, 2, y.size)])
    np.testing.assert_allclose(simplex(predicted, y, np.ones_like(y)), [0.8, 0.2], atol=0.01)
    # what only adds error gets nothing, and weights of 0 do not count
    worse = np.stack([predicted[0], predicted[0] + rng.normal(3, 1, y.size)])
    assert simplex(worse, y, np.ones_like(y)) == pytest.approx([1, 0], abs=2e-3)
    half = np.r_[np.ones(y.size // 2), np.zeros(y.size // 2)]
    worse[:, y.size // 2 :] = worse[::-1, y.size // 2 :]
    assert simplex(worse, y, half) == pytest.approx([1, 0], abs=2e-3)
    assert simplex(np.stack([y, y]), y, half).sum() == pytest.approx(1)


def test_fixed_weights_and_a_part_that_is_used_again(samples: Samples) -> None:
    part = Boosting(trees=20)
    blend = Blend((part, Climatology()), (3, 1)).fit(samples, TRAIN, VALID, 0)
    assert part == Boosting(trees=20)  # so that the next fold starts afresh
    pred = blend.predict(samples, TEST)
    boost, clim = (m.predict(samples, TEST) for m in blend.fitted)
    on = samples.has_drivers[TEST]
    np.testing.assert_allclose(pred[on], close_balance(0.75 * boost + 0.25 * clim)[on], atol=1e-5)
    assert np.array_equal(np.isfinite(pred).all(-1), on)
    gpp, reco, nee = pred[on].T
    assert (nee == reco - gpp).all()
    assert min(gpp.min(), reco.min()) >= 0


def test_learnt_weights_lean_on_the_better_model(samples: Samples) -> None:
    blend = Blend((Truth(0.5), Truth(1.0), Truth(0.4, bias=9.0))).fit(samples, TRAIN, VALID, 0)
    np.testing.assert_allclose(blend.shares.sum(0), 1)
    np.testing.assert_allclose(blend.shares[0], 0.8, atol=0.05)
    np.testing.assert_allclose(blend.shares[1], 0.2, atol=0.05)
    on = samples.scored[TEST]
    error = blend.predict(samples, TEST)[on] - samples.y[TEST][on]
    each = [m.predict(samples, TEST)[on] - samples.y[TEST][on] for m in blend.fitted]
    assert (error**2).mean() < min((e**2).mean() for e in each)


def test_weights_are_learnt_without_test_and_validation_labels(samples: Samples) -> None:
    changed = replace(samples, y=samples.y.copy())
    changed.y[np.r_[VALID, TEST]] *= -3
    blends = [
        Blend((Climatology(), Truth(1.0))).fit(s, TRAIN, VALID, 0) for s in (samples, changed)
    ]
    rest = replace(changed, y=changed.y.copy())
    rest.y[TRAIN] *= -3
    other = Blend((Climatology(), Truth(1.0))).fit(rest, TRAIN, VALID, 0)
    assert not np.allclose(blends[0].shares, other.shares)
    # Climatology reads validation labels, as all final fits may; test labels nobody reads.
    blind = replace(samples, y=samples.y.copy())
    blind.y[TEST] = 99
    same = Blend((Climatology(), Truth(1.0))).fit(blind, TRAIN, VALID, 0)
    np.testing.assert_array_equal(same.shares, blends[0].shares)


def test_in_cross_validation(samples: Samples, tmp_path: Path) -> None:
    fold = [Fold("0", TRAIN, VALID, TEST)]
    models = {
        "fixed": partial(Blend, (Boosting(trees=10), Climatology()), (1, 1)),
        "learnt": partial(Blend, (Boosting(trees=10), Climatology()), inner=2),
    }
    pred = cross_validate(samples, models, fold, [0], tmp_path, jobs=2)
    assert bool(pred.NEE.notnull().any())
    assert float(abs(pred.NEE - (pred.RECO - pred.GPP)).max()) == 0
    assert "trees=10" in repr(models["fixed"]())
    assert repr(models["fixed"]()) != repr(Blend((Boosting(trees=11), Climatology()), (1, 1)))


def test_what_cannot_be_blended_is_refused(samples: Samples) -> None:
    with pytest.raises(DataError, match="weights"):
        Blend((Climatology(), Climatology()), (1,)).fit(samples, TRAIN, VALID)
    with pytest.raises(DataError, match="separate blocks"):
        Blend((Climatology(),), inner=20).fit(samples, TRAIN, VALID)
    gas = replace(samples, targets=("GPP", "RECO", "CH4"))
    with pytest.raises(DataError, match="CH4"):
        Blend((Climatology(),), (1,)).fit(gas, TRAIN, VALID)
