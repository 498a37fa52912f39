"""Trained models as one safetensors file: arrays, a header of text, and a digest of both.

The file holds the arrays of every member; its header says how to make them again, names of drivers,
what they were trained on, how wide the intervals are. What is read is checked before it is used.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from tamrl.errors import DataError, expect
from tamrl.evaluate.conformal import Conformal
from tamrl.files import atomic_write, check_regular
from tamrl.model.train import pick_device
from tamrl.samples.arrays import Samples, require_same
from tamrl.shipped.checks import MOST_BYTES, read_header
from tamrl.shipped.report import sha256_of
from tamrl.shipped.target_names import check_name
from tamrl.shipped.weights import Arrays, digest_of, networks, pack, unpack
from tamrl.shipped.weights_output import HEADER, check_weights_output

ABOUT = ("virtual", "tower_source")  # of samples, that weights carry
SEAL = "\nsha256:"  # before the digest of all else, which older files lack
WRONG = (  # what a file of something else may lead to
    SafetensorError, OSError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError,
    AttributeError,
)  # fmt: skip


def save(
    models: Sequence[Any], path: Path, samples: Samples,
    intervals: Mapping[str, Conformal] | None = None, **facts: object,
) -> None:  # fmt: skip
    """Write members to one file, atomically; bounds by flux and ``facts`` go into its header."""
    header = {
        "features": samples.features, "statics": samples.static_names, "members": len(models),
        "intervals": {flux: fitted.to_dict() for flux, fitted in (intervals or {}).items()},
        **{name: samples.attrs[name] for name in ABOUT if name in samples.attrs},
        **facts,
    }  # fmt: skip
    write(models, path, header)


def write(models: Sequence[Any], path: Path, header: Mapping[str, Any]) -> None:
    """Write members with a header that says all but how to make them again, atomically.

    DataError for what `load` would refuse; nothing is written then.
    """
    check_weights_output(path)
    arrays: Arrays = {}
    of_session = ("weights_sha256", "input_notes")
    header = {name: value for name, value in header.items() if name not in of_session}
    about = {"models": [pack(model, str(i), arrays) for i, model in enumerate(models)]}
    text = json.dumps({**header, **about})
    try:
        read_header(text)
    except DataError as error:
        raise DataError(f"{path}: not written, as nothing could read it again: {error}") from error
    with atomic_write(path) as part:
        part.write_bytes(serialise(arrays, {HEADER: text + SEAL + digest_of(arrays, text)}))


def load(path: Path, device: str = "auto") -> tuple[list[Any], dict[str, Any]]:
    """Read ensemble members and the header that `save` wrote; DataError if there are none."""
    check_regular(path, "weights of `tamrl train`")
    expect(device, str, "device", "auto, cpu, cuda or mps")
    if not path.is_file():
        raise DataError(f"{path}: no such file of weights; train them: tamrl train -o {path}")
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path}: {path.stat().st_size} bytes; at most {MOST_BYTES} are read")
    try:
        torch.empty(0, device="cpu" if device == "auto" else device)
    except (RuntimeError, AssertionError) as error:  # unknown, or not on this machine
        raise DataError(f"device {device!r} is not there for PyTorch; use cpu or auto") from error
    try:
        with safe_open(path, "np") as stored:
            text, _, digest = (stored.metadata() or {})[HEADER].partition(SEAL)
            header = read_header(text)
            arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        for target in header.get("targets", ()):
            check_name(target, {})
        members = unpack(header["models"], arrays, str(pick_device(device)))
        for net in (net for member in members for net in networks(member)):
            require_same(net.features, header["features"], "features: network and header differ in")
        if digest not in ("", digest_of(arrays, text)):
            raise DataError("its content is not that of the digest in it: it was changed")
    except WRONG as error:
        why = " ".join((str(error) or repr(error)).split())
        remedy = "get the file again, or train anew: tamrl train"
        raise DataError(f"{path}: not weights of tamrl: {why}; {remedy}") from error
    return members, header | {"weights_sha256": sha256_of(path)}
