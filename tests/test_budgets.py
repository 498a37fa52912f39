"""Budgets: analytic totals, parts that make the whole, intervals, countries, comparisons."""

import re
from itertools import product

import geopandas
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mapworld import Ensemble, world
from settings import DEFINED
from shapely import box

from tamrl.data.cube import cell_area
from tamrl.data.grid import fetch_grid
from tamrl.data.gridfiles import EARTH_RADIUS, MONTH_DAYS, block_mean, centres
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps import budgets
from tamrl.maps.regions import BLOCKS, UNASSIGNED, partition
from tamrl.maps.uncertainty import Uncertainty, jackknife
from tamrl.maps.upscale import upscale

pytestmark = DEFINED

PARTITIONS = ("band", "biome", "koppen", "koppen_main", "country", "reccap")


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return world()


@pytest.fixture(scope="module")
def fluxes(cube, tmp_path_factory) -> xr.Dataset:
    return upscale(Ensemble(), cube, tmp_path_factory.mktemp("map") / "m.zarr").load()


def uniform(
    step: float = 1.0, rate: float = 1.0, members: tuple[float, ...] = (0.9, 1.1)
) -> xr.Dataset:
    """Map with the same flux everywhere, all land, g C m-2 d-1."""
    lat, lon = centres(step)
    shape = (len(lat), len(lon))
    time = np.arange("2002-01", "2003-01", dtype="datetime64[M]").astype("datetime64[ns]")
    data = {f: (("time", "lat", "lon"), np.full((12, *shape), rate, np.float32)) for f in FLUXES}
    each = np.array(members, dtype=np.float32)[:, None, None] * np.full(shape, rate, np.float32)
    data |= {f"{f}_member": (("member", "lat", "lon"), each) for f in FLUXES}
    data["land_fraction"] = (("lat", "lon"), np.ones(shape, np.float32))
    data["outside"] = (("lat", "lon"), np.zeros(shape, np.float32))
    return xr.Dataset(data, coords={"time": time, "lat": lat, "lon": lon})


def test_a_uniform_flux_adds_up_to_the_sphere():
    """1 gC m-2 d-1 everywhere is the Earth's area times the days of a year."""
    table = budgets.totals(uniform())
    exact = 4 * np.pi * EARTH_RADIUS**2 * 365.2425 / 1e15
    assert table["total"].to_numpy() == pytest.approx(exact, rel=1e-6)
    assert table["mean"].to_numpy() == pytest.approx(365.2425, rel=1e-6)
    # The bands between 30 N and 30 S are half of the sphere.
    bands = budgets.totals(uniform(), "band").query("flux == 'GPP'").set_index("region")
    assert bands.loc[["30S to 0", "0 to 30N"], "total"].sum() == pytest.approx(exact / 2, rel=1e-6)
    assert bands.loc["60N to 90N", "area"] == pytest.approx(34.1677, abs=0.01)
    assert bands.loc["90S to 60S", "area"] == pytest.approx(34.1677, abs=0.01)
    # Cells from 50 to 70 degrees count on both sides of 60, and those of 7.2 degrees do so at 30.
    cap = 2 * np.pi * EARTH_RADIUS**2 / 1e12
    for step in (20.0, 7.2):
        coarse = budgets.totals(uniform(step), "band").query("flux == 'GPP'").set_index("region")
        names, sines = ("0 to 30N", "30N to 60N", "60N to 90N"), np.sin(np.deg2rad([0, 30, 60, 90]))
        pairs = zip(names, sines[:-1], sines[1:], strict=True)
        for name, south, north in pairs:
            assert coarse.area[name] == pytest.approx(cap * (north - south))


def test_months_count_by_their_days_and_days_by_one():
    """A flux in July alone counts 31 days, in February 28.2425; absent months add nothing."""
    ds = uniform()
    for month, days in ((6, 31), (1, 28.2425)):
        year = budgets.annual(ds.where(ds["time.month"] == month + 1))["GPP"]
        assert float(year[90, 180]) == pytest.approx(days, rel=1e-6)
    ds["GPP"][:, 5, 5] = np.nan
    assert np.isnan(budgets.annual(ds)["GPP"][5, 5])
    daily = ds.resample(time="D").ffill()  # to 1 December
    for few in (daily.isel(time=slice(59)), daily.isel(time=slice(12)), ds.isel(time=[5, 6, 7])):
        with pytest.raises(DataError, match=r"annual sums: the map is of .*; map a whole year"):
            budgets.annual(few.assign_coords(time=few["time"].drop_attrs()).drop_encoding())
    assert float(budgets.annual(daily)["GPP"][90, 180]) == pytest.approx(365.2425, rel=1e-6)
    assert MONTH_DAYS.sum() == pytest.approx(365.2425)


