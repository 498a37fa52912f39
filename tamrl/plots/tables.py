"""Tables of the book: headings in words with units, numbers rounded and aligned, long ones folded.

A cell of a notebook that ends in `table` shows HTML that scrolls inside its own box; on a terminal
the frame keeps pandas' own text. The frame itself is not changed.
"""

from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

UNIT = "gC m⁻² d⁻¹"
FOLD = 20  # a table of more rows is folded
LONG = 14  # letters; a cell of more gets more room
ABSENT, INFINITE, FIGURE_SPACE = "\N{EN DASH}", "∞", "\N{FIGURE SPACE}"
HEADINGS = {  # what columns and rows are called in words; {} stands for the unit of fluxes
    "igbp": "vegetation class", "stratum": "vegetation class", "koppen": "climate (Köppen)",
    "site": "tower", "km": "distance up to (km)", "lat": "latitude (°)", "lon": "longitude (°)",
    "long_towers": "towers with 30 days or more", "worst": "tower that differs most",
    "R2": "R²", "RMSE": "RMSE ({})", "bias": "bias ({})", "MAE": "mean absolute error ({})",
    "tower_RMSE": "mean of tower RMSE ({})", "mean_RMSE": "mean of tower RMSE ({})",
    "rival_RMSE": "RMSE of the rival ({})", "mean_rival_RMSE": "mean of tower RMSE, rival ({})",
    "R2_50": "R² per tower, median", "RMSE_50": "RMSE per tower, median ({})",
    "bias_50": "bias per tower, median ({})", "MAE_50": "absolute error per tower, median ({})",
    "r2_50": "squared correlation per tower, median", "annual_R2": "R² of annual means",
    "annual_RMSE": "RMSE of annual means ({})", "r": "correlation", "rho": "rank correlation",
    "change": "change of RMSE (%)", "mean_change": "change of mean tower RMSE (%)",
    "tower_change": "change of mean tower RMSE (%)", "pooled": "change of pooled RMSE (%)",
    "without_top": "change without the five towers that gain most (%)",
    "better": "towers with less error (share)", "worse": "towers with more error (share)",
    "much_worse": "towers with 10 % more error (share)", "inside": "within bounds",
    "met": "aim met", "mean": "mean ({})", "share": "bias over mean (%)", "off": "beyond its limit",
    "tower_coverage": "coverage, mean over towers", "width": "width ({})", "crps": "CRPS ({})",
    "violation": "mean |NEE \N{MINUS SIGN} (RECO \N{MINUS SIGN} GPP)| ({})",
    "cut": "less imbalance than without closure (%), 90 % interval",
    "observed": "observed ({})", "predicted": "predicted ({})", "sd": "standard deviation ({})",
    "anomaly": "anomaly ({})", "usual": "usual ({})", "says": "verdict", "units": "unit",
    "resolved": "fluxes resolved", "rival": "compared with", "differs": "what differs",
    "single": "RMSE of one seed ({})", "best": "best seed ({})", "gain": "less error (%)",
    "RMS": "root mean square difference ({})", "mean_RMS": "the same of tower means ({})",
    "n_models": "models", "n_folds": "folds", "n_members": "members a fold", "n_days": "tower-days",
    "n_towers": "towers", "missing": "not computed", "index": "dissimilarity index",
    **{f"{score} {flux}": f"{score} {flux} ({{}})"
       for score in ("mean", "RMSE") for flux in ("GPP", "RECO", "NEE")},
}  # fmt: skip
Triple = tuple[str, str, str]


@dataclass(frozen=True, repr=False)
class Table:
    """A typeset ``frame``: HTML for notebooks, pandas' text elsewhere."""

    frame: pd.DataFrame
    html: str

    def __repr__(self) -> str:
        """Give pandas' own text."""
        return repr(self.frame)

    def _repr_html_(self) -> str:
        return self.html


