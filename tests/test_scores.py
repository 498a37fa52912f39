"""Scores: the written rule, its edges, paired differences, and skill split by time scale."""

import time
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from settings import DEFINED
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from tamrl.cli import towers
from tamrl.errors import DataError
from tamrl.evaluate import scores
from tamrl.evaluate.scores import imbalance, scored_days, sum_up, violations
from tamrl.evaluate.timescales import WITHIN, by_scale, scales_of, split, sum_scales, years
from tamrl.samples.arrays import SCORE_QC

pytestmark = DEFINED

TOWERS, YEARS = 8, 4
FLUXES = ("GPP", "RECO", "NEE")


def make_samples() -> SimpleNamespace:
    """Eight towers, four years: a season, tower means, noise, gaps; the last has ten days."""
    rng = np.random.default_rng(0)
    days = pd.date_range("2001-01-01", f"{2000 + YEARS}-12-31")
    season = 3 * np.sin(2 * np.pi * days.day_of_year.to_numpy() / 365.25)
    level = np.linspace(2, 9, TOWERS)[:, None, None]
    y = level + season[:, None] + rng.normal(0, 1, (TOWERS, len(days), 3))
    y[..., 2] = y[..., 1] - y[..., 0]
    score = rng.random((TOWERS, len(days))) < 0.7
    score[-1] &= np.cumsum(score[-1]) <= 10
    igbp = ["ENF", "ENF", "ENF", "GRA", "GRA", "CRO", "CRO", "CRO"]
    site = np.array([f"T{i}" for i in range(TOWERS)])
    table = pd.DataFrame({"igbp": igbp, "koppen_main": ["Cold"] * 4 + ["Arid"] * 4, "site": site})
    time = days.to_numpy("datetime64[D]")
    return SimpleNamespace(
        targets=FLUXES, site=site, time=time, y=y.astype(np.float32), scored=score, table=table
    )


def predictions(samples: SimpleNamespace, **models: np.ndarray) -> xr.Dataset:
    """Put arrays (site, time, flux) of several models into a Dataset as cross_validate gives it."""
    values = np.stack(list(models.values())).astype(np.float32)
    coords = {"model": list(models), "site": samples.site, "time": samples.time}
    return xr.Dataset({f: (tuple(coords), values[..., k]) for k, f in enumerate(FLUXES)}, coords)


def summarise(pred: xr.Dataset, samples: SimpleNamespace, by: str | None = None) -> pd.DataFrame:
    return scores.summarise(sum_up(pred, samples), by)


def score_towers(pred: xr.Dataset, samples: SimpleNamespace) -> pd.DataFrame:
    return scores.score_towers(sum_up(pred, samples))


@pytest.fixture
def samples() -> SimpleNamespace:
    return make_samples()


@pytest.fixture
def noisy(samples: SimpleNamespace) -> np.ndarray:
    return samples.y + np.random.default_rng(1).normal(0.3, 1, samples.y.shape)


