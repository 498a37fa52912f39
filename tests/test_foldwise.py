"""One unlucky fold is seen, and a difference that all folds share is left alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tamrl.evaluate.sums import Sums
from tamrl.study.comparisons import fold_influence
from tamrl.study.comparisons.effects import Mechanism

PARTS = (Mechanism("even", "better", "plain"), Mechanism("lucky-one", "split", "plain"))


@pytest.fixture
def sums() -> Sums:
    """Ten towers in five folds: one model better everywhere, one far better in a single fold."""
    rng = np.random.default_rng(0)
    tower = np.repeat(np.arange(10), 50)
    observed = rng.normal(3, 1, (500, 3))
    error = rng.choice([-1.0, 1.0], (500, 3))
    unlucky = np.where(tower // 2 == 4, 0.2, 1.05)[:, None]
    predicted = np.stack([observed + error, observed + 0.9 * error, observed + unlucky * error])
    facts = pd.DataFrame(
        {"site": [f"T{i}" for i in range(10)], "fold": [str(i // 2) for i in range(10)]}
    )
    fluxes = ("GPP", "RECO", "NEE")
    return Sums.of(("plain", "better", "split"), fluxes, facts, tower, observed, predicted)


def test_folds_add_up_to_the_whole(sums: Sums) -> None:
    """Each row sums to the change of squared error over all towers."""
    folded = fold_influence.by_fold(sums, PARTS)
    np.testing.assert_allclose(folded.loc["even"].sum(axis=1), 100 * (0.9**2 - 1))
    whole = 100 * ((4 * 1.05**2 + 0.2**2) / 5 - 1)
    np.testing.assert_allclose(folded.loc["lucky-one"].sum(axis=1), whole)
    assert (folded.loc["lucky-one"]["4"] < 0).all()


def test_a_verdict_that_hangs_on_one_fold_is_told(sums: Sums) -> None:
    """The lucky one is worse in four folds of five; a model that is not there is left out."""
    said = fold_influence.one_fold_in_words(fold_influence.by_fold(sums, PARTS))
    assert "lucky-one (" in said  # a hyphen is no minus
    assert "\N{MINUS SIGN}" in said
    assert "even" not in said
    even = fold_influence.by_fold(sums, [*PARTS[:1], Mechanism("absent", "nowhere", "plain")])
    assert "hangs on a single fold" in fold_influence.one_fold_in_words(even)
    assert fold_influence.by_fold(sums, []).empty
