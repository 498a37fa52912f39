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
from tamrl.study.cost import bench, tables
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TRAIN, VALID, TEST = np.arange(8), np.arange(8, 10), np.arange(10, 12)
EPOCH = Recipe(epochs=1)


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


def test_rates_stand_beside_what_the_core_multiplies() -> None:
    """Operations are counted: of a product of matrices two a multiplication, of an LSTM all."""
    a = torch.ones(10, 20)
    assert bench.flops(lambda: a @ a.T) == 2 * 10 * 20 * 10
    assert bench.flops(lambda: torch.nn.LSTM(4, 8)(torch.ones(5, 1, 4))) >= 5 * 2 * 4 * 8 * (4 + 8)
    row = bench.rate(1000, 2.0, 1e6, "fp32", 1e9)  # a core that was faster before
    assert (row["rate"], row["sgemm"]) == (500, 1e9)
    assert row["fraction"] == pytest.approx(500 * 1e6 * 1e-9 / 1e9)


def test_the_page_stands_on_the_committed_measurements(tmp_path: Path) -> None:
    """Its tables are made of them, the book's own first; a target is met or missed as measured."""
    contents = tables.read()
    values = tables.values(contents[0], contents)
    table = tables.stages(contents[0]).set_index(["stage", "size", "precision"])
    row = table.loc[(tables.STREAM, tables.SIZE, "fp32")]
    assert values["stream_fp32_share_met"] == ("met" if row.fraction >= row.least else "missed")
    assert row.times == pytest.approx(row.per_gflop / tables.PEER[tables.STREAM])
    shares = tables.profile(contents[0])
    np.testing.assert_allclose(shares.sum(), 1, atol=0.01)
    assert set(tables.scaling(contents[0]).axis) == {"towers", "length", "hidden"}
    assert tables.gpus(contents).gpu.notna().all()
    with pytest.raises(DataError, match="make bench"):
        tables.read(tmp_path)
    (tmp_path / "speed.json").write_text('{"format": 0}')
    with pytest.raises(DataError, match="not in format 1"):
        tables.read(tmp_path)
