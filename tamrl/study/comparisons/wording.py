"""Sentences made of scores, so that prose never says other than the numbers."""

import pandas as pd


def with_interval(row: pd.Series) -> str:
    """Spell a change in % with its interval, with true minus signs.

    Examples
    --------
    >>> with_interval(pd.Series({"change": 3.14, "lower": 1.0, "upper": 5.2}))
    '+3.1 %, +1.0 to +5.2'
    """
    return f"{row.change:+.1f} %, {row.lower:+.1f} to {row.upper:+.1f}".replace(
        "-", "\N{MINUS SIGN}"
    )


def verdict(comparison: pd.DataFrame, model: str, rival: str) -> str:
    """Say for which fluxes a model has less error than its rival, and for which that is open.

    ``comparison`` is from `tamrl.evaluate.scores.compare`; a difference is called one when its interval
    leaves out zero.
    """
    said = []
    for says, chosen in (
        ("lower", comparison.upper < 0),
        ("higher", comparison.lower > 0),
        ("not resolvably different", (comparison.lower <= 0) & (comparison.upper >= 0)),
    ):
        if chosen.any():
            rows = [row for _, row in comparison[chosen].iterrows()]
            fluxes = ", ".join(f"{row.flux} ({with_interval(row)})" for row in rows)
            said.append(f"{says} for {fluxes}")
    return f"At towers never seen, the error of {model} compared with {rival} is {'; '.join(said)}"


def leading(rises: pd.DataFrame) -> str:
    """Say which single group of predictors each flux needs most.

    ``rises`` is from `tamrl.study.drivers.permutation.permutation`, all biomes together; groups that join others
    ("light x greenness") are left out.
    """
    single = rises[~rises.predictors.str.contains(" x ")]
    top = single.loc[single.groupby("flux", sort=False).rise.idxmax()]
    said = [f"{row.predictors} for {row.flux} (+{row.rise:.2f})" for _, row in top.iterrows()]
    return (
        "Exchanged between days of towers never seen, what raises the error (gC m⁻² d⁻¹) most is "
        + ", ".join(said)
    )
