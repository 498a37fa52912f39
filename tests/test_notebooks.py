"""Notebooks and book keep their promises before anything is executed.

A notebook states one claim, explains its parameters, holds no logic, is stored without outputs,
describes every figure for those who cannot see it, and ends with three things to try.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from tamrl.study.runner.run import ROOT, STUDY

PATHS = [ROOT / "notebooks" / f"{notebook.name}.ipynb" for notebook in STUDY]
PAGES = sorted((ROOT / "book").glob("*.md"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def cells(path: Path) -> list[nbformat.NotebookNode]:
    """Return the cells of a notebook."""
    return list(nbformat.read(path, as_version=4).cells)


def tagged(path: Path, tag: str) -> list[str]:
    """Return the sources of the cells with a tag."""
    return [c.source for c in cells(path) if tag in c.metadata.get("tags", [])]


@each_notebook
def test_it_is_stored_without_outputs(path: Path) -> None:
    """What is stored is the recipe, not a result of some machine."""
    code = [c for c in cells(path) if c.cell_type == "code"]
    assert all(not c.outputs and c.execution_count is None for c in code)


@each_notebook
def test_it_opens_with_a_claim_and_ends_with_three_things_to_try(path: Path) -> None:
    """The first cell is a title and a paragraph, the last a list of three."""
    first, *_, last = cells(path)
    title, _, rest = first.source.partition("\n")
    assert re.match(r"# \S.{20,}", title)
    assert len(rest.split()) > 20
    head, _, list_ = last.source.partition("\n")
    assert head == "## Three things to try"
    assert re.findall(r"^(\d)\. ", list_, re.M) == ["1", "2", "3"]


@each_notebook
def test_every_parameter_is_explained_where_it_stands(path: Path) -> None:
    """One cell tagged parameters, one commented assignment a line, towers among them."""
    (source,) = tagged(path, "parameters")
    lines = source.splitlines()
    assert all(re.fullmatch(r"\w+ = \S+  # .{10,}", line) for line in lines), lines
    assert "towers" in {line.split(" ")[0] for line in lines}


@each_notebook
def test_the_first_code_cell_prepares_colab_and_leaves_its_packages_alone(path: Path) -> None:
    """It installs from the book's repository, only where tamrl is missing, and no other package."""
    source = next(c.source for c in cells(path) if c.cell_type == "code")
    assert 'find_spec("tamrl") is None' in source
    (install,) = re.findall(r"%pip install (.*)", source)
    assert install == f'-q "tamrl[maps] @ git+{CONFIG["repository"]["url"]}"'


@each_notebook
def test_it_holds_no_logic(path: Path) -> None:
    """Functions, classes and branches belong into the package, where tests reach them."""
    for cell in cells(path):
        if cell.cell_type == "code" and "%pip" not in cell.source:
            nodes = list(ast.walk(ast.parse(cell.source)))
            assert not any(
                isinstance(n, ast.FunctionDef | ast.ClassDef | ast.If | ast.While | ast.Try)
                for n in nodes
            ), cell.source


@each_notebook
def test_every_figure_has_a_name_a_caption_and_words_for_those_who_cannot_see(path: Path) -> None:
    """A cell that draws carries all three as metadata, in whole sentences."""
    for cell in cells(path):
        draws = re.search(r"^(plots\w*\.(?!style)|model_diagram\()", cell.source, re.M)
        if cell.cell_type == "code" and draws:
            shown = cell.metadata.mystnb
            assert re.fullmatch(r"fig-[a-z-]+", shown.figure.name)
            assert shown.figure.caption.endswith(".")
            assert shown.image.alt.endswith(".")
            assert len(shown.image.alt.split()) >= 8


def test_figure_names_are_unique() -> None:
    """Each name is a file in the book and an anchor on a page."""
    names = [
        c.metadata.mystnb.figure.name for p in PATHS for c in cells(p) if "mystnb" in c.metadata
    ]
    assert len(names) == len(set(names))


