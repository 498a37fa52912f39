"""The comparisons of this study: plain lists of models, and how each is computed or read.

To add a model to a comparison, add a line to its list; `tamrl compare` then computes only that one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tamrl.errors import DataError
from tamrl.evaluate.learner import Factory, WithoutSatellites
from tamrl.evaluate.tables import Results, read
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
OURS = "blend of TAM-RL and LightGBM"
PUBLISHED = "TAM-RL as published"
VIRTUAL_FIRST = f"{NETWORK}, virtual towers first"
ANNUAL = f"{NETWORK}, annual means"
MANY_WORLDS = f"{NETWORK}, ten virtual worlds first"
UNDRAWN = "blend, not drawn to annual means"
DRAWN = f"{MANY_WORLDS}, drawn to annual means"
GLOBAL_ENCODER = f"{NETWORK}, encoder of global drivers"
EMBEDDINGS = f"{NETWORK}, tower embeddings"
PROCESS = f"{NETWORK}, process parameters"
TIME_SCALES = f"{NETWORK}, several time scales"
RESIDUAL = f"LightGBM and {NETWORK} on its residual"
MEMBERS = f"{NETWORK}, mean of four"
COMBINED = f"{NETWORK}, virtual towers first, several time scales"
SEEN = f"{NETWORK}, seen in training, other years (not zero-shot)"
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


@dataclass(frozen=True)
class Experiment:
    """Named models and the protocol that all of them are put to.

    ``models`` takes the passes over the training towers (None: each network's own) and the device
    of the networks; ``folds`` by tower, dealt by ``scheme`` (`tamrl.samples.splits.folds`; for ``biome``
    there are as many as classes); ``seeds``: networks or boosters that are averaged a fold.
    """

    name: str
    models: Callable[[int | None, str], Mapping[str, Factory]]
    folds: int
    seeds: int
    scheme: str = "blocked"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, in order; the first is the one that others are held against."""
        return tuple(self.models(None, "cpu"))


def _recipe(epochs: int | None, base: Recipe | None = None) -> Recipe:
    base = base or Recipe()
    return base if epochs is None else replace(base, epochs=epochs)


def _n_virtual(epochs: int | None) -> int:
    """Virtual towers to learn first: a quick look is quick here, too."""
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
        OURS: ensemble.factory("ensemble", **net, n_virtual=n_virtual),
        ANNUAL: partial(AnnualPrior, TamRLModel(**net)),
        "LightGBM, annual means": partial(AnnualPrior, Boosting()),
        "LightGBM, told and drawn to annual means": partial(
            AnnualRescaling, AnnualPrior(Boosting())
        ),
        NETWORK: partial(TamRLModel, **net),
        PUBLISHED: _ablation(epochs, device)["as published"],
        **dict(zip(BOOSTERS, boosters, strict=True)),
        "CT-LSTM": partial(CTLSTM, **net),
        "LSTM": partial(LSTM, **net),
        "transformer": partial(Transformer, **attention),
        "climatology": Climatology,
        MANY_WORLDS: ensemble.factory("network", **net, n_virtual=n_virtual),
        DRAWN: ensemble.factory("network with rescaling", **net, n_virtual=n_virtual),
        UNDRAWN: ensemble.factory("without rescaling", **net, n_virtual=n_virtual),
        "blend, no virtual towers": ensemble.factory("ensemble", **net, n_virtual=0),
    }


def _few(epochs: int | None, device: str) -> Mapping[str, Factory]:
    """Ours and what it is held against, for further protocols."""
    every = _benchmark(epochs, device)
    return {name: every[name] for name in (OURS, MANY_WORLDS, STRONG, "climatology")}


def _blind(epochs: int | None, device: str) -> Mapping[str, Factory]:
    """Ours and what it is held against, at towers without satellites."""
    every = _benchmark(epochs, device)
    blend = every[UNDRAWN]()
    parts = [WithoutSatellites(part) for part in blend.parts]  # each is kept, and serves for itself
    names = (MANY_WORLDS, NETWORK, PUBLISHED, STRONG)
    return {
        OURS: partial(AnnualRescaling, Blend(parts, blend.weights)),
        **{name: partial(WithoutSatellites, every[name]()) for name in names},
        "climatology": Climatology,
    }


def _directions(epochs: int | None, device: str) -> Mapping[str, Factory]:
    net: dict[str, Any] = {"recipe": _recipe(epochs), "device": device}
    n_virtual = _n_virtual(epochs)
    return {
        NETWORK: partial(TamRLModel, **net),
        ANNUAL: partial(AnnualPrior, TamRLModel(**net)),
        VIRTUAL_FIRST: _ablation(epochs, device)[ablation.VIRTUAL_FIRST],
        MANY_WORLDS: ensemble.factory("network", **net, n_virtual=n_virtual),
        DRAWN: ensemble.factory("network with rescaling", **net, n_virtual=n_virtual),
        UNDRAWN: ensemble.factory("without rescaling", **net, n_virtual=n_virtual),
        "LightGBM": Boosting,
    }


