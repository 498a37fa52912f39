"""Adaptation as inference: what few labels say of a place, and what they do not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.samples.arrays import Samples
from tamrl.samples.missing import INPUTS, key, present, without
from tamrl.shipped import error_model
from tamrl.shipped.adaptation import (
    Adapted,
    adapt,
    corrected,
    day_of_year,
    evidence,
    labelled_days,
    narrowing,
    posterior,
)
from tamrl.shipped.calibration import learn_errors
from tamrl.shipped.error_model import ErrorModel, basis
from tamrl.study import adaptation
from tamrl.study.adaptation import one_factor

MODEL = ErrorModel().requires_grad_(False)
SITE = np.array([0])


def one(samples: Samples, gain: float = 1.0) -> tuple[Samples, np.ndarray]:
    """Give a tower whose GPP and RECO are ``gain`` times what was predicted, and the prediction."""
    tower = samples.select(np.array([int(samples.scored.sum(1).argmax())]))
    doy = day_of_year(tower.time)
    north = float(tower.table.lat.iloc[0]) >= 0
    season = 1.2 - np.cos(2 * np.pi * (doy / 365.25 - (0 if north else 0.5)))
    flux = np.stack([4 * season, 3 * season, -season], -1)[None].astype(np.float32)
    return replace(tower, y=gain * flux), flux


def learnt(tower: Samples, flux: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return posterior(MODEL, evidence(MODEL, tower, flux, days))


def first(labelled: np.ndarray, n: int) -> np.ndarray:
    return labelled & (labelled.cumsum(1) <= n)


def test_no_labels_change_nothing(samples: Samples) -> None:
    tower, flux = one(samples, 1.3)
    weights, covariance = learnt(tower, flux, np.zeros_like(tower.scored))
    assert not weights.any()
    assert np.allclose(covariance, MODEL.covariance())
    share = narrowing(MODEL, covariance, flux[0], 50.0, tower.time)
    assert np.allclose(share, 1)


def test_a_year_of_labels_finds_the_gain_of_a_place(samples: Samples) -> None:
    """Labels 30 % higher raise other days by nearly as much, few labels by less; it closes."""
    tower, flux = one(samples, 1.3)
    labelled = labelled_days(tower)
    gains = []
    for n in (10, 60, 365):
        weights, _ = learnt(tower, flux, first(labelled, n))
        after = corrected(flux, weights, tower, SITE)
        assert np.array_equal(after[..., 2], after[..., 1] - after[..., 0])
        gains.append(float(after[0, -365:, 0].mean() / flux[0, -365:, 0].mean()))
    assert 1 < gains[0] < gains[2]
    assert 1.15 < gains[2] < 1.35


def test_a_month_of_winter_does_not_ruin_summer(samples: Samples) -> None:
    """Winter fluxes that are doubled move summer by far less than their share."""
    tower, flux = one(samples)
    doy, labelled = day_of_year(tower.time), labelled_days(tower)
    north = float(tower.table.lat.iloc[0]) >= 0
    winter = np.isin((doy // 30) % 12, (0, 11) if north else (5, 6))
    tower = replace(tower, y=np.where(winter[:, None], 2 * tower.y, tower.y))
    weights, _ = learnt(tower, flux, first(labelled & winter, 30))
    change = corrected(flux, weights, tower, SITE) / flux - 1
    assert change[0, winter, 0].mean() > 0.1
    assert abs(change[0, ~winter, 0].mean()) < 0.5


@settings(max_examples=15, deadline=None)
@given(st.integers(5, 40), st.integers(1, 300))
def test_more_labels_narrow_bounds(samples: Samples, few: int, more: int) -> None:
    """Each further label makes no direction of the weights, and no day, less certain."""
    tower, flux = one(samples)
    labelled = labelled_days(tower)
    after = [learnt(tower, flux, first(labelled, n))[1] for n in (few, few + more)]
    assert np.linalg.eigvalsh(after[0] - after[1]).min() > -1e-8
    shares = [narrowing(MODEL, c, flux[0], 50.0, tower.time) for c in after]
    assert (shares[1] <= shares[0] + 1e-9).all()
    assert (shares[0] <= 1 + 1e-9).all()


def test_nee_alone_teaches_less_than_both_fluxes(samples: Samples) -> None:
    tower, flux = one(samples, 1.3)
    few = first(labelled_days(tower), 60)
    y = tower.y.copy()
    y[..., :2] = np.nan
    alone = replace(tower, y=y)
    (weights, covariance), (_, both) = learnt(alone, flux, few), learnt(tower, flux, few)
    assert np.linalg.eigvalsh(covariance - both).min() > -1e-8
    after = corrected(flux, weights, tower, SITE)
    errors = [np.abs(p - tower.y)[few][:, 2].mean() for p in (flux, after)]
    assert errors[1] < errors[0]


def test_towers_that_are_learnt_from_add_up(samples: Samples) -> None:
    """Labels of one tower given twice weigh twice; the order of towers has no effect."""
    tower, flux = one(samples, 1.3)
    few = first(labelled_days(tower), 60)
    single = evidence(MODEL, tower, flux, few)
    twice = tower.select(np.array([0, 0]))
    both = evidence(MODEL, twice, np.repeat(flux, 2, 0), np.repeat(few, 2, 0))
    assert np.allclose(both.precision, 2 * single.precision)
    assert np.allclose(both.product, 2 * single.product)


def test_seasons_of_the_south_are_half_a_year_later() -> None:
    flux = np.full((1, 2), 3.0)
    north, south = basis(flux, [10.0], 50.0), basis(flux, [10.0 + 365.25 / 2], -50.0)
    assert np.allclose(north, south)


def test_a_factor_moves_nothing_but_the_size(samples: Samples) -> None:
    tower, flux = one(samples, 1.3)
    model = one_factor()
    labelled = labelled_days(tower)
    weights, _ = posterior(model, evidence(model, tower, flux, labelled))
    after = corrected(flux, weights, tower, SITE)[..., :2] / flux[..., :2]
    assert np.allclose(after, after[0, 0], rtol=1e-3)
    assert after.mean() == pytest.approx(1.3, abs=0.05)


@pytest.mark.slow
def test_what_is_learnt_across_towers_helps_at_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Places that differ by a factor alone: the prior learnt at half of them finds it elsewhere."""
    monkeypatch.setattr(error_model, "STEPS", 40)
    rng = np.random.default_rng(0)
    time = np.arange("2001-01-01", "2005-01-01", dtype="M8[D]")
    doy, n = day_of_year(time), 24
    season = 1.2 - np.cos(2 * np.pi * doy / 365.25)
    flux = np.stack([4 * season, 3 * season, -season], -1)[None].repeat(n, 0)
    gain = np.exp(rng.normal(0, 0.3, (n, 1, 1)))
    y = gain * flux[..., :2] + rng.normal(0, 0.5, (n, len(time), 2))
    y = np.concatenate([y, y[..., 1:] - y[..., :1]], -1).astype(np.float32)
    site = np.array([f"XX-{i:03}" for i in range(n)])
    shape = (n, len(time))
    towers = Samples(
        site, time, np.zeros((*shape, 1)), ("TA",), np.zeros((n, 1)), ("abs_lat",), y,
        np.ones(shape), np.ones(shape, bool), np.ones(shape, bool), np.zeros((*shape, 2)),
        pd.DataFrame({"lat": np.full(n, 50.0)}),
    )  # fmt: skip
    dims = ("seed", "site", "time")
    fields = {f: (dims, flux[None, ..., k]) for k, f in enumerate(FLUXES)}
    predicted = xr.Dataset(fields, {"seed": [0], "site": site, "time": time.astype("M8[ns]")})
    model = learn_errors(towers, predicted, range(12))
    left = []
    for tower in range(12, n):
        part = towers.select(np.array([tower]))
        own = flux[[tower]].astype(np.float32)
        few = first(np.ones((1, len(time)), bool), 60)
        weights, _ = posterior(model, evidence(model, part, own, few))
        after = corrected(own, weights, part, SITE)
        errors = [np.square(p - y[[tower]])[:, 200:, :2].mean() for p in (own, after)]
        left.append(errors)
    before, after = np.sqrt(np.mean(left, 0))
    assert after < 0.65 * before


