"""Compares the tables of a run, in runs/fluxnet2015, with those committed in results/reference.

`python -m tamrl.study.runner.verify` lists what differs, `--accept` makes the run's tables the
reference. A network trained on another processor has slightly other weights, so each kind of number
has a tolerance; counts of towers and days have none.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from tamrl.errors import DataError
from tamrl.evaluate.tables import read_plain
from tamrl.files import atomic_write
from tamrl.study.runner.execute import ROOT

RUN, REFERENCE = ROOT / "runs" / "fluxnet2015", ROOT / "results" / "reference"
ORIGINS = "origins.json"  # beside a run's tables: notebook -> where its tables come from
NOW, EARLIER = "computed in the last run", "computed in an earlier run"
OTHER = "computed with other settings than those of the reference"
COLUMNS = ["row", "column", "reference", "fresh", "allowed"]

# Allowed difference by the beginning of a column's name: absolute, in the column's own unit, and
# relative to the reference. About twice the spread between seeds of one network. ``lower`` and
# ``upper`` have the tolerance of the column left of them, which they bound.
TOLERANCE: dict[str, tuple[float, float]] = {
    "RMSE": (0.05, 0.0), "MAE": (0.05, 0.0), "bias": (0.10, 0.0), "R2": (0.03, 0.0),
    "change": (3.0, 0.0),  # % of RMSE
    "rise": (0.1, 0.10), "violation": (0.005, 0.30),  # gC m-2 d-1, as RMSE, MAE, bias
    "value": (0.0, 0.05),  # PgC yr-1
    "": (1e-6, 0.05),  # any other
}  # fmt: skip


def tolerance(column: pd.Series) -> tuple[float, float]:
    """Absolute and relative difference that counts as the same; none for counts and flags."""
    if pd.api.types.is_integer_dtype(column) or pd.api.types.is_bool_dtype(column):
        return 0.0, 0.0
    return next(t for start, t in TOLERANCE.items() if str(column.name).startswith(start))


def compare_tables(fresh: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """List where two tables differ by more than is allowed, in `COLUMNS`.

    Rows are matched by columns without numbers and, while these are not unique, by columns of
    integers from the left. What one table lacks is "absent". DataError for two rows of the same
    key. An RMSE may differ by 0.05 gC m-2 d-1, a count not at all:

    >>> old = pd.DataFrame({"flux": ["GPP", "NEE"], "RMSE": [2.1, 1.5], "towers": [180, 180]})
    >>> new = pd.DataFrame({"flux": ["GPP", "NEE"], "RMSE": [2.12, 1.7], "towers": [180, 180]})
    >>> compare_tables(new, old)
       row column  reference  fresh  allowed
    0  NEE   RMSE        1.5    1.7     0.05
    """
    key = [c for c in reference.columns if not pd.api.types.is_numeric_dtype(reference[c])]
    for column in reference.select_dtypes("integer").columns:
        if not key or not reference.duplicated(key).any():
            break
        key.append(column)
    columns = list(reference.columns)
    here = set(columns).symmetric_difference(fresh.columns)
    differences = [_absent("every row", c, c in reference.columns) for c in sorted(here)]
    if here & set(key):
        return pd.DataFrame(differences, columns=COLUMNS)
    by = key or ["row"]
    for name in (c for c in columns if c not in here):
        if len({pd.api.types.is_numeric_dtype(t[name]) for t in (fresh, reference) if len(t)}) > 1:
            raise DataError(f"column {name} has numbers in one table and words in the other")
    old, new = (t if key else t.assign(row=range(len(t))) for t in (reference, fresh))
    for side, table in (("reference", old), ("fresh", new)):
        for row in table.loc[table.duplicated(by), by].to_numpy().tolist():
            raise DataError(f"the {side} table has two rows {row}")
    both = old.merge(new, "outer", by, suffixes=("", ":fresh"), indicator=True)
    names = [", ".join(map(str, row)) for row in both[by].to_numpy()]
    matched = both._merge == "both"
    for i in both.index[~matched]:
        differences.append(_absent(names[i], "every column", both._merge[i] == "left_only"))
    for column in (c for c in columns if c not in {*by, *here}):
        centre = columns[columns.index("lower") - 1] if column in ("lower", "upper") else column
        absolute, relative = tolerance(reference[column].rename(centre))
        a, b = (both[name].astype(float) for name in (column, f"{column}:fresh"))
        same = np.isclose(b, a, relative, absolute, equal_nan=True)
        for i in both.index[~same & matched]:
            differences.append((names[i], column, a[i], b[i], absolute + relative * abs(a[i])))
    return pd.DataFrame(differences, columns=COLUMNS)


def _absent(row: str, column: str, committed: bool) -> tuple[str, str, object, object, float]:
    sides = ("present", "absent") if committed else ("absent", "present")
    return row, column, *sides, 0.0


def compare(run: Path = RUN, reference: Path = REFERENCE) -> pd.DataFrame:
    """Compare each csv, committed or the run's; DataError when the run has none that is committed.

    A table that only one of them has is "absent" in the other.
    """
    names = sorted(path.name for path in reference.glob("*.csv"))
    if not names:
        raise DataError(f"{reference} holds no table to compare with")
    if not any((run / name).is_file() for name in names):
        raise DataError(f"{run} holds none of {', '.join(names)}: run `make book` first")
    parts: dict[str, pd.DataFrame] = {}
    for name in sorted({*names, *(path.name for path in run.glob("*.csv"))}):
        one = [_absent("every row", "every column", name in names)]
        parts[name] = pd.DataFrame(one, columns=COLUMNS)
        if name in names and (run / name).is_file():
            both = read_plain(run / name), read_plain(reference / name)
            try:
                parts[name] = compare_tables(*both)
            except DataError as error:
                raise DataError(f"{run / name}: {error}; run `make book` again") from error
    return pd.concat(parts, names=["table"]).reset_index("table").reset_index(drop=True)


def verdict(differences: pd.DataFrame) -> str:
    """Say in one line whether a run's tables are the committed ones, from what `compare` lists."""
    if differences.empty:
        return "The tables are those of results/reference, within the stated tolerances."
    tables, count = ", ".join(differences.table.unique()), len(differences)
    return f"{count} numbers differ by more than allowed (make verify lists them): {tables}"


