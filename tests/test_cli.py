"""The command line: help that teaches, one clear line for what a user can mend, exit statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner, Result

from tamrl import sources
from tamrl.cli.app import app
from tamrl.errors import DataError, StudyError
from tamrl.samples.arrays import Samples, make_samples
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

COMMANDS = ("fetch", "train", "evaluate", "compare", "predict", "finetune", "score", "study")


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> xr.Dataset:
    """Let the command line find twelve virtual towers over two years, and a coarse grid."""
    daily = virtual_towers(n=12, years=(2001, 2002))

    grid = virtual_grid(2.5)

    def load(source: str = "auto") -> Samples:
        return make_samples(daily, virtual_predictors(daily), grid)

    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: grid)
    monkeypatch.setattr(sources, "load_samples", load)
    return daily


def oneflux(daily: xr.Dataset, site: str, path: Path) -> None:
    """Write a tower's drivers as an ONEFlux daily csv, without fluxes."""
    one = daily.sel(site=site)
    pd.DataFrame(
        {
            "TIMESTAMP": one.time.dt.strftime("%Y%m%d").values,
            **{f"{n}_F": one[n].fillna(-9999).values for n in ("TA", "VPD", "SW_IN")},
        }
    ).to_csv(path, index=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    """Nobody should have to guess how a command is written."""
    done = call(command, "--help")
    assert done.exit_code == 0
    assert f"tamrl {command}" in done.stdout


def test_it_runs_as_a_module() -> None:
    """`python -m tamrl` and `tamrl` are the same."""
    done = subprocess.run(
        [sys.executable, "-m", "tamrl", "--help"], capture_output=True, text=True, check=True
    )
    assert all(command in done.stdout for command in COMMANDS)


def test_train_then_predict_towers_without_fluxes(few: xr.Dataset, tmp_path: Path) -> None:
    """Weights go to one file; every day with the minimal drivers gets finite, closed fluxes."""
    weights, out = tmp_path / "model.safetensors", tmp_path / "new" / "fluxes.nc"
    done = call(
        "train", "-o", weights, "--epochs", 1, "--members", 2, "--virtual", 20, "--device", "cpu"
    )
    assert done.exit_code == 0, done.output
    site = str(few.site.values[3])
    csv = tmp_path / f"FLX_{site}_FLUXNET2015_SUBSET_DD_2001-2002_1-4.csv"
    facts = few.sel(site=site)
    oneflux(few, site, csv)
    table = tmp_path / "facts.csv"
    table.write_text(
        f"site,lat,lon,igbp\n{site},{facts.lat:.3f},{facts.lon:.3f},{facts.igbp.item()}\n"
    )

    done = call("predict", csv, "--table", table, "-m", weights, "-o", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    fluxes = xr.load_dataset(out)
    assert fluxes.NEE.attrs["units"] == "gC m-2 d-1"
    assert fluxes.attrs["virtual"] == 1  # of the towers it was trained on
    drivers = facts[["TA", "VPD", "SW_IN"]].to_array()
    expected = np.isfinite(drivers).all("variable").sel(time=fluxes.time)
    for name in ("GPP", "RECO", "NEE"):
        np.testing.assert_array_equal(np.isfinite(fluxes[name].sel(site=site)), expected)
    np.testing.assert_allclose(fluxes.NEE, fluxes.RECO - fluxes.GPP, atol=1e-5)
    assert float(fluxes.GPP.min()) >= 0
    assert "GPP_lower" not in fluxes  # these weights were not calibrated
    assert "without bounds" in done.stdout
    assert [p.name for p in out.parent.iterdir()] == ["fluxes.nc"]  # nothing half-written beside it


def test_evaluate_writes_all_scores(
    few: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three models by three fluxes, on the same days; the table on the screen says "virtual"."""
    monkeypatch.chdir(tmp_path)
    done = call("evaluate", "--folds", 2, "--epochs", 1, "--jobs", 1, "-o", "scores.csv")
    assert done.exit_code == 0, done.output
    scores = pd.read_csv("scores.csv")
    assert len(scores) == 9
    assert len(set(scores.days)) == 1
    assert np.isfinite(scores[["RMSE", "R2", "bias", "MAE"]]).all(axis=None)
    assert "virtual" in done.stdout


def test_what_a_user_can_mend_is_one_line_without_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit status 1, the file and the remedy on stderr."""
    done = call("predict", "towers.csv", "-m", tmp_path / "none.safetensors", "-o", "x.nc")
    assert done.exit_code == 1
    assert done.stderr.startswith("tamrl: ")
    assert "none.safetensors" in done.stderr
    assert "tamrl train -o" in done.stderr
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    done = call("predict", "towers.csv", "-m", broken, "-o", "x.nc")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "broken.safetensors: not weights of tamrl" in done.stderr

    for error in (
        DataError("grid.nc is torn"),
        StudyError("03_scores.ipynb, cell 4"),
        OSError("full"),
    ):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("tamrl.study.runner.run.run", fail)
        done = call("study")
        assert (done.exit_code, done.stderr) == (1, f"tamrl: {error}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("fly",),
        ("fetch", "everything"),
        ("train",),
        ("study", "--profile", "quick"),
        ("study", "--only", "99"),
        ("study", "--param", "seed=3"),
        ("study", "--only", "03", "--param", "seed"),
        ("study", "--only", "03", "--param", "sed=3"),
    ],
    ids=" ".join,
)
def test_a_command_that_is_not_understood_ends_with_status_2(arguments: tuple[str, ...]) -> None:
    """As every command line does; nothing is computed."""
    assert call(*arguments).exit_code == 2


def test_parameters_reach_the_study_with_their_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is a number, a word a word."""
    from tamrl.study.runner import run as study

    seen: dict[str, object] = {}

    def run(profile: str, towers: str, only: object, values: object, **_: object) -> study.Outcome:
        seen.update(profile=profile, towers=towers, only=only, values=values)
        return study.Outcome(("03_scores",), (), None)

    monkeypatch.setattr(study, "run", run)
    done = call(
        "study", "--profile", "smoke", "--towers", "virtual", "--only", "03",
        "--param", "seed=7", "--param", "scheme=biome", "--param", "tune=false",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert seen["values"] == {"seed": 7, "scheme": "biome", "tune": False}
    assert seen["towers"] == "virtual"
    assert "03_scores" in done.stdout
