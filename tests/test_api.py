"""The API reference: every entry exists, its examples hold, and its docstrings are read rightly."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "book" / "api.md"
ENTRIES = re.findall(r"^\.\. auto\w+:: (tamrl[\w.]+)$", PAGE.read_text(), re.M)


def extension() -> ModuleType:
    """Load the book's own Sphinx extension."""
    path = ROOT / "book" / "_ext" / "docstrings.py"
    spec = importlib.util.spec_from_file_location("docstrings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry(name: str) -> Any:
    """Import what an entry of the page names."""
    module, _, own = name.rpartition(".")
    return getattr(importlib.import_module(module), own)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_public_and_documented(name: str) -> None:
    """Each name imports, is not private, and says in a sentence what it is for."""
    found = entry(name)
    assert not any(part.startswith("_") for part in name.split("."))
    words = inspect.getdoc(found)
    assert words
    assert words.split("\n\n")[0].endswith((".", ":"))


def test_every_fetch_function_is_on_the_page() -> None:
    """Whoever adds a data set adds it to the reference."""
    import tamrl.data

    assert {f"tamrl.data.{name}" for name in tamrl.data.__all__} <= set(ENTRIES)


def test_no_entry_stands_twice() -> None:
    """Sphinx would warn of it; this says so without a build."""
    assert len(ENTRIES) == len(set(ENTRIES))


def test_the_examples_of_the_page_hold() -> None:
    """Those of the docstrings are run by pytest; these stand in the page itself."""
    done = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert done.attempted >= 3
    assert done.failed == 0


def test_sentences_are_returned_without_a_type_and_types_come_from_the_code() -> None:
    """A plain "Returns" gets no type, one with a type keeps it, and parameters get theirs."""
    from tamrl.data import grid_at, open_towers
    from tamrl.samples.splits import folds

    ext = extension()
    plain = ["Do it.", "", "Returns", "-------", "A table", "of numbers.", ""]
    ext.sentences(None, "function", "x", None, None, plain)
    assert plain[4:7] == [":", "    A table", "    of numbers."]
    typed = [
        "Returns",
        "-------",
        "xr.Dataset",
        "    With units.",
        "",
        "Raises",
        "------",
        "E",
        "    x",
    ]
    before = list(typed)
    ext.sentences(None, "function", "x", None, None, typed)
    assert typed == before
    fields = [":param samples: Towers.", ":param k: Parts.", ":type k: nonsense"]
    ext.types(None, "function", "x", folds, None, fields)
    assert ":type k: ``int``" in fields
    assert ":type k: nonsense" not in fields
    paths = [":param path: File."]
    ext.types(None, "function", "x", open_towers, None, paths)
    assert paths[0] == ":type path: ``str | PathLike | Iterable[str | PathLike]``"
    arrays = [":param lat: Degrees."]
    ext.types(None, "function", "x", grid_at, None, arrays)
    assert arrays[0] == ":type lat: ``ArrayLike``"  # as written, not as evaluated
