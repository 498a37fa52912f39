"""Plans follow from rates by arithmetic; daily drivers from a climatology hold its months."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tamrl.data.gridfiles import MONTH_DAYS
from tamrl.errors import DataError
from tamrl.study import throughput
from tamrl.study.throughput import Rate
from tamrl.virtual.grid import virtual_grid


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    """Return the virtual globe at 2.5 degrees."""
    return virtual_grid(2.5)


def test_a_plan_by_hand() -> None:
    """A thousand cells, a hundred days, five models, ten thousand place-days a second and core."""
    table = throughput.plan(Rate(10_000, 2, 1.0), 1000, 100, 5, drivers=10, grid=3000, cores=(1, 4))
    assert table.loc["1 cores", "hours"] == pytest.approx(500_000 / 10_000 / 3600)
    assert table.loc["4 cores", "hours"] == pytest.approx(table.loc["1 cores", "hours"] / 4)
    assert table["read (GB)"].iloc[0] == pytest.approx(3000 * 100 * 10 * 4 / 1e9)
    assert table["kept (GB)"].iloc[0] == pytest.approx(1000 * 100 * (12 * 4 + 1) / 1e9)
    assert table["kept as int16 (GB)"].iloc[0] == pytest.approx(1000 * 100 * (12 * 2 + 1) / 1e9)
    assert "not measured" in table.index[-1]
    slow = throughput.plan(Rate(5_000, 2, 1.0), 1000, 100, 5, cores=(1,))
    assert slow["core-hours"].iloc[0] == pytest.approx(2 * table["core-hours"].iloc[0])


def test_land_cells_of_a_finer_grid(cube: xr.Dataset) -> None:
    """Each cell of land becomes so many finer ones."""
    known = (cube["land_fraction"] > 0) & np.isfinite(cube["TA"]).all("month")
    assert throughput.land_cells(cube, 2.5) == int(known.sum())
    assert throughput.land_cells(cube, 0.25) == 100 * int(known.sum())


def test_days_drawn_from_months(cube: xr.Dataset) -> None:
    """The middle of a month has the month's value, the year closes, cells are copied, not made."""
    days = throughput.daily_drivers(cube, slice(40, 50), slice(-5, 10), step=0.5)
    assert [days.sizes[d] for d in ("time", "lat", "lon")] == [365, 20, 30]
    assert "no weather" in days.attrs["title"]
    assert days.attrs["virtual"] == 1
    at = {"lat": 46.25, "lon": 3.25}
    month = cube["TA"].sel(lat=46.25, lon=3.75).to_numpy()
    series = days["TA"].sel(at).to_numpy()
    middle = np.round(np.cumsum(MONTH_DAYS) - MONTH_DAYS / 2).astype(int)
    np.testing.assert_allclose(series[middle], month, atol=0.4)
    assert abs(series[0] - series[-1]) < np.abs(np.diff(series)).max() + 1e-3
    assert month.min() - 1e-4 <= series.min()
    assert series.max() <= month.max() + 1e-4
    assert float(days["elevation"].sel(at)) == 200
    assert "month" not in days.dims


def test_a_daily_region_is_mapped_and_timed(cube: xr.Dataset, tmp_path) -> None:
    """The timing network maps days of a region; a map that exists already is no measurement."""
    days = throughput.daily_drivers(cube, slice(40, 48), slice(-4, 4), step=1.0)
    rate = throughput.measure(throughput.untrained_daily(days), days, tmp_path / "m.zarr", cores=1)
    made = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)
    assert made.sizes["time"] == 365
    assert bool(np.isfinite(made["GPP"]).any())
    places = int((made["GPP"].count("time") > 0).sum())
    assert places < made.sizes["lat"] * made.sizes["lon"]
    assert rate.place_days == pytest.approx(places * 365 / rate.seconds)
    with pytest.raises(DataError, match="nothing is measured"):
        throughput.measure(throughput.untrained_daily(days), days, tmp_path / "m.zarr")
