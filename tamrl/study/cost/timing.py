"""How fast a piece of work is, beside what the same core multiplies in the same minutes.

Machines that are shared drift, so that a rate means something only beside the rate of a plain
product of matrices (gemm) taken in the same run. Every repetition is preceded and followed by one;
the best repetition stands against the best gemm. Work is counted, not estimated: PyTorch's own
counter goes over the operations (`flops`).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tamrl import __version__
from tamrl.errors import DataError
from tamrl.files import atomic_write

FORMAT = 1  # of the file; raise it when what a column means changes
GEMM = {"cpu": 1024, "cuda": 8192}  # rows and columns of the matrices that are multiplied
BF16_FLAGS = ("avx512_bf16", "amx_bf16")  # instructions that multiply bf16
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# What operations of PyTorch are about, by how their names begin.
KINDS: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("mkldnn_rnn_layer", "lstm"),
    "other products of matrices": ("mm", "addmm", "bmm", "baddbmm", "matmul"),
    "dropout's draws": ("random_", "bernoulli_", "bitwise_and", "lt"),
    "gathering and copying": (
        "index", "_index_put", "copy_", "cat", "clone", "fill_", "zero_", "stack", "_to_copy",
    ),
    "optimiser": ("Optimizer", "_fused_adamw", "_foreach", "lerp_", "linalg_vector_norm"),
    "products, sums and functions of elements": (
        "mul", "add", "sub", "div", "sum", "silu", "softplus", "sigmoid", "tanh", "pow", "where",
        "any", "clamp", "square",
    ),
}  # fmt: skip

Row = dict[str, Any]


def gemm(precision: str = "fp32", repeat: int = 3, device: str = "cpu") -> float:
    """Rate of a product of square matrices in GFLOP/s, the best of ``repeat``, at fp32 or bf16."""
    n = GEMM[device]
    a, b = (torch.randn(n, n, dtype=TYPES[precision], device=device) for _ in range(2))
    return 2e-9 * n**3 / min(seconds(lambda: a @ b, device) for _ in range(repeat))


def seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of wall clock that one call takes, the GPU's part of it too, or that it tells."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    told = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return told if isinstance(told, float) else time.perf_counter() - start


def measure(
    work: Callable[[], float | None], days: int, per_day: float, precision: str, repeat: int = 5,
    device: str = "cpu",
) -> Row:  # fmt: skip
    """Time ``work`` beside gemm, after one call to warm up.

    Parameters
    ----------
    work
        One repetition; it may return the seconds that count, where not all do.
    days
        Tower-days that one repetition deals with.
    per_day
        Floating-point operations of a tower-day; 0 where the work is not arithmetic.
    precision
        fp32 or bf16: the gemm that the work is held against.
    device
        cpu or cuda, of work and gemm.

    Returns
    -------
    Row with ``days``, ``seconds`` (best), ``rate`` (tower-days/s), ``sgemm`` and ``gemm`` (GFLOP/s
    at fp32 and at ``precision``), ``per_gflop`` (tower-days for each 1e9 operations that the device
    could have done as sgemm), ``fraction`` (of gemm, NaN without arithmetic).
    """
    work()
    took, fp32, own = [], [gemm(device=device)], [gemm(precision, device=device)]
    for _ in range(repeat):
        took.append(seconds(work, device))
        fp32.append(gemm(device=device))
        own.append(gemm(precision, device=device))
    rate = days / min(took)
    return {
        "precision": precision, "days": int(days), "seconds": min(took), "rate": rate,
        "sgemm": max(fp32), "gemm": max(own), "per_gflop": rate / max(fp32),
        "fraction": rate * per_day * 1e-9 / max(own) if per_day else float("nan"),
    }  # fmt: skip


def flops(work: Callable[[], object]) -> int:
    """Count the floating-point operations of ``work``: products of matrices and convolutions.

    oneDNN's LSTM is one opaque operation, so that it is taken apart for the count.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # of Intel GPUs: not our question
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            work()
    return int(counter.get_total_flops())


def shares(work: Callable[[], object]) -> dict[str, float]:
    """Tell what the time of ``work`` goes to: the share of each of `KINDS`, and of all the rest.

    Of the time inside PyTorch's operations, each counted without those that it calls.
    """
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        work()
    spent = dict.fromkeys([*KINDS, "rest"], 0.0)
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::")
        kind = next((k for k, starts in KINDS.items() if name.startswith(starts)), "rest")
        spent[kind] += event.self_cpu_time_total
    total = sum(spent.values())
    return {kind: value / total for kind, value in spent.items()}


def peak_memory() -> float:
    """Largest resident memory of this process so far, GB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held before this process began
        peak = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def apart(work: Callable[..., Row], *args: Any) -> Row:
    """Call ``work`` in a process of its own, with one thread; add its peak memory (``peak_gb``).

    Raises
    ------
    Whatever ``work`` raises.
    """
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(1, torch.set_num_threads, (1,))
    try:
        return pool.apply(_with_peak, (work, args))
    finally:
        pool.close()  # the process ends by itself and tidies up, which terminating would prevent
        pool.join()


def _with_peak(work: Callable[..., Row], args: tuple[Any, ...]) -> Row:
    row = work(*args)
    return {**row, "peak_gb": peak_memory()}


def machine() -> dict[str, Any]:
    """Tell processor, cores, memory, whether bf16 has instructions, versions; no name of a host."""
    model, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        facts = {name.strip(): value.strip() for name, value in lines.items()}
        model, flags = facts.get("model name", model), facts.get("flags", "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory, 1),
        "simd": torch.backends.cpu.get_cpu_capability(),
        "bf16": [flag for flag in BF16_FLAGS if flag in flags.split()],
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}", "libc": platform.libc_ver()[0],
        "python": platform.python_version(), "torch": str(torch.__version__),
        "numpy": np.__version__, "tamrl": __version__,
    }  # fmt: skip


def write(path: Path | str, content: Mapping[str, Any]) -> None:
    """Keep measurements as JSON, rows rounded to four digits; the file appears whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as part:
        part.write_text(json.dumps({"format": FORMAT, **_rounded(content)}, indent=1) + "\n")


def read(path: Path | str) -> dict[str, Any]:
    """Read what `write` kept.

    Raises
    ------
    DataError
        Where the file is missing, is not JSON or has another format.
    """
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no measurements ({error}); make them with: make bench") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path}: not in format {FORMAT}; measure again with: make bench")
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    if isinstance(value, float):
        return None if np.isnan(value) else float(f"{value:.4g}")
    return value
