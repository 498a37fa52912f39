"""An experiment that takes hours: resumable, one model at a time, reduced to small tables.

Every model is cross-validated by tower (`tamrl.evaluate.crossval`, whose stored predictions are
used again), then summed up per tower and written as one csv (`tamrl.evaluate.tables`). A broken-off
experiment goes on where it stopped; only a model whose settings, version, data, folds or seeds have
changed is computed anew.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from tamrl import __version__
from tamrl.data.cache import registry_sha256
from tamrl.errors import DataError, StudyError
from tamrl.evaluate import tables
from tamrl.evaluate.crossval import cross_validate, digest, ingredients, towers_of
from tamrl.evaluate.intervals import interval_table
from tamrl.evaluate.learner import Factory, versions, walk
from tamrl.evaluate.scores import imbalance, scored_days, sum_days
from tamrl.evaluate.timescales import sum_scales
from tamrl.model.train import pick_device
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import Fold, distance_km
from tamrl.study.comparisons import series

FORMAT = 2  # of the tables; raise it when what their columns mean changes: all are made anew


def run(
    models: Mapping[str, Factory], samples: Samples, folds: Sequence[Fold], seeds: Sequence[int],
    out: Path | str, stored: Path | str, jobs: int = 2, say: Callable[[str], None] = print,
    training: Samples | None = None, series_of: Sequence[str] = (),
) -> tuple[str, ...]:  # fmt: skip
    """Compute what is missing of an experiment; return the models that were.

    Arguments as of `tamrl.evaluate.crossval.cross_validate`, but ``out``: folder of the tables,
    ``stored``: of the predictions, one file a model, fold and seed; ``say`` gets one line a model;
    ``training``: the samples to learn from, where these have other labels than those to score;
    ``series_of``: models whose `series` at the towers are stored, too, those of the first, and no
    others, with bounds.

    DataError when tables in ``out`` are of other towers, folds or days, two models would share a
    file, or one misses scored days; StudyError when models failed; the others are stored.
    """
    out, training = Path(out), training or samples
    paths = {name: out / (re.sub(r"[^\w.+-]+", "-", name) + ".csv") for name in models}
    if len({path.name.lower() for path in paths.values()} | {tables.TOWERS}) <= len(paths):
        raise DataError(f"models {', '.join(models)}: two of them share a file; rename one")
    days = _days(samples, folds)
    _check(out / tables.TOWERS, days)
    ran, failed, left, lines = [], [], {}, out / series.FILE
    for name, factory in models.items():
        about = {"model": name, **header(factory(), training, folds, seeds)}
        there = paths[name].is_file() and tables.read_csv(paths[name])[0].get("key") == about["key"]
        if there and (name not in series_of or series.holds(lines, name, about["key"])):
            say(f"{name}: unchanged, not computed again")
        else:
            left[name] = about
    start = time.monotonic()
    for done, (name, about) in enumerate(left.items(), 1):
        model = {name: models[name]}
        try:
            pred = cross_validate(training, model, folds, seeds, stored, jobs, True)
        except RuntimeError as error:  # one model's trouble must not cost the night
            failed.append(f"{name}: {error}")
            say(f"{name}: failed ({error})")
            continue
        towers, sums = reduce_to_sums(pred, samples, folds)
        _check(out / tables.TOWERS, days, towers)
        if not (out / tables.TOWERS).is_file():
            source, virtual = samples.attrs["tower_source"], int(bool(samples.attrs["virtual"]))
            head = {"format": FORMAT, "days": days, "virtual": virtual, "tower_source": source}
            tables.write_csv(out / tables.TOWERS, head, towers)
        parts = [sums]
        try:
            parts += [interval_table(pred, samples, folds).assign(part=tables.INTERVAL)]
        except DataError as error:  # a quick look at few towers has scores all the same
            say(f"{name}: no intervals ({error})")
        about |= {"days": days, "seconds": round(float(pred.seconds[0]), 1)}
        tables.write_model(paths[name], about, *parts)
        if name in series_of:
            shown = series.series_of(pred, samples, folds, bounds=name == series_of[0])
            series.add(lines, days, about["key"], shown)
        ran.append(name)
        spent, rest = (time.monotonic() - start) / 60, len(left) / done - 1
        say(f"{name}: done, {spent:.0f} min so far, about {spent * rest:.0f} min to go")
    if failed:
        raise StudyError(
            f"{len(failed)} of {len(models)} models failed, the first: {failed[0]}. The others are "
            f"finished, in {out}; run the same command again to compute only these"
        )
    return tuple(ran)


def header(
    model: Any, samples: Samples, folds: Sequence[Fold], seeds: Sequence[int]
) -> dict[str, Any]:
    """Describe what makes a model's rows; its ``key`` is equal only where all is that decides."""
    recipe, members = getattr(model, "recipe", None), [int(seed) for seed in seeds]
    parts = [[fold.name, *towers_of(samples, fold)] for fold in folds]
    return {
        "key": digest([FORMAT, *ingredients(model, samples), parts, members]),
        "format": FORMAT, "settings": repr(model), "versions": versions(model),
        "samples": samples.fingerprint, "registry": registry_sha256()[:16],
        "folds": len(folds), "seeds": members,
        "epochs": getattr(recipe, "epochs", getattr(model, "epochs", None)),
        "device": device(model),
        "libraries": {"tamrl": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }  # fmt: skip


def device(model: Any) -> str | None:
    """Device on which a model's network, or that of a part, is trained; None without networks."""
    own = next((d for part in walk(model) if (d := getattr(part, "device", None))), None)
    return pick_device(own).type if own == "auto" else own


def reduce_to_sums(
    pred: xr.Dataset, samples: Samples, folds: Sequence[Fold]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reduce predictions (model: 1, seed, site, time) to towers and sums; DataError for a gap."""
    single = pred.isel(model=0, drop=True).rename(seed="model")
    single = single.assign_coords(model=[str(seed) for seed in pred.seed.values])
    mean = single.mean("model", skipna=False).expand_dims(model=[tables.MEAN])
    days = scored_days(every := xr.concat([mean, single], "model"), samples)
    sums, scales = sum_days(days), sum_scales(days)
    tested = np.sort(np.concatenate([fold.test for fold in folds]))
    expected, n = int(samples.scored[tested].sum()), int(sums.n.sum())
    if n != expected:
        what = f"model {pred.model.values[0]} predicts {n} of {expected} scored days"
        raise DataError(f"{what}; a comparison that is stored needs all of them")
    # Facts in the samples' order, with fold, and km to the nearest tower that was trained on.
    table = samples.table.assign(site=samples.site)
    km = distance_km(table.lat.to_numpy(), table.lon.to_numpy())
    parts = [
        table.iloc[fold.test].assign(fold=fold.name, km=km[np.ix_(fold.test, fold.train)].min(1))
        for fold in folds
    ]
    facts = pd.concat(parts).sort_index()[list(tables.FACTS)].reset_index(drop=True)
    rows = tables.sum_table(list(facts.site), sums, scales, imbalance(every))
    return tables.tower_table(facts, sums, scales), rows


def _days(samples: Samples, folds: Sequence[Fold]) -> str:
    """Digest of what all models of an experiment must share: towers, folds and scored days."""
    shared = hashlib.sha256(str(samples.time[[0, -1]]).encode())
    for fold in folds:
        test = fold.test[np.argsort(samples.site[fold.test])]
        shared.update(json.dumps([fold.name, samples.site[test].tolist()]).encode())
        shared.update(np.packbits(samples.scored[test]).tobytes())
    return shared.hexdigest()[:16]


def _check(path: Path, days: str, towers: pd.DataFrame | None = None) -> None:
    """Refuse to add a model to tables of other days or, if given, other labels."""
    if not path.is_file():
        return
    about, before = tables.read_csv(path)
    same = about.get("days") == days
    if same and towers is not None:
        numbers = towers.select_dtypes("number").columns
        same = before.columns.equals(towers.columns) and len(before) == len(towers)
        same = same and np.allclose(before[numbers], towers[numbers], rtol=1e-3, atol=1e-3)
    if not same:
        remedy = "choose another folder for the tables (--out), or delete that one to begin anew"
        text = f"{path} holds other towers, folds, scored days or labels than this comparison"
        raise DataError(f"{text}; {remedy}")
