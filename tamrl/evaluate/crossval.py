"""Cross-validation as many small jobs: every (model, fold, seed) is computed once and stored.

A result is named by a digest of all that decides it: the model's settings and declared versions,
the data, the towers of the fold and the seed, not versions of libraries. So a stopped run goes on
where it was, and a model compared alone and as a part of an ensemble is fitted once.
"""

import hashlib
import json
import re
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from tamrl.data.schema import VARIABLES
from tamrl.errors import DataError, StudyError
from tamrl.evaluate.learner import Factory, Fluxes, Wrapper, versions
from tamrl.files import atomic_write
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold, resplit_validation

PACKED = (zipfile.BadZipFile, zlib.error)  # faults of what is compressed


class Job(NamedTuple):
    """One model fitted without one fold, with one seed, and the file of its predictions."""

    model: str
    factory: Factory
    fold: Fold
    seed: int
    path: Path


def cross_validate(
    samples: Samples, models: Mapping[str, Factory], folds: Sequence[Fold], seeds: Sequence[int],
    out: Path | str, jobs: int = 2, members: bool = False,
) -> xr.Dataset:  # fmt: skip
    """Predict every tower by models that never saw it.

    ``models`` are factories by name, a class or ``functools.partial`` of one, of learners
    (`tamrl.evaluate.learner.Learner`). ``seeds``: members of the ensemble; each but 0 draws its own
    early-stopping towers among those of the fold, as the members that are shipped do. ``out``:
    folder of the results, one file a job, used again by the next call. ``jobs`` as for
    `tamrl.parallel.in_parallel`. ``members``: return these (dim ``seed``), not their mean.

    Returns the samples' targets (model, [seed,] site, time), gC m-2 d-1, NaN where a tower is in no
    fold or a driver is missing; coordinate ``seconds`` (model): time of computing. DataError for a
    tower tested in two folds, or tested and trained on in one, a model that hides its settings or
    has no version, or an unreadable file; StudyError if jobs failed: what others gave is stored.
    """
    _check(folds, samples)
    todo = []
    for (name, factory), fold, seed in product(models.items(), folds, map(int, seeds)):
        split = resplit_validation(fold, samples, seed)
        slug = re.sub(r"[^\w.+-]+", "_", f"{name}-{fold.name}-{seed}")
        key = _key(factory(), samples, split, seed)
        path = _stored(Path(out), key) or Path(out) / f"{slug}-{key}.npz"
        todo.append(Job(name, factory, split, seed, path))
    tasks = [(job, samples) for job in todo if not job.path.exists()]
    outcomes = in_parallel(_compute, tasks, jobs, "cross-validation" if tasks else "", True)
    failed = [(t[0], e) for t, e in zip(tasks, outcomes, strict=True) if isinstance(e, Exception)]
    if failed:
        (model, _, fold, seed, _), error = failed[0]
        first = f"{model}, fold {fold.name}, seed {seed}: {type(error).__name__}: {error}"
        text = f"{len(failed)} of {len(tasks)} jobs failed, the first: {first}"
        raise StudyError(f"{text}; run again to compute only these") from error
    return _gather(samples, list(models), list(seeds), todo, members)


def _check(folds: Sequence[Fold], samples: Samples) -> None:
    """Refuse folds that leak."""
    tower, count = np.unique(np.concatenate([fold.test for fold in folds]), return_counts=True)
    for site in samples.site[tower[count > 1]]:
        raise DataError(f"tower {site} is tested in two folds; make them disjoint")
    for fold in folds:
        known = np.concatenate([fold.train, fold.valid])
        for site in samples.site[np.intersect1d(known, fold.test)]:
            raise DataError(f"fold {fold.name}: tower {site} is trained on and tested")


def ingredients(model: Any, samples: Samples) -> list[Any]:
    """List what decides a model's predictions, but folds and seeds; DataError if it hides any."""
    settings, declared = repr(model), versions(model)
    name = type(model).__name__
    if re.search(r" at 0x[0-9a-f]+", settings):
        remedy = "make it a dataclass or give it a __repr__"
        raise DataError(f"{name}: {settings} does not give its settings; {remedy}")
    if not declared:
        remedy = "give it a class attribute: version = 1"
        raise DataError(f"{name} declares no version, by which results are named; {remedy}")
    data = [samples.fingerprint, str(samples.time[[0, -1]]), samples.table.to_csv()]
    return [settings, declared, data]


