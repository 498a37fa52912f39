"""The gain in repeated cross-validation, without the towers that carry it, and nested.

Each repeat assigns the towers to other folds, and the strongest booster is taken flux by flux in
each. Aims were set before the comparison. What the ensemble is made of was chosen on its
folds; `choices` makes the choice again by one rule, for each fold at the towers of the others.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.schema import FLUXES
from tamrl.evaluate.scores import MIN_DAYS, TOP, summarise
from tamrl.evaluate.tables import Results
from tamrl.study.benchmark import strongest
from tamrl.study.comparisons import models
from tamrl.study.comparisons.choice import CHOSEN, choose
from tamrl.study.comparisons.effects import (
    ABSENT,
    MAIN,
    NUMBERS,
    change_values,
    direction,
    main_score,
    paired,
    signed,
)
from tamrl.study.comparisons.models import ENSEMBLE

AIMS = {"GPP": 5.0, "RECO": 4.0, "NEE": 5.0}  # % less error in the mean over towers
WITHOUT_TOP = 3.0  # % of pooled RMSE to be gained without the five towers that gain most
ABSOLUTE = {  # pooled RMSE, gC m-2 d-1, and median R2 over towers that were aimed at
    "RMSE": {"GPP": 2.02, "RECO": 1.58, "NEE": 1.66},
    "R2_50": {"GPP": 0.63, "RECO": 0.50, "NEE": 0.40},
}
MAIN_SCORE, POOLED = "mean over towers", "pooled over days"


def load_repeats(
    results: Results, towers: str, recompute: bool, n_repeats: int, **settings: Any
) -> list[Results]:
    """Add the tables of further assignments to folds, as `models.load_results` gives them."""
    more = {"recompute": recompute, "n_repeats": n_repeats, **settings}
    return [
        results,
        *(models.load_results("benchmark", towers, repeat=k, **more) for k in range(1, n_repeats)),
    ]


def by_repeat(repeats: Sequence[Results]) -> pd.DataFrame:
    """Compare the ensemble with the strongest booster on each assignment of the towers to folds.

    Columns are repeat, rival (chosen by repeat and flux), flux, and those of
    `tamrl.evaluate.scores.compare`; met: the aim (`AIMS`) on the main score, its interval
    excluding zero, and `WITHOUT_TOP` without the towers that favour the ensemble most.
    """
    parts = []
    for number, one in enumerate(repeats):
        for flux, rival in strongest(one.sums).items():
            row = paired(one.sums.sel(flux=[flux]), [(ENSEMBLE, rival)])
            aim = AIMS[str(flux)]
            met = (row.mean_change <= -aim) & (row.mean_upper < 0)
            met &= row.without_top <= -WITHOUT_TOP
            parts.append(row.assign(repeat=number, aim=aim, met=met))
    empty = paired(repeats[0].sums, []).assign(repeat=0, aim=0.0, met=False)
    table = pd.concat(parts, ignore_index=True) if parts else empty
    return table[["repeat", "rival", "flux", *NUMBERS, *MAIN, "aim", "met"]]


def for_forest(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Rows (row, flux, change, lower, upper) of `by_repeat`, and their names by kind of mean."""
    parts, groups = [], {}
    for head, rows in ((MAIN_SCORE, main_score(table)), (POOLED, table)):
        names = [f"{head}, assignment {repeat + 1}" for repeat in rows.repeat]
        parts.append(rows.assign(row=names))
        groups[head] = list(dict.fromkeys(names))
    return pd.concat(parts, ignore_index=True)[["row", "flux", "change", "lower", "upper"]], groups


