"""One notebook: what its result depends on, its execution, and what the book gets of it."""

import ast
import base64
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError

from tamrl.errors import StudyError
from tamrl.study.publish import OF_STUDY
from tamrl.study.runner.notebooks import Parameters

ROOT = Path(__file__).resolve().parents[3]
NOT_IN_NOTEBOOKS = ("tamrl/cli", "tamrl/study/runner", "tamrl/__main__.py")
ENVIRONMENT = {
    "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel goes first
    "OMP_WAIT_POLICY": "passive",  # idle threads must not spin
    "PYTHONWARNINGS": "ignore:IProgress not found",  # of tqdm, in pooch
}
# What libraries load is no garbage: looked through now and then, and at the end, it takes seconds.
AT_START = "__import__('gc').set_threshold(100_000, 50, 100)"
AT_START += "; __import__('atexit').register(__import__('gc').freeze)"
KERNEL = ["--log-level=CRITICAL", f"--IPKernelApp.exec_lines={AT_START}"]
ALIKE = {float: (int,), tuple: (list,)}  # values of other kinds that a parameter takes


@contextmanager
def environment() -> Iterator[None]:
    """Let kernels that start meanwhile have `ENVIRONMENT`; afterwards all is as it was."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT | before | {OF_STUDY: "1"})
    os.environ.pop("MPLBACKEND", None)  # a notebook keeps its figures only if it draws inline
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def check_parameters(source: Path, values: Parameters) -> None:
    """ValueError for a name that the cell of parameters lacks; Papermill would inject it.

    And for a value of another kind than there; None is one where its comment says so.
    """
    known = papermill.inspect_notebook(source)
    for name in (name for name in values if name not in known):
        have = ", ".join(sorted(known))
        raise ValueError(f"{source.name} has no parameter {name!r}; it has {have}")
    for name, value in values.items():
        default, about = ast.literal_eval(known[name]["default"]), known[name]["help"]
        free = default is None or (value is None and "None" in about)
        if not free and type(value) not in (type(default), *ALIKE.get(type(default), ())):
            raise ValueError(f"{source.name}: {name} is {value!r}, and {default!r} in the notebook")


def cache_key(source: Path, values: Parameters, upstream: list[str], reads: Iterable[str],
              root: Path) -> str:  # fmt: skip
    """Digest of all that an executed notebook depends on.

    Its cells and parameters, the keys of notebooks before it (``upstream``), `finish`, the package
    but `NOT_IN_NOTEBOOKS`, the data registry, and the folders of tables that it ``reads``.
    """
    cells = nbformat.read(source, as_version=4).cells
    known = [(c.cell_type, c.source, c.metadata) for c in cells]
    stated = [known, values, upstream, inspect.getsource(finish)]
    digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
    starts = [root / part for part in ("tamrl", "data_registry.txt", *reads)]
    for path in sorted(path for start in starts for path in (start, *start.rglob("*"))):
        unrelated = any(path.is_relative_to(root / part) for part in NOT_IN_NOTEBOOKS)
        if path.is_file() and path.parent.name != "__pycache__" and not unrelated:
            digest.update(f"{path.relative_to(root).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def execute(source: Path, values: Parameters, key: str, root: Path, virtual: bool) -> None:
    """Run one notebook to its end, then move it into the book; a failed one stays in runs/.

    The kernel is this interpreter, in the caller's working folder; its stderr is on the screen.
    """
    attempt = root / "runs" / "executing" / f"{source.stem}.{os.getpid()}.ipynb"
    attempt.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(source, attempt, dict(values), progress_bar=False,
                                   stderr_file=sys.stderr, kernel_name="python3",
                                   extra_arguments=KERNEL)  # fmt: skip
    except papermill.PapermillExecutionError as error:
        raise StudyError(
            f"{source.name}, cell {error.cell_index}:\n\n{error.source}\n\n"
            f"{error.ename}: {error.evalue}\nThe notebook up to there: {attempt.relative_to(root)}"
        ) from error
    except DeadKernelError as error:
        raise StudyError(
            f"{source.name}: its kernel was ended from outside, often for want of memory (below "
            "6 GB is needed); run the same command again; finished notebooks stay"
        ) from error
    shelf = root / "book" / "notebooks"
    (shelf / f"{source.stem}.key").unlink(missing_ok=True)
    finish(attempt, shelf / "figures", virtual)
    os.replace(attempt, shelf / source.name)
    (shelf / f"{source.stem}.key").write_text(key)


def finish(path: Path, figures: Path, virtual: bool) -> None:
    """Prepare an executed notebook for the book, in place.

    Log lines (stderr) go; on virtual towers title and captions say so; each figure with a name is
    saved as ``figures/<name>[.virtual].png``, or ``.svg`` if a drawing.
    """
    notebook = nbformat.read(path, as_version=4)
    figures.mkdir(parents=True, exist_ok=True)
    keep = ("parameters", "duration", "version")  # and not the paths of this machine
    notebook.metadata.papermill = {name: notebook.metadata.papermill[name] for name in keep}
    if virtual:
        title = next(cell for cell in notebook.cells if cell.cell_type == "markdown")
        head, _, rest = title.source.partition("\n")
        title.source = f"{head} (virtual towers)\n{rest}"
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.source = cell.source.replace("# Parameters", "# as this book was run", 1)
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if virtual and "caption" in figure:
            figure["caption"] = f"Virtual towers. {figure['caption']}"
        if "name" in figure:
            for old in figures.glob(f"{figure['name']}.*"):
                old.unlink()
            name = figure["name"] + ".virtual" * virtual
            shown = {kind: data for o in cell.outputs for kind, data in o.get("data", {}).items()}
            if "image/png" in shown:
                (figures / f"{name}.png").write_bytes(base64.b64decode(shown["image/png"]))
            elif "image/svg+xml" in shown:
                (figures / f"{name}.svg").write_text(shown["image/svg+xml"], encoding="utf-8")
            else:
                raise StudyError(f"{path.name}: the cell of {figure['name']} drew no picture")
    nbformat.write(notebook, path)
