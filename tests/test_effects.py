"""Effects are what intervals say, and no more; words, folds, values and the model card follow."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.errors import DataError
from tamrl.evaluate.scores import TOP, Days, compare, sum_days, summarise
from tamrl.evaluate.tables import read, stored
from tamrl.study import benchmark, survival
from tamrl.study.comparisons import effects, modelcard
from tamrl.study.comparisons.choice import CHOSEN, choose
from tamrl.study.comparisons.effects import ABSENT, HARMS, HELPS, MIXED, OPEN, WORDS, Mechanism
from tamrl.study.comparisons.models import ENSEMBLE, EXPERIMENTS, PUBLISHED
from tamrl.study.publish import OF_STUDY, tables_folder

N, DAYS = 40, 60
FLUXES = ("GPP", "RECO", "NEE")


def sums(**error: float | np.ndarray) -> xr.Dataset:
    """Make models whose errors have these standard deviations (a number or by tower)."""
    rng = np.random.default_rng(0)
    tower = np.repeat(np.arange(N), DAYS)
    observed = rng.normal(3, 1, (N * DAYS, 3))
    sign = rng.choice([-1.0, 1.0], observed.shape)
    size = [np.broadcast_to(value, N)[tower, None] for value in error.values()]
    facts = pd.DataFrame({"site": [f"T{i:02d}" for i in range(N)], "igbp": ["ENF", "CRO"] * 20})
    facts["fold"] = [str(i // 8) for i in range(N)]
    when = pd.DatetimeIndex(np.tile(pd.date_range("2001-01-01", periods=DAYS), N))
    predicted = np.stack([observed + sign * own for own in size])
    return sum_days(Days(tuple(error), FLUXES, facts, tower, when, observed, predicted))


def test_an_interval_must_exclude_zero() -> None:
    """Nothing helps whose interval includes zero for every flux."""
    less, more, either, nothing = (-3, -5, -1), (3, 1, 5), (1, -1, 3), (np.nan,) * 3
    rows = {HELPS: [less, either], HARMS: [more, either], MIXED: [more, less]}
    rows |= {OPEN: [either, either], ABSENT: [nothing, either]}
    for says, given in rows.items():
        assert effects.effect(pd.DataFrame(given, columns=["change", "lower", "upper"])) == says


def test_words_follow_the_interval() -> None:
    """Better, worse and open are distinguished; what does not occur is not mentioned."""
    rows = [("GPP", -3.1, -5.0, -1.2), ("RECO", 0.4, -1.0, 2.0), ("NEE", 2.5, 0.1, 4.9)]
    table = pd.DataFrame(rows, columns=["flux", "change", "lower", "upper"])
    assert list(table.apply(effects.direction, axis=1)) == [WORDS[0], WORDS[2], WORDS[1]]
    assert WORDS[1] not in effects.verdict(table[:2], "a", "b")
    values = effects.change_values("over", table, words=True)
    assert values["over_NEE"] == "+2.5 % [+0.1, +4.9]"
    assert values["over_GPP_word"] == "lower"


def test_mechanisms_are_judged_by_what_lacks_them() -> None:
    """Half the error with a mechanism: it helps; a model that is not there is absent."""
    parts = (Mechanism("gate", "good", "bad"), Mechanism("film", "good", "nowhere"))
    judged = effects.judge(sums(good=0.5, bad=1.0), parts)
    assert list(judged.verdict) == [HELPS, ABSENT]
    assert judged.GPP["gate"].startswith("\N{MINUS SIGN}50.0 %")
    values = effects.verdict_values(judged)
    assert (values["helps"], values["absent"]) == ("gate (GPP, RECO, NEE)", "film")
    assert (values["n_intervals"], values["n_resolved"], values["n_harms"]) == ("3", "3", "0")


def test_the_least_error_is_named_with_those_as_good() -> None:
    made = sums(**{"TAM-RL": 1.0, "two stages": 1.0, "no modulation": 3.0})
    values = effects.default_values(made)
    assert (values["least"], values["alike"]) == ("TAM-RL", "two stages")
    assert (values["n_worse"], values["better"]) == ("1", "none")
    assert effects.default_values(made.isel(model=[0]))["alike"] == "none"


def test_folds_add_up_and_one_that_carries_a_verdict_is_named() -> None:
    """Better in four folds of five only by a little, and far better in one."""
    lucky = np.where(np.arange(N) // 8 == 4, 0.2, 1.05)
    made = sums(plain=1.0, better=0.9, split=lucky)
    parts = (Mechanism("even", "better", "plain"), Mechanism("lucky", "split", "plain"))
    folded = effects.by_fold(made, [*parts, Mechanism("absent", "nowhere", "plain")])
    np.testing.assert_allclose(folded.loc["even"].sum(axis=1), 100 * (0.9**2 - 1))
    whole = 100 * ((4 * 1.05**2 + 0.2**2) / 5 - 1)
    np.testing.assert_allclose(folded.loc["lucky"].sum(axis=1), whole)
    assert (folded.loc["lucky"]["4"] < 0).all()
    named = effects.single_folds(folded)
    assert "lucky (GPP" in named
    assert "even" not in named
    assert effects.single_folds(folded.loc[["even"]]) == "none"
    against = pd.DataFrame([[9.0, -8.0, -1.0, -2.5]], pd.MultiIndex.from_tuples([("odd", "NEE")]))
    assert effects.single_folds(against).startswith("odd (NEE \N{MINUS SIGN}2.5 %")


def test_the_strongest_booster_is_the_rival_and_what_is_absent_is_named() -> None:
    made = sums(**{ENSEMBLE: 0.99, "LightGBM": 1.2, "XGBoost": 1.0, PUBLISHED: 2.0})
    assert set(benchmark.strongest(made).values()) == {"XGBoost"}
    table = survival.by_repeat([SimpleNamespace(sums=made)]).set_index("flux")
    assert table.mean_change["GPP"] == pytest.approx(-1)
    absent = survival.by_repeat([SimpleNamespace(sums=made.sel(model=["XGBoost"]))])
    assert absent.mean_change.isna().all()
    assert not absent.met.any()


def test_a_win_that_five_towers_carry_is_called_so() -> None:
    """One in eight towers has half the error: the pooled gain is theirs, the main score's less."""
    few = np.where(np.arange(N) < TOP, 0.2, 1.0)
    row = compare(sums(a=few, b=1.0), "a", "b").set_index("flux").loc["GPP"]
    assert row.change == pytest.approx(100 * (np.sqrt((5 * 0.04 + 35) / 40) - 1))
    assert row.mean_change == pytest.approx(100 * ((5 * 0.2 + 35) / 40 - 1))
    assert row.without_top == pytest.approx(0)
    even = compare(sums(a=0.9, b=1.0), "a", "b")
    for name in ("change", "mean_change", "mean_lower", "without_top"):
        np.testing.assert_allclose(even[name], -10)


