"""Read one ONEFlux csv file, daily or (half-)hourly, as FLUXNET, AmeriFlux and ICOS hand them out.

Columns and units: Pastorello et al. (2020), doi:10.1038/s41597-020-0534-3, and
https://fluxnet.org/data/fluxnet2015-dataset/fullset-data-product/
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tamrl.data.daily import MISSING_CODE, Floats, TowerDays, record_minutes, to_days
from tamrl.data.schema import DRIVERS, check_days
from tamrl.errors import DataError

COLUMNS = {"TA_F": "TA", "VPD_F": "VPD", "SW_IN_F": "SW_IN", "P_F": "P", "NEE_VUT_REF": "NEE"}
COLUMNS |= {"NEE_VUT_REF_QC": "NEE_QC", "GPP_NT_VUT_REF": "GPP", "RECO_NT_VUT_REF": "RECO"}
COLUMNS |= {"EVI": "EVI"}  # no ONEFlux file has it; a user adds it, by day
CLOSURE = 1.0  # gC m-2 d-1; a mean |RECO - GPP - NEE| above it is a wrong sign or unit
_SITE = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}-[A-Za-z0-9]{3}(?![A-Za-z0-9])")
_OTHER = re.compile(r"_(WW|MM|YY|AUXMETEO|AUXNEE|ERAI|ERA5)_|_BIF|_AUX|README", re.IGNORECASE)


def site_code(path: Path, otherwise: str = "") -> str:
    """Tower code in a file's name (US-AR1 in FLX_US-AR1_DD.csv), or ``otherwise``, or an error."""
    if not (code := match.group() if (match := _SITE.search(path.name)) else otherwise):
        remedy = "rename the file, or give it alone with a table of one row"
        raise DataError(f"{path}: no tower code such as US-Ha1 in the file's name; {remedy}")
    return code


def rank(path: Path) -> tuple[int, int]:
    """Order of preference among files of one tower: half-hours (they give extremes), FULLSET."""
    name = path.name.upper()
    resolution = next((i for i, tag in enumerate(("_HH_", "_HR_", "_DD_")) if tag in name), 3)
    return resolution, int("_SUBSET_" in name)


def is_candidate(path: Path) -> bool:
    """Whether a file of a folder can be a daily or half-hourly flux file, going by its name."""
    return bool(_SITE.search(path.name)) and not _OTHER.search(path.name)


def read_oneflux(path: Path) -> TowerDays:
    """Local daily values of one tower from one file.

    A daily file needs TIMESTAMP (yyyymmdd), a half-hourly one TIMESTAMP_START or TIMESTAMP_END
    (yyyymmddHHMM, local standard time); both TA_F degC, VPD_F hPa, SW_IN_F W m-2. Fluxes may be
    absent (gC m-2 d-1 in daily files, umol CO2 m-2 s-1 in others), and so may NEE_VUT_REF_QC (share
    of good half-hours, or flag 0..3); any two fluxes give the third. A column EVI, the enhanced
    vegetation index by day, is read where somebody added it. -9999 is missing.
    """
    table = _read(path)
    values = {new: _numbers(table, old, path) for old, new in COLUMNS.items() if old in table}
    if "TIMESTAMP" not in table:
        return _closed(_from_records(table, values, path), path)
    days = pd.DatetimeIndex(_stamps(table["TIMESTAMP"], "%Y%m%d", path))
    check_days(days, str(path))
    return _closed(TowerDays(days.to_numpy().astype("datetime64[D]"), values), path)


def _read(path: Path) -> pd.DataFrame:
    try:
        head = pd.read_csv(path, nrows=0, encoding="utf-8-sig")
        stamps = [c for c in head if str(c).startswith("TIMESTAMP")]
        if not stamps:
            raise DataError(f"{path}: column TIMESTAMP (or TIMESTAMP_START) is missing; add it")
        for column in (c for c, name in COLUMNS.items() if name in DRIVERS and c not in head):
            what = f"column {column} is missing; a ONEFlux file has TA_F, VPD_F, SW_IN_F"
            raise DataError(f"{path}: {what}")
        wanted = [*stamps, *head.columns.intersection(list(COLUMNS))]
        types = dict.fromkeys(stamps, str)
        table = pd.read_csv(path, usecols=wanted, dtype=types, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: not a readable csv file ({error})") from error
    if table.empty:
        raise DataError(f"{path}: no records; get the file again")
    return table


def _numbers(table: pd.DataFrame, column: str, path: Path) -> Floats:
    numbers = pd.to_numeric(table[column], errors="coerce")
    for row in np.flatnonzero(numbers.isna() & table[column].notna()):
        value = table[column].iloc[row]
        raise DataError(f"{path}: {column} is {value!r} in line {row + 2}; a number is expected")
    return numbers.astype(np.float64).replace(MISSING_CODE, np.nan).to_numpy(copy=True)


def _stamps(texts: pd.Series, form: str, path: Path) -> NDArray[np.datetime64]:
    times = pd.to_datetime(texts, format=form, errors="coerce", exact=True)
    width = len(pd.Timestamp(0).strftime(form))
    for row in np.flatnonzero(times.isna() | (texts.str.len() != width)):
        raise DataError(
            f"{path}: {texts.name} is {texts.iloc[row]!r} in line {row + 2}; a daily (yyyymmdd) or "
            "half-hourly (yyyymmddHHMM) file is expected, not a weekly, monthly or yearly one"
        )
    return times.to_numpy().astype("datetime64[m]")


def _from_records(table: pd.DataFrame, half: dict[str, Floats], path: Path) -> TowerDays:
    column = "TIMESTAMP_START" if "TIMESTAMP_START" in table else "TIMESTAMP_END"
    if column not in table:
        raise DataError(f"{path}: column TIMESTAMP or TIMESTAMP_START is missing; add it")
    start = _stamps(table[column], "%Y%m%d%H%M", path)
    minutes = record_minutes(start, f"{path}: records are")
    start = start - np.timedelta64(minutes if column == "TIMESTAMP_END" else 0, "m")
    reco = half.pop("RECO", None)  # REF versions of one tower are one: RECO = NEE + GPP
    for lost, known in (("GPP", "NEE"), ("NEE", "GPP")):
        if reco is not None and lost not in half and known in half:
            half[lost] = reco - half[known]
    return to_days(start, minutes, half, str(path))


def _closed(tower: TowerDays, path: Path) -> TowerDays:
    """Make NEE = RECO - GPP hold exactly, after a look at whether it held roughly."""
    data = tower.data
    if {"NEE", "GPP", "RECO"} <= data.keys():
        gap = pd.Series(data["RECO"] - data["GPP"] - data["NEE"]).abs().mean()
        if gap > CLOSURE:
            what = f"NEE_VUT_REF is not RECO - GPP (mean gap {gap:.3g} gC m-2 d-1)"
            raise DataError(f"{path}: {what}; check signs (negative NEE is uptake) and units")
    if {"NEE", "GPP"} <= data.keys():
        data["RECO"] = data["NEE"] + data["GPP"]
    for lost, known in (("GPP", "NEE"), ("NEE", "GPP")):
        if lost not in data and {"RECO", known} <= data.keys():
            data[lost] = data["RECO"] - data[known]
    return tower
