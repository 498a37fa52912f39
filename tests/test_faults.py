"""Twelve faults of the method's public implementation, and the test here that fails on each.

`TESTS` names a test for every fault; those that stand nowhere else are in this file.
"""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from settings import SMALL, TEST, TRAIN, VALID
from torch.utils._python_dispatch import TorchDispatchMode

from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.samples.arrays import Samples

TESTS = {
    "1 the physics term never ran": "faults.test_the_balance_term_moves_the_weights",
    "2 balance of scaled fluxes": "train.test_a_step_has_the_loss_that_is_written",
    "3 the support set has no effect": "model.test_support_changes_z_and_the_prediction",
    "4 no gradient": "train.test_each_term_of_a_step_moves_what_it_teaches",
    "5 the last epoch kept": "train.test_the_best_weights_are_kept_though_training_goes_on",
    "6 FiLM tied": "model.test_film_scales_and_shifts_independently",
    "7 a missing label costs drivers": "samples.test_a_missing_label_never_costs_a_driver_day",
    "7b models on different days": "scores.test_all_models_on_the_same_days",
    "8 stopping watches time": "faults.test_what_stops_the_training_is_towers_held_out",
    "9 neighbours straddle the split, 10 no type is left out": "splits.test_no_leakage",
    "11 clipped scores": "scores.test_scores_agree_with_sklearn",
    "11b mean for median": "scores.test_percentiles_are_over_long_towers",
    "12 a loop over samples": "faults.test_work_in_a_step_is_not_a_loop_over_windows",
}


@pytest.mark.parametrize("fault", TESTS)
def test_every_fault_has_its_test(fault: str) -> None:
    module, name = TESTS[fault].split(".")
    assert callable(getattr(importlib.import_module(f"test_{module}"), name))


def test_the_balance_term_moves_the_weights(samples: Samples) -> None:
    """Fluxes of three free heads balance better when imbalance is punished."""
    gap = []
    for weight in (0.0, 10.0):
        recipe = replace(PUBLISHED, epochs=3, batch=8, pretrain_epochs=1, balance=weight)
        net = {**SMALL, "closure": "soft", "gates": False, "process": False}
        model = TamRLModel(net, recipe).fit(samples, TRAIN, VALID, 0)
        assert model.log[-1]["balance"] > 0
        gpp, reco, nee = np.moveaxis(model.predict(samples, TEST), -1, 0)
        gap.append(np.nanmean(np.abs(nee - (reco - gpp))))
    assert gap[1] < 0.7 * gap[0]


def test_what_stops_the_training_is_towers_held_out(samples: Samples) -> None:
    """Other labels at the towers held out give another stopping score, and the same training."""
    other, recipe = replace(samples, y=samples.y.copy()), Recipe(epochs=2, batch=8, length=120)
    other.y[VALID] += 1
    logs = [TamRLModel(SMALL, recipe).fit(s, TRAIN, VALID, 0).log for s in (samples, other)]
    for first, second in zip(*logs, strict=True):
        assert first["data"] == second["data"]
        assert first["valid"] != second["valid"]


def test_work_in_a_step_is_not_a_loop_over_windows(samples: Samples) -> None:
    """Four times the windows take the same number of operations, not four times as many."""

    class Count(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += 1
            return func(*args, **(kwargs or {}))

    model = TamRLModel(SMALL, Recipe(length=60, warmup=10))
    net = TamRL(Config(len(samples.features), len(samples.static_names), **SMALL))
    data = DeviceData(samples, net, torch.device("cpu"))
    counts = []
    for n in (8, 32):
        site, start = np.resize(TRAIN, n), np.arange(n) * 10
        with Count() as count:
            model._terms(net, data, site, start, np.random.default_rng(0), alone=False)
        counts.append(count.n)
    assert counts[0] == counts[1]
