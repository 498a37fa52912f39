"""A comparison that takes hours: resumable, one model at a time, boiled down to small tables.

Every model is cross-validated by tower (`tamrl.evaluate.crossval`, whose kept predictions are used again),
then summed up per tower and written as one csv (`tamrl.evaluate.tables`). A campaign that was broken
off goes on where it stopped; a model whose settings, code, data, folds or seeds have changed is
computed anew; one that has not is not touched.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from tamrl import __version__
from tamrl.data.cache import registry_sha256
from tamrl.errors import DataError, StudyError
from tamrl.evaluate import interval_coverage, oracles
from tamrl.evaluate.crossval import cross_validate, plan
from tamrl.evaluate.interval_coverage import interval_table
from tamrl.evaluate.learner import Factory, versions, walk
from tamrl.evaluate.scores import sum_up
from tamrl.evaluate.tables import (
    ALL,
    ERRORS,
    FACTS,
    MEAN,
    TOWERS,
    errors,
    observations,
    read_csv,
    write_csv,
)
from tamrl.model.train import pick_device
from tamrl.samples.splits import Fold, distance_km

if TYPE_CHECKING:
    from tamrl.samples.arrays import Samples

FORMAT = 1  # of the tables; raise it when what their columns mean changes: all are made anew


def run(
    models: Mapping[str, Factory],
    samples: Samples,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    out: Path | str,
    kept: Path | str,
    jobs: int = 2,
    say: Callable[[str], None] = print,
) -> tuple[str, ...]:
    """Compute what is missing of a comparison; return the models that were.

    Parameters
    ----------
    models, samples, folds, seeds, jobs
        As for `tamrl.evaluate.crossval.cross_validate`.
    out
        Folder of the tables.
    kept
        Folder of the predictions, one file a model, fold and seed: a model that was broken off
        goes on with the next of these.
    say
        Gets one line a model.

    Raises
    ------
    DataError
        When the tables in ``out`` stand on other towers, folds or days, two models would get the
        same file, or a model misses scored days.
    StudyError
        When models failed; those that did not are finished and kept.
    """
    out = Path(out)
    paths = {name: out / f"{slug(name)}.csv" for name in models}
    if len({path.name.lower() for path in paths.values()} | {TOWERS}) <= len(paths):
        raise DataError(f"models {', '.join(models)}: two of them share a file; rename one")
    days = _days(samples, folds)
    _check(out / TOWERS, days)
    ran, failed, left = [], [], []
    for name, factory in models.items():
        made = provenance(name, factory, samples, folds, seeds, Path(kept))
        if _key(paths[name]) == made["key"]:
            say(f"{name}: unchanged, kept")
        else:
            left.append((name, factory, made))
    start = time.monotonic()
    for done, (name, factory, made) in enumerate(left):
        try:
            with_seeds = cross_validate(
                samples, {name: factory}, folds, seeds, kept, jobs, members=True
            )
        except RuntimeError as error:  # one model's trouble must not cost the night
            failed.append(f"{name}: {error}")
            say(f"{name}: failed ({error})")
            continue
        towers, table = reduce_to_sums(with_seeds, samples, folds)
        _check(out / TOWERS, days, towers)
        if not (out / TOWERS).is_file():
            write_csv(out / TOWERS, {"format": FORMAT, "days": days, **_source(samples)}, towers)
        try:
            interval_coverage.write(
                out, slug(name), made, interval_table(with_seeds, samples, folds)
            )
        except DataError as error:  # a quick look at few towers has scores all the same
            say(f"{name}: no intervals ({error})")
        oracles.write(out, slug(name), made, oracles.sum_up(with_seeds, samples, folds))
        made |= {"days": days, "seconds": round(float(with_seeds.seconds[0]), 1)}
        write_csv(paths[name], made, table)
        ran.append(name)
        spent = time.monotonic() - start
        rest = spent / (done + 1) * (len(left) - done - 1)
        say(f"{name}: done, {spent / 60:.0f} min so far, about {rest / 60:.0f} min to go")
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(models)} models failed, the first: {failed[0]}. The others are "
            f"finished, in {out}; run the same command again to compute only these"
        )
    return tuple(ran)


def slug(name: str) -> str:
    """Name of a model's file, without its ending."""
    return re.sub(r"[^\w.+-]+", "-", name)


