"""What was tried is told as it is: verdicts, aims missed, oracles, and what is not computed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tamrl.errors import DataError
from tamrl.evaluate import oracles
from tamrl.evaluate.tables import Results, read
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import folds
from tamrl.study import directions
from tamrl.study.comparisons import effects, models
from tamrl.study.comparisons.compute import run
from tamrl.study.comparisons.models import NETWORK, SEEN
from tamrl.virtual.towers import virtual_towers


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Make towers without satellite data: a climatology needs none."""
    return make_samples(virtual_towers(n=16, seed=0, years=(2001, 2002)))


@pytest.fixture(scope="module")
def found(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Compute two models that stand for the plain network and a bound."""
    models = {NETWORK: Climatology, SEEN: partial(Climatology, 61)}
    out = tmp_path_factory.mktemp("tables")
    run(models, samples, folds(samples, 2), (0, 1), out, out / "cv", jobs=1, say=str)
    return read(out, models.EXPERIMENTS["directions"].names)


def test_every_direction_of_the_campaign_is_judged_and_drawn() -> None:
    """None is left out of table or figure, and the bound is no direction."""
    names = set(models.EXPERIMENTS["directions"].names)
    judged = {part.having for part in directions.DIRECTIONS}
    assert judged == names - {NETWORK, SEEN, directions.TREES}
    assert {part.lacking for part in directions.DIRECTIONS} <= names
    drawn = [name for group in directions.GROUPS.values() for name in group]
    assert set(drawn) == names - {NETWORK}
    assert len(drawn) == len(set(drawn))


def test_oracles_are_what_corrected_predictions_score(found: Results, samples: Samples) -> None:
    """Both equal the error of predictions that are corrected tower by tower with the labels."""
    table = oracles.table(found)
    parts = folds(samples, 2)
    square = {oracle: np.zeros(3) for oracle in (oracles.NO_BIAS, oracles.NO_LINE)}
    days = 0
    for fold in parts:
        flux = Climatology().fit(samples, fold.train, fold.valid, 0).predict(samples, fold.test)
        for i, tower in enumerate(fold.test):
            on = samples.scored[tower]
            days += on.sum()
            for k in range(3):
                p, y = flux[i, on, k].astype(float), samples.y[tower, on, k].astype(float)
                square[oracles.NO_BIAS][k] += np.sum((p - y - np.mean(p - y)) ** 2)
                line = np.polyval(np.polyfit(p, y, 1), p)
                square[oracles.NO_LINE][k] += np.sum((line - y) ** 2)
    for oracle, total in square.items():
        np.testing.assert_allclose(table.loc[NETWORK, oracle], np.sqrt(total / days), rtol=1e-4)
    assert (table[oracles.NO_LINE] <= table[oracles.NO_BIAS] + 1e-9).to_numpy().all()
    assert (table[oracles.NO_BIAS] <= table[oracles.AS_IT_IS] + 1e-9).to_numpy().all()


def test_sums_of_another_making_are_not_taken(found: Results, tmp_path: Path) -> None:
    """Tables without oracles, or with old ones, are read as before; the slope is then unknown."""
    bare = replace(found, folder=tmp_path)
    table = oracles.table(bare)
    assert table[oracles.NO_LINE].isna().to_numpy().all()
    assert table[oracles.NO_BIAS].notna().to_numpy().all()
    old = replace(found, about=found.about.assign(key="other"))
    assert not oracles.read(old)
    assert set(oracles.read(found)) == {NETWORK, SEEN}
    assert effects.ABSENT in directions.reachable_in_words(table)


def test_the_error_is_split_where_it_was_attacked(found: Results) -> None:
    """All days are the pooled RMSE; a climate that is there has its own."""
    table = directions.attacked(found.sums)
    assert list(table.index) == [NETWORK, SEEN]
    as_it_is = oracles.table(found)[oracles.AS_IT_IS]
    np.testing.assert_allclose(table["all days"], as_it_is, rtol=1e-6)
    climates = set(found.sums.towers.koppen_main)
    assert table["dry"].notna().to_numpy().all() == ("Arid" in climates)
    assert (table["tower means"] > 0).to_numpy().all()


def test_what_has_seen_the_towers_is_no_direction(found: Results) -> None:
    """The lowest error is that of a model of new towers, and how short it falls is said."""
    assert {name for name, _ in directions.best(found.sums).values()} == {NETWORK}
    said = directions.short_in_words(found.sums)
    assert said.count("above") + said.count("below") == 3
    assert "not zero-shot" in directions.reachable_in_words(oracles.table(found))


def test_members_are_told_where_there_are_several(found: Results) -> None:
    """A climatology has no luck: its members are equal and their mean gains nothing."""
    gain = directions.members_gain({"directions": found})
    assert set(gain.members) == {2}
    np.testing.assert_allclose(gain.gain.to_numpy(float), 0, atol=1e-2)
    assert "2 seeds" in directions.members_in_words(gain)
    single = replace(found, seeds=found.seeds[found.seeds.seed == "0"])
    assert "not computed" in directions.members_in_words(
        directions.members_gain({"directions": single})
    )
    assert "directions" in directions.beside(found)


def test_nothing_computed_is_told_and_not_an_error(tmp_path: Path) -> None:
    """A book can be built before the campaign has run; it then says what is missing."""
    with pytest.raises(DataError, match="holds no table"):
        models.load_results("directions", "fluxnet2015", tmp_path)
    none = models.load_results("directions", "fluxnet2015", tmp_path, empty=True)
    judged = effects.judge(none.sums, directions.DIRECTIONS)
    assert set(judged.verdict) == {effects.ABSENT}
    assert SEEN in effects.missing_in_words(none)
    assert "nothing" in effects.protocol_in_words(none)
    assert directions.attacked(none.sums).empty
    assert oracles.table(none).empty
    assert isinstance(directions.members_gain({"directions": none}), pd.DataFrame)
    said = (
        directions.short_in_words(none.sums),
        directions.reachable_in_words(oracles.table(none)),
    )
    assert all("not" in text for text in said)
