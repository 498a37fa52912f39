"""Where the study's own model stands among its rivals: targets, classes of towers, cost.

The strongest booster is taken flux by flux, by the very error that is compared: that favours the
rival. Targets are reductions of pooled RMSE in % that were set before the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from tamrl.evaluate.sums import LEVEL, Sums, bootstrap_weights, summarise
from tamrl.evaluate.tables import Results
from tamrl.study.comparisons.effects import ABSENT, NUMBERS, paired
from tamrl.study.comparisons.models import BOOSTERS, MANY_WORLDS, NETWORK, OURS, PUBLISHED
from tamrl.study.comparisons.wording import with_interval

BOOSTING = "the strongest boosting"
TARGETS: Mapping[str, Mapping[str, float]] = {  # % less RMSE than a rival, by flux
    BOOSTING: {"GPP": 4.0, "RECO": 4.0, "NEE": 4.0},
    PUBLISHED: {"GPP": 9.6, "NEE": 8.0},
}
MIN_TOWERS = 5  # of a class that is judged
MAX_SHARE = 10.0  # % of the class's mean flux that its bias may be
MAX_NEE = 0.25  # gC m-2 d-1 that the bias of NEE may be, whose mean is near zero
SHOWN = 4  # models in figures that show several classes


def groups(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sort the rivals of ours by kind, each once."""
    told = tuple(
        name
        for name in names
        if name.endswith("annual means") or name in (NETWORK, MANY_WORLDS) or "blend, " in name
    )
    sorted_ = {
        "parts of ours, and others like it": told,
        "boosting": tuple(name for name in names if name in BOOSTERS),
        "as published": tuple(name for name in names if name == PUBLISHED),
    }
    known = {OURS, *(name for group in sorted_.values() for name in group)}
    return sorted_ | {"others": tuple(name for name in names if name not in known)}


def strongest(sums: Sums, models: Sequence[str] = BOOSTERS) -> dict[str, str]:
    """Name, flux by flux, the model of lowest pooled RMSE among those that are computed."""
    there = [name for name in models if name in sums.models]
    if not there:
        return {}
    total = sums.select(there).square.sum(1)  # (model, flux)
    return {flux: there[k] for flux, k in zip(sums.fluxes, total.argmin(0), strict=True)}


def shown(sums: Sums) -> tuple[str, ...]:
    """Choose the computed models for crowded figures: ours, the strongest booster, two bounds.

    The booster is the one that is strongest in most fluxes.
    """
    best = pd.Series(list(strongest(sums).values()), dtype=str).mode()
    wanted = (OURS, *best[:1], PUBLISHED, "climatology")
    return tuple(name for name in wanted if name in sums.models)[:SHOWN]


def against_targets(sums: Sums, ours: str = OURS) -> pd.DataFrame:
    """Hold ours against the strongest boosting and TAM-RL as published, with the targets.

    Returns
    -------
    Table with columns against, rival, flux, RMSE, rival_RMSE, change, lower, upper (%), target
    (%; NaN: none was set), short (points by which the target is missed; negative: exceeded),
    resolved (the interval leaves out zero). Numbers are NaN where a model is not computed.
    """
    best = strongest(sums)
    parts = []
    for against, targets in TARGETS.items():
        for flux in sums.fluxes:
            rival = best.get(flux, BOOSTING) if against == BOOSTING else against
            row = paired(sums, [(ours, rival)])
            row = row[row.flux == flux].assign(against=against, target=targets.get(flux, np.nan))
            parts.append(row)
    table = pd.concat(parts, ignore_index=True)
    table["short"] = table.target + table.change
    table["resolved"] = (table.upper < 0) | (table.lower > 0)
    order = ["against", "rival", "flux", *NUMBERS[:5], "target", "short", "resolved"]
    return table[order]


def target_in_words(row: pd.Series) -> str:
    """Say for one flux and rival how the difference compares with its target."""
    if pd.isna(row.change):
        return f"{row.flux}: {ABSENT}"
    said = f"{row.flux} {with_interval(row)}"
    said += f", against {row.rival}" if row.against == BOOSTING else ""
    if pd.notna(row.target):
        way = "short of" if row.short > 0 else "beyond"
        said += f", {abs(row.short):.1f} points {way} the {row.target:g} % aimed at"
    return said if row.resolved else f"{said}, zero within the interval"


def targets_in_words(table: pd.DataFrame, against: str) -> str:
    """Say for all fluxes how ours compares with one rival; see `against_targets`."""
    rows = table[table.against == against]
    each = "; ".join(target_in_words(row) for _, row in rows.iterrows())
    return f"Change in RMSE against {against}: {each}"


def headline_in_words(table: pd.DataFrame) -> str:
    """Say in one sentence how often ours has less error, and how many targets are met."""
    said = []
    for against, rows in table.groupby("against", sort=False):
        if rows.change.isna().any():
            said.append(f"the comparison with {against} is {ABSENT}")
            continue
        better = rows[rows.upper < 0]
        worse = rows[rows.lower > 0]
        aimed = rows[rows.target.notna()]
        met = int((aimed.short <= 0).sum())
        less = f"less error than {against} in {_named(better)}"
        more = f" and more in {_named(worse)}" if len(worse) else ""
        said.append(f"{less}{more}, meeting {met} of {len(aimed)} targets")
    text = "; ".join(said)
    start = "Beyond what drawing other towers could explain, the study's own model has "
    return start + text if text.startswith("less") else text[:1].upper() + text[1:]


