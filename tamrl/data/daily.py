"""Half-hours of one tower to local days; days of many towers to one Dataset; broken years out."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES, OPTIONAL, UMOL_TO_GC, VARIABLES, koppen_main, site_coords
from tamrl.errors import DataError

Floats = NDArray[np.floating[Any]]
SiteYears = dict[tuple[str, int], str]  # (site, year) -> why its labels are left out

FULL_DAY = {30: 47, 60: 23}  # minutes of a record -> records of a full day: one may be missing
NOON_OFF, NOON_DAYS = 3.5, 3  # h that clocks are off the sun at most (west of China: 3); days
# NEE_VUT_REF_QC: 0 measured, 1 good gap-filling, 3 poor (doi:10.1038/s41597-020-0534-3)
GOOD_QC, MOST_QC = 1, 3
MISSING_CODE = -9999  # how FLUXNET files write "missing"

# The rule for broken site-years (see `broken_years`); gC m-2 d-1.
MIN_DAYS, CONSTANT_SD, NEGATIVE_MEAN = 30, 0.01, -0.3
DOUBLED_RATIO, DOUBLED_EXCESS, DOUBLED_QC = 1.8, 1.5, 0.3


class TowerDays(NamedTuple):
    """One tower's local days: `data[name][d]` belongs to `days[d]`; days ascend.

    ``units`` are those that a file states of what the schema does not know.
    """

    days: NDArray[np.datetime64]
    data: dict[str, Floats]
    units: Mapping[str, str] = MappingProxyType({})


def record_minutes(stamps: NDArray[np.datetime64], source: str) -> int:
    """Length of records (30 or 60 min) by the median distance of their time stamps."""
    minutes = int(np.median(np.diff(stamps).astype(int))) if len(stamps) > 1 else 0
    if minutes not in FULL_DAY:
        raise DataError(f"{source} {minutes} min apart; 30 or 60 are expected")
    return minutes


def to_days(
    start: NDArray[np.datetime64], minutes: int, half: Mapping[str, Floats], source: str
) -> TowerDays:
    """Local daily values of one tower from its half-hourly or hourly records.

    ``start`` (record,) is the local time at which each record of ``minutes`` (30 or 60) begins.
    ``half`` holds (record,) values, NaN missing, of NEE, GPP (umol CO2 m-2 s-1), NEE_QC (flag
    0..3), TA (degC), VPD (hPa), SW_IN (W m-2), P (mm per record); absent names stay absent.

    Returns daily means in the units of the schema (P is a sum), NaN where fewer than 47 half-hours
    or 23 hours are there; TA_min, TA_max, VPD_max; NEE_QC, the share of records with flag 0 or 1;
    RECO = NEE + GPP. Raises DataError, naming ``source``, for a code for missing left in, an
    infinity, a flag beyond 3, or records that do not ascend.
    """
    if (back := np.diff(start) <= np.timedelta64(0)).any():
        when = f"at {start[1:][back][0]}"
        raise DataError(f"{source}: time goes back or repeats {when}; sort and merge the records")
    _check_noon(start, minutes, half, source)
    date = start.astype("datetime64[D]")
    first = np.flatnonzero(np.r_[True, date[1:] != date[:-1]])  # first record of each day
    days: dict[str, Floats] = {}
    for name, x in half.items():
        if (x == MISSING_CODE).any():
            raise DataError(f"{source}: {name} holds {MISSING_CODE}; replace it by NaN")
        for value in x[np.isinf(x) | ((name == "NEE_QC") & (x > MOST_QC + 0.5))]:
            what = f"{name} holds {value:.4g}"
            raise DataError(f"{source}: {what}; infinities are NaN, flags are 0 to {MOST_QC}")
        there = np.isfinite(x) & ((name != "NEE_QC") | (x >= 0))  # -1: no flag
        n = np.add.reduceat(there, first, dtype=np.int64)
        full = n >= FULL_DAY[minutes]
        counted = x < GOOD_QC + 0.5 if name == "NEE_QC" else x
        total = np.add.reduceat(np.where(there, counted, 0.0), first)
        with np.errstate(invalid="ignore", divide="ignore"):
            days[name] = np.where(full, total if name == "P" else total / n, np.nan)
        if name == "TA":
            lowest = np.minimum.reduceat(np.where(there, x, np.inf), first)
            days["TA_min"] = np.where(full, lowest, np.nan)
        if name in ("TA", "VPD"):
            highest = np.maximum.reduceat(np.where(there, x, -np.inf), first)
            days[f"{name}_max"] = np.where(full, highest, np.nan)
    for name in {"NEE", "GPP"} & days.keys():
        days[name] *= UMOL_TO_GC
    if {"NEE", "GPP"} <= days.keys():
        days["RECO"] = days["NEE"] + days["GPP"]
    return TowerDays(date[first], days)


def _check_noon(
    start: NDArray[np.datetime64], minutes: int, half: Mapping[str, Floats], source: str
) -> None:
    """Refuse local time in which the sun is not highest around noon."""
    sun = np.nan_to_num(np.maximum(half.get("SW_IN", np.zeros(1)), 0))
    minute = (start - start.astype("datetime64[D]")).astype("timedelta64[m]").astype(int)
    of_day = np.bincount(minute[: len(sun)], sun, 1440)  # before exp, which is slow
    turn = np.exp(2j * np.pi * (np.arange(1440) + minutes / 2) / 1440)
    mean = (of_day * turn).sum() / max(of_day.sum(), 1e-9)
    noon = np.angle(mean) * 12 / np.pi % 24
    if len(start) * minutes >= NOON_DAYS * 1440 and abs(mean) > 0.3 and abs(noon - 12) > NOON_OFF:
        what = f"radiation is centred at {noon:.1f} h of the local day"
        raise DataError(f"{source}: {what}; correct the time stamps, or utc_offset_h of the table")


def assemble(towers: Mapping[str, TowerDays], facts: pd.DataFrame) -> xr.Dataset:
    """Put towers side by side on one dense axis of days: (site, time) float32, sites sorted.

    ``facts`` is indexed by site: lat, lon, igbp, utc_offset_h; koppen and elevation_m where known.
    Variables that no tower has are NaN (P is absent).
    """
    sites = sorted(towers)
    begin = min(t.days[0] for t in towers.values())
    n_days = int((max(t.days[-1] for t in towers.values()) - begin).astype(int)) + 1
    brought = {name for tower in towers.values() for name in tower.data}
    names = [n for n in VARIABLES if n not in OPTIONAL or n in brought]
    arrays = {n: np.full((len(sites), n_days), np.nan, np.float32) for n in names}
    for i, site in enumerate(sites):
        for name, x in towers[site].data.items():
            arrays[name][i, (towers[site].days - begin).astype(int)] = x
    columns = ["lat", "lon", "igbp", "koppen", "elevation_m", "utc_offset_h"]
    facts = facts.loc[sites].reindex(columns=columns)
    koppen = ["" if pd.isna(k) else str(k).strip() for k in facts["koppen"]]
    time = (begin + np.arange(n_days)).astype("datetime64[ns]")
    coords = site_coords(sites, facts["lat"], facts["lon"], facts["igbp"]) | {
        "time": ("time", time, {"long_name": "local calendar day", "standard_name": "time"}),
        "koppen": ("site", np.array(koppen), {"long_name": "Koppen class"}),
        "koppen_main": ("site", np.array([koppen_main(k) for k in koppen]), {}),
        "elevation": ("site", facts["elevation_m"].to_numpy(float), {"units": "m"}),
        "utc_offset": ("site", facts["utc_offset_h"].to_numpy(float), {"units": "h"}),
    }
    data = {n: (("site", "time"), x, VARIABLES[n].attrs) for n, x in arrays.items()}
    return xr.Dataset(data, coords, {"Conventions": "CF-1.11"})


def broken_years(ds: xr.Dataset) -> SiteYears:
    """Site-years whose labels cannot be true, by a rule on the labels alone.

    A year of at least 30 labelled days is broken when its daily GPP is constant (standard
    deviation below 0.01 gC m-2 d-1), negative in the mean (below -0.3), or doubled: GPP and RECO
    both above 1.8 times and by 1.5 gC m-2 d-1 the median of at least two other years of the tower,
    while the mean share of good half-hours is below 0.3. Constant and negative years are the marks
    of a night-time partitioning that failed, doubled ones of a gap-filling that did.
    """
    years = ds.time.dt.year.to_numpy()
    broken: SiteYears = {}
    for i, site in enumerate(ds.site.to_numpy().astype(str)):
        labels = {name: ds[name].to_numpy()[i].astype(float) for name in ("GPP", "RECO", "NEE_QC")}
        has = np.isfinite(labels["GPP"])
        year = pd.DataFrame(labels)[has].groupby(years[has])
        table = year.mean().assign(sd=year["GPP"].std())[year.size() >= MIN_DAYS]
        broken |= {(str(site), number): why for number, why in _broken(table)}
    return broken


def _broken(table: pd.DataFrame) -> Iterable[tuple[int, str]]:
    """Judge the years of one tower; `table` has mean GPP, RECO, NEE_QC and sd of GPP by year."""
    odd = (table["sd"] < CONSTANT_SD) | (table["GPP"] < NEGATIVE_MEAN)
    for year in table.index[odd | (table["NEE_QC"] < DOUBLED_QC)]:
        row, others = table.loc[year], table.drop(index=year)
        if row["sd"] < CONSTANT_SD:
            yield int(year), "constant GPP"
        elif row["GPP"] < NEGATIVE_MEAN:
            yield int(year), "negative GPP"
        elif len(others) >= 2 and row["NEE_QC"] < DOUBLED_QC:
            usual = others[["GPP", "RECO"]].median()
            excess = row[["GPP", "RECO"]] - usual
            if (excess > DOUBLED_EXCESS).all() and (excess > (DOUBLED_RATIO - 1) * usual).all():
                yield int(year), "doubled GPP and RECO"


def without_labels(ds: xr.Dataset, broken: SiteYears) -> xr.Dataset:
    """Set the labels of site-years missing (drivers stay) and name them in attrs["excluded"]."""
    years = ds.time.dt.year.to_numpy()
    index = pd.Index(ds.site.to_numpy().astype(str))
    ds = ds.copy(deep=True)
    for site, year in broken:
        for name in FLUXES:
            ds[name].to_numpy()[index.get_loc(site), years == year] = np.nan
    named = "; ".join(f"{site} {year} ({why})" for (site, year), why in sorted(broken.items()))
    return ds.assign_attrs(excluded=f"{len(broken)} site-years{': ' if broken else ''}{named}")
