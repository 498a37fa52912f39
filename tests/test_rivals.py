"""Every rival is a fair one: it learns, repeats itself, knows no test tower and is what it says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xgboost
from numpy.typing import NDArray

from tamrl.errors import DataError
from tamrl.evaluate.crossval import cross_validate
from tamrl.model.network import Config
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting, Climatology
from tamrl.rivals.networks import CTLSTM, LSTM, TRANSFORMER, AttentionNet, Transformer, XGBoost
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TRAIN, VALID, TEST = np.arange(14), np.arange(14, 17), np.arange(17, 24)
SMALL = {"hidden": 32, "embed": 8}
QUICK = Recipe(epochs=1, batch=4, length=150)


def rivals(epochs: int, trees: int) -> dict[str, Callable[[], Any]]:
    recurrent = Recipe(epochs=epochs, batch=4, length=150)
    attention = replace(TRANSFORMER, epochs=epochs, batch=4, lr=3e-3)
    return {
        "XGBoost": partial(XGBoost, trees=trees),
        "LSTM": partial(LSTM, SMALL, recurrent),
        "CT-LSTM": partial(CTLSTM, SMALL, recurrent),
        "transformer": partial(Transformer, SMALL, attention),
    }


RIVALS = rivals(1, 8)  # enough to tell equal from different
each_rival = pytest.mark.parametrize("name", RIVALS)


@pytest.fixture(scope="module")
def samples() -> Samples:
    towers = virtual_towers(n=24, years=(2001, 2003), seed=0)
    s = make_samples(towers, virtual_predictors(towers))
    order = np.random.default_rng(0).permutation(24)
    rows = {k: getattr(s, k)[order] for k in ("site", "x", "static", "y", "weight", "scored")}
    return replace(
        s, **rows, has_drivers=s.has_drivers[order], process=s.process[order],
        table=s.table.iloc[order].reset_index(drop=True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(samples: Samples) -> dict[str, Any]:
    return {name: make().fit(samples, TRAIN, VALID, 0) for name, make in RIVALS.items()}


@pytest.fixture(scope="module")
def trained(samples: Samples) -> dict[str, Any]:
    return {name: make().fit(samples, TRAIN, VALID, 0) for name, make in rivals(8, 60).items()}


def rmse(model: Any, samples: Samples) -> NDArray:
    on = samples.scored[TEST]
    error = model.predict(samples, TEST)[on] - samples.y[TEST][on]
    return np.sqrt((error.astype(float) ** 2).mean(0))


@each_rival
def test_it_learns(trained: dict[str, Any], samples: Samples, name: str) -> None:
    """For each flux a quarter less error at unseen towers than season and vegetation class give."""
    season = rmse(Climatology().fit(samples, TRAIN, VALID), samples)
    assert (rmse(trained[name], samples) < 0.75 * season).all()


@each_rival
def test_a_seed_repeats_it(fitted: dict[str, Any], samples: Samples, name: str) -> None:
    again, other = (RIVALS[name]().fit(samples, TRAIN, VALID, seed) for seed in (0, 1))
    first = fitted[name].predict(samples, TEST)
    assert np.array_equal(first, again.predict(samples, TEST), equal_nan=True)
    assert not np.array_equal(first, other.predict(samples, TEST), equal_nan=True)


@each_rival
def test_order_and_company_of_towers_do_not_matter(
    fitted: dict[str, Any], samples: Samples, name: str
) -> None:
    there = fitted[name].predict(samples, TEST)
    back = fitted[name].predict(samples, TEST[::-1])[::-1]
    alone = fitted[name].predict(samples, TEST[2:3])
    np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(there[2:3], alone, rtol=1e-4, atol=1e-4)


@each_rival
def test_it_predicts_every_day_with_drivers_and_no_other(
    fitted: dict[str, Any], samples: Samples, name: str
) -> None:
    blind = replace(samples, y=np.full_like(samples.y, np.nan), weight=samples.weight * 0)
    pred = fitted[name].predict(blind, TEST)
    assert pred.shape == (len(TEST), len(samples.time), 3)
    on = samples.has_drivers[TEST]
    assert 0 < on.mean() < 1
    assert np.array_equal(np.isfinite(pred), np.repeat(on[..., None], 3, -1))
    if name != "XGBoost":
        assert pred[on][:, :2].min() >= 0


@each_rival
def test_it_never_sees_test_towers(fitted: dict[str, Any], samples: Samples, name: str) -> None:
    changed = replace(samples, x=samples.x.copy(), y=samples.y.copy())
    changed.x[TEST] += 3
    changed.y[TEST] *= -2
    other = RIVALS[name]().fit(changed, TRAIN, VALID, 0)
    a, b = (m.predict(samples, TEST) for m in (fitted[name], other))
    assert np.array_equal(a, b, equal_nan=True)


def test_only_the_lstm_does_not_know_the_place(fitted: dict[str, Any], samples: Samples) -> None:
    moved = replace(samples, static=samples.static[::-1].copy())
    for name in RIVALS:
        here, there = (fitted[name].predict(s, TEST) for s in (samples, moved))
        assert np.array_equal(here, there, equal_nan=True) == (name == "LSTM"), name


def test_ct_lstm_is_the_whole_model_without_its_task(samples: Samples) -> None:
    plain = {**SMALL, "encoder": "none", "closure": "none", "process": False}
    same = TamRLModel(plain, QUICK).fit(samples, TRAIN, VALID, 0)
    pred = RIVALS["CT-LSTM"]().fit(samples, TRAIN, VALID, 0).predict(samples, TEST)
    assert np.array_equal(pred, same.predict(samples, TEST), equal_nan=True)


def test_xgboost_is_grown_by_its_own_library_from_the_same_search(
    fitted: dict[str, Any], samples: Samples
) -> None:
    model = fitted["XGBoost"]
    assert all(isinstance(m.func.__self__, xgboost.Booster) for m in model.models.values())
    assert model.params in XGBoost.GRID
    assert len(XGBoost.GRID) == len(Boosting.GRID)
    booster = model.models["GPP"].func.__self__
    assert booster.num_boosted_rounds() == 8
    assert booster.num_features() == model._inputs(samples, TEST[:1]).shape[-1]


def test_without_xgboost_it_says_what_to_install(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(DataError, match=r"pip install 'tamrl\[rivals\]'"):
        XGBoost(trees=2).fit(samples, TRAIN, VALID)


def test_attention_looks_back_and_never_ahead() -> None:
    torch.manual_seed(0)
    net = AttentionNet(Config(5, 4, encoder="none", closure="none", process=False, hidden=16))
    net.eval()
    x, facts = torch.randn(2, 30, 5), net.embed_site(torch.randn(2, 4))
    seen, process = torch.ones_like(x), torch.ones(2, 30, 2)
    later, earlier = x.clone(), x.clone()
    later[:, 20:] += 1
    earlier[:, :5] += 1
    first, ahead, back = (
        net.decode(v, seen, process, facts, None).flux.detach() for v in (x, later, earlier)
    )
    assert torch.equal(first[:, :20], ahead[:, :20])
    assert (first[:, 20:] - ahead[:, 20:]).abs().amin(1).max() > 0
    assert ((first - back)[:, 29].abs() > 1e-6).all()  # 25 days on, the first days still count
    swapped = x.clone()
    swapped[:, [3, 4]] = x[:, [4, 3]]
    moved = net.decode(swapped, seen, process, facts, None).flux
    assert ((first - moved)[:, 29].abs() > 1e-7).any()  # and their order does


def test_a_transformer_that_would_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Recipe\.keep"):
        Transformer(recipe=Recipe())
    with pytest.raises(ValueError, match="no encoder"):
        AttentionNet(Config(5, 4))
    net = AttentionNet(Config(5, 4, encoder="none"))
    x, state = torch.zeros(1, 3, 5), (torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="stands alone"):
        net.decode(x, x, torch.ones(1, 3, 2), net.embed_site(torch.zeros(1, 4)), None, state)


def test_every_weight_of_the_transformer_is_trained(samples: Samples) -> None:
    net = RIVALS["transformer"]().build(Config(5, 4, encoder="none", hidden=16)).train()
    x = torch.randn(2, 20, 5)
    facts = net.embed_site(torch.randn(2, 4))
    net.decode(x, torch.ones_like(x), torch.ones(2, 20, 2), facts, None).flux.sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().max() > 0, name


def test_in_cross_validation_by_two_processes(samples: Samples, tmp_path: Path) -> None:
    fold = [Fold("0", TRAIN[:4], VALID, TEST)]
    pred = cross_validate(samples, RIVALS, fold, [0], tmp_path, jobs=2)
    on = samples.has_drivers[TEST]
    for name in RIVALS:
        assert np.array_equal(np.isfinite(pred.NEE.sel(model=name).values[TEST]), on)
