"""The first cell on a machine like Colab: it adds what is missing and leaves the big three alone.

A virtual environment is given the records of Colab's usual packages (names and versions, which is
all that pip looks at), other ones than those of constraints.txt. Then the very line of the
notebooks is run there, as a rehearsal that installs nothing. It asks the package index, so it
skips where there is none.
"""

import json
import os
import re
import shutil
import subprocess
import venv
from pathlib import Path

import nbformat
import pytest

from tamrl.study.runner.run import ROOT, STUDY

# Versions that a hosted notebook came with late in 2025; none is the one of constraints.txt.
USUAL = {
    "torch": "2.9.0+cu126", "numpy": "2.0.2", "pandas": "2.2.2", "scipy": "1.16.3",
    "scikit-learn": "1.6.1", "matplotlib": "3.10.0", "xarray": "2025.12.0", "h5py": "3.15.1",
    "joblib": "1.5.3", "requests": "2.32.4", "tqdm": "4.67.1", "rich": "13.9.4", "click": "8.3.1",
    "ipykernel": "6.17.1", "ipython": "7.34.0", "shapely": "2.1.2", "geopandas": "1.1.1",
    "lightgbm": "4.6.0", "safetensors": "0.7.0", "pyyaml": "6.0.3", "packaging": "25.0",
    "python-dateutil": "2.9.0.post0", "pytz": "2025.2", "tzdata": "2025.3", "six": "1.17.0",
}  # fmt: skip
UNTOUCHED = ("torch", "numpy", "pandas")
pytestmark = pytest.mark.slow
UNREACHABLE = re.compile(r"connection|temporary failure|timed out|resolve|proxy", re.I)


def first_cell() -> str:
    """Return what the first code cell of a notebook asks pip to install; all ask the same."""
    book = nbformat.read(ROOT / "notebooks" / f"{STUDY[0].name}.ipynb", as_version=4)
    source = next(c.source for c in book.cells if c.cell_type == "code")
    (asked,) = re.findall(r"%pip install -q \"([^\"]+)\"", source)
    return asked


@pytest.fixture(scope="module")
def colab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a clean environment in which pip sees the usual packages."""
    place = tmp_path_factory.mktemp("colab") / "env"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    for name, version in USUAL.items():
        record = Path(site) / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir()
        (record / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        (record / "INSTALLER").write_text("pip\n")
        (record / "RECORD").write_text("")
    return python


@pytest.fixture(scope="module")
def rehearsal(colab: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Run the first cell's installation of this very source; return what it would install."""
    place = tmp_path_factory.mktemp("source")
    source = place / "tamrl-source"
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "LICENSE-text"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "tamrl", source / "tamrl", ignore=shutil.ignore_patterns("__pycache__"))
    what, _, address = first_cell().partition(" @ git+")
    assert address.startswith("https://")
    command = [colab, "-m", "pip", "install", "--dry-run", "--quiet", "--no-input", "--report"]
    command += [place / "report.json", f"{what} @ {source.as_uri()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode and UNREACHABLE.search(done.stderr):
        if os.environ.get("CI") == "true":
            pytest.fail(f"in CI the package index must be within reach:\n{done.stderr[-2000:]}")
        pytest.skip("needs the package index, as the first cell on Colab does")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((place / "report.json").read_text())
    return {
        item["metadata"]["name"].lower(): item["metadata"]["version"] for item in report["install"]
    }


def test_the_rehearsal_is_one(colab: Path) -> None:
    """The environment has other versions of the three than the study, and no tamrl."""
    command = [colab, "-m", "pip", "list", "--format", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    there = {item["name"].lower(): item["version"] for item in json.loads(listed)}
    assert "tamrl" not in there
    pinned = (ROOT / "constraints.txt").read_text().lower().splitlines()
    for name in UNTOUCHED:
        assert there[name] == USUAL[name]
        assert f"{name}=={USUAL[name]}" not in pinned


def test_what_is_missing_is_added_and_nothing_that_is_there(rehearsal: dict[str, str]) -> None:
    """Tamrl and what it lacks are installed; torch, numpy, pandas and the rest stay as they are."""
    assert {"tamrl", "zarr", "pooch", "cartopy", "myst-nb"} <= set(rehearsal)
    assert not set(rehearsal) & set(USUAL), rehearsal
