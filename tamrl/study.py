"""The study: which notebooks, in which order, with which parameters; then the book made of them.

`STUDY` is the one list. `run` executes with Papermill what has changed since the last run and
builds the book; a notebook reaches ``book/notebooks/`` only after its last cell succeeded.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from rich.console import Console

from tamrl import book
from tamrl.errors import StudyError

ROOT = book.ROOT
PROFILES = ("smoke", "reference", "paper")
# No result depends on these.
NOT_IN_NOTEBOOKS = {
    "study.py",
    "book.py",
    "cli.py",
    "cli_compare.py",
    "cli_map.py",
    "verify.py",
    "__main__.py",
}

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Notebook:
    """One notebook, what each profile sets in it, and the notebooks whose results it reads."""

    name: str
    smoke: Parameters = field(default_factory=dict)
    reference: Parameters = field(default_factory=dict)
    paper: Parameters = field(default_factory=dict)
    after: tuple[str, ...] = ()


_QUICK_CV = {"every": 3, "n_folds": 2, "epochs": 1}
_FULL_CV = {"n_folds": 10, "n_seeds": 10, "epochs": 16, "jobs": 8}

STUDY = (
    Notebook(
        "00_course",
        smoke={"n_towers": 24, "n_years": 2, "epochs": 2, "n_adapted": 2, "labels": 30},
    ),
    Notebook("01_towers"),
    Notebook("02_method", smoke={"n_towers": 24, "n_years": 2, "epochs": 2}),
    Notebook("03_scores", smoke={**_QUICK_CV, "trees": 60, "tune": False}, paper=_FULL_CV),
    Notebook("04_balance", smoke=_QUICK_CV, paper=_FULL_CV, after=("03_scores",)),
    Notebook(
        "05_map",
        smoke={"members": 2, "folds": 2, "resolution": 1.0},
        paper={"members": 10, "folds": 10},
    ),
    Notebook(
        "06_drivers",
        smoke={**_QUICK_CV, "days": 1, "step": 0.9},
        paper={"n_folds": 10, "epochs": 16, "repeats": 5, "step": 0.1, "jobs": 8},
    ),
    Notebook(
        "07_adaptation",
        smoke={"every": 3, "n_folds": 2, "n_tested": 1, "n_towers": 2, "epochs": 1, "longest": 90},
        paper={"n_folds": 10, "n_tested": 10, "n_towers": None, "epochs": 16, "jobs": 8},
    ),
    Notebook(
        "08_gases",
        smoke={"n_virtual": 24, "n_folds": 2, "epochs": 1, "marsh_epochs": 1},
        paper={"n_virtual": 180, "n_folds": 10, "epochs": 16, "jobs": 8},
    ),
    Notebook(
        "11_trust",
        smoke={"members": 2, "folds": 3, "count": 5, "repeats": 2},
        paper={"members": 10, "repeats": 100, "resolution": 0.5, "jobs": 8},
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a run left behind: notebooks executed, notebooks still valid, the book's first page."""

    executed: tuple[str, ...]
    kept: tuple[str, ...]
    page: Path | None


def run(
    profile: str = "reference",
    towers: str = "auto",
    only: Iterable[str] = (),
    parameters: Parameters | None = None,
    *,
    build: bool = True,
    force: bool = False,
    root: Path = ROOT,
    notebooks: tuple[Notebook, ...] = STUDY,
    console: Console | None = None,
) -> Outcome:
    """Execute the notebooks that need it and build the book.

    Parameters
    ----------
    profile
        "smoke" (minutes, proves that all runs), "reference" (the book on two cores) or "paper"
        (full size, for a GPU).
    towers
        "auto", "fluxnet2015" or "virtual", as for `tamrl.sources.load_towers`.
    only
        Beginnings of notebook names, such as "03"; none means all.
    parameters
        Values that replace those of the profile, for the notebooks chosen by ``only``.
    build
        Whether to build the book afterwards.
    force
        Execute even what is up to date.

    Raises
    ------
    ValueError
        For an unknown profile, notebook or parameter.
    StudyError
        When a cell fails (with the cell and its error) or the book has a warning (with its log).
    """
    console = console or Console()
    if profile not in PROFILES:
        raise ValueError(f"unknown profile {profile!r}; there are {', '.join(PROFILES)}")
    chosen = choose(notebooks, tuple(only))
    settings = {nb.name: {**getattr(nb, profile), **(parameters or {})} for nb in chosen}
    for nb in chosen:
        check_parameters(root / "notebooks" / f"{nb.name}.ipynb", settings[nb.name])

    virtual = announce(towers, console)
    keys: dict[str, str] = {}
    executed, kept = [], []
    for nb in chosen:
        source = root / "notebooks" / f"{nb.name}.ipynb"
        values = {**settings[nb.name], "towers": "virtual" if virtual else "fluxnet2015"}
        upstream = [keys.get(name) or _stored_key(root, name) for name in nb.after]
        keys[nb.name] = key = cache_key(source, values, upstream, root)
        if not force and _stored_key(root, nb.name) == key:
            kept.append(nb.name)
            console.print(f"  {nb.name}: unchanged, kept")
            continue
        started = time.monotonic()
        console.print(f"  {nb.name}: running with {_spell(values)}", markup=False)
        execute(source, values, key, root, virtual)
        executed.append(nb.name)
        console.print(f"  {nb.name}: done in {time.monotonic() - started:.0f} s")
    page = None
    if build:
        notes = [book.VIRTUAL] * virtual + [book.SMOKE] * (profile == "smoke")
        page = book.build(root, virtual, bool(executed), console, " ".join(notes))
    return Outcome(tuple(executed), tuple(kept), page)


