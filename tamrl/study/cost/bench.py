"""`make bench`: how fast samples are built, networks trained and fluxes predicted on one core.

Shared machines drift, so each rate stands beside that of a product of matrices (gemm) on the same
core in the same minutes. Every stage goes through the study's code, in a process of its own with
one thread. Training counts labelled tower-days of an epoch once, however many windows cross them.
The file names the processor, and neither its host nor folders.
"""

import json
import os
import platform
import re
import resource
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from tamrl.files import atomic_write
from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import STEPS, DeviceData, set_scale
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples, windows
from tamrl.sources import load_grid, load_others, load_predictors, load_samples, load_towers
from tamrl.study.cost.tables import EXACT, FORMAT, SIZE, STREAM, TRAIN, read_file

AUTHORS = {"hidden": 128, "latent": 64, "layers": 2}  # with 32 windows a step
SIZES: dict[str, dict[str, Any]] = {"hidden 64, 1 layer": {}, SIZE: AUTHORS}
EXACT_DAYS, EXACT_TOWERS = 150, 2  # days of a window; towers of short record, for exact prediction
EPOCHS = 3  # timed, of which the fastest counts
GEMM = 1024  # rows and columns of the matrices that are multiplied
Row = dict[str, Any]


class _Timed(TamRLModel):
    """TAM-RL that notes the seconds of its epochs, without the prediction that scores each."""

    spent: tuple[float, ...] = ()

    def _epoch(self, *args: Any) -> dict[str, float]:
        start = time.perf_counter()
        terms = super()._epoch(*args)
        self.spent += (time.perf_counter() - start,)
        return terms


def _seconds(work: Callable[[], object]) -> float:
    return Timer("work()", globals={"work": work}).timeit(1).median


def gemm(precision: str = "fp32") -> float:
    """Rate of a product of square matrices, GFLOP/s."""
    a, b = torch.randn(2, GEMM, GEMM).to(torch.float32 if precision == "fp32" else torch.bfloat16)
    timer = Timer("a @ b", globals={"a": a, "b": b})
    return 2e-9 * GEMM**3 / timer.blocked_autorange(min_run_time=0.5).median


def flops(work: Callable[[], object]) -> int:
    """Count the floating-point operations of products of matrices and convolutions.

    oneDNN's LSTM, one opaque operation, is taken apart for it; a warning of Intel GPUs is left out.
    """
    plain, counter = torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False)
    with warnings.catch_warnings(action="ignore"), plain, counter:
        work()
    return int(counter.get_total_flops())


def rate(days: float, seconds: float, per_day: float, precision: str, before: float) -> Row:
    """Rates of a stage (tower-days/s of ``per_day`` operations each), beside gemm (GFLOP/s).

    ``per_gflop`` is tower-days for each 1e9 operations that the core could have done as fp32 gemm
    (before or after the stage), ``fraction`` the share of gemm that the stage reached.
    """
    sgemm, each = max(before, gemm()), days / seconds
    peak = sgemm if precision == "fp32" else gemm(precision)
    fraction = each * per_day * 1e-9 / peak if per_day else float("nan")
    return {"precision": precision, "days": round(days), "seconds": seconds, "rate": each,
            "sgemm": sgemm, "gemm": peak, "per_gflop": each / sgemm,
            "fraction": fraction}  # fmt: skip


def build(source: str) -> Row:
    """Time the making of samples from the daily Dataset of all towers."""
    before, towers = gemm(), load_towers(source)
    data = (towers, load_predictors(towers), load_grid(towers))
    make = partial(make_samples, *data, others=load_others(towers))
    row = rate(int(make().has_drivers.sum()), _seconds(make), 0, "fp32", before)
    return {"stage": "days to samples", "towers": towers.sizes["site"], **row}


