"""Adaptation: a trained model meets a new tower, or a new gas, with few labels.

Gradient steps move the offsets of z, of FiLM, of the gates and of the heads. They are pulled back
to the zero-shot weights, the harder the fewer the days (L2-SP, Li et al. 2018, arXiv 1802.01483),
and stop by blocks of labels left out: at step 0 unless more is clearly better. The ensemble is
adapted otherwise (`tamrl.shipped.adaptation`), which helps more.
"""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tamrl.errors import DataError
from tamrl.model import loss
from tamrl.model.network import TamRL
from tamrl.model.predict import embed_sites
from tamrl.model.tensors import DeviceData, to_device
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples, require_same, windows

OFFSETS = ("encoder.mix.0.bias", "film_x.bias", "film_h.bias", "gate.bias", "bias")
HEADS = ("head", "bias", "gate.bias")  # what lies behind the features of days
STEPS = 20  # most steps of the descent
LR = 0.03
PULL = 100.0  # weight of the squared way from zero-shot, / labelled days
NEW_PULL = 3.0  # the same for a target of which nothing is known: its head starts at zero
BLOCKS = 3  # runs of labelled days, each left out once
MIN_DAYS = 10  # fewer labelled days say nothing

Mask = NDArray[np.bool_]


def finetune(
    model: TamRLModel, samples: Samples, sites: NDArray[np.intp], days: Mask | int | None = None,
    steps: int = STEPS, only: str | None = None,
) -> TamRLModel:  # fmt: skip
    """Adapt a trained model to towers of which few days are labelled; deterministic.

    ``sites`` (site,) are the towers that the result is for, as indices into ``samples``. ``days``
    are those whose labels may be used: a mask (site, time), the first n labelled days of each
    tower, or None for all. The offsets in `OFFSETS` move, a few hundred numbers. ``steps`` bounds
    the steps; the labels decide how many are made. ``only`` this target is learnt, such as one from
    `add_target`: other fluxes stay the same to the last bit.

    Returns a further model. Its ``log`` holds, per step, the mean error of the blocks left out
    (``held_out``, squared, in units of the fluxes' variance) and whether it was ``taken``. Raises
    DataError when fewer than 10 days are labelled, or the drivers are not those of the training.
    """
    if model.net is None:
        raise ValueError("fit or load the model before adapting it")
    text = "the model was trained on other drivers; they differ in"
    require_same(samples.features, model.features or samples.features, text)
    labelled = samples.weight[sites] > 0
    if days is not None:
        labelled &= days if isinstance(days, np.ndarray) else labelled.cumsum(1) <= days
    few = samples.select(sites, labelled)
    if only is not None:
        if only not in model.net.config.targets:
            raise DataError(f"the model does not predict {only}; give it the target first")
        y = np.where(np.array(model.net.config.targets) == only, few.y, np.float32(np.nan))
        few = replace(few, y=y, weight=np.where(np.isfinite(y).any(-1), few.weight, 0))
    if (n := int((few.weight > 0).sum())) < MIN_DAYS:
        what = f"{n} labelled days to adapt to; at least {MIN_DAYS} are needed"
        raise DataError(f"{', '.join(few.site)}: {what}")
    data = DeviceData(few, model.net, next(model.net.parameters()).device)
    block = _blocks(few.weight > 0)
    way = _way(model.net, only)
    held = np.stack([_descend(model, data, block, k, way, steps)[1] for k in range(BLOCKS)])
    mean = held.mean(0)
    best = stop_at(held) if only is None else int(mean.argmin())
    net, _ = _descend(model, data, block, None, way, best)
    log = [{"step": s, "held_out": v, "taken": float(s <= best)} for s, v in enumerate(mean)]
    return replace(model, net=net, log=log)


def add_target(
    model: TamRLModel, name: str, mean: float, sd: float, positive: bool = False
) -> TamRLModel:
    """Give a trained model one more flux to predict, such as another gas; `finetune` learns it.

    The new one, last of ``samples.targets``, starts at its ``mean`` (a ``positive`` one of hard
    closure near its spread ``sd``), in its own unit. DataError when the model has this target, or
    ``sd`` <= 0. Then ``finetune(add_target(model, "CH4", 0.05, 0.1), samples, sites, only="CH4")``.
    """
    if model.net is None:
        raise ValueError("fit or load the model before giving it a target")
    old, c = model.net, model.net.config
    if name in c.targets:
        raise DataError(f"the model predicts {name} already, among {', '.join(c.targets)}")
    if not sd > 0:
        raise DataError(f"{name}: a spread of {sd} says nothing of the size of the flux")
    wider = (*c.positive, name) if positive else c.positive
    net = TamRL(replace(c, targets=(*c.targets, name), positive=wider))
    state = net.state_dict()  # of the same memory
    for key, value in old.state_dict().items():
        state[key].zero_()[: len(value)] = value
    state["y_mean"][-1], state["y_sd"][-1] = mean, sd
    return replace(model, net=net.to(old.y_sd.device).eval(), log=[])


