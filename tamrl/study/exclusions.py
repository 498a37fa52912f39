"""What the rule of exclusion leaves out, and what a broken spell that it misses does to scores."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tamrl.evaluate.scores import Days

BROKEN = ("US-Ha1", "2010-12-01", "2011-03-31")  # NEE up to 20 gC m-2 d-1, RECO of 10 in frost
NAMED = re.compile(r"(?:^|[:;] )(\S+) (\d{4}) \(([^)]*)\)")


def by_reason(excluded: str) -> pd.DataFrame:
    """Sort the site-years of ``attrs["excluded"]`` by why they are left out, tower by tower.

    >>> by_reason("2 site-years: AA-Bbb 2001 (constant GPP); AA-Bbb 2003 (constant GPP)").iloc[0, 0]
    'AA-Bbb 2001, 2003'
    """
    found = pd.DataFrame(NAMED.findall(excluded), columns=["site", "year", "reason"])
    years = found.groupby(["reason", "site"], sort=False).year.agg(", ".join).reset_index()
    named = (years.site + " " + years.year).groupby(years.reason, sort=False).agg("; ".join)
    return named.rename_axis("reason").to_frame("site-years")


def without_spell(days: Days, spell: Sequence[str] = BROKEN) -> pd.DataFrame:
    """Score with and without the days of a ``spell`` (tower, first, last day), by model and flux.

    RMSE, gC m-2 d-1: ``whole`` and ``without`` pooled over all towers, ``own`` and ``own_without``
    over the days of the tower; ``days``, how many are left out.
    """
    site, first, last = spell
    own = days.facts.site.to_numpy()[days.tower] == site
    out = own & (days.time >= pd.Timestamp(first)) & (days.time <= pd.Timestamp(last))
    square = (days.predicted - days.observed) ** 2
    kept = {"whole": np.ones_like(own), "without": ~out, "own": own, "own_without": own & ~out}
    rmse = {name: np.sqrt(square[:, on].mean(1)) for name, on in kept.items() if on.any()}
    index = pd.MultiIndex.from_product([days.models, days.fluxes], names=["model", "flux"])
    table = pd.DataFrame({name: values.ravel() for name, values in rmse.items()}, index)
    return table.assign(days=int(out.sum()))


def values(table: pd.DataFrame) -> dict[str, str]:
    """Spell `without_spell`: days left out, and by how much, %, any RMSE changes without them."""
    out = {"spell_days": str(table.days.iloc[0])}
    for name, left in {"pooled": ("whole", "without"), "own": ("own", "own_without")}.items():
        before, after = (table.get(column, table.whole) for column in left)
        out[f"spell_{name}"] = f"{100 * (1 - after / before).max():.1f} %"
    return out
