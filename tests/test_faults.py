"""Faults, each with the test that fails on it or the words that a user reads.

`TESTS` names a test for every one of twelve faults of the method's public implementation; those
that stand nowhere else are in this file. Tables below hold a line for each fault of a user's file:
what is changed in a sound one, and the words of the one `DataError` that it must raise. Add a line
for any that is found.
"""

import collections
import contextlib
import importlib
import json
import lzma
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import smallweights
import torch
import xarray as xr
from halfhours import Tower, daily_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from settings import SMALL, TEST, TRAIN, VALID
from test_trees import GOOD, text_of
from test_user import NAME, TABLE, hourly_csv
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

import tamrl
from tamrl.cli.app import app
from tamrl.data import open_towers
from tamrl.data.own.csvfiles import Table, read_csv
from tamrl.data.own.satellites import read_satellites
from tamrl.data.own.stamps import STAMPS
from tamrl.data.own.tables import Place, tower_days
from tamrl.data.own.vocabulary import VOCABULARY
from tamrl.data.physics import potential_radiation, saturation_pressure
from tamrl.data.schema import DRIVERS, VARIABLES
from tamrl.errors import DataError
from tamrl.evaluate.score_file import score
from tamrl.files import atomic_write, by_tamrl, check_outputs
from tamrl.maps.cubes import open_cube
from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.rivals.forest import Forest
from tamrl.samples.arrays import SEASONAL, Samples
from tamrl.samples.missing import present
from tamrl.shipped import pretrained, weights, weights_file
from tamrl.shipped.adaptation import adapt
from tamrl.shipped.error_model import ErrorModel
from tamrl.shipped.new_target import learn_target, variables

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
ABOUT = {"unit": "mg", "positive": 0, "adapted_to": "XX-Abc", "labelled_days": 10,
         "period": ["2004-01-01", "2004-01-10"], "held_out": None}  # fmt: skip
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
    "bounds of no width": ("intervals.GPP.quantiles.0@9", [0.0, 0.0], "lower and an upper"),
    "a bound that is missing": ("intervals.GPP.quantiles.0@9", [None, 1.5], "2 numbers"),
    "an infinite bound": ("intervals.GPP.quantiles.0@9", [float("-inf"), 1.5], "is -inf"),
    "a level of no share": ("intervals.GPP.quantiles", {"90": [-1, 1]}, "a level"),
    "a level of no number": ("intervals.GPP.quantiles", {"most": [-1, 1]}, "most"),
    "a negative size of errors": ("intervals.GPP.scale", [1, -1, 0], r"scale\[1\] is -1"),
    "bounds of no flux": ("intervals", {"CH4": {}}, "'CH4'; expected GPP or RECO or NEE"),
    "a level twice": ("intervals.GPP.quantiles", {"0.9": [-1, 1], "0.90": [-2, 2]}, "0.90 is"),
    "bounds of a level within a lower one": (
        "intervals.GPP.quantiles", {"0.5": [-2, 2], "0.9": [-1, 3]}, "around those of lower"),
    "no bounds of 90 %": ("intervals.GPP.quantiles", {"0.5": [-1, 1]}, "quantiles lacks 0.9"),
    "bounds of one flux alone": ("intervals.NEE", ..., "intervals lacks NEE"),
    "errors of no size": ("intervals.GPP.scale", [0, 0, 0], r"scale\[0\] is 0"),
    "a class without errors": ("intervals.GPP.factor", {"ENF": 0}, "factor.ENF is 0"),
    "a class of negative errors": ("intervals.GPP.factor", {"ENF": -2.0}, "factor.ENF is -2"),
    "bounds of inputs unknown": ("intervals_by_inputs", {"moon": {}}, "'moon'; expected satell"),
    "bounds by inputs": ("intervals_by_inputs.EVI, grid.GPP.factor", {"ENF": float("nan")}, "nan"),
    "a model of errors": ("error_model.link", [0.1, 0.2], "3 numbers"),
    "a variance below 0": ("covariance.0.0", -1.0, "negative eigenvalues"),
    "a covariance of one side": ("covariance.0.1", 0.5, "a symmetric one"),
    "nothing learnt": ("learnt", {}, "learnt lacks towers"),
    "trained on no tower": ("towers", 0, "towers is 0"),
    "adapted to no day": ("labelled_days", 0, "labelled_days is 0"),
    "letters of no encoding": ("adapted_to", "\ud800", "adapted_to is .*a text"),
    "letters that steer a terminal": ("adapted_to", "\x1b[31mX", "adapted_to is .*a text"),
    "a target for a flux": ("targets", {"GPP": ABOUT}, "GPP is predicted already"),
    "a target for its bounds": ("targets", {"CH4_lower": ABOUT}, "CH4_lower is read or written"),
    "a target of two words": ("targets", {"the gas": ABOUT}, "'the gas' cannot be the name"),
    "a target without a name": ("targets", {"": ABOUT}, "'' cannot be the name"),
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
    "an encoder unknown": (f"{NET}.config.encoder", "transformer", "expected bilstm or"),
    "a setting unknown": (f"{NET}.config", lambda c: c | {"code": "1"}, "'code'; expected"),
    "a setting of another kind": (f"{NET}.config.film", "no", "true or false"),
    "a whole number that is none": (f"{NET}.config.latent", 6.5, "a whole number"),
    "a flag for a number": (f"{NET}.config.latent", True, "a whole number"),
    "other fluxes": (f"{NET}.config.targets", ["RECO", "GPP", "NEE"], "config.targets is"),
    "a budget of what is not there": (f"{NET}.config.budgets.0.total", "NBP", "config.targets"),
    "no window of support": (f"{NET}.recipe.windows_of_support", 0, "windows_of_support is 0"),
    "no window a step": (f"{NET}.recipe.batch", 0, "batch is 0"),
    "a share beyond 1": (f"{NET}.recipe.hide", 1.5, "hide is 1.5"),
    "a warm-up as long as windows": (f"{NET}.recipe.warmup", 365, "length is 365.*warmup"),
    "more kept than windows have": (f"{NET}.recipe.keep", 400, "length is 365.*keep"),
    "products of another kind": (f"{NET}.recipe.precision", "fp8", "'fp8'; expected fp32"),
    "satellites lost otherwise": (f"{NET}.recipe.satellite_dropout", "day", "expected window or"),
    "a closure unknown": (f"{NET}.config.closure", "sometimes", "expected hard or soft or none"),
    "nothing positive": (f"{NET}.config.positive", [], r"positive is \(\); expected GPP, RECO"),
    "NEE positive": (f"{NET}.config.positive", ["NEE"], "positive is .*expected GPP, RECO"),
    "no balance": (f"{NET}.config.budgets", [], "budgets is .*NEE"),
    "a balance turned": (f"{NET}.config.budgets.0.coefficients", [-1.0, 1.0], "budgets is .*NEE"),
    "windows of no day": (f"{NET}.recipe.length", 0, "length is 0"),
    "a share of a blend below 0": (f"{BLEND}.weights", [2.0, -1.0], r"weights\[1\] is -1"),
    "more shares than parts": (f"{BLEND}.weights", [1.0, 1.0, 1.0], "not equally long"),
    "no share at all": (f"{BLEND}.weights", [0, 0], "not 0 to all"),
    "a weight beyond 1": ("models.0.model.weight", 1.5, "weight is 1.5"),
    "a kernel of other size": (f"{ANNUAL}.theta", [1.0], "theta is"),
    "a kernel without end": (f"{ANNUAL}.theta", [1e6] * 5, r"theta\[0\] is 1e\+06|1000000"),
    "a name more than arrays": (f"{ANNUAL}.names", ["a"], "array .*annual.mean is .float64"),
    "fluxes that no trees have": (f"{BLEND}.parts.1.fluxes", ["GPP", "CH4"], "'CH4'"),
    "one flux alone": (f"{BLEND}.parts.1.fluxes", ["GPP"], "fluxes is .*expected .*'NEE'"),
    "fluxes in another order": (f"{BLEND}.parts.1.fluxes", ["RECO", "GPP", "NEE"], "fluxes is"),
    "no fluxes": (f"{BLEND}.parts.1.fluxes", [], r"fluxes is \[\]"),
    "an infinite share": (f"{BLEND}.weights", [float("inf"), 1.0], r"weights\[0\] is inf"),
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
    "a prior without points": ("@0.model.annual.points", lambda a: a[:0].copy(), "points is"),
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
        weights_file.load(file, "cpu")


def test_what_is_seen_only_in_predicting(sound: Path, samples: Samples) -> None:
    """Fluxes beyond any place's, another count of site attributes, of targets: one error each."""
    daily = np.full((2, 1, 300, 3), 4.0)
    daily[0, 0, 7] = 900  # a day of odd drivers costs no other
    assert pretrained.possible(daily) is daily
    for damaged in (daily * 1000, daily * np.inf):
        with pytest.raises(DataError, match=r"predicted are up to .*none is above 100"):
            pretrained.possible(damaged)
    wider = Config(len(samples.features), len(samples.static_names) + 1, **SMALL)
    with pytest.raises(DataError, match=r"network reads \d+ site attributes, and is given \d+"):
        TamRLModel({}, Recipe(), net=TamRL(wider)).predict(samples, [0])
    with pytest.raises(DataError, match=r"predict 0 further target\(s\) and name 1"):
        variables({"targets": {"CH4": ABOUT}}, np.zeros((1, 5, 0)))


@pytest.mark.parametrize("place", ["towers", "intervals.GPP.scale.0", "@0.weights", "@seal"])
def test_weights_changed_after_they_were_written(place: str, sound: Path, tmp_path: Path) -> None:
    """Another number that could be, which only the digest in a file knows; older have none."""
    file, (header, arrays) = tmp_path / "w.safetensors", smallweights.parts(sound)
    with safe_open(sound, "np") as stored:
        seal = stored.metadata()["tamrl"].partition("\n")[2]
    text = json.dumps(header)
    save_file(arrays, file, {"tamrl": f"{text}\n{seal}"})
    assert len(weights_file.load(file, "cpu")[0]) == 1
    change: Any = at(0, 0.5) if place.startswith("@") else lambda value: value + 1
    if place == "@seal":
        save_file(arrays, file, {"tamrl": f"{text}\n{seal[:-1]}x"})
    else:
        smallweights.damaged(sound, place, change, file)
        assert len(weights_file.load(file, "cpu")[0]) == 1
        other, changed = smallweights.parts(file)
        save_file(changed, file, {"tamrl": f"{json.dumps(other)}\n{seal}"})
    with pytest.raises(DataError, match=r"w\.safetensors: .*its content is not that of the digest"):
        weights_file.load(file, "cpu")


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