def towers_of(samples: Samples, fold: Fold) -> list[list[str]]:
    """Names of the towers that a fold trains on, stops early on and tests."""
    return [samples.site[np.asarray(t)].tolist() for t in (fold.train, fold.valid, fold.test)]


def digest(parts: list[Any]) -> str:
    """16 hexadecimal digits of what can be written as JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _key(model: Any, samples: Samples, fold: Fold, seed: int) -> str:
    """Digest of all that decides the predictions of one model, fold and seed."""
    return digest([*ingredients(model, samples), towers_of(samples, fold), seed])


def _compute(job: Job, samples: Samples) -> None:
    """Fit, predict, and store the predictions (test tower, time, flux)."""
    start, spent = time.perf_counter(), 0.0
    model, fold = job.factory(), job.fold
    if isinstance(model, Wrapper) and not model.alters_samples:
        model.learn(samples, fold.train, fold.valid, job.seed)
        stored = [_part(part, job, samples) for part in model.parts]
        flux = model.combine(samples, fold.test, [flux for flux, _ in stored])
        spent = sum(seconds for _, seconds in stored)
    else:
        model.fit(samples, fold.train, fold.valid, job.seed)
        flux = model.predict(samples, fold.test)
    flux = np.asarray(flux, np.float32)
    expected = (len(fold.test), len(samples.time), len(samples.targets))
    if flux.shape != expected:
        raise DataError(f"{job.model}: predict gave shape {flux.shape}, expected {expected}")
    with atomic_write(job.path) as part, part.open("wb") as file:
        np.savez_compressed(file, flux=flux, seconds=time.perf_counter() - start + spent)


def _part(model: Any, job: Job, samples: Samples) -> tuple[Fluxes, float]:
    """Predictions of a part and what they took before; computed where none are stored."""
    key = _key(model, samples, job.fold, job.seed)
    if (stored := _stored(job.path.parent, key)) is not None:
        return _read(stored)
    path = job.path.with_name(f"part_of_{job.path.name.rsplit('-', 1)[0]}-{key}.npz")
    _compute(job._replace(factory=partial(deepcopy, model), path=path), samples)
    return _read(path)[0], 0.0  # what it took lies within the time of the whole


def _stored(folder: Path, key: str) -> Path | None:
    """Find predictions of a key, under whatever name: of a model alone, or as a part."""
    return next(folder.glob(f"*-{key}.npz"), None)


def _read(path: Path) -> tuple[Fluxes, float]:
    """Read stored predictions and the seconds that they took."""
    try:
        with np.load(path) as stored:
            return stored["flux"], float(stored["seconds"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, *PACKED) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it, run again") from error


def _gather(
    samples: Samples, models: list[str], seeds: list[int], done: list[Job], members: bool
) -> xr.Dataset:
    """Read all results into one Dataset, the mean over seeds or every member."""
    axis_seeds = seeds if members else seeds[:1]
    axes = samples.targets, models, axis_seeds, samples.site, samples.time
    flux = np.full([len(axis) for axis in axes], np.nan, np.float32)
    seconds = dict.fromkeys(models, 0.0)
    share = np.float32(1 if members else len(seeds))
    for job in done:
        values, spent = _read(job.path)
        if values.shape != (len(job.fold.test), *flux.shape[-1:], len(flux)):
            what = f"{job.path}: predictions of shape {values.shape}"
            raise DataError(f"{what} are not those of its fold; delete it, run again")
        seconds[job.model] += spent
        at = flux[:, models.index(job.model), seeds.index(job.seed) if members else 0]
        if job.seed in axis_seeds:
            at[:, job.fold.test] = 0
        at[:, job.fold.test] += np.moveaxis(values, -1, 0) / share
    dims = {"model": models, "seed": axis_seeds, "site": samples.site}
    dims["time"] = samples.time.astype("M8[ns]")
    named = zip(samples.targets, flux, strict=True)
    ds = xr.Dataset(  # a further gas has the unit of its labels and no attributes here
        {k: ([*dims], v, VARIABLES[k].attrs if k in VARIABLES else {}) for k, v in named},
        dims | {"seconds": ("model", list(seconds.values()), {"units": "s"})},
        {"title": "Predictions for towers that the model was not trained on"},
    )
    return ds if members else ds.isel(seed=0, drop=True)