def table(
    frame: pd.DataFrame | pd.Series, caption: str = "", *,
    headings: Mapping[str, str] = MappingProxyType({}), unit: str = UNIT,
    digits: int | Mapping[str, int | str] = 2, intervals: Sequence[Triple] = (), fold: int = FOLD,
) -> Table:  # fmt: skip
    """Typeset a frame for readers; a Series has a row for each of its labels.

    ``headings`` adds to `HEADINGS`, in which ``unit`` takes the place of braces. ``digits`` are
    decimals, or by column, where a text is a format such as ".1e"; of those not named per cent have
    one, whole numbers none, others two. ``intervals`` are columns (value, lower, upper) that become
    one, as do x, x_lower, x_upper; change, lower, upper; x_50, x_25, x_75. A table of more than
    ``fold`` rows is folded. KeyError where a value lacks its bounds.

    >>> gain = pd.DataFrame({"flux": ["GPP"], "change": [-2.31], "lower": [-3.1], "upper": [-1.4]})
    >>> table(gain.set_index("flux")).html.partition("<td>")[2][:17].replace("\N{MINUS SIGN}", "-")
    '-2.3 [-3.1, -1.4]'
    """
    given, whole = {**HEADINGS, **headings}, unit.replace(" ", "\N{NO-BREAK SPACE}")
    words = {name: text.format(whole) for name, text in given.items()}
    bare = isinstance(frame, pd.Series) and frame.name is None
    if isinstance(frame, pd.Series):
        frame = frame.to_frame(frame.name or "value").rename(index=words)
    named = {value for value, *_ in intervals}  # what these are is in their headings
    rows, long = frame.index, len(frame) > fold
    text, sides = _cells(frame, words, named, digits, [*intervals, *_triples(frame.columns)])
    labels = [] if isinstance(rows, pd.RangeIndex) and rows.name is None else _labels(rows)
    names = [words.get(str(name), str(name or "")) for name in rows.names][: len(labels)]
    label = escape(caption or "table")
    html = (
        f'<div class="tamrl-table" role="group" aria-label="{label}" tabindex="0"'
        f' style="overflow-x:auto"><table class="dataframe{" one" * (len(labels) == 1)}">'
        f"{'' if long else _tag('caption', caption)}"
        f"<thead>{'' if bare else _head(text.columns, names, sides)}</thead>"
        f"<tbody>{''.join(_rows(text, labels, sides))}</tbody></table></div>"
    )
    if long:
        count = f"{caption or 'The whole table'} ({len(frame)} rows)"
        html = f'<details class="tamrl-table">{_tag("summary", count)}{html}</details>'
    return Table(frame, html)


def _triples(columns: pd.Index) -> Iterator[Triple]:
    """Find columns that are a value with its bounds, by their names."""
    for name in filter(lambda each: isinstance(each, str), columns):
        ends = name.removesuffix("50"), name.removesuffix("change")
        for value, *bounds in (
            (name, f"{name}_lower", f"{name}_upper"),
            (f"{ends[0]}50", f"{ends[0]}25", f"{ends[0]}75"),
            (f"{ends[1]}change", f"{ends[1]}lower", f"{ends[1]}upper"),
        ):
            if value == name and {*bounds} <= {*columns}:
                yield name, bounds[0], bounds[1]


def _cells(
    frame: pd.DataFrame, words: Mapping[str, str], named: Container[str], digits: Any,
    triples: Sequence[Triple],
) -> tuple[pd.DataFrame, list[str]]:  # fmt: skip
    """Spell all cells, with headings in words; side ("" or "text") of each column."""
    bounds = {value: (lower, upper) for value, lower, upper in triples}
    inside = {name for pair in bounds.values() for name in pair}
    columns, heads, sides = [], [], []
    for at, key in enumerate(frame.columns):
        levels = key if isinstance(key, tuple) else (key,)
        head = [words.get(str(level), str(level)) for level in levels]
        if key in inside:
            continue
        values, ends = frame.iloc[:, at], [frame[name] for name in bounds.get(key, ())]
        spec = _spec([v for part in (values, *ends) for v in part], levels, head, digits)
        cells, *outer = [[_spell(value, spec) for value in part] for part in (values, *ends)]
        if key in bounds:
            cells = _joined(cells, *outer)
            kind = "quartiles" if str(key).endswith("_50") else "90\N{NO-BREAK SPACE}% interval"
            head[-1] += f", {kind}" * (key not in named)
        columns.append(cells)
        heads.append(tuple(head))
        numbers = [isinstance(v, (int, float, np.number)) or pd.isna(v) for v in values]
        sides.append("" if all(numbers) else "text")
    text = pd.DataFrame(dict(enumerate(columns)), index=frame.index, dtype=object)
    text.columns = pd.MultiIndex.from_tuples(heads) if heads else pd.MultiIndex.from_arrays([[]])
    return text, sides


