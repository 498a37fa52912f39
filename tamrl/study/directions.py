"""What was tried for more skill, what each direction did, and what is still reachable.

Directions are judged by `tamrl.study.comparisons.effects` against TAM-RL, on the same
days and towers; those that fail stay in every table. The experiment that has seen the tower in
other years bounds, with oracles, what better knowledge of a new place could give.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.evaluate.scores import groups_of, score, summarise
from tamrl.evaluate.tables import Results, read, read_csv, stored
from tamrl.shipped.ensemble import DATASETS, N_VIRTUAL
from tamrl.study.attributes import spell
from tamrl.study.comparisons import models, steps
from tamrl.study.comparisons.effects import (
    ABSENT,
    Mechanism,
    change_values,
    main_score,
    paired,
)
from tamrl.study.comparisons.models import ANNUAL, NETWORK, PRETRAINED_ONCE, SEEN
from tamrl.study.comparisons.models import PRETRAINED_MANY as PRETRAINED

TREES = "LightGBM"
MANY = N_VIRTUAL * DATASETS  # virtual towers, each met once
STEP_GROUPS = {
    "data and labels, for trees": steps.STEPS[1:],
    "more drivers, for trees": steps.DRIVERS,
}
DIRECTIONS = (
    Mechanism("annual prior", ANNUAL, NETWORK),
    Mechanism(f"pre-training at {N_VIRTUAL:,} virtual towers", PRETRAINED_ONCE, NETWORK),
    Mechanism(f"pre-training at {MANY:,} virtual towers", PRETRAINED, NETWORK),
    Mechanism(f"{MANY:,} in place of {N_VIRTUAL:,} virtual towers", PRETRAINED, PRETRAINED_ONCE),
    Mechanism("annual rescaling", models.RESCALED, PRETRAINED),
    Mechanism("encoder trained on global drivers", models.GLOBAL_ENCODER, NETWORK),
    Mechanism("tower embeddings that the encoder predicts", models.EMBEDDINGS, NETWORK),
    Mechanism("parameters of processes instead of fluxes", models.PROCESS, NETWORK),
    Mechanism("losses on several time scales", models.TIME_SCALES, NETWORK),
    Mechanism("residual learning on boosting", models.RESIDUAL, NETWORK),
    Mechanism("the same, against its boosting alone", models.RESIDUAL, TREES),
    Mechanism("mean with boosting that has the annual prior", models.UNSCALED, PRETRAINED),
    Mechanism("the same, against boosting alone", models.UNSCALED, TREES),
    Mechanism("mean of four seeds and splits", models.MEMBERS, NETWORK),
    Mechanism("pre-training and several time scales", models.COMBINED, NETWORK),
    Mechanism("time scales, given pre-training", models.COMBINED, PRETRAINED_ONCE),
)
GROUPS: Mapping[str, tuple[str, ...]] = {
    "knowledge from elsewhere": (ANNUAL, PRETRAINED_ONCE, PRETRAINED, models.RESCALED,
                                 models.GLOBAL_ENCODER),
    "another network or loss": (models.EMBEDDINGS, models.PROCESS, models.TIME_SCALES,
                                models.COMBINED),
    "several models": (models.RESIDUAL, models.UNSCALED, models.MEMBERS, TREES),
    "not zero-shot": (SEEN,),
}  # fmt: skip
AIMS: Mapping[str, Mapping[str, float]] = {  # pooled RMSE, gC m-2 d-1, set before the experiment
    "good": {"GPP": 2.08, "RECO": 1.67, "NEE": 1.76},
    "excellent": {"GPP": 2.02, "RECO": 1.55, "NEE": 1.70},
}
GAIN = ["experiment", "model", "flux", "members", "single", "best", "RMSE", "gain"]
PARTS = {"": "all days", "between towers": "tower means", "daily anomalies": "anomalies"}
PARTS |= {"Arid": "dry", "Tropical": "tropical"}
AS_IT_IS, NO_BIAS, NO_LINE = "as it is", "constant bias removed", "offset and slope removed"


def load() -> Results:
    """Read the stored tables of all directions; the commit `models.COMMIT` has the code."""
    return read(stored("directions"), models.ARCHIVED)


def by_part(results: Results) -> pd.DataFrame:
    """RMSE (gC m-2 d-1) where the error was to be reduced (index model; columns part, flux).

    Parts are in `PARTS`: days of dry and of tropical towers among them; NaN where no tower is.
    """
    sums, scales = results.sums, results.scales
    climate = score(sums, groups_of(sums, "koppen_main")).RMSE
    scale = score(scales, groups_of(scales)).RMSE.isel(group=0, drop=True)
    pooled = score(sums, groups_of(sums)).RMSE
    table = xr.concat([pooled, scale.rename(scale="group"), climate], "group")
    table = table.reindex(group=list(PARTS)).assign_coords(group=list(PARTS.values()))
    table = table.rename(group="part").transpose("model", "part", "flux")
    return table.stack(at=("part", "flux")).to_pandas()  # noqa: PD013


def oracles(sums: xr.Dataset) -> pd.DataFrame:
    """Pooled RMSE (gC m-2 d-1) that oracles, which know the labels, leave at each tower.

    Index model; columns oracle, flux: `AS_IT_IS`; `NO_BIAS`, without the mean error of each tower;
    `NO_LINE`, observations regressed on predictions at each tower.
    """
    line = (sums.joint**2 / sums.spread.where(sums.spread > 0)).fillna(0)
    left = [sums.square, sums.square - sums.error**2 / sums.n, sums.within - line]
    days = sums.n.sum()
    parts = [np.sqrt(v.sum("site") / days).transpose("model", "flux").to_pandas() for v in left]
    table = pd.concat(parts, axis=1, keys=[AS_IT_IS, NO_BIAS, NO_LINE], names=["oracle", "flux"])
    return table.rename_axis("model")


def by_step() -> pd.DataFrame:
    """Compare each stored step with the one before it."""
    pairs = [*zip(steps.STEPS[1:], steps.STEPS, strict=False)]
    pairs += [(m, steps.STEPS[-1]) for m in steps.DRIVERS]
    return paired(read(stored("steps")).sums, pairs)


def what_is_left() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read what `tamrl.study.comparisons.steps` found in the mean errors of the ensemble."""
    folder = stored("steps") / "left"
    distance, attributes = (read_csv(folder / f"{n}.csv")[1] for n in ("distance", "attributes"))
    return distance, attributes.assign(attribute=attributes.attribute.map(spell))


