"""Rules of the house for the package: its rooms, and what one file may take from another."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
FILES = {p.relative_to(ROOT).as_posix(): p.read_text() for p in ROOT.glob("tamrl/**/*.py")}
SHARED = {
    "comparisons",
    "explorers",
    "out_of_fold",
    "publish",
    "runner",
}  # what several notebooks need


def imports(text: str) -> list[tuple[str, str]]:
    """List (module, name) of all that is imported from the package, anywhere in a source."""
    found = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)]
    return [(n.module, a.name) for n in found for a in n.names if (n.module or "")[:5] == "tamrl"]


def test_no_module_is_long() -> None:
    """One idea a module, which fits into 300 lines."""
    assert [name for name, text in FILES.items() if text.count("\n") > 300] == []


def test_no_private_name_crosses_a_file() -> None:
    """A name that begins with an underscore belongs to its file alone."""
    for file, text in FILES.items():
        private = [name for _, name in imports(text) if re.match("_[^_]", name)]
        assert private == [], file


def test_a_notebook_has_its_module_of_the_study_and_a_module_its_notebook() -> None:
    """Two at most beside the shared ones; nothing is in the study that no notebook uses."""
    used = {}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        pairs = imports("\n".join(cell for cell in cells if "%pip" not in cell))
        names = {f"{m}.{n}".split(".")[2] for m, n in pairs if m.startswith("tamrl.study")}
        used[path.stem] = names - SHARED
        assert len(used[path.stem]) <= 2, path.stem
    there = {p.stem for p in (ROOT / "tamrl" / "study").iterdir() if not p.stem.startswith("__")}
    assert there - SHARED == set().union(*used.values())


@pytest.mark.parametrize(("module", "text"), [
    ("stray", '"""A module outside the rooms."""'),
    ("data/upward", "from tamrl.model import network"),
    ("rivals/sideways", "from tamrl import monitor"),
    ("model/drawing", "from tamrl import plots"),
])  # fmt: skip
def test_a_module_in_the_wrong_room_fails(module: str, text: str, tmp_path: Path) -> None:
    """What `make lint` runs finds a flat module, and an import that does not look down."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    (tmp_path / "tamrl" / f"{module}.py").write_text(text)
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert Path(module).name in done.stdout
