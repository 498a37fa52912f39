"""What `make bench` times: half-hours, samples, training and prediction on the towers at hand.

Every stage goes through the code that the study runs, with one thread. Rates of training are
labelled tower-days a second of an epoch: a day counts once, however many windows cross it.
Networks are untrained where only time counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from tamrl.data import cache, schema, store
from tamrl.model import predict
from tamrl.model.network import Config, TamRL
from tamrl.model.predict import products
from tamrl.model.tensors import STEPS, DeviceData, set_scale
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples, windows
from tamrl.samples.splits import folds
from tamrl.shipped import ensemble
from tamrl.sources import load_grid, load_others, load_predictors, load_towers
from tamrl.study.cost import timing
from tamrl.study.cost.timing import Row, flops, measure, seconds

STORE = "fluxnet2015.zarr"
AUTHORS = {"hidden": 128, "latent": 64, "layers": 2}  # the shape at which their code was timed
AUTHORS_BATCH = 32  # windows a step there
# Shapes that are measured: the study's own, and the authors'.
SIZES: dict[str, dict[str, int]] = {"hidden 64, 1 layer": {}, "hidden 128, 2 layers": AUTHORS}
EXACT_DAYS = 150  # days of a window of the exact mode
COUNTED = 4  # windows over which operations are counted
HALF_HOURLY = 8  # towers whose half-hours are turned into days
FEW = 36  # towers of the scaling by length and by hidden size
EPOCHS = 6  # of the trainings that skill and differences are taken from


@dataclass
class _Timed(TamRLModel):
    """Notes what its epochs took, without the prediction that scores each of them."""

    spent: list[float] = field(default_factory=list)

    def _epoch(self, *args: Any) -> dict[str, float]:
        start = time.perf_counter()
        terms = super()._epoch(*args)
        self.spent.append(time.perf_counter() - start)
        return terms


@dataclass
class _Profiled(TamRLModel):
    """Notes what the time of its last epoch went to."""

    shares: dict[str, float] = field(default_factory=dict)

    def _epoch(self, *args: Any) -> dict[str, float]:
        terms: dict[str, float] = {}
        self.shares = timing.shares(lambda: terms.update(super(_Profiled, self)._epoch(*args)))
        return terms


def halfhours(n: int = HALF_HOURLY) -> Row:
    """Turn the half-hours of ``n`` towers, spread over the list, into days, on two threads."""
    facts = schema.tower_facts()
    facts = facts.iloc[np.linspace(0, len(facts) - 1, n).round().astype(int)]
    found, left_out = {}, {}

    def work() -> None:
        kept, lost = store.read_store(cache.cache_dir() / STORE, facts)
        found.update(kept)
        left_out.update(lost)

    took = seconds(work)
    days = sum(len(tower.days) for tower in found.values())
    sgemm = timing.gemm()
    return {
        "stage": "half-hours to days", "towers": len(found), "days": days, "seconds": took,
        "rate": days / took, "sgemm": sgemm, "per_gflop": days / took / sgemm,
    }  # fmt: skip


def build(source: str) -> Row:
    """Make samples of the daily Dataset of all towers."""
    towers = load_towers(source)
    read = (towers, load_predictors(towers), load_grid(towers))
    others = load_others(towers)
    made = make_samples(*read, others=others)
    n, days = len(made.site), int(made.has_drivers.sum())
    row = measure(lambda: _none(make_samples(*read, others=others)), days, 0, "fp32", 3)
    return {"stage": "days to samples", "towers": n, **row}


def _none(_: object) -> None:
    """Throw a result away: the whole call is what is timed."""


def training(
    path: str, size: dict[str, int], precision: str, repeat: int = 3, device: str = "cpu"
) -> Row:
    """Time epochs of training on all towers but the last few, which score them."""
    samples = _load(path)
    train = np.arange(len(samples.site) - max(len(samples.site) // 18, 1))
    recipe = _recipe(size, precision)
    row = _train(samples, size, recipe, train, repeat, device)
    return {"stage": "training", "towers": len(train), "batch": recipe.batch, **row}


def _recipe(size: dict[str, int], precision: str) -> Recipe:
    """Take the study's own recipe, with the authors' batch at the authors' size."""
    batch = AUTHORS_BATCH if size == AUTHORS else Recipe().batch
    return Recipe(batch=batch, precision=precision)


