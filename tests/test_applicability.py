"""The area of applicability on cases that can be computed by hand."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.cbook import boxplot_stats
from trainingtable import training_table

from tamrl.errors import DataError
from tamrl.maps import applicability as aoa
from tamrl.maps.training import INPUTS, MAP_FEATURES, tower_blocks, tower_folds
from tamrl.shipped.applicability import outer_whisker
from tamrl.study import trust

EVI = MAP_FEATURES.index("EVI")


def only(**weights: float) -> pd.Series:
    """Give importance to some predictors and none to all others."""
    return pd.Series(0.0, INPUTS).add(pd.Series(weights), fill_value=0).reindex(list(INPUTS))


def steady(evi: list[float]) -> xr.Dataset:
    """Towers whose EVI is the same all year, so that a tower is one point."""
    table = training_table(np.array(evi))
    table["x"][..., EVI] = np.array(evi)[:, None]
    return table


def test_the_index_of_three_towers_by_hand() -> None:
    """EVI 0, 1 and 3: scaled by sd, mean of all pairs of tower-months, nearest tower."""
    table = steady([0.0, 1.0, 3.0])
    space = aoa.feature_space(table, only(EVI=2.0), np.array([0, 1, 2]))
    # Pairs of 36 tower-months: 144 for each pair of towers, 1, 2 and 3 apart, the rest 0 apart.
    mean = 144 * (1 + 2 + 3) / (36 * 35 / 2)
    x = table["x"].to_numpy().copy()
    np.testing.assert_allclose(space.dissimilarity(x), 0, atol=1e-7)
    x[..., EVI] = np.array([5.0, 1.6, -0.5])[:, None]
    got = space.dissimilarity(x)
    np.testing.assert_allclose(got, np.array([2, 0.6, 0.5])[:, None] / mean * np.ones(12), 1e-6)
    # Against the other folds: 0 is 1 from its nearest, 1 is 1 from 0, 3 is 2 from 1.
    np.testing.assert_allclose(space.training[:, 0], np.array([1, 1, 2]) / mean, 1e-6)


def test_units_do_not_matter_and_useless_predictors_neither() -> None:
    """Scaling by the towers cancels a unit; a predictor of weight 0 or below may be anything."""
    table = training_table(np.linspace(0.1, 0.8, 12))
    fold = np.arange(12) % 3
    weight = only(EVI=0.2, TA=0.1, VPD=-0.3)
    here = training_table(np.linspace(0.2, 1.5, 6), seed=9)["x"].to_numpy()
    want = aoa.feature_space(table, weight, fold).dissimilarity(here)
    other, moved = table.copy(deep=True), here.copy()
    for values in (other["x"].to_numpy(), moved):
        values[..., MAP_FEATURES.index("TA")] = values[..., 0] * 1.8 + 32
        values[..., MAP_FEATURES.index("VPD")] *= 1e3
    got = aoa.feature_space(other, weight, fold).dissimilarity(moved)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    heavier = aoa.feature_space(table, only(EVI=0.4, TA=0.1), fold).dissimilarity(here)
    assert np.abs(heavier / want - 1).max() > 0.05  # weights count


def test_a_missing_predictor_counts_as_the_mean_of_the_towers() -> None:
    """As in a network that was trained on scaled inputs."""
    table = steady([0.0, 1.0, 2.0])
    space = aoa.feature_space(table, only(EVI=1.0), np.arange(3))
    x = table["x"].to_numpy()[:1].copy()
    x[..., EVI] = np.nan
    np.testing.assert_allclose(space.dissimilarity(x), 0, atol=1e-7)  # the tower at 1 is the mean


def test_the_threshold_is_the_whisker_of_a_box_plot() -> None:
    """An independent implementation of the box plot agrees; an outlier does not move it."""
    values = np.random.default_rng(0).gamma(2, size=500)
    want = boxplot_stats(values)[0]["whishi"]
    assert outer_whisker(np.append(values, np.nan)) == pytest.approx(want)
    far = np.append(values, 1e6)
    assert outer_whisker(far) == pytest.approx(boxplot_stats(far)[0]["whishi"])
    assert outer_whisker(far) < 20


def test_neighbours_and_towers_of_one_cell_share_a_fold() -> None:
    """Within 50 km, or with the very same predictors, one would give the other away."""
    table = training_table(np.full(40, 0.5))
    table["lat"][1] = table["lat"][0] + 0.3  # 33 km
    table["cell_lat"][5], table["cell_lon"][5] = table["cell_lat"][9], table["cell_lon"][9]
    for seed in range(20):
        fold = tower_folds(table, folds=10, seed=seed)
        assert fold[0] == fold[1]
        assert fold[5] == fold[9]
        assert len(set(fold)) > 6
    assert not np.array_equal(fold, tower_folds(table, folds=10, seed=0))
    with pytest.raises(DataError, match=r"500 folds asked for; \d+ separate"):
        tower_folds(table, 500)


def test_importance_finds_the_predictor_that_makes_the_flux() -> None:
    """EVI drives GPP and NEE; forty others are noise."""
    table = training_table(np.random.default_rng(1).uniform(0.1, 0.9, 40))
    predictions, importance = aoa.held_out(table, tower_folds(table, 4), repeats=1, rounds=60)
    assert importance.idxmax() in ("EVI", "EVI_mean")
    rest = importance.drop([n for n in INPUTS if n.startswith("EVI")])
    assert importance.max() > 20 * rest.abs().max()
    miss = (predictions["mean"] - predictions["observed"]).sel(flux="GPP")
    assert float((miss**2).mean()) < 0.1 * float(predictions["observed"].sel(flux="GPP").var())


def test_what_the_model_learned_nothing_from_is_refused() -> None:
    """No weight, or no other fold: one clear error instead of a map of noise."""
    table = training_table(np.linspace(0, 1, 6))
    with pytest.raises(DataError, match="learned nothing"):
        aoa.feature_space(table, only(EVI=-1.0), np.arange(6))
    with pytest.raises(DataError, match="all towers are in one"):
        aoa.feature_space(table, only(EVI=1.0), np.zeros(6, int))


def test_the_map_is_the_index_of_each_cell(globe: xr.Dataset) -> None:
    """Cells like a tower are inside, cells like none outside; sea and holes have no index."""
    evi = globe["EVI"].to_numpy()
    low = float(np.nanquantile(evi, 0.6))
    table = steady(list(np.linspace(0, low, 30)))
    space, holed = aoa.feature_space(table, only(EVI=1.0), np.arange(30) % 5), globe.copy(deep=True)
    row, col = np.argwhere((globe["land_fraction"] > 0).to_numpy())[40]
    holed["TA"][3, row, col] = np.nan
    got = aoa.dissimilarity_map(space, holed)
    assert np.isnan(got["DI"][:, row, col]).all()
    known = np.isfinite(got["DI"].to_numpy())
    assert (known.any(axis=0) == np.isfinite(got["outside"])).all()
    assert not known[:, (globe["land_fraction"] == 0).to_numpy()].any()
    step = low / 29  # of the towers; threshold: at most one step between neighbours
    beyond = got["DI"].to_numpy() > space.threshold
    assert not beyond[known & (evi < low)].any()
    assert beyond[known & (evi > low + 1.01 * step)].all()
    assert float(got["outside"].max()) == pytest.approx(1)


def test_shares_outside_by_hand(globe: xr.Dataset) -> None:
    """North outside, south inside: the shares are those of the north, area by area."""
    shape = (12, globe.sizes["lat"], globe.sizes["lon"])
    land = (globe["land_fraction"] > 0).to_numpy()
    north = np.broadcast_to((globe["lat"] > 0).to_numpy()[:, None], shape[1:])
    values = np.where(land, 1.0 + north, np.nan) * np.ones(shape)
    axes = {"lat": globe["lat"], "lon": globe["lon"]}
    index = xr.Dataset({"DI": (("month", "lat", "lon"), values)}, axes, {"threshold": 1.5})
    rate = np.where(north, 1.0, 3.0) * np.ones(shape)
    fluxes = xr.Dataset(coords={"lat": globe["lat"], "lon": globe["lon"]})
    for flux in ("GPP", "RECO", "NEE"):
        fluxes[flux] = ("time", "lat", "lon"), -rate if flux == "NEE" else rate
        fluxes[f"{flux}_sd"] = ("time", "lat", "lon"), np.where(north, 0.5, 0.0) * np.ones(shape)
    fluxes["land_fraction"] = globe["land_fraction"]
    got = aoa.shares_outside(index, fluxes, globe)
    area = (globe["area"] * globe["land_fraction"]).to_numpy()
    share = area[north].sum() / area.sum()
    assert got["land"] == pytest.approx(share, rel=1e-6)
    assert got["GPP"] == got["NEE"] == pytest.approx(share / (share + 3 * (1 - share)), rel=1e-6)
    assert got["uncertainty of RECO"] == pytest.approx(1)
    bare = globe["igbp_fraction"].sel(igbp=["SNO", "BSV"]).sum("igbp").to_numpy()
    green = area * (1 - bare)
    assert got["vegetated land"] == pytest.approx(green[north].sum() / green.sum(), rel=1e-6)
    with pytest.raises(DataError, match="different grids"):
        aoa.shares_outside(index.isel(lat=slice(1, None)), fluxes, globe)


def test_growth_of_error_is_distinguished_from_none() -> None:
    """Errors made to grow with the index correlate with it; errors of chance do not."""
    table = training_table(np.random.default_rng(2).uniform(0.1, 0.9, 60))
    fold = tower_folds(table, 5)
    space = aoa.feature_space(table, only(EVI=0.1, TA=0.1), fold)
    observed = table["y"]
    rng = np.random.default_rng(0)
    index = np.nanmean(space.training, axis=1)

    def growth(size: np.ndarray) -> pd.DataFrame:
        miss = size[:, None, None] * rng.choice([-1, 1], observed.shape)
        predictions = xr.Dataset({"mean": observed + miss, "observed": observed})
        return trust.error_growth(predictions, space, tower_blocks(table), draws=200)

    found = growth(index).query("error == 'RMSE'")
    chance = growth(rng.uniform(1, 2, 60)).query("error == 'RMSE'")
    assert (found["rho"] > 0.99).all()
    assert (found["lower"] > 0.95).all()
    assert ((chance["lower"] < 0) & (chance["upper"] > 0)).all()
    signs = pd.DataFrame({"flux": ["GPP", "RECO"], "lower": [0.1, -0.1], "upper": [0.2, 0.1]})
    assert trust.by_sign(signs, "grows", "falls", "neither") == "GPP: grows; RECO: neither"


def test_quarters_hold_all_months() -> None:
    """Four quarters share the months; each RMSE is that of its own."""
    table = training_table(np.linspace(0.1, 0.9, 20))
    space = aoa.feature_space(table, only(EVI=0.1), np.arange(20) % 4)
    predictions = xr.Dataset({"mean": table["y"] + 2, "observed": table["y"]})
    got = trust.error_by_dissimilarity(predictions, space)
    assert got["months"].iloc[:4].sum() == 20 * 12
    assert (got["index"].iloc[:4].diff().dropna() > 0).all()
    np.testing.assert_allclose(got[["RMSE GPP", "RMSE RECO", "RMSE NEE"]].iloc[:4], 2, rtol=1e-5)
