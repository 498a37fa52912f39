"""Words that depend on numbers, so that prose never says other than the tables."""

import pandas as pd

WORDS = ("lower", "higher", "not resolvably different")


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


def direction(row: pd.Series) -> str:
    """Word for a change: one of `WORDS`, the last where its interval includes zero.

    Examples
    --------
    >>> direction(pd.Series({"lower": -5.2, "upper": -1.0}))
    'lower'
    """
    return WORDS[0] if row.upper < 0 else WORDS[1] if row.lower > 0 else WORDS[2]


def verdict(comparison: pd.DataFrame, model: str, rival: str) -> str:
    """Sort fluxes by the direction in which the error of a model differs from its rival's.

    ``comparison`` is from `tamrl.evaluate.scores.compare`.
    """
    words = comparison.apply(direction, axis=1)
    parts = []
    for word in WORDS:
        rows = [row for _, row in comparison[words == word].iterrows()]
        fluxes = ", ".join(f"{row.flux} ({with_interval(row)})" for row in rows)
        parts += [f"{word} for {fluxes}"] * bool(rows)
    return f"At towers never seen, the error of {model} compared with {rival} is {'; '.join(parts)}"


def leading(rises: pd.DataFrame) -> str:
    """Name the single group of predictors that each flux needs most, from permutation."""
    single = rises[~rises.predictors.str.contains(" x ")]
    top = single.loc[single.groupby("flux", sort=False).rise.idxmax()]
    parts = [f"{row.predictors} for {row.flux} (+{row.rise:.2f})" for _, row in top.iterrows()]
    return (
        "Exchanged between days of towers never seen, what raises the error (gC m⁻² d⁻¹) most is "
        + ", ".join(parts)
    )
