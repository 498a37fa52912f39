"""Rules of the house for the study part of the book: short, one name a model, numbers from code."""

import re
from pathlib import Path

import pytest
import yaml

from tamrl.study.comparisons import models

BOOK = Path(__file__).parents[2] / "book"
PAGES = {path.stem: path.read_text() for path in sorted(BOOK.glob("*.md"))}
TOC = yaml.safe_load((BOOK / "_toc.yml").read_text())
STUDY = [TOC["root"], *(chapter["file"] for chapter in TOC["parts"][0]["chapters"])]
WORDS = 6000
ALIAS = re.compile(r"\b(?:blend|hybrid|(?:our|plain|main|headline) (?:model|network|ensemble))\b")
# Decimals that others published, or that were set beforehand: the only ones that are typed.
PUBLISHED = {
    "limits": {"0.36", "0.43", "0.16", "0.23", "19.4", "43.8", "9.6", "8.0",
               "2.18", "1.97", "1.76", "1.62"},  # the publication of TAM-RL
    "map": {"132.7", "5.75", "0.33"},  # global sums
    "results": {"0.7", "0.6", "0.5", "0.37", "0.25"},  # R2 of others; the bound of a class's bias
}  # fmt: skip
QUANTITY = re.compile(r"gC m⁻²|PgC|R²|RMSE")


def prose(page: str) -> str:
    """Leave of a page what is read: text, tables and captions; what is glued is a word."""
    text = re.sub(
        r"^```(?:\w+|\{eval-rst\})\n.*?^```$|\$\$.*?\$\$", "", page, flags=re.MULTILINE | re.DOTALL
    )
    text = re.sub(r"\{glue:text\}`[^`]*`", "glued", text)
    text = re.sub(r"^(?:```.*|:\w+:.*)$|\{\{.*?\}\}", "", text, flags=re.MULTILINE)
    return re.sub(r"\{cite(?::t)?\}`[^`]*`", "", text)


def count_words(page: str) -> int:
    """Count the words of a page's prose."""
    return sum(bool(re.search(r"\w", word)) for word in prose(page).split())


def model_names() -> set[str]:
    """Read the names in the table "Models in this book"."""
    table = PAGES["model"].partition("## Models in this book")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)[1:]  # below the heading
    both = [name.partition(" (")[0] for name in cells]
    return {*both, *(part for name in both if "TAM-RL" not in name for part in name.split(", "))}


def test_the_study_has_nine_chapters() -> None:
    """A reader gets the story without notebooks and appendix."""
    assert TOC["parts"][0]["caption"] == "The study"
    assert len(STUDY) <= 9


def test_the_study_is_short() -> None:
    """Six thousand words, tables and captions included."""
    counts = {name: count_words(PAGES[name]) for name in STUDY}
    assert sum(counts.values()) <= WORDS, counts


def test_words_are_counted_as_a_reader_sees_them() -> None:
    page = "# Two words\n\n```shell\nmake book\n```\n\n"
    figure = "```{figure} a.*\n:alt: What nobody sees.\n\nCaption here.\n```\n"
    assert count_words(page) == 2
    assert count_words(page + figure) == 4
    assert count_words("| {glue:text}`a.ipynb::b:s` | one, two |") == 3


@pytest.mark.parametrize("page", PAGES)
def test_a_model_has_one_name(page: str) -> None:
    """Pages name models as the table "Models in this book" does; so does the code."""
    text, names = re.sub(r"`[^`]*`", "", prose(PAGES[page])), model_names()
    assert ALIAS.findall(text) == []
    kinds = re.findall(r"TAM-RL(?: as \w+|,? pre-\w+|, annual \w+)?", text)
    assert {*kinds} <= names
    of_code = {models.ENSEMBLE, models.NETWORK, models.PUBLISHED, models.PRETRAINED_MANY}
    assert of_code | {"LightGBM", "XGBoost", "climatology"} <= names


@pytest.mark.parametrize("page", PAGES)
def test_results_are_never_typed(page: str) -> None:
    """A decimal in a sentence on errors or sums is glued from code, unless others published it."""
    if page == "api":
        return  # examples, computed when tests run
    text = re.sub(r"`[^`]*`", "", prose(PAGES[page]))
    sentences = [s for s in re.split(r"(?<=[.;|])\s", text) if QUANTITY.search(s)]
    typed = {number for s in sentences for number in re.findall(r"\d+\.\d+", s)}
    assert typed - PUBLISHED.get(page, set()) == set()
    assert all(re.search(rf"\b{re.escape(n)}\b", text) for n in PUBLISHED.get(page, ()))
