"""Training: one loop for every configuration, device and stage, resumable bit for bit.

`TamRLModel` has the same ``fit`` and ``predict`` as the baselines. Data stay resident as
[site, time, feature] tensors; a step gathers windows by index, each labelled day once an epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from tamrl import loss
from tamrl.model import Config, Output, TamRL
from tamrl.samples import Samples, Scaler, windows

SATELLITE_PREFIX = ("FPAR", "LAI", "NDWI", "LST", "SNOW", "PRCP", "PET", "SIF", "SM", "EVI")
PREDICT_DAYS = 1460  # days streamed in one piece; the LSTM state is carried on
STEP_DAYS = 10  # a support window is a year in means of ten days
STEPS = 36


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are what the ablation chose."""

    epochs: int = 16
    batch: int = 32  # windows a step
    length: int = 150  # days of a window
    warmup: int = 30  # first days of a window: they set the state, without a loss
    lr: float = 3e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.98  # decay a step of the running mean of weights that is kept
    windows_of_support: int = 3
    drop_satellite: float = 0.2  # share of windows whose satellite drivers are hidden
    drop_driver: float = 0.05  # share of single drivers hidden in a window
    hide: float = 0.3  # share of support steps hidden, to be rebuilt
    class_balance: float = 0.0  # exponent of inverse class frequency (1: as published)
    robust: float = 0.0  # sd beyond which errors count linearly; 0: never
    pretrain_epochs: int = 0  # of the decoder on its own, before the joint training
    balance: float = 0.1
    non_negativity: float = 0.1
    reconstruction: float = 0.1
    contrast: float = 0.02


PUBLISHED = Recipe(
    length=45, warmup=0, class_balance=1.0, reconstruction=0, contrast=0, pretrain_epochs=4
)


def pick_device(name: str = "auto") -> torch.device:
    """Resolve ``auto`` to CUDA, Apple MPS or CPU, in this order, and say which on stderr."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
        print(f"tamrl: device {name}, {torch.get_num_threads()} thread(s)", file=sys.stderr)
    return torch.device(name)


@dataclass
class Support:
    """Yearly support windows of all towers: ``x`` (site, year, step, driver) scaled, ``seen``."""

    x: Tensor
    seen: Tensor
    usable: NDArray[np.bool_]  # (site, year): at least half a year of drivers

    @classmethod
    def build(cls, samples: Samples, model: TamRL) -> Support:
        """Average drivers to ten-day steps for every tower and calendar year."""
        year = samples.time.astype("datetime64[Y]").astype(int)
        doy = (samples.time - samples.time.astype("datetime64[Y]")).astype(int)
        years = np.unique(year)
        shape = (len(samples.site), len(years), STEPS, len(samples.features))
        mean = np.full(shape, np.nan, np.float32)
        step = np.minimum(doy // STEP_DAYS, STEPS - 1)
        usable = np.zeros(shape[:2], bool)
        for j, y in enumerate(years):
            on = np.flatnonzero(year == y)
            starts = np.flatnonzero(np.diff(step[on], prepend=-1))
            have = samples.active[:, on].sum(1) >= 182
            usable[:, j] = have
            x = samples.x[have][:, on]
            ok = np.isfinite(x)
            n = np.add.reduceat(ok, starts, 1, dtype=np.int32)
            total = np.add.reduceat(np.where(ok, x, 0), starts, 1)
            part = np.where(n > 0, total / np.maximum(n, 1), np.nan)
            mean[have, j, step[on][starts][0] : step[on][starts][-1] + 1] = part
        x, seen = model.scale(torch.from_numpy(mean))
        return cls(x, seen, usable)

    def choose(
        self, site: NDArray, year: NDArray, n: int, rng: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Gather ``n`` windows of each (site, query year), from other years where any exist.

        With ``rng`` a random draw (training), else the evenly spaced years (prediction). A place
        with fewer years gives fewer windows; the rest is unseen padding. (B, n, L, F) twice.
        """
        pick = np.zeros((len(site), n), np.intp)
        used = np.zeros((len(site), n), bool)
        for row, (s, y) in enumerate(zip(site, year, strict=True)):
            have = np.flatnonzero(self.usable[s])
            if y >= 0 and len(have) > 1:
                have = have[have != y]
            if rng is not None:
                have = rng.permutation(have)[:n]
            elif len(have) > n:
                have = have[np.linspace(0, len(have) - 1, n).round().astype(int)]
            pick[row, : len(have)], used[row, : len(have)] = have, True
        at = torch.from_numpy(site[:, None].repeat(n, 1)), torch.from_numpy(pick)
        on = torch.from_numpy(used)[..., None, None].to(self.x.device)
        return self.x[at] * on, self.seen[at] * on


