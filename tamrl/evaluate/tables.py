"""A finished comparison as it is kept: one small csv a model, beside one of the towers.

``towers.csv`` has one row a tower: its facts, its fold, and sums of its observations on the days
that are scored. ``<model>.csv`` has sums of errors: one row a tower and flux for the mean over the
seeds (``members`` = mean), and one a flux over all towers (``site`` = all) for every seed alone.
The first line of each file is a comment with one JSON object: what made it. From these alone follow
all scores of `tamrl.evaluate.scores`, equal to those from the predictions, up to the 6 digits kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tamrl.errors import DataError
from tamrl.evaluate.sums import LEVEL, MIN_DAYS, SCORES, WITHIN, Scale, Sums, bootstrap_weights
from tamrl.files import atomic_write

TOWERS = "towers.csv"
MEAN, ALL = "mean", "all"  # of the seeds, and of the towers
FACTS = ("site", "lat", "lon", "igbp", "koppen_main", "fold", "km", "n", "years")
SHORT = dict(zip(WITHIN, ("season", "day", "year"), strict=True))  # scales in column names
ERRORS = ("error", "square", "absolute", *SHORT.values())
KM = (0.0, 100.0, 250.0, 750.0, np.inf)
DISTANCES = ("< 100 km", "100 to 250 km", "250 to 750 km", "> 750 km")


@dataclass(frozen=True)
class Results:
    """What a campaign found.

    ``sums`` of the seeds' means, by model and tower (`tamrl.evaluate.sums`); its towers have, besides their
    facts, the ``fold`` they were tested in and the class of ``distance`` to the nearest training
    tower. ``seeds``: pooled scores of single seeds (model, seed, flux, R2, RMSE, bias, MAE).
    ``balance``: by model and site, ``predicted`` days, and |NEE - (RECO - GPP)| summed over them.
    ``about``: what made each model's rows (index model). ``attrs``: of the towers.
    ``missing``: models of the campaign that are not computed yet. ``folder``: where the tables lie.
    """

    sums: Sums
    seeds: pd.DataFrame
    balance: pd.DataFrame
    about: pd.DataFrame
    attrs: Mapping[str, Any]
    missing: tuple[str, ...] = ()
    folder: Path = Path()


def write_csv(path: Path, about: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write a table below one line of JSON, whole or not at all."""
    text = json.dumps(about, ensure_ascii=False)
    with atomic_write(path) as part:
        part.write_text(f"# {text}\n" + table.to_csv(index=False, float_format="%.6g"))


