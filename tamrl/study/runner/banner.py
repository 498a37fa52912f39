"""How the notebooks behind each page were executed, read from what Papermill noted in them.

A book may hold notebooks of several runs: each says for itself what it was executed with.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat

from tamrl.study.runner.notebooks import Notebook

SMOKE = "executed in the smoke profile, which shows that everything works; its scores mean little"
OTHER = "executed with parameters of no profile"
RANK = (SMOKE, OTHER, "")  # weakest first; nothing is said of the book's own profiles, and better


def strength(notebook: Notebook, values: Mapping[str, Any]) -> str:
    """Return which of `RANK` the parameters are: where profiles are alike, the best of them."""
    own = {name: value for name, value in values.items() if name != "towers"}
    if own in (notebook.reference, notebook.paper):
        return ""
    return SMOKE if own == notebook.smoke else OTHER


class Executed:
    """The executed notebooks of a book: what each was given, and which figures it drew."""

    def __init__(self, folder: Path, notebooks: Iterable[Notebook]) -> None:
        """Read the notebooks that are in ``folder``; one is as weak as those that it reads."""
        self.weakness: dict[str, str] = {}
        self.drawn_by: dict[str, str] = {}
        self.virtual = False
        for notebook in notebooks:
            path = folder / f"{notebook.name}.ipynb"
            if not path.exists():
                continue
            read = nbformat.read(path, as_version=4)
            values = read.metadata.get("papermill", {}).get("parameters", {})
            self.virtual |= values.get("towers") == "virtual"
            before = [self.weakness[name] for name in notebook.after if name in self.weakness]
            self.weakness[notebook.name] = min(
                [strength(notebook, values), *before], key=RANK.index
            )
            for cell in read.cells:
                name = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
                self.drawn_by |= {name: notebook.name} if name else {}

    def behind(self, text: str) -> set[str]:
        """Name the notebooks whose numbers and figures a page quotes."""
        names = {*re.findall(r"notebooks/(\w+)\.ipynb(?:::|$)", text, re.MULTILINE)}
        figures = re.findall(r"notebooks/figures/([\w-]+)\.", text)
        return names | {self.drawn_by[name] for name in figures if name in self.drawn_by}

    def notes(self, book: Path) -> dict[str, str]:
        """Say of each page in ``book`` what is weak behind it, the weakest: page -> sentence."""
        pages = {f"notebooks/{name}": {name} for name in self.weakness}
        for path in sorted(book.glob("*.md")):
            pages[path.stem] = self.behind(path.read_text(encoding="utf-8"))
        out = {}
        for page, names in pages.items():
            weak = {n: self.weakness[n] for n in sorted(names) if self.weakness.get(n)}
            if weak:
                out[page] = f"{', '.join(weak)}: {min(weak.values(), key=RANK.index)}."
        return out
