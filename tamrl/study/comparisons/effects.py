"""Verdicts in words on what was compared: what helps, what does not, what cannot be told.

A difference counts when its interval over towers leaves out zero, and only then; so an open
verdict says how large an effect could still be. Models that are not computed are said to be so.
All differences are changes of pooled RMSE in %, negative when the model has less error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tamrl.evaluate.sums import Sums, compare
from tamrl.evaluate.tables import Results
from tamrl.model.network import Config
from tamrl.model.train import Recipe
from tamrl.study.ablation import DEFAULT, VIRTUAL_FIRST, VIRTUAL_PLAIN
from tamrl.study.comparisons.wording import verdict as difference_in_words
from tamrl.study.comparisons.wording import with_interval

HELPS, HARMS = "helps", "does not help: it harms"
MIXED, OPEN, ABSENT = "helps some fluxes, harms others", "cannot be told", "not computed"
VERDICTS = (HELPS, HARMS, MIXED, OPEN, ABSENT)
MIN_CUT = 70.0  # % of the imbalance that a soft closure is meant to take away
ROUNDING = 1e-5  # gC m-2 d-1: differences of float32 fluxes of some 10
FREE, SOFT, HARD = "no closure", "soft closure", "no process factors"
MINUS = "\N{MINUS SIGN}"
NUMBERS = ("RMSE", "rival_RMSE", "change", "lower", "upper", "better")


@dataclass(frozen=True)
class Mechanism:
    """A part of the model, a variant that has it, and one that differs in lacking it alone."""

    name: str
    having: str
    lacking: str


# The closures are compared among variants without process factors, which need the hard one.
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
    Mechanism("process factors", DEFAULT, HARD),
    Mechanism("two-stage training", "two stages", DEFAULT),
    Mechanism("windows of 30 days", "window of 30 days", DEFAULT),
    Mechanism("windows of 90 days", "window of 90 days", DEFAULT),
    Mechanism("windows of 150 days", "window of 150 days", DEFAULT),
    Mechanism("virtual towers first", VIRTUAL_FIRST, DEFAULT),
    Mechanism("modulation, after virtual towers", VIRTUAL_FIRST, VIRTUAL_PLAIN),
    Mechanism("all that differs from the publication", DEFAULT, "as published"),
)


def paired(sums: Sums, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Compare pairs of model and rival, in their order.

    Returns
    -------
    Table with columns model, rival, and those of `tamrl.evaluate.sums.compare`; NaN where one of the two
    is not computed.
    """
    parts = []
    for model, rival in pairs:
        if {model, rival} <= set(sums.models):
            part = compare(sums, model, rival)
        else:
            part = pd.DataFrame({"flux": sums.fluxes} | dict.fromkeys(NUMBERS, float("nan")))
        parts.append(part.assign(model=model, rival=rival))
    return pd.concat(parts, ignore_index=True)[["model", "rival", "flux", *NUMBERS]]


def effect(changes: pd.DataFrame) -> str:
    """Give the verdict on one difference, whose rows are fluxes with change, lower and upper."""
    if changes.change.isna().any():
        return ABSENT
    gains, losses = bool((changes.upper < 0).any()), bool((changes.lower > 0).any())
    if gains and losses:
        return MIXED
    return HELPS if gains else HARMS if losses else OPEN


def judge(sums: Sums, mechanisms: Sequence[Mechanism] = MECHANISMS) -> pd.DataFrame:
    """Judge each mechanism.

    Returns
    -------
    Table (index mechanism): ``verdict``; a column a flux with the change of RMSE (%) that having
    the mechanism brings, with its interval; ``resolved``, the fluxes whose interval leaves out 0.
    """
    changes = paired(sums, [(part.having, part.lacking) for part in mechanisms])
    rows = []
    for k, part in enumerate(mechanisms):
        own = changes.iloc[k * len(sums.fluxes) : (k + 1) * len(sums.fluxes)]
        verdict = effect(own)
        told = own[(own.upper < 0) | (own.lower > 0)]
        row = {"mechanism": part.name, "verdict": verdict}
        for _, one in own.iterrows():
            row[str(one.flux)] = ABSENT if verdict == ABSENT else with_interval(one)
        rows.append(row | {"resolved": ", ".join(told.flux)})
    return pd.DataFrame(rows).set_index("mechanism")


