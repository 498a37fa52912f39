"""The region explorer is one piece of HTML with the sums of the map, which asks nobody for more."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mapworld import Ensemble, world

from tamrl.data.gridfiles import MONTH_DAYS
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps import budgets
from tamrl.maps.uncertainty import Uncertainty
from tamrl.maps.upscale import upscale
from tamrl.plots.style import FLUX_COLOURS
from tamrl.study.explorers import regions as region_explorer

KINDS = list(region_explorer.KINDS)


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return world()


@pytest.fixture(scope="module")
def fluxes(cube: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """Return a map without the land north of 50 degrees, which is part of its regions."""
    ds = upscale(Ensemble(), cube, tmp_path_factory.mktemp("map") / "m.zarr").load()
    return ds.assign({flux: ds[flux].where(ds.lat < 50) for flux in FLUXES})


@pytest.fixture(scope="module")
def errors(fluxes: xr.Dataset) -> Uncertainty:
    """Return errors of two folds that differ by a tenth of the flux."""
    year = fluxes[[*FLUXES]].mean("time")
    local = pd.DataFrame({"sd": 0.8, "share": 1.0, "length_km": 50.0}, index=list(FLUXES))
    return Uncertainty(xr.concat([0.95 * year, 1.05 * year], "fold"), local)


@pytest.fixture(scope="module")
def page(fluxes: xr.Dataset, cube: xr.Dataset, errors: Uncertainty) -> str:
    return region_explorer.explorer(fluxes, cube, errors).data


def data_of(page: str) -> dict:
    (text,) = re.findall(r"<script type=\"application/json\"[^>]*>(.*?)</script>", page, re.S)
    return json.loads(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_holds_the_sums_of_the_budget(
    kind: str, page: str, fluxes: xr.Dataset, cube: xr.Dataset, errors: Uncertainty
) -> None:
    """Sums, bounds and means of each region are those of `totals`, to four digits."""
    table = budgets.totals(fluxes, kind, cube, errors).query("region != 'unassigned'")
    table = table[table.predicted > 0]
    found = [r for r in data_of(page)["regions"] if r["kind"] == kind]
    assert len({r["name"] for r in found}) == len(found) == table.region.nunique()
    for region, (_, rows) in zip(found, table.groupby("region", sort=False), strict=True):
        assert list(rows.flux) == list(FLUXES)
        for column in ("total", "lower", "upper", "mean"):
            np.testing.assert_allclose(region[column], rows[column], rtol=6e-4, atol=1e-12)
        year = np.array(region["months"]) @ MONTH_DAYS
        np.testing.assert_allclose(year, rows["mean"], atol=0.005 * 366)


def test_sums_can_be_read_by_climate(page: str) -> None:
    """The five main classes of Köppen, whose land is that of the globe."""
    found = {r["name"]: r for r in data_of(page)["regions"] if r["kind"] == "koppen_main"}
    assert set(found) == {"Tropical", "Arid", "Temperate", "Cold", "Polar"}
    (globe,) = (r for r in data_of(page)["regions"] if r["kind"] == "globe")
    assert sum(r["total"][0] for r in found.values()) == pytest.approx(globe["total"][0], rel=0.01)


def test_months_are_means_over_the_mapped_land(page: str, fluxes: xr.Dataset) -> None:
    """The globe's months are averages of the cells by land area, as is its share inside."""
    (globe,) = (r for r in data_of(page)["regions"] if r["kind"] == "globe")
    land = budgets.land_area(fluxes)
    for flux, months in zip(FLUXES, globe["months"], strict=True):
        mean = fluxes[flux].weighted(land).mean(["lat", "lon"])
        np.testing.assert_allclose(months, mean, atol=0.0051)
    inside = (1 - fluxes.outside.fillna(0)) * land.where(np.isfinite(fluxes.GPP).any("time"), 0)
    assert 0 < globe["inside"] < globe["mapped"] < 1
    assert globe["inside"] == pytest.approx(float(inside.sum() / land.sum()), abs=6e-4)


