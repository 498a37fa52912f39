"""TAM-RL, whole, in one file, read from top to bottom.

A place is a task. Its drivers' history (the *support set*, no flux labels) is encoded to a task
embedding z; z modulates (FiLM) an LSTM that turns daily drivers into fluxes, and gates the latent
features that each flux may use. The fluxes leave in gC m-2 d-1 and obey a linear budget.

    z     = Encoder(support, statics)                              (place, latent)
    x'    = gamma1(z) * x + beta1(z)                               FiLM at the input
    h_t   = LSTM(x'_t, seen_t, statics)                            (place, time, hidden)
    h'_t  = gamma2(z) * h_t + beta2(z)                             FiLM at the hidden state
    y_k,t = head_k(gate_k(z) * h'_t)                               one head a flux

with gamma = 1, beta = 0 and gate = 1 at initialisation: an untrained modulation is none. After
Rozanov, Renganathan & Kumar (2026, arXiv 2603.09974), Renganathan et al. (2023, arXiv 2310.04727),
Ghosh et al. (2021, arXiv 2109.06429: the encoder's own losses) and Perez et al. (2018,
arXiv 1709.07871: FiLM). Dimensions: B places or windows, T days, F drivers, K fluxes, S statics,
W support windows of L steps, C map variables, H hidden, D latent.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

GATE_SPAN = 2.0  # a gate lies in (0, 2) and is 1 where its logit is 0
NUMBERS = 1 << 53  # in [0, 1), which the low bits of a random integer make


@dataclass(frozen=True)
class Budget:
    """A linear balance, ``total = sum(coefficient * part)``, in one unit: of carbon, or of CO2e."""

    total: str
    parts: tuple[str, ...]
    coefficients: tuple[float, ...]


State = tuple[Tensor, Tensor]  # hidden and cell state of an LSTM
CARBON = Budget("NEE", ("RECO", "GPP"), (1.0, -1.0))


@dataclass(frozen=True)
class Config:
    """Shape of the model; the ablation changes one default at a time."""

    features: int  # F, daily drivers
    statics: int  # S, facts of a place
    targets: tuple[str, ...] = ("GPP", "RECO", "NEE")  # order of the outputs
    budgets: tuple[Budget, ...] = (CARBON,)
    positive: tuple[str, ...] = ("GPP", "RECO")  # fluxes that can't be negative
    hidden: int = 64  # H
    layers: int = 1  # of the decoder
    latent: int = 24  # D
    encoder: str = "bilstm"  # bilstm | convlstm | both | none: what z is made of
    film: bool = True  # modulate by z at the input and at the hidden state
    gates: bool = True  # one gate a flux on the latent features
    closure: str = "hard"  # hard: budgets hold by construction; soft, none: three free heads
    process: bool = True  # fluxes relative to light-use and respiration factors
    embed: int = 16  # width of the statics' embedding
    dropout: float = 0.2
    map_variables: int = 0  # C, for the ConvLSTM


class Output(NamedTuple):
    """Decoded fluxes (B, T, K) in gC m-2 d-1, LSTM state, gates (B, K, H)."""

    flux: Tensor
    state: State
    gates: Tensor


class Dropout(nn.Dropout):
    """PyTorch's dropout; on a CPU the same mask from the same draws in half the time."""

    def forward(self, h: Tensor, skip: int = 0) -> Tensor:
        """Thin ``h`` (B, T - skip, H), of which the first ``skip`` days were left out."""
        if not self.training or self.p == 0 or h.device.type != "cpu":
            return super().forward(h)
        draws = torch.empty(len(h), skip + h.shape[1], h.shape[2], dtype=torch.int64).random_()
        mask = draws[:, skip:].bitwise_and(NUMBERS - 1) < int((1 - self.p) * NUMBERS)
        return h * mask.to(h.dtype).div_(1 - self.p)


