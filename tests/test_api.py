"""The names of `import tamrl`, and the API reference: every entry exists, its examples hold."""

import doctest
import importlib
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import tamrl

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "book" / "api.md"
MODULES = re.findall(r"^\.\. automodule:: ([\w.]+)$", PAGE.read_text(), re.M)
FIRST = re.findall(r"^   tamrl\.(\w+)$", PAGE.read_text(), re.M)


def test_import_loads_nothing_heavy() -> None:
    """What takes the time of an import, PyTorch and pandas among it, waits until it is needed."""
    command = [sys.executable, "-c", "import sys, tamrl; print(*sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "numpy", "xarray"} & set(done.stdout.split())


def test_a_prediction_is_written_without_the_schedulers_of_clusters(tmp_path: Path) -> None:
    """Their import takes as long as the networks; what is written is what is read back."""
    code = """if True:
        import sys
        import numpy as np, xarray as xr
        from tamrl.files import write_netcdf
        ds = xr.Dataset({"GPP": ("time", np.arange(3.0))}, {"time": np.arange(3)}, {"a": "b"})
        write_netcdf(ds, sys.argv[1], encoding={"GPP": {"zlib": True}}, unlimited_dims=["time"])
        assert "distributed" not in sys.modules
        read = xr.open_dataset(sys.argv[1])
        assert read.identical(ds) and read.encoding["unlimited_dims"] == {"time"}
    """
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "fluxes.nc")], check=True)


def test_every_name_leads_somewhere_says_what_it_is_and_stands_on_the_page() -> None:
    """Twenty names beside the rooms; no module stands twice; of data every `fetch_` is there."""
    offered = {name: getattr(tamrl, name) for name in tamrl.__all__}
    assert all(inspect.getdoc(one) for one in offered.values())
    names = {n for n, one in offered.items() if not inspect.ismodule(one)} - {"__version__"}
    assert names == set(FIRST)
    assert len(names) == len(FIRST) == 20
    assert {n for n in FIRST if n.startswith("fetch_")} < set(tamrl.data.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        tamrl.no_such_name  # noqa: B018
    assert all(inspect.getdoc(importlib.import_module(name)) for name in MODULES)
    assert len(MODULES) == len(set(MODULES)) > 20
    assert "tamrl.data" in MODULES


def test_the_examples_of_the_page_hold() -> None:
    """Those of the docstrings are run by pytest; these stand in the page itself."""
    done = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert done.attempted >= 3
    assert done.failed == 0


def test_sentences_are_returned_without_a_type_and_types_come_from_the_code() -> None:
    """A plain "Returns" gets no type, one with a type keeps it, and parameters get theirs."""
    ext = runpy.run_path(str(ROOT / "book" / "_ext" / "docstrings.py"))
    plain = ["Do it.", "", "Returns", "-------", "A table", "of numbers.", ""]
    ext["sentences"](None, "function", "x", None, None, plain)
    assert plain[4:7] == [":", "    A table", "    of numbers."]
    typed = ["Returns", "-------", "xr.Dataset", "    With units.", "", "Raises", "------", "E"]
    before = list(typed)
    ext["sentences"](None, "function", "x", None, None, typed)
    assert typed == before
    for called, name, stated in (
        (tamrl.folds, "k", "``int``"),
        (tamrl.open_towers, "table", "``str | PathLike | pd.DataFrame | None``"),
        (tamrl.data.grid_at, "lat", "``ArrayLike``"),  # as written, not as evaluated
    ):
        fields = [f":param {name}: Words.", f":type {name}: nonsense"]
        ext["types"](None, "function", "x", called, None, fields)
        assert fields == [f":type {name}: {stated}", f":param {name}: Words."]
