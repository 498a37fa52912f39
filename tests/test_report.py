"""Sentences follow the numbers."""

import pandas as pd

from tamrl.study.comparisons.wording import verdict, with_interval


def table(**rows: tuple[float, float, float]) -> pd.DataFrame:
    """Return a comparison with change, lower and upper by flux."""
    return pd.DataFrame(
        [(flux, *row) for flux, row in rows.items()], columns=["flux", "change", "lower", "upper"]
    )


def test_a_difference_is_called_one_only_when_its_interval_leaves_out_zero() -> None:
    """Better, worse and open are told apart, each with its interval."""
    said = verdict(
        table(GPP=(-3.1, -5.0, -1.2), RECO=(0.4, -1.0, 2.0), NEE=(2.5, 0.1, 4.9)), "ours", "theirs"
    )
    minus = "\N{MINUS SIGN}"
    assert said == (
        "At towers never seen, the error of ours compared with theirs is "
        f"lower for GPP ({minus}3.1 %, {minus}5.0 to {minus}1.2); "
        "higher for NEE (+2.5 %, +0.1 to +4.9); "
        f"not resolvably different for RECO (+0.4 %, {minus}1.0 to +2.0)"
    )


def test_classes_that_do_not_occur_are_not_mentioned() -> None:
    """No empty phrases."""
    said = verdict(table(GPP=(-3.1, -5.0, -1.2), NEE=(-2.0, -3.0, -1.0)), "a", "b")
    assert "higher" not in said
    assert "resolvably" not in said


def test_an_interval_has_signs_and_a_unit() -> None:
    """So that it reads right on its own in a table."""
    assert with_interval(table(GPP=(1.0, 0.5, 2.0)).iloc[0]) == "+1.0 %, +0.5 to +2.0"