def choices(sums: xr.Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose inside among the mixtures that are there: what was chosen, and what that costs.

    The first table has fold, chosen, margin (%); the second compares by `paired` what was chosen at
    the other folds with the ensemble. Both are empty where fewer than two mixtures are computed.
    """
    there = [name for name in models.PARTS if name in sums.model.values]
    if len(there) < 2 or len(np.unique(sums.fold)) < 2:
        return pd.DataFrame(columns=["fold", "chosen", "margin"]), paired(sums, [])
    chosen, table = choose(sums, there)
    both = xr.concat([chosen, sums.sel(model=[ENSEMBLE])], "model", data_vars="minimal")
    return table, main_score(paired(both, [(CHOSEN, ENSEMBLE)]))


def without_bias(sums: xr.Dataset) -> pd.Series:
    """Mean over towers of the ensemble's RMSE if the mean error of each tower were known, by flux.

    It is no floor: two partitionings of the same measurements disagree in these means, too.
    """
    own = sums.sel(model=ENSEMBLE, site=sums.n >= MIN_DAYS)
    left = np.sqrt((own.square - own.error**2 / own.n) / own.n)
    return pd.Series(left.mean("site").values, sums.flux.values)


def absolute(repeats: Sequence[Results]) -> dict[str, str]:
    """Spell pooled RMSE and median R2 over towers in all repeats, each beside its aim, by flux.

    Keys are RMSE_GPP, R2_50_GPP, …; RMSE in gC m-2 d-1.
    """
    tables = [summarise(one.sums.sel(model=[ENSEMBLE])).set_index("flux") for one in repeats]
    out = {}
    for (name, aims), flux in product(ABSOLUTE.items(), FLUXES):
        got = np.array([table.loc[flux, name] for table in tables], float)
        low, high = f"{got.min():.2f}", f"{got.max():.2f}"
        found = low if low == high else f"{low} to {high}"
        out[f"{name}_{flux}"] = f"{found} ({aims[flux]:.2f})"
    return out


def spread(values: Sequence[float]) -> str:
    r"""Spell the range of changes over repeats, in %.

    >>> spread([3.84, 2.91]).split()
    ['+2.9', 'to', '+3.8', '%']
    """
    ends = dict.fromkeys(signed(value) for value in (min(values), max(values)))
    return " to ".join(ends) + " %"


def values(repeats: Sequence[Results], table: pd.DataFrame, choice: pd.DataFrame) -> dict[str, str]:
    """Values of front page and chapter by flux, from `by_repeat` and the second of `choices`.

    ``main_…``: change of the main score in all repeats; ``main_…_word``: its direction where these
    agree; ``top_…``: pooled, without the five towers; ``better_…``: share of towers with less
    error; ``no_bias_…``: of `without_bias`; ``RMSE_…``, ``R2_50_…``: of `absolute`; ``aim_…``;
    ``nested_…``; ``aims``: "met" or "missed",
    and for which fluxes.
    """
    sums, out = repeats[0].sums, {"n_repeats": str(len(repeats)), "n_top": str(TOP)}
    fluxes = [str(flux) for flux in sums.flux.values]
    keys = ("main", "top", "better", "no_bias", "ensemble_main", *ABSOLUTE)
    out |= {f"{key}_{flux}": ABSENT for key in keys for flux in fluxes}
    out |= {f"main_{flux}_word": ABSENT for flux in fluxes}
    out |= {f"aim_{flux}": f"{aim:.0f} %" for flux, aim in AIMS.items()}
    for flux, rows in table.groupby("flux"):
        words = set(main_score(rows).apply(direction, axis=1))
        out[f"main_{flux}"] = spread(rows.mean_change.tolist())
        out[f"main_{flux}_word"] = (
            words.pop() if len(words) == 1 else "lower in some assignments alone"
        )
        shares = [f"{100 * share:.0f}" for share in (rows.better.min(), rows.better.max())]
        out[f"better_{flux}"] = " to ".join(dict.fromkeys(shares)) + " %"
        out[f"top_{flux}"] = spread(rows.without_top.tolist())
        out[f"ensemble_main_{flux}"] = f"{rows.mean_RMSE.iloc[0]:.2f}"
    if ENSEMBLE in sums.model.values:
        out |= {f"no_bias_{flux}": f"{v:.2f}" for flux, v in without_bias(sums).items()}
        out |= absolute(repeats)
    missed = [flux for flux, rows in table.groupby("flux", sort=False) if not rows.met.all()]
    out["aims"] = f"missed for {', '.join(map(str, missed))}" if missed else "met"
    if table.empty:
        out["aims"] = ABSENT
    nested = {f"nested_{flux}": ABSENT for flux in fluxes}
    return out | nested | change_values("nested", choice)
