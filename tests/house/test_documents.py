"""Rules of the house for documents, pages and notebooks; `make lint` runs them."""

import ast
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from tamrl.shipped.pretrained import SHIPPED
from tamrl.study.runner.notebooks import STUDY

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "REPRODUCING.md", "CONTRIBUTING.md", "CHANGELOG.md")
DOCUMENTS = {name: (ROOT / name).read_text() for name in NAMES}
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "book").glob("*.md"))}
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
CELLS = {
    notebook.name: nbformat.read(ROOT / "notebooks" / f"{notebook.name}.ipynb", 4).cells
    for notebook in STUDY
}
CODE = {name: [c for c in cells if c.cell_type == "code"] for name, cells in CELLS.items()}
PROSE = [c.source for cells in CELLS.values() for c in cells if c.cell_type == "markdown"]
REAL = {n.name[3:] for n in STUDY if n.real}  # pages whose numbers are never of virtual towers
LOOKED_UP = {"api", "citing", "cost", "glossary", "reproducing"}  # claim nothing of nature
REAL_FIGURES = {  # of those notebooks
    cell.metadata.mystnb.figure.name
    for notebook in STUDY if notebook.real
    for cell in CELLS[notebook.name]
    if "mystnb" in cell.metadata and "figure" in cell.metadata.mystnb
}  # fmt: skip
EXAMPLES = (  # of parameters: which notebook, and the text that names them
    (r'NB=(\d\d) P="([^"]+)"', r"(\w+)="),
    (r"papermill notebooks/(\w+)\.ipynb \S+((?: -p \w+ [^\s`]+)+)", r"-p (\w+)"),
    (r"--only (\d\d)((?: --param [^\s`]+)+)", r"--param (\w+)="),
)
each_notebook = pytest.mark.parametrize("name", CELLS)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_are_finished_and_what_they_name_exists(document: str) -> None:
    """No gap, no dead link or path; each `make X` is a target, with a known profile and towers."""
    text = DOCUMENTS[document]
    assert not re.search(r"@@|\b(TODO|TBD|FIXME|XXX|to be filled|to be measured)\b", text)
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if ":" not in link]
    paths = re.findall(r"`((?:tamrl|tests|notebooks)/[\w./]+)`", text)
    assert [name for name in (*links, *paths) if not (ROOT / name).exists()] == []
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^`?make ([a-z-]+)", code, re.MULTILINE)) <= set(targets)
    assert set(re.findall(r"PROFILE=(\w+)", code)) <= {"smoke", "reference", "paper"}
    assert set(re.findall(r"TOWERS=(\w+)", code)) <= {"auto", "fluxnet2015", "virtual"}


def test_names_of_the_package_in_prose_exist() -> None:
    """A dotted name in documents, pages and notebooks is that of a module or of what is in it."""
    text = "\n".join([*DOCUMENTS.values(), *PAGES.values(), *PROSE])
    for name in set(re.findall(r"`(tamrl(?:\.\w+)+)`", text)) - {"tamrl.safetensors"}:
        pkgutil.resolve_name(name)


def test_version_and_citation_agree() -> None:
    """Changelog and citation name the version of pyproject; what is cited has a DOI."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    released = re.findall(r"^## \[(\d[^\]]*)\]", DOCUMENTS["CHANGELOG.md"], re.MULTILINE)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert version == released[0] == citation["version"]
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation.get("repository-code", "") == CONFIG["repository"]["url"]
    assert all(re.match(r"10\.\d{4,}/", one["doi"]) for one in citation["references"])


def test_issue_templates_are_forms_that_can_be_filled() -> None:
    """Each has a name, a description and fields with labels and distinct ids."""
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text())
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert all([form["name"], form["description"], *(f["attributes"]["label"] for f in fields)])
        assert len({field["id"] for field in fields}) == len(fields) > 0


def test_tracked_files_are_small_and_name_no_other_machine() -> None:
    """Below 2 MB but for the weights; no path of one machine; the mirror beside a clone in .ci."""
    hosts = "|".join(["pypi" + r"\.org", r"pythonhosted" + r"\.org", r"npmjs" + r"\.(?:org|com)"])
    machine = re.compile(rf"/(?:home|Users|root|work)/\w|{hosts}")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout
    for name in (name for name in listed.splitlines() if (ROOT / name).is_file()):
        content = (ROOT / name).read_bytes()
        assert len(content) < (10_000_000 if name == f"tamrl/{SHIPPED}" else 2_000_000), name
        text = "" if b"\0" in content else content.decode(errors="replace")
        assert not machine.search(text), f"{name} holds {machine.findall(text)}"
        assert name.startswith(".ci/") or ".." + "/shared" not in text, f"{name}: the mirror"


@each_notebook
def test_a_notebook_states_a_claim_and_holds_no_logic(name: str) -> None:
    """Title and paragraph first, three things to try last; stored without outputs or branches."""
    title, _, rest = CELLS[name][0].source.partition("\n")
    assert re.match(r"# \S.{20,}", title)
    assert len(rest.split()) > 20
    head, _, last = CELLS[name][-1].source.partition("\n")
    assert head == "## Three things to try"
    assert re.findall(r"^(\d)\. ", last, re.M) == ["1", "2", "3"]
    logic = ast.FunctionDef | ast.ClassDef | ast.If | ast.While | ast.Try
    for cell in CODE[name]:
        assert (cell.outputs, cell.execution_count) == ([], None)
        tree = ast.parse("" if "%pip" in cell.source else cell.source)
        assert not any(isinstance(node, logic) for node in ast.walk(tree)), cell.source


def is_alt_text(text: str) -> bool:
    """Whether a figure is described in whole sentences."""
    return text.endswith(".") and len(text.split()) >= 8


@each_notebook
def test_a_table_is_typeset(name: str) -> None:
    """No cell ends in a bare frame: what is shown last comes from plots, or is no table."""
    shown = {"plots", "print", "glue", "publish", "effects", "monitor", "out"}  # write, or say
    shown |= {"daily", "world_map", "tower_picker"}  # data set, explorers
    for cell in CODE[name]:
        for node in ast.parse("" if "%pip" in cell.source else cell.source).body[-1:]:
            said = re.match(r"\w+", ast.unparse(node))
            assert not isinstance(node, ast.Expr) or (said and said[0] in shown), cell.source


@each_notebook
def test_every_figure_has_a_name_a_caption_and_words_for_those_who_cannot_see(name: str) -> None:
    """A cell that draws carries all three as metadata, in whole sentences; documents list them."""
    figures = set()
    for cell in CODE[name]:
        if re.search(r"^(\w+ = )?plots\.(?!use_style|table)", cell.source, re.M):
            shown = cell.metadata.mystnb
            assert re.fullmatch(r"fig-[a-z-]+", shown.figure.name)
            assert shown.figure.caption.endswith(".")
            assert is_alt_text(shown.image.alt)
            figures.add(shown.figure.name)
    (row,) = re.findall(rf"^\| `{name}` \|.*", DOCUMENTS["REPRODUCING.md"], re.M)
    assert set(re.findall(r"`(fig-[^`]+)`", row)) == figures
    assert all(DOCUMENTS["REPRODUCING.md"].count(f"`{figure}`") == 1 for figure in figures)
    assert f"`notebooks/{name}.ipynb`" in DOCUMENTS["README.md"]
    assert f"{{doc}}`notebooks/{name}`" in PAGES["reproducing"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_states_a_claim_says_what_is_virtual_and_describes_its_figures(page: str) -> None:
    """A claim in bold first, what would refute it last; "virtual" in the title and in figures.

    Pages where one looks something up claim nothing of nature that could be refuted.
    """
    text = PAGES[page]
    opening, last = text.split("\n\n")[1], text.split("\n## ")[-1]
    assert text.splitlines()[0].endswith("{{ virtual }}") == (page not in REAL)
    assert page not in REAL or "always of real towers" in text.partition("\n## ")[0]
    if page == "index":
        assert opening.endswith("?")
        claim = r"^\*\*[^\n]*10_benchmark.ipynb::main_NEE[^\n]*\.\*\*"
        assert re.search(claim, text, re.M)
    else:
        assert re.fullmatch(r"\*\*[^\n]+\.\*\*", opening)
        assert last.startswith("What would change our mind\n\n") == (page not in LOOKED_UP)
    for figure in re.findall(r"```\{figure\} notebooks/(.*?)```", text, re.S):
        drawn_without_data = "fig-model" in figure
        of_real = page in REAL or figure.split(".")[0].split("/")[-1] in REAL_FIGURES
        assert ("real" if of_real else "{{ virtual }}") in figure or drawn_without_data
    alts = re.findall(r"^:alt: (.*)$", text, re.M)
    assert len(alts) == text.count("```{figure}")
    assert all(is_alt_text(alt) for alt in alts)


def test_every_reference_has_a_doi_and_every_citation_a_reference() -> None:
    """A reader must be able to follow each of them; none is listed that nobody cites."""
    entries = (ROOT / "book" / "references.bib").read_text().split("\n@")
    assert all(re.search(r"doi = \{10\.\d{4,}/\S+\}", entry) for entry in entries)
    keys = {re.split(r"[{,]", entry)[1] for entry in entries}
    cited = re.findall(r"\{cite(?::t)?\}`([^`]+)`", "\n".join([*PAGES.values(), *PROSE]))
    assert {key for group in cited for key in group.split(",")} == keys


def parameters(name: str) -> set[str]:
    """Read the names that a notebook's cell of parameters sets, each in a line that explains it."""
    (cell,) = (c for c in CELLS[name] if "parameters" in c.metadata.get("tags", []))
    lines = cell.source.splitlines()
    assert all(re.fullmatch(r"\w+ = \S+  # .{10,}", line) for line in lines), lines
    return {line.split(" ")[0] for line in lines}


@each_notebook
def test_a_notebook_can_be_run_with_other_parameters_and_on_colab(name: str) -> None:
    """What its end asks to be set is a parameter; its first cell installs tamrl, if missing."""
    known = parameters(name)
    assert "towers" in known
    assert set(re.findall(r"Set `(\w+) = ", CELLS[name][-1].source)) <= known
    source = next(c.source for c in CELLS[name] if c.cell_type == "code")
    assert 'find_spec("tamrl") is None' in source
    assert re.findall(r"%pip install (.*)", source) == ['-q "tamrl[maps]"']
    assert 'Path("runs") /' not in "".join(c.source for c in CODE[name]), "see tables_folder"


def test_no_address_is_named_but_that_of_the_setting() -> None:
    """Whoever takes a name that nobody owns could hand out code in the project's name."""
    text = "\n".join(
        [*DOCUMENTS.values(), *PAGES.values(), *PROSE, (ROOT / "CITATION.cff").read_text()]
    )
    address = CONFIG["repository"]["url"]
    found = re.findall(r"https://git\w+\.com/[\w-]+/tamrl\b", text)
    assert {*found} <= {address}


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=str)
def test_workflows_can_read_alone_and_their_actions_are_pinned(path: Path) -> None:
    """By the hash of a commit, as a tag can be moved; a release alone may ask for an identity."""
    flow = yaml.safe_load(path.read_text())
    assert flow["permissions"] == {"contents": "read"}
    for name, job in flow["jobs"].items():
        assert job.get("permissions", {}) == ({"id-token": "write"} if name == "publish" else {})
        assert job["timeout-minutes"] <= 60
        used = [step["uses"] for step in job["steps"] if "uses" in step]
        assert used
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action) for action in used), used


