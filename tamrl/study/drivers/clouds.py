"""Missing satellite data: how skill fades as clouds take it, one curve a model.

At towers that a model never saw, random months lose all their satellite variables together. What
is made of these (mean seasons, facts of the place, the support set) is made anew from the months
left; models are not trained again.
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.parallel import in_parallel
from tamrl.samples.arrays import SATELLITE, make_samples
from tamrl.study.comparisons.effects import with_interval
from tamrl.study.out_of_fold import Fitted, bootstrap_rmse, interval, tower_squares, trained

SHARES = tuple(round(0.1 * k, 1) for k in range(10))


def cloud(monthly: xr.Dataset, share: float, seed: int = 0) -> xr.Dataset:
    """Remove all satellite variables in a share (0 to 1) of each tower's months with any of them.

    Seed and tower's code alone choose its months: those of a small share are among a larger one's.
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


def gap_curve(models: Mapping[str, Sequence[Fitted]], towers: xr.Dataset, monthly: xr.Dataset,
              cube: xr.Dataset | None = None, shares: Sequence[float] = SHARES, n_boot: int = 500,
              seed: int = 0, jobs: int = 1) -> pd.DataFrame:  # fmt: skip
    """Error at unseen towers with satellite data against the share of months removed there.

    ``models`` were fitted on samples of these Datasets. Columns model, flux, share (0 to 1),
    towers, RMSE, lower, upper (gC m-2 d-1), change, change_lower, change_upper (% of the model's
    error at the first share); 90 % bootstrap intervals over towers.
    """
    seen = _known(monthly).any("month").reindex(site=towers.site.values, fill_value=False).values
    tasks = [(models, towers, cloud(monthly, share, seed), cube) for share in shares]
    per_share = in_parallel(_squares, tasks, jobs)
    rows = []
    for name, fits in models.items():
        site = np.concatenate([test for _, test in fits])
        first: NDArray | None = None
        for share, parts in zip(shares, per_share, strict=True):
            squares, days = parts[name]
            used = seen[site] & (days > 0)
            rmse = bootstrap_rmse(squares[used], days[used], n_boot, seed)
            first = rmse if first is None else first
            change = 100 * (rmse / first - 1)
            (low, high), (change_low, change_high) = interval(rmse), interval(change)
            rows.append(pd.DataFrame({"model": name, "flux": trained(fits[0].model).config.targets,
                                      "share": share, "towers": int(used.sum()), "RMSE": rmse[0],
                                      "lower": low, "upper": high, "change": change[0],
                                      "change_lower": change_low,
                                      "change_upper": change_high}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def values(curve: pd.DataFrame) -> dict[str, str]:
    """Gather the changes at the largest share of months, and that share."""
    last = curve[curve.share == curve.share.max()].drop(columns=["lower", "upper"])
    last = last.rename(columns={"change_lower": "lower", "change_upper": "upper"})
    out = {"share": f"{100 * curve.share.max():.0f} %", "n_seen": str(curve.towers.max())}
    for _, row in last.iterrows():
        practice = "never" if row.model.startswith("never") else "dropped"
        out[f"gap_{practice}_{row.flux}"] = with_interval(row)
    return out


def _squares(models: Mapping[str, Sequence[Fitted]], towers: xr.Dataset, monthly: xr.Dataset,
             cube: xr.Dataset | None) -> dict[str, tuple[NDArray, NDArray]]:  # fmt: skip
    """Squared errors (tower, flux) and scored days (tower,) of each model's held-out towers."""
    samples, out = make_samples(towers, monthly, cube), {}
    for name, fits in models.items():
        squares = np.concatenate([tower_squares(m, samples.select(on)) for m, on in fits])
        out[name] = squares, samples.scored[np.concatenate([on for _, on in fits])].sum(1)
    return out
