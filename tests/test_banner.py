"""What a page says of the notebooks behind it: each by its own parameters, the weakest first."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tamrl.study.runner.banner import OTHER, SMOKE, Executed
from tamrl.study.runner.notebooks import Notebook

FIGURE = {"mystnb": {"figure": {"name": "fig-dot"}}}
LIST = (
    Notebook("01_a", smoke={"epochs": 1}, paper={"epochs": 9}),
    Notebook("02_b", smoke={"folds": 2}, after=("01_a",)),
    Notebook("03_c"),  # every profile is alike
)
PAGES = {
    "front": "{glue:text}`notebooks/01_a.ipynb::x:s` and {glue:text}`notebooks/03_c.ipynb::y:s`",
    "drawn": "```{figure} notebooks/figures/fig-dot.*\n```\n{doc}`notebooks/01_a`",
    "explorer": "```{glue} regions\n:doc: notebooks/02_b.ipynb\n```",
    "linked": "{doc}`notebooks/01_a`, `papermill notebooks/01_a.ipynb out.ipynb`",
}


def notes(folder: Path, given: dict[str, dict[str, Any]]) -> tuple[dict[str, str], bool]:
    """Write notebooks as Papermill leaves them, with what they were given, and a book's pages."""
    (folder / "notebooks").mkdir(parents=True)
    for name, values in given.items():
        cell = new_code_cell("", metadata=FIGURE if name == "03_c" else {})
        about = {"papermill": {"parameters": {"towers": "fluxnet2015", **values}}}
        nbformat.write(
            new_notebook(cells=[cell], metadata=about), folder / "notebooks" / f"{name}.ipynb"
        )
    for page, text in PAGES.items():
        (folder / f"{page}.md").write_text(text)
    executed = Executed(folder / "notebooks", LIST)
    return executed.notes(folder), executed.virtual


def test_a_notebook_of_a_smoke_run_is_named_where_its_numbers_are(tmp_path: Path) -> None:
    """Whatever ran last; what reads it is as weak, and a link or a command quotes nothing."""
    said, virtual = notes(tmp_path, {"01_a": {"epochs": 1}, "02_b": {}, "03_c": {}})
    assert not virtual
    assert said == {
        "notebooks/01_a": f"01_a: {SMOKE}.", "notebooks/02_b": f"02_b: {SMOKE}.",
        "front": f"01_a: {SMOKE}.", "explorer": f"02_b: {SMOKE}.",
    }  # fmt: skip
    assert "executed in the smoke profile" in said["front"]


@pytest.mark.parametrize("epochs", [{}, {"epochs": 9}])
def test_of_the_books_own_profiles_nothing_is_said(tmp_path: Path, epochs: dict[str, int]) -> None:
    assert notes(tmp_path, {"01_a": epochs, "02_b": {}, "03_c": {}})[0] == {}


def test_the_weakest_of_several_is_said(tmp_path: Path) -> None:
    """Parameters of no profile are named, and a notebook of virtual towers makes the book one."""
    given = {"01_a": {"epochs": 1}, "02_b": {}, "03_c": {"seed": 7, "towers": "virtual"}}
    said, virtual = notes(tmp_path, given)
    assert said["front"] == f"01_a, 03_c: {SMOKE}."
    assert said["drawn"] == said["notebooks/03_c"] == f"03_c: {OTHER}."
    assert virtual
