"""What a search engine or a chat shows of a page: its title, its first words, its first figure."""

import html
import re
from pathlib import PurePosixPath
from textwrap import shorten
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

LENGTH = 200  # characters of a description; what is longer is cut by those who show it
PICTURES = (".png", ".jpg")  # drawings (svg) are shown by none of them


def describe(app: Sphinx, page: str, template: str, context: dict[str, Any],
             doctree: nodes.document | None) -> None:  # fmt: skip
    """Add description, title and picture to a page's head.

    The address of a picture must be whole: without that of the book (``baseurl``) there is none.
    """
    book = str(app.config.html_title)
    title = html.unescape(re.sub(r"<[^>]+>", "", context.get("title") or "")) or book
    front = app.env.get_and_resolve_doctree(app.config.root_doc, app.builder)
    text = _opening(doctree or front)
    tags = {"description": text, "og:title": title, "og:description": text, "og:type": "article"}
    tags |= {"og:site_name": book, "twitter:card": "summary"}
    after = app.env.toctree_includes.get(app.config.root_doc, [])[:1]  # has one, if nothing else
    shown = [doctree or front, front, *(app.env.get_doctree(name) for name in after)]
    picture = _picture(app, *shown) if app.config.html_baseurl else None
    if picture:
        base = app.config.html_baseurl.rstrip("/")
        tags |= {"og:image": f"{base}/_images/{picture[0]}", "og:image:alt": picture[1]}
        tags |= {"twitter:card": "summary_large_image", "og:url": f"{base}/{page}.html"}
    lines = [
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" '
        f'content="{html.escape(value)}" />'
        for name, value in tags.items()
    ]
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


def _opening(doctree: nodes.document) -> str:
    """Return the first paragraphs of a page, as many as fill a description."""
    said = ""
    for paragraph in doctree.findall(nodes.paragraph):
        if len(said) < LENGTH / 2 and isinstance(paragraph.parent, nodes.section):
            said = f"{said} {paragraph.astext()}"
    return shorten(said, LENGTH, placeholder=" \N{HORIZONTAL ELLIPSIS}")


def _picture(app: Sphinx, *doctrees: nodes.document) -> tuple[str, str] | None:
    """Return name and words of the first picture of these pages."""
    for image in (image for doctree in doctrees for image in doctree.findall(nodes.image)):
        # Of a page that is written: where its picture is; of others, perhaps with a wildcard.
        uri = str(image.get("candidates", {}).get("image/png", image["uri"]))
        name = app.env.images[uri][1] if uri in app.env.images else PurePosixPath(uri).name
        if name.endswith(PICTURES):
            return name, image.get("alt", "")
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    """Describe each page."""
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
