"""What is left out is named by reason, and a broken spell counts only where it is."""

import numpy as np
import pandas as pd
import pytest

from tamrl.evaluate.scores import Days
from tamrl.study import exclusions


def test_site_years_are_sorted_by_the_reason_that_they_are_left_out_for() -> None:
    excluded = "3 site-years: AA-One 2001 (constant GPP); AA-One 2002 (negative GPP); "
    table = exclusions.by_reason(excluded + "BB-Two 1999 (constant GPP)")
    assert table["site-years"].to_dict() == {
        "constant GPP": "AA-One 2001; BB-Two 1999", "negative GPP": "AA-One 2002"
    }  # fmt: skip
    assert exclusions.by_reason("0 site-years").empty


def test_a_broken_spell_raises_the_error_of_its_tower_and_hardly_that_of_all() -> None:
    """Errors of 1, and of 3 on the spell's three days: without them the tower's RMSE is 1."""
    when = [*pd.date_range("2010-11-30", periods=4), *pd.date_range("2011-01-01", periods=96)]
    facts = pd.DataFrame({"site": ["US-Ha1", "US-Oho"]})
    error = np.ones((100, 1))
    error[1:4] = 3
    observed, tower = np.zeros((100, 1)), np.repeat([0, 1], [4, 96])
    predicted = (observed + error)[None]
    days = Days(("m",), ("NEE",), facts, tower, pd.DatetimeIndex(when), observed, predicted)
    table = exclusions.without_spell(days)
    row = table.loc[("m", "NEE")]
    assert row.days == 3
    assert row[["without", "own_without"]].tolist() == [1.0, 1.0]
    assert row.own == pytest.approx(np.sqrt(7))
    values = exclusions.values(table)
    assert values["spell_days"] == "3"
    assert float(values["spell_pooled"].split()[0]) < float(values["spell_own"].split()[0])
    elsewhere = days._replace(facts=facts.replace("US-Ha1", "XX-Yyy"))
    assert exclusions.values(exclusions.without_spell(elsewhere))["spell_own"] == "0.0 %"
