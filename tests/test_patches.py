"""A neighbourhood is centred on its tower, closes round the globe and ends at the poles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from tamrl.model.network import Config, ConvLSTM
from tamrl.samples import neighbourhood


@pytest.fixture
def cube() -> xr.Dataset:
    lat, lon = np.arange(-89.0, 90, 2), np.arange(-179.0, 180, 2)
    rng = np.random.default_rng(0)
    shape = (12, len(lat), len(lon))
    field = rng.normal(size=shape).astype(np.float32)
    data = {
        n: (("month", "lat", "lon"), field * (i + 1)) for i, n in enumerate(neighbourhood.MONTHLY)
    }
    data |= {n: (("lat", "lon"), field[i]) for i, n in enumerate(neighbourhood.STATIC)}
    share = np.abs(field[: len(neighbourhood.CLASSES)])
    data["igbp_fraction"] = (("igbp", "lat", "lon"), share)
    coords = {
        "month": np.arange(1, 13),
        "lat": lat,
        "lon": lon,
        "igbp": list(neighbourhood.CLASSES),
    }
    return xr.Dataset(data, coords)


def at(lat: list[float], lon: list[float], cube: xr.Dataset) -> np.ndarray:
    from dataclasses import make_dataclass

    fake = make_dataclass("Fake", ["table", "maps"])(pd.DataFrame({"lat": lat, "lon": lon}), None)
    maps = neighbourhood.with_neighbourhoods(fake, cube).maps  # type: ignore[arg-type]
    assert maps is not None
    return maps


def test_centre_is_the_towers_cell(cube: xr.Dataset) -> None:
    maps = at([51.1, -30.2], [10.5, 140.4], cube)
    assert maps.shape == (2, 12, len(neighbourhood.CHANNELS), 9, 9)
    whole = neighbourhood.globe(cube)
    near = cube.sel(lat=51.1, lon=10.5, method="nearest")
    i, j = list(cube.lat.values).index(near.lat), list(cube.lon.values).index(near.lon)
    np.testing.assert_array_equal(maps[0, :, :, 4, 4], whole[:, :, i, j])
    np.testing.assert_array_equal(maps[0, :, :, 5, 3], whole[:, :, i + 1, j - 1])


def test_dateline_is_crossed_and_poles_are_the_end(cube: xr.Dataset) -> None:
    maps = at([0.0, 88.9], [179.9, 0.0], cube)
    whole = neighbourhood.globe(cube)
    i = int(np.abs(cube.lat.values - 0.0).argmin())
    np.testing.assert_array_equal(maps[0, :, :, 4, 5], whole[:, :, i, 0])
    assert np.isnan(maps[1, :, :, 5:]).all()
    assert np.isfinite(maps[1, :, :, :5]).all()


def test_globe_at_once_equals_place_by_place(cube: xr.Dataset) -> None:
    torch.manual_seed(0)
    net = ConvLSTM(Config(3, 3, latent=5, map_variables=len(neighbourhood.CHANNELS))).eval()
    whole = net(torch.from_numpy(neighbourhood.padded(neighbourhood.globe(cube)))[None])
    assert whole.shape[-2:] == (cube.sizes["lat"], cube.sizes["lon"])
    place = net(torch.from_numpy(at([11.0], [-179.0], cube)))[0, :, 0, 0]
    i = int(np.abs(cube.lat.values - 11.0).argmin())
    torch.testing.assert_close(place, whole[0, :, i, 0], rtol=1e-4, atol=1e-5)


def test_scaling_does_not_know_towers(cube: xr.Dataset) -> None:
    one, two = at([10.0], [20.0], cube), at([10.0, -40.0], [20.0, -60.0], cube)
    np.testing.assert_array_equal(one[0], two[0])
