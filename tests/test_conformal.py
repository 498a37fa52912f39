"""Conformal intervals: coverage where towers are exchangeable, and what breaks without towers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import DEFINED

from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal

pytestmark = DEFINED


def covered(c: Conformal, y: np.ndarray, m: object, s: object, level: float = 0.9) -> np.ndarray:
    low, high = c.interval(m, s, level=level)
    return (low <= y) & (y <= high)


def width(c: Conformal, mean: object = 0.0, spread: object = 0.0, stratum: str = "") -> float:
    low, high = c.interval(mean, spread, stratum)
    return float(np.mean(high - low))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from(["normal", "laplace", "exponential"]))
def test_exchangeable_cases_are_covered(seed: int, kind: str) -> None:
    """Single days of 400 towers, errors that grow with spread and flux; 4000 new towers."""
    rng = np.random.default_rng(seed)
    n, new = 400, 4000
    m, s = rng.uniform(-5, 5, n + new), rng.uniform(0.1, 2, n + new)
    y = m + (0.3 + s + 0.2 * np.abs(m)) * getattr(rng, kind)(size=n + new)
    c = Conformal.fit(y[:n], m[:n], s[:n], np.arange(n))
    for level in (0.5, 0.9):
        share = covered(c, y[n:], m[n:], s[n:], level).mean()
        # sd of the coverage that n calibration cases give, and of the test's own binomial
        sd = np.sqrt(level * (1 - level) * (1 / n + 1 / new))
        assert abs(share - level) < 5 * sd + 1 / n


def clustered(rng: np.random.Generator, towers: int) -> tuple[np.ndarray, np.ndarray]:
    """Residuals of towers with a bias each and records of very different length."""
    days = rng.integers(3, 60, towers)
    tower = np.repeat(np.arange(towers), days)
    return rng.normal(0, 2, towers)[tower] + rng.normal(0, 0.3, len(tower)), tower


@pytest.mark.parametrize("weight", ["tower", "day"])
def test_new_towers_are_covered_though_days_are_clustered(weight: str) -> None:
    """Few towers with a bias each: ranks over towers cover a new tower, ranks over days do not."""
    rng = np.random.default_rng(0)
    by_tower, by_day, n = [], [], []
    for _ in range(400):
        r, tower = clustered(rng, 19)
        c = Conformal.fit(r, 0 * r, 0 * r, tower, levels=(0.9,), weight=weight)
        new, _ = clustered(rng, 1)
        by_tower.append(covered(c, new, 0 * new, 0 * new).mean())
        low, high = np.quantile(r, [0.05, 0.95])
        by_day.append(((new >= low) & (new <= high)).mean())
        n.append(len(new))
    w = None if weight == "tower" else n
    enough = 0.9 - 2.5 * np.std(by_tower) / np.sqrt(len(by_tower))
    assert np.average(by_tower, weights=w) > enough > np.average(by_day, weights=w)


def test_weight_by_tower_does_not_follow_the_long_record() -> None:
    """One tower with 10,000 large errors: by day it sets the interval, by tower it is one of 40."""
    rng = np.random.default_rng(1)
    r = np.concatenate([rng.normal(0, 1, 40 * 50), rng.normal(0, 10, 10_000)])
    tower = np.concatenate([np.repeat(np.arange(40), 50), np.full(10_000, 40)])
    by_day, by_tower = (Conformal.fit(r, 0 * r, 0 * r, tower, weight=w) for w in ("day", "tower"))
    assert width(by_tower) < 0.3 * width(by_day)


def test_size_of_errors_is_learned_and_sharpens() -> None:
    rng = np.random.default_rng(2)
    n = 20_000
    m, s = rng.uniform(0, 10, n), rng.uniform(0, 2, n)
    size = 0.2 + 1.5 * s + 0.1 * m
    y = m + size * rng.normal(size=n)
    tower = np.arange(n) // 100
    c = Conformal.fit(y, m, s, tower)
    ratio = np.array(c.scale) / c.scale[1]
    assert ratio == pytest.approx([0.2 / 1.5, 1, 0.1 / 1.5], rel=0.15)
    flat = Conformal.fit(y, np.zeros(n) + m.mean(), np.zeros(n), tower)
    assert width(c, m, s) < 0.65 * width(flat, m.mean())
    assert covered(c, y, m, s)[s < 0.1].mean() == pytest.approx(0.9, abs=0.03)


def test_bias_and_skew_move_both_bounds() -> None:
    rng = np.random.default_rng(3)
    y = 2 + rng.exponential(size=30_000)
    zero = np.zeros_like(y)
    c = Conformal.fit(y, zero, zero + 1, np.arange(len(y)))
    low, high = c.interval(zero, zero + 1)
    assert low[0] > 2
    assert (y < low).mean() == pytest.approx(0.05, abs=0.005)
    assert (y > high).mean() == pytest.approx(0.05, abs=0.005)


def test_classes_are_served_and_small_ones_lean_on_all() -> None:
    rng = np.random.default_rng(4)
    towers = np.repeat(np.arange(100), 200)
    stratum = np.where(towers < 2, "SNO", np.where(towers < 50, "ENF", "CRO"))
    sd = np.where(stratum == "CRO", 3.0, 1.0)
    y = sd * rng.normal(size=len(towers))
    zero = np.zeros_like(y)
    c = Conformal.fit(y, zero, zero, towers, stratum)
    low, high = c.interval(zero, zero, stratum)
    inside = (y >= low) & (y <= high)
    for name in ("ENF", "CRO"):
        assert inside[stratum == name].mean() == pytest.approx(0.9, abs=0.05)
    every, enf, cro, sno, new = (width(c, stratum=s) for s in ("", "ENF", "CRO", "SNO", "WAT"))
    assert cro > 2 * enf
    assert enf < sno < every == new  # two towers do not get their own way


@pytest.mark.parametrize("towers", [40, 41])
def test_both_bounds_are_of_one_rule(towers: int) -> None:
    """Errors turned in sign give the same interval turned in sign; single cases decide."""
    r = np.random.default_rng(4).exponential(size=(towers, 3)) + np.arange(towers)[:, None] / 4
    of, zero = np.arange(towers).repeat(3), np.zeros(3 * towers)
    low, high = Conformal.fit(r.ravel(), zero, zero, of).interval(0.0, 0.0)
    turned = Conformal.fit(-r.ravel(), zero, zero, of).interval(0.0, 0.0)
    np.testing.assert_allclose(turned, (-high, -low))


def test_units_do_not_matter() -> None:
    rng = np.random.default_rng(5)
    m, s = rng.normal(size=500), rng.uniform(0.5, 1, 500)
    y, tower = m + s * rng.normal(size=500), np.arange(500) // 5
    a, b = Conformal.fit(y, m, s, tower), Conformal.fit(365 * y, 365 * m, 365 * s, tower)
    scaled = np.array(b.interval(365 * m, 365 * s)) / 365
    assert np.array(a.interval(m, s)) == pytest.approx(scaled, abs=1e-6)


def test_stored_as_json_and_back() -> None:
    y = np.random.default_rng(6).normal(size=600)
    c = Conformal.fit(y, 0 * y, 0 * y, np.arange(600) // 10, np.where(y > 0, "ENF", "GRA"))
    assert Conformal.from_dict(json.loads(json.dumps(c.to_dict()))) == c


def test_perfect_predictions_need_no_width_and_missing_ones_stay_missing() -> None:
    y, none = np.arange(100.0), np.zeros(100)
    c = Conformal.fit(y, y, none, np.arange(100))
    assert c.factor == {"": 1.0}
    known = Conformal((1.0, 0.0, 0.0), {"ENF": 3.0}, {0.9: (-1.0, 1.0)})
    assert known.interval([2.0, 2.0], [0.0, 0.0], ["ENF", "WAT"])[0].tolist() == [-1, 1]
    assert np.array(c.interval(y, none)) == pytest.approx(np.stack([y, y]))
    bounds = np.array(c.interval([1.0, np.nan], [0.0, 0.0]))
    assert (np.isnan(bounds) == [False, True]).all()


def test_what_cannot_be_calibrated() -> None:
    y, tower = np.arange(100.0), np.arange(100) % 18
    with pytest.raises(DataError, match="18 towers cannot support a 90% interval, 19 are needed"):
        Conformal.fit(y, y, y, tower)
    assert Conformal.fit(y, y, y, tower, levels=(0.5,))
    with pytest.raises(DataError, match="must be finite"):
        Conformal.fit([1, np.nan], [1, 1], [0, 0], [0, 1])
    for level in (0.0, 1.0):
        with pytest.raises(DataError, match="not all between 0 and 1"):
            Conformal.fit(y, y, y, tower, levels=(level, 0.5))
    with pytest.raises(DataError, match="weight 'row' is unknown"):
        Conformal.fit(y, y, y, tower, weight="row")
    with pytest.raises(DataError, match=r"level 0.8 was not calibrated; choose from 0\.5"):
        Conformal.fit(y, y, y, tower, levels=(0.5,)).interval(1, 1, level=0.8)


def test_an_error_that_vanishes_with_the_flux_keeps_one_percent_of_itself() -> None:
    """No size is ever 0, where a flux is: a hundredth of the mean error is left."""
    mean = np.linspace(0, 10, 400)
    y = mean * (1 + np.where(np.arange(400) % 2, 0.1, -0.1))
    c = Conformal.fit(y, mean, 0 * mean, np.arange(400) // 10)
    assert c.scale == pytest.approx((0.01 * np.abs(y - mean).mean(), 0, 0.1), rel=1e-3)


def test_classes_that_err_alike_have_the_same_factor() -> None:
    """Also where no line through the flux describes them; others lean on all by three towers."""
    mean = np.tile(np.linspace(1, 10, 40), 60)
    tower, sign = np.arange(60).repeat(40), np.where(np.arange(2400) % 2, 1, -1)
    y = mean + 0.05 * sign * mean**2
    alike = Conformal.fit(y, mean, 0 * mean, tower, np.where(tower % 2, "ENF", "GRA"))
    assert list(alike.factor.values()) == pytest.approx([1, 1])
    wild = np.where(tower % 2, 3, 1)
    c = Conformal.fit(mean + wild * (y - mean), mean, 0 * mean, tower,
                      np.where(tower % 2, "ENF", "GRA"))  # fmt: skip
    assert c.factor == pytest.approx({"ENF": (30 * 1.5 + 3) / 33, "GRA": (30 * 0.5 + 3) / 33})
