"""Other ways to hold towers out, and how skill falls as places differ from those trained on.

The main table deals towers to folds at random, 50 km apart. Dealing by climate asks the same with
every climate in every fold; leaving a whole vegetation class out asks for a kind of place that no
training tower resembles. Dissimilarity to the nearest training tower lies between the two. Taking
the satellites away at the tested towers asks for what a tower of one's own mostly has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist

from tamrl.evaluate.sums import Sums, summarise
from tamrl.evaluate.tables import Results
from tamrl.samples.arrays import Samples
from tamrl.shipped.annual import CLASSES
from tamrl.study.comparisons import models
from tamrl.study.comparisons.effects import ABSENT, paired
from tamrl.study.comparisons.wording import with_interval

PROTOCOLS: Mapping[str, str] = {
    "benchmark": "towers at random, 50 km apart",
    "climates": "towers dealt by climate, 50 km apart",
    "biomes": "a vegetation class that no training tower has",
    "blind": "satellites taken away at the tested towers",
}
SHOWN = ["model", "flux", "towers", "RMSE", "R2", "bias"]
UNLIKE = ("nearest quarter", "second", "third", "farthest quarter")


def obtain(found: Results, towers: str, recompute: bool, **settings: Any) -> dict[str, Results]:
    """Put the main comparison beside those of the other protocols whose tables are kept.

    Arguments as of `tamrl.study.comparisons.models.load_results`, which raises what is wrong with them; on virtual
    towers, or when asked, they are computed on the spot. One that was never computed is left out,
    and `in_words` says so.
    """
    held = {"benchmark": found}
    for name in PROTOCOLS:
        there = recompute or found.attrs.get("virtual") or models.kept(name).is_dir()
        if name not in held and there:
            held[name] = models.load_results(name, towers, recompute=recompute, **settings)
    return held


def by_protocol(found: Mapping[str, Results], ours: str, models: Sequence[str]) -> pd.DataFrame:
    """Score the same models under several protocols.

    Parameters
    ----------
    found
        Comparisons by the names of `PROTOCOLS`.
    ours, models
        The model that is held against the others; all that are shown, where they are computed.

    Returns
    -------
    Table with columns protocol, model, flux, towers, RMSE, R2, bias, and change, lower, upper: of
    the RMSE of ours from the model's in %, 90 % interval from drawing towers; NaN for ours.
    """
    parts = []
    for name, one in found.items():
        there = [model for model in models if model in one.sums.models]
        scores = summarise(one.sums.select(there))[SHOWN]
        pairs = [(ours, rival) for rival in there if rival != ours]
        if ours in there and pairs:
            changes = paired(one.sums, pairs)[["rival", "flux", "change", "lower", "upper"]]
            scores = scores.merge(changes.rename(columns={"rival": "model"}), how="left")
        parts.append(scores.assign(protocol=PROTOCOLS[name]))
    table = pd.concat(parts, ignore_index=True)
    return table.reindex(columns=["protocol", *SHOWN, "change", "lower", "upper"])


def in_words(table: pd.DataFrame, protocol: str, rival: str) -> str:
    """Say how ours compares with a rival under one protocol; see `by_protocol`."""
    rows = table[(table.protocol == PROTOCOLS[protocol]) & (table.model == rival)]
    if rows.empty or rows.change.isna().any():
        return f"With {PROTOCOLS[protocol]}, the comparison is {ABSENT}"
    each = "; ".join(f"{row.flux} {with_interval(row)}" for _, row in rows.iterrows())
    return f"With {PROTOCOLS[protocol]}, RMSE changes against {rival} as follows: {each}"


def with_dissimilarity(sums: Sums, samples: Samples) -> Sums:
    """Add to the towers how unlike they are to the nearest tower that was trained on.

    The index of Meyer and Pebesma (2021, doi:10.1111/2041-210X.13650) over the numbers among the
    facts of a place (climate, seasons of greenness, soil, elevation), each scaled by its spread
    over towers, unknown ones at the mean: the distance to the nearest tower of another fold,
    divided by the mean distance between towers. ``unlike`` (number) and ``quarter`` (ordered
    class) join ``sums.towers``.

    Raises
    ------
    KeyError
        When the samples lack a tower of the sums.
    """
    at = pd.Index(samples.site).get_indexer(pd.Index(sums.towers.site))
    if (at < 0).any():
        raise KeyError(f"tower {sums.towers.site[int(np.argmin(at))]} is not among the samples")
    numbers = [not name.startswith(CLASSES) for name in samples.static_names]
    index = nearest(samples.static[at][:, numbers], sums.towers.fold.to_numpy(str))
    edges = np.quantile(index, [0.25, 0.5, 0.75])
    names = np.array(UNLIKE)[np.searchsorted(edges, index)]
    quarter = pd.Categorical(names, UNLIKE, ordered=True)
    return replace(sums, towers=sums.towers.assign(unlike=index, quarter=quarter))


def nearest(facts: NDArray, fold: NDArray) -> NDArray[np.float64]:
    """Index (tower,) of facts (tower, number), NaN = unknown, against towers of other folds."""
    some = facts[:, np.isfinite(facts).any(0)].astype(float)
    sd = np.nanstd(some, 0)
    scaled = np.nan_to_num((some - np.nanmean(some, 0)) / np.where(sd > 0, sd, 1.0))
    apart = cdist(scaled, scaled)
    apart[fold[:, None] == fold] = np.inf
    return np.asarray(apart.min(1) / pdist(scaled).mean())
