"""Trained models as one safetensors file, and predictions from it as a Dataset.

The file holds the weights and scaling of every ensemble member, and as text in its header all
that is needed to use them: settings, names of drivers, what they were trained on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tamrl.atomic import whole
from tamrl.data.schema import FLUXES, VARIABLES
from tamrl.errors import DataError
from tamrl.model import Budget, Config, TamRL
from tamrl.samples import Samples
from tamrl.train import Recipe, TamRLModel, pick_device


def save(models: Sequence[TamRLModel], path: Path, samples: Samples, **facts: object) -> None:
    """Write trained ensemble members that share their settings to one file, atomically.

    ``facts`` (seed, towers, …) go into the header beside settings and names of inputs.
    """
    tensors, config = {}, {}
    for i, model in enumerate(models):
        if model.net is None:
            raise ValueError("fit the model before saving it")
        config = asdict(model.net.config)
        for name, tensor in model.net.state_dict().items():
            tensors[f"{i}.{name}"] = tensor.cpu().contiguous()
    header = {
        "config": config,
        "recipe": asdict(models[0].recipe),
        "features": samples.features,
        "statics": samples.static_names,
        "members": len(models),
        **{k: int(v) if isinstance(v, np.integer) else v for k, v in samples.attrs.items()},
        **facts,
    }
    with whole(path) as part:
        save_file(tensors, part, {"tamrl": json.dumps(header)})


def load(path: Path, device: str = "auto") -> tuple[list[TamRLModel], dict[str, object]]:
    """Read ensemble members and the header that `save` wrote.

    Raises
    ------
    DataError
        When there is no such file, or it is not one of ours.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file of weights; train them: tamrl train -o {path}")
    try:
        with safe_open(path, "pt") as stored:
            header = json.loads((stored.metadata() or {})["tamrl"])
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path}: not weights of tamrl ({error}); train them anew") from error
    settings: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in header["config"].items()
    }
    settings["budgets"] = tuple(
        Budget(b["total"], tuple(b["parts"]), tuple(b["coefficients"]))
        for b in header["config"]["budgets"]
    )
    models = []
    on = pick_device(device)
    for i in range(header["members"]):
        net = TamRL(Config(**settings))
        start = f"{i}."
        net.load_state_dict(
            {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        )
        recipe = Recipe(**header["recipe"])
        features = tuple(header["features"])
        models.append(TamRLModel(recipe=recipe, device=str(on), net=net.to(on), features=features))
    return models, header


@torch.inference_mode()
def predict(
    models: Sequence[TamRLModel], samples: Samples, header: Mapping[str, Any]
) -> xr.Dataset:
    """Daily GPP, RECO and NEE (site, time) in gC m-2 d-1: the mean over the members.

    Days without the minimal drivers are NaN; ``header`` is what `load` read beside the weights.
    """
    if models[0].features != samples.features:
        unknown = set(models[0].features) ^ set(samples.features)
        raise DataError(
            f"the weights were trained on other drivers; they differ in {sorted(unknown)}"
        )
    sites = np.arange(len(samples.site))
    mean = np.mean([model.predict(samples, sites) for model in models], axis=0)
    virtual = "virtual " if header["virtual"] else ""
    about = {
        "Conventions": "CF-1.11",
        "title": f"Daily carbon fluxes by TAM-RL, trained on {virtual}flux towers",
        "source": f"{header['members']} network(s) trained on {header['towers']} {virtual}towers",
        "virtual": header["virtual"],
    }
    flux = {f: (("site", "time"), mean[..., k], VARIABLES[f].attrs) for k, f in enumerate(FLUXES)}
    facts = {n: ("site", samples.table[n].to_numpy()) for n in ("lat", "lon", "igbp", "koppen")}
    coords = {"site": samples.site, "time": samples.time.astype("datetime64[ns]"), **facts}
    return xr.Dataset(flux, coords, about)
