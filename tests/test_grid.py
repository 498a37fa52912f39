"""The predictor cube: every trap of its source files, its units, its areas, its sampling."""

import os
import pickle
import zipfile

import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis.extra.numpy import arrays

from tamrl.data import grid, gridfiles
from tamrl.data.cache import cache_dir, fetch
from tamrl.data.cube import VARIABLES, cell_area, cell_edges, make_cube
from tamrl.data.grid import fetch_grid, grid_at
from tamrl.data.gridfiles import LAND_CLASSES, MONTH_DAYS, block_mean, centres
from tamrl.data.koppen import KOPPEN_CODES, koppen_class
from tamrl.data.reference import carbon_budget_2019, fetch_reccap, fetch_reference_gpp
from tamrl.errors import DataError

SPHERE = 4 * np.pi * gridfiles.EARTH_RADIUS**2


@pytest.fixture(scope="module")
def cube(need) -> xr.Dataset:
    need("grid/")
    return fetch_grid(0.5)


def cell(cube: xr.Dataset, name: str, lat: float, lon: float) -> np.ndarray:
    return cube[name].sel(lat=lat, lon=lon, method="nearest").to_numpy()


def test_areas_are_those_of_the_sphere():
    """All cells make the sphere; a polar cap and a cell at the equator match the formula."""
    for step in (0.25, 0.5, 1.0):
        area = cell_area(*centres(step))
        assert area.sum() == pytest.approx(SPHERE, rel=1e-12)
    area = cell_area(*centres(0.5))
    cap = 2 * np.pi * gridfiles.EARTH_RADIUS**2 * (1 - np.sin(np.deg2rad(89.5)))
    assert area[-1].sum() == pytest.approx(cap, rel=1e-9)
    # A grid with points on the poles has half cells there, and still the Earth's area.
    lat, lon = np.linspace(-90, 90, 181), np.arange(360) - 180.0
    assert cell_area(lat, lon).sum() == pytest.approx(SPHERE, rel=1e-12)
    with pytest.raises(DataError, match="two cells"):
        cell_edges(np.array([1.0]))
    # The usual short cut, cos(lat) at the centre, is off by 4e-6 here and by more further north.
    side = np.deg2rad(0.5) * gridfiles.EARTH_RADIUS
    assert area[180, 0] == pytest.approx(side**2 * np.cos(np.deg2rad(0.25)), rel=1e-5)


def test_block_mean_weighs_and_skips():
    values = np.array([[1.0, 3.0, np.nan, np.nan], [np.nan, 5.0, np.nan, np.nan]])
    weight = np.array([[1.0], [3.0]])
    np.testing.assert_allclose(block_mean(values, weight, 2), [[(1 + 3 + 15) / 5, np.nan]])


@settings(deadline=None)
@given(*(arrays(np.float64, 12, elements=st.floats(*r)) for r in ((-45, 38), (0, 400))))
def test_koppen_is_one_class_in_both_hemispheres(ta, prcp):
    """Any climate has a class, and the same one half a year later."""
    half = np.isin(np.arange(12), range(3, 9))
    assume(abs(ta[half].mean() - ta[~half].mean()) > 1e-6)  # else no half-year is the summer
    number = koppen_class(ta, prcp)
    assert 1 <= number <= 30
    assert koppen_class(np.roll(ta, 6), np.roll(prcp, 6)) == number


@pytest.mark.parametrize(("code", "ta", "prcp"), [
    ("Af", [26] * 12, [200] * 12),
    ("Am", [26] * 12, [300] * 10 + [30, 30]),
    ("Aw", [26] * 12, [150] * 7 + [5] * 5),
    ("BWh", [25] * 12, [1] * 12),
    ("EF", [-30] * 12, [20] * 12),
    ("ET", [-10] * 6 + [5] * 6, [40] * 12),
    ("Dfd", [-45] * 3 + [-10, 5, 12, 15, 8, 2, -5] + [-40] * 2, [40] * 12),
])  # fmt: skip
def test_koppen_of_made_up_climates(code, ta, prcp):
    """Rules of Beck et al. 2018, table 2."""
    assert KOPPEN_CODES[koppen_class(ta, prcp) - 1] == code


