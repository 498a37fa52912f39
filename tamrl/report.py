"""Sentences made of scores, so that prose never says other than the numbers."""

import pandas as pd


def with_interval(row: pd.Series) -> str:
    """Spell a change in % with its interval: "-3.1 % (-5.0 to -1.2)"."""
    return f"{row.change:+.1f} % ({row.lower:+.1f} to {row.upper:+.1f})".replace(
        "-", "\N{MINUS SIGN}"
    )


def verdict(comparison: pd.DataFrame, model: str, rival: str) -> str:
    """Say for which fluxes a model has less error than its rival, and for which that is open.

    ``comparison`` is from `tamrl.evaluate.compare`; a difference is called one when its interval
    leaves out zero.
    """
    said = []
    for says, chosen in (
        ("lower", comparison.upper < 0),
        ("higher", comparison.lower > 0),
        ("not resolvably different", (comparison.lower <= 0) & (comparison.upper >= 0)),
    ):
        if chosen.any():
            fluxes = [
                f"{row.flux} {with_interval(row)}" for _, row in comparison[chosen].iterrows()
            ]
            said.append(f"{says} for {' and '.join(fluxes)}")
    return f"At towers never seen, the error of {model} against {rival} is {'; '.join(said)}"
