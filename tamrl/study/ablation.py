"""Which part of TAM-RL earns its keep: one variant a mechanism, all else equal.

Every variant differs from the first in what its name says. Two pre-trained on simulated towers show
what modulation by the place is worth once a network has met many places.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from tamrl.model.train import PUBLISHED, Recipe, TamRLModel
from tamrl.shipped.pretraining import SyntheticPretraining

DEFAULT = "TAM-RL"
PRETRAINED = "pre-trained on one data set"
PRETRAINED_PLAIN = f"{PRETRAINED}, no modulation"
GROUPS: Mapping[str, tuple[str, ...]] = {
    "modulation": ("no modulation", "FiLM only", "gates only"),
    "representation": ("no representation losses", "ConvLSTM encoder", "both encoders"),
    "closure": ("soft closure", "soft closure, weight 1", "no closure", "no process scalars"),
    "training": ("two stages", "window of 30 days", "window of 90 days", "window of 150 days"),
    "pre-training": (PRETRAINED, PRETRAINED_PLAIN),
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
    "no process scalars": ({"process": False}, {}),
    "two stages": ({}, {"pretrain_epochs": 2}),
    # As many days of labels a step as the default has, so that only the context differs.
    "window of 30 days": ({}, {"length": 30, "warmup": 0, "batch": 179, "keep": 15}),
    "window of 90 days": ({}, {"length": 90, "warmup": 30, "batch": 89}),
    "window of 150 days": ({}, {"length": 150, "warmup": 30, "batch": 45}),
}


def variants(
    recipe: Recipe | None = None, device: str = "cpu", n_virtual: int = 1000
) -> dict[str, Callable[[], TamRLModel]]:
    """Factories of all variants by name; two are pre-trained at ``n_virtual`` virtual towers."""
    base = recipe or Recipe()
    out: dict[str, Callable[[], TamRLModel]] = {
        name: partial(TamRLModel, overrides=net, recipe=replace(base, **training), device=device)
        for name, (net, training) in _CHANGES.items()
    }
    first = partial(SyntheticPretraining, recipe=base, device=device, n_sites=n_virtual)
    first = partial(first, datasets=1, epochs_each=4)
    out |= {PRETRAINED: first, PRETRAINED_PLAIN: partial(first, {"encoder": "none"})}
    published = replace(PUBLISHED, epochs=base.epochs, pretrain_epochs=base.epochs // 4)
    apart = {"closure": "soft", "gates": False, "process": False}
    out["as published"] = partial(TamRLModel, overrides=apart, recipe=published, device=device)
    return out
