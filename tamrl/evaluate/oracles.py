"""What corrections of a tower could still gain: sums per tower, kept beside a comparison's tables.

An oracle knows what no model of a new tower can: how far its predictions are off there on average,
or by which line they are off. The first follows from the sums that a comparison keeps anyway; the
second needs two more, which lie in ``oracles/<model>.csv``: one row a tower and flux with squares
about their means of the predictions (``spread``) and of predictions times observations (``joint``),
over the scored days, of the mean over seeds; (gC m-2 d-1)^2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.evaluate.tables import Results, read_csv, write_csv

if TYPE_CHECKING:
    from tamrl.samples.arrays import Samples
    from tamrl.samples.splits import Fold

FOLDER = "oracles"
AS_IT_IS, NO_BIAS, NO_LINE = "as it is", "constant bias removed", "offset and slope removed"


def sum_up(pred: xr.Dataset, samples: Samples, folds: Sequence[Fold]) -> pd.DataFrame:
    """Sum one model's predictions (model, seed, site, time) by tower: site, flux, spread, joint."""
    mean = pred.isel(model=0, drop=True).mean("seed", skipna=False)
    rows = []
    for i in np.sort(np.concatenate([fold.test for fold in folds])):
        on = samples.scored[i]
        for k, flux in enumerate(samples.targets):
            p = mean[flux].values[i, on].astype(float)
            y = samples.y[i, on, k].astype(float)
            p = p - p.mean() if p.size else p
            row = {"site": samples.site[i], "flux": flux}
            rows.append(row | {"spread": float(p @ p), "joint": float(p @ y)})
    return pd.DataFrame(rows)


def write(out: Path, slug: str, made: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Keep one model's sums under the key of its other table."""
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    about = {name: made[name] for name in ("model", "key", "format")}
    write_csv(out / FOLDER / f"{slug}.csv", about, table)


def read(found: Results) -> dict[str, pd.DataFrame]:
    """Read the sums (index site, flux) of the models of a comparison that have them.

    Sums of another making than the model's table, by their keys, are left out.
    """
    out = {}
    for path in sorted((found.folder / FOLDER).glob("*.csv")):
        about, table = read_csv(path)
        name = str(about.get("model"))
        if name in found.sums.models and found.about["key"].get(name) == about.get("key"):
            out[name] = table.set_index(["site", "flux"])
    return out


def table(found: Results) -> pd.DataFrame:
    """Pooled RMSE of each model as it is, and with what an oracle would correct at each tower.

    Returns
    -------
    Table (index model; columns oracle, flux), gC m-2 d-1: `AS_IT_IS`; `NO_BIAS`, the mean error of
    each tower taken away; `NO_LINE`, observations regressed on predictions at each tower (NaN for
    a model whose sums do not tell).
    """
    sums = found.sums
    days = sums.n.sum()
    more = read(found)
    parts: dict[tuple[str, str], list[float]] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        no_bias = sums.square - sums.error**2 / sums.n[:, None]
    for f, flux in enumerate(sums.fluxes):
        parts[AS_IT_IS, flux] = list(np.sqrt(sums.square[..., f].sum(1) / days))
        parts[NO_BIAS, flux] = list(np.sqrt(np.nansum(no_bias[..., f], 1) / days))
        parts[NO_LINE, flux] = []
        for name in sums.models:
            left = np.full(1, np.nan)
            if name in more:
                at = pd.MultiIndex.from_product([sums.towers.site, [flux]])
                own = more[name].reindex(at)[["spread", "joint"]].to_numpy(float)
                spread = np.where(own[:, 0] > 0, own[:, 0], 1)
                told = np.where(own[:, 0] > 0, own[:, 1] ** 2 / spread, 0)
                left = sums.within[:, f] - told
            parts[NO_LINE, flux].append(float(np.sqrt(left.sum() / days)))
    order = [(oracle, flux) for oracle in (AS_IT_IS, NO_BIAS, NO_LINE) for flux in sums.fluxes]
    columns = pd.MultiIndex.from_tuples(order, names=["oracle", "flux"])
    index = pd.Index(sums.models, name="model")
    return pd.DataFrame({column: parts[column] for column in order}, index).set_axis(
        columns, axis=1
    )
