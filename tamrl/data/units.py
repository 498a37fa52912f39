"""Units of predictors: the ways in which they are written, and conversion to those used here."""

from collections.abc import Collection

import numpy as np
import xarray as xr

from tamrl.data import cube, schema
from tamrl.data.sites import MONTHLY_VARIABLES
from tamrl.errors import DataError

# Of predictors that occur in several sources the unit is the same, and the range the widest.
SOURCES = (MONTHLY_VARIABLES, schema.VARIABLES, cube.VARIABLES)
KNOWN = {name: variable for source in SOURCES for name, variable in source.items()}
SAME_AS = {"PRCP": "P"}  # a day's rain is not bounded by what a month's mean can be

# Ways to write a unit, with the factor and the offset that lead to the one used here.
UNITS: dict[str, dict[str, tuple[float, float]]] = {}
for _unit, _written, _factor, _offset in schema.facts("units").itertuples(index=False, name=None):
    UNITS.setdefault(_unit, {})[_written] = (float(_factor), float(_offset))


def plausible(name: str) -> tuple[float, float]:
    """Possible range of a predictor, monthly or daily, in the unit used here; endless if unknown.

    >>> plausible("humidex")
    (-inf, inf)
    """
    known = [s[n] for s in SOURCES for n in (name, SAME_AS.get(name, name)) if n in s]
    highest = max((v.high for v in known), default=np.inf)
    return min((v.low for v in known), default=-np.inf), highest


def spelled(unit: str, known: Collection[str]) -> str | None:
    """Find a unit among ``known`` ones, whichever way its powers and its micro are written.

    >>> spelled("W m**-2", ["W m-2"]), spelled("torr", ["hPa"])
    ('W m-2', None)
    """
    plain = unit.replace("**", "").replace("^", "").replace("μ", "µ")
    return next((written for written in (unit, plain) if written in known), None)


def conversion(sample: xr.DataArray, source: str) -> tuple[float, float]:
    """Find factor and offset from a variable's units, or from its values, to the unit used here.

    Raises DataError for an unknown unit, or none and values that fit several.

    >>> rain = xr.DataArray([2e-5], name="PRCP", attrs={"units": "kg m-2 s-1"})
    >>> conversion(rain, "my cube")  # to mm d-1
    (86400.0, 0.0)
    """
    target = KNOWN[name := str(sample.name)].units
    if sample.dtype.kind not in "iuf":
        raise DataError(f"{source}: {name} holds values of {sample.dtype}; numbers are expected")
    ways = UNITS.get(target, {target: (1.0, 0.0)})
    unit = sample.attrs.get("units", "" if target == "1" else None)  # CF: no units, a pure number
    known = ", ".join(ways)
    unit = unit if unit is None else str(unit)
    if unit in ways:
        return ways[unit]
    if unit is not None:
        remedy = f"convert it to {target!r} (known: {known})"
        raise DataError(f"{source}: {name} is in {unit!r}; {remedy}")
    low, high = plausible(name)
    values = sample.to_numpy()[np.isfinite(sample.to_numpy())]
    least, most = (values.min(), values.max()) if values.size else (-np.inf, np.inf)
    fitting = {(f, c) for f, c in ways.values() if low <= least * f + c and most * f + c <= high}
    if len(fitting) != 1:
        why = f"its values fit {len(fitting)} of the known ones ({known}); set the attribute units"
        raise DataError(f"{source}: {name} has no units, and {why}")
    return fitting.pop()


def to_our_units(
    ds: xr.Dataset, convert: dict[str, tuple[float, float]], source: str
) -> xr.Dataset:
    """Convert loaded variables by factor and offset, and check them for possible values.

    Raises DataError for a value that cannot be: wrong units, or a code for missing left in.

    >>> mine = xr.Dataset({"TA": ("time", [293.15, 283.15], {"units": "K"})})
    >>> to_our_units(mine, {"TA": (1.0, -273.15)}, "my cube").TA.values.round(2).tolist()
    [20.0, 10.0]
    >>> to_our_units(mine, {"TA": (1.0, 0.0)}, "my cube")  # kelvin taken for degC
    Traceback (most recent call last):
    ...
    tamrl.errors.DataError: my cube: TA is 293.15 in units 'K', but ...
    """
    for name, (factor, offset) in convert.items():
        array = ds[name]
        if (factor, offset) != (1.0, 0.0):
            ds = ds.assign({name: array * np.float32(factor) + np.float32(offset)})
        low, high = plausible(name)
        values = ds[name].to_numpy()
        if (bad := (values < low) | (values > high)).any():
            unit, possible = array.attrs.get("units", "not stated"), f"{low:g} to {high:g}"
            raise DataError(
                f"{source}: {name} is {array.to_numpy()[bad][0]:.6g} in units {unit!r}, but "
                f"{possible} {KNOWN[name].units} is possible; correct the units attribute, or mark "
                "missing values by NaN or _FillValue"
            )
    return ds