def test_the_table_of_contents_holds_every_notebook_and_page() -> None:
    """A notebook that is executed but not shown, or shown but not executed, is a mistake."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    shown = [name.removeprefix("notebooks/") for name in files if name.startswith("notebooks/")]
    assert shown == [notebook.name for notebook in STUDY]
    pages = {name for name in files if not name.startswith("notebooks/")} | {toc["root"]}
    assert pages == {path.stem for path in PAGES}


@each_page
def test_a_page_names_virtual_towers_in_its_title_and_figures(path: Path) -> None:
    """The substitution is empty for real towers; without it a virtual page would pass for real."""
    text = path.read_text()
    assert text.splitlines()[0].endswith("{{ virtual }}")
    for figure in re.findall(r"```\{figure\} notebooks/(.*?)```", text, re.S):
        if "fig-model" not in figure:  # drawn without data
            assert "{{ virtual }}" in figure


@each_page
def test_a_page_describes_its_figures(path: Path) -> None:
    """Alternative text in whole sentences."""
    text = path.read_text()
    alts = re.findall(r"^:alt: (.*)$", text, re.M)
    assert len(alts) == text.count("```{figure}")
    assert all(alt.endswith(".") and len(alt.split()) >= 8 for alt in alts)


@pytest.mark.parametrize("path", [p for p in PAGES if p.stem != "index"], ids=lambda p: p.stem)
def test_a_chapter_opens_with_its_claim_and_says_what_would_change_our_mind(path: Path) -> None:
    """The claim is the first paragraph, in bold; the last heading invites a refutation."""
    text = path.read_text()
    claim = text.split("\n\n")[1]
    assert re.fullmatch(r"\*\*[^\n]+\.\*\*", claim)
    assert text.split("\n## ")[-1].startswith("What would change our mind\n\n")
    assert text.count("## What would change our mind") == 1


def test_the_front_page_has_question_answer_table_and_one_figure() -> None:
    """What a reader gets who reads no further."""
    text = (ROOT / "book" / "index.md").read_text()
    assert text.split("\n\n")[1].endswith("?")
    assert re.search(r"^\*\*[^\n]*notebooks/10_benchmark[^\n]*\.\*\*", text, re.M)
    assert len(re.findall(r"^\| .*10_benchmark.*\|$", text, re.M)) >= 4
    assert text.count("```{figure}") == 1


def test_every_reference_has_a_doi_and_every_citation_a_reference() -> None:
    """A reader must be able to follow each of them; none is listed that nobody cites."""
    entries = (ROOT / "book" / "references.bib").read_text().split("\n@")
    assert all(re.search(r"doi = \{10\.\d{4,}/\S+\}", entry) for entry in entries)
    keys = {re.match(r"@?\w+\{([^,]+),", entry)[1] for entry in entries}  # type: ignore[index]
    prose = [page.read_text() for page in PAGES] + [c.source for p in PATHS for c in cells(p)]
    cited = re.findall(r"\{cite(?::t)?\}`([^`]+)`", "\n".join(prose))
    assert {key for group in cited for key in group.split(",")} == keys


@each_notebook
def test_what_is_to_be_tried_can_be_set(path: Path) -> None:
    """What a notebook's end asks to be set, `name = value`, is one of its parameters."""
    known = {line.split(" ")[0] for line in tagged(path, "parameters")[0].splitlines()}
    assert set(re.findall(r"Set `(\w+) = ", cells(path)[-1].source)) <= known


def test_executed_notebooks_show_no_error() -> None:
    """What `make book` left in the book, if it has run: no error among the outputs."""
    for path in (ROOT / "book" / "notebooks").glob("*.ipynb"):
        kinds = {
            output["output_type"]
            for cell in json.loads(path.read_text())["cells"]
            for output in cell.get("outputs", [])
        }
        assert "error" not in kinds, path
