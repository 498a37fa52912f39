"""Every direction trains, does what its name says, and learns nothing from towers left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from tamrl import knowledge, loss, selfsupervised
from tamrl.baselines import Boosting
from tamrl.blend import project
from tamrl.data.cube import VARIABLES, make_cube
from tamrl.data.gridfiles import LAND_CLASSES, centres
from tamrl.data.schema import FLUXES
from tamrl.directions import (
    PARAMETERS,
    ProcessModel,
    ProcessNet,
    TimeScales,
    TowerEmbeddings,
    TowerNet,
    VirtualTimeScales,
    squared_means,
)
from tamrl.errors import DataError
from tamrl.knowledge import FromManyWorlds, FromVirtual, globe
from tamrl.model import Config
from tamrl.residual import Members, OtherYears, ResidualOnBoosting
from tamrl.samples import Samples, make_samples
from tamrl.selfsupervised import SelfSupervised, windows_of
from tamrl.splits import other_years
from tamrl.train import Recipe, TamRLModel
from tamrl.virtual import virtual_predictors, virtual_towers

SMALL: dict[str, Any] = {"hidden": 12, "latent": 6, "embed": 4}
QUICK = Recipe(epochs=2, batch=8, length=120)
TREES = partial(Boosting, trees=20, tune=False)
TRAIN, VALID, TEST = np.arange(9), np.arange(9, 12), np.arange(12, 16)
NETWORKS: dict[str, Callable[[], TamRLModel]] = {
    "time scales": partial(TimeScales, SMALL, QUICK),
    "embeddings": partial(TowerEmbeddings, SMALL, QUICK),
    "process": partial(ProcessModel, SMALL, QUICK),
    "encoder of the globe": partial(SelfSupervised, SMALL, QUICK, cells=300, steps=5),
    "many worlds": partial(FromManyWorlds, SMALL, replace(QUICK, epochs=1), n_virtual=24, worlds=2),
    "both": partial(VirtualTimeScales, SMALL, QUICK, n_virtual=24, virtual_epochs=1),
}


def easy_globe() -> xr.Dataset:
    """Make a globe of land whose seasons are a formula: the cube's layout in no time."""
    lat, lon = centres(2.5)
    month = np.arange(12)[:, None, None]
    north, east = lat[None, :, None], np.cos(np.radians(lon))[None, None]
    season = -np.cos(2 * np.pi * (month + 0.5) / 12) * np.sin(np.radians(north))
    ta = 28 - 0.5 * np.abs(north) + 15 * season + 3 * east
    sun = np.broadcast_to(np.clip(300 * np.cos(np.radians(north)) + 120 * season, 0, 500), ta.shape)
    fields = {name: np.full(ta.shape[1:], np.nan) for name in VARIABLES if name != "area"}
    fields |= {"TA": ta, "SW_POT": sun, "SW_IN": 0.6 * sun, "VPD": np.clip(ta, 0, None) / 3}
    fields |= {"PRCP": 3 + 2 * season + east, "SUN": 50 + 0 * ta, "EVI": 0.3 + 0.1 * season * east}
    fields |= {"EVI_filled": 0 * ta, "land_fraction": np.ones(ta.shape[1:])}
    fields["igbp_fraction"] = np.repeat(0 * ta[:1], len(LAND_CLASSES), 0)
    return make_cube(fields, np.ones(ta.shape[1:], np.int8), 2.5).assign_attrs(virtual=1)