def front_cells(sums: Sums) -> dict[str, str]:
    """Spell the book's front table, cell by cell: error and skill of four models, and differences.

    Returns
    -------
    Text by name. ``ours_GPP``, ``boosting_GPP`` (the strongest for that flux), ``published_GPP``,
    ``climatology_GPP`` and so on are "RMSE (R2)", the first in gC m-2 d-1; ``over_boosting_GPP``
    and ``over_published_GPP`` the change of our RMSE with its interval. What is not computed says
    so.
    """
    scores = {
        (str(row.model), str(row.flux)): f"{row.RMSE:.2f}\N{NO-BREAK SPACE}({row.R2:.2f})"
        for _, row in summarise(sums).iterrows()
    }
    best = strongest(sums)
    cells: dict[str, str] = {}
    for flux in sums.fluxes:
        rivals = {"boosting": best.get(flux, BOOSTING), "published": PUBLISHED}
        for key, model in {"ours": OURS, **rivals, "climatology": "climatology"}.items():
            told = scores.get((model, flux), ABSENT)
            cells[f"{key}_{flux}"] = told.replace("-", "\N{MINUS SIGN}")
        for key, rival in rivals.items():
            for _, row in paired(sums, [(OURS, rival)]).iterrows():
                if row.flux == flux:
                    told = ABSENT if pd.isna(row.change) else with_interval(row)
                    cells[f"over_{key}_{flux}"] = told
    return cells


def _named(rows: pd.DataFrame) -> str:
    return ", ".join(rows.flux) if len(rows) else "no flux"


def class_bias(sums: Sums, model: str, by: str, n_boot: int = 1000) -> pd.DataFrame:
    """Bias of a model by class of towers, held against the class's mean flux.

    Classes of fewer than 5 towers are left out. GPP and RECO are too far off where the bias is
    above 10 % of the class's mean, NEE where it is above 0.25 gC m-2 d-1.

    Returns
    -------
    Table with columns class, flux, towers, days, mean (observed), bias, lower, upper (gC m-2 d-1;
    bounds at 90 % from drawing the class's towers), share (% of the mean), off (bool). Empty when
    the model is not computed or no class is large enough.
    """
    columns = ["class", "flux", "towers", "days", "mean", "bias", "lower", "upper", "share", "off"]
    if model not in sums.models:
        return pd.DataFrame(columns=columns)
    error = sums.error[sums.models.index(model)]
    names, group = sums.classes(by)
    rows = []
    for g, name in enumerate(names):
        inside = group == g
        if inside.sum() < MIN_TOWERS:
            continue
        n, wrong = sums.n[inside], error[inside]
        drawn = bootstrap_weights(len(n), n_boot)
        each = (drawn @ wrong) / (drawn @ n)[:, None]
        bounds = np.quantile(each, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        mean, bias = n @ sums.mean[inside] / n.sum(), wrong.sum(0) / n.sum()
        for f, flux in enumerate(sums.fluxes):
            share = 100 * bias[f] / abs(mean[f])
            off = abs(bias[f]) > MAX_NEE if flux == "NEE" else abs(share) > MAX_SHARE
            numbers = (mean[f], bias[f], *bounds[:, f], share, bool(off))
            rows.append((name, flux, int(inside.sum()), int(n.sum()), *numbers))
    return pd.DataFrame(rows, columns=columns)


def bias_in_words(table: pd.DataFrame) -> str:
    """Say which classes of `class_bias` are too far off, and whether by more than chance."""
    if table.empty:
        return f"{ABSENT}, or no class has {MIN_TOWERS} towers"
    off = table[table.off.astype(bool)]
    if off.empty:
        return f"none of {table['class'].nunique()} classes is beyond its bound"
    said = []
    for flux, rows in off.groupby("flux", sort=False):
        each = []
        for _, row in rows.iterrows():
            size = f"{row.bias:+.2f} gC m⁻² d⁻¹" if flux == "NEE" else f"{row.share:+.0f} %"
            within = "" if row.lower > 0 or row.upper < 0 else ", zero within its interval"
            each.append(f"{row['class']} ({size}{within})".replace("-", "\N{MINUS SIGN}"))
        said.append(f"{flux} {', '.join(each)}")
    return f"{len(off)} of {len(table)} are beyond their bounds: {'; '.join(said)}"


def cost(found: Results) -> pd.DataFrame:
    """Seconds of fitting and predicting, by model: in all, and for each of its fits.

    Returns
    -------
    Table (index model) with device (of networks), fits (folds x seeds), seconds, seconds a fit.
    """
    table = pd.DataFrame(index=found.about.index)
    table["device"] = found.about.reindex(columns=["device"]).device.fillna("")
    table["fits"] = [
        len(s) * int(k) for s, k in zip(found.about.seeds, found.about.folds, strict=True)
    ]
    table["seconds"] = found.about.seconds.astype(float).round()
    table["seconds a fit"] = (table.seconds / table.fits).round(1)
    return table


def cost_in_words(table: pd.DataFrame, ours: str = OURS) -> str:
    """Say what a fit of ours costs beside others, those on a GPU left out; see `cost`."""
    seconds = table["seconds a fit"][table.device.isin(("", "cpu"))]
    if ours not in seconds:
        return f"{ours} is {ABSENT}"
    others = seconds.drop(ours)
    said = f"A fit of {ours} with its predictions takes {seconds[ours]:.0f} s of a processor's core"
    if others.empty:
        return said
    least, most = str(others.idxmin()), str(others.idxmax())
    return (
        f"{said}; of the others the quickest, {least}, takes {others.min():.1f} s and the slowest, "
        f"{most}, {others.max():.0f} s"
    )
