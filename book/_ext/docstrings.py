"""The API reference, made from docstrings when the book is built.

Napoleon reads numpy's style. What is written here is where the house differs from it: a "Returns"
may be a sentence, types stand in the code and not in the docstring, and `tamrl.monitor` in single
backticks is a link where the page has such an entry, else code.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

import tamrl

NAME = re.compile(r"[A-Za-z_][\w.]*")
BARS = re.compile(r"\|(\S|\S[^|]*\S)\|")
SHORT = {"PathArg": "str | PathLike", "npt.": "", "PathLike[str]": "PathLike"}


def _begins(lines: list[str], i: int) -> bool:
    """Whether a section begins at this line: a name, underlined."""
    under = lines[i + 1] if i + 1 < len(lines) else ""
    return bool(re.fullmatch(r"\w[\w ]*", lines[i]) and len(under) > 2 and set(under) == {"-"})


def sentences(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a "Returns" of plain sentences one that names no type, before napoleon reads it.

    Napoleon takes the first line for a type. Where no line is indented, there is none. Nor does the
    first sentence of a property begin with one. Bars of absolute values are no substitutions. A
    module is named above what it says of itself.
    """
    if what in ("attribute", "property") and lines:
        lines[0] = f": {lines[0]}"
    if what == "module":
        lines[:0] = [f".. rubric:: ``{name}``", ""]
    lines[:] = [
        line if ">>>" in line or "``" in line else BARS.sub(r"\|\1\|", line) for line in lines
    ]
    done: list[str] = []
    i = 0
    while i < len(lines):
        if lines[i] != "Returns" or not _begins(lines, i):
            done.append(lines[i])
            i += 1
            continue
        end = i + 2
        while end < len(lines) and not _begins(lines, end):
            end += 1
        body = lines[i + 2 : end]
        if not any(line.startswith(" ") for line in body):
            body = [":", *(f"    {line}".rstrip() for line in body)]
        done += [*lines[i : i + 2], *body]
        i = end
    lines[:] = done


def types(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give each described parameter the type that the code states, after napoleon."""
    called = obj.__init__ if inspect.isclass(obj) else obj
    stated = _stated(called)
    known = getattr(called, "__globals__", {})
    done: list[str] = []
    for line in lines:
        field = re.match(r":param \\?\*{0,2}(\w+):", line)
        if re.match(r":type \w+:", line):
            continue  # what napoleon made of a word behind a colon
        if field and field[1] in stated:
            done.append(f":type {field[1]}: {_spell(stated[field[1]], known)}")
        done.append(line)
    lines[:] = done


def _stated(called: Any) -> dict[str, str]:
    """Types of parameters as they are written; evaluated, ``ArrayLike`` alone fills ten lines."""
    try:
        (written,) = ast.parse(textwrap.dedent(inspect.getsource(called))).body
        given = written.args  # type: ignore[attr-defined]
    except (AttributeError, OSError, SyntaxError, TypeError, ValueError):
        return {}  # nothing was written, as for the __init__ of a dataclass
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return {one.arg: ast.unparse(one.annotation) for one in named if one.annotation}


def _spell(text: str, known: dict[str, Any]) -> str:
    """Write a type as code, with links to the classes of this package."""
    for written, short in SHORT.items():
        text = text.replace(written, short)
    pieces, end = [], 0
    for found in NAME.finditer(text):
        one = known.get(found[0])
        if inspect.isclass(one) and one.__module__.startswith("tamrl."):
            pieces += [text[end : found.start()], f":py:obj:`~{one.__module__}.{one.__name__}`"]
            end = found.end()
    pieces.append(text[end:])
    spelt = [p if p.startswith(":py:obj:") else f"``{p.strip()}``" for p in pieces if p.strip()]
    return " ".join(spelt)


def names(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of a named tuple, of which Python itself says their number."""
    return True if str(inspect.getdoc(obj)).startswith("Alias for field number") else None


def elsewhere(
    app: Sphinx, env: Any, node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Lead a name that `import tamrl` offers to its entry; leave others as code."""
    if node.get("reftype") != "obj":
        return None
    room, _, name = str(node["reftarget"]).rpartition(".")
    one = getattr(tamrl, name, None) if room == "tamrl" else None
    for place in (getattr(one, "__module__", ""), "tamrl.data"):
        found = env.get_domain("py").objects.get(f"{place}.{name}")
        if one is not None and found:
            page = node["refdoc"]
            return make_refnode(app.builder, page, found.docname, found.node_id, contnode)
    return contnode


def setup(app: Sphinx) -> dict[str, bool]:
    """Run before and after napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", sentences, priority=400)
    app.connect("autodoc-process-docstring", types, priority=600)
    app.connect("autodoc-skip-member", names)
    app.connect("missing-reference", elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