def note_origins(run: Path, origins: dict[str, str]) -> None:
    """Note where the tables of these notebooks come from; the others' are of an earlier run."""
    known = {name: EARLIER if origin == NOW else origin for name, origin in _noted(run).items()}
    with atomic_write(run / ORIGINS) as part:
        part.write_text(json.dumps(known | origins, indent=1))


def _noted(run: Path) -> dict[str, str]:
    """Origins that were noted beside a run's tables; none where the note is damaged."""
    try:
        return dict(json.loads((run / ORIGINS).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _by_table(run: Path) -> dict[str, str]:
    """Origin of each table of a run, by its name."""
    of_number = {name[:2]: origin for name, origin in _noted(run).items()}
    names = sorted(path.stem for path in run.glob("*.csv"))
    number = {name: name.removeprefix("virtual_")[:2] for name in names}
    return {name: of_number.get(number[name], "of unknown origin") for name in names}


def origins(run: Path = RUN) -> str:
    """Say in a line each which tables were computed, when, and which were read from stored ones."""
    tables: dict[str, list[str]] = {}
    for name, origin in _by_table(run).items():
        tables.setdefault(origin, []).append(name)
    return "\n".join(f"Tables {how}: {', '.join(names)}." for how, names in tables.items())


def accept(run: Path = RUN, reference: Path = REFERENCE) -> list[str]:
    """Copy the run's tables (csv) to the reference; return their names."""
    names = sorted(path.name for path in run.glob("*.csv"))
    if not names:
        raise DataError(f"{run} holds no table: run `make book` first")
    if other := [name for name, origin in _by_table(run).items() if origin == OTHER]:
        raise DataError(f"{run}: {', '.join(other)}: {OTHER}; run `make verify` first")
    for name in names:
        read_plain(run / name)  # before any reference goes
    for name in names:
        with atomic_write(reference / name) as part:
            shutil.copyfile(run / name, part)
    return names


def main(take: Annotated[bool, typer.Option("--accept", help="Accept this run.")] = False) -> None:
    """Compare the tables of the last run on real towers with the committed ones."""
    try:
        if take:
            return typer.echo(f"Now the reference, in {REFERENCE}: {', '.join(accept())}")
        differences = compare()
    except DataError as error:
        sys.exit(f"tamrl: {error}")
    if not differences.empty:
        typer.echo(differences.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    typer.echo(f"{origins()}\n{verdict(differences)}")
    sys.exit(not differences.empty)


if __name__ == "__main__":
    typer.run(main)
