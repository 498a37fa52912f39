"""The command line: help that teaches, one clear line for what a user can mend, exit statuses."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner, Result

import tamrl
from tamrl.cli.app import app
from tamrl.cli.beside import beside
from tamrl.errors import DataError, StudyError
from tamrl.evaluate.score_file import open_fluxes, seen_by_weights
from tamrl.samples.arrays import Samples
from tamrl.study.runner.run import Outcome

COMMANDS = ("fetch", "train", "compare", "predict", "adapt", "score", "monitor", "study")


def call(command: str) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, command)


def done(command: str) -> str:
    """Run it to its end; return what it writes."""
    result = call(command)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run commands in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def few(
    virtual: xr.Dataset, globe: xr.Dataset, gridded: Samples, monkeypatch: pytest.MonkeyPatch
) -> xr.Dataset:
    """Let the command line find twelve virtual towers and the virtual globe."""
    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: globe)
    monkeypatch.setattr("tamrl.sources.load_training", lambda *_: (gridded, gridded))
    return virtual


def test_help_shows_an_example() -> None:
    """Nobody should have to guess how a command is written; `python -m tamrl` lists all."""
    listed = subprocess.check_output([sys.executable, "-m", "tamrl", "--help"], text=True)
    for command in COMMANDS:
        assert command in listed
        assert f"tamrl {command} " in call(f"{command} --help").stdout.split("Example")[1]
    assert call("--version").stdout == f"tamrl {tamrl.__version__}\n"


@pytest.mark.slow
def test_train_then_predict_towers_without_fluxes(few: xr.Dataset) -> None:
    """Weights go to one file; every day with the minimal drivers gets finite, closed fluxes."""
    recipe = "--model network --epochs 1 --members 2 --jobs 1 --virtual 0"
    assert "12 virtual towers" in done(f"train -o model.safetensors {recipe} --device cpu")
    tower = few.isel(site=3)
    csv = f"FLX_{tower.site.item()}_FLUXNET2015_SUBSET_DD_2001-2003_1-4.csv"
    drivers = {f"{n}_F": tower[n].fillna(-9999).values for n in ("TA", "VPD", "SW_IN")}
    table = pd.DataFrame({"TIMESTAMP": tower.time.dt.strftime("%Y%m%d").values, **drivers})
    table.to_csv(csv, index=False)
    facts = {name: [tower[name].item()] for name in ("site", "lat", "lon", "igbp")}
    pd.DataFrame(facts).to_csv("facts.csv", index=False)
    options = "--device cpu --table facts.csv -m model.safetensors -o new/fluxes.nc"
    assert "from virtual towers, without bounds" in done(f"predict {csv} {options}")
    fluxes = open_fluxes("new/fluxes.nc")
    assert fluxes.NEE.attrs["units"] == "g m-2 d-1"  # of carbon, as its long name says
    assert seen_by_weights(fluxes) == {tower.site.item(): "yes"}
    assert fluxes.attrs["virtual"] == 1  # of the towers it was trained on
    expected = np.isfinite(tower[["TA", "VPD", "SW_IN"]].to_array()).all("variable")
    for name in ("GPP", "RECO", "NEE"):
        known = np.isfinite(fluxes[name].sel(site=tower.site))
        np.testing.assert_array_equal(known, expected.sel(time=fluxes.time))
    np.testing.assert_allclose(fluxes.NEE, fluxes.RECO - fluxes.GPP, atol=1e-5)
    assert float(fluxes.GPP.min()) >= 0
    assert "GPP_lower" not in fluxes
    assert [p.name for p in Path("new").iterdir()] == ["fluxes.nc"]  # nothing half-written beside


def test_what_a_user_can_mend_is_one_line(gridded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1, the file and the remedy on stderr."""
    Path("broken.safetensors").write_bytes(b"not weights")
    for weights, line in (("none", "[^\n]*tamrl train -o"), ("broken", ": not weights of tamrl")):
        failed = call(f"predict towers.csv -m {weights}.safetensors -o x.nc")
        assert (failed.exit_code, failed.stderr.count("\n")) == (1, 1)
        assert re.match(rf"tamrl: {weights}\.safetensors{line}", failed.stderr)
    for error in (DataError("grid.nc is torn"), StudyError("03, cell 4"), OSError("full")):
        monkeypatch.setattr("tamrl.study.runner.run.run", Mock(side_effect=error))
        failed = call("study")
        assert (failed.exit_code, failed.stderr) == (1, f"tamrl: {error}\n")
    monkeypatch.setattr("tamrl.study.runner.run.run", Mock(side_effect=KeyboardInterrupt))
    assert call("study").exit_code == 130
    monkeypatch.setattr("tamrl.sources.load_training", lambda *_: (gridded, gridded))
    failed = call("train -o x.safetensors --calibrate 500")
    assert re.match(r"tamrl: 500 folds asked for; \d+ separate", failed.stderr)
    late = {"runner.run.run": "study", "comparisons.models.compute": "compare ablation"}
    for name, command in late.items():  # its error is no fault of the command
        monkeypatch.setattr(f"tamrl.study.{name}", Mock(side_effect=ValueError))
        assert isinstance(call(command).exception, ValueError)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_and_a_locale_of_few_letters_cost_nothing(closed: str) -> None:
    """As in some crontabs: the status is that of the command, tables of facts are read."""
    here = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command, status in (("predict --help", 0), ("score none.nc none.csv", 1)):
        line = ["bash", "-c", f"{sys.executable} -m tamrl {command} {closed}"]
        ended = subprocess.run(line, capture_output=True, env={**os.environ, **here})
        assert ended.returncode == status
        assert b"Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "command",
    ["fly", "fetch everything", "train", "predict towers.csv -o x.nc --device foo"]
    + [f"study {option}" for option in ("--profile quick", "--only 99", "--param seed=3")]
    + [f"study --only 03 --param {setting}" for setting in ("seed", "sed=3", "seed=1e3")]
    + [f"study --only 03 --param {twice}" for twice in ("towers=virtual", "seed=1 --param seed=2")]
    + ["train -o x.safetensors --virtual 1"]
    + ["study --only 03 --param seed=["]
    + ["compare contest", "compare ablation --only forest", "compare ablation --split igbp"]
    + [f"compare steps --{wrong}" for wrong in ("folds 3", "every 2", "device cpu")]
    + [f"train -o x --{wrong}" for wrong in ("epochs 0", "calibrate 1", "jobs 0", "towers mine")]
    + [f"train -o x --{wrong}" for wrong in ("seed -1", "seed 4294967296", "device cuda:x")]
    + [f"map -o x --{wrong}" for wrong in ("resolution 0.7", "every week", "workers 0")]
    + [f"map x.safetensors --{wrong}" for wrong in ("scheduler local:0", "resolution 2")],
)
def test_a_command_that_is_not_understood_ends_with_status_2(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every command line does; nothing is read or computed."""
    for loader in ("load_training", "load_towers"):
        monkeypatch.setattr(f"tamrl.sources.{loader}", lambda *_: pytest.fail("data were read"))
    assert call(command).exit_code == 2


@pytest.mark.parametrize("command", ["train", "predict towers.csv", "compare ablation"])
def test_a_device_that_is_not_there(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data are read first, and the message names the device and the remedy."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("tamrl.sources.load_training", lambda *_: pytest.fail("data were read"))
    failed = call(f"{command} -o out --device cuda")
    assert failed.exit_code == 2
    assert re.search(r"no\s+cuda\s+device.*cpu", failed.stderr, re.S)


def test_parameters_reach_the_study_with_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is a number, a word a word."""
    run = Mock(return_value=Outcome(("03_scores",), (), None))
    monkeypatch.setattr("tamrl.study.runner.run.run", run)
    given = "--param seed=7 --param scheme=biome --param tune=false --param device=#1"
    assert "03_scores" in done(f"study --profile smoke --towers virtual --only 03 {given}")
    values = {"seed": 7, "scheme": "biome", "tune": False, "device": "#1"}
    run.assert_called_once_with("smoke", "virtual", ["03"], values, build=True, force=False)


def test_towers_are_read_in_a_process_of_their_own(monkeypatch) -> None:
    """Its result and its fault are the caller's; one that the system ends is said, not awaited."""
    monkeypatch.setattr("tamrl.cli.beside._may_fork", lambda: True)
    pid, days = beside(lambda days: (os.getpid(), days + 1), np.arange(3))()
    assert pid != os.getpid()
    assert days.tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="no tower"):
        beside(_refuse, "no tower")()
    with pytest.raises(OSError, match=r"was ended \(-9\); does it have the memory"):
        beside(_end)()
    monkeypatch.setattr("tamrl.cli.beside._may_fork", lambda: False)
    assert beside(os.getpid)() == os.getpid()


def _refuse(what: str) -> None:
    raise DataError(what)


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