class SupportEncoder(nn.Module):
    """BiLSTM over each support window; also rebuilds the drivers that were hidden from it."""

    def __init__(self, c: Config):
        super().__init__()
        self.lstm = nn.LSTM(2 * c.features, c.latent, batch_first=True, bidirectional=True)
        self.pool = nn.Linear(2 * c.latent, c.latent)
        self.rebuild = nn.Linear(2 * c.latent, c.features)

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Encode ``x``, ``seen`` (B, W, L, F) -> windows (B, W, D), rebuilt (B, W, L, F)."""
        b, w, length, f = x.shape
        h, _ = _recur(self.lstm, torch.cat([x * seen, seen], -1).view(b * w, length, 2 * f))
        step_seen = (seen.sum(-1) > 0).to(h.dtype).view(b * w, length, 1)  # padding does not count
        mean = (h * step_seen).sum(1) / step_seen.sum(1).clamp(min=1)
        return self.pool(mean).view(b, w, -1), self.rebuild(h).view(b, w, length, f)


class ConvLSTM(nn.Module):
    """Spatio-temporal encoder of a 12-month climatology (Shi et al. 2015, arXiv 1506.04214)."""

    def __init__(self, c: Config):
        super().__init__()
        width = 16  # four unpadded 3 x 3 convolutions see 9 x 9 cells: a patch equals the globe
        sizes = [2 * c.map_variables, width, width, width]
        self.stem = nn.Sequential(*[m for s in sizes for m in (nn.Conv2d(s, width, 3), nn.SiLU())])
        self.gates = nn.Conv2d(2 * width, 4 * width, 1)
        self.pool = nn.Conv2d(width, c.latent, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Encode ``maps`` (B, 12, C, rows, cols), NaN = no data -> (B, D, rows - 8, cols - 8)."""
        seen = torch.isfinite(maps)
        x = torch.cat([torch.where(seen, maps, 0), seen.to(maps.dtype)], 2)
        x = self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (B, 12, width, r, c)
        h = cell = total = torch.zeros_like(x[:, 0])
        for month in (*range(12), *range(12)):  # twice round the year: the cycle has no start
            i, f, o, g = self.gates(torch.cat([x[:, month], h], 1)).chunk(4, 1)
            cell = torch.sigmoid(f + 1) * cell + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(cell)
            total = total + h
        return self.pool(total / 24)


