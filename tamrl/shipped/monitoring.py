"""Anomalies of a place by an ensemble, within intervals that its labels narrow.

Intervals of `tamrl.monitor` were calibrated at towers whose labels the ensemble did not know. Once
it is adapted, its posterior says how much less is left of what places differ in; the noise of days
stays. What the ensemble gets wrong every year cancels in an anomaly, so that labels narrow these
intervals by less than bounds of daily fluxes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.learner import Fluxes
from tamrl.monitor import WINDOW, anomalies, departures, newest, study_record
from tamrl.samples.arrays import Samples
from tamrl.samples.missing import INPUTS, present
from tamrl.shipped.adaptation import day_of_year
from tamrl.shipped.error_model import Array, ErrorModel, basis


def intervals_carried(header: Mapping[str, Any], window: int) -> dict[str, Conformal]:
    """Intervals of anomalies by flux that weights carry; DataError where they have none."""
    if not header.get("anomalies"):
        remedy = "train with --calibrate 10, or use those of the package"
        raise DataError(f"the weights carry no intervals of anomalies; {remedy}")
    if window != WINDOW:
        text = f"window {window}: the weights carry intervals of means over {WINDOW} days alone"
        remedy = "with predictions of towers unseen, tamrl.monitor.calibrate makes other intervals"
        raise DataError(f"{text}; {remedy}")
    return {flux: Conformal.from_dict(v) for flux, v in header["anomalies"].items()}


def judge(
    each: Fluxes, header: Mapping[str, Any], samples: Samples, site: str, recent: int, window: int,
    intervals: Mapping[str, Conformal],
) -> xr.Dataset:  # fmt: skip
    """Judge the newest days of a tower as `tamrl.monitor.anomalies` does, by ``each`` member.

    ``each`` (seed, site, time, flux) are predictions of ``samples`` by weights with that
    ``header``; ``intervals`` are those before labels, of `intervals_carried`. The attribute of that
    name says what they rest on. DataError as of `tamrl.monitor.anomalies` and `study_record`.
    """
    axes = {"site": samples.site, "time": samples.time.astype("datetime64[ns]")}
    fields = {f: (("seed", "site", "time"), each[..., k]) for k, f in enumerate(FLUXES)}
    predicted = xr.Dataset(fields, {"seed": range(len(each)), **axes})
    record = study_record(predicted, samples, site)
    virtual = record.virtual or bool(header.get("virtual"))
    found = anomalies(record._replace(virtual=virtual), intervals, recent, window)
    row = list(samples.site).index(record.site)
    has = present(samples)[row]
    said = "calibrated at held-out towers"
    if lacking := [name for name, there in zip(INPUTS, has, strict=True) if not there]:
        said += f" that had {', '.join(lacking)}, too: here they may hold fewer days"
    if "covariance" in header:
        model, covariance = (
            ErrorModel.restore(header["error_model"]),
            np.array(header["covariance"]),
        )
        members = record.members
        flux = np.stack([members[f].mean("seed").to_numpy() for f in FLUXES[:2]], -1)
        judged = newest(members.time.values, recent)
        where = float(samples.table.lat.iloc[row]), members.time.values, judged, window
        share = xr.DataArray(narrowing(model, covariance, flux, *where), dims=("flux", "time"))
        for side in ("lower", "upper"):
            found[side] = found.anomaly + share * (found[side] - found.anomaly)
        said += f"; narrowed by {header['labelled_days']} labelled days of {header['adapted_to']}"
    return found.assign_attrs(intervals=said)


def narrowing(
    model: ErrorModel, covariance: Array, flux: Array, lat: float,
    time: NDArray[np.datetime64], judged: NDArray[np.bool_], window: int,
) -> Array:  # fmt: skip
    """How wide intervals of anomalies (flux, judged day) are after labels, as a share of before.

    The ratio of standard deviations of the error of an anomaly, by the ``covariance`` (weight,
    weight) of the weights and by their prior, at predictions ``flux`` (time, 2) of GPP and RECO.
    An anomaly is linear in the days' errors (`tamrl.monitor.departures`), and so in the weights;
    errors of different years share no noise.
    """
    terms = np.moveaxis(basis(flux, day_of_year(time), lat), -1, 1)  # (2, term, time)
    change, *_, years = departures(terms, time, judged, window)
    zero = np.zeros_like(change[0])
    gpp, reco = np.concatenate([change[0], zero]), np.concatenate([zero, change[1]])
    x = np.stack([gpp, reco, reco - gpp])  # (flux, weight, judged day)
    days = np.flatnonzero(judged)[:, None] + np.arange(1 - window, 1)
    known = np.isfinite(flux[days]).all(-1) & (days >= 0)  # (judged day, day of the window)
    size = model.size(torch.as_tensor(np.nan_to_num(flux.T))).numpy()[:, days]
    part = size * known / np.maximum(known.sum(-1, keepdims=True), 1)  # of each day in the mean
    none = np.zeros_like(part[0])
    parts = np.stack([np.concatenate(pair, -1) for pair in (
        (part[0], none), (none, part[1]), (-part[0], part[1]),
    )])  # fmt: skip
    together = model.relative_noise(torch.arange(window, dtype=torch.float64)).numpy()
    noise = ((parts @ together) * parts).sum(-1) * (1 + 1 / np.maximum(years[0, 0], 1))
    after, before = (
        noise + np.einsum("fwd,wv,fvd->fd", x, c, x)
        for c in (covariance, model.covariance().numpy())
    )
    return np.asarray(np.sqrt(after / before))
