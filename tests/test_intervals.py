"""Ensemble intervals at towers: nested by fold, honest for sums, and proper scores."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm
from settings import DEFINED

from tamrl import plots
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate import intervals as module
from tamrl.evaluate.intervals import calibrate, cases, cross_intervals, crps_gaussian, reliability
from tamrl.evaluate.tables import read, stored

pytestmark = DEFINED

TOWERS, MEMBERS = 100, 4


@pytest.fixture(scope="module")
def hundred() -> tuple[SimpleNamespace, xr.Dataset, list[SimpleNamespace]]:
    """Make a hundred towers over two years: errors of members, of days, and of whole towers."""
    rng = np.random.default_rng(0)
    days = pd.date_range("2003-01-01", "2004-12-31")
    shape = (TOWERS, len(days), 3)
    season = 4 + 3 * np.sin(2 * np.pi * days.day_of_year.to_numpy() / 365.25)
    hat = season[:, None] + np.zeros(shape)
    igbp = np.where(np.arange(TOWERS) % 4 == 0, "CRO", "ENF")
    wild = np.where(igbp == "CRO", 1.0, 0.5)[:, None, None]
    y = hat + wild * (rng.normal(0, 1, (TOWERS, 1, 3)) + rng.normal(0, 1, shape))
    members = hat + 0.3 * rng.normal(size=(MEMBERS, *shape))
    score = rng.random(shape[:2]) < 0.9
    site = np.array([f"T{i:03d}" for i in range(TOWERS)])
    samples = SimpleNamespace(
        site=site, time=days.to_numpy("datetime64[D]"), y=y, scored=score,
        weight=np.maximum(score, rng.random(shape[:2]) < 0.5).astype(float),
        table=pd.DataFrame({"site": site, "igbp": igbp}),
    )  # fmt: skip
    coords = {"seed": range(MEMBERS), "site": site, "time": days}
    ds = xr.Dataset({f: (tuple(coords), members[..., k]) for k, f in enumerate(FLUXES)}, coords)
    folds = [SimpleNamespace(test=np.arange(k, TOWERS, 5)) for k in range(5)]
    return samples, ds, folds


def test_cases_by_day(hundred: tuple) -> None:
    samples, members, _ = hundred
    table = cases(members, samples)
    gpp = table.sel(flux="GPP")
    assert (np.isfinite(gpp.observed.values) == samples.scored).all()
    i, t = np.argwhere(samples.scored)[1234]
    assert gpp.observed.values[i, t] == pytest.approx(samples.y[i, t, 0])
    assert gpp.spread.values[i, t] == pytest.approx(members.GPP.values[:, i, t].std())
    assert table["mean"].units == "gC m-2 d-1"
    gap = members.copy(deep=True)
    gap.GPP[2, i, t] = np.nan  # a day that one member does not predict is no case
    assert np.isnan(cases(gap, samples).sel(flux="GPP").observed.values[i, t])


def test_cases_by_period_scale_to_the_whole_period(hundred: tuple) -> None:
    """Sums are of days with labels, scaled to all days; the spread is that of members' sums."""
    samples, members, _ = hundred
    table = cases(members, samples, "month").sel(flux="RECO")
    assert table.sizes == {"site": TOWERS, "time": 24}
    feb = samples.time.astype("datetime64[M]") == np.datetime64("2004-02")
    row = int(np.argmax((samples.weight[:, feb] > 0).sum(1) == 27))  # two days are missing
    at, on = {"site": row, "time": 13}, feb & (samples.weight[row] > 0)
    assert str(table.time.values[13])[:10] == "2004-02-01"
    assert float(table.observed[at]) == pytest.approx(samples.y[row, on, 1].mean() * 29)
    sums = members.RECO.values[:, row][:, on].mean(1) * 29
    assert float(table["mean"][at]) == pytest.approx(sums.mean())
    assert float(table.spread[at]) == pytest.approx(sums.std())
    assert table["mean"].units == "gC m-2"

    april = samples.time.astype("datetime64[M]") == np.datetime64("2004-04")
    most = SimpleNamespace(**vars(samples) | {"weight": np.ones_like(samples.weight)})
    most.weight[row, np.flatnonzero(april)[24:]] = 0  # 24 of 30 days are 80 %
    at_least = cases(members, most, "month").sel(flux="RECO").observed[row, 15]
    assert float(at_least) == pytest.approx(
        samples.y[row, np.flatnonzero(april)[:24], 1].mean() * 30
    )

    few = SimpleNamespace(**vars(samples) | {"weight": samples.weight.copy()})
    few.weight[row, np.flatnonzero(on)[23:]] = 0  # 23 of 29 days are less than 80 %
    assert np.isnan(cases(members, few, "month").sel(flux="RECO").observed[at])
    part = members.isel(time=slice(0, 200))  # 200 days are no year
    assert np.isnan(cases(part, samples, "year").observed).all()


