"""A trained ensemble as one safetensors file: predictions with intervals, and fine-tuning.

The file holds the arrays of every member; its header, as text, settings, names of drivers, what
they were trained on, how wide the intervals are. The ensemble that won this study's benchmark comes
with the package: ``tamrl.load_pretrained().predict("my-towers.csv", table="facts.csv")``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from lzma import LZMAError
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tamrl.data.schema import FLUXES, VARIABLES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.learner import Wrapper
from tamrl.files import atomic_write
from tamrl.model import adapt
from tamrl.model.train import pick_device
from tamrl.samples.arrays import PHENOLOGY, Samples, require_same
from tamrl.samples.phenology import with_phenology, without_phenology
from tamrl.samples.site_attributes import SiteAttributes, classes_only
from tamrl.shipped.inputs import own_samples
from tamrl.shipped.weights import Arrays, networks, networks_alone, pack, unpack

File = str | PathLike[str]
SHIPPED = "shipped/tamrl.safetensors"  # inside the package
LEVEL = 0.9  # of the bounds that predictions carry


@dataclass(frozen=True)
class Pretrained:
    """A trained ensemble: its members, the header of its file, its calibrated intervals."""

    members: list[Any]
    header: dict[str, Any]
    intervals: dict[str, Conformal]

    def predict(
        self, towers: File | xr.Dataset | Samples, table: File | pd.DataFrame | None = None
    ) -> xr.Dataset:
        """Predict daily fluxes at towers that need have no flux measurements.

        ``towers`` and ``table`` are what `tamrl.data.open_towers` reads, or ``towers`` what it
        returns, perhaps with EVI, or samples made of it, which alone need no `fetch_grid` and may
        have other satellite data. Without these, errors are larger than in the model card, and
        bounds may hold less (the experiment no-satellites). DataError where towers cannot be read,
        lack inputs that training had, or, offline, the grid is not in the cache. Returns GPP, RECO,
        NEE (site, time) in gC m-2 d-1 on days with TA, VPD and SW_IN, else NaN, closed; and, where
        calibrated, ``*_lower`` and ``*_upper``, 90 % intervals of daily values as measured (a lower
        bound of GPP may be below 0).
        """
        if not isinstance(towers, Samples):
            towers = own_samples(towers, table)
        return predict(self.members, towers, self.header, self.intervals)


def load_pretrained(path: File | None = None, device: str = "cpu") -> Pretrained:
    """Load a trained ensemble: the one of this package, or one of your own.

    ``path`` is a file of `tamrl train` or `tamrl finetune`; ``device`` of its networks: cpu, cuda,
    mps or auto. DataError when there is no such file, or it holds no weights of tamrl.
    >>> model = load_pretrained()
    >>> model.header["towers"], sorted(model.intervals)
    (180, ['GPP', 'NEE', 'RECO'])
    """
    with as_file(files("tamrl") / SHIPPED) as shipped:
        members, header = load(shipped if path is None else Path(path), device)
    return Pretrained(members, header, intervals_of(header))


def save(
    models: Sequence[Any], path: Path, samples: Samples,
    intervals: Mapping[str, Conformal] | None = None, **facts: object,
) -> None:  # fmt: skip
    """Write members to one file, atomically; bounds by flux and ``facts`` go into its header."""
    arrays: Arrays = {}
    about = [pack(model, str(i), arrays) for i, model in enumerate(models)]
    header = {
        "models": about, "features": samples.features, "statics": samples.static_names,
        "members": len(models),
        "intervals": {flux: fitted.to_dict() for flux, fitted in (intervals or {}).items()},
        **{k: int(v) if isinstance(v, np.integer) else v for k, v in samples.attrs.items()},
        **facts,
    }  # fmt: skip
    with atomic_write(path) as part:
        save_file(arrays, part, {"tamrl": json.dumps(header)})


def load(path: Path, device: str = "auto") -> tuple[list[Any], dict[str, Any]]:
    """Read ensemble members and the header that `save` wrote; DataError if there are none."""
    if not path.exists():
        raise DataError(f"{path}: no such file of weights; train them: tamrl train -o {path}")
    try:
        with safe_open(path, "np") as stored:
            header = json.loads((stored.metadata() or {})["tamrl"])
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        members = unpack(header["models"], arrays, str(pick_device(device)))
    except (SafetensorError, LZMAError, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise DataError(f"{path}: {error}") from error
        raise DataError(f"{path}: not weights of tamrl ({error}); train them anew") from error
    return members, header


def intervals_of(header: Mapping[str, Any]) -> dict[str, Conformal]:
    """Calibrated intervals by flux that a header holds; none when it holds none."""
    return {flux: Conformal.from_dict(v) for flux, v in header.get("intervals", {}).items()}


@torch.inference_mode()
def predict(
    models: Sequence[Any], samples: Samples, header: Mapping[str, Any],
    intervals: Mapping[str, Conformal] | None = None,
) -> xr.Dataset:  # fmt: skip
    """Daily fluxes (site, time) in gC m-2 d-1, mean over members, with bounds by ``intervals``."""
    samples = suited(samples, header)
    each = np.stack([model.predict(samples, np.arange(len(samples.site))) for model in models])
    mean, spread = each.mean(0), each.std(0)
    exact = mean[..., 1] - mean[..., 0]
    if np.nanmax(np.abs(mean[..., 2] - exact), initial=0) < 1e-4:  # members close: so does the mean
        mean[..., 2] = exact
    virtual = "virtual " if header["virtual"] else ""
    about = {
        "Conventions": "CF-1.11", "virtual": header["virtual"],
        "title": f"Daily carbon fluxes by TAM-RL, trained on {virtual}flux towers",
        "source": f"{header['members']} model(s) trained on {header['towers']} {virtual}towers",
    }  # fmt: skip
    flux = {f: (("site", "time"), mean[..., k], VARIABLES[f].attrs) for k, f in enumerate(FLUXES)}
    igbp = samples.table.igbp.to_numpy(str)[:, None]
    for f, interval in (intervals or {}).items():
        k, attrs = FLUXES.index(f), VARIABLES[f].attrs
        bounds = interval.interval(mean[..., k], spread[..., k], igbp, LEVEL)
        for side, values in zip(("lower", "upper"), bounds, strict=True):
            name = {"long_name": f"{side} bound of {LEVEL:.0%} of {attrs['long_name']}"}
            named = {"units": attrs["units"]} | name
            flux[f"{f}_{side}"] = (("site", "time"), values.astype(np.float32), named)
    facts = {n: ("site", samples.table[n].to_numpy()) for n in ("lat", "lon", "igbp", "koppen")}
    coords = {"site": samples.site, "time": samples.time.astype("datetime64[ns]"), **facts}
    return xr.Dataset(flux, coords, about)


def suited(samples: Samples, header: Mapping[str, Any]) -> Samples:
    """Complete samples for weights with that header.

    A vegetation index that they know and samples lack is missing, one that they do not know goes;
    places without a grid are described by vegetation class and latitude. DataError for other
    drivers or site attributes.
    """
    if (known := PHENOLOGY[0] in header["features"]) != (PHENOLOGY[0] in samples.features):
        samples = with_phenology(samples, None) if known else without_phenology(samples)
    text = "the weights were trained on other {}; they differ in"
    require_same(samples.features, header["features"], text.format("drivers"))
    statics = header.get("statics", samples.static_names)  # older files do not name them
    require_same(samples.static_names, statics, text.format("site attributes"))
    names = _place_names(header["models"][0])
    if samples.places is not None or not names:
        return samples
    return replace(samples, places=SiteAttributes(names, classes_only(samples.table, names)))


def _place_names(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the features of places that a member, or a part of it, has in the header."""
    if "annual" in about:
        return tuple(about["annual"]["names"])
    return next((names for part in about.get("parts", ()) if (names := _place_names(part))), ())


