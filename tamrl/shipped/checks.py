"""What a file of weights may hold: all of it is checked before a model is made of any of it.

A file of weights is data from a stranger. A *check* takes a value and where it stands, and raises
`DataError` unless it is what is expected; checks of records are made of checks of their entries.
The settings of networks are checked by the annotations of the dataclasses that they become.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.model.network import Config
from tamrl.model.train import Recipe, config_of
from tamrl.shipped.annual import KERNEL
from tamrl.shipped.error_model import TERMS

Check = Callable[[Any, str], None]
MOST_BYTES = 1 << 30  # of a file
MOST_HEADER = 1 << 24  # letters of the header's text
MOST = 4096  # names, models, units of a network: far more than is known to be of use
LARGEST = 1e9  # of any number in the header
TINY = 1e-12  # what divides is larger
RANGES = {"layers": (1, 64), "dropout": (0, 1), "lr": (0, 1), "coefficients": (-LARGEST, LARGEST)}
RANGES |= dict.fromkeys(("features", "statics", "hidden", "latent", "embed", "length"), (1, MOST))


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
            expected = f"a number from {low:g} to {high:g}"
            raise _wrong(f"{where}{at.tolist()}", float(array[tuple(at)]), expected)

    return check


def _quantiles(value: Any, where: str) -> None:
    table(numbers(2))(value, where)
    for level, (low, high) in value.items():
        if not (0 < float(level) < 1 and low <= high):
            raise _wrong(f"{where}.{level}", [low, high], "a level, a lower and an upper bound")


def _flag(value: Any, where: str) -> None:
    if value not in (0, 1):
        raise _wrong(where, value, "true or false")


def text(*allowed: str) -> Check:
    """Expect a text, one of those ``allowed`` if any are named."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, str) or len(value) > MOST or (allowed and value not in allowed):
            raise _wrong(where, value, " or ".join(allowed) or "a text")

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
        return _flag if kind is bool else text()
    return number(*RANGES.get(name, (0, MOST)), kinds=(int,) if kind is int else (int, float))


def _two_or_none(value: Any, where: str) -> None:
    if value is not None:
        numbers(2, low=0)(value, where)


MODEL = record({"kind": text()})
NAMES = each(text(), 1, unique=True)
DEGREES = {"lat": numbers(None, low=-90, high=90), "lon": numbers(None, low=-180, high=180)}
PLACES = record({"site": each(text()), **DEGREES}, alike=("site", *DEGREES))
SPACE = {"names": NAMES, "mean": numbers(None), "scale": numbers(None, low=TINY),
         "weight": numbers(None, low=TINY)}  # fmt: skip
CONFORMAL = record({"scale": numbers(3, low=0), "factor": table(number(0)),
                    "quantiles": _quantiles})  # fmt: skip
BY_FLUX = table(CONFORMAL, *FLUXES)
ERRORS = {"root": (2 * TERMS, 2 * TERMS), "log_size": (2, 2), "log_variance": (3,), "link": (3,),
          "log_days": (2,)}  # fmt: skip
WHOLE = number(0, kinds=(int,))
TARGET = record({"unit": text(), "positive": _flag, "adapted_to": text(), "labelled_days": WHOLE,
                 "period": each(text(), 2), "held_out": _two_or_none})  # fmt: skip
HEADER = record(
    {"models": each(MODEL, 1), "features": NAMES, "virtual": _flag, "towers": WHOLE,
     "members": WHOLE},
    {"statics": NAMES, "level": number(0.01, 0.99),
     "tower_source": text(),
     "intervals": BY_FLUX, "anomalies": BY_FLUX, "intervals_by_inputs": table(BY_FLUX),
     "intervals_of_means": table(table(BY_FLUX, "month", "year")), "targets": table(TARGET),
     "error_model": record({n: numbers(*shape, low=-50, high=50) for n, shape in ERRORS.items()}),
     "covariance": numbers(2 * TERMS, 2 * TERMS), "adapted_to": text(), "labelled_days": WHOLE,
     "learnt": table(PLACES, "towers", "places"),
     "space": record({**SPACE, "points": numbers(None, None), "distance": number(TINY),
                      "threshold": number(0)}, alike=SPACE)},
)  # fmt: skip
MODELS = {
    "TAM-RL": record({"config": settings(Config), "recipe": settings(Recipe), "features": NAMES}),
    "LightGBM": record({"fluxes": each(text(*FLUXES), 1, unique=True), "lags": _flag,
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
        if np.linalg.eigvalsh(header["covariance"])[0] < -TINY:
            raise _wrong("covariance", header["covariance"], "one without negative eigenvalues")
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
        h, z, f = config.hidden, config.latent, config.features
        size = (
            4 * config.layers * h * (h + f)
            + z * (8 * z + 8 * f + h)
            + config.statics * config.embed
        )
        if size + 288 * config.map_variables > 4 * sum(v.size for v in arrays.values()):
            raise _wrong(f"models.{name}.config", about["config"], "sizes as its arrays have them")
        return {key: (v.shape, "float32") for key, v in arrays.items()}  # torch compares shapes
    if about["kind"] == "LightGBM":
        return dict.fromkeys(about["fluxes"], ((0,), "uint8"))
    if about["kind"] == "annual means":
        n, places = len(about["names"]), len(arrays.get("points", ()))
        shapes = {"mean": (n,), "sd": (n,), "points": (places, n), "alpha": (places, 2)}
        shapes |= {"centre": (2,), "spread": (2,)}
        return {key: (shape, "float64") for key, shape in shapes.items()}
    return {"weights": ((2 * TERMS,), "float64")} if about["kind"] == "adapted" else {}
