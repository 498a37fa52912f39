"""What a page asks a browser for, and what it shows to those who link to it."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tamrl.study.runner.execute import ROOT

ICON = '<i class="fa-solid fa-bars"></i>'
SCRIPT = '<script src="../_static/vendor/fontawesome/6.5.2/js/all.min.js?digest=1"></script>'
SHEET = '.fa{display:block}.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}'
SHEET += '.fa-zebra:before{content:"\\e001"}'


def extension(name: str) -> ModuleType:
    """Return an extension of the book, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / "_ext" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


nodes: Any = extension("preview").nodes  # of docutils, which Sphinx brings


def test_a_built_book_keeps_the_icons_that_it_shows_and_no_page_of_an_earlier_name(
    tmp_path: Path,
) -> None:
    for page in ("index", "notebooks/01_a", "ablation", "notebooks/99_gone", "search", "py-index"):
        path = tmp_path / f"{page}.html"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<head>{SCRIPT}</head>{ICON}<script src='a.js'></script>")
    sheet = tmp_path / "_static/vendor/fontawesome/6/css/all.min.css"
    sheet.parent.mkdir(parents=True)
    sheet.write_text(SHEET)
    (tmp_path / "_static" / "of-theme.html").write_text(SCRIPT)
    builder = SimpleNamespace(name="html", domain_indices=[("py-index", None, [], False)])
    env = SimpleNamespace(found_docs={"index", "notebooks/01_a"})
    app: Any = SimpleNamespace(outdir=str(tmp_path), builder=builder, env=env)
    extension("light").finish(app, None)
    left = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*.html")}
    assert set(left) == {
        "index.html", "notebooks/01_a.html", "search.html", "py-index.html", "_static/of-theme.html"
    }  # fmt: skip
    assert (
        left["notebooks/01_a.html"].read_text()
        == f"<head></head>{ICON}<script src='a.js'></script>"
    )
    assert sheet.read_text() == SHEET.partition(".fa-zebra")[0]


@pytest.mark.parametrize(("body", "left"), [
    ("<p>No formula.</p>", ["book.js"]),
    ('<span class="math notranslate nohighlight">z</span>', ["book.js", "mathjax/startup.js"]),
])  # fmt: skip
def test_a_page_without_a_formula_loads_no_mathjax(body: str, left: list[str]) -> None:
    context = {"body": body, "script_files": ["book.js", "mathjax/startup.js"]}
    extension("light").formulas(None, "page", "page.html", context, None)
    assert context["script_files"] == left


def page(*, picture: str = "../_images/dots.png") -> Any:
    """Make a page: a title, two paragraphs, a drawing, a picture."""
    document: Any = nodes.document("", None)
    section = nodes.section("", nodes.title("", "A & B"), nodes.paragraph("", "Is it 1 < 2?"))
    section += nodes.figure("", nodes.image(uri="../_images/a.svg", alt="A drawing."))
    section += nodes.figure("", nodes.image(uri=picture, alt='Dots, "many".'))
    section += nodes.paragraph("", "word " * 60)
    document += section
    return document


def tags(address: str, doctree: Any, front: Any = None) -> dict[str, str]:
    """Return the tags in the head of a page; the chapter after the front page has a wildcard."""
    wildcard = page(picture="figures/front.*")
    (*_, image) = wildcard.findall(nodes.image)
    image["candidates"] = {"image/png": "figures/front.png"}
    config = SimpleNamespace(html_title="The book", html_baseurl=address, root_doc="index")
    env = SimpleNamespace(
        images={"figures/front.png": (set(), "front.png")},
        get_and_resolve_doctree=lambda *_: front or page(picture="figures/front.png"),
        toctree_includes={"index": ["story", "data"]},
        get_doctree={"story": wildcard}.get,
    )
    app: Any = SimpleNamespace(config=config, env=env, builder=None)
    context = {"title": "A &amp; B", "metatags": "<meta>"}
    extension("preview").describe(app, "notebooks/x", "page.html", context, doctree)
    return dict(
        re.findall(r'<meta (?:name|property)="(.*?)" content="(.*?)" />', context["metatags"])
    )


def test_a_page_has_a_title_and_its_first_words_and_no_picture_without_an_address() -> None:
    """A picture's address must be whole, so that without the book's there is none."""
    found = tags("", page())
    assert found["og:title"] == "A &amp; B"
    assert found["description"] == found["og:description"]
    assert found["description"].startswith("Is it 1 &lt; 2? word word")
    assert len(found["description"]) <= 210
    assert found["twitter:card"] == "summary"
    assert not any("image" in name or "url" in name for name in found)


def test_with_an_address_a_page_shows_its_first_picture_or_that_of_the_front_page() -> None:
    found = tags("https://example.org/b/", page())
    assert found["og:image"] == "https://example.org/b/_images/dots.png"
    assert found["og:image:alt"] == "Dots, &quot;many&quot;."
    assert found["og:url"] == "https://example.org/b/notebooks/x.html"
    assert found["twitter:card"] == "summary_large_image"
    assert tags("https://example.org/b", None)["og:image"].endswith("/b/_images/front.png")
    bare: Any = nodes.document("", None)
    bare += nodes.section("", nodes.paragraph("", "No picture."))
    after = tags("https://example.org/b", None, bare)
    assert after["og:image"].endswith("/b/_images/front.png")
