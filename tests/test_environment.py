"""The environment is stated in four places, and they agree."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
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


def test_what_is_pinned_installs_on_the_oldest_python() -> None:
    """Debian 12 has Python 3.11.2; a pin that wants a later one stops `make book`."""
    (oldest,) = SpecifierSet(PROJECT["requires-python"])
    pinned = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    installed = {canonicalize_name(d.name): d for d in distributions()}
    for name, version in pinned:
        found = installed.get(canonicalize_name(name))
        if found and found.version == version and (needs := found.metadata.get("Requires-Python")):
            assert SpecifierSet(needs).contains(f"{oldest.version}.0"), f"{name} {version}: {needs}"


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
    read |= {Path("data/data_registry.txt")}
    assert built == read | {p.relative_to(ROOT) for p in (ROOT / "results").rglob("*.*")}


@pytest.mark.parametrize(
    ("p", "given"),
    [
        ("seed=7 folds=5", ["seed=7", "folds=5"]),
        ("", []),
        ('title="it\'s; a #1" b=2', ["title=it's; a #1", "b=2"]),
        ("site='a b' scheme=\"koppen\"", ["site=a b", "scheme=koppen"]),
        ("a=1; touch hacked", ["a=1;", "touch", "hacked"]),
        ("a=$(touch hacked) b=`touch hacked` c=$(shell touch hacked) $$HOME", None),
    ],
)
@pytest.mark.parametrize("how", ["argument", "environment"])
def test_what_make_is_given_is_text(tmp_path: Path, p: str, given: list[str], how: str) -> None:
    """Quotes hold a value with spaces together; no shell, and not make, runs what is in it."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/python", ".venv/.installed"):
        (tmp_path / name).touch()
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    fake.chmod(0o755)
    values = {"NB": "03; touch hacked", "P": p, "TOWERS": "x'$(touch hacked)"}
    command = ["make", "notebook", *(f"{k}={v}" for k, v in values.items() if how == "argument")]
    env = os.environ | (values if how == "environment" else {})
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    start = ["-m", "tamrl", "study", "--profile", "reference", "--towers", values["TOWERS"]]
    given = p.split() if given is None else given
    assert done.stdout.splitlines() == [
        *start,
        "--only",
        values["NB"],
        *map("--param={}".format, given),
    ]
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("p", ["it's=1", 'a=1 b="2', r"path=C:\new"])
def test_what_make_cannot_hand_on_unharmed_stops_it(tmp_path: Path, p: str) -> None:
    """The study does not start with its defaults instead."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/python", ".venv/.installed"):
        (tmp_path / name).touch()
    (tmp_path / ".venv" / "bin" / "python").write_text("#!/bin/sh\ntouch started\n")
    (tmp_path / ".venv" / "bin" / "python").chmod(0o755)
    done = subprocess.run(
        ["make", "notebook", "NB=03", f"P={p}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode
    assert f"P={p}: a quote is not closed, or a backslash is there" in done.stderr
    assert not (tmp_path / "started").exists()


def test_the_numbers_of_mutants_are_text_too(tmp_path: Path) -> None:
    """Neither quotes that end early nor $(...) are read by the shell."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    fake = tmp_path / ".venv" / "bin" / "python"
    fake.parent.mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.installed", ".venv/.developed"):
        (tmp_path / name).touch()
    fake.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    fake.chmod(0o755)
    given = '1"; touch hacked; "', "$(touch hacked)"
    command = ["make", "mutants", f"N={given[0]}", f"SEED={given[1]}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-4:] == ["--count", given[0], "--seed", given[1]]
    assert not (tmp_path / "hacked").exists()
