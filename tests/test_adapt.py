"""Few labels of a new tower: a known bias goes, little else moves, and nothing gets much worse."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from settings import QUICK, SMALL, TEST, TRAIN, VALID

from tamrl.errors import DataError
from tamrl.model import adapt
from tamrl.model.adapt import OFFSETS, finetune, stop_at
from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import DeviceData, set_scale
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold
from tamrl.study.adaptation import ADAPTED, NONE, curve
from tamrl.study.gradient import adapt_network


@pytest.fixture(scope="module")
def model(samples: Samples) -> TamRLModel:
    return TamRLModel(recipe=Recipe(epochs=6, batch=8)).fit(samples, TRAIN, VALID, 0)


def weights(model: TamRLModel) -> dict[str, torch.Tensor]:
    return model.net.state_dict()


def labelled_by_itself(model: TamRLModel, samples: Samples, reco: float) -> Samples:
    """Label the towers with the model's own predictions and ``reco`` gC m-2 d-1 more of RECO."""
    y = model.predict(samples, np.arange(len(samples.site))) + np.float32([0, reco, reco])
    return replace(samples, y=np.where(samples.weight[..., None] > 0, y, np.float32(np.nan)))


def error(model: TamRLModel, samples: Samples, site: int, on: np.ndarray) -> np.ndarray:
    pred = model.predict(samples, np.array([site]))[0][on]
    return np.sqrt(((pred - samples.y[site][on]) ** 2).mean(0))


def test_a_known_bias_is_removed(model: TamRLModel, samples: Samples) -> None:
    biased = labelled_by_itself(model, samples, 0.6)
    site = int(TEST[np.argmax((samples.weight[TEST] > 0).sum(1))])
    rest = (biased.weight[site] > 0) & ((biased.weight[site] > 0).cumsum() > 365)
    assert rest.sum() > 100
    adapted = finetune(model, biased, np.array([site]), 365)
    pred = adapted.predict(biased, np.array([site]))[0][rest]
    off = np.abs((pred - biased.y[site][rest]).mean(0))
    assert (off < [0.25, 0.31, 0.3]).all()  # of 0, 0.6, 0.6: few steps, pulled back
    before, after = (error(m, biased, site, rest) for m in (model, adapted))
    assert before[1] == pytest.approx(0.6, abs=0.01)
    assert after[1] < 0.8 * before[1]  # a constant is not among what process scalars can express


def test_right_labels_change_nothing_and_noise_does_no_harm(model, samples) -> None:
    """30 days of white noise (sd 1) about the prediction move it by less than half of that."""
    right = labelled_by_itself(model, samples, 0.0)
    noise = np.random.default_rng(0).normal(0, 1, right.y.shape).astype(np.float32)
    for given, days, most in ((right, 90, 0.05), (replace(right, y=right.y + noise), 30, 0.5)):
        adapted = finetune(model, given, TEST[:1], days)
        assert error(adapted, right, int(TEST[0]), right.weight[TEST[0]] > 0).max() < most


def test_what_moves(model: TamRLModel, samples: Samples) -> None:
    """The few offsets that are listed, and no other weight."""
    before = {name: v.clone() for name, v in weights(model).items()}
    after = weights(finetune(model, labelled_by_itself(model, samples, 1.0), TEST[:1], 90))
    moved = {name for name, v in before.items() if not torch.equal(v, after[name])}
    assert moved == set(OFFSETS)
    assert sum(after[name].numel() for name in OFFSETS) < 600
    assert all(torch.equal(v, weights(model)[name]) for name, v in before.items())


def test_the_given_labels_and_no_others_decide(model: TamRLModel, samples: Samples) -> None:
    on = samples.weight[TEST[:1]] > 0
    given = on & (on.cumsum(1) <= 60)
    changed = replace(samples, y=samples.y.copy())
    changed.y[TEST[:1]] = np.where(given[..., None], samples.y[TEST[:1]], 99)
    given = (samples, 60), (samples, given), (changed, given)
    first, *others = (weights(finetune(model, s, TEST[:1], days)) for s, days in given)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in first.items())


def test_every_labelled_day_counts_once(model: TamRLModel, samples: Samples) -> None:
    labelled = samples.weight[TEST] > 0
    rows, time, counted = adapt._windows(model, adapt._blocks(labelled))
    count = np.zeros(labelled.shape, int)
    np.add.at(count, (np.broadcast_to(rows[:, None], time.shape), time), counted)
    assert (count[labelled] == 1).all()
    assert ((counted.argmax(1) >= model.recipe.warmup) | (time[:, 0] == 0)).all()  # days before it


def free(samples: Samples, closure: str) -> TamRLModel:
    """Return an untrained model of three heads without closure, scaled by all towers."""
    torch.manual_seed(0)
    sizes = len(samples.features), len(samples.static_names)
    net = TamRL(Config(*sizes, **SMALL, closure=closure))
    set_scale(net, samples, np.arange(len(samples.site)))
    return TamRLModel(recipe=QUICK, net=net, features=samples.features)


