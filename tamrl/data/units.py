"""Units of predictors: the ways others write them, and the way to ours."""

import numpy as np
import xarray as xr

from tamrl.data import cube as layout
from tamrl.data import schema
from tamrl.data.physics import KELVIN
from tamrl.data.sites import MONTHLY_VARIABLES
from tamrl.errors import DataError

# What is known of predictors: of satellites, of towers' weather, of the cube. Where a name occurs
# in several, its unit is the same, and its range is the widest.
SOURCES = (MONTHLY_VARIABLES, schema.VARIABLES, layout.VARIABLES)
KNOWN = {name: variable for source in SOURCES for name, variable in source.items()}
SAME_AS = {"PRCP": "P"}  # a day's rain is not bounded by what a month's mean can be

# Ways to write a unit, with the factor and the offset that lead to ours.
UNITS: dict[str, dict[str, tuple[float, float]]] = {
    "degC": {
        **dict.fromkeys(("degC", "C", "Celsius", "celsius", "degree_Celsius"), (1.0, 0.0)),
        **dict.fromkeys(("K", "kelvin", "Kelvin"), (1.0, -KELVIN)),
    },
    "mm d-1": {
        **dict.fromkeys(("mm d-1", "mm/day", "mm day-1", "mm/d", "kg m-2 d-1"), (1.0, 0.0)),
        **dict.fromkeys(("m d-1", "m/day", "m day-1"), (1000.0, 0.0)),
        **dict.fromkeys(("kg m-2 s-1", "mm s-1", "mm/s"), (86400.0, 0.0)),
        "m s-1": (86400e3, 0.0),
    },
    "W m-2": {
        **dict.fromkeys(("W m-2", "W/m2", "W m**-2", "watt m-2"), (1.0, 0.0)),
        **dict.fromkeys(("J m-2 d-1", "J m-2 day-1"), (1 / 86400, 0.0)),
        **dict.fromkeys(("MJ m-2 d-1", "MJ m-2 day-1"), (1e6 / 86400, 0.0)),
    },
    "hPa": {
        **dict.fromkeys(("hPa", "mbar", "mb"), (1.0, 0.0)),
        "Pa": (0.01, 0.0),
        "kPa": (10.0, 0.0),
    },
    "1": {
        **dict.fromkeys(("1", "", "fraction", "dimensionless", "unitless"), (1.0, 0.0)),
        **dict.fromkeys(("%", "percent"), (0.01, 0.0)),
    },
    "%": {
        **dict.fromkeys(("%", "percent"), (1.0, 0.0)),
        **dict.fromkeys(("1", "fraction"), (100.0, 0.0)),
    },
    "m": {**dict.fromkeys(("m", "metre", "meters"), (1.0, 0.0)), "km": (1000.0, 0.0)},
    "mm": {"mm": (1.0, 0.0), "cm": (10.0, 0.0), "m": (1000.0, 0.0)},
    "g m-2 yr-1": dict.fromkeys(("g m-2 yr-1", "gN m-2 yr-1", "g m-2 year-1"), (1.0, 0.0)),
}


def plausible(name: str) -> tuple[float, float]:
    """Possible range of a predictor, monthly or daily, in our unit; endless if unknown.

    Examples
    --------
    >>> plausible("humidex")
    (-inf, inf)
    """
    names = {name, SAME_AS.get(name, name)}
    known = [source[n] for source in SOURCES for n in names if n in source]
    if not known:
        return -np.inf, np.inf
    return min(v.low for v in known), max(v.high for v in known)


def conversion(sample: xr.DataArray, source: str) -> tuple[float, float]:
    """Find factor and offset from a variable's units, or from its values, to our unit.

    Raises
    ------
    DataError
        For an unknown unit, or none and values that fit several.

    Examples
    --------
    >>> warm = xr.DataArray([300.0], name="TA", attrs={"units": "K"})
    >>> conversion(warm, "my cube")  # to degC
    (1.0, -273.15)
    >>> rain = xr.DataArray([2e-5], name="PRCP", attrs={"units": "kg m-2 s-1"})
    >>> conversion(rain, "my cube")  # to mm d-1
    (86400.0, 0.0)
    """
    name = str(sample.name)
    ours = KNOWN[name].units
    ways = UNITS.get(ours, {ours: (1.0, 0.0)})
    unit = sample.attrs.get("units", "" if ours == "1" else None)  # CF: no units, a pure number
    if unit is not None:
        if unit not in ways:
            raise DataError(
                f"{source}: {name} is in {unit!r}; convert it to {ours!r} "
                f"(known: {', '.join(ways)})"
            )
        return ways[unit]
    low, high = plausible(name)
    values = sample.to_numpy()
    values = values[np.isfinite(values)]
    fitting = {
        (factor, offset)
        for factor, offset in ways.values()
        if values.size
        and low <= values.min() * factor + offset
        and values.max() * factor + offset <= high
    }
    if len(fitting) != 1:
        raise DataError(
            f"{source}: {name} has no units, and its values fit {len(fitting)} of the known ones "
            f"({', '.join(ways)}); set the attribute units"
        )
    return fitting.pop()


def to_our_units(
    ds: xr.Dataset, convert: dict[str, tuple[float, float]], source: str
) -> xr.Dataset:
    """Convert loaded variables by factor and offset, and check them for possible values.

    Raises
    ------
    DataError
        For a value that cannot be: a wrong units attribute or a code for missing left in.

    Examples
    --------
    >>> cube = xr.Dataset({"TA": ("time", [293.15, 283.15], {"units": "K"})})
    >>> to_our_units(cube, {"TA": (1.0, -273.15)}, "my cube").TA.values.round(2).tolist()
    [20.0, 10.0]
    >>> to_our_units(cube, {"TA": (1.0, 0.0)}, "my cube")  # kelvin taken for degC
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
        bad = (values < low) | (values > high)
        if bad.any():
            raise DataError(
                f"{source}: {name} is {array.to_numpy()[bad][0]:.6g} in units "
                f"{array.attrs.get('units', 'not stated')!r}, but {low:g} to {high:g} "
                f"{KNOWN[name].units} is possible; correct the units attribute, or "
                "mark missing values by NaN or _FillValue"
            )
    return ds
