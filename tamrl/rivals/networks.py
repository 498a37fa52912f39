"""Rival networks from the literature, with loop, loss and drivers of `TamRLModel`.

`LSTM`: daily drivers alone (Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735);
`CTLSTM`: statics besides (Kratzert et al. 2019, doi 10.5194/hess-23-5089-2019); `Transformer`:
attention (Vaswani et al. 2017, arXiv 1706.03762). No closure; GPP and RECO are cut off at 0.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn

from tamrl.model.network import Config, Output, State, TamRL
from tamrl.model.predict import Fluxes
from tamrl.model.tensors import DeviceData
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples

PLAIN: Mapping[str, Any] = {"encoder": "none", "closure": "none", "process": False}
HEADS = 4  # of attention
BLOCKS = 2  # of attention and feed-forward
# Every day of a window is learnt from, with the days before it in the window as its past.
TRANSFORMER = Recipe(batch=32, length=120, warmup=0, keep=30, lr=1e-3)


@dataclass
class CTLSTM(TamRLModel):
    """LSTM that reads static attributes beside each day's drivers; no task embedding."""

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.overrides = {**PLAIN, **self.overrides}


@dataclass
class LSTM(CTLSTM):
    """LSTM that reads the daily drivers alone; static attributes are set missing everywhere."""

    version: ClassVar[int] = 1
    kind: ClassVar[str] = ""  # cannot be stored

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Train without static attributes."""
        return super().fit(_without_statics(samples), train, valid, seed)

    def predict(
        self, samples: Samples, sites: NDArray,
        net: TamRL | None = None, data: DeviceData | None = None,
    ) -> Fluxes:  # fmt: skip
        """Predict without static attributes; see `TamRLModel.predict`."""
        return super().predict(_without_statics(samples), sites, net, data)


def _without_statics(samples: Samples) -> Samples:
    return replace(samples, static=np.full_like(samples.static, np.nan))


class AttentionNet(TamRL):
    """Causal self-attention of width H, pre-norm, in place of the LSTM; it predicts by windows."""

    def __init__(self, config: Config):
        if config.encoder != "none":
            raise ValueError(f"the transformer has no encoder of tasks; got {config.encoder!r}")
        super().__init__(c := config)
        del self.lstm
        self.enter = nn.Linear(2 * c.features + c.embed, c.hidden)
        sizes, first = (c.hidden, HEADS, 2 * c.hidden), {"batch_first": True, "norm_first": True}
        block = nn.TransformerEncoderLayer(*sizes, c.dropout, "gelu", **first)
        norm = nn.LayerNorm(c.hidden)
        self.blocks = nn.TransformerEncoder(block, BLOCKS, norm, enable_nested_tensor=False)

    def decode(
        self, x: Tensor, seen: Tensor, process: Tensor, facts: Tensor, z: Tensor | None,
        state: State | None = None, skip: int = 0,
    ) -> Output:  # fmt: skip
        """Turn scaled drivers (B, T, F) of a window into fluxes (B, T, K); see `TamRL.decode`."""
        if state is not None:
            raise ValueError("a window of the transformer stands alone; set Recipe.keep")
        days = x.shape[1]
        h = self.enter(torch.cat([x * seen, seen, facts.unsqueeze(1).expand(-1, days, -1)], -1))
        h = h + _positions(days, h)
        later = nn.Transformer.generate_square_subsequent_mask(days, x.device, x.dtype)
        h = self.blocks(h, later, is_causal=True)[:, skip:]
        h = self.drop(fn.silu(self.latent(h)), skip)  # (B, T - skip, H)
        raw = fn.linear(h, self.head, self.bias)
        gates = h.new_ones(len(h), len(self.config.targets), self.config.hidden)
        return Output(self.close(raw.float(), process[:, skip:]), (h.new_zeros(0),) * 2, gates)


def _positions(days: int, like: Tensor) -> Tensor:
    """Sines and cosines (T, H) of the day in the window, as in section 3.5 of the paper."""
    width = like.shape[-1]
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(1e4) / width))
    angle = torch.arange(days, device=like.device)[:, None] * rate  # (T, H / 2)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).to(like.dtype)


@dataclass
class Transformer(CTLSTM):
    """Transformer that reads the same as `CTLSTM`, with a past of 90 to 120 days for each day."""

    version: ClassVar[int] = 1
    kind: ClassVar[str] = ""  # cannot be stored
    recipe: Recipe = field(default_factory=lambda: TRANSFORMER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe.keep == 0:
            raise ValueError("a transformer predicts window by window; set Recipe.keep")

    def build(self, config: Config) -> TamRL:
        """Make the network."""
        return AttentionNet(config)
