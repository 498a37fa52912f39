"""What a user's labels are worth: their size, what is left out of them and why, how many count."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.daily import MISSING_CODE, MOST_QC, Floats, SiteYears
from tamrl.data.own.vocabulary import DAY, Column, refuse_codes
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError

FEW_LABELS, SHORT_SEASON = 30, 120  # days
# gC m-2 d-1 that 98 % of days stay below, of GPP and of |NEE|: of 180 FLUXNET2015 towers all but
# two lie within these; none is below 0.3. A flux in kg is a thousandth, of CO2 3.7 times as much.
USUAL = {"GPP": (1.0, 25.0), "NEE": (1.0, 15.5)}
NOTHING, MOST_DAYS, ENOUGH_DAYS = 0.1, 0.98, 180
PERCENT = ("%", "percent")
OTHER_UNITS = "state the unit in the column's head, as in GPP (kgC m-2 d-1) or NEE (mgCO2 m-2 s-1)"


def check_size(data: Mapping[str, Floats], source: str, notes: list[str]) -> None:
    """Compare the size of daily fluxes (day,), gC m-2 d-1, with that of any tower.

    DataError where those of half a year stay below 0.1, as in kg; what is odd is said in ``notes``.
    """
    high = {}
    for name, (least, most) in USUAL.items():
        known = np.abs(data.get(name, np.empty(0)))
        known = known[np.isfinite(known)]
        if known.size < FEW_LABELS:
            continue
        high[name] = float(np.quantile(known, MOST_DAYS))
        low = NOTHING <= high[name] < least and known.size >= ENOUGH_DAYS
        if low or high[name] > most:
            doubt = "mg of CO2 a second" if low else "CO2, not carbon"
            notes.append(
                f"{name} reaches {high[name]:.2g} gC m-2 d-1 (98th percentile), at FLUXNET2015 "
                f"towers {least:g} to {most:g}: is it {doubt}? If so, {OTHER_UNITS}"
            )
            break
    if high and 0 < max(high.values()) < NOTHING:
        name = max(high, key=lambda flux: high[flux])
        what = f"{name} reaches {high[name]:.2g} gC m-2 d-1 (98th percentile), as if it were in kg"
        if np.isfinite(data[name]).sum() >= ENOUGH_DAYS:
            raise DataError(f"{source}: {what}; {OTHER_UNITS}")
        notes.append(f"{what}; if so, {OTHER_UNITS}")


def shares(values: Floats, unit: str, source: str, notes: list[str]) -> Floats:
    """Give a daily quality flag (…,) as the share of good half-hours, 0 to 1, that it must be.

    Per cent, by their ``unit`` or beyond 3, become shares, and -1 is missing, as ``notes`` say.
    DataError, naming ``source``, for flags 0 to 3 of half-hours, and what is neither.
    """
    values = _without_code(values, notes)
    least, most = (f(values[np.isfinite(values)], initial=0) for f in (np.min, np.max))
    percent = unit in PERCENT or MOST_QC < most <= 100
    if least < 0 or most > (100 if percent else 1):
        what = f"NEE_QC is {least if least < 0 else most:.4g}, outside 0 to 1"
        remedy = "give the share of half-hours measured or well filled, or leave it out"
        raise DataError(f"{source}: {what}; {remedy}")
    if percent:
        notes.append("NEE_QC: converted from %")
    return values / 100 if percent else values


def quality(values: Floats, column: Column, minutes: int, source: str, notes: list[str]) -> Floats:
    """Give a table's quality flag (record,): `shares` of days, or of shorter records flags 0 to 3.

    -1 is missing, and said. DataError, naming ``source``, for another scale of records: per cent,
    shares, the nine classes of Foken.
    """
    refuse_codes(values, column, source)
    if minutes == DAY:
        return shares(values, column.unit, source, notes)
    values = _without_code(values, notes)
    percent = column.unit in PERCENT
    whole = np.isnan(values) | (values == np.round(values))
    for value in values[~whole | (values < 0) | (values > MOST_QC) | percent & np.isfinite(values)]:
        what = f"NEE_QC is {value:.4g}{' %' * percent} in a record ({column.column})"
        remedy = "give whole flags from 0 (measured) to 3 (poorly filled), or leave the column out"
        raise DataError(f"{source}: {what}; {remedy}")
    return values


def _without_code(values: Floats, notes: list[str]) -> Floats:
    missing = np.isin(values, (-1, MISSING_CODE))
    if count := int((values == -1).sum()):
        notes.append(f"NEE_QC: {count} times -1, taken for missing")
    return np.where(missing, np.nan, values)


def say_broken(ds: xr.Dataset, broken: SiteYears, notes: Mapping[str, list[str]]) -> None:
    """Say which years of labels (site, time) are left out as broken, why, and how many days."""
    year = ds.time.dt.year.to_numpy()
    known = np.logical_or.reduce([np.isfinite(ds[flux].to_numpy()) for flux in FLUXES])
    days = dict(zip(ds.site.to_numpy().astype(str), known, strict=True))
    for (site, number), why in sorted(broken.items()):
        lost = int(days[site][year == number].sum())
        notes[site].append(f"{lost} labelled days of {number} are left out as broken: {why}")


def say_gaps(
    half: Mapping[str, Floats], days: Mapping[str, Floats], date: NDArray[np.datetime64],
    rule: str, notes: list[str],
) -> None:  # fmt: skip
    """Say how many days of fluxes, and of further columns, are lost to gaps in their records.

    ``half`` are values (record,) on the dates ``date`` (record,), ``days`` what became of them
    (day,); ``rule`` is how many records of a day are needed.
    """
    for name in (n for n in half if n in days):
        some = pd.Series(np.isfinite(half[name])).groupby(date).any().to_numpy()
        if lost := int((some & ~np.isfinite(days[name])).sum()):
            remedy = "; fill them first, as REddyProc does" if name in FLUXES else ""
            what = f"{lost} of {some.sum()} days are lost to gaps"
            notes.append(f"{name}: {what} ({rule}){remedy}")


def say_labels(
    daily: xr.Dataset, counted: NDArray[np.bool_], least: float, notes: dict[str, list[str]]
) -> None:
    """Say how many labels (site, time) count, and of what little they are, where they are few.

    ``counted`` (site, time) are days that are learnt from, whose flag NEE_QC is at least ``least``.
    """
    if daily.attrs.get("tower_source") != "user":
        return
    doy = daily.time.dt.dayofyear.to_numpy()
    for i, site in enumerate(daily.site.to_numpy().astype(str)):
        said = notes.setdefault(site, [])
        known = {f: np.isfinite(daily[f].to_numpy()[i]) for f in FLUXES}
        there = np.logical_or.reduce([*known.values()])
        have, n = [f for f in FLUXES if known[f].any()], int(counted[i].sum())
        if not have:
            continue
        if have in (["GPP"], ["RECO"]):
            said.append(f"labels of {have[0]} alone are scored, not learnt from: add NEE")
            continue
        if n < there.sum():
            lost, good = there & ~counted[i], daily["NEE_QC"].to_numpy()[i] >= least
            causes = {
                "without NEE": lost & ~known["NEE"],
                f"with NEE_QC below {least:g} or missing": lost & known["NEE"] & ~good,
                "without TA, VPD or SW_IN": lost & known["NEE"] & good,
            }
            why = ", ".join(f"{d.sum()} {cause}" for cause, d in causes.items() if d.any())
            said.append(f"{n} of {there.sum()} days with a flux count as labels ({why})")
        if n < FEW_LABELS:
            said.append(f"only {n} labelled days")
        days = np.unique(doy[counted[i]])
        span = 366 - int(np.diff(days, append=days[0] + 366).max()) + 1 if n else 0
        if 0 < span <= SHORT_SEASON:
            said.append(f"labels of one season only ({span} days of the year)")
        if len(have) < len(FLUXES):
            said.append(f"labels of {', '.join(have)} alone, without partitioning")
