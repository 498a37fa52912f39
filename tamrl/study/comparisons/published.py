"""What others' models reach at towers of this study, and in one sentence each what differs.

``pred`` are out-of-fold predictions (model, site, time) of GPP, RECO, NEE in gC m-2 d-1, as of
`tamrl.evaluate.crossval.cross_validate`. Tables have model, flux, towers, days (or months), pooled
RMSE and R2, tower_RMSE (mean over towers), R2_50 and r2_50 (medians over towers of R2, and of the
squared correlation, which no bias lowers), and ``differs``.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data import fetch_towers
from tamrl.data.cache import registry_sha256
from tamrl.data.published import OZFLUX, fetch_network_gpp, fetch_ozflux, pmodel_scores
from tamrl.data.towers import fetch_daytime_gpp
from tamrl.errors import DataError
from tamrl.evaluate.crossval import cross_validate
from tamrl.evaluate.scores import MIN_DAYS, Days, groups_of, score, score_towers, sum_days, sum_up
from tamrl.evaluate.tables import write_csv
from tamrl.samples.arrays import Samples
from tamrl.samples.labels import with_mean_labels
from tamrl.samples.splits import folds
from tamrl.sources import load_training
from tamrl.study.comparisons import models
from tamrl.study.comparisons.labels import month_sums, overall, partitionings, processings

MIN_MONTHS = 12  # of a tower that has scores of its own
FLUXNET, PMODEL = "FLUXNET2015", "P-model, Stocker et al. 2020"
HELD_OUT = "Trained neither on the tower nor on others of its fold."
DIFFERS = {
    "LSTM, GECO Bern": "Trained on 52 other towers, near ones included, with rain, wind, long-wave "
    "radiation and pressure measured there; the same towers, days and labels.",
    "FCN, GECO Bern": "As the LSTM of GECO Bern, without memory of earlier days.",
    PMODEL: "Published scores: the authors' days and filters of GPP at the same towers; few "
    "parameters, calibrated on the other towers.",
    "FLUXCOM-RS": "From satellites alone, trained on towers, perhaps on some of these; grid cell.",
    "GOSIF": "From satellite fluorescence; grid cell.",
    "MODIS": "Light-use efficiency by vegetation class, reanalysed weather; grid cell.",
    "DIFFUSE": "Light-use efficiency by diffuse light, made in Australia; grid cell.",
    "CABLE": "Land-surface model of Australia, not fitted to these months; grid cell.",
    "AusEFlux": "Its map, trained on OzFlux's labels of these very towers: no test for it.",
    OZFLUX: "No model: the same measurements as OzFlux processed them.",
    FLUXNET: "No model: the same measurements as FLUXNET2015 processed them.",
}


def against_networks(pred: xr.Dataset, samples: Samples, networks: xr.Dataset) -> pd.DataFrame:
    """Score ``pred`` and GECO Bern's networks on the scored days that all of them predict.

    ``networks`` as of `tamrl.data.published.fetch_network_gpp`. DataError without a common day.
    """
    theirs, own = networks["GPP"], pred["GPP"].drop_vars("seconds", errors="ignore")
    own = own.sel(site=np.isin(own["site"], theirs["site"]))
    both = xr.concat([own, theirs.reindex(site=own["site"], time=own["time"])], "model")
    both = both.where(both.count("model") == both.sizes["model"])
    return _table(sum_up(both.to_dataset(name="GPP"), samples), MIN_DAYS, "days")


def beside_pmodel(pred: xr.Dataset, samples: Samples, pmodel: pd.DataFrame) -> pd.DataFrame:
    """Put the P-model's published scores beside ``pred`` on all scored days of its towers.

    ``pmodel`` as of `tamrl.data.published.pmodel_scores`, which know neither pooled R2 nor R2_50.
    DataError if ``pred`` has none of its towers.
    """
    sums = sum_up(pred[["GPP"]].sel(site=np.isin(pred["site"], pmodel.index)), samples)
    table = pmodel.loc[sums["site"].values]
    row = {
        "model": PMODEL, "flux": "GPP", "towers": len(table), "days": int(table["days"].sum()),
        "RMSE": np.sqrt(np.average(table["rmse"] ** 2, weights=table["days"])),
        "tower_RMSE": table["rmse"].mean(), "r2_50": table["r2"].median(),
        "differs": DIFFERS[PMODEL],
    }  # fmt: skip
    return pd.concat([_table(sums, MIN_DAYS, "days"), pd.DataFrame([row])], ignore_index=True)


def against_products(pred: xr.Dataset, samples: Samples, ozflux: xr.Dataset) -> pd.DataFrame:
    """Score monthly sums of ``pred`` and of six products at OzFlux towers, in gC m-2 month-1.

    ``labels`` says against which: OzFlux's own, or FLUXNET2015's; the other is a row too, a
    model whose only error is the label's. Tower-months that all models and both labels have, flux
    by flux; ``ozflux`` as of `tamrl.data.published.fetch_ozflux`. DataError without such a month.
    """
    sites = np.intersect1d(np.intersect1d(pred["site"], ozflux["site"]), samples.site)
    at = pd.Index(samples.site).get_indexer(pd.Index(sites))
    axes = {"model": [FLUXNET], "site": sites, "time": samples.time.astype("M8[ns]")}
    parts = []
    for i, flux in enumerate(samples.targets):
        seen = xr.DataArray(samples.y[at][None, ..., i], axes, [*axes], flux)
        own = pred[flux].sel(site=sites).drop_vars("seconds", errors="ignore")
        daily = xr.concat([seen, own.reindex(time=seen["time"])], "model").astype(float)
        daily = daily.where(daily.count("model") == daily.sizes["model"])
        sums = month_sums(daily.to_dataset(name=flux))[flux]
        theirs = ozflux[flux].rename(source="model").reindex(site=sites, month=sums["month"])
        every = xr.concat([sums, theirs.dropna("model", how="all")], "model")
        parts += [_monthly(every, samples, at, labels) for labels in (OZFLUX, FLUXNET)]
    return pd.concat(parts, ignore_index=True)


def against_labels(pred: xr.Dataset, samples: Samples, daytime: xr.DataArray) -> pd.DataFrame:
    """Score against each partitioning and against their mean (``labels``), on the same days.

    ``samples`` have night-time labels, ``daytime`` (site, time) is GPP, gC m-2 d-1.
    """
    mean = with_mean_labels(samples, daytime)
    other = np.isfinite(mean.y[..., 0]) & (mean.y[..., 0] != samples.y[..., 0])
    night = replace(samples, scored=samples.scored & other)
    day = replace(night, y=2 * mean.y - samples.y)
    each = {"night-time": night, "daytime": day, "their mean": replace(night, y=mean.y)}
    tables = [_table(sum_up(pred, of), MIN_DAYS, "days").assign(labels=n) for n, of in each.items()]
    return pd.concat(tables, ignore_index=True).drop(columns="differs")


def compute(towers: str, out: Path | None, jobs: int, device: str) -> dict[str, pd.DataFrame]:
    """Score the benchmark's own predictions beside others'; write and return the tables.

    Models are the ensemble and the boosters with its knowledge, first repeat, all seeds; what
    `tamrl compare benchmark` has predicted is not computed again. They go to ``out`` (None:
    ``results/published``). DataError for virtual towers, which nobody else has predicted.
    """
    samples, training = load_training(towers)
    if samples.attrs["virtual"]:
        raise DataError("nobody has published predictions for virtual towers; get the real ones")
    wanted, every = models.experiment("benchmark"), models.chosen("benchmark", None, device, ())
    some = {name: every[name] for name in (models.ENSEMBLE, *models.INFORMED)}
    stored = Path("runs") / str(samples.attrs["tower_source"]) / "cv"
    parts = folds(samples, wanted.folds, wanted.scheme)
    pred = cross_validate(training, some, parts, range(wanted.seeds), stored, jobs)
    real, daytime, ozflux = fetch_towers(), fetch_daytime_gpp(), fetch_ozflux()
    tables = {
        "networks": against_networks(pred, samples, fetch_network_gpp()),
        "pmodel": beside_pmodel(pred, samples, pmodel_scores()),
        "products": against_products(pred, samples, ozflux),
        "labels": against_labels(pred, samples, daytime.GPP_DT),
        "partitionings": overall(partitionings(real, daytime)),
        "processings": overall(processings(real, ozflux)),
    }
    about = {"samples": samples.fingerprint, "registry": registry_sha256()[:16]}
    for name, table in tables.items():
        write_csv((out or Path("results/published")) / f"{name}.csv", about, table)
    return tables


def _monthly(every: xr.DataArray, samples: Samples, at: NDArray, labels: str) -> pd.DataFrame:
    """Score all but one of the models (model, site, month) against that one."""
    values = every.transpose("model", "site", "month").values
    row, month = np.nonzero(np.isfinite(values).all(0))
    truth = every["model"].values == labels
    if not (row.size and truth.any()):
        raise DataError(f"{every.name}: no tower-month that all models, products and labels have")
    used, tower = np.unique(at[row], return_inverse=True)
    facts = samples.table.iloc[used].assign(site=samples.site[used])
    predicted, observed = values[~truth][:, row, month, None], values[truth][0, row, month, None]
    names, when = every["model"].values[~truth].astype(str), every.indexes["month"][month]
    days = Days([*names], (str(every.name),), facts, tower, when, observed, predicted)
    table = _table(sum_days(days), MIN_MONTHS, "months")
    table.insert(0, "labels", labels)
    return table


def _table(sums: xr.Dataset, least: int, unit: str) -> pd.DataFrame:
    """Scores by model and flux; of single towers those with ``least`` scored days or months."""
    keys = ["model", "flux"]
    table = score(sums, groups_of(sums))[["RMSE", "R2"]].isel(group=0).to_dataframe(dim_order=keys)
    table = table[["RMSE", "R2"]].assign(**{"towers": sums.sizes["site"], unit: int(sums.n.sum())})
    own = score_towers(sums).set_index([*keys, "site"])
    r2 = sums["joint"] ** 2 / (sums["within"] * sums["spread"])
    own["r2"] = r2.transpose(*keys, "site").to_series()
    towers = own[own["n"] >= least].groupby(keys)
    table["tower_RMSE"] = towers["RMSE"].mean()
    table[["R2_50", "r2_50"]] = towers[["R2", "r2"]].median()
    order = [*keys, "towers", unit, "RMSE", "R2", "tower_RMSE", "R2_50", "r2_50"]
    table = table.reset_index()[order]
    return table.assign(differs=[DIFFERS.get(name, HELD_OUT) for name in table["model"]])
