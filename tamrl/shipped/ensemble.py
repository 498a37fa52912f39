"""The model that the study ships: which one it is, and how it is trained.

What won at unseen towers (`tamrl compare benchmark`) is the mean of a TAM-RL pre-trained on
simulated towers and of boosted trees by two libraries, all with a prior of annual means; closed,
and rescaled a quarter of the way to the prior.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from tamrl.evaluate.learner import Factory, walk
from tamrl.model.train import Recipe, TamRLModel
from tamrl.parallel import in_parallel
from tamrl.rivals.boosting import Boosting, XGBoost
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import blocks, validation_blocks
from tamrl.shipped.annual import AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.shipped.pretraining import SyntheticPretraining

N_VIRTUAL = 1000  # towers of a simulated data set; of three years: more than real tower-years
DATASETS = 10  # simulated data sets, each met once
# Shares of networks, LightGBM and XGBoost: half to networks, half to trees, as equal as kinds go.
SHARES = (2.0, 1.0, 1.0)
WEIGHT = 0.25  # of the prior in the annual rescaling
ALL = ("",)  # statics that stay beside the prior: those that begin with nothing, so every one
MODELS: Mapping[str, tuple[tuple[float, ...], float]] = {  # shares, weight of the rescaling
    "ensemble": (SHARES, WEIGHT),
    "without rescaling": (SHARES, 0.0),
    "half rescaled": (SHARES, 0.5),
    "equal shares": ((1.0, 1.0, 1.0), WEIGHT),
    "without network": ((0.0, 1.0, 1.0), WEIGHT),
    "without LightGBM": ((2.0, 0.0, 2.0), WEIGHT),
    "without XGBoost": ((2.0, 2.0, 0.0), WEIGHT),
    "network with rescaling": ((1.0, 0.0, 0.0), WEIGHT),
    "network": ((1.0, 0.0, 0.0), 0.0),
}


def build(model: str, recipe: Recipe | None, device: str, n_virtual: int) -> Any:
    """Make an unfitted model of a name in `MODELS`; see `factory`."""
    net: dict[str, Any] = {"recipe": recipe or Recipe(), "device": device}
    network: Any = TamRLModel(**net)
    if n_virtual > 0:
        network = SyntheticPretraining(**net, n_sites=n_virtual, datasets=DATASETS)
    every = AnnualPrior(network, ALL), AnnualPrior(Boosting()), AnnualPrior(XGBoost())
    shares, weight = MODELS[model]
    parts = [(part, share) for part, share in zip(every, shares, strict=True) if share > 0]
    learner = parts[0][0] if len(parts) == 1 else Blend(*zip(*parts, strict=True))
    return AnnualRescaling(learner, weight) if weight > 0 else learner


def factory(
    model: str = "ensemble", recipe: Recipe | None = None, device: str = "cpu",
    n_virtual: int = N_VIRTUAL,
) -> Factory:  # fmt: skip
    """Make unfitted models of a name in `MODELS`, with ``n_virtual`` simulated towers or none."""
    if model not in MODELS:
        raise ValueError(f"unknown model {model!r}; there are {', '.join(MODELS)}")
    if n_virtual == 1:
        raise ValueError("1 virtual tower leaves none to train on: at least 2, or 0 for none")
    return partial(build, model, recipe, device, n_virtual)


def ready(make: Factory) -> None:
    """Find out before an hour of training that a library is missing (DataError)."""
    for part in walk(make()):
        if isinstance(part, XGBoost):
            part.library()


def train(
    samples: Samples, make: Factory, members: int = 1, seed: int = 0, jobs: int = 1
) -> list[Any]:
    """Train members, ``jobs`` at a time, on all towers; one tower in eight stops each early."""
    ready(make)
    block, igbp, tasks = blocks(samples.table), samples.table.igbp.to_numpy(str), []
    for member in range(seed, seed + members):
        held = validation_blocks(block, igbp, member)
        tasks.append((make(), samples, np.flatnonzero(~held), np.flatnonzero(held), member))
    return in_parallel(lambda model, *data: model.fit(*data), tasks, jobs, "members")
