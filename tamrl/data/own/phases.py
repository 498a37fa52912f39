"""Phases of growing cycles (MCD12Q2), as users get them, as the daily EVI that models learn from.

AppEEARS names the layers of the two cycles of a year Greenup_0 and Greenup_1, the ORNL DAAC
Greenup.Num_Modes_01 and _02. Dates are days since 1970-01-01; the minimum and the amplitude of the
index are raw integers x 0.0001; what is missing is 32767 (Friedl et al. 2019,
doi:10.5067/MODIS/MCD12Q2.006; version 6.1: doi:10.5067/MODIS/MCD12Q2.061).
"""

import re

import numpy as np
import pandas as pd

from tamrl.data import phenology
from tamrl.data.daily import Floats
from tamrl.data.own import modis
from tamrl.errors import DataError

PRODUCT = "MCD12Q2"
_DATES = ("Greenup", "MidGreenup", "Maturity", "Peak", "Senescence", "MidGreendown", "Dormancy")
_NAMES = dict(zip(_DATES, phenology.PHASES, strict=True))
_NAMES |= {"EVI_Minimum": "minimum", "EVI_Amplitude": "amplitude", "QA_Overall": "quality"}
_LAYER = re.compile(rf"({'|'.join(_NAMES)})(?:_([01])|\.Num_Modes_0([12]))")
_FILL, _SCALE = 32767, 1e-4
_LOW, _HIGH = 11138, 32766  # days since 1970-01-01, the valid range of dates
_EPOCH_5 = 10957  # of version 5, 2000-01-01
_POOR = 3  # of QA_Overall: best, good, fair, poor


def is_phase(product: str, layer: str) -> bool:
    """Whether a layer is one of those that make the index.

    >>> is_phase("MCD12Q2", "Peak_0"), is_phase("MCD12Q2", "EVI_Area_0")
    (True, False)
    """
    return product == PRODUCT and _LAYER.fullmatch(layer) is not None


def daily_index(layers: pd.DataFrame, notes: dict[str, list[str]]) -> list[pd.DataFrame]:
    """Daily EVI of each site: columns site, product, name, date, value, step, file.

    ``layers`` are those of `is_phase`, as of `tamrl.data.own.modis`. The index reaches over the
    product years; which cycles count, and how days between their dates are filled, is as in
    training (`tamrl.data.phenology`), so that poor ones count as well. ``notes`` say by site what
    was left out. DataError for what has no such reading.
    """
    parts = []
    for site, some in layers.groupby("site"):
        said, there = notes.setdefault(str(site), []), {*some["layer"].str.extract(_LAYER)[0]}
        if lacking := [n for n in _NAMES if n not in there | {"QA_Overall"}]:
            said.append(f"not used: {PRODUCT}; EVI needs its {', '.join(lacking)} as well")
        elif (part := _of_site(str(site), some, said)) is not None:
            parts.append(part)
    return parts


def _of_site(site: str, layers: pd.DataFrame, notes: list[str]) -> pd.DataFrame | None:
    source = f"{layers['file'].iloc[0]}: MCD12Q2 of {site}"
    table = _cycles(layers, source)
    for name in ("minimum", "amplitude"):
        table[name] = _unscaled(table[name].to_numpy(), name, bool(layers["raw"].any()), notes)
    there = table.dropna(subset=[n for n in _NAMES.values() if n != "quality"])
    if there.empty:
        years = f"{len(table)} years are without a value: days since 1970-01-01 are expected"
        notes.append(f"EVI: MCD12Q2 has no growing cycle with all its numbers; {years}")
        return None
    _check_dates(there, source)
    cycles = there[phenology.whole(there) & (_year(there["peak"]) == there["year"])]
    if 2 * len(cycles) < len(there):
        what = f"has {len(there) - len(cycles)} of {len(there)} cycles whose dates are out of order"
        raise DataError(f"{source} {what}; are its columns exchanged? Get the file again")
    first, last = table["year"].min(), table["year"].max()
    days = np.arange(f"{first:%Y}-01-01", f"{last.year + 1}-01-01", dtype="datetime64[D]")
    evi = phenology.daily_evi(cycles, days)
    said = [f"{len(cycles)} growing cycles of {first:%Y} to {last:%Y}"]
    if lost := len(table.dropna(how="all", subset=[*phenology.PHASES])) - len(there):
        said.append(f"{lost} without all their values left out")
    if wrong := len(there) - len(cycles):
        said.append(f"{wrong} with dates out of order or of another year left out")
    if "quality" not in table:
        said.append("no QA_Overall in the file")
    elif poor := (cycles["quality"] == _POOR).sum():
        said.append(f"{poor} poor by QA_Overall, which count as in training")
    notes.append(f"EVI: MCD12Q2{modis.mixed(layers)}, {', '.join(said)}")
    return pd.DataFrame({
        "site": site, "product": PRODUCT, "name": "EVI", "date": days.astype("datetime64[ns]"),
        "value": evi, "step": 1, "file": layers["file"].iloc[0],
    }).dropna(subset=["value"])  # fmt: skip


