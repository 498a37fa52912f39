"""A blend closes exactly, can't be negative, and is the mean that its weights ask for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.optimize import minimize
from settings import TEST, TRAIN, VALID

from tamrl.errors import DataError
from tamrl.rivals.boosting import Boosting, Climatology
from tamrl.samples.arrays import Samples
from tamrl.shipped.blend import Blend, close_balance

fluxes = arrays(np.float32, (5, 3), elements=st.floats(-50, 50, width=32))


@given(fluxes)
@settings(max_examples=300, deadline=None)
def test_closed_fluxes_are_possible_and_stay(flux: NDArray) -> None:
    once = close_balance(flux)
    days = np.stack([flux, flux[::-1]])  # (site, time, flux)
    np.testing.assert_array_equal(close_balance(days), [once, once[::-1]])
    gpp, reco, nee = once.T
    assert (nee == reco - gpp).all()  # to the last bit
    assert min(gpp.min(), reco.min()) >= 0
    np.testing.assert_allclose(close_balance(once), once, rtol=1e-6, atol=1e-5)


@given(fluxes)
@settings(max_examples=25, deadline=None)
def test_no_other_fluxes_that_close_are_nearer(flux: NDArray) -> None:
    """Against a general solver of the same problem with bounds."""

    def far(at: NDArray, f: NDArray) -> float:
        return float(((np.array([at[0], at[1], at[1] - at[0]]) - f) ** 2).sum())

    for f, closed in zip(flux.astype(float), close_balance(flux).astype(float), strict=True):
        best = minimize(far, np.maximum(f[:2], 0), (f,), bounds=[(0, None)] * 2)
        assert far(closed, f) <= best.fun + 1e-4 * max(1, best.fun)


def test_a_missing_flux_leaves_the_day_missing() -> None:
    flux = np.array([[1, 2, np.nan], [np.nan, 2, 1], [3, 2, -1]], np.float32)
    assert np.isfinite(close_balance(flux)).all(1).tolist() == [False, False, True]
    np.testing.assert_allclose(close_balance(flux)[2], [3, 2, -1])


def test_a_weighted_mean_of_parts_that_can_be_used_again(samples: Samples) -> None:
    part = Boosting(trees=20, tune=False)
    blend = Blend((part, Climatology()), (3, 1)).fit(samples, TRAIN, VALID, 0)
    assert part == Boosting(trees=20, tune=False)  # so that the next fold starts afresh
    trees, season = (m.predict(samples, TEST) for m in blend.fitted)
    mean = close_balance(0.75 * trees + 0.25 * season)
    np.testing.assert_allclose(blend.predict(samples, TEST), mean, atol=1e-5)
    assert repr(blend) != repr(Blend((Boosting(trees=21, tune=False), Climatology()), (3, 1)))


def test_only_the_ratio_of_weights_counts() -> None:
    for weights in ((0.25, 0.5), (0, 1)):
        assert Blend((Climatology(), Climatology()), weights).weights == weights


@pytest.mark.parametrize("weights", [(1,), (0, 0), (-1, 2), (1, np.inf)])
def test_weights_that_do_not_fit_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="weights"):
        Blend((Climatology(), Climatology()), weights)


def test_other_targets_are_refused(samples: Samples) -> None:
    gas = replace(samples, targets=("GPP", "RECO", "CH4"))
    with pytest.raises(DataError, match="CH4"):
        Blend((Climatology(),), (1,)).fit(gas, TRAIN, VALID)
