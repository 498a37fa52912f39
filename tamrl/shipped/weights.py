"""Every trained model of the study as tensors and plain text, for safetensors files.

`pack` takes a model apart, `unpack` puts it together again; they know the kinds in `KINDS` and no
others, and nothing that is read is ever executed. Trees are kept as LightGBM's own text, packed.
"""

from __future__ import annotations

import hashlib
import lzma
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import lightgbm
import numpy as np
import torch
from torch import Tensor

from tamrl.errors import DataError
from tamrl.evaluate.learner import walk
from tamrl.model.network import Budget, Config, TamRL
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.shipped.annual import KERNEL, AnnualMeans, AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend

Tensors = dict[str, Tensor]
NOT_NEEDED = (  # lines of LightGBM's text that tell how trees grew; half of it
    "split_gain=", "internal_value=", "internal_weight=", "internal_count=", "leaf_weight=",
    "leaf_count=", "tree_sizes=",
)  # fmt: skip
PROCESS = ("mean", "sd", "points", "alpha", "centre", "spread")  # arrays of AnnualMeans


def pack(model: Any, name: str, tensors: Tensors) -> dict[str, Any]:
    """Put the arrays of a fitted model into ``tensors``, below ``name``; return the rest.

    Raises
    ------
    ValueError
        For a model that is not fitted.
    DataError
        For a kind of model that cannot be stored.
    """
    if isinstance(model, TamRLModel):
        if model.net is None:
            raise ValueError("fit the model before saving it")
        for key, tensor in model.net.state_dict().items():
            tensors[f"{name}.{key}"] = tensor.cpu().contiguous()
        return {
            "kind": "TAM-RL",
            "config": asdict(model.net.config),
            "recipe": asdict(model.recipe),
            "features": list(model.features),
        }
    if isinstance(model, Boosting):
        if not model.models:
            raise ValueError("fit the model before saving it")
        for flux, trees in model.models.items():
            tensors[f"{name}.{flux}"] = _packed_trees(trees)
        about = {"lags": model.lags, "process": model.process, "statics": list(model.statics)}
        return {"kind": "LightGBM", "fluxes": list(model.models), **about}
    if isinstance(model, Blend):
        parts = [pack(part, f"{name}.{k}", tensors) for k, part in enumerate(model.fitted)]
        return {"kind": "blend", "parts": parts, "weights": list(model.weights)}
    if isinstance(model, AnnualPrior | AnnualRescaling):
        if model.annual is None:
            raise ValueError("fit the model before saving it")
        annual = _pack_annual(model.annual, f"{name}.annual", tensors)
        inside = pack(model.fitted[0], f"{name}.model", tensors)
        about = {"annual": annual, "model": inside}
        if isinstance(model, AnnualRescaling):
            return {"kind": "annual rescaling", **about}
        return {"kind": "annual prior", "statics": list(model.statics), **about}
    raise DataError(f"a model of the kind {type(model).__name__} cannot be stored")


def unpack(about: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], device: str) -> Any:
    """Rebuild the model that `pack` took apart; networks go to ``device``.

    Raises
    ------
    DataError
        For an unknown kind. KeyError, TypeError, ValueError, RuntimeError: when parts are missing.
    """
    if about["kind"] not in KINDS:
        raise DataError(f"models of the kind {about['kind']!r} are unknown to this version")
    return KINDS[about["kind"]](about, name, tensors, device)


def networks(model: Any) -> list[TamRLModel]:
    """All TAM-RL networks in a model, however it is put together."""
    return [net for net in walk(model, fitted=True) if isinstance(net, TamRLModel)]


def networks_alone(members: Sequence[Any]) -> list[Any]:
    """Leave out of members what is no network; what is told to the networks stays.

    What networks are drawn to does not: labels of their own tower, to which they are adapted, know
    its annual means better.

    Raises
    ------
    DataError
        When there is no network at all.
    """
    out = []
    for member in members:
        prior = isinstance(member, AnnualPrior)
        out += [replace(member, model=n, fitted=[n]) if prior else n for n in networks(member)]
    if not out:
        raise DataError("these weights hold no network, and only networks can be adapted")
    return out