def test_scores_agree_with_sklearn(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    pred = predictions(samples, a=noisy, b=samples.y * 0.5, bad=samples.y + 30)
    towers = score_towers(pred, samples).set_index(["model", "flux", "site"])
    pooled = summarise(pred, samples).set_index(["model", "flux"])
    assert len(towers) == 3 * 3 * TOWERS
    for model, (k, flux) in product(("a", "b"), enumerate(FLUXES)):
        hat = pred[flux].sel(model=model).values
        for rows, got in (
            (slice(2, 3), towers.loc[(model, flux, "T2")]), (slice(8), pooled.loc[(model, flux)])
        ):  # fmt: skip
            o, p = (v[rows][samples.scored[rows]] for v in (samples.y[..., k], hat))
            rmse, mae = root_mean_squared_error(o, p), mean_absolute_error(o, p)
            expected = {"R2": r2_score(o, p), "RMSE": rmse, "MAE": mae, "bias": (p - o).mean()}
            assert got[list(expected)].to_dict() == pytest.approx(expected, abs=1e-5)
    assert pooled.days.unique() == samples.scored.sum()
    not_clipped = pooled.loc["bad", ["R2", "R2_25", "R2_50", "R2_75"]]
    assert (not_clipped < -1).all(axis=None)


def test_sums_hold_the_correlation_at_each_tower(samples: SimpleNamespace, noisy) -> None:
    """Whoever reads the stored tables can have r, and the ratio of the spreads, by tower."""
    sums = sum_up(predictions(samples, a=noisy), samples).isel(model=0)
    r = sums.joint / np.sqrt(sums.spread * sums.within)
    for i in range(TOWERS):
        days = samples.scored[i]
        for k in range(3):
            o, p = samples.y[i, days, k], noisy.astype(np.float32)[i, days, k]
            assert float(r[i, k]) == pytest.approx(np.corrcoef(o, p)[0, 1], rel=1e-4)


def test_short_towers_count_pooled_only(samples: SimpleNamespace) -> None:
    """Spoil only the tower of ten days: percentiles stay perfect, pooled scores do not."""
    hat = samples.y.copy()
    hat[-1] += 5
    table = summarise(predictions(samples, m=hat), samples)
    assert ((table.R2_25 > 0.9999) & (table.RMSE_75 < 1e-5) & (table.RMSE > 0.1)).all()
    assert ((table.towers == 8) & (table.long_towers == 7)).all()
    assert (score_towers(predictions(samples, m=hat), samples).site == "T7").sum() == 3


@pytest.mark.parametrize(("days", "long"), [(29, 7), (30, 8)])
def test_a_tower_of_thirty_days_has_scores_of_its_own(samples, noisy, days: int, long: int) -> None:
    """Among percentiles, in the mean over towers, in comparisons and in time scales."""
    samples.scored[-1] = np.arange(len(samples.time)) < days
    hat = noisy.copy()
    hat[-1] += 5
    pred = predictions(samples, m=hat, n=noisy)
    table, own = summarise(pred, samples), score_towers(pred, samples)
    table, gpp = table.set_index(["model", "flux"]), own[(own.model == "m") & (own.flux == "GPP")]
    each = gpp.RMSE[gpp.n >= 30]
    assert (table.long_towers == long).all()
    assert len(each) == long
    assert table.tower_RMSE["m", "GPP"] == pytest.approx(each.mean())
    assert table.RMSE_75["m", "GPP"] == pytest.approx(each.quantile(0.75))
    gain = scores.compare(sum_up(pred, samples), "m", "n").set_index("flux")
    assert gain.mean_RMSE["GPP"] == pytest.approx(each.mean())
    counts = by_scale(sum_scales(scored_days(pred, samples))).groupby("scale").n.first()
    assert counts["between towers"] == long
    assert counts["daily anomalies"] == gpp.n[gpp.n >= 30].sum()


def test_percentiles_are_over_long_towers(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    """And the main score is the mean of their RMSE; with errors that differ, these differ, too."""
    size = 1 + np.arange(TOWERS)[:, None, None] ** 2
    pred = predictions(samples, m=samples.y + size * (noisy - samples.y))
    table, own = summarise(pred, samples).set_index("flux"), score_towers(pred, samples)
    for flux, rows in own[own.n >= 30].groupby("flux"):
        for name in scores.SCORES:
            got = table.loc[flux, [f"{name}_{q}" for q in (25, 50, 75)]].to_list()
            assert got == pytest.approx(np.quantile(rows[name], [0.25, 0.5, 0.75]))
        assert table.tower_RMSE[flux] == pytest.approx(rows.RMSE.mean())


def test_order_does_not_matter(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    pred = predictions(samples, m=noisy)
    mixed = pred.isel(site=[5, 1, 0, 7, 6, 2, 3, 4]).transpose("time", "site", "model")
    pd.testing.assert_frame_equal(score_towers(pred, samples), score_towers(mixed, samples))
    part = pred.isel(site=[6, 2])
    assert set(score_towers(part, samples).site) == {"T2", "T6"}


def test_classes_are_scored_apart(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    pred = predictions(samples, m=noisy)
    table = summarise(pred, samples, by="igbp")
    assert list(table.igbp.unique()) == ["CRO", "ENF", "GRA"]
    gpp = table[table.flux == "GPP"].set_index("igbp")
    assert gpp.days.sum() == samples.scored.sum()
    alone = summarise(pred.isel(site=[3, 4]), samples)
    names = ["R2", "RMSE", "bias", "RMSE_50"]
    assert gpp.loc["GRA", names].to_dict() == pytest.approx(alone.loc[0, names].to_dict())


def test_all_models_on_the_same_days(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    """A few days missing in one model leave all; more than one in a hundred is an error."""
    few, many = noisy.copy(), noisy.copy()
    few[0, :5] = np.nan
    many[1, :400, 1] = np.nan
    table = summarise(predictions(samples, a=few, b=noisy), samples)
    assert (table.days == samples.scored.sum() - samples.scored[0, :5].sum()).all()
    assert table.RMSE[:3].to_numpy() == pytest.approx(table.RMSE[3:].to_numpy())
    with pytest.raises(DataError, match=r"model b misses \d+ of \d+ scored days.*first: T1"):
        summarise(predictions(samples, a=noisy, b=many), samples)
    samples.scored[:] = np.isin(np.arange(TOWERS), [0, 1])[:, None] & (
        np.arange(len(samples.time)) < 50
    )
    for lost in (1, 2):  # of a hundred
        gap = noisy.copy()
        gap[1, :lost] = np.nan
        if lost == 1:
            assert (summarise(predictions(samples, a=gap, b=noisy), samples).days == 99).all()
        else:
            with pytest.raises(DataError, match="model a misses 2 of 100 scored days"):
                summarise(predictions(samples, a=gap, b=noisy), samples)


def test_predictions_that_do_not_fit(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    pred = predictions(samples, m=noisy)
    with pytest.raises(DataError, match="site XX-Xxx is not in the samples"):
        summarise(pred.isel(site=[0]).assign_coords(site=["XX-Xxx"]), samples)
    with pytest.raises(DataError, match="site T9 is not in the samples"):
        summarise(pred.isel(site=[0, 1]).assign_coords(site=["T0", "T9"]), samples)
    with pytest.raises(DataError, match="no scored day"):
        summarise(pred * np.nan, samples)
    with pytest.raises(DataError, match="none of GPP"):
        summarise(pred.rename(GPP="x", RECO="y", NEE="z"), samples)
    with pytest.raises(DataError, match="'other' is not among"):
        scores.compare(sum_up(pred, samples), "m", "other")


@settings(deadline=None, max_examples=15)
@given(st.floats(-10, 10).filter(lambda c: abs(c) > 1e-3))
def test_a_constant_error_is_bias_rmse_and_mae(c: float) -> None:
    samples = make_samples()
    table = summarise(predictions(samples, m=samples.y + c), samples)
    for name, value in {"bias": c, "RMSE": abs(c), "MAE": abs(c)}.items():
        assert table[name].to_numpy() == pytest.approx(value, rel=1e-3, abs=1e-5)


def test_compare_equal_and_proportional_models(samples: SimpleNamespace, noisy: np.ndarray) -> None:
    better = samples.y + 0.9 * (noisy - samples.y)
    sums = sum_up(predictions(samples, a=better, b=noisy, c=noisy), samples)
    ends = ["change", "lower", "upper"]
    assert (scores.compare(sums, "b", "c")[[*ends, "better"]] == 0).all(axis=None)
    gain = scores.compare(sums, "a", "b")  # every tower gains alike: no uncertainty
    assert gain[ends].to_numpy() == pytest.approx(-10, abs=1e-3)
    assert (gain.better == 1).all()


def test_compare_draws_towers_not_days(samples: SimpleNamespace) -> None:
    """The interval equals the one from towers copied whole; a gain at one tower is uncertain."""
    rng = np.random.default_rng(2)
    b = samples.y + rng.normal(0, 1, samples.y.shape)
    a = samples.y + rng.normal(0, 1, samples.y.shape)
    a[0] = samples.y[0]
    sums = sum_up(predictions(samples, a=a, b=b), samples)
    got = scores.compare(sums, "a", "b", n_boot=40, seed=5)
    counts = np.random.default_rng(5).multinomial(8, np.full(8, 1 / 8), size=40)
    change = []
    for draw in counts:
        whole = np.repeat(range(8), draw)
        on = samples.scored[whole]
        rmse = [np.sqrt(((v - samples.y)[whole][on][:, 0] ** 2).mean()) for v in (a, b)]
        change.append(100 * (rmse[0] / rmse[1] - 1))
    ends = np.quantile(change, [0.05, 0.95])
    assert got.loc[0, ["lower", "upper"]].to_list() == pytest.approx(ends, abs=1e-2)
    assert got.upper[0] - got.lower[0] > 5
    pd.testing.assert_frame_equal(got, scores.compare(sums, "a", "b", n_boot=40, seed=5))
    start = time.process_time()
    scores.compare(sums, "a", "b", n_boot=2000)
    assert time.process_time() - start < 1


def test_gains_of_few_towers_are_told_from_gains_of_all(samples: SimpleNamespace) -> None:
    """Five towers gain tenfold, one hardly, one nothing, and the one of ten days loses."""
    error = np.random.default_rng(7).normal(0, 1, samples.y.shape)
    factor = np.array([0.1] * 5 + [0.9999, 1.0, 2.0])
    a, b = samples.y + factor[:, None, None] * error, samples.y + error
    gain = scores.compare(sum_up(predictions(samples, a=a, b=b), samples), "a", "b").iloc[0]

    def rmse(pred: np.ndarray, rows: slice) -> float:
        on = samples.scored[rows]
        return float(np.sqrt(((pred - samples.y)[rows][on][:, 0] ** 2).mean()))

    every, rest = slice(None), slice(5, None)
    each = np.array([[rmse(v, slice(i, i + 1)) for i in range(7)] for v in (a, b)])
    expected = {
        "RMSE": rmse(a, every), "rival_RMSE": rmse(b, every), "better": 6 / 8,
        "change": 100 * (rmse(a, every) / rmse(b, every) - 1),
        "without_top": 100 * (rmse(a, rest) / rmse(b, rest) - 1),
        "mean_RMSE": each[0].mean(), "mean_rival_RMSE": each[1].mean(),
        "mean_change": 100 * (each[0].mean() / each[1].mean() - 1),
    }  # fmt: skip
    assert gain[list(expected)].astype(float).to_dict() == pytest.approx(expected, rel=1e-4)
    assert gain.mean_lower < gain.mean_change < gain.mean_upper < 0


def test_timescales_tell_what_is_wrong(samples: SimpleNamespace) -> None:
    rng = np.random.default_rng(3)
    y = samples.y
    day = samples.time - samples.time.astype("datetime64[Y]")
    season = 3 * np.sin(2 * np.pi * day.astype(int) / 365.25)[None, :, None]
    biased = y + rng.normal(0, 2, (TOWERS, 1, 3))
    flat = np.broadcast_to(y.mean(1, keepdims=True), y.shape)
    seasonal = flat + season * (1, 1, 0)
    pred = predictions(samples, biased=biased, flat=flat, seasonal=seasonal)
    table = by_scale(sum_scales(scored_days(pred, samples)))
    r2 = table[table.flux == "GPP"].pivot_table(index="model", columns="scale", values="R2")
    assert r2.loc["biased", ["seasonal cycle", "daily anomalies", "between years"]].min() > 0.999
    assert r2.loc["biased", "between towers"] < 0.9
    assert r2.loc["flat", "between towers"] > 0.98
    assert abs(r2.loc["flat", "seasonal cycle"]) < 0.02
    assert r2.loc["seasonal", "seasonal cycle"] > 0.95
    assert abs(r2.loc["seasonal", "daily anomalies"]) < 0.02
    on = samples.scored[:-1]  # between towers: by their means, each as much as another
    means = [[v[i, on[i], 0].mean() for i in range(TOWERS - 1)] for v in (y, biased)]
    skill = 1 - np.mean(np.diff(means, axis=0) ** 2) / np.var(means[0])
    assert r2.loc["biased", "between towers"] == pytest.approx(skill, abs=1e-4)
    n = table.groupby("scale").n.first()  # the tower of ten days is left out
    assert (n["between towers"], n["between years"]) == (7, 7 * YEARS)


def test_split_adds_up_and_finds_years_despite_gaps() -> None:
    """Mean, season and anomaly add up; a year without its winter is not taken for a warm year."""
    days = pd.date_range("2001-01-01", "2006-12-31")
    offset = np.array([0.5, -0.5, 0.2, -0.2, 0.3, -0.3])[days.year - 2001]
    values = 10 * np.sin(2 * np.pi * days.day_of_year / 365.25 - 1.6).to_numpy() + offset
    keep = ~((days.year == 2003) & (days.day_of_year < 120))
    site, doy = np.zeros(keep.sum(), int), days.day_of_year.to_numpy()[keep] - 1
    parts = split(values[keep, None], site, doy, days.year.to_numpy()[keep])
    total = parts["between towers"][0] + parts["seasonal cycle"] + parts["daily anomalies"]
    assert total[:, 0] == pytest.approx(values[keep])
    expected = np.array([0.5, -0.5, 0.2, -0.2, 0.3, -0.3])
    assert parts["between years"][:, 0] == pytest.approx(expected, abs=0.1)
    assert parts["between years"].mean() == pytest.approx(0, abs=1e-9)


def test_the_season_is_smoothed_by_a_gaussian_round_the_year() -> None:
    """Of 10 days: one day that sticks out is seen 6 days away at New Year as in summer."""
    days = np.arange(366)
    for day in (3, 200):
        none = days * 0
        season = split((days == day)[:, None] * 1.0, none, days, none + 2004)["seasonal cycle"][
            :, 0
        ]
        season -= season[day - 183]
        near = season[[day, day - 6, day + 10, day + 20]] / season[day]
        assert near == pytest.approx(np.exp(-0.5 * np.array([0, 0.6, 1, 2]) ** 2), abs=1e-6)


def test_years_too_few_or_too_short_are_not_scored() -> None:
    days = pd.date_range("2001-01-01", "2002-12-31")
    zeros = np.zeros(len(days), int)
    args = (zeros, days.day_of_year.to_numpy() - 1, days.year.to_numpy())
    parts = split(np.random.default_rng(0).normal(size=(len(days), 2)), *args)
    assert parts["between years"].shape == (0, 2)
    none = np.zeros(1, int)
    one = split(np.array([[3.0]]), none, none, none + 2004)["between towers"]
    assert one.tolist() == [[3]]  # of a single day
    nothing = split(np.empty((0, 2)), none[:0], none[:0], none[:0])
    assert {part.shape for part in nothing.values()} == {(0, 2)}


def test_a_year_has_a_hundred_days_and_a_tower_three_such_years() -> None:
    """Each tower by itself, whatever the years of the next."""
    lengths = {0: (100, 100, 100), 2: (100, 100, 99), 3: (100, 99, 101, 100), 7: (365, 365)}
    site = np.repeat([*lengths], [sum(days) for days in lengths.values()])
    year = np.concatenate([2001 + np.repeat(np.arange(len(d)), d) for d in lengths.values()])
    at, full, owner = years(site, year)
    assert np.bincount(at).tolist() == [n for days in lengths.values() for n in days]
    assert full.tolist() == [True] * 3 + [False] * 3 + [True, False, True, True] + [False] * 2
    assert owner.tolist() == [0, 0, 0, 3, 3, 3]


def test_balance_violation_is_zero_only_at_closure(samples: SimpleNamespace) -> None:
    off = samples.y.copy()
    off[..., 2] += np.where(np.arange(len(samples.time)) % 2, 0.5, -0.5)
    off[0, 0] = np.nan
    table = violations(imbalance(predictions(samples, closed=samples.y, off=off)), "off")
    assert table.violation["closed"] < 1e-6
    assert table.violation["off"] == pytest.approx(0.5, abs=1e-5)
    assert table.days["off"] == table.days["closed"] - 1
    cut = table.loc["closed", ["cut", "lower", "upper"]].to_list()
    assert cut == pytest.approx([100] * 3, abs=1e-3)


def test_the_help_of_the_command_states_the_rule() -> None:
    """Days count by the same share of measured hours in words and in code."""
    assert f"at least {SCORE_QC:g} was measured" in " ".join((towers.score.__doc__ or "").split())


def test_what_does_not_vary_has_no_r2() -> None:
    """Not minus infinity: nothing was there to be explained. RMSE is as ever."""
    parts = {"n": 50.0, "square": 200.0, "observed": 3.0, "within": 0.0}
    sums = xr.Dataset({name: ("site", [value] * 2) for name, value in parts.items()})
    table = scores.score(sums, xr.ones_like(sums.n))
    assert np.isnan(table.R2)
    assert table.RMSE == 2


def test_a_tower_of_thirty_days_is_long_enough_to_be_compared_with_others() -> None:
    """At 30 scored days a tower's mean counts between towers, at 29 it does not."""
    axes, days = ("site", "flux"), np.array([[30.0], [29.0]])
    fields = {"n": (axes, days), "observed": (axes, days * 0), "within": (axes, days * 0)}
    coords = {"site": ["A", "B"], "flux": ["GPP"], "model": ["m"]}
    sums = xr.Dataset(fields | {"error": (("model", *axes), days[None])}, coords)
    count, none = np.ones((len(WITHIN), 2)), np.zeros((len(WITHIN), 2, 1))
    between = scales_of(sums, count, none, none[None]).sel(scale="between towers")
    assert between.n.to_numpy().ravel().tolist() == [1, 0]
