"""The study: its notebooks are executed, and the book is made of them.

`run` executes what has changed since the last run and builds the book; a notebook reaches
``book/notebooks/`` only after its last cell succeeded.
"""

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from rich.console import Console

from tamrl.errors import DataError, StudyError
from tamrl.study.runner import verify
from tamrl.study.runner.banner import Executed
from tamrl.study.runner.execute import (
    ROOT,
    cache_key,
    check_parameters,
    environment,
    execute,
)
from tamrl.study.runner.notebooks import BOTH, NONE, STUDY, Notebook, Parameters

# Notebooks at a time by profile: on two cores two of one process idle less than one of two.
PROFILES = {"smoke": 2, "reference": 2, "paper": 1}  # minutes; the book; full size, for a GPU
VIRTUAL = "Virtual towers: numbers and figures come from simulated data, except where real is said."


class Outcome(NamedTuple):
    """Notebooks executed, notebooks still valid, and the first page of the book if it was built."""

    executed: tuple[str, ...]
    unchanged: tuple[str, ...]
    page: Path | None


def choose(profile: str, only: Iterable[str] = (), parameters: Parameters | None = None,
           root: Path = ROOT, study: tuple[Notebook, ...] = STUDY) -> dict[str, Any]:  # fmt: skip
    """Name the notebooks that `run` is asked for, with their parameters; ValueError as of it."""
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    names, only = [nb.name for nb in study], tuple(only)
    for start in only:
        if not start or not any(name.startswith(start) for name in names):
            raise ValueError(f"no notebook begins with {start!r}; there are {', '.join(names)}")
    chosen = [nb for nb in study if not only or nb.name.startswith(only)]
    settings = {nb.name: {**getattr(nb, profile), **(parameters or {})} for nb in chosen}
    for name, values in settings.items():
        check_parameters(root / "notebooks" / f"{name}.ipynb", values)
    return settings


def run(profile: str = "reference", towers: str = "auto", only: Iterable[str] = (),
        parameters: Parameters | None = None, *, build: bool = True, force: bool = False,
        root: Path = ROOT, notebooks: tuple[Notebook, ...] = STUDY,
        console: Console | None = None) -> Outcome:  # fmt: skip
    """Execute the notebooks that need it (with ``force``: all), and ``build`` the book.

    ``towers`` as for `tamrl.sources.load_towers`; ``only``: beginnings of names, as "03" (none:
    all), whose ``parameters`` replace those of the profile. ValueError for an unknown profile,
    notebook or parameter; StudyError when a cell fails or the book has a warning (with its log).
    """
    settings = choose(profile, only, parameters, root, notebooks)
    chosen, console = tuple(nb for nb in notebooks if nb.name in settings), console or Console()
    sources = {name: root / "notebooks" / f"{name}.ipynb" for name in settings}
    virtual = announce(towers, console)
    keys: dict[str, str] = {}
    todo: list[Notebook] = []
    for nb in chosen:
        real = nb.real or not virtual
        settings[nb.name]["towers"] = "fluxnet2015" if real else "virtual"
        upstream = [keys.get(name) or _stored_key(root, name) for name in nb.after]
        keys[nb.name] = cache_key(sources[nb.name], settings[nb.name], upstream, nb.reads, root)
        if not force and _stored_key(root, nb.name) == keys[nb.name]:
            console.print(f"  {nb.name}: unchanged, kept")
        else:
            todo.append(nb)

    def one(nb: Notebook) -> None:
        name = nb.name
        started = time.monotonic()
        shown = ", ".join(f"{key}={value!r}" for key, value in settings[name].items())
        console.print(f"  {name}: running with {shown}", markup=False)
        execute(sources[name], settings[name], keys[name], root, virtual and not nb.real)
        console.print(f"  {name}: done in {time.monotonic() - started:.0f} s")

    # Kernels start in the folder and environment that all threads share: set once, for all of them.
    waiting, running = in_order(todo), dict[Future[None], Notebook]()
    with contextlib.chdir(root), environment(), ThreadPoolExecutor(PROFILES[profile]) as pool:
        while waiting or running:
            unfinished = {nb.name for nb in (*waiting, *running.values())}
            ready = [nb for nb in waiting if not unfinished.intersection(nb.after)]
            for nb in ready[: PROFILES[profile] - len(running)]:
                waiting.remove(nb)
                running[pool.submit(one, nb)] = nb
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                future.result()  # raises: what runs is finished, and nothing else is started
    tables = root / "runs" / ("virtual" if virtual else "fluxnet2015")
    verify.note_origins(tables, {nb.name: origin(nb, settings[nb.name], todo) for nb in chosen})
    page = None
    if build and (absent := [nb.name for nb in notebooks if not _stored_key(root, nb.name)]):
        text = f"The book needs all notebooks; not yet executed: {', '.join(absent)}. Run them "
        text += f"with: make book. What ran is in {root / 'book' / 'notebooks'}"
        console.print(text, markup=False)
    elif build:
        shown = Executed(root / "book" / "notebooks", notebooks)
        notes = shown.notes(root / "book")
        page = build_book(root, shown.virtual, bool(todo), console, notes)
    if profile == "reference" and not virtual and not parameters and chosen == notebooks:
        try:
            differences = verify.compare(tables, root / "results/reference")
            console.print(f"{verify.origins(tables)}\n{verify.verdict(differences)}", markup=False)
        except DataError as error:
            console.print(f"The tables are not checked: {error}")
    executed = tuple(nb.name for nb in todo)
    return Outcome(executed, tuple(name for name in sources if name not in executed), page)


