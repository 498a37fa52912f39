"""One pool of workers for folds, seeds, members and folds of maps: one thread and one GPU each."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import joblib
from tqdm import tqdm

VISIBLE = "CUDA_VISIBLE_DEVICES"


def in_parallel(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], jobs: int = 1,
    progress: str = "", keep_going: bool = False,
) -> list[Any]:  # fmt: skip
    """Call ``function(*task)`` for every task and return the results in the order of the tasks.

    ``jobs`` processes run side by side, one thread each, GPUs in turn; 1 stays in this process with
    its own threads. Large arrays among the arguments are mapped from one file, in memory once for
    all workers; what one of them changes does not reach another. ``progress`` labels a progress bar
    (none if empty). An exception is raised at once, or, if ``keep_going``, is the task's result.
    """
    if not tasks:
        return []
    alone = (jobs := min(jobs, len(tasks))) == 1
    if not alone:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads must not spin
    results: list[Any] = [None] * len(tasks)
    threads = {} if alone else {"inner_max_num_threads": 1}
    with (
        joblib.parallel_config("sequential" if alone else "loky", **threads),
        tqdm(total=len(tasks), desc=progress, disable=not progress) as bar,
    ):
        order, call = "generator_unordered", joblib.delayed(_call)
        pool = joblib.Parallel(jobs, return_as=order, mmap_mode="c")
        for i, result in pool(call(i, not alone, function, task) for i, task in enumerate(tasks)):
            if isinstance(result, Exception) and not keep_going:
                raise result
            results[i] = result
            bar.update()
    return results


def _call(index: int, pinned: bool, function: Any, task: tuple[Any, ...]) -> tuple[int, Any]:
    if pinned:
        pin_gpu(index)
    try:
        return index, function(*task)
    except Exception as error:  # whatever a task raises: the caller decides
        return index, error


def own_gpu(worker: int, count: int, visible: str | None = None) -> str | None:
    """Name the GPU of a worker (a number from 0): workers take the ``count`` GPUs in turn.

    ``visible`` names those that may be used, with commas (None: all). None if there is no choice.
    """
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    return names[worker % len(names)] if count > 1 else None


def pin_gpu(worker: int) -> None:
    """Let this process see one GPU, as ``cuda``; without effect once a GPU is in use."""
    import torch  # workers without networks need not load it

    gpu = own_gpu(worker, torch.cuda.device_count(), os.environ.get(VISIBLE))
    if gpu is not None:
        os.environ[VISIBLE] = gpu
