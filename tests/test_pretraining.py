"""Synthetic pre-training: training begins where simulations ended, which are learnt once a seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from settings import QUICK, SMALL

from tamrl.errors import DataError
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.shipped import pretraining
from tamrl.shipped.annual import ANNUAL, own_means, with_statics
from tamrl.shipped.pretraining import SCALES, SyntheticPretraining, with_own_cells
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TRAIN, VALID, TEST = np.arange(3), np.arange(3, 5), np.arange(5, 20)
ONE_SET = {"datasets": 1, "n_sites": 40}


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    return virtual_towers(n=20, years=(2001, 2002), seed=7)


@pytest.fixture(scope="module")
def samples(towers: xr.Dataset, globe: xr.Dataset) -> Samples:
    return make_samples(towers, virtual_predictors(towers), globe)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMRL_PRETRAINING_DIR", str(tmp_path))
    return tmp_path


def test_what_was_learnt_is_where_training_begins_and_helps(samples: Samples) -> None:
    """Three towers and one epoch teach little; simulated towers before them teach more."""
    model = SyntheticPretraining(SMALL, replace(QUICK, batch=16), **ONE_SET, epochs_each=4)
    model.fit(samples, TRAIN, VALID, 0)
    assert not set(SCALES) & set(model.start)
    fresh = model.build(model.net.config).state_dict()
    assert all(np.array_equal(fresh[name], value) for name, value in model.start.items())
    new = TamRLModel(SMALL, replace(QUICK, batch=16)).fit(samples, TRAIN, VALID, 0)
    on = samples.scored[TEST]
    square = [
        np.mean((m.predict(samples, TEST)[on] - samples.y[TEST][on]) ** 2) for m in (model, new)
    ]
    assert square[0] < 0.9**2 * square[1]


def test_a_seed_learns_simulations_once_and_not_from_labels(samples, folder, monkeypatch) -> None:
    """Two fits find one file; whatever the real towers measured; another setting has its own."""
    simulated, simulate = [], pretraining.simulated_samples
    counted = lambda n, seed, *more: simulated.append(seed) or simulate(n, seed, *more)  # noqa: E731
    monkeypatch.setattr(pretraining, "simulated_samples", counted)
    model = SyntheticPretraining(SMALL, QUICK, n_sites=20, datasets=2)
    other = replace(samples, y=samples.y + 3)
    starts = [model.fit(s, TRAIN, VALID, 0).start for s in (samples, other)]
    assert len(set(simulated)) == len(simulated) == 2
    assert all(np.array_equal(starts[1][name], value) for name, value in starts[0].items())
    (path,) = folder.iterdir()
    replace(model, lr_factor=1.0).fit(samples, TRAIN, VALID, 0)  # changes the second stage only
    assert list(folder.iterdir()) == [path]
    replace(model, recipe=replace(QUICK, lr=1e-3)).fit(samples, TRAIN, VALID, 0)
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("harm", ["torn", "other"])
def test_damaged_weights_are_learnt_again(samples: Samples, folder: Path, harm: str) -> None:
    model = SyntheticPretraining(SMALL, QUICK, n_sites=20, datasets=1)
    start = model.fit(samples, TRAIN, VALID, 0).start
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-100] if harm == "torn" else whole[:-4] + bytes(4))
    with pytest.warns(UserWarning, match="damaged"):
        again = model.fit(samples, TRAIN, VALID, 0).start
    np.testing.assert_array_equal(again["head"], start["head"])
    assert path.read_bytes()[-1000:] == whole[-1000:]


def test_other_drivers_are_refused(samples: Samples) -> None:
    other = replace(samples, features=(*samples.features[:-1], "salinity"))
    with pytest.raises(DataError, match=r"other features.*salinity"):
        SyntheticPretraining(SMALL, QUICK, **ONE_SET).fit(other, TRAIN, VALID)


def test_cells_are_like_their_towers(towers, globe: xr.Dataset, samples: Samples) -> None:
    """The grid's greenness goes with the tower's own; nothing else changes, and it repeats."""
    own = with_own_cells(samples, towers, globe)
    at, fpar = (samples.features.index(name) for name in ("EVI_grid", "FPAR_season"))

    def alike(one: Samples) -> float:
        return pd.DataFrame(one.x[one.has_drivers][:, [at, fpar]]).corr().iloc[0, 1]

    assert alike(own) > max(0.7, alike(samples) + 0.1)
    others = np.arange(len(samples.features)) != at
    np.testing.assert_array_equal(own.x[..., others], samples.x[..., others])
    np.testing.assert_array_equal(np.isnan(own.x), np.isnan(samples.x))
    kept = (own.static == samples.static) | np.isnan(samples.static) & np.isnan(own.static)
    changed = np.array(samples.static_names)[~kept.all(0)].tolist()
    assert changed == ["EVI_grid_mean", "EVI_grid_range", "fapar_mean_grid"]
    np.testing.assert_array_equal(with_own_cells(samples, towers, globe).x, own.x)


def test_simulated_towers_have_what_real_ones_have(samples: Samples, folder: Path) -> None:
    """With a vegetation index and a prior, pre-training meets both; its files are apart."""
    full = with_statics(
        with_phenology(samples, None), np.ones((len(samples.site), 2), "f4"), ANNUAL
    )
    model = SyntheticPretraining(SMALL, QUICK, n_sites=20, datasets=1)
    for data in (samples, full):
        model.fit(data, TRAIN, VALID, 0)
    assert len(list(folder.iterdir())) == 2
    made = pretraining.simulated_samples(20, 0, True, True)
    assert (made.features, made.static_names) == (full.features, full.static_names)
    prior, own = made.static[:, -2:], own_means(made)
    known = np.isfinite(own).all(1)
    assert 0.1 < np.log(prior[known] / own[known]).std() < 0.6
