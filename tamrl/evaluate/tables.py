"""A finished experiment as it is stored: one small csv a model, beside one of the towers.

``towers.csv`` has one row a tower: facts, fold, and sums of observations on scored days.
``<model>.csv`` has, by its column ``part``: sums of errors by tower and flux of the mean over seeds
(``mean``), over all towers for every seed alone (its number), and how good the intervals are
(``interval``). The first line of each is a comment with one JSON object: what made it. From these
follow all scores of `tamrl.evaluate.scores`, up to the 6 digits that are stored.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.errors import DataError
from tamrl.evaluate.scores import MIN_DAYS, SCORES, STATISTICS
from tamrl.evaluate.timescales import WITHIN, scales_of
from tamrl.files import atomic_write

TOWERS = "towers.csv"
MEAN, INTERVAL, ALL = "mean", "interval", "all"
FACTS = ("site", "lat", "lon", "igbp", "koppen_main", "fold", "km")
SHORT = dict(zip(WITHIN, ("season", "day", "year"), strict=True))  # scales in column names
SUMMED = [*STATISTICS, *SHORT.values()]
JUDGED = ["period", "stratum", "level", "towers", "cases"]  # of intervals, then floats
JUDGED += ["coverage", "tower_coverage", "low", "high", "width", "crps"]
TEXT = ("part", "site", "fold", "flux", "period", "stratum")
COLUMNS = ["part", "site", "flux", *SUMMED, "predicted", "imbalance", *JUDGED]
WHOLE = dict.fromkeys(("predicted", "towers", "cases"), "Int64")
KM = (0.0, 100.0, 250.0, 750.0, np.inf)
DISTANCES = ("< 100 km", "100 to 250 km", "250 to 750 km", "> 750 km")


@dataclass(frozen=True)
class Results:
    """What an experiment gave; ``sums`` and ``scales`` are of the seeds' means."""

    sums: xr.Dataset  # `scores`; facts of towers have their test ``fold`` and class of ``distance``
    scales: xr.Dataset  # `timescales`
    balance: xr.Dataset  # `scores.imbalance`
    seeds: pd.DataFrame  # pooled scores of single seeds
    intervals: pd.DataFrame  # `intervals.interval_table`, by model
    about: pd.DataFrame  # what made each model's rows
    attrs: Mapping[str, Any]  # of the towers
    missing: tuple[str, ...]  # models not computed yet
    folder: Path  # of the tables

    @property
    def models(self) -> list[str]:
        """Names of the models, in order."""
        return [str(name) for name in self.sums.model.values]


def stored(name: str) -> Path:
    """Folder of stored tables: below the working folder, else in the checkout or the package."""
    here, *others = (root / "results" / name for root in (Path(), *Path(__file__).parents[1:3]))
    return next((folder for folder in (here, *others) if folder.is_dir()), here)