@pytest.fixture(scope="module", autouse=True)
def other_globe() -> Iterator[None]:
    """Let the easy globe stand for the virtual one, which takes long to simulate."""
    caches = (knowledge.globe, knowledge.virtual_samples, knowledge._learnt, selfsupervised._cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knowledge, "virtual_grid", easy_globe)
        for one in caches:
            one.cache_clear()
        yield
        for one in caches:
            one.cache_clear()


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Make towers of another draw of the virtual world, as if they were real."""
    daily = virtual_towers(n=16, years=(2001, 2003), seed=7)
    return make_samples(daily, virtual_predictors(daily), globe())


def state(model: TamRLModel) -> dict[str, torch.Tensor]:
    """Return the weights of a fitted network."""
    assert model.net is not None
    return model.net.state_dict()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_decides_and_towers_left_out_do_not(name: str, samples: Samples) -> None:
    """Other labels at towers that are tested leave all weights as they are; a seed is a seed."""
    first = NETWORKS[name]()
    assert type(first).__name__ in repr(first)
    first.fit(samples, TRAIN, VALID, 1)
    y = samples.y.copy()
    y[TEST] += 5
    second = NETWORKS[name]().fit(replace(samples, y=y), TRAIN, VALID, 1)
    for key, value in state(first).items():
        assert torch.equal(value, state(second)[key]), key
    flux = first.predict(samples, TEST)
    assert np.isfinite(flux[samples.score[TEST]]).all()
    np.testing.assert_array_equal(flux, second.predict(samples, TEST))
    np.testing.assert_allclose(flux[..., 2], flux[..., 1] - flux[..., 0], atol=1e-5)


def test_errors_of_means_vanish_at_the_truth_and_of_single_days_are_the_plain_term() -> None:
    """Exactly 0 with the labels as predictions; windows of one day give `loss.data`."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.normal(size=(4, 20, 3)).astype(np.float32))
    y[0, 3:7] = torch.nan
    weight = torch.from_numpy(rng.uniform(0, 1, (4, 20)).astype(np.float32))
    weight[2] = 0
    flux = torch.nan_to_num(y) + 0.3 * torch.randn_like(y)
    sd = torch.tensor([1.0, 2.0, 3.0])
    each = torch.arange(80).view(4, 20)
    torch.testing.assert_close(
        squared_means(flux, y, weight, sd, each, 80), loss.data(flux, y, weight, sd)
    )
    model, site = TimeScales(days=(1, 15)), torch.tensor([5, 2, 5, 9])
    net = model.build(Config(features=2, statics=2))
    truth = model.more_terms(net, torch.nan_to_num(y), y, weight, None, site)
    assert set(truth) == {"mean_1", "mean_15", "mean_window", "mean_tower"}
    assert all(float(term) == 0 for term in truth.values())
    biased = torch.nan_to_num(y) + 1
    for term in model.more_terms(net, biased, y, weight, None, site).values():
        assert float(term) == pytest.approx(model.scale_weight, rel=1e-5)  # a bias has no scale


def test_means_over_towers_join_windows_of_one_tower() -> None:
    """Errors of opposite sign cancel over a tower, not over its windows; without labels it is 0."""
    y, weight = torch.zeros(2, 10, 3), torch.ones(2, 10)
    flux = torch.stack([torch.ones(10, 3), -torch.ones(10, 3)])
    model = TimeScales(days=())
    net = model.build(Config(features=2, statics=2))
    one = model.more_terms(net, flux, y, weight, None, torch.tensor([4, 4]))
    assert float(one["mean_tower"]) == 0
    assert float(one["mean_window"]) == pytest.approx(model.scale_weight)
    none = model.more_terms(net, flux, y, 0 * weight, None, torch.tensor([4, 4]))
    assert all(float(term) == 0 for term in none.values())


def test_offsets_of_towers_are_zero_where_not_trained_and_shrink(samples: Samples) -> None:
    """A tower that is not trained on has none; the heavier the penalty, the smaller the rest."""
    size = []
    for shrink in (0.01, 10.0):
        model = TowerEmbeddings(SMALL, replace(QUICK, epochs=3), shrink=shrink)
        model.fit(samples, TRAIN, VALID, 0)
        assert isinstance(model.net, TowerNet)
        own = model.net.own.detach()
        assert (own[[*VALID, *TEST]] == 0).all()
        size.append(float(own[TRAIN].square().sum()))
    assert 0 < size[1] < 0.5 * size[0]


def test_the_encoder_is_drawn_to_what_offsets_hold() -> None:
    """The term moves z of the encoder alone: no gradient of it reaches the offsets."""
    model = TowerEmbeddings(SMALL, shrink=0.0, towers=3)
    net = model.build(Config(features=2, statics=2, **SMALL))
    assert isinstance(net, TowerNet)
    net.own.data.fill_(0.2)
    site = torch.tensor([0, 2])
    told = torch.zeros(2, 6, requires_grad=True)
    z = model.task(net, told, site)
    blank = torch.zeros(0)
    terms = model.more_terms(net, blank, blank, blank, z, site)
    terms["foresee"].backward()
    assert told.grad is not None
    assert (told.grad < 0).all()  # downhill is towards z + 0.2
    assert net.own.grad is None or (net.own.grad == 0).all()