@pytest.mark.parametrize("by", PARTITIONS)
def test_parts_make_the_whole(fluxes, cube, by):
    """Every partition adds up to the globe, as do its areas; each cell is shared out once."""
    whole = budgets.totals(fluxes).set_index("flux")[["total", "area"]]
    table = budgets.totals(fluxes, by, cube)
    sums = table.groupby("flux")[["total", "area"]].sum().loc[whole.index]
    np.testing.assert_allclose(sums, whole, rtol=1e-9)
    total = table.pivot_table("total", "region", "flux", sort=False)  # regions are unique
    gap = total["NEE"] - (total["RECO"] - total["GPP"])
    assert gap.abs().max() < 1e-4 * total["GPP"].max()
    parts = partition(by, cube["lat"], cube["lon"], cube)
    share = np.bincount(parts.cell, parts.share, cube.sizes["lat"] * cube.sizes["lon"])
    np.testing.assert_allclose(share, 1.0, rtol=1e-12)
    assert len(set(parts.names)) == len(parts.names)
    if by == "biome":
        known = cube["igbp_fraction"].sum("igbp").to_numpy().ravel()
        rest = parts.sums(np.eye(len(known))[:200])[:, -1]  # of each of the first cells
        np.testing.assert_allclose(rest, 1 - known[:200], atol=1e-6)
    if by == "koppen":
        number = cube["koppen"].transpose("lat", "lon").to_numpy().ravel()[parts.cell]
        names = np.array(parts.names)[parts.region]
        assert (names == np.array([*KOPPEN_CODES, UNASSIGNED])[number.astype(int) - 1]).all()


def test_totals_are_those_of_the_monthly_map(fluxes):
    """Adding up the annual map by hand gives the same."""
    land = fluxes["land_fraction"] * cell_area(fluxes["lat"], fluxes["lon"])
    whole = budgets.totals(fluxes).set_index("flux")["total"]
    direct = (budgets.annual(fluxes) * land).sum().to_array().to_series() / 1e15
    np.testing.assert_allclose(direct[whole.index], whole, rtol=1e-5)
    by_latitude = budgets.zonal_totals(fluxes).sum() * 5
    np.testing.assert_allclose(by_latitude[whole.index], whole, rtol=1e-5)


def errors(factor: float = 1.0, length: float = 50.0) -> Uncertainty:
    """Two folds' maps that differ by 20 % everywhere; towers err by 1, by 0.5 as neighbours do."""
    lat, lon = centres(4.0)
    maps = np.ones((2, len(lat), len(lon)), np.float32) * np.array([0.9, 1.1])[:, None, None]
    axes = {"fold": [0, 1], "lat": lat, "lon": lon}
    folds = xr.Dataset({f: (tuple(axes), factor * maps) for f in FLUXES}, axes)
    local = pd.DataFrame({"sd": 1.0, "share": 0.25, "length_km": length}, index=[*FLUXES])
    return Uncertainty(folds, local)


def test_shared_errors_do_not_average_out_and_own_ones_do():
    """The globe's interval is the jackknife's; one country's also has what its places err."""
    whole = budgets.totals(uniform(), errors=errors(), level=0.9).iloc[0]
    half = (whole["upper"] - whole["lower"]) / 2 / whole["total"]
    shared = np.sqrt(0.5 * (0.1**2 + 0.1**2))  # two groups: (k - 1) / k times the squares
    own = 0.5 * np.sqrt(2 * np.pi * 50e3**2 / (4 * np.pi * EARTH_RADIUS**2))
    assert half == pytest.approx(1.6449 * np.hypot(shared, own), rel=1e-3)
    apart = budgets.totals(uniform(), "band", errors=errors(0.0)).query("flux == 'GPP'")
    width = (apart["upper"] - apart["lower"]) / apart["total"] * np.sqrt(apart["area"])
    assert width.to_numpy() == pytest.approx(width.iloc[0])  # falls with the root of the area
    small = errors(0.0).own("GPP", np.full(6, 1e6))  # smaller than what errs alike
    assert small == pytest.approx(0.5)
    assert np.isnan(budgets.totals(uniform())["lower"]).all()


