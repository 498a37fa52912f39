"""The experiments of this study: lists of models; `tamrl compare` computes new ones alone."""

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
from tamrl.samples.splits import folds
from tamrl.shipped import ensemble
from tamrl.shipped.annual import AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.sources import load_towers, load_training
from tamrl.study import ablation
from tamrl.study.comparisons.compute import run

NETWORK = ablation.DEFAULT
ENSEMBLE = "ensemble"
PUBLISHED = "TAM-RL as published"
PRETRAINED = f"{NETWORK}, pre-trained, annual prior"
PARTS: Mapping[str, str] = {  # the ensemble and what it is made of, by the names of `ensemble`
    ENSEMBLE: "ensemble",
    PRETRAINED: "network",
    f"{PRETRAINED} and rescaling": "network with rescaling",
    **{f"ensemble {name}": name for name in ensemble.MODELS if "without" in name},
    "ensemble half rescaled": "half rescaled",
    "ensemble of equal shares": "equal shares",
}
_BOOSTING: dict[str, Factory] = {}
for _name, _kind in {"LightGBM": Boosting, "XGBoost": XGBoost}.items():
    _prior = partial(AnnualPrior, _kind())
    _BOOSTING |= {_name: _kind, f"{_name}, annual prior": _prior}
    _informed = partial(AnnualRescaling, _prior(), ensemble.WEIGHT)
    _BOOSTING[f"{_name}, annual prior and rescaling"] = _informed
BOOSTERS = tuple(_BOOSTING)
INFORMED = tuple(name for name in BOOSTERS if name.endswith("rescaling"))
AGAIN = (*PARTS, *(name for name in BOOSTERS if "prior" in name), "climatology")
# Tried before, with fewer drivers: their stored tables are shown, not computed.
ANNUAL = f"{NETWORK}, annual prior"
PRETRAINED_ONCE = f"{NETWORK}, {ablation.PRETRAINED}"
PRETRAINED_MANY = f"{NETWORK}, pre-trained"
RESCALED = f"{PRETRAINED_MANY}, annual rescaling"
UNSCALED = "ensemble without rescaling"
NO_PRETRAINING = "ensemble without pre-training"
GLOBAL_ENCODER = f"{NETWORK}, encoder of global drivers"
EMBEDDINGS = f"{NETWORK}, tower embeddings"
PROCESS = f"{NETWORK}, process parameters"
TIME_SCALES = f"{NETWORK}, several time scales"
RESIDUAL = f"LightGBM and {NETWORK} on its residual"
MEMBERS = f"{NETWORK}, mean of four"
COMBINED = f"{PRETRAINED_ONCE}, several time scales"
SEEN = f"{NETWORK}, seen in training, other years (not zero-shot)"
ARCHIVED = (
    NETWORK, ANNUAL, PRETRAINED_ONCE, PRETRAINED_MANY, RESCALED, UNSCALED, "LightGBM",
    GLOBAL_ENCODER, EMBEDDINGS, PROCESS, TIME_SCALES, RESIDUAL, MEMBERS, COMBINED, SEEN,
)  # fmt: skip
COMMIT = "1405414"  # of the code that computes them


