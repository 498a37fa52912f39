"""Is it the same study? Compares the tables of a run with those committed in results/reference.

    python -m tamrl.study.runner.verify            # compare runs/fluxnet2015 with results/reference
    python -m tamrl.study.runner.verify --accept   # commit-ready: take the tables of the run as reference

A network that is trained on another processor ends up with slightly other weights, so each kind
of number has a tolerance; counts of towers and days have none.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from tamrl.errors import DataError
from tamrl.files import atomic_write

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "runs" / "fluxnet2015"
REFERENCE = ROOT / "results" / "reference"

# Allowed difference by the beginning of a column's name: absolute, in the column's own unit, and
# relative to the reference. About twice the spread between seeds of one network.
TOLERANCE: dict[str, tuple[float, float]] = {
    "RMSE": (0.05, 0.0),  # gC m-2 d-1
    "MAE": (0.05, 0.0),
    "bias": (0.10, 0.0),
    "R2": (0.03, 0.0),
    "change": (3.0, 0.0),  # % of RMSE
    "rise": (0.1, 0.10),  # gC m-2 d-1
    "lower": (3.0, 0.10),
    "upper": (3.0, 0.10),
    "violation": (0.005, 0.30),  # gC m-2 d-1
    "value": (0.0, 0.05),  # PgC yr-1
}
ANY_OTHER = (1e-6, 0.05)


def allowed(column: str, reference: float) -> float:
    """Largest difference from the reference value that counts as the same."""
    kind = next((name for name in TOLERANCE if column.startswith(name)), None)
    absolute, relative = TOLERANCE[kind] if kind else ANY_OTHER
    return absolute + relative * abs(reference)


def compare_tables(fresh: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """List where two tables differ by more than is allowed.

    Rows are matched by their columns that hold no numbers and, where these do not tell all rows
    apart, by as many columns of integers, from the left, as do. Integers must agree exactly.

    Returns
    -------
    DataFrame with columns row, column, reference, fresh, allowed; empty when all agree. A row or
    column that one table lacks is listed with the value "absent".

    Examples
    --------
    An RMSE may differ by 0.05 gC m-2 d-1, the number of towers not at all.

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
    if lacking := [c for c in key if c not in fresh.columns]:
        return _differences([("every row", c, "text", "absent", 0.0) for c in lacking])
    old, new = (table.set_index(key) if key else table for table in (reference, fresh))
    for side, table in (("reference", old), ("fresh", new)):
        if not table.index.is_unique:
            raise DataError(
                f"the {side} table has two rows {table.index[table.index.duplicated()][0]}"
            )
    found: list[tuple[str, str, object, object, float]] = []
    for row in old.index.symmetric_difference(new.index):
        here = row in old.index
        sides = ("present", "absent") if here else ("absent", "present")
        found.append((_spell(row), "every column", *sides, 0.0))
    rows = old.index.intersection(new.index)
    for column in old.columns:
        if column not in new.columns:
            found.append(("every row", column, "present", "absent", 0.0))
            continue
        exact = pd.api.types.is_integer_dtype(old[column]) or pd.api.types.is_bool_dtype(
            old[column]
        )
        pair = zip(*(t.loc[rows, column].to_numpy(float) for t in (old, new)), strict=True)
        for row, (a, b) in zip(rows, pair, strict=True):
            margin = 0.0 if exact else allowed(column, a)
            if not (abs(a - b) <= margin or (np.isnan(a) and np.isnan(b))):
                found.append((_spell(row), column, a, b, margin))
    return _differences(found)


def compare(run: Path = RUN, reference: Path = REFERENCE) -> pd.DataFrame:
    """Compare each committed table (csv) with the run's one of the same name.

    Raises
    ------
    DataError
        When nothing is committed, or the run made none of the tables.
    """
    names = sorted(path.name for path in reference.glob("*.csv"))
    if not names:
        raise DataError(f"{reference} holds no table to compare with")
    if not any((run / name).is_file() for name in names):
        raise DataError(f"{run} holds none of {', '.join(names)}: run `make book` first")
    parts = []
    for name in names:
        if (run / name).is_file():
            part = compare_tables(pd.read_csv(run / name), pd.read_csv(reference / name))
        else:
            part = _differences([("every row", "every column", "present", "absent", 0.0)])
        parts.append(part.assign(table=name))
    return pd.concat(parts, ignore_index=True)[["table", *parts[0].columns.drop("table")]]


def verdict(run: Path = RUN, reference: Path = REFERENCE) -> str:
    """Say in one line whether a run's tables are the committed ones, and how to see what differs.

    Raises
    ------
    DataError
        As `compare`.
    """
    found = compare(run, reference)
    if found.empty:
        return f"Its tables are those of {reference.name}, within the stated tolerances."
    tables = ", ".join(sorted(set(found.table)))
    return (
        f"{len(found)} numbers differ from the committed ones by more than allowed, in {tables}: "
        "python -m tamrl.study.runner.verify lists them"
    )


def accept(run: Path = RUN, reference: Path = REFERENCE) -> list[str]:
    """Copy the run's tables (csv) to the reference; return their names."""
    tables = sorted(run.glob("*.csv"))
    if not tables:
        raise DataError(f"{run} holds no table: run `make book` first")
    for table in tables:
        with atomic_write(reference / table.name) as part:
            shutil.copyfile(table, part)
    return [table.name for table in tables]


def _spell(row: object) -> str:
    return ", ".join(map(str, row)) if isinstance(row, tuple) else str(row)


def _differences(found: list[tuple[str, str, object, object, float]]) -> pd.DataFrame:
    return pd.DataFrame(found, columns=["row", "column", "reference", "fresh", "allowed"])


def main(
    take: Annotated[bool, typer.Option("--accept", help="Make this run the reference.")] = False,
) -> None:
    """Compare the tables of the last run on real towers with the committed ones."""
    try:
        if take:
            typer.echo(f"Now the reference, in {REFERENCE}: {', '.join(accept())}")
            return
        differences = compare()
    except DataError as error:
        typer.echo(f"tamrl: {error}", err=True)
        raise typer.Exit(1) from error
    if differences.empty:
        typer.echo(f"The tables of {RUN} are those of {REFERENCE}, within the stated tolerances.")
        return
    typer.echo(differences.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    typer.echo(f"{len(differences)} numbers differ from {REFERENCE} by more than is allowed.")
    raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
