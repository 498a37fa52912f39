"""The loss as named, weighted terms, each in physical or standard units, each returned.

    total = data + w_b * balance + w_n * non-negativity + w_r * reconstruction + w_c * contrast

The balance is evaluated in gC m-2 d-1: scaled fluxes do not add up. It is 0 of labels that close.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as fn

from tamrl.model.network import Budget

Names = Sequence[str]
TEMPERATURE = 0.2  # of the contrast (Chen et al. 2020, arXiv 2002.05709)


def data(pred: Tensor, y: Tensor, weight: Tensor, sd: Tensor) -> Tensor:
    """Weighted squared error in units of each flux's variance, 0 where nothing is labelled.

    ``pred``, ``y`` (B, T, K) in gC m-2 d-1, NaN: no label; ``weight`` (B, T) >= 0; ``sd`` (K,).
    """
    known = torch.isfinite(y)
    error = torch.where(known, pred - torch.nan_to_num(y), 0) / sd
    w = weight.unsqueeze(-1) * known
    return (error.square() * w).sum() / w.sum().clamp(min=1e-6)


def imbalance(flux: Tensor, targets: Names, budget: Budget) -> Tensor:
    """Residual (B, T) of a budget, total - sum(coefficient * part), in the fluxes' unit.

    >>> from tamrl.model.network import CARBON
    >>> flux = torch.tensor([[[5.0, 3.0, -2.0], [5.0, 3.0, -1.5]]])  # two days
    >>> imbalance(flux, ("GPP", "RECO", "NEE"), CARBON)
    tensor([[0.0000, 0.5000]])
    """
    at = {name: flux[..., i] for i, name in enumerate(targets)}
    parts = zip(budget.coefficients, budget.parts, strict=True)
    return at[budget.total] - torch.stack([c * at[p] for c, p in parts]).sum(0)


def balance(flux: Tensor, targets: Names, budgets: Sequence[Budget], weight: Tensor) -> Tensor:
    """Mean squared imbalance over days of ``weight`` (B, T) > 0, (gC m-2 d-1)^2."""
    on = (weight > 0).to(flux.dtype)
    each = [imbalance(flux, targets, b).square() * on for b in budgets]
    return torch.stack(each).sum() / on.sum().clamp(min=1)


def non_negativity(flux: Tensor, targets: Names, positive: Names, weight: Tensor) -> Tensor:
    """Mean square of what lies below zero in fluxes that can't, (gC m-2 d-1)^2."""
    on = (weight > 0).to(flux.dtype).unsqueeze(-1)
    below = fn.relu(-flux[..., [list(targets).index(p) for p in positive]])
    return (below.square() * on).sum() / on.sum().clamp(min=1)


def reconstruction(rebuilt: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error (sd units) of drivers (B, W, L, F) that were ``hidden`` though known."""
    on = hidden.to(x.dtype)
    return ((rebuilt - x).square() * on).sum() / on.sum().clamp(min=1)


def contrast(each: Tensor, used: Tensor, place: Tensor) -> Tensor:
    """Windows of one place alike, of different places unlike (InfoNCE).

    ``each`` (B, W, D) embeddings of support windows, ``used`` (B, W) which exist, ``place`` (B,)
    identity of the place: rows of the same place never count as unlike.
    """
    a, b = fn.normalize(each[:, 0], dim=-1), fn.normalize(each[:, 1], dim=-1)
    two = (used[:, 0] & used[:, 1]).to(a.dtype)
    diagonal = torch.eye(len(a), dtype=torch.bool, device=a.device)
    apart = (place[:, None] != place[None]) & (two[:, None] * two[None] > 0)
    logits = (a @ b.T / TEMPERATURE).masked_fill(~(apart | diagonal), -torch.inf)
    lost = -fn.log_softmax(logits, 1).diagonal() - fn.log_softmax(logits, 0).diagonal()
    return 0.5 * (lost * two).sum() / two.sum().clamp(min=1)


def total(terms: dict[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Weighted sum of the named terms; a term without a weight counts once."""
    return torch.stack([weights.get(k, 1.0) * v for k, v in terms.items()]).sum()
