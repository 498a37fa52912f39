"""Vegetation phenology of MODIS at towers (MCD12Q2) as a daily vegetation index.

For up to two growing cycles a year MCD12Q2 gives the days on which the enhanced vegetation index
(EVI, 500 m) crosses 15, 50 and 90 % of its amplitude, rising and falling, and that of its peak
(Friedl et al. 2019, doi:10.5067/MODIS/MCD12Q2.006). The daily index is linear between those days.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data import cache
from tamrl.data.derived import derived
from tamrl.data.schema import VARIABLES, drop_sealed, tower_facts
from tamrl.errors import DataError

FILE = "tower_predictors/modis_pheno.Rds"
MADE_BY = ("phenology.py", "schema.py", "facts/towers.csv")
# Phases of a cycle in order of time: the column's name, and the share of the amplitude reached.
PHASES = {
    "gup": 0.15, "midgup": 0.5, "maturity": 0.9, "peak": 1.0,
    "sene": 0.9, "midgdown": 0.5, "dormancy": 0.15,
}  # fmt: skip
CYCLES = (1, 2)  # of a year
GAP = 300  # days between two phases beyond which nothing is known of the index between them
# Towers that the table lists under the codes of the countries' kingdoms.
CODES = {
    "DK-NuF": "GL-NuF", "DK-ZaF": "GL-ZaF", "DK-ZaH": "GL-ZaH", "NO-Adv": "SJ-Adv",
    "NO-Blv": "SJ-Blv",
}  # fmt: skip


def fetch_phenology() -> xr.DataArray:
    """Fetch a daily vegetation index, EVI (site, time), at 128 of the 180 towers, 2001-2015.

    Rules
        A cycle counts with its seven dates in order, its minimum and its amplitude. Between
        phases that are more than 300 days apart, and beyond the first and the last, EVI is missing.
    Source, licence, citation
        github.com/ncsuSEAL/flux_modis_paper (MIT), columns m_*, of MODIS MCD12Q2 at 500 m; its
        columns f_* are made from tower fluxes and never read.

    Raises DataError when the file cannot be had, or does not hold what it should.
    """
    return derived("phenology", MADE_BY, lambda: _convert().to_dataset()).EVI


def _convert() -> xr.DataArray:
    (path,) = cache.fetch([FILE], "phenology")
    table = _read(path)
    days = np.arange("2001-01-01", "2016-01-01", dtype="datetime64[D]")
    rows = {str(site): daily_evi(cycles, days) for site, cycles in table.groupby("site")}
    rows = {site: row for site, row in rows.items() if np.isfinite(row).any()}
    attrs = VARIABLES["EVI"].attrs | {"source": "MODIS MCD12Q2, 500 m"}
    coords = {"site": list(rows), "time": days.astype("datetime64[ns]")}
    return xr.DataArray(np.stack([*rows.values()]), coords, ("site", "time"), "EVI", attrs)


def _read(path: Path) -> pd.DataFrame:
    """Read cycles of all towers: site, minimum, amplitude (EVI), and days since 1970 by phase."""
    import rdata

    with warnings.catch_warnings():  # a data.table is read as a data frame, which it is
        warnings.simplefilter("ignore", UserWarning)
        table = rdata.read_rds(path)
    of = {"EVImin": "minimum", "EVIamp": "amplitude"} | {phase: phase for phase in PHASES}
    lacking = [f"m_{n}_{k}" for n in of for k in CYCLES if f"m_{n}_{k}" not in table]
    if lacking or "site_name" not in table:
        raise DataError(f"{path}: columns {lacking or 'site_name'} are missing; fetch it again")
    site = table["site_name"].replace(CODES)
    parts = []
    for k in CYCLES:
        part = table[[f"m_{name}_{k}" for name in of]].set_axis([*of.values()], axis=1)
        part = part.apply(pd.to_numeric, errors="coerce").astype(float)
        parts.append(part.assign(site=site))
    cycles = pd.concat(parts)
    cycles = cycles[whole(cycles) & cycles.site.isin(tower_facts().index)]
    return drop_sealed(cycles).sort_values(["site", "peak"])


def whole(cycles: pd.DataFrame) -> NDArray[np.bool_]:
    """Which ``cycles``, as of `daily_evi`, count: nothing is missing, and dates are in order."""
    ordered = (np.diff(cycles[[*PHASES]], axis=1) >= 0).all(1)
    possible = cycles.minimum.between(-0.2, 1) & cycles.amplitude.between(0, 1.2)
    return np.asarray(possible) & np.asarray(ordered)


def daily_evi(cycles: pd.DataFrame, days: NDArray[np.datetime64]) -> NDArray[np.float32]:
    """EVI (day,) of one tower from its cycles: ``minimum``, ``amplitude``, `PHASES` (days).

    >>> cycle = dict.fromkeys(PHASES, 0) | {"minimum": 0.2, "amplitude": 0.4}
    >>> cycle |= {name: 10 * i for i, name in enumerate(PHASES)}
    >>> days = np.datetime64("1970-01-01") + np.array([0, 15, 30, 61])
    >>> daily_evi(pd.DataFrame([cycle]), days).astype(float).round(2).tolist()
    [0.26, 0.48, 0.6, nan]
    """
    share = np.array([*PHASES.values()])
    at = cycles[[*PHASES]].to_numpy(float).ravel()
    level = (
        cycles.minimum.to_numpy()[:, None] + cycles.amplitude.to_numpy()[:, None] * share
    ).ravel()
    knots = pd.Series(level).groupby(at).mean()  # two cycles may share a day
    known = knots.index.to_numpy()
    day = days.astype("datetime64[D]").astype(int)
    evi = np.interp(day, known, knots, left=np.nan, right=np.nan)
    after = np.clip(np.searchsorted(known, day), 1, max(len(known) - 1, 1))
    if len(known) > 1:
        evi[known[after] - known[after - 1] > GAP] = np.nan
    return evi.astype(np.float32)