def test_inputs_are_taken_away_by_name(gridded: Samples) -> None:
    """What a combination lacks is missing at all towers, and nothing else is."""
    bare = without(gridded, INPUTS)
    assert not present(bare).any()
    assert present(gridded)[:, 2].all()
    own = [n for n in gridded.features if n.startswith(("TA", "VPD", "SW_", "DAYL"))]
    at = [gridded.features.index(name) for name in own if "_grid" not in name]
    assert np.array_equal(bare.x[..., at], gridded.x[..., at], equal_nan=True)
    left = np.isfinite(bare.x).any((0, 1)).sum()
    assert left == len(at)
    assert np.isfinite(present(without(gridded, ["EVI"]))[:, 0]).any()
    assert key([True, False, True]) == "satellites, grid"


def test_adapting_needs_a_model_of_errors_and_labels(samples: Samples) -> None:
    with pytest.raises(DataError, match="do not say how they err"):
        adapt([], {}, samples)
    header = {"error_model": MODEL.store()}
    with pytest.raises(DataError, match="adapted to US-Ha1 already"):
        adapt([], header | {"covariance": [], "adapted_to": "US-Ha1"}, samples)
    none = replace(samples, weight=np.zeros_like(samples.weight))
    with pytest.raises(DataError, match="0 labelled days to adapt to; at least 5"):
        adapt([], header, none)