class TaskEncoder(nn.Module):
    """One interface for all encoders: what is known of a place -> z (B, D)."""

    def __init__(self, c: Config):
        super().__init__()
        self.series = SupportEncoder(c) if c.encoder in ("bilstm", "both") else None
        self.space = ConvLSTM(c) if c.encoder in ("convlstm", "both") else None
        width = c.latent * ((self.series is not None) + (self.space is not None)) + c.embed
        self.mix = nn.Sequential(nn.Linear(width, c.latent), nn.Tanh())

    def forward(
        self, support: Tensor, seen: Tensor, facts: Tensor, maps: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return z (B, D), embeddings (B, W, D) of windows with any driver, and rebuilt support.

        ``support``, ``seen`` (B, W, L, F); ``facts`` (B, embed); ``maps`` (B, 12, C, 9, 9).
        """
        parts, each, rebuilt = [facts], None, None
        if self.series is not None:
            each, rebuilt = self.series(support, seen)
            used = (seen.sum((2, 3)) > 0).unsqueeze(-1).to(each.dtype)  # (B, W, 1)
            parts.append((each * used).sum(1) / used.sum(1).clamp(min=1))
        if self.space is not None:
            if maps is None:
                raise ValueError("this model's encoder needs the neighbourhood maps of each place")
            parts.append(self.space(maps).flatten(1))
        return self.mix(torch.cat(parts, -1)), each, rebuilt


class TamRL(nn.Module):
    """The whole model. Scaling lives in buffers, so weights alone turn drivers into fluxes."""

    x_mean: Tensor
    x_sd: Tensor
    s_mean: Tensor
    s_sd: Tensor
    y_mean: Tensor
    y_sd: Tensor

    def __init__(self, config: Config):
        super().__init__()
        c = self.config = config
        k = len(c.targets)
        for name, size in (("x", c.features), ("s", c.statics), ("y", k)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_sd", torch.ones(size))
        self.facts = nn.Sequential(nn.Linear(c.statics, c.embed), nn.SiLU(), nn.Dropout(c.dropout))
        self.encoder = TaskEncoder(c) if c.encoder != "none" else None
        self.lstm = nn.LSTM(2 * c.features + c.embed, c.hidden, c.layers, batch_first=True)
        self.drop = Dropout(c.dropout)
        self.latent = nn.Linear(c.hidden, c.hidden)
        derived = [b.total for b in c.budgets] if c.closure == "hard" else []
        self.free = [i for i, t in enumerate(c.targets) if t not in derived]  # fluxes with a head
        self.head = nn.Parameter(torch.randn(len(self.free), c.hidden) * c.hidden**-0.5)
        self.bias = nn.Parameter(torch.zeros(len(self.free)))
        if self.encoder is not None and c.film:
            self.film_x = _identity(c.latent, 2 * c.features)
            self.film_h = _identity(c.latent, 2 * c.hidden)
        if self.encoder is not None and c.gates:
            self.gate = _identity(c.latent, k * c.hidden)

    def scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Raw drivers (…, F), NaN = missing -> scaled drivers (0 where missing) and ``seen``."""
        seen = torch.isfinite(x)
        z = ((x - self.x_mean) / self.x_sd).clamp(-8, 8)
        return torch.where(seen, z, 0), seen.to(x.dtype)

    def embed_site(self, statics: Tensor) -> Tensor:
        """Embed raw statics (B, S), NaN = missing -> (B, embed)."""
        return self.facts(torch.nan_to_num(((statics - self.s_mean) / self.s_sd).clamp(-5, 5)))

    def encode(
        self, support: Tensor, seen: Tensor, facts: Tensor, maps: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Encode places by scaled support windows as `TaskEncoder` does; None without encoder."""
        return (None,) * 3 if self.encoder is None else self.encoder(support, seen, facts, maps)

    def decode(
        self, x: Tensor, seen: Tensor, process: Tensor, facts: Tensor, z: Tensor | None,
        state: State | None = None, skip: int = 0,
    ) -> Output:  # fmt: skip
        """Turn scaled drivers (B, T, F) of places described by ``facts`` and ``z`` into fluxes.

        ``process`` (B, T, 2): light-use and respiration scalars, 1 if unknown. With ``state`` a
        series goes in pieces. The first ``skip`` days only set it: fluxes are (B, T - skip, K).
        """
        h, state = self.embed_days(x, seen, facts, z, state, skip)
        flux, gates = self.read(h, process[:, skip:], z)
        return Output(flux, state, gates)

    def embed_days(
        self, x: Tensor, seen: Tensor, facts: Tensor, z: Tensor | None,
        state: State | None = None, skip: int = 0,
    ) -> tuple[Tensor, State]:  # fmt: skip
        """Latent features (B, T - skip, H) of days, which all fluxes share; as `decode`."""
        c = self.config
        if z is not None and c.film:
            x = _modulate(x, self.film_x(z))
        fixed = facts.unsqueeze(1).expand(-1, x.shape[1], -1)
        # The LSTM goes day by day: joined with days first, nothing is copied on the way into it.
        days_first = torch.cat([v.transpose(0, 1) for v in (x * seen, seen, fixed)], -1)
        h, state = _recur(self.lstm, days_first.transpose(0, 1), state)
        h = h[:, skip:]  # (B, T - skip, H)
        if z is not None and c.film:
            h = _modulate(h, self.film_h(z))
        return self.drop(fn.silu(self.latent(h)), skip), state

    def read(self, h: Tensor, process: Tensor, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fluxes (B, T, K) from features (B, T, H), by the gates (B, K, H) of each place."""
        c = self.config
        gates = h.new_ones(h.shape[0], len(c.targets), c.hidden)
        if z is not None and c.gates:
            gates = GATE_SPAN * torch.sigmoid(self.gate(z)).view_as(gates)
        weights = gates[:, self.free] * self.head  # (B, k, H)
        raw = torch.baddbmm(self.bias.view(1, 1, -1), h, weights.transpose(1, 2))
        return self.close(raw.float(), process), gates  # budgets close in fp32

    def close(self, raw: Tensor, process: Tensor) -> Tensor:
        """Heads (B, T, k) -> fluxes (B, T, K) in gC m-2 d-1, by the chosen closure.

        hard: softplus of positive fluxes, totals of budgets as sums; soft, none: free heads.
        """
        c, flux, hard = self.config, {}, self.config.closure == "hard"
        for j, i in enumerate(self.free):
            name, value = c.targets[i], raw[..., j]
            if hard and name in c.positive:
                value = fn.softplus(value + 0.5) * self.y_sd[i]
            else:
                value = value * self.y_sd[i] + self.y_mean[i]
            if hard and c.process and name in ("GPP", "RECO"):
                value = value * process[..., 0 if name == "GPP" else 1]
            flux[name] = value
        for b in c.budgets if hard else ():
            parts = zip(b.coefficients, b.parts, strict=True)
            flux[b.total] = torch.stack([a * flux[p] for a, p in parts]).sum(0)
        return torch.stack([flux[t] for t in c.targets], -1)

    def forward(
        self, x: Tensor, process: Tensor, statics: Tensor, support: Tensor,
        maps: Tensor | None = None,
    ) -> Output:  # fmt: skip
        """Raw drivers (B, T, F), statics (B, S), support (B, W, L, F) -> fluxes: the whole path."""
        facts = self.embed_site(statics)
        z, _, _ = self.encode(*self.scale(support), facts, maps)
        return self.decode(*self.scale(x), torch.nan_to_num(process, nan=1.0), facts, z)


def _recur(lstm: nn.LSTM, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
    """Run an LSTM; on a GPU in 32 bits: autocast would have float16 there, whatever is asked."""
    if x.is_cuda and torch.is_autocast_enabled("cuda"):
        with torch.autocast("cuda", enabled=False):
            return lstm(x.float(), state)
    return lstm(x, state)


def _modulate(v: Tensor, film: Tensor) -> Tensor:
    """Modulate ``v`` (B, T, N) by gamma - 1 and beta, side by side in ``film`` (B, 2 N)."""
    gamma, beta = film.unsqueeze(1).chunk(2, -1)
    return torch.addcmul(beta, 1 + gamma, v)


def _identity(size: int, out: int) -> nn.Linear:
    layer = nn.Linear(size, out)
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer
