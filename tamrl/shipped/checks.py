"""What a file of weights may hold: all of it is checked before a model is made of any of it.

A file of weights is data from a stranger. A *check* takes a value and where it stands, and raises
`DataError` unless it is what is expected; checks of records are made of checks of their entries.
The settings of networks are checked by the annotations of the dataclasses that they become.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from itertools import product
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.model.network import CARBON, Config
from tamrl.model.predict import PRECISIONS
from tamrl.model.train import Recipe, config_of
from tamrl.samples.average_year import AVERAGE
from tamrl.samples.missing import INPUTS
from tamrl.samples.missing import key as key_of
from tamrl.shipped.annual import KERNEL
from tamrl.shipped.bounds import LEVEL
from tamrl.shipped.error_model import TERMS

Check = Callable[[Any, str], None]
MOST_BYTES = 1 << 30  # of a file
MOST_HEADER = 1 << 24  # letters of the header's text
MOST = 4096  # names, models, units of a network: far more than is known to be of use
LARGEST = 1e9  # of any number in the header
TINY = 1e-12  # what divides is larger
TEXT = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]*")  # what can be written and shown
RANGES = {"layers": (1, 64), "lr": (0, 1), "coefficients": (-LARGEST, LARGEST)}
RANGES |= dict.fromkeys(("features", "statics", "hidden", "latent", "embed"), (1, MOST))
RANGES |= dict.fromkeys(("length", "windows_of_support", "batch", "epochs"), (1, MOST))
RANGES |= dict.fromkeys(("dropout", "drop_satellite", "drop_driver", "hide", "average"), (0, 1))
CHOICES = {"encoder": ("bilstm", "convlstm", "both", "none"), "closure": ("hard", "soft", "none"),
           "satellite_dropout": ("window", "site"), "precision": PRECISIONS}  # fmt: skip


def _wrong(where: str, value: Any, expected: str) -> DataError:
    text = f"{value!r}"
    return DataError(f"{where} is {text[:60]}{'…' * (len(text) > 60)}; expected {expected}")


def number(low: float, high: float = LARGEST, kinds: tuple[type, ...] = (int, float)) -> Check:
    """Expect a number in a range, its ends included."""

    def check(value: Any, where: str) -> None:
        if type(value) not in kinds or not low <= value <= high:
            named = "a whole number" if float not in kinds else "a number"
            raise _wrong(where, value, f"{named} from {low:g} to {high:g}")

    return check


def numbers(*shape: int | None, low: float = -LARGEST, high: float = LARGEST) -> Check:
    """Expect nested lists of numbers of that shape (None: any length), each in a range."""

    def check(value: Any, where: str) -> None:
        try:
            array = np.array(value) if isinstance(value, list | tuple) else np.array("")
        except ValueError:  # lists of unequal length
            array = np.array("")
        fits = array.dtype.kind in "if" and len(array.shape) == len(shape)
        if not fits or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
            sizes = " x ".join("n" if n is None else str(n) for n in shape)
            raise _wrong(where, value, f"{sizes} numbers")
        for at in np.argwhere(~((array >= low) & (array <= high))):
            number(low, high)(float(array[tuple(at)]), f"{where}{at.tolist()}")

    return check


def _quantiles(value: Any, where: str) -> None:
    table(numbers(2))(value, where)
    inner = (np.inf, -np.inf)
    for level, (low, high) in sorted(value.items(), key=lambda item: float(item[0])):
        fitting = 0 < float(level) < 1 and str(float(level)) == level
        if not (fitting and low < high and low <= inner[0] and high >= inner[1]):
            expected = "a level, a lower and an upper bound, around those of lower levels"
            raise _wrong(f"{where}.{level}", [low, high], expected)
        inner = low, high
    record({str(LEVEL): numbers(2)})(value, where)


def _flag(value: Any, where: str) -> None:
    if value not in (0, 1):
        raise _wrong(where, value, "true or false")


def text(*allowed: str) -> Check:
    """Expect a text, one of those ``allowed`` if any are named."""

    def check(value: Any, where: str) -> None:
        fits = isinstance(value, str) and len(value) <= MOST and TEXT.fullmatch(value)
        if not fits or (allowed and value not in allowed):
            raise _wrong(where, value, " or ".join(allowed) or f"a text of at most {MOST} letters")

    return check


def each(check: Check, least: int = 0, unique: bool = False) -> Check:
    """Expect a list of at least so many values."""

    def check_all(value: Any, where: str) -> None:
        if not isinstance(value, list | tuple) or not least <= len(value) <= MOST:
            raise _wrong(where, value, f"a list of {least} to {MOST}")
        for k, one in enumerate(value):
            check(one, f"{where}[{k}]")
        if unique and len(set(value)) < len(value):
            raise _wrong(where, value, "every name once")

    return check_all


def record(
    needed: Mapping[str, Check], optional: Mapping[str, Check] | None = None,
    alike: Iterable[str] = (),
) -> Check:  # fmt: skip
    """Expect a dictionary with these entries, ``alike`` of one length; others are not looked at."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _wrong(where or "the header", value, "entries by name")
        if lacking := [name for name in needed if name not in value]:
            raise DataError(f"{where or 'the header'} lacks {', '.join(lacking)}")
        for name, one in {**needed, **(optional or {})}.items():
            if name in value:
                one(value[name], f"{where}.{name}".lstrip("."))
        if len({len(value[name]) for name in alike}) > 1:
            raise DataError(f"{where}: {', '.join(alike)} are not equally long")

    return check


