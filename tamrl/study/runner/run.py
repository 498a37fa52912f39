"""The study: which notebooks, in which order, with which parameters; then the book made of them.

`STUDY` is the one list. `run` executes with Papermill what has changed since the last run and
builds the book; a notebook reaches ``book/notebooks/`` only after its last cell succeeded.
"""

import contextlib
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from tamrl.errors import DataError
from tamrl.study.runner import book, verify
from tamrl.study.runner.execute import Parameters, cache_key, check_parameters, digest, execute

ROOT = book.ROOT
PROFILES = ("smoke", "reference", "paper")
# Notebooks at a time: on two cores two of one process each leave less idle than one of two.
SIDE_BY_SIDE = {"smoke": 2, "reference": 2, "paper": 1}


@dataclass(frozen=True)
class Notebook:
    """One notebook, what each profile sets in it, and the notebooks and tables it reads."""

    name: str
    smoke: Parameters = field(default_factory=dict)
    reference: Parameters = field(default_factory=dict)
    paper: Parameters = field(default_factory=dict)
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()  # folders, from the root of the repository


_ALONE = {"jobs": 1}  # no processes besides the notebook's own
_QUICK = {"every": 3, "folds": 2, "epochs": 1, **_ALONE}
_FULL = {"folds": 10, "n_seeds": 10, "epochs": 16, "jobs": 8}
# Of experiments that are computed on the spot: those on virtual towers, or when asked.
_TINY = {"every": 9, "folds": 2, "epochs": 1, **_ALONE}
_WHOLE = {"recompute": True, "every": 1, "folds": None, "n_seeds": None, "epochs": None, "jobs": 8}

