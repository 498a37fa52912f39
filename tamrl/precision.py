"""Products of matrices in 32 or 16 bits; weights, states of the optimiser and losses stay in 32."""

from __future__ import annotations

import torch

PRECISIONS = ("fp32", "bf16")


def products(device: torch.device, precision: str) -> torch.autocast:
    """Context in which the network multiplies matrices in ``precision``: fp32 or bf16.

    Raises
    ------
    ValueError
        For another name.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose one of {', '.join(PRECISIONS)}")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