def _cycles(layers: pd.DataFrame, source: str) -> pd.DataFrame:
    """Table with a row a cycle: year, and columns by the names of `_NAMES`; NaN for fill values."""
    parts = layers["layer"].str.extract(_LAYER)
    cycle = parts[1].astype(float).fillna(parts[2].astype(float) - 1)
    rows = layers.assign(name=parts[0].map(_NAMES), cycle=cycle)
    rows["year"] = rows["date"].dt.to_period("Y").dt.to_timestamp()
    fill = np.isclose(rows["value"], _FILL) | np.isclose(rows["value"], _FILL * _SCALE)
    once = rows[~fill].dropna(subset=["value"])
    once = once.drop_duplicates(["year", "cycle", "name", "value"])
    for row in once[once.duplicated(["year", "cycle", "name"])].itertuples():
        what = f"{row.layer} has two values in {row.year:%Y}{modis.mixed(once)}"
        raise DataError(f"{source}: {what}; keep one")
    there = {*rows["name"]}
    table = once.pivot_table("value", ["year", "cycle"], "name").reset_index()
    every = pd.DataFrame({"year": sorted(rows["year"].unique())})
    columns = ["year", *(n for n in _NAMES.values() if n in there)]
    return every.merge(table, "left").reindex(columns=columns)


def _year(days: pd.Series) -> pd.Series:
    """First day of the calendar year of ``days`` since 1970-01-01."""
    year = days.to_numpy().astype(int).astype("datetime64[D]").astype("datetime64[Y]")
    return pd.Series(year.astype("datetime64[ns]"), days.index)


def _check_dates(cycles: pd.DataFrame, source: str) -> None:
    """Refuse dates that are not days since 1970-01-01, naming what they may be instead."""
    dates, year = cycles[[*phenology.PHASES]].to_numpy(), cycles["year"].reset_index(drop=True)
    odd = np.argwhere((dates < _LOW) | (dates > _HIGH))
    if not len(odd):
        peak = _year(cycles["peak"]).reset_index(drop=True)
        if (peak == year).mean() <= 0.5:
            what = f"Peak is in {peak[0]:%Y}, but Date in {year[0]:%Y}"
            raise DataError(f"{source}: {what}; give as Date the first day of the product's year")
        return
    i, k = odd[0]
    since_2000 = _year(pd.Series(dates[:, 3]) + _EPOCH_5) == year
    guess = "; are they days of the year?" if dates.max() <= 731 else ""
    guess = "; are they counted from 2000-01-01, as in version 5?" if since_2000.all() else guess
    what = f"{_DATES[k]} is {dates[i, k]:g} in {year[i]:%Y}, outside {_LOW} to {_HIGH}"
    raise DataError(f"{source}: {what}: give days since 1970-01-01{guess}")


def _unscaled(values: Floats, name: str, raw: bool, notes: list[str]) -> Floats:
    """Minimum or amplitude (row,) in units of EVI, whether scaled never, once or twice."""
    known = values[np.isfinite(values)]
    if not known.size:
        return values
    size = np.median(known)
    if size > 2:
        if not raw:
            notes.append(f"EVI: scale factor {_SCALE:g} applied to the {name} of MCD12Q2")
        return values * _SCALE
    if size < 1e-3:
        notes.append(
            f"EVI: scale factor {_SCALE:g} had been applied twice to the {name} of MCD12Q2"
        )
        return values / _SCALE
    return values
