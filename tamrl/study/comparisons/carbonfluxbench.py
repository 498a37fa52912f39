"""Our models on CarbonFluxBench: trained on its training towers, scored by its protocol.

Inputs are those of its files; models with annual means see our grid, too. One training tower in
eight stops the training early, where the authors watch the last fifth of each tower's days.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tamrl.data import carbonfluxbench as files
from tamrl.data.schema import FLUXES, SEALED, facts
from tamrl.errors import DataError
from tamrl.evaluate import carbonfluxbench as protocol
from tamrl.evaluate.crossval import cross_validate
from tamrl.evaluate.learner import walk
from tamrl.evaluate.tables import write_csv
from tamrl.samples.arrays import make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.samples.splits import Fold, blocks, validation_blocks
from tamrl.shipped.annual import AnnualPrior, AnnualRescaling
from tamrl.sources import load_grid
from tamrl.study.comparisons.models import ENSEMBLE, NETWORK, experiment

DEFAULT = (ENSEMBLE, NETWORK, "LightGBM", "climatology")
KEYS = ["of", "model", "features", "target"]
STUDY, AUTHORS = "this study", "authors"


def compute(
    folder: Path, split: str = "igbp", epochs: int | None = None, seeds: int = 3,
    only: Sequence[str] = (), out: Path | None = None, jobs: int = 2, device: str = "cpu",
    say: Callable[[str], None] = print,
) -> tuple[pd.DataFrame, bool]:  # fmt: skip
    """Return a table of scores beside the authors', and whether both are of the same towers.

    Arguments as of `tamrl.study.comparisons.models.compute`; ``only``: models of its ``benchmark``
    (none: `DEFAULT`). Columns: `KEYS`, then as of `quantiles`; the authors' scores are from their
    repository (``baselines/eval_results``, MIT). Stored in ``out`` as table.csv, scores by tower
    as towers.csv, predictions in ``runs/carbonfluxbench/cv``, where they are used again.

    ValueError: unknown split or model. DataError: as of `read_benchmark`, or no grid for a model
    that was asked for.
    """
    every = experiment("benchmark").models(epochs, device)
    for asked, names in (((split,), protocol.SPLITS), (only, every)):
        if unknown := set(asked) - set(names):
            raise ValueError(f"unknown: {', '.join(unknown)}; there are {'; '.join(names)}")
    bench, runs = files.read_benchmark(folder), Path("runs") / "carbonfluxbench"
    train, test = protocol.split_sites(bench.labels, split)
    days = pd.MultiIndex.from_frame(protocol.find_test_days(bench, test))
    observed = bench.labels.set_index(["site", "date"]).loc[days, [*FLUXES]]
    scored = days.get_level_values("site").nunique()
    say(f"{bench.towers} towers, {bench.days} days; {bench.doubled} doubled rows left out")
    say(f"Split {split}: {len(train)} towers to train on, {scored} tested on {len(days)} days")
    if held := SEALED.intersection(bench.labels.site):
        train = [site for site in train if site not in held]
        say(f"{len(held)} towers are of this study's final test: tested here, never trained on")
    daily, monthly = files.benchmark_towers(bench), files.benchmark_predictors(bench)
    parts, by_tower = [], []
    for name in only or DEFAULT:
        grid = None
        try:
            if any(isinstance(part, AnnualPrior | AnnualRescaling) for part in walk(every[name]())):
                grid = load_grid(daily)
        except DataError as error:
            if only:
                raise
            say(f"{name}: not computed; it needs the study's grid ({error})")
            continue
        samples = with_phenology(make_samples(daily, monthly, grid), monthly.EVI)
        at = np.flatnonzero(np.isin(samples.site, train))
        table = samples.table.iloc[at]
        held_out = validation_blocks(blocks(table), table.igbp.to_numpy(str), 0)
        tested = np.flatnonzero(np.isin(samples.site, test))
        fold = Fold(split, at[~held_out], at[held_out], tested)
        job = {name: every[name]}, [fold], range(seeds), runs / "cv", jobs
        predicted = cross_validate(samples, *job).isel(model=0, site=tested)
        scores = protocol.score_sites(observed, predicted.to_dataframe()[[*FLUXES]])
        inputs = "own" if grid is None else "own, grid"
        named = {"of": STUDY, "model": name, "features": inputs}
        parts.append(protocol.quantiles(scores).assign(**named))
        by_tower.append(scores.assign(**named))
    committed = facts("carbonfluxbench").query(f"split == '{protocol.SPLITS[split]}'")
    counted = bench.towers, bench.labels.site.nunique()  # it is not stated which of them they mean
    whole = files.TOWERS in counted and scored == int(committed.n_sites.iloc[0])
    parts.append(committed.assign(of=AUTHORS if whole else f"{AUTHORS}, other towers"))
    table = pd.concat(parts).drop(columns=["split", "n_seeds"]).set_index(KEYS).reset_index()
    out = out or runs / f"{split}_{seeds}-seeds{f'_{epochs}-epochs' if epochs else ''}"
    about = {"source": files.URL, "split": split, "seeds": seeds, "epochs": epochs}
    about |= {"towers": bench.towers, "days": bench.days, "comparable": whole}
    write_csv(out / "table.csv", about, table)
    write_csv(out / "towers.csv", about, pd.concat(by_tower))
    say(f"Tables: {out}")
    return table, whole


def medians(table: pd.DataFrame) -> pd.DataFrame:
    """Give medians over towers of R2 and RMSE, gC m-2 d-1, by flux, a row a model, for a page."""
    whose = table.of.str.partition(",")[0] + ": "
    rows = table.assign(model=whose + table.model + ", " + table.features)
    by = rows.groupby("target", sort=False)
    flux = {name: by.get_group(name).set_index("model") for name in FLUXES}
    shown = {f"{f} {n}": flux[f][f"{n}_q50"] for n in ("R2", "RMSE") for f in FLUXES}
    return pd.DataFrame(shown).reset_index()
