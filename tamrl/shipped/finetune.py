"""Fine-tuning of a trained ensemble to towers of one's own: what `tamrl finetune` does."""

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.errors import DataError
from tamrl.evaluate.learner import Wrapper
from tamrl.model import adapt
from tamrl.samples.arrays import Samples
from tamrl.shipped.pretrained import Pretrained, load_pretrained, own_samples, placed, save
from tamrl.shipped.weights import networks, networks_alone


def finetune(
    towers: str | PathLike[str] | xr.Dataset | Samples, output: str | PathLike[str],
    table: str | PathLike[str] | pd.DataFrame | None = None,
    model: Pretrained | None = None, frozen: bool = True,
) -> Pretrained:  # fmt: skip
    """Adapt a trained ensemble to towers with few labelled days, and save its weights.

    Parts of those days are left out in turn to see whether adapting helps; if it does not, the
    weights stay as they are. Of an ensemble with trees the networks alone are adapted
    (`networks_alone`). Bounds, which were calibrated for other weights, are left out.

    ``towers`` and ``table`` are as for ``predict`` of `load_pretrained`, with measured fluxes
    (site, time), gC m-2 d-1; several towers get one common adaptation. ``output`` is the file of
    the adapted weights (safetensors), ``model`` the ensemble of the package if None. ``frozen``
    adapts a few hundred offsets, else all weights.

    Returns the adapted ensemble. Its ``header`` says to which towers (``adapted_to``), from how
    many ``labelled_days``, and the error on days left out before and after it (``held_out``,
    standard deviations of the fluxes). Raises DataError for towers that cannot be read, fewer than
    10 labelled days, other drivers than in the training, or weights without a network.
    """
    model = model or load_pretrained()
    samples = towers if isinstance(towers, Samples) else own_samples(towers, table)
    if model.header["features"] != list(samples.features):
        raise DataError(f"{', '.join(samples.site)}: the weights were trained on other drivers")
    samples = placed(samples, model.header)
    adapted = adapt_networks(model.members, samples, frozen)
    logs = [network.log for member in adapted for network in networks(member)]
    held = [[step["held_out"] for step in log if step["taken"]] for log in logs]
    facts: dict[str, Any] = {
        "adapted_to": ", ".join(samples.site),
        "labelled_days": int((samples.weight > 0).sum()),
        "held_out": [float(np.mean([errors[k] for errors in held]) ** 0.5) for k in (0, -1)],
    }
    facts |= {name: model.header[name] for name in ("seed", "towers") if name in model.header}
    save(adapted, Path(output), samples, **facts)
    return load_pretrained(output)


def adapt_networks(members: Sequence[Any], samples: Samples, frozen: bool = True) -> list[Any]:
    """Adapt the networks of an ensemble to all labels of ``samples`` (`tamrl.model.adapt`)."""

    def adapted(model: Any, given: Samples) -> Any:
        if isinstance(model, Wrapper):
            return replace(model, fitted=[adapted(model.fitted[0], model.inputs(given))])
        return adapt.finetune(model, given, np.arange(len(given.site)), frozen=frozen)

    return [adapted(member, samples) for member in networks_alone(members)]
