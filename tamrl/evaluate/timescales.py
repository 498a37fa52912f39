"""Daily fluxes of many towers, split into towers, seasons, days and years.

The split of FLUXCOM (Tramontana et al. 2016, doi:10.5194/bg-13-4291-2016), for daily values with
gaps: observed and predicted values must be given on the same days, so that both are split alike.
With one year of data the season holds that year's slow anomalies too.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.evaluate.scores import MIN_DAYS, Days, groups_of, score, sum_days

Array = NDArray[np.float64]
SEASON_DAYS = 10.0  # standard deviation of the kernel that smooths the mean season
YEAR_DAYS = 100  # days of a year that has a mean of its own
YEARS = 3  # such years of a tower that enters between years
WITHIN = ("seasonal cycle", "daily anomalies", "between years")  # scales with zero mean per tower


def sum_scales(days: Days) -> xr.Dataset:
    """Sum up by tower and time scale, at towers of at least 30 days: n, observed, within, square.

    Dimensions are those of `sum_days` after ``scale``; ``n`` counts towers, days, days, years.
    """
    sums = sum_days(days)
    n = sums.sizes["site"]
    own = sums.n.values[days.tower] >= MIN_DAYS
    rows, site = np.unique(days.tower[own], return_inverse=True)
    doy, year = days.time[own].day_of_year.to_numpy() - 1, days.time[own].year.to_numpy()
    truth, *parts = [split(v[own], site, doy, year) for v in (days.observed, *days.predicted)]
    owner = dict.fromkeys(WITHIN, rows[site]) | {WITHIN[2]: rows[years(site, year)[2]]}

    def by_tower(part: Mapping[str, Array]) -> Array:
        out = np.zeros((len(WITHIN), n, len(days.fluxes)))
        for k, scale in enumerate(WITHIN):
            np.add.at(out[k], owner[scale], part[scale] ** 2)
        return out

    errors = [{scale: part[scale] - truth[scale] for scale in WITHIN} for part in parts]
    count = np.stack([np.bincount(owner[s], minlength=n) for s in WITHIN]).astype(float)
    return scales_of(sums, count, by_tower(truth), np.stack([by_tower(e) for e in errors]))


def scales_of(sums: xr.Dataset, n: Array, within: Array, square: Array) -> xr.Dataset:
    """Put squares of the components within towers below those between towers, from ``sums``."""
    axes = ("scale", "site", "flux")
    inside = {"n": (axes[:2], n), "observed": (axes, np.zeros_like(within))}
    inside |= {"within": (axes, within), "square": (("model", *axes), square)}
    own = sums.n >= MIN_DAYS
    means = sums[["observed"]].assign(
        n=own.astype(float), within=0 * sums.within, square=(sums.error / sums.n) ** 2
    )
    between = means.where(own, 0).expand_dims(scale=["between towers"])
    dims = {"scale": list(WITHIN), "model": sums.model, "site": sums.site, "flux": sums.flux}
    return xr.concat(
        [between, xr.Dataset(inside, dims)], "scale", coords="minimal", compat="override"
    )


def by_scale(scales: xr.Dataset) -> pd.DataFrame:
    """Skill by time scale at towers of at least 30 scored days, from `sum_scales`.

    Returns
    -------
    Table with columns model, flux, scale, n, R2, RMSE, pooled over towers, tower-days, tower-days
    and tower-years.
    """
    skill = score(scales, groups_of(scales)).isel(group=0, drop=True)
    skill["n"] = scales.n.sum("site").astype(int)
    table = skill.to_dataframe(["model", "scale", "flux"]).reset_index()
    return table[["model", "flux", "scale", "n", "R2", "RMSE"]]


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