STUDY = (
    Notebook(
        "00_course",
        smoke={"n_towers": 24, "n_years": 2, "epochs": 2, "n_adapted": 2, "labels": 30},
    ),
    Notebook("01_towers"),
    Notebook("02_method", smoke={"n_towers": 24, "n_years": 2, "epochs": 2}),
    Notebook(
        "03_scores", smoke={**_QUICK, "trees": 60, "tune": False}, reference=_ALONE, paper=_FULL,
    ),
    Notebook("04_balance", smoke=_QUICK, reference=_ALONE, paper=_FULL, after=("03_scores",)),
    Notebook(
        "05_map", smoke={"members": 2, "folds": 2, "resolution": 1.0, **_ALONE}, reference=_ALONE,
        paper={"members": 10, "folds": 10, "jobs": 8},
    ),
    Notebook(
        "06_drivers", smoke={**_QUICK, "days": 1, "step": 0.9}, reference=_ALONE,
        paper={"folds": 10, "epochs": 16, "repeats": 5, "step": 0.1, "jobs": 8},
    ),
    Notebook(
        "07_adaptation", smoke={**_QUICK, "n_tested": 1, "n_towers": 2, "longest": 90},
        reference=_ALONE,
        paper={"folds": 10, "n_tested": 10, "n_towers": None, "epochs": 16, "jobs": 8},
    ),
    Notebook(
        "08_gases", smoke={"n_virtual": 24, "folds": 2, "epochs": 1, "marsh_epochs": 1, **_ALONE},
        reference=_ALONE, paper={"n_virtual": 180, "folds": 10, "epochs": 16, "jobs": 8},
    ),
    Notebook(
        "09_ablation", reads=("results/ablation",), paper=_WHOLE,
        smoke={**_TINY, "only": [
            "TAM-RL", "FiLM only", "soft closure", "no closure", "no process scalars",
        ]},
    ),
    Notebook(
        "10_benchmark", paper=_WHOLE,
        smoke={**_TINY, "only": [
            "ensemble", "TAM-RL as published", "LightGBM", "climatology",
        ]},
        reads=("results/benchmark", "results/climates", "results/biomes", "results/no-satellites"),
    ),
    Notebook(
        "11_trust", smoke={"members": 2, "folds": 3, "count": 5, "repeats": 2, **_ALONE},
        reference=_ALONE, paper={"members": 10, "repeats": 100, "resolution": 0.5, "jobs": 8},
    ),
    Notebook(
        "12_monitor", smoke=_QUICK, reference=_ALONE,
        paper={"folds": 10, "epochs": 16, "jobs": 8}, after=("03_scores",),
    ),
    Notebook("13_cost", paper={"measure": True}, reads=("results/speed",)),
    Notebook(
        "14_directions", paper=_WHOLE,
        smoke={**_TINY, "only": [
            "TAM-RL", "TAM-RL, annual prior", "LightGBM",
        ]},
        reads=("results/directions", "results/ablation", "results/benchmark"),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Notebooks executed, notebooks still valid, and the first page of the book if it was built."""

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
    todo: list[tuple[Notebook, Parameters]] = []
    for nb in chosen:
        source = root / "notebooks" / f"{nb.name}.ipynb"
        values: Parameters = {
            **settings[nb.name],
            "towers": "virtual" if virtual else "fluxnet2015",
        }
        upstream = [keys.get(name) or _stored_key(root, name) for name in nb.after]
        upstream += [digest(root / folder) for folder in nb.reads]
        keys[nb.name] = key = cache_key(source, values, upstream, root)
        if not force and _stored_key(root, nb.name) == key:
            console.print(f"  {nb.name}: unchanged, kept")
        else:
            todo.append((nb, values))
    executed = tuple(nb.name for nb, _ in todo)
    kept = tuple(nb.name for nb in chosen if nb.name not in executed)

    def one(nb: Notebook, values: Parameters, before: list[Future[None]]) -> None:
        for future in before:
            future.result()  # waits; raises what the notebook that is read raised
        started = time.monotonic()
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        console.print(f"  {nb.name}: running with {shown}", markup=False)
        source = root / "notebooks" / f"{nb.name}.ipynb"
        execute(source, values, keys[nb.name], root, virtual)
        console.print(f"  {nb.name}: done in {time.monotonic() - started:.0f} s")

    # Kernels start in the working folder, which all threads share: it is set once, for all of them.
    with contextlib.chdir(root), ThreadPoolExecutor(SIDE_BY_SIDE[profile]) as pool:
        futures: dict[str, Future[None]] = {}
        for nb, values in sorted(todo, key=lambda item: bool(item[0].after)):
            before = [futures[name] for name in nb.after if name in futures]
            futures[nb.name] = pool.submit(one, nb, values, before)
        done, _ = wait(futures.values(), return_when=FIRST_EXCEPTION)
        for future in futures.values():
            future.cancel()  # after a failure what runs is finished, and nothing else is started
        for future in done:
            future.result()  # raises
    page = None
    absent = [nb.name for nb in notebooks if not _stored_key(root, nb.name)]
    if build and absent:
        console.print(
            f"The book needs all notebooks; not yet executed: {', '.join(absent)}. Run them with: "
            f"make book. What ran is in {root / 'book' / 'notebooks'}",
            markup=False,
        )
    elif build:
        notes = [book.VIRTUAL] * virtual + [book.SMOKE] * (profile == "smoke")
        page = book.build(root, virtual, bool(executed), console, " ".join(notes))
    if profile == "reference" and not virtual and not parameters and chosen == notebooks:
        try:
            console.print(verify.verdict(root / "runs/fluxnet2015", root / "results/reference"))
        except DataError as error:
            console.print(f"The tables are not checked: {error}")
    return Outcome(executed, kept, page)


def choose(notebooks: tuple[Notebook, ...], only: tuple[str, ...]) -> tuple[Notebook, ...]:
    """Return the notebooks whose names begin with one of ``only``, in the order of the list."""
    for start in only:
        if not any(nb.name.startswith(start) for nb in notebooks):
            names = ", ".join(nb.name for nb in notebooks)
            raise ValueError(f"no notebook begins with {start!r}; there are {names}")
    return tuple(nb for nb in notebooks if not only or nb.name.startswith(only))


def announce(towers: str, console: Console) -> bool:
    """Say first of all which towers the study stands on; return whether they are virtual."""
    from tamrl.sources import load_towers  # here, so that a book can be built without the model

    loaded = load_towers(towers)
    virtual = bool(loaded.attrs["virtual"])
    if virtual:
        console.print("VIRTUAL TOWERS: all that follows comes from simulated data", style="bold")
    else:
        console.print(f"{loaded.sizes['site']} real towers ({loaded.attrs['tower_source']})")
    return virtual


def _stored_key(root: Path, name: str) -> str:
    """Return the key of the executed notebook in the book, "" when there is none."""
    folder = root / "book" / "notebooks"
    key = folder / f"{name}.key"
    return key.read_text() if key.exists() and (folder / f"{name}.ipynb").exists() else ""
