"""Daily fluxes drawn to the annual means of their place: half-way, closing, nothing leaked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tamrl.errors import DataError
from tamrl.evaluate.crossval import cross_validate
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import folds
from tamrl.shipped import pretrained, weights
from tamrl.shipped.annual import (
    FLOOR,
    MOST,
    AnnualPrior,
    AnnualRescaling,
    own_means,
    rescaling_factors,
)
from tamrl.shipped.blend import Blend
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TRAIN, VALID, TEST = np.arange(20), np.arange(20, 24), np.arange(24, 40)
SMALL, QUICK = {"hidden": 8, "latent": 4, "embed": 4}, Recipe(epochs=1, length=120)
means = st.floats(FLOOR, 15)


@pytest.fixture(scope="module")
def samples() -> Samples:
    towers: xr.Dataset = virtual_towers(n=40, years=(2001, 2002), seed=5)
    return make_samples(towers, virtual_predictors(towers), virtual_grid())


@given(means, means)
def test_half_way_whichever_comes_first(one: float, other: float) -> None:
    """Drawn from either side two means meet in the middle, unless a factor would pass its bound."""
    a, b = np.array([[one, one]]), np.array([[other, other]])
    there, back = rescaling_factors(a, b), rescaling_factors(b, a)
    np.testing.assert_allclose(there * back, 1, rtol=1e-9)
    assert ((there >= 1 / MOST) & (there <= MOST)).all()
    if 1 / MOST**2 < one / other < MOST**2:
        np.testing.assert_allclose(a * there, b * back, rtol=1e-9)


def test_a_record_that_makes_no_year_is_left_as_it_is() -> None:
    """Without a mean of its own a tower has nothing to be drawn by."""
    assert (rescaling_factors(np.array([[np.nan, np.nan]]), np.array([[3.0, 2.0]])) == 1).all()


def test_fluxes_are_scaled_by_tower_and_close(samples: Samples) -> None:
    """One factor a tower and flux; NEE = RECO - GPP to the last bit; missing days stay missing."""
    model = AnnualRescaling(TamRLModel(SMALL, QUICK)).fit(samples, TRAIN, VALID, 0)
    plain, drawn = model.fitted.predict(samples, TEST), model.predict(samples, TEST)
    np.testing.assert_array_equal(drawn[..., 2], drawn[..., 1] - drawn[..., 0])
    np.testing.assert_array_equal(np.isnan(drawn), np.isnan(plain))
    with np.errstate(invalid="ignore"):
        ratio = drawn[..., :2] / np.where(plain[..., :2] > 1e-2, plain[..., :2], np.nan)
    assert np.nanmax(np.nanstd(ratio, 1)) < 1e-4
    assert np.nanstd(ratio) > 0.01
    few = model.predict(samples, TEST[[5, 2]])  # neither order nor company counts
    np.testing.assert_allclose(few, drawn[[5, 2]], rtol=1e-4, atol=1e-5)
    known = np.isfinite(drawn).all(-1).astype(np.float32)
    told = replace(samples, site=samples.site[TEST], weight=known)
    assert samples.places is not None
    assert model.annual is not None
    expected = model.annual.predict(samples.places.x[TEST])
    off = [
        np.nanmean(np.abs(np.log(own_means(replace(told, y=flux)) / expected)))
        for flux in (plain, drawn)
    ]
    assert off[1] < 0.75 * off[0]


def test_labels_of_tested_towers_do_not_matter(samples: Samples) -> None:
    """Whatever the tested towers measured, they are predicted the same."""
    y = samples.y.copy()
    y[TEST] += 5
    one, two = (
        AnnualRescaling(Climatology()).fit(each, TRAIN, VALID, 0).predict(each, TEST)
        for each in (samples, replace(samples, y=y))
    )
    np.testing.assert_array_equal(one, two)


def test_it_is_stored_and_read(samples: Samples, tmp_path: Path) -> None:
    """Weights of a drawn network predict the same; its networks alone are not drawn."""
    model = AnnualRescaling(TamRLModel(SMALL, QUICK)).fit(samples, TRAIN, VALID, 0)
    both = Blend((AnnualRescaling(TamRLModel(SMALL, QUICK)),), (1.0,)).fit(samples, TRAIN, VALID, 0)
    pretrained.save([model], tmp_path / "m.safetensors", samples, towers=24)
    (again,), header = pretrained.load(tmp_path / "m.safetensors", "cpu")
    assert header["models"][0]["kind"] == "anchored"
    assert isinstance(again, AnnualRescaling)
    np.testing.assert_array_equal(again.predict(samples, TEST), model.predict(samples, TEST))
    assert [type(m) for m in weights.networks_alone([again, both])] == [TamRLModel, TamRLModel]
    assert repr(AnnualRescaling(Climatology())) != repr(AnnualPrior(Climatology()))
    other = replace(samples, targets=("GPP", "RECO", "CH4"))
    with pytest.raises(DataError, match="not of"):
        model.predict(other, TEST)


def test_a_comparison_draws_what_it_has_kept(samples: Samples, tmp_path: Path) -> None:
    """In cross-validation the model is fitted once, for itself and for what is drawn of it."""
    parts = folds(samples, 2)
    models = {"plain": Climatology, "drawn": _drawn}
    kept = cross_validate(samples, models, parts, [0], tmp_path, 1)
    assert not list(tmp_path.glob("part_of_*"))
    fold = parts[0]
    anew = _drawn().fit(samples, fold.train, fold.valid, 0).predict(samples, fold.test)
    found = kept.sel(model="drawn").isel(site=fold.test)
    for k, flux in enumerate(("GPP", "RECO", "NEE")):
        np.testing.assert_array_equal(found[flux].values, anew[..., k])


def _drawn() -> AnnualRescaling:
    return AnnualRescaling(Climatology())
