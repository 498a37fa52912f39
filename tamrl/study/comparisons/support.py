"""What the support set is worth on real towers, to the networks of the ensemble that ships.

The title idea of task-aware modulation is that a place's own history tells what kind of place it
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
from tamrl.evaluate.tables import stored
from tamrl.files import atomic_write
from tamrl.model.tensors import DeviceData
from tamrl.model.train import Recipe
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import folds
from tamrl.shipped import ensemble, pretrained
from tamrl.shipped.out_of_fold import FoldEnsemble, fold_ensembles
from tamrl.shipped.weights import networks_alone
from tamrl.sources import load_towers, load_training
from tamrl.study.comparisons.effects import with_interval

OWN, EXCHANGED, ABSENT = "own", "of another tower", "none"
KINDS = (OWN, EXCHANGED, ABSENT)
TABLE = "towers.csv"


def compute(
    towers: str = "auto", out: Path | None = None, every: int = 1, n_folds: int = 10,
    members: int = 3, epochs: int | None = None, jobs: int = 2, device: str = "cpu",
) -> Path:  # fmt: skip
    """Predict held-out towers by the networks of the folds' ensembles with each of `KINDS`.

    Arguments as of `tamrl.study.comparisons.maps.compute`. Returns the path of the table: support,
    site, flux, n (scored days), square (sum of squared errors, gC2 m-4 d-2).
    """
    samples, training = load_training(towers, every)
    quick = epochs is not None or every > 1 or bool(samples.attrs["virtual"])
    source = Path("runs") / str(samples.attrs["tower_source"])
    make = ensemble.factory(device=device)
    if epochs is not None:
        make = ensemble.factory("network", Recipe(epochs=epochs), device, 0)
    parts = folds(samples, n_folds)
    each = fold_ensembles(training, make, parts, members, source / "folds", 0, jobs)
    tasks = [(samples.select(fold.test), fold) for fold in each]
    table = pd.concat(in_parallel(_fold, tasks, jobs, "support sets"), ignore_index=True)
    folder = out or (source / "support" if quick else Path("results/support"))
    with atomic_write(folder / TABLE) as part:
        table.to_csv(part, index=False, float_format="%.6g")
    return folder / TABLE


def _fold(samples: Samples, fold: FoldEnsemble) -> pd.DataFrame:
    """Squared errors at a fold's test towers; ``samples`` are these."""
    mean: dict[str, NDArray] = {kind: np.zeros(samples.y.shape) for kind in KINDS}
    for path in fold.members:
        members, header = pretrained.load(path, "cpu")
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
    return pd.read_csv(path)


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
    short = {EXCHANGED: "exchanged", ABSENT: "absent"}
    rows = [row for _, row in worth.iterrows()]
    return {f"support_{short[row.support]}_{row.flux}": with_interval(row) for row in rows}
