"""Directions for more skill, as networks: each changes one thing of TAM-RL and no more.

`TimeScales` also counts errors of means over days, windows and towers. `TowerEmbeddings` gives each
training tower an offset of its own in z, small and to be foreseen by the encoder. `ProcessModel`
predicts the parameters of light response and respiration instead of fluxes. Whether any of them
helps at towers never seen is measured by `tamrl compare directions`, and kept where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tamrl.data.schema import FLUXES
from tamrl.knowledge import FromVirtual
from tamrl.model import Config, Output, TamRL
from tamrl.samples import DAILY, Samples
from tamrl.train import TamRLModel


def squared_means(
    flux: Tensor, y: Tensor, weight: Tensor, sd: Tensor, group: Tensor, groups: int
) -> Tensor:
    """Mean square of mean errors of groups of days, in units of each flux's variance.

    ``flux``, ``y`` (B, T, K) in gC m-2 d-1, y NaN = no label; ``weight`` (B, T) >= 0; ``sd`` (K,);
    ``group`` (B, T) number of each day's group, 0 to ``groups`` - 1. A group counts by the weight
    of its labelled days: with every day a group of its own this is `loss.data`.
    """
    known = torch.isfinite(y)
    error = torch.where(known, flux - torch.nan_to_num(y), 0) / sd
    w = weight.unsqueeze(-1) * known
    blank = error.new_zeros(groups, error.shape[-1])
    at = group.to(error.device).reshape(-1)
    total = blank.index_add(0, at, (w * error).flatten(0, 1))
    days = blank.index_add(0, at, w.flatten(0, 1))
    # (sum / days)^2 * days, written so that a group without labels is 0 and has no gradient.
    each = total.square() / torch.where(days > 0, days, 1)
    return each.sum() / days.sum().clamp(min=1e-6)


@dataclass
class TimeScales(TamRLModel):
    """TAM-RL whose loss also counts errors of means: over ``days``, the window, the tower.

    The mean of a tower is over its windows in the batch, so it differs from that of the window only
    where a tower has several. ``scale_weight`` is that of each term beside the daily one.
    """

    days: tuple[int, ...] = (15, 30)
    scale_weight: float = 0.25

    def more_terms(
        self, net: TamRL, flux: Tensor, y: Tensor, weight: Tensor, z: Tensor | None, site: Tensor
    ) -> dict[str, Tensor]:
        """Terms ``mean_15``, ``mean_30``, …, ``mean_window``, ``mean_tower``."""
        b, t, _ = flux.shape
        row, day = torch.arange(b)[:, None], torch.arange(t)[None]
        out = {}
        for n in self.days:
            pieces = -(-t // n)
            group = row * pieces + day // n
            out[f"mean_{n}"] = squared_means(flux, y, weight, net.y_sd, group, b * pieces)
        tower = torch.unique(site, return_inverse=True)[1][:, None]
        for name, owner in (("mean_window", row), ("mean_tower", tower)):
            out[name] = squared_means(flux, y, weight, net.y_sd, owner.expand(b, t), b)
        return {name: self.scale_weight * term for name, term in out.items()}


@dataclass
class VirtualTimeScales(TimeScales, FromVirtual):
    """Both: virtual towers first, then errors of means counted at the real ones."""


@dataclass(frozen=True)
class TowerConfig(Config):
    """Shape of a model with offsets of towers."""

    towers: int = 0


class TowerNet(TamRL):
    """TAM-RL with an offset in z for each tower: 0 until the tower is trained on."""

    def __init__(self, config: TowerConfig):
        super().__init__(config)
        self.own = nn.Parameter(torch.zeros(config.towers, config.latent))


@dataclass
class TowerEmbeddings(TamRLModel):
    """TAM-RL in which z_i = encoder_i + e_i at training towers, and the encoder alone at others.

    e_i takes what the encoder cannot know of a tower, so that the rest of the network need not;
    ``shrink`` (weight of its square) keeps it near 0, and ``foresee`` (weight of the squared
    distance of the encoder to z_i, taken as given) makes the encoder predict it. New towers,
    among them those that stop the training, have e = 0: predictions do not use it.
    """

    shrink: float = 1.0
    foresee: float = 1.0
    towers: int = 0

    def fit(
        self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0
    ) -> TowerEmbeddings:
        """Train with an offset for each training tower."""
        self.towers = len(samples.site)
        super().fit(samples, train, valid, seed)
        return self

    def build(self, config: Config) -> TamRL:
        """Make the network."""
        same = {f.name: getattr(config, f.name) for f in fields(config)}
        return TowerNet(TowerConfig(**same, towers=self.towers))

    def task(self, net: TamRL, z: Tensor | None, site: Tensor) -> Tensor | None:
        """Add the offsets of the towers."""
        assert isinstance(net, TowerNet)
        return None if z is None else z + net.own[site.to(z.device)]

    def more_terms(
        self, net: TamRL, flux: Tensor, y: Tensor, weight: Tensor, z: Tensor | None, site: Tensor
    ) -> dict[str, Tensor]:
        """Terms ``shrink`` and ``foresee``: sums over the latents, means over windows."""
        if z is None:
            return {}
        assert isinstance(net, TowerNet)
        own = net.own[site.to(z.device)]
        ahead = z - own - z.detach()  # moves the encoder alone: of ``own`` nothing is left in it
        return {
            "shrink": self.shrink * own.square().sum(-1).mean(),
            "foresee": self.foresee * ahead.square().sum(-1).mean(),
        }


class Bound(NamedTuple):
    """Range of a parameter and its value in an untrained network."""

    low: float
    high: float
    start: float


# alpha, gC m-2 d-1 per W m-2 of shortwave: at most the quantum yield without photorespiration,
# 0.073 mol mol-1 (Ehleringer & Bjorkman 1977, doi 10.1104/pp.59.1.86), of 0.45 x 0.0864 MJ of PAR
# a day (Monteith 1972, doi 10.2307/2401901) with 4.57 mol of photons per MJ, 12.011 g mol-1.
# Pmax, gC m-2 d-1, beyond any daily mean of a canopy. k, hPa-1, decay of Pmax above 10 hPa of VPD
# (Lasslop et al. 2010, doi 10.1111/j.1365-2486.2009.02041.x). R15, gC m-2 d-1 at 15 degC. E0, K,
# with the bounds of Lasslop et al. What has no source here is our own choice.
PARAMETERS = {
    "alpha": Bound(0.0, 0.073 * 0.45 * 0.0864 * 4.57 * 12.011, 0.06),
    "Pmax": Bound(0.0, 60.0, 15.0),
    "k": Bound(0.0, 0.1, 0.02),
    "R15": Bound(0.0, 20.0, 3.0),
    "E0": Bound(50.0, 400.0, 180.0),
}
OF_FLUX = {"alpha": "GPP", "Pmax": "GPP", "k": "GPP", "R15": "RECO", "E0": "RECO"}
VPD_FREE = 10.0  # hPa up to which production does not decay
DARK = 0.05  # W m-2; less is what rounding leaves of none
MET = ("TA", "VPD", "SW_IN")  # degC, hPa, W m-2


class ProcessNet(TamRL):
    """TAM-RL whose heads are parameters of processes, day by day, instead of fluxes.

    GPP  = alpha S P / (alpha S + P) * warm(TA),  P = Pmax exp(-k max(VPD - 10, 0))
    RECO = R15 exp(E0 (1 / (288.15 - 227.13) - 1 / (TA - 227.13)))    TA in K
    NEE  = RECO - GPP

    with the rectangular hyperbola of light S (as in Lasslop et al. 2010), the ramp of warmth of
    `samples.process_factors`, and Lloyd & Taylor (1994, doi 10.2307/2389824).
    """

    low: Tensor
    span: Tensor
    shift: Tensor

    def __init__(self, config: Config):
        if config.targets != FLUXES or config.closure != "hard":
            raise ValueError("the process model has GPP, RECO and NEE, and closes by construction")
        super().__init__(config)
        self.free = [FLUXES.index(OF_FLUX[name]) for name in PARAMETERS]  # gates of their flux
        self.head = nn.Parameter(torch.randn(len(self.free), config.hidden) * config.hidden**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(self.free)))
        low, high, start = torch.tensor(list(PARAMETERS.values())).T
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", high - low, persistent=False)
        self.register_buffer("shift", torch.logit((start - low) / (high - low)), persistent=False)
        self.met = [DAILY.index(name) for name in MET]

    def decode(
        self,
        x: Tensor,
        seen: Tensor,
        process: Tensor,
        facts: Tensor,
        z: Tensor | None,
        state: tuple[Tensor, Tensor] | None = None,
        skip: int = 0,
    ) -> Output:
        """Decode as `TamRL` does, but with the weather of the day in the place of its factors."""
        met = x[..., self.met].float() * self.x_sd[self.met] + self.x_mean[self.met]
        return super().decode(x, seen, met, facts, z, state, skip)

    def parameters_of(self, raw: Tensor) -> dict[str, Tensor]:
        """Heads (B, T, 5) -> parameters (B, T), inside their bounds."""
        bounded = self.low + self.span * torch.sigmoid(raw + self.shift)
        return dict(zip(PARAMETERS, bounded.unbind(-1), strict=True))

    def close(self, raw: Tensor, process: Tensor) -> Tensor:
        """Heads (B, T, 5) and weather (B, T, 3) -> fluxes (B, T, 3) in gC m-2 d-1."""
        p = self.parameters_of(raw)
        ta, vpd, sw = process.unbind(-1)
        light = p["alpha"] * torch.where(sw > DARK, sw, 0)
        most = p["Pmax"] * torch.exp(-p["k"] * (vpd - VPD_FREE).clamp(min=0))
        warm = torch.sigmoid((ta - 6.0) / 3.0) * 0.97 + 0.03
        gpp = light * most / (light + most).clamp(min=1e-6) * warm
        kelvin = ta.clamp(-30, 45) + 273.15
        reco = p["R15"] * torch.exp(p["E0"] * (1 / (288.15 - 227.13) - 1 / (kelvin - 227.13)))
        return torch.stack([gpp, reco, reco - gpp], -1)


@dataclass
class ProcessModel(TamRLModel):
    """TAM-RL that predicts parameters of light response and respiration; see `ProcessNet`."""

    def build(self, config: Config) -> TamRL:
        """Make the network."""
        return ProcessNet(config)
