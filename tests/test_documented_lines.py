"""The command lines that documents, pages, notebooks and help show are understood as they stand."""

import re
import shlex
from pathlib import Path
from typing import Any

import nbformat
import pytest
import typer

from tamrl.cli.app import app

ROOT = Path(__file__).parents[1]
GROUP: Any = typer.main.get_command(app)
DOCUMENTS = [ROOT / name for name in ("README.md", "REPRODUCING.md", "CONTRIBUTING.md")]
DOCUMENTS += [*(ROOT / "book").glob("*.md"), ROOT / "tamrl" / "shipped" / "MODEL_CARD.md"]


def shown() -> dict[str, str]:
    """Text of all that shows command lines, by file."""
    texts = {path.name: path.read_text() for path in DOCUMENTS}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, 4).cells
        texts[path.name] = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    for command, one in GROUP.commands.items():
        examples = (one.help or "").partition("Example")[2]
        texts[f"{command} --help"] = "\n".join(re.findall(r"`([^`]+)`", examples))
    return texts


def lines(text: str) -> list[str]:
    """Give the lines of a text that are commands of their own, as in a block of code."""
    found = re.findall(r"^(?:\S+ .*&& \S*/)?(tamrl [a-z].*)$", text, re.MULTILINE)
    return [line for line in found if re.match(r"tamrl [a-z-]+( |$)", line)]


LINES = [
    pytest.param(line, id=f"{name}: {line[:60]}")
    for name, text in shown().items()
    for line in lines(text)
    if line.split()[1] in GROUP.commands
]
INLINE = [
    pytest.param(line, id=f"{name}: {line[:60]}")
    for name, text in shown().items()
    for line in re.findall(r"`(tamrl [a-z][^`\n]* -[^`\n]*)`", text)
    if "…" not in line
]


def understood(line: str) -> dict[str, Any]:
    """Parse a line as the command line does, without running it; its settings by name."""
    _, command, *arguments = shlex.split(line, comments=True)
    context = GROUP.commands[command].make_context(command, arguments)
    return dict(context.params)


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its files there, each command knows every option and argument that is given to it."""
    monkeypatch.chdir(tmp_path)
    for word in shlex.split(line, comments=True)[2:]:
        if word.endswith("/"):
            Path(word).mkdir()
        elif re.search(r"\.\w+$", word):
            Path(word).touch()
    assert understood(line)


@pytest.mark.parametrize("line", INLINE)
def test_options_in_sentences_exist(line: str) -> None:
    """A sentence may leave out what a command needs besides, but names no option that is not."""
    command, *words = line.split()[1:]
    known = {name for p in GROUP.commands[command].params for name in (*p.opts, *p.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= known


def test_lines_are_found_and_wrong_ones_are_not_understood() -> None:
    """Of README and use page every line; an option that is not there is refused."""
    counted = {name: len(lines(text)) for name, text in shown().items()}
    assert counted["README.md"] >= 12
    assert counted["use.md"] >= 10
    assert counted["predict --help"] >= 1
    assert len(INLINE) >= 3
    for wrong in ("tamrl predict a.csv --tables facts.csv -o f.nc", "tamrl map -o"):
        with pytest.raises(Exception, match=r"[Nn]o such option|requires an argument"):
            understood(wrong)
