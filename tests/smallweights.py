"""A file of weights of every kind of model, small and untrained, and damaged copies of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from settings import SMALL
from test_trees import GOOD, text_of

from tamrl.evaluate.conformal import Conformal
from tamrl.model.network import Config, TamRL
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.rivals.forest import Forest
from tamrl.shipped import weights_file
from tamrl.shipped.adaptation import Adapted
from tamrl.shipped.annual import KERNEL, AnnualMeans, AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.shipped.error_model import ErrorModel

FEATURES, STATICS = ["TA", "VPD", "SW_IN"], ["elevation", "igbp_ENF"]


def write(path: Path) -> Path:
    """Write the sound file."""
    net = TamRLModel({}, Recipe(), net=TamRL(Config(3, 2, **SMALL)), features=tuple(FEATURES))
    trees = Boosting(tune=False, forest=Forest({f: text_of(GOOD) for f in ("GPP", "RECO", "NEE")}))
    arrays = {"mean": np.zeros(2), "sd": np.ones(2), "points": np.zeros((4, 2))}
    arrays |= {"alpha": np.zeros((4, 2)), "centre": np.zeros(2), "spread": np.ones(2)}
    annual = AnnualMeans(("TA_mean", "igbp_ENF"), KERNEL, arrays)
    prior = AnnualPrior(net, annual=annual, fitted=[net])
    blend = Blend((prior, trees), (2.0, 1.0), fitted=[prior, trees])
    whole = AnnualRescaling(blend, annual=annual, fitted=[blend])
    adapted = Adapted(whole, np.zeros(8), fitted=[whole])
    bounds = Conformal((1.0, 0.0, 0.1), {"": 1.0}, {0.9: (-1.5, 1.5)}).to_dict()
    by_flux = dict.fromkeys(("GPP", "RECO", "NEE"), bounds)
    place = {"site": ["XX-Abc"], "lat": [50.0], "lon": [10.0]}
    space = {"names": ["elevation"], "mean": [0.0], "scale": [1.0], "weight": [1.0]}
    header = {
        "features": FEATURES, "statics": STATICS, "members": 1, "virtual": 1, "towers": 12,
        "intervals": by_flux, "intervals_by_inputs": {"EVI, grid": by_flux},
        "error_model": ErrorModel().store(), "covariance": np.eye(8).tolist(),
        "adapted_to": "XX-Abc", "labelled_days": 30, "learnt": {"towers": place, "places": place},
        "space": space | {"points": [[0.0], [1.0]], "distance": 1.0, "threshold": 0.5},
    }  # fmt: skip
    weights_file.write([adapted], path, header)
    return path


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays of a file."""
    with safe_open(path, "np") as stored:
        header = json.loads(stored.metadata()["tamrl"].partition("\n")[0])
        return header, {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118


def damaged(sound: Path, place: str, change: Any, path: Path) -> Path:
    """Write a copy of which one entry of the header ("a.0.b") or one array ("@name") is another.

    A point in a name of the header is written "@".
    ``change`` is the new value, or makes it of the old one; `Ellipsis` takes the entry away.
    """
    header, arrays = parts(sound)
    if place.startswith("@"):
        inside, key = arrays, place[1:]
    else:
        *way, key = (step.replace("@", ".") for step in place.split("."))
        inside = header
        for step in way:
            inside = inside[int(step) if isinstance(inside, list) else step]
        key = int(key) if isinstance(inside, list) else key
    made = change(inside[key]) if isinstance(change, Callable) else change
    if made is ...:
        del inside[key]
    else:
        inside[key] = made
    save_file(arrays, path, {"tamrl": json.dumps(header)})
    return path
