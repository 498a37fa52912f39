"""Cross-validation as a heap of small jobs: every (model, fold, seed) is computed once and kept.

A result is named by a digest of all that decides it: the model's settings, the code it is made
of, the data, the towers of the fold and the seed. So a stopped run goes on where it was, a changed
model is computed anew, and nothing else is; nor is a model that stands in a comparison twice, alone
and as a part of a mean. Versions of libraries are not in the key.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import joblib
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from tamrl.anchor import Anchored
from tamrl.atomic import whole
from tamrl.blend import Blend
from tamrl.data.schema import VARIABLES
from tamrl.devices import settle
from tamrl.errors import DataError
from tamrl.provenance import code_version
from tamrl.splits import redeal

if TYPE_CHECKING:
    from tamrl.samples import Samples
    from tamrl.splits import Fold

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}  # idle threads must not spin


Factory = Callable[[], Any]  # makes a model with fit(samples, train, valid, seed) and predict


class Job(NamedTuple):
    """One model fitted without one fold, with one seed, and the file of its predictions."""

    model: str
    factory: Factory
    fold: Fold
    seed: int
    path: Path

    def __str__(self) -> str:
        return f"{self.model}, fold {self.fold.name}, seed {self.seed}"


Failure = tuple[Job, BaseException]


def cross_validate(
    samples: Samples,
    models: Mapping[str, Factory],
    folds: Sequence[Fold],
    seeds: Sequence[int],
    out: Path | str,
    jobs: int = 2,
    members: bool = False,
) -> xr.Dataset:
    """Predict every tower by models that never saw it.

    Parameters
    ----------
    samples
        All towers.
    models
        Factories by name: a class, or ``functools.partial`` of one, whose instances have
        ``fit(samples, train, valid, seed)`` and ``predict(samples, sites)`` -> (site, time, flux)
        and a ``repr`` that tells their settings (as dataclasses have). With ``jobs > 1`` they must
        live in a module that a new process can import.
    folds
        No tower may be tested in two folds, or tested and trained on in one.
    seeds
        Members of the ensemble; each but 0 draws its own early-stopping towers among those of the
        fold (`tamrl.splits.redeal`), as the members that are shipped do.
    out
        Folder of the results, one file a job, used again by the next call.
    jobs
        Processes side by side, one thread each, GPUs dealt out in turn where models ask for cuda;
        1 stays in this process with its own threads.
    members
        Keep the members (dim ``seed``) instead of their mean.

    Returns
    -------
    Dataset with the samples' targets (model, [seed,] site, time), gC m-2 d-1, NaN where a tower is
    in no fold or a driver is missing; coordinate ``seconds`` (model): time of computing.

    Raises
    ------
    DataError
        If folds overlap, a model's ``repr`` hides its settings, or a kept file cannot be read.
    RuntimeError
        If jobs failed; what the others computed is kept.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _check(folds, samples)
    todo = plan(samples, models, folds, seeds, out)
    waiting = [job for job in todo if not job.path.exists()]
    with tqdm(total=len(todo), initial=len(todo) - len(waiting), desc="cross-validation") as bar:
        failed = _in_turn(samples, waiting, bar) if jobs == 1 else []
        if jobs > 1 and waiting:
            failed = _side_by_side(samples, waiting, jobs, bar)
    if failed:
        job, error = failed[0]
        raise RuntimeError(
            f"{len(failed)} of {len(waiting)} jobs failed, the first: {job}: "
            f"{type(error).__name__}: {error}; run again to compute only these"
        ) from error
    return _gather(samples, list(models), seeds, todo, members)


def _check(folds: Sequence[Fold], samples: Samples) -> None:
    tested = np.concatenate([fold.test for fold in folds])
    twice = np.flatnonzero(np.bincount(tested, minlength=len(samples.site)) > 1)
    if twice.size:
        raise DataError(
            f"tower {samples.site[twice[0]]} is tested in two folds; make them disjoint"
        )
    for fold in folds:
        leak = np.intersect1d(np.concatenate([fold.train, fold.valid]), fold.test)
        if leak.size:
            raise DataError(
                f"fold {fold.name}: tower {samples.site[leak[0]]} is trained on and tested"
            )


def plan(
    samples: Samples,
    models: Mapping[str, Factory],
    folds: Sequence[Fold],
    seeds: Sequence[int],
    out: Path,
) -> list[Job]:
    """List all jobs with the files that hold, or will hold, their results."""
    todo = []
    for name, factory in models.items():
        for fold in folds:
            for seed in seeds:
                slug = re.sub(r"[^\w.+-]+", "_", f"{name}-{fold.name}-{seed}")
                dealt = redeal(fold, samples, int(seed))
                key = _key(name, factory(), samples, dealt, int(seed))
                todo.append(Job(name, factory, dealt, int(seed), out / f"{slug}-{key}.npz"))
    return todo