def test_a_jackknife_over_means_is_the_standard_error_of_the_mean():
    x = np.random.default_rng(0).normal(size=12)
    without = (x.sum() - x) / 11
    assert jackknife(without) == pytest.approx(x.std(ddof=1) / np.sqrt(12))


def test_a_region_without_a_mapped_cell_errs_as_one_cell_does():
    """Qatar lies between the centres of cells of four degrees."""
    maps = errors().folds.copy(deep=True)
    noise = np.random.default_rng(0).normal(0, 0.3, maps["GPP"].shape)
    maps["GPP"] += noise.astype(np.float32)
    many = Uncertainty(maps, errors().local)
    countries, globe = many.shared("country")["GPP"], many.shared("globe")["GPP"]
    assert np.isfinite(countries).all()
    assert countries.max() > globe[0]
    one = np.average(jackknife(maps["GPP"].to_numpy().reshape(2, -1)) ** 2,
                     weights=cell_area(maps["lat"], maps["lon"]).ravel()) ** 0.5  # fmt: skip
    names = partition("country", maps["lat"], maps["lon"]).names
    np.testing.assert_allclose(countries[names.index("Qatar")], one, rtol=1e-6)


def test_land_outside_the_area_of_applicability_can_be_left_out():
    """Half of each cell outside leaves half of each sum and area."""
    ds = uniform()
    ds["outside"] = xr.full_like(ds["land_fraction"], 0.5)
    whole, part = budgets.totals(ds), budgets.totals(ds, within=True)
    np.testing.assert_allclose(part[["total", "area"]], whole[["total", "area"]] / 2)
    quoted = budgets.values(budgets.totals(ds, errors=errors()), part)
    assert quoted["share_out"] == pytest.approx(50)
    assert quoted["inside_NEE"] == pytest.approx(quoted["total_NEE"] / 2)
    named = budgets.largest_sinks(pd.Series({"a": -3.0, "b": 1.0, "c": -0.5, "d": -2.0}), 2)
    assert named == {"nee_where": "a (\N{MINUS SIGN}3.0), d (\N{MINUS SIGN}2.0)"}
    three = budgets.largest_sinks(pd.Series({"a": -3.0, "b": -1.0, "c": -2.0, UNASSIGNED: -9.0}))
    assert re.findall(r"\w(?= \()", str(three["nee_where"])) == ["a", "c", "b"]
    ds["outside"][90:] = np.nan  # not judged: counts as within
    part = budgets.totals(ds, within=True)
    np.testing.assert_allclose(part[["total", "area"]], 0.75 * whole[["total", "area"]])


def test_what_is_not_predicted_is_no_part_of_a_mean():
    """The north alone is mapped: half of the land, and its mean is that of the north."""
    ds = uniform(rate=2.0)
    for flux in FLUXES:
        ds[flux][:, :90] = np.nan
    row = budgets.totals(ds).iloc[0]
    assert row["predicted"] == pytest.approx(0.5, rel=1e-6)
    assert row["mean"] == pytest.approx(2 * 365.2425, rel=1e-6)
    assert row["total"] == pytest.approx(row["mean"] * row["area"] * 1e12 / 2 / 1e15, rel=1e-6)


