"""Daily fluxes of many towers, split into towers, seasons, days and years.

The split of FLUXCOM (Tramontana et al. 2016, doi:10.5194/bg-13-4291-2016), for daily values with
gaps: observed and predicted values must be given on the same days, so that both are split alike.
With one year of data the season holds that year's slow anomalies too.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SEASON_DAYS = 10.0  # standard deviation of the kernel that smooths the mean season
YEAR_DAYS = 100  # days of a year that has a mean of its own
YEARS = 3  # such years of a tower that enters between years


def split(
    values: Array, site: NDArray[np.intp], doy: NDArray[np.intp], year: NDArray[np.intp]
) -> dict[str, Array]:
    """Split daily values of towers into components by time scale.

    - ``between towers`` (site, flux): the tower's mean.
    - ``seasonal cycle`` (day, flux): the tower's mean season, a function of the day of the year
      smoothed by a circular Gaussian of 10 days, about its mean over the tower's days.
    - ``daily anomalies`` (day, flux): what is left of each day.
    - ``between years`` (year, flux): means of the anomalies over years of at least 100 days, about
      their mean, for towers with at least 3 such years. Anomalies, not values, are averaged, so
      that a year without its winter is no warm year.

    Parameters
    ----------
    values
        Observed or predicted flux (day, flux), any unit.
    site, doy, year
        Tower 0, 1, …, day of the year from 0, and calendar year of each value (day,).
    """
    lag = np.arange(366)
    near = np.exp(-0.5 * (np.minimum(lag, 366 - lag) / SEASON_DAYS) ** 2)
    near = near[(lag[:, None] - lag) % 366]  # (day, day), circular
    cell = site * 366 + doy
    towers = site.max(initial=-1) + 1
    weight = np.bincount(cell, minlength=towers * 366).reshape(towers, 366) @ near
    total = _group_sum(values, cell, towers * 366).reshape(towers, 366, -1)
    smooth = np.einsum("sdf,de->sef", total, near, optimize=True)
    season = smooth[site, doy] / weight[site, doy][:, None]
    count = np.bincount(site, minlength=towers)[:, None]
    mean_season = _group_sum(season, site, towers) / count
    anomaly = values - season
    anomaly -= (_group_sum(anomaly, site, towers) / count)[site]
    at, full, owner = years(site, year)
    n = np.bincount(at, minlength=len(full))
    yearly = (_group_sum(anomaly, at, len(full)) / n[:, None])[full]
    own_years = np.maximum(np.bincount(owner, minlength=towers), 1)[:, None]
    yearly -= (_group_sum(yearly, owner, towers) / own_years)[owner]
    return {
        "between towers": _group_sum(values, site, towers) / count,
        "seasonal cycle": season - mean_season[site],
        "daily anomalies": anomaly,
        "between years": yearly,
    }


def years(
    site: NDArray[np.intp], year: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.intp]]:
    """Find the years between which is told: of enough days, of towers with enough such years.

    Returns the tower-year (day,) of each day, which tower-years count (tower-year,), and the tower
    of each of those that count (year,), in the order of `split`'s "between years".
    """
    pair, at = np.unique(site * 10_000 + year, return_inverse=True)
    owner = pair // 10_000
    full = np.bincount(at, minlength=len(pair)) >= YEAR_DAYS
    full &= np.bincount(owner[full], minlength=site.max(initial=-1) + 1)[owner] >= YEARS
    return at, full, owner[full]


def _group_sum(values: Array, group: NDArray[np.intp], groups: int) -> Array:
    """Sum rows to (group, flux)."""
    columns = [np.bincount(group, column, groups) for column in values.T]
    return np.stack(columns, -1)