def choose(notebooks: tuple[Notebook, ...], only: tuple[str, ...]) -> tuple[Notebook, ...]:
    """Return the notebooks whose names begin with one of ``only``, in the order of the list."""
    for start in only:
        if not any(nb.name.startswith(start) for nb in notebooks):
            names = ", ".join(nb.name for nb in notebooks)
            raise ValueError(f"no notebook begins with {start!r}; there are {names}")
    return tuple(nb for nb in notebooks if not only or nb.name.startswith(only))


def check_parameters(source: Path, values: Parameters) -> None:
    """Raise ValueError for a name that the notebook's parameters cell does not define.

    Papermill itself would inject an unknown name without a word.
    """
    known = papermill.inspect_notebook(source)
    for name in values:
        if name not in known:
            raise ValueError(
                f"{source.name} has no parameter {name!r}; it has {', '.join(sorted(known))}"
            )


def announce(towers: str, console: Console) -> bool:
    """Say first of all which towers the study stands on; return whether they are virtual."""
    from tamrl.sources import load_towers  # here, so that a book can be built without the model

    loaded = load_towers(towers)
    virtual = bool(loaded.attrs["virtual"])
    if virtual:
        console.print("VIRTUAL TOWERS: all that follows comes from a simulated world", style="bold")
    else:
        console.print(f"{loaded.sizes['site']} real towers ({loaded.attrs['tower_source']})")
    return virtual


def cache_key(source: Path, values: Parameters, upstream: list[str], root: Path = ROOT) -> str:
    """Digest of all that an executed notebook depends on.

    These are its own cells, its parameters, the package's code and facts, the data registry, the
    keys of the notebooks whose results it reads, and what is done to it after execution.
    """
    digest = hashlib.sha256()
    cells = nbformat.read(source, as_version=4).cells
    digest.update(json.dumps([(c.cell_type, c.source, c.metadata) for c in cells]).encode())
    digest.update(json.dumps([values, upstream], sort_keys=True).encode())
    digest.update(inspect.getsource(finish).encode())
    files = [p for p in (root / "tamrl").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    for path in sorted([*files, root / "data_registry.txt"]):
        if path.exists() and path.name not in NOT_IN_NOTEBOOKS:
            digest.update(f"{path.relative_to(root)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _stored_key(root: Path, name: str) -> str:
    """Return the key of the executed notebook in the book, "" when there is none."""
    folder = root / "book" / "notebooks"
    key = folder / f"{name}.key"
    return key.read_text() if key.exists() and (folder / f"{name}.ipynb").exists() else ""


def execute(source: Path, values: Parameters, key: str, root: Path, virtual: bool) -> Path:
    """Run one notebook to its end, then move it into the book; a failed one stays in runs/.

    The kernel is this very interpreter, and what it writes to stderr appears on the screen.
    """
    os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel goes first
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # idle threads must not spin
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # of tqdm, in pooch
    attempt = root / "runs" / "executing" / f"{source.stem}.{os.getpid()}.ipynb"
    attempt.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            source,
            attempt,
            dict(values),
            kernel_name="python3",
            cwd=root,
            progress_bar=False,
            stderr_file=sys.stderr,
            extra_arguments=["--log-level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        raise StudyError(
            f"{source.name}, cell {error.cell_index}:\n\n{error.source}\n\n"
            f"{error.ename}: {error.evalue}\n"
            f"The notebook up to there: {attempt.relative_to(root)}"
        ) from error
    except DeadKernelError as error:
        raise StudyError(
            f"{source.name}: its kernel was ended from outside, often for want of memory (below "
            "6 GB is needed); run the same command again, what is finished is kept"
        ) from error
    shelf = root / "book" / "notebooks"
    shelf.mkdir(parents=True, exist_ok=True)
    (shelf / f"{source.stem}.key").unlink(missing_ok=True)
    finish(attempt, shelf / "figures", virtual)
    os.replace(attempt, shelf / source.name)
    (shelf / f"{source.stem}.key").write_text(key)
    return shelf / source.name


def finish(path: Path, figures: Path, virtual: bool) -> None:
    """Prepare an executed notebook for the book, in place.

    Progress bars and log lines (stderr) go; on virtual towers the title and every caption say so;
    each figure with a name is saved as ``figures/<name>.png``, or ``<name>.virtual.png``.
    """
    notebook = nbformat.read(path, as_version=4)
    figures.mkdir(parents=True, exist_ok=True)
    keep = ("parameters", "duration", "version")  # and not the paths of this machine
    notebook.metadata.papermill = {name: notebook.metadata.papermill[name] for name in keep}
    titled = False
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and not titled:
            head, _, rest = cell.source.partition("\n")
            cell.source = f"{head} (virtual towers)\n{rest}" if virtual else cell.source
            titled = True
        if cell.cell_type != "code":
            continue
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if virtual and "caption" in figure:
            figure["caption"] = f"Virtual towers. {figure['caption']}"
        if "name" in figure:
            for old in figures.glob(f"{figure['name']}.*"):
                old.unlink()
            name = figure["name"] + (".virtual.png" if virtual else ".png")
            png = next(
                o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})
            )
            (figures / name).write_bytes(base64.b64decode(png))
    nbformat.write(notebook, path)


def _spell(values: Parameters) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in values.items())
