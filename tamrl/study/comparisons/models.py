"""The experiments of this study: plain lists of models, and how each is computed or read.

To add a model to an experiment, add a line to its list; `tamrl compare` then computes only that
one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tamrl.errors import DataError
from tamrl.evaluate.learner import Factory, WithoutSatellites
from tamrl.evaluate.tables import Results, read, stored
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting, Climatology, XGBoost
from tamrl.rivals.networks import CTLSTM, LSTM, TRANSFORMER, Transformer
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.neighbourhood import with_neighbourhoods
from tamrl.samples.splits import folds
from tamrl.shipped import ensemble
from tamrl.shipped.annual import CLASSES, AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.sources import load_grid, load_others, load_predictors, load_towers
from tamrl.study import ablation
from tamrl.study.comparisons.compute import run

NETWORK = ablation.DEFAULT
ENSEMBLE = "ensemble"
PUBLISHED = "TAM-RL as published"
ANNUAL = f"{NETWORK}, annual prior"
PRETRAINED_ONCE = f"{NETWORK}, {ablation.PRETRAINED}"
PRETRAINED = f"{NETWORK}, pre-trained"
RESCALED = f"{PRETRAINED}, annual rescaling"
UNSCALED = "ensemble without rescaling"
INFORMED = "LightGBM, annual prior and rescaling"
BOOSTERS = (
    "LightGBM",
    "LightGBM, no lags",
    "LightGBM, process-scaled",
    "LightGBM, classes only",
    "XGBoost",
    "XGBoost, no lags",
    "XGBoost, process-scaled",
)
STRONG = "LightGBM, classes only"
# Tried without success: their code left the package; their stored tables are shown, not computed.
GLOBAL_ENCODER = f"{NETWORK}, encoder of global drivers"
EMBEDDINGS = f"{NETWORK}, tower embeddings"
PROCESS = f"{NETWORK}, process parameters"
TIME_SCALES = f"{NETWORK}, several time scales"
RESIDUAL = f"LightGBM and {NETWORK} on its residual"
MEMBERS = f"{NETWORK}, mean of four"
COMBINED = f"{PRETRAINED_ONCE}, several time scales"
SEEN = f"{NETWORK}, seen in training, other years (not zero-shot)"
ARCHIVED = (
    GLOBAL_ENCODER, EMBEDDINGS, PROCESS, TIME_SCALES, RESIDUAL, MEMBERS, COMBINED, SEEN,
)  # fmt: skip
TAG, COMMIT = "tried-directions", "1405414"  # of the code that computes them


@dataclass(frozen=True)
class Experiment:
    """Named models and the protocol that is the same for all of them.

    ``models`` takes the passes over the training towers (None: each network's own) and the device
    of the networks; ``folds`` by tower, assigned by ``scheme`` (`tamrl.samples.splits.folds`; for
    ``biome`` there are as many as classes); ``seeds``: networks or boosters that are averaged a
    fold; ``archived``: models that are shown from stored tables and not computed.
    """

    models: Callable[[int | None, str], Mapping[str, Factory]]
    folds: int
    seeds: int
    scheme: str = "blocked"
    archived: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models that can be computed; the others are compared with the first."""
        return tuple(self.models(None, "cpu"))


def _recipe(epochs: int | None, base: Recipe | None = None) -> Recipe:
    base = base or Recipe()
    return base if epochs is None else replace(base, epochs=epochs)


def _n_virtual(epochs: int | None) -> int:
    """Virtual towers of a data set: a quick look is quick here, too."""
    return ensemble.N_VIRTUAL if epochs is None else min(50 * epochs, ensemble.N_VIRTUAL)


def _ablation(epochs: int | None, device: str) -> Mapping[str, Factory]:
    return ablation.variants(_recipe(epochs), device, _n_virtual(epochs))


def _benchmark(epochs: int | None, device: str) -> Mapping[str, Factory]:
    net: dict[str, Any] = {"recipe": _recipe(epochs), "device": device}
    n_virtual = _n_virtual(epochs)
    attention: dict[str, Any] = {"recipe": _recipe(epochs, TRANSFORMER), "device": device}
    inputs: tuple[dict[str, Any], ...] = ({}, {"lags": False}, {"process": True})
    light = [partial(Boosting, **i) for i in (*inputs, {"statics": CLASSES})]
    boosters: list[Factory] = [*light, *(partial(XGBoost, **i) for i in inputs)]
    return {
        ENSEMBLE: ensemble.factory("ensemble", **net, n_virtual=n_virtual),
        ANNUAL: partial(AnnualPrior, TamRLModel(**net)),
        "LightGBM, annual prior": partial(AnnualPrior, Boosting()),
        INFORMED: partial(AnnualRescaling, AnnualPrior(Boosting())),
        NETWORK: partial(TamRLModel, **net),
        PUBLISHED: _ablation(epochs, device)["as published"],
        **dict(zip(BOOSTERS, boosters, strict=True)),
        "CT-LSTM": partial(CTLSTM, **net),
        "LSTM": partial(LSTM, **net),
        "transformer": partial(Transformer, **attention),
        "climatology": Climatology,
        PRETRAINED: ensemble.factory("network", **net, n_virtual=n_virtual),
        RESCALED: ensemble.factory("network with rescaling", **net, n_virtual=n_virtual),
        UNSCALED: ensemble.factory("without rescaling", **net, n_virtual=n_virtual),
        "ensemble without pre-training": ensemble.factory("ensemble", **net, n_virtual=0),
    }


def _few(epochs: int | None, device: str) -> Mapping[str, Factory]:
    """List the ensemble and a few rivals, for further protocols."""
    every = _benchmark(epochs, device)
    return {name: every[name] for name in (ENSEMBLE, PRETRAINED, STRONG, "climatology")}


def _no_satellites(epochs: int | None, device: str) -> Mapping[str, Factory]:
    """List the ensemble and a few rivals, at towers without satellite data."""
    every = _benchmark(epochs, device)
    blend = every[UNSCALED]()
    parts = [WithoutSatellites(part) for part in blend.parts]  # each is stored, and used again
    names = (PRETRAINED, NETWORK, PUBLISHED, STRONG)
    return {
        ENSEMBLE: partial(AnnualRescaling, Blend(parts, blend.weights)),
        **{name: partial(WithoutSatellites, every[name]()) for name in names},
        "climatology": Climatology,
    }


def _directions(epochs: int | None, device: str) -> Mapping[str, Factory]:
    every = _benchmark(epochs, device)
    once = _ablation(epochs, device)[ablation.PRETRAINED]
    names = (PRETRAINED, RESCALED, UNSCALED, "LightGBM")
    return {
        NETWORK: every[NETWORK],
        ANNUAL: every[ANNUAL],
        PRETRAINED_ONCE: once,
        **{name: every[name] for name in names},
    }


EXPERIMENTS = {
    "ablation": Experiment(_ablation, folds=5, seeds=3),
    "benchmark": Experiment(_benchmark, folds=10, seeds=3),
    "climates": Experiment(_few, folds=5, seeds=1, scheme="koppen"),
    "biomes": Experiment(_few, folds=10, seeds=1, scheme="biome"),
    "no-satellites": Experiment(_no_satellites, folds=10, seeds=1),
    "directions": Experiment(_directions, folds=10, seeds=1, archived=ARCHIVED),
}


def experiment(name: str) -> Experiment:
    """Return the experiment of a name; ValueError for an unknown one."""
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown comparison {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def compute(
    name: str,
    towers: str = "auto",
    n_folds: int | None = None,
    n_seeds: int | None = None,
    epochs: int | None = None,
    every: int = 1,
    only: Sequence[str] = (),
    out: Path | str | None = None,
    jobs: int = 2,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Path:
    """Compute what is missing of an experiment and return the folder of its tables.

    ``n_folds``, ``n_seeds`` and ``epochs`` None: as the experiment says; ``every``: take every n-th
    tower, for a quick look; ``only``: names of models, none means all; ``out``: folder of the
    tables, None: ``results/<name>`` for the experiment as it is, on real towers, else a folder
    below ``runs/`` whose name has the settings, so that no quick look overwrites stored results.

    ValueError for an unknown experiment or model, or one that is archived; DataError and StudyError
    as `tamrl.study.comparisons.compute.run`.
    """
    wanted = experiment(name)
    models = dict(wanted.models(epochs, device))
    where = f"stored tables; the code that computes them has the tag {TAG} (commit {COMMIT})"
    for model in only:
        if model in wanted.archived:
            raise ValueError(f"{model} is shown from {where}")
        if model not in models:
            raise ValueError(f"{name} has no model {model!r}; it has {'; '.join(models)}")
    models = {model: models[model] for model in models if not only or model in only}
    samples = _samples(towers, every)
    source = Path("runs") / str(samples.attrs["tower_source"])
    k, members = n_folds or wanted.folds, n_seeds or wanted.seeds
    if out is None:
        as_planned = (k, members, epochs, every) == (wanted.folds, wanted.seeds, None, 1)
        parts = [name, f"{k}-folds", f"{members}-seeds"]
        parts += [f"{epochs}-epochs"] * (epochs is not None) + [f"every-{every}"] * (every > 1)
        real = as_planned and not samples.attrs["virtual"]
        out = Path("results") / name if real else source / "compare" / "_".join(parts)
    say(f"{name}: {len(models)} models, {k} folds, {members} seeds; tables go to {out}")
    if wanted.archived and not only:
        say(f"not computed, but shown from {where}: {'; '.join(wanted.archived)}")
    split = folds(samples, k, wanted.scheme)
    run(models, samples, split, range(members), out, source / "cv", jobs, say)
    return Path(out)


def load_results(
    name: str,
    towers: str = "auto",
    folder: str | Path | None = None,
    recompute: bool = False,
    **settings: Any,
) -> Results:
    """Read an experiment's stored tables; on virtual towers, or when asked, compute it on the spot.

    ``folder`` holds the stored tables (None: ``results/<name>``); ``settings`` are those of
    `compute`. Models of the experiment that are not there are ``missing``.

    DataError when there is no table, or the tables are of virtual towers but real ones are asked
    for; as `tamrl.evaluate.tables.read`.
    """
    wanted = experiment(name)
    virtual = towers == "virtual" or (
        towers == "auto" and bool(load_towers(towers).attrs["virtual"])
    )
    if virtual or recompute:
        return read(compute(name, towers, **settings), wanted.names)
    folder = Path(folder or stored(name))
    results = read(folder, (*wanted.names, *wanted.archived))
    if results.attrs.get("virtual"):
        raise DataError(f"{folder} holds scores of virtual towers; delete it, or ask for virtual")
    return results


def _samples(towers: str, every: int) -> Samples:
    """Load towers with all that any model reads, neighbourhoods on the grid among it."""
    daily = load_towers(towers).isel(site=slice(None, None, every))
    cube = load_grid(daily)
    samples = make_samples(daily, load_predictors(daily), cube, others=load_others(daily))
    return with_neighbourhoods(samples, cube)
