"""Rivals from the literature, behind the ``fit`` and ``predict`` of `tamrl.rivals.boosting`.

`XGBoost` is `Boosting` grown by the library of FLUXCOM-X-BASE (Nelson et al. 2024,
doi 10.5194/bg-21-5079-2024). The networks share the loop, the loss and the drivers of
`tamrl.model.train.TamRLModel` and differ in what they are: `LSTM` knows the daily drivers alone
(Hochreiter & Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735), `CTLSTM` the facts of the place
besides, at every step (Kratzert et al. 2019, doi 10.5194/hess-23-5089-2019, there for rivers), and
`Transformer` attends to the days before (Vaswani et al. 2017, arXiv 1706.03762). All three have
three free heads, without closure, as published models have; GPP and RECO are cut off at 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as fn

from tamrl.errors import DataError
from tamrl.model.network import Config, Output, TamRL
from tamrl.model.tensors import DeviceData
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Array, Boosting, Trees
from tamrl.samples.arrays import Samples

PLAIN: Mapping[str, Any] = {"encoder": "none", "closure": "none", "process": False}
HEADS = 4  # of attention
BLOCKS = 2  # of attention and feed-forward
# Every day of a window is learnt from, with the days before it in the window as its past.
TRANSFORMER = Recipe(batch=32, length=120, warmup=0, keep=30, lr=1e-3)


@dataclass
class XGBoost(Boosting):
    """XGBoost, one model a flux: inputs, targets and search for settings are those of `Boosting`.

    Raises `DataError` in ``fit`` where the library is not installed.
    """

    version: ClassVar[int] = 1
    GRID = (
        {"max_depth": 6, "min_child_weight": 100, "learning_rate": 0.06},
        {"max_depth": 8, "min_child_weight": 250, "learning_rate": 0.05},
        {"max_depth": 4, "min_child_weight": 250, "learning_rate": 0.08},
    )

    def _grow(
        self, x: Array, y: NDArray, w: NDArray, seed: int, trees: int, params: dict[str, Any]
    ) -> Trees:
        try:
            import xgboost
        except ImportError as error:
            raise DataError(
                "XGBoost is not installed; install it with: pip install 'tamrl[rivals]'"
            ) from error
        settings = {
            "objective": "reg:squarederror", "verbosity": 0, "seed": seed, "nthread": self.threads,
            "tree_method": "hist", "colsample_bytree": 0.4, "subsample": 0.6, "lambda": 5.0,
            "max_bin": 128, **params,
        }  # fmt: skip
        data = xgboost.QuantileDMatrix(x, y, weight=w, max_bin=128, nthread=self.threads)
        return partial(xgboost.train(settings, data, trees).inplace_predict, missing=np.nan)


@dataclass
class CTLSTM(TamRLModel):
    """LSTM that reads the facts of the place beside each day's drivers; no task embedding."""

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Lay ``overrides`` over what makes it plain."""
        self.overrides = {**PLAIN, **self.overrides}


@dataclass
class LSTM(CTLSTM):
    """LSTM that reads the daily drivers alone: where it is, the weather must tell."""

    version: ClassVar[int] = 1

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> LSTM:
        """Train without the facts of the place."""
        super().fit(_nowhere(samples), train, valid, seed)
        return self

    def predict(
        self,
        samples: Samples,
        sites: NDArray,
        net: TamRL | None = None,
        data: DeviceData | None = None,
    ) -> Array:
        """Predict without the facts of the place; see `TamRLModel.predict`."""
        return super().predict(_nowhere(samples), sites, net, data)


def _nowhere(samples: Samples) -> Samples:
    """Leave out the facts of all places (set missing), the same for all."""
    return replace(samples, static=np.full_like(samples.static, np.nan))


class AttentionNet(TamRL):
    """Decoder of causal self-attention in the place of the LSTM: a day sees the days before it.

    Pre-norm blocks of width H with sinusoidal positions; heads and closure are those of `TamRL`.
    It has no state to go on from, so that predictions are made of windows.
    """

    def __init__(self, config: Config):
        if config.encoder != "none":
            raise ValueError(f"the transformer has no encoder of tasks; got {config.encoder!r}")
        super().__init__(config)
        c = config
        del self.lstm
        self.enter = nn.Linear(2 * c.features + c.embed, c.hidden)
        block = nn.TransformerEncoderLayer(
            c.hidden, HEADS, 2 * c.hidden, c.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, BLOCKS, nn.LayerNorm(c.hidden), enable_nested_tensor=False
        )

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
        """Turn scaled drivers (B, T, F) of a window into fluxes (B, T, K); see `TamRL.decode`."""
        if state is not None:
            raise ValueError("a window of the transformer stands alone; set Recipe.keep")
        days = x.shape[1]
        fixed = facts.unsqueeze(1).expand(-1, days, -1)
        h = self.enter(torch.cat([x * seen, seen, fixed], -1))
        h = h + _positions(days, h)
        later = nn.Transformer.generate_square_subsequent_mask(days, x.device, x.dtype)
        h = self.blocks(h, later, is_causal=True)[:, skip:]
        h = self.drop(fn.silu(self.latent(h)), skip)  # (B, T - skip, H)
        raw = fn.linear(h, self.head, self.bias)
        none = h.new_zeros(0)
        gates = h.new_ones(len(h), len(self.config.targets), self.config.hidden)
        return Output(self.close(raw.float(), process[:, skip:]), (none, none), gates)


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
    recipe: Recipe = field(default_factory=lambda: TRANSFORMER)

    def __post_init__(self) -> None:
        """Refuse to stream along time, which attention can't."""
        super().__post_init__()
        if self.recipe.keep == 0:
            raise ValueError("a transformer predicts window by window; set Recipe.keep")

    def build(self, config: Config) -> TamRL:
        """Make the network."""
        return AttentionNet(config)
