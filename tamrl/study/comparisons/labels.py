"""How far two processings of the same measurements disagree: no model can be known to be better.

One partitioning of NEE against another by day, and OzFlux's processing against FLUXNET2015's by
month. Tables have flux, site, days or months, the means ``first`` and ``second``, ``difference``
(second minus first) and ``RMS`` of single days or months; all in gC m-2 d-1.
"""

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.published import OZFLUX
from tamrl.data.schema import FLUXES
from tamrl.samples.arrays import SCORE_QC

MONTH_SHARE = 0.9  # smallest share of a month's days from which its sum is made


def month_sums(daily: xr.Dataset) -> xr.Dataset:
    """Monthly sums (…, month) of daily rates (…, time): gC m-2 month-1 from gC m-2 d-1.

    The mean of a month's days times their number; NaN below 90 % of them. April without its first
    day, then without its first half:

    >>> time = pd.date_range("2001-04-01", periods=30)
    >>> rate = xr.DataArray(np.full(30, 2.0), {"time": time}, ("time",), "GPP")
    >>> [month_sums(rate[n:].to_dataset()).GPP.values.tolist() for n in (1, 15)]
    [[60.0], [nan]]
    """
    groups = daily.resample(time="MS")
    mean, count = groups.mean(), groups.count()
    long = mean["time"].dt.days_in_month
    sums = (mean * long).where(count >= MONTH_SHARE * long).rename(time="month")
    return sums.transpose(..., "month")


def partitionings(towers: xr.Dataset, daytime: xr.Dataset) -> pd.DataFrame:
    """Compare GPP by night-time (first) with that by daytime partitioning (second).

    ``towers`` and ``daytime`` (site, time) as of `tamrl.data.towers.fetch_towers` and
    `fetch_daytime_gpp`. Days with both and NEE_QC of 0.8, as those that are scored. Broken
    site-years, some of which this very difference gave away, are left out.
    """
    night = towers["GPP"].where(towers["NEE_QC"] >= SCORE_QC)
    return _by_tower(night, daytime["GPP_DT"], "GPP", "days")


def processings(towers: xr.Dataset, ozflux: xr.Dataset) -> pd.DataFrame:
    """Compare months of FLUXNET2015 (first), summed from days, with OzFlux's (second).

    ``towers`` (site, time) as of `tamrl.data.towers.fetch_towers`, ``ozflux`` (source, site, month)
    as of `tamrl.data.published.fetch_ozflux`. Gap-filled days count, as OzFlux fills gaps too.
    """
    second = ozflux.sel(source=OZFLUX, drop=True)
    sites = np.intersect1d(towers["site"], second["site"])
    first, second = xr.align(month_sums(towers[[*FLUXES]].sel(site=sites)), second, join="inner")
    long = first["month"].dt.days_in_month
    pairs = [_by_tower(first[f] / long, second[f] / long, f, "months") for f in FLUXES]
    return pd.concat(pairs, ignore_index=True)


def overall(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up `partitionings` or `processings` over towers, by flux.

    Columns: flux, towers, days or months, RMS (pooled over these), mean_RMS (of the towers' mean
    differences), worst (the tower whose means differ most).
    """
    unit, rows = table.columns[2], []
    for flux, part in table.groupby("flux", sort=False):
        pooled = np.sqrt(np.average(part["RMS"] ** 2, weights=part[unit]))
        means = np.sqrt((part["difference"] ** 2).mean())
        worst = part["site"].iloc[part["difference"].abs().argmax()]
        rows.append((flux, len(part), part[unit].sum(), pooled, means, worst))
    columns = ["flux", "towers", unit, "RMS", "mean_RMS", "worst"]
    return pd.DataFrame(rows, columns=columns)


def _by_tower(first: xr.DataArray, second: xr.DataArray, flux: str, unit: str) -> pd.DataFrame:
    both = {"first": first.reset_coords(drop=True), "second": second.reset_coords(drop=True)}
    pair = xr.Dataset(both).to_dataframe().dropna().astype(float)
    gap = pair["second"] - pair["first"]
    groups = pair.assign(difference=gap, RMS=gap**2).groupby("site")
    table = groups.mean().assign(flux=flux)
    table[unit], table["RMS"] = groups.size(), table["RMS"] ** 0.5
    return table.reset_index()[["flux", "site", unit, "first", "second", "difference", "RMS"]]
