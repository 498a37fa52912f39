"""Protocols beside the main one, dissimilarity, and what was tried: directions and their bounds."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tamrl.evaluate.scores import summarise
from tamrl.evaluate.tables import Results, read, stored
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import folds
from tamrl.study import benchmark, directions
from tamrl.study.comparisons import models
from tamrl.study.comparisons.compute import run
from tamrl.study.comparisons.effects import ABSENT
from tamrl.study.comparisons.models import NETWORK, SEEN


@pytest.fixture(scope="module")
def results(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Compute two climatologies that stand for the plain network and a bound."""
    these = {NETWORK: Climatology, SEEN: partial(Climatology, 61)}
    out = tmp_path_factory.mktemp("tables")
    run(these, samples, folds(samples, 2), (0, 1), out, out / "cv", jobs=1, say=str)
    return read(out, list(these))


@pytest.mark.slow
def test_a_class_is_predicted_by_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the protocol of biomes each fold is one class, and every class is tested."""
    monkeypatch.chdir(tmp_path)
    several = {
        name: read(models.compute(name, "virtual", 2, 1, 1, 15, ["climatology"], name, jobs=1))
        for name in ("climates", "biomes")
    }
    towers = several["biomes"].sums
    assert (towers.fold == towers.igbp).all()
    assert set(several["climates"].sums.fold.values) == {"0", "1"}
    table = benchmark.by_protocol(several, ["climatology"])
    rmse = table.pivot_table("RMSE", "protocol", "flux").loc[list(table.protocol.unique())]
    assert (rmse.iloc[1] > rmse.iloc[0]).any()  # it errs more where it has never seen the class
    assert table.change.isna().all()


def test_protocols_that_are_stored_are_compared_with_the_ensemble() -> None:
    several = benchmark.other_protocols(read(stored("benchmark")), "fluxnet2015", False)
    assert list(several) == [n for n in benchmark.PROTOCOLS if stored(n).is_dir()]
    assert len(several) > 1
    table = benchmark.by_protocol(several, [models.ENSEMBLE, models.INFORMED[0]])
    assert table[table.model == models.INFORMED[0]].change.notna().all()


def test_steps_lead_from_the_published_network_to_the_ensemble() -> None:
    """A step begins where the last one ended; towers count once, with the main score's error."""
    sums = read(stored("benchmark")).sums
    steps, rmse = benchmark.waterfall(sums), summarise(sums).set_index(["model", "flux"]).tower_RMSE
    for flux, rows in steps.groupby("flux"):
        np.testing.assert_array_equal(rows.after[:-1], rows.before[1:])
        ends = rmse[models.PUBLISHED, flux], rmse[models.ENSEMBLE, flux]
        np.testing.assert_allclose((rows.before.iloc[0], rows.after.iloc[-1]), ends)
        np.testing.assert_allclose(100 * (rows.after / rows.before - 1), rows.change)
    part = sums.sel(model=[models.NETWORK, models.ENSEMBLE])
    assert benchmark.waterfall(part).step.nunique() == 1
    each = benchmark.by_tower(sums)
    np.testing.assert_allclose(
        each.groupby("flux").ensemble.mean(), rmse[models.ENSEMBLE].sort_index()
    )
    assert each.groupby("flux").rival.first().to_dict() == benchmark.strongest(sums)
    assert benchmark.by_tower(part).empty


def test_dissimilarity_is_zero_for_a_twin_and_grows_with_distance() -> None:
    """A tower like one of another fold is near; a twin in its own fold does not count."""
    attributes = np.array([[0.0, 1], [0, 1], [4, np.nan], [4, 1], [9, 1]])
    index = benchmark.nearest(attributes, np.array(["0", "1", "0", "0", "1"]))
    assert index[0] == index[1] == 0
    assert index[4] > index[2] > 0
    assert benchmark.nearest(attributes, np.array(["0", "0", "1", "1", "2"]))[0] > 0
    np.testing.assert_allclose(benchmark.nearest(attributes * 7, np.array(list("01001"))), index)


def test_quarters_are_in_the_order_of_dissimilarity(results: Results, samples: Samples) -> None:
    sums = benchmark.with_dissimilarity(results.sums, samples)
    order = sums.quarter.values[np.argsort(sums.dissimilarity.values, kind="stable")]
    rank = [benchmark.QUARTERS.index(name) for name in order]
    assert rank == sorted(rank)
    with pytest.raises(KeyError, match="is not among the samples"):
        benchmark.with_dissimilarity(sums.assign_coords(site=sums.site + "x"), samples)


def test_seconds_on_a_gpu_are_marked(results: Results) -> None:
    table = benchmark.cost(results)
    assert (table.fits == 4).all()
    assert (table.device == "").all()


def test_every_direction_is_judged_and_drawn() -> None:
    """None is left out of table or figure, and the bound is no direction."""
    names = set(models.ARCHIVED)
    assert directions.load().models == list(models.ARCHIVED)
    judged = {part.having for part in directions.DIRECTIONS}
    assert judged == names - {NETWORK, SEEN, directions.TREES}
    assert {part.lacking for part in directions.DIRECTIONS} <= names
    drawn = [name for group in directions.GROUPS.values() for name in group]
    assert sorted(drawn) == sorted(names - {NETWORK})


def test_oracles_are_what_corrected_predictions_score(results: Results, samples: Samples) -> None:
    """Both equal the error of predictions that are corrected tower by tower with the labels."""
    table = directions.oracles(results.sums)
    square = {oracle: np.zeros(3) for oracle in (directions.NO_BIAS, directions.NO_LINE)}
    days = 0
    for fold in folds(samples, 2):
        flux = Climatology().fit(samples, fold.train, fold.valid, 0).predict(samples, fold.test)
        for i, tower in enumerate(fold.test):
            on = samples.scored[tower]
            days += on.sum()
            for k in range(3):
                p, y = flux[i, on, k].astype(float), samples.y[tower, on, k].astype(float)
                square[directions.NO_BIAS][k] += np.sum((p - y - np.mean(p - y)) ** 2)
                line = np.polyval(np.polyfit(p, y, 1), p)
                square[directions.NO_LINE][k] += np.sum((line - y) ** 2)
    for oracle, total in square.items():
        np.testing.assert_allclose(table.loc[NETWORK, oracle], np.sqrt(total / days), rtol=1e-4)
    as_it_is = table[directions.AS_IT_IS]
    assert (table[directions.NO_LINE] <= table[directions.NO_BIAS] + 1e-9).to_numpy().all()
    assert (table[directions.NO_BIAS] <= as_it_is + 1e-9).to_numpy().all()
    parts = directions.by_part(results)
    np.testing.assert_allclose(parts["all days"], as_it_is, rtol=1e-6)
    climates = set(results.sums.koppen_main.values)
    assert parts["dry"].notna().to_numpy().all() == ("Arid" in climates)


def test_the_gain_of_equal_members_is_nothing(results: Results) -> None:
    """A climatology has no seed: its members are equal and their mean gains nothing."""
    gain = directions.members_gain({"directions": results})
    assert set(gain.members) == {2}
    np.testing.assert_allclose(gain.gain.to_numpy(float), 0, atol=1e-2)
    values = directions.values(directions.oracles(results.sums), gain)
    assert NETWORK in values["best_GPP"]  # what has seen the towers is no direction
    assert values["gain"] == "0.0 to 0.0 %"
    none = directions.values(directions.oracles(results.sums.isel(model=[0])), gain[:0])
    assert none["gain"] == none["seen_GPP"] == ABSENT