def _train(
    samples: Samples, size: dict[str, int], recipe: Recipe, train: NDArray, repeat: int,
    device: str = "cpu",
) -> Row:  # fmt: skip
    """Time an epoch of ``recipe`` on the towers ``train``."""
    days, used = epoch_days(samples, recipe, train)
    valid = np.setdiff1d(np.flatnonzero((samples.weight > 0).any(1)), train)[:1]

    def work() -> float:
        model = _Timed(dict(size), replace(recipe, epochs=1), device)
        model.fit(samples, train, valid)
        return model.spent[-1]

    per_day = step_flops(_net(samples, size), recipe) * used / days
    return measure(work, round(days), per_day, recipe.precision, repeat, device)


def epoch_days(samples: Samples, recipe: Recipe, train: NDArray) -> tuple[float, int]:
    """Labelled days and windows of an epoch; an incomplete last batch is left out of both."""
    span = recipe.length - recipe.warmup
    labelled = samples.weight[train] > 0
    n = len(windows(labelled, span, span))
    used = min(max(n // recipe.batch, 1) * recipe.batch, n)
    return float(labelled.sum()) * used / n, used


def step_flops(net: TamRL, recipe: Recipe) -> float:
    """Operations of one window in training: its place's support encoded, forward and backward."""
    c, n = net.config, COUNTED
    support = torch.ones(n, recipe.windows_of_support, STEPS, c.features)
    days = torch.ones(n, recipe.length, c.features)

    def work() -> None:
        facts = net.embed_site(torch.ones(n, c.statics))
        z, _, rebuilt = net.encode(support, support, facts)
        out = net.decode(days, days, days[..., :2], facts, z, skip=recipe.warmup)
        (out.flux.sum() + (0 if rebuilt is None else rebuilt.sum())).backward()

    return flops(work) / n


def day_flops(net: TamRL) -> float:
    """Operations of one day in prediction, without what is done once a place."""
    c, long = net.config, 20

    def work(days: int) -> None:
        x, facts = torch.ones(1, days, c.features), torch.ones(1, c.embed)
        net.decode(x, x, x[..., :2], facts, torch.ones(1, c.latent))

    with torch.inference_mode():
        return (flops(partial(work, long)) - flops(partial(work, long // 2))) / (long // 2)


def streaming(
    path: str, size: dict[str, int], precision: str, times: int = 1, device: str = "cpu"
) -> Row:
    """Predict all towers, each as often as ``times``, the state carried along time."""
    samples = _load(path)
    places = np.tile(np.arange(len(samples.site)), times)
    row = _stream(samples, size, precision, places, device)
    return {"stage": "prediction, streaming", "towers": len(places), **row}


def _stream(
    samples: Samples, size: dict[str, int], precision: str, sites: NDArray, device: str = "cpu"
) -> Row:
    net = _net(samples, size).eval().to(device)
    data = DeviceData(samples, net, torch.device(device))

    def work() -> None:
        with products(data.x.device, precision):
            predict.stream(net, data, samples.has_drivers, sites, Recipe().windows_of_support)

    days = int(samples.has_drivers[sites].sum())
    return measure(work, days, day_flops(_net(samples, size).eval()), precision, 3, device)


def exact(path: str, size: dict[str, int], precision: str, n: int = 2) -> Row:
    """Predict the ``n`` towers of shortest records, a window of its own for each day."""
    samples = _load(path)
    order = np.argsort(samples.has_drivers.sum(1), kind="stable")
    sites = order[samples.has_drivers.sum(1)[order] >= 2 * EXACT_DAYS][:n]
    row = _windows(samples, size, precision, sites, EXACT_DAYS, 1)
    return {"stage": "prediction, exact", "towers": len(sites), **row}


def _windows(
    samples: Samples, size: dict[str, int], precision: str, sites: NDArray, length: int, keep: int
) -> Row:
    net = _net(samples, size).eval()
    data = DeviceData(samples, net, torch.device("cpu"))
    support = Recipe().windows_of_support

    def work() -> None:
        with products(data.x.device, precision):
            predict.windowed(net, data, samples.has_drivers, sites, support, length, keep)

    days = int(samples.has_drivers[sites].sum())
    return measure(work, days, day_flops(net) * length / keep, precision, 2)


def profiled(path: str, stage: str, size: dict[str, int], precision: str) -> Row:
    """Share what the time of an epoch of training, or of a streaming prediction, goes to."""
    samples, dev = _load(path), torch.device("cpu")
    some = np.arange(min(FEW, len(samples.site) - 1))
    recipe = replace(_recipe(size, precision), epochs=2)
    if stage == "training":
        model = _Profiled(dict(size), recipe)
        model.fit(samples, some, some[:1])
        return {"shares": model.shares}
    net = _net(samples, size).eval()
    data = DeviceData(samples, net, dev)
    with products(dev, precision):
        work = partial(
            predict.stream, net, data, samples.has_drivers, some, recipe.windows_of_support
        )
        work()
        return {"shares": timing.shares(work)}


def scale(path: str, axis: str, value: int, precision: str) -> Row:
    """Time training and prediction (``rows``) at one point of an axis: towers, length, hidden."""
    samples = _load(path)
    n = value if axis == "towers" else FEW
    mixed = np.random.default_rng(0).permutation(len(samples.site))[: min(n, len(samples.site) - 1)]
    some = np.sort(mixed)
    size = {"hidden": value} if axis == "hidden" else {}
    recipe = Recipe(precision=precision, length=value if axis == "length" else Recipe().length)
    common = {"axis": axis, "value": len(some) if axis == "towers" else value}
    trained = {**common, "stage": "training", **_train(samples, size, recipe, some, 2)}
    if axis == "length":
        row = _windows(samples, size, precision, some, value, value - recipe.warmup)
        return {"rows": [trained, {**common, "stage": "prediction, windows", **row}]}
    row = _stream(samples, size, precision, some)
    return {"rows": [trained, {**common, "stage": "prediction, streaming", **row}]}


def skill(path: str, precision: str, seed: int, epochs: int = EPOCHS) -> Row:
    """Train on one fold; score streaming and exact prediction of towers that were held out.

    ``error`` is the mean over fluxes of RMSE / sd on labelled days of the test towers,
    ``error_exact`` and ``error_stream`` that of three of them by both modes, ``difference`` the
    root mean square of exact minus streaming over all their days, divided by the sd of the flux.
    """
    samples = _load(path)
    fold = folds(samples, 5, "blocked", 0)[0]
    recipe = Recipe(precision=precision, epochs=epochs)
    model = TamRLModel(recipe=recipe).fit(samples, fold.train, fold.valid, seed)
    if model.net is None:
        raise RuntimeError("fit left no network")
    data = DeviceData(samples, model.net, torch.device("cpu"))
    long = fold.test[np.argsort(samples.has_drivers[fold.test].sum(1))]
    few = long[len(long) // 2 : len(long) // 2 + 3]  # of middling length
    streamed = model.predict(samples, few)
    model.recipe = replace(recipe, length=EXACT_DAYS, keep=1)
    windowed = model.predict(samples, few)
    model.recipe = recipe
    on = samples.has_drivers[few]
    apart = ((windowed - streamed)[on] ** 2).mean(0) ** 0.5 / model.net.y_sd.numpy()
    return {
        "precision": precision, "seed": seed, "epochs": epochs, "towers": len(fold.test),
        "error": data.score(model.net, model.predict(samples, fold.test), fold.test),
        "error_stream": data.score(model.net, streamed, few),
        "error_exact": data.score(model.net, windowed, few),
        "compared_towers": len(few), "compared_days": int(on.sum()),
        "difference": float(apart.mean()),
    }  # fmt: skip


def members(path: str, n: int, jobs: int, device: str) -> Row:
    """Train ``n`` TAM-RL on all towers to their end, ``jobs`` at a time, processes started too."""
    samples = _load(path)
    make = ensemble.factory("network", device=device, n_virtual=0)
    took = seconds(lambda: _none(ensemble.train(samples, make, n, 0, jobs)), device)
    return {
        "stage": "members to the end", "towers": len(samples.site), "members": n, "jobs": jobs,
        "days": int((samples.weight > 0).sum()), "seconds": took,
    }  # fmt: skip


def _net(samples: Samples, size: dict[str, int]) -> TamRL:
    """Make an untrained network with the scaling of all towers."""
    torch.manual_seed(0)
    config: dict[str, Any] = dict(size)
    net = TamRL(Config(len(samples.features), len(samples.static_names), **config))
    set_scale(net, samples, np.arange(len(samples.site)))
    return net


def _load(path: str) -> Samples:
    made: Samples = joblib.load(path)
    return made
