"""Faults, each with the test that fails on it or the words that a user reads.

`TESTS` names a test for every one of twelve faults of the method's public implementation; those
that stand nowhere else are in this file. Tables below hold a line for each fault of a user's file:
what is changed in a sound one, and the words of the one `DataError` that it must raise. Add a line
for any that is found.
"""

import contextlib
import importlib
import json
import lzma
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import smallweights
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from settings import SMALL, TEST, TRAIN, VALID
from test_trees import GOOD, text_of
from torch.utils._python_dispatch import TorchDispatchMode

from tamrl.errors import DataError
from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.rivals.forest import Forest
from tamrl.samples.arrays import Samples
from tamrl.shipped import pretrained

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


def at(index: Any, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Put one value into a copy of an array."""

    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[index] = value
        return array

    return change


def trees(old: str, new: str) -> Callable[[np.ndarray], np.ndarray]:
    """Change the text of trees."""
    return lambda _: np.frombuffer(
        lzma.compress(text_of(GOOD).replace(old, new).encode()), np.uint8
    )


def bomb(_: np.ndarray) -> np.ndarray:
    """Pack 80 MB into a few bytes."""
    packer = lzma.LZMACompressor(preset=1)
    parts = [packer.compress(bytes(1 << 24)) for _ in range(5)]
    return np.frombuffer(b"".join([*parts, packer.flush()]), np.uint8)


BLEND, NET = "models.0.model.model", "models.0.model.model.parts.0.model"
ANNUAL, ARRAY, GPP = "models.0.model.annual", "@0.model.model.0.model", "@0.model.model.1.GPP"
WEIGHTS: dict[str, tuple[str, Any, str]] = {  # what is changed, how, what is said
    "no models": ("models", ..., "the header lacks models"),
    "no features": ("features", ..., "the header lacks features"),
    "no model": ("models", [], "models is .*a list of 1"),
    "models that are none": ("models", [3], r"models\[0\] is 3; expected entries"),
    "a kind unknown": ("models.0.kind", "os.system", "'os.system' are unknown"),
    "a kind that is a list": ("models.0.kind", ["blend"], "kind is"),
    "other members than there are": ("members", 3, "members is 3; expected 1"),
    "a count that is a text": ("towers", "many", "towers is 'many'"),
    "a count below 0": ("towers", -1, "towers is -1"),
    "a feature twice": ("features", ["TA", "VPD", "TA"], "every name once"),
    "features in another order": ("features", ["VPD", "TA", "SW_IN"], "differ in their order"),
    "features of another name": ("features", ["TA", "VPD", "RG"], "'RG', 'SW_IN'"),
    "one feature fewer": ("features", ["TA", "VPD"], "'SW_IN'"),
    "statics that are a text": ("statics", "elevation", "statics is 'elevation'"),
    "bounds upside down": ("intervals.GPP.quantiles.0@9", [1.5, -1.5], "lower and an upper"),
    "a bound that is missing": ("intervals.GPP.quantiles.0@9", [None, 1.5], "2 numbers"),
    "an infinite bound": ("intervals.GPP.quantiles.0@9", [float("-inf"), 1.5], "is -inf"),
    "a level of no share": ("intervals.GPP.quantiles", {"90": [-1, 1]}, "a level"),
    "a level of no number": ("intervals.GPP.quantiles", {"most": [-1, 1]}, "most"),
    "a negative size of errors": ("intervals.GPP.scale", [1, -1, 0], r"scale\[1\] is -1"),
    "bounds of no flux": ("intervals", {"CH4": {}}, "'CH4'; expected GPP or RECO or NEE"),
    "bounds by inputs": ("intervals_by_inputs.EVI, grid.GPP.factor", {"ENF": float("nan")}, "nan"),
    "a model of errors": ("error_model.link", [0.1, 0.2], "3 numbers"),
    "a variance below 0": ("covariance.0.0", -1.0, "negative eigenvalues"),
    "adapted without a model of errors": ("error_model", ..., "lacks error_model"),
    "a place off the Earth": ("learnt.towers.lat", [95.0], r"lat\[0\] is 95"),
    "towers without a place": ("learnt.towers.lat", [], "not equally long"),
    "a space of other names": ("space.names", ["slope"], "expected elevation or igbp_ENF"),
    "a space without scale": ("space.scale", [0.0], r"scale\[0\] is 0"),
    "points of another width": ("space.points", [[0.0, 1.0]], "1 numbers a point"),
    "points of unequal width": ("space.points", [[0.0], [1.0, 2.0]], "n x n numbers"),
    "an infinite network": (f"{NET}.config.hidden", 10**12, "hidden is 1000000000000"),
    "a network beyond its arrays": (f"{NET}.config.hidden", 4000, "sizes as its arrays"),
    "layers without end": (f"{NET}.config.layers", 10**6, "layers is 1000000"),
    "a network of other size": (f"{NET}.config.hidden", 17, "size mismatch"),
    "an encoder unknown": (f"{NET}.config.encoder", "transformer", "Unexpected key"),
    "a setting unknown": (f"{NET}.config", lambda c: c | {"code": "1"}, "'code'; expected"),
    "a setting of another kind": (f"{NET}.config.film", "no", "true or false"),
    "a whole number that is none": (f"{NET}.config.latent", 6.5, "a whole number"),
    "a flag for a number": (f"{NET}.config.latent", True, "a whole number"),
    "other fluxes": (f"{NET}.config.targets", ["RECO", "GPP", "NEE"], "config.targets is"),
    "a budget of what is not there": (f"{NET}.config.budgets.0.total", "NBP", "config.targets"),
    "windows of no day": (f"{NET}.recipe.length", 0, "length is 0"),
    "a share of a blend below 0": (f"{BLEND}.weights", [2.0, -1.0], r"weights\[1\] is -1"),
    "more shares than parts": (f"{BLEND}.weights", [1.0, 1.0, 1.0], "not equally long"),
    "no share at all": (f"{BLEND}.weights", [0, 0], "not 0 to all"),
    "a weight beyond 1": ("models.0.model.weight", 1.5, "weight is 1.5"),
    "a kernel of other size": (f"{ANNUAL}.theta", [1.0], "theta is"),
    "a kernel without end": (f"{ANNUAL}.theta", [1e6] * 5, r"theta\[0\] is 1e\+06|1000000"),
    "a name more than arrays": (f"{ANNUAL}.names", ["a"], "array .*annual.mean is .float64"),
    "fluxes that no trees have": (f"{BLEND}.parts.1.fluxes", ["GPP", "CH4"], "'CH4'"),
    "a NaN": (f"{ARRAY}.lstm.weight_hh_l0", at((3, 2), np.nan), r"hh_l0\[3, 2\] is nan"),
    "an infinity": (f"{ARRAY}.head", at((0, 0), np.inf), r"head\[0, 0\] is inf"),
    "whole numbers": (f"{ARRAY}.head", lambda a: a.astype(np.int64), "head is .int64"),
    "twice the bits": (f"{ARRAY}.head", lambda a: a.astype(float), "head is .float64"),
    "an array turned": (f"{ARRAY}.head", lambda a: a.T.copy(), "size mismatch for head"),
    "an array missing": (f"{ARRAY}.head", ..., "Missing key"),
    "a spread of 0": (f"{ARRAY}.x_sd", at(1, 0.0), r"x_sd\[1\] is 0.0; expected a number above 0"),
    "a spread below 0": (f"{ARRAY}.y_sd", at(0, -1.0), r"y_sd\[0\] is -1"),
    "a prior's spread": ("@0.model.annual.spread", at(0, 0.0), r"spread\[0\] is 0"),
    "a prior's points": ("@0.model.annual.points", lambda a: a[:, :1].copy(), "points is"),
    "fewer coefficients": ("@0.model.annual.alpha", lambda a: a[:2].copy(), "alpha"),
    "an adaptation": ("@0.weights", at(0, np.nan), r"0.weights\[0\] is nan"),
    "bytes that are no trees": (GPP, lambda a: a[::-1].copy(), "trees of GPP: cannot be unpacked"),
    "trees cut off": (GPP, lambda a: a[:-9].copy(), "trees of GPP: cut off"),
    "more than trees": (GPP, lambda a: np.append(a, a), "trees of GPP: cut off"),
    "a bomb": (GPP, bomb, "more than 67108864 bytes"),
    "trees in another type": (GPP, lambda a: a.astype(np.float32), "GPP is .float32"),
    "a circle of nodes": (GPP, trees("left_child=1 -1", "left_child=0 -1"), "left_child cannot be"),
    "a feature beyond": (GPP, trees("split_feature=0 1", "split_feature=0 9"), "split_feature 9"),
    "half a number": (GPP, trees("split_feature=0 1 2", "split_feature=0 1 2.5"), "trees of GPP"),
    "text that is none": (GPP, trees("split_feature", "\udcff".encode("utf-8", "replace").decode()),
                          "trees of GPP"),
}  # fmt: skip


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallweights.write(tmp_path_factory.mktemp("weights") / "sound.safetensors")


@pytest.mark.parametrize("fault", WEIGHTS)
def test_weights_of_strangers_are_refused(fault: str, sound: Path, tmp_path: Path) -> None:
    """One error that names the file, the entry or array, its value, and what to do."""
    place, change, words = WEIGHTS[fault]
    file = smallweights.damaged(sound, place, change, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=rf"^\S*w.safetensors: not weights[^\n]*{words}[^\n]*again"):
        pretrained.load(file, "cpu")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=3)
    | st.sampled_from(["TA", "GPP", "blend", "LightGBM", "TAM-RL"]),
    lambda a: st.lists(a, max_size=3) | st.dictionaries(st.text(max_size=3), a, max_size=2),
    max_leaves=4,
)  # fmt: skip


def entries(value: Any, place: tuple = ()) -> list[tuple]:
    """Where every entry of a header stands."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    deeper = [(key, one) for key, one in inside if isinstance(one, dict | list)]
    here = [(*place, key) for key in (value if isinstance(value, dict) else range(len(value)))]
    return here + [each for key, one in deeper for each in entries(one, (*place, key))]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_header_is_read_or_refused(sound: Path, data: st.DataObject) -> None:
    header, arrays = smallweights.parts(sound)
    where = data.draw(st.sampled_from(entries(header)))
    inside = header
    for key in where[:-1]:
        inside = inside[key]
    inside[where[-1]] = data.draw(VALUES)
    file = sound.with_name("fuzzed.safetensors")
    save_file(arrays, file, {"tamrl": json.dumps(header)})
    with contextlib.suppress(DataError):
        pretrained.open_weights(file)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_any_bytes_are_read_or_refused(sound: Path, place: int, noise: bytes) -> None:
    whole, file = sound.read_bytes(), sound.with_name("noisy.safetensors")
    place %= len(whole)
    file.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    with contextlib.suppress(DataError):
        pretrained.open_weights(file)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_text_of_trees_is_walked_within_its_row_or_refused(data: st.DataObject) -> None:
    """Whatever one number becomes: an error, or finite sums from inputs of just that width."""
    words = re.split(r"([ =\n])", text_of(GOOD, GOOD))
    numbers = [k for k, word in enumerate(words) if re.fullmatch(r"-?[\d.]+", word)]
    some = st.integers(-9, 9) | st.sampled_from(
        [1e400, -1e400, "", "x", "nan", "1e5", 2**31, -(2**63)]
    )
    for k in data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=3)):
        words[k] = str(data.draw(some))
    with contextlib.suppress(DataError):
        forest = Forest({"GPP": "".join(words)})
        assert np.isfinite(forest(np.ones((3, 4), np.float32))["GPP"]).all()


@pytest.mark.parametrize("length", [0, 7, 8, 100])
def test_a_file_cut_off_is_refused(sound: Path, tmp_path: Path, length: int) -> None:
    file = tmp_path / "cut.safetensors"
    file.write_bytes(sound.read_bytes()[:length])
    with pytest.raises(DataError, match="not weights of tamrl"):
        pretrained.load(file, "cpu")


def test_a_header_beyond_all_measure_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({}, file, {"tamrl": "[" * (1 << 25)})
    with pytest.raises(DataError, match="at most 16777216 are read"):
        pretrained.load(file, "cpu")
    save_file({}, file, {"tamrl": "[" * 10**5})
    with pytest.raises(DataError, match="not weights of tamrl"):
        pretrained.load(file, "cpu")
    with pytest.raises(DataError, match="no such file of weights"):
        pretrained.load(tmp_path, "cpu")
