"""Notebooks before they are executed: their parameters, their cell for Colab, their order."""

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
def test_a_notebook_can_be_run_with_other_parameters_and_on_colab(name: str) -> None:
    """What its end asks to be set is a parameter; its first cell installs tamrl, if missing."""
    known = parameters(name)
    assert "towers" in known
    assert set(re.findall(r"Set `(\w+) = ", CELLS[name][-1].source)) <= known
    source = next(c.source for c in CELLS[name] if c.cell_type == "code")
    assert 'find_spec("tamrl") is None' in source
    assert re.findall(r"%pip install (.*)", source) == [f'-q "tamrl[maps] @ git+{URL}"']


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


def test_the_table_of_contents_holds_every_notebook_and_page() -> None:
    """A notebook that is executed but not shown, or shown but not executed, is a mistake."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    shown = [name.removeprefix("notebooks/") for name in files if name.startswith("notebooks/")]
    assert shown == list(CELLS)
    pages = {name for name in files if not name.startswith("notebooks/")} | {toc["root"]}
    assert pages == {path.stem for path in (ROOT / "book").glob("*.md")}
