"""The contract of all learners, and that today's predictions are those of the declared version."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from settings import QUICK, SMALL, TEST, TRAIN, VALID

from tamrl.errors import DataError
from tamrl.evaluate.learner import WithoutSatellites, versions
from tamrl.model.adapt import finetune
from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting, Climatology, XGBoost
from tamrl.rivals.networks import CTLSTM, LSTM, TRANSFORMER, Transformer
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.neighbourhood import with_neighbourhoods
from tamrl.shipped import weights_file as files
from tamrl.shipped.annual import CLASSES, AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.shipped.pretraining import SyntheticPretraining
from tamrl.shipped.weights import digest
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

GOLDEN = Path(__file__).parent / "golden" / "learners.npz"
EVERY = 15  # days between those that are stored
TREES: dict[str, Any] = {"trees": 20, "tune": False}


def net(recipe: Recipe = QUICK, **overrides: object) -> TamRLModel:
    return TamRLModel({**SMALL, **overrides}, recipe)


def trees() -> AnnualPrior:
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
    "pre-training, one data set": partial(pretrained, datasets=1, epochs_each=2),
    "pre-training, two data sets": pretrained,
    "ensemble": lambda: AnnualRescaling(Blend((pretrained(), trees()), (3.0, 1.0))),
}
# Other settings of these learners differ in nothing that the contract asks.
FAMILIES = (
    "TAM-RL", "TAM-RL, both encoders", "TAM-RL, as published", "TAM-RL, satellite dropout by site",
    "CT-LSTM", "LSTM", "transformer", "climatology", "LightGBM", "XGBoost, process-scaled",
    "without satellites, TAM-RL", "ensemble",
)  # fmt: skip
OPEN = ("soft", "no closure", "published", "LSTM", "transformer", "climatology", "LightGBM", "XGB")
STORED = (
    "TAM-RL", "TAM-RL, both encoders", "CT-LSTM", "LightGBM, no lags", "LightGBM, classes only",
    "XGBoost", "XGBoost, process-scaled",
    "annual prior, LightGBM", "annual prior, TAM-RL", "annual rescaling, TAM-RL",
    "annual rescaling, annual prior, LightGBM", "blend", "pre-training, two data sets", "ensemble",
)  # fmt: skip
every_learner = pytest.mark.parametrize("name", LEARNERS)


@pytest.fixture(scope="module")
def samples() -> Samples:
    towers, cube = virtual_towers(n=12, seed=0, years=(2001, 2002)), virtual_grid()
    return with_neighbourhoods(make_samples(towers, virtual_predictors(towers), cube), cube)


def given(samples: Samples, name: str) -> Samples:
    """Return the samples with maps for encoders of maps, without for all others."""
    return samples if "onv" in name or "both" in name else replace(samples, maps=None)


Fit = Callable[[str], tuple[Any, Samples, np.ndarray]]


@pytest.fixture(scope="module")
def fit(samples: Samples) -> Fit:
    done: dict[str, Any] = {}

    def once(name: str) -> Any:
        if name not in done:
            data = given(samples, name)
            model = LEARNERS[name]().fit(data, TRAIN, VALID, 0)
            done[name] = model, data, model.predict(data, TEST)
        return done[name]

    return once


def expect(predicted: np.ndarray, name: str, declared: str) -> None:
    """Compare with the stored: processors differ in the last bits, code that changed by more."""
    text = f"{name} is not as {declared}: raise the version of what changed, store its predictions"
    with np.load(GOLDEN) as golden:
        stored = golden[name]
    np.testing.assert_allclose(predicted[:, ::EVERY], stored, rtol=0, atol=1e-4, err_msg=text)


@every_learner
def test_the_version_names_the_behaviour(fit: Fit, name: str) -> None:
    """Stored results are named by declared versions: a change without a new one is caught here."""
    model, _, predicted = fit(name)
    assert " at 0x" not in repr(model)
    expect(predicted, name, versions(LEARNERS[name]()))


def test_adaptation_is_as_it_was(fit: Fit) -> None:
    model, data, _ = fit("TAM-RL")
    site = np.array([10])
    predicted = finetune(model, data, site, 90, steps=5).predict(data, site)
    expect(predicted, "fine-tuned, frozen", "this package")


@every_learner
def test_fluxes_on_every_day_with_drivers_and_on_no_other(fit: Fit, name: str) -> None:
    """They close and are not negative where that is promised; labels are not needed."""
    model, data, predicted = fit(name)
    assert predicted.shape == (len(TEST), len(data.time), 3)
    on = data.has_drivers[TEST]
    assert 0 < on.mean() < 1
    np.testing.assert_array_equal(np.isfinite(predicted), np.repeat(on[..., None], 3, -1))
    unlabelled = replace(data, y=np.full_like(data.y, np.nan), weight=data.weight * 0)
    np.testing.assert_array_equal(model.predict(unlabelled, TEST), predicted)
    gpp, reco, nee = predicted[on].T
    rescaled = name.startswith(("annual rescaling", "blend", "ensemble"))
    if rescaled or not any(word in name for word in OPEN):
        np.testing.assert_allclose(nee, reco - gpp, atol=0 if rescaled else 1e-4)
    if rescaled or ("XGB" not in name and "LightGBM" not in name and name != "climatology"):
        assert min(gpp.min(), reco.min()) >= 0


@every_learner
def test_order_and_company_of_towers_do_not_matter(fit: Fit, name: str) -> None:
    model, data, predicted = fit(name)
    same = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    same(model.predict(data, TEST[::-1])[::-1], predicted)
    same(model.predict(data, TEST[1:2]), predicted[1:2])


@pytest.mark.parametrize("name", FAMILIES)
def test_it_knows_nothing_of_tested_towers_and_a_seed_decides(fit: Fit, name: str) -> None:
    """Drivers and labels of tested towers do not reach a fit, which its seed repeats."""
    _, data, predicted = fit(name)
    changed = replace(data, x=data.x.copy(), y=data.y.copy())
    changed.x[TEST] += 3
    changed.y[TEST] *= -2
    again = LEARNERS[name]().fit(changed, TRAIN, VALID, 0).predict(data, TEST)
    np.testing.assert_array_equal(again, predicted)
    other = LEARNERS[name]().fit(data, TRAIN, VALID, 1).predict(data, TEST)
    assert np.array_equal(other, predicted, equal_nan=True) == (name == "climatology")


@pytest.mark.parametrize("name", STORED)
def test_what_is_loaded_is_what_was_saved(fit: Fit, name: str, tmp_path: Path) -> None:
    """Bit for bit, whatever a model is put together from; the digest says so too."""
    model, data, predicted = fit(name)
    files.save([model], tmp_path / "w.safetensors", data, towers=12)
    (again,), header = files.load(tmp_path / "w.safetensors", "cpu")
    assert header["towers"] == 12
    np.testing.assert_array_equal(again.predict(data, TEST), predicted)
    assert digest(again) == digest(model)
    assert len({digest(fit(other)[0]) for other in STORED}) == len(STORED)


@pytest.mark.parametrize("name", ["LSTM", "transformer", "climatology"])
def test_what_cannot_be_stored_says_so(fit: Fit, name: str) -> None:
    with pytest.raises(DataError, match="cannot be stored"):
        digest(fit(name)[0])