def test_parameters_in_examples_exist() -> None:
    """Each example that sets a notebook's parameters, in documents, help and book, can be run."""
    code = [path.read_text() for path in (*ROOT.glob("tamrl/cli/*.py"), ROOT / "Makefile")]
    text = "\n".join([*DOCUMENTS.values(), *PAGES.values(), *code])
    for example, setting in EXAMPLES:
        examples = re.findall(example, text)
        assert examples, f"no example like {example}"
        for start, values in examples:
            (name,) = (name for name in CELLS if name.startswith(start))
            assert set(re.findall(setting, values)) <= parameters(name), (name, values)


def test_the_table_of_contents_holds_every_notebook_and_page() -> None:
    """A notebook that is executed but not shown, or shown but not executed, is a mistake."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    notebooks = [name for name in files if name.startswith("notebooks/")]
    assert sorted(notebooks) == [f"notebooks/{name}" for name in CELLS]
    assert {*files, toc["root"]} - set(notebooks) == set(PAGES)


PRIVATE = re.compile(  # words for which the field has its own: given, shrunk, compared, assigned
    r"\b(ours|dealt|veil(?:ed)?|held against|drawn (?:out )?to|virtual worlds?|lets? expect|"
    r"tells?|told|in a simulated world|resolvably)\b", re.IGNORECASE,
)  # fmt: skip
FILLER = re.compile(  # more, other, additional; is, are. The age of a stand is the field's own
    r"\b(further|stands?(?! age| out)|at last)\b", re.IGNORECASE
)
SHOWN = [  # captions of figures, and what they show in words
    " ".join([c.metadata.mystnb.figure.caption, c.metadata.mystnb.image.alt])
    for cells in CODE.values() for c in cells if "figure" in c.metadata.get("mystnb", {})
]  # fmt: skip


def test_prose_uses_the_words_of_the_field() -> None:
    """Pages, documents, notebooks and modules say what every reader of the field says."""
    modules = {p.name: p.read_text() for p in (ROOT / "tamrl").rglob("*.py")}
    card = (ROOT / "tamrl" / "shipped" / "MODEL_CARD.md").read_text()
    prose = {**DOCUMENTS, **PAGES, "card": card, "notebooks": "\n".join([*PROSE, *SHOWN])}
    found = {name: PRIVATE.findall(text) for name, text in {**prose, **modules}.items()}
    for name, text in prose.items():
        found[name] += FILLER.findall(text)
    assert {name: words for name, words in found.items() if words} == {}
