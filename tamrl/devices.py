"""Which GPU a process works on: folds, seeds and members are trained side by side."""

from __future__ import annotations

import os

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"


def own_gpu(worker: int, count: int, visible: str | None = None) -> str | None:
    """Name the GPU of the worker with this number: GPUs are dealt out in turn.

    Parameters
    ----------
    worker
        Number of the process, from 0.
    count
        GPUs that there are.
    visible
        Names of those that may be used, separated by commas; None: all, by number.

    Returns
    -------
    Name of one, or None where there is no choice: without GPUs, or with a single one.

    >>> [own_gpu(worker, 2) for worker in range(4)]
    ['0', '1', '0', '1']
    """
    if count < 2:
        return None
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    return names[worker % len(names)]


def settle(worker: int) -> None:
    """Let this process see its own GPU alone, as ``cuda``; call it before anything uses one."""
    own = own_gpu(worker, torch.cuda.device_count(), os.environ.get(VISIBLE))
    if own is not None:
        os.environ[VISIBLE] = own
