"""Anomalies of a tower: fluxes of the last weeks against their climatology, with uncertainty.

A flux is averaged over the last 30 days; its climatology is the mean of the same 30 days over the
reference years, which end where the judged days begin; the anomaly is the difference. Each member
of an ensemble has a climatology of its own, so that what it gets wrong every year cancels.

How far a predicted anomaly is from the true one is learnt at towers that the models had not seen:
there both are known, year against the other years, and `tamrl.evaluate.conformal` makes intervals
of the residuals with towers as the units, the wider the larger the flux usually is. An interval
that leaves out zero makes an anomaly significant; how unusual it is among the years is said by the
standardised anomaly.
"""

from collections.abc import Mapping
from math import ceil
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.files import atomic_write
from tamrl.samples.arrays import Samples
from tamrl.shipped.pretrained import load_pretrained, own_samples, placed

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

    Examples
    --------
    >>> running_mean(np.array([1.0, 3.0, np.nan, 5.0]), 2)
    array([nan,  2., nan, nan])
    """
    days = pd.DataFrame(values.reshape(-1, values.shape[-1]).T)
    means = days.rolling(window, min_periods=ceil(KNOWN * window)).mean()
    return means.to_numpy().T.reshape(values.shape)


def climatology(
    means: Array, time: Times, reference: NDArray[np.bool_]
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Mean and standard deviation over the reference years of the same day of the year.

    ``means`` (…, time) from `running_mean`; ``reference`` (time) the days that may be used. On
    29 February that of the 28th holds. Returns both as (…, time), and how many reference years
    each day has (…, time).
    """
    doy, stamp = _day(time), pd.DatetimeIndex(time)
    leap = (stamp.month == 2) & (stamp.day == 29)  # a year counts once for each day
    used = np.where(reference & ~np.asarray(leap), means, np.nan)
    years = pd.DataFrame(used.reshape(-1, len(time)).T).groupby(doy)
    mean, sd, count = (
        table.loc[doy].to_numpy().T.reshape(means.shape)
        for table in (years.mean(), years.std(), years.count())
    )
    return mean, sd, count


def _day(time: Times) -> NDArray[np.intp]:
    """Day of a year without 29 February, from 0."""
    stamp = pd.DatetimeIndex(time)
    day = stamp.day_of_year.to_numpy() - 1
    return np.asarray(day - (stamp.is_leap_year & (day >= 59)), np.intp)


def anomalies(
    record: Record, fitted: Mapping[str, Conformal], recent: int = 365, window: int = WINDOW
) -> xr.Dataset:
    """Anomalies of the last ``recent`` days of a record, with intervals.

    The years before are the reference. ``fitted`` is from `calibrate`, with the same ``window``.
    Returns a Dataset (flux, time) of the judged days, gC m-2 d-1: ``mean`` of the window, ``usual``
    (its climatology), ``usual_sd`` (over years), ``anomaly``, ``lower``, ``upper`` (bounds of the
    true anomaly), ``standardised`` (anomaly / usual_sd), ``observed`` (anomaly of the labels, where
    there are any), ``years`` of reference.

    DataError when fewer than 3 reference years are left for the newest day.
    """
    time = record.members.time.values
    judged = time > time[-1] - np.timedelta64(recent, "D")
    out = []
    for flux in FLUXES:
        members = record.members[flux].transpose("seed", "time").values.astype(float)
        label = record.observed[flux].values.astype(float)[None]
        mean, usual, sd, years = _against(members, time, judged, window)
        observed, seen, _, seen_years = _against(label, time, judged, window)
        anomaly = np.where(years >= MIN_YEARS, mean - usual, np.nan).mean(0)
        lower, upper = fitted[flux].interval(anomaly, np.abs(usual).mean(0), "")
        spread = sd.mean(0)
        columns = {
            "mean": mean.mean(0), "usual": usual.mean(0), "usual_sd": spread,
            "anomaly": anomaly, "lower": lower, "upper": upper,
            "observed": np.where(seen_years >= MIN_YEARS, observed - seen, np.nan)[0],
            "standardised": anomaly / np.where(spread > 0, spread, np.nan),
            "years": years.min(0).astype(float),
        }  # fmt: skip
        out.append(xr.Dataset({k: ("time", v) for k, v in columns.items()}, {"time": time[judged]}))
    result = xr.concat(out, pd.Index(FLUXES, name="flux"))
    if not np.isfinite(result.anomaly).any():
        raise DataError(
            f"{record.site}: the record from {str(time[0])[:10]} has {int(result.years.max())} "
            f"reference years for its last {recent} days; a climatology needs {MIN_YEARS}. Give a "
            "longer record or judge fewer days"
        )
    return result.assign_attrs(
        site=record.site, virtual=int(record.virtual), window=window, units="gC m-2 d-1"
    )


