"""Trained map models as one safetensors file: networks or boosted trees, with their intervals.

What the header says as text: kind, features, where the towers came from, how many standard
deviations of the ensemble make the interval. Trees are kept as LightGBM's own text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import xarray as xr
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tamrl.errors import DataError
from tamrl.files import atomic_write
from tamrl.maps.boosted import MAP_FEATURES, BoostedMap, MapModel
from tamrl.maps.seasonal import TamRLMap, _year_samples
from tamrl.shipped import pretrained
from tamrl.shipped.weights import digest

BOOSTED, NETWORK = "boosted map", "TAM-RL map"


def save(
    models: Sequence[BoostedMap] | Sequence[TamRLMap],
    path: Path,
    table: xr.Dataset,
    factors: Mapping[str, float] | None = None,
    level: float | None = None,
    **facts: object,
) -> None:
    """Write an ensemble of map models of one kind to one file, atomically.

    Parameters
    ----------
    models
        Fitted, all boosted or all networks.
    path
        File to write.
    table
        What they were fitted to; its attributes say whether the towers are virtual.
    factors, level
        As for `tamrl.maps.upscale.upscale`: the interval that goes with this ensemble.
    """
    header = {
        "features": list(models[0].features),
        "members": len(models),
        "factors": dict(factors) if factors else None,
        "level": level,
        "towers": int((table["weight"] > 0).any("month").sum()),
        "virtual": int(table.attrs.get("virtual", 0)),
        "tower_source": str(table.attrs.get("tower_source", "unknown")),
        **facts,
    }
    networks = [m for m in models if isinstance(m, TamRLMap)]
    if networks:
        nothing = np.zeros((1, 12, len(MAP_FEATURES)), np.float32)
        none = np.zeros((1, 12, 3), np.float32)
        stub = _year_samples(nothing, none, none[..., 0], pd.DataFrame(index=[0]))
        names = {"map_features": header.pop("features"), "kind": NETWORK}
        pretrained.save([m.model for m in networks], path, stub, None, **names, **header)
        return
    tensors = {}
    for i, model in enumerate(models):
        assert isinstance(model, BoostedMap)
        for k, text in enumerate(model.texts()):
            tensors[f"{i}.{k}"] = np.frombuffer(text.encode(), dtype=np.uint8)
    with atomic_write(path) as part:
        save_file(tensors, part, {"tamrl": json.dumps(header | {"kind": BOOSTED})})


def read_header(path: Path) -> dict[str, Any]:
    """Read what a file of weights says of itself; "kind" is absent in weights for towers.

    Raises
    ------
    DataError
        When there is no such file, or it is not one of ours.
    """
    if not path.is_file():
        raise DataError(
            f"{path}: no such file of weights; train some: tamrl train-map -o {path} (for monthly "
            f"cubes) or tamrl train -o {path} (for daily ones)"
        )
    try:
        with safe_open(path, "np") as stored:
            return dict(json.loads((stored.metadata() or {})["tamrl"]))
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not weights of tamrl ({error}); train them anew") from error


def load(path: Path) -> tuple[list[MapModel], dict[str, Any]]:
    """Read map models and their header.

    Raises
    ------
    DataError
        For a missing or foreign file, and for weights that are for towers, not for maps.
    """
    header = read_header(path)
    if header.get("kind") == NETWORK:
        networks, _ = pretrained.load(path, "cpu")
        models: list[MapModel] = []
        for network in networks:
            model = TamRLMap()
            model.model, model.digest = network, digest(network)
            models.append(model)
        return models, header | {"features": header["map_features"]}
    if header.get("kind") != BOOSTED:
        raise DataError(f"{path}: these weights are for towers; make them map models for a cube")
    with safe_open(path, "np") as stored:
        texts = {name: stored.get_tensor(name).tobytes().decode() for name in stored.keys()}  # noqa: SIM118
    trees: list[MapModel] = []
    for i in range(header["members"]):
        member = BoostedMap(tuple(header["features"]))
        own = [texts[f"{i}.{k}"] for k in range(3)]
        member.boosters = [lightgbm.Booster(model_str=text) for text in own]
        member.digest = hashlib.sha256("".join(own).encode()).hexdigest()
        trees.append(member)
    return trees, header
