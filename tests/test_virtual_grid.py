"""The virtual globe: the layout of the real cube, and one world with the virtual towers."""

import numpy as np
import pytest
import xarray as xr

from tamrl.data.cube import VARIABLES
from tamrl.data.grid import grid_at
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_towers


@pytest.fixture(scope="module")
def globe() -> xr.Dataset:
    """Return the globe on four-degree cells, dims (month, lat, lon)."""
    return virtual_grid(step=2.0)


def test_it_has_the_layout_of_the_real_cube(globe: xr.Dataset) -> None:
    """All variables, twelve months, ascending axes, about the right share of land."""
    assert set(VARIABLES) <= set(globe)
    assert globe.sizes["month"] == 12
    assert (np.diff(globe.lat) > 0).all()
    assert (np.diff(globe.lon) > 0).all()
    land = float((globe.area * globe.land_fraction).sum()) / 1e12
    assert 125 < land < 142  # million km2, land without Antarctica: 135
    share = globe.igbp_fraction.sum("igbp").where(globe.land_fraction > 0)
    np.testing.assert_allclose(share.values[np.isfinite(share)], 1)
    assert globe.attrs["virtual"] == 1
    assert "irtual" in globe.attrs["title"]


def test_towers_and_their_cells_share_one_climate(globe: xr.Dataset) -> None:
    """Mean temperature and radiation at the towers agree with the cells' to a few units."""
    towers = virtual_towers(40, (2001, 2002), noise=False)
    at = grid_at(globe, towers.lat, towers.lon)
    for name, tolerance in (("TA", 4.0), ("SW_IN", 20.0)):
        difference = towers[name].mean("time").values - at[name].mean("month").values
        assert np.nanmedian(np.abs(difference)) < tolerance
