"""Protocols beside the main one, and how unlike a place is to those trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tamrl.evaluate.tables import read
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import folds
from tamrl.study import protocols
from tamrl.study.comparisons import models
from tamrl.virtual.towers import virtual_predictors


@pytest.fixture(scope="module")
def samples(virtual: xr.Dataset) -> Samples:
    return make_samples(virtual, virtual_predictors(virtual))


def test_a_class_that_is_left_out_is_predicted_by_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the protocol of biomes each fold is one class, and every class is tested."""
    monkeypatch.chdir(tmp_path)
    found = {
        name: read(
            models.compute(name, "virtual", 2, 1, 1, 15, ["climatology"], tmp_path / name, jobs=1),
            models.EXPERIMENTS[name].names,
        )
        for name in ("climates", "biomes")
    }
    towers = found["biomes"].sums.towers
    assert (towers.fold == towers.igbp).all()
    assert set(found["climates"].sums.towers.fold) == {"0", "1"}
    table = protocols.by_protocol(found, models.OURS, ["climatology"])
    assert list(table.protocol.unique()) == [protocols.PROTOCOLS[n] for n in ("climates", "biomes")]
    rmse = table.pivot_table("RMSE", "protocol", "flux")
    # A climatology that has never seen the class errs more than one that has.
    assert (
        rmse.loc[protocols.PROTOCOLS["biomes"]] > rmse.loc[protocols.PROTOCOLS["climates"]]
    ).any()
    assert table.change.isna().all()
    assert "not computed" in protocols.in_words(table, "biomes", "climatology")


def test_dissimilarity_is_zero_for_a_twin_and_grows_with_distance() -> None:
    """A tower like one of another fold is not unlike; a twin in its own fold does not count."""
    facts = np.array([[0.0, 1], [0, 1], [4, np.nan], [4, 1], [9, 1]])
    index = protocols.nearest(facts, np.array(["0", "1", "0", "0", "1"]))
    assert index[0] == index[1] == 0
    assert index[4] > index[2] > 0
    alone = protocols.nearest(facts, np.array(["0", "0", "1", "1", "2"]))
    assert alone[0] > 0
    np.testing.assert_allclose(protocols.nearest(facts * 7, np.array(list("01001"))), index)


def test_unlike_towers_are_told_apart_in_quarters(samples: Samples, tmp_path: Path) -> None:
    """Each quarter has as many towers; the index is finite though facts are missing."""
    from functools import partial

    from tamrl.rivals.boosting import Climatology
    from tamrl.study.comparisons.compute import run

    dealt = folds(samples, 3)
    run({"c": partial(Climatology)}, samples, dealt, [0], tmp_path / "t", tmp_path / "cv", jobs=1)
    sums = protocols.with_dissimilarity(read(tmp_path / "t").sums, samples)
    assert np.isfinite(sums.towers.unlike).all()
    # Two towers that are nearest to each other are equally unlike, and stay together.
    assert sums.towers.groupby("quarter", observed=True).unlike.nunique().max() <= 3
    order = sums.towers.sort_values("unlike").quarter
    assert order.is_monotonic_increasing or list(order) == sorted(order)


def test_a_protocol_that_was_never_computed_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real towers without kept tables: the main comparison stands alone, and words tell."""
    monkeypatch.setattr(models, "kept", lambda name: tmp_path / name)
    found = read(Path(__file__).parents[1] / "results" / "benchmark")
    held = protocols.obtain(found, "fluxnet2015", recompute=False)
    assert list(held) == ["benchmark"]
    table = protocols.by_protocol(held, models.OURS, [models.OURS, models.STRONG])
    assert "not computed" in protocols.in_words(table, "biomes", models.STRONG)
    said = protocols.in_words(table, "benchmark", models.STRONG)
    assert said.count("%") == 3
