"""The study runner: what is executed again, what is refused, and what never reaches the book."""

import io
import json
import re
import sys
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from rich.console import Console

from tamrl.errors import StudyError
from tamrl.study.runner import execute, run, verify
from tamrl.study.runner.notebooks import Notebook

pytestmark = pytest.mark.slow  # kernels are started

FIGURE = {"mystnb": {"figure": {"name": "fig-dot", "caption": "A dot."}}}
DOT = (
    "from IPython.display import Image\nImage(b'\\x89PNG\\r\\n\\x1a\\n' + bytes(40), format='png')"
)


def write_notebook(root: Path, name: str, body: str = "print(towers, seed)") -> None:
    """Write a notebook: a title, parameters, a body, a line on stderr, a figure."""
    cells = [
        new_markdown_cell("# A claim\n\nOne sentence."),
        new_code_cell("towers = 'auto'\nseed = 0", metadata={"tags": ["parameters"]}),
        new_code_cell(body),
        new_code_cell("import sys; print('progress', file=sys.stderr)"),
        new_code_cell(DOT, metadata=FIGURE),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a small study of two notebooks, the second reading the first."""
    for folder in ("notebooks", "tamrl/cli", "tamrl/study/runner", "results/reference"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tamrl" / "model.py").write_text("HIDDEN = 1\n")
    (tmp_path / "data_registry.txt").write_text("file sha256:00 https://example.org/file\n")
    write_notebook(tmp_path, "01_a")
    write_notebook(tmp_path, "02_b")
    monkeypatch.setattr(run, "announce", lambda towers, console: towers == "virtual")
    return tmp_path


LIST = (Notebook("01_a", smoke={"seed": 3}), Notebook("02_b", after=("01_a",)))
THREE = (*LIST, Notebook("03_c"))


def test_long_notebooks_start_first_and_what_waits_for_one_counts_as_its_own() -> None:
    """None of minutes is left for the end; one that others read is as long as with them."""
    long, read = Notebook("01", minutes=3), Notebook("02", minutes=1)
    reads = Notebook("03", after=("02",), minutes=4)
    names = [nb.name for nb in run.in_order([Notebook("00"), long, read, reads])]
    assert names == ["02", "03", "01", "00"]
    assert [nb.name for nb in run.in_order(run.STUDY)][:2] == ["03_scores", "05_map"]


def quiet() -> Console:
    """Return a console that writes into ``.file``."""
    return Console(file=io.StringIO(), width=300)


def go(root: Path, **options: object) -> run.Outcome:
    """Run the small study without the book."""
    settings = {"profile": "smoke", "towers": "fluxnet2015", "notebooks": LIST, "build": False}
    return run.run(root=root, **{**settings, "console": quiet(), **options})


def outputs(root: Path, name: str) -> str:
    """Return the text that the executed notebook shows."""
    cells = nbformat.read(root / "book" / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


def test_a_notebook_runs_again_only_when_something_it_depends_on_changed(root: Path) -> None:
    """Own cells, parameters, package code, registry and upstream notebooks count; nothing else."""
    assert go(root).executed == ("01_a", "02_b")
    assert outputs(root, "01_a") == "fluxnet2015 3\n"
    assert go(root).unchanged == ("01_a", "02_b")

    for unrelated in ("cli/app.py", "cli/towers.py", "study/runner/run.py", "__main__.py"):
        (root / "tamrl" / unrelated).write_text("# a help text reaches no notebook\n")
    (root / "tamrl" / "__pycache__").mkdir()
    for compiled in ("bits.cpython-311.pyc", "bits._walk-151.py311.nbi"):  # by Python, by numba
        (root / "tamrl" / "__pycache__" / compiled).write_bytes(b"0")
    assert go(root).executed == ()
    (root / "tamrl" / "model.py").write_text("HIDDEN = 2\n")
    assert go(root).executed == ("01_a", "02_b")
    (root / "data_registry.txt").write_text("file sha256:11 https://example.org/file\n")
    assert go(root).executed == ("01_a", "02_b")

    write_notebook(root, "02_b", "print('other')")
    assert go(root).executed == ("02_b",)
    write_notebook(root, "01_a", "print('upstream')")
    assert go(root).executed == ("01_a", "02_b")
    assert go(root, parameters={"seed": 9}, only=["02"]).executed == ("02_b",)
    assert go(root, force=True, only=["01"]).executed == ("01_a",)
    go(root)
    for name, damage in {"02_b.ipynb": '{"cells": [', "02_b.key": "\0"}.items():
        (root / "book" / "notebooks" / name).write_text(damage)
        assert go(root).executed == ("02_b",)


def test_a_full_run_on_real_towers_is_compared_with_the_committed_tables(root: Path) -> None:
    """Every reference run says whether its tables are those that are committed."""
    body = "import pathlib; p = pathlib.Path('runs/fluxnet2015'); p.mkdir(parents=True, "
    body += "exist_ok=True); _ = (p / 't.csv').write_text('flux,RMSE\\nGPP,2.0\\n')"
    write_notebook(root, "01_a", body)

    def printed(**options: object) -> str:
        console = quiet()
        go(root, profile="reference", console=console, **options)
        return console.file.getvalue()

    assert "not checked" in printed()
    reference = root / "results" / "reference" / "t.csv"
    reference.write_text("flux,RMSE\nGPP,2.01\n")
    assert "within the stated tolerances" in printed()
    reference.write_text("flux,RMSE\nGPP,2.5\n")
    assert "1 numbers differ" in printed()
    assert "differ" not in printed(only=["02"])
    assert "differ" not in printed(towers="virtual")


def test_plain_papermill_leaves_the_studys_tables_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own go elsewhere; the study goes on with what it computed, and says so."""
    body = "from tamrl.study.publish import tables_folder\n"
    body += "folder = tables_folder({'tower_source': towers})\n"
    body += "_ = (folder / '01_t.csv').write_text(f'flux,seed\\nGPP,{seed}\\n')"
    write_notebook(root, "01_a", body)
    monkeypatch.setenv("PYTHONPATH", str(run.ROOT))
    assert go(root).executed == ("01_a", "02_b")
    study = root / "runs" / "fluxnet2015"
    assert verify.origins(study) == f"Tables {verify.OTHER}: 01_t."  # a quick look
    go(root, profile="reference")
    monkeypatch.chdir(root)
    values = {"towers": "fluxnet2015", "seed": 7}
    papermill.execute_notebook("notebooks/01_a.ipynb", "own.ipynb", values, progress_bar=False)
    assert "GPP,7" in (root / "runs/papermill/fluxnet2015/01_t.csv").read_text()
    assert "GPP,0" in (study / "01_t.csv").read_text()
    assert verify.origins(study) == f"Tables {verify.NOW}: 01_t."
    assert go(root, profile="reference").unchanged == ("01_a", "02_b")
    assert verify.origins(study) == f"Tables {verify.EARLIER}: 01_t."


def test_one_notebook_alone_makes_no_book(root: Path) -> None:
    """In a fresh clone the notebook runs, and what the book lacks is named."""
    console = quiet()
    assert go(root, build=True, only=["01"], console=console).page is None
    assert outputs(root, "01_a").strip() == "fluxnet2015 3"
    assert "not yet executed: 02_b. Run them with: make book" in console.file.getvalue()


def test_unknown_parameters_profiles_and_notebooks_are_refused(root: Path) -> None:
    """Papermill alone would accept a misspelt parameter and compute the default."""
    for message, options in {
        "02_b.ipynb has no parameter 'sed'; it has seed, towers": {"parameters": {"sed": 1}},
        "02_b.ipynb: seed is '1e3', and 0 in the notebook": {"parameters": {"seed": "1e3"}},
        "02_b.ipynb: seed is None, and 0 in the notebook": {"parameters": {"seed": None}},
        "02_b.ipynb: seed is 0.5, and 0 in the notebook": {"parameters": {"seed": 0.5}},
        "02_b.ipynb: seed is True, and 0 in the notebook": {"parameters": {"seed": True}},
        "no notebook begins with ''": {"only": [""]},
        "unknown profile 'quick'": {"profile": "quick"},
        "no notebook begins with '07'": {"only": ["07"]},
    }.items():
        with pytest.raises(ValueError, match=message):
            go(root, **{"only": ["02"], **options})
    assert not (root / "book").exists()


def test_a_failing_cell_stops_the_study_and_keeps_the_last_good_notebook(root: Path) -> None:
    """The message shows the cell and its error; the half-run notebook stays out of the book."""
    go(root)
    before = (root / "book" / "notebooks" / "02_b.ipynb").read_bytes()
    write_notebook(root, "02_b", "print('half')\nraise KeyError('no such flux')")
    with pytest.raises(StudyError, match=r"02_b.ipynb, cell 3(.|\n)*raise KeyError(.|\n)*no such"):
        go(root)
    assert (root / "book" / "notebooks" / "02_b.ipynb").read_bytes() == before
    assert len(list((root / "runs" / "executing").glob("02_b.*.ipynb"))) == 1
    write_notebook(root, "02_b")
    assert go(root).unchanged == ("01_a", "02_b")


MEET = """import pathlib, time
pathlib.Path("{mine}").write_text("here")
end = time.monotonic() + 60
while not pathlib.Path("{other}").exists():
    assert time.monotonic() < end, "alone"
    time.sleep(0.05)
"""


def test_two_notebooks_run_at_once_and_one_that_reads_another_waits(root: Path) -> None:
    """01 and 03 wait for each other's file, which only works side by side; 02 reads 01."""
    write_notebook(root, "01_a", MEET.format(mine="a", other="c"))
    write_notebook(root, "02_b", "import pathlib; print(pathlib.Path('a').read_text())")
    write_notebook(root, "03_c", MEET.format(mine="c", other="a"))
    before = Path.cwd()
    assert go(root, notebooks=THREE).executed == ("01_a", "02_b", "03_c")
    assert outputs(root, "02_b") == "here\n"
    assert Path.cwd() == before  # whoever goes on after a study stands where it stood


def test_what_reads_a_failed_notebook_does_not_run_and_what_ran_beside_it_stays(root: Path) -> None:
    failing = MEET.format(mine="a", other="c") + "raise KeyError('no such flux')"
    write_notebook(root, "01_a", failing)
    write_notebook(root, "03_c", MEET.format(mine="c", other="a"))
    with pytest.raises(StudyError, match=r"01_a\.ipynb, cell 3"):
        go(root, notebooks=THREE)
    assert [p.stem for p in (root / "book" / "notebooks").glob("*.ipynb")] == ["03_c"]


def test_a_missing_figure_stops_the_study(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caption without its picture is named; another backend of the caller is not taken."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    body = "import os, sys; print(sys.executable, 'agg' in os.environ.get('MPLBACKEND', ''))"
    write_notebook(root, "01_a", body)
    go(root, only=["01"])
    assert outputs(root, "01_a").split() == [sys.executable, "False"]  # of this environment
    path = root / "notebooks" / "01_a.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[-1].source = "from IPython.display import SVG; SVG('<svg/>')"
    nbformat.write(notebook, path)
    go(root, only=["01"])
    assert (root / "book/notebooks/figures/fig-dot.svg").read_text() == "<svg/>"
    notebook.cells[-1].source = "print('nothing drawn')"
    nbformat.write(notebook, path)
    with pytest.raises(StudyError, match="fig-dot drew no picture"):
        go(root, only=["01"])


def test_virtual_towers_are_named_in_title_caption_and_file(root: Path) -> None:
    """Nothing computed on virtual towers may be mistaken for a result."""
    folder = root / "book" / "notebooks"
    go(root, towers="virtual", only=["01"])
    cells = nbformat.read(folder / "01_a.ipynb", as_version=4).cells
    assert cells[0].source.splitlines()[0] == "# A claim (virtual towers)"
    assert cells[-1].metadata.mystnb.figure.caption == "Virtual towers. A dot."
    assert [p.name for p in (folder / "figures").iterdir()] == ["fig-dot.virtual.png"]
    assert "progress" not in outputs(root, "01_a")

    go(root, towers="fluxnet2015", only=["01"])
    assert [p.name for p in (folder / "figures").iterdir()] == ["fig-dot.png"]
    assert "virtual" not in (folder / "01_a.ipynb").read_text()


def test_a_notebook_of_real_towers_is_not_called_virtual(root: Path) -> None:
    """What shows real towers alone keeps its title, caption and file in a study of virtual ones."""
    go(root, towers="virtual", only=["01"], notebooks=(Notebook("01_a", real=True),))
    folder = root / "book" / "notebooks"
    cells = nbformat.read(folder / "01_a.ipynb", as_version=4).cells
    assert cells[0].source.splitlines()[0] == "# A claim"
    assert cells[-1].metadata.mystnb.figure.caption == "A dot."
    assert [p.name for p in (folder / "figures").iterdir()] == ["fig-dot.png"]


def test_every_notebook_of_the_list_takes_its_parameters() -> None:
    """The list, the files in notebooks/ and the cells tagged parameters agree, in every profile."""
    files = sorted((run.ROOT / "notebooks").glob("*.ipynb"))
    assert [nb.name for nb in run.STUDY] == [file.stem for file in files]
    for position, (notebook, file) in enumerate(zip(run.STUDY, files, strict=True)):
        for profile in run.PROFILES:
            execute.check_parameters(file, {**getattr(notebook, profile), "towers": "auto"})
        assert set(notebook.after) <= {nb.name for nb in run.STUDY[:position]}


def test_the_book_says_when_it_is_virtual_and_its_warnings_are_errors(root: Path) -> None:
    """In titles and in an announcement; a reference to nothing does not end as dead text."""
    (root / "book").mkdir()
    (root / "book" / "_toc.yml").write_text("format: jb-book\nroot: index\n")
    (root / "book" / "index.md").write_text("# Front{{ virtual }}\n\nText.\n")
    config = yaml.safe_load((run.ROOT / "_config.yml").read_text())
    del config["bibtex_bibfiles"], config["sphinx"]["config"]["bibtex_reference_style"]
    del config["html"]["favicon"]
    (root / "_config.yml").write_text(json.dumps(config))
    notes = {"index": "Executed in a hurry & alone."}
    page = run.build_book(root, True, True, quiet(), notes).read_text()
    assert "Executed in a hurry &amp; alone." in page
    assert "<h1>Front\N{NO-BREAK SPACE}(virtual towers)" in page
    assert run.VIRTUAL in page
    built = yaml.safe_load((root / "_build" / "_config.yml").read_text())
    assert built["launch_buttons"] == {}, "a button to a repository that has no address"
    buttons = re.compile("/issues/new|fa-github")
    assert not buttons.search(page)
    named = config["repository"] | {"url": "https://github.com/someone/something"}
    (root / "_config.yml").write_text(json.dumps(config | {"repository": named}))
    page = run.build_book(root, True, True, quiet()).read_text()
    assert {*buttons.findall(page)} == {"fa-github", "/issues/new"}
    assert "irtual" not in run.build_book(root, False, True, quiet()).read_text()
    (root / "book" / "index.md").write_text("# Front\n\nSee {ref}`nowhere`.\n")
    with pytest.raises(StudyError, match="nowhere"):
        run.build_book(root, False, True, quiet())
