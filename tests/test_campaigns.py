"""The study's own comparisons: their lists hold what they say, and kept tables stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tamrl.cli.app import app
from tamrl.errors import DataError
from tamrl.evaluate.tables import read
from tamrl.study.ablation import DEFAULT
from tamrl.study.comparisons import models

QUICK = ("--towers", "virtual", "--folds", "2", "--seeds", "1", "--epochs", "1", "--every", "20")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder: no kept table of the checkout is read or written."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", models.EXPERIMENTS)
def test_ours_comes_first(name: str) -> None:
    """Others are held against the first; what the book rests on has several networks a fold."""
    campaign = models.EXPERIMENTS[name]
    first = {"ablation": DEFAULT, "directions": models.NETWORK}
    assert campaign.names[0] == first.get(name, models.OURS)
    assert campaign.seeds > 1 or name in ("climates", "biomes", "blind", "directions")
    assert len(set(campaign.names)) == len(campaign.names)


def test_epochs_reach_every_network() -> None:
    """A quick look is quick for all networks; boosters have no epochs."""
    told = 0
    for campaign in models.EXPERIMENTS.values():
        for factory in campaign.models(1, "cpu").values():
            todo = [factory()]
            while todo:  # what annual means are told to, means of several, and the like
                model = todo.pop()
                todo += [*getattr(model, "parts", ()), *filter(None, [getattr(model, "model", 0)])]
                if hasattr(model, "recipe"):
                    assert model.recipe.epochs == 1
                    told += 1
    assert told > len(models.EXPERIMENTS["ablation"].names)


def test_a_quick_look_goes_beside_kept_results_and_is_not_repeated(here: Path) -> None:
    """Other settings than its own keep a campaign out of results/; a second call computes none."""
    arguments = ["compare", "benchmark", *QUICK, "--only", "climatology", "--only", "LSTM"]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "virtual towers" in first.output
    assert not (here / "results").exists()
    (folder,) = (here / "runs" / "virtual" / "compare").iterdir()
    found = read(folder, models.EXPERIMENTS["benchmark"].names)
    assert set(found.sums.models) == {"climatology", "LSTM"}
    assert "XGBoost" in found.missing
    written = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert written == {p: p.stat().st_mtime_ns for p in folder.iterdir()}


def test_virtual_tables_are_never_read_as_real_ones(here: Path) -> None:
    """Kept tables of virtual towers are refused where real towers are asked for."""
    folder = models.compute(
        "benchmark", "virtual", 2, 1, 1, 20, ["climatology"], here / "kept", jobs=1
    )
    with pytest.raises(DataError, match="virtual towers"):
        models.load_results("benchmark", "fluxnet2015", folder)


def test_unknown_names_are_told(here: Path) -> None:
    """A campaign or model that is not there is a mistake of the call, and the choice is shown."""
    result = CliRunner().invoke(app, ["compare", "contest"])
    assert result.exit_code == 2
    with pytest.raises(ValueError, match="it has blend"):
        models.compute("benchmark", "virtual", only=["forest"])
