"""Effects of what was compared: what helps, what harms, what is not resolved; numbers in words.

Only differences whose interval over towers leaves out zero count. All are changes of RMSE in %,
pooled or as mean over towers (`main_score`), negative when the model has less error.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.evaluate.scores import compare, groups_of
from tamrl.evaluate.tables import Results
from tamrl.study.ablation import DEFAULT, PRETRAINED, PRETRAINED_PLAIN
from tamrl.study.publish import publish as publish_in
from tamrl.study.publish import tables_folder

HELPS, HARMS, MIXED, OPEN = "helps", "harms", "helps some fluxes, harms others", "not resolved"
ABSENT = "not computed"
WORDS = ("lower", "higher", "not significantly different")
FREE, SOFT, HARD = "no closure", "soft closure", "no process scalars"
NUMBERS = ("RMSE", "rival_RMSE", "change", "lower", "upper", "better")
MAIN = (*(f"mean_{name}" for name in NUMBERS[:5]), "without_top")  # of the main score
LEAST = 1.0  # % of squared error; a smaller change is not worth a word


class Mechanism(NamedTuple):
    """A part of the model, a variant that has it, and one that differs in lacking it alone."""

    name: str
    having: str
    lacking: str


# The closures are compared among variants without process scalars, which need the hard one.
MECHANISMS = (
    Mechanism("modulation by the place (FiLM and gates)", DEFAULT, "no modulation"),
    Mechanism("FiLM", DEFAULT, "gates only"),
    Mechanism("gates per flux", DEFAULT, "FiLM only"),
    Mechanism("representation losses", DEFAULT, "no representation losses"),
    Mechanism("ConvLSTM encoder in place of the BiLSTM", "ConvLSTM encoder", DEFAULT),
    Mechanism("ConvLSTM encoder beside the BiLSTM", "both encoders", DEFAULT),
    Mechanism("soft closure", SOFT, FREE),
    Mechanism("soft closure, weight 1", "soft closure, weight 1", FREE),
    Mechanism("hard closure", HARD, FREE),
    Mechanism("hard in place of soft closure", HARD, SOFT),
    Mechanism("process scalars", DEFAULT, HARD),
    Mechanism("two-stage training", "two stages", DEFAULT),
    *(Mechanism(f"windows of {n} days", f"window of {n} days", DEFAULT) for n in (30, 90, 150)),
    Mechanism("pre-training on one data set", PRETRAINED, DEFAULT),
    Mechanism("modulation, after pre-training", PRETRAINED, PRETRAINED_PLAIN),
    Mechanism("all that differs from the publication", DEFAULT, "as published"),
)


def signed(value: float) -> str:
    """Spell a change with one decimal and a true sign; nothing has none.

    >>> [signed(v) for v in (3.14, -0.04, 0.0)], signed(-2) == "\N{MINUS SIGN}2.0"
    (['+3.1', '0.0', '0.0'], True)
    """
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") if f"{abs(value):.1f}" != "0.0" else "0.0"


def with_interval(row: pd.Series) -> str:
    """Spell a change in % with its interval in brackets, or "not computed".

    >>> with_interval(pd.Series({"change": 3.14, "lower": 1.0, "upper": 5.2})).split()
    ['+3.1', '%', '[+1.0,', '+5.2]']
    """
    if pd.isna(row.change):
        return ABSENT
    return f"{signed(row.change)} % [{signed(row.lower)}, {signed(row.upper)}]"


def direction(row: pd.Series) -> str:
    """Word for a change: one of `WORDS`, the last where its interval includes zero.

    >>> direction(pd.Series({"lower": -5.2, "upper": -1.0}))
    'lower'
    """
    return WORDS[0] if row.upper < 0 else WORDS[1] if row.lower > 0 else WORDS[2]


def verdict(comparison: pd.DataFrame, model: str, rival: str) -> str:
    """Sort the fluxes of `tamrl.evaluate.scores.compare` by the direction of the difference."""
    words = comparison.apply(direction, axis=1)
    parts = []
    for word in [word for word in WORDS if (words == word).any()]:
        rows = comparison[words == word].iterrows()
        parts += [f"{word} for " + ", ".join(f"{r.flux} ({with_interval(r)})" for _, r in rows)]
    return f"At towers never seen, the error of {model} compared with {rival} is {'; '.join(parts)}"


def paired(sums: xr.Dataset, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """`tamrl.evaluate.scores.compare` pairs of model, rival; NaN where one is not computed."""
    parts = []
    for model, rival in pairs:
        if {model, rival} <= set(sums.model.values):
            part = compare(sums, model, rival)
        else:
            part = pd.DataFrame(
                {"flux": sums.flux.values} | dict.fromkeys((*NUMBERS, *MAIN), np.nan)
            )
        parts.append(part.assign(model=model, rival=rival))
    names = ["model", "rival", "flux", *NUMBERS, *MAIN]
    return pd.concat(parts, ignore_index=True)[names] if parts else pd.DataFrame(columns=names)


def main_score(changes: pd.DataFrame) -> pd.DataFrame:
    """Put the changes of the mean over towers of RMSE (of `paired`) in place of the pooled ones."""
    return changes.assign(**{name: changes[f"mean_{name}"] for name in NUMBERS[:5]})


def change_values(name: str, changes: pd.DataFrame, words: bool = False) -> dict[str, str]:
    """Values by flux for the book: ``name_GPP``, a change with its interval, ``name_GPP_word``."""
    rows = [(f"{name}_{row.flux}", row) for _, row in changes.iterrows()]
    out = {key: with_interval(row) for key, row in rows}
    if words:
        out |= {f"{k}_word": ABSENT if pd.isna(row.change) else direction(row) for k, row in rows}
    return out


def effect(changes: pd.DataFrame) -> str:
    """Give the verdict on one difference, whose rows are fluxes with change, lower and upper."""
    if changes.change.isna().any():
        return ABSENT
    gains, losses = bool((changes.upper < 0).any()), bool((changes.lower > 0).any())
    if gains and losses:
        return MIXED
    return HELPS if gains else HARMS if losses else OPEN


def judge(sums: xr.Dataset, mechanisms: Sequence[Mechanism] = MECHANISMS) -> pd.DataFrame:
    """Table of ``verdict``, changes of RMSE (%) by flux, and ``resolved`` fluxes by mechanism."""
    rows = []
    for name, *pair in mechanisms:
        changes = paired(sums, [(pair[0], pair[1])])
        resolved = changes.flux[(changes.upper < 0) | (changes.lower > 0)]
        row = {"mechanism": name, "verdict": effect(changes)}
        row |= {change.flux: with_interval(change) for _, change in changes.iterrows()}
        rows.append(row | {"resolved": ", ".join(resolved)})
    return pd.DataFrame(rows).set_index("mechanism")


def verdict_values(judged: pd.DataFrame) -> dict[str, str]:
    """Numbers and names of `judge` for the book: by verdict, and of resolved intervals."""
    short = {"helps": HELPS, "harms": HARMS, "mixed": MIXED, "open": OPEN, "absent": ABSENT}
    values = {"n_tried": str(len(judged))}
    for key, word in short.items():
        rows = judged.resolved[judged.verdict == word]
        names = [f"{name} ({fluxes})" if fluxes else str(name) for name, fluxes in rows.items()]
        values |= {f"n_{key}": str(len(rows)), key: "; ".join(names) or "none"}
    intervals = int((judged.verdict != ABSENT).sum()) * (judged.shape[1] - 2)
    resolved = sum(len(names.split(", ")) for names in judged.resolved if names)
    values |= {"n_intervals": str(intervals), "n_resolved": str(resolved)}
    return values | {"by_chance": f"{intervals / 10:.0f}"}


def by_fold(sums: xr.Dataset, mechanisms: Sequence[Mechanism] = MECHANISMS) -> pd.DataFrame:
    """Split what having a mechanism changes into folds: one unlucky split can carry a verdict.

    Bootstrap samples of towers take the split as given; a network stopped too early errs at all
    towers of its fold. Cells (mechanism, flux; fold): change of the squared error within a fold, in
    % of that of all folds without the mechanism. Rows add up to the change of the whole.
    """
    square = xr.dot(groups_of(sums, "fold"), sums.square, dim="site")
    rows = {}
    for name, *pair in mechanisms:
        if {*pair} <= set(sums.model.values):
            having, lacking = (square.sel(model=model) for model in pair)
            share = 100 * (having - lacking) / lacking.sum("group")
            rows[name] = share.to_pandas().T.rename_axis(columns="fold")
    return pd.concat(rows, names=["mechanism"]) if rows else pd.DataFrame()


def single_folds(folded: pd.DataFrame) -> str:
    """Name mechanisms whose change, of at least 1 %, turns its sign without a single fold."""
    names = []
    for (name, flux), row in zip(folded.index, folded.to_numpy(), strict=True):
        total, rest = row.sum(), row.sum() - row[(row * np.sign(row.sum())).argmax()]
        if abs(total) >= LEAST and total * rest < 0:
            change = f"{signed(total)} %, without it {signed(rest)} %"
            names.append(f"{name} ({flux} {change})")
    return "; ".join(names) or "none"


def default_values(sums: xr.Dataset) -> dict[str, str]:
    """Count and name configurations: ``n_others``, ``n_worse`` and ``better`` than the default.

    ``least``: of lowest RMSE, fluxes counting alike; ``alike``: not significantly worse anywhere.
    """
    models = [str(name) for name in sums.model.values]
    others = {name: effect(paired(sums, [(name, DEFAULT)])) for name in models if name != DEFAULT}
    rmse = np.sqrt(sums.square.sum("site"))  # (model, flux), up to the number of days
    least = models[int(np.argmin((rmse / rmse.min("model")).mean("flux").values))]
    rivals = [name for name in models if name != least]
    alike = [name for name in rivals if not (paired(sums, [(name, least)]).lower > 0).any()]
    better = [name for name, one in others.items() if one == HELPS]
    counts = {"n_others": str(len(others)), "n_worse": str([*others.values()].count(HARMS))}
    names = {"least": least, "alike": "; ".join(alike) or "none"}
    return {**counts, "better": "; ".join(better) or "none", **names}


def closures(results: Results, violation: pd.DataFrame) -> pd.DataFrame:
    """Put `tamrl.evaluate.scores.violations` beside changes of RMSE, both against `FREE`."""
    names = {FREE: "none", SOFT: "soft", f"{SOFT}, weight 1": "soft, weight 1", HARD: "hard"}
    table = violation.reindex(list(names))[["violation", "cut", "lower", "upper"]]
    changes = paired(results.sums, [(name, FREE) for name in names])
    for flux, rows in changes.groupby("flux", sort=False):
        table[flux] = ["", *rows[1:].apply(with_interval, axis=1)]
    return table.rename(index=names).rename_axis("closure")


def closure_values(table: pd.DataFrame) -> dict[str, str]:
    """Cells of `closures` for the book: ``violation_soft``, ``cut_soft``, ``GPP_soft``, …."""
    values = {}
    for name, row in table.iterrows():
        key = str(name).replace(", weight ", "_")
        values[f"violation_{key}"] = ABSENT if pd.isna(row.violation) else _size(row.violation)
        low, high = f"{row.lower:.0f}", f"{row.upper:.0f}"
        cut = f"{row.cut:.0f} %" + f" [{low}, {high}]" * (low != high)
        values[f"cut_{key}"] = ABSENT if pd.isna(row.cut) else cut
        values |= {f"{flux}_{key}": str(row[flux]) for flux in table.columns[4:]}
    return values


def _size(value: float) -> str:
    """Spell a size with two figures, a small one by a power of ten.

    >>> _size(0.017), _size(1.5e-7).split()[2]
    ('0.017', '10⁻⁷')
    """
    digits, _, power = f"{value:.1e}".partition("e")
    small = str(abs(int(power))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits} \N{MULTIPLICATION SIGN} 10⁻{small}" if 0 < value < 1e-3 else f"{value:.2g}"


def protocol(results: Results) -> dict[str, str]:
    """Give what is the same for all models, as values; numbers that differ as a range."""
    out = {"n_models": str(len(results.models))}
    members = results.about.seeds.map(len)
    for key, counts in {"n_folds": results.about.folds, "n_members": members}.items():
        out[key] = " to ".join(str(int(n)) for n in sorted({counts.min(), counts.max()}))
    out |= {"n_days": f"{int(results.sums.n.sum()):,}", "n_towers": str(len(results.sums.site))}
    return out | {"missing": "; ".join(results.missing) or "none"}


def publish(
    results: Results, number: str, tables: Mapping[str, pd.DataFrame], values: Mapping[str, Any]
) -> None:
    """Write a notebook's tables to ``runs/`` and glue values, with the protocol, for the book."""
    folder = tables_folder(results.attrs)
    whole = {name: t.reset_index() if t.index.name else t for name, t in tables.items()}
    publish_in(folder, number, results.attrs, whole, {**protocol(results), **values})
