"""Tests of notebook 11: dissimilarity as a warning of errors, and the rule for the next tower.

Of the towers that exist a third is withheld for scoring, a few form the first network, the rest are
added by the rule of `tamrl.maps.network_design` or by chance, and the map model is fitted anew. The
rule sees where towers stand, never fluxes; its weights of predictors come from the first network.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.applicability import FeatureSpace, feature_space, held_out
from tamrl.maps.monthly import BoostedMap
from tamrl.maps.network_design import Cover, greedy
from tamrl.maps.training import MAP_FEATURES, Indices, table_samples, tower_blocks
from tamrl.parallel import in_parallel

Floats = npt.NDArray[np.float64]

TREES = 80  # the same for all networks, so that only their towers differ
SCORED = 1 / 3  # share of blocks of towers that are withheld for scoring
FOLDS = 3  # for the importance of predictors in the network to begin with


def _resampled(block: Indices, n: int, seed: int) -> list[Indices]:
    """Positions of towers in ``n`` bootstrap samples of whole blocks, for a 90 % interval."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(block == b) for b in np.unique(block)]
    picks = [rng.integers(0, len(members), len(members)) for _ in range(n)]
    return [np.concatenate([members[i] for i in pick]) for pick in picks]


def error_growth(
    predictions: xr.Dataset, space: FeatureSpace, block: Indices, draws: int = 500
) -> pd.DataFrame:
    """Rank correlation (Spearman) of towers' errors with the mean dissimilarity of their months.

    Errors also relative to mean GPP, since towers in dry and cold places, unlike most, have small
    fluxes. Table: flux, error, rho, lower, upper (90 %, blocks of towers resampled), towers.
    """
    size = np.nanmean(predictions["observed"].sel(flux="GPP").to_numpy(), axis=1)
    index, samples, rows = np.nanmean(space.training, axis=1), _resampled(block, draws, 0), []
    for flux in FLUXES:
        one = predictions.sel(flux=flux)
        rmse = np.sqrt(np.nanmean((one["mean"] - one["observed"]).to_numpy() ** 2, axis=1))
        for name, error in (("RMSE", rmse), ("RMSE / GPP", rmse / np.maximum(size, 0.1))):
            rho = [spearmanr(index[towers], error[towers]).statistic for towers in samples]
            bounds = np.quantile(rho, [0.05, 0.95])
            rows.append((flux, name, spearmanr(index, error).statistic, *bounds, len(index)))
    return pd.DataFrame(rows, columns=["flux", "error", "rho", "lower", "upper", "towers"])


def error_by_dissimilarity(predictions: xr.Dataset, space: FeatureSpace) -> pd.DataFrame:
    """Months, median index, mean GPP and RMSE (gC m-2 d-1) of held-out towers by class of index."""
    known = np.isfinite(space.training)
    value = space.training[known]
    quarter = np.searchsorted(np.quantile(value, [0.25, 0.5, 0.75]), value)
    names = ("nearest quarter", "second", "third", "farthest quarter")
    classes = {name: quarter == i for i, name in enumerate(names)}
    classes["beyond the threshold"] = value > space.threshold
    miss = (predictions["mean"] - predictions["observed"]).to_numpy()[known]
    gpp = predictions["observed"].sel(flux="GPP").to_numpy()[known]
    rows = {}
    for name, inside in classes.items():
        if inside.any():
            rmse = np.sqrt((miss[inside] ** 2).mean(axis=0))
            rows[name] = (inside.sum(), np.median(value[inside]), gpp[inside].mean(), *rmse)
    columns = ["months", "index", "mean GPP", *(f"RMSE {flux}" for flux in FLUXES)]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).reindex(list(classes))
    return table.fillna({"months": 0}).astype({"months": int})