def test_koppen_of_places(cube):
    """Cities that every atlas agrees on; Nuuk has tundra, Summit ice."""
    for code, lat, lon in (
        ("Af", 1.4, 103.8), ("BWh", 23, 10), ("Csa", 41.9, 12.5), ("Cfb", 51.5, -0.1),
        ("Csb", 37.8, -122.4), ("Dfb", 55.8, 37.6), ("Dfd", 67.5, 133.4), ("Dwc", 52, 113.5),
        ("ET", 64.2, -51.7), ("EF", 72.6, -38.5),
    ):  # fmt: skip
        assert KOPPEN_CODES[cell(cube, "koppen", lat, lon) - 1] == code, (lat, lon)
    assert cube["koppen"].attrs["flag_meanings"].split()[1] == "Af"


def test_cube_has_the_contract(cube):
    assert cube["lat"].to_numpy()[[0, -1]].tolist() == [-89.75, 89.75]
    assert cube["lon"].to_numpy()[[0, -1]].tolist() == [-179.75, 179.75]
    assert cube["month"].to_numpy().tolist() == list(range(1, 13))
    for name, variable in VARIABLES.items():
        assert cube[name].attrs["units"] == variable.units
        assert cube[name].dtype == (np.float64 if name == "area" else np.float32)
    for name in ("SW_IN", "SW_POT", "VPD", "koppen", "EVI_filled", "area"):
        assert cube[name].attrs["derived"]
    assert {"registry_sha256", "code_version", "licence"} <= set(cube.attrs)


def test_a_process_reads_it_once(need, monkeypatch):
    """What is shared cannot be written to, nor does a change of the code hide behind it."""
    need("grid/")
    shared = fetch_grid()
    assert fetch_grid() is shared
    with pytest.raises(ValueError, match=r"view|read-only"):
        shared["TA"][:] = 0
    monkeypatch.setattr(grid, "MADE_BY", grid.MADE_BY[:-1])
    monkeypatch.setattr(grid, "derived", lambda *_: xr.Dataset())
    assert fetch_grid() is not shared


def test_spot_values(cube):
    """Values that were looked up independently of this code."""
    assert (np.abs(cell(cube, "SW_IN", 51.1, 10.5)[[0, 6]] - [32, 213]) <= [3, 6]).all()
    evi = cell(cube, "EVI", 42.2, -93.7)
    assert (evi.argmax(), evi.max()) == (7, pytest.approx(0.64, abs=0.01))
    age = [cell(cube, "stand_age", lat, lon) for lat, lon in ((-3.2, -60.2), (61.85, 24.3))]
    assert age == pytest.approx([46, 68], abs=1)
    # Stored times ten, and by the south-western corner: half a cell off, the Alps would be warm.
    assert cell(cube, "TA", 52.5, 13.4)[[0, 6]] == pytest.approx([-0.8, 18.4], abs=0.05)
    assert cell(cube, "PRCP", -3.1, -60.02) @ MONTH_DAYS == pytest.approx(2329, rel=0.002)
    assert cell(cube, "elevation", 39.75, -105.0) == pytest.approx(1700, abs=150)
    assert -10 < cell(cube, "elevation", 52.3, 4.8) < 20


def test_land_area(cube):
    """Land and ice-free land by MCD12C1, in million km2; class areas add up to the land."""
    land = cube["area"] * cube["land_fraction"] / 1e12
    assert float(land.sum()) == pytest.approx(144.9, abs=0.1)
    ice = float((land * cube["igbp_fraction"].sel(igbp="SNO")).sum())
    assert float(land.sum()) - ice == pytest.approx(130.2, abs=0.1)
    by_class = (cube["igbp_fraction"] * land).sum(("lat", "lon"))
    assert float(by_class.sum()) == pytest.approx(float(land.sum()), rel=1e-6)
    assert float(by_class.sel(igbp="EBF")) == pytest.approx(12.4, abs=0.1)


def test_no_code_for_missing_is_left(cube):
    """No -9999, no sea that is dry and sunless, no polar night of the vegetation index."""
    for name in cube.data_vars:
        if cube[name].dtype == np.float32:
            assert float(cube[name].min()) > -1000, name
    for name in ("TA", "SUN", "PRCP", "EVI", "sand", "elevation"):
        assert cube[name].where(cube["land_fraction"] == 0).count() == 0, name
    # The sun does shine wherever sunshine is known, and Siberia's January is filled and flagged.
    assert float(cube["SUN"].max("month").min()) > 0
    assert np.isfinite(cell(cube, "EVI", 68.25, 100.25)).all()
    assert cell(cube, "EVI_filled", 68.25, 100.25)[[6, 11]].tolist() == [0, 1]


