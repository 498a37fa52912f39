"""The ensemble among its rivals: classes of towers, other protocols, cost.

The strongest booster is taken flux by flux, by the very error that is compared, which favours the
rival. The main protocol assigns towers to folds at random, 50 km apart; others balance folds by
climate, leave out a whole vegetation class, or take away satellites at the tested towers.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from tamrl.evaluate import intervals
from tamrl.evaluate.intervals import MIN_TOWERS
from tamrl.evaluate.scores import MIN_DAYS, draws_of, groups_of, interval, mean_of, summarise
from tamrl.evaluate.tables import Results, stored
from tamrl.samples.arrays import Samples
from tamrl.shipped.annual import CLASSES
from tamrl.study.comparisons import models
from tamrl.study.comparisons.effects import ABSENT, NUMBERS, change_values, main_score, paired
from tamrl.study.comparisons.models import BOOSTERS, ENSEMBLE, INFORMED, PUBLISHED

MAX_SHARE = 10.0  # % of the class's mean flux that its bias may be
MAX_NEE = 0.25  # gC m-2 d-1 that the bias of NEE may be, whose mean is near zero
PROTOCOLS: Mapping[str, str] = {
    "benchmark": "towers at random, 50 km apart",
    "climates": "folds balanced by climate, 50 km apart",
    "biomes": "a vegetation class that no training tower has",
    "no-satellites": "no satellite data at the tested towers",
}
OTHERS = tuple(PROTOCOLS)[1:]
SHOWN = ["model", "flux", "towers", "RMSE", "R2", "bias"]
QUARTERS = ("nearest quarter", "second", "third", "farthest quarter")
STEPS: Mapping[str, str] = {  # what each model has that the one before it lacks
    models.NETWORK: "repairs of TAM-RL",
    models.PRETRAINED: "simulated towers first, and the annual prior",
    models.UNSCALED: "mean with boosted trees",
    ENSEMBLE: "rescaling to the annual prior",
}
RELATED = (*tuple(models.PARTS)[1:], models.NETWORK, "ensemble without pre-training")


def groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Sort the rivals of the ensemble by kind, each once."""
    kinds = {"parts and relatives": RELATED, "boosting": BOOSTERS, "as published": (PUBLISHED,)}
    kinds["others"] = tuple({*names} - {ENSEMBLE}.union(*kinds.values()))
    return {kind: [name for name in names if name in own] for kind, own in kinds.items()}


def strongest(sums: xr.Dataset) -> dict[str, str]:
    """Name, flux by flux, the booster of best main score among those that are computed."""
    there = [name for name in BOOSTERS if name in sums.model.values]
    rmse = (sums.square / sums.n).where(sums.n >= MIN_DAYS) ** 0.5
    best = rmse.sel(model=there).mean("site")
    return best.to_pandas().idxmin().to_dict() if there else {}


def shown(sums: xr.Dataset) -> list[str]:
    """Choose models for crowded figures: ensemble, booster best in most fluxes, two more."""
    best = pd.Series(list(strongest(sums).values()), dtype=str).mode()
    wanted = (ENSEMBLE, *best[:1], PUBLISHED, "climatology")
    return [name for name in wanted if name in sums.model.values]


def by_tower(sums: xr.Dataset) -> pd.DataFrame:
    """RMSE (gC m-2 d-1) of each tower of 30 scored days: site, flux, ensemble, boosting.

    Boosting is the `strongest`, flux by flux, of which ``rival`` has the name.
    """
    rmse = (sums.square / sums.n).where(sums.n >= MIN_DAYS) ** 0.5
    parts = []
    for flux, rival in strongest(sums).items() if ENSEMBLE in sums.model.values else ():
        both = rmse.sel(flux=flux, model=[ENSEMBLE, rival]).transpose("site", "model").to_pandas()
        both.columns = [ENSEMBLE, "boosting"]
        parts.append(both.dropna().rename_axis("site").reset_index().assign(flux=flux, rival=rival))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["flux"])


