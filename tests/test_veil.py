"""Places without satellites: what is hidden in training is what such a tower lacks, no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from tamrl.evaluate.learner import WithoutSatellites, hide
from tamrl.model.network import Config, TamRL
from tamrl.model.satellite_dropout import Veil, VeiledModel, of_satellites
from tamrl.model.tensors import DeviceData, set_scale
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.shipped.virtual_cells import with_own_cells
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

CPU = torch.device("cpu")
SMALL = {"hidden": 12, "latent": 6, "embed": 4}
QUICK = Recipe(epochs=1, batch=8, length=120)


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    return virtual_towers(n=24, years=(2001, 2002), seed=3)


@pytest.fixture(scope="module")
def globe() -> xr.Dataset:
    return virtual_grid()


@pytest.fixture(scope="module")
def samples(towers: xr.Dataset, globe: xr.Dataset) -> Samples:
    return make_samples(towers, virtual_predictors(towers), globe)


@pytest.fixture(scope="module")
def data(samples: Samples) -> tuple[DeviceData, DeviceData]:
    """Put the samples and the same without satellites on the device, scaled alike."""
    net = TamRL(Config(len(samples.features), len(samples.static_names), **SMALL))
    set_scale(net, samples, np.arange(24))
    return DeviceData(samples, net, CPU), DeviceData(hide(samples), net, CPU)


def test_hidden_is_what_towers_without_satellites_lack(
    towers: xr.Dataset, globe: xr.Dataset, samples: Samples
) -> None:
    """Without its satellites a tower is as if no monthly table existed; the grid's share stays."""
    without, never = hide(samples), make_samples(towers, None, globe)
    np.testing.assert_array_equal(without.x, never.x)
    np.testing.assert_array_equal(without.static, never.static)
    assert np.isfinite(without.x[..., without.features.index("EVI_grid")]).any()
    assert not np.isfinite(without.x[..., without.features.index("FPAR")]).any()
    assert np.isfinite(samples.x[..., samples.features.index("FPAR")]).any()


def test_a_veil_shows_what_is_left_and_nothing_of_others_changes(
    samples: Samples, data: tuple[DeviceData, DeviceData]
) -> None:
    """Statics, days and support windows of hidden places are those of the data without."""
    full, blind = data
    site = np.array([4, 4, 9, 17])
    veil = Veil(full, site, np.array([4, 17]), *of_satellites(samples))
    rng = np.random.default_rng
    shown = veil.keep(4, 1.0, 0.0, rng(0))[:, 0].bool()
    at = full.at(site, np.zeros((4, 1), int) + np.arange(300))
    seen = full.series("seen", at).bool()
    bare = blind.series("seen", blind.at(site, np.zeros((4, 1), int) + np.arange(300))).bool()
    for row, place in enumerate(site):
        expected = seen[row] if place == 9 else bare[row]
        assert torch.equal(seen[row] & shown[row], expected)
    years = np.array([0, 1, 0, 1])
    x, on = veil.choose(site, years, 2, rng(1))
    for part, source in (([0, 1, 3], blind), ([2], full)):
        want, want_on = source.support.sample_windows(site, years, 2, rng(1))
        assert torch.equal(on[part], want_on[part])
        assert torch.equal((x * on)[part], (want * want_on)[part])
    assert torch.equal(veil.static[[4, 17]].isnan(), blind.static[[4, 17]].isnan())
    same = np.array_equal(veil.static[9], full.static[9], equal_nan=True)
    assert same
    np.testing.assert_array_equal(full.static, samples.static)


def test_training_behind_the_veil_repeats_and_is_not_training_without(samples: Samples) -> None:
    """Equal seeds give equal networks; the veil changes them, and resumes like any other."""
    train, valid, test = np.arange(12), np.arange(12, 16), np.arange(16, 24)
    first, again = (
        VeiledModel(SMALL, QUICK).fit(samples, train, valid, 0).predict(samples, test)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    plain = TamRLModel(SMALL, QUICK).fit(samples, train, valid, 0)
    assert np.nanmax(np.abs(first - plain.predict(samples, test))) > 1e-3


def test_satellites_that_are_all_hidden_teach_nothing(samples: Samples) -> None:
    """Where every place is hidden, values of satellites cannot reach the weights."""
    train, valid = np.arange(12), np.arange(12, 16)
    blind = hide(samples)
    always = replace(QUICK, drop_satellite=1.0, reconstruction=0.0)
    drivers, _ = of_satellites(samples)
    shaken = replace(samples, x=np.where(drivers, samples.x[::-1] * 3, samples.x))
    nets = []
    for given in (samples, shaken):
        model = VeiledModel(SMALL, always).fit(replace(given, static=blind.static), train, valid, 0)
        assert model.net is not None
        nets.append(model.net.state_dict())
    for name in ("lstm.weight_hh_l0", "head"):
        scale = float(nets[0][name].abs().max())
        assert float((nets[0][name] - nets[1][name]).abs().max()) < 1e-4 * scale


def test_predictions_without_satellites_do_not_know_them(samples: Samples) -> None:
    """The wrapped model learns from all, predicts from the rest, and tells what it wraps."""
    train, valid, test = np.arange(12), np.arange(12, 16), np.arange(16, 24)
    model = WithoutSatellites(TamRLModel(SMALL, QUICK))
    with pytest.raises(ValueError, match="fit before"):
        model.predict(samples, test)
    flux = model.fit(samples, train, valid, 0).predict(samples, test)
    plain = TamRLModel(SMALL, QUICK).fit(samples, train, valid, 0)
    np.testing.assert_array_equal(flux, plain.predict(hide(samples), test))
    assert np.nanmax(np.abs(flux - plain.predict(samples, test))) > 1e-3
    assert np.isfinite(flux[samples.has_drivers[test]]).all()
    assert repr(TamRLModel(SMALL, QUICK)) in repr(model)


def test_cells_are_like_their_towers(
    towers: xr.Dataset, globe: xr.Dataset, samples: Samples
) -> None:
    """The grid's greenness goes with the tower's own; nothing else changes, and it repeats."""
    own = with_own_cells(samples, towers, globe)
    at, fpar = (samples.features.index(name) for name in ("EVI_grid", "FPAR_season"))

    def alike(one: Samples) -> float:
        a, b = one.x[..., at], one.x[..., fpar]
        ok = np.isfinite(a) & np.isfinite(b)
        return float(np.corrcoef(a[ok], b[ok])[0, 1])

    assert alike(own) > 0.7
    assert alike(own) > alike(samples) + 0.1
    others = [k for k in range(len(samples.features)) if k != at]
    np.testing.assert_array_equal(own.x[..., others], samples.x[..., others])
    np.testing.assert_array_equal(np.isnan(own.x), np.isnan(samples.x))
    changed = [
        name
        for k, name in enumerate(samples.static_names)
        if not np.array_equal(own.static[:, k], samples.static[:, k], equal_nan=True)
    ]
    assert changed == ["EVI_grid_mean", "EVI_grid_range", "fapar_mean_grid"]
    np.testing.assert_array_equal(with_own_cells(samples, towers, globe).x, own.x)
