"""What the support set is worth on real towers, to the networks of the ensemble that ships.

The title idea of task-aware modulation is that a place's own history shows what kind of place it
is. So at towers that the networks never saw their support set is exchanged for that of another
tower, or taken away; all else, the weather of the day and the facts of the place, stays.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.scores import LEVEL, bootstrap_weights
from tamrl.evaluate.tables import read_plain, stored
from tamrl.files import atomic_write
from tamrl.model.tensors import DeviceData
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.shipped import pretrained, weights_file
from tamrl.shipped.out_of_fold import FoldEnsemble
from tamrl.shipped.weights import networks_alone
from tamrl.sources import load_towers
from tamrl.study.comparisons.effects import with_interval
from tamrl.study.comparisons.of_folds import of_folds

OWN, EXCHANGED, ABSENT = "own", "of another tower", "none"
KINDS = (OWN, EXCHANGED, ABSENT)
TABLE = "towers.csv"


def compute(towers: str = "auto", out: Path | None = None, jobs: int = 2, **settings: Any) -> Path:
    """Predict held-out towers by the networks of the folds' ensembles with each of `KINDS`.

    Arguments as of `tamrl.study.comparisons.of_folds.of_folds`. Returns the path of the table:
    support, site, flux, n (scored days), square (sum of squared errors, gC2 m-4 d-2).
    """
    samples, each, _, folder = of_folds("support", towers, out, jobs=jobs, **settings)
    tasks = [(samples.select(fold.test), fold) for fold in each]
    table = pd.concat(in_parallel(_fold, tasks, jobs, "support sets"), ignore_index=True)
    with atomic_write(folder / TABLE) as part:
        table.to_csv(part, index=False, float_format="%.6g")
    return folder / TABLE


def _fold(samples: Samples, fold: FoldEnsemble) -> pd.DataFrame:
    """Squared errors at a fold's test towers; ``samples`` are these."""
    mean: dict[str, NDArray] = {kind: np.zeros(samples.y.shape) for kind in KINDS}
    for path in fold.members:
        members, header = weights_file.load(path, "cpu")
        networks = networks_alone(members)
        for network in networks:
            given = pretrained.suited(samples, header)
            while hasattr(network, "inputs"):
                given, network = network.inputs(given), network.fitted[0]
            data = DeviceData(given, network.net, torch.device("cpu"))
            for kind in KINDS:
                flux = network.predict(given, np.arange(len(given.site)), data=_with(data, kind))
                mean[kind] += flux / (len(networks) * len(fold.members))
    rows = []
    for kind, flux in mean.items():
        square = np.where(samples.scored[..., None], (flux - samples.y) ** 2, 0).sum(1)
        for k, f in enumerate(FLUXES):
            about = {"support": kind, "site": samples.site, "flux": f}
            rows.append(pd.DataFrame({**about, "n": samples.scored.sum(1), "square": square[:, k]}))
    return pd.concat(rows)


def _with(data: DeviceData, kind: str) -> DeviceData:
    """Exchange the support sets of towers for those half the list away, or take them away."""
    other, n = copy.copy(data), len(data.support.usable)
    other.support = copy.copy(data.support)
    if kind == EXCHANGED:
        at = np.roll(np.arange(n), max(n // 2, 1))
        other.support.x, other.support.seen = data.support.x[at], data.support.seen[at]
        other.support.usable = data.support.usable[at]
    elif kind == ABSENT:
        other.support.usable = np.zeros_like(data.support.usable)
    return other


def load(towers: str = "auto", **settings: Any) -> pd.DataFrame:
    """Read the stored table of real towers, or compute that of virtual ones."""
    if towers == "virtual" or (towers == "auto" and load_towers(towers).attrs["virtual"]):
        return pd.read_csv(compute(towers, **settings))
    path = stored("support") / TABLE
    if not path.exists():
        raise DataError(f"{path}: no such table; compute it: tamrl compare support")
    return read_plain(path, "support", "site", "flux", "n", "square")


def changes(table: pd.DataFrame, kinds: Sequence[str] = (EXCHANGED, ABSENT)) -> pd.DataFrame:
    """Compare errors with those of the own support set: a row a kind and flux.

    Columns support, flux, towers, RMSE (mean over towers, gC m-2 d-1), change, lower, upper (% of
    the mean over towers with the own support set, paired, 90 % bootstrap interval), pooled (%).
    """
    wide = table[table.n > 0].set_index(["flux", "site", "support"])
    each = wide.assign(rmse=np.sqrt(wide.square / wide.n)).reset_index()
    rmse, rows = each.pivot_table("rmse", ["flux", "site"], "support"), []
    for kind in kinds:
        for flux in FLUXES:
            pair = rmse.loc[flux][[kind, OWN]].to_numpy()
            sums = bootstrap_weights(len(pair)) @ pair
            low, high = np.quantile(sums[:, 0] / sums[:, 1] - 1, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            total = wide.loc[flux].groupby("support").square.sum()
            rows.append({
                "support": kind, "flux": flux, "towers": len(pair), "RMSE": pair[:, 0].mean(),
                "change": 100 * (pair[:, 0].mean() / pair[:, 1].mean() - 1), "lower": 100 * low,
                "upper": 100 * high, "pooled": 100 * (np.sqrt(total[kind] / total[OWN]) - 1),
            })  # fmt: skip
    return pd.DataFrame(rows)


def values(worth: pd.DataFrame) -> dict[str, str]:
    """Gather what the pages quote of `changes`."""
    short, out = {EXCHANGED: "exchanged", ABSENT: "absent"}, {}
    for _, row in worth.iterrows():
        name = f"{short[row.support]}_{row.flux}"
        out[f"support_{name}"] = with_interval(row)
        out[f"worth_{name}"] = out[f"support_{name}"].partition(" [")[0]
    return out
