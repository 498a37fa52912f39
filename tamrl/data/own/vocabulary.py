"""What drivers, labels and facts of towers are called elsewhere, in which units and time steps.

The vocabulary itself is ``facts/vocabulary.csv``: for each of our names the columns of ONEFlux,
FluxDataKit, ICOS, OzFlux, AmeriFlux BASE, REddyProc, ERA5(-Land), Open-Meteo, AppEEARS and the ORNL
DAAC.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from tamrl.data import schema
from tamrl.data.daily import MISSING_CODE, Floats
from tamrl.data.physics import KELVIN
from tamrl.data.units import KNOWN, UNITS, plausible, spelled
from tamrl.errors import DataError


class Alias(NamedTuple):
    """A line of the vocabulary: our name, what it is called elsewhere, in which unit and steps."""

    name: str
    alias: str
    unit: str
    steps: str
    used_by: str


_ROWS = schema.facts("vocabulary").astype(str).itertuples(index=False, name=None)
VOCABULARY = [Alias(*row) for row in _ROWS]
NAMES = {row.name for row in VOCABULARY}
SITE_FACTS = [row for row in VOCABULARY if row.steps == "site"]
# Predictors that need not be measured at the tower, and the daily column that stands for a monthly.
EXTRAS = ("FPAR", "LAI", "NDWI", "LST_day", "LST_night", "SNOW", "SIF", "SM", "PRCP", "PET")
DAY = 1440  # min
FLUX_UNITS = ("gC m-2 d-1", "umol m-2 s-1")  # of days and of shorter records that state none
_BRACKETS = re.compile(r"^\s*(.*?)\s*[\[(]([^\])]*)[\])]\s*$")
_POSITION = re.compile(r"_\d+_\d+_[\dA]+$|_\d+$")  # AmeriFlux: horizontal, vertical, replicate
# Units a step at a time: what becomes of them needs the length of the step.
_PER_STEP = {"J m-2", "J m**-2", "m", "m of water equivalent"}
# Values that no degree Celsius reaches and every kelvin of a day on Earth does.
KELVIN_RANGE = (150.0, 400.0)
# Factors of files of MODIS and VIIRS (their user guides), by which a raw integer is multiplied.
SCALE = {"EVI": 1e-4, "NDWI": 1e-4, "LAI": 0.1, "FPAR": 0.01, "LST_day": 0.02, "LST_night": 0.02}
FILLS = {"EVI": (-3000, -3000), "LAI": (249, 255), "FPAR": (249, 255)}  # first and last, raw
CODES = (-999, -6999, -9999.9, -9999.99, -99999, -999999)  # for missing, besides MISSING_CODE
FLUX_CODES = (-99, -99.9, -99.99)  # which no flux is in its usual unit
SHARES = ("EVI", "NDWI")  # at most 1; raw, a year of vegetation is far above 100
LEAST = {"EVI": 1e-3, "FPAR": 5e-3}  # the greatest of a year of vegetation is never below
LITTLE = {"LAI": 0.7, "LST_day": 1.6, "LST_night": 1.6}  # 7 m2 m-2 and 80 degC, scaled once more
ENOUGH = 12  # values to judge that from


def listed() -> pd.DataFrame:
    """Give the vocabulary as a table to be read: a row an alias, under our name and unit.

    Columns alias, unit (which is taken where a file states none), time steps, used by.
    """
    rows = []
    for row in VOCABULARY:
        here = _unit(row.name) if row.steps != "site" else row.unit
        unit = (
            "{}; {} of half-hours and hours".format(*FLUX_UNITS) if row.unit == "flux" else row.unit
        )
        rows.append((row.name, here, row.alias, unit, row.steps.replace(" ", ", "), row.used_by))
    columns = ["name", "our unit", "alias", "unit", "time steps", "used by"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2])


class Column(NamedTuple):
    """A column that is recognised: our name, its own, its unit, and whether the file states it."""

    name: str
    column: str
    unit: str
    stated: bool


def bare(column: str) -> tuple[str, str]:
    """Name and unit of a column's head.

    >>> bare("temperature_2m (°C)"), bare("TA_F")
    (('temperature_2m', '°C'), ('TA_F', ''))
    """
    found = _BRACKETS.match(str(column))
    return (found[1], found[2].strip()) if found else (str(column).strip(), "")


def recognise(
    columns: Iterable[str], units: dict[str, str] | None = None, further: Iterable[str] = ()
) -> dict[str, Column]:
    """Which of a table's columns hold what, by our names; of several aliases the first listed.

    ``units`` are those that the file states beside its heads. Case does not matter, nor do
    AmeriFlux's qualifiers of position; of ``further`` names, which are nobody's but the file's
    own, it does. Of these an unstated unit is "".

    >>> found = recognise(["TA_1_1_1", "Precip", "wind"])
    >>> found["TA"].column, found["P"].unit, len(found)
    ('TA_1_1_1', 'mm', 2)
    """
    columns, heads = list(columns), dict[str, str]()
    for column in columns:
        name = bare(column)[0].casefold()
        heads.setdefault(name, str(column))
        heads.setdefault(_POSITION.sub("", name), str(column))
    found: dict[str, Column] = {}
    for row in (row for row in VOCABULARY if row.steps != "site"):
        column = heads.get(row.alias.casefold(), "")
        if column and row.name not in found:
            stated = (units or {}).get(column) or bare(column)[1]
            found[row.name] = Column(row.name, column, stated or row.unit, bool(stated))
    for column in map(str, columns):
        if (name := bare(column)[0]) in further and name not in found:
            stated = (units or {}).get(column) or bare(column)[1]
            found[name] = Column(name, column, stated, bool(stated))
    return found


def convert(values: Floats, column: Column, minutes: int, source: str, notes: list[str]) -> Floats:
    """Values of a column in our unit: as the file states it, else as its alias usually has it.

    ``minutes`` is the length of a record, 1440 for days; of shorter ones P is the sum, and fluxes
    come in umol m-2 s-1. Kelvin taken for degC, and scale factors of MODIS that were not applied,
    or twice, are put right where no other reading is possible, and said in ``notes``. DataError
    for a unit that is unknown.
    """
    name = column.name
    unit = FLUX_UNITS[minutes < DAY] if column.unit == "flux" else column.unit
    values = np.where(values == MISSING_CODE, np.nan, values)
    refuse_codes(values, column, source)
    if name not in NAMES:  # a further target, in whatever unit
        return values
    _refuse_thousandths(values, column, source)
    known = values[np.isfinite(values)]
    share = unit == "%" and known.size and known.max() <= 1
    if share and (name == "RH" or (name == "SM" and not column.stated)):
        notes.append(f"{name}: a share, not percent ({column.column})")
        return values * (100.0 if name == "RH" else 1.0)
    factor, offset = _way(name, unit, minutes, f"{source}: {column.column}")
    if (factor, offset) != (1.0, 0.0):
        values = values * factor + offset
        notes.append(f"{name}: converted from {unit} ({column.column})")
    elif known.size and _unit(name) == "degC" and not column.stated and _is_kelvin(known):
        notes.append(f"{name}: converted from K ({column.column})")
        return np.asarray(values - KELVIN)
    return rescaled(values, name, notes)


def refuse_codes(values: Floats, column: Column, source: str) -> None:
    """Raise DataError for a code for missing left in, besides that which FLUXNET files have."""
    codes = () if column.name in SCALE else CODES
    for code in codes + (FLUX_CODES if column.unit == "flux" else ()):
        if (left := np.isclose(values, code, rtol=1e-6)).any():
            where = f"({column.column}, {left.sum()} records); replace it by NaN or {MISSING_CODE}"
            what = f"{column.name} is {code:.9g}, a code for missing left in"
            raise DataError(f"{source}: {what} {where}")


def _refuse_thousandths(values: Floats, column: Column, source: str) -> None:
    """Raise DataError for whole numbers of EVI that may be 1000 or 10000 times too large."""
    known = values[np.isfinite(values) & (values > -1000)]
    if column.name != "EVI" or not known.size or (known != known.round()).any():
        return
    if 100 < known.max() <= 1000:
        what = f"EVI is whole numbers up to {known.max():g}: 1000 or 10000 times as large?"
        raise DataError(f"{source}: {what} Give it as a number up to 1 ({column.column})")


def _is_kelvin(known: Floats) -> bool:
    return bool(known.min() > KELVIN_RANGE[0] and known.max() < KELVIN_RANGE[1])


def rescaled(values: Floats, name: str, notes: list[str]) -> Floats:
    """Undo a scale factor of MODIS that was applied twice, apply one that was not, drop fills.

    >>> said = []
    >>> rescaled(np.array([2100.0, 4500.0, -3000.0]), "EVI", said).round(2).tolist()
    [0.21, 0.45, nan]
    >>> said
    ['EVI: fill values left out on 1 dates', 'EVI: scale factor 0.0001 applied']
    """
    if name not in SCALE:
        return values
    scale, shift = SCALE[name], KELVIN if name.startswith("LST") else 0.0
    low, high = plausible(name)
    first, last = FILLS.get(name, (np.nan, np.nan))
    slack = 1e-6 * abs(scale * last)
    fill = (values >= first) & (values <= last)
    fill |= (values >= first * scale - slack) & (values <= last * scale + slack)
    if fill.any():
        notes.append(f"{name}: fill values left out on {fill.sum()} dates")
        values = np.where(fill, np.nan, values)
    known = values[np.isfinite(values)]
    if not known.size:
        return values
    if name in SHARES and 1 < known.max() <= 100 and np.mean(known > 1) > 0.5:
        if known.size <= ENOUGH:  # snow may be as little, raw: to be refused
            return values
        notes.append(f"{name}: converted from %")
        return np.asarray(values / 100)
    raw = name == "FPAR" or bool((known == known.round()).all())
    least, most = known.min() * scale - shift, known.max() * scale - shift
    if raw and known.max() > high and least >= low and most <= high:
        notes.append(f"{name}: scale factor {scale:g} applied")
        return np.asarray(values * scale - shift)
    if known.size > ENOUGH and 0 < known.max() < LEAST.get(name, 0.0):
        notes.append(f"{name}: scale factor {scale:g} had been applied twice")
        return np.asarray(values / scale)
    if known.size > ENOUGH and shift and known.min() > 230 * scale and known.max() < 340 * scale:
        notes.append(f"{name}: scale factor {scale:g} had been applied twice")  # to kelvin
        return np.asarray(values / scale - shift)
    if known.size > ENOUGH and 0 < np.abs(known).max() < LITTLE.get(name, 0.0):
        most = f"{name} is never above {np.abs(known).max():.2g} {_unit(name)}"
        notes.append(f"{most}: had its scale factor {scale:g} been applied twice? Else all is well")
    return values


def _unit(name: str) -> str:
    """Our unit of a variable; RH and TDEW only lead to VPD."""
    return {"RH": "%", "TDEW": "degC"}.get(name) or KNOWN[name].units


def _way(name: str, unit: str, minutes: int, source: str) -> tuple[float, float]:
    """Factor and offset that lead from a unit to the study's."""
    target, seconds = _unit(name), 60.0 * minutes
    if name == "SW_IN" and unit in _PER_STEP:
        return 1 / seconds, 0.0
    if name == "P" and unit in ("mm", "kg m-2", "kg m**-2", *_PER_STEP):
        return (1000.0 if unit in _PER_STEP else 1.0), 0.0  # of a record or a day
    if name == "PET" and unit in _PER_STEP:  # ERA5 counts evaporation as a downward flux
        return -1000.0 * 86400.0 / seconds, 0.0
    if name == "SM" and unit in ("%", "percent"):
        return 0.01, 0.0
    ways = {target: (1.0, 0.0)} | UNITS.get(target, {})
    if (written := spelled(unit, ways)) is None:
        raise DataError(
            f"{source} is in {unit!r}; convert it to {target} (known: {', '.join(ways)})"
        )
    factor, offset = ways[written]
    if name in schema.FLUXES and minutes < DAY:
        return (1.0 if "mol" in written else factor / schema.UMOL_TO_GC), offset
    return (factor * minutes / DAY if name == "P" else factor), offset
