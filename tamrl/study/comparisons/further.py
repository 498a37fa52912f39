"""Two further data sets of drivers at towers, tried as steps after those of `steps`.

CARDAMOM-FLUXVAL v1.0 has monthly rain (2001-2016) and MODIS leaf area (2003-2009) of 178 towers,
from gridded products (its tower fluxes are never read); lypluo/gpp_bias_correction has daily rain
as measured and 4-day MODIS FPAR (MCD15A3H) of 39. Each is added to all that was given before.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tamrl.data import cache
from tamrl.data.phenology import CODES
from tamrl.data.schema import SEALED
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import (
    Samples,
    between_months,
    interpolate,
    mean_and_range,
    season_to_daily,
)
from tamrl.samples.splits import folds
from tamrl.shipped.annual import AnnualPrior
from tamrl.sources import load_training
from tamrl.study.comparisons.compute import run

STEPS = ("and rain and leaf area of CARDAMOM", "and daily rain and FPAR at 39 towers")
FOLDER = "tower_predictors/"
MONTHS = np.arange("2001-01", "2017-01", dtype="datetime64[M]")
MM_PER_DAY = 86400.0  # of rain, a kg m-2 s-1


def compute(jobs: int = 2, say: Callable[[str], None] = print) -> None:
    """Cross-validate both steps as those of `steps`; tables go to results/steps."""
    samples, training = load_training()
    make = partial(AnnualPrior, Boosting())
    for name, given in zip(STEPS, (with_cardamom(training), with_daily(training)), strict=True):
        cv = Path("runs") / str(samples.attrs["tower_source"]) / "cv"
        run({name: make}, samples, folds(samples, 10), (0,), Path("results/steps"), cv, jobs, say,
            given)  # fmt: skip


def with_cardamom(samples: Samples) -> Samples:
    """Add rain of the month, and of 3 and 12 months relative to its mean, and leaf area's season.

    And as statics mean rain, mm d-1, and mean and range of the leaf area's season, m2 m-2.
    """
    rain, leaf = np.full((len(samples.site), 192), np.nan), np.full((len(samples.site), 12), np.nan)
    (places,) = cache.fetch([f"{FOLDER}cardamom/location_fluxnet.csv"])
    for number, code in enumerate(pd.read_csv(places).Flux_name, 1):
        code = CODES.get(code, code)
        name = f"{FOLDER}cardamom/flux_site_{number}.cbf"
        if code in SEALED or code not in samples.site or name not in cache.registry_names(FOLDER):
            continue
        (path,) = cache.fetch([name])
        file = np.fromfile(path, "<f8")
        months, met, seen = (int(n) for n in file[2:5])
        rows = file[300 : 300 + months * (met + seen)].reshape(months, met + seen)
        at = list(samples.site).index(code)
        rain[at] = rows[:, 8]
        lai = np.where(rows[:, met + 1] < 0, np.nan, rows[:, met + 1]).reshape(-1, 12)
        known = np.isfinite(lai).any(0)
        leaf[at, known] = np.nanmean(lai[:, known], 0)
    mean = np.nanmean(rain, 1, keepdims=True)
    past = [pd.DataFrame(rain.T).rolling(n, min_periods=1).mean().to_numpy().T for n in (3, 12)]
    at, doy = between_months(MONTHS, samples.time), _day_of_year(samples.time)
    monthly = np.stack([rain, *(p / mean for p in past)], 1)
    daily = [
        [*(interpolate(v, *at) for v in own), season_to_daily(season, doy)]
        for own, season in zip(monthly, leaf, strict=True)
    ]
    statics = [mean[:, 0], *mean_and_range(leaf)]
    return _more(samples, np.moveaxis(np.array(daily), 1, -1), statics, "cardamom")


def with_daily(samples: Samples) -> Samples:
    """Add measured rain, mm d-1, its means over 7, 30 and 90 days, and FPAR between composites."""
    import rdata

    new = np.full((*samples.has_drivers.shape, 5), np.nan)
    for file, column in {
        "daily_rain_pressure.rds": "prec",
        "fpar_mcd15a3h.rds": "modisvar",
    }.items():
        (path,) = cache.fetch([FOLDER + file])
        for code, table in rdata.read_rds(path).itertuples(index=False):
            if code in SEALED or code not in samples.site:
                continue
            days = pd.to_datetime(table.date.to_numpy(), unit="D")
            values = pd.Series(table[column].to_numpy(float), days).groupby(level=0).mean()
            if column == "prec":
                rain = (values * MM_PER_DAY).reindex(pd.DatetimeIndex(samples.time))
                parts = [rain, *(rain.rolling(n, min_periods=n // 2).mean() for n in (7, 30, 90))]
                new[list(samples.site).index(code), :, :4] = np.stack(parts, -1)
            else:
                values = (
                    values.where(values <= 1).asfreq("D").interpolate(limit=32, limit_area="inside")
                )
                values = values.reindex(pd.DatetimeIndex(samples.time))
                new[list(samples.site).index(code), :, 4] = values
    return _more(samples, new, [], "daily")


def _day_of_year(time: NDArray) -> NDArray:
    return (time - time.astype("datetime64[Y]")).astype(int) + 1


def _more(samples: Samples, new: NDArray, statics: list[NDArray], name: str) -> Samples:
    """Add drivers (site, time, driver) on the days of the record, and static attributes."""
    own = np.isfinite(samples.x[..., samples.features.index("SW_POT")])[..., None]
    return replace(
        samples,
        x=np.concatenate([samples.x, np.where(own, new, np.nan).astype(np.float32)], -1),
        features=(*samples.features, *(f"{name}_{k}" for k in range(new.shape[-1]))),
        static=np.column_stack([samples.static, *statics]).astype(np.float32),
        static_names=(*samples.static_names, *(f"{name}_s{k}" for k in range(len(statics)))),
    )