def digest(model: Any) -> str:
    """Hex digest of all arrays of a fitted model."""
    tensors: Tensors = {}
    pack(model, "", tensors)
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(name.encode() + value.numpy().tobytes())
    return found.hexdigest()


def _network(
    about: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], device: str
) -> TamRLModel:
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()
    }
    settings["budgets"] = tuple(
        Budget(b["total"], tuple(b["parts"]), tuple(b["coefficients"])) for b in settings["budgets"]
    )
    net = TamRL(Config(**settings))
    start = f"{name}."
    net.load_state_dict(
        {k.removeprefix(start): t for k, t in tensors.items() if k.startswith(start)}
    )
    recipe, features = Recipe(**about["recipe"]), tuple(about["features"])
    return TamRLModel(recipe=recipe, device=device, net=net.to(device), features=features)


def _trees(
    about: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], device: str
) -> Boosting:
    model = Boosting(about["lags"], about["process"], tuple(about["statics"]), tune=False)
    for flux in about["fluxes"]:
        grown = _unpacked_trees(tensors[f"{name}.{flux}"])
        model.models[flux] = partial(grown.predict, num_threads=model.threads)
    return model


def _blend(
    about: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], device: str
) -> Blend:
    parts = [unpack(p, f"{name}.{k}", tensors, device) for k, p in enumerate(about["parts"])]
    return Blend(parts, tuple(about["weights"]), fitted=parts)


def _with_annual(
    about: Mapping[str, Any], name: str, tensors: Mapping[str, Tensor], device: str,
    made: Callable[..., Any] = AnnualPrior,
) -> Any:  # fmt: skip
    inside = unpack(about["model"], f"{name}.model", tensors, device)
    kept = about["annual"]
    arrays = {key: tensors[f"{kept['at']}.{key}"].numpy() for key in PROCESS}
    kernel = KERNEL.clone_with_theta(np.array(kept["theta"]))
    annual = AnnualMeans(tuple(kept["names"]), kernel=kernel, **arrays)
    settings = {"statics": tuple(about["statics"])} if "statics" in about else {}
    return made(inside, annual=annual, fitted=[inside], **settings)


KINDS: Mapping[str, Callable[..., Any]] = {
    "TAM-RL": _network,
    "LightGBM": _trees,
    "blend": _blend,
    "annual prior": partial(_with_annual, made=AnnualPrior),
    "annual rescaling": partial(_with_annual, made=AnnualRescaling),
}


def _pack_annual(annual: AnnualMeans, name: str, tensors: Tensors) -> dict[str, Any]:
    """Store a process once, however many members of an ensemble share it."""
    arrays = {key: np.asarray(getattr(annual, key)) for key in PROCESS}
    others = {key.rpartition(".")[0] for key in tensors if key.endswith(".annual.points")}
    same = [
        at for at in sorted(others)
        if all(np.array_equal(tensors[f"{at}.{key}"].numpy(), a) for key, a in arrays.items())
    ]  # fmt: skip
    if not same:
        tensors |= {f"{name}.{k}": torch.from_numpy(a.copy()) for k, a in arrays.items()}
    assert annual.kernel is not None
    theta = [float(v) for v in annual.kernel.theta]
    return {"names": list(annual.names), "theta": theta, "at": same[0] if same else name}


def _packed_trees(trees: Any) -> Tensor:
    """LightGBM's text of the trees behind a bound ``predict`` (see `Boosting`), as bytes."""
    booster = trees.func.__self__
    if not isinstance(booster, lightgbm.Booster):
        raise DataError(f"trees of {type(booster).__name__} cannot be stored, only LightGBM's")
    text, end, _ = booster.model_to_string(num_iteration=-1).partition("end of trees")
    needed = "\n".join(line for line in text.split("\n") if not line.startswith(NOT_NEEDED)) + end
    return torch.from_numpy(
        np.frombuffer(lzma.compress(needed.encode(), preset=9), np.uint8).copy()
    )


def _unpacked_trees(stored: Tensor) -> lightgbm.Booster:
    return lightgbm.Booster(model_str=lzma.decompress(stored.numpy().tobytes()).decode() + "\n")
