"""How good the intervals of a comparison's models are, as small tables and in words.

Each model's intervals for the towers of a fold are calibrated on the towers of all other folds
(`tamrl.evaluate.intervals.cross_intervals`), for days and for sums over months and years, and held against
what was measured. One csv a model lies in ``intervals/`` beside the tables of `tamrl.evaluate.tables`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.evaluate.conformal import LEVELS
from tamrl.evaluate.intervals import PERIODS, cases, cross_intervals, crps_gaussian, reliability
from tamrl.evaluate.tables import read_csv, write_csv

if TYPE_CHECKING:
    from tamrl.samples.arrays import Samples
    from tamrl.samples.splits import Fold

FOLDER = "intervals"
NORMAL_90 = 3.2897  # width of the central 90 % of a normal distribution, in standard deviations
MIN_TOWERS = 5  # of a class whose coverage is judged
GRID = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)  # levels of a reliability diagram


def interval_table(pred: xr.Dataset, samples: Samples, folds: Sequence[Fold]) -> pd.DataFrame:
    """Hold one model's calibrated intervals against the labels.

    Parameters
    ----------
    pred
        From `cross_validate` with ``members``: (model, seed, site, time), one model.
    samples, folds
        As given to ``cross_validate``.

    Returns
    -------
    Table with columns period (day, month, year), flux, stratum ("" or an IGBP class), level,
    towers, cases, coverage, tower_coverage, low, high (see `tamrl.evaluate.intervals.reliability`), width
    and, for all towers at 90 %, crps: of a normal distribution as wide as the interval. Units: gC
    m-2 d-1 for days, gC m-2 for sums. Levels other than 50 and 90 % for days of all towers only.
    """
    single = pred.isel(model=0, drop=True)
    at = pd.Index(samples.site).get_indexer(single.site.values)
    igbp = samples.table.igbp.to_numpy(str)[at]
    tables = []
    for period in PERIODS:
        table = cases(single, samples, period)
        levels = GRID if period == "day" else LEVELS
        bounds = cross_intervals(table, samples, folds, levels=levels)
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
    found = pd.concat(tables, ignore_index=True)
    return found[["period", *(name for name in found if name != "period")]]


def write(folder: Path | str, slug: str, about: Mapping[str, Any], table: pd.DataFrame) -> Path:
    """Put one model's table beside its scores, whole or not at all."""
    path = Path(folder) / FOLDER / f"{slug}.csv"
    write_csv(path, {"model": about["model"], "key": about["key"]}, table)
    return path


def read(folder: Path | str) -> pd.DataFrame:
    """Read the tables of all models: columns as of `interval_table`, and model; empty if none.

    Raises
    ------
    DataError
        For a torn file.
    """
    parts = []
    for path in sorted((Path(folder) / FOLDER).glob("*.csv")):
        about, table = read_csv(path)
        parts.append(table.fillna({"stratum": ""}).assign(model=str(about.get("model"))))
    if not parts:
        names = ["period", "flux", "stratum", "level", "coverage", "width", "crps", "model"]
        return pd.DataFrame(columns=names)
    return pd.concat(parts, ignore_index=True)


def by_class(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """Coverage of one model's 90 % intervals in classes with at least five towers.

    ``table`` is from `read`; columns period, stratum, flux, towers, coverage (share), cases.
    """
    rows = table[(table.model == model) & (table.level == 0.9) & (table.stratum != "")]
    rows = rows[rows.towers >= MIN_TOWERS] if len(rows) else rows
    return rows.reindex(columns=["period", "stratum", "flux", "towers", "coverage", "cases"])


def overall(table: pd.DataFrame, model: str) -> pd.DataFrame:
    """One model's intervals over all towers: coverage by period, flux and level, and sharpness."""
    rows = table[(table.model == model) & (table.stratum == "")]
    columns = ["period", "flux", "level", "cases", "coverage", "tower_coverage", "width", "crps"]
    return rows.reindex(columns=columns).reset_index(drop=True)


def in_words(table: pd.DataFrame, model: str) -> str:
    """Say how many days, years, and days by class the 90 % intervals of a model hold."""
    total = overall(table, model)
    total = total[total.level == 0.9]
    if total.empty:
        return f"intervals of {model} are not computed"
    said = []
    for period, rows in total.groupby("period", sort=False):
        said.append(f"{_span(rows.coverage)} of {period}s")
    classes = by_class(table, model)
    days = classes[classes.period == "day"]
    text = f"intervals of 90 % hold, from flux to flux, {', '.join(said)}"
    if days.empty:
        return text
    return f"{text}; {_span(days.coverage)} of days in classes with {MIN_TOWERS} towers or more"


def sharpness(table: pd.DataFrame) -> pd.DataFrame:
    """Put score, width and coverage of the 90 % intervals of days side by side, a row a model.

    ``table`` is from `read`; where it is empty, as for a few towers, so is the result.
    """
    rows = table[(table.period == "day") & (table.stratum == "") & (table.level == 0.9)]
    shown = ["crps", "width", "coverage"]
    if rows.empty:
        return pd.DataFrame(columns=shown)
    return rows.pivot_table(shown, "model", "flux", sort=False)


def crps_in_words(table: pd.DataFrame, model: str) -> str:
    """Hold the CRPS of a model's daily intervals against the best of all others, flux by flux."""
    if table.empty or "crps" not in table or model not in set(table.model):
        return f"the CRPS of {model} is not computed"
    rows = table[(table.period == "day") & (table.stratum == "") & (table.level == 0.9)]
    scores = rows.pivot_table("crps", "flux", "model")
    said = []
    for flux in rows.flux.unique():
        others = scores.loc[flux].drop(model).dropna()
        against = f", the best of the others {others.min():.3f} ({others.idxmin()})" * len(
            others[:1]
        )
        said.append(f"{flux} {scores.loc[flux, model]:.3f}{against}")
    return f"CRPS in gC m\u207b\u00b2 d\u207b\u00b9: {'; '.join(said)}"


def _span(share: pd.Series) -> str:
    """Give the range of shares in %, once where both ends are the same."""
    low, high = (f"{100 * value:.1f}" for value in (share.min(), share.max()))
    return f"{low} %" if low == high else f"{low} to {high} %"