def test_countries_have_their_areas():
    """Areas by country on a half-degree grid of land are within a few per cent of the atlas."""
    lat, lon = centres(0.5)
    parts = partition("country", lat, lon)
    # On a grid that is all land, a cell on a coast goes wholly to its country: compare inland ones.
    area = parts.sums(cell_area(lat, lon).ravel()) / 1e12
    by_name = dict(zip(parts.names, area, strict=True))
    atlas = {"Mongolia": 1.564, "Bolivia": 1.099, "Chad": 1.284, "Kazakhstan": 2.725,
             "Zambia": 0.753, "Paraguay": 0.407}  # fmt: skip
    assert {name: by_name[name] for name in atlas} == pytest.approx(atlas, rel=0.05)
    assert by_name[UNASSIGNED] > 250  # the sea
    # And they are where they are: the middle of Zambia, whichever way longitudes are counted.
    for west in (lon, np.sort(lon % 360)):
        here = partition("country", lat, west)
        zambia = here.region == here.names.index("Zambia")
        row, column = np.divmod(here.cell[zambia], len(west))
        assert lat[row].mean() == pytest.approx(-13.5, abs=0.3)
        assert west[column].mean() == pytest.approx(27.8, abs=0.3)
    # Fiji and Russia reach across the dateline.
    cell = np.ravel_multi_index(((67 + 90) * 2, (-175 + 180) * 2), (360, 720))
    assert [parts.names[r] for r in parts.region[parts.cell == cell]] == ["Russia"]


