"""What is monitored: a tower of the study, or the newest data of a tower of one's own.

`tamrl.anomaly` then says how unusual its last weeks are.
"""

from __future__ import annotations

from os import PathLike

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.anomaly import Record
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.pretrained import load_pretrained, own_samples, placed
from tamrl.samples import Samples


def study_record(predictions: xr.Dataset, samples: Samples, site: str = "") -> Record:
    """Return a tower of the study as networks predict it that had not seen it.

    ``site`` "" takes the tower whose record ends last, the longest of several. ``predictions`` are
    those of `calibrate`.

    Raises
    ------
    DataError
        For a tower that is not among the predictions.
    """
    names = [str(s) for s in predictions.site.values]
    if not site:
        active = samples.active[pd.Index(samples.site).get_indexer(pd.Index(names))]
        last = active.shape[1] - 1 - active[:, ::-1].argmax(1)
        site = names[np.lexsort((active.sum(1), np.where(active.any(1), last, -1)))[-1]]
    if site not in names:
        raise DataError(f"tower {site!r} is not among the predictions: {', '.join(names)}")
    row = list(samples.site).index(site)
    on = np.flatnonzero(samples.active[row])
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
    """Read a tower of one's own and predict it.

    Parameters
    ----------
    data, table
        As for `tamrl.data.open_towers`.
    weights, device
        As for `tamrl.load_pretrained`; None: the ensemble of the package.
    site
        Which tower; "" takes the one whose record ends last.

    Raises
    ------
    DataError
        When data or weights cannot be read, there is no such tower, or drivers differ.
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
