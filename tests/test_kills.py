"""Killed at many moments that nobody chose, what takes long ends as if never disturbed.

A kill at the worst moment is tested beside fetch, compare, map and cube (`test_cache`,
`test_experiments`, `test_upscale`, `test_era5_cube`).
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mapworld import Ensemble, world
from settings import SMALL, TRAIN, VALID
from test_cache import NAMES, Place, place
from test_experiments import go, guesses
from test_study import LIST, outputs, root, write_notebook
from test_upscale import same

from tamrl.data.cache import fetch
from tamrl.maps.upscale import DONE, upscale
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import make_samples
from tamrl.samples.splits import folds
from tamrl.study.runner import run
from tamrl.virtual.towers import virtual_towers

__all__ = ["place", "root"]  # fixtures
pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("TAMRL_TEST_KILLS", "5"))


def learn(folder: Path, kept: bool) -> None:
    """Train from a checkpoint, if one is ``kept``, and write a digest of weights and log."""
    samples = make_samples(virtual_towers(n=12, years=(2001, 2002)))
    recipe = Recipe(epochs=3 * KILLS, batch=8, length=120)
    path = folder / "run.pt" if kept else None
    fitted = TamRLModel(SMALL, recipe, checkpoint=path).fit(samples, TRAIN, VALID, 1)
    assert fitted.net is not None
    parts = [value.numpy().tobytes() for value in fitted.net.state_dict().values()]
    log = json.dumps(fitted.log).encode()
    (folder / f"kept-{kept}").write_text(hashlib.sha256(b"".join([*parts, log])).hexdigest())


def study(folder: Path) -> None:
    """Run a study of two notebooks, the second reading the first."""
    run.announce = lambda towers, console: False
    run.run("smoke", "fluxnet2015", root=folder, notebooks=LIST, build=False)


def compare(folder: Path) -> None:
    """Compare three models on simulated towers."""
    samples = make_samples(virtual_towers(n=24, years=(2001, 2004)))
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    go(folder / "notes", samples, folds(samples, 3), guesses(folder / "notes"))


def child(what: Callable[..., None], *arguments: object) -> subprocess.Popen[bytes]:
    """Call a function of this module in a process of its own."""
    command = [sys.executable, __file__, what.__name__, *map(str, arguments)]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, env=paths, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def killed(process: subprocess.Popen[bytes], moment: float) -> bool:
    """Whether a process ran when it was killed, after so many seconds."""
    time.sleep(moment)
    running = process.poll() is None
    process.kill()
    process.wait()
    return running


def test_training_killed_again_and_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Before the first epoch, within one, or while its weights are written."""
    path, rng = tmp_path / "run.pt", np.random.default_rng(0)
    assert child(learn, tmp_path, "").wait(600) == 0
    for _ in range(KILLS):
        process, epochs = child(learn, tmp_path, True), int(rng.integers(3))
        seen, deadline = written(path), time.monotonic() + 120
        while epochs and process.poll() is None and time.monotonic() < deadline:
            epochs, seen = epochs - (written(path) != seen), written(path)
        assert killed(process, float(rng.uniform(0, 0.3 if seen else 3))), "ended before its kill"
    assert not (tmp_path / "kept-True").exists()
    assert path.exists()
    assert child(learn, tmp_path, True).wait(600) == 0
    assert (tmp_path / "kept-True").read_text() == (tmp_path / "kept-False").read_text()
    assert {file.name for file in tmp_path.glob("kept-*")} == {"kept-True", "kept-False"}


def written(path: Path) -> int:
    """When a file was written, ns; 0: not yet."""
    return path.stat().st_mtime_ns if path.exists() else 0


