"""Values of composites, days and months as monthly predictors and a daily vegetation index."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.daily import Floats
from tamrl.data.own.vocabulary import EXTRAS
from tamrl.data.schema import VARIABLES
from tamrl.data.sites import MONTHLY_VARIABLES

COMPOSITE = 16  # days: what is further apart is a month's mean
GAP = 32  # days without a view of the surface, over which EVI is not interpolated
DAYS_OF_MONTH = {"P": 25}  # known days that make a month's mean of rain; of all else
SOME_DAYS = 5
# Months of `fetch_tower_predictors` and days of `fetch_towers`, the least that series are put on:
# on the axes of training the sums of mean seasons round as in training.
MONTHS = pd.Timestamp("1994-04-01"), pd.Timestamp("2021-01-01")
DAYS = np.datetime64("1991-01-01"), np.datetime64("2014-12-31")


class Predictors(NamedTuple):
    """Monthly predictors (site, month) and a daily EVI (site, time), as far as there are any."""

    monthly: xr.Dataset | None = None
    evi: xr.DataArray | None = None


def by_month(series: pd.DataFrame) -> xr.Dataset | None:
    """Means (site, month) of what falls into each month, by the middle of composites."""
    some = series[series["name"].isin(EXTRAS)]
    if some.empty:
        return None
    middle = some["date"] + pd.to_timedelta(some["step"] // 2, unit="D")
    month = middle.dt.to_period("M").dt.to_timestamp()
    keys = [some["name"], some["site"], month.rename("month")]
    values = some["value"].groupby(keys)
    daily = some["step"].groupby(keys).max() == 1
    return _dataset(values.mean()[~daily | (values.size() >= SOME_DAYS)])


def _dataset(means: pd.Series) -> xr.Dataset | None:
    """Dataset (site, month) of means by name, site and month, on every month."""
    if means.empty:
        return None
    months = means.index.get_level_values("month")
    # One month more at each end, which is missing: so days are filled as in the midst of a series.
    first, last = months.min() - pd.DateOffset(months=1), months.max() + pd.DateOffset(months=1)
    every = pd.date_range(min(first, MONTHS[0]), max(last, MONTHS[1]), freq="MS")
    data = {}
    for name in dict.fromkeys(means.index.get_level_values("name")):
        own = means.loc[name].reset_index()
        table = own.pivot_table(index="site", columns="month", values=own.columns[-1])
        table = table.reindex(columns=every)
        data[str(name)] = xr.DataArray(
            table.to_numpy(np.float32), {"site": [*table.index], "month": every.to_numpy()},
            ("site", "month"), attrs=MONTHLY_VARIABLES[str(name)].attrs,
        )  # fmt: skip
    return xr.Dataset(data)


def step_of(dates: pd.Series) -> int:
    """Days between the dates of a series, by the median; 0 for months."""
    steps = np.diff(np.sort(dates.to_numpy())).astype("timedelta64[D]").astype(int)
    step = int(np.median(steps)) if steps.size else 0
    return step if step <= COMPOSITE else 0


def by_day(evi: pd.DataFrame) -> xr.DataArray | None:
    """EVI (site, time) by day, linear between views no more than GAP days apart."""
    if evi.empty:
        return None
    middle = (evi["date"] + pd.to_timedelta(evi["step"] // 2, unit="D")).to_numpy("datetime64[D]")
    days = np.arange(min(middle.min(), DAYS[0]), max(middle.max(), DAYS[1]) + 1)
    rows = {}
    for site in dict.fromkeys(evi["site"]):
        mine = (evi["site"] == site).to_numpy()
        known = pd.Series(evi["value"].to_numpy()[mine]).groupby(middle[mine]).mean()
        rows[site] = between(known.index.to_numpy("datetime64[D]"), known.to_numpy(), days)
    axes = {"site": [*rows], "time": days.astype("datetime64[ns]")}
    values = np.stack([*rows.values()]).astype(np.float32)
    return xr.DataArray(values, axes, ("site", "time"), "EVI", VARIABLES["EVI"].attrs)


def between(known: np.ndarray, values: Floats, days: np.ndarray) -> Floats:
    """Values (day,) on ``days``, linear between ``known`` ones that lie within 32 days.

    >>> at = np.array(["2001-01-01", "2001-01-17", "2001-03-17"], "datetime64[D]")
    >>> between(at, np.array([0.2, 0.4, 0.6]), np.arange(at[0], at[2], 8)).round(2).tolist()
    [0.2, 0.3, 0.4, nan, nan, nan, nan, nan, nan, nan]
    """
    at, day = known.astype(int), days.astype(int)
    out = np.interp(day, at, values, left=np.nan, right=np.nan)
    after = np.clip(np.searchsorted(at, day), 1, max(len(at) - 1, 1))
    if len(at) > 1:
        inside = (day > at[after - 1]) & (day < at[after])
        out[inside & (at[after] - at[after - 1] > GAP)] = np.nan
    return out


def whole_evi(own: xr.DataArray, notes: dict[str, list[str]]) -> xr.DataArray:
    """Make composites of a tower's own ``own`` EVI (site, time) daily, as those of satellite files.

    A series whose known days are mostly more than one apart is of composites; ``notes`` say so.
    """
    rows, time = [], pd.Series(own.time.to_numpy())
    for site, values in zip(own.site.to_numpy().astype(str), own.to_numpy(), strict=True):
        known = np.isfinite(values)
        if known.sum() < 2 or (step := step_of(time[known])) == 1:
            continue
        rows.append(pd.DataFrame(
            {"site": site, "date": time[known], "value": values[known], "step": step}
        ))  # fmt: skip
        what = f"{known.sum()} dates taken for the first days of composites, linear between them"
        notes.setdefault(site, []).append(f"EVI: {what}")
    if not rows or (daily := by_day(pd.concat(rows, ignore_index=True))) is None:
        return own
    others = own.sel(site=[s for s in own.site.to_numpy() if s not in daily.site.to_numpy()])
    return xr.concat([daily, others], "site", join="outer") if others.size else daily


def from_towers(daily: xr.Dataset, seen: Predictors, notes: dict[str, list[str]]) -> Predictors:
    """Fill monthly predictors that satellite files lack with means of the towers' own columns.

    P, which is rain by day, gives PRCP, of months with 25 known days; all else needs 5.
    """
    names = {n: n for n in EXTRAS if n in daily}
    names |= {"P": "PRCP"} if "P" in daily and "PRCP" not in daily else {}
    if daily.attrs.get("tower_source") != "user" or not names:
        return seen
    month = daily.time.to_numpy().astype("datetime64[M]")
    parts = []
    for own, name in names.items():
        for i, site in enumerate(daily.site.to_numpy().astype(str)):
            values = daily[own].to_numpy()[i].astype(float)
            if not np.isfinite(values).any() or _has(seen.monthly, name, site):
                continue
            monthly = pd.Series(values).groupby(month)
            known = monthly.count()
            at = np.flatnonzero(np.isfinite(values))
            sparse = at.size > 1 and np.median(np.diff(at)) > 1
            enough = known >= (1 if sparse else DAYS_OF_MONTH.get(own, SOME_DAYS))
            means = monthly.mean()[enough].rename_axis("month")
            if means.empty:
                notes.setdefault(site, []).append(f"{name}: too few days of {own} for a month")
                continue
            parts.append(pd.concat({(name, site): means}, names=["name", "site"]))
            notes.setdefault(site, []).append(
                f"{name}: monthly means of the tower's own {own}, {len(means)} months"
            )
    if not parts:
        return seen
    own_months = _dataset(pd.concat(parts))
    both = [ds for ds in (seen.monthly, own_months) if ds is not None]
    return seen._replace(monthly=both[0] if len(both) == 1 else both[0].combine_first(both[1]))


def _has(monthly: xr.Dataset | None, name: str, site: str) -> bool:
    if monthly is None or name not in monthly or site not in monthly.site.to_numpy():
        return False
    return bool(np.isfinite(monthly[name].sel(site=site)).any())
