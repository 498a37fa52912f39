"""Repairs of the theme, so that every reader can use the pages and no page reports an error."""

import re
from pathlib import Path
from typing import Any

from PIL import Image
from sphinx.application import Sphinx

# What is written, and what a keyboard or a screen reader needs instead.
REPAIRS = {
    # Wide tables and equations scroll inside a box of their own: the keyboard must reach it.
    '<div class="pst-scrollable-table-container"': (
        '<div class="pst-scrollable-table-container" tabindex="0"'
    ),
    '<div class="math notranslate nohighlight"': (
        '<div class="math notranslate nohighlight" tabindex="0"'
    ),
    # The words that are seen on a fold ("Show code cell source") are its name.
    '<summary aria-label="Toggle hidden content">': "<summary>",
    # A list whose members are not list items is none.
    '<div role="list" class="citation-list">': '<div class="citation-list">',
}
# Numbers that code put into prose: a minus sign, and no minus before nothing.
MINUS = re.compile(r'(<span class="pasted-text">)-(?=\d)')
MINUS_ZERO = re.compile(r'(<span class="pasted-text">)-(0(?:\.0+)?</span>)')
# A figure leads to its picture in full size, where a phone's reader can move about in it.
FIGURE = re.compile(r'(<figure\b[^>]*>\s*)(<img\b[^>]*\bsrc="([^"]+)"[^>]*>)')
LINKED = r'\1<a class="figure-link" href="\3">\2</a>'
WIDE = re.compile(r'<a class="figure-link"(?= href="[^"]*"><img style="--size: (\d+)px")')
PHONE = 600  # a wider picture does not fit a phone at 0.55 of its size
# A number keeps its per cent, and a unit its parts, on one line; code stays as it is typed.
CODE = re.compile(r"(<(pre|code|script|style|svg)\b.*?</\2>)", re.DOTALL)
UNIT = re.compile(r"(?<=\d) (?=%)|(?<=gC) (?=m⁻²)|(?<=m⁻²) (?=d⁻¹)|(?<=PgC) (?=yr⁻¹)")
# On a phone a picture is not made much smaller than it is, or nobody could read it: reach.css.
PICTURE = re.compile(r'<img\b(?=[^>]*\bsrc="[^"]*?_images/([^"/]+)")')
SVG = re.compile(rb'<svg\b[^>]*?\bwidth="([0-9.]+)pt"', re.DOTALL)
PT = 96 / 72  # CSS pixels
INTERVAL = re.compile(r'(?<=<span class="pasted-text">)([^<\[]*)(\[[^<\]]*\])(?=</span>)')
THEBE = {"init_thebe_core", "update_thebe_context"}


def repair(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Apply the repairs to a page's content."""
    if "body" not in context:
        return
    body = context["body"]
    for written, needed in REPAIRS.items():
        body = body.replace(written, needed)
    body = MINUS.sub("\\1\N{MINUS SIGN}", MINUS_ZERO.sub(r"\1\2", body))
    body = INTERVAL.sub(r'\1<span class="interval">\2</span>', body)
    body = FIGURE.sub(LINKED, body)
    sources = {name: Path(app.srcdir, path) for path, (_, name) in app.env.images.items()}
    body = PICTURE.sub(lambda found: found[0] + _size(sources.get(found[1])), body)
    body = WIDE.sub(lambda found: found[0][:-1] + " wide" * _large(found[1]) + '"', body)
    context["body"] = unbroken(body)


def unbroken(body: str) -> str:
    """Put no-break spaces between a number and its per cent and within units, but in code."""
    parts = CODE.split(body)  # text, code, its tag, text, …
    parts[::3] = [UNIT.sub("\N{NO-BREAK SPACE}", text) for text in parts[::3]]
    return "".join(part for at, part in enumerate(parts) if at % 3 != 2)


def _large(size: str) -> bool:
    return int(size) > PHONE


def _size(path: Path | None) -> str:
    """Give the attribute that says how wide a picture is, in CSS pixels."""
    if path is None or not path.is_file():
        return ""
    if path.suffix == ".svg":
        found = SVG.search(path.read_bytes()[:4096])
        if not found:  # a drawing without a width of its own is as wide as the page
            return ""
        width = float(found[1]) * PT
    else:
        with Image.open(path) as picture:
            width = picture.width * 96 / float(picture.info.get("dpi", (96, 96))[0])
    return f' style="--size: {width:.0f}px"'


def _name(listener: Any) -> str:
    return str(getattr(listener.handler, "__name__", ""))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the repairs and disconnect Thebe.

    Jupyter Book always loads Thebe, which this book does not use; its script is put on each page
    twice, where its second declaration of the same names is an error.
    """
    for listeners in app.events.listeners.values():
        listeners[:] = [each for each in listeners if _name(each) not in THEBE]
    app.connect("html-page-context", repair)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