@pytest.mark.parametrize(("by", "size"), BLOCKS.items())
def test_a_block_holds_the_cells_between_its_edges(by: str, size: int) -> None:
    """Whether longitudes are counted from Greenwich or from the dateline."""
    lat, lon = np.arange(-88.75, 90, 2.5), np.arange(1.25, 360, 2.5)
    parts = partition(by, lat, lon)
    edges = np.array([re.findall(r"[+-]\d+", name) for name in parts.names], dtype=float)
    south, west = edges[parts.region].T
    place = np.stack(np.meshgrid(lat, lon, indexing="ij")).reshape(2, -1)[:, parts.cell]
    assert ((south < place[0]) & (place[0] < south + size)).all()
    assert ((place[1] - west) % 360 < size).all()
    assert len(parts.cell) == len(lat) * len(lon)
    assert len(parts.names) == (180 // size) * (360 // size)  # of the whole Earth
    poles = partition(by, [-90.0, 0.0, 90.0], [0.0, 180.0])
    rows = [poles.names[k].split(",")[0] for k in poles.region]
    assert rows[:2] + rows[4:] == ["from -90"] * 2 + [f"from {90 - size:+d}"] * 2
    assert [poles.names[k].split(" ")[2] for k in poles.region[:2]] == ["+0", "-180"]


def test_small_cells_of_large_grids_count_their_neighbours():
    """A coarse cell on a border is shared by area, not given to whoever owns its centre."""
    lat, lon = centres(10.0)
    parts = partition("country", lat, lon)
    here = parts.cell == np.ravel_multi_index(((45 + 90) // 10, (15 + 180) // 10), (18, 36))
    assert here.sum() > 5
    assert parts.share[here].max() < 0.6
    assert {"Italy", "Austria", "Croatia"} <= {parts.names[r] for r in parts.region[here]}


def test_a_cell_is_shared_alike_at_the_edge_of_a_map():
    """At 90 degrees east, at the poles, and within a larger map."""
    lat = np.arange(-90.0, 91, 2)
    part, whole = (partition("country", lat, np.arange(82.0, east, 4)) for east in (91, 100))
    for row, column in product(range(len(lat)), range(3)):
        shares = [
            {p.names[r]: s for r, s in zip(p.region[on], p.share[on], strict=True)}
            for p, n in ((part, 3), (whole, 5))
            for on in [p.cell == row * n + column]
        ]
        assert shares[0] == shares[1]
        assert sum(shares[0].values()) == pytest.approx(1)
        assert row or shares[0] == {"Antarctica": 1}
    assert shares[0] == {UNASSIGNED: 1}  # the sea of the north


def test_reccap_regions_follow_countries():
    """Nine regions; French Guiana lies in South America, whatever its flag."""
    lat, lon = centres(1.0)
    parts = partition("reccap", lat, lon)
    assert set(parts.names) == {
        "North America", "South America", "Europe", "Africa", "Russia", "South Asia", "East Asia",
        "SouthEast Asia", "Australia", UNASSIGNED,
    }  # fmt: skip

    def region(north: float, east: float) -> set[str]:
        cell = np.ravel_multi_index((int(north + 90), int(east + 180)), (180, 360))
        return {parts.names[r] for r in parts.region[parts.cell == cell]}

    assert region(3.5, -53.5) == {"South America"}
    assert region(46.5, 2.5) == {"Europe"}
    assert region(61.5, 100.5) == {"Russia"}
    assert region(-25.5, 134.5) == {"Australia"}
    assert region(24.5, 45.5) == {UNASSIGNED}  # Arabia is in none


def test_a_border_shares_a_cell_by_area(monkeypatch):
    """A border at 48 N in cells from 30 to 60 N: the south has 66 % of them, not 60 %."""
    shapes = {"NAME": ["south", "north"], "ADM0_A3": ["S", "N"], "CONTINENT": ["Asia", "Asia"]}
    boxes = [box(-180, -90, 180, 48), box(-180, 48, 180, 90)]
    table = geopandas.GeoDataFrame(shapes, geometry=boxes, crs=4326)
    monkeypatch.setattr(geopandas, "read_file", lambda path: table)
    parts = partition("country", [15.0, 45.0, 75.0], [-150.0, -120.0])
    share = {
        (c, parts.names[r]): s
        for c, r, s in zip(parts.cell, parts.region, parts.share, strict=True)
    }
    south, border, north = np.sin(np.deg2rad([30, 48, 60]))
    assert share[2, "south"] == pytest.approx((border - south) / (north - south))
    assert share[2, "north"] == pytest.approx((north - border) / (north - south))
    assert share[0, "south"] == share[4, "north"] == 1


def test_what_the_choice_of_towers_does_counts_land_alone():
    """Folds that differ over half of each row: where that half is sea, a region's mean is sure."""
    maps = errors().folds.copy(deep=True)
    west = (maps["lon"] < 0).to_numpy()
    for flux in FLUXES:
        maps[flux][:, :, west] = 1.0
    many = Uncertainty(maps, errors().local)
    land = uniform(1.0)["land_fraction"]
    only = {"west": land.where(land["lon"] < 0, 0.0), "east": land.where(land["lon"] > 0, 0.25)}
    assert many.shared("globe", land=only["west"])["GPP"] == pytest.approx(0.0)
    half = np.sqrt(0.5 * 2 * 0.1**2)  # of the east; a quarter of the west is land, too
    assert many.shared("globe", land=only["east"])["GPP"] == pytest.approx(half / 1.25)
    assert many.shared("globe")["GPP"] == pytest.approx(half / 2)
    # A map of the east, counted from Greenwich, has its own interval, not the globe's.
    part = uniform(1.0).sel(lon=slice(0, 180))
    table = budgets.totals(part, errors=many).iloc[0]
    own = many.own("GPP", np.array([table.area * 1e12]))
    assert table.upper - table.total == pytest.approx(
        1.6449 * np.hypot(half, own[0]) * 365.2425 * table.area * 1e12 / 1e15, rel=1e-3
    )


def test_regions_of_a_regional_map(cube, tmp_path):
    """A map of a part of the Earth is shared out as the same part of the globe is."""
    box = {"lat": slice(0, 60), "lon": slice(-20, 60)}
    part = upscale(Ensemble(), cube.sel(box), tmp_path / "p.zarr")
    table = budgets.totals(part, "country", cube.sel(box))
    whole = budgets.totals(part).set_index("flux")["total"]
    np.testing.assert_allclose(table.groupby("flux")["total"].sum()[whole.index], whole, rtol=1e-9)
    assert "Brazil" not in set(table["region"])


def test_wrong_partitions_are_refused(fluxes, cube):
    """An unknown name, no cube, a cube on another grid: one clear error."""
    for by, other in (("planet", cube), ("biome", None), ("koppen", cube.isel(lat=slice(-1)))):
        with pytest.raises(DataError):
            budgets.totals(fluxes, by, other)


def test_comparison_names_its_sources(need):
    """Every published total has a DOI, a period and a caveat; the map's says what it lacks."""
    need("reference/")
    need("grid/")
    ds = uniform(0.5, rate=2.0)
    table = budgets.compare(ds)
    others = table[~table["mapped"]]
    assert others["doi"].str.startswith("10.").all()
    assert others["caveat"].str.len().gt(10).all()
    assert others["period"].str.len().gt(3).all()
    each = others.set_index(["flux", "source"])
    value, half = each["value"], (each["upper"] - each["lower"]) / 2
    assert half["NEE", "Global Carbon Budget 2019"] == pytest.approx(np.hypot(0.7, 0.8), abs=0.05)
    assert value["NEE", "FLUXCOM-X-BASE"] == -5.75
    assert value["NEE", "Global Carbon Budget 2019"] == pytest.approx(-1.66, abs=0.01)
    assert value["NEE", "RECCAP, stock change"] == -1.74
    assert value["NEE", "RECCAP, Rh - NPP"] == pytest.approx(36.388 - 47.448)
    assert value["GPP", "FLUXCOM map, our land"] == pytest.approx(103.7, abs=0.1)  # 0.5-degree land
    mapped = table[table["mapped"]]
    assert list(mapped["flux"]) == [flux for flux in FLUXES for _ in range(2)]
    assert mapped["source"].str.contains("area of applicability").sum() == 3
    assert "mean year" in mapped["caveat"].iloc[0]
    coarse = budgets.compare(ds.isel(lat=slice(2, None, 4), lon=slice(2, None, 4)))
    assert "FLUXCOM map, our land" not in set(coarse["source"])
    assert coarse[coarse["mapped"]]["caveat"].str.contains("FLUXCOM's map is not summed").all()
    assert "FLUXCOM" not in mapped["caveat"].iloc[0]
    degree = budgets.compare(uniform(1.0).sel(lat=slice(0, None))).set_index("source")
    north = degree.loc["FLUXCOM map, our land", "value"]
    assert 0.3 * 108.1 < north < 0.9 * 108.1  # of the land that is mapped
    virtual = budgets.compare(ds.assign_attrs(virtual=1))
    assert virtual[virtual["mapped"]]["source"].str.contains("virtual").all()


def test_reccap_beside_ours(need):
    """Nine regions, in PgC, with both of RECCAP's ways to NEE."""
    need("reference/")
    table = budgets.compare_reccap(uniform(1.0), errors())
    assert len(table) == 9
    assert table.loc["North America", "reccap_nee"] == -0.418
    assert table.loc["South America", "reccap_rh_npp"] == pytest.approx(10.625 - 12.774)
    assert table[["NEE", "lower", "upper"]].notna().all(axis=None)


def test_gpp_against_fluxcom(need):
    """FLUXCOM compared with itself is perfect; a known difference is found; 1 degree works too."""
    need("reference/")
    need("grid/")
    from tamrl.data import fetch_reference_gpp

    reference = fetch_reference_gpp()["GPP"]
    ds = uniform(0.5)
    ds["GPP"] = ds["GPP"] * reference
    same = budgets.fluxcom_gpp(ds)
    statistics, maps, _ = budgets.compare_gpp(ds, same)
    assert statistics["r"] == pytest.approx(1, abs=1e-6)
    assert statistics["RMSE"] < 1e-5
    assert statistics["total"] == pytest.approx(108.1, abs=0.1)
    assert float(abs(maps["difference"]).max()) < 1e-4
    east = ds["GPP"].where(ds["lon"] > 0)  # compared where both are known
    half, _, zonal = budgets.compare_gpp(ds.assign(GPP=east), same)
    np.testing.assert_allclose(zonal["this study"], zonal["FLUXCOM"], atol=1e-4)
    assert half["r"] == pytest.approx(1, abs=1e-6)
    assert half["cells"] < 0.8 * statistics["cells"]
    moved, _, zonal = budgets.compare_gpp(ds.assign(GPP=ds["GPP"] + 0.5), same)
    assert moved["bias"] == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_allclose(zonal.diff(axis=1)["FLUXCOM"].dropna(), -0.5, atol=1e-4)
    with pytest.raises(DataError, match="does not line up with FLUXCOM's cells"):
        budgets.fluxcom_gpp(ds.assign_coords(lat=ds["lat"] + 0.2))
    coarse = uniform(1.0)
    land = budgets.land_area(fetch_grid(0.5)).to_numpy()  # a small part of a coast counts little
    coarse["GPP"] = coarse["GPP"] * block_mean(reference.to_numpy().astype(float), land, 2)
    statistics, _, _ = budgets.compare_gpp(coarse, budgets.fluxcom_gpp(coarse))
    assert statistics["RMSE"] < 1e-5
    assert statistics["cells"] > 10000
