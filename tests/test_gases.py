"""More gases by name: the CO2-equivalent budget closes, one model predicts them all."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from settings import QUICK, SMALL, TEST, TRAIN, VALID

from tamrl.data import fetch_methane_towers
from tamrl.data.schema import FLUXES
from tamrl.evaluate.crossval import cross_validate
from tamrl.evaluate.scores import sum_up, summarise
from tamrl.model.adapt import finetune
from tamrl.model.loss import balance
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold
from tamrl.shipped import pretrained, weights_file
from tamrl.study import gases
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TWO = replace(QUICK, epochs=2)


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    return gases.with_equivalent(virtual_towers(12, (2001, 2003), gases=("CH4", "N2O")))


@pytest.fixture(scope="module")
def samples(towers: xr.Dataset) -> Samples:
    return make_samples(towers, virtual_predictors(towers), targets=gases.settings()["targets"])


@pytest.fixture(scope="module")
def model(samples: Samples) -> TamRLModel:
    return TamRLModel(SMALL | gases.settings(), TWO).fit(samples, TRAIN, VALID, 0)


def test_warming_by_hand() -> None:
    """One mole of each gas: 44 g of CO2, 16 g of CH4 27 times, 44 g of N2O 273 times."""
    budget = gases.equivalent()
    warming = dict(zip(budget.parts, budget.coefficients, strict=True))
    assert 12.011 * warming["NEE"] == pytest.approx(44.009)
    assert 12.011 * warming["CH4"] == pytest.approx(27.0 * 16.043)
    assert 28.014 * warming["N2O"] == pytest.approx(273 * 44.013)
    assert gases.equivalent(("CH4",)).parts == ("NEE", "CH4")


def test_labels_close_and_missing_parts_leave_the_sum_missing(towers: xr.Dataset) -> None:
    largest, size = gases.gap(towers)
    assert largest < 1e-5 * size
    holed = towers.drop_vars("CO2EQ").copy(deep=True)
    holed.N2O[0] = np.nan
    assert gases.with_equivalent(holed).CO2EQ[0].isnull().all()


def test_predictions_close_by_construction(model: TamRLModel, samples: Samples) -> None:
    pred = model.predict(samples, TEST)[samples.has_drivers[TEST]].astype(float)
    flux = dict(zip(samples.targets, pred.T, strict=True))
    assert np.abs(flux["NEE"] - flux["RECO"] + flux["GPP"]).max() < 1e-5
    largest, size = gases.gap(xr.Dataset({name: ("day", f) for name, f in flux.items()}))
    assert largest < 1e-4 * size
    assert min(flux["CH4"].std(), flux["N2O"].std()) > 0


def test_the_soft_closure_knows_both_budgets(samples: Samples) -> None:
    soft = TamRLModel({**SMALL, **gases.settings(), "closure": "soft"}, TWO)
    soft.fit(samples, TRAIN, VALID, 0)
    assert soft.log[-1]["balance"] > 0
    y = torch.from_numpy(samples.y[samples.scored][None].astype(np.float64))
    on = torch.ones(y.shape[:2])
    assert balance(y, *gases.settings().values(), on) < 1e-9  # targets, budgets


def test_carbon_labels_are_those_of_the_carbon_study(towers: xr.Dataset, samples: Samples) -> None:
    carbon = make_samples(towers, virtual_predictors(towers))
    assert carbon.targets == FLUXES
    np.testing.assert_array_equal(carbon.y, samples.y[..., :3])
    np.testing.assert_array_equal(carbon.x, samples.x)


def test_days_with_one_gas_missing_are_trained_on_but_not_scored(towers: xr.Dataset) -> None:
    holed = towers.copy(deep=True)
    holed.CH4[:, ::2] = np.nan
    s, whole = (make_samples(each, None, targets=(*FLUXES, "CH4")) for each in (holed, towers))
    assert (s.weight == whole.weight).all()
    assert not s.scored[:, ::2].any()


def test_one_protocol_for_all_targets(samples: Samples, tmp_path: Path) -> None:
    fold = [Fold("0", TRAIN, VALID, TEST)]
    pred = cross_validate(samples, {"mean": gases.TowerMean}, fold, [0], tmp_path, jobs=1)
    scores = summarise(sum_up(pred, samples)).set_index("flux")
    assert list(scores.index) == list(samples.targets)
    expected = np.nanmean(np.nanmean(samples.y[:9, :, 3], 1))
    assert float(pred.CH4.mean()) == pytest.approx(expected, rel=1e-4)
    assert set(gases.shares(pred).columns) == {"NEE", "CH4", "N2O"}


def test_marshes(need: Callable[[str], None]) -> None:
    need("towers_methane/")
    marshes = fetch_methane_towers()
    s = gases.marsh_samples(marshes)
    assert s.targets == (*FLUXES, "CH4")
    days = dict(zip(s.site, s.scored.sum(1), strict=True))
    assert days == {"US-EDN": 1209, "US-LA1": 426, "US-PLM": 200, "US-SRR": 1654, "US-STJ": 1096}
    y = s.y[s.scored]
    assert np.abs(y[:, 2] - y[:, 1] + y[:, 0]).max() < 1e-5
    # a day's mean shortwave in the mid latitudes lies between 0 and 400 W m-2
    sun = s.x[..., s.features.index("SW_IN")][s.has_drivers]
    assert 100 < sun.mean() < 250
    assert 0 <= sun.min() < sun.max() < 420

    model = TamRLModel(SMALL | {"targets": s.targets}, TWO)
    model.fit(s, np.array([0, 1, 3]), np.array([2]), 0)
    pred = finetune(model, s, np.array([4]), 90).predict(s, np.array([4]))
    assert np.isfinite(pred[0][s.has_drivers[4]]).all()


def test_a_model_without_the_gas_learns_it(towers: xr.Dataset, tmp_path: Path) -> None:
    """Labels that follow respiration are learnt from some of them; noise stays at its mean."""
    carbon = make_samples(towers, virtual_predictors(towers))
    network = TamRLModel(recipe=Recipe(epochs=6, batch=8))
    network.fit(carbon, np.arange(8), np.arange(8, 10), 0)
    weights_file.save([network], tmp_path / "w.safetensors", carbon, towers=10)
    ensemble = pretrained.open_weights(tmp_path / "w.safetensors")
    one = towers.isel(site=[0])
    place = make_samples(one, virtual_predictors(one), targets=(*FLUXES, "CH4"))
    breathed = 0.1 * network.predict(carbon, np.array([0]))[..., 1]
    noise = np.random.default_rng(0).normal(1, 0.1, breathed.shape)
    for truth, gain in ((breathed, True), (noise, False)):
        y = place.y.copy()
        y[..., -1] = np.where(np.isfinite(y[..., -1]), truth, np.nan)
        row = gases.learn_gas(ensemble, replace(place, y=y), "CH4", (180,)).iloc[0]
        assert row.n > 180
        assert (row.change < -10) == gain
        assert max(row.change, row.expected) < 10
