"""Repairs of the theme that every page gets."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from tamrl.study.runner.run import ROOT, STUDY


@pytest.fixture(scope="module")
def readers() -> ModuleType:
    """Return the book's own extension, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("readers", ROOT / "book/_ext/readers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def repaired(readers: ModuleType, body: str) -> str:
    """Return the body of a page as readers get it."""
    context: dict[str, Any] = {"body": body}
    readers.repair(None, "page", "page.html", context, None)
    return str(context["body"])


@pytest.mark.parametrize(
    ("written", "shown"),
    [("-0.09", "\N{MINUS SIGN}0.09"), ("-0.00", "0.00"), ("0.30", "0.30"), ("a-b", "a-b")],
)
def test_numbers_have_a_minus_sign_and_no_negative_nothing(
    readers: ModuleType, written: str, shown: str
) -> None:
    """Python writes a hyphen, and a sign before a rounded zero."""
    got = repaired(readers, f'<span class="pasted-text">{written}</span>')
    assert got == f'<span class="pasted-text">{shown}</span>'


def test_a_figure_leads_to_its_picture_in_full(readers: ModuleType) -> None:
    """On a phone the words of a wide figure are too small to read in place."""
    got = repaired(readers, '<figure id="a">\n<img alt="Dots." src="../_images/a.png" />\n')
    assert '<a class="figure-link" href="../_images/a.png"><img alt="Dots."' in got
    assert got.count("</a>") == 1


def test_pages_without_a_body_are_left_alone(readers: ModuleType) -> None:
    """The search page is made of templates only."""
    context: dict[str, Any] = {}
    readers.repair(None, "search", "search.html", context, None)
    assert context == {}


@pytest.mark.parametrize("page", ["README.md", "REPRODUCING.md", "book/reproducing.md"])
def test_every_notebook_is_in_the_tables_that_lead_to_it(page: str) -> None:
    """A reader finds which notebook made what, in the order in which they run."""
    text = (ROOT / page).read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    places = [table.find(notebook.name) for notebook in STUDY]
    assert min(places) >= 0, [nb.name for nb, at in zip(STUDY, places, strict=True) if at < 0]
    assert places == sorted(places)