def _key(name: str, model: Any, samples: Samples, fold: Fold, seed: int) -> str:
    """Digest of all that decides the predictions of one model, fold and seed."""
    settings = repr(model)
    if re.search(r" at 0x[0-9a-f]+", settings):
        raise DataError(
            f"model {name}: {settings} does not tell its settings, so that results cannot be "
            "told apart; make it a dataclass or give it a __repr__"
        )
    data = [samples.fingerprint(), str(samples.time[[0, -1]]), samples.table.to_csv()]
    towers = [samples.site[np.asarray(t)].tolist() for t in (fold.train, fold.valid, fold.test)]
    text = json.dumps([settings, code_version(type(model)), data, towers, seed])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _compute(job: Job, samples: Samples) -> None:
    """Fit, predict, and keep the predictions (test tower, time, flux); the file appears whole."""
    start = time.perf_counter()
    model = job.factory()
    if isinstance(model, Blend) and model.weights is not None:  # of what is kept of its parts
        kept = [_part(part, job, samples) for part in model.parts]
        flux, spent = model.mean([flux for flux, _ in kept]), sum(each for _, each in kept)
    elif isinstance(model, Anchored):  # likewise: the model that is drawn stays as it was
        flux, spent = _part(model.model, job, samples)
        drawn = replace(model, model=_Kept(flux))
        drawn.fit(samples, job.fold.train, job.fold.valid, job.seed)
        flux = drawn.predict(samples, job.fold.test)
    else:
        model.fit(samples, job.fold.train, job.fold.valid, job.seed)
        flux, spent = model.predict(samples, job.fold.test), 0.0
    flux = np.asarray(flux, np.float32)
    expected = (len(job.fold.test), len(samples.time), len(samples.targets))
    if flux.shape != expected:
        raise DataError(f"{job}: predict gave shape {flux.shape}, expected {expected}")
    with whole(job.path) as part, part.open("wb") as file:
        np.savez_compressed(file, flux=flux, seconds=time.perf_counter() - start + spent)


@dataclass
class _Kept:
    """A model of which no more is left than what it predicted at the tested towers."""

    flux: NDArray

    def fit(self, *_: Any) -> _Kept:
        return self

    def predict(self, *_: Any) -> NDArray:
        return self.flux


def _part(model: Any, job: Job, samples: Samples) -> tuple[NDArray, float]:
    """Predictions of a part of a mean and what they took before; computed where none are kept."""
    key = _key(f"{job.model}, a part of it", model, samples, job.fold, job.seed)
    found = next(job.path.parent.glob(f"*-{key}.npz"), None)
    if found is not None:
        return _read(found)
    path = job.path.with_name(f"part_of_{job.path.name.rsplit('-', 1)[0]}-{key}.npz")
    _compute(job._replace(factory=partial(deepcopy, model), path=path), samples)
    return _read(path)[0], 0.0  # what it took lies within the time of the whole


def _read(path: Path) -> tuple[NDArray, float]:
    """Read kept predictions and the seconds that they took."""
    try:
        with np.load(path) as kept:
            return kept["flux"], float(kept["seconds"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it, run again") from error


def _in_turn(samples: Samples, waiting: list[Job], bar: tqdm) -> list[Failure]:
    failed: list[Failure] = []
    for job in waiting:
        bar.set_postfix_str(str(job))
        try:
            _compute(job, samples)
        except Exception as error:  # whatever a model raises: the others go on
            failed.append((job, error))
        bar.update()
    return failed


_shared: Samples  # of a worker process


def _start(path: str, started: Any) -> None:
    """Give a worker the samples: arrays mapped from one file, in memory once for all workers."""
    global _shared
    with started.get_lock():
        settle(started.value)  # the GPU, where there are several
        started.value += 1
    _shared = joblib.load(path, mmap_mode="c")  # copy on write: nobody changes another's data


def _work(job: Job) -> None:
    _compute(job, _shared)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that new processes read when they start."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _side_by_side(samples: Samples, waiting: list[Job], jobs: int, bar: tqdm) -> list[Failure]:
    failed: list[Failure] = []
    for job in waiting:
        try:
            pickle.dumps(job.factory)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise DataError(
                f"model {job.model}: other processes cannot be sent {job.factory!r}; give a class "
                "or functools.partial of one instead of a lambda, or use jobs=1"
            ) from error
    with (
        tempfile.TemporaryDirectory(prefix=".samples-", dir=waiting[0].path.parent) as folder,
        _environment(ONE_THREAD),
    ):
        path = str(Path(folder) / "samples.joblib")
        joblib.dump(samples, path)
        spawn = multiprocessing.get_context("spawn")  # a fork would copy locked threads
        pool = ProcessPoolExecutor(
            min(jobs, len(waiting)), spawn, _start, (path, spawn.Value("i", 0))
        )
        try:
            running = {pool.submit(_work, job): job for job in waiting}
            for future in as_completed(running):
                job = running[future]
                if (trouble := future.exception()) is not None:
                    failed.append((job, trouble))
                bar.set_postfix_str(str(job))
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
    return failed


def _attrs(name: str) -> dict[str, str]:
    """CF attributes of a flux; a further gas has the unit of its labels and no name here."""
    return VARIABLES[name].attrs if name in VARIABLES else {}


def _gather(
    samples: Samples, models: list[str], seeds: Sequence[int], done: list[Job], members: bool
) -> xr.Dataset:
    """Read all results into one Dataset, the mean over seeds or every member."""
    depth = len(seeds) if members else 1
    shape = (len(samples.targets), len(models), depth, len(samples.site), len(samples.time))
    flux = np.full(shape, np.nan, np.float32)
    seconds = dict.fromkeys(models, 0.0)
    for job in done:
        values, spent = _read(job.path)
        seconds[job.model] += spent
        at = flux[:, models.index(job.model), seeds.index(job.seed) if members else 0]
        part = np.moveaxis(values, -1, 0)
        if members or job.seed == seeds[0]:
            at[:, job.fold.test] = 0
        at[:, job.fold.test] += part / np.float32(1 if members else len(seeds))
    dims = ("model", "seed", "site", "time") if members else ("model", "site", "time")
    ds = xr.Dataset(
        {
            name: (dims, flux[k] if members else flux[k][:, 0], _attrs(name))
            for k, name in enumerate(samples.targets)
        },
        {
            "model": models,
            "site": samples.site,
            "time": samples.time.astype("datetime64[ns]"),
            "seconds": ("model", list(seconds.values()), {"units": "s"}),
        },
        {"title": "Predictions for towers that the model was not trained on"},
    )
    return ds.assign_coords(seed=list(seeds)) if members else ds
