"""Figures of maps and seasons: what they show, in which units, and for whom."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from mapworld import Ensemble, world
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from tamrl import plots
from tamrl.data.cube import cell_area
from tamrl.data.gridfiles import MONTH_DAYS
from tamrl.errors import DataError
from tamrl.maps import budgets
from tamrl.maps.pretrained import load_pretrained
from tamrl.maps.upscale import upscale
from tamrl.plots import maps
from tamrl.study import world_map


@pytest.fixture(autouse=True)
def real() -> None:
    """Draw as for real towers."""
    plots.use_style({"virtual": 0})


@pytest.fixture(scope="module")
def fluxes(tmp_path_factory) -> xr.Dataset:
    """Return the map of the small world."""
    return upscale(Ensemble(), world(), tmp_path_factory.mktemp("map") / "m.zarr").load()


def words(fig: Figure) -> str:
    """Return all text of a figure after drawing it."""
    fig.canvas.draw()
    return "\n".join(t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text")))


def test_means_by_latitude_weigh_by_land(fluxes) -> None:
    """One row by hand: land fractions are the weights; a row without land has no mean."""
    made = fluxes.copy(deep=True)
    made["land_fraction"][4] = 0
    table = budgets.by_latitude(made, "GPP")
    row = fluxes.isel(lat=20)
    known = (row["land_fraction"] > 0).to_numpy()
    want = np.average(row["GPP"][6].to_numpy()[known], weights=row["land_fraction"][known])
    assert table.loc[float(row["lat"]), 7] == pytest.approx(want, rel=1e-5)
    assert table.iloc[4].isna().all()
    assert list(table.columns) == list(range(1, 13))


def test_annual_means_by_latitude_weigh_months_by_their_days(fluxes) -> None:
    """A flux in July alone is 31 days of a year, whatever the land of other rows."""
    july = fluxes.copy(deep=True)
    july["GPP"] = 0 * july["GPP"]
    july["GPP"][6] = july["GPP"][6] + 1.0
    table = budgets.zonal_means({"a map": july, "again": july}, "GPP").dropna()
    assert [*table] == ["a map", "again"]
    np.testing.assert_allclose(table, 31 / 365.2425, rtol=1e-6)


def test_two_maps_compared(fluxes) -> None:
    """A known difference is found, and a map is like itself."""
    reference = budgets.annual(fluxes)["GPP"] / budgets.YEAR_DAYS
    statistics, maps, _ = budgets.compare_gpp(fluxes, reference, "other")
    assert statistics["RMSE"] == 0
    assert float(abs(maps["difference"]).max()) == 0
    moved = fluxes.assign(GPP=fluxes["GPP"] * 2 - 1)
    statistics, _, zonal = budgets.compare_gpp(moved, reference, "other")
    assert statistics["r"] == pytest.approx(1, abs=1e-6)
    gap = (zonal["this study"] - 2 * zonal["other"] + 1).dropna()
    np.testing.assert_allclose(gap, 0, atol=1e-5)
    assert statistics["cells"] == int(np.isfinite(fluxes["GPP"]).any("time").sum())


def test_pictures_are_drawn_at_a_degree() -> None:
    """Half-degree cells are averaged four by four by their area on land; coarser ones stay."""
    axes = {"lat": np.arange(-89.75, 90, 0.5), "lon": np.arange(-179.75, 180, 0.5)}
    field = xr.DataArray(np.arange(360 * 720.0).reshape(360, 720), axes, ("lat", "lon"))
    land = xr.full_like(field, 0.5)
    land[0, 0], land[0, 1], land[2, 2] = 0.25, 0.0, np.nan
    small = world_map.drawable(field, land=land)
    assert small.shape == (180, 360)
    sines = np.sin(np.deg2rad([-90, -89.5, -89]))
    first, second = np.diff(sines)  # areas of the two rows, relative
    want = (0.25 * first * 0 + 0.5 * second * (720 + 721)) / (0.25 * first + second)
    assert float(small[0, 0]) == pytest.approx(want)
    both = world_map.drawable(xr.Dataset({"GPP": field, "land_fraction": land}))
    np.testing.assert_allclose(both.GPP, small)
    assert float(both.land_fraction[0, 0]) == pytest.approx(
        (0.25 * first / 2 + 0.5 * second) / (first + second)
    )
    assert world_map.drawable(small) is small
    # The rows of a picture hold as much as those of the map.
    whole = (field * cell_area(field.lat, field.lon)).sum()
    of_picture = world_map.drawable(field)
    assert float((of_picture * cell_area(small.lat, small.lon)).sum()) == pytest.approx(
        float(whole)
    )


@pytest.mark.slow
def test_the_stepped_seasons_need_nothing_but_a_browser(fluxes) -> None:
    """Twelve labelled buttons, twelve pictures with words of their own, no script, no address."""
    page = world_map.stepped(fluxes, "NEE", name="nee", start=7).data
    tags, found = [], HTMLParser()
    found.handle_starttag = lambda tag, attrs: tags.append((tag, dict(attrs)))
    found.feed(page)
    radios = [a for t, a in tags if t == "input"]
    assert len(radios) == 12
    assert {a["name"] for a in radios} == {"nee"}
    assert [a["id"] for a in radios if "checked" in a] == ["nee-7"]
    assert {a["for"] for t, a in tags if t == "label"} == {a["id"] for a in radios}
    assert {"fieldset", "legend", "figcaption"} <= {t for t, _ in tags}
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    pictures = [a for t, a in tags if t == "img"]
    assert len({a["src"] for a in pictures}) == 12
    assert len({a["alt"] for a in pictures}) == 12
    for a in pictures:
        kind, data = a["src"].split(",")
        assert kind == "data:image/webp;base64"
        assert plt.imread(io.BytesIO(base64.b64decode(data)), format="webp").shape[1] > 600
        assert f".tamrl-seasons:has(#{a['class']}:checked) .{a['class']}" in page
    with pytest.raises(DataError, match="twelve months are needed"):
        world_map.stepped(fluxes.isel(time=slice(5)), "NEE")
    virtual = world_map.stepped(fluxes.assign_attrs(virtual=1), "NEE")
    assert virtual.data.count("Virtual towers. ") == 13


def test_words_of_a_map_follow_its_values() -> None:
    """The mean of each belt, with a minus sign, and no belt without values."""
    lat, lon = np.arange(-85.0, 90, 10), np.arange(-175.0, 180, 10)
    values = np.where(lat > 30, -2.0, np.where(lat < -30, np.nan, 0.5))
    field = xr.DataArray(values[:, None] * np.ones(36), {"lat": lat, "lon": lon}, ("lat", "lon"))
    said = world_map.words(field, "NEE", "July")
    assert "\N{MINUS SIGN}2.0 north of 30 degrees north" in said
    assert "0.5 in the tropics" in said
    assert "south of" not in said
    # A mean over land: of two cells that are alike in area the one with more land counts more.
    land = xr.zeros_like(field)
    land[{"lat": 8, "lon": 0}], land[{"lat": 9, "lon": 0}] = 0.25, 0.75
    field[{"lat": 8, "lon": 0}], field[{"lat": 9, "lon": 0}] = 1.0, 3.0
    assert "2.5 in the tropics" in world_map.words(field, "GPP", "July", land)


def test_axes_carry_units_and_names(fluxes) -> None:
    """Every figure says what it shows and in which unit; NEE diverges around zero."""
    unit = "gC m$^{-2}$ d$^{-1}$"
    means = {flux: fluxes[flux].mean("time") for flux in ("GPP", "NEE")}
    lines = pd.DataFrame({"this study": [1.0, 2], "FLUXCOM": [1.0, 3]}, index=[-5.0, 5])
    fig = plots.annual(means, {"GPP": lines, "NEE": lines[["this study"]]})
    assert words(fig).count(unit) >= 4
    assert {"this study", "FLUXCOM", "degrees north"} <= set(words(fig).splitlines())
    drawn = [c for ax in fig.axes for c in ax.collections if type(c).__name__ == "GeoQuadMesh"]
    assert drawn[0].get_clim()[0] == 0
    low, high = drawn[1].get_clim()
    assert low == -high
    said = words(plots.hovmoller({"GPP": budgets.by_latitude(fluxes, "GPP")}))
    assert {"Jan", "Jul", "latitude (degrees north)"} <= set(said.splitlines())
    table = budgets.totals(fluxes, "country")
    said = words(plots.country_bars({"TAM-RL": table, "Boosting": table}, "GPP", 5))
    largest = table.query("flux == 'GPP' and region != 'unassigned'").nlargest(5, "total").region
    assert set(largest) <= set(said.splitlines())
    assert "PgC yr$^{-1}$" in said
    row = {"flux": "GPP", "error": "RMSE", "rho": -0.3, "lower": -0.4, "upper": -0.1}
    growth = pd.DataFrame([row])
    assert "GPP, RMSE" in words(plots.rank_correlations(growth, "rho"))


def hatches(fig: Figure) -> list[int]:
    """Count the points of hatched areas, one number a map."""
    maps = [ax for ax in fig.axes if hasattr(ax, "projection")]
    sets = [[c for c in ax.collections if "ContourSet" in type(c).__name__] for ax in maps]
    return [sum(len(p.vertices) for c in each for p in c.get_paths()) for each in sets]


def test_every_map_is_hatched_where_the_model_does_not_apply(fluxes, monkeypatch) -> None:
    """All panels, and none of them where all is inside or nothing is known."""
    field = fluxes.GPP.mean("time")
    inside = xr.zeros_like(field)
    outside = inside.copy()
    outside[20:28, 10:40] = 0.6  # half of the cell or more
    profile = {"GPP": pd.DataFrame({"this study": [1.0, 2]}, index=[-5.0, 5])}
    draw = {
        "maps": lambda known: plots.flux_maps({"a": field, "b": field}, "GPP", outside=known),
        "annual": lambda known: plots.annual({"GPP": field}, profile, known),
        "beside": lambda known: plots.against_reference(field, "other", known),
        "region": lambda known: plots.region({"a": field[18:30, 8:42]}, "GPP", "part", known),
    }
    for name, figure in draw.items():
        assert min(hatches(figure(outside))) > 4, name
        assert max(hatches(figure(inside))) == max(hatches(figure(None))) == 0, name
    drawn = []
    whole = maps.flux_maps
    monkeypatch.setattr(maps, "flux_maps", lambda *a: drawn.append(whole(*a)) or drawn[-1])
    world_map.stepped(fluxes.assign(outside=outside), "NEE")
    assert len(drawn) == 12
    assert min(map(min, map(hatches, drawn))) > 4


def test_figures_of_trust_are_drawn(fluxes) -> None:
    """Nothing is hatched where all is inside; new towers show their rank."""
    field = fluxes.GPP.mean("time")
    outside = xr.zeros_like(field)

    def hatched() -> int:
        return hatches(plots.hatched({"GPP": (field, "viridis", "GPP")}, outside))[0]

    assert hatched() == 0
    outside[20:28, 10:40] = 0.6  # half of the year or more
    assert hatched() > 4
    cells = pd.DataFrame({"lat": [10.0, -20], "lon": [5.0, 30], "rank": [1, 2]}).set_index("rank")
    towers = pd.DataFrame({"lat": [50.0], "lon": [8.0]})
    assert {"1", "2"} <= set(words(plots.next_towers(cells, towers, field)).splitlines())
    curve = pd.DataFrame({"rule": [0.2, 0.1], "random": [0.2, 0.15], "lowest": [0.2, 0.14],
                          "highest": [0.2, 0.16]})  # fmt: skip
    lines = plots.gain_curve(curve, "left (%)").axes[0].lines
    assert any(np.array_equal(line.get_ydata(), [100, 50]) for line in lines)
    table = pd.DataFrame({"flux": "GPP", "added": [0, 5], "rule": [2, 1.8], "chance": [2, 1.9]})
    assert "towers added" in words(plots.withheld(table))


def test_a_plan_by_hand(globe: xr.Dataset) -> None:
    """A thousand cells, a hundred days, two thousand cell-days/s by one process, three by two.

    Each land cell becomes so many finer ones.
    """
    known = (globe["land_fraction"] > 0) & np.isfinite(globe["TA"]).all("month")
    assert world_map.land_cells(globe, 2.0) == int(known.sum())
    assert world_map.land_cells(globe, 0.2) == 100 * int(known.sum())
    rates = pd.Series({"one": 2_000.0, "two": 3_000.0, "cube": 50_000.0})
    table = world_map.plan(rates, 1000, 2.0, 100, cores=(1, 2, 4))
    mapped, made = 100_000 / 3600, 90 * 180 * 100 / 50_000 / 3600
    hours = table["map (h)"].to_numpy()
    np.testing.assert_allclose(hours, [mapped / 2_000, mapped / 3_000, mapped / 6_000])
    np.testing.assert_allclose(table["days of hours (h)"], [made, made / 2, made / 4])
    assert table["core-hours"].iloc[1] == pytest.approx(2 * mapped / 3_000 + made)
    assert table["written (GB)"].iloc[0] == pytest.approx(1000 * 100 * (12 * 4 + 1) / 1e9)
    assert table["read (GB)"].iloc[0] == pytest.approx(90 * 180 * 100 * 96 * 4 / 1e9)
    alone = world_map.plan(rates.where(rates.index == "one"), 1000, 2.0, 100, cores=(2,))
    assert alone["map (h)"].item() == pytest.approx(mapped / 4_000)
    assert alone["core-hours"].isna().all()


def test_days_between_months(globe: xr.Dataset) -> None:
    """The middle of a month has the month's value, the year closes, cells are copied, not made."""
    days = world_map.daily_drivers(globe, slice(40, 50), slice(-4, 10), step=0.5)
    assert [days.sizes[d] for d in ("time", "lat", "lon")] == [365, 20, 28]
    assert "no weather" in days.attrs["title"]
    assert days.attrs["virtual"] == 1
    at = {"lat": 46.25, "lon": 3.25}
    cell = globe.sel(at, method="nearest")
    month, series = cell["TA"].to_numpy(), days["TA"].sel(at).to_numpy()
    middle = np.round(np.cumsum(MONTH_DAYS) - MONTH_DAYS / 2).astype(int)
    np.testing.assert_allclose(series[middle], month, atol=0.4)
    assert abs(series[0] - series[-1]) < np.abs(np.diff(series)).max() + 1e-3
    assert month.min() - 1e-4 <= series.min()
    assert series.max() <= month.max() + 1e-4
    assert float(days["elevation"].sel(at)) == float(cell["elevation"])
    assert "month" not in days.dims


@pytest.mark.slow
def test_a_daily_region_is_mapped(globe: xr.Dataset, tmp_path: Path) -> None:
    """The ensemble maps days of a region; every fourth cell of a grid is a sixteenth of it."""
    days = world_map.daily_drivers(globe, slice(40, 44), slice(-4, 0), 1.0)
    fluxes = load_pretrained().map(days, tmp_path / "m.zarr", globe, workers=1)
    assert fluxes.sizes["time"] == 365
    assert bool(np.isfinite(fluxes["GPP"]).any())
    assert world_map.every_cell(globe, 4).sizes["lat"] == globe.sizes["lat"] // 4