def test_many_models_of_one_array_are_refused(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would take its size anew, from a header of a few letters."""
    header, arrays = smallweights.parts(sound)
    place, network = ARRAY.removeprefix("@"), header
    for step in NET.split("."):
        network = network[int(step) if step.isdigit() else step]
    size = sum(value.nbytes for name, value in arrays.items() if name.startswith(f"{place}."))
    monkeypatch.setattr(weights, "MOST_BYTES", 3 * size)
    file = tmp_path / "w.safetensors"
    for n in (3, 4):
        same = [{**network, "at": place, "number": k} for k in range(n)]
        save_file(arrays, file, {"tamrl": json.dumps(header | {"models": same, "members": n})})
        if n == 3:
            assert len(weights_file.load(file, "cpu")[0]) == n
        else:
            with pytest.raises(DataError, match=r"its models take more than \d+ bytes"):
                weights_file.load(file, "cpu")


@pytest.mark.parametrize("length", [0, 7, 8, 100])
def test_a_file_cut_off_is_refused(sound: Path, tmp_path: Path, length: int) -> None:
    file = tmp_path / "cut.safetensors"
    file.write_bytes(sound.read_bytes()[:length])
    with pytest.raises(DataError, match="not weights of tamrl"):
        weights_file.load(file, "cpu")


def test_a_header_beyond_all_measure_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({}, file, {"tamrl": "[" * (1 << 25)})
    with pytest.raises(DataError, match="at most 16777216 are read"):
        weights_file.load(file, "cpu")
    save_file({}, file, {"tamrl": "[" * 10**5})
    with pytest.raises(DataError, match="not weights of tamrl"):
        weights_file.load(file, "cpu")
    with pytest.raises(DataError, match="is a folder, a device or a pipe"):
        weights_file.load(tmp_path, "cpu")
    with pytest.raises(DataError, match="no such file of weights"):
        weights_file.load(tmp_path / "none", "cpu")


Frame = Callable[[pd.DataFrame], pd.DataFrame]
HALF_HOURS = hourly_csv(Tower(days=30))
STATED = HALF_HOURS.rename(columns={"TIMESTAMP_START": "time"}).assign(
    time=[f"{t}+02:00" for t in Tower(days=30).start]
)  # a clock of summer, at 10 degrees east
EVEN = np.arange(400) % 7 / 2
FLAT = daily_csv(GPP_NT_VUT_REF=4 + EVEN, RECO_NT_VUT_REF=7 + EVEN, NEE_VUT_REF=3.0)  # unlit
FLUXES = ("NEE_VUT_REF", "GPP_NT_VUT_REF", "RECO_NT_VUT_REF")


def times(column: str, factor: float) -> Frame:
    """Write a column in another unit."""
    return lambda t: t.assign(**{column: t[column] * factor})


def some(column: pd.Series, value: float) -> pd.Series:
    """Write a value into every twelfth row."""
    return column.where(np.arange(len(column)) % 12 > 0, value)


def moved(hours: int) -> Frame:
    """Turn the clock of the radiation."""
    return lambda t: t.assign(SW_IN_F=np.roll(t["SW_IN_F"], 2 * hours))


def part(column: str, days: slice, factor: float) -> Frame:
    """Write part of a column in another unit."""

    def change(t: pd.DataFrame) -> pd.DataFrame:
        t.loc[t.index[days], column] *= factor
        return t

    return change


def year(text: str) -> Frame:
    """Write another year."""
    return lambda t: t[:300].assign(TIMESTAMP=text + t["TIMESTAMP"].str[4:])


TOWERS: dict[str, tuple[pd.DataFrame, Frame, str]] = {  # sound, what is changed, what is said
    "VPD in kPa": (daily_csv(), times("VPD_F", 0.1), "VPD never exceeds .*kPa, convert it to hPa"),
    "VPD above saturation": (daily_csv(), times("VPD_F", 5), "VPD is .* of saturation or more"),
    "light in MJ": (daily_csv(), times("SW_IN_F", 0.0864), "SW_IN never exceeds .*MJ m-2 d-1"),
    "three months in MJ": (daily_csv(90), times("SW_IN_F", 0.0864), "SW_IN never exceeds .*MJ"),
    "five days in kW m-2": (daily_csv(5), times("SW_IN_F", 1e-3), r"SW_IN .* 0\.\d+; give it"),
    "PAR as photons": (daily_csv(), times("SW_IN_F", 2.5), "SW_IN is .*above the air or more"),
    "PAR in W m-2": (daily_csv(), times("SW_IN_F", 0.4), "SW_IN never exceeds .*like PAR"),
    "truth values": (daily_csv(), lambda t: t.assign(TA_F=t["TA_F"] > 5), "TA_F holds .*bool"),
    "truth values as text": (
        daily_csv(), lambda t: t.assign(TA_F=["True", "x", *t["TA_F"][2:]]), "TA_F is 'True' in"),
    "an infinity": (daily_csv(), lambda t: t.assign(TA_F=t["TA_F"].replace({t["TA_F"][5]: np.inf})),
                    "TA is inf, outside"),
    "a column twice": (daily_csv(), lambda t: pd.concat([t, t[["TA_F"]] + 9], axis=1),
                       "column TA_F is there twice"),
    "weeks for days": (daily_csv(), lambda t: t[::7], "records are 7 days apart"),
    "the year 1492": (daily_csv(), year("1492"), "TIMESTAMP is 1492-01-01, outside 1900 to 2100"),
    "the year 2345": (daily_csv(), year("2345"), "outside 1900 to 2100|weeks, months"),
    "no record": (daily_csv(), lambda t: t[:0], "no records"),
    "the sun at midnight": (HALF_HOURS, moved(12), "radiation is centred at 0.* h of the"),
    "four hours off": (HALF_HOURS, moved(4), "radiation is centred at 16.* h"),
    "six hours off, westward": (HALF_HOURS, moved(-6), "radiation is centred at 6.* h"),
    "out of order": (HALF_HOURS, lambda t: t.sample(frac=1, random_state=0), "time goes back at"),
    "kPa, then hPa": (daily_csv(), part("VPD_F", slice(200), 0.1),
                      "VPD is 10 times larger from 2005-07-20 on than before: its unit changes"),
    "W m-2, then MJ": (daily_csv(), part("SW_IN_F", slice(150, None), 0.0864),
                       "SW_IN is 11 times smaller from 2005-05-31 on"),
    "a minimum above the mean": (daily_csv(), lambda t: t.assign(TA_min=t["TA_F"] + 1),
                                 "TA_min is above TA on 400 of 400 days, first 2005-01-01"),
    "extremes swapped": (daily_csv(), lambda t: t.assign(
        TA_min=t["TA_F"] + 3, TA_max=t["TA_F"] - 3), "TA_min is above TA"),
    "a maximum of VPD below its mean": (daily_csv(), lambda t: t.assign(VPD_max=t["VPD_F"] / 2),
                                        "VPD is above VPD_max on"),
    "the year 1860": (daily_csv(), year("1860"), "1860-01-01, outside 1900 to 2100"),
    "the year 2199": (daily_csv(), year("2199"), "outside 1900 to 2100"),
    "the year 9005": (daily_csv(), year("9005"), "outside 1900 to 2100|weeks, months"),
    "a flag of per cent by half-hours": (HALF_HOURS, lambda t: t.assign(NEE_VUT_REF_QC=95.0),
                                         r"NEE_QC is 95 in a record .*flags from 0 \(measured\)"),
    "a flag that states per cent": (
        HALF_HOURS, lambda t: t.rename(columns={"NEE_VUT_REF_QC": "NEE_VUT_REF_QC (%)"}),
        "NEE_QC is 0 % in a record"),
    "a flag that is text": (daily_csv(), lambda t: t.assign(NEE_VUT_REF_QC="good"),
                            "NEE_VUT_REF_QC is 'good' in line 2"),
    "a flag of shares by half-hours": (
        HALF_HOURS, lambda t: t.assign(NEE_VUT_REF_QC=np.resize([0.5, 1.0], len(t))),
        "NEE_QC is 0.5 in a record"),
    "a single half-hour": (HALF_HOURS, lambda t: t[:1], "a single record"),
    "a clock stated in part": (STATED, lambda t: t.assign(
        time=[*t["time"][:9], *t["time"][9:].str[:16]]), "no offset to UTC in line 11, but in"),
    "a number of 400 digits": (daily_csv(), lambda t: t.assign(
        TA_F=t["TA_F"].round().astype(int).astype(object).where(t.index > 0, int("1" * 400))),
        "TA_F holds a number beyond 1e308|TA_F is"),
    "flags of half-hours for days": (daily_csv(), lambda t: t.assign(NEE_VUT_REF_QC=2.0),
                                     "NEE_QC is 2, outside 0 to 1"),
    "half-hours of light in MJ": (HALF_HOURS, times("SW_IN_F", 10),
                                  "SW_IN is .*records are outside -50 to 1600.*check the units"),
    "half-hours of flux in mmol d-1": (HALF_HOURS, times("NEE_VUT_REF", 86.4),
                                       "NEE is .* outside -150 to 150"),
    "half-hours below absolute zero": (HALF_HOURS, lambda t: t.assign(TA_F=t["TA_F"] - 300),
                                       "TA is -.* outside -95 to 65"),
    "a dew point above TA": (daily_csv().drop(columns="VPD_F").assign(d2m=270.0),
                             lambda t: t.assign(d2m=t["TA_F"] + 278),
                             "the dew point is above TA in 100% of records"),
    "a humidity beyond 110 %": (daily_csv().drop(columns="VPD_F").assign(RH=60.0), times("RH", 3),
                                "RH is 180 at .*outside -5 to 110"),
    "no balance by half-hours": (HALF_HOURS, lambda t: t.assign(
        RECO_NT_VUT_REF=t["RECO_NT_VUT_REF"] + 5), "NEE_VUT_REF is not RECO - GPP"),
    "NEE turned, or GPP and RECO swapped": (
        FLAT, times("NEE_VUT_REF", -1), "is GPP - RECO: its sign is turned, or GPP and RECO are"),
    "TA of one number": (daily_csv(), lambda t: t.assign(TA_F=12.0), "TA is 12 on 400 days in a r"),
    "VPD of one number": (daily_csv(), lambda t: t.assign(VPD_F=4.0), "VPD is 4 on 400 days in a"),
    "net radiation": (daily_csv(), lambda t: t.assign(SW_IN_F=t["SW_IN_F"] * 1.2 - 40),
                      "SW_IN is below -5 W m-2 on .* as net radiation is"),
    "99.99 for a missing VPD": (daily_csv(), lambda t: t.assign(VPD_F=some(t["VPD_F"], 99.99)),
                                "VPD is 99.99 hPa, more than the air can lack, on"),
    "-99.99 for a missing NEE": (
        daily_csv(), lambda t: t.assign(NEE_VUT_REF=some(t["NEE_VUT_REF"], -99.99)),
        "NEE is -99.99, a code for missing left in"),
    "rows of two towers": (daily_csv(), lambda t: t.assign(
        site=np.resize(["AA-Aaa", "BB-Bbb"], 400)), "AA-Aaa and BB-Bbb: rows of several towers"),
    "rows of another tower": (daily_csv().assign(site="aa_aaa"), lambda t: t.assign(site="BB-Bbb"),
                              "names BB-Bbb, but the table is taken for that of AA-Aaa"),
    "rows of two places": (daily_csv().assign(lat=50.0), lambda t: t.assign(
        lat=np.resize([50.0, 50.25], 400)), "its latitude is 50 to 50.25: rows of several places"),
    "a place that changes": (daily_csv().assign(lat=50.0), lambda t: t.assign(
        lat=np.where(t.index < 399, 50.0, -20.0)), "its latitude is -20, that of the place"),
    "rain in other mm": (daily_csv(), times("P_F", 100), "P is .* mm a day on average, more than"),
    "the surface for the air": (daily_csv(), lambda t: t.assign(LST_day=t["TA_F"].round(2)),
                                "TA is LST_day on 400 of 400 days, to 0.015 K"),
    "a surface in degF": (daily_csv(), lambda t: t.assign(LST_day=t["TA_F"] + 30),
                          r"LST_day differs from TA by \+30 K on average; is it in degF"),
    "light by night": (HALF_HOURS, lambda t: t.assign(SW_IN_F=t["SW_IN_F"] + 30),
                       "SW_IN is 30 W m-2 on average about midnight"),
    "the clock set back": (HALF_HOURS, lambda t: t.assign(
        TIMESTAMP_START=[*t["TIMESTAMP_START"][:500], *t["TIMESTAMP_START"][498:-2]]),
        "time goes back at .* one clock without daylight saving"),
    "one time for all": (HALF_HOURS, lambda t: t.assign(TIMESTAMP_START=t["TIMESTAMP_START"][0]),
                         "time 2003-01-01T00:00 is there twice"),
    "mixed steps": (HALF_HOURS, lambda t: t.drop(index=0).assign(TIMESTAMP_START=[
        "200301010015", *t["TIMESTAMP_START"][2:]]), "mixed time steps"),
}  # fmt: skip


@pytest.mark.parametrize("fault", TOWERS)
def test_towers_that_cannot_be(fault: str, tmp_path: Path) -> None:
    """One line that names file, column and remedy; the same for a file and a DataFrame."""
    sound, change, words = TOWERS[fault]
    changed, file = change(sound.copy()), tmp_path / NAME
    assert open_towers(sound, TABLE).sizes["site"] == 1
    with pytest.raises(DataError, match=rf"^DataFrame.*({words})[^\n]*$"):
        open_towers(changed, TABLE)
    changed.to_csv(file, index=False)
    with pytest.raises(DataError, match=rf"^{file}.*({words})[^\n]*$"):
        open_towers(file, TABLE)


def still(column: str, days: int, value: float) -> Frame:
    """Let a sensor stand still for some days of summer."""
    return lambda t: t.assign(
        **{column: t[column].where(~t.index.isin(range(200, 200 + days)), value)}
    )


DAILY = ["TA_F", "VPD_F", "SW_IN_F"]
STILL: dict[str, tuple[Frame, str]] = {  # what is changed in a table, what is said of it
    "0 for gaps": (lambda t: t.assign(**{n: some(t[n], 0.0) for n in DAILY}),
                   "34 days on which TA, VPD and SW_IN are all 0: left out as gaps"),
    "a sensor that stands still": (still("TA_F", 30, 15.2), "TA is 15.2 on 30 days in a row"),
    "a light that stands still": (still("SW_IN_F", 30, 0.0), "SW_IN is 0 on 30 days in a row"),
    "labels of a month's mean": (still("NEE_VUT_REF", 30, -2.0), "NEE is -2 on 30 days in a row"),
    "labels of 0 for gaps": (lambda t: t.assign(NEE_VUT_REF=some(t["NEE_VUT_REF"], 0.0)),
                             "NEE is exactly 0 on 34 days"),
    "spikes": (lambda t: t.assign(NEE_VUT_REF=some(t["NEE_VUT_REF"], 80.0)), "NEE is beyond 40 on"),
    "a year twice": (lambda t: t.assign(**{n: np.resize(t[n][:365], 400) for n in DAILY}),
                     "35 days have the very TA, VPD and SW_IN of 365 days before"),
    "a code on a few days": (lambda t: t.assign(VPD_F=t["VPD_F"].where(t.index != 200, 99.9)),
                             "VPD is 99.9 hPa, more than the air can lack, on 1 days"),
    "a site by name": (lambda t: t.assign(site="my forest"), "column site names my forest"),
}  # fmt: skip


@pytest.mark.parametrize("fault", STILL)
def test_what_looks_filled_or_stood_still_is_said(fault: str) -> None:
    change, words = STILL[fault]
    alone = daily_csv().assign(TA_F=daily_csv()["TA_F"] + EVEN / 9).drop(columns=[*FLUXES[1:]])
    assert words not in open_towers(alone, TABLE).attrs["inputs"]
    read = open_towers(change(alone.copy()), TABLE)
    assert words in read.attrs["inputs"]
    assert not ((read.TA == 0) & (read.VPD == 0) & (read.SW_IN == 0)).any()


PARTED: dict[str, tuple[Callable[[str], str], str]] = {  # a text, what is said
    "pipes": (lambda s: s.replace(",", "|"), "is of one column; part cells by comma"),
    "blanks": (lambda s: s.replace(",", "  "), "is of one column; part cells by comma"),
    "a title": (lambda s: f"My forest\n{s}", "'My forest' is of one column; .* in the first line"),
    "a year for a date": (lambda s: re.sub(r"\n(\d{4})\d{4},", r"\n\1,", s.replace(
        "TIMESTAMP", "date")), "time 2005-01-01T00:00 is there twice"),
    "weeks": (lambda s: re.sub(r"\n(\d{4})\d\d(\d\d),", r"\n\1-W\2,", s), "weeks, months or years"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PARTED)
def test_tables_written_otherwise(fault: str, tmp_path: Path) -> None:
    change, words = PARTED[fault]
    (tmp_path / NAME).write_text(change(daily_csv().to_csv(index=False)))
    with pytest.raises(DataError, match=rf"^{tmp_path / NAME}: [^\n]*{words}"):
        open_towers(tmp_path / NAME, TABLE)


PLACES: dict[str, tuple[dict[str, Any], str]] = {  # facts of a tower, what is said
    "a class of climate that is none": ({"koppen": "15"}, "koppen is '15'; give a code such as"),
    "a depth": ({"elevation_m": -9000.0}, "elevation_m is -9000, outside -500 to 9000"),
    "a height": ({"elevation_m": 1e5}, "elevation_m is 100000, outside"),
    "an infinite height": ({"elevation_m": np.inf}, "elevation_m is inf, outside"),
    "a height in feet": ({"elevation_m": "1200 ft"}, "elevation_m is '1200 ft'; give a number"),
    "a latitude with its sign in words": ({"lat": "50N"}, "lat is '50N'; give a number"),
    "the wrong hemisphere": ({"lat": -50.0}, "light is that of latitude 50, not -50; check the si"),
}


@pytest.mark.parametrize("fault", PLACES)
def test_places_that_cannot_be(fault: str, tmp_path: Path) -> None:
    facts, words = PLACES[fault]
    file = tmp_path / "towers.csv"
    for table in (TABLE.assign(**facts), file):
        TABLE.assign(**facts).to_csv(file, index=False)
        with pytest.raises(DataError, match=rf"tower AA-Aaa: [^\n]*({words})[^\n]*$"):
            open_towers(daily_csv(), table)


def test_facts_of_towers_are_read_as_they_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "towers.csv"
    for code in ("001", "1e5"):
        TABLE.assign(site=code, koppen="cfb", elevation_m="-").to_csv(file, index=False)
        read = open_towers(daily_csv(), file)
        assert (read.site.item(), read.koppen.item()) == (code, "Cfb")
        assert np.isnan(read.elevation.item())


def test_a_row_longer_than_the_head_is_refused(tmp_path: Path) -> None:
    """A decimal comma in one cell would put all that follow under the wrong heads."""
    file, lines = tmp_path / NAME, daily_csv().to_csv(index=False).splitlines()
    for row in (1, 7):
        longer = [line.replace(".", ",", i == row) for i, line in enumerate(lines)]
        file.write_text("\n".join(longer))
        with pytest.raises(DataError, match=rf"line {row + 1} has 10 cells, the head 9; is there"):
            open_towers(file, TABLE)
    file.write_text("\n".join([lines[0], *(f"{line}," for line in lines[1:])]))
    xr.testing.assert_identical(open_towers(file, TABLE).TA, open_towers(daily_csv(), TABLE).TA)


def clocked(tower: Tower, stamps: Any, **facts: Any) -> xr.Dataset:
    records = hourly_csv(tower).drop(columns="TIMESTAMP_START").assign(time=stamps)
    return open_towers(records, TABLE.assign(**facts))


def test_a_clock_that_stamps_state_is_kept(tmp_path: Path) -> None:
    """However the same records are stamped, they are of the same local days."""
    tower = Tower(days=200)
    local = pd.Series(tower.start.astype("datetime64[ns]"))
    summer = local.between("2003-03-30 01:30", "2003-10-26 01:30")
    east = {"lon": 30.0, "utc_offset_h": 2.0}
    plain = clocked(tower, local, **east)
    written = local.dt.strftime("%Y-%m-%dT%H:%M")
    saved = (local + pd.to_timedelta(summer.astype(int), "h")).dt.strftime("%Y-%m-%dT%H:%M")
    utc = local - pd.Timedelta("2h")
    for stamps in (
        written + "+02:00", written + "+0200", utc.dt.strftime("%Y-%m-%dT%H:%MZ"),
        utc.dt.tz_localize("UTC"), local.dt.tz_localize("Etc/GMT-2"),
        saved + summer.map({True: "+03:00", False: "+02:00"}),
        utc.dt.tz_localize("UTC").dt.tz_convert("Europe/Helsinki"),
    ):  # fmt: skip
        xr.testing.assert_identical(clocked(tower, stamps, **east).TA, plain.TA)
    bare = clocked(tower, written + "+02:00", lon=22.0)  # whose longitude alone says 1.5 h
    np.testing.assert_array_equal(bare.TA, plain.TA)
    assert "time stamps state +2 h to UTC: taken for local" in bare.attrs["inputs"]
    days = pd.date_range("2005-01-01", periods=400)
    table = daily_csv().drop(columns="TIMESTAMP")
    for ends in (["+05:00"], ["+01:00", "+02:00"]):
        stamped = table.assign(time=days.strftime("%Y-%m-%dT00:00") + np.resize(ends, 400))
        np.testing.assert_array_equal(open_towers(stamped, TABLE).time, days)


def test_clocks_lie_within_14_hours_of_utc() -> None:
    for offset in (-14.5, 20.0):
        with pytest.raises(DataError, match=f"utc_offset_h is {offset:g}, outside -14 to 14 h"):
            open_towers(daily_csv(), TABLE.assign(utc_offset_h=offset))
    hours = hourly_csv(Tower(minutes=60)).set_index("TIMESTAMP_START")
    days = pd.date_range("2005-01-01", periods=len(hours), freq="h")
    table = Table(hours.set_index(days), "x.csv", utc_offset=20.0)
    with pytest.raises(
        DataError, match=r"^x.csv: utc_offset of the file is 20, outside -14 to 14 h"
    ):
        tower_days(table, Place(50.0, 10.0), [])


def test_towers_that_were_changed_after_reading_are_checked_again() -> None:
    read = open_towers(daily_csv(), TABLE)
    assert open_towers(read.assign(TA=read.TA + 2)).TA.max() > read.TA.max()  # without units
    late = read.VPD.where(read.time < read.time[200], read.VPD / 10)
    wrong = {
        "TA is": read.assign(TA=read.TA + 273), "looks like kPa": read.assign(VPD=read.VPD / 10),
        "NEE is not RECO - GPP": read.assign(NEE=-read.NEE),
        "TA is above TA_max": read.assign(TA_max=read.TA - 1),
        "VPD is 10 times smaller from 2005-07-20": read.assign(VPD=late),
    }  # fmt: skip
    for words, ds in wrong.items():
        with pytest.raises(DataError, match=words):
            open_towers(ds)


def test_what_is_dropped_is_counted_and_a_turned_flux_is_turned_back() -> None:
    table = daily_csv(700)
    gone = open_towers(table[np.arange(700) % 100 < 50], TABLE)
    assert "300 of 650 days from 2005-01-01 on have no record" in gone.attrs["inputs"]
    alone = table.drop(columns=[*FLUXES[1:]])
    right, turned = (open_towers(alone.assign(NEE_VUT_REF=f * alone.NEE_VUT_REF), TABLE)
                     for f in (2, -2))  # fmt: skip
    assert "sign turned" in turned.attrs["inputs"]
    assert "sign" not in right.attrs["inputs"]
    xr.testing.assert_allclose(right.NEE, turned.NEE)


JUNK = ["", "nan", "-inf", "1e400", "-9999", "x", "True", "é", '"', ",", ";", "\t", "\n", "#",
        "20050101", "2005-01-01", "200501010030", "0x1F", "1_000", "1,5", "\x00"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_table_is_read_or_refused(tmp_path_factory, data: st.DataObject) -> None:
    """Whatever is written into a table: an error, or values within their ranges."""
    file = tmp_path_factory.mktemp("any") / NAME
    tables = (daily_csv(30), HALF_HOURS[:150])
    text = data.draw(st.sampled_from(tables)).round(3).to_csv(index=False)
    for _ in range(data.draw(st.integers(1, 3))):
        at, over = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 9))
        text = text[:at] + data.draw(st.sampled_from(JUNK)) + text[at + over :]
    file.write_text(text, encoding="utf-8", newline="")
    with contextlib.suppress(DataError):
        read = open_towers(file, TABLE)
        for name, about in VARIABLES.items():
            values = read.get(name, xr.DataArray())
            assert not ((values < about.low) | (values > about.high)).any()


HEADS = sorted({row.alias for row in VOCABULARY} | STAMPS | {"lat", "latitude", "CH4", ""})
UNITS = ["", " (K)", " [%]", " (1)", " (J m-2)", " (umol m-2 s-1)", " (furlong)"]
CELLS = [np.inf, -np.inf, np.nan, None, -9999, -1, 0, 50, 1e300, 10**20, "x", True, 1j, b"x", [1],
         {}, "1,5", "2005-01-01", pd.Timestamp("2005-01-01"), pd.NaT, pd.NA, pd.Timedelta("1D"),
         270]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_columns_of_all_vocabularies_are_read_or_refused(
    tmp_path_factory, data: st.DataObject
) -> None:
    """Columns renamed, added, spoilt, dropped, made the index; as a DataFrame and as csv."""
    table = data.draw(st.sampled_from((daily_csv(30), HALF_HOURS[:150]))).copy()
    for _ in range(data.draw(st.integers(1, 3))):
        column, n = data.draw(st.sampled_from([*table.columns])), len(table)
        head = data.draw(st.sampled_from(HEADS)) + data.draw(st.sampled_from(UNITS))
        cell, at = data.draw(st.sampled_from(CELLS)), data.draw(st.integers(0, n - 1))
        cells = pd.Series([cell] * n, table.index, dtype=object)
        spoilt = cells.where(np.arange(n) == at, table.iloc[:, [*table.columns].index(column)])
        table = data.draw(st.sampled_from((
            table.rename(columns={column: head}), table.assign(**{head: cells}),
            table.assign(**{column: spoilt}), table.drop(columns=column),
            pd.concat([table, table[[column]]], axis=1), table[:: data.draw(st.integers(1, 50))],
            table.set_index(column) if table.shape[1] > 1 else table,
        )))  # fmt: skip
        if not table.shape[1] or not table.columns.is_unique:
            break
    file = tmp_path_factory.mktemp("any") / NAME
    table.to_csv(file, index=False)
    for source in (table, file):
        with contextlib.suppress(DataError):
            assert open_towers(source, TABLE, further=("CH4",)).sizes["site"] == 1


def weather(n: int = 400) -> xr.Dataset:
    """Draw days of a cube of nine cells that could be."""
    day, rng = pd.date_range("2005-01-01", periods=n), np.random.default_rng(0)
    doy, shape = day.dayofyear.to_numpy()[:, None, None], (n, 3, 3)
    lat = np.array([49.0, 50.0, 51.0])
    ta = 10 + 10 * np.sin((doy - 100) / 365 * 2 * np.pi) + rng.normal(0, 2, shape)
    fields = {
        "TA": (ta, "degC"), "VPD": (saturation_pressure(ta) * rng.uniform(0.05, 0.5, shape), "hPa"),
        "SW_IN": (potential_radiation(lat[:, None], doy) * rng.uniform(0.1, 0.7, shape), "W m-2"),
    }  # fmt: skip
    axes = ("time", "lat", "lon")
    data = {n: (axes, v.astype(np.float32), {"units": u}) for n, (v, u) in fields.items()}
    return xr.Dataset(data, {"time": day, "lat": lat, "lon": [9.0, 10.0, 11.0]})


def as_if(name: str, factor: float) -> Callable[[xr.Dataset], xr.Dataset]:
    """Write a variable in another unit than it says."""
    return lambda c: c.assign({name: (c[name] * factor).assign_attrs(c[name].attrs)})


def typed(kind: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    """Give the temperature another type."""
    return lambda c: c.assign(TA=c.TA.astype(kind).assign_attrs(units="degC"))


def part_as(name: str, factor: float, where: Callable[[xr.Dataset], Any]) -> Any:
    """Write a variable in another unit than it says at some times or in some cells."""
    return lambda c: c.assign({name: as_if(name, factor)(c)[name].where(where(c), c[name])})


def extreme(name: str, mean: str, above: float) -> Callable[[xr.Dataset], xr.Dataset]:
    """Give an extreme of the day that is so far above its mean."""
    return lambda c: c.assign({name: (c[mean] + above).assign_attrs(c[mean].attrs)})


def classes(*codes: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    """Give two classes of land, a half of each cell each."""
    halves = ("igbp", "lat", "lon"), np.full((2, 3, 3), 0.5)
    return lambda c: c.assign(igbp_fraction=halves).assign_coords(igbp=list(codes))


def rain(mean: float) -> Callable[[xr.Dataset], xr.Dataset]:
    """Let it rain so much on every day."""
    return lambda c: c.assign(PRCP=(c.VPD * 0 + mean).assign_attrs(units="mm d-1"))


ROTATED = {"standard_name": "grid_longitude", "units": "degrees"}
EXTREMES = ("TA_min", "TA_max", "VPD_max")
HOURLY = pd.date_range("2005-01-01", periods=800, freq="h")
CUBES: dict[str, tuple[Callable[[xr.Dataset], Any], str]] = {
    "VPD in kPa": (as_if("VPD", 0.1), "VPD never exceeds .*looks like kPa"),
    "VPD above saturation": (as_if("VPD", 4), "VPD is .* of saturation or more"),
    "light in MJ": (as_if("SW_IN", 0.0864), "SW_IN never exceeds .*MJ m-2 d-1"),
    "PAR in W m-2": (as_if("SW_IN", 0.45), "SW_IN never exceeds .*like PAR"),
    "PAR as photons": (lambda c: as_if("SW_IN", 2.0)(c)[["TA", "VPD", "SW_IN"]].isel(
        time=slice(60)), "SW_IN is .*above the air or more"),
    "truth values": (typed(bool), "TA holds values of bool"),
    "text": (typed(str), "TA holds values of <U"),
    "a unit that is a list": (lambda c: c.assign(TA=c.TA.assign_attrs(units=["K"])), "TA is in"),
    "no value at all": (lambda c: c.assign(TA=c.TA.where(False).assign_attrs(units="degC")),
                        "TA has no value at all"),
    "an axis of text": (lambda c: c.assign_coords(lat=list("abc")), "lat holds values of"),
    "a place missing": (lambda c: c.assign_coords(lat=[49, np.nan, 51]), "lat is not equally"),
    "a time missing": (lambda c: c.assign_coords(time=c.time.where(c.time != c.time[5])),
                       "a time is missing"),
    "hours": (lambda c: c.assign_coords(time=HOURLY), "the cube is hourly; make it daily"),
    "six hours": (lambda c: c.assign_coords(time=pd.date_range("2005", periods=800, freq="6h")),
                  "the cube is in steps of 6 hours"),
    "the year 1700": (lambda c: c.assign_coords(time=c.time - np.timedelta64(111400, "D")),
                      "outside 1900 to 2100"),
    "VPD in kPa from a year on": (
        part_as("VPD", 0.1, lambda c: c.time >= c.time[400]),
        r"at 49, 9 \(lat, lon\) VPD is .* times smaller from 2006-02-.. on .*use one"),
    "light in MJ from a year on": (part_as("SW_IN", 0.0864, lambda c: c.time >= c.time[400]),
                                   "SW_IN is 1. times smaller from 2006-02-.* its unit changes"),
    "VPD in kPa in a cell": (part_as("VPD", 0.1, lambda c: (c.lat == 50) & (c.lon == 10)),
                             r"at 50, 10 \(lat, lon\) VPD never exceeds .*like kPa"),
    "a minimum above the mean": (
        extreme("TA_min", "TA", 10), "TA_min is above TA in 7200 of 7200 values .*one unit"),
    "a maximum below the mean": (extreme("TA_max", "TA", -10), "TA is above TA_max in 7200 of"),
    "a most of VPD of none": (lambda c: c.assign(VPD_max=c.VPD * 0), "VPD is above VPD_max in"),
    "an index without time": (lambda c: c.assign(EVI=c.VPD[0] * 0), "EVI has no dimension time"),
    "land that changes": (lambda c: c.assign(land_fraction=c.VPD * 0 + 1),
                          "land_fraction changes in time, but is a fact"),
    "classes without their dimension": (lambda c: c.assign(igbp_fraction=c.VPD[0] * 0 + 1),
                                        "igbp_fraction has no dimension igbp"),
    "a class twice": (classes("ENF", "ENF"), "class 'ENF' of igbp occurs twice; name each once"),
    "extremes of daily means": (lambda c: c.assign(TA_min=c.TA, TA_max=c.TA),
                                "TA_min and TA_max are the same on most days; give the extremes"),
    "months on days": (
        lambda c: c.assign(TA=c.TA.resample(time="MS").mean().reindex(time=c.time, method="ffill")
                           .transpose(*c.TA.dims).assign_attrs(units="degC")),
        r"at 49, 9 \(lat, lon\) TA is that of the day before on 7.. of 799 days"),
    "a cell of one temperature": (
        lambda c: c.assign(TA=c.TA.where((c.lat != 50) | (c.lon != 10), 0.0)),
        r"at 50, 10 \(lat, lon\) TA is that of the day before on 799 of 799 .*missing by NaN"),
    "light in MJ of 20 days": (lambda c: as_if("SW_IN", 0.0864)(c).isel(time=slice(150, 170)),
                               "SW_IN never exceeds .*MJ m-2 d-1"),
    "an index scaled twice": (lambda c: c.assign(EVI=c.VPD.drop_attrs() * 0 + 4e-5),
                              "EVI is at most 4e-05; was its scale factor applied twice"),
    "an index of no value": (lambda c: c.assign(EVI=c.VPD.drop_attrs() * 0 - 0.3),
                             "EVI is -0.3 in places, the fill value of MODIS"),
    "rain in kg m-2 s-1": (rain(3e-5), "PRCP is 3e-05 mm d-1 in the mean, as it is nowhere"),
    "rain of months": (rain(80.0), "PRCP is 80 mm d-1 in the mean, as it is nowhere; check"),
    "degrees in radians": (lambda c: c.assign_coords(lat=("lat", [0.85, 0.87, 0.89],
                                                          {"units": "radian"})),
                           "0 dimensions look like latitude; name exactly one lat, in degrees"),
    "kilometres": (lambda c: c.rename(lat="y").assign_coords(y=("y", [0, 9, 18], {"units": "km"})),
                   "0 dimensions look like latitude"),
    "a rotated pole": (lambda c: c.assign_coords(lon=("lon", c.lon.data, ROTATED)),
                       "0 dimensions look like longitude"),
    "a curvilinear grid": (lambda c: c.rename(lat="y", lon="x").assign_coords(
        lat=(("y", "x"), np.ones((3, 3)))), "0 dimensions look like latitude"),
    "a single row": (lambda c: c.isel(lat=[0]), "lat has 1 value; a map needs two of each axis"),
    "months of two kinds": (lambda c: c.isel(time=slice(12)).rename(time="month").assign_coords(
        month=np.array([*range(1, 12), "x"], object)), "month is .*'x'.*expected 1 to 12"),
    "classes by number": (classes(1, 10), "class 1 of igbp is no class; .*of WAT, ENF"),
}  # fmt: skip


@pytest.mark.parametrize("fault", CUBES)
def test_cubes_that_cannot_be(fault: str) -> None:
    """Of 800 days one error; the same cube without the fault, extremes included, is read."""
    (change, words), sound = CUBES[fault], weather(800)
    sound = sound.assign({n: sound[n.partition("_")[0]] for n in EXTREMES})
    sound["TA_max"] = (sound["TA"] + 4).assign_attrs(units="degC")
    assert open_cube(sound, (*DRIVERS, *EXTREMES)).convert["VPD"] == (1.0, 0.0)
    cube = change(weather(800))
    with pytest.raises(DataError, match=rf"^cube: [^\n]*{words}"):
        open_cube(cube, [*DRIVERS, *(n for n in (*EXTREMES, "EVI", "PRCP") if n in cube)])


def test_a_class_that_the_model_needs_is_asked_for() -> None:
    with pytest.raises(DataError, match="igbp has no class CRO, which the model needs; add it"):
        open_cube(classes("ENF", "GRA")(weather()), ("TA", "igbp_ENF", "igbp_CRO"))


@pytest.mark.parametrize(("source", "words"), [
    ("s3://x/y", "s3://x/y: a map is made of local files; .*tamrl cube"),
    (Path("gs://x/y"), "gs://x/y: a map is made of local files"), ("no.nc", "no.nc: no such file"),
    (__file__, r"test_faults.py: is no NetCDF file or Zarr store"),
    (Path(__file__).parent, "is no folder of NetCDF files or Zarr store"),
])  # fmt: skip
def test_paths_of_no_cube_get_a_line(source: Any, words: str) -> None:
    with pytest.raises(DataError, match=rf"^[^\n]*{words}[^\n]*$"):
        open_cube(source, DRIVERS)


Files = list[xr.Dataset]
FIRST, LAST = {"time": slice(60)}, {"time": slice(60, None)}
FOLDERS: dict[str, tuple[Callable[[xr.Dataset], Files], str]] = {  # its files, what is said
    "two units": (lambda c: [c[FIRST], c[LAST].assign(
        VPD=(c.VPD[LAST] * 0.1).assign_attrs(units="kPa"))],
        "VPD is in 'hPa' in 0.nc and in 'kPa' in 1.nc; convert"),
    "no unit in one": (lambda c: [c[FIRST], c[LAST].drop_attrs()],
                       "'degC' in 0.nc and in 'None' in 1.nc"),
    "a driver absent in one": (lambda c: [c[FIRST], c[LAST].drop_vars("VPD")],
                               "VPD is lacking at 60 of 120 times"),
    "the same days twice": (lambda c: [c, c[LAST] * 1.01], "monotonic"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FOLDERS)
def test_folders_that_cannot_be(fault: str, tmp_path: Path) -> None:
    """Files of one cube, each of which could be, do not go together."""
    (split, words), sound = FOLDERS[fault], weather(120)
    finer = sound["lat"].to_numpy() * (1 + 1e-7)  # as of another precision
    for folder, files in (
        ("good", [sound[["TA"]], sound[["VPD", "SW_IN"]].assign_coords(lat=finer)]),
        ("bad", split(sound)),
    ):
        (tmp_path / folder).mkdir()
        for k, one in enumerate(files):
            one.to_netcdf(tmp_path / folder / f"{k}.nc")
    (tmp_path / "good" / "1.nc").rename(tmp_path / "good" / "1.nc4")
    assert open_cube(tmp_path / "good", ("TA", "VPD", "SW_IN")).ds.sizes["time"] == 120
    with pytest.raises(DataError, match=rf"bad: [^\n]*{words}"):
        open_cube(tmp_path / "bad", ("TA", "VPD", "SW_IN"))


@pytest.mark.parametrize("source", [3, None, xr.DataArray([1.0])])
def test_what_is_no_cube_at_all_is_refused(source: Any) -> None:
    with pytest.raises(DataError, match=r"cannot be read of .*: give an xarray.Dataset or a path"):
        open_cube(source, ("TA",))


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("cubes")
    weather(12).to_zarr(folder / "a.zarr", zarr_format=2, consolidated=False)
    weather(12).to_zarr(folder / "b.zarr", zarr_format=3, consolidated=False)
    weather(12).to_netcdf(folder / "c.nc")
    return sorted(folder.iterdir())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_cube_is_read_or_refused(tmp_path_factory, stores: list[Path], data) -> None:
    """Bytes of a store that are others, fewer or more, metadata included."""
    sound = data.draw(st.sampled_from(stores))
    copy = tmp_path_factory.mktemp("any") / sound.name
    (shutil.copytree if sound.is_dir() else shutil.copy)(sound, copy)
    files = sorted(f for f in copy.rglob("*") if f.is_file()) if sound.is_dir() else [copy]
    file = data.draw(st.sampled_from(files))
    whole, noise = file.read_bytes(), data.draw(st.binary(max_size=4))
    at = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:at] + noise + whole[at + data.draw(st.integers(0, 4)) :])
    with contextlib.suppress(DataError):
        rows = open_cube(copy, ("TA", "VPD", "SW_IN")).rows(slice(None))
        assert not (abs(rows.TA) > 90).any()


YEAR = pd.date_range("2005-01-01", "2005-12-31", freq="16D")
PHASES = {"Greenup": -80, "MidGreenup": -50, "Maturity": -20, "Peak": 0, "Senescence": 30,
          "MidGreendown": 60, "Dormancy": 90}  # fmt: skip


def phases(since: int = 0, year: int = 2005, low: float = 0.15, **changes: object) -> str:
    """Make MCD12Q2 of two years as AppEEARS writes it, days since 1970-01-01 less ``since``."""
    peak = np.array([12963, 13328]) - since  # 2005-06-30, 2006-06-30
    columns = {n: peak + away for n, away in PHASES.items()} | {"QA_Overall": 0}
    columns |= {"EVI_Minimum": low, "EVI_Amplitude": 0.4} | changes
    table = pd.DataFrame({"ID": "AA-Aaa", "Date": [f"{year}-01-01", f"{year + 1}-01-01"]})
    return table.assign(**{f"MCD12Q2_061_{n}_0": v for n, v in columns.items()}).to_csv(index=False)


SATELLITES: dict[str, tuple[str, str]] = {  # a table, what is said
    "an index beyond 1": ("date,EVI\n2005-01-01,7.5\n", "EVI .*7.5 on 2005-01-01, outside"),
    "a date that is none": ("date,EVI\nspring,0.5\n", "spring"),
    "a truth value": ("date,EVI\n2005-01-01,yes\n", "EVI"),
    "nothing": ("", "empty"),
    "no column that is known": ("date,XYZ\n2005-01-01,1\n", "sat.csv"),
    "a column twice": ("date,EVI,EVI\n2005-01-01,0.5,0.6\n", "column EVI is there twice"),
    "two values of a day": (
        "date,EVI\n2005-01-01,0.5\n2005-01-01,0.6\n",
        "two values on 2005-01-01",
    ),
    "another tower's code": ("site,date,EVI\nBB-Bbb,2005-01-01,0.5\n", "are none of the towers"),
    "the tower's code elsewhere": (
        "site,lat,lon,date,EVI\nAA-Aaa,40,10,2005-01-01,0.5\n",
        "AA-Aaa is by its position 1110 km",
    ),
    "another place": ("lat,lon,date,EVI\n40,10,2005-01-01,0.5\n", "are none of the towers"),
    "days and months": ("date,EVI\n06/03/2005,0.5\n07/03/2005,0.5\n", "'06/03/2005': which .*no l"),
    "days first, then months": ("date,EVI\n16/03/2005,0.5\n03/22/2005,0.5\n", "lines differ"),
    "a thousand times an index": (
        "date,EVI\n" + "".join(f"{d:%Y-%m-%d},450\n" for d in YEAR),
        "EVI is whole numbers up to 450: 1000 or 10000 times",
    ),
    "warmth in degF": (
        "date,LST_Day\n" + "".join(f"{d:%Y-%m-%d},60.5\n" for d in YEAR),
        "LST_day of AA-Aaa differs from TA by .* is it in degF",
    ),
    "no row": ("site,date,EVI\n", "no row below the heads"),
    "a latitude with its sign in words": (
        "lat,lon,date,EVI\n50N,10E,2005-01-01,0.5\n",
        "lat is '50N'; give degrees",
    ),
    "a row longer than the head": ("date,EVI\n2005-01-01,0,5\n", "line 2 has 3 cells, the head 2"),
    "JSON without end": ('{"a":' + "[" * 10**5, "not readable as JSON"),
    "JSON that is a number": ('{"subset": 3}', "no list subset or statistics of dates"),
    "JSON without data": ('{"subset": [{"band": "x"}]}', "no list subset or statistics of dates"),
    "a file of AppEEARS without rows": (
        "ID,Date,MOD15A2H_061_Lai_500m\n",
        "no row below the heads",
    ),
    "two values of a layer": (
        "ID,Date,MOD15A2H_061_Lai_500m\n" + "".join(f"AA-Aaa,2005-02-01,{v}\n" for v in (1.5, 2.5)),
        "Lai_500m of AA-Aaa has two values on 2005-02-01; keep one",
    ),
    "phases by days of the year": (
        phases(since=12784, Peak=[180, 182]),
        "MCD12Q2 of AA-Aaa: Greenup is 99 in 2005, outside 11138 to 32766: .*days of the year",
    ),
    "phases counted from 2000": (phases(since=10957), "Greenup is 1926 in 2005.* in version 5"),
    "phases of another year": (phases(year=2009), "Peak is in 2005, but Date in 2009"),
    "phases under each other's heads": (
        phases(Greenup=[13053, 13418], Dormancy=[12883, 13248]),
        "has 2 of 2 cycles whose dates are out of order; are its columns exchanged",
    ),
    "two years of phases in one": (
        phases().replace("2006-01-01", "2005-01-01"),
        "MCD12Q2 of AA-Aaa: Greenup_0 has two values in 2005; keep one",
    ),
    "phases of fill values": (
        phases(**dict.fromkeys(PHASES, 32767)),
        "no value is left .EVI: MCD12Q2 has no growing cycle .*2 years are without a value",
    ),
    "a single phase": (
        "ID,Date,MCD12Q2_061_Greenup_0\nAA-Aaa,2005-01-01,12883\n",
        "not used: MCD12Q2; EVI needs its MidGreenup, .*, EVI_Amplitude as well",
    ),
    "phases of version 5": (
        "ID,Date,MCD12Q2_005_Onset_Greenness_Increase_0\nAA-Aaa,2005-01-01,1926\n",
        "not used: Onset_.* of MCD12Q2; of version 5, which counts from 2000-01-01; get .*6.1",
    ),
    "potential evaporation of MODIS": (
        "ID,Date,MOD16A2_061_PET_500m\nAA-Aaa,2005-01-01,31.5\n",
        "not used: PET_500m of MOD16A2; the model's PET is ERA5-Land's pev, .*; bring pev",
    ),
    "NDWI of Aqua": (
        "ID,Date,MYD09A1_061_sur_refl_b02,MYD09A1_061_sur_refl_b06\nAA-Aaa,2005-01-01,0.3,0.2\n",
        "not used: sur_refl_b02 of MYD09A1; .* of which Aqua has lost most detectors; get MOD09A1",
    ),
    "NDWI of one band": (
        "ID,Date,MOD09A1_061_sur_refl_b02\nAA-Aaa,2005-01-01,0.3\n",
        "not used: sur_refl_b02 of MOD09A1; NDWI needs sur_refl_b06 as well",
    ),
    "fluxes of MODIS": (
        "ID,Date,MOD17A2H_061_Gpp_500m\nAA-Aaa,2005-01-01,0.03\n",
        "not used: Gpp_500m of MOD17A2H; a modelled flux, no predictor",
    ),
    "per cent, or raw": ("date,EVI\n2005-01-01,45\n2005-02-01,50\n", "EVI .*outside -0.3 to 1"),
}
SAID: dict[str, tuple[str, str]] = {  # a table that is read, what is said
    "per cent": (
        "date,EVI\n" + "".join(f"{d:%Y-%m-%d},45\n" for d in YEAR),
        "EVI: converted from %",
    ),
    "0 for clouds": (
        "date,EVI\n" + "".join(f"{d:%Y-%m-%d},{0.5 * (d.day > 9)}\n" for d in YEAR),
        "EVI: 7 of 23 dates are exactly 0: left out as gaps",
    ),
    "one number": (
        "date,EVI\n" + "".join(f"{d:%Y-%m-%d},0.5\n" for d in YEAR),
        "EVI: all 23 dates are 0.5; is that measured?",
    ),
    "phases without a scale factor": (
        phases(low=1500),
        "EVI: scale factor 0.0001 applied to the minimum of MCD12Q2",
    ),
    "poor phases": (
        phases(QA_Overall=[3, 0]),
        "2 growing cycles of 2005 to 2006, 1 poor by QA_Overall, which count as in training",
    ),
    "phases out of order": (
        phases(Maturity=[12963 + 40, 13328 - 20]),
        "1 growing cycles of 2005 to 2006, 1 with dates out of order or of another year left out",
    ),
    "years apart": (
        "date,EVI\n2015-01-01,0.5\n",
        "no date of its 2015-01-01 to 2015-01-01 is within",
    ),
    "another name": (
        "site,date,EVI\nmarsh,2005-02-01,0.5\n",
        "satellites of marsh taken for its own",
    ),
    "words among numbers": (
        "date,EVI\n2005-02-01,0.5\n2005-02-17,cloud\n",
        "1 values such as 'cloud' are no numbers",
    ),
}


@pytest.mark.parametrize("fault", SATELLITES)
def test_satellite_tables_that_cannot_be(fault: str, tmp_path: Path) -> None:
    text, words = SATELLITES[fault]
    file, notes = tmp_path / "sat.csv", collections.defaultdict[str, list[str]](list)
    file.write_text(text)
    with pytest.raises(DataError, match=rf"sat\.csv: [^\n]*{words}|{words}"):
        read_satellites(file, open_towers(daily_csv(), TABLE), notes)


@pytest.mark.parametrize("fault", SAID)
def test_satellite_tables_of_which_something_is_said(fault: str, tmp_path: Path) -> None:
    text, words = SAID[fault]
    file, notes = tmp_path / "sat.csv", collections.defaultdict[str, list[str]](list)
    file.write_text(text)
    seen = read_satellites(file, open_towers(daily_csv(), TABLE), notes).evi
    assert words in "\n".join(line for lines in notes.values() for line in lines)
    assert seen is not None
    assert 0.4 < float(seen.max()) < 0.6


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%d %b %Y"])
def test_dates_of_a_satellite_table_are_of_one_form(form: str, tmp_path: Path) -> None:
    towers, read = open_towers(daily_csv(), TABLE), []
    for way in ("%Y-%m-%d", form):
        lines = [f"{d.strftime(way)},{0.3 + i / 100}" for i, d in enumerate(YEAR)]
        (tmp_path / "sat.csv").write_text("\n".join(["date,EVI", *lines]))
        notes = collections.defaultdict[str, list[str]](list)
        read.append(read_satellites(tmp_path / "sat.csv", towers, notes).evi)
    xr.testing.assert_identical(*read)


def test_a_folder_is_no_satellite_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder.*name a file, a satellite table"):
        read_satellites(tmp_path, open_towers(daily_csv(), TABLE), {"": []})


def test_a_single_index_is_no_satellite_view(samples: Samples) -> None:
    """Bounds of towers with satellites were calibrated where several of them see the leaves."""
    at = [samples.features.index(name) for name in SEASONAL]
    x = samples.x.copy()
    x[..., at] = np.nan
    x[..., at[:1]] = 0.5
    assert not present(replace(samples, x=x))[:, 0].any()
    x[..., at[:2]] = 0.5
    assert present(replace(samples, x=x))[:, 0].all()


STEPS = pd.date_range("2005-01-01", periods=200).to_numpy()
SEASON = np.sin(np.arange(200) / 30)


def fluxes(**more: Any) -> xr.Dataset:
    """Make predictions, or measurements, of two towers with bounds and a flag."""
    nee = np.stack([2 * SEASON, SEASON - 1])
    data = {"NEE": nee, "NEE_lower": nee - 1, "NEE_upper": nee + 1, "NEE_QC": 0 * nee + 0.9}
    axes = {"site": ["AA-Aaa", "BB-Bbb"], "time": STEPS}
    return xr.Dataset({n: (("site", "time"), v) for n, v in data.items()}, axes).assign(**more)


def stated(unit: str, factor: float) -> Callable[[xr.Dataset], xr.Dataset]:
    """Write the flux and its bounds in another unit, which the attribute states."""
    names = ("NEE", "NEE_lower", "NEE_upper")
    return lambda ds: ds.assign({n: (ds[n] * factor).assign_attrs(units=unit) for n in names})


def flagged(values: Any) -> Callable[[xr.Dataset], xr.Dataset]:
    """Write another quality flag."""
    return lambda ds: ds.assign(NEE_QC=xr.full_like(ds.NEE_QC, values, type(values)))


def stepped(freq: str) -> Callable[[xr.Dataset], xr.Dataset]:
    """Put the values on an axis of other steps."""
    return lambda ds: ds.assign_coords(time=pd.date_range("2005-01-01", periods=200, freq=freq))


def flat(ds: xr.Dataset) -> xr.Dataset:
    """Give every day the mean of its month."""
    return ds.assign(NEE=ds.NEE.groupby("time.month").map(lambda m: 0 * m + m.mean("time")))


SCORED: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {  # refused on both sides
    "a tower twice": (lambda d: d.assign_coords(site=["AA-Aaa"] * 2), "site AA-Aaa occurs 2 times"),
    "a day twice": (lambda d: d.assign_coords(time=[STEPS[1], *STEPS[1:]]), "2005-01-02 occurs 2"),
    "hours": (stepped("h"), "time 2005-01-01 occurs 24 times; keep one value a tower and day"),
    "months": (stepped("MS"), "values are 31 days apart; daily values are expected"),
    "no towers named": (lambda d: d.drop_vars("site"), "no coordinate site"),
    "no dates": (lambda d: d.drop_vars("time"), "no coordinate time"),
    "days by number": (lambda d: d.assign_coords(time=range(200)), "time holds int64"),
    "an unknown unit": (stated("furlong", 1.0), "NEE is in 'furlong'; convert it to gC m-2 d-1"),
    "values of 500": (lambda d: d.assign(NEE=d.NEE * 300), "NEE is outside -100 to 100 .*on"),
    "an infinity": (lambda d: d.assign(NEE=d.NEE.where(d.NEE < 1.9, np.inf)), "NEE is outside"),
    "a code for missing": (lambda d: d.assign(NEE=d.NEE.where(d.NEE < 1.9, -9999)), "at AA-Aaa"),
    "values of a thousandth": (lambda d: d.assign(NEE=d.NEE / 1000), "NEE reaches 0.00.*in kg"),
    "truth values": (lambda d: d.assign(NEE=d.NEE > 0), "NEE holds values of bool"),
    "text": (lambda d: d.assign(NEE=d.NEE.astype(str)), "NEE holds values of <U"),
    "members": (lambda d: d.expand_dims(seed=[0, 1]), "has dimensions"),
    "a flag of text": (flagged("good"), "NEE_QC holds values of"),
    "flags 0 to 3": (flagged(2.0), "NEE_QC is 2, outside 0 to 1"),
    "a flag beyond 100": (flagged(101.0), "NEE_QC is 101, outside 0 to 1"),
    "one bound alone": (lambda d: d.drop_vars("NEE_upper"), "NEE_lower is there alone"),
    "the other bound alone": (lambda d: d.drop_vars("NEE_lower"), "NEE_upper is there alone"),
    "bounds swapped": (lambda d: d.rename(NEE_lower="NEE_upper", NEE_upper="NEE_lower"),
                       "NEE_lower is above NEE_upper on 400 days, first at AA-Aaa, 2005-01-01"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SCORED)
def test_fluxes_that_cannot_be_scored(fault: str, tmp_path: Path) -> None:
    """One line that names the side, on either; the same for a file, which it names."""
    change, words = SCORED[fault]
    assert (score(fluxes(), fluxes()).RMSE == 0).all()
    with pytest.raises(DataError, match=rf"^predictions: [^\n]*{words}[^\n]*$"):
        score(change(fluxes()), fluxes())
    with pytest.raises(DataError, match=rf"^measurements: [^\n]*{words}[^\n]*$"):
        score(fluxes(), change(fluxes()))
    if fault != "members":
        change(fluxes()).to_netcdf(tmp_path / "f.nc")
        with pytest.raises(DataError, match=rf"^{tmp_path}/f.nc: [^\n]*{words}"):
            score(tmp_path / "f.nc", fluxes())


READ: dict[str, tuple[Callable[[xr.Dataset], xr.Dataset], str]] = {  # and said
    "kg of carbon": (stated("kgC m-2 d-1", 1e-3), "measurements: NEE converted from kgC m-2 d-1"),
    "umol": (stated("umol m-2 s-1", 1 / 1.0377504), "NEE_lower converted from umol m-2 s-1"),
    "powers as CF has them": (stated("g m**-2 d**-1", 1.0), ""),
    "a flag in per cent": (flagged(90.0), "NEE_QC: converted from %"),
    "flags of -1": (lambda d: d.assign(NEE_QC=d.NEE_QC.where(d.time > STEPS[0], -1)),
                    "NEE_QC: 2 times -1, taken for missing"),
    "noon": (lambda d: d.assign_coords(time=d.time + np.timedelta64(12, "h")), "were cut off"),
    "one tower": (lambda d: d.isel(site=0), "are predicted alone: BB-Bbb"),
}  # fmt: skip


@pytest.mark.parametrize("fault", READ)
def test_fluxes_that_are_put_right_before_scoring(fault: str) -> None:
    change, words = READ[fault]
    scores = score(fluxes(), change(fluxes()))
    assert words in "\n".join(scores.attrs["inputs"])
    np.testing.assert_allclose(scores.RMSE, 0, atol=1e-6)


def test_a_csv_of_predictions_states_its_unit_and_has_a_day_once(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    rows = fluxes().isel(site=0)[["NEE"]].to_dataframe().reset_index()
    for unit, factor in (("gC m-2 d-1", 1.0), ("kgC m-2 d-1", 1e-3)):
        text = rows.assign(NEE=rows.NEE * factor).to_csv(index=False)
        file.write_text(f"# units: fluxes in {unit}; CH4 in nmol m-2 s-1\n{text}")
        np.testing.assert_allclose(score(file, fluxes()).RMSE, 0, atol=1e-5)
    file.write_text(f"# units: fluxes in {unit}\n{text}{text.splitlines()[-1]}\n")
    with pytest.raises(DataError, match=r"p\.csv: AA-Aaa has 2005-07-19 twice; keep one line"):
        score(file, fluxes())


def predicted(**columns: Any) -> str:
    """Write a prediction as csv, with other columns; None takes one away."""
    rows = fluxes().isel(site=0)[["NEE"]].to_dataframe().reset_index()
    near = {"seen": 0, "nearest_learnt": "XX-Abc", "nearest_learnt_km": 900.0}
    given = {name: value for name, value in columns.items() if value is not None}
    rows = rows.assign(**near | given).drop(columns=columns.keys() - given.keys())
    return f"# title: \N{MICRO SIGN}\n# virtual: 0\n{rows.to_csv(index=False)}"


PREDICTED: dict[str, tuple[Callable[[], str], str]] = {  # an edited prediction, what is said
    "virtual in words": (lambda: predicted().replace("virtual: 0", "virtual: yes"),
                         "virtual is 'yes'; write 0"),
    "a zone": (lambda: predicted(time=[f"{d}Z" for d in STEPS.astype("M8[s]")]),
               "time '2005-01-01T00:00:00Z' is no local day"),
    "days turned": (lambda: predicted(time="31/01/2005"), "time '31/01/2005' is no local day"),
    "a day that is none": (lambda: predicted(time="2005-02-30"), "'2005-02-30' is no local day"),
    "no dates": (lambda: predicted(time=None), "not a csv file of `tamrl predict`"),
    "seen in words": (lambda: predicted(seen="no"), "seen is a number from 0 to 4"),
    "seen below 0": (lambda: predicted(seen=-1), "seen is a number from 0 to 4"),
    "seen by half": (lambda: predicted(seen=0.5), "seen is a number from 0 to 4"),
    "near what is not named": (lambda: predicted(nearest_learnt=None), "are not all there"),
    "at no distance": (lambda: predicted(nearest_learnt_km="far"), "not as they were written"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PREDICTED)
def test_predictions_that_were_edited(fault: str, tmp_path: Path) -> None:
    change, words = PREDICTED[fault]
    file = tmp_path / "p.csv"
    file.write_text(change(), encoding="utf-8")
    with pytest.raises(DataError, match=rf"^(\S*p\.csv|predictions): [^\n]*{words}[^\n]*$"):
        score(file, fluxes())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_predictions_saved_by_another_program_are_read(encoding: str, tmp_path: Path) -> None:
    """A tower's name is whole, too, that holds the sign of a comment."""
    file = tmp_path / "p.csv"
    file.write_text(predicted(site="My#1"), encoding=encoding)
    scores = score(file, fluxes().assign_coords(site=["My#1", "BB-Bbb"]))
    assert set(scores.site) == {"all", "My#1"}
    np.testing.assert_allclose(scores.RMSE, 0, atol=1e-6)


def test_sides_and_signs_that_are_turned() -> None:
    """NEE = RECO - GPP on both sides; measurements are not predictions."""
    gpp = fluxes().NEE_QC * 3 - fluxes().NEE
    parts = fluxes().assign(GPP=gpp, RECO=gpp + fluxes().NEE)
    turned = parts.assign(NEE=-parts.NEE)[["GPP", "RECO", "NEE"]]
    assert (score(parts, parts).RMSE == 0).all()
    for sides, side in (((turned, parts), "predictions"), ((parts, turned), "measurements")):
        with pytest.raises(DataError, match=f"^{side}: NEE is GPP - RECO .*turn its sign"):
            score(*sides)
    with pytest.raises(DataError, match="measurements: are predicted by weights, not measured"):
        score(parts, parts.assign_attrs(weights_sha256="0" * 64))


def test_what_is_not_scored_is_said() -> None:
    """Months repeated on every day, a size that differs by 1000, bounds with gaps, other days."""
    with pytest.raises(DataError, match="one number on all days of a month, in each of 12 months"):
        score(fluxes(), flat(fluxes()))
    assert (score(flat(fluxes()), fluxes()).RMSE > 0).all()  # a mean season may be scored
    small = fluxes().isel(time=slice(40))[["NEE"]] / 1000
    with pytest.raises(DataError, match=r"NEE reaches 0.00.* as predicted and .* as measured"):
        score(small, fluxes())
    gaps = fluxes().assign(NEE_lower=fluxes().NEE_lower.where(fluxes().time > STEPS[9]))
    scores = score(gaps, fluxes())
    assert "NEE: 20 scored days have no bounds and do not count inside" in scores.attrs["inputs"]
    assert (scores.inside == 1).all()
    both = fluxes().assign(GPP=fluxes().NEE.where(fluxes().time > STEPS[99]) + 3)
    early = both.assign(GPP=fluxes().NEE.where(fluxes().time < STEPS[99]) + 3)
    scores = score(both, early)
    assert set(scores.flux) == {"NEE"}
    assert "GPP: no day has it both predicted and measured" in "\n".join(scores.attrs["inputs"])


OUTPUTS: dict[str, tuple[str, str]] = {  # a command, what is said
    "the tower": ("predict AA-Aaa.csv --table t.csv -o AA-Aaa.csv", "AA-Aaa.csv: is read as an"),
    "the table": ("predict AA-Aaa.csv --table t.csv -o t.csv", "t.csv: is read as an input"),
    "a table beside": ("predict towers -o towers/towers.csv", "is read as an input"),
    "drivers of a table": ("predict --table d.csv -o AA-Aaa.csv", "is read as an input"),
    "a picture and a file": ("predict AA-Aaa.csv -o x.png --plot x.png", "two places"),
    "a picture of no kind": ("predict AA-Aaa.csv -o x.nc --plot x.doc", "needs x.png or x.pdf or"),
    "a folder": ("predict AA-Aaa.csv --table t.csv -o towers", "towers: is a folder"),
    "a protected file": ("predict AA-Aaa.csv --table t.csv -o safe.nc", "is write-protected"),
    "a pipe": ("predict AA-Aaa.csv --table t.csv -o pipe.nc", "is a device or a pipe"),
    "a file for a folder": ("predict AA-Aaa.csv --table t.csv -o p.nc/x.nc", "cannot be written"),
    "a link to itself": ("predict AA-Aaa.csv --table t.csv -o loop.nc", "a link that leads to its"),
    "a link to itself read": ("predict loop.nc --table t.csv -o x.nc", "a link that leads to itse"),
    "letters of no encoding": ("predict AA-Aaa.csv --table t.csv -o \udcff.nc", "no encoding"),
    "a folder of the shell": ("predict AA-Aaa.csv --table t.csv -o ~/x.nc", "only a shell knows"),
    "a table in a pipe": ("predict AA-Aaa.csv --table pipe.nc -o x.nc", "a device or a pipe"),
    "a folder of weights": ("predict AA-Aaa.csv --table t.csv -m towers -o x.nc", "is a folder, a"),
    "adapted over its table": ("adapt AA-Aaa.csv --table t.csv -o t.csv", "is read as an input"),
    "scores over fluxes": ("score p.nc AA-Aaa.csv -o p.nc", "is read as an input"),
    "weights in a folder": ("train -o towers", "towers: is a folder"),
    "weights below a file": ("train -o t.csv/w.safetensors", "cannot be written"),
    "a map over its cube": ("map cube.zarr -w w.nc -o cube.zarr", "is read as an input"),
    "a map in its cube": ("map cube.zarr -w w.nc -o cube.zarr/m.zarr", "is read as an input"),
    "a map over its weights": ("map cube.zarr -w w.nc -o w.nc", "is read as an input"),
    "a file in the map": ("map cube.zarr -w w.nc -o m.zarr --netcdf m.zarr/m.nc", "two places"),
    "fluxes in a text": ("predict AA-Aaa.csv --table t.csv -o p.txt", "needs p.nc or p.nc4 or"),
    "fluxes without a kind": ("predict AA-Aaa.csv --table t.csv -o out", "needs out.nc or"),
    "scores in NetCDF": ("score p.nc AA-Aaa.csv -o s.nc", "a table needs s.csv"),
    "weights in NetCDF": ("train -o new.nc", "a file of weights needs new.safetensors"),
    "weights over another's": ("train -o other.safetensors", "something else than weights"),
    "fluxes over a table of mine": (
        "predict AA-Aaa.csv --table t.csv -o other.csv", "tamrl has not written it; move it"),
    "fluxes over NetCDF of mine": (
        "predict AA-Aaa.csv --table t.csv -o p.nc", "tamrl has not written it; move it"),
    "a picture over mine": (
        "predict AA-Aaa.csv --table t.csv -o x.nc --plot own.png", "tamrl has not written it"),
    "scores over a table of mine": ("score p.nc AA-Aaa.csv -o other.csv", "tamrl has not written"),
    "a dashboard over mine": ("monitor AA-Aaa.csv --table t.csv -o towers", "status.csv: is there"),
    "a map's NetCDF over mine": ("map cube.zarr -o m.zarr --netcdf p.nc", "tamrl has not written"),
    "a map in NetCDF": ("map cube.zarr -o m.nc", "a Zarr store needs m.zarr"),
    "a map's NetCDF in Zarr": ("map cube.zarr -o m.zarr --netcdf n.zarr", "needs n.nc or n.nc4"),
    "a map over a file": ("map cube.zarr -o file.zarr", "is there already, and no Zarr store"),
    "a map over a folder": ("map cube.zarr -o mine.zarr", "is there already, and no Zarr store"),
    "a map through what is mine": ("map cube.zarr -o a.zarr", "a.zarr.part: is in the way"),
    "a map through my file": ("map cube.zarr -o b.zarr", "b.zarr.part: is in the way"),
    "a map beside what is mine": ("map cube.zarr -o c.zarr", "c.zarr.part: is in the way"),
    "a map among marks": ("map cube.zarr -o d.zarr", "d.zarr.part: is in the way"),
    "a map through a link": ("map cube.zarr -o link.zarr", "link.zarr: is a link to nothing"),
    "a resolution of a cube": ("map cube.zarr -o m.zarr --resolution 1", "a cube has its own"),
    "threads of a scheduler": (
        "map cube.zarr -o m.zarr --scheduler local:2 --workers 3", "workers of its own"),
    "a cube over its file": ("cube p.nc -o p.nc", "is read as an input"),
    "a cube over its store": ("cube cube.zarr -o cube.zarr", "is read as an input"),
    "a cube over its index": ("cube p.nc --vegetation cube.zarr -o cube.zarr", "is read as an"),
    "a cube through what is mine": ("cube p.nc -o a.zarr", "a.zarr.part: is in the way"),
    "tables below a file": ("compare ablation -o t.csv", "cannot be written"),
    "the cache below a file": ("fetch towers", "t.csv/derived: cannot be written"),
}  # fmt: skip


class Bare:
    """A map model that is never asked."""

    features, digests = ("TA", "VPD", "SW_IN"), ("",)


def opened() -> xr.Dataset:
    return xr.open_zarr("cube.zarr", consolidated=False)


Own = tamrl.maps.pretrained.Model
OF_PYTHON: dict[str, tuple[Callable[[Own], Any], str]] = {
    "a map over its cube": (lambda m: m.map("cube.zarr", "cube.zarr"), "is read as an input"),
    "a map in its cube": (lambda m: m.map("cube.zarr", "cube.zarr/m.zarr"), "is read as an"),
    "a map over an opened cube": (lambda m: m.map(opened(), "cube.zarr"), "is read as an input"),
    "a map over a changed cube": (lambda m: m.map(opened() + 1, "cube.zarr"), "is read as an"),
    "a map in NetCDF": (lambda m: m.map("cube.zarr", "m.nc"), "needs m.zarr"),
    "a map through what is mine": (lambda m: m.map("cube.zarr", "a.zarr"), "is in the way"),
    "upscale over its cube": (
        lambda _: tamrl.upscale(Bare(), opened(), "cube.zarr"), "is read as an input"),
    "upscale over a folder": (
        lambda _: tamrl.upscale(Bare(), opened(), "mine.zarr"), "no Zarr store"),
    "days over their hours": (
        lambda _: tamrl.build_cube(opened(), "cube.zarr"), "is read as an input"),
    "weights in this folder": (lambda m: m.save("."), "is a folder"),
    "weights in a folder": (lambda m: m.save("towers"), "towers: is a folder"),
    "weights over a table": (lambda m: m.save("t.csv"), "something else|needs t.safetensors"),
    "weights over another's": (lambda m: m.save("other.safetensors"), "something else"),
    "protected weights": (lambda m: m.save("safe.nc"), "is write-protected"),
}  # fmt: skip


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with files of a user, some called as ours would be."""
    monkeypatch.chdir(tmp_path)
    for name in ("towers", "mine.zarr", "a.zarr.part", "c.zarr.part/.done", "d.zarr.part/.done"):
        Path(name).mkdir(parents=True)
    weather(12).to_zarr("cube.zarr", zarr_format=2, consolidated=False)
    for name in ("AA-Aaa.csv", "t.csv", "towers/towers.csv", "safe.nc", "p.nc", "w.nc",
                 "file.zarr", "mine.zarr/thesis", "a.zarr.part/thesis", "b.zarr.part",
                 "c.zarr.part/thesis", "d.zarr.part/.done/thesis", "other.csv", "own.png",
                 "towers/status.csv", "other.safetensors"):  # fmt: skip
        Path(name).write_text("site,lat,lon,igbp\nAA-Aaa,50,10,ENF\n")
    Path("d.csv").write_text("site,lat,lon,igbp,drivers\nAA-Aaa,50,10,ENF,AA-Aaa.csv\n")
    Path("safe.nc").chmod(0o444)
    os.mkfifo("pipe.nc")
    os.symlink("loop.nc", "loop.nc")
    os.symlink("nothing", "link.zarr")
    monkeypatch.setenv("TAMRL_DATA_DIR", str(tmp_path / "t.csv"))
    return tmp_path


def seen(folder: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("fault", OUTPUTS)
def test_outputs_that_would_cost_something(fault: str, crowded: Path) -> None:
    """Refused in one line before any work; nothing that was there is another afterwards."""
    (call, words), before = OUTPUTS[fault], seen(crowded)
    done = CliRunner().invoke(app, call.split())
    assert done.exit_code in (1, 2)
    assert words in re.sub(r"[\s│]+", " ", done.output)
    assert seen(crowded) == before


OF_KIND: dict[str, tuple[Callable[[Own], Any], str]] = {  # what a call is given, what is said
    "towers by number": (lambda m: m.predict(3), "towers is of the kind int; expected paths"),
    "towers in bytes": (lambda m: m.predict(b"AA-Aaa.csv"), "towers is of the kind bytes"),
    "towers of numbers": (lambda m: m.predict([1, 2]), "one of the towers is of the kind int"),
    "a table of lists": (lambda m: m.predict("AA-Aaa.csv", {"site": ["A"]}), "table is of .* dict"),
    "a table in a pipe": (lambda m: m.predict("AA-Aaa.csv", "pipe.nc"), "a device or a pipe"),
    "drivers in a pipe": (lambda _: read_csv(Path("pipe.nc")), "a device or a pipe"),
    "satellites in a pipe": (
        lambda _: read_satellites("pipe.nc", fluxes(), {}), "pipe.nc: is a folder, a device or a"),
    "satellites by number": (lambda m: m.predict("AA-Aaa.csv", "t.csv", 3), "satellites is .* int"),
    "degrees in words": (lambda m: m.predict("AA-Aaa.csv", lat="50", lon=10.0, igbp="ENF"),
                         "lat is of the kind str; expected a number, degrees"),
    "two latitudes": (lambda m: m.predict("AA-Aaa.csv", lat=np.ones(2), lon=1.0, igbp="ENF"),
                      r"lat is an array \(2,\); expected a number, degrees"),
    "a grid by number": (lambda m: m.predict("AA-Aaa.csv", "t.csv", grid=3), "grid is of .* int"),
    "a target by number": (lambda m: m.adapt("AA-Aaa.csv", "t.csv", target=3), "name of a target"),
    "a cube by number": (lambda m: m.map(3, "new.zarr"), "an input is of the kind int"),
    "a tree of data": (lambda _: score(xr.DataTree(), fluxes()), "file of fluxes is .* DataTree"),
    "fluxes and a pipe": (lambda _: score(fluxes(), "AA-Aaa.csv", "pipe.nc"), "device or a pipe"),
    "weights by number": (lambda _: tamrl.load_pretrained(3), "path is of the kind int"),
    "weights for a number": (lambda m: m.save(3), "path is of the kind int"),
    "a letter 0 in a name": (lambda m: m.save("a\0b.safetensors"), "no name of a file"),
    "no device": (lambda _: tamrl.load_pretrained(device=None), "device is of the kind NoneType"),
}  # fmt: skip


@pytest.mark.parametrize("fault", OF_KIND)
def test_arguments_of_another_kind(fault: str, crowded: Path, sound: Path) -> None:
    (call, words), model = OF_KIND[fault], tamrl.load_pretrained(sound)
    with pytest.raises(DataError, match=words):
        call(model)


OF_TARGET: dict[str, tuple[dict[str, Any], str]] = {  # how CH4 is learnt, what is said
    "a unit by number": ({"unit": 3}, "unit of CH4 is 3; expected a text"),
    "a unit without end": ({"unit": "g" * 5000}, "unit of CH4 is 'gg.*at most 4096 letters"),
    "positive in words": ({"positive": "no"}, "positive is 'no'; give True or False"),
    "positive by number": ({"positive": 2}, "positive is 2; give True or False"),
    "a name without end": ({"target": "C" * 5000}, "the name of a target .*at most 200 letters"),
    "values without end": ({"factor": 1e30}, "largest CH4 is .*a number from -1e.09 to 1e.09"),
}


@pytest.mark.parametrize("fault", OF_TARGET)
def test_targets_that_no_file_could_hold(fault: str, samples: Samples) -> None:
    """Refused before anything is learnt of them."""
    how, words = OF_TARGET[fault]
    y = samples.y[..., :1] * np.float32(how.get("factor", 1))
    more = replace(samples, y=np.concatenate([samples.y, y], -1), targets=(*samples.targets, "CH4"))
    options = {"unit": "mg m-2 d-1"} | {n: v for n, v in how.items() if n in ("unit", "positive")}
    with pytest.raises(DataError, match=words):
        learn_target([], {}, [], more, how.get("target", "CH4"), **options)


def test_what_could_not_be_read_again_is_not_written(
    samples: Samples, sound: Path, tmp_path: Path
) -> None:
    """Of many towers a few are named, so that their header can be read."""
    model, file = tamrl.load_pretrained(sound), tmp_path / "w.safetensors"
    header = model.header | {"adapted_to": "X" * 5000}
    with pytest.raises(DataError, match=r"w\.safetensors: not written, .*adapted_to is 'XX"):
        weights_file.write(model.members, file, header)
    assert not list(tmp_path.iterdir())
    model.save(file)
    assert pretrained.open_weights(file).header["adapted_to"] == "XX-Abc"
    few = samples.select(np.arange(7))
    member = Mock(predict=lambda samples, _: np.nan_to_num(samples.y))
    _, facts = adapt([member], {"error_model": ErrorModel().store()}, few)
    assert facts["adapted_to"] == f"{', '.join(few.site[:5])} and 2 more"


@pytest.mark.parametrize("fault", OF_PYTHON)
def test_outputs_of_python_that_would_cost_something(
    fault: str, crowded: Path, sound: Path
) -> None:
    """What is called without the command line is refused as it is with it, before any work."""
    (call, words), model, before = OF_PYTHON[fault], tamrl.load_pretrained(sound), seen(crowded)
    with pytest.raises(DataError, match=words):
        call(model)
    assert seen(crowded) == before


def test_outputs_of_tamrl_may_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that a command wrote is written over by it, as is an empty one."""
    monkeypatch.chdir(tmp_path)
    daily_csv().to_csv("AA-Aaa.csv", index=False)
    TABLE.to_csv("t.csv", index=False)
    tower = "AA-Aaa.csv --table t.csv"
    files = ["f.csv", "F.CSV", "f.nc", "f.png", "f.pdf", "f.svg", "s.csv"]
    for name in files:
        Path(name).touch()
    for time in (1, 2):
        for call in (f"predict {tower} -o f.csv", f"predict {tower} -o F.CSV",
                     *(f"predict {tower} -o f.nc --plot f.{end}" for end in ("png", "pdf", "svg")),
                     "score F.CSV AA-Aaa.csv --table t.csv -o s.csv"):  # fmt: skip
            done = CliRunner().invoke(app, call.split())
            assert done.exit_code == 0, (time, call, done.output)
    assert Path("F.CSV").read_text(encoding="utf-8").startswith("# ")
    assert all(Path(name).stat().st_size for name in files)
    xr.Dataset().to_netcdf("n.nc")
    assert [*map(by_tamrl, map(Path, ("f.nc", "n.nc", "AA-Aaa.csv")))] == [True, False, False]


def test_weights_may_be_saved_over_weights(sound: Path, tmp_path: Path) -> None:
    model, file = tamrl.load_pretrained(sound), tmp_path / "w.safetensors"
    for _ in range(2):
        model.save(file)
    assert file.read_bytes() == sound.read_bytes()


def test_a_full_disk_is_one_error_and_the_older_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "old.nc"
    file.write_text("old")
    for fault in (OSError(28, "No space left on device"), RuntimeError("NetCDF: HDF error")):

        def half(fault: Exception = fault) -> None:
            with atomic_write(file) as part:
                part.write_text("half")
                raise fault

        with pytest.raises(OSError, match=r"(No space|disk full).*nothing was written.*old\.nc"):
            half()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]
    with pytest.raises(RuntimeError, match="mine"), atomic_write(file):
        raise RuntimeError("mine")
    check_outputs([tmp_path], tmp_path / "new.csv")
