"""`make bench` times commands as they are typed and the study's own code; the page reports both."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tamrl.data.weather.daily_cube import build_cube
from tamrl.errors import DataError
from tamrl.model.network import Config, TamRL
from tamrl.model.train import Recipe
from tamrl.samples.arrays import Samples
from tamrl.study.cost import bench, commands, tables
from tamrl.study.runner.execute import ROOT

SMALL = next(iter(bench.SIZES))


def test_a_command_is_timed_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Help takes less memory than this process, which has PyTorch; a mistake is no measurement."""
    row = commands.run("help", commands.COMMANDS["help"]._replace(runs=1), tmp_path)
    assert row["cpu"] > 0
    assert row["wall"] > 0
    assert 0.01 < row["peak_gb"] < 0.2
    wrong = commands.Command("map", "tamrl map no.nc -o no.zarr", "cell-days", 1)
    with pytest.raises(DataError, match=r"tamrl map no\.nc -o no\.zarr: failed: (?s:.*)no\.nc"):
        commands.run("wrong", wrong, tmp_path)


@pytest.mark.slow
def test_commands_find_what_is_written_for_them(need, real_towers, tmp_path: Path) -> None:
    """24 towers by one table, half-hours of one of them in local time, labels of one year."""
    need("grid/")
    need("fluxnet2015.zarr/")
    commands.prepare(tmp_path)
    typed = " ".join(command.line for command in commands.COMMANDS.values())
    written = set(re.findall(r"[\w-]+\.\w+", typed)) - set(re.findall(r"-o (\S+)", typed))
    assert {path.name for path in tmp_path.iterdir()} == written
    assert (tmp_path / "towers.csv").read_text().count("\n") == 1 + commands.TOWERS
    row = commands.run("predict", commands.COMMANDS["predict"]._replace(runs=1), tmp_path)
    assert row["amount"] == int(real_towers.TA.sel(site=commands.ONE).count())


@pytest.mark.slow
def test_stages_are_timed(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are days a second, beside a product of matrices."""
    monkeypatch.setattr(bench, "load_samples", lambda source: samples)
    rows = [bench.train(SMALL, "fp32"), bench.prediction(SMALL, "fp32")]
    assert [row["stage"] for row in rows] == [tables.TRAIN, tables.STREAM]
    for row in rows:
        assert row["rate"] == pytest.approx(row["days"] / row["seconds"], rel=1e-3)
        assert 0 < row["fraction"] < 1.5
    assert rows[1]["days"] == samples.has_drivers.sum()
    assert bench.machine()["cores"] >= 1


def test_operations_of_an_lstm_are_counted(samples: Samples) -> None:
    """Two a weight and day, of its matrices; training goes back as well, and encodes a support."""
    net, recipe = TamRL(Config(len(samples.features), len(samples.static_names))), Recipe()
    gates = 4 * net.config.hidden
    weights = sum(p.numel() for p in net.parameters() if p.ndim == 2 and len(p) == gates)
    forward, both = (bench.operations(net, recipe, training) for training in (False, True))
    assert 2 * weights * recipe.length <= forward < 6 * weights * recipe.length
    assert both > 2.5 * forward


def test_rates_are_those_between_two_sizes() -> None:
    """The start of a command is in both: by one process and by two, 20 and 30 cell-days/s."""
    rows = [("help", 1.0, 0), ("small", 15.0, 100), ("large", 60.0, 1000), ("cube", 11.0, 500)]
    two = [("small_two", 20.0, 100), ("large_two", 50.0, 1000)]
    columns = ["name", "wall", "amount"]
    about = {"what": "", "line": "", "cpu": 0.0, "peak_gb": 0.0, "unit": ""}
    found = pd.DataFrame(rows + two, columns=columns).assign(**about).to_dict("records")
    assert tables.daily_rates({"commands": found}).to_dict() == {"cube": 50, "one": 20, "two": 30}
    before = tables.daily_rates({"commands": found[:3]})
    assert before["one"] == 20
    assert before[["two", "cube"]].isna().all()


def test_hours_for_a_cube_have_its_layout(tmp_path: Path) -> None:
    """What is timed is a download of the Climate Data Store: every cell has its local days."""
    commands.hourly(4, 3).to_netcdf(tmp_path / "hours.nc")
    days = build_cube(tmp_path / "hours.nc", tmp_path / "days.zarr")
    assert [days.sizes[d] for d in ("time", "lat", "lon")] == [2, 4, 4]
    assert days.TA.notnull().all()  # noqa: PD004
    assert 100 < float(days.SW_IN.mean()) < 300


def test_the_page_stands_on_the_committed_measurements(tmp_path: Path) -> None:
    """An aim is met or missed as measured; what was measured elsewhere is as its source has it."""
    contents = tables.read()
    values, table = tables.values(contents[0], contents), tables.commands(contents[0])
    assert list(table.index) == list(commands.COMMANDS)
    assert values["store_met"] == ("met" if table.wall["store"] <= tables.STORE_S else "missed")
    each, rest = tables.cell_day(contents[0])
    for name in commands.SIDES:
        row = table.loc[name]
        assert rest + 1e-6 * each * row.amount == pytest.approx(row.cpu)
    row = tables.stages(contents[0]).set_index(["stage", "size", "precision"])
    shares = row.loc[(tables.STREAM, tables.SIZE, "fp32")]
    assert values["prediction_met"] == ("met" if shares.fraction >= shares.least else "missed")
    assert tables.BOOK in (ROOT / "REPRODUCING.md").read_text()
    assert tables.gpus(contents).gpu.notna().all()
    _, peer = tables.read_csv(tables.stored("speed") / tables.AUTHORS)
    known = peer.dropna()
    assert np.all((known.lower <= known.times) & (known.times <= known.upper))
    with pytest.raises(DataError, match="make bench"):
        tables.read(tmp_path)
    (tmp_path / "speed.json").write_text('{"format": 0}')
    with pytest.raises(DataError, match="not in format 2"):
        tables.read(tmp_path)