def test_parameters_of_processes_are_bounded_and_fluxes_close() -> None:
    """No production in the dark, closure to the last bit, parameters inside their bounds."""
    torch.manual_seed(0)
    net = ProcessNet(Config(features=8, statics=2, **SMALL))
    raw = 20 * torch.randn(3, 50, len(PARAMETERS))
    met = torch.stack(
        [torch.linspace(-40, 50, 50), torch.linspace(0, 60, 50), torch.linspace(0, 350, 50)], -1
    ).expand(3, 50, 3)
    flux = net.close(raw, met)
    assert torch.isfinite(flux).all()
    assert (flux[..., :2] >= 0).all()
    assert (flux[:, 0, 0] == 0).all()
    assert torch.equal(flux[..., 2], flux[..., 1] - flux[..., 0])
    for name, value in net.parameters_of(raw).items():
        low, high, start = PARAMETERS[name]
        assert ((value >= low) & (value <= high + 1e-4)).all()
        assert float(net.parameters_of(torch.zeros(5))[name]) == pytest.approx(start, rel=1e-4)
    more = met + torch.tensor([0.0, 0.0, 20.0])
    gain = net.close(raw, more)[..., 0] - flux[..., 0]
    assert (gain >= -1e-5 * flux[..., 0]).all()  # light never costs production, but for rounding


def test_the_dark_stays_dark_through_scaling(samples: Samples) -> None:
    """Scaled drivers come back as they were but for rounding, and that makes no production."""
    model = ProcessModel(SMALL, QUICK).fit(samples, TRAIN, VALID, 0)
    x = samples.x.copy()
    x[..., samples.features.index("SW_IN")] = 0
    flux = model.predict(replace(samples, x=x), TEST)
    on = samples.active[TEST]
    assert (flux[on][:, 0] == 0).all()
    assert (flux[on][:, 1] > 0).all()
    with pytest.raises(ValueError, match="closes by construction"):
        ProcessNet(Config(features=8, statics=2, closure="none"))


def test_every_head_learns(samples: Samples) -> None:
    """Each parameter of the process network, and the offsets, get a gradient."""
    for make in (NETWORKS["process"], NETWORKS["embeddings"]):
        model = make()
        start = replace(QUICK, epochs=1, lr=1e-9, weight_decay=0.0)
        before = type(model)(SMALL, start).fit(samples, TRAIN, VALID, 0)
        after = model.fit(samples, TRAIN, VALID, 0)
        for name, value in state(after).items():
            if name in ("head", "bias", "own"):
                moved = (value - state(before)[name]).abs()
                moved = moved[TRAIN] if name == "own" else moved
                assert (moved.flatten(1).sum(1) if moved.ndim > 1 else moved).min() > 0, name


def test_the_globe_teaches_the_encoder_to_rebuild_what_is_hidden(samples: Samples) -> None:
    """Error of rebuilding drivers falls at cells never trained on; labels have no part in it."""
    model = SelfSupervised(SMALL, replace(QUICK, epochs=1), cells=600, steps=150)
    model.fit(samples, TRAIN, VALID, 0)
    assert model.rebuilt is not None
    assert model.rebuilt[1] < 0.6 * model.rebuilt[0]
    again = SelfSupervised(SMALL, replace(QUICK, epochs=1), cells=600, steps=150)
    again.fit(replace(samples, y=2 * samples.y + 1), TRAIN, VALID, 0)
    assert model.start
    for name, value in model.start.items():
        assert torch.equal(value, again.start[name])
    with pytest.raises(DataError, match="bilstm"):
        SelfSupervised({**SMALL, "encoder": "none"}, QUICK).fit(samples, TRAIN, VALID)


def test_windows_of_the_globe_mean_what_those_of_towers_mean(samples: Samples) -> None:
    """Months come back from the ten-day steps; what the grid lacks is missing; draws repeat."""
    cube = globe()
    cells = windows_of(cube, samples.features, 50, seed=3)
    assert cells.x.shape == (50, 36, len(samples.features))
    ta = cube.TA.sel(lat=cells.lat[7], lon=cells.lon[7], method="nearest").to_numpy()
    own = cells.x[7, :, samples.features.index("TA")]
    assert own.mean() == pytest.approx(ta.mean(), abs=0.3)
    assert own.min() >= ta.min() - 1e-4
    assert np.isnan(cells.x[..., samples.features.index("LAI")]).all()
    sun = cells.x[..., samples.features.index("SW_POT")]
    assert np.isfinite(sun).all()
    np.testing.assert_array_equal(cells.x, windows_of(cube, samples.features, 50, seed=3).x)