def train(source: str, size: str, precision: str) -> Row:
    """Time epochs of training on all towers but the last few, which score them."""
    before, samples = gemm(), load_samples(source)
    batch = 32 if size == SIZE else Recipe().batch
    recipe = Recipe(batch=batch, precision=precision, epochs=EPOCHS)
    towers = np.arange(len(samples.site) - max(len(samples.site) // 18, 1))
    model = _Timed(dict(SIZES[size]), recipe)
    model.fit(samples, towers, np.flatnonzero((samples.weight > 0).any(1))[-1:])
    span, labelled = recipe.length - recipe.warmup, samples.weight[towers] > 0
    n = len(windows(labelled, span, span))
    used = min(max(n // batch, 1) * batch, n)  # an incomplete last batch is left out
    days = float(labelled.sum()) * used / n
    per_day = _window_flops(_network(samples, size), recipe, True) * used / days
    row = rate(days, min(model.spent), per_day, precision, before)
    return {"stage": TRAIN, "size": size, "batch": batch, "towers": len(towers), **row}


def _window_flops(net: TamRL, recipe: Recipe, training: bool) -> int:
    """Operations of a window; in training with its support set encoded, forward and backward."""
    c = net.config
    support = torch.ones(1, recipe.windows_of_support, STEPS, c.features)
    days = torch.ones(1, recipe.length, c.features)
    drivers = days, days, days[..., :2]

    def work() -> None:
        facts = net.embed_site(torch.ones(1, c.statics))
        if not training:
            net.decode(*drivers, facts, torch.ones(1, c.latent))
            return
        z, _, rebuilt = net.encode(support, support, facts)
        flux = net.decode(*drivers, facts, z, skip=recipe.warmup).flux
        (flux.sum() + (0 if rebuilt is None else rebuilt.sum())).backward()

    return flops(work)


def prediction(source: str, size: str, precision: str, exact: bool = False) -> Row:
    """Time the streaming of all towers; or, ``exact``, of few with a window of its own a day."""
    before, samples = gemm(), load_samples(source)
    known = samples.has_drivers.sum(1)
    order = np.argsort(known, kind="stable")
    sites = order[known[order] >= 2 * EXACT_DAYS][:EXACT_TOWERS] if exact else np.sort(order)
    net = _network(samples, size).eval()
    data = DeviceData(samples, net, torch.device("cpu"))
    recipe = Recipe(precision=precision, keep=int(exact), length=EXACT_DAYS)
    seconds = _seconds(lambda: TamRLModel({}, recipe).predict(samples, sites, net, data))
    with torch.inference_mode():
        per_day = _window_flops(net, recipe, False) / (1 if exact else EXACT_DAYS)
    row = rate(int(known[sites].sum()), seconds, per_day, precision, before)
    return {"stage": EXACT if exact else STREAM, "size": size, "towers": len(sites), **row}


def _network(samples: Samples, size: str) -> TamRL:
    """Make an untrained network with the scaling of all towers."""
    torch.manual_seed(0)
    net = TamRL(Config(len(samples.features), len(samples.static_names), **SIZES[size]))
    set_scale(net, samples, np.arange(len(samples.site)))
    return net


def machine() -> Row:
    """Describe the processor, its instructions (``bf16``: that multiply it), and PyTorch."""
    text = info.read_text() if (info := Path("/proc/cpuinfo")).is_file() else ""
    model = re.search(r"model name\s*: (.*)", text)
    return {"cpu": model[1] if model else platform.processor() or platform.machine(),
            "cores": os.cpu_count(), "simd": torch.backends.cpu.get_cpu_capability(),
            "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in text],
            "torch": str(torch.__version__)}  # fmt: skip


def _alone(stage: Callable[..., Row], *args: object) -> Row:
    """Run a stage in a process of its own, with one thread; add its peak memory (GB)."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        row = pool.submit(stage, *args).result()
        peak = pool.submit(resource.getrusage, resource.RUSAGE_SELF).result().ru_maxrss
    row["peak_gb"] = peak * 1024 / 1e9  # KiB on Linux
    numbers = {k: float(f"{v:.4g}") for k, v in row.items() if isinstance(v, float)}
    return {k: None if v != v else v for k, v in (row | numbers).items()}


def measure(source: str, out: Path) -> Row:
    """Time every stage, a quarter of an hour on a free machine, and write the file ``out``."""
    about, attrs = machine(), load_towers(source).attrs
    rows = [_alone(build, source)]
    for case in product([source], SIZES, ["fp32", *["bf16"] * bool(about["bf16"])]):
        rows += [_alone(train, *case), _alone(prediction, *case), _alone(prediction, *case, True)]
    content = {"format": FORMAT, "machine": about, "tower_source": attrs["tower_source"],
               "virtual": int(attrs["virtual"]), "stages": rows}  # fmt: skip
    with atomic_write(out) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
    return read_file(out)


def main(towers: str = "auto", out: Path = Path("_build/speed.json")) -> None:
    """Time every stage on ``towers`` (auto, fluxnet2015 or virtual), and print what was found."""
    for row in measure(towers, out)["stages"]:
        print(row)


if __name__ == "__main__":
    typer.run(main)
