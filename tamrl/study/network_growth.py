"""Does the rule for the next tower find towers that help? Tried on the towers that exist.

A third of the towers is kept for scoring, a few form the network to begin with, the rest are taken
in by the rule of `tamrl.maps.network_design` or by chance, and the map model is fitted anew each time. The rule
sees where towers stand, never their fluxes; its weights of predictors come from the network to
begin with alone. The places of all towers outside that network stand for the land.
"""

from __future__ import annotations

from collections.abc import Sequence

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.applicability import feature_space, held_out, tower_blocks
from tamrl.maps.boosted import MAP_FEATURES, BoostedMap, model_inputs
from tamrl.maps.network_design import cover, greedy

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

TREES = 80  # the same for all networks, so that only their towers differ
SCORED = 1 / 3  # share of blocks of towers that are kept for scoring
FOLDS = 3  # for the importance of predictors in the network to begin with
DRAWS = 1000  # of blocks of towers, for an interval


def withheld_towers(
    table: xr.Dataset,
    repeats: int = 16,
    start: int = 40,
    steps: Sequence[int] = (5, 10, 20, 40),
    by_chance: int = 2,
    seed: int = 0,
    jobs: int = 2,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare networks grown by the rule with networks grown by chance, at towers of neither.

    Parameters
    ----------
    table
        From `tamrl.maps.boosted.monthly_training_table`, towers with fluxes only.
    repeats
        Random partitions of the towers into scored, beginning, and withheld.
    start
        Towers of the network to begin with.
    steps
        Numbers of towers added.
    by_chance
        Random networks in each partition.
    seed, jobs
        Of the partitions; processes at a time.

    Returns
    -------
    curve, verdict
        flux, added, rule, chance: RMSE at scored towers, gC m-2 d-1; and by flux the change of
        RMSE by the rule against chance over all steps, %, with its interval (90 %, drawing blocks
        of towers): change, lower, upper.

    Raises
    ------
    DataError
        When there are too few towers to withhold that many.
    """
    block = tower_blocks(table)
    least = int(table.sizes["site"] * (1 - SCORED) * 0.8)
    if start + max(steps) > least:
        raise DataError(
            f"withheld towers: {start} to begin with and {max(steps)} to add are more than the "
            f"{least} that {table.sizes['site']} towers spare; lower start or steps"
        )
    settings = (table, block, start, tuple(steps), by_chance)
    runs = joblib.Parallel(jobs)(
        joblib.delayed(_partition)(*settings, [seed, k]) for k in range(repeats)
    )
    error = np.stack(runs)  # (repeat, way, step, site, flux), squared; NaN where not scored
    scored = np.isfinite(error[:, 0, 0, :, 0]).any(axis=0)
    rule = np.nanmean(error[:, 0][:, :, scored], axis=0)  # (step, site, flux)
    chance = np.nanmean(error[:, 1][:, :, scored], axis=0)
    added = [0, *steps]
    rows = [
        (flux, n, np.sqrt(rule[i, :, k].mean()), np.sqrt(chance[i, :, k].mean()))
        for k, flux in enumerate(FLUXES)
        for i, n in enumerate(added)
    ]
    curve = pd.DataFrame(rows, columns=["flux", "added", "rule", "chance"])
    return curve, _verdict(rule[1:], chance[1:], block[scored], seed)


def _partition(
    table: xr.Dataset,
    block: Indices,
    start: int,
    steps: Sequence[int],
    by_chance: int,
    seed: Sequence[int],
) -> Floats:
    """Squared errors (way, step, site, flux) of one partition; ways are the rule and chance."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.unique(block))
    scored = np.isin(block, blocks[: round(len(blocks) * SCORED)])
    rest = rng.permutation(np.flatnonzero(~scored))
    begin, pool, test = rest[:start], rest[start:], np.flatnonzero(scored)

    first = table.isel(site=begin)
    fold = np.unique(block[begin], return_inverse=True)[1]
    fold = rng.permutation(fold.max() + 1)[fold] % FOLDS
    _, importance = held_out(first, fold, int(rng.integers(2**31)), repeats=1, rounds=TREES)
    space = feature_space(first, importance, fold)
    x = table["x"].sel(feature=list(MAP_FEATURES)).to_numpy()
    land = np.ones(len(x))
    land[begin] = 0
    cells = cover(space.place(model_inputs(x)), land, space.points)
    order, _ = greedy(cells, pool, max(steps))

    ways = [[order], [rng.permutation(pool)[: max(steps)] for _ in range(by_chance)]]
    out = np.full((2, 1 + len(steps), len(x), len(FLUXES)), np.nan)
    out[:, 0, test] = _errors(table, begin, test)  # nothing added yet: the same for both
    for w, orders in enumerate(ways):
        for i, n in enumerate(steps, 1):
            networks = [np.concatenate([begin, order[:n]]) for order in orders]
            out[w, i, test] = np.mean([_errors(table, net, test) for net in networks], axis=0)
    return out


def _errors(table: xr.Dataset, network: Indices, test: Indices) -> Floats:
    """Mean squared error over the known months of each test tower (site, flux)."""
    model = BoostedMap(seed=None, rounds=TREES).fit(table, network)
    part = table.isel(site=test)
    predicted = model(part["x"].sel(feature=list(MAP_FEATURES)).to_numpy())
    known = (part["weight"] > 0).to_numpy()[..., None]
    miss = np.where(known, predicted - part["y"].to_numpy(), np.nan)
    return np.asarray(np.nanmean(miss**2, axis=1), np.float64)


def _verdict(rule: Floats, chance: Floats, block: Indices, seed: int) -> pd.DataFrame:
    """Change of RMSE by flux, %, with its interval over blocks of towers."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(block == b) for b in np.unique(block)]
    picks = [rng.integers(0, len(members), len(members)) for _ in range(DRAWS)]
    drawn = [np.concatenate([members[i] for i in pick]) for pick in picks]

    def change(sites: Indices) -> Floats:
        ratio = rule[:, sites].mean(axis=(0, 1)) / chance[:, sites].mean(axis=(0, 1))
        return np.asarray(100 * (np.sqrt(ratio) - 1))

    low, high = np.quantile([change(sites) for sites in drawn], [0.05, 0.95], axis=0)
    whole = change(np.arange(len(block)))
    return pd.DataFrame({"flux": FLUXES, "change": whole, "lower": low, "upper": high})


def withheld_in_words(verdict: pd.DataFrame) -> str:
    """Say what `withheld_towers` found, flux by flux, in a sentence without its full stop."""
    kinds = {
        "lower": verdict["upper"] < 0,
        "higher": verdict["lower"] > 0,
        "not measurably different": (verdict["lower"] <= 0) & (verdict["upper"] >= 0),
    }
    parts: list[str] = []
    for kind, on in kinds.items():
        fluxes = verdict["flux"][on].tolist()
        if fluxes:
            named = ", ".join(fluxes[:-1]) + " and " * (len(fluxes) > 1) + fluxes[-1]
            parts.append(f"that of {named} {kind}" if parts else f"the error of {named} is {kind}")
    return f"With towers added by the rule instead of by chance, {', '.join(parts)}"
