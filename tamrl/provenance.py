"""Which code made a result: a digest that changes when the code that counts changes."""

import ast
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from tamrl.errors import DataError

PACKAGE = Path(__file__).parents[1]  # the folder that holds tamrl/


def code_version(model: type) -> str:
    """Digest of the module of a class and of the modules of this package that it imports.

    Comments, docstrings and layout do not count, nor which Python reads the code; nor does
    `tamrl.data`, whose effect is in the data and so in their fingerprint, nor what the package
    itself offers to its users (``tamrl/__init__.py``), which reads weights and trains nothing.
    """
    trees: dict[str, Any] = {}
    todo = [model.__module__]
    while todo:
        name = todo.pop()
        path = PACKAGE.joinpath(*name.split("."))
        files = [path.with_suffix(".py"), path / "__init__.py"]
        if not name.startswith("tamrl"):  # a model of the user's own
            files = [Path(getattr(sys.modules[name], "__file__", None) or "")]
        found = [file for file in files if file.is_file()]
        if name == model.__module__ and not found:
            raise DataError(f"{model.__qualname__}: define the model in a file, not interactively")
        if not found or name in trees or name.startswith("tamrl.data"):
            continue
        tree = ast.parse(found[0].read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                if ast.get_docstring(node, clean=False) is not None:
                    del node.body[0]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        todo = [module for module in todo if module.startswith("tamrl.")]
        trees[name] = _spelt(tree)
    return hashlib.sha256(json.dumps(sorted(trees.items())).encode()).hexdigest()[:16]


def _spelt(node: Any) -> Any:
    """Spell a tree of code out in lists; what is empty is left out, for newer Pythons have more."""
    if isinstance(node, list):
        return [_spelt(each) for each in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    parts = [
        [name, _spelt(value)] for name, value in ast.iter_fields(node) if value not in (None, [])
    ]
    return [type(node).__name__, *parts]