def in_order(notebooks: Iterable[Notebook]) -> list[Notebook]:
    """Sort notebooks, the longest first, by what waits for it too.

    So no long one is left to run alone when the others are done.
    """
    there = list(notebooks)

    def least(nb: Notebook) -> float:
        return nb.minutes + max((least(o) for o in there if nb.name in o.after), default=0.0)

    return sorted(there, key=least, reverse=True)


def origin(nb: Notebook, values: Parameters, executed: list[Notebook]) -> str:
    """Say where a notebook's tables come from, for `verify`."""
    computes = values["towers"] == "virtual" or values.get("recompute") or values.get("measure")
    if nb.reads and not computes and nb.name not in BOTH:
        return f"read from those stored in {', '.join(nb.reads)}, not computed"
    if {name: value for name, value in values.items() if name != "towers"} != nb.reference:
        return verify.OTHER
    return verify.NOW if nb in executed else verify.EARLIER


def announce(towers: str, console: Console) -> bool:
    """Print first of all which towers the study uses; return whether they are virtual."""
    from tamrl.sources import load_towers  # here, so that a book can be built without the model

    loaded = load_towers(towers)
    real = f"{loaded.sizes['site']} real towers ({loaded.attrs['tower_source']})"
    simulated = "[bold]VIRTUAL TOWERS: all that follows comes from simulated data"
    console.print(simulated if loaded.attrs["virtual"] else real)
    return bool(loaded.attrs["virtual"])


def _stored_key(root: Path, name: str) -> str:
    """Return the key of the executed notebook in the book, "" when there is none."""
    executed = root / "book" / "notebooks" / f"{name}.ipynb"
    try:
        json.loads(executed.read_bytes())  # one that is damaged is executed again
        return executed.with_suffix(".key").read_text()
    except (OSError, ValueError):
        return ""


def build_book(root: Path, virtual: bool, everything: bool, console: Console,
               notes: Mapping[str, str] = NONE) -> Path:  # fmt: skip
    """Build ``_build/html``, with ``notes`` (page -> sentence) above pages; return its first page.

    Warnings are errors. ``everything``: also pages that did not change; they quote notebooks.
    ``virtual`` is said on every page.
    """
    config = yaml.safe_load((root / "_config.yml").read_text("utf-8"))
    if virtual:
        config["title"] += " (virtual towers)"
        config["parse"]["myst_substitutions"]["virtual"] = "&nbsp;(virtual towers)"
    config.setdefault("html", {})["announcement"] = VIRTUAL * virtual
    config["sphinx"]["config"]["page_notes"] = dict(notes)
    if not config["repository"]["url"]:  # no public address: no button that leads to one
        config["launch_buttons"] = {}
        config["html"] |= {"use_issues_button": False, "use_repository_button": False}
    extensions = config.get("sphinx", {}).get("local_extensions", {})
    extensions.update({name: str(ROOT / place) for name, place in extensions.items()})
    (folder := root / "_build").mkdir(exist_ok=True)
    (folder / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    console.print("  book: building")
    main = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "build", "book", "--config", str(folder / "_config.yml")]
    command += ["--path-output", ".", "-W", "-n", "--keep-going", *(["--all"] * everything)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    log, lines = folder / "book.log", (done.stdout + done.stderr).splitlines()
    log.write_text("\n".join(lines), "utf-8")
    if done.returncode:
        warnings = [line for line in lines if re.search("WARNING|ERROR|Error|Exception", line)]
        shown = "\n".join((warnings or lines[-20:])[:40])
        raise StudyError(f"the book has warnings or errors:\n{shown}\nLog: {log}")
    return folder / "html" / "index.html"
