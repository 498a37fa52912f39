"""Pre-training in a simulated world: it is where training begins, and it helps where it applies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tamrl.errors import DataError
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.shipped.pretraining import SCALES, FromVirtual, virtual_samples
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

SMALL = {"hidden": 16, "latent": 6, "embed": 4}
QUICK = Recipe(epochs=1, batch=16, length=120)
TRAIN, VALID, TEST = np.arange(3), np.arange(3, 5), np.arange(5, 20)


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Make towers of another draw of the virtual world, as if they were real."""
    daily = virtual_towers(n=20, years=(2001, 2002), seed=7)
    return make_samples(daily, virtual_predictors(daily), virtual_grid())


def test_what_was_learnt_is_where_training_begins_and_helps(samples: Samples) -> None:
    """Three towers and one epoch teach little; a world seen before teaches more."""
    seen = FromVirtual(SMALL, QUICK, n_virtual=40, virtual_epochs=4)
    seen.fit(samples, TRAIN, VALID, 0)
    assert seen.net is not None
    assert not set(SCALES) & set(seen.start)
    fresh = seen.build(seen.net.config)
    for name, value in seen.start.items():
        np.testing.assert_array_equal(fresh.state_dict()[name], value)
    new = TamRLModel(SMALL, QUICK).fit(samples, TRAIN, VALID, 0)
    score = samples.scored[TEST]
    rmse = [
        np.sqrt(np.mean((m.predict(samples, TEST)[score] - samples.y[TEST][score]) ** 2))
        for m in (seen, new)
    ]
    assert rmse[0] < 0.9 * rmse[1]


def test_labels_of_the_towers_do_not_reach_the_virtual_world(samples: Samples) -> None:
    """Whatever the towers measured, the weights that training begins with are the same."""
    first = FromVirtual(SMALL, QUICK, n_virtual=40, virtual_epochs=1)
    second = FromVirtual(SMALL, QUICK, n_virtual=40, virtual_epochs=1)
    first.fit(samples, TRAIN, VALID, 0)
    second.fit(replace(samples, y=samples.y + 3), TRAIN, VALID, 0)
    for name, value in first.start.items():
        np.testing.assert_array_equal(second.start[name], value)
    assert repr(first) != repr(FromVirtual(SMALL, QUICK, n_virtual=41))


def test_other_drivers_are_refused(samples: Samples) -> None:
    """A world of other drivers cannot be begun with."""
    other = replace(samples, features=(*samples.features[:-1], "salinity"))
    with pytest.raises(DataError, match=r"other features.*salinity"):
        FromVirtual(SMALL, QUICK, n_virtual=40).fit(other, TRAIN, VALID)
    assert virtual_samples(40, 0).attrs["virtual"]