@pytest.mark.parametrize("off", [0.0, 1.5])
def test_free_heads_close_in_physical_units(samples: Samples, off: float) -> None:
    """Predictions that agree with all labels move only where they do not close, in gC m-2 d-1."""
    flux, model = torch.tensor([5.0, 3.0, off - 2.0]), free(samples, "soft")
    net = model.net
    with torch.no_grad():
        net.head.zero_()
        net.bias.copy_((flux - net.y_mean) / net.y_sd)
    labels = np.where(samples.weight[..., None] > 0, flux.numpy(), np.float32(np.nan))
    labels[..., 2] = np.nan  # NEE is not known
    few = replace(samples, y=labels).select(TEST[:1])
    data, block = DeviceData(few, net, torch.device("cpu")), adapt._blocks(few.weight > 0)
    after, _ = adapt._descend(model, data, block, None, adapt._way(net, None), 3)
    gpp, reco, nee = (after.bias * net.y_sd + net.y_mean).tolist()
    gap = abs(nee - (reco - gpp))
    assert gap == pytest.approx(0, abs=1e-4) if off == 0 else gap < 1.4


def test_labels_in_another_unit_adapt_alike(samples: Samples) -> None:
    given = samples, replace(samples, y=samples.y * 16)
    logs = [finetune(free(s, "none"), s, TEST[:1], 120, steps=4).log for s in given]
    for one, other in zip(*logs, strict=True):
        assert one["held_out"] == pytest.approx(other["held_out"], rel=1e-3)


def test_a_network_is_adapted_away_from_the_days_that_are_scored(
    model: TamRLModel, samples: Samples
) -> None:
    """At each test tower with labels enough, on one run of each length; scored days are others."""
    fold = Fold("0", TRAIN, VALID, TEST)
    errors = adapt_network(model, samples, [fold], (30, 90))
    assert set(errors.days) == {30, 90}
    scored = pd.Series(samples.scored.sum(1), samples.site)
    assert (errors.n <= scored[errors.site].to_numpy() - 20).all()
    assert np.isfinite(curve(errors).change).all()
    with pytest.raises(DataError, match="no test tower"):
        adapt_network(model, samples, [fold], (3000,))


def test_the_descent_stops_where_blocks_disagree() -> None:
    assert stop_at(np.array([[1.0, 0.5, 0.4], [1.1, 0.6, 0.5], [0.9, 0.4, 0.3]])) == 2
    assert stop_at(np.array([[1.0, 0.1, 0.1], [1.0, 1.2, 1.3], [1.0, 1.2, 1.3]])) == 0


def test_too_few_labels_and_other_drivers_are_refused(model: TamRLModel, samples: Samples) -> None:
    with pytest.raises(DataError, match="5 labelled days"):
        finetune(model, samples, TEST[:1], 5)
    with pytest.raises(DataError, match="other drivers"):
        finetune(replace(model, features=("TA",)), samples, TEST[:1], 60)


def test_curve_by_hand() -> None:
    """Half the error at one tower, a fifth more at the other; pooled and by tower."""
    cases = [("A", NONE, 400), ("A", ADAPTED, 100), ("B", NONE, 400), ("B", ADAPTED, 576)]
    same = {"flux": "GPP", "days": 30, "n": 100, "before": 400.0, "inside": 90}
    rows = [{"way": way, "site": site, "square": v, **same} for site, way, v in cases]
    row = curve(pd.DataFrame(rows)).set_index("way").loc[ADAPTED]
    assert pytest.approx(np.sqrt(676 / 200)) == row.RMSE
    assert row.change == pytest.approx(100 * (np.sqrt(676 / 800) - 1))
    assert row.tower_change == pytest.approx(100 * ((1 + 2.4) / 4 - 1))
    assert (row.worse, row.much_worse, row.inside) == (0.5, 0.5, 0.9)
    assert row.lower == pytest.approx(-50)
    assert row.upper == pytest.approx(20)
    assert curve(pd.DataFrame(rows)).set_index("way").loc[NONE].change == 0


def test_a_further_gas_is_learnt_from_few_labels(model: TamRLModel, samples: Samples) -> None:
    """A gas that goes with respiration: half a year tells the rest, and no other flux moves."""
    truth = 0.04 * model.predict(samples, np.arange(len(samples.site)))[..., 1] + 0.1
    known = np.where(samples.weight > 0, truth, np.float32(np.nan)).astype(np.float32)
    y = np.concatenate([samples.y, known[..., None]], -1)
    gas = replace(samples, y=y, targets=(*samples.targets, "CH4"))
    site = TEST[:1]
    wider = adapt.add_target(model, "CH4", float(np.nanmean(known)), float(np.nanstd(known)))
    before = wider.predict(gas, site)
    np.testing.assert_array_equal(before[..., :3], model.predict(samples, site))
    assert np.nanstd(before[..., 3]) < 1e-6
    own = finetune(wider, gas, site, 180, steps=60, only="CH4")
    after = own.predict(gas, site)
    on = np.isfinite(known[site]) & ((gas.weight[site] > 0).cumsum(1) > 180)
    assert on.sum() > 100
    square = [((p[..., 3] - known[site])[on] ** 2).mean() for p in (before, after)]
    assert square[1] < 0.36 * square[0]
    np.testing.assert_array_equal(after[..., :3], before[..., :3])
    for only, text in (("NEE", "sum of other fluxes"), ("N2O", "does not predict N2O")):
        with pytest.raises(DataError, match=text):
            finetune(wider, gas, site, 180, only=only)


def test_a_target_is_added_once_and_with_a_size(model: TamRLModel) -> None:
    """The name must be new, the spread positive."""
    with pytest.raises(DataError, match="predicts NEE already"):
        adapt.add_target(model, "NEE", 0, 1)
    with pytest.raises(DataError, match="says nothing of the size"):
        adapt.add_target(model, "CH4", 0, 0)
    with pytest.raises(ValueError, match="fit or load"):
        adapt.add_target(TamRLModel(), "CH4", 0, 1)