def step_values(
    changes: pd.DataFrame, distance: pd.DataFrame, attributes: pd.DataFrame
) -> dict[str, str]:
    """Values of the page by flux: ``phenology_…``, ``labels_…``, ``weights_…``, ``rain_…``, ….

    ``far``: largest |correlation| of errors of towers beyond 50 km; ``rho``: of an attribute.
    """
    names = ("phenology", "labels", "weights", "rain", "daily_rain")
    out: dict[str, str] = {}
    for key, model in zip(names, (*steps.STEPS[1:], *steps.DRIVERS), strict=True):
        out |= change_values(key, main_score(changes[changes.model == model]))
    far = distance[distance.km > steps.KM[0]].correlation.abs().max()
    least = attributes.p.min() * len(attributes)
    out |= {"far": f"{far:.2f}", "rho": f"{attributes.rho.abs().max():.2f}"}
    out |= {"n_tests": str(len(attributes)), "least_p": f"{min(least, 1):.2g}"}
    return out | {"first": f"{attributes.flux[0]}, {attributes.attribute[0]}"}


def beside(results: Results) -> dict[str, Results]:
    """Give the experiment and, where it used real towers, the stored tables of the others."""
    others = () if results.attrs["virtual"] else ("ablation", "benchmark")
    return {"directions": results} | {name: read(stored(name)) for name in others}


def members_gain(several: Mapping[str, Results]) -> pd.DataFrame:
    """RMSE of the mean over several seeds; its ``gain``: % less than the mean of ``single``."""
    parts = []
    for name, results in several.items():
        alone = results.seeds.groupby(["model", "flux"], sort=False).RMSE
        table = alone.agg(members="size", single="mean", best="min")
        pooled = summarise(results.sums).set_index(["model", "flux"]).RMSE
        table = table[table.members > 1].join(pooled).reset_index()
        parts.append(table.assign(experiment=name, gain=100 * (1 - table.RMSE / table.single)))
    return pd.concat(parts, ignore_index=True)[GAIN]


def values(oracle: pd.DataFrame, gain: pd.DataFrame) -> dict[str, str]:
    """Values of the page: the lowest zero-shot RMSE beside aims, oracles, the gain of members."""
    zero_shot = oracle.drop(SEEN, errors="ignore")[AS_IT_IS]
    out = {"n_virtual": f"{N_VIRTUAL:,}", "n_many": f"{MANY:,}", "n_sets": str(DATASETS)}
    for flux in zero_shot:
        out[f"best_{flux}"] = f"{zero_shot[flux].min():.2f} ({zero_shot[flux].idxmin()})"
        out |= {f"{aim}_{flux}": f"{values[flux]:.2f}" for aim, values in AIMS.items()}
        cells = {"plain": (NETWORK, AS_IT_IS), "no_bias": (NETWORK, NO_BIAS)}
        cells |= {"no_line": (NETWORK, NO_LINE), "seen": (SEEN, AS_IT_IS)}
        for key, (model, column) in cells.items():
            there = model in oracle.index
            out[f"{key}_{flux}"] = f"{oracle.loc[model, (column, flux)]:.2f}" if there else ABSENT
    low, high = (value + 0.0 for value in gain.gain.agg(["min", "max"]).round(1))  # never -0.0
    out["gain"] = f"{low:.1f} to {high:.1f} %" if len(gain) else ABSENT
    return out | {"commit": models.COMMIT}
