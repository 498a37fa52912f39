"""Two repairs of the theme, so that every reader can use the pages and no page reports an error."""

from typing import Any

from sphinx.application import Sphinx

SCROLLS = '<div class="pst-scrollable-table-container"'


def within_reach(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Let the keyboard reach wide tables, which scroll inside a box of their own."""
    if "body" in context:
        context["body"] = context["body"].replace(SCROLLS, f'{SCROLLS} tabindex="0"')


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect within_reach, disconnect Thebe.

    Jupyter Book always loads Thebe, which this book does not use; its script is put on each page
    twice, where its second declaration of the same names is an error.
    """
    for listeners in app.events.listeners.values():
        mine = [each for each in listeners if each.handler.__module__ != "sphinx_thebe"]
        listeners[:] = mine
    app.connect("html-page-context", within_reach)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
