"""The ensembles of the folds, for all comparisons that ask them: the same towers and members."""

from pathlib import Path
from typing import NamedTuple

from tamrl.model.train import Recipe
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import folds
from tamrl.shipped import ensemble
from tamrl.shipped.out_of_fold import FoldEnsemble, fold_ensembles
from tamrl.sources import load_training


class OfFolds(NamedTuple):
    """Towers to score, the ensembles that never saw them, and where results go."""

    samples: Samples
    ensembles: list[FoldEnsemble]
    source: Path  # below which this run's own files lie
    folder: Path  # of the tables


def of_folds(
    name: str, towers: str = "auto", out: Path | None = None, every: int = 1, n_folds: int = 10,
    members: int = 3, epochs: int | None = None, jobs: int = 2, device: str = "cpu",
) -> OfFolds:  # fmt: skip
    """Train the ensembles of the folds, or find them stored.

    ``every`` n-th tower and ``epochs`` are for a quick look, with the network of the ensemble
    alone; tables then go below ``runs/``, as on virtual towers, else to ``results/`` + ``name``.
    """
    samples, training = load_training(towers, every)
    quick = epochs is not None or every > 1 or bool(samples.attrs["virtual"])
    source = Path("runs") / str(samples.attrs["tower_source"])
    make = ensemble.factory(device=device)
    if epochs is not None:
        make = ensemble.factory("network", Recipe(epochs=epochs), device, 0)
    parts = folds(samples, n_folds)
    each = fold_ensembles(training, make, parts, members, source / "folds", 0, jobs)
    folder = out or (source / name if quick else Path("results") / name)
    return OfFolds(samples, each, source, folder)
