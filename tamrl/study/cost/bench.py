"""`make bench`: all of `speed.json`, whole commands first, then the stages inside of them.

A stage goes through the study's code, in a process of its own with one thread, and is timed beside
a product of matrices (gemm) in the same minutes. Training counts labelled tower-days of an epoch
once, however many windows cross them. The file names the processor, and no host or folder.
"""

import json
import platform
import re
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from joblib import cpu_count
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from tamrl.files import atomic_write
from tamrl.model.network import Config, TamRL
from tamrl.model.tensors import STEPS, DeviceData, set_scale
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples, windows
from tamrl.sources import load_grid, load_others, load_predictors, load_samples, load_towers
from tamrl.study.cost import commands
from tamrl.study.cost.tables import FORMAT, SIZE, STREAM, TRAIN

SIZES: Any = {"hidden 64, 1 layer": {}, SIZE: {"hidden": 128, "latent": 64, "layers": 2}}
EPOCHS = 3  # timed, of which the fastest counts
GEMM = 1024  # rows and columns of the matrices that are multiplied
SOURCE = "fluxnet2015"
Row = dict[str, Any]


class _Timed(TamRLModel):
    """TAM-RL that notes the seconds of its epochs, without the prediction that scores each."""

    spent: tuple[float, ...] = ()

    def _epoch(self, *args: Any) -> dict[str, float]:
        start = time.perf_counter()
        terms = super()._epoch(*args)
        self.spent += (time.perf_counter() - start,)
        return terms


def gemm(precision: str = "fp32") -> float:
    """Rate of a product of square matrices, GFLOP/s."""
    a, b = torch.randn(2, GEMM, GEMM).to(torch.float32 if precision == "fp32" else torch.bfloat16)
    timer = Timer("a @ b", globals={"a": a, "b": b})
    return 2e-9 * GEMM**3 / min(timer.blocked_autorange(min_run_time=0.5).times)


def rate(days: float, seconds: float, per_day: float, precision: str) -> Row:
    """Rate (tower-days/s of ``per_day`` operations), gemm, and the fraction of it reached."""
    peak, each = gemm(precision), days / seconds
    fraction = each * per_day * 1e-9 / peak if per_day else None
    return {"precision": precision, "days": round(days), "seconds": seconds, "rate": each,
            "gemm": peak, "fraction": fraction}  # fmt: skip


def build() -> Row:
    """Time the making of samples from the daily Dataset of all towers."""
    towers = load_towers(SOURCE)
    data = (towers, load_predictors(towers), load_grid(towers))
    make = partial(make_samples, *data, others=load_others(towers))
    days, timer = int(make().has_drivers.sum()), Timer("make()", globals={"make": make})
    row = rate(days, timer.timeit(1).median, 0, "fp32")
    return {"stage": "days to samples", "towers": towers.sizes["site"], **row}


def train(size: str, precision: str) -> Row:
    """Time epochs of training on all towers but the last few, which score them."""
    samples = load_samples(SOURCE)
    batch = 32 if size == SIZE else Recipe().batch
    recipe = Recipe(batch=batch, precision=precision, epochs=EPOCHS)
    towers = np.arange(len(samples.site) - max(len(samples.site) // 18, 1))
    model = _Timed(dict(SIZES[size]), recipe)
    model.fit(samples, towers, np.flatnonzero((samples.weight > 0).any(1))[-1:])
    span, labelled = recipe.length - recipe.warmup, samples.weight[towers] > 0
    n = len(windows(labelled, span, span))
    used = min(max(n // batch, 1) * batch, n)  # an incomplete last batch is left out
    days = float(labelled.sum()) * used / n
    per_day = operations(_network(samples, size), recipe, True) * used / days
    row = rate(days, min(model.spent), per_day, precision)
    return {"stage": TRAIN, "size": size, "batch": batch, "towers": len(towers), **row}


def prediction(size: str, precision: str) -> Row:
    """Time the streaming of all towers."""
    samples, recipe = load_samples(SOURCE), Recipe(precision=precision)
    net, sites = _network(samples, size).eval(), np.arange(len(samples.site))
    data = DeviceData(samples, net, torch.device("cpu"))
    work = partial(TamRLModel({}, recipe).predict, samples, sites, net, data)
    seconds = Timer("work()", globals={"work": work}).timeit(1).median
    per_day = operations(net, recipe, False) / recipe.length
    row = rate(int(samples.has_drivers.sum()), seconds, per_day, precision)
    return {"stage": STREAM, "size": size, "towers": len(sites), **row}


def operations(net: TamRL, recipe: Recipe, training: bool) -> int:
    """Count operations of a window's products of matrices; in training with its support set's.

    oneDNN's LSTM, one opaque operation, is taken apart for it; a warning of Intel GPUs is left out.
    """
    c, counter = net.config, FlopCounterMode(display=False)
    support = torch.ones(1, recipe.windows_of_support, STEPS, c.features)
    days, plain = torch.ones(1, recipe.length, c.features), torch.backends.mkldnn.flags(False)
    with warnings.catch_warnings(action="ignore"), plain, counter:
        facts = net.embed_site(torch.ones(1, c.statics))
        z, _, rebuilt = net.encode(support, support, facts)
        encoded = counter.get_total_flops()
        skip = recipe.warmup if training else 0
        flux = net.decode(days, days, days[..., :2], facts, z, skip=skip).flux
        if training:
            (flux.sum() + (0 if rebuilt is None else rebuilt.sum())).backward()
    return int(counter.get_total_flops() - (0 if training else encoded))


def _network(samples: Samples, size: str) -> TamRL:
    """Make an untrained network with the scaling of all towers."""
    torch.manual_seed(0)
    net = TamRL(Config(len(samples.features), len(samples.static_names), **SIZES[size]))
    set_scale(net, samples, np.arange(len(samples.site)))
    return net


def machine() -> Row:
    """Describe the processor, its instructions (``bf16``: that multiply it), and PyTorch."""
    text = info.read_text() if (info := Path("/proc/cpuinfo")).is_file() else ""
    model = re.search(r"model name\s*: (.*)", text) or ("", platform.processor() or "unknown")
    return {"cpu": f"{model[1]} ({torch.backends.cpu.get_cpu_capability()})",
            "cores": cpu_count(), "torch": str(torch.__version__),
            "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in text]}  # fmt: skip


def measure(out: Path = Path("_build/speed.json")) -> Row:
    """Time commands and stages, ten minutes on two free cores, and write the file ``out``."""
    about, rows = machine(), commands.measure()
    alone, kinds = (get_context("spawn"), torch.set_num_threads, (1,)), ["fp32", "bf16"]
    with ProcessPoolExecutor(1, *alone, max_tasks_per_child=1) as pool:  # with one thread
        tasks = [pool.submit(build)]
        for case in product(SIZES, kinds if about["bf16"] else kinds[:1]):
            tasks += [pool.submit(train, *case), pool.submit(prediction, *case)]
        stages = [task.result() for task in tqdm(tasks, "stages")]
    content = {"format": FORMAT, "date": time.strftime("%Y-%m-%d"), "machine": about, "virtual": 0,
               "tower_source": SOURCE, "commands": rows, "stages": stages}  # fmt: skip
    text = json.dumps(content, indent=1)
    text = re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.4g}", text)
    with atomic_write(out) as part:
        part.write_text(text + "\n")
    return content


if __name__ == "__main__":
    typer.run(measure)