def test_derived_fields_hold_against_towers(cube, real_towers):
    at = grid_at(cube, real_towers["lat"], real_towers["lon"])
    assert np.isfinite(at["TA"]).all()
    assert list(at["site"]) == list(real_towers["site"])
    for name, r, rmse in (("VPD", 0.93, 2.2), ("SW_IN", 0.96, 22), ("TA", 0.97, 2.6)):
        tower = real_towers[name].groupby("time.month").mean()
        assert float(xr.corr(tower, at[name])) > r, name
        assert float(((tower - at[name]) ** 2).mean()) < rmse**2, name


def test_one_degree_keeps_the_totals(cube):
    """Averaging conserves land, class areas and rain over cells that are known throughout."""
    coarse = fetch_grid(1.0)
    fine, wide = (c["area"] * c["land_fraction"] for c in (cube, coarse))
    assert float(coarse["area"].sum()) == pytest.approx(float(cube["area"].sum()), rel=1e-6)
    assert float(wide.sum()) == pytest.approx(float(fine.sum()), rel=1e-6)
    # The Amazon: every half-degree cell known.
    amazon = {"lat": slice(-8, 0), "lon": slice(-70, -56)}
    for name, part in (("igbp_fraction", {"igbp": ["EBF", "CRO"]}), ("PRCP", amazon)):
        a = (cube[name] * fine).sel(part).sum(("lat", "lon"))
        b = (coarse[name] * wide).sel(part).sum(("lat", "lon"))
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_cube_is_cached_whole(cube, monkeypatch, tmp_path):
    """Another process reads one file; nothing unfinished lies beside it; a torn one is rebuilt."""
    assert list((cache_dir() / "derived").glob("grid-0.5deg-*.nc"))
    built = []
    monkeypatch.setattr("tamrl.data.grid._build", lambda: built.append(1) or cube)
    monkeypatch.setattr("tamrl.data.derived.cache_dir", lambda: tmp_path)
    for _ in range(2):
        monkeypatch.setattr(grid, "_latest", {})
        fetch_grid(0.5)
    assert len(built) == 1
    (file,) = (tmp_path / "derived").iterdir()
    file.write_bytes(file.read_bytes()[:10000])
    monkeypatch.setattr(grid, "_latest", {})
    with pytest.warns(UserWarning, match="computing anew"):
        again = fetch_grid(0.5)
    assert len(built) == 2
    xr.testing.assert_equal(again, cube)
    with pytest.raises(DataError, match=r"0\.5 and 1\.0"):
        fetch_grid(0.25)


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_pickles_hold_arrays_or_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good, bad, torn = (tmp_path / name for name in ("good", "bad", "torn"))
    good.write_bytes(pickle.dumps([np.arange(3.0)]))
    bad.write_bytes(pickle.dumps([np.arange(3.0), Evil()]))
    torn.write_bytes(good.read_bytes()[:40])
    np.testing.assert_equal(gridfiles.load_arrays(good)[0], [0, 1, 2])
    with pytest.raises(DataError, match=r"bad.*only numpy arrays"):
        gridfiles.load_arrays(bad)
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(DataError, match="torn"):
        gridfiles.load_arrays(torn)


def test_humidity_runs_round_the_globe(need):
    need("grid/gpt_1wA.pickle")
    (path,) = fetch(["grid/gpt_1wA.pickle"])
    rh = gridfiles.relative_humidity(path)
    assert rh.shape == (12, 360, 720)
    assert 0 <= rh.min() <= rh.max() <= 1
    assert np.abs(rh[..., 0] - rh[..., -1]).mean() < 3 * np.abs(np.diff(rh, axis=-1)).mean()
    assert rh[:, 226, 380].mean() < 0.4 < rh[:, 174, 240].mean()  # Sahara, Amazon


