"""The first cell on a machine like Colab: it adds what is missing and leaves the big three alone.

A virtual environment is given the records of Colab's usual packages (names and versions, which is
all that pip looks at), other ones than those of constraints.txt. The very line of the notebooks is
run there as a rehearsal that installs nothing. It asks the package index: without one it skips.
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

from tamrl.study.runner.execute import ROOT
from tamrl.study.runner.notebooks import STUDY

# Versions that a hosted notebook came with late in 2025; none is the one of constraints.txt.
USUAL = {
    "torch": "2.9.0+cu126", "numpy": "2.0.2", "pandas": "2.2.2", "scipy": "1.16.3",
    "scikit-learn": "1.6.1", "matplotlib": "3.10.0", "xarray": "2025.12.0", "h5py": "3.15.1",
    "joblib": "1.5.3", "requests": "2.32.4", "tqdm": "4.67.1", "rich": "13.9.4", "click": "8.3.1",
    "ipykernel": "6.17.1", "ipython": "7.34.0", "shapely": "2.1.2", "geopandas": "1.1.1",
    "lightgbm": "4.6.0", "safetensors": "0.7.0", "pyyaml": "6.0.3", "packaging": "25.0",
    "python-dateutil": "2.9.0.post0", "pytz": "2025.2", "tzdata": "2025.3", "six": "1.17.0",
}  # fmt: skip
SOURCE = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "LICENSE-text")
UNREACHABLE = re.compile(r"connection|temporary failure|timed out|resolve|proxy", re.I)


@pytest.mark.slow
def test_what_is_missing_is_added_and_nothing_that_is_there(tmp_path: Path) -> None:
    """Tamrl and what it lacks are installed; torch, numpy, pandas and the rest stay as they are."""
    pinned = (ROOT / "constraints.txt").read_text().lower().splitlines()
    assert not {f"{name}=={USUAL[name]}" for name in ("torch", "numpy", "pandas")} & set(pinned)
    venv.create(tmp_path / "env", with_pip=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    for name, version in USUAL.items():
        record = site / f"{name.replace('-', '_')}-{version}.dist-info"
        record.mkdir()
        lines = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        for file, text in {"METADATA": lines, "INSTALLER": "pip\n", "RECORD": ""}.items():
            (record / file).write_text(text)

    source = tmp_path / "tamrl-source"
    for folder in ("tamrl", "results"):
        hidden = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, ignore=hidden)
    for name in SOURCE:
        shutil.copy(ROOT / name, source)
    cells = nbformat.read(ROOT / "notebooks" / f"{STUDY[0].name}.ipynb", as_version=4).cells
    first = next(cell.source for cell in cells if cell.cell_type == "code")
    (what,) = re.findall(r"%pip install -q \"([^\"]+)\"", first)
    command = [tmp_path / "env/bin/python", "-m", "pip", "install", "--dry-run", "--quiet"]
    command += ["--no-input", "--report", tmp_path / "report.json", f"{what} @ {source.as_uri()}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode and UNREACHABLE.search(done.stderr) and os.environ.get("CI") != "true":
        pytest.skip("needs the package index, as the first cell on Colab does")
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    added = {item["metadata"]["name"].lower() for item in report["install"]}
    assert {"tamrl", "zarr", "pooch", "cartopy", "myst-nb"} <= added
    assert not added & set(USUAL), added