def _spec(
    values: Sequence[Any], levels: Sequence[Hashable], head: Sequence[str], digits: Any
) -> str:
    """Format of the numbers of a column."""
    named = digits if isinstance(digits, Mapping) else {}
    if own := [named[name] for name in levels if name in named]:
        return own[-1] if isinstance(own[-1], str) else f",.{own[-1]}f"
    numbers = [v for v in values if isinstance(v, (int, float, np.number)) and np.isfinite(v)]
    if all(float(v).is_integer() for v in numbers):
        return ",.0f"
    per_cent = any("(%)" in text for text in head)
    return f",.{1 if per_cent else digits if isinstance(digits, int) else 2}f"


def _spell(value: Any, spec: str) -> str:
    """Spell one cell, with true minus signs and never minus nothing.

    >>> [_spell(v, ".1f") for v in (-0.01, 1.25, True, "CRO")]
    ['0.0', '1.2', 'yes', 'CRO']
    """
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return ABSENT
    if not isinstance(value, (int, float, np.number)):
        return str(value).removesuffix(" 00:00:00")
    if np.isinf(value):
        return INFINITE
    text = format(value, spec)
    text = text.lstrip("-") if not text.strip("-0.,") else text
    return text.replace("-", "\N{MINUS SIGN}")


def _joined(*parts: list[str]) -> list[str]:
    """Join value, lower and upper bounds, with brackets under brackets."""
    rows = [*zip(*parts, strict=True)]
    bounds = [f"[{a}, {b}]" if a not in (ABSENT, b) else "" for _, a, b in rows]
    room = max(map(len, bounds), default=0)
    if not room:
        return [value for value, *_ in rows]
    values = (value for value, *_ in rows)
    return [f"{v} {b.ljust(room, FIGURE_SPACE)}" for v, b in zip(values, bounds, strict=True)]


def _labels(index: pd.Index) -> list[list[str]]:
    """Labels of each level of the rows, as text."""
    levels = [index.get_level_values(k) for k in range(index.nlevels)]
    return [[_spell(label, "g") for label in level] for level in levels]


def _tag(name: str, text: str, **attributes: Any) -> str:
    given = "".join(f' {key}="{value}"' for key, value in attributes.items() if value)
    return f"<{name}{given}>{escape(text)}</{name}>" if text else ""


def _look(text: str, side: str) -> dict[str, str]:
    """Class of a cell, which says whether its text needs room."""
    return {"class": f"{side} long".strip() if len(text) > LONG else side}


def _head(columns: pd.Index, names: Sequence[str], sides: Sequence[str]) -> str:
    """Head of a table: names of the row labels once, equal headings together."""
    rows = []
    for level in range(columns.nlevels):
        cells = []
        if not level:
            for name in names:
                down = f' rowspan="{columns.nlevels}"' if columns.nlevels > 1 else ""
                cells.append(f'<th scope="col" class="text"{down}>{escape(name)}</th>' if name
                             else f"<td{down}></td>")  # fmt: skip
        heads = [(key[: level + 1], side) for key, side in zip(columns, sides, strict=True)]
        for key, group in groupby(heads, itemgetter(0)):
            members = list(group)
            wide = len(members) if len(members) > 1 else 0
            look = {"scope": "colgroup" if wide else "col", "colspan": wide}
            side = "group" if wide else members[0][1]
            head = _tag("th", key[-1], **look, **_look(key[-1], side))
            cells.append(head or f'<td colspan="{len(members)}"></td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return "".join(rows)


def _rows(
    text: pd.DataFrame, labels: Sequence[Sequence[str]], sides: Sequence[str]
) -> Iterator[str]:
    """Rows of a table; a label that several rows share is written once."""
    rows = list(zip(*labels, strict=True)) if labels else [()] * len(text)
    for at, (row, cells) in enumerate(zip(rows, text.to_numpy(), strict=True)):
        out = []
        for k, label in enumerate(row[:-1]):
            if at and rows[at - 1][: k + 1] == row[: k + 1]:
                continue
            same = (other[: k + 1] == row[: k + 1] for other in rows[at:])
            down = next((n for n, equal in enumerate(same) if not equal), len(rows) - at)
            span = {"rowspan": down if down > 1 else 0, **_look(label, "")}
            out.append(_tag("th", label or ABSENT, scope="row", **span))
        if row:
            out.append(_tag("th", row[-1] or ABSENT, scope="row", **_look(row[-1], "")))
        out += [_tag("td", cell or ABSENT, **(_look(cell, side) if side else {}))
                for cell, side in zip(cells, sides, strict=True)]  # fmt: skip
        yield f"<tr>{''.join(out)}</tr>"
