"""What single folds do to a comparison: one unlucky split can carry a verdict.

Intervals from drawing towers take the split into folds as given. A network that was stopped at the
wrong moment errs at all towers of its fold, and these look like many witnesses though they are one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tamrl.evaluate.sums import Sums
from tamrl.study.comparisons.effects import MECHANISMS, Mechanism

LEAST = 1.0  # % of squared error; a smaller change is not worth a word


def by_fold(sums: Sums, mechanisms: Sequence[Mechanism] = MECHANISMS) -> pd.DataFrame:
    """Split what having a mechanism changes into folds: the luck of one split is seen here.

    Returns
    -------
    Table (index mechanism, flux; a column a fold): change of the squared error within a fold, in %
    of that of all folds without the mechanism. Rows add up to the change of the whole.
    """
    names, group = sums.classes("fold")
    one = (np.arange(len(names))[:, None] == group).astype(float)  # (fold, tower)
    rows: dict[tuple[str, str], NDArray[np.float64]] = {}
    for part in mechanisms:
        if {part.having, part.lacking} <= set(sums.models):
            having, lacking = sums.select([part.having, part.lacking]).square
            share = 100 * (one @ (having - lacking)) / lacking.sum(0)  # (fold, flux)
            rows |= {(part.name, flux): share[:, f] for f, flux in enumerate(sums.fluxes)}
    index = pd.MultiIndex.from_tuples(list(rows), names=["mechanism", "flux"]) if rows else None
    columns = pd.Index(names, name="fold")
    return pd.DataFrame(list(rows.values()), index, columns)


def one_fold_in_words(folded: pd.DataFrame) -> str:
    """Name the mechanisms whose change of squared error turns its sign without a single fold.

    ``folded`` is from `by_fold`. They are told by flux, smaller changes than `LEAST` are not.
    """
    said = []
    for (name, flux), row in zip(folded.index, folded.to_numpy(), strict=True):
        total, rest = row.sum(), row.sum() - row[np.abs(row).argmax()]
        if abs(total) >= LEAST and total * rest < 0:
            change = f"{total:+.1f} %, without it {rest:+.1f} %".replace("-", "\N{MINUS SIGN}")
            said.append(f"{name} ({flux} {change})")
    if not said:
        return f"No change of squared error by {LEAST:g} % or more hangs on a single fold"
    return f"A single fold turns the sign of the change of squared error of: {'; '.join(said)}"