def table(check: Check, *keys: str) -> Check:
    """Expect a dictionary of values of one kind; its keys are among ``keys`` (none: any)."""

    def check_all(value: Any, where: str) -> None:
        record({})(value, where)
        for name, one in value.items():
            text(*keys)(name, f"a name in {where}")
            check(one, f"{where}.{name}")

    return check_all


def settings(cls: Any) -> Check:
    """Expect what a dataclass takes, by its annotations, and nothing else."""
    hints = get_type_hints(cls)

    def check(value: Any, where: str) -> None:
        record({})(value, where)
        for name, one in value.items():
            text(*hints)(name, f"a name in {where}")
            _annotated(hints[name], name)(one, f"{where}.{name}")

    return check


def _annotated(kind: Any, name: str) -> Check:
    """Make the check of an annotation: bool, int, float, str, a dataclass or a tuple of these."""
    if is_dataclass(kind):
        return settings(kind)
    if inside := get_args(kind):
        return each(_annotated(inside[0], name))
    if kind in (bool, str):
        return _flag if kind is bool else text(*CHOICES.get(name, ()))
    return number(*RANGES.get(name, (0, MOST)), kinds=(int,) if kind is int else (int, float))


def _by_flux(value: Any, where: str) -> None:
    table(CONFORMAL, *FLUXES)(value, where)
    record(dict.fromkeys(FLUXES if value else (), CONFORMAL))(value, where)


def _fluxes(value: Any, where: str) -> None:
    if value != [*FLUXES]:
        raise _wrong(where, value, f"{[*FLUXES]}")


def _size(value: Any, where: str) -> None:
    numbers(3, low=0)(value, where)
    number(TINY)(value[0], f"{where}[0]")


def _two_or_none(value: Any, where: str) -> None:
    if value is not None:
        numbers(2, low=0)(value, where)


MODEL = record({"kind": text()})
NAMES = each(text(), 1, unique=True)
DEGREES = {"lat": numbers(None, low=-90, high=90), "lon": numbers(None, low=-180, high=180)}
PLACES = record({"site": each(text()), **DEGREES}, alike=("site", *DEGREES))
SPACE = {"names": NAMES, "mean": numbers(None), "scale": numbers(None, low=TINY),
         "weight": numbers(None, low=TINY)}  # fmt: skip
CONFORMAL = record({"scale": _size, "factor": table(number(TINY)), "quantiles": _quantiles})
KEYS = (*(key_of(has) for has in product((True, False), repeat=len(INPUTS))), AVERAGE)
ERRORS = {"root": (2 * TERMS, 2 * TERMS), "log_size": (2, 2), "log_variance": (3,), "link": (3,),
          "log_days": (2,)}  # fmt: skip
COUNT = number(1, kinds=(int,))
TARGET = record({"unit": text(), "positive": _flag, "adapted_to": text(), "labelled_days": COUNT,
                 "period": each(text(), 2), "held_out": _two_or_none})  # fmt: skip
HEADER = record(
    {"models": each(MODEL, 1), "features": NAMES, "virtual": _flag, "towers": COUNT,
     "members": COUNT},
    {"statics": NAMES, "level": number(0.01, 0.99), "tower_source": text(),
     "intervals": _by_flux, "anomalies": _by_flux, "intervals_by_inputs": table(_by_flux, *KEYS),
     "intervals_of_means": table(table(_by_flux, "month", "year"), *KEYS), "targets": table(TARGET),
     "error_model": record({n: numbers(*shape, low=-50, high=50) for n, shape in ERRORS.items()}),
     "covariance": numbers(2 * TERMS, 2 * TERMS), "adapted_to": text(), "labelled_days": COUNT,
     "learnt": record({"towers": PLACES}, {"places": PLACES}),
     "space": record({**SPACE, "points": numbers(None, None), "distance": number(TINY),
                      "threshold": number(0)}, alike=SPACE)},
)  # fmt: skip
MODELS = {
    "TAM-RL": record({"config": settings(Config), "recipe": settings(Recipe), "features": NAMES}),
    "LightGBM": record({"fluxes": _fluxes, "lags": _flag,
                        "process": _flag, "statics": each(text())}),
    "annual means": record({"names": NAMES, "theta": numbers(len(KERNEL.theta), low=-50, high=50)}),
    "annual prior": record({"model": MODEL, "annual": MODEL}, {"statics": each(text())}),
    "annual rescaling": record({"model": MODEL, "annual": MODEL}, {"weight": number(0, 1)}),
    "blend": record({"parts": each(MODEL, 1), "weights": numbers(None, low=0)},
                    alike=("parts", "weights")),
    "adapted": record({"model": MODEL}), "with target": record({"parts": each(MODEL, 2)}),
}  # fmt: skip


