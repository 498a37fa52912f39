"""Products of matrices in 32 or 16 bits; weights, states of the optimiser and losses stay in 32."""

from __future__ import annotations

import platform

import torch

PRECISIONS = ("fp32", "bf16")


def products(device: torch.device, precision: str) -> torch.autocast:
    """Context in which the network multiplies matrices in ``precision``: fp32 or bf16.

    Raises
    ------
    ValueError
        For another name; for bf16 on a processor whose LSTM cannot be computed in it.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        raise ValueError(
            "precision 'bf16': this processor lacks AVX-512, without which torch has no LSTM in 16 "
            "bits; choose fp32"
        )
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def cpu_has_bf16() -> bool:
    """Tell whether torch computes an LSTM in bf16 on this processor."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return not x86 or torch.backends.cpu.get_cpu_capability().startswith("AVX512")