@dataclass
class TamRLModel:
    """TAM-RL behind the interface of all models: ``fit(samples, train, valid, seed)``, ``predict``."""

    overrides: dict[str, Any] = field(default_factory=dict)  # of model.Config
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "cpu"
    checkpoint: Path | None = None
    progress: bool = False
    net: TamRL | None = None
    features: tuple[str, ...] = ()
    log: list[dict[str, float]] = field(default_factory=list)

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> TamRLModel:
        """Train on ``train``, stop early on ``valid`` towers; keep the best running-mean weights."""
        torch.manual_seed(seed)
        dev, r = pick_device(self.device), self.recipe
        maps = samples.attrs.get("maps")
        c = Config(
            features=len(samples.features), statics=len(samples.static_names),
            map_variables=0 if maps is None else maps.shape[2], **self.overrides,
        )  # fmt: skip
        self.features, self.log = samples.features, []
        self.net = net = TamRL(c)
        set_scale(net, samples, train)
        net.to(dev)
        data = Resident(samples, net, dev)
        mean_net = TamRL(c).to(dev)
        mean_net.load_state_dict(net.state_dict())
        opt = torch.optim.AdamW(_decayed(net, r.weight_decay), lr=r.lr)
        index = windows(samples.weight[train] > 0, r.length - r.warmup, r.length - r.warmup)
        steps = max(len(index) // r.batch, 1) * r.epochs
        plan = torch.optim.lr_scheduler.OneCycleLR(opt, r.lr, total_steps=steps + 1, pct_start=0.15)
        best: dict[str, Any] = {"score": float("inf"), "epoch": -1, "state": None}
        first = 0
        key = _key(c, r, samples, train, valid, seed)
        if self.checkpoint is not None and self.checkpoint.exists():
            kept = torch.load(self.checkpoint, weights_only=True, map_location=dev)
            if kept["key"] == key:
                net.load_state_dict(kept["net"])
                mean_net.load_state_dict(kept["mean"])
                opt.load_state_dict(kept["opt"])
                plan.load_state_dict(kept["plan"])
                torch.set_rng_state(kept["rng"].cpu())
                best, first, self.log = kept["best"], kept["epoch"] + 1, kept["log"]
        bar = tqdm(range(first, r.epochs), disable=not self.progress, desc=f"train, seed {seed}")
        for epoch in bar:
            rng = np.random.default_rng([seed, epoch])
            alone = epoch < r.pretrain_epochs
            terms = self._epoch(net, mean_net, data, train, opt, plan, rng, alone)
            score = data.score(mean_net, self.predict(samples, valid, mean_net, data), valid)
            self.log.append({"epoch": epoch, "valid": score, **terms})
            bar.set_postfix(valid=f"{score:.3f}", data=f"{terms['data']:.3f}")
            if score < best["score"]:
                state = {k: v.detach().clone() for k, v in mean_net.state_dict().items()}
                best = {"score": score, "epoch": epoch, "state": state}
            if self.checkpoint is not None:
                _save(self.checkpoint, {
                    "key": key, "net": net.state_dict(), "mean": mean_net.state_dict(),
                    "opt": opt.state_dict(), "plan": plan.state_dict(), "epoch": epoch,
                    "rng": torch.get_rng_state(), "best": best, "log": self.log,
                })  # fmt: skip
        net.load_state_dict(best["state"])
        net.eval()
        return self

    def _epoch(
        self, net: TamRL, mean_net: TamRL, data: Resident, train: NDArray,
        opt: torch.optim.Optimizer, plan: Any, rng: np.random.Generator, alone: bool,
    ) -> dict[str, float]:  # fmt: skip
        """Run one epoch; return the mean of each loss term."""
        r, c = self.recipe, net.config
        net.train()
        span = r.length - r.warmup
        index = windows(data.weight_np[train] > 0, span, span)
        index = index[rng.permutation(len(index))]
        site = train[index[:, 0]]
        start = index[:, 1] - r.warmup + rng.integers(-span // 2, span // 2 + 1, len(index))
        start = np.clip(start, 0, data.x.shape[1] - r.length)
        sums: dict[str, Tensor] = {}
        weights = {k: getattr(r, k) for k in ("balance", "non_negativity", "reconstruction", "contrast")}
        n = max(len(index) // r.batch, 1)
        for b in range(n):
            now = slice(b * r.batch, (b + 1) * r.batch)
            terms = self._terms(net, data, site[now], start[now], rng, alone)
            value = loss.total(terms, weights)
            opt.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), r.clip)
            opt.step()
            plan.step()
            with torch.no_grad():
                old, new = list(mean_net.parameters()), list(net.parameters())
                torch._foreach_lerp_(old, new, 1 - r.average)
            for k, v in {**terms, "total": value}.items():
                sums[k] = sums.get(k, 0) + v.detach()
        return {k: float(v) / n for k, v in sums.items()}

    def _terms(
        self, net: TamRL, data: Resident, site: NDArray, start: NDArray,
        rng: np.random.Generator, alone: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Loss terms of one batch of windows (site, start)."""
        r, c = self.recipe, net.config
        rows = torch.from_numpy(site)[:, None]
        days = torch.from_numpy(start)[:, None] + torch.arange(r.length)
        x, seen = data.x[rows, days], data.seen[rows, days]
        seen = seen * data.keep(len(site), r, rng)
        facts = net.describe(data.static[site])
        terms, z = {}, None
        if net.encoder is not None and not alone:
            middle = data.year[start + r.length // 2]
            key, back = np.unique(np.stack([site, middle], 1), axis=0, return_inverse=True)
            s_x, s_seen = data.support.choose(key[:, 0], key[:, 1], r.windows_of_support, rng)
            shown = s_seen
            if r.reconstruction > 0:
                hidden = torch.from_numpy(rng.random(s_seen.shape[:3]) < r.hide).to(s_seen.device)
                shown = s_seen * ~hidden[..., None]
            maps = None if data.maps is None else data.maps[key[:, 0]]
            u_facts = net.describe(data.static[key[:, 0]])
            z, each, rebuilt = net.encode(s_x, shown, u_facts, maps)
            z = z[torch.from_numpy(back.reshape(-1))]
            if rebuilt is not None and r.reconstruction > 0:
                terms["reconstruction"] = loss.reconstruction(rebuilt, s_x, s_seen - shown)
            if each is not None and r.contrast > 0:
                used = s_seen.flatten(2).any(-1)
                place = torch.from_numpy(key[:, 0]).to(used.device)
                terms["contrast"] = loss.contrast(each, used, place)
        out: Output = net.decode(x, seen, data.process[rows, days], facts, z)
        y, w = data.y[rows, days], data.weight[rows, days] * data.class_weight[rows]
        w = w * (torch.arange(r.length, device=w.device) >= r.warmup)
        terms["data"] = loss.data(out.flux, y, w, net.y_sd, r.robust)
        if c.closure == "soft":
            terms["balance"] = loss.balance(out.flux, c.targets, c.budgets, w)
            terms["non_negativity"] = loss.non_negativity(out.flux, c.targets, c.positive, w)
        return terms

    @torch.inference_mode()
    def predict(
        self, samples: Samples, sites: NDArray, net: TamRL | None = None, data: Resident | None = None
    ) -> NDArray[np.float32]:
        """Stream fluxes (site, time, flux) in gC m-2 d-1; NaN on days without minimal drivers.

        z is computed once a place from all its years; the LSTM state is carried along time.
        GPP and RECO are clipped at 0 where the closure does not already ensure it (as published).
        """
        net = net or self.net
        if net is None:
            raise ValueError("fit or load the model before predicting")
        net.eval()
        dev = next(net.parameters()).device
        data = data or Resident(samples, net, dev)
        c, n = net.config, self.recipe.windows_of_support
        out = np.full((len(sites), len(samples.time), len(c.targets)), np.nan, np.float32)
        span = [np.flatnonzero(a)[[0, -1]] if a.any() else (0, -1) for a in samples.active[sites]]
        length = np.array([b - a + 1 for a, b in span])
        for group in np.array_split(np.argsort(-length, kind="stable"), -(-len(sites) // 32)):
            group = group[length[group] > 0]
            if not len(group):
                continue
            site, longest = np.asarray(sites)[group], int(length[group].max())
            begin = np.array([span[g][0] for g in group])
            begin = np.minimum(begin, len(samples.time) - longest)
            facts = net.describe(data.static[site])
            s_x, s_seen = data.support.choose(site, np.full(len(site), -1), n, None)
            z, _, _ = net.encode(s_x, s_seen, facts, None if data.maps is None else data.maps[site])
            state, rows = None, torch.from_numpy(site)[:, None]
            for at in range(0, longest, PREDICT_DAYS):
                days = torch.from_numpy(begin)[:, None] + torch.arange(at, min(at + PREDICT_DAYS, longest))
                part = (data.x[rows, days], data.seen[rows, days], data.process[rows, days])
                flux, state, _ = net.decode(*part, facts, z, state)
                out[group[:, None], days.numpy()] = flux.float().cpu().numpy()
        if c.closure != "hard":
            for p in c.positive:
                i = c.targets.index(p)
                out[..., i] = np.maximum(out[..., i], 0)
        out[~samples.active[sites]] = np.nan
        return out


class Resident:
    """Tensors of all towers, scaled once, on the device."""

    def __init__(self, samples: Samples, net: TamRL, device: torch.device):
        cpu_net = TamRL(net.config)
        cpu_net.load_state_dict(net.state_dict())
        x, seen = cpu_net.scale(torch.from_numpy(samples.x))
        self.x, self.seen = x.to(device), seen.to(device)
        self.support = Support.build(samples, cpu_net)
        self.support.x, self.support.seen = self.support.x.to(device), self.support.seen.to(device)
        self.static = torch.from_numpy(samples.static).to(device)
        self.process = torch.nan_to_num(torch.from_numpy(samples.process), nan=1.0).to(device)
        self.y = torch.from_numpy(samples.y).to(device)
        self.weight_np = samples.weight
        self.weight = torch.from_numpy(samples.weight).to(device)
        maps = samples.attrs.get("maps")
        self.maps = None if maps is None else torch.as_tensor(maps).to(device)
        year = samples.time.astype("datetime64[Y]").astype(int)
        self.year = year - year.min()
        self.class_weight = torch.ones(len(samples.site), device=device)
        self.satellite = torch.tensor([f.startswith(SATELLITE_PREFIX) for f in samples.features])

    def balance_classes(self, samples: Samples, train: NDArray, exponent: float) -> None:
        """Weigh towers by inverse frequency of IGBP x Koppen among training days, mean 1 a day."""
        days = samples.weight[train].sum(1)
        weight = np.ones(len(train))
        for name in ("igbp", "koppen_main"):
            of = samples.table[name].to_numpy(str)[train]
            share = {k: days[of == k].sum() / days.sum() for k in set(of)}
            weight *= np.array([max(share[k], 1e-3) for k in of]) ** -exponent
        weight *= days.sum() / (weight * days).sum()
        self.class_weight[torch.from_numpy(train)] = torch.tensor(weight, dtype=torch.float32)

    def keep(self, n: int, r: Recipe, rng: np.random.Generator) -> Tensor:
        """Mask (n, 1, driver) of drivers shown in training: satellites and single drivers drop out."""
        hide = rng.random((n, self.x.shape[-1])) < r.drop_driver
        hide |= (rng.random((n, 1)) < r.drop_satellite) & self.satellite.numpy()
        return torch.from_numpy(~hide).to(self.x)[:, None]

    def score(self, net: TamRL, pred: NDArray, sites: NDArray) -> float:
        """Mean over fluxes of RMSE / sd on labelled days: what early stopping watches."""
        y, w = self.y[torch.from_numpy(sites)].cpu().numpy(), self.weight_np[sites] > 0
        error = (pred[w] - y[w]) / net.y_sd.cpu().numpy()
        return float(np.sqrt(np.nanmean(error**2, 0)).mean())


def set_scale(net: TamRL, samples: Samples, train: NDArray) -> None:
    """Store means and sds of drivers, statics and fluxes over the training towers in the model."""
    s = Scaler.fit(samples, train)
    for name in ("x_mean", "x_sd", "s_mean", "s_sd", "y_mean", "y_sd"):
        getattr(net, name).copy_(torch.from_numpy(getattr(s, name)))


def _decayed(net: TamRL, decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only, not on biases."""
    many = [p for p in net.parameters() if p.ndim > 1]
    few = [p for p in net.parameters() if p.ndim <= 1]
    return [{"params": many, "weight_decay": decay}, {"params": few, "weight_decay": 0.0}]


def _key(c: Config, r: Recipe, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> str:
    """Identity of a training run: a checkpoint of another run is never resumed."""
    text = json.dumps([asdict(c), asdict(r), train.tolist(), valid.tolist(), seed])
    return hashlib.sha256((text + samples.fingerprint()).encode()).hexdigest()[:16]


def _save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    torch.save(content, part)
    os.replace(part, path)


__all__ = ["PUBLISHED", "Recipe", "TamRLModel", "pick_device", "replace"]
