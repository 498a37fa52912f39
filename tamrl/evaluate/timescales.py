"""Daily fluxes of many towers, split into towers, seasons, days and years.

The split of FLUXCOM (Tramontana et al. 2016, doi:10.5194/bg-13-4291-2016), for daily values with
gaps: observed and predicted values must be given on the same days, so that both are split alike.
With one year of data the season holds that year's slow anomalies too.
"""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.evaluate.scores import MIN_DAYS, Days, groups_of, score, sum_days

Array = NDArray[np.float64]
Index = NDArray[np.intp]
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
    long = sums.n.values[days.tower] >= MIN_DAYS
    rows, site = np.unique(days.tower[long], return_inverse=True)
    doy, year = days.time[long].day_of_year.to_numpy() - 1, days.time[long].year.to_numpy()
    truth, *parts = [split(v[long], site, doy, year) for v in (days.observed, *days.predicted)]
    owners = (rows[site], rows[site], rows[years(site, year)[2]])

    def by_tower(part: dict[str, Array]) -> Array:
        pairs = zip(WITHIN, owners, strict=True)
        return np.stack([_group_sum(part[scale] ** 2, own, n) for scale, own in pairs])

    within = by_tower(truth)
    square = [by_tower({scale: part[scale] - truth[scale] for scale in WITHIN}) for part in parts]
    count = np.stack([np.bincount(own, minlength=n) for own in owners]).astype(float)
    return scales_of(sums, count, within, np.stack(square))


def scales_of(sums: xr.Dataset, n: Array, within: Array, square: Array) -> xr.Dataset:
    """Put squares of the components within towers below those between towers, from ``sums``."""
    axes = ("scale", "site", "flux")
    inside = {"n": (axes[:2], n), "observed": (axes, np.zeros_like(within))}
    inside |= {"within": (axes, within), "square": (("model", *axes), square)}
    long, square_of = sums.n >= MIN_DAYS, (sums.error / sums.n) ** 2
    means = sums[["observed"]].assign(n=1.0 * long, within=0 * sums.within, square=square_of)
    between = means.where(long, 0).expand_dims(scale=["between towers"])
    dims = {"scale": list(WITHIN), "model": sums.model, "site": sums.site, "flux": sums.flux}
    parts = [between, xr.Dataset(inside, dims)]
    return xr.concat(parts, "scale", coords="minimal", compat="override")


def by_scale(scales: xr.Dataset) -> pd.DataFrame:
    """Table of model, flux, scale, n, R2, RMSE at towers of at least 30 days, from `sum_scales`."""
    skill = score(scales, groups_of(scales)).isel(group=0, drop=True)
    skill["n"] = scales.n.sum("site").astype(int)
    table = skill.to_dataframe(["model", "scale", "flux"]).reset_index()
    return table[["model", "flux", "scale", "n", "R2", "RMSE"]]


def split(values: Array, site: Index, doy: Index, year: Index) -> dict[str, Array]:
    """Split daily values (day, flux), any unit, of towers into components by time scale.

    ``site``, ``doy`` and ``year``: tower 0, 1, …, day of the year from 0, and calendar year (day,).

    - ``between towers`` (site, flux): the tower's mean.
    - ``seasonal cycle`` (day, flux): the tower's mean season, a function of the day of the year
      smoothed by a circular Gaussian of 10 days, about its mean over the tower's days.
    - ``daily anomalies`` (day, flux): what is left of each day.
    - ``between years`` (year, flux): means of anomalies (a year without its winter is no warm year)
      over years of at least 100 days, about their mean, for towers with at least 3 such years.
    """
    lag = np.arange(366)
    near = np.exp(-0.5 * (np.minimum(lag, 366 - lag) / SEASON_DAYS) ** 2)
    near = near[(lag[:, None] - lag) % 366]  # (day, day), circular
    cell = site * 366 + doy
    towers = site.max(initial=-1) + 1
    weight = np.bincount(cell, minlength=towers * 366).reshape(towers, 366) @ near
    total = _group_sum(values, cell, towers * 366).reshape(towers, 366, values.shape[1])
    smooth = np.tensordot(near, total, (0, 1)).swapaxes(0, 1)  # (tower, day, flux)
    season = smooth[site, doy] / weight[site, doy][:, None]
    anomaly = values - season
    anomaly -= _group_mean(anomaly, site, towers)[site]
    at, full, owner = years(site, year)
    yearly = _group_mean(anomaly, at, len(full))[full]
    return {
        "between towers": _group_mean(values, site, towers),
        "seasonal cycle": season - _group_mean(season, site, towers)[site],
        "daily anomalies": anomaly,
        "between years": yearly - _group_mean(yearly, owner, towers)[owner],
    }


def years(site: Index, year: Index) -> tuple[Index, NDArray[np.bool_], Index]:
    """Tower-year (day,), those with enough days and such years (tower-year,), and their tower."""
    _, first, at = np.unique(site * 10_000 + year, return_index=True, return_inverse=True)
    owner = site[first]
    full = np.bincount(at) >= YEAR_DAYS
    full &= np.bincount(owner[full], minlength=len(site))[owner] >= YEARS
    return at, full, owner[full]


def _group_sum(values: Array, group: Index, groups: int) -> Array:
    """Sum rows to (group, flux)."""
    return np.stack([np.bincount(group, column, groups) for column in values.T], -1)


def _group_mean(values: Array, group: Index, groups: int) -> Array:
    """Average rows to (group, flux); 0 for a group without any."""
    count = np.bincount(group, minlength=groups)[:, None]
    return _group_sum(values, group, groups) / np.maximum(count, 1)
