"""The map's rival: its training table, the trees and their ensembles."""

import numpy as np
import pytest
import xarray as xr
from mapworld import FEATURES, world
from trainingtable import training_table

from tamrl.errors import DataError
from tamrl.maps.cubes import stack_features
from tamrl.maps.monthly import BoostedMap, fit_members, out_of_fold
from tamrl.maps.training import monthly_training_table, table_samples
from tamrl.samples.arrays import Samples


def made_up_towers(ds: xr.Dataset) -> xr.Dataset:
    """Forty towers over two years in land cells of a cube."""
    rng = np.random.default_rng(3)
    row, col = rng.permutation(np.argwhere((ds["land_fraction"] > 0).to_numpy()))[:40].T
    days = np.arange("2001-01-01", "2003-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    data = {n: rng.normal(5, 1, (40, len(days))) for n in ("GPP", "RECO")}
    data |= {"NEE": data["RECO"] - data["GPP"], "NEE_QC": rng.uniform(0.3, 1, (40, len(days)))}
    place = {"lat": ("site", ds["lat"].to_numpy()[row]), "lon": ("site", ds["lon"].to_numpy()[col])}
    axes = {"site": [f"XX-{k:03d}" for k in range(40)], "time": days, **place}
    return xr.Dataset({n: (("site", "time"), v.astype("f4")) for n, v in data.items()}, axes)


def test_training_table_is_the_cube_at_the_towers() -> None:
    """Features are bit for bit those of the map's cell; months are means of good days."""
    cube = world()
    towers = made_up_towers(cube)
    towers["NEE"][0, :31] = np.nan  # one January of two
    towers["NEE_QC"][1, towers["time"].dt.month.to_numpy() == 7] = 0.4
    table = monthly_training_table(towers, cube, FEATURES)
    x = stack_features(cube, FEATURES, ("lat", "lon")).reshape(36, 72, 12, -1)
    for k in (0, 17, 39):
        row = int(np.argmin(np.abs(cube["lat"].to_numpy() - float(towers["lat"][k]))))
        col = int(np.argmin(np.abs(cube["lon"].to_numpy() - float(towers["lon"][k]))))
        assert table["x"][k].to_numpy().tobytes() == x[row, col].tobytes()
    good = (towers["NEE_QC"] >= 0.5) & (towers["time"].dt.month == 1)
    good &= np.isfinite(towers["NEE"])
    weight = towers["NEE_QC"].where(good, 0)
    january = (towers["GPP"] * weight).sum("time") / weight.sum("time")
    np.testing.assert_allclose(table["y"][:, 0, 0], january, rtol=1e-4)
    assert np.isnan(table["y"][1, 6]).all()
    assert float(table["weight"][1, 6]) == 0


@pytest.fixture(scope="module")
def table() -> xr.Dataset:
    """Sixty towers whose GPP is 10 x EVI."""
    return training_table(np.random.default_rng(1).uniform(0.1, 0.9, 60), noise=0.3)


@pytest.fixture(scope="module")
def seasons(table: xr.Dataset) -> Samples:
    return table_samples(table)


def test_boosting_learns_and_closes(table, seasons) -> None:
    """It beats the mean on unseen towers, and closes the balance."""
    learner = BoostedMap(rounds=80)
    held_out = out_of_fold(learner, seasons, np.arange(len(seasons.site)) % 3, members=3)
    gpp = held_out.sel(flux="GPP")
    error = ((gpp["mean"] - gpp["observed"]) ** 2).mean()
    assert float(error) < 0.1 * float(gpp["observed"].var())
    model, again = (fit_members(learner, seasons, members=2) for _ in range(2))
    assert model.digests == again.digests
    assert len(set(model.digests)) == 2  # bootstrap samples of towers differ
    gpp, reco, nee = np.moveaxis(model(table["x"].to_numpy()).flux, -1, 0)
    np.testing.assert_allclose(nee, reco - gpp, atol=1e-5)
    assert gpp.min() >= 0
    with pytest.raises(DataError, match="5 are needed"):
        learner.fit(seasons, np.arange(4))
