"""Models as arrays and plain text for safetensors files.

A model's ``store`` gives settings, fitted parts and arrays; ``restore`` makes it again. A file
names models by their ``kind``, one of `KINDS`; nothing that is read is ever executed.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamrl.errors import DataError
from tamrl.evaluate.learner import walk
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.rivals.forest import MOST_INPUTS
from tamrl.shipped.adaptation import Adapted
from tamrl.shipped.annual import AnnualMeans, AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.shipped.checks import MOST_BYTES, check_model
from tamrl.shipped.new_target import WithTarget

Arrays = dict[str, NDArray]
PRIORS = (AnnualMeans, AnnualPrior, AnnualRescaling)
STORED = (TamRLModel, Boosting, Blend, *PRIORS, Adapted, WithTarget)
KINDS: Mapping[str, Any] = {cls.kind: cls for cls in STORED}


def pack(model: Any, name: str, arrays: Arrays) -> dict[str, Any]:
    """Put the arrays of a fitted model into ``arrays``, below ``name``; return the rest.

    Equal arrays that are there already are referred to by ``at``. DataError for other kinds.
    """
    if getattr(model, "kind", None) not in KINDS:
        raise DataError(f"a model of the kind {type(model).__name__} cannot be stored")
    about, own = model.store()
    at = _same(own, arrays) if own else None
    if at is None:
        arrays |= {f"{name}.{key}": np.array(value, order="C") for key, value in own.items()}
    made = _each(about, name, lambda part, below: pack(part, below, arrays))
    return {"kind": model.kind, **({} if at is None else {"at": at}), **made}


def _each(settings: Mapping[str, Any], name: str, change: Callable[[Any, str], Any]) -> Any:
    """Change the models among settings, in ``parts`` or of a kind, each with a longer ``name``."""
    out = dict(settings)
    for key, value in settings.items():
        if key == "parts":
            out[key] = [change(part, f"{name}.{k}") for k, part in enumerate(value)]
        elif hasattr(value, "kind") or (isinstance(value, dict) and "kind" in value):
            out[key] = change(value, f"{name}.{key}")
    return out


def _same(own: Arrays, arrays: Arrays) -> str | None:
    """Name below which equal arrays are stored, if there are any."""
    end = f".{next(iter(own))}"
    for at in [key.removesuffix(end) for key in arrays if key.endswith(end)]:
        if all(np.array_equal(value, arrays.get(f"{at}.{key}", [])) for key, value in own.items()):
            return at
    return None


def unpack(models: Sequence[Mapping[str, Any]], arrays: Arrays, device: str) -> list[Any]:
    """Make the models again that `pack` took apart, equal ones once; networks go to ``device``.

    DataError for an unknown kind; KeyError, TypeError, ValueError, RuntimeError if parts lack.
    """
    shared: dict[str, Any] = {}
    taken = [0]

    def make(about: Mapping[str, Any], name: str) -> Any:
        if about["kind"] not in KINDS:
            raise DataError(f"models of the kind {about['kind']!r} are unknown to this version")
        at = about.get("at", name)
        identity = json.dumps([at, {key: value for key, value in about.items() if key != "at"}])
        if identity not in shared:
            settings = _each(about, name, make)
            own = {k[len(at) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{at}.")}
            check_model(about, own, at)
            if settings == dict(about):  # not made of others
                taken.append(sum(value.nbytes for value in own.values()))
            if sum(taken) > MOST_BYTES:  # many can be made of one array
                raise DataError(f"its models take more than {MOST_BYTES} bytes")
            shared[identity] = KINDS[about["kind"]].restore(settings, own, device)
        return shared[identity]

    return [make(about, str(i)) for i, about in enumerate(models)]


def networks(model: Any) -> list[TamRLModel]:
    """All TAM-RL networks in a fitted model, however it is put together."""
    return [net for net in walk(model, fitted=True) if isinstance(net, TamRLModel)]


def load_compiled(models: Sequence[Any]) -> None:
    """Load the code that walks trees, half a second once a process, before it is waited for."""
    parts = (part for model in models for part in walk(model, fitted=True))
    forests = (p.forest for p in parts if isinstance(p, Boosting) and p.forest is not None)
    for forest in islice(forests, 1):
        forest(np.empty((0, MOST_INPUTS), np.float32))


def networks_alone(members: Sequence[Any]) -> list[Any]:
    """Reduce members to their networks, each with what alters its samples, such as a prior.

    Nothing is rescaled: labels of a tower know its annual means better. DataError without network.
    """

    def alone(model: Any) -> list[Any]:
        if isinstance(model, TamRLModel):
            return [model]
        inside = [each for part in getattr(model, "fitted", ()) for each in alone(part)]
        if getattr(model, "alters_samples", False):
            return [replace(model, model=each, fitted=[each]) for each in inside]
        return inside

    out = [network for member in members for network in alone(member)]
    if not out:
        raise DataError("these weights hold no network, and only networks can be adapted")
    return out


def digest(model: Any) -> str:
    """Hex digest of all arrays of a fitted model."""
    arrays: Arrays = {}
    pack(model, "", arrays)
    return digest_of(arrays)


def digest_of(arrays: Mapping[str, NDArray], header: str = "") -> str:
    """Hex digest of named arrays, and of the text of a header before them."""
    each = (name.encode() + value.tobytes() for name, value in sorted(arrays.items()))
    return hashlib.sha256(b"".join([header.encode(), *each])).hexdigest()
