"""The ensembles of cross-validation as files of weights, and what they predict at their own towers.

The files are what `tamrl.load_pretrained` reads: the towers of a fold are predicted, adapted to and
mapped by the code and through the doors that a user has.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.evaluate.crossval import digest, ingredients, towers_of
from tamrl.evaluate.learner import Factory
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold, resplit_validation
from tamrl.shipped.pretrained import suited
from tamrl.shipped.weights_file import load, save


class FoldEnsemble(NamedTuple):
    """Weights of the members that never saw the towers ``test`` (indices into the samples)."""

    test: NDArray[np.intp]
    members: list[Path]


def fold_ensembles(
    training: Samples, make: Factory, parts: Sequence[Fold], members: int,
    folder: Path, seed: int = 0, jobs: int = 1,
) -> list[FoldEnsemble]:  # fmt: skip
    """Train the members of every fold on all its towers but those it tests; store each in a file.

    A file is named by a digest of model, data, towers and seed; what is there is not trained again.
    Early-stopping towers are those of `tamrl.evaluate.crossval.cross_validate`.
    """
    todo, out = [], []
    for part in parts:
        paths = []
        for member in range(seed, seed + members):
            fold = resplit_validation(part, training, member)
            key = digest([*ingredients(make(), training), towers_of(training, fold), member])
            paths.append(folder / f"fold-{part.name}-{member}-{key}.safetensors")
            todo.append((make, training, fold, member, paths[-1]))
        out.append(FoldEnsemble(part.test, paths))
    tasks = [task for task in todo if not task[-1].exists()]
    in_parallel(_train, tasks, jobs, "ensembles of the folds" if tasks else "")
    return out


def _train(make: Factory, training: Samples, fold: Fold, seed: int, path: Path) -> None:
    model = make().fit(training, fold.train, fold.valid, seed)
    learnt = training.select(np.concatenate([fold.train, fold.valid]))
    path.parent.mkdir(parents=True, exist_ok=True)
    save([model], path, learnt, seed=seed, towers=len(learnt.site), fold=fold.name)


def predict_held_out(
    samples: Samples, ensembles: Sequence[FoldEnsemble], jobs: int = 1
) -> xr.Dataset:
    """GPP, RECO, NEE (seed, site, time), gC m-2 d-1, of every tower by members without it."""
    tasks = [(samples.select(each.test), each.members) for each in ensembles]
    towers = np.concatenate([each.test for each in ensembles])
    flux = np.concatenate(in_parallel(_predict, tasks, jobs), 1)
    axes = {"seed": range(len(flux)), "site": samples.site[towers]}
    axes["time"] = samples.time.astype("M8[ns]")
    fields = {f: ([*axes], flux[..., k]) for k, f in enumerate(FLUXES)}
    return xr.Dataset(fields, axes).reindex(site=samples.site[np.sort(towers)])


def _predict(samples: Samples, members: Sequence[Path]) -> NDArray[np.float32]:
    """Predict all towers of samples by each member (member, site, time, flux)."""
    out = []
    for path in members:
        (model,), header = load(path, "cpu")
        given = suited(samples, header)
        out.append(model.predict(given, np.arange(len(given.site))))
    return np.stack(out)
