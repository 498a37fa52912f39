"""What `make bench` times is the study's own code, and the page reports its measurements."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tamrl.errors import DataError
from tamrl.samples.arrays import Samples
from tamrl.study.cost import bench, tables


@pytest.mark.slow
def test_stages_are_timed(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are days a second; exact prediction does more operations a day than streaming."""
    monkeypatch.setattr(bench, "load_samples", lambda source: samples)
    small = next(iter(bench.SIZES))
    rows = [bench.train("virtual", small, "fp32"), bench.prediction("virtual", small, "fp32"),
            bench.prediction("virtual", small, "fp32", exact=True)]  # fmt: skip
    assert [row["stage"] for row in rows] == [tables.TRAIN, tables.STREAM, tables.EXACT]
    for row in rows:
        assert row["rate"] == pytest.approx(row["days"] / row["seconds"], rel=1e-3)
        assert 0 < row["fraction"] < 1.5
    assert rows[1]["days"] == samples.has_drivers.sum()
    assert rows[2]["rate"] < rows[1]["rate"]
    assert bench.machine()["cores"] >= 1


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
