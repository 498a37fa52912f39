"""Tests of notebook 11: dissimilarity as a warning of errors, and the rule for the next tower.

Errors are those of the map's average year at towers that its members never saw. The rule for the
next tower is tried on towers that exist: a third is withheld for scoring, a few form the first
network, the rest are added by the rule of `tamrl.maps.network_design` or by chance. The rule sees
where towers stand, never their fluxes; its weights of attributes come from the first network.
Hundreds of networks are trained, so the learner is a fast one: boosted trees on the grid.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.monthly import BoostedMap
from tamrl.maps.network_design import Cover, greedy
from tamrl.maps.training import Indices, table_samples, tower_blocks
from tamrl.parallel import in_parallel
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import blocks
from tamrl.shipped.applicability import Space, attribute_space
from tamrl.study.comparisons.maps import AVERAGE

Floats = npt.NDArray[np.float64]

TREES = 80  # the same for all networks, so that only their towers differ
SCORED = 1 / 3  # share of blocks of towers that are withheld for scoring


def _resampled(block: Indices, n: int, seed: int) -> list[Indices]:
    """Positions of towers in ``n`` bootstrap samples of whole blocks, for a 90 % interval."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(block == b) for b in np.unique(block)]
    picks = [rng.integers(0, len(members), len(members)) for _ in range(n)]
    return [np.concatenate([members[i] for i in pick]) for pick in picks]


def tower_errors(seasons: pd.DataFrame, samples: Samples, space: Space) -> pd.DataFrame:
    """Tabulate held-out towers (site): index, block, mean GPP and RMSE by flux, gC m-2 d-1.

    ``seasons``: the map's own, of `tamrl.study.comparisons.maps.seasons`; ``space``: of the
    towers of ``samples``, whose indices are each against towers of other folds.
    """
    columns = {"index": space.training, "block": blocks(samples.table)}
    towers = pd.DataFrame(columns, pd.Index(samples.site, name="site"))
    by = seasons.groupby("site")
    towers["GPP"] = by["GPP observed"].mean()
    for flux in FLUXES:
        miss = (seasons[f"{flux} {AVERAGE}"] - seasons[f"{flux} observed"]) ** 2
        towers[f"RMSE {flux}"] = np.sqrt(miss.groupby(seasons["site"]).mean())
    return towers.dropna()


def error_growth(towers: pd.DataFrame, draws: int = 500) -> pd.DataFrame:
    """Rank correlation (Spearman) of errors with dissimilarity over towers (`tower_errors`).

    Errors also relative to mean GPP, since towers in dry and cold places, unlike most, have small
    fluxes. Table: flux, error, rho, lower, upper (90 %, blocks of towers resampled), towers.
    """
    index, size = towers["index"].to_numpy(), np.maximum(towers["GPP"].to_numpy(), 0.1)
    drawn, rows = _resampled(towers["block"].to_numpy(), draws, 0), []
    for flux in FLUXES:
        rmse = towers[f"RMSE {flux}"].to_numpy()
        for name, error in (("RMSE", rmse), ("RMSE / GPP", rmse / size)):
            rho = [spearmanr(index[some], error[some]).statistic for some in drawn]
            bounds = np.quantile(rho, [0.05, 0.95])
            rows.append((flux, name, spearmanr(index, error).statistic, *bounds, len(index)))
    return pd.DataFrame(rows, columns=["flux", "error", "rho", "lower", "upper", "towers"])


def error_by_dissimilarity(towers: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Count towers of each quarter of the index and beyond the threshold; their mean errors."""
    index = towers["index"]
    quarter = np.searchsorted(index.quantile([0.25, 0.5, 0.75]), index)
    names = ("nearest quarter", "second", "third", "farthest quarter")
    classes = {name: quarter == i for i, name in enumerate(names)}
    classes["beyond the threshold"] = (index > threshold).to_numpy()
    rows = {name: towers[inside].drop(columns="block") for name, inside in classes.items()}
    counts = {name: len(rows[name]) for name in rows}
    table = pd.DataFrame({name: some.mean() for name, some in rows.items()}).T
    table.insert(0, "towers", pd.Series(counts))
    return table.rename(columns={"GPP": "mean GPP"})


def withheld_towers(
    table: xr.Dataset, samples: Samples, repeats: int = 16, start: int = 40,
    steps: Sequence[int] = (5, 10, 20, 40), seed: int = 0, jobs: int = 2,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Compare networks grown by the rule with networks grown by chance, at towers of neither.

    In each of ``repeats`` partitions ``steps`` towers are added to ``start`` others. ``table``:
    monthly training table of towers with fluxes; ``samples``: the same towers, to place them.
    Tables: flux, added, rule, chance (RMSE at scored towers, gC m-2 d-1); by flux the change of
    RMSE by the rule, %, with lower and upper (90 %, blocks). DataError for too few towers.
    """
    samples = samples.select(pd.Index(samples.site).get_indexer(table["site"].to_index()))
    block = tower_blocks(table)
    least = int(table.sizes["site"] * (1 - SCORED) * 0.8)
    if start + max(steps) > least:
        text = f"withheld towers: {start} to begin with and {max(steps)} to add are more than"
        spare = f"the {least} that {table.sizes['site']} towers spare; lower start or steps"
        raise DataError(f"{text} {spare}")
    runs = [(table, samples, block, start, tuple(steps), [seed, k]) for k in range(repeats)]
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
    table: xr.Dataset, samples: Samples, block: Indices, start: int, steps: Sequence[int],
    seed: Sequence[int],
) -> Floats:  # fmt: skip
    """Squared errors (way, step, site, flux; NaN if not scored) by the rule and by chance."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.unique(block))
    scored = np.isin(block, labels[: round(len(labels) * SCORED)])
    rest = rng.permutation(np.flatnonzero(~scored))
    begin, pool, test = rest[:start], rest[start:], np.flatnonzero(scored)
    space, seasons = attribute_space(samples.select(begin)), table_samples(table)
    land = np.isin(np.arange(len(block)), begin, invert=True).astype(float)
    order, _ = greedy(Cover(space.placed(samples), land, space.points), pool, max(steps))

    def errors(network: Indices) -> Floats:
        """Mean squared error over the known months of each scored tower (site, flux)."""
        model = BoostedMap(bootstrap=False, rounds=TREES).fit(seasons, network)
        miss = model.predict(seasons, test) - seasons.y[test]
        miss = np.where((seasons.weight[test] > 0)[..., None], miss, np.nan)
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
    return ", ".join(f"{kind} ({', '.join(names)})" for kind, names in named.items() if len(names))