def _against(
    values: Array, time: Times, judged: NDArray[np.bool_], window: int
) -> tuple[Array, Array, Array, NDArray[np.intp]]:
    """Means of the judged days, and their climatology: mean, sd, years (member, day)."""
    means = running_mean(values, window)
    usual, sd, years = climatology(means, time, ~judged)
    return means[:, judged], usual[:, judged], sd[:, judged], years[:, judged]


def calibrate(
    predictions: xr.Dataset, samples: Samples, window: int = WINDOW, level: float = LEVEL
) -> dict[str, Conformal]:
    """Learn at towers never seen how far predicted anomalies are from observed ones.

    At every tower each year is compared with its other years, in labels and predictions alike.
    ``predictions`` of one model are out of fold, GPP, RECO, NEE (seed, site, time); of the labels
    in ``samples``, days that are trained on count. A ``level`` of 0.9 needs 19 towers with at least
    4 labelled years; DataError when too few towers have years enough.
    """
    time = samples.time
    years = time.astype("datetime64[Y]").astype(int)
    some = _day(time) % EVERY == 0  # the same days of every year
    at = pd.Index(samples.site).get_indexer(predictions.site.values)
    cases: dict[str, list[Array]] = {flux: [] for flux in FLUXES}
    for row, site in enumerate(at):
        on = samples.weight[site] > 0
        for k, flux in enumerate(FLUXES):
            label = np.where(on, samples.y[site, :, k], np.nan)[None]
            member = predictions[flux].isel(site=row).transpose("seed", "time").values
            both = np.concatenate([label, member])  # gaps of the labels count as error, too
            means = running_mean(both.astype(float), window)[:, some]
            case = _against_other_years(means, time[some], years[some])
            if case.shape[1]:
                cases[flux].append(np.vstack([case, np.full(case.shape[1], row)]))
    fitted = {}
    for flux, parts in cases.items():
        if not parts:
            raise DataError(f"no tower has {MIN_YEARS + 1} labelled years to calibrate {flux} with")
        observed, mean, size, tower = np.concatenate(parts, 1)
        fitted[flux] = Conformal.fit(observed, mean, size, tower, None, (level,), "tower")
    return fitted


def _against_other_years(means: Array, time: Times, years: NDArray[np.intp]) -> Array:
    """Anomalies of each year against the others (3, case): observed, predicted, usual size.

    ``means`` (1 + member, time), the labels first.
    """
    parts = []
    for year in np.unique(years[np.isfinite(means[0])]):
        usual, _, count = climatology(means, time, years != year)
        on = (years == year) & (count.min(0) >= MIN_YEARS)
        each = (means - usual)[:, on]
        ok = np.isfinite(each).all(0)
        size = np.abs(usual[1:, on]).mean(0)
        parts.append(np.stack([each[0], each[1:].mean(0), size])[:, ok])
    return np.concatenate(parts, 1) if parts else np.empty((3, 0))


def status(judged: xr.Dataset) -> pd.DataFrame:
    """Newest judged day of each flux: columns flux, day and those of `anomalies`, and ``says``."""
    rows = []
    for flux in FLUXES:
        one = judged.sel(flux=flux)
        last = one.isel(time=np.flatnonzero(np.isfinite(one.anomaly.values))[-1])
        low, high = float(last.lower), float(last.upper)
        says = "above" if low > 0 else "below" if high < 0 else "within"
        row: dict[str, object] = {"flux": flux, "day": str(last.time.values)[:10]}
        row |= {str(name): float(value) for name, value in last.data_vars.items()}
        rows.append(row | {"says": f"{says} its normal range"})
    return pd.DataFrame(rows)