def provenance(
    name: str,
    factory: Factory,
    samples: Samples,
    folds: Sequence[Fold],
    seeds: Sequence[int],
    kept: Path,
) -> dict[str, Any]:
    """Tell what makes a model's rows; ``key`` is equal only where all that decides them is."""
    model = factory()
    files = [job.path.name for job in plan(samples, {name: factory}, folds, seeds, kept)]
    decisive = json.dumps([FORMAT, sorted(files)])
    recipe = getattr(model, "recipe", None)
    return {
        "model": name,
        "key": hashlib.sha256(decisive.encode()).hexdigest()[:16],
        "format": FORMAT,
        "settings": repr(model),
        "code": versions(model),
        "samples": samples.fingerprint,
        "registry": registry_sha256()[:16],
        "folds": len(folds),
        "seeds": [int(seed) for seed in seeds],
        "epochs": getattr(recipe, "epochs", getattr(model, "epochs", None)),
        "device": device(model),
        "versions": {"tamrl": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def device(model: Any) -> str | None:
    """Tell where a model's network learns, or that of a part; None without networks."""
    own = next((d for part in walk(model) if (d := getattr(part, "device", None))), None)
    return pick_device(own).type if own == "auto" else own


def reduce_to_sums(
    pred: xr.Dataset, samples: Samples, folds: Sequence[Fold]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sum up the predictions of one model, all its seeds, as tables of towers and of errors.

    Parameters
    ----------
    pred
        From `cross_validate` with ``members``: (model, seed, site, time), one model.

    Raises
    ------
    DataError
        When the model misses a scored day: its table could not be compared with others'.
    """
    single = pred.isel(model=0, drop=True).rename(seed="model")
    single = single.assign_coords(model=[str(seed) for seed in pred.seed.values])
    mean = single.mean("model", skipna=False, keep_attrs=True).expand_dims(model=[MEAN])
    every = xr.concat([mean, single], "model")
    sums = sum_up(every, samples, scales=True)
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    expected, n = int(samples.scored[tested].sum()), int(sums.n.sum())
    if n != expected:
        raise DataError(
            f"model {pred.model.values[0]} predicts {n} of {expected} scored days; a comparison "
            "that is kept needs all of them"
        )
    facts = _facts(samples, folds)
    seen = observations(sums).drop(columns=[name for name in samples.table if name != "site"])
    towers = facts.merge(seen, on="site", how="left")
    towers = towers.fillna(dict.fromkeys(towers.columns.drop(list(facts)), 0))
    towers = towers.astype({"n": int, "years": int})
    tables = [_all_rows(errors(sums, MEAN), every, MEAN, towers.site)]
    for seed in sums.models[1:]:
        rows = _all_rows(errors(sums, seed), every, seed, towers.site)
        together = rows.drop(columns="site").groupby(["members", "flux"], sort=False)
        tables.append(together.sum(min_count=1).reset_index().assign(site=ALL))
    table = pd.concat(tables)
    table["predicted"] = table.predicted.astype("Int64")
    return towers, table[["members", "site", "flux", *ERRORS, "predicted", "imbalance"]]


def _all_rows(table: pd.DataFrame, pred: xr.Dataset, member: str, sites: pd.Series) -> pd.DataFrame:
    """Give every tested tower its rows, and those of NEE the imbalance of all predicted days."""
    fluxes = table.flux.unique()
    index = pd.MultiIndex.from_product([sites, fluxes], names=["site", "flux"])
    out = table.set_index(["site", "flux"]).reindex(index, fill_value=0.0)
    out[["predicted", "imbalance"]] = np.nan
    if {"GPP", "RECO", "NEE"} <= set(fluxes):
        one = pred.sel(model=member).sel(site=sites.to_numpy())
        gap = abs(one.NEE - (one.RECO - one.GPP)).astype(float)
        nee = out.index.get_level_values("flux") == "NEE"
        out.loc[nee, "predicted"] = gap.count("time").values
        out.loc[nee, "imbalance"] = gap.sum("time").values
    return out.reset_index().assign(members=member)


def _facts(samples: Samples, folds: Sequence[Fold]) -> pd.DataFrame:
    """Facts of the tested towers, in the samples' order: fold, and km to the nearest trained on."""
    table = samples.table
    km = distance_km(table.lat.to_numpy(), table.lon.to_numpy())
    parts = []
    for fold in folds:
        facts = table.iloc[fold.test][["lat", "lon", "igbp", "koppen_main"]]
        near = km[np.ix_(fold.test, fold.train)].min(1)
        parts.append(facts.assign(site=samples.site[fold.test], fold=fold.name, km=near))
    return pd.concat(parts).sort_index()[list(FACTS[:7])].reset_index(drop=True)


def _source(samples: Samples) -> dict[str, Any]:
    virtual = int(bool(samples.attrs.get("virtual", 0)))
    return {"virtual": virtual, "tower_source": str(samples.attrs.get("tower_source", ""))}


def _days(samples: Samples, folds: Sequence[Fold]) -> str:
    """Digest of what all models of a comparison must share: towers, folds and scored days."""
    digest = hashlib.sha256(str(samples.time[[0, -1]]).encode())
    for fold in folds:
        test = fold.test[np.argsort(samples.site[fold.test])]
        digest.update(json.dumps([fold.name, samples.site[test].tolist()]).encode())
        digest.update(np.packbits(samples.scored[test]).tobytes())
    return digest.hexdigest()[:16]


def _check(path: Path, days: str, towers: pd.DataFrame | None = None) -> None:
    """Refuse to add a model to tables that stand on other days or, if given, other labels."""
    if not path.is_file():
        return
    about, before = read_csv(path)
    same = about.get("days") == days
    if same and towers is not None:
        numbers = towers.select_dtypes("number").columns
        same = np.allclose(before[numbers], towers[numbers], rtol=1e-3, atol=1e-3)
    if not same:
        raise DataError(
            f"{path} holds other towers, folds, scored days or labels than this comparison; choose "
            "another folder for the tables (--out), or delete that one to begin anew"
        )


def _key(path: Path) -> object:
    """Key of a finished model's table; None where there is none."""
    return read_csv(path)[0].get("key") if path.is_file() else None
