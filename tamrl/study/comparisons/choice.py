"""One rule for every choice: the least main score at towers of the other folds.

A choice that is made on the folds that are reported looks better than it is. So for each fold the
candidate is taken whose mean over towers of RMSE is least at the towers of all other folds, on
average of the fluxes relative to the first candidate; its errors at the fold are what counts.
"""

from collections.abc import Sequence

import pandas as pd
import xarray as xr

from tamrl.errors import DataError
from tamrl.evaluate.scores import MIN_DAYS, STATISTICS

CHOSEN = "chosen inside"


def choose(sums: xr.Dataset, candidates: Sequence[str]) -> tuple[xr.Dataset, pd.DataFrame]:
    """Choose a candidate by fold; return its sums as model `CHOSEN`, and what was chosen.

    ``sums`` are of `tamrl.evaluate.scores`, with the towers' fact ``fold``. The table has fold,
    chosen, margin (%: how much worse the next candidate is at the other folds). DataError with less
    than two candidates, or folds.
    """
    names, folds = list(candidates), sums.fold.to_series().unique()
    if len(names) < 2 or len(folds) < 2:
        raise DataError(f"a choice needs two candidates and folds; {len(names)} and {len(folds)}")
    own = sums.sel(model=names)
    rmse = (own.square / own.n).where(own.n >= MIN_DAYS) ** 0.5
    parts, rows = [], []
    for fold in folds:
        mean = rmse.where(sums.fold != fold).mean("site")
        score = (mean / mean.isel(model=0)).mean("flux").to_series().sort_values()
        best = str(score.index[0])
        rows.append(
            {"fold": fold, "chosen": best, "margin": 100 * (score.iloc[1] / score.iloc[0] - 1)}
        )
        parts.append(own.sel(model=best, drop=True).isel(site=(sums.fold == fold).values))
    chosen = xr.concat(parts, "site", data_vars="minimal").sel(site=sums.site)
    named = {name: chosen[name].expand_dims(model=[CHOSEN]) for name in STATISTICS}
    return chosen.drop_vars(STATISTICS).assign(named), pd.DataFrame(rows)