def test_a_study_killed_again_and_again_shows_whole_notebooks_alone(root: Path) -> None:
    """A notebook is in the book whole, with a key that is its own, or it is executed again."""
    shown, rng = root / "book" / "notebooks", np.random.default_rng(0)
    body = "import time\nfor k in range(5):\n    print({}, k)\n    time.sleep(0.2)"
    write_notebook(root, "01_a", body.format(0))
    write_notebook(root, "02_b", body.format(0))
    start = time.monotonic()
    assert child(study, root).wait(300) == 0
    usual, kills = time.monotonic() - start, 0
    for version in range(1, 4 * KILLS):
        write_notebook(root, "01_a", body.format(version))  # and the second, which reads it
        kills += killed(child(study, root), float(rng.uniform(0, usual)))
        for name in ("01_a", "02_b"):
            lines = outputs(root, name).splitlines()
            assert len(lines) == 5
            assert len({line.split()[0] for line in lines}) == 1
        if kills == KILLS:
            break
    assert kills == KILLS
    assert child(study, root).wait(300) == 0
    assert outputs(root, "01_a").splitlines() == [f"{version} {k}" for k in range(5)]
    files = {path.name for path in shown.iterdir() if path.is_file()}
    assert files == {"01_a.ipynb", "01_a.key", "02_b.ipynb", "02_b.key"}
    assert run.run("smoke", "fluxnet2015", root=root, notebooks=LIST, build=False).executed == ()


def test_a_fetch_killed_again_and_again_leaves_whole_files_alone(place: Place) -> None:
    """A file is in the cache whole, or it is not there; the last fetch asks for no other."""
    place.server.fault = lambda handler, name, nth: bool(time.sleep(0.3))
    rng, kills, start = np.random.default_rng(0), 0, time.monotonic()
    place.child().communicate(timeout=120)
    usual = time.monotonic() - start
    for _ in range(4 * KILLS):
        there = place.cached()
        for name in there if there == set(NAMES) else ():  # fetched before it could be killed
            (place.root / name).unlink()
        kills += killed(place.child(), float(rng.uniform(0, usual)))
        place.cached()  # asserts that each is whole
        if kills == KILLS:
            break
    assert kills == KILLS
    for part in place.parts():
        os.utime(part, (0, 0))  # ten minutes later
    lacking = set(NAMES) - place.cached()
    place.server.asked.clear()
    fetch(NAMES)
    assert set(place.server.asked) == lacking
    assert (place.cached(), place.parts()) == (set(NAMES), [])


def test_a_map_killed_again_and_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Before its first strip, within one, while it is written, or between two."""
    source, store = tmp_path / "cube.zarr", tmp_path / "map.zarr"
    cube, rng = world(), np.random.default_rng(0)
    cube.to_zarr(source, zarr_format=2, consolidated=False)
    script = str(Path(__file__).with_name("mapworld.py"))
    command = [sys.executable, script, str(store), str(source), "0.6"]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done, strips = tmp_path / f"map.zarr.part/{DONE}", 0
    for k in range(KILLS):
        process = subprocess.Popen(command, env=paths, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while k in (1, KILLS // 2) and len([*done.glob("[0-9]*")]) == strips:  # goes on so far
            assert time.monotonic() < deadline, "no strip was written"
            time.sleep(0.01)
        assert killed(process, float(rng.uniform(0, 0.3 if strips else 3))), "ended before its kill"
        assert not store.exists()
        strips = len([*done.glob("[0-9]*")])
    assert strips > 0
    plain = upscale(Ensemble(), cube, tmp_path / "plain.zarr").load()
    same(upscale(Ensemble(), source, store), plain)


def test_a_comparison_killed_again_and_again_has_whole_tables_alone(tmp_path: Path) -> None:
    """A table is that of an undisturbed run, or it is not there."""
    start, rng, kills = time.monotonic(), np.random.default_rng(0), 0
    assert child(compare, tmp_path / "whole").wait(300) == 0
    usual, whole, often = time.monotonic() - start, tables(tmp_path / "whole"), tmp_path / "often"
    assert len(whole) == 4
    for _ in range(4 * KILLS):
        if tables(often) == whole:  # ended before it could be killed: from the start
            shutil.rmtree(often)
        kills += killed(child(compare, often), float(rng.uniform(0, usual)))
        assert tables(often).items() <= whole.items()
        if kills == KILLS:
            break
    assert kills == KILLS
    assert child(compare, often).wait(300) == 0
    assert tables(often) == whole


def tables(folder: Path) -> dict[str, str]:
    """Read the tables of a comparison, without the line that says how long it took."""
    files = folder.glob("results/*.csv")
    return {path.name: path.read_text().partition("\n")[2] for path in files}


if __name__ == "__main__":
    name, folder, *more = sys.argv[1:]
    {"learn": learn, "study": study, "compare": compare}[name](Path(folder), *map(bool, more))
