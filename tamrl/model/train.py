"""Training: one loop for every configuration, device and stage, resumable bit for bit.

Data stay resident as tensors; a step gathers windows by index, each labelled day once an epoch.
"""

import hashlib
import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamrl.errors import DataError
from tamrl.files import atomic_write
from tamrl.model import loss
from tamrl.model.network import Budget, Config, TamRL
from tamrl.model.predict import Fluxes, products, stream, windowed
from tamrl.model.tensors import DeviceData, pick_device, set_scale, to_device
from tamrl.samples.arrays import Samples, windows


@dataclass(frozen=True)
class Recipe:
    """How to train; the ablation changes one default at a time."""

    epochs: int = 8  # 16 take twice the time for 0.3 % less error; a second member gains more
    batch: int = 16  # windows a step
    keep: int = 0  # days kept of each window in prediction; 0: stream along time instead
    length: int = 365  # days of a window; of a shorter record, all of it
    warmup: int = 30  # first days of a window: they set the state, without a loss
    lr: float = 3e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.98  # decay a step of the running mean of weights that is kept
    windows_of_support: int = 3
    satellite_dropout: str = "window"  # of a window, with EVI and rain of the grid; "site": see fit
    drop_satellite: float = 0.2  # share of windows, or of a batch's sites, that lose satellites
    drop_driver: float = 0.05  # share of single drivers hidden in a window
    hide: float = 0.3  # share of support steps hidden, to be rebuilt
    class_balance: float = 0.0  # exponent of inverse class frequency (1: as published)
    pretrain_epochs: int = 0  # first stage: decoder without z, encoder by its own losses
    balance: float = 0.1
    non_negativity: float = 0.1
    reconstruction: float = 0.1
    contrast: float = 0.02
    precision: str = "fp32"  # or bf16: of the products of matrices; weights and losses stay fp32

    def __post_init__(self) -> None:
        if self.satellite_dropout not in ("window", "site"):
            raise ValueError(f"satellite_dropout {self.satellite_dropout!r}: window or site")


PUBLISHED = Recipe(
    batch=32, length=45, warmup=0, keep=15, class_balance=1.0, reconstruction=0, contrast=0,
    pretrain_epochs=4,
)  # fmt: skip


