"""Every rival is a fair one: it learns, and it is what it says."""

import sys
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import pytest
import torch
import xgboost
from numpy.typing import NDArray
from settings import QUICK, SMALL, TEST, TRAIN, VALID

from tamrl.errors import DataError
from tamrl.model.network import Config
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting, Climatology, XGBoost
from tamrl.rivals.networks import CTLSTM, LSTM, TRANSFORMER, AttentionNet, Transformer
from tamrl.rivals.trees import as_lightgbm
from tamrl.samples.arrays import Samples, make_samples
from tamrl.virtual.towers import virtual_predictors, virtual_towers

PLAIN = Config(5, 4, encoder="none", closure="none", process=False, hidden=16)


@pytest.mark.slow
def test_each_learns() -> None:
    """For each flux a quarter less error at unseen towers than season and vegetation class give."""
    towers = virtual_towers(n=24, years=(2001, 2003), seed=0)
    samples = make_samples(towers, virtual_predictors(towers))
    train, valid, test = np.split(np.random.default_rng(0).permutation(24), [14, 17])
    net, recipe = {"hidden": 32, "embed": 8}, Recipe(epochs=8, batch=4, length=150)
    attention = replace(TRANSFORMER, epochs=8, batch=4, lr=3e-3)

    def rmse(model: Any) -> NDArray:
        on = samples.scored[test]
        predicted = model.fit(samples, train, valid, 0).predict(samples, test)
        return np.sqrt(((predicted[on] - samples.y[test][on]).astype(float) ** 2).mean(0))

    season = rmse(Climatology())
    networks = LSTM(net, recipe), CTLSTM(net, recipe), Transformer(net, attention)
    for rival in (XGBoost(trees=60), *networks):
        assert (rmse(rival) < 0.75 * season).all(), rival


def test_the_lstm_alone_does_not_know_the_place(samples: Samples) -> None:
    moved = replace(samples, static=samples.static[::-1].copy())
    short = replace(TRANSFORMER, epochs=1)
    rivals = (LSTM(SMALL, QUICK), CTLSTM(SMALL, QUICK), Transformer(SMALL, short), XGBoost(trees=8))
    for rival in rivals:
        rival.fit(samples, TRAIN, VALID, 0)
        here, there = (rival.predict(s, TEST) for s in (samples, moved))
        assert np.array_equal(here, there, equal_nan=True) == (type(rival) is LSTM), rival


def test_ct_lstm_is_the_whole_model_without_its_task(samples: Samples) -> None:
    plain = {**SMALL, "encoder": "none", "closure": "none", "process": False}
    models = CTLSTM(SMALL, QUICK), TamRLModel(plain, QUICK)
    one, other = (m.fit(samples, TRAIN, VALID, 0).predict(samples, TEST) for m in models)
    np.testing.assert_array_equal(one, other)


def test_xgboost_is_grown_by_its_own_library(samples: Samples, monkeypatch) -> None:
    grown, train = [], xgboost.train
    monkeypatch.setattr(xgboost, "train", lambda *a: grown.append(train(*a)) or grown[-1])
    model = XGBoost(trees=8).fit(samples, TRAIN, VALID, 0)
    assert [booster.num_boosted_rounds() for booster in grown[-3:]] == [8, 8, 8]
    assert model.forest is not None
    for text in model.forest.texts.values():
        assert lightgbm.Booster(model_str=text).num_trees() == 8
    assert model.params in XGBoost.GRID
    assert len(XGBoost.GRID) == len(Boosting.GRID)
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(DataError, match=r"pip install 'tamrl\[rivals\]'"):
        XGBoost(trees=2).fit(samples, TRAIN, VALID)


def test_attention_looks_back_and_never_ahead() -> None:
    torch.manual_seed(0)
    net = AttentionNet(PLAIN).eval()
    x, facts = torch.randn(2, 30, 5), net.embed_site(torch.randn(2, 4))
    seen, process = torch.ones_like(x), torch.ones(2, 30, 2)
    order = [0, 1, 2, 4, 3, *range(5, 30)]
    day = torch.arange(30)[:, None]
    inputs = x, x + (day >= 20), x + (day < 5), x[:, order]
    first, ahead, back, moved = (
        net.decode(v, seen, process, facts, None).flux.detach() for v in inputs
    )
    assert torch.equal(first[:, :20], ahead[:, :20])
    assert (first[:, 20:] - ahead[:, 20:]).abs().amin(1).max() > 0
    assert ((first - back)[:, 29].abs() > 1e-6).all()  # 25 days on, the first days still count
    assert ((first - moved)[:, 29].abs() > 1e-7).any()  # and their order does


def test_a_transformer_that_would_stream_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Recipe\.keep"):
        Transformer(recipe=Recipe())
    with pytest.raises(ValueError, match="no encoder"):
        AttentionNet(Config(5, 4))
    net = AttentionNet(PLAIN)
    x, state = torch.zeros(1, 3, 5), (torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="stands alone"):
        net.decode(x, x, torch.ones(1, 3, 2), net.embed_site(torch.zeros(1, 4)), None, state)


def test_every_weight_of_the_transformer_is_trained() -> None:
    net = Transformer().build(PLAIN).train()
    x, facts = torch.randn(2, 20, 5), net.embed_site(torch.randn(2, 4))
    net.decode(x, torch.ones_like(x), torch.ones(2, 20, 2), facts, None).flux.sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_xgboost_is_the_same_as_lightgbms_text() -> None:
    """Thresholds, missing values and the base score carry over, on ties of values, too."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 6)).round(1).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = 7 + 2 * np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2
    grown = xgboost.train({"max_depth": 5}, xgboost.DMatrix(x, y), 30)
    again = lightgbm.Booster(model_str=as_lightgbm(grown))
    np.testing.assert_allclose(again.predict(x), grown.inplace_predict(x), atol=1e-4)
