"""Is dissimilarity a warning? The error at held-out towers against it, and in words.

Whatever comes out is printed as it is: an index that does not tell where a model errs is a result.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from tamrl.data.schema import FLUXES
from tamrl.maps.applicability import FeatureSpace, Indices

DRAWS = 500  # of towers, for an interval


def error_growth(
    predictions: xr.Dataset, space: FeatureSpace, block: Indices, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """Correlate the error at held-out towers with their dissimilarity, by rank.

    Spearman's rho over towers between the mean index of a tower's months and its error: as it is
    (RMSE), and relative to the size of its fluxes (RMSE over observed mean GPP), since towers in
    dry and cold places differ from most and have small fluxes. The interval (90 %) is from
    drawing blocks of towers with replacement.

    Returns
    -------
    Table with flux, error ("RMSE", "RMSE / GPP"), rho, lower, upper, towers.
    """
    size = np.nanmean(predictions["observed"].sel(flux="GPP").to_numpy(), axis=1)
    index = np.nanmean(space.training, axis=1)
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(block == b) for b in np.unique(block)]
    picks = [rng.integers(0, len(members), len(members)) for _ in range(draws)]
    rows = []
    for flux in FLUXES:
        one = predictions.sel(flux=flux)
        miss = (one["mean"] - one["observed"]).to_numpy()
        rmse = np.sqrt(np.nanmean(miss**2, axis=1))
        for name, error in (("RMSE", rmse), ("RMSE / GPP", rmse / np.maximum(size, 0.1))):
            drawn = [np.concatenate([members[i] for i in pick]) for pick in picks]
            rho = [spearmanr(index[d], error[d]).statistic for d in drawn]
            low, high = np.quantile(rho, [0.05, 0.95])
            whole = spearmanr(index, error).statistic
            rows.append((flux, name, whole, low, high, len(index)))
    return pd.DataFrame(rows, columns=["flux", "error", "rho", "lower", "upper", "towers"])


def error_by_dissimilarity(predictions: xr.Dataset, space: FeatureSpace) -> pd.DataFrame:
    """RMSE of held-out tower-months, gC m-2 d-1, by quarters of the index and beyond the threshold.

    Returns
    -------
    Table by class of index: months, index (median), mean GPP, RMSE of each flux.
    """
    known = np.isfinite(space.training)
    value = space.training[known]
    edges = np.quantile(value, [0.25, 0.5, 0.75])
    quarter = np.searchsorted(edges, value)
    names = ("nearest quarter", "second", "third", "farthest quarter")
    classes = {name: quarter == i for i, name in enumerate(names)}
    classes["beyond the threshold"] = value > space.threshold
    miss = (predictions["mean"] - predictions["observed"]).to_numpy()[known]
    gpp = predictions["observed"].sel(flux="GPP").to_numpy()[known]
    rows = {}
    for name, on in classes.items():
        rmse = np.sqrt((miss[on] ** 2).mean(axis=0)) if on.any() else np.full(3, np.nan)
        middle = np.median(value[on]) if on.any() else np.nan
        mean = gpp[on].mean() if on.any() else np.nan
        rows[name] = (int(on.sum()), middle, mean, *rmse)
    columns = ["months", "index", "mean GPP", *(f"RMSE {flux}" for flux in FLUXES)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def growth_in_words(growth: pd.DataFrame) -> str:
    """Say what `error_growth` found, flux by flux, in a sentence without its full stop."""
    plain, relative = (_verdict(part) for _, part in growth.groupby("error", sort=True))
    return f"At towers held out, {plain}; relative to their GPP, {relative}"


def _verdict(table: pd.DataFrame) -> str:
    """Say of which fluxes the error grows, falls or does neither."""
    kinds = {
        "grows with dissimilarity": table["lower"] > 0,
        "falls with it": table["upper"] < 0,
        "does not change measurably with it": (table["lower"] <= 0) & (table["upper"] >= 0),
    }
    parts: list[str] = []
    for kind, on in kinds.items():
        fluxes = table["flux"][on].tolist()
        if fluxes:
            named = ", ".join(fluxes[:-1]) + " and " * (len(fluxes) > 1) + fluxes[-1]
            parts.append(f"that of {named} {kind}" if parts else f"the error of {named} {kind}")
    return ", ".join(parts)
