"""Repairs of the theme that every page gets."""

import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pytest

from tamrl.study.runner.execute import ROOT
from tamrl.study.runner.notebooks import STUDY


@pytest.fixture(scope="module")
def readers() -> ModuleType:
    """Return the book's own extension, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("readers", ROOT / "book/_ext/readers.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def repaired(readers: ModuleType, picture: str = "a.png", **context: Any) -> dict[str, Any]:
    """Return the context of a page, with a picture of the book, as readers get it."""
    images = {picture: ({"page"}, Path(picture).name)}
    app = SimpleNamespace(srcdir=ROOT, env=SimpleNamespace(images=images))
    readers.repair(app, "page", "page.html", context, None)
    return context


@pytest.mark.parametrize(
    ("written", "shown"),
    [("-0.09", "\N{MINUS SIGN}0.09"), ("-0.00", "0.00"), ("0.30", "0.30"), ("a-b", "a-b")],
)
def test_signs_of_numbers(readers: ModuleType, written: str, shown: str) -> None:
    """Python writes a hyphen, and a sign before a rounded zero."""
    written, shown = (f'<span class="pasted-text">{text}</span>' for text in (written, shown))
    assert repaired(readers, body=written)["body"] == shown


def test_a_figure_leads_to_its_picture_in_full(readers: ModuleType) -> None:
    """On a phone the words of a wide figure are too small to read in place."""
    figure = '<figure id="a">\n<img alt="Dots." src="../_images/a.png" />\n'
    shown = repaired(readers, body=figure)["body"]
    assert '<a class="figure-link" href="../_images/a.png"><img alt="Dots."' in shown
    assert shown.count("</a>") == 1
    assert repaired(readers) == {}  # the search page is made of templates only


@pytest.mark.parametrize("name", ["wide.svg", "wide.png"])
def test_pages_know_how_wide_a_picture_is(readers: ModuleType, name: str, tmp_path) -> None:
    """12 inches are 1,152 CSS pixels, whatever the file's own resolution."""
    plt.figure(figsize=(12, 1)).savefig(tmp_path / name, dpi=130)
    plt.close()
    body = f'<img alt="Dots." src="../_images/{name}" /><img src="_images/else.png" />'
    shown = repaired(readers, str(tmp_path / name), body=body)["body"]
    assert shown == body.replace("<img", '<img style="--size: 1152px"', 1)


def test_a_picture_that_a_phone_cannot_hold_says_how_to_see_it(
    readers: ModuleType, tmp_path: Path
) -> None:
    """A drawing without a width of its own takes that of the page."""
    for inches, said in ((8, "figure-link wide"), (4, "figure-link")):
        plt.figure(figsize=(inches, 1)).savefig(tmp_path / "a.png", dpi=130)
        plt.close()
        figure = '<figure id="a"><img alt="Dots." src="../_images/a.png" /></figure>'
        shown = repaired(readers, str(tmp_path / "a.png"), body=figure)["body"]
        assert f'class="{said}"' in shown
    (tmp_path / "b.svg").write_text('<svg viewBox="0 0 2 1"></svg>')
    body = '<img alt="A drawing." src="_images/b.svg" />'
    assert repaired(readers, str(tmp_path / "b.svg"), body=body)["body"] == body


def test_numbers_keep_their_units_and_intervals_on_a_line_and_code_stays_as_typed(
    readers: ModuleType,
) -> None:
    body = (
        '<p>90 % of 2 gC m⁻² d⁻¹</p><pre>7 % 2</pre><span class="pasted-text">-1 % [-2, 0]</span>'
    )
    shown = repaired(readers, body=body)["body"]
    assert "<p>90\xa0% of 2 gC\xa0m⁻²\xa0d⁻¹</p><pre>7 % 2</pre>" in shown
    assert '\xa0% <span class="interval">[-2, 0]</span></span>' in shown


@pytest.mark.parametrize("page", ["README.md", "REPRODUCING.md", "book/reproducing.md"])
def test_every_notebook_is_in_the_tables_that_lead_to_it(page: str) -> None:
    """A reader finds which notebook made what, in the order in which they run."""
    lines = (ROOT / page).read_text().splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    places = [table.index(notebook.name) for notebook in STUDY]
    assert places == sorted(places)