def test_members_of_other_towers_are_refused(hundred: tuple) -> None:
    samples, members, _ = hundred
    with pytest.raises(DataError, match="not all in the samples"):
        cases(members.assign_coords(site=[f"X{i}" for i in range(TOWERS)]), samples)
    one = [*members.site.values[:-1], "X99"]
    later = members.time + np.timedelta64(1, "D")  # the last of which is in no sample
    for other in (members.assign_coords(site=one), members.assign_coords(time=later)):
        with pytest.raises(DataError, match="not all in the samples"):
            cases(other, samples)
    with pytest.raises(DataError, match="period 'week' is unknown"):
        cases(members, samples, "week")


def test_cross_intervals_cover_where_raw_spread_does_not(hundred: tuple) -> None:
    samples, members, folds = hundred
    table = cases(members, samples)
    bounds = cross_intervals(table, samples, folds)
    scores = reliability(table, bounds, samples.table.igbp).set_index(["flux", "stratum", "level"])
    for flux in FLUXES:
        for level in (0.5, 0.9):
            # half the variance is the towers': 100 of them tell the share to about 0.03
            assert scores.coverage[flux, "", level] == pytest.approx(level, abs=0.06)
            for igbp in ("CRO", "ENF"):
                assert scores.coverage[flux, igbp, level] == pytest.approx(level, abs=0.1)
        assert scores.width[flux, "CRO", 0.9] > 1.5 * scores.width[flux, "ENF", 0.9]
    inside = abs(table.observed - table["mean"]) <= 1.645 * table.spread
    assert inside.where(np.isfinite(table.observed)).mean() < 0.5


def test_sums_need_a_calibration_of_their_own(hundred: tuple) -> None:
    """Year sums as if days were independent miss the towers' bias; calibrated sums do not."""
    samples, members, folds = hundred
    year = cases(members, samples, "year")
    scores = reliability(year, cross_intervals(year, samples, folds, (0.9,)))
    assert scores.coverage.to_numpy() == pytest.approx(0.9, abs=0.08)
    day = cases(members, samples)
    daily = cross_intervals(day, samples, folds).sel(level=0.9)
    half = (daily.upper - daily.lower) / 2
    half = np.sqrt((half**2).groupby("time.year").mean() * 365).values
    inside = abs(year.observed - year["mean"].values) <= half
    assert float(inside.where(np.isfinite(year.observed)).mean()) < 0.5


def test_a_tower_does_not_calibrate_itself(hundred: tuple) -> None:
    """Spoiling the labels of a fold changes the bounds of all others, never its own."""
    samples, members, folds = hundred
    table = cases(members, samples, "month")
    spoiled = table.copy(deep=True)
    spoiled.observed[:, folds[2].test] += 100
    before, after = (cross_intervals(t, samples, folds) for t in (table, spoiled))
    same = (before.lower.fillna(0) == after.lower.fillna(0)).all(["flux", "level", "time"]).values
    assert same[folds[2].test].all()
    assert not same[folds[0].test].any()


def test_order_of_towers_does_not_matter(hundred: tuple) -> None:
    samples, members, folds = hundred
    table = cases(members, samples, "month")
    mixed = table.isel(site=np.random.default_rng(1).permutation(TOWERS))
    a, b = cross_intervals(table, samples, folds), cross_intervals(mixed, samples, folds)
    xr.testing.assert_allclose(a, b.sel(site=a.site))


def test_bounds_for_new_towers_and_untested_ones(hundred: tuple) -> None:
    samples, members, folds = hundred
    table = cases(members, samples, "year")
    fitted = calibrate(table, samples.table.igbp)
    new = table.isel(site=[0, 1])
    new["observed"] = new.observed * np.nan
    bounds = module.intervals(new, fitted, ["CRO", "WAT"])
    assert np.isfinite(bounds.lower).all()
    nested = [bounds.lower[1], bounds.lower[0], bounds.upper[0], bounds.upper[1]]
    assert (np.diff(nested, axis=0) > 0).all()
    part = cross_intervals(table, samples, folds[:4])
    assert np.isnan(part.lower.isel(site=folds[4].test)).all()
    assert np.isfinite(part.lower.isel(site=folds[0].test)).any()


@settings(deadline=None, max_examples=30)
@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 5))
def test_crps_of_a_normal_is_the_integral(y: float, m: float, s: float) -> None:
    below, _ = quad(lambda x: norm.cdf(x, m, s) ** 2, m - 60, y)
    above, _ = quad(lambda x: norm.sf(x, m, s) ** 2, y, m + 60)
    assert float(crps_gaussian(y, m, s)) == pytest.approx(below + above, rel=1e-5, abs=1e-6)


def test_crps_is_proper_and_without_spread_the_absolute_error() -> None:
    """The right spread scores best."""
    assert crps_gaussian([1.0, 5.0], [3.0, 5.0], [0.0, 0.0]).tolist() == [2, 0]
    y = np.random.default_rng(8).normal(0, 2, 40_000)
    mean = {s: crps_gaussian(y, 0 * y, s + 0 * y).mean() for s in (1.0, 1.6, 2.0, 2.5, 4.0)}
    assert min(mean, key=mean.__getitem__) == 2