def write_csv(path: Path, about: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Write a table below one line of JSON, whole or not at all."""
    text = json.dumps(about, ensure_ascii=False)
    with atomic_write(path) as part:
        part.write_text(f"# {text}\n" + table.to_csv(index=False, float_format="%.6g"), "utf-8")


def read_csv(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """Read what `write_csv` wrote; DataError for a file that is something else, or torn."""
    try:
        text = path.read_text("utf-8")
        about = json.loads(text.partition("\n")[0].removeprefix("# "))
        table = pd.read_csv(StringIO(text), skiprows=1, dtype=dict.fromkeys(TEXT, str))
        if not isinstance(about, dict) or not text.endswith("\n"):
            raise ValueError("the first line is no JSON object, or the last is cut off")
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path}: no table of a comparison ({error}); delete it and run `tamrl compare` again"
        ) from error
    return about, table


def read_plain(path: Path, *columns: str) -> pd.DataFrame:
    """Read a table of results with these columns; DataError for another file, or a torn one."""
    try:
        if not (text := path.read_text("utf-8")).endswith("\n"):
            raise ValueError("it is cut off")
        table = pd.read_csv(StringIO(text))
        if lacking := {*columns} - {*table}:
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no such table ({error}); delete it, compute it again") from error
    return table


def tower_table(facts: pd.DataFrame, sums: xr.Dataset, scales: xr.Dataset) -> pd.DataFrame:
    """Observed sums beside facts of all tested towers, one row each (see `TOWERS`)."""
    years = scales.n.sel(scale="between years")
    columns = {"site": sums.site.values, "n": sums.n.values, "years": years.values}
    for flux in sums.flux.values:
        seen = sums.sel(flux=flux)
        columns |= {f"mean_{flux}": seen.observed.values, f"within_{flux}": seen.within.values}
        for scale, short in SHORT.items():
            columns[f"{short}_{flux}"] = scales.within.sel(scale=scale, flux=flux).values
    table = facts.merge(pd.DataFrame(columns), on="site", how="left")
    return table.fillna(dict.fromkeys(columns, 0)).astype({"n": int, "years": int})


def sum_table(
    sites: Sequence[str], sums: xr.Dataset, scales: xr.Dataset, balance: xr.Dataset
) -> pd.DataFrame:
    """Rows of the mean by tower and flux, then of seeds; both are the ``model`` of the sums."""
    errors = sums[[*STATISTICS]].assign(
        {short: scales.square.sel(scale=scale, drop=True) for scale, short in SHORT.items()}
    )
    errors = errors.reindex(site=sites, fill_value=0.0)
    closed = balance.expand_dims(flux=["NEE"]).reindex(site=sites).reindex(flux=sums.flux)
    table = xr.merge([errors, closed], join="left", compat="override")
    rows = table.to_dataframe(["model", "site", "flux"]).reset_index()
    rows = rows.rename(columns={"model": "part"}).reindex(columns=COLUMNS)
    alone = rows[rows.part != MEAN].groupby(["part", "flux"], sort=False)
    seeds = alone[[*SUMMED, "predicted", "imbalance"]].sum(min_count=1).reset_index()
    return pd.concat([rows[rows.part == MEAN], seeds.assign(site=ALL)], ignore_index=True)


def write_model(path: Path, about: Mapping[str, Any], *parts: pd.DataFrame) -> None:
    """Write the csv of one model from its rows of sums and, if there are, of intervals."""
    table = pd.concat([part.astype(object) for part in parts]).reindex(columns=COLUMNS)
    kinds = {n: "float64" for n in COLUMNS if n not in TEXT} | WHOLE
    write_csv(path, about, table.astype(kinds))


def read(folder: Path | str, models: Sequence[str] = ()) -> Results:
    """Read an experiment; ``models``: their order, ``missing`` if not there, others by name.

    DataError when there is none, for a torn file, one of other towers, folds or days, or two of one
    model.
    """
    folder, found = Path(folder), dict[str, tuple[Path, dict[str, Any], pd.DataFrame]]()
    for path in sorted({*folder.glob("*.csv")} - {folder / TOWERS}):
        if path.name.startswith("."):  # of an editor
            continue
        about, table = read_csv(path)
        if (name := str(about.get("model"))) in found:
            raise DataError(f"{found[name][0]} and {path} are both of {name}; delete one of them")
        found[name] = (path, about, table)
    if not found or not (folder / TOWERS).is_file():
        raise DataError(
            f"{folder} holds no table of models, or not {TOWERS}; run `tamrl compare`, which takes "
            "hours, or ask for it to be computed on the spot with few towers, folds and epochs"
        )
    attrs, towers = read_csv(folder / TOWERS)
    for path, about, _ in found.values():
        if about.get("days") != attrs.get("days"):
            raise DataError(
                f"{path} is of other towers, folds or days than {folder / TOWERS}; models "
                "can only be compared on the same days: delete one of them and run `tamrl compare`"
            )
    try:
        return _results(folder, attrs, towers, found, models)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        text = f"{folder}: tables lack columns, or rows are doubled ({error!r})"
        raise DataError(f"{text}; delete them and run `tamrl compare` again") from error


def _results(
    folder: Path, attrs: Mapping[str, Any], towers: pd.DataFrame,
    found: Mapping[str, tuple[Path, dict[str, Any], pd.DataFrame]], models: Sequence[str],
) -> Results:  # fmt: skip
    """Make results of the ``found`` tables, as of `read`."""
    order = [name for name in dict.fromkeys([*models, *found]) if name in found]
    rows = pd.concat([found[name][2].assign(model=name) for name in order], ignore_index=True)
    if other := set(rows.site[rows.part == MEAN]) ^ set(towers.site):
        raise DataError(f"{folder}: {TOWERS} and the models' tables differ in {min(other)}")
    if towers.site.duplicated().any() or not (towers.n >= 0).all():
        raise DataError(f"{folder / TOWERS}: a tower is there twice, or has no count of days")
    mean, judged = rows[rows.part == MEAN], rows[rows.part == INTERVAL].fillna({"stratum": ""})
    sums, scales = _sums(order, towers, mean)
    closed = mean[mean.flux == "NEE"].set_index(["model", "site"])[["imbalance", "predicted"]]
    balance = closed.to_xarray().reindex(model=order, site=towers.site)
    seeds = _seeds(sums, rows[~rows.part.isin((MEAN, INTERVAL))])
    judged = judged[["model", "flux", *JUDGED]].reset_index(drop=True)
    headers = pd.DataFrame([found[name][1] for name in order]).set_index("model")
    missing = tuple(name for name in models if name not in found)
    return Results(sums, scales, balance, seeds, judged, headers, attrs, missing, folder)


def _sums(
    models: list[str], towers: pd.DataFrame, rows: pd.DataFrame
) -> tuple[xr.Dataset, xr.Dataset]:
    """Put the columns of the tables back into arrays; towers without a scored day are left out."""
    fluxes = list(rows.flux.unique())
    used = towers[towers.n > 0].reset_index(drop=True)
    flat, deep = ("site", "flux"), ("model", "site", "flux")
    index = pd.MultiIndex.from_product([models, used.site, fluxes])
    errors = rows.set_index([*deep])[SUMMED].reindex(index)
    if errors.isna().any(axis=None):
        absent = errors.index[errors.isna().any(axis=1)][0]
        raise DataError(f"the table of {absent[0]} lacks numbers for {absent[2]} at {absent[1]}")
    shape = (len(models), len(used), len(fluxes))
    arrays = {name: errors[name].to_numpy().reshape(shape) for name in SUMMED}
    names = ("mean", "within", *SHORT.values())
    seen = {k: used[[f"{k}_{flux}" for flux in fluxes]].to_numpy() for k in names}
    distance = pd.cut(used.km, KM, labels=DISTANCES, include_lowest=True).astype(str).to_numpy()
    sums = xr.Dataset(
        {"n": ("site", used.n.to_numpy(float))}
        | {"observed": (flat, seen["mean"]), "within": (flat, seen["within"])}
        | {name: (deep, arrays[name]) for name in STATISTICS},
        {"model": models, "flux": fluxes}
        | {name: ("site", used[name].to_numpy()) for name in FACTS}
        | {"distance": ("site", distance, {"classes": DISTANCES})},
    )
    long = np.where(used.n >= MIN_DAYS, used.n, 0)
    within = np.stack([seen[short] for short in SHORT.values()])
    square = np.stack([arrays[short] for short in SHORT.values()], 1)
    return sums, scales_of(sums, np.stack([long, long, used.years]).astype(float), within, square)


def _seeds(sums: xr.Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    """Pooled scores of each seed alone."""
    days = float(sums.n.sum())
    level = (sums.n * sums.observed).sum("site") / days
    total = (sums.within + sums.n * (sums.observed - level) ** 2).sum("site").to_series()
    r2 = 1 - rows.square / rows.flux.map(total)
    scores = (r2, np.sqrt(rows.square / days), rows.error / days, rows.absolute / days)
    named = rows[["model", "part", "flux"]].rename(columns={"part": "seed"})
    return named.assign(**dict(zip(SCORES, scores, strict=True))).reset_index(drop=True)