def values(judged: xr.Dataset) -> dict[str, str]:
    """Gather what a page quotes of the newest day: site, day, and each flux with its interval."""
    table = status(judged)
    out = {"site": str(judged.attrs["site"]), "day": str(table.day.max())}
    for row in table.to_dict("records"):
        text = f"{row['anomaly']:+.2f}, {row['lower']:+.2f} to {row['upper']:+.2f}"
        out[f"says_{row['flux']}"] = row["says"]
        out[f"anomaly_{row['flux']}"] = text.replace("-", "\N{MINUS SIGN}")
    return out


def write(judged: xr.Dataset, folder: Path) -> None:
    """Write `anomalies` as ``anomalies.nc`` and their `status` as ``status.csv``, each whole."""
    with atomic_write(folder / "anomalies.nc") as part:
        judged.to_netcdf(part, engine="netcdf4")
    with atomic_write(folder / "status.csv") as part:
        status(judged).to_csv(part, index=False)


def study_record(predictions: xr.Dataset, samples: Samples, site: str = "") -> Record:
    """Return a tower of the study as networks predict it that had not seen it.

    ``site`` "" takes the tower whose record ends last, the longest of several. ``predictions`` are
    those of `calibrate`. DataError for a tower that is not among them.
    """
    names = [str(s) for s in predictions.site.values]
    if not site:
        has_drivers = samples.has_drivers[pd.Index(samples.site).get_indexer(pd.Index(names))]
        last = has_drivers.shape[1] - 1 - has_drivers[:, ::-1].argmax(1)
        site = names[np.lexsort((has_drivers.sum(1), np.where(has_drivers.any(1), last, -1)))[-1]]
    if site not in names:
        raise DataError(f"tower {site!r} is not among the predictions: {', '.join(names)}")
    row = list(samples.site).index(site)
    on = np.flatnonzero(samples.has_drivers[row])
    span = slice(on[0], on[-1] + 1)
    label = np.where(samples.weight[row, :, None] > 0, samples.y[row], np.nan)
    observed = {f: ("time", label[span, k]) for k, f in enumerate(FLUXES)}
    members = predictions.sel(site=site).isel(time=span)
    virtual = bool(samples.attrs.get("virtual", 0))
    return Record(members, xr.Dataset(observed, {"time": members.time}), site, virtual)


def own_record(
    data: str | PathLike[str],
    table: str | PathLike[str] | None = None,
    weights: str | PathLike[str] | None = None,
    site: str = "",
    device: str = "cpu",
) -> Record:
    """Read a user's tower and predict it.

    ``data`` and ``table`` as for `tamrl.data.open_towers`; ``weights`` (None: the ensemble of the
    package) and ``device`` as for `tamrl.load_pretrained`; ``site`` as for `study_record`.
    DataError when data or weights cannot be read, there is no such tower, or drivers differ.
    """
    model = load_pretrained(weights, device)
    samples = placed(own_samples(data, table), model.header)
    if tuple(model.header["features"]) != samples.features:
        unknown = sorted(set(model.header["features"]) ^ set(samples.features))
        raise DataError(
            f"{data}: the weights were trained on other drivers; they differ in {unknown}"
        )
    rows = np.arange(len(samples.site))
    flux = np.stack([member.predict(samples, rows) for member in model.members])
    members = xr.Dataset(
        {f: (("seed", "site", "time"), flux[..., k]) for k, f in enumerate(FLUXES)},
        {"seed": range(len(flux)), "site": samples.site,
         "time": samples.time.astype("datetime64[ns]")},
    )  # fmt: skip
    virtual = bool(model.header["virtual"])
    return study_record(members, samples, site)._replace(virtual=virtual)


def record(
    data: str, table: str, weights: str, site: str, predictions: xr.Dataset, samples: Samples
) -> Record:
    """Choose what is monitored: `own_record` where ``data`` is named, else `study_record`."""
    if data:
        return own_record(data, table or None, weights or None, site)
    return study_record(predictions, samples, site)
