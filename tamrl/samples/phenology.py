"""A daily vegetation index of each place as further drivers: its level, anomaly and amplitude.

It comes from MODIS at towers (`tamrl.data.phenology`), a user's file, the simulator, or the mean
season of a grid: the drivers are made of the daily index alone, and mean the same everywhere.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.samples.arrays import (
    PHENOLOGY,
    PHENOLOGY_STATIC,
    Array,
    Samples,
    mean_and_range,
    month_means,
    season_to_daily,
)

MIN_YEARS = 2  # that hold a calendar day, for its mean to have anomalies
MIN_DAYS = 300  # of a year that are known, for its amplitude


def with_phenology(samples: Samples, evi: xr.DataArray | None) -> Samples:
    """Add drivers and statics (`PHENOLOGY`) of a daily ``evi`` (site, time), NaN where it is.

    The anomaly is the difference to the place's mean of the calendar day, the amplitude the range
    of the calendar year; the statics are mean and range of the mean season.
    """
    time = samples.time.astype("datetime64[ns]")
    if evi is None:
        evi = xr.DataArray(np.nan, {"site": samples.site, "time": time}, ("site", "time"))
    evi = evi.reindex(site=samples.site).transpose("site", "time")
    daily, days = evi.to_numpy().astype(np.float32), evi.time.to_numpy().astype("datetime64[D]")
    year, month = (days.astype(f"datetime64[{unit}]").astype(int) for unit in "YM")
    day = (days - days.astype("datetime64[Y]")).astype(int)
    mean, years = _means(daily, day)
    anomaly = np.where(years >= MIN_YEARS, daily - mean, np.nan)
    amplitude = np.full_like(daily, np.nan)
    for y in np.unique(year):
        some = daily[:, year == y]
        known = np.isfinite(some).sum(1) >= MIN_DAYS
        amplitude[np.ix_(known, year == y)] = np.nanmax(some[known], 1)[:, None]
        amplitude[np.ix_(known, year == y)] -= np.nanmin(some[known], 1)[:, None]
    at = pd.Index(days).get_indexer(samples.time)  # -1: a day without an index
    new = np.where((at >= 0)[:, None], np.stack([daily, anomaly, amplitude], -1)[:, at], np.nan)
    own = np.isfinite(samples.x[..., samples.features.index("SW_POT")])  # days of the record
    new = np.where(own[..., None], new, np.nan)
    season = np.stack([month_means(row, month % 12) for row in daily])
    return replace(
        samples,
        x=np.concatenate([samples.x, new.astype(np.float32)], -1),
        features=(*samples.features, *PHENOLOGY),
        static=np.column_stack([samples.static, *mean_and_range(season)]).astype(np.float32),
        static_names=(*samples.static_names, *PHENOLOGY_STATIC),
    )


def without_phenology(samples: Samples) -> Samples:
    """Take away what `with_phenology` adds, for a model that does not know it."""
    own = [k for k, name in enumerate(samples.features) if name not in PHENOLOGY]
    statics = [k for k, name in enumerate(samples.static_names) if name not in PHENOLOGY_STATIC]
    return replace(
        samples,
        x=samples.x[..., own],
        features=tuple(samples.features[k] for k in own),
        static=samples.static[:, statics],
        static_names=tuple(samples.static_names[k] for k in statics),
    )


def from_season(season: xr.DataArray, time: NDArray[np.datetime64]) -> xr.DataArray:
    """Daily index (site, time) of a mean season (site, month): whole years, two at least.

    So its anomaly is nought and its amplitude known, however few days ``time`` has.
    """
    first, last = time[[0, -1]].astype("datetime64[Y]")
    days = np.arange(first, max(last, first + 1) + 1, dtype="datetime64[D]")
    doy = (days - days.astype("datetime64[Y]")).astype(int) + 1
    daily = season_to_daily(season.transpose("site", "month").to_numpy(), doy)
    axes = {"site": season.site.to_numpy(), "time": days.astype("datetime64[ns]")}
    return xr.DataArray(daily, axes, ("site", "time"))


def _means(daily: Array, day: NDArray[np.intp]) -> tuple[Array, NDArray[np.intp]]:
    """Mean of the same calendar day (site, day), and of how many years."""
    mean, years = np.full_like(daily, np.nan), np.zeros(daily.shape, int)
    for d in np.unique(day):
        same = daily[:, day == d]
        n = np.isfinite(same).sum(1)
        years[:, day == d] = n[:, None]
        mean[np.ix_(n > 0, day == d)] = np.nanmean(same[n > 0], 1)[:, None]
    return mean, years
