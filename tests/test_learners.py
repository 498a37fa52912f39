"""What holds for every learner: today's predictions are those that its declared version names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamrl.evaluate.learner import WithoutSatellites, versions
from tamrl.model.adapt import finetune
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting, Climatology, XGBoost
from tamrl.rivals.networks import CTLSTM, LSTM, TRANSFORMER, Transformer
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.neighbourhood import with_neighbourhoods
from tamrl.shipped.annual import CLASSES, AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.shipped.pretraining import SyntheticPretraining
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

GOLDEN = Path(__file__).parent / "golden" / "learners.npz"
SMALL = {"hidden": 16, "latent": 6, "embed": 4}
QUICK = Recipe(epochs=1, batch=8, length=120)
TRAIN, VALID, TEST = np.arange(7), np.arange(7, 9), np.arange(9, 12)
EVERY = 15  # days between those that are kept
TREES: dict[str, Any] = {"trees": 20, "tune": False}


def net(recipe: Recipe = QUICK, **overrides: object) -> TamRLModel:
    """Make a small network."""
    return TamRLModel({**SMALL, **overrides}, recipe)


def trees() -> AnnualPrior:
    """Make small trees that have the annual prior."""
    return AnnualPrior(Boosting(**TREES))


ONCE = replace(PUBLISHED, epochs=1, pretrain_epochs=1)
SHORT = replace(TRANSFORMER, epochs=1, batch=8)
SOFT: dict[str, Any] = {"closure": "soft", "process": False}
pretrained = partial(SyntheticPretraining, SMALL, QUICK, n_sites=20, datasets=2)
LEARNERS: Mapping[str, Callable[[], Any]] = {
    "TAM-RL": net,
    "TAM-RL, no encoder": partial(net, encoder="none"),
    "TAM-RL, no gates": partial(net, gates=False),
    "TAM-RL, no FiLM": partial(net, film=False),
    "TAM-RL, soft closure": partial(net, **SOFT),
    "TAM-RL, no closure": partial(net, closure="none", process=False),
    "TAM-RL, ConvLSTM": partial(net, encoder="convlstm"),
    "TAM-RL, both encoders": partial(net, encoder="both"),
    "TAM-RL, as published": partial(net, ONCE, **SOFT, gates=False),
    "TAM-RL, satellite dropout by site": partial(net, replace(QUICK, satellite_dropout="site")),
    "CT-LSTM": partial(CTLSTM, SMALL, QUICK),
    "LSTM": partial(LSTM, SMALL, QUICK),
    "transformer": partial(Transformer, {"hidden": 16, "embed": 4}, SHORT),
    "climatology": Climatology,
    "LightGBM": partial(Boosting, **TREES),
    "LightGBM, tuned": partial(Boosting, trees=20),
    "LightGBM, no lags": partial(Boosting, lags=False, **TREES),
    "LightGBM, process-scaled": partial(Boosting, process=True, **TREES),
    "LightGBM, classes only": partial(Boosting, statics=CLASSES, **TREES),
    "XGBoost": partial(XGBoost, **TREES),
    "XGBoost, process-scaled": partial(XGBoost, process=True, **TREES),
    "annual prior, LightGBM": trees,
    "annual prior, TAM-RL": lambda: AnnualPrior(net()),
    "annual rescaling, TAM-RL": lambda: AnnualRescaling(net()),
    "annual rescaling, annual prior, LightGBM": lambda: AnnualRescaling(trees()),
    "blend": lambda: Blend((net(), trees()), (3.0, 1.0)),
    "without satellites, TAM-RL": lambda: WithoutSatellites(net()),
    "pre-training, one data set": partial(
        SyntheticPretraining, SMALL, QUICK, n_sites=20, datasets=1, epochs_each=2
    ),
    "pre-training, two data sets": pretrained,
    "ensemble": lambda: AnnualRescaling(Blend((pretrained(), trees()), (3.0, 1.0))),
}


@pytest.fixture(scope="module")
def samples() -> Samples:
    towers = virtual_towers(n=12, seed=0, years=(2001, 2002))
    cube = virtual_grid()
    made = make_samples(towers, virtual_predictors(towers), cube)
    return with_neighbourhoods(made, cube)


def given(samples: Samples, name: str) -> Samples:
    """Return the samples with maps for encoders of maps, without for all others."""
    return samples if "onv" in name or "both" in name else replace(samples, maps=None)


def expect(found: np.ndarray, name: str, declared: str) -> None:
    """Compare with what was kept: processors differ in the last bits, code that changed by more."""
    with np.load(GOLDEN) as kept:
        np.testing.assert_allclose(
            found[:, ::EVERY],
            kept[name],
            rtol=0,
            atol=1e-4,
            err_msg=f"{name} predicts otherwise than {declared} did: raise the version of what "
            "changed and keep the new predictions",
        )


@pytest.mark.parametrize("name", LEARNERS)
def test_the_version_names_the_behaviour(samples: Samples, name: str) -> None:
    """Kept results are named by declared versions: a change without a new one is caught here."""
    learner, data = LEARNERS[name](), given(samples, name)
    assert " at 0x" not in repr(learner)
    fitted = learner.fit(data, TRAIN, VALID, 0)
    expect(fitted.predict(data, TEST), name, versions(learner))


@pytest.mark.parametrize("frozen", [True, False])
def test_adaptation_is_as_it_was(samples: Samples, frozen: bool) -> None:
    data = given(samples, "TAM-RL")
    model = net().fit(data, TRAIN, VALID, 0)
    own = finetune(model, data, np.array([10]), 90, frozen=frozen, steps=5)
    found = own.predict(data, np.array([10]))
    expect(found, f"fine-tuned, {'frozen' if frozen else 'full'}", "this package")
