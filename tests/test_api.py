"""The names of `import tamrl`, and the API reference: every entry exists, its examples hold."""

import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tamrl

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "book" / "api.md"
MODULES = re.findall(r"^\.\. automodule:: ([\w.]+)$", PAGE.read_text(), re.M)
FIRST = re.findall(r"^   tamrl\.(\w+)$", PAGE.read_text(), re.M)


def test_import_is_quick_and_loads_nothing_heavy() -> None:
    """Below 0.2 s by Python's own count; PyTorch and pandas wait until they are needed."""
    code = "import sys, tamrl; print(*sys.modules)"
    command = [sys.executable, "-X", "importtime", "-c", code]
    times = []
    for _ in range(5):  # the quickest: other processes may have the cores
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not {"torch", "pandas", "numpy", "xarray"} & set(done.stdout.split())
        times += re.findall(r"\| +(\d+) \| tamrl$", done.stderr, re.M)
    assert min(map(int, times)) < 200_000


def test_every_name_of_the_package_leads_somewhere_and_says_what_it_is() -> None:
    """About twenty names beside the rooms; each resolves, has a docstring and is on the page."""
    offered = {name: getattr(tamrl, name) for name in tamrl.__all__}
    assert all(inspect.getdoc(one) for one in offered.values())
    names = {n for n, one in offered.items() if not inspect.ismodule(one)} - {"__version__"}
    assert names == set(FIRST)
    assert len(names) == len(FIRST) == 20
    with pytest.raises(AttributeError, match="no_such_name"):
        tamrl.no_such_name  # noqa: B018


def test_every_module_of_the_page_is_documented() -> None:
    """Each imports and says what it is for; none stands twice; of data every `fetch_` is there."""
    assert len(MODULES) == len(set(MODULES)) > 20
    for name in MODULES:
        assert inspect.getdoc(importlib.import_module(name)), name
    assert "tamrl.data" in MODULES
    assert {n for n in FIRST if n.startswith("fetch_")} < set(tamrl.data.__all__)


def test_the_examples_of_the_page_hold() -> None:
    """Those of the docstrings are run by pytest; these stand in the page itself."""
    done = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert done.attempted >= 3
    assert done.failed == 0


def test_sentences_are_returned_without_a_type_and_types_come_from_the_code() -> None:
    """A plain "Returns" gets no type, one with a type keeps it, and parameters get theirs."""
    path = ROOT / "book" / "_ext" / "docstrings.py"
    spec = importlib.util.spec_from_file_location("docstrings", path)
    assert spec is not None
    assert spec.loader is not None
    ext = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ext)
    plain = ["Do it.", "", "Returns", "-------", "A table", "of numbers.", ""]
    ext.sentences(None, "function", "x", None, None, plain)
    assert plain[4:7] == [":", "    A table", "    of numbers."]
    typed = ["Returns", "-------", "xr.Dataset", "    With units.", "", "Raises", "------", "E"]
    before = list(typed)
    ext.sentences(None, "function", "x", None, None, typed)
    assert typed == before
    for called, name, stated in (
        (tamrl.folds, "k", "``int``"),
        (tamrl.open_towers, "path", "``str | PathLike | Iterable[str | PathLike]``"),
        (tamrl.data.grid_at, "lat", "``ArrayLike``"),  # as written, not as evaluated
    ):
        fields = [f":param {name}: Words.", f":type {name}: nonsense"]
        ext.types(None, "function", "x", called, None, fields)
        assert fields == [f":type {name}: {stated}", f":param {name}: Words."]
