"""A sampled mutation run (`make mutants`): one small fault at a time, and whether a test fails.

Of all single changes of arithmetic, comparisons, logic and numbers in the modules of `COVERED` a
sample is drawn by seed. Each is compiled in memory, so that no file is ever altered, and met by the
quick tests of its module, in a process of its own. Not among the mutants: messages of errors;
defaults of settings, which are choices; guards that never act (floats below 1e-3 in divisions,
``strict`` of zip); conditions that name a GPU, and what is done under them, which no test meets
without one. Not among the tests: the golden values of `test_learners`, which say that a number
changed and not what is wrong. Libraries (mutmut, cosmic-ray) change no constants of modules, or
files in place, and draw no sample.
"""

import argparse
import ast
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COVERED = {  # module -> test files that state its facts, the nearest first
    "model.loss": "loss model faults train",
    "model.network": "model faults train samples",
    "model.tensors": "train samples faults",
    "model.train": "train faults",
    "model.predict": "train",
    "samples.arrays": "samples train annual phenology",
    "samples.splits": "splits annual",
    "samples.phenology": "phenology",
    "samples.labels": "phenology",
    "evaluate.scores": "scores",
    "evaluate.conformal": "conformal intervals",
    "evaluate.intervals": "intervals",
    "evaluate.timescales": "scores",
    "shipped.annual": "annual",
    "shipped.blend": "blend",
    "data.physics": "physics samples faults",
    "data.daily": "towers schema user",
    "data.weather.hourly": "hourly era5_cube",
    "data.weather.local_days": "hourly era5_cube",
    "maps.budgets": "budgets world_map",
    "maps.cells": "cells cli_map upscale",
    "maps.regions": "budgets",
    "maps.timeaxis": "timeaxis upscale faults",
    "maps.uncertainty": "budgets map_scores",
}
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
NAMES = {"min": "max", "minimum": "maximum", "any": "all", "mean": "sum", "sin": "cos"}
NAMES |= {new: old for old, new in NAMES.items() if old != "mean"}
SKIPPED = (ast.Raise, ast.JoinedStr, ast.arg)
GPUS = ("cuda", "is_cuda", "mps")
LIBRARIES = [  # imported once for all
    "h5py", "hypothesis", "lightgbm", "matplotlib.pyplot", "pytest", "rasterio", "requests",
    "scipy.integrate", "scipy.optimize", "sklearn.gaussian_process", "sklearn.model_selection",
    "torch", "typer", "xarray", "zarr.api.synchronous",
]  # fmt: skip
OPTIONS = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--assert=plain"]
OPTIONS += ["--doctest-modules"]  # rewriting would import the module itself, unchanged

Mutation = tuple[ast.AST, str, Any]  # what becomes of a field of a node


def of_gpu(node: ast.AST) -> bool:
    """Whether an expression names a GPU, which these tests have not."""
    named = (getattr(part, "attr", getattr(part, "value", None)) for part in ast.walk(node))
    return any(isinstance(name, str) and name in GPUS for name in named)


def mutations(node: ast.AST) -> Iterator[Mutation]:
    """Go through a syntax tree in a fixed order; each change is of one field of one node."""
    branch = isinstance(node, ast.If | ast.IfExp) and of_gpu(node.test)
    if isinstance(node, ast.Compare | ast.BoolOp) and of_gpu(node):
        return
    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield node, "op", SWAPS[type(op)]()
        case ast.Compare(ops=[op]) if type(op) in SWAPS:
            yield node, "ops", [SWAPS[type(op)]()]
        case ast.UnaryOp(op=op, operand=operand):
            yield node, "operand", ast.UnaryOp(op, operand)  # twice: as if it were not there
        case ast.Constant(value=bool(value)):
            yield node, "value", not value
        case ast.Constant(value=int(value)):
            yield node, "value", value + 1
        case ast.Constant(value=float(value)) if not 0 < value < 1e-3:
            yield node, "value", value * 2 or 1.0
        case ast.Attribute(attr=name) if name in NAMES:
            yield node, "attr", NAMES[name]
    for name, field in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns") or (
            branch and name in ("test", "body")
        ):
            continue
        for child in field if isinstance(field, list) else [field]:
            setting = isinstance(node, ast.ClassDef) and isinstance(child, ast.AnnAssign)
            guard = isinstance(child, ast.keyword) and child.arg == "strict"  # of zip
            if isinstance(child, ast.AST) and not (setting or guard or isinstance(child, SKIPPED)):
                yield from mutations(child)


def parse(module: str) -> ast.Module:
    """Return the syntax tree of a module of the package."""
    return ast.parse((ROOT / path(module)).read_text())


def path(module: str) -> str:
    """Return the file of a module of the package, from the root of the repository."""
    return f"tamrl/{module.replace('.', '/')}.py"


def meet(modules: list[str], number: int | None) -> None:
    """Run the tests of modules, of which the first has mutation ``number``, and end the process."""
    os.setsid()
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    import hypothesis
    import pytest

    first_failure = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # is not made smaller
    profile = {"phases": first_failure, "database": None, "deadline": None}
    hypothesis.settings.register_profile("mutants", **profile)
    hypothesis.settings.load_profile("mutants")
    if number is not None:
        tree, mutant, real = parse(modules[0]), f"tamrl.{modules[0]}", SourceFileLoader.get_code
        node, field, value = list(mutations(tree))[number]
        setattr(node, field, value)
        code = compile(ast.fix_missing_locations(tree), mutant, "exec")
        SourceFileLoader.get_code = lambda self, name: (  # type: ignore[method-assign]
            code if name == mutant else real(self, name)
        )
    names = dict.fromkeys(name for module in modules for name in COVERED[module].split())
    os.chdir(ROOT)
    tests = [path(module) for module in modules] + [f"tests/test_{name}.py" for name in names]
    os._exit(pytest.main([*OPTIONS, *tests]))


def die(modules: list[str], number: int | None, limit: float | None = None) -> bool:
    """Whether a test fails, or does not end within ``limit`` seconds."""
    process = multiprocessing.get_context("fork").Process(target=meet, args=(modules, number))
    process.start()
    process.join(limit)
    if process.exitcode is None:
        os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
    return process.exitcode != 0


def words(module: str, number: int) -> str:
    """Say where a mutation is, and what becomes of what."""
    node, field, value = list(mutations(parse(module)))[number]
    old, line = ast.unparse(node), getattr(node, "lineno", 0)
    setattr(node, field, value)
    return f"{path(module)}:{line}: {old} -> {ast.unparse(node)}"


def main() -> None:
    """Draw, run, print the survivors and the share killed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="decides which")
    parser.add_argument("--only", nargs="+", default=list(COVERED), help="modules, as model.loss")
    given = parser.parse_args()
    for name in LIBRARIES:
        import_module(name)
    sys.path.insert(0, str(ROOT))
    every = [(m, i) for m in given.only for i in range(len(list(mutations(parse(m)))))]
    drawn = random.Random(given.seed).sample(every, min(given.count, len(every)))
    start, lived = time.monotonic(), 0
    if die(list(dict.fromkeys(module for module, _ in drawn)), None):
        sys.exit("tests fail without any mutation; run them first")
    limit = 20 + time.monotonic() - start  # of the tests of all modules: ample for those of one
    for module, number in drawn:
        if not die([module], number, limit):
            lived += 1
            print(f"survived  {words(module, number)}", flush=True)
    n = len(drawn)
    print(f"{n - lived} of {n} mutants killed ({1 - lived / n:.0%}), of {len(every)} possible ones")


if __name__ == "__main__":
    main()