def test_stored_numbers_are_the_model_again() -> None:
    again = ErrorModel.restore(MODEL.store())
    assert all((a == b).all() for a, b in zip(MODEL.parameters(), again.parameters(), strict=True))
    model = Adapted(None, np.arange(8.0), fitted=[None])
    about, arrays = model.store()
    assert np.array_equal(Adapted.restore(about, arrays, "cpu").weights, model.weights)


def test_the_page_says_what_falls_short_of_its_aim() -> None:
    """Aims met are not named, those missed are, with by how much; an oracle knows each level."""
    rows = [("A", 5.0), ("B", -5.0)]  # two towers that are off by half a unit on ten days
    before = pd.DataFrame(rows, columns=["site", "error"]).assign(
        n=10, square=4.0, before=4.0, inside=9, flux="GPP", days=90, fold="0", way=adaptation.NONE
    )
    after = before.assign(way=adaptation.ADAPTED, square=[3.0, 3.6])
    errors = pd.concat([before, after], ignore_index=True)
    left = adaptation.oracle(errors)
    assert left[90, "GPP"] == pytest.approx(100 * (1.5 / 4) ** 0.5 - 100)
    said = adaptation.values(adaptation.curve(errors, 10), errors)
    change = 100 * (6.6 / 8) ** 0.5 - 100
    assert said["short"] == f"at 90 days GPP by {change + 10:.1f}"
    assert (said["aim_90_GPP"], said["harmed"]) == ("\N{MINUS SIGN}10 %", "none")
    worse = pd.concat([before, after.assign(square=5.0)], ignore_index=True)
    said = adaptation.values(adaptation.curve(worse, 10), worse)
    assert said["harmed"] == "at 90 days GPP 100 %"


@pytest.mark.slow
def test_the_experiment_at_held_out_towers(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way starts from the same error; scored days are those that are not learnt; resumed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(error_model, "STEPS", 5)
    settings = {"every": 3, "n_folds": 2, "members": 1, "epochs": 1, "jobs": 1}
    table = adaptation.load("virtual", **settings)
    each = table.groupby(["site", "days", "flux"])
    assert set(table.way) == set(adaptation.WAYS)
    none = table[table.way == adaptation.NONE]
    np.testing.assert_allclose(none.square, none.before)
    assert (each.n.min() == each.n.max()).all()
    models = list(tmp_path.glob("runs/virtual/adapt/*/fold-*.json"))
    weights = list(tmp_path.glob("runs/virtual/folds/*.safetensors"))
    assert [len(models), len(weights)] == [2, 2]
    monkeypatch.setattr("tamrl.shipped.out_of_fold._train", lambda *_: pytest.fail("trained again"))
    pd.testing.assert_frame_equal(adaptation.load("virtual", **settings), table)
