"""Two estimates of one label: GPP by night-time and by daytime partitioning of the same NEE."""

from dataclasses import replace

import numpy as np
import xarray as xr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.samples.arrays import Samples


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
