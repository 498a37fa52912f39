"""A run is told apart from the committed one by what matters, and by nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tamrl.errors import DataError
from tamrl.study.runner.verify import REFERENCE, accept, allowed, compare, compare_tables


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": ["TAM-RL", "TAM-RL", "Boosting"],
            "flux": ["GPP", "NEE", "NEE"],
            "RMSE": [2.1, 1.8, 1.85],
            "R2_50": [0.6, 0.2, np.nan],
            "days": [1000, 1000, 1000],
        }
    )


def test_order_of_rows_and_small_differences_do_not_matter(table: pd.DataFrame) -> None:
    fresh = table.assign(RMSE=table.RMSE + 0.04).iloc[::-1]
    assert compare_tables(fresh, table).empty


def test_a_score_beyond_its_tolerance_is_told(table: pd.DataFrame) -> None:
    fresh = table.copy()
    fresh.loc[1, "RMSE"] += 0.06
    (told,) = compare_tables(fresh, table).itertuples(index=False)
    assert (told.row, told.column, told.allowed) == ("TAM-RL, NEE", "RMSE", 0.05)
    assert told.fresh == pytest.approx(1.86)


def test_a_score_that_became_missing_is_told(table: pd.DataFrame) -> None:
    fresh = table.copy()
    fresh.loc[0, "R2_50"] = np.nan
    assert list(compare_tables(fresh, table).column) == ["R2_50"]


def test_counts_are_exact(table: pd.DataFrame) -> None:
    assert len(compare_tables(table.assign(days=1001), table)) == 3


def test_rows_and_columns_that_went_or_came_are_told(table: pd.DataFrame) -> None:
    gone = compare_tables(table.iloc[:2], table)
    assert gone[["row", "fresh"]].to_numpy().tolist() == [["Boosting, NEE", "absent"]]
    come = compare_tables(table, table.iloc[:2])
    assert come[["row", "reference"]].to_numpy().tolist() == [["Boosting, NEE", "absent"]]
    assert list(compare_tables(table.drop(columns="RMSE"), table).column) == ["RMSE"]
    assert list(compare_tables(table.drop(columns="flux"), table).column) == ["flux"]


def test_rows_that_differ_in_a_count_alone_are_told_apart_by_it() -> None:
    """Errors by labelled days: the days are no result but say which row it is."""
    old = pd.DataFrame({"days": [0, 30, 0], "flux": ["GPP", "GPP", "NEE"], "RMSE": [2.0, 1.9, 1.5]})
    assert compare_tables(old.iloc[::-1], old).empty
    (told,) = compare_tables(old.assign(RMSE=[2.0, 1.7, 1.5]), old).itertuples(index=False)
    assert (told.row, told.reference) == ("GPP, 30", 1.9)


def test_every_committed_table_can_be_compared() -> None:
    """A reference whose rows cannot be told apart would never be checked."""
    for path in sorted(REFERENCE.glob("*.csv")):
        kept = pd.read_csv(path)
        assert compare_tables(kept, kept).empty, path.name


def test_twofold_rows_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"fresh table has two rows .*GPP"):
        compare_tables(pd.concat([table, table.iloc[:1]]), table)


def test_tolerance_goes_by_the_kind_of_number() -> None:
    assert allowed("RMSE_50", 2.0) == 0.05
    assert allowed("value", 100.0) == pytest.approx(5.0)


def test_a_run_is_compared_file_by_file(table: pd.DataFrame, tmp_path: Path) -> None:
    run, reference = tmp_path / "runs", tmp_path / "tables"
    run.mkdir()
    with pytest.raises(DataError, match="no table to compare with"):
        compare(run, reference)
    with pytest.raises(DataError, match="make book"):
        accept(run, reference)
    table.to_csv(run / "03_scores.csv", index=False)
    table.to_csv(run / "04_balance.csv", index=False)
    assert accept(run, reference) == ["03_scores.csv", "04_balance.csv"]
    assert compare(run, reference).empty
    (run / "04_balance.csv").unlink()
    assert list(compare(run, reference).table) == ["04_balance.csv"]
    (run / "03_scores.csv").unlink()
    with pytest.raises(DataError, match="make book"):
        compare(run, reference)
