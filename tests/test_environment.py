"""The environment is stated in four places; they agree, and the repository is fit to publish."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tamrl.shipped.pretrained import SHIPPED

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch", "xgboost": "xgboost-cpu"}


def requirements(*groups: str) -> dict[str, Requirement]:
    """Read direct dependencies from pyproject: the core's ("") or an extra's, by name."""
    lines = []
    for group in groups:
        lines += PROJECT["optional-dependencies"][group] if group else PROJECT["dependencies"]
    found = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): r for r in found if r.name != PROJECT["name"]}


def constraints() -> dict[str, str]:
    """Read the pinned version of each package."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    return pins


def tracked(*patterns: str) -> list[Path]:
    """List the files that git tracks and that exist."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> dict[str, str]:
    """Read each tracked text file."""
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found[path.relative_to(ROOT).as_posix()] = content.decode(errors="replace")
    return found


def imported(path: Path) -> set[str]:
    """List the top-level modules that a source file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


def test_conda_and_pip_describe_one_environment() -> None:
    """environment.yml holds the core and the extras of the book, with the bounds of pyproject."""
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [entry for entry in conda["dependencies"] if isinstance(entry, str)]
    (pip,) = (entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert "--editable ." in pip
    stated = [Requirement(line) for line in [*plain, *pip] if not line.startswith("--")]
    by_name = {CONDA_NAMES.get(r.name, canonicalize_name(r.name)): r.specifier for r in stated}
    assert str(by_name.pop("python")) == PROJECT["requires-python"]
    assert "pip" in by_name
    del by_name["pip"]
    wanted = requirements("", "maps", "rivals", "book")
    assert wanted.pop("xgboost").specifier == wanted["xgboost-cpu"].specifier  # on macOS
    assert by_name == {name: r.specifier for name, r in wanted.items()}


def test_every_dependency_is_pinned_inside_its_bounds() -> None:
    """constraints.txt pins each direct dependency at a version that pyproject admits."""
    pins = constraints()
    for name, requirement in requirements("", *PROJECT["optional-dependencies"]).items():
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name], prereleases=True), (
            f"{name}=={pins[name]} is outside pyproject's {requirement.specifier}"
        )


def test_what_is_imported_is_declared() -> None:
    """Each package that tamrl or its tests import is a direct dependency in pyproject."""
    distributions = packages_distributions()
    undeclared = set()
    used = ("", "maps", "rivals", "book")
    for folder, groups in (("tamrl", used), ("tests", (*used, "dev"))):
        declared = set(requirements(*groups)) | {"tamrl"}
        for path in (ROOT / folder).rglob("*.py"):
            beside = {sibling.stem for sibling in path.parent.glob("*.py")}
            for module in imported(path) - sys.stdlib_module_names - beside:
                owners = {canonicalize_name(d) for d in distributions.get(module, [module])}
                if not owners & declared:
                    undeclared.add(f"{path.relative_to(ROOT)}: {module}")
    assert undeclared == set()