EXPERIMENTS = {
    "ablation": Experiment("ablation", _ablation, folds=5, seeds=3),
    "benchmark": Experiment("benchmark", _benchmark, folds=10, seeds=3),
    "climates": Experiment("climates", _few, folds=5, seeds=1, scheme="koppen"),
    "biomes": Experiment("biomes", _few, folds=10, seeds=1, scheme="biome"),
    "blind": Experiment("blind", _blind, folds=10, seeds=1),
    "directions": Experiment("directions", _directions, folds=10, seeds=1),
}


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
    """Compute what is missing of a campaign and return the folder of its tables.

    Parameters
    ----------
    name
        One of `EXPERIMENTS`.
    n_folds, n_seeds, epochs
        None: as the campaign says.
    every
        Take every n-th tower, for a quick look.
    only
        Names of models; none means all.
    out
        Folder of the tables; None: ``results/<name>`` for the campaign as it is, on real towers,
        else a folder below ``runs/`` that tells the settings, so that no quick look overwrites
        kept results.

    Raises
    ------
    ValueError
        For an unknown campaign or model.
    DataError, StudyError
        As `tamrl.study.comparisons.compute.run`.
    """
    campaign = _campaign(name)
    models = dict(campaign.models(epochs, device))
    for model in only:
        if model not in models:
            raise ValueError(f"{name} has no model {model!r}; it has {'; '.join(models)}")
    models = {model: models[model] for model in models if not only or model in only}
    samples = _samples(towers, every)
    source = Path("runs") / str(samples.attrs["tower_source"])
    k, members = n_folds or campaign.folds, n_seeds or campaign.seeds
    if out is None:
        as_planned = (k, members, epochs, every) == (campaign.folds, campaign.seeds, None, 1)
        parts = [name, f"{k}-folds", f"{members}-seeds"]
        parts += [f"{epochs}-epochs"] * (epochs is not None) + [f"every-{every}"] * (every > 1)
        virtual = bool(samples.attrs["virtual"])
        kept = as_planned and not virtual
        out = Path("results") / name if kept else source / "compare" / "_".join(parts)
    say(f"{name}: {len(models)} models, {k} folds, {members} seeds; tables go to {out}")
    dealt = folds(samples, k, campaign.scheme)
    run(models, samples, dealt, range(members), out, source / "cv", jobs, say)
    return Path(out)


def load_results(
    name: str,
    towers: str = "auto",
    folder: str | Path | None = None,
    recompute: bool = False,
    empty: bool = False,
    **settings: Any,
) -> Results:
    """Read a campaign's kept tables; on virtual towers, or when asked, compute it on the spot.

    ``folder`` holds the kept tables (None: ``results/<name>``); ``settings`` are those of
    `compute`. Models of the campaign that are not there are ``missing``; with ``empty`` that may be
    all of them.

    Raises
    ------
    DataError
        When the kept tables are of virtual towers but real ones are asked for, or there is none and
        ``empty`` is false; as `read`.
    """
    campaign = _campaign(name)
    virtual = towers == "virtual" or (
        towers == "auto" and bool(load_towers(towers).attrs["virtual"])
    )
    if virtual or recompute:
        return read(compute(name, towers, **settings), campaign.names)
    folder = Path(folder or kept(name))
    found = read(folder, campaign.names)
    if not found.sums.models and empty:
        return replace(found, attrs={"virtual": 0, "tower_source": "fluxnet2015"})
    if not found.sums.models:
        raise DataError(
            f"{folder} holds no table of {name}; run `tamrl compare {name}`, which takes hours, or "
            "ask for it to be computed on the spot with few towers, folds and epochs"
        )
    if found.attrs.get("virtual"):
        raise DataError(f"{folder} holds scores of virtual towers; delete it, or ask for virtual")
    return found


def kept(name: str) -> Path:
    """Folder of the kept tables: below the working folder, else in the checkout of the package."""
    here, checkout = (root / "results" / name for root in (Path(), Path(__file__).parents[3]))
    return checkout if checkout.is_dir() and not here.is_dir() else here


def _campaign(name: str) -> Experiment:
    if name not in EXPERIMENTS:
        raise ValueError(f"unknown comparison {name!r}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


def _samples(towers: str, every: int) -> Samples:
    """Load towers with all that any model reads, neighbourhoods on the grid among it."""
    daily = load_towers(towers).isel(site=slice(None, None, every))
    cube = load_grid(daily)
    samples = make_samples(daily, load_predictors(daily), cube, others=load_others(daily))
    return with_neighbourhoods(samples, cube)
