"""How skill fades as clouds take the satellite data: one curve a model.

At towers that a model never saw, random months lose all their satellite variables together. What
is made of these (mean seasons, facts of the place, the support set) is made anew from the months
that are left, and models are not trained again. Fluxes in gC m-2 d-1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

import joblib
import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.samples.arrays import SATELLITE, make_samples
from tamrl.study.out_of_fold import Fitted, drawn_rmse, interval, only, tower_squares, trained

SHARES = tuple(round(0.1 * k, 1) for k in range(10))


def cloud(monthly: xr.Dataset, share: float, seed: int = 0) -> xr.Dataset:
    """Remove all satellite variables in a share (0 to 1) of each tower's months with any of them.

    A tower's months are drawn by the seed and its code alone, and those lost at a small share are
    among those lost at a larger one.
    """
    known = _known(monthly).values
    lost = np.zeros(known.shape, bool)
    for i, site in enumerate(monthly.site.values):
        months = np.flatnonzero(known[i])
        order = np.random.default_rng([seed, crc32(str(site).encode())]).permutation(months)
        lost[i, order[: round(share * len(months))]] = True
    keep = ~xr.DataArray(lost, dims=("site", "month"))
    return monthly.assign({n: monthly[n].where(keep) for n in SATELLITE if n in monthly})


def _known(monthly: xr.Dataset) -> xr.DataArray:
    """Whether a tower's month (site, month) has any satellite variable."""
    present = monthly[[n for n in SATELLITE if n in monthly]].map(np.isfinite)
    return present.to_dataarray("name").any("name").transpose("site", "month")


def gap_curve(
    models: Mapping[str, Sequence[Fitted]],
    towers: xr.Dataset,
    monthly: xr.Dataset,
    cube: xr.Dataset | None = None,
    shares: Sequence[float] = SHARES,
    n_boot: int = 500,
    seed: int = 0,
    jobs: int = 1,
) -> pd.DataFrame:
    """Error at unseen towers against the share of satellite months removed there.

    Parameters
    ----------
    models
        By name, models fitted on the samples of these very data, with their held-out towers.
    towers, monthly, cube
        What the samples were made of.
    shares
        Shares of months removed, 0 to 1.

    Returns
    -------
    Table with columns model, flux, share, towers, RMSE, lower, upper (gC m-2 d-1), change,
    change_lower, change_upper (% of the model's own error at the first share); 90 % intervals from
    drawing towers. Only towers with satellite data count: the others have nothing to lose.
    """
    seen = _known(monthly).any("month").reindex(site=towers.site.values, fill_value=False).values
    per_share = joblib.Parallel(jobs, mmap_mode="c")(
        joblib.delayed(_squares)(models, towers, cloud(monthly, share, seed), cube)
        for share in shares
    )
    rows = []
    for name, fits in models.items():
        site = np.concatenate([test for _, test in fits])
        first: NDArray | None = None
        for share, (squares, days) in zip(shares, per_share, strict=True):
            used = seen[site] & (days[name] > 0)
            rmse = drawn_rmse(squares[name][used], days[name][used], n_boot, seed)
            first = rmse if first is None else first
            change = 100 * (rmse / first - 1)
            (low, high), (change_low, change_high) = interval(rmse), interval(change)
            for k, flux in enumerate(trained(fits[0].model).config.targets):
                row = {"model": name, "flux": flux, "share": share, "towers": int(used.sum())}
                row |= {"RMSE": rmse[0, k], "lower": low[k], "upper": high[k]}
                row |= {"change": change[0, k], "change_lower": change_low[k]}
                rows.append(row | {"change_upper": change_high[k]})
    return pd.DataFrame(rows)


def _squares(
    models: Mapping[str, Sequence[Fitted]],
    towers: xr.Dataset,
    monthly: xr.Dataset,
    cube: xr.Dataset | None,
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Squared errors (tower, flux) and scored days (tower,) of each model's held-out towers."""
    samples = make_samples(towers, monthly, cube)
    squares = {
        name: np.concatenate([tower_squares(model, only(samples, test)) for model, test in fits])
        for name, fits in models.items()
    }
    days = {
        name: np.concatenate([samples.scored[test].sum(1) for _, test in fits])
        for name, fits in models.items()
    }
    return squares, days
