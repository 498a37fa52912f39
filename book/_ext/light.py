"""Pages load only what they show, and a page whose source is gone goes with it."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

# The theme has each icon as a letter of a font, and again as a drawing in 1.5 MB of script.
SCRIPT = re.compile(r'\s*<script src="[^"]*/fontawesome/[^"]*"></script>')
FONTS = re.compile(r'\s*<link rel="preload" as="font"[^>]*fa-(?:brands|regular)[^>]*>')
LETTER = re.compile(r'((?:\.fa-[\w-]+:before,?)+)\{content:"[^"]*"\}')
NOT_PAGES = ("_static", "_sources", "_images", "_downloads")


def mathjax(app: Sphinx, config: Config) -> None:
    """Load of MathJax what `mathjax3_config` lists, in place of all that it has."""
    config.mathjax_path = "mathjax/startup.js"


def formulas(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object
) -> None:
    """Leave MathJax out of a page without a formula; Sphinx gives it to the front page, too."""
    if 'class="math' not in context.get("body", ""):
        scripts = context["script_files"]
        scripts[:] = [s for s in scripts if "mathjax" not in str(s).lower()]


def pages(folder: Path) -> list[Path]:
    """List the pages that are built in a folder."""
    found = sorted(folder.rglob("*.html"))
    return [p for p in found if p.relative_to(folder).parts[0] not in NOT_PAGES]


def icons(folder: Path) -> None:
    """Take the script of icons from the pages, and from its style sheet what no page shows."""
    shown: set[str] = set()
    for page in pages(folder):
        text = page.read_text(encoding="utf-8")
        shown.update(re.findall(r"\bfa-[a-z][\w-]*", text))
        page.write_text(FONTS.sub("", SCRIPT.sub("", text)), encoding="utf-8")
    for script in (folder / "_static" / "scripts").glob("*.js"):
        shown.update(re.findall(r"\bfa-[a-z][\w-]*", script.read_text(encoding="utf-8")))

    def kept(rule: re.Match[str]) -> str:
        return rule[0] if shown & {*re.findall(r"fa-[\w-]+", rule[1])} else ""

    for sheet in (folder / "_static").glob("vendor/fontawesome/*/css/all.min.css"):
        sheet.write_text(LETTER.sub(kept, sheet.read_text(encoding="utf-8")), encoding="utf-8")


def finish(app: Sphinx, error: Exception | None) -> None:
    """Remove pages of earlier names, and what no page needs, once all are written."""
    if error or app.builder.name != "html":
        return
    folder = Path(app.outdir)
    made = {*app.env.found_docs, "genindex", "search"}
    made |= {index[0] for index in app.builder.domain_indices}  # type: ignore[attr-defined]
    for page in pages(folder):
        if page.relative_to(folder).with_suffix("").as_posix() not in made:
            page.unlink()
    icons(folder)


def setup(app: Sphinx) -> dict[str, bool]:
    """Run after the extension that brings MathJax, and after the last page."""
    app.connect("config-inited", mathjax, priority=900)
    app.connect("html-page-context", formulas, priority=900)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