def withheld_towers(
    table: xr.Dataset, repeats: int = 16, start: int = 40,
    steps: Sequence[int] = (5, 10, 20, 40), seed: int = 0, jobs: int = 2,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Compare networks grown by the rule with networks grown by chance, at towers of neither.

    In each of ``repeats`` partitions ``steps`` towers are added to ``start`` others. Tables: flux,
    added, rule, chance (RMSE at scored towers, gC m-2 d-1); by flux the change of RMSE by the rule,
    %, with lower and upper (90 %, blocks). DataError for too few towers.
    """
    block = tower_blocks(table)
    least = int(table.sizes["site"] * (1 - SCORED) * 0.8)
    if start + max(steps) > least:
        text = f"withheld towers: {start} to begin with and {max(steps)} to add are more than"
        spare = f"the {least} that {table.sizes['site']} towers spare; lower start or steps"
        raise DataError(f"{text} {spare}")
    runs = [(table, block, start, tuple(steps), [seed, k]) for k in range(repeats)]
    error = np.stack(in_parallel(_partition, runs, jobs))  # (repeat, way, step, site, flux)
    scored = np.isfinite(error[:, 0, 0, :, 0]).any(axis=0)
    rule, chance = np.nanmean(error[..., scored, :], axis=0)  # (step, site, flux)
    rows = [
        (flux, n, np.sqrt(rule[i, :, k].mean()), np.sqrt(chance[i, :, k].mean()))
        for k, flux in enumerate(FLUXES) for i, n in enumerate([0, *steps])
    ]  # fmt: skip

    def change(sites: Indices) -> Floats:
        ratio = rule[1:, sites].mean(axis=(0, 1)) / chance[1:, sites].mean(axis=(0, 1))
        return np.asarray(100 * (np.sqrt(ratio) - 1))

    resampled = map(change, _resampled(block[scored], 1000, seed))
    low, high = np.quantile([*resampled], [0.05, 0.95], axis=0)
    whole = change(np.arange(int(scored.sum())))
    verdict = pd.DataFrame({"flux": FLUXES, "change": whole, "lower": low, "upper": high})
    return pd.DataFrame(rows, columns=["flux", "added", "rule", "chance"]), verdict


def _partition(
    table: xr.Dataset, block: Indices, start: int, steps: Sequence[int], seed: Sequence[int]
) -> Floats:
    """Squared errors (way, step, site, flux; NaN if not scored) by the rule and by chance."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.unique(block))
    scored = np.isin(block, blocks[: round(len(blocks) * SCORED)])
    rest = rng.permutation(np.flatnonzero(~scored))
    begin, pool, test = rest[:start], rest[start:], np.flatnonzero(scored)
    first = table.isel(site=begin)
    fold = np.unique(block[begin], return_inverse=True)[1]
    fold = rng.permutation(fold.max() + 1)[fold] % FOLDS
    _, importance = held_out(first, fold, int(rng.integers(2**31)), repeats=1, rounds=TREES)
    space, samples = feature_space(first, importance, fold), table_samples(table)
    land = np.isin(np.arange(len(block)), begin, invert=True).astype(float)
    points = space.place(table["x"].sel(feature=list(MAP_FEATURES)).to_numpy())
    order, _ = greedy(Cover(points, land, space.points), pool, max(steps))

    def errors(network: Indices) -> Floats:
        """Mean squared error over the known months of each scored tower (site, flux)."""
        model = BoostedMap(bootstrap=False, rounds=TREES).fit(samples, network)
        miss = model.predict(samples, test) - samples.y[test]
        miss = np.where((samples.weight[test] > 0)[..., None], miss, np.nan)
        return np.asarray(np.nanmean(miss**2, axis=1), np.float64)

    ways = [[order], [rng.permutation(pool)[: max(steps)] for _ in range(2)]]
    out = np.full((2, 1 + len(steps), len(block), len(FLUXES)), np.nan)
    out[:, 0, test] = errors(begin)  # nothing added yet: the same for both
    for w, orders in enumerate(ways):
        for i, n in enumerate(steps, 1):
            networks = [np.concatenate([begin, added[:n]]) for added in orders]
            out[w, i, test] = np.mean([errors(network) for network in networks], axis=0)
    return out


def by_sign(table: pd.DataFrame, rises: str, falls: str, neither: str) -> str:
    """Name the fluxes whose interval (lower, upper) is above 0, below 0, or includes it."""
    sign = np.select([table["lower"] > 0, table["upper"] < 0], [rises, falls], neither)
    named = {kind: table["flux"][sign == kind] for kind in (rises, falls, neither)}
    return "; ".join(f"{', '.join(names)}: {kind}" for kind, names in named.items() if len(names))