def mechanisms_in_words(judged: pd.DataFrame) -> str:
    """Sort the mechanisms of `judge` by verdict into one sentence a verdict that occurs."""
    said = []
    for verdict in VERDICTS:
        rows = judged[judged.verdict == verdict]
        resolved = zip(rows.index.astype(str), rows.resolved.astype(str), strict=True)
        names = [f"{name} ({fluxes})" if fluxes else name for name, fluxes in resolved]
        said += [f"{verdict[0].upper()}{verdict[1:]}: {'; '.join(names)}."] * bool(names)
    return " ".join(said)


def count_in_words(judged: pd.DataFrame) -> str:
    """Count the verdicts of `judge`."""
    words = {HELPS: ("helps", "help"), HARMS: ("does harm", "do harm")}
    words[MIXED] = ("helps some fluxes and harms others", "help some fluxes and harm others")
    words[OPEN] = ("cannot be told to do either",) * 2
    words[ABSENT] = (f"is {ABSENT}", f"are {ABSENT}")
    counts = judged.verdict.value_counts()
    each = ", ".join(
        f"{counts[verdict]} {words[verdict][int(counts[verdict] > 1)]}"
        for verdict in VERDICTS
        if verdict in counts
    )
    return f"Of {len(judged)} mechanisms and choices tried at towers never seen, {each}"


def chance_in_words(judged: pd.DataFrame, fluxes: Sequence[str]) -> str:
    """Say how many of the intervals would leave out zero if nothing had an effect."""
    tried = int((judged.verdict != ABSENT).sum()) * len(fluxes)
    found = sum(len(names.split(", ")) for names in judged.resolved if names)
    return (
        f"Of {tried} intervals {found} leave out zero; at 90 %, about {tried / 10:.0f} would do so "
        "by chance alone"
    )


def default_in_words(sums: Sums, default: str = DEFAULT) -> str:
    """Say whether any other configuration is resolvably better than the default.

    Better: less error in at least one flux, more in none, by intervals that leave out zero.
    """
    if default not in sums.models:
        return f"The default, {default}, is not computed"
    others = [name for name in sums.models if name != default]
    if not others:
        return f"Nothing but the default, {default}, is computed"
    better, worse = [], 0
    for name in others:
        changes = paired(sums, [(name, default)])
        worse += effect(changes) == HARMS
        if effect(changes) == HELPS:
            rows = [row for _, row in changes[changes.upper < 0].iterrows()]
            better.append(f"{name} ({', '.join(f'{r.flux} {with_interval(r)}' for r in rows)})")
    said = f"Of {len(others)} other configurations {worse} are resolvably worse than the default"
    if not better:
        return f"{said} and none is resolvably better, so this table gives no reason to leave it"
    return f"{said}, and these are resolvably better, which speaks against it: {'; '.join(better)}"


def least_in_words(sums: Sums) -> str:
    """Name the configuration of least error, fluxes counting alike, and those as good as it.

    As good: not resolvably worse in any flux.
    """
    if not sums.models:
        return "Nothing is computed"
    rmse = np.sqrt(sums.square.sum(1))  # (model, flux), up to the number of days
    best = sums.models[int((rmse / rmse.min(0)).mean(1).argmin())]
    rivals = [name for name in sums.models if name != best]
    like = [name for name in rivals if not (paired(sums, [(name, best)]).lower > 0).any()]
    said = f"The least error of all has: {best}"
    return f"{said}; not resolvably worse: {'; '.join(like)}" if like else f"{said}, and alone"


def default_made_of() -> str:
    """Spell the default configuration, from the code that makes it."""
    net, recipe = Config(features=1, statics=1), Recipe()
    parts = [f"encoder {net.encoder}"]
    parts += ["FiLM"] * net.film + ["gates per flux"] * net.gates
    parts += ["representation losses"] * (recipe.reconstruction + recipe.contrast > 0)
    parts += [f"{net.closure} closure"] + ["process factors"] * net.process
    parts += ["two stages" if recipe.pretrain_epochs else "one stage of training"]
    return ", ".join([*parts, f"windows of {recipe.length} days"])


