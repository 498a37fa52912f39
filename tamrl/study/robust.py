"""Losses for unseen domains, each tower's window being one: tried, and not in the package.

Run as ``python -m tamrl.study.robust``: it adds three networks, one member a fold, to
``results/steps``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from tamrl.model import loss
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import folds
from tamrl.sources import load_training
from tamrl.study.comparisons.compute import run

PLAIN = loss.data


def windows(pred: Tensor, y: Tensor, weight: Tensor, sd: Tensor) -> Tensor:
    """Loss of each window that has a label (window,)."""
    known = torch.isfinite(y)
    error = torch.where(known, pred - torch.nan_to_num(y), 0) / sd
    w = weight.unsqueeze(-1) * known
    on = w.sum((1, 2)) > 0
    return (error.square() * w).sum((1, 2))[on] / w.sum((1, 2))[on]


def rex(*args: Tensor) -> Tensor:
    """V-REx (Krueger et al. 2021, arXiv:2003.00688): mean, and variance between windows."""
    each = windows(*args)
    return PLAIN(*args) + (each.var(correction=0) if len(each) else 0)


def tilted(*args: Tensor) -> Tensor:
    """Tilted risk (Li et al. 2021, arXiv:2007.01162), a smooth GroupDRO, tilt 1."""
    each = windows(*args)
    return torch.logsumexp(each, 0) - torch.tensor(float(max(len(each), 1))).log()


@dataclass
class Robust(TamRLModel):
    """TAM-RL with another loss of the data."""

    version: ClassVar[int] = 1
    kind_of_loss: str = "rex"

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        losses: dict[str, Callable[..., Tensor]] = {"rex": rex, "tilted": tilted}
        loss.data = losses[self.kind_of_loss]  # type: ignore[assignment]
        try:
            return super().fit(samples, train, valid, seed)
        finally:
            loss.data = PLAIN


def main() -> None:
    from functools import partial

    samples, taught = load_training("fluxnet2015")
    models = {"TAM-RL": TamRLModel, "TAM-RL, V-REx": partial(Robust, kind_of_loss="rex"),
              "TAM-RL, tilted risk": partial(Robust, kind_of_loss="tilted")}
    run(models, samples, folds(samples, 10), (0,), "results/steps", "runs/fluxnet2015/cv", 2, print, taught)


if __name__ == "__main__":
    main()
