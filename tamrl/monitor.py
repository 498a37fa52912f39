"""Anomalies of a tower: fluxes of the last weeks against their climatology, with uncertainty.

The anomaly of a 30-day mean is its difference from the mean of the same days over the reference
years, which end where the judged days begin; constant errors of an ensemble's members cancel.
Intervals are calibrated at unseen towers; an anomaly is significant if its interval leaves out 0.
A trained ensemble judges a tower of one's own: ``tamrl.load_pretrained().monitor("tower.csv")``.
"""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError, expect
from tamrl.evaluate.conformal import Conformal
from tamrl.files import atomic_write, write_netcdf
from tamrl.samples.arrays import Samples

WINDOW = 30  # days averaged
KNOWN = 0.8  # share of the window's days that must be known
MIN_YEARS = 3  # reference years of a climatology
EVERY = 15  # days between the cases that calibrate: neighbours say nearly the same
LEVEL = 0.9

Array = NDArray[np.float64]
Times = NDArray[np.datetime64]


class Record(NamedTuple):
    """One tower to be monitored: ``members`` GPP, RECO, NEE (seed, time), ``observed`` (time)."""

    members: xr.Dataset
    observed: xr.Dataset
    site: str
    virtual: bool


def running_mean(values: Array, window: int = WINDOW) -> Array:
    """Mean over the last ``window`` days (…, time); NaN where fewer than 80 % of them are known.

    >>> running_mean(np.array([1.0, 3.0, np.nan, 5.0]), 2)
    array([nan,  2., nan, nan])
    """
    days = pd.DataFrame(values.reshape(-1, values.shape[-1]).T, dtype=float)
    means = days.rolling(window, min_periods=ceil(KNOWN * window)).mean()
    return means.to_numpy().T.reshape(values.shape)


def climatology(means: Array, time: Times, reference: NDArray[np.bool_]) -> list[Array]:
    """Mean, standard deviation and number of reference years of the same day, each (…, time).

    ``means`` (…, time) from `running_mean`; ``reference`` (time) the days used; 29 Feb as 28 Feb.
    """
    doy, stamp = _day(time), pd.DatetimeIndex(time)
    leap = np.asarray((stamp.month == 2) & (stamp.day == 29))  # a year counts once for each day
    used = np.where(reference & ~leap, means, np.nan)
    years = pd.DataFrame(used.reshape(-1, len(time)).T).groupby(doy)
    tables = (years.mean(), years.std(), years.count())
    return [table.loc[doy].to_numpy().T.reshape(means.shape) for table in tables]


def _day(time: Times) -> NDArray[np.intp]:
    """Day of a year without 29 February, from 0."""
    stamp = pd.DatetimeIndex(time)
    day = stamp.day_of_year.to_numpy() - 1
    return np.asarray(day - (stamp.is_leap_year & (day >= 59)), np.intp)


def departures(
    values: Array, time: Times, judged: NDArray[np.bool_], window: int = WINDOW
) -> list[Array]:
    """Anomaly, mean, what is usual, its sd and years of reference, each (…, judged day).

    ``values`` (…, time); the days that are not ``judged`` (time) are the reference. The anomaly is
    linear in the values; NaN for fewer than 3 years.
    """
    means = running_mean(values, window)
    usual, sd, years = (one[..., judged] for one in climatology(means, time, ~judged))
    means = means[..., judged]
    return [np.where(years >= MIN_YEARS, means - usual, np.nan), means, usual, sd, years]


def newest(time: Times, recent: int) -> NDArray[np.bool_]:
    """Which days (time,) are the last ``recent`` ones, which are judged."""
    return np.asarray(time > time[-1] - np.timedelta64(recent, "D"))


def anomalies(
    record: Record, fitted: Mapping[str, Conformal], recent: int = 365, window: int = WINDOW
) -> xr.Dataset:
    """Anomalies of the last ``recent`` days of a record; the years before are the reference.

    ``fitted`` is from `calibrate`, with the same ``window``. Dataset (flux, time), gC m-2 d-1:
    ``mean`` of the window, ``usual`` (climatology), ``usual_sd`` (over years), ``anomaly``,
    ``lower``, ``upper`` (bounds), ``standardised`` (anomaly / usual_sd), ``observed`` (anomaly of
    the labels), ``years`` of reference. DataError when no day has 3 reference years, or for days
    below 1, or above those of the record.
    """
    time, out = record.members.time.values, []
    for days in (recent, window):
        expect(days, (int, np.integer), "a number of days to judge", "a whole number")
        if not 1 <= days <= len(time):
            what = f"recent {recent}, window {window}: both are days, 1 or more"
            raise DataError(f"{what}, and at most the {len(time)} of the record of {record.site}")
    judged = newest(time, recent)
    for flux in FLUXES:
        made = "one of tamrl.monitor.calibrate"
        expect(fitted.get(flux), Conformal, f"the interval of {flux}", made)
        members = record.members[flux].transpose("seed", "time").values.astype(float)
        both = np.vstack([members, record.observed[flux].values])
        each, means, usual, sd, years = departures(both, time, judged, window)
        anomaly, spread = each[:-1].mean(0), sd[:-1].mean(0)
        lower, upper = fitted[flux].interval(anomaly, np.abs(usual[:-1]).mean(0), "")
        columns = {
            "mean": means[:-1].mean(0), "usual": usual[:-1].mean(0), "usual_sd": spread,
            "anomaly": anomaly, "lower": lower, "upper": upper, "observed": each[-1],
            "standardised": anomaly / np.where(spread > 0, spread, np.nan),
            "years": years[:-1].min(0).astype(float),
        }  # fmt: skip
        out.append(xr.Dataset({k: ("time", v) for k, v in columns.items()}, {"time": time[judged]}))
    result = xr.concat(out, pd.Index(FLUXES, name="flux"))
    if not np.isfinite(result.anomaly).any():
        since = f"from {str(time[0])[:10]} has {int(result.years.max())} reference years for its"
        remedy = f"a climatology needs {MIN_YEARS}. Give a longer record or judge fewer days"
        raise DataError(f"{record.site}: the record {since} last {recent} days; {remedy}")
    attrs = {"site": record.site, "virtual": int(record.virtual), "window": window}
    return result.assign_attrs(attrs, units="gC m-2 d-1")