def test_version_is_told_the_same_everywhere() -> None:
    """Changelog and citation name the version of pyproject."""
    version = PROJECT["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    latest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert latest is not None
    assert latest[1] == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


@pytest.mark.parametrize("page", ["README.md", "REPRODUCING.md", "CONTRIBUTING.md"])
def test_commands_in_the_documents_exist(page: str) -> None:
    """Each `make X` of the documents is a target, with a profile and towers that exist."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / page).read_text()
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    used = set(re.findall(r"^`?make ([a-z]+)", code, re.MULTILINE))
    assert used, f"{page} shows no command"
    assert used <= targets
    assert set(re.findall(r"PROFILE=(\w+)", code)) <= {"smoke", "reference", "paper"}
    assert set(re.findall(r"TOWERS=(\w+)", code)) <= {"auto", "fluxnet2015", "virtual"}


@pytest.mark.parametrize("page", ["README.md", "REPRODUCING.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_documents_are_finished_and_their_links_lead_somewhere(page: str) -> None:
    """No gap is left to be filled, and each relative link names a file."""
    text = (ROOT / page).read_text()
    assert not re.search(r"@@|\b(TODO|TBD|FIXME|XXX|to be filled|to be measured)\b", text)
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not link.startswith(("http:", "https:", "mailto:")):
            assert (ROOT / link).exists(), f"{page} links to {link}"


EXAMPLES = (  # of parameters: which notebook, and the text that names them
    (r'NB=(\d\d) P="([^"]+)"', r"(\w+)="),
    (r"papermill notebooks/(\w+)\.ipynb \S+((?: -p \w+ [^\s`]+)+)", r"-p (\w+)"),
    (r"--only (\d\d)((?: --param [^\s`]+)+)", r"--param (\w+)="),
)


def test_parameters_in_examples_exist() -> None:
    """Each example that sets a notebook's parameters, in documents, help and book, can be run."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md"), ROOT / "Makefile"]
    text = "\n".join(path.read_text() for path in [*pages, ROOT / "tamrl" / "cli.py"])
    for example, name in EXAMPLES:
        found = re.findall(example, text)
        assert found, f"no example like {example}"
        for start, values in found:
            (path,) = (ROOT / "notebooks").glob(f"{start}*.ipynb")
            cells = json.loads(path.read_text())["cells"]
            (cell,) = (c for c in cells if "parameters" in c["metadata"].get("tags", []))
            known = {line.split(" ")[0] for line in cell["source"]}
            assert set(re.findall(name, values)) <= known, (path.name, values)


def test_issue_templates_are_forms_that_can_be_filled() -> None:
    """Each has a name, a description and fields of known types with labels and distinct ids."""
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    assert "blank_issues_enabled" in yaml.safe_load((folder / "config.yml").read_text())
    for path in set(folder.glob("*.yml")) - {folder / "config.yml"}:
        form = yaml.safe_load(path.read_text())
        assert form["name"]
        assert form["description"]
        ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert len(ids) == len(set(ids)) > 0
        for field in form["body"]:
            assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
            assert field["attributes"]["label"]
            if field["type"] == "dropdown":
                assert len(field["attributes"]["options"]) > 1


def test_the_citation_file_names_what_to_cite() -> None:
    """Software with authors, licence and the book's repository; paper and towers with DOIs."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(told)
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert told["repository-code"] == config["repository"]["url"]
    assert all(re.match(r"10\.\d{4,}/", one["doi"]) for one in told["references"])


def test_nothing_of_another_machine_is_tracked() -> None:
    """No path of one machine, no package registry; the mirror beside a clone in .ci alone."""
    hosts = "|".join(["pypi" + r"\.org", r"pythonhosted" + r"\.org", r"npmjs" + r"\.(?:org|com)"])
    machine = re.compile(rf"/(?:home|Users|root|work)/\w|{hosts}")
    for name, text in texts().items():
        found = machine.search(text)
        assert not found, f"{name} holds {found and found[0]!r}"
        assert name.startswith(".ci/") or ".." + "/shared" not in text, f"{name} names the mirror"


def test_notebooks_are_stored_clean() -> None:
    """No outputs, no execution counts, and a parameters cell."""
    for path in tracked("notebooks/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), path.name
        assert any("parameters" in cell["metadata"].get("tags", []) for cell in code), path.name


def test_every_figure_is_traced_to_its_notebook() -> None:
    """REPRODUCING.md lists each notebook with its figures; README.md lists each notebook."""
    lines = (ROOT / "REPRODUCING.md").read_text().splitlines()
    readme = (ROOT / "README.md").read_text()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f"`notebooks/{path.name}`" in readme
        (row,) = (line for line in lines if line.startswith(f"| `{path.stem}` |"))
        cells = json.loads(path.read_text())["cells"]
        figures = {c["metadata"].get("mystnb", {}).get("figure", {}).get("name") for c in cells}
        assert set(re.findall(r"`(fig-[^`]+)`", row)) == figures - {None}, path.name


def test_no_tracked_file_is_large() -> None:
    """Data stay where they come from: nothing tracked is larger than 2 MB but our own weights."""
    sizes = {path.relative_to(ROOT): path.stat().st_size for path in tracked()}
    limit = {Path("tamrl") / SHIPPED: 10_000_000}
    assert {p: size for p, size in sizes.items() if size > limit.get(p, 2_000_000)} == {}