def read_header(written: str) -> dict[str, Any]:
    """Read a header of JSON; DataError for entries of another kind, size or order."""
    if len(written) > MOST_HEADER:
        raise DataError(f"its header has {len(written)} letters; at most {MOST_HEADER} are read")
    header = json.loads(written)
    HEADER(header, "")
    if "covariance" in header:
        if lacking := {"error_model", "adapted_to", "labelled_days"} - header.keys():
            raise DataError(f"the header has a covariance, but lacks {', '.join(lacking)}")
        covariance = np.array(header["covariance"])
        if not np.allclose(covariance, covariance.T) or np.linalg.eigvalsh(covariance)[0] < -TINY:
            expected = "a symmetric one without negative eigenvalues"
            raise _wrong("covariance", header["covariance"], expected)
    if header["members"] != len(header["models"]):
        raise _wrong("members", header["members"], f"{len(header['models'])}, as there are models")
    space = header.get("space", {"names": [], "points": [[]]})
    each(text(*header.get("statics", ())))(space["names"], "space.names")
    if len(space["points"][0]) != len(space["names"]):
        raise _wrong("space.points", space["points"], f"{len(space['names'])} numbers a point")
    return header


def check_model(about: Mapping[str, Any], arrays: Mapping[str, NDArray], name: str) -> None:
    """Refuse (DataError) settings of a model, and arrays that are not those of such a model."""
    MODELS[about["kind"]](about, f"models.{name}")
    for key, (shape, kind) in _expected(about, arrays, name).items():
        array, where = arrays.get(key, np.empty(0, object)), f"array {name}.{key}"
        sizes = tuple(n or m for n, m in zip(shape, array.shape, strict=False))
        if array.dtype != kind or array.shape != sizes or len(shape) != array.ndim:
            raise _wrong(where, f"{array.dtype} {array.shape}", f"{kind} {shape}")
        above = 0 if key.endswith("sd") or key == "spread" else -np.inf
        for at in np.argwhere(~((array > above) & (array < np.inf))):
            least = "finite number" if above else "number above 0"
            raise _wrong(f"{where}{at.tolist()}", float(array[tuple(at)]), f"a {least}")


def _expected(
    about: Mapping[str, Any], arrays: Mapping[str, NDArray], name: str
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shapes (0: any length) and types of the arrays of a model."""
    if about["kind"] == "TAM-RL":
        config = config_of(about)
        parts = {name for b in config.budgets for name in (b.total, *b.parts)}
        if config.targets[:3] != FLUXES or not parts | {*config.positive} <= {*config.targets}:
            raise _wrong(f"models.{name}.config.targets", config.targets, f"{FLUXES} and all parts")
        if config.positive[:2] != FLUXES[:2]:
            raise _wrong(f"models.{name}.config.positive", config.positive, "GPP, RECO, …")
        uneven = any(len(b.parts) != len(b.coefficients) for b in config.budgets)
        if config.budgets[:1] != (CARBON,) or uneven:
            raise _wrong(f"models.{name}.config.budgets", config.budgets, f"{CARBON} first")
        if max((r := Recipe(**about["recipe"])).warmup + 1, r.keep) > r.length:
            raise _wrong(f"models.{name}.recipe.length", r.length, "more than warmup, and keep")
        h, z, f = config.hidden, config.latent, config.features
        lstm, windows = 4 * config.layers * h * (h + f), z * (8 * z + 8 * f + h)
        size = lstm + windows + config.statics * config.embed
        if size + 288 * config.map_variables > 4 * sum(v.size for v in arrays.values()):
            raise _wrong(f"models.{name}.config", about["config"], "sizes as its arrays have them")
        return {key: (v.shape, "float32") for key, v in arrays.items()}  # torch compares shapes
    if about["kind"] == "LightGBM":
        return dict.fromkeys(about["fluxes"], ((0,), "uint8"))
    if about["kind"] == "annual means":
        n, places = len(about["names"]), len(arrays.get("points", ())) or 1
        shapes = {"mean": (n,), "sd": (n,), "points": (places, n), "alpha": (places, 2)}
        shapes |= {"centre": (2,), "spread": (2,)}
        return {key: (shape, "float64") for key, shape in shapes.items()}
    return {"weights": ((2 * TERMS,), "float64")} if about["kind"] == "adapted" else {}
