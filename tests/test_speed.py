"""How fast the stages are that a study spends its time in; `make bench` measures them.

In `make test` each runs once, unmeasured. Rates are tower-days a second, so that rounds of
different size compare; only ratios within one run on one machine mean anything.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from pytest_benchmark.fixture import BenchmarkFixture

from tamrl.errors import DataError
from tamrl.model.train import Recipe, TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import Samples, make_samples
from tamrl.study.cost import tables, timing
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TRAIN, VALID, TEST = np.arange(8), np.arange(8, 10), np.arange(10, 12)
EPOCH = Recipe(epochs=1)


@pytest.fixture(scope="module")
def samples(virtual: xr.Dataset) -> Samples:
    return make_samples(virtual, virtual_predictors(virtual))


def rate(benchmark: BenchmarkFixture, samples: Samples, towers: np.ndarray) -> None:
    """Write the tower-days that one round deals with into the report, and their rate."""
    days = int(samples.has_drivers[towers].sum())
    benchmark.extra_info["tower_days"] = days
    if not benchmark.disabled:
        benchmark.extra_info["tower_days_per_second"] = days / benchmark.stats.stats.median


def test_virtual_towers(benchmark: BenchmarkFixture) -> None:
    towers = benchmark(virtual_towers, n=12, years=(2001, 2003))
    assert towers.sizes["site"] == 12


def test_samples(benchmark: BenchmarkFixture, virtual: xr.Dataset) -> None:
    made = benchmark(make_samples, virtual, virtual_predictors(virtual))
    rate(benchmark, made, np.arange(12))


def test_training_epoch(benchmark: BenchmarkFixture, samples: Samples) -> None:
    fitted = benchmark.pedantic(
        lambda: TamRLModel(recipe=EPOCH, device="cpu").fit(samples, TRAIN, VALID),
        rounds=3,
        warmup_rounds=1,
    )
    assert fitted.net is not None
    rate(benchmark, samples, TRAIN)


def test_prediction(benchmark: BenchmarkFixture, samples: Samples) -> None:
    model = TamRLModel(recipe=EPOCH, device="cpu").fit(samples, TRAIN, VALID)
    flux = benchmark(model.predict, samples, np.arange(12))
    assert np.isfinite(flux[samples.has_drivers]).all()
    rate(benchmark, samples, np.arange(12))


def test_boosting(benchmark: BenchmarkFixture, samples: Samples) -> None:
    benchmark.pedantic(lambda: Boosting(trees=50, tune=False).fit(samples, TRAIN, VALID), rounds=3)
    rate(benchmark, samples, TRAIN)


def test_shares_of_time_add_up() -> None:
    lstm, x = torch.nn.LSTM(4, 8), torch.randn(20, 2, 4)
    shares = timing.shares(lambda: lstm(x)[0].sum().backward())
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["LSTM"] > 0.1
    rows = [
        {"stage": tables.TRAIN, "size": tables.SIZE, "precision": "fp32", "kind": k, "share": v}
        for k, v in shares.items()
    ]
    table = tables.profile({"profile": rows})
    assert list(table.index) == list(shares)
    assert "products of matrices" in tables.profile_in_words(table)
    assert "not measured" in tables.profile_in_words(tables.profile({}))


def test_the_book_shows_every_machine_its_own_first(tmp_path: Path) -> None:
    """Another machine's file beside the book's own is told apart by its instructions."""
    own = tables.read()
    other = {**own, "machine": {**own["machine"], "simd": "AVX2", "bf16": []}}
    timing.write(tmp_path / "speed.json", own)
    timing.write(tmp_path / "another.json", other)
    table = tables.machines(tmp_path)
    first, second = dict.fromkeys(table.machine)
    assert second.endswith("(AVX2)")
    assert first != second
    assert f"network: {second}: training" in tables.elsewhere_in_words(table)
    assert "No other" in tables.elsewhere_in_words(table[table.machine == first])
    with pytest.raises(DataError, match="make bench"):
        tables.machines(tmp_path / "nothing")


def test_a_gpus_figures_stand_apart_from_those_of_cores(tmp_path: Path) -> None:
    """A file without stages of a core is no further machine; its aims are told, met or not."""
    own = tables.read()
    timing.write(tmp_path / "speed.json", own)
    rows = [
        {
            "stage": tables.STREAM,
            "size": tables.SIZE,
            "precision": "fp32",
            "rate": 6e6,
            "seconds": 1.0,
        },
        {"stage": "members to the end", "members": 10, "seconds": 301.0},
    ]
    machine = {**own["machine"], "cuda": "GPU X"}
    timing.write(tmp_path / "gpu.json", {"machine": machine, "gpu": rows})
    assert tables.machines(tmp_path).machine.nunique() == 1
    said = tables.gpus_in_words(tables.gpus(tmp_path))
    assert said.startswith("On one GPU X")
    assert "6 million place-days/s" in said
    assert "aim of 5 million met" in said
    assert "in 301 s (aim of less than 300 s missed)" in said
    (tmp_path / "gpu.json").unlink()
    assert "No GPU" in tables.gpus_in_words(tables.gpus(tmp_path))
