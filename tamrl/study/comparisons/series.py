"""What was measured and predicted at each tower, as two short series: its mean season and a year.

The season has twelve months, means over the scored days of all years; the year, the last that is
labelled for at least half, has means over eight days from 1 January on, as MODIS does. Bounds are
calibrated on these very means, at towers of other folds.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES, drop_sealed
from tamrl.errors import DataError
from tamrl.evaluate.intervals import DIMS, cross_intervals
from tamrl.files import atomic_write
from tamrl.samples.arrays import Samples
from tamrl.samples.average_year import mean_season
from tamrl.samples.splits import Fold

FILE = "series.nc"
DAYS, PERIODS = 8, 46  # of a period, and periods of a year, the last of which is shorter
FEWEST = 4  # days of a period that must be known
LEVEL = 0.9
STEP = 0.01  # gC m-2 d-1: what a stored whole number stands for
PACK = {"dtype": "int16", "scale_factor": STEP, "_FillValue": -32768, "zlib": True, "complevel": 9}
Floats = NDArray[np.float64]


def add(path: Path, days: str, key: str, series: xr.Dataset) -> None:
    """Put `series_of` a model in place of what the file has of it.

    ``days`` and ``key`` are those of the model's table: digests of towers, folds and scored days,
    and of all that decides its predictions. Series of other ``days`` are removed.
    """
    new = series.assign_coords(key=("model", [key])).assign_attrs(days=days)
    if path.is_file():
        old = _load(path)
        rest = old.sel(model=~np.isin(old.model, new.model))
        if rest.sizes["model"] and old.attrs == new.attrs:
            new = xr.concat(
                [rest, new], "model", data_vars="minimal", coords="minimal", compat="override"
            )
    with atomic_write(path) as part:
        new.to_netcdf(part, encoding={k: PACK for k in new.data_vars if k != "first"})


def holds(path: Path, model: str, key: str) -> bool:
    """Whether the file has the series of a model of this name with settings of this ``key``."""
    if not path.is_file():
        return False
    ds = _load(path)
    return bool(((ds.model == model) & (ds.key == key)).any())


def read(folder: Path) -> xr.Dataset:
    """Read the series of an experiment's models, of towers that are not withheld.

    Of each scale, ``season`` (month) and ``year`` (period): the models' means, gC m-2 d-1, by
    (model, site, flux), with ``_lower`` and ``_upper``, bounds of 90 %, NaN of models that have
    none, and ``_observed`` (site, flux). ``first`` (site): the year shown. DataError when there
    is none, or it is torn.
    """
    if not (folder / FILE).is_file():
        raise DataError(
            f"{folder} holds no {FILE}, series of towers; run `tamrl compare benchmark`"
        )
    ds = _load(folder / FILE)
    return ds.sel(site=drop_sealed(pd.DataFrame({"site": ds.site.values})).site.to_numpy())


def _load(path: Path) -> xr.Dataset:
    try:
        return xr.load_dataset(path).drop_encoding()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); delete it and run `tamrl compare` again"
        ) from error


def series_of(
    pred: xr.Dataset, samples: Samples, folds: Sequence[Fold], bounds: bool = True
) -> xr.Dataset:
    """Make the two series of one model at all towers of ``samples``, as `read` returns them.

    ``pred``: members (model: 1, seed, site, time) as `tamrl.evaluate.crossval.cross_validate` gives
    them; their mean is shown. A month needs ten scored days to have an observed mean, a period
    four. Without ``bounds``, or with too few towers to calibrate them, these are NaN.
    """
    pairs = zip(*(_of_flux(pred[flux], samples, k) for k, flux in enumerate(FLUXES)), strict=True)
    season, periods = (_cases(np.stack(values), samples) for values in pairs)
    labelled = np.isfinite(periods.observed.values[0]).reshape(len(samples.site), -1, PERIODS)
    year = _last_labelled(labelled.sum(-1))
    begin = samples.time[0].astype("datetime64[Y]").astype(int) + 1970
    out = xr.Dataset({"first": ("site", begin + year)})
    shown = xr.DataArray(year[:, None] * PERIODS + np.arange(PERIODS), dims=("site", "period"))
    for scale, cases in {"season": season, "year": periods}.items():
        if bounds:
            with suppress(DataError):  # a quick look at few towers has none
                edges = cross_intervals(cases, samples, folds, (LEVEL,))
                cases = cases.assign(edges.sel(level=LEVEL, drop=True))
        if scale == "year":
            cases = cases.isel(site=xr.DataArray(range(len(year)), dims="site"), time=shown)
        else:
            cases = cases.rename(time="month")
        own = cases[["mean", "lower", "upper"]].expand_dims(model=pred.model.values)
        names = {"mean": scale} | {k: f"{scale}_{k}" for k in ("observed", "lower", "upper")}
        own = own.assign(observed=cases.observed).drop_vars(("month", "time"), errors="ignore")
        out = out.merge(own.rename(names))
    return out


def _of_flux(pred: xr.DataArray, samples: Samples, k: int) -> tuple[Floats, Floats]:
    """Means by month and by period (site, step, 1 + seed) of what is observed, and of members."""
    label = np.where(samples.scored, samples.y[..., k], np.nan)[..., None]
    members = pred.isel(model=0).transpose("site", "time", "seed").values
    both = np.concatenate([label, members], -1)
    known = np.isfinite(members).all(-1).astype(float)
    seen, every = (
        mean_season(both, w, samples.time)[0] for w in (samples.scored.astype(float), known)
    )
    every[..., 0] = np.nan  # months without labels are predicted all the same
    periods = period_means(np.moveaxis(both, 1, 0), samples.time)[1]
    return np.where(np.isfinite(seen), seen, every), np.moveaxis(periods, 1, 0)


def _cases(values: Floats, samples: Samples) -> xr.Dataset:
    """Make cases, still without bounds, of labels and members (flux, site, step, 1 + seed)."""
    mean, spread = values[..., 1:].mean(-1), values[..., 1:].std(-1)
    lines = {"observed": values[..., 0], "mean": mean, "spread": spread}
    lines |= dict.fromkeys(("lower", "upper"), np.full(mean.shape, np.nan))
    axes = {"flux": [*FLUXES], "site": samples.site, "time": np.arange(mean.shape[-1])}
    units = {"units": "gC m-2 d-1"}
    return xr.Dataset({name: (DIMS, v, units) for name, v in lines.items()}, axes)


def _last_labelled(count: NDArray[np.int_]) -> NDArray[np.int_]:
    """Index (site,) of the last year with half its periods labelled, else that of most."""
    enough = count >= PERIODS / 2
    last = count.shape[1] - 1 - enough[:, ::-1].argmax(1)
    return np.where(enough.any(1), last, count.argmax(1))


def period_means(values: Floats, time: NDArray[np.datetime64]) -> tuple[int, Floats]:
    """First year and means (46 x years, …) over eight days; NaN where fewer than four are known."""
    year = time.astype("datetime64[Y]").astype(int) + 1970
    day = (time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(int)
    slot = (year - year[0]) * PERIODS + np.minimum(day // DAYS, PERIODS - 1)
    starts = np.flatnonzero(np.diff(slot, prepend=-1))
    total = np.add.reduceat(np.nan_to_num(values), starts, dtype=float)
    count = np.add.reduceat(np.isfinite(values), starts, dtype=int)
    out = np.full(((year[-1] - year[0] + 1) * PERIODS, *values.shape[1:]), np.nan)
    out[slot[starts]] = np.where(count >= FEWEST, total / np.maximum(count, 1), np.nan)
    return int(year[0]), out