def read_csv(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read what `write_csv` wrote.

    Raises
    ------
    DataError
        For a file that is something else, or torn.
    """
    try:
        head = path.open().readline()
        about = json.loads(head.removeprefix("# "))
        table = pd.read_csv(path, skiprows=1, dtype={"members": str, "site": str, "fold": str})
        if not isinstance(about, dict):
            raise ValueError("the first line is no JSON object")
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path}: no table of a comparison ({error}); delete it and run `tamrl compare` again"
        ) from error
    return about, table


def observations(sums: Sums) -> pd.DataFrame:
    """Put observed sums and facts in columns, one row a tower (see `TOWERS`)."""
    columns = {"years": sums.scales["between years"].n.astype(int)}
    for f, flux in enumerate(sums.fluxes):
        columns |= {f"mean_{flux}": sums.mean[:, f], f"within_{flux}": sums.within[:, f]}
        for scale, short in SHORT.items():
            columns[f"{short}_{flux}"] = sums.scales[scale].observed[:, f]
    facts = sums.towers.assign(n=sums.n.astype(int)).reset_index(drop=True)
    return pd.concat([facts, pd.DataFrame(columns)], axis=1)


def errors(sums: Sums, model: str) -> pd.DataFrame:
    """Put the sums of a model's errors into rows, one a tower and flux."""
    m = sums.models.index(model)
    index = pd.MultiIndex.from_product([sums.towers.site, sums.fluxes], names=["site", "flux"])
    values = [sums.error, sums.square, sums.absolute]
    values += [sums.scales[scale].square for scale in SHORT]
    columns = {name: v[m].ravel() for name, v in zip(ERRORS, values, strict=True)}
    return pd.DataFrame(columns, index).reset_index()


def read(folder: Path | str, models: Sequence[str] = ()) -> Results:
    """Read the tables of a folder.

    Parameters
    ----------
    folder
        Where `tamrl.study.comparisons.compute.run` put them; one that is not there holds no model.
    models
        Order of the models; those that are not there are ``missing``, others follow by name.

    Raises
    ------
    DataError
        For a torn file, or one that stands on other towers, folds or days than the others.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.glob("*.csv") if path.name != TOWERS)
    found = {}
    for path in paths:
        about, table = read_csv(path)
        found[str(about.get("model"))] = (path, about, table)
    order = [name for name in models if name in found]
    order += [name for name in found if name not in models]
    missing = tuple(name for name in models if name not in found)
    if not found:
        return _nothing(missing)
    if not (folder / TOWERS).is_file():
        raise DataError(f"{folder}: {TOWERS} is missing; run `tamrl compare` again")
    attrs, towers = read_csv(folder / TOWERS)
    for path, about, _ in found.values():
        if about.get("days") != attrs.get("days"):
            raise DataError(
                f"{path} stands on other towers, folds or days than {folder / TOWERS}; models can "
                "only be compared on the same days: delete one of them and run `tamrl compare`"
            )
    tables = pd.concat({name: found[name][2] for name in order}, names=["model", None])
    tables = tables.reset_index("model").reset_index(drop=True)
    sums = _sums(order, towers, tables[tables.members == MEAN])
    closed = tables[(tables.members == MEAN) & tables.imbalance.notna()]
    balance = closed[["model", "site", "predicted", "imbalance"]].reset_index(drop=True)
    made = pd.DataFrame([found[name][1] for name in order]).set_index("model")
    return Results(sums, _seeds(sums, tables), balance, made, attrs, missing, folder)


def _sums(models: Sequence[str], towers: pd.DataFrame, table: pd.DataFrame) -> Sums:
    """Put the columns of the tables back into arrays (model, tower, flux)."""
    fluxes = tuple(table.flux.unique())
    used = towers[towers.n > 0].reset_index(drop=True)
    index = pd.MultiIndex.from_product([models, used.site, fluxes])
    rows = table.set_index(["model", "site", "flux"]).reindex(index)
    if rows[list(ERRORS)].isna().any(axis=None):
        absent = rows.index[rows[list(ERRORS)].isna().any(axis=1)][0]
        raise DataError(f"the table of {absent[0]} lacks numbers for {absent[2]} at {absent[1]}")
    shape = (len(models), len(used), len(fluxes))
    wrong = {name: rows[name].to_numpy(float).reshape(shape) for name in ERRORS}
    seen = {
        name: used[[f"{name}_{flux}" for flux in fluxes]].to_numpy(float)
        for name in ("mean", "within", *SHORT.values())
    }
    n = used.n.to_numpy(float)
    long = np.where(used.n >= MIN_DAYS, used.n, 0).astype(float)
    count = dict.fromkeys(WITHIN, long) | {"between years": used.years.to_numpy(float)}
    facts = used[[name for name in FACTS if name not in ("n", "years")]]
    facts = facts.assign(distance=pd.cut(used.km, KM, labels=DISTANCES, include_lowest=True))
    return Sums(
        tuple(models), fluxes, facts, n, seen["mean"], seen["within"],
        wrong["error"], wrong["square"], wrong["absolute"],
        {scale: Scale(count[scale], seen[short], wrong[short]) for scale, short in SHORT.items()},
    )  # fmt: skip


def _seeds(sums: Sums, tables: pd.DataFrame) -> pd.DataFrame:
    """Pooled scores of each seed alone: all towers are taken as one."""
    one = tables[(tables.members != MEAN) & (tables.site == ALL)].reset_index(drop=True)
    flux = one.flux.map({name: i for i, name in enumerate(sums.fluxes)}).to_numpy(int)
    days = sums.n.sum()
    mean = sums.n @ sums.mean / days
    total = (sums.within + sums.n[:, None] * (sums.mean - mean) ** 2).sum(0)
    columns = {
        "R2": 1 - one.square / total[flux],
        "RMSE": np.sqrt(one.square / days),
        "bias": one.error / days,
        "MAE": one.absolute / days,
    }
    named = one[["model", "members", "flux"]].rename(columns={"members": "seed"})
    return named.assign(**columns)


def _nothing(missing: tuple[str, ...]) -> Results:
    """Say that no model is computed yet, in a form that every later step can bear."""
    fluxes = ("GPP", "RECO", "NEE")
    none, flat, deep = np.zeros(0), np.zeros((0, 3)), np.zeros((0, 0, 3))
    towers = pd.DataFrame(columns=[*FACTS, "distance"])
    scales = {scale: Scale(none, flat, deep) for scale in WITHIN}
    sums = Sums((), fluxes, towers, none, flat, flat, deep, deep, deep, scales)
    seeds = pd.DataFrame(columns=["model", "seed", "flux", *SCORES])
    balance = pd.DataFrame(columns=["model", "site", "predicted", "imbalance"])
    about = pd.DataFrame(columns=["model", "seconds", "seeds", "folds"]).set_index("model")
    return Results(sums, seeds, balance, about, {}, missing)


def violations(found: Results, rival: str, n_boot: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Mean imbalance of each model and by how much it is smaller than a rival's.

    Returns
    -------
    Table (index model): ``violation`` = mean |NEE - (RECO - GPP)| (gC m-2 d-1) over ``days``, all
    predicted tower-days at towers not trained on; ``cut`` (% less than the rival's; 100: none
    left) with bounds ``lower``, ``upper`` at 90 % from drawing towers. NaN without the rival.
    """
    wide = {
        name: found.balance.pivot_table(name, "model", "site", sort=False)
        for name in ("imbalance", "predicted")
    }
    models = [name for name in found.sums.models if name in wide["imbalance"].index]
    total, days = (wide[name].reindex(models).to_numpy(float) for name in wide)
    table = pd.DataFrame(index=pd.Index(models, name="model"))
    table["violation"] = total.sum(1) / days.sum(1)
    table["days"] = days.sum(1).astype(int)
    table[["cut", "lower", "upper"]] = np.nan
    if rival in models:
        at = models.index(rival)
        drawn = bootstrap_weights(total.shape[1], n_boot, seed)
        each = drawn @ total.T / (drawn @ days.T)  # (draw, model)
        with np.errstate(invalid="ignore", divide="ignore"):
            cut = 100 * (1 - each / each[:, [at]])
            table["cut"] = 100 * (1 - table.violation / table.violation.iloc[at])
        table["lower"] = np.quantile(cut, (1 - LEVEL) / 2, axis=0)
        table["upper"] = np.quantile(cut, (1 + LEVEL) / 2, axis=0)
    return table