def test_wrong_shapes_are_named(tmp_path):
    path = tmp_path / "age.nc"
    coords = {"lat": np.arange(4.0), "lon": np.arange(8.0)}
    xr.Dataset({"age": (("lat", "lon"), np.ones((4, 8)))}, coords).to_netcdf(path)
    with pytest.raises(DataError, match=r"age\.nc.*another grid"):
        gridfiles.half_degree(path, "age")
    header = "NCOLS 720\nNROWS 360\nXLLCORNER -180\nYLLCORNER -90\nCELLSIZE 0.5\nNODATA_VALUE -3000"
    with zipfile.ZipFile(tmp_path / "evi.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("evi.txt", "\n".join([header, *["-3000 " * 720] * 360]))
    with pytest.raises(DataError, match="11 months"):
        gridfiles.vegetation_index([tmp_path / "evi.zip"] * 11)


def toy_cube(step: float = 2.0) -> xr.Dataset:
    """Make a cube whose temperature names its cell, with land east of 0 only."""
    lat, lon = centres(step)
    land = np.broadcast_to(lon > 0, (len(lat), len(lon)))
    half, months = np.where(land, 0.5, np.nan), np.ones((12, 1, 1))
    fields = dict.fromkeys(VARIABLES, half)
    for name in ("PRCP", "SUN", "SW_POT", "SW_IN", "VPD", "EVI", "EVI_filled"):
        fields[name] = half * months
    fields["TA"] = np.where(land, (lat[:, None] + lon[None] / 1000) / 10, np.nan) * months
    fields |= {"soil_cn": half * 20, "lma": half * 200, "land_fraction": land * 1.0}
    fields["igbp_fraction"] = half / 8 * np.ones((16, 1, 1))
    return make_cube(fields, np.where(land, 14, 0).astype(np.int8), step)


def test_places_take_their_own_cell_or_the_next():
    """Inland: the cell around; on the coast, or if a month lacks: the next; at sea: nothing."""
    cube = toy_cube()
    lat = np.array([50.9, 10.1, -30.0, 0.5, 71.0])
    lon = np.array([10.9, -0.5, -20.0, 359.5, 1.2])
    at = grid_at(cube, lat, lon)
    assert at["cell_lat"].to_numpy()[[0, 1, 3, 4]].tolist() == [51, 11, 1, 71]
    assert at["cell_lon"].to_numpy()[[0, 1, 3, 4]].tolist() == [11, 1, 1, 1]
    np.testing.assert_allclose(at["TA"].isel(site=0), (51 + 11 / 1000) / 10, rtol=1e-6)
    assert np.isnan(at["TA"].isel(site=2)).all()
    assert at["koppen"].to_numpy().tolist() == [14, 14, 0, 14, 14]
    assert at["TA"].dims == ("site", "month")
    assert at["igbp_fraction"].dims == ("site", "igbp")
    assert list(at["igbp"]) == list(LAND_CLASSES)
    holed = cube.copy(deep=True)
    holed["PRCP"].loc[{"month": 3, "lat": 51, "lon": 11}] = np.nan
    assert grid_at(holed, [50.9], [11.6])["cell_lon"].item() == 13
    none = grid_at(cube.assign(TA=cube["TA"] * np.nan), lat, lon)
    assert none["TA"].isnull().all()


def test_fluxcom_reference(need, cube):
    need("reference/")
    ds = fetch_reference_gpp()
    total = float((ds["GPP"] * cube["area"]).sum()) * MONTH_DAYS.sum() / 1e15
    assert total == pytest.approx(108.1, abs=0.1)
    near = ds["GPP"].sel(lat=[42.5, 61.85], lon=[-72.2, 24.3], method="nearest").to_numpy()
    assert np.diag(near) == pytest.approx([3.56, 2.42], abs=0.01)
    assert "not the truth" in ds.attrs["comment"]


def test_reccap_balances(need):
    """Nine regions make the globe; uptake is negative; a decimal comma is read."""
    need("reference/")
    ds = fetch_reccap()
    assert ds.sizes["region"] == 10
    for quantity in ("NEE", "NPP", "Fire emissions"):
        mean = ds["mean"].sel(quantity=quantity)
        assert float(mean[:-1].sum()) == pytest.approx(float(mean.sel(region="Globe")), abs=2)
    assert float(ds["mean"].sel(region="Globe", quantity="NPP")) == -47448
    assert float(ds["mean"].sel(region="Australia", quantity="Wood export")) == -0.3


def test_carbon_budget_facts():
    ds = carbon_budget_2019()
    assert ds["year"].to_numpy()[[0, -1]].tolist() == [1959, 2018]
    assert float(ds["land_use"].sel(year=2018)) == pytest.approx(1.509)
    assert float(ds["land_sink"].sel(year=2018)) == pytest.approx(3.469, abs=0.1)