def test_without_epochs_the_residual_is_the_boosting(samples: Samples) -> None:
    """Nothing learnt of the errors: what is left are the trees, moved to where they close."""
    none = ResidualOnBoosting(TamRLModel(SMALL, replace(QUICK, epochs=0)), TREES())
    none.fit(samples, TRAIN, VALID, 0)
    trees = TREES().fit(samples, TRAIN, VALID, 0)
    np.testing.assert_array_equal(
        none.predict(samples, TEST), project(trees.predict(samples, TEST))
    )


def test_the_residual_is_learnt_where_trees_had_not_seen_the_tower(samples: Samples) -> None:
    """The network moves the prediction, closes with it, and knows no tower that is left out."""
    flux = []
    for shift in (0.0, 4.0):
        y = samples.y.copy()
        y[TEST] += shift
        model = ResidualOnBoosting(TamRLModel(SMALL, QUICK), TREES())
        model.fit(replace(samples, y=y), TRAIN, VALID, 0)
        flux.append(model.predict(samples, TEST))
    np.testing.assert_array_equal(flux[0], flux[1])
    assert model.network is not None
    assert np.nanmax(np.abs(model.network.predict(samples, TEST))) > 0
    on = samples.active[TEST]
    np.testing.assert_array_equal(flux[0][on][:, 2], flux[0][on][:, 1] - flux[0][on][:, 0])
    assert "code=" in repr(model)
    assert repr(model) != repr(replace(model, inner=2))
    assert repr(model) == repr(ResidualOnBoosting(TamRLModel(SMALL, QUICK), TREES()))


def test_members_differ_and_their_mean_closes(samples: Samples) -> None:
    """Each member starts elsewhere; the mean is the mean."""
    model = Members(TamRLModel(SMALL, replace(QUICK, epochs=1)), n=2).fit(samples, TRAIN, VALID, 0)
    one, two = (member.predict(samples, TEST) for member in model.fitted)
    assert np.nanmax(np.abs(one - two)) > 1e-3
    mean = model.predict(samples, TEST)
    np.testing.assert_allclose(mean, (one + two) / 2, atol=1e-6)
    np.testing.assert_allclose(mean[..., 2], mean[..., 1] - mean[..., 0], atol=1e-5)


def test_years_are_halved_by_tower(samples: Samples) -> None:
    """Labelled years alternate; a tower of one year is in one half."""
    half = other_years(samples)
    year = samples.time.astype("datetime64[Y]").astype(int)
    on = samples.weight > 0
    for i, row in enumerate(half):
        years = np.unique(year[on[i] | samples.score[i]])
        for k, one in enumerate(years):
            assert set(row[year == one]) == {k % 2}


def test_the_oracle_sees_other_years_only(samples: Samples) -> None:
    """A day's prediction is the same whatever was measured in its half; the other half decides."""
    half = other_years(samples)[TEST]
    assert half.any()
    assert (half == 0).any()
    given = TamRLModel(SMALL, QUICK)
    flux = OtherYears(given).fit(samples, TRAIN, VALID, 0).predict(samples, TEST)
    y = samples.y.copy()
    y[TEST] = np.where((half == 1)[..., None], y[TEST] + 8, y[TEST])
    moved = OtherYears(given).fit(samples, TRAIN, VALID, 0).predict(replace(samples, y=y), TEST)
    on = samples.active[TEST]
    np.testing.assert_array_equal(flux[on & (half == 1)], moved[on & (half == 1)])
    assert np.abs(flux - moved)[on & (half == 0)].max() > 1e-3
    assert given.net is None


def test_worlds_follow_each_other_without_an_end(samples: Samples) -> None:
    """Another number of worlds leaves other weights; one world is what `FromVirtual` learns."""
    recipe = replace(QUICK, epochs=1)
    many = FromManyWorlds(SMALL, recipe, n_virtual=24, worlds=2).fit(samples, TRAIN, VALID, 0)
    one = FromManyWorlds(SMALL, recipe, n_virtual=24, worlds=1).fit(samples, TRAIN, VALID, 0)
    old = FromVirtual(SMALL, recipe, n_virtual=24, virtual_epochs=1).fit(samples, TRAIN, VALID, 0)
    assert all(torch.equal(v, old.start[k]) for k, v in one.start.items())
    assert not torch.equal(many.start["head"], one.start["head"])
    assert samples.targets == FLUXES
