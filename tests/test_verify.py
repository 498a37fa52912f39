"""A run differs from the committed one by what matters, and by nothing else."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tamrl.errors import DataError
from tamrl.study.runner.notebooks import STUDY
from tamrl.study.runner.run import origin
from tamrl.study.runner.verify import (
    EARLIER,
    NOW,
    OTHER,
    REFERENCE,
    accept,
    compare,
    compare_tables,
    note_origins,
    origins,
)


@pytest.fixture
def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"model": ["TAM-RL", "TAM-RL", "Boosting"], "flux": ["GPP", "NEE", "NEE"],
         "RMSE": [2.1, 1.8, 1.85], "R2_50": [0.6, 0.2, np.nan], "days": [1000, 1000, 1000]}
    )  # fmt: skip


def listed(fresh: pd.DataFrame, reference: pd.DataFrame) -> list[tuple]:
    differences = compare_tables(fresh, reference).drop(columns="allowed")
    return list(differences.itertuples(index=False, name=None))


def test_order_of_rows_and_small_differences_do_not_matter(table: pd.DataFrame) -> None:
    assert compare_tables(table.assign(RMSE=table.RMSE + 0.04).iloc[::-1], table).empty


def test_numbers_beyond_their_tolerance_are_listed(table: pd.DataFrame) -> None:
    """A score by its kind of number, a missing one, and a count that is not exactly the same."""
    fresh = table.assign(RMSE=[2.1, 1.86, 1.85], R2_50=[np.nan, 0.2, np.nan])
    differences = [("TAM-RL, NEE", "RMSE"), ("TAM-RL, GPP", "R2_50")]
    assert [row[:2] for row in listed(fresh, table)] == differences
    assert compare_tables(fresh, table).allowed[0] == 0.05
    assert len(compare_tables(table.assign(days=1001), table)) == 3
    budget = pd.DataFrame({"source": ["map"], "value": [100.0]})
    assert compare_tables(budget.assign(value=104.9), budget).empty
    assert not compare_tables(budget.assign(value=105.1), budget).empty


@pytest.mark.parametrize(("name", "allowed"), [("change", 3.0), ("RMSE", 0.05)])
def test_bounds_may_differ_as_what_they_bound(name: str, allowed: float) -> None:
    old = pd.DataFrame({"flux": ["NEE"], name: [1.0], "lower": [0.5], "upper": [1.5]})
    assert list(compare_tables(old.assign(lower=-9.0, upper=9.0), old).allowed) == [allowed] * 2


def test_rows_and_columns_that_went_or_came_are_listed(table: pd.DataFrame) -> None:
    row = ("Boosting, NEE", "every column")
    assert listed(table.iloc[:2], table) == [(*row, "present", "absent")]
    assert listed(table, table.iloc[:2]) == [(*row, "absent", "present")]
    for gone in ("RMSE", "flux"):
        absent = [("every row", gone, "present", "absent")]
        assert listed(table.drop(columns=gone), table) == absent
    assert listed(table, table.drop(columns="RMSE")) == [("every row", "RMSE", "absent", "present")]


def test_rows_may_differ_in_a_count_alone() -> None:
    """Errors by labelled days: the days are no result but say which row it is."""
    old = pd.DataFrame({"days": [0, 30, 0], "flux": ["GPP", "GPP", "NEE"], "RMSE": [2.0, 1.9, 1.5]})
    assert compare_tables(old.iloc[::-1], old).empty
    assert listed(old.assign(RMSE=[2.0, 1.7, 1.5]), old) == [("GPP, 30", "RMSE", 1.9, 1.7)]


def test_every_committed_table_can_be_compared() -> None:
    """A reference with two rows of one key would never be checked."""
    assert compare(REFERENCE, REFERENCE).empty


def test_twofold_rows_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"fresh table has two rows .*GPP"):
        compare_tables(pd.concat([table, table.iloc[:1]]), table)


def test_a_run_is_compared_file_by_file(table: pd.DataFrame, tmp_path: Path) -> None:
    run, reference = tmp_path / "runs", tmp_path / "tables"
    run.mkdir()
    with pytest.raises(DataError, match="no table to compare with"):
        compare(run, reference)
    with pytest.raises(DataError, match="make book"):
        accept(run, reference)
    names = ["03_scores.csv", "04_balance.csv"]
    for name in names:
        table.to_csv(run / name, index=False)
    assert accept(run, reference) == names
    assert compare(run, reference).empty
    table.to_csv(run / "08_marshes.csv", index=False)
    new = compare(run, reference)[["table", "row", "reference", "fresh"]]
    assert new.to_numpy().tolist() == [["08_marshes.csv", "every row", "absent", "present"]]
    (run / "08_marshes.csv").unlink()
    (run / names[1]).unlink()
    assert list(compare(run, reference).table) == names[1:]
    (run / names[0]).unlink()
    with pytest.raises(DataError, match="make book"):
        compare(run, reference)


FAULTS: dict[str, tuple[str | bytes, str]] = {  # what a table is, what is said
    "empty": ("", "03_scores.csv: no such table"),
    "an image": (b"\x89PNG\xff\x00", "03_scores.csv: no such table"),
    "of another encoding": ("model,flux\n".encode("utf-16"), "03_scores.csv: no such table"),
    "words for numbers": (
        "model,flux,RMSE,R2_50,days\nTAM-RL,GPP,bad,1,9\n", "03_scores.csv: column RMSE has"),
    "numbers for words": (
        "model,flux,RMSE,R2_50,days\n1,GPP,1,1,9\n", "03_scores.csv: column model has"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_table_is_named(fault: str, table: pd.DataFrame, tmp_path: Path) -> None:
    """One error, in whichever folder; no such table becomes a reference, nor do those before it."""
    content, words = FAULTS[fault]
    run, reference = tmp_path / "runs", tmp_path / "tables"
    for folder in (run, reference):
        folder.mkdir()
        table.to_csv(folder / "01_a.csv", index=False)
        table.to_csv(folder / "03_scores.csv", index=False)
    (run / "01_a.csv").write_text("other\n1\n")
    broken = content if isinstance(content, bytes) else content.encode()
    (run / "03_scores.csv").write_bytes(broken)
    for folders in ((run, reference), (reference, run)):
        with pytest.raises(DataError, match=words):
            compare(*folders)
    if "no such table" in words:
        with pytest.raises(DataError, match=words):
            accept(run, reference)
        assert (reference / "01_a.csv").read_text() == table.to_csv(index=False)


@pytest.mark.parametrize("noted", ["", "[1]", '"x"', '{"03', "\ufeff{}"])
def test_a_damaged_note_of_origins_costs_nothing(noted: str, tmp_path: Path) -> None:
    (tmp_path / "03_scores.csv").touch()
    (tmp_path / "origins.json").write_text(noted)
    assert origins(tmp_path) == "Tables of unknown origin: 03_scores."
    note_origins(tmp_path, {"03_scores": NOW})
    assert origins(tmp_path) == f"Tables {NOW}: 03_scores."


def test_it_is_said_which_tables_were_computed(tmp_path: Path) -> None:
    """In the last run, in an earlier one, or never: what was read from stored tables."""
    for name in ("03_scores", "07_adaptation", "virtual_08_scores", "99_old"):
        (tmp_path / f"{name}.csv").touch()
    stored = "read from those stored in results/adaptation, not computed"
    note_origins(tmp_path, {"03_scores": NOW, "07_adaptation": stored})
    note_origins(tmp_path, {"08_gases": NOW})
    assert origins(tmp_path).splitlines() == [
        f"Tables {EARLIER}: 03_scores.", f"Tables {stored}: 07_adaptation.",
        "Tables of unknown origin: 99_old.", f"Tables {NOW}: virtual_08_scores.",
    ]  # fmt: skip


def test_tables_of_other_settings_become_no_reference(table: pd.DataFrame, tmp_path: Path) -> None:
    """As of a quick look, and for as long as the notebook was not executed as planned."""
    (notebook,) = [nb for nb in STUDY if nb.name == "03_scores"]
    table.to_csv(tmp_path / "03_scores.csv", index=False)
    for settings, said in ((notebook.smoke, OTHER), (notebook.reference, NOW)):
        assert origin(notebook, {**settings, "towers": "fluxnet2015"}, [notebook]) == said
    note_origins(tmp_path, {"03_scores": OTHER})
    note_origins(tmp_path, {"04_balance": NOW})
    with pytest.raises(DataError, match=r"03_scores: computed with other settings .*make verify"):
        accept(tmp_path, tmp_path / "reference")
    note_origins(tmp_path, {"03_scores": NOW})
    assert accept(tmp_path, tmp_path / "reference") == ["03_scores.csv"]


def test_the_reference_has_tables_of_every_notebook_that_leaves_some() -> None:
    none = ("00", "01", "02", "12", "13", "15", "16")
    wanted = {nb.name[:2] for nb in STUDY if not nb.name.startswith(none)}
    assert {path.name.removeprefix("virtual_")[:2] for path in REFERENCE.glob("*.csv")} == wanted