def finetune(
    towers: File | xr.Dataset | Samples, output: File, table: File | pd.DataFrame | None = None,
    model: Pretrained | None = None, frozen: bool = True,
) -> Pretrained:  # fmt: skip
    """Adapt a trained ensemble to towers with few labelled days, and save its weights.

    Parts of those days are left out in turn to see whether adapting helps; if it does not, the
    weights stay as they are. Trees are not adapted (`networks_alone`). Bounds, which were
    calibrated for other weights, are left out.

    ``towers`` and ``table`` are as for `Pretrained.predict`, with measured fluxes (site, time), gC
    m-2 d-1; several towers get one common adaptation. ``output`` is the file of adapted weights,
    ``model`` the ensemble (None: the package's). ``frozen``: a few hundred offsets, else all move.

    Returns the adapted ensemble. Its ``header`` says to which towers (``adapted_to``), from how
    many ``labelled_days``, and the error on days left out before and after it (``held_out``,
    standard deviations of the fluxes). Raises DataError as `Pretrained.predict` (so too offline,
    without a grid in the cache), for fewer than 10 labelled days, or weights without a network.
    """
    model = model or load_pretrained()
    samples = towers if isinstance(towers, Samples) else own_samples(towers, table)
    samples = suited(samples, model.header)
    adapted = adapt_networks(model.members, samples, frozen)
    logs = [network.log for member in adapted for network in networks(member)]
    held = [[step["held_out"] for step in log if step["taken"]] for log in logs]
    facts: dict[str, Any] = {
        "adapted_to": ", ".join(samples.site),
        "labelled_days": int((samples.weight > 0).sum()),
        "held_out": [float(np.mean([errors[k] for errors in held]) ** 0.5) for k in (0, -1)],
    }
    facts |= {n: model.header[n] for n in ("seed", "towers", "tower_source") if n in model.header}
    facts["virtual"] = int(any(about.get("virtual") for about in (model.header, samples.attrs)))
    save(adapted, Path(output), samples, **facts)
    return load_pretrained(output)


def adapt_networks(members: Sequence[Any], samples: Samples, frozen: bool = True) -> list[Any]:
    """Adapt the networks of an ensemble to all labels of ``samples`` (`tamrl.model.adapt`)."""

    def adapted(model: Any, given: Samples) -> Any:
        if isinstance(model, Wrapper):
            return replace(model, fitted=[adapted(model.fitted[0], model.inputs(given))])
        return adapt.finetune(model, given, np.arange(len(given.site)), frozen=frozen)

    return [adapted(member, samples) for member in networks_alone(members)]
