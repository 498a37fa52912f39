"""A note above a page of which `tamrl study` knows that its numbers mean little."""

import html
from typing import Any

from sphinx.application import Sphinx


def announce(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Add the page's own note to what is said on every page."""
    said = [
        context.get("theme_announcement") or "",
        html.escape(app.config.page_notes.get(page, "")),
    ]
    context["theme_announcement"] = " ".join(filter(None, said))


def setup(app: Sphinx) -> dict[str, bool]:
    """Take the notes from the configuration; where they change, all pages are written anew."""
    app.add_config_value("page_notes", {}, "html", dict)
    app.connect("html-page-context", announce)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
