"""Notebooks before they are executed: parameters exist, the cell for Colab, names of figures."""

import json
import re

import nbformat
import pytest
import yaml

from tamrl.study.runner.run import ROOT, STUDY

CELLS = {
    notebook.name: nbformat.read(ROOT / "notebooks" / f"{notebook.name}.ipynb", 4).cells
    for notebook in STUDY
}
URL = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
EXAMPLES = (  # of parameters: which notebook, and the text that names them
    (r'NB=(\d\d) P="([^"]+)"', r"(\w+)="),
    (r"papermill notebooks/(\w+)\.ipynb \S+((?: -p \w+ [^\s`]+)+)", r"-p (\w+)"),
    (r"--only (\d\d)((?: --param [^\s`]+)+)", r"--param (\w+)="),
)


def parameters(name: str) -> set[str]:
    """Read the names that a notebook's cell of parameters sets, each in a line that explains it."""
    (cell,) = (c for c in CELLS[name] if "parameters" in c.metadata.get("tags", []))
    lines = cell.source.splitlines()
    assert all(re.fullmatch(r"\w+ = \S+  # .{10,}", line) for line in lines), lines
    return {line.split(" ")[0] for line in lines}


@pytest.mark.parametrize("name", CELLS)
def test_parameters_are_explained_and_what_is_to_be_tried_can_be_set(name: str) -> None:
    """`towers` is among them, and so is what the notebook's end asks to be set."""
    known = parameters(name)
    assert "towers" in known
    assert set(re.findall(r"Set `(\w+) = ", CELLS[name][-1].source)) <= known


def test_parameters_in_examples_exist() -> None:
    """Each example that sets a notebook's parameters, in documents, help and book, can be run."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("tamrl/cli/*.py")]
    text = "\n".join(path.read_text() for path in [*pages, ROOT / "Makefile"])
    for example, setting in EXAMPLES:
        found = re.findall(example, text)
        assert found, f"no example like {example}"
        for start, values in found:
            (name,) = (name for name in CELLS if name.startswith(start))
            assert set(re.findall(setting, values)) <= parameters(name), (name, values)


@pytest.mark.parametrize("name", CELLS)
def test_the_first_code_cell_prepares_colab_and_leaves_its_packages_alone(name: str) -> None:
    """It installs from the book's repository, only where tamrl is missing, and no other package."""
    source = next(c.source for c in CELLS[name] if c.cell_type == "code")
    assert 'find_spec("tamrl") is None' in source
    (install,) = re.findall(r"%pip install (.*)", source)
    assert install == f'-q "tamrl[maps] @ git+{URL}"'


def test_figure_names_are_unique() -> None:
    """Each name is a file in the book and an anchor on a page."""
    shown = [c.metadata.mystnb for cells in CELLS.values() for c in cells if "mystnb" in c.metadata]
    names = [one.figure.name for one in shown]
    assert len(names) == len(set(names))


def test_the_table_of_contents_holds_every_notebook_and_page() -> None:
    """A notebook that is executed but not shown, or shown but not executed, is a mistake."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    shown = [name.removeprefix("notebooks/") for name in files if name.startswith("notebooks/")]
    assert shown == list(CELLS)
    pages = {name for name in files if not name.startswith("notebooks/")} | {toc["root"]}
    assert pages == {path.stem for path in (ROOT / "book").glob("*.md")}


def test_executed_notebooks_show_no_error() -> None:
    """What `make book` left in the book, if it has run: no error among the outputs."""
    for path in (ROOT / "book" / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        assert "error" not in {o["output_type"] for c in cells for o in c.get("outputs", [])}, path
