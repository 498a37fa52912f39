"""An average year of places: days between the months of a climatology, without weather in them.

At held-out towers, days between the months of a tower's own mean weather give seasons that are
nearly as good as those of its real days; a generator of weather could win no more than that.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.schema import DRIVERS
from tamrl.samples.arrays import FACTS, Samples, make_samples, season_to_daily
from tamrl.samples.phenology import from_season, with_phenology

DAYS = np.arange("2001-01-01", "2002-01-01", dtype="datetime64[D]")  # any year of 365 days
AVERAGE = "average year"  # as bounds are calibrated for it
MONTH_MIN_DAYS = 10.0  # good days that a calendar month needs over all its years, d


def average_year(
    months: Mapping[str, NDArray[np.floating]],
    places: Mapping[Any, Any],
    grid: xr.Dataset | None,
    cells: xr.Dataset | None = None,
) -> Samples:
    """Make samples (site, 365 days) of mean seasons at places.

    ``months`` (site, 12): TA degC, VPD hPa, SW_IN W m-2, and EVI, if known; ``places``: coordinates
    of towers (site, lat, lon, igbp, koppen, koppen_main, elevation); ``grid`` (month, lat, lon)
    describes them as it does towers, None: nothing does; ``cells``: its values there, if known.
    """
    doy = np.arange(1, len(DAYS) + 1)
    coords = {**places, "time": DAYS.astype("datetime64[ns]")}
    daily = {n: season_to_daily(months[n], doy).astype(np.float32) for n in DRIVERS}
    towers = xr.Dataset({n: (("site", "time"), v) for n, v in daily.items()}, coords)
    evi = None
    if "EVI" in months:
        axes = {"site": towers["site"].to_numpy(), "month": range(1, 13)}
        season = xr.DataArray(months["EVI"], axes, ("site", "month"))
        evi = from_season(season, towers["time"].to_numpy())
    return with_phenology(make_samples(towers, None, grid, cells=cells), evi)


def at_towers(samples: Samples, grid: xr.Dataset, own: bool = False) -> Samples:
    """Make samples of an average year at towers, from the months of their cells of the grid.

    ``own``: from mean months of the towers' own weather, where it has ten days of a month.
    """
    table = samples.table
    cells = grid_at(grid, table["lat"].to_numpy(), table["lon"].to_numpy())
    months = {n: cells[n].transpose("site", "month").to_numpy() for n in (*DRIVERS, "EVI")}
    if own:
        at = [samples.features.index(n) for n in DRIVERS]
        days = samples.has_drivers.astype(float)
        seen, _ = mean_season(samples.x[..., at], days, samples.time)
        for k, name in enumerate(DRIVERS):
            months[name] = np.where(np.isfinite(seen[..., k]), seen[..., k], months[name])
    places = {n: ("site", table[n].to_numpy()) for n in FACTS if n in table}
    made = average_year(months, places | {"site": ("site", samples.site)}, grid, cells)
    return replace(made, attrs=samples.attrs)


def means_of_months(daily: NDArray[np.floating]) -> NDArray[np.float32]:
    """Means of the months (…, 12, flux) of an average year (…, 365 days, flux)."""
    month = DAYS.astype("datetime64[M]")
    _, first, length = np.unique(month, return_index=True, return_counts=True)
    sums = np.add.reduceat(daily, first, axis=-2, dtype=np.float64)
    return (sums / length[:, None]).astype(np.float32)


def mean_season(
    values: NDArray[np.floating], weight: NDArray[np.floating], time: NDArray[np.datetime64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Mean seasons (site, 12, flux) of daily values (site, time, flux), and the days behind them.

    Days count by their ``weight`` (site, time), a share of good half-hours; a calendar month needs
    ten such days over all its years, else it is missing and its days (site, 12) are 0.
    """
    member = np.eye(12)[time.astype("datetime64[M]").astype(int) % 12]  # (time, month)
    weight = weight.astype(np.float64)
    days = weight @ member
    total = np.einsum("st,stf,tm->smf", weight, np.nan_to_num(values), member, optimize=True)
    days = np.where(days >= MONTH_MIN_DAYS, days, 0.0)
    mean = total / np.where(days > 0, days, np.nan)[..., None]
    return mean.astype(np.float32), days