def waterfall(sums: xr.Dataset) -> pd.DataFrame:
    """Follow the main score from TAM-RL as published to the ensemble, step after step.

    Table: flux, step, before, after (gC m-2 d-1), change, lower, upper (%); of steps between models
    that are computed. Other orders of the steps would share the change out otherwise.
    """
    there = [name for name in (PUBLISHED, *STEPS) if name in sums.model.values]
    parts = []
    for before, after in pairwise(there):
        row = main_score(paired(sums, [(after, before)]))
        row = row.rename(columns={"RMSE": "after", "rival_RMSE": "before"})
        parts.append(row.assign(step=STEPS[after]))
    columns = ["flux", "step", "before", "after", "change", "lower", "upper"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def class_bias(sums: xr.Dataset, model: str, by: str) -> pd.DataFrame:
    """Bias of a model by class of at least 5 towers, beside the class's observed mean flux.

    Mean, bias and its 90 % bounds from bootstrap samples of the class's towers are in gC m-2 d-1;
    ``off``: the bias is above 10 % of the mean (its ``share``), for NEE above 0.25 gC m-2 d-1.
    """
    columns = ["class", "flux", "towers", "days", "mean", "bias", "lower", "upper", "share", "off"]
    rows = []
    for name, inside in groups_of(sums, by).groupby("group") if model in sums.model else ():
        part = sums.sel(model=model).isel(site=np.flatnonzero(inside.values.ravel()))
        if part.sizes["site"] < MIN_TOWERS:
            continue
        statistics = (part.n * part.observed, part.error)
        mean, bias = (mean_of(v, part.n, groups_of(part)).values[0] for v in statistics)
        lower, upper = interval(mean_of(part.error, part.n, draws_of(part)))
        share = 100 * bias / abs(mean)
        off = np.where(part.flux == "NEE", abs(bias) > MAX_NEE, abs(share) > MAX_SHARE)
        numbers = zip(part.flux.values, mean, bias, lower, upper, share, off.tolist(), strict=True)
        size = (part.sizes["site"], int(part.n.sum()))
        rows += [(name, flux, *size, *one) for flux, *one in numbers]
    return pd.DataFrame(rows, columns=columns)


def scorecard(
    summary: pd.DataFrame, scales: pd.DataFrame, names: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """R² by flux: models down, all days and time scales across; of `summarise` and `by_scale`."""
    whole = summary[["model", "flux", "R2"]].assign(scale="all days")
    both = pd.concat([whole, scales[["model", "flux", "scale", "R2"]]])
    order = list(dict.fromkeys(both.scale))
    wide = both[both.model.isin(names)].pivot_table("R2", ["flux", "model"], "scale", sort=False)
    return {flux: wide.loc[flux].reindex(names)[order] for flux in dict.fromkeys(both.flux)}


def cost(results: Results) -> pd.DataFrame:
    """Device of networks, fits (folds x seeds), and seconds of fitting and predicting by model."""
    about = results.about
    table = about.reindex(columns=["device"]).fillna("")
    table["fits"] = about.seeds.map(len) * about.folds.astype(int)
    table["seconds"] = about.seconds.astype(float).round()
    return table.assign(**{"seconds a fit": (table.seconds / table.fits).round(1)})


def other_protocols(
    results: Results, towers: str, recompute: bool, **settings: Any
) -> dict[str, Results]:
    """Put the main comparison beside other protocols, stored or computed as by `load_results`."""
    new = recompute or results.attrs["virtual"]
    there = [name for name in OTHERS if new or stored(name).is_dir()]
    return {"benchmark": results} | {
        name: models.load_results(name, towers, recompute=recompute, **settings) for name in there
    }


def by_protocol(several: Mapping[str, Results], names: Sequence[str]) -> pd.DataFrame:
    """Score the same models under several protocols, a row a protocol, model and flux.

    change, lower, upper: of the RMSE of the ensemble from the model's in %; NaN for the ensemble.
    """
    parts = []
    for name, one in several.items():
        there = [model for model in names if model in one.models]
        scores = summarise(one.sums.sel(model=there))[SHOWN].assign(protocol=PROTOCOLS[name])
        changes = paired(one.sums, [(ENSEMBLE, rival) for rival in there]).drop(columns="model")
        changes = changes[changes.rival != ENSEMBLE].rename(columns={"rival": "model"})
        parts.append(scores.merge(changes[["model", "flux", *NUMBERS[2:5]]], how="left"))
    return pd.concat(parts, ignore_index=True)[["protocol", *SHOWN, *NUMBERS[2:5]]]


def with_dissimilarity(sums: xr.Dataset, samples: Samples) -> xr.Dataset:
    """Add to the towers' facts ``dissimilarity`` to towers trained on, and ``quarter``, its class.

    The index of Meyer and Pebesma (2021, doi:10.1111/2041-210X.13650) over the numbers among the
    site attributes (climate, greenness, soil, elevation): the distance to the nearest tower of
    another fold over the mean between towers. KeyError when the samples lack a tower.
    """
    at = pd.Index(samples.site).get_indexer(pd.Index(sums.site.values))
    if (at < 0).any():
        raise KeyError(f"tower {sums.site.values[int(np.argmin(at))]} is not among the samples")
    numbers = [not name.startswith(CLASSES) for name in samples.static_names]
    index = nearest(samples.static[at][:, numbers], sums.fold.values.astype(str))
    edges = np.quantile(index, [0.25, 0.5, 0.75])
    quarter = np.array(QUARTERS)[np.searchsorted(edges, index)]
    quarters = ("site", quarter, {"classes": QUARTERS})
    return sums.assign_coords(dissimilarity=("site", index), quarter=quarters)


def nearest(attributes: NDArray, fold: NDArray) -> NDArray[np.float64]:
    """Index (tower,) of attributes (tower, number), NaN = unknown, to towers of other folds."""
    some = attributes[:, np.isfinite(attributes).any(0)].astype(float)
    sd = np.nanstd(some, 0)
    scaled = np.nan_to_num((some - np.nanmean(some, 0)) / np.where(sd > 0, sd, 1.0))
    apart = cdist(scaled, scaled)
    apart[fold[:, None] == fold] = np.inf
    return np.asarray(apart.min(1) / pdist(scaled).mean())


def values(
    results: Results, biases: Mapping[str, pd.DataFrame], protocols: pd.DataFrame
) -> dict[str, str]:
    """Values of front page and chapter, from the tables of the notebook.

    ``ensemble_GPP``, ``boosting_GPP`` (by ``booster_GPP``), …: RMSE (R2); ``over_published_…``:
    the ensemble's change from it; ``pretraining_…``, ``rescaling_…``: what these change in the mean
    over towers, and pooled (``pretraining_pooled_…``); ``off_…``: classes beyond their bound;
    ``day_GPP``, …: coverage.
    """
    sums, best = results.sums, strongest(results.sums)
    fluxes = [str(flux) for flux in sums.flux.values]
    scores = summarise(sums).set_index(["model", "flux"])
    keys = ["ensemble", "boosting", "booster", "climatology", *intervals.PERIODS, "crps"]
    keys += [*(f"{name}_boosting" for name in OTHERS), "no-satellites_published"]
    out = {f"{key}_{flux}": ABSENT for key in keys for flux in fluxes}
    out |= {f"booster_{flux}": name for flux, name in best.items()}
    for flux in fluxes:
        rows = {"ensemble": ENSEMBLE, "boosting": best.get(flux, "")}
        for key, model in (rows | {"climatology": "climatology"}).items():
            if (model, flux) in scores.index:
                rmse, r2 = scores.loc[(model, flux), ["RMSE", "R2"]]
                text = f"{rmse:.2f}\N{NO-BREAK SPACE}({r2:.2f})"
                out[f"{key}_{flux}"] = text.replace("-", "\N{MINUS SIGN}")
    out |= change_values("over_published", paired(sums, [(ENSEMBLE, PUBLISHED)]))
    for key, rival in {"pretraining": models.NO_PRETRAINING, "rescaling": models.UNSCALED}.items():
        worth = paired(sums, [(ENSEMBLE, rival)])
        out |= change_values(key, main_score(worth)) | change_values(f"{key}_pooled", worth)
    for name in OTHERS:
        for key, rival in {"boosting": INFORMED[0], "published": PUBLISHED}.items():
            on = (protocols.protocol == PROTOCOLS[name]) & (protocols.model == rival)
            out |= change_values(f"{name}_{key}", protocols[on])
    for by, table in biases.items():
        off = table[table.off.astype(bool)].groupby("flux", sort=False)["class"].agg(", ".join)
        out[f"off_{by}"] = "; ".join(f"{f}: {classes}" for f, classes in off.items()) or "none"
        out[f"n_off_{by}"] = f"{int(table.off.sum())} of {len(table)}"
    sure = intervals.overall(results.intervals, ENSEMBLE)
    for _, row in sure[sure.level == 0.9].iterrows():
        out[f"{row.period}_{row.flux}"] = f"{100 * row.coverage:.1f} %"
        if row.period == "day":
            out[f"crps_{row.flux}"] = f"{row.crps:.3f}"
    seconds = cost(results)["seconds a fit"]
    return out | {"seconds": f"{seconds[ENSEMBLE]:.0f}" if ENSEMBLE in seconds else ABSENT}
