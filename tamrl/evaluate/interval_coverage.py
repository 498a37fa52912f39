"""How good the intervals of an experiment's models are, as small tables.

Each model's intervals for the towers of a fold are calibrated on the towers of all other folds
(`tamrl.evaluate.intervals.cross_intervals`), for days and for sums over months and years, and
compared with what was measured.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.evaluate.conformal import LEVELS
from tamrl.evaluate.intervals import PERIODS, cases, cross_intervals, crps_gaussian, reliability
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold

NORMAL_90 = 3.2897  # width of the central 90 % of a normal distribution, in standard deviations
MIN_TOWERS = 5  # of a class whose coverage is judged
GRID = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # levels of a reliability diagram


def interval_table(pred: xr.Dataset, samples: Samples, folds: Sequence[Fold]) -> pd.DataFrame:
    """Compare the calibrated intervals of one model (model, seed, site, time) with the labels.

    Returns
    -------
    Table with columns period (day, month, year) and those of
    `tamrl.evaluate.intervals.reliability`, strata being IGBP classes, and crps, for all towers at
    90 %: of a normal distribution as wide as the interval. Units: gC m-2 d-1 for days, gC m-2 for
    sums. Levels other than 50 and 90 % for days of all towers only.
    """
    single = pred.isel(model=0, drop=True)
    at = pd.Index(samples.site).get_indexer(single.site.values)
    igbp = samples.table.igbp.to_numpy(str)[at]
    tables = []
    for period in PERIODS:
        table = cases(single, samples, period)
        bounds = cross_intervals(table, samples, folds, GRID if period == "day" else LEVELS)
        rows = reliability(table, bounds, igbp)
        keep = rows.level.isin(LEVELS) | (rows.stratum == "")
        rows = rows[keep].assign(period=period, crps=np.nan)
        for flux in table.flux.values:
            part = bounds.sel(flux=flux, level=0.9)
            sd = (part.upper - part.lower).values / NORMAL_90
            middle = (part.upper + part.lower).values / 2
            score = crps_gaussian(table.observed.sel(flux=flux).values, middle, sd)
            row = (rows.flux == str(flux)) & (rows.stratum == "") & (rows.level == 0.9)
            rows.loc[row, "crps"] = float(np.nanmean(score))
        tables.append(rows)
    return pd.concat(tables, ignore_index=True)


def by_class(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Coverage of one model's 90 % intervals in classes with at least five towers."""
    rows = table[(table.model == model) & (table.level == 0.9) & (table.stratum != "")]
    columns = ["period", "stratum", "flux", "towers", "coverage", "cases"]
    return rows.loc[rows.towers >= MIN_TOWERS, columns]


def overall(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """One model's intervals over all towers: coverage by period, flux and level, and sharpness."""
    rows = table[(table.model == model) & (table.stratum == "")]
    columns = ["period", "flux", "level", "cases", "coverage", "tower_coverage", "width", "crps"]
    return rows[columns].reset_index(drop=True)


def sharpness(table: pd.DataFrame) -> pd.DataFrame:
    """Put CRPS, width and coverage of the 90 % intervals of days side by side, a row a model."""
    rows = table[(table.period == "day") & (table.stratum == "") & (table.level == 0.9)]
    return rows.pivot_table(["crps", "width", "coverage"], "model", "flux", sort=False)