@dataclass(frozen=True)
class Experiment:
    """Named models and the protocol that is the same for all of them.

    ``models`` takes the passes over the training towers (None: each network's own) and a device;
    ``scheme`` is of `tamrl.samples.splits.folds` (``biome``: as many folds as classes);
    ``seeds`` are averaged a fold.
    With ``more`` the towers have a daily vegetation index as well, and models learn from
    other labels than are scored (`tamrl.sources.load_training`). ``again``: models
    that are compared on further assignments of the towers to folds, ``repeats`` in all. ``shown``:
    models whose series at the towers are stored as well, those of the first with bounds.
    """

    models: Callable[[int | None, str], Mapping[str, Factory]]
    folds: int
    seeds: int
    scheme: str = "blocked"
    more: bool = False
    again: tuple[str, ...] = ()
    repeats: int = 1
    shown: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models that can be computed; the others are compared with the first."""
        return tuple(self.models(None, "cpu"))


def _network(epochs: int | None, device: str, base: Recipe | None = None) -> dict[str, Any]:
    """Give the settings of a network: its recipe, perhaps with other epochs, and its device."""
    base = base or Recipe()
    recipe = base if epochs is None else replace(base, epochs=epochs)
    return {"recipe": recipe, "device": device}


def _n_virtual(epochs: int | None) -> int:
    """Virtual towers of a data set: a quick look is quick here, too."""
    return ensemble.N_VIRTUAL if epochs is None else min(50 * epochs, ensemble.N_VIRTUAL)


def _ablation(epochs: int | None, device: str) -> Mapping[str, Factory]:
    return ablation.variants(**_network(epochs, device), n_virtual=_n_virtual(epochs))


def _benchmark(epochs: int | None, device: str) -> Mapping[str, Factory]:
    net = _network(epochs, device)
    shipped = {**net, "n_virtual": _n_virtual(epochs)}
    parts = {name: ensemble.factory(of, **shipped) for name, of in PARTS.items()}
    return {
        **parts,
        **_BOOSTING,
        NO_PRETRAINING: ensemble.factory("ensemble", **net, n_virtual=0),
        PUBLISHED: _ablation(epochs, device)["as published"],
        NETWORK: partial(TamRLModel, **net),
        "CT-LSTM": partial(CTLSTM, **net),
        "LSTM": partial(LSTM, **net),
        "transformer": partial(Transformer, **_network(epochs, device, TRANSFORMER)),
        "climatology": Climatology,
    }


def _few(epochs: int | None, device: str) -> Mapping[str, Factory]:
    """List the ensemble and a few rivals, for further protocols."""
    every = _benchmark(epochs, device)
    return {name: every[name] for name in (ENSEMBLE, PRETRAINED, *INFORMED, "climatology")}


def _no_satellites(epochs: int | None, device: str) -> Mapping[str, Factory]:
    """List the ensemble and a few rivals, at towers without satellite data."""
    every = _benchmark(epochs, device)
    blend = every[UNSCALED]()
    parts = [WithoutSatellites(part) for part in blend.parts]  # each is stored, and used again
    names = (PRETRAINED, PUBLISHED, *INFORMED)
    out: dict[str, Factory] = {name: partial(WithoutSatellites, every[name]()) for name in names}
    first = partial(AnnualRescaling, Blend(parts, blend.weights), ensemble.WEIGHT)
    return {ENSEMBLE: first} | out | {"climatology": Climatology}


EXPERIMENTS = {
    "ablation": Experiment(_ablation, folds=5, seeds=3),
    "benchmark": Experiment(
        _benchmark,
        folds=10,
        seeds=3,
        more=True,
        again=AGAIN,
        repeats=3,
        shown=(ENSEMBLE, *BOOSTERS, "climatology"),
    ),
    "climates": Experiment(_few, folds=5, seeds=1, scheme="koppen", more=True),
    "biomes": Experiment(_few, folds=10, seeds=1, scheme="biome", more=True),
    "no-satellites": Experiment(_no_satellites, folds=10, seeds=1, more=True),
}


def experiment(name: str) -> Experiment:
    """Return the experiment of a name; ValueError for an unknown one."""
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown comparison {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def chosen(name: str, epochs: int | None, device: str, only: Sequence[str]) -> dict[str, Factory]:
    """Return models of an experiment, all or ``only`` some; ValueError for an unknown name."""
    models = dict(experiment(name).models(epochs, device))
    for model in only:
        if model not in models:
            raise ValueError(f"{name} has no model {model!r}; it has {'; '.join(models)}")
    return {model: models[model] for model in models if not only or model in only}


def compute(
    name: str, towers: str = "auto", n_folds: int | None = None, n_seeds: int | None = None,
    epochs: int | None = None, every: int = 1, only: Sequence[str] = (),
    out: Path | str | None = None, jobs: int = 2, device: str = "cpu",
    n_repeats: int | None = None, say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Compute what is missing of an experiment and return the folder of its tables.

    ``n_folds``, ``n_seeds``, ``epochs`` None: as the experiment says; ``every`` n-th tower, for a
    quick look; ``only``: names of models, none means all; ``n_repeats``: assignments of towers to
    folds, None: as the experiment says; ``out`` None: ``results/<name>`` for the
    experiment as it is, on real towers, else one below ``runs/`` with the settings in its name.
    ValueError for an unknown model; DataError and StudyError as of `run`.
    """
    wanted, models = experiment(name), chosen(name, epochs, device, only)
    samples, training = load_training(towers, every, wanted.more)
    source = Path("runs") / str(samples.attrs["tower_source"])
    k, members = n_folds or wanted.folds, n_seeds or wanted.seeds
    if out is None:
        as_planned = (k, members, epochs, every) == (wanted.folds, wanted.seeds, None, 1)
        parts = [name, f"{k}-folds", f"{members}-seeds"]
        parts += [f"{epochs}-epochs"] * (epochs is not None) + [f"every-{every}"] * (every > 1)
        real = as_planned and not samples.attrs["virtual"]
        out = Path("results") / name if real else source / "compare" / "_".join(parts)
    say(f"{name}: {len(models)} models, {k} folds, {members} seeds; tables go to {out}")
    for repeat in range(n_repeats or wanted.repeats):
        split, folder = folds(samples, k, wanted.scheme, repeat), repeat_folder(out, repeat)
        some = {n: m for n, m in models.items() if repeat == 0 or n in wanted.again}
        shown = wanted.shown if repeat == 0 else ()
        run(some, samples, split, range(members), folder, source / "cv", jobs, say, training, shown)
    return Path(out)


def repeat_folder(folder: Path | str, repeat: int) -> Path:
    """Folder of the tables of one assignment to folds: of the first, the experiment's own."""
    return Path(folder) / f"repeat-{repeat}" if repeat else Path(folder)


def load_results(
    name: str, towers: str = "auto", folder: str | Path | None = None, recompute: bool = False,
    repeat: int = 0, **settings: Any,
) -> Results:  # fmt: skip
    """Read an experiment's stored tables; on virtual towers, or when asked, compute it on the spot.

    ``folder``: of the tables (None: ``results/<name>``); ``settings`` as of `compute`. DataError as
    of `tamrl.evaluate.tables.read`, or for tables of virtual towers where real ones are asked for.
    """
    wanted = experiment(name)
    auto = towers == "auto"
    if recompute or towers == "virtual" or (auto and load_towers(towers).attrs["virtual"]):
        return read(repeat_folder(compute(name, towers, **settings), repeat), wanted.names)
    folder = repeat_folder(folder or stored(name), repeat)
    results = read(folder, wanted.names)
    if results.attrs.get("virtual"):
        raise DataError(f"{folder} holds scores of virtual towers; delete it, or ask for virtual")
    return results
