"""Whether a gain survives: other repeats, no towers that carry it, choices made inside."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from tamrl.evaluate.scores import summarise
from tamrl.evaluate.tables import Results, read
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import folds
from tamrl.study import survival
from tamrl.study.comparisons import models, steps
from tamrl.study.comparisons.compute import run
from tamrl.study.comparisons.effects import main_score

BOOSTER = models.INFORMED[0]


@pytest.fixture(scope="module")
def repeats(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> list[Results]:
    """Two repeats of climatologies that stand for the ensemble, a mixture and a booster."""
    these = {
        models.ENSEMBLE: Climatology,
        "ensemble of equal shares": partial(Climatology, 61),
        BOOSTER: partial(Climatology, 301),  # hardly a season: it must lose
    }
    out = tmp_path_factory.mktemp("tables")
    for repeat in range(2):
        folder = models.repeat_folder(out, repeat)
        run(these, samples, folds(samples, 3, seed=repeat), (0,), folder, out / "cv", 1, str)
    return [read(models.repeat_folder(out, repeat), list(these)) for repeat in range(2)]


def test_a_gain_is_judged_on_every_deal_and_without_its_towers(repeats: list[Results]) -> None:
    table = survival.by_repeat(repeats)
    assert list(table.repeat) == [0, 0, 0, 1, 1, 1]
    assert set(table.rival) == {BOOSTER}
    assert (table.mean_change[table.flux == "GPP"] < 0).all()
    assert (table.without_top > table.change).all()  # the towers left out favoured it
    met = (table.mean_change <= -table.aim) & (table.mean_upper < 0)
    assert (table.met == (met & (table.without_top <= -survival.WITHOUT_TOP))).all()
    rows, groups = survival.for_forest(table)
    assert len(rows) == 2 * len(table)
    assert {row for names in groups.values() for row in names} == set(rows.row)


def test_words_follow_the_numbers(repeats: list[Results]) -> None:
    """The direction is said only where all repeats agree; a missed aim is named."""
    table, (_, nested) = survival.by_repeat(repeats), survival.choices(repeats[0].sums)
    good = table.assign(mean_change=-9.0, mean_lower=-11.0, mean_upper=-7.0, met=True)
    said = survival.values(repeats, good, nested)
    assert {said[f"main_{flux}_word"] for flux in good.flux} == {"lower"}
    assert (said["aims"], said["n_repeats"]) == ("met", "2")
    mixed = good.assign(mean_upper=np.where(good.repeat == 1, 2.0, -7.0), met=good.flux != "NEE")
    said = survival.values(repeats, mixed, nested)
    assert said["main_GPP_word"] not in ("lower", "higher")
    assert said["aims"] == "missed for NEE"
    assert float(said["no_bias_GPP"]) < float(said["ensemble_main_GPP"])
    found, aim = said["RMSE_GPP"].rstrip(")").split(" (")
    pooled = summarise(repeats[0].sums).set_index(["model", "flux"]).RMSE
    assert f"{pooled[models.ENSEMBLE, 'GPP']:.2f}" in found.split(" to ")
    assert float(aim) == survival.ABSOLUTE["RMSE"]["GPP"]


@pytest.mark.parametrize(
    ("shares", "said"), [((1.0, 0.63), "63 to 100 %"), ((0.632, 0.634), "63 %")]
)
def test_shares_of_towers_are_ordered_as_numbers(
    repeats: list[Results], shares: tuple[float, float], said: str
) -> None:
    """As text, 100 comes before 63."""
    table, (_, nested) = survival.by_repeat(repeats), survival.choices(repeats[0].sums)
    given = table.assign(better=np.where(table.repeat == 0, *shares))
    assert survival.values(repeats, given, nested)["better_GPP"] == said


def test_a_choice_is_made_at_the_other_folds(repeats: list[Results]) -> None:
    chosen, changes = survival.choices(repeats[0].sums)
    assert set(chosen.chosen) <= {models.ENSEMBLE, "ensemble of equal shares"}
    assert len(chosen) == 3
    if set(chosen.chosen) == {models.ENSEMBLE}:
        np.testing.assert_allclose(changes.change.astype(float), 0, atol=1e-9)
    assert survival.choices(repeats[0].sums.sel(model=[models.ENSEMBLE]))[0].empty


def test_errors_that_neighbours_share_are_found(repeats: list[Results]) -> None:
    """Towers of one hemisphere that err alike correlate when near; errors by lot do not."""
    sums = repeats[0].sums.sel(model=models.ENSEMBLE)
    rng = np.random.default_rng(0)
    block = (sums.lat.values > np.median(sums.lat.values)) * 2.0 - 1
    like = sums.error * 0 + sums.n * block
    table = steps.by_distance(sums.assign(error=like)).dropna()
    near = table.sort_values("km").groupby("flux").correlation.first()
    assert (near > 0.5).all()
    lot = sums.error.copy(data=rng.normal(size=sums.error.shape)) * sums.n
    pairs = steps.by_distance(sums.assign(error=lot)).dropna()
    assert (pairs.correlation[pairs.pairs > 100].abs() < 0.3).all()


def test_an_attribute_that_errors_follow_comes_first(
    repeats: list[Results], samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = repeats[0].sums.sel(model=models.ENSEMBLE)
    monkeypatch.setattr(steps, "LEAST", 10)
    k = samples.static_names.index("abs_lat")
    known = pd.Series(samples.static[:, k], samples.site).loc[sums.site.values].to_numpy()
    error = sums.error * 0 + sums.n * known
    table = steps.by_attribute(sums.assign(error=error), samples)
    assert table.attribute[0] == "abs_lat"
    assert table.rho[0] == pytest.approx(1)


def test_the_main_score_takes_the_place_of_the_pooled_one(repeats: list[Results]) -> None:
    table = survival.by_repeat(repeats)
    main = main_score(table)
    assert (main.change == table.mean_change).all()
    assert (main.without_top == table.without_top).all()
