"""Training does what it says: best weights kept, runs resumed bit for bit, truth recovered."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from settings import SMALL, TEST, TRAIN, VALID

from tamrl.errors import DataError
from tamrl.model import predict, tensors
from tamrl.model.network import Config, TamRL
from tamrl.model.predict import cpu_has_bf16
from tamrl.model.tensors import DeviceData, set_scale
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples, windows
from tamrl.samples.missing import of_satellites, without_satellites
from tamrl.virtual.towers import virtual_predictors, virtual_towers

THREE = Recipe(epochs=3, batch=8, length=120)
ONE = replace(THREE, epochs=1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(samples: Samples) -> TamRLModel:
    return fitted(samples, ONE)


def fitted(samples: Samples, recipe: Recipe, seed: int = 0, **options: Any) -> TamRLModel:
    return TamRLModel(SMALL, recipe, **options).fit(samples, TRAIN, VALID, seed)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return model.net.state_dict()


def untrained(samples: Samples) -> TamRL:
    return TamRL(Config(len(samples.features), len(samples.static_names), **SMALL))


def test_kept_weights_reproduce_the_best_score(samples: Samples) -> None:
    model = fitted(samples, replace(THREE, epochs=5, lr=0.05))
    data = DeviceData(samples, model.net, CPU)
    pred = model.predict(samples, VALID)
    again = data.score(model.net, pred, VALID)
    assert again == pytest.approx(min(e["valid"] for e in model.log), rel=1e-6)
    on = samples.weight[VALID] > 0  # days that are trained on, in spreads of each flux
    error = (pred - samples.y[VALID])[on] / samples.y[TRAIN][samples.weight[TRAIN] > 0].std(0)
    assert again == pytest.approx(np.sqrt((error**2).mean(0)).mean(), rel=1e-4)


def test_the_best_weights_are_kept_though_training_goes_on(samples: Samples, monkeypatch) -> None:
    seen: list[torch.Tensor] = []

    def score(self: DeviceData, net: TamRL, pred: object, sites: object) -> float:
        seen.append(net.head.detach().clone())
        return [0.5, 0.2, 0.9][len(seen) - 1]

    monkeypatch.setattr(DeviceData, "score", score)
    best = weights(fitted(samples, THREE))["head"]
    assert [torch.equal(best, head) for head in seen] == [False, True, False]


def test_stop_and_resume_equals_an_uninterrupted_run(samples: Samples, tmp_path: Path) -> None:
    whole = fitted(samples, THREE, 1)

    class Interrupted(TamRLModel):
        def _epoch(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if len(self.log) == 2:
                raise KeyboardInterrupt
            return super()._epoch(*args, **kwargs)

    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        Interrupted(SMALL, THREE, checkpoint=path).fit(samples, TRAIN, VALID, 1)
    resumed = fitted(samples, THREE, 1, checkpoint=path)
    assert all(torch.equal(v, weights(resumed)[k]) for k, v in weights(whole).items())
    assert [e["valid"] for e in resumed.log] == [e["valid"] for e in whole.log]
    assert not list(tmp_path.glob("*.part"))
    other = fitted(samples, THREE, 2, checkpoint=path)  # of another run: not resumed
    assert len(other.log) == THREE.epochs
    assert other.log[0]["data"] != whole.log[0]["data"]


def test_a_checkpoint_is_data_and_nothing_of_it_is_run(samples: Samples, tmp_path: Path) -> None:
    class Strange:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "was here",)

    torch.save({"key": Strange()}, tmp_path / "run.pt")
    with pytest.raises(pickle.UnpicklingError):
        fitted(samples, THREE, 1, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "was here").exists()


def test_published_recipe_logs_every_term_and_class_weights_have_mean_one(samples: Samples) -> None:
    recipe, stages = replace(PUBLISHED, epochs=3, batch=16, pretrain_epochs=2), list[bool]()

    class Listener(TamRLModel):
        def _epoch(self, *given: Any) -> dict[str, float]:
            stages.append(given[-1])
            return super()._epoch(*given)

    model = Listener({**SMALL, "closure": "soft", "gates": False}, recipe)
    model.fit(samples, TRAIN, VALID, 0)
    assert stages == [True, True, False]  # two epochs of the decoder alone
    assert {"data", "balance", "non_negativity", "total", "valid"} <= set(model.log[-1])
    data = DeviceData(samples, untrained(samples), CPU)
    data.balance_classes(samples, TRAIN, 1.0)
    mean = np.average(data.class_weight.numpy()[TRAIN], weights=samples.weight[TRAIN].sum(1))
    assert mean == pytest.approx(1, rel=1e-5)
    days, rare = samples.weight[TRAIN].sum(1), np.ones(len(TRAIN))
    for name in ("igbp", "koppen_main"):
        of = samples.table[name].to_numpy(str)[TRAIN]
        rare /= [days[of == one].sum() for one in of]
    ratio = data.class_weight.numpy()[TRAIN] / rare
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)  # a class half as frequent weighs twice
    few, alike = samples.weight.copy(), samples.table.assign(igbp="ENF", koppen_main="Cold")
    few[0, np.flatnonzero(few[0])[1:]] = 0  # one day of thousands weighs as one of a thousand
    alike.loc[0, "igbp"] = "GRA"
    rarest = replace(samples, weight=few, table=alike)
    data.balance_classes(rarest, TRAIN, 1.0)
    share = 1 - few[0].sum() / few[TRAIN].sum()
    assert share > 0.9995
    weight = data.class_weight.numpy()[TRAIN]
    assert weight[0] / weight[1] == pytest.approx(1000 * share, rel=1e-4)


@pytest.mark.slow
def test_known_truth_of_virtual_towers_is_recovered() -> None:
    towers = virtual_towers(n=100, seed=1, years=(2001, 2003), noise=False)
    s = make_samples(towers, virtual_predictors(towers))
    train, valid, test = np.split(np.random.default_rng(0).permutation(100), [75, 85])
    recipe = Recipe(epochs=40, drop_satellite=0, drop_driver=0, hide=0.2)
    model = TamRLModel({"dropout": 0.0}, recipe).fit(s, train, valid, 0)
    pred, y = model.predict(s, test)[s.scored[test]], s.y[test][s.scored[test]]
    r2 = 1 - ((pred - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    assert (r2 > 0.95).all(), r2


def test_streamed_and_windowed_prediction_agree(samples: Samples) -> None:
    """After enough days the past beyond a window is forgotten: both ways agree."""
    model = fitted(samples, replace(THREE, epochs=4))
    streamed, on = model.predict(samples, TEST), samples.has_drivers[TEST]
    model.recipe = replace(model.recipe, length=150, keep=30)
    exact = model.predict(samples, TEST)
    assert np.array_equal(np.isfinite(streamed), np.isfinite(exact))
    off = np.sqrt(((streamed[on] - exact[on]) ** 2).mean(0)) / streamed[on].std(0)
    assert (off < 0.05).all(), off
    model.recipe = replace(model.recipe, length=2 * len(samples.time), keep=len(samples.time))
    whole = model.predict(samples, TEST)  # one window holds the whole record: no difference left
    np.testing.assert_allclose(whole[on], streamed[on], rtol=1e-4, atol=1e-4)


def test_a_record_shorter_than_a_window_is_learnt_whole(samples: Samples) -> None:
    log = fitted(samples, replace(THREE, length=10 * len(samples.time), epochs=2)).log
    assert log[1]["data"] < log[0]["data"]


def test_what_teaches_nothing_is_refused(samples: Samples) -> None:
    days = ("x", "y", "weight", "scored", "has_drivers", "process")
    first = {name: getattr(samples, name)[:, :30] for name in days}
    with pytest.raises(DataError, match="within the warm-up of 30"):
        TamRLModel().fit(replace(samples, time=samples.time[:30], **first), TRAIN, VALID)
    with pytest.raises(DataError, match="no finite validation score"):
        fitted(replace(samples, y=samples.y * np.nan), ONE)


def test_where_a_model_learns_is_none_of_its_settings(tmp_path: Path) -> None:
    """What one device has computed is found by another."""
    elsewhere = TamRLModel(device="cuda", checkpoint=tmp_path / "c.pt")
    assert repr(elsewhere) == repr(TamRLModel())
    assert repr(TamRLModel(recipe=Recipe(precision="bf16"))) != repr(TamRLModel())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_learns_as_a_processor_does(samples: Samples, precision: str) -> None:
    """Draws of dropout differ; but weights that a GPU learnt predict the same on a processor."""
    model = TamRLModel(recipe=Recipe(epochs=2, precision=precision), device="cuda")
    model.fit(samples, TRAIN, VALID)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        there = model.predict(samples, TRAIN)
    model.net.to("cpu")
    model.recipe = replace(model.recipe, precision="fp32")
    here = model.predict(samples, TRAIN)
    assert np.nanmax(np.abs(there - here)) < (0.02 if precision == "fp32" else 0.3)


def test_half_precision_is_near_and_closes_the_budget(samples: Samples) -> None:
    model = fitted(samples, THREE)
    fine = model.predict(samples, TEST)
    model.recipe = replace(THREE, precision="fp8")
    with pytest.raises(ValueError, match="fp8"):
        model.predict(samples, TEST)
    model.recipe = replace(THREE, precision="bf16")
    if not cpu_has_bf16():
        with pytest.raises(ValueError, match="choose fp32"):
            model.predict(samples, TEST)
        return
    on = samples.has_drivers[TEST]
    coarse = model.predict(samples, TEST)[on]
    assert 0 < np.abs(coarse - fine[on]).max() < 0.1 * fine[on].std()
    gpp, reco, nee = coarse.T
    assert np.abs(nee - (reco - gpp)).max() <= 1e-5 * max(gpp.max(), reco.max())
    again = fitted(samples, model.recipe)
    assert again.log[-1]["data"] < again.log[0]["data"]
    assert all(v.dtype == torch.float32 for v in weights(again).values())


def test_streams_are_the_same_in_pieces_and_for_few_towers(trained, samples, monkeypatch) -> None:
    uneven = samples.has_drivers.copy()
    uneven[9, :400], uneven[10, 300:] = False, False  # one record begins late, one ends early
    uneven[11, np.flatnonzero(uneven[11])[1:]] = False  # and one is of a single day
    some = replace(samples, has_drivers=uneven)
    monkeypatch.setattr(predict, "STREAM_DAYS", 10_000)
    whole = trained.predict(some, TEST)
    assert np.isfinite(whole[uneven[TEST]]).all()
    monkeypatch.setattr(predict, "TOWERS", 2)
    own = np.flatnonzero(uneven[TEST[0]])
    for days in (50, own[-1] - own[0]):  # of the latter, a single day is left
        monkeypatch.setattr(predict, "STREAM_DAYS", int(days))
        np.testing.assert_allclose(trained.predict(some, TEST), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.predict(some, TEST[:1]), whole[:1], rtol=1e-4, atol=1e-4)


def test_data_without_room_on_a_device_stay_with_the_host(trained, samples, monkeypatch) -> None:
    monkeypatch.setattr(tensors, "room", lambda device: 1.0)
    far = DeviceData(samples, trained.net, torch.device("meta"))  # which holds no values
    at = far.at(TEST, np.arange(30)[None].repeat(len(TEST), 0))
    assert {v.device.type for v in (far.x, far.y, far.weight, at)} == {"cpu"}
    assert {v.device.type for v in (far.static, *far.drivers(at))} == {"meta"}
    assert torch.equal(trained.net.head, weights(fitted(samples, ONE))["head"])


def test_hidden_sites_are_as_towers_without_satellites(gridded: Samples) -> None:
    """Their days, statics and support are those of samples without; nothing of others changes."""
    net = untrained(gridded)
    set_scale(net, gridded, np.arange(12))
    full, bare = (DeviceData(s, net, CPU) for s in (gridded, without_satellites(gridded)))
    hidden = np.isin(np.arange(12), [4, 7])
    mask, static = full.without_satellites(hidden)
    for site in (4, 7, 9):
        source = bare if hidden[site] else full
        assert torch.equal(full.seen[site] * mask[site], source.seen[site])
        assert torch.equal(full.support.seen[site] * mask[site], source.support.seen[site])
        np.testing.assert_array_equal(static[site], source.static[site])
    np.testing.assert_array_equal(full.static, gridded.static)


def test_satellites_that_are_all_hidden_teach_nothing(samples: Samples) -> None:
    """Where every site is hidden, values of satellites cannot reach the weights."""
    always = replace(ONE, satellite_dropout="site", drop_satellite=1.0, reconstruction=0.0)
    given = replace(samples, static=without_satellites(samples).static)
    shaken = np.where(of_satellites(samples)[0], samples.x[::-1] * 3, samples.x)
    one, two = (weights(fitted(s, always)) for s in (given, replace(given, x=shaken)))
    for name in ("lstm.weight_hh_l0", "head"):
        assert (one[name] - two[name]).abs().max() < 1e-4 * one[name].abs().max()
    with pytest.raises(ValueError, match="window or site"):
        replace(ONE, satellite_dropout="never")


# What one step is made of: windows of three towers with three years each.

SITES, STARTS = np.array([3, 4, 7]), np.array([330, 400, 560])
STEP = Recipe(length=120, warmup=20)


class Step:
    """One step of a network of three free heads, with what its loss is made of."""

    def __init__(self, samples: Samples, recipe: Recipe = STEP, flux: Any = None, **net: Any):
        torch.manual_seed(1)
        sizes = len(samples.features), len(samples.static_names)
        settings = {**SMALL, "closure": "soft", "dropout": 0.0, **net}
        self.model, self.net = TamRLModel(recipe=recipe), TamRL(Config(*sizes, **settings))
        set_scale(self.net, samples, TRAIN)
        with torch.no_grad():
            for p in self.net.parameters():
                p.add_(0.1 * torch.randn_like(p))  # no modulation is at identity
            if flux is not None:  # predicted on all days
                self.net.head.zero_()
                self.net.bias.copy_((torch.tensor(flux) - self.net.y_mean) / self.net.y_sd)
        self.data = DeviceData(samples, self.net, CPU)

    def terms(
        self, sites: np.ndarray = SITES, starts: np.ndarray = STARTS, alone: bool = False
    ) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(0)
        return self.model._terms(self.net, self.data, sites, starts, rng, alone)


@pytest.mark.parametrize(("flux", "balance", "negative"), [
    ((5.0, 3.0, -2.0), 0.0, 0.0), ((5.0, 3.0, -0.5), 2.25, 0.0), ((-2.0, 3.0, 5.0), 0.0, 4.0),
])  # fmt: skip
def test_a_step_has_the_loss_that_is_written(samples: Samples, flux, balance, negative) -> None:
    """Errors in spreads of the flux, by quality and class, of days after the warm-up.

    The balance is in gC m-2 d-1: a prediction that closes costs nothing,
    though its fluxes, once scaled, do not close.
    """
    step = Step(samples, flux=flux)
    step.data.class_weight = torch.linspace(0.5, 2, len(samples.site))
    terms = step.terms()
    assert terms["balance"].item() == pytest.approx(balance, abs=1e-4)
    assert terms["non_negativity"].item() == pytest.approx(negative, abs=1e-4)
    days = SITES[:, None], STARTS[:, None] + np.arange(STEP.warmup, STEP.length)
    weight = samples.weight[days] * step.data.class_weight.numpy()[SITES, None]
    assert np.ptp(samples.weight[days][samples.weight[days] > 0]) > 0.1
    error = ((samples.y[days] - np.float32(flux)) / step.net.y_sd.numpy()) ** 2
    expected = np.average(error[weight > 0].mean(-1), weights=weight[weight > 0])
    assert terms["data"].item() == pytest.approx(expected, rel=1e-4)
    pred, on = step.model.predict(samples, SITES, step.net, step.data), samples.has_drivers[SITES]
    possible = np.maximum(flux, (0, 0, -np.inf))  # what is predicted is not negative
    np.testing.assert_allclose(pred[on], np.broadcast_to(possible, pred[on].shape), rtol=1e-5)
    assert np.isnan(pred[~on]).all()


def test_a_window_starts_afresh_and_gives_its_last_days(samples: Samples) -> None:
    recipe, site = replace(STEP, length=60, keep=20), SITES[2:]
    step = Step(samples, recipe, closure="hard")
    day = samples.has_drivers[site[0]].argmax() + 100
    here = step.data.at(site, np.arange(day - 40, day + 20)[None])
    facts, z = predict.embed_sites(step.net.eval(), step.data, site, recipe.windows_of_support)
    last = step.net.decode(*step.data.drivers(here), facts, z).flux[0, -20:].detach().numpy()
    pred = step.model.predict(samples, site, step.net, step.data)[0, day : day + 20]
    on = np.isfinite(pred)
    assert on.mean() > 0.5
    np.testing.assert_allclose(pred[on], last[on], rtol=1e-4, atol=1e-5)


def test_support_is_in_means_of_ten_days_of_years_that_are_half_known(samples: Samples) -> None:
    """Where a process factor is unknown it is 1, as on a mild sunny day."""
    step, year = Step(samples), samples.time.astype("datetime64[Y]").astype(int) - 31
    for k, days in ((4, slice(365 + 40, 365 + 50)), (35, slice(365 + 350, 365 + 365))):
        x, mean = samples.x[3, days], np.full(len(samples.features), np.nan, np.float32)
        known = np.isfinite(x).any(0)
        mean[known] = np.nanmean(x[:, known], 0)
        got = step.data.support.x[3, 1, k], step.data.support.seen[3, 1, k]
        for value, expected in zip(got, step.net.scale(torch.from_numpy(mean)), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)
    has = samples.has_drivers.copy()
    first = np.flatnonzero(year == 0)
    for known, usable in ((183, True), (182, False)):
        has[3, first] = np.arange(365) < known
        data = DeviceData(replace(samples, has_drivers=has), step.net, CPU)
        assert data.support.usable[3, 0] == usable
    every = np.broadcast_to(np.arange(len(samples.time)), samples.weight.shape)
    process = step.data.series("process", step.data.at(np.arange(len(every)), every))
    assert (process[torch.from_numpy(np.isnan(samples.process))] == 1).all()


def test_memory_grows_with_the_days_of_towers_and_not_with_the_years_of_all(
    samples: Samples,
) -> None:
    """A record has its days, a day outside it is unseen, unlabelled, and the same for all."""
    step, on = Step(samples), samples.has_drivers
    first, last = on.argmax(1), len(samples.time) - on[:, ::-1].argmax(1)
    assert len(step.data.x) == (last - first).sum() + 1
    site = np.flatnonzero(first > 0)[:1]
    around = step.data.at(site, first[site][:, None] + np.arange(-1, 1))
    x, seen, process = step.data.drivers(around)
    assert (x[0, 0] == 0).all()
    assert (seen[0, 0] == 0).all()
    assert (process[0, 0] == 1).all()
    assert step.data.series("weight", around)[0, 0] == 0
    assert seen[0, 1].any()
    raw = torch.from_numpy(samples.x[site[0], first[site[0]]])
    torch.testing.assert_close(x[0, 1], step.net.scale(raw)[0])


def test_each_term_of_a_step_moves_what_it_teaches(samples: Samples) -> None:
    step = Step(samples, flux=(0.5, 0.5, 0.0))
    step.net.head.data.normal_()  # so that some fluxes are below zero
    terms, parameters = step.terms(), dict(step.net.named_parameters())
    decoder = ["head", "lstm.weight_ih_l0", "encoder.mix.0.weight"]
    teaches = {
        "data": decoder, "balance": decoder, "non_negativity": decoder,
        "contrast": ["encoder.series.pool.weight"],
        "reconstruction": ["encoder.series.rebuild.weight", "encoder.series.lstm.weight_ih_l0"],
    }  # fmt: skip
    assert terms.keys() == teaches.keys()
    for name, moved in teaches.items():
        grads = torch.autograd.grad(terms[name], [parameters[p] for p in moved], retain_graph=True)
        assert all(0 < g.abs().max() < torch.inf for g in grads), name


def test_support_of_a_long_record_is_spread_over_it(samples: Samples) -> None:
    """Without a draw, windows are evenly spaced, the first and the last year among them."""
    support = Step(samples).data.support
    support.x = torch.arange(3.0)[None, :, None, None].expand_as(support.x)
    support.seen, support.usable[:] = torch.ones_like(support.x), True
    x, _ = support.sample_windows(SITES, np.full(3, -1), 2, None)
    assert x[:, :, 0, 0].tolist() == [[0, 2]] * 3
    support.usable[:] = [True, True, False]
    x, seen = support.sample_windows(SITES, np.full(3, 1), 2, None)
    assert (x[:, :, 0, 0].tolist(), seen[:, :, 0, 0].tolist()) == ([[0, 0]] * 3, [[1, 0]] * 3)
    support.usable[:] = [False, True, False]  # a record of one year has no other to show
    x, seen = support.sample_windows(SITES, np.full(3, 1), 2, None)
    assert x[:, :, 0, 0].tolist() == [[1, 0]] * 3
    assert seen[:, :, 0, 0].tolist() == [[1, 0]] * 3


@pytest.mark.parametrize(("alone", "mine"), [(False, 0), (False, 1), (True, 1)])
def test_support_is_of_other_years_than_the_labels(
    samples: Samples, alone: bool, mine: int
) -> None:
    """The year of a window is that of its middle; the first stage predicts without support."""
    step = Step(samples)
    assert step.data.support.usable[SITES].all()
    years = samples.time.astype("datetime64[Y]").astype(int) - 31
    starts = STARTS - (330 if mine == 0 else 0)
    assert years[STARTS].tolist() == [0, 1, 1]  # and all are of the second year by their middle
    assert (years[starts + STEP.length // 2] == mine).all()
    x, before = step.data.support.x.clone(), step.terms(starts=starts, alone=alone)
    for year in range(x.shape[1]):
        step.data.support.x = x.index_fill(1, torch.tensor([year]), 9.0)
        terms, own = step.terms(starts=starts, alone=alone), year == mine
        assert bool(terms["reconstruction"] == before["reconstruction"]) == own
        assert bool(terms["data"] == before["data"]) == (own or alone)
    step.data.support.x = torch.full_like(x, 9.0)
    step.data.support.x[SITES] = x[SITES]  # and of the same towers
    terms = step.terms(starts=starts, alone=alone)
    assert all(bool(terms[name] == value) for name, value in before.items())


def test_contrast_is_between_places_that_have_two_windows(samples: Samples) -> None:
    step = Step(samples)
    assert step.terms()["contrast"].item() > 0.01
    three_years = np.full(3, 7), np.array([0, 400, 800])
    assert step.terms(*three_years)["contrast"].item() == pytest.approx(0, abs=1e-5)
    step.data.support.usable[:, 1:] = False
    assert step.terms()["contrast"].item() == 0


def test_what_is_hidden_is_not_seen(samples: Samples) -> None:
    """Support steps hidden to be rebuilt do not reach z, nor drivers dropped out the fluxes."""
    shaken = replace(samples, x=samples.x[::-1] * 3)
    for hidden in ({"hide": 1.0}, {"drop_driver": 1.0}, {}):
        one, two = Step(samples, replace(STEP, **hidden)), Step(samples, replace(STEP, **hidden))
        other = DeviceData(shaken, one.net, CPU)
        if "hide" in hidden:
            two.data.support = other.support
        else:
            two.data.x = other.x
        same = one.terms()["data"] == two.terms()["data"]
        assert bool(same) == bool(hidden)


def test_drivers_drop_out_singly_and_satellites_together(samples: Samples) -> None:
    data = Step(samples).data
    hidden = data.keep(4000, 0.05, 0.2, np.random.default_rng(0))[:, 0].numpy() == 0
    satellite = data.satellite.numpy()
    gone = hidden[:, satellite].all(1)
    assert gone.mean() == pytest.approx(0.2, abs=0.03)
    for single in (hidden[:, ~satellite], hidden[~gone][:, satellite]):
        assert single.mean() == pytest.approx(0.05, abs=0.01)


class Listener(TamRLModel):
    """Take no step, but note where windows begin, and how large a step would be."""

    def _epoch(self, net, mean_net, data, train, opt, plan, rng, alone):  # type: ignore[no-untyped-def]
        self.plan = plan
        return super()._epoch(net, mean_net, data, train, opt, plan, rng, alone)

    def _terms(self, net, data, site, start, rng, alone):  # type: ignore[no-untyped-def]
        self.starts = np.concatenate([getattr(self, "starts", []), start])
        self.rates = [*getattr(self, "rates", []), self.plan.get_last_lr()[0]]
        nothing = 0 * torch.stack([p.sum() for p in net.parameters()]).sum()
        return {"data": nothing + len(self.rates), "other": nothing + 1}


def test_steps_grow_for_a_seventh_of_the_training_and_shrink_to_nothing(samples: Samples) -> None:
    """One cycle over all batches of all epochs; terms are means over the batches of an epoch."""
    recipe = Recipe(epochs=3, length=120, warmup=20, batch=8)
    model = Listener(SMALL, recipe).fit(samples, TRAIN, VALID)
    batches = len(windows(samples.weight[TRAIN] > 0, 100, 100)) // 8
    assert batches > 3
    assert (len(model.rates), len(model.starts)) == (3 * batches, 3 * batches * 8)
    one = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    total = 3 * batches + 1
    plan = torch.optim.lr_scheduler.OneCycleLR(one, recipe.lr, total_steps=total, pct_start=0.15)
    for rate in model.rates:
        assert rate == pytest.approx(plan.get_last_lr()[0], rel=1e-9)
        one.step()
        plan.step()
    middle = [(2 * epoch + 1) * batches / 2 + 0.5 for epoch in range(3)]
    assert [e["data"] for e in model.log] == pytest.approx(middle)
    assert [e["other"] for e in model.log] == pytest.approx([1, 1, 1])
    assert [e["total"] for e in model.log] == pytest.approx([m + 1 for m in middle])


def test_windows_lie_about_their_days_after_the_warm_up(samples: Samples) -> None:
    """Half a span to either side; without a gradient matrices shrink and offsets stay."""
    recipe = Recipe(epochs=30, length=130, warmup=40, batch=8, average=0.0)
    few = np.zeros_like(samples.weight)
    few[:, 400:490] = 1
    model = Listener(SMALL, recipe).fit(replace(samples, weight=few, y=samples.y * 0), TRAIN, VALID)
    shift = model.starts + recipe.warmup - 400
    assert len(shift) == 30 * len(TRAIN)
    assert shift.mean() == pytest.approx(0, abs=5)
    assert -45 <= shift.min() < -43
    assert 43 < shift.max() <= 45
    torch.manual_seed(0)
    for name, p in untrained(samples).named_parameters():
        now = weights(model)[name]
        if p.ndim == 1 or not p.any():
            assert torch.equal(now, p)
        else:
            assert (now / p).nanmedian().item() < 0.999


def test_the_weights_that_are_kept_are_a_running_mean(samples: Samples) -> None:
    still = fitted(samples, replace(ONE, average=1.0))
    torch.manual_seed(0)
    assert torch.equal(untrained(samples).head, weights(still)["head"])


def test_fluxes_in_another_unit_are_learnt_alike(samples: Samples) -> None:
    """Errors and the score that stops the training are in units of the fluxes' spread."""
    free = {**SMALL, "closure": "none"}
    given = samples, replace(samples, y=samples.y * 16)
    logs = [TamRLModel(free, ONE).fit(s, TRAIN, VALID).log[0] for s in given]
    assert logs[1] == pytest.approx(logs[0], rel=1e-3)


@pytest.mark.parametrize(("machine", "knows", "has"), [
    ("x86_64", "AVX512_BF16", True), ("x86_64", "AVX2", False), ("AMD64", "AVX2", False),
    ("arm64", "DEFAULT", True),
])  # fmt: skip
def test_which_processors_compute_in_half_precision(monkeypatch, machine, knows, has) -> None:
    """Of Intel's and AMD's those with AVX-512; others all do."""
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: knows)
    assert cpu_has_bf16() == has


def test_the_published_recipe_is_the_published_one() -> None:
    """Windows of 45 days of which 15 are kept, no other losses, a first stage without z."""
    r = PUBLISHED
    assert (r.batch, r.length, r.keep, r.warmup, r.pretrain_epochs) == (32, 45, 15, 0, 4)
    assert (r.reconstruction, r.contrast, r.class_balance) == (0, 0, 1)