def calibrate(
    predictions: xr.Dataset, samples: Samples, window: int = WINDOW
) -> dict[str, Conformal]:
    """Calibrate 90 % intervals of predicted anomalies at towers that the model had not seen.

    Each year is compared with the tower's other years, in labels and out-of-fold ``predictions``
    GPP, RECO, NEE (seed, site, time). DataError for fewer than 19 towers with 4 labelled years.
    """
    time = samples.time
    some = _day(time) % EVERY == 0  # the same days of every year
    at = pd.Index(samples.site).get_indexer(predictions.site.values)
    fitted = {}
    for k, flux in enumerate(FLUXES):
        members, cases = predictions[flux].transpose("site", "seed", "time").values, []
        for row, site in enumerate(at):
            label = np.where(samples.weight[site] > 0, samples.y[site, :, k], np.nan)
            both = np.vstack([label, members[row]])  # gaps of the labels count as error, too
            case = _against_other_years(running_mean(both, window)[:, some], time[some])
            cases.append(np.vstack([case, np.full(case.shape[1], row)]))
        observed, mean, size, tower = np.concatenate(cases, 1)
        if not len(tower):
            raise DataError(f"no tower has {MIN_YEARS + 1} labelled years to calibrate {flux} with")
        fitted[flux] = Conformal.fit(observed, mean, size, tower, "", (LEVEL,), "tower")
    return fitted


def _against_other_years(means: Array, time: Times) -> Array:
    """Observed, predicted anomaly and usual size (3, case) of ``means`` (label, members; time)."""
    parts, years = [np.empty((3, 0))], time.astype("datetime64[Y]")
    for year in np.unique(years[np.isfinite(means[0])]):
        usual, _, count = climatology(means, time, years != year)
        on = (years == year) & (count.min(0) >= MIN_YEARS)
        each, size = (means - usual)[:, on], np.abs(usual[1:, on]).mean(0)
        ok = np.isfinite(each).all(0)
        parts.append(np.stack([each[0], each[1:].mean(0), size])[:, ok])
    return np.concatenate(parts, 1)


def status(judged: xr.Dataset) -> pd.DataFrame:
    """Newest judged day of each flux: flux, day, columns of `anomalies`, ``says``, ``virtual``."""
    rows, virtual = [], int(judged.attrs["virtual"])
    for flux in FLUXES:
        last = judged.sel(flux=flux).dropna("time", subset=["anomaly"]).isel(time=-1)
        low, high = float(last.lower), float(last.upper)
        says = f"{'above' if low > 0 else 'below' if high < 0 else 'within'} its normal range"
        numbers = {str(name): float(value) for name, value in last.data_vars.items()}
        about = {"flux": flux, "day": str(last.time.values)[:10]}
        rows.append(about | numbers | {"says": says, "virtual": virtual})
    return pd.DataFrame(rows)


def values(judged: xr.Dataset) -> dict[str, str]:
    """Gather what a page quotes of the newest day: site, day, and each flux with its interval."""
    table = status(judged)
    out = {"site": str(judged.attrs["site"]), "day": str(table.day.max())}
    for row in table.itertuples():
        text = f"{row.anomaly:+.2f}, {row.lower:+.2f} to {row.upper:+.2f}"
        out[f"says_{row.flux}"] = str(row.says)
        out[f"anomaly_{row.flux}"] = text.replace("-", "\N{MINUS SIGN}")
    return out


def files(folder: Path, virtual: bool) -> tuple[Path, Path]:
    """Name the files of `write`: ``anomalies.nc`` and ``status.csv``; virtual ones say so."""
    prefix = "virtual_" * virtual
    return folder / f"{prefix}anomalies.nc", folder / f"{prefix}status.csv"


def write(judged: xr.Dataset, folder: Path) -> None:
    """Write `anomalies` and their `status` to their `files`, each whole or not at all."""
    fields, newest_day = files(folder, bool(judged.attrs["virtual"]))
    judged = judged.assign_attrs(history="judged by tamrl.monitor")  # so that it may be replaced
    write_netcdf(judged, fields)
    with atomic_write(newest_day) as part:
        status(judged).to_csv(part, index=False)


def study_record(predictions: xr.Dataset, samples: Samples, site: str = "") -> Record:
    """Record of a tower of `calibrate`'s predictions; ``site`` "": the last to end, or longest."""
    rows = {str(name): row for row, name in enumerate(samples.site)}
    names = [str(s) for s in predictions.site.values]
    days = {name: np.flatnonzero(samples.has_drivers[rows[name]]) for name in names}
    site = site or max(reversed(names), key=lambda n: (days[n].max(initial=-1), len(days[n])))
    if site not in names:
        raise DataError(f"tower {site!r} is not among the predictions: {', '.join(names)}")
    row, span = rows[site], slice(days[site][0], days[site][-1] + 1)
    label = np.where(samples.weight[row, span, None] > 0, samples.y[row, span], np.nan)[:, :3]
    members = predictions.sel(site=site).isel(time=span)
    fields = {flux: ("time", values) for flux, values in zip(FLUXES, label.T, strict=True)}
    observed = xr.Dataset(fields, {"time": members.time})
    return Record(members, observed, site, bool(samples.attrs.get("virtual", 0)))
