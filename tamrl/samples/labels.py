"""Labels to learn from: the mean of two partitionings of NEE; towers of like weight."""

from dataclasses import replace

import numpy as np
import xarray as xr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.samples.arrays import Samples

BOUND = 3.0  # a tower counts at most so many times the median one, and at least its inverse
MIN_LABELS = 30  # labelled days of a tower for a standard deviation
MIN_SD = 0.1  # gC m-2 d-1, of GPP


def with_mean_labels(samples: Samples, gpp_dt: xr.DataArray) -> Samples:
    """Replace the labels of GPP by the mean of both partitionings, RECO by NEE + GPP.

    ``samples`` have night-time labels, ``gpp_dt`` (site, time) daytime ones, gC m-2 d-1 (Lasslop
    et al. 2010, doi 10.1111/j.1365-2486.2009.02041.x); where these are missing, the label stays.
    NEE stays, and labels close. DataError for other targets than GPP, RECO and NEE.
    """
    if samples.targets != FLUXES:
        raise DataError(f"partitionings share NEE among {FLUXES}, not {samples.targets}")
    same = gpp_dt.reindex(site=samples.site, time=samples.time.astype("datetime64[ns]"))
    half = (same.transpose("site", "time").to_numpy() - samples.y[..., 0]) / 2
    y = samples.y.copy()
    y[..., :2] += np.nan_to_num(half)[..., None].astype(np.float32)
    y[..., 1] = y[..., 2] + y[..., 0]  # after rounding, so that labels close exactly
    return replace(samples, y=y)


def with_tower_weights(samples: Samples) -> Samples:
    """Weigh the days of a tower by the inverse of the standard deviation of its labelled GPP.

    The main score is the mean over towers of their RMSE, which grows with what varies there; by
    squared errors of equal weight a few productive fields would decide. Weights are relative to the
    median tower and bounded (`BOUND`); a tower with few labels keeps its own.
    """
    on = samples.weight > 0
    known, sd = on.sum(1) >= MIN_LABELS, np.full(len(on), np.nan, np.float32)
    for i in np.flatnonzero(known):
        sd[i] = samples.y[i, on[i], 0].std()
    factor = np.where(known, np.median(sd[known]) / np.maximum(sd, MIN_SD), 1)
    weight = samples.weight * np.clip(factor, 1 / BOUND, BOUND)[:, None]
    return replace(samples, weight=weight.astype(np.float32))
