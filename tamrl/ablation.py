"""Which part of TAM-RL earns its keep: one variant a mechanism, all else equal.

Each variant is a factory as `tamrl.evaluate.cross_validate` takes it; the first is the default,
and every other one differs from it in what its name says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tamrl.train import PUBLISHED, Recipe, TamRLModel

DEFAULT = "TAM-RL"
WITH_MAPS = ("ConvLSTM encoder", "both encoders")  # these need `patches.with_neighbourhoods`
GROUPS: Mapping[str, tuple[str, ...]] = {
    "modulation": ("no modulation", "FiLM only", "gates only"),
    "representation": ("no representation losses", *WITH_MAPS),
    "closure": ("soft closure", "soft closure, weight 1", "no closure", "no process factors"),
    "training": ("two stages", "window of 30 days", "window of 90 days", "window of 365 days"),
    "published": ("as published",),
}
_CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    DEFAULT: ({}, {}),
    "no modulation": ({"encoder": "none"}, {}),
    "FiLM only": ({"gates": False}, {}),
    "gates only": ({"film": False}, {}),
    "no representation losses": ({}, {"reconstruction": 0.0, "contrast": 0.0}),
    "ConvLSTM encoder": ({"encoder": "convlstm"}, {}),
    "both encoders": ({"encoder": "both"}, {}),
    "soft closure": ({"closure": "soft", "process": False}, {}),
    "soft closure, weight 1": ({"closure": "soft", "process": False}, {"balance": 1.0}),
    "no closure": ({"closure": "none", "process": False}, {}),
    "no process factors": ({"process": False}, {}),
    "two stages": ({}, {"pretrain_epochs": 2}),
    # As many days of labels a step as the default has, so that only the context differs.
    "window of 30 days": ({}, {"length": 30, "warmup": 0, "batch": 128, "keep": 15}),
    "window of 90 days": ({}, {"length": 90, "warmup": 30, "batch": 64}),
    "window of 365 days": ({}, {"length": 365, "warmup": 30, "batch": 12}),
}


def variants(recipe: Recipe | None = None, device: str = "cpu") -> dict[str, partial[TamRLModel]]:
    """Factories of all variants by name; ``recipe`` is what they share besides their difference."""
    base = recipe or Recipe()
    out = {
        name: partial(TamRLModel, overrides=net, recipe=replace(base, **training), device=device)
        for name, (net, training) in _CHANGES.items()
    }
    published = replace(PUBLISHED, epochs=base.epochs, pretrain_epochs=base.epochs // 4)
    net = {"closure": "soft", "gates": False, "process": False}
    out["as published"] = partial(TamRLModel, overrides=net, recipe=published, device=device)
    return out