def stop_at(held: NDArray) -> int:
    """Choose the first step whose error (block, step) is within one standard error of the least."""
    more = held - held[:, [held.mean(0).argmin()]]  # paired (Breiman et al. 1984, CART, 3.4.3)
    return int(np.argmax(more.mean(0) <= more.std(0, ddof=1) / np.sqrt(len(held))))


def _way(net: TamRL, only: str | None) -> tuple[dict[str, Tensor], float, float]:
    """Choose what moves (1 where a parameter does), how fast, and how hard it is pulled back."""
    parameters = dict(net.named_parameters())
    if only is None:
        moves = {n: torch.ones_like(p) for n, p in parameters.items() if n in OFFSETS}
        return moves, LR, PULL
    i, hidden = net.config.targets.index(only), net.config.hidden
    if i not in net.free:
        raise DataError(f"{only} is the sum of other fluxes; it has nothing of its own to learn")
    rows = {name: [net.free.index(i)] for name in ("head", "bias")}
    rows["gate.bias"] = list(range(i * hidden, (i + 1) * hidden))
    moves = {n: torch.zeros_like(parameters[n]) for n in rows.keys() & parameters.keys()}
    for name, moving in moves.items():
        moving[rows[name]] = 1
    return moves, LR, NEW_PULL


def _blocks(labelled: Mask) -> NDArray[np.intp]:
    """Label runs (site, time) of a tower's labelled days 0, 1, …, and other days -1."""
    rank, n = labelled.cumsum(1) - 1, np.maximum(labelled.sum(1, keepdims=True), 1)
    return np.where(labelled, rank * BLOCKS // n, -1)


def _descend(
    model: TamRLModel, data: DeviceData, block: NDArray[np.intp], held: int | None,
    way: tuple[dict[str, Tensor], float, float], steps: int,
) -> tuple[TamRL, list[float]]:  # fmt: skip
    """Go ``steps`` down from the zero-shot weights without block ``held``; its error at each."""
    net, (moves, lr, pull) = deepcopy(model.net), way
    assert net is not None
    for module in net.modules():  # without dropout, yet in training mode: cuDNN asks for it
        module.train(not isinstance(module, nn.Dropout))
    net.requires_grad_(False)
    moved = {name: p for name, p in net.named_parameters() if name in moves}
    origin = {name: p.clone() for name, p in moved.items()}
    for p in moved.values():
        p.requires_grad_(True)
    opt = torch.optim.Adam(moved.values(), lr=lr)
    rows, time, counted = _windows(model, block)
    at, row = data.at(rows, time), to_device(rows, data.device)
    y, w = data.series("y", at), data.series("weight", at) * to_device(counted, data.device)
    out = to_device(block[rows[:, None], time] == (-1 if held is None else held), data.device)
    inside, outside = w * ~out, w * out
    hold = pull / (inside > 0).sum()
    c, r, errors = net.config, model.recipe, []
    x, seen, process = data.drivers(at)
    for step in range(steps + 1):
        if step == 0 or moved.keys() - set(HEADS):  # else the features of days stay as they are
            facts, z = embed_sites(net, data, np.arange(len(data.static)), r.windows_of_support)
            z = None if z is None else z[row]
            h, _ = net.embed_days(x, seen, facts[row], z)
        flux, _ = net.read(h, process, z)
        errors.append(float(loss.data(flux.detach(), y, outside, net.y_sd)))
        if step == steps:
            break
        value = loss.data(flux, y, inside, net.y_sd)
        if c.closure == "soft":
            value = value + r.balance * loss.balance(flux, c.targets, c.budgets, inside)
        away = [(p - origin[name]).square().sum() for name, p in moved.items()]
        opt.zero_grad(set_to_none=True)
        (value + hold * torch.stack(away).sum()).backward()
        for name, p in moved.items():
            if p.grad is not None:
                p.grad *= moves[name]
        opt.step()
    net.requires_grad_(True)
    return net.eval(), errors


def _windows(model: TamRLModel, block: NDArray[np.intp]) -> tuple[NDArray, NDArray, Mask]:
    """Windows as towers (B,), days (B, T), and which days count: each labelled day once."""
    r, last = model.recipe, block.shape[1]
    span = r.length - r.warmup
    rows, first = windows(block >= 0, span, span).T
    start = np.clip(first - r.warmup, 0, max(last - r.length, 0))
    time = start[:, None] + np.arange(min(r.length, last))
    return rows, time, (time >= first[:, None]) & (time < first[:, None] + span)