@dataclass
class TamRLModel:
    """TAM-RL behind the interface that all models share: ``fit`` and ``predict``."""

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "TAM-RL"  # in files of weights
    overrides: dict[str, Any] = field(default_factory=dict)  # of Config
    recipe: Recipe = field(default_factory=Recipe)
    device: str = field(default="cpu", repr=False)  # neither this nor the next changes results
    checkpoint: Path | None = field(default=None, repr=False)
    net: TamRL | None = field(default=None, repr=False)
    features: tuple[str, ...] = field(default=(), repr=False)
    log: list[dict[str, float]] = field(default_factory=list, repr=False)

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Train on ``train`` towers; keep the mean weights that are best on ``valid`` ones.

        Some windows lack satellite drivers, or, with ``satellite_dropout="site"``, some sites of a
        batch all that satellites know. DataError for records within the warm-up or no finite score.
        """
        torch.manual_seed(seed)
        dev, r = pick_device(self.device), self.recipe
        if len(samples.time) <= r.warmup:
            what = f"records of {len(samples.time)} days end within the warm-up of {r.warmup}"
            raise DataError(f"{what}; give longer ones, or a recipe with a shorter warm-up")
        maps = 0 if samples.maps is None else samples.maps.shape[2]
        sizes = len(samples.features), len(samples.static_names)
        c = Config(*sizes, map_variables=maps, **self.overrides)
        self.features, self.log = samples.features, []
        self.net = net = self.build(c)
        set_scale(net, samples, train)
        data = DeviceData(samples, net.to(dev), dev)
        if r.class_balance:
            data.balance_classes(samples, train, r.class_balance)
        mean_net = self.build(c).to(dev)
        mean_net.load_state_dict(net.state_dict())
        kinds = [[p for p in net.parameters() if (p.ndim > 1) == on] for on in (True, False)]
        decay = zip(kinds, (r.weight_decay, 0.0), strict=True)  # of matrices only, not of biases
        groups = [{"params": params, "weight_decay": by} for params, by in decay]
        opt = torch.optim.AdamW(groups, lr=r.lr, fused=True)
        span = r.length - r.warmup
        steps = max(len(windows(samples.weight[train] > 0, span, span)) // r.batch, 1) * r.epochs
        plan = torch.optim.lr_scheduler.OneCycleLR(opt, r.lr, total_steps=steps + 1, pct_start=0.15)
        best: dict[str, Any] = {"score": float("inf"), "state": None}
        first, given = 0, data
        key = "" if self.checkpoint is None else _key(c, r, samples, train, valid, seed)
        parts: dict[str, Any] = {"net": net, "mean": mean_net, "opt": opt, "plan": plan}
        if self.checkpoint is not None and self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=True, map_location=dev)
            if saved["key"] == key:
                for name, part in parts.items():
                    part.load_state_dict(saved[name])
                torch.set_rng_state(saved["rng"].cpu())
                best, first, self.log = saved["best"], saved["epoch"] + 1, saved["log"]
        for epoch in range(first, r.epochs):
            rng, alone = np.random.default_rng([seed, epoch]), epoch < r.pretrain_epochs
            given = self.epoch_data(epoch, net, given)
            terms = self._epoch(net, mean_net, given, train, opt, plan, rng, alone)
            score = data.score(mean_net, self.predict(samples, valid, mean_net, data), valid)
            self.log.append({"epoch": epoch, "valid": score, **terms})
            if score < best["score"]:
                best = {"score": score, "state": deepcopy(mean_net.state_dict())}
            if self.checkpoint is not None:
                states = {name: part.state_dict() for name, part in parts.items()}
                states |= {"key": key, "epoch": epoch, "best": best, "log": self.log}
                with atomic_write(self.checkpoint) as file:
                    torch.save(states | {"rng": torch.get_rng_state()}, file)
        if best["state"] is None:
            raise DataError("no finite validation score: give early-stopping towers with labels")
        net.load_state_dict(best["state"])
        net.eval()
        return self

    def build(self, config: Config) -> TamRL:
        """Make the network; rivals and variants make their own."""
        return TamRL(config)

    def epoch_data(self, epoch: int, net: TamRL, data: DeviceData) -> DeviceData:
        """Return the data of an epoch, given those of the one before; for variants."""
        return data

    def _epoch(
        self, net: TamRL, mean_net: TamRL, data: DeviceData, train: NDArray,
        opt: torch.optim.Optimizer, plan: Any, rng: np.random.Generator, alone: bool,
    ) -> dict[str, float]:  # fmt: skip
        """Run one epoch; return the mean of each loss term."""
        net.train()
        r, span = self.recipe, self.recipe.length - self.recipe.warmup
        index = windows(data.weight_np[train] > 0, span, span)
        index = index[rng.permutation(len(index))]
        start = index[:, 1] - r.warmup + rng.integers(-span // 2, span // 2 + 1, len(index))
        start = np.clip(start, 0, max(data.length - r.length, 0))
        site, sums = train[index[:, 0]], dict[str, Tensor]()
        n = max(len(index) // r.batch, 1)
        mean, new = (cast(list[Tensor], [*each.parameters()]) for each in (mean_net, net))
        for b in range(n):
            now = slice(b * r.batch, (b + 1) * r.batch)
            terms = self._terms(net, data, site[now], start[now], rng, alone)
            value = loss.total(terms, vars(r))
            opt.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(new, r.clip)
            opt.step()
            if plan.last_epoch + 1 < plan.total_steps:  # other data may have some windows more
                plan.step()
            with torch.no_grad():
                torch._foreach_lerp_(mean, new, 1 - r.average)
            for k, v in {**terms, "total": value}.items():
                sums[k] = sums.get(k, 0) + v.detach()
        return {k: float(v) / n for k, v in sums.items()}

    def _terms(
        self, net: TamRL, data: DeviceData, site: NDArray, start: NDArray,
        rng: np.random.Generator, alone: bool,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Loss terms of one batch of windows (site, start)."""
        r, c = self.recipe, net.config
        length, by_site = min(r.length, data.length), r.satellite_dropout == "site"
        hidden = np.zeros(len(data.static), bool)  # sites shown without satellites
        if by_site:
            sites = np.unique(site)
            hidden[sites] = rng.random(len(sites)) < r.drop_satellite
        mask, static = data.without_satellites(hidden)
        at = data.at(site, start[:, None] + np.arange(length))
        x, seen, process = data.drivers(at)
        place = to_device(site, data.device)
        some = data.keep(len(site), r.drop_driver, None if by_site else r.drop_satellite, rng)
        seen = seen * (some * mask[place, None])
        facts = net.embed_site(static[place])
        terms, z = {}, None
        if net.encoder is not None and not (alone and r.reconstruction == r.contrast == 0):
            middle = data.year[start + length // 2]
            key, back = np.unique(np.stack([site, middle], 1), axis=0, return_inverse=True)
            query, year = key.T.copy()
            places = to_device(query, data.device)
            support = data.support.sample_windows(query, year, r.windows_of_support, rng)
            s_x, s_seen = (v * mask[places, None, None] for v in support)
            shown = s_seen
            if r.reconstruction:
                steps = to_device(rng.random(s_seen.shape[:3]) < r.hide, s_seen.device)
                shown = s_seen * ~steps[..., None]
            maps = None if data.maps is None else data.maps[places]
            u_facts = net.embed_site(static[places])
            with products(s_x.device, r.precision):
                z, each, rebuilt = net.encode(s_x, shown, u_facts, maps)
            z = None if alone or z is None else z[to_device(back.reshape(-1), data.device)]
            if rebuilt is not None and r.reconstruction:
                terms["reconstruction"] = loss.reconstruction(rebuilt, s_x, s_seen - shown)
            if each is not None and r.contrast:
                used = s_seen.sum((2, 3)) > 0
                terms["contrast"] = loss.contrast(each.float(), used, places)
        with products(x.device, r.precision):
            flux = net.decode(x, seen, process, facts, z, skip=r.warmup).flux
        at = at[:, r.warmup :]
        y, w = data.series("y", at), data.series("weight", at) * data.class_weight[place, None]
        terms["data"] = loss.data(flux, y, w, net.y_sd)
        if c.closure == "soft":
            terms["balance"] = loss.balance(flux, c.targets, c.budgets, w)
            terms["non_negativity"] = loss.non_negativity(flux, c.targets, c.positive, w)
        return terms

    def predict(
        self, samples: Samples, sites: NDArray,
        net: TamRL | None = None, data: DeviceData | None = None,
    ) -> Fluxes:  # fmt: skip
        """Predict fluxes (site, time, flux) in gC m-2 d-1; NaN on days without minimal drivers.

        z is of all years of a place. GPP and RECO are clipped at 0 where no closure ensures it.
        """
        if (net := net or self.net) is None:
            raise ValueError("fit or load the model before predicting")
        net.eval()
        sites, r, c = np.asarray(sites), self.recipe, net.config
        if (given := samples.static.shape[1]) != c.statics:
            raise DataError(f"the network reads {c.statics} site attributes, and is given {given}")
        data = data or DeviceData(samples, net, next(net.parameters()).device)
        what = (net, data, samples.has_drivers, sites, r.windows_of_support)
        with products(data.device, r.precision):
            out = stream(*what) if r.keep == 0 else windowed(*what, r.length, r.keep)
        if c.closure != "hard":
            i = [c.targets.index(p) for p in c.positive]
            out[..., i] = np.maximum(out[..., i], 0)
        out[~samples.has_drivers[sites]] = np.nan
        return out

    def store(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Give settings and weights for a file; ValueError before a fit."""
        if self.net is None:
            raise ValueError("fit the model before saving it")
        about = {"config": asdict(self.net.config), "recipe": asdict(self.recipe)}
        weights = {k: v.cpu().numpy() for k, v in self.net.state_dict().items()}
        return about | {"features": list(self.features)}, weights

    @staticmethod
    def restore(
        about: Mapping[str, Any], arrays: Mapping[str, NDArray], device: str
    ) -> "TamRLModel":
        """Make the model again of what `store` gave; its network goes to ``device``."""
        net = TamRL(config_of(about)).to(device)
        net.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
        features = tuple(about["features"])
        return TamRLModel({}, Recipe(**about["recipe"]), device, net=net, features=features)


def config_of(about: Mapping[str, Any]) -> Config:
    """Shape of the network that `TamRLModel.store` gave settings of."""
    settings = _tuples(about["config"])
    budgets = tuple(Budget(**_tuples(budget)) for budget in settings["budgets"])
    return Config(**settings | {"budgets": budgets})


def _tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}


def _key(c: Config, r: Recipe, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> str:
    """Identify a training run: a checkpoint of another one is never resumed."""
    text = json.dumps([asdict(c), asdict(r), train.tolist(), valid.tolist(), seed])
    return hashlib.sha256((text + samples.fingerprint).encode()).hexdigest()[:16]
