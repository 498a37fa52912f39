"""What was tried for more skill, what each direction did, how short it falls, what is reachable.

Directions are judged by `tamrl.study.comparisons.effects` against the plain network, on the same days of the same
towers; those that fail stay in every table. The experiment that has seen the tower in other years
is no direction: with the oracles of `tamrl.evaluate.oracles` it bounds what better knowledge of a new place
could give.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tamrl.evaluate import oracles
from tamrl.evaluate.sums import Sums, by_scale, summarise
from tamrl.evaluate.tables import Results, read
from tamrl.shipped.ensemble import DATASETS, N_VIRTUAL
from tamrl.study.comparisons.effects import ABSENT, Mechanism
from tamrl.study.comparisons.models import (
    ANNUAL,
    COMBINED,
    DRAWN,
    EMBEDDINGS,
    GLOBAL_ENCODER,
    MANY_WORLDS,
    MEMBERS,
    NETWORK,
    PROCESS,
    RESIDUAL,
    SEEN,
    TIME_SCALES,
    UNDRAWN,
    VIRTUAL_FIRST,
    kept,
)

TREES = "LightGBM"
MANY = N_VIRTUAL * DATASETS  # virtual towers, each met once
DIRECTIONS = (
    Mechanism("annual means of further towers", ANNUAL, NETWORK),
    Mechanism(f"{N_VIRTUAL:,} virtual towers first", VIRTUAL_FIRST, NETWORK),
    Mechanism(f"{MANY:,} virtual towers first", MANY_WORLDS, NETWORK),
    Mechanism(f"{MANY:,} in place of {N_VIRTUAL:,} virtual towers", MANY_WORLDS, VIRTUAL_FIRST),
    Mechanism("drawn half-way to annual means", DRAWN, MANY_WORLDS),
    Mechanism("encoder trained on global drivers", GLOBAL_ENCODER, NETWORK),
    Mechanism("tower embeddings that the encoder foresees", EMBEDDINGS, NETWORK),
    Mechanism("parameters of processes instead of fluxes", PROCESS, NETWORK),
    Mechanism("losses on several time scales", TIME_SCALES, NETWORK),
    Mechanism("residual learning on boosting", RESIDUAL, NETWORK),
    Mechanism("the same, against its boosting alone", RESIDUAL, TREES),
    Mechanism("averaged with boosting told annual means", UNDRAWN, MANY_WORLDS),
    Mechanism("the same, against boosting alone", UNDRAWN, TREES),
    Mechanism("mean of four seeds and splits", MEMBERS, NETWORK),
    Mechanism("virtual towers first, several time scales", COMBINED, NETWORK),
    Mechanism("time scales, given virtual towers first", COMBINED, VIRTUAL_FIRST),
)
GROUPS: Mapping[str, tuple[str, ...]] = {
    "knowledge from elsewhere": (ANNUAL, VIRTUAL_FIRST, MANY_WORLDS, DRAWN, GLOBAL_ENCODER),
    "another network or loss": (EMBEDDINGS, PROCESS, TIME_SCALES, COMBINED),
    "several models": (RESIDUAL, UNDRAWN, MEMBERS, TREES),
    "not zero-shot": (SEEN,),
}
AIMS: Mapping[str, Mapping[str, float]] = {  # pooled RMSE, gC m-2 d-1, set before the campaign
    "good": {"GPP": 2.08, "RECO": 1.67, "NEE": 1.76},
    "excellent": {"GPP": 2.02, "RECO": 1.55, "NEE": 1.70},
}
ATTACKED = ("all days", "tower means", "anomalies", "dry", "tropical")
GAIN = ["campaign", "model", "flux", "members", "single", "best", "RMSE", "gain"]
CLIMATES = {"Arid": "dry", "Tropical": "tropical"}


def zero_shot(sums: Sums) -> Sums:
    """Leave out what has seen the towers it predicts."""
    return sums.select([name for name in sums.models if name != SEEN])


def attacked(sums: Sums) -> pd.DataFrame:
    """RMSE (gC m-2 d-1) of each model where the error was to be attacked.

    Returns
    -------
    Table (index model; columns part, flux): all days, means of towers, daily anomalies, days of dry
    and of tropical towers; NaN where no tower is.
    """
    scale = by_scale(sums).set_index(["scale", "model", "flux"]).RMSE
    pooled = summarise(sums).set_index(["model", "flux"]).RMSE
    climate = summarise(sums, "koppen_main").set_index(["koppen_main", "model", "flux"]).RMSE
    found = {"all days": pooled}
    named = {"between towers": "tower means", "daily anomalies": "anomalies"}
    for values, names in ((scale, named), (climate, CLIMATES)):
        first = values.index.get_level_values(0)
        found |= {new: values[old] for old, new in names.items() if old in first}
    columns = pd.MultiIndex.from_product([ATTACKED, sums.fluxes], names=["part", "flux"])
    table = pd.DataFrame(index=pd.Index(sums.models, name="model"), columns=columns, dtype=float)
    for part, values in found.items():
        for flux in sums.fluxes:
            own = [values.get((name, flux), np.nan) for name in sums.models]
            table[part, flux] = own
    return table


def beside(found: Results) -> dict[str, Results]:
    """Give the campaign and, where it stands on real towers, the kept tables of the others."""
    others = () if found.attrs.get("virtual") else ("ablation", "benchmark")
    return {"directions": found} | {name: read(kept(name)) for name in others}


def members_gain(several: Mapping[str, Results]) -> pd.DataFrame:
    """Pooled RMSE of the mean over seeds, against its members alone, of several campaigns.

    Returns
    -------
    Table with columns campaign, model, flux, members, single (mean of the members' RMSE), best (of
    them), RMSE (of their mean), gain (% less than ``single``); no row where there is one seed.
    """
    parts = [pd.DataFrame(columns=GAIN)]
    for name, found in several.items():
        if found.seeds.empty:
            continue
        alone = found.seeds.groupby(["model", "flux"], sort=False).RMSE
        table = pd.DataFrame({"members": alone.size(), "single": alone.mean(), "best": alone.min()})
        pooled = summarise(found.sums).set_index(["model", "flux"]).RMSE
        table = table[table.members > 1].join(pooled).reset_index()
        table["gain"] = 100 * (1 - table.RMSE / table.single)
        parts += [table.assign(campaign=name)[GAIN]] * bool(len(table))
    return pd.concat(parts[1:] or parts, ignore_index=True)


def members_in_words(gain: pd.DataFrame) -> str:
    """Say what averaging over seeds gains, as a range over models and fluxes."""
    if gain.empty:
        return f"The gain of a mean over seeds is {ABSENT}: no table holds more than one a fold"
    low, high = (value + 0.0 for value in gain.gain.agg(["min", "max"]).round(1))  # never -0.0
    models = len(gain[["campaign", "model"]].drop_duplicates())
    return (
        f"The mean over {gain.members.max()} seeds has {low:.1f} to {high:.1f} % less RMSE than a "
        f"seed alone, over {models} models and {gain.flux.nunique()} fluxes"
    )


def best(sums: Sums) -> dict[str, tuple[str, float]]:
    """Name the zero-shot model of lowest pooled RMSE by flux, with that RMSE."""
    able = zero_shot(sums)
    if not able.models:
        return {}
    rmse = np.sqrt(able.square.sum(1) / able.n.sum())  # (model, flux)
    rows = enumerate(zip(able.fluxes, rmse.argmin(0), strict=True))
    return {f: (able.models[k], float(rmse[k, i])) for i, (f, k) in rows}


def short_in_words(sums: Sums, aim: str = "excellent") -> str:
    """Say by how much the lowest error of any direction misses an aim, flux by flux."""
    lowest = best(sums)
    if not lowest:
        return f"No direction is computed, so how short of the {aim} aims they fall is not known"
    said = []
    for flux, (name, rmse) in lowest.items():
        short = rmse - AIMS[aim][flux]
        held = f"{short:.2f} above" if short > 0 else f"{-short:.2f} below"
        said.append(f"{flux} {rmse:.2f} ({name}), {held} {AIMS[aim][flux]:.2f}")
    return f"Lowest pooled RMSE against the {aim} aim, in gC m⁻² d⁻¹: {'; '.join(said)}"


def reachable_in_words(table: pd.DataFrame, model: str = NETWORK) -> str:
    """Say what oracles would make of a model's RMSE, from `tamrl.evaluate.oracles.table`."""
    if model not in table.index:
        return f"What oracles leave of the error of {model} is {ABSENT}"
    fluxes = [str(flux) for flux in table[oracles.AS_IT_IS]]

    def told(name: str, oracle: str) -> str:
        if name not in table.index:
            return ABSENT
        values = [float(table[oracle, flux].loc[name]) for flux in fluxes]
        return " / ".join(f"{v:.2f}" for v in values) if np.isfinite(values).all() else ABSENT

    said = [
        f"{oracle} {told(model, oracle)}"
        for oracle in (oracles.AS_IT_IS, oracles.NO_BIAS, oracles.NO_LINE)
    ]
    seen = told(SEEN, oracles.AS_IT_IS)
    said.append(f"towers seen in training, other years (not zero-shot) {seen}")
    return f"RMSE of {', '.join(fluxes)} for {model}: {'; '.join(said)}, in gC m⁻² d⁻¹"