def test_each_deal_has_its_own_strongest_booster() -> None:
    repeats = [sums(**{ENSEMBLE: 0.9, "LightGBM": 1.0, "XGBoost": x}) for x in (0.92, 1.2)]
    table = survival.by_repeat([SimpleNamespace(sums=repeat) for repeat in repeats])
    assert list(table.rival[table.flux == "GPP"]) == ["XGBoost", "LightGBM"]
    assert not table.met[table.repeat == 0].any()
    assert table.met[table.repeat == 1].all()


def test_a_choice_is_made_at_the_other_folds() -> None:
    """A candidate that is better in one fold alone is chosen in no other, nor there."""
    fold = np.arange(N) // 8
    made = sums(plain=1.0, lucky=np.where(fold == 2, 0.1, 1.01))
    chosen, table = choose(made, ["plain", "lucky"])
    assert dict(zip(table.fold, table.chosen, strict=True))["2"] == "plain"
    assert set(table.chosen[table.fold != "2"]) == {"lucky"}
    both = xr.concat([made, chosen], "model", data_vars="minimal")
    rmse = np.sqrt(both.square / both.n).sel(model=CHOSEN, flux="GPP")
    np.testing.assert_allclose(rmse, np.where(fold == 2, 1.0, 1.01))
    with pytest.raises(DataError, match="two candidates"):
        choose(made, ["plain"])


def test_the_bias_of_a_class_is_that_of_its_days() -> None:
    """A constant of 1 at croplands alone is their bias, and off the allowed one."""
    made = sums(m=0.1)
    made["error"] = made.error + made.n * (made.igbp == "CRO")
    table = benchmark.class_bias(made, "m", "igbp").set_index(["class", "flux"])
    assert table.bias["CRO", "GPP"] == pytest.approx(1, abs=0.02)
    assert table.off["CRO", "GPP"]
    assert not table.off["ENF", "GPP"]
    assert benchmark.class_bias(made, "other", "igbp").empty


def test_every_model_of_the_benchmark_is_in_one_group() -> None:
    names = EXPERIMENTS["benchmark"].names
    grouped = [name for group in benchmark.groups(names).values() for name in group]
    assert sorted([*grouped, ENSEMBLE]) == sorted(names)
    results = read(stored("benchmark"), [*names, "further"])
    assert effects.protocol(results)["missing"].split("; ")[-1] == "further"


def test_the_card_is_that_of_the_weights_and_results() -> None:
    """`python -m tamrl.study.comparisons.modelcard` was run after either changed."""
    card = modelcard.CARD.read_text()
    assert card == modelcard.text()
    for row in summarise(read(stored("benchmark")).sums.sel(model=[ENSEMBLE])).itertuples():
        assert f"| {row.flux} | {row.RMSE:.2f} | {row.tower_RMSE:.2f} | {row.R2:.2f} |" in card


def test_values_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table is a csv below runs/, each value can be read from the notebook by its name."""
    glued = {}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(OF_STUDY, "1")
    monkeypatch.setattr("myst_nb.glue", lambda name, value, display: glued.update({name: value}))
    results = read(stored("no-satellites"))
    effects.publish(results, "99", {"scores": summarise(results.sums)}, {"a": "1"})
    assert (tmp_path / "runs" / "fluxnet2015" / "99_scores.csv").exists()
    assert glued["a"] == "1"
    assert glued["n_towers"] == "179"
    monkeypatch.delenv(OF_STUDY)  # plain Papermill leaves the study's tables alone
    assert tables_folder(results.attrs) == Path("runs/papermill/fluxnet2015")
