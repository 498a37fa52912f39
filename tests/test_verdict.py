"""Verdicts say what intervals say, and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tamrl.evaluate import tables
from tamrl.evaluate.sums import Sums
from tamrl.evaluate.tables import read_csv
from tamrl.model.train import Recipe
from tamrl.study import benchmark
from tamrl.study.comparisons import effects
from tamrl.study.comparisons.effects import ABSENT, HARMS, HELPS, MIXED, OPEN, Mechanism
from tamrl.study.comparisons.models import EXPERIMENTS, OURS, PUBLISHED, kept

RNG = np.random.default_rng(0)
N, DAYS = 40, 60


def sums(**noise: float) -> Sums:
    """Make models whose errors have these standard deviations, at 40 towers."""
    tower = np.repeat(np.arange(N), DAYS)
    observed = RNG.normal(3, 1, (N * DAYS, 3))
    predicted = np.stack([observed + RNG.normal(0, sd, observed.shape) for sd in noise.values()])
    facts = pd.DataFrame({"site": [f"T{i:02d}" for i in range(N)], "igbp": ["ENF", "CRO"] * 20})
    return Sums.of(tuple(noise), ("GPP", "RECO", "NEE"), facts, tower, observed, predicted)


def changes(*triples: tuple[float, float, float]) -> pd.DataFrame:
    """Make rows of change, lower, upper."""
    return pd.DataFrame(triples, columns=["change", "lower", "upper"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([(-3, -5, -1), (1, -1, 3)], HELPS),
        ([(3, 1, 5), (1, -1, 3)], HARMS),
        ([(3, 1, 5), (-3, -5, -1)], MIXED),
        ([(3, -1, 5), (0, -1, 1)], OPEN),
        ([(np.nan, np.nan, np.nan), (0, -1, 1)], ABSENT),
    ],
)
def test_an_interval_must_leave_out_zero(rows: list[tuple], says: str) -> None:
    """Nothing helps whose interval holds zero for every flux."""
    assert effects.effect(changes(*rows)) == says


def test_mechanisms_are_judged_by_what_lacks_them() -> None:
    """Half the error with a mechanism: it helps; a model that is not there is said to be absent."""
    parts = (Mechanism("gate", "good", "bad"), Mechanism("film", "good", "nowhere"))
    judged = effects.judge(sums(good=0.5, bad=1.0), parts)
    assert list(judged.verdict) == [HELPS, ABSENT]
    assert judged.resolved["gate"] == "GPP, RECO, NEE"
    assert judged.GPP["gate"].startswith("\N{MINUS SIGN}")
    assert "gate" in effects.mechanisms_in_words(judged)


def test_the_least_error_is_named_with_those_as_good() -> None:
    """One that is clearly worse is not among them; a single one stands alone."""
    made = sums(**{"TAM-RL": 1.0, "two stages": 1.0, "no modulation": 3.0})
    said = effects.least_in_words(made)
    assert "no modulation" not in said
    assert "TAM-RL" in said
    assert effects.least_in_words(made.select(["no modulation"])).endswith("and alone")


def test_the_strongest_booster_is_taken_flux_by_flux() -> None:
    """The rival is the one with the lower error, and a target missed is called short."""
    made = sums(**{OURS: 0.99, "LightGBM": 1.2, "XGBoost": 1.0, PUBLISHED: 2.0})
    assert set(benchmark.strongest(made).values()) == {"XGBoost"}
    table = benchmark.against_targets(made)
    said = benchmark.targets_in_words(table, benchmark.BOOSTING)
    assert "XGBoost" in said
    assert "short of the 4 %" in said
    assert "beyond the 9.6 %" in benchmark.targets_in_words(table, PUBLISHED)


def test_the_front_table_says_what_is_not_computed() -> None:
    """Ours beside the strongest booster; the climatology, which is not there, is said to be so."""
    cells = benchmark.front_cells(sums(**{OURS: 0.5, "LightGBM": 1.2, "XGBoost": 1.0}))
    error, skill = cells["boosting_GPP"].rstrip(")").split("\N{NO-BREAK SPACE}(")
    assert float(error) == pytest.approx(1.0, abs=0.1)  # of XGBoost
    assert "-" not in skill
    less = cells["over_boosting_GPP"].split(" %")[0].replace("\N{MINUS SIGN}", "-")
    assert float(less) == pytest.approx(-50.0, abs=3.0)
    assert cells["climatology_NEE"] == cells["over_published_NEE"] == ABSENT


def test_the_bias_of_a_class_is_that_of_its_days() -> None:
    """A constant of 1 at croplands alone is their bias, and off the allowed one."""
    made = sums(m=0.1)
    error = made.error.copy()
    crop = (made.towers.igbp == "CRO").to_numpy()
    error[:, crop] += made.n[crop, None]
    moved = Sums(**{**made.__dict__, "error": error})
    table = benchmark.class_bias(moved, "m", "igbp", 200)
    row = table[(table["class"] == "CRO") & (table.flux == "GPP")].iloc[0]
    assert row.bias == pytest.approx(1, abs=0.02)
    assert row.off
    assert not table[(table["class"] == "ENF") & (table.flux == "GPP")].iloc[0].off


def test_every_model_of_the_benchmark_is_in_one_group() -> None:
    """No rival is lost between the headings of the figure; missing ones are told."""
    names = EXPERIMENTS["benchmark"].names
    grouped = [name for group in benchmark.groups(names).values() for name in group]
    assert sorted([*grouped, OURS]) == sorted(names)
    found = tables.read("nowhere", names)
    assert "LightGBM" in effects.missing_in_words(found)


def test_the_ablations_default_is_spelt_as_its_tables_were_made() -> None:
    """Its recipe is the study's own; the kept table names its windows."""
    settings = read_csv(kept("ablation") / "TAM-RL.csv")[0]["settings"]
    assert f"length={Recipe().length}," in settings
    assert effects.default_made_of().endswith(f"windows of {Recipe().length} days")


def test_one_verdict_is_counted_in_the_singular() -> None:
    judged = pd.DataFrame({"verdict": [HELPS, HELPS, HARMS, ABSENT]})
    said = effects.count_in_words(judged)
    assert said.endswith("never seen, 2 help, 1 does harm, 1 is not computed")