def test_without_script_every_region_is_in_a_table_of_its_kind(page: str) -> None:
    """Each kind is folded; each region stands there once with its sums, bounds, means and share."""
    regions = data_of(page)["regions"]
    folds = re.findall(r"<details><summary>([^<]+) \((\d+)\)</summary>(.*?)</details>", page, re.S)
    assert [name for name, _, _ in folds] == [words for _, words in region_explorer.KINDS.values()]
    for (_, count, table), kind in zip(folds, KINDS, strict=True):
        names = re.findall(r'<th scope="row">([^<]+)</th>', table)
        assert len(names) == int(count)
        assert len(re.findall(r"<td>[^<]+</td>", table)) == 7 * len(names)
        mine = {r["name"].replace("'", "&#x27;") for r in regions if r["kind"] == kind}
        assert set(names) == mine
    brazil = next(r for r in regions if r["name"] == "Brazil")
    (row,) = re.findall(r'<th scope="row">Brazil</th>(.*?)</tr>', page)
    total, lower, upper = (brazil[c][0] for c in ("total", "lower", "upper"))
    (cell, *_) = re.findall(r"<td>([^<]+)</td>", row)
    shown = [
        float(v.replace("\N{MINUS SIGN}", "-"))
        for v in re.split(r"[^\d.\N{MINUS SIGN}]+", cell)
        if v
    ]
    np.testing.assert_allclose(shown, [total, lower, upper], atol=0.005 * abs(upper))


def test_what_is_on_the_map_can_be_chosen_and_has_a_name(page: str) -> None:
    """Each country found is an option with a title and a place, and knows its RECCAP region."""
    data = data_of(page)
    countries = {r["name"] for r in data["regions"] if r["kind"] == "country"}
    options = re.findall(
        r'<path role="option"[^>]* data-of="([^"]+)"[^>]*><title>([^<]+)</title>', page
    )
    assert all(of == title for of, title in options)
    assert len(options) == len(data["places"])
    assert {p["name"] for p in data["places"]} <= countries
    assert len(countries - {p["name"] for p in data["places"]}) <= 2  # beyond the map's edge
    assert re.search(r'data-of="Brazil" data-in="South America"', page)
    assert re.search(r'data-of="France" data-in="South America"', page)  # French Guiana
    assert re.search(r'data-of="Australia" data-in="Australia \(RECCAP region\)"', page)


def test_the_page_is_small_and_fetches_nothing(page: str) -> None:
    """Below 250 kB; no source, link or import; the only address is the name of SVG's grammar."""
    assert len(page.encode()) < 250_000
    assert set(re.findall(r"https?://[^\s\"'<>`]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(
        r"<(?:script|img|link|iframe)[^>]+(?:src|href)=|@import|fetch\(|url\(", page
    )
    assert "[[" not in page.partition("<script")[0]
    assert all(f"--tr-{flux}:{colour};" in page for flux, colour in FLUX_COLOURS.items())


def test_names_cannot_break_out_of_the_page(
    fluxes: xr.Dataset, cube: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "</script><!--<b>"
    whole = region_explorer.partition

    def renamed(by: str, *args: object) -> object:
        parts = whole(by, *args)
        names = tuple(evil if name == "Africa" else name for name in parts.names)
        return type(parts)(names, parts.cell, parts.region, parts.share)

    for module in (region_explorer, budgets):
        monkeypatch.setattr(module, "partition", renamed)
    page = region_explorer.explorer(fluxes, cube).data
    assert evil not in page
    assert page.count("</script") == 2
    assert evil in {r["name"] for r in data_of(page)["regions"]}


def test_without_errors_there_are_no_bounds_and_virtual_is_said(
    fluxes: xr.Dataset, cube: xr.Dataset
) -> None:
    page = region_explorer.explorer(fluxes.assign_attrs(virtual=1), cube).data
    data = data_of(page)
    assert data["virtual"] is True
    assert all(r["lower"] == r["upper"] == [None] * 3 for r in data["regions"])
    assert "bounds of 90 %" not in page
    assert page.count("Virtual towers. ") >= 2


def test_other_times_and_other_grids_are_refused(fluxes: xr.Dataset, cube: xr.Dataset) -> None:
    with pytest.raises(DataError, match="11 times; twelve months"):
        region_explorer.explorer(fluxes.isel(time=slice(11)), cube)
    with pytest.raises(DataError, match="different grids"):
        region_explorer.explorer(fluxes, cube.isel(lat=slice(2, None)))
