"""The area of applicability on cases that can be computed by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.cbook import boxplot_stats

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.applicability import dissimilarity_map
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import blocks
from tamrl.shipped.applicability import Space, attribute_space, outer_whisker, span
from tamrl.study import trust
from tamrl.study.comparisons.maps import AVERAGE


def space_of(*values: float) -> Space:
    """Span a space of one attribute, each point in a fold of its own."""
    points = np.array(values)[:, None]
    return span(points, np.array([2.0]), np.arange(len(values)), ("EVI_grid_mean",))


def at(samples: Samples, values: np.ndarray) -> Samples:
    """Give places these values of the attribute, and any of the others."""
    static = np.random.default_rng(0).normal(size=(len(values), len(samples.static_names)))
    static[:, samples.static_names.index("EVI_grid_mean")] = values
    return replace(samples, static=static.astype(np.float32))


def test_the_index_of_three_towers_by_hand(gridded: Samples) -> None:
    """Attribute 0, 1 and 3: mean distance of all pairs is 2, in any unit and at any weight."""
    space = space_of(0, 1, 3)
    got = space.dissimilarity(at(gridded, np.array([5.0, 1.6, -0.5])))
    np.testing.assert_allclose(got, np.array([2, 0.6, 0.5]) / 2, 1e-5)
    # Against the other folds: 0 is 1 from its nearest, 1 is 1 from 0, 3 is 2 from 1.
    np.testing.assert_allclose(space.training, np.array([1, 1, 2]) / 2, 1e-6)


def test_units_do_not_matter_and_useless_attributes_neither() -> None:
    """Scaling by the towers cancels a unit; an attribute of weight 0 or below may be anything."""
    rng = np.random.default_rng(0)
    here, there, fold = rng.normal(size=(12, 3)), rng.normal(size=(6, 3)), np.arange(12) % 3
    samples = replace(_made_up(6), static=there.astype(np.float32))
    weight, names = np.array([0.2, 0.1, -0.3]), ("a", "b", "c")
    want = span(here, weight, fold, names).dissimilarity(samples)
    unit = np.array([1, 1.8, 1e3]), np.array([0, 32, 5])
    moved = replace(samples, static=(there * unit[0] + unit[1]).astype(np.float32))
    got = span(here * unit[0] + unit[1], weight, fold, names).dissimilarity(moved)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    heavier = span(here, weight * [2, 1, 1], fold, names).dissimilarity(samples)
    assert np.abs(heavier / want - 1).max() > 0.05  # weights count


def test_a_missing_attribute_counts_as_the_mean_of_the_towers(gridded: Samples) -> None:
    """As in a network that was trained on scaled inputs."""
    found = space_of(0, 1, 2).dissimilarity(at(gridded, np.array([np.nan])))
    np.testing.assert_allclose(found, 0, atol=1e-7)  # the tower at 1 is the mean


def test_the_threshold_is_the_whisker_of_a_box_plot() -> None:
    """An independent implementation of the box plot agrees; an outlier does not move it."""
    values = np.random.default_rng(0).gamma(2, size=500)
    want = boxplot_stats(values)[0]["whishi"]
    assert outer_whisker(np.append(values, np.nan)) == pytest.approx(want)
    far = np.append(values, 1e6)
    assert outer_whisker(far) == pytest.approx(boxplot_stats(far)[0]["whishi"])
    assert outer_whisker(far) < 20


def test_the_attribute_that_makes_the_flux_weighs_most() -> None:
    """One of nine attributes drives annual GPP and RECO; the others are noise."""
    samples = _made_up(80)
    y = np.zeros_like(samples.y)
    y[..., :2] = 10 * samples.static[:, None, 4, None]
    y[..., 2] = y[..., 1] - y[..., 0]
    weight = attribute_space(replace(samples, y=y)).weight
    assert weight.argmax() == 4
    assert weight[4] > 0.7 * weight.sum()


def test_what_the_model_learned_nothing_from_is_refused() -> None:
    """No weight, or no other fold: one clear error instead of a map of noise."""
    values, fold = np.arange(6.0)[:, None], np.arange(6)
    with pytest.raises(DataError, match="learned nothing"):
        span(values, np.array([-1.0]), fold, ("a",))
    with pytest.raises(DataError, match="all towers are in one"):
        span(values, np.array([1.0]), fold * 0, ("a",))


def test_the_map_is_the_index_of_each_cell(globe: xr.Dataset) -> None:
    """Cells like a tower are inside, cells like none outside; sea and holes have no index."""
    evi = globe["EVI"].mean("month").to_numpy()
    low = float(np.nanquantile(evi, 0.6))
    space, holed = space_of(*np.linspace(0, low, 30)), globe.copy(deep=True)
    row, col = np.argwhere((globe["land_fraction"] > 0).to_numpy())[40]
    holed["TA"][3, row, col] = np.nan
    got = dissimilarity_map(space, holed)
    assert np.isnan(got["DI"][row, col])
    known = np.isfinite(got["DI"].to_numpy())
    assert (known == np.isfinite(got["outside"])).all()
    assert (known == np.isfinite(got["point"]).all("column")).all()
    assert not known[(globe["land_fraction"] == 0).to_numpy()].any()
    step = low / 29  # of the towers; threshold: at most one step between neighbours
    beyond = got["outside"].to_numpy()
    assert (beyond[known & (evi < low)] == 0).all()
    assert (beyond[known & (evi > low + 1.01 * step)] == 1).all()
    here = space.index(got["point"].to_numpy()[known])  # one attribute, the same in all classes
    np.testing.assert_allclose(got["DI"].to_numpy()[known], here, atol=1e-4)


def _made_up(n: int) -> Samples:
    """Make ``n`` towers with nine attributes of noise, 5 degrees apart, and a year of labels."""
    rng = np.random.default_rng(1)
    place = np.arange(n)
    where = {"lat": place % 20 * 5.0 - 50, "lon": place // 20 * 5.0}
    table = pd.DataFrame({"site": [f"X{k:03d}" for k in place], **where})
    days = np.arange("2001-01-01", "2002-01-01", dtype="datetime64[D]")
    known, none = np.ones((n, len(days)), bool), np.zeros((n, len(days), 0), np.float32)
    static = rng.normal(size=(n, 9)).astype(np.float32)
    return Samples(
        site=table["site"].to_numpy(), time=days, x=none, features=(), process=none,
        y=np.tile(static[:, None, :3], (1, len(days), 1)), weight=known.astype(np.float32),
        scored=known, has_drivers=known, static=static, static_names=tuple("abcdefghi"),
        table=table.assign(igbp="GRA", koppen_main="Cold"),
    )  # fmt: skip


def _errors(samples: Samples, space: Space, size: np.ndarray) -> pd.DataFrame:
    """Errors of held-out towers of this size (site,), a year of months each."""
    n, rng = len(samples.site), np.random.default_rng(0)
    rows = pd.DataFrame({"site": np.repeat(samples.site, 12)})
    for flux in FLUXES:
        rows[f"{flux} observed"] = 3.0
        rows[f"{flux} {AVERAGE}"] = 3 + np.repeat(size, 12) * rng.choice([-1, 1], 12 * n)
    return trust.tower_errors(rows, samples, space)


def test_growth_of_error_is_distinguished_from_none() -> None:
    """Errors made to grow with the index correlate with it; errors of chance do not."""
    samples = _made_up(60)
    space = attribute_space(samples)
    found = trust.error_growth(_errors(samples, space, space.training), draws=200)
    noise = np.random.default_rng(0).uniform(1, 2, 60)
    chance = trust.error_growth(_errors(samples, space, noise), draws=200)
    assert (found["rho"] > 0.99).all()
    assert (found["lower"] > 0.95).all()
    assert ((chance["lower"] < 0) & (chance["upper"] > 0)).all()
    signs = pd.DataFrame({"flux": ["GPP", "RECO"], "lower": [0.1, -0.1], "upper": [0.2, 0.1]})
    assert trust.by_sign(signs, "grows", "falls", "neither") == "grows (GPP), neither (RECO)"


def test_quarters_hold_all_towers() -> None:
    """Four quarters share the towers; each RMSE is that of its own."""
    samples = _made_up(20)
    space = attribute_space(samples)
    towers = _errors(samples, space, np.full(20, 2.0))
    assert (towers["block"] == blocks(samples.table)).all()
    got = trust.error_by_dissimilarity(towers, space.threshold)
    assert got["towers"].iloc[:4].tolist() == [5, 5, 5, 5]
    assert (got["index"].iloc[:4].diff().dropna() > 0).all()
    np.testing.assert_allclose(got[[f"RMSE {f}" for f in FLUXES]].iloc[:4], 2, rtol=1e-5)
    assert got["towers"].iloc[4] == (space.training > space.threshold).sum()
