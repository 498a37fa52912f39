"""Training does what it says: best weights kept, runs resumed bit for bit, truth recovered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from tamrl.errors import DataError
from tamrl.model.precision import cpu_has_bf16
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.virtual.towers import virtual_predictors, virtual_towers

SMALL = Recipe(epochs=3, batch=8, length=120)
NET = {"hidden": 16, "latent": 6, "embed": 4}
TRAIN, VALID, TEST = np.arange(7), np.arange(7, 9), np.arange(9, 12)


@pytest.fixture(scope="module")
def samples(virtual: xr.Dataset) -> Samples:
    return make_samples(virtual, virtual_predictors(virtual))


def weights(model: TamRLModel) -> dict[str, torch.Tensor]:
    assert model.net is not None
    return model.net.state_dict()


def test_same_seed_same_weights(samples: Samples) -> None:
    a = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 3)
    b = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 3)
    other = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 4)
    assert all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())
    assert not torch.equal(weights(a)["head"], weights(other)["head"])


def test_kept_weights_reproduce_the_best_score(samples: Samples) -> None:
    from tamrl.model.tensors import DeviceData

    model = TamRLModel(NET, replace(SMALL, epochs=5, lr=0.05)).fit(samples, TRAIN, VALID, 0)
    scores = [e["valid"] for e in model.log]
    assert model.net is not None
    data = DeviceData(samples, model.net, torch.device("cpu"))
    again = data.score(model.net, model.predict(samples, VALID), VALID)
    assert again == pytest.approx(min(scores), rel=1e-6)


def test_stop_and_resume_equals_an_uninterrupted_run(samples: Samples, tmp_path: Path) -> None:
    whole = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 1)

    class StoppedError(Exception):
        pass

    class Interrupted(TamRLModel):
        def _epoch(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if len(self.log) == 2:
                raise StoppedError
            return super()._epoch(*args, **kwargs)

    path = tmp_path / "run.pt"
    with pytest.raises(StoppedError):
        Interrupted(NET, SMALL, checkpoint=path).fit(samples, TRAIN, VALID, 1)
    resumed = TamRLModel(NET, SMALL, checkpoint=path).fit(samples, TRAIN, VALID, 1)
    assert all(torch.equal(v, weights(resumed)[k]) for k, v in weights(whole).items())
    assert [e["valid"] for e in resumed.log] == [e["valid"] for e in whole.log]
    assert not list(tmp_path.glob("*.part"))


def test_a_checkpoint_of_another_run_is_not_resumed(samples: Samples, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    TamRLModel(NET, SMALL, checkpoint=path).fit(samples, TRAIN, VALID, 1)
    other = TamRLModel(NET, SMALL, checkpoint=path).fit(samples, TRAIN, VALID, 2)
    assert len(other.log) == SMALL.epochs
    fresh = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 2)
    assert torch.equal(weights(other)["head"], weights(fresh)["head"])


def test_test_towers_do_not_touch_training(samples: Samples) -> None:
    a = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 0)
    changed = replace(samples, x=samples.x.copy(), y=samples.y.copy())
    changed.x[TEST] += 3
    changed.y[TEST] *= -2
    b = TamRLModel(NET, SMALL).fit(changed, TRAIN, VALID, 0)
    assert all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())


def test_prediction_needs_no_labels_and_covers_every_active_day(samples: Samples) -> None:
    model = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 0)
    blind = replace(samples, y=np.full_like(samples.y, np.nan), weight=samples.weight * 0)
    pred = model.predict(blind, TEST)
    assert np.array_equal(pred, model.predict(samples, TEST), equal_nan=True)
    assert np.isfinite(pred[samples.has_drivers[TEST]]).all()
    assert np.isnan(pred[~samples.has_drivers[TEST]]).all()
    gpp, reco, nee = np.moveaxis(pred[samples.has_drivers[TEST]], -1, 0)
    assert min(gpp.min(), reco.min()) >= 0
    assert np.abs(nee - (reco - gpp)).max() <= 1e-5 * max(gpp.max(), reco.max())


def test_prediction_does_not_depend_on_which_towers_come_along(samples: Samples) -> None:
    model = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 0)
    together = model.predict(samples, TEST)
    alone = model.predict(samples, TEST[1:2])
    np.testing.assert_allclose(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_towers_without_satellite_rows_are_predicted(samples: Samples) -> None:
    model = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 0)
    satellite = tuple(f for f in samples.features if f.startswith(("FPAR", "LAI", "SIF", "NDWI")))
    pred = model.predict(samples.without(satellite), TEST)
    assert np.isfinite(pred[samples.has_drivers[TEST]]).all()


def test_published_recipe_logs_every_term(samples: Samples) -> None:
    recipe = replace(PUBLISHED, epochs=2, batch=16, pretrain_epochs=1)
    model = TamRLModel({**NET, "closure": "soft", "gates": False}, recipe)
    model.fit(samples, TRAIN, VALID, 0)
    assert {"data", "balance", "non_negativity", "total", "valid"} <= set(model.log[-1])


def test_class_weights_have_mean_one_over_days(samples: Samples) -> None:
    from tamrl.model.network import Config, TamRL
    from tamrl.model.tensors import DeviceData

    net = TamRL(Config(len(samples.features), len(samples.static_names), **NET))
    data = DeviceData(samples, net, torch.device("cpu"))
    data.balance_classes(samples, TRAIN, 1.0)
    days = samples.weight[TRAIN].sum(1)
    mean = (data.class_weight.numpy()[TRAIN] * days).sum() / days.sum()
    assert mean == pytest.approx(1, rel=1e-5)


def test_known_truth_of_virtual_towers_is_recovered() -> None:
    towers = virtual_towers(n=100, seed=1, years=(2001, 2003), noise=False)
    s = make_samples(towers, virtual_predictors(towers))
    site = np.random.default_rng(0).permutation(100)
    recipe = Recipe(epochs=40, drop_satellite=0, drop_driver=0, hide=0.2)
    model = TamRLModel({"dropout": 0.0}, recipe).fit(s, site[:75], site[75:85], 0)
    test = site[85:]
    pred, y = model.predict(s, test)[s.scored[test]], s.y[test][s.scored[test]]
    r2 = 1 - ((pred - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert (r2 > 0.95).all(), r2


def test_streamed_and_windowed_prediction_agree(samples: Samples) -> None:
    """After enough days the past beyond a window is forgotten: both ways tell the same story."""
    model = TamRLModel(NET, replace(SMALL, epochs=4)).fit(samples, TRAIN, VALID, 0)
    streamed = model.predict(samples, TEST)
    model.recipe = replace(model.recipe, length=150, keep=30)
    exact = model.predict(samples, TEST)
    on = samples.has_drivers[TEST]
    assert np.array_equal(np.isfinite(streamed), np.isfinite(exact))
    off = np.sqrt(((streamed[on] - exact[on]) ** 2).mean(0)) / streamed[on].std(0)
    assert (off < 0.05).all(), off
    model.recipe = replace(model.recipe, length=len(samples.time), keep=len(samples.time))
    whole = model.predict(samples, TEST)  # one window holds the whole record: no difference left
    np.testing.assert_allclose(whole[on], streamed[on], rtol=1e-4, atol=1e-4)


def test_a_record_shorter_than_a_window_is_learnt_whole(samples: Samples) -> None:
    """A user may have less than a year."""
    recipe = replace(SMALL, length=10 * len(samples.time), epochs=2)
    log = TamRLModel(NET, recipe).fit(samples, TRAIN, VALID, 0).log
    assert log[1]["data"] < log[0]["data"]


def test_a_record_within_the_warm_up_is_refused(samples: Samples) -> None:
    some = slice(0, Recipe().warmup)
    days = ("x", "y", "weight", "scored", "has_drivers", "process")
    short = replace(
        samples, time=samples.time[some], **{n: getattr(samples, n)[:, some] for n in days}
    )
    with pytest.raises(DataError, match="within the warm-up of 30"):
        TamRLModel(recipe=Recipe(epochs=1), device="cpu").fit(short, TRAIN, VALID)


def test_where_a_model_learns_is_none_of_its_settings(tmp_path: Path) -> None:
    """What one device has computed is found by another."""
    elsewhere = TamRLModel(device="cuda", checkpoint=tmp_path / "c.pt", progress=True)
    assert repr(elsewhere) == repr(TamRLModel())
    assert repr(TamRLModel(recipe=Recipe(precision="bf16"))) != repr(TamRLModel())


def test_a_device_may_take_any_number_of_towers_at_once(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TamRLModel(recipe=Recipe(epochs=1), device="cpu").fit(samples, TRAIN, VALID)
    towers = np.tile(np.arange(len(samples.site)), 3)
    many = model.predict(samples, towers)
    monkeypatch.setattr("tamrl.model.predict.TOWERS", 5)
    np.testing.assert_allclose(many, model.predict(samples, towers), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_learns_as_a_processor_does(samples: Samples, precision: str) -> None:
    """Draws of dropout differ; but weights that a GPU learnt predict the same on a processor."""
    model = TamRLModel(recipe=Recipe(epochs=2, precision=precision), device="cuda")
    model.fit(samples, TRAIN, VALID)
    assert model.net is not None
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        there = model.predict(samples, TRAIN)
    model.net.to("cpu")
    model.recipe = replace(model.recipe, precision="fp32")
    here = model.predict(samples, TRAIN)
    assert np.nanmax(np.abs(there - here)) < (0.02 if precision == "fp32" else 0.3)


def test_half_precision_is_near_and_closes_the_budget(samples: Samples) -> None:
    model = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 0)
    fine = model.predict(samples, TEST)
    model.recipe = replace(SMALL, precision="fp8")
    with pytest.raises(ValueError, match="fp8"):
        model.predict(samples, TEST)
    model.recipe = replace(SMALL, precision="bf16")
    if not cpu_has_bf16():
        with pytest.raises(ValueError, match="choose fp32"):
            model.predict(samples, TEST)
        return
    on = samples.has_drivers[TEST]
    coarse = model.predict(samples, TEST)[on]
    assert 0 < np.abs(coarse - fine[on]).max() < 0.1 * fine[on].std()
    gpp, reco, nee = np.moveaxis(coarse, -1, 0)
    assert np.abs(nee - (reco - gpp)).max() <= 1e-5 * max(gpp.max(), reco.max())
    trained = TamRLModel(NET, model.recipe).fit(samples, TRAIN, VALID, 0)
    assert trained.log[-1]["data"] < trained.log[0]["data"]
    assert all(v.dtype == torch.float32 for v in weights(trained).values())


def test_streams_are_the_same_in_short_and_long_pieces(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamrl.model import predict

    uneven = samples.has_drivers.copy()
    uneven[9, :400], uneven[10, 300:] = False, False  # one record begins late, one ends early
    some = replace(samples, has_drivers=uneven)
    model = TamRLModel(NET, SMALL).fit(samples, TRAIN, VALID, 0)
    monkeypatch.setattr(predict, "STREAM_DAYS", 10_000)
    whole = model.predict(some, TEST)
    monkeypatch.setattr(predict, "STREAM_DAYS", 50)
    pieces = model.predict(some, TEST)
    assert np.isfinite(pieces[uneven[TEST]]).all()
    np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-5)


def test_a_tower_is_predicted_alone_as_among_others(samples: Samples) -> None:
    """Records of other lengths beside it do not move its start."""
    shorter = replace(samples, has_drivers=samples.has_drivers.copy())
    shorter.has_drivers[TEST[0], : samples.has_drivers.shape[1] // 2] = False
    model = TamRLModel(NET, replace(SMALL, epochs=1)).fit(samples, TRAIN, VALID, 0)
    alone, among = (model.predict(shorter, sites)[0] for sites in (TEST[:1], TEST))
    assert np.isfinite(alone[shorter.has_drivers[TEST[0]]]).all()
    np.testing.assert_allclose(alone, among, rtol=1e-4, atol=1e-4)


def test_data_that_a_device_has_no_room_for_stay_with_the_host(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tamrl.model import tensors

    net = TamRLModel(NET, replace(SMALL, epochs=1)).fit(samples, TRAIN, VALID, 0).net
    assert net is not None
    monkeypatch.setattr(tensors, "room", lambda device: 1.0)
    far = tensors.DeviceData(
        samples, net, torch.device("meta")
    )  # keeps no values: what is there is
    assert far.x.device.type == far.y.device.type == far.weight.device.type == "cpu"
    assert far.static.device.type == "meta"
    at = far.at(TEST, np.arange(30)[None].repeat(len(TEST), 0))
    assert at.device.type == "cpu"
    assert all(part.device.type == "meta" for part in far.drivers(at))
    again = TamRLModel(NET, replace(SMALL, epochs=1)).fit(samples, TRAIN, VALID, 0).net
    assert again is not None
    assert torch.equal(net.head, again.head)