def test_the_table_covers_what_it_promises(hundred: tuple) -> None:
    """90 % hold about 90 % of days, months and years; a sum over a year is wider than a day."""
    samples, members, folds = hundred
    table = module.interval_table(members.expand_dims(model=["m"]), samples, folds)
    assert table.index.is_unique
    most = table[(table.stratum == "") & (table.level == 0.9)]
    assert set(most.period) == {"day", "month", "year"}
    assert (most.coverage.between(0.8, 0.99) & most.crps.gt(0)).all()
    assert table.drop(most.index).crps.isna().all()  # it is stated once
    day = cases(members, samples)  # of a normal distribution whose 90 % are the interval
    lower, upper = cross_intervals(day, samples, folds, module.GRID).sel(level=0.9).to_array()
    sd = (upper - lower) / (2 * norm.ppf(0.95))
    crps = crps_gaussian(day.observed, (lower + upper) / 2, sd)[0]
    of_gpp = most[(most.period == "day") & (most.flux == "GPP")]
    assert of_gpp.crps.item() == pytest.approx(np.nanmean(crps), rel=1e-4)
    width = most.groupby("period").width.mean()
    # The offset of a tower stays in the mean of a year: it does not average out like noise.
    assert width["year"] > 365 * width["day"] / np.sqrt(365)
    days = table[(table.period == "day") & (table.stratum == "") & (table.flux == "GPP")]
    assert days.sort_values("level").width.is_monotonic_increasing
    assert plots.reliability(days).axes
    classes = table[(table.stratum != "") & (table.level == 0.9)]
    figure = plots.coverage_by_class(classes)
    labels = [text.get_text().split(" ")[0] for text in figure.axes[0].get_yticklabels()]
    assert set(labels) == set(classes.stratum)


def test_stored_intervals_are_those_of_all_models() -> None:
    """Fluxes side by side, models in their order; where there is none, tables are empty."""
    results = read(stored("benchmark"))
    table = module.sharpness(results.intervals)
    assert list(table.index) == results.models
    assert table["coverage"].to_numpy(float).min() > 0.8
    assert table["crps"].notna().all(axis=None)
    rows = results.intervals.query("period == 'day' and stratum == '' and level == 0.9")
    one = rows.query("model == @results.models[0] and flux == 'GPP'").iloc[0]
    assert table["width", "GPP"].iloc[0] == one.width
    classes = module.by_class(results.intervals, results.models[0])
    assert {"ENF", "GRA", "CRO"} <= set(classes.stratum)
    assert "" not in set(classes.stratum)
    assert len(classes) == len(classes.drop_duplicates(["period", "stratum", "flux"]))
    assert classes.coverage.min() > 0.7  # of 90 %
    none = results.intervals[:0]
    assert module.sharpness(none).empty
    assert plots.coverage_by_class(module.by_class(none, "m")).axes


def test_a_class_of_five_towers_is_judged() -> None:
    rows = {"model": "m", "period": "day", "flux": "GPP", "coverage": 0.9, "cases": 1}
    rows |= {"tower_coverage": 0.9, "width": 1.0, "crps": 1.0}
    table = pd.DataFrame(rows | {"towers": [4, 5, 6, 7, 8], "level": [0.9] * 4 + [0.5],
                                 "stratum": ["A", "B", "C", "", "D"]})  # fmt: skip
    assert module.by_class(table, "m").stratum.tolist() == ["B", "C"]
    assert module.overall(table, "m").level.tolist() == [0.9]
    assert module.by_class(table, "other").empty
    turned = module.overall(table[::-1], "m")
    assert turned.index.tolist() == [0]


def test_a_value_on_a_bound_is_inside() -> None:
    """Of five values two are on the bounds, one is above; a tower of one day counts as the other.

    Where nothing is known nothing is covered, and no share is missing.
    """
    axes, nan = ("flux", "site", "time"), np.nan
    values = np.array([[[1.0, 3.0, 2.0, 4.0], [2.0, nan, nan, nan], [nan] * 4]])
    table = xr.Dataset({"observed": (axes, values)}, {"flux": ["GPP"], "site": ["A", "B", "C"]})
    sides = {"lower": 1.0, "upper": 3.0}
    bounds = xr.Dataset({n: (("level", *axes), np.full((1, 1, 3, 4), v)) for n, v in sides.items()},
                        {"level": [0.9], "flux": ["GPP"]})  # fmt: skip
    names = ["towers", "cases", "coverage", "tower_coverage", "low", "high", "width"]
    rows = reliability(table, bounds, ["ENF", "CRO", "GRA"]).set_index("stratum")[names]
    assert rows.loc[""].tolist() == pytest.approx([2, 5, 0.8, 0.875, 0, 0.2, 2])
    assert rows.loc["CRO"].tolist() == pytest.approx([1, 1, 1, 1, 0, 0, 2])
    below = reliability(table - 2, bounds).iloc[0]
    assert (below["low"], below["high"]) == (0.6, 0)
    none = rows.loc["GRA"].tolist()
    assert none[:2] + none[4:6] == [0] * 4
    assert np.isnan([none[2], none[3], none[6]]).all()
