"""Permutation importance: which predictors each flux needs.

A group of predictors is exchanged between days of towers that the models never saw, those that
stand in for each other together, and the error grows (Breiman 2001, doi 10.1023/A:1010933404324).
It shows what a model uses, not what causes the flux.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tamrl.model.tensors import DeviceData
from tamrl.model.train import TamRLModel
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples, process_scalars
from tamrl.study.out_of_fold import Fitted, bootstrap_rmse, interval, on_device, tower_squares

GROUPS = {  # beginnings of names
    "light": ("SW_IN", "SW_POT", "DAYLENGTH"), "temperature": ("TA", "LST"), "humidity": ("VPD",),
    "greenness": ("FPAR", "LAI", "NDWI", "SIF", "EVI"), "water": ("PRCP", "SM", "PET", "SNOW"),
}  # fmt: skip
FACTS, HISTORY = "place facts", "own history"  # static attributes; the support set of z
SCALARS = ("TA", "VPD", "SW_IN")  # drivers of the light-use and respiration scalars

Groups = Mapping[str, tuple[str, ...]]


def members(features: Sequence[str], groups: Groups = GROUPS) -> dict[str, list[int]]:
    """Positions of each group's drivers; ValueError for a driver in no group."""
    out = {g: [i for i, f in enumerate(features) if f.startswith(p)] for g, p in groups.items()}
    for i in sorted({*range(len(features))}.difference(*out.values())):
        raise ValueError(f"driver {features[i]} is in none of the groups {', '.join(groups)}")
    return {g: of for g, of in out.items() if of}


def permutation(fits: Sequence[Fitted], samples: Samples, groups: Groups = GROUPS, repeats: int = 1,
                n_boot: int = 500, seed: int = 0, jobs: int = 1) -> pd.DataFrame:  # fmt: skip
    """Rise of the error at unseen towers when a group of predictors is exchanged.

    Drivers, and process scalars with them, are exchanged between all days of a fold's held-out
    towers (z stays), ``place facts`` and ``own history`` between towers. Columns predictors, flux,
    igbp ("all" or a class), towers, RMSE (undisturbed), rise, lower, upper (gC m-2 d-1; 90 %
    bootstrap interval over towers).
    """
    tasks = [(m, samples.select(test), groups, repeats, seed + i)
             for i, (m, test) in enumerate(fits)]  # fmt: skip
    parts = in_parallel(_squares, tasks, jobs)
    squares = {kind: np.concatenate([part[kind] for part in parts]) for kind in parts[0]}
    towers = np.concatenate([test for _, test in fits])
    n, label = samples.scored[towers].sum(1), samples.table.igbp.to_numpy(str)[towers]
    rows = []
    for name in ("all", *sorted(set(label[n > 0]))):
        inside = (n > 0) & ((label == name) | (name == "all"))
        base = bootstrap_rmse(squares[""][inside], n[inside], n_boot, seed)
        for kind in (k for k in squares if k):
            rise = bootstrap_rmse(squares[kind][inside], n[inside], n_boot, seed) - base
            low, high = interval(rise)
            rows.append(pd.DataFrame({"predictors": kind, "flux": samples.targets, "igbp": name,
                                      "towers": int(inside.sum()), "RMSE": base[0], "rise": rise[0],
                                      "lower": low, "upper": high}))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def values(rises: pd.DataFrame) -> dict[str, str]:
    """Gather the rises by group and flux, and the leading single group of each flux."""
    whole = rises[rises.igbp == "all"]
    out = {"n_towers": str(whole.towers.max())}
    for row in whole.itertuples():
        out[f"rise_{row.predictors}_{row.flux}".replace(" ", "_")] = f"{row.rise:.2f}"
    single = whole[~whole.predictors.str.contains(" x ")]
    for row in single.loc[single.groupby("flux").rise.idxmax()].itertuples():
        out[f"first_{row.flux}"] = str(row.predictors)
        out[f"first_rise_{row.flux}"] = f"{row.rise:.2f}"
    return out


def _squares(model: TamRLModel, samples: Samples, groups: Groups, repeats: int,
             seed: int) -> dict[str, NDArray]:  # fmt: skip
    """Squared errors (tower, flux), undisturbed ("") and with each kind exchanged."""
    (net, data), rng = on_device(model, samples), np.random.default_rng(seed)
    columns = members(samples.features, groups)
    out = {"": tower_squares(model, samples, data)}
    for kind in (*columns, FACTS, *[HISTORY] * (net.encoder is not None)):
        runs = (exchanged(data, samples, kind, columns, rng) for _ in range(repeats))
        out[kind] = np.mean([tower_squares(model, samples, run) for run in runs], 0)
    return out


def exchanged(data: DeviceData, samples: Samples, kind: str, columns: Mapping[str, list[int]],
              rng: np.random.Generator) -> DeviceData:  # fmt: skip
    """Copy the tensors with one kind of predictor exchanged between tower-days, or towers."""
    out = copy.copy(data)
    other = torch.from_numpy(rng.permutation(len(samples.site)))
    if kind == FACTS:
        out.static = data.static[other]
    elif kind == HISTORY:
        out.support = copy.copy(data.support)
        out.support.x, out.support.seen = data.support.x[other], data.support.seen[other]
        out.support.usable = data.support.usable[other.numpy()]
    else:
        site, day = days = np.nonzero(samples.has_drivers)
        order = rng.permutation(len(site))
        source = site[order], day[order]
        at = data.at(site, day[:, None])[:, 0]
        old = at[torch.from_numpy(order).to(at.device)]
        out.x, out.seen, out.process = data.x.clone(), data.seen.clone(), data.process.clone()
        for i in columns[kind]:
            out.x[at, i], out.seen[at, i] = data.x[old, i], data.seen[old, i]
        index = map(samples.features.index, SCALARS)
        raw = [samples.x[..., i][source if i in columns[kind] else days] for i in index]
        scalars = torch.nan_to_num(torch.from_numpy(process_scalars(*raw)), nan=1.0)
        out.process[at] = scalars.to(out.process)
    return out