def versus_in_words(sums: Sums, model: str, rival: str) -> str:
    """Say how a model's error compares with a rival's, or that one of them is not computed."""
    changes = paired(sums, [(model, rival)])
    if changes.change.isna().any():
        return f"The comparison of {model} with {rival} is {ABSENT}"
    return difference_in_words(changes, model, rival)


def closures(found: Results, violation: pd.DataFrame) -> pd.DataFrame:
    """Put the imbalance and its cost in error side by side, for no, soft and hard closure.

    ``violation`` is from `tamrl.evaluate.tables.violations` against `FREE`. Returns a table (index
    closure) with violation, cut, lower, upper, and a column a flux: change of RMSE against `FREE`.
    """
    names = {FREE: "none", SOFT: "soft", f"{SOFT}, weight 1": "soft, weight 1", HARD: "hard"}
    table = violation.reindex(list(names))[["violation", "cut", "lower", "upper"]]
    changes = paired(found.sums, [(name, FREE) for name in names])
    for flux, rows in changes.groupby("flux", sort=False):
        told = [ABSENT if pd.isna(row.change) else with_interval(row) for _, row in rows.iterrows()]
        table[str(flux)] = told
    table.loc[FREE, list(found.sums.fluxes)] = ""
    return table.rename(index=names).rename_axis("closure")


def closure_in_words(found: Results, violation: pd.DataFrame) -> str:
    """Hold soft and hard closure against what is asked of them: the cut, and its cost in error."""
    said = []
    if FREE in violation.index:
        without = f"Without closure NEE misses RECO {MINUS} GPP by {violation.violation[FREE]:.2g}"
        said.append(f"{without} gC m⁻² d⁻¹ on average")
    for name, label in ((SOFT, "soft closure"), (f"{SOFT}, weight 1", "with a weight of 1 it")):
        if name in violation.index and FREE in violation.index:
            row = violation.loc[name]
            short = MIN_CUT - row.cut
            held = f"{short:.0f} points short of" if short > 0 else f"{-short:.0f} points beyond"
            said.append(
                f"{label} cuts that by {row.cut:.0f} % ({row.lower:.0f} to {row.upper:.0f}), "
                f"{held} the {MIN_CUT:.0f} % asked for{_cost(found.sums, name)}"
            )
        else:
            said.append(f"{name} is {ABSENT}")
    if HARD in violation.index:
        left = violation.violation[HARD]
        size = "which is rounding" if left < ROUNDING else "which is more than rounding"
        said.append(f"hard closure leaves {left:.1g}, {size}{_cost(found.sums, HARD)}")
    else:
        said.append(f"{HARD} is {ABSENT}")
    return "; ".join(said)


def _cost(sums: Sums, name: str) -> str:
    """Say what a closure costs in error against none."""
    changes = paired(sums, [(name, FREE)])
    verdict = effect(changes)
    if verdict == ABSENT:
        return ""
    words = {
        HELPS: "and has less error than no closure in",
        HARMS: "and has more error than no closure in",
        MIXED: "and changes the error, both ways, in",
    }
    if verdict not in words:
        return ", at no cost in error that can be told"
    told = changes[(changes.upper < 0) | (changes.lower > 0)]
    fluxes = ", ".join(f"{row.flux} ({with_interval(row)})" for _, row in told.iterrows())
    return f", {words[verdict]} {fluxes}"


def protocol_in_words(found: Results) -> str:
    """Say what all models were put to; numbers that differ between models are given as a range."""
    if not found.sums.models:
        return "nothing is computed yet"
    seeds, folds = found.about.seeds.map(len), found.about.folds.astype(int)
    members = "one member" if seeds.max() == 1 else f"{_range(seeds)} members, averaged,"
    return (
        f"{_range(folds)} folds of towers at least 50 km apart, {members} a fold, "
        f"{int(found.sums.n.sum()):,} scored days of {len(found.sums.n)} towers"
    )


def missing_in_words(found: Results) -> str:
    """Say which models of the campaign are not computed yet."""
    if not found.missing:
        return f"All {len(found.sums.models)} models are computed"
    return f"Not computed yet, and so missing here: {'; '.join(found.missing)}"


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low} to {high}"
