"""The environment is stated in four places, and they agree."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"pytorch": "torch", "xgboost": "xgboost-cpu"}


def requirements(*groups: str) -> dict[str, Requirement]:
    """Read direct dependencies from pyproject: the core's ("") or an extra's, by name."""
    stated = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    lines = [Requirement(line) for group in groups for line in stated[group]]
    return {canonicalize_name(r.name): r for r in lines if r.name != PROJECT["name"]}


def imported(path: Path) -> set[str]:
    """List the top-level modules that a source file imports, anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    names |= {str(n.module) for n in nodes if isinstance(n, ast.ImportFrom) and not n.level}
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
    assert str(by_name.pop("pip")) == ""
    wanted = requirements("", "maps", "rivals", "book")
    assert wanted.pop("xgboost").specifier == wanted["xgboost-cpu"].specifier  # on macOS
    assert by_name == {name: r.specifier for name, r in wanted.items()}


def test_every_dependency_is_pinned_inside_its_bounds() -> None:
    """constraints.txt pins each direct dependency at a version that pyproject admits."""
    lines = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    pins = {canonicalize_name(name): version for name, version in lines}
    for name, requirement in requirements("", *PROJECT["optional-dependencies"]).items():
        assert requirement.specifier.contains(pins[name], prereleases=True), (name, pins[name])


def test_what_is_imported_is_declared() -> None:
    """Each package that tamrl or its tests import is a direct dependency in pyproject."""
    distributions = packages_distributions()
    used = ("", "maps", "rivals", "benchmark", "book")
    for folder, groups in (("tamrl", used), ("tests", (*used, "dev"))):
        declared = {*requirements(*groups), "tamrl"}
        for path in (ROOT / folder).rglob("*.py"):
            beside = {sibling.stem for sibling in path.parent.glob("*.py")}
            for module in imported(path) - sys.stdlib_module_names - beside:
                owners = {canonicalize_name(d) for d in distributions.get(module, [module])}
                assert owners & declared, f"{path.relative_to(ROOT)}: {module}"


def test_the_wheel_carries_what_the_package_reads(tmp_path: Path) -> None:
    """Names of `import tamrl`, weights with their card, facts, shapes, scripts and the registry."""
    command = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    built = {path.relative_to(tmp_path / "tamrl") for path in tmp_path.rglob("*.*")}
    read = {p.relative_to(ROOT / "tamrl") for p in (ROOT / "tamrl").rglob("*.*")}
    read = {path for path in read if "__pycache__" not in path.parts}
    assert {Path("__init__.pyi"), Path("py.typed")} < built
    assert built - {Path("data/data_registry.txt")} == read
