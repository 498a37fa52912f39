"""The tower explorer is one piece of HTML that holds the true numbers and asks nobody for more."""

import base64
import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import xarray as xr
from shapely import Point, Polygon

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate import tables
from tamrl.evaluate.scores import score_towers
from tamrl.evaluate.tables import Results
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import folds
from tamrl.study.benchmark import strongest
from tamrl.study.comparisons import models, series
from tamrl.study.comparisons.compute import run
from tamrl.study.explorers import page as page_of
from tamrl.study.explorers import towers as tower_explorer

STORED = tables.stored("benchmark")
TABLES = {  # climatologies stand for the ensemble and two boosters
    models.ENSEMBLE: partial(Climatology, 15), "LightGBM": partial(Climatology, 61),
    "XGBoost": partial(Climatology, 121), "climatology": Climatology,
}  # fmt: skip


@pytest.fixture(scope="module")
def results(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Results:
    out = tmp_path_factory.mktemp("tables")
    given = (samples, folds(samples, 2), (0,), out, out / "cv", 1, str, None, tuple(TABLES))
    run(TABLES, *given)
    return tables.read(out, list(TABLES))


@pytest.fixture(scope="module")
def lines(results: Results) -> xr.Dataset:
    """Return the stored series, with bounds as if there were towers enough to have them."""
    ds = series.read(results.folder)
    edges = {f"{scale}_lower": ds[scale] - 1 for scale in ("season", "year")}
    return ds.assign(edges | {f"{scale}_upper": ds[scale] + 2 for scale in ("season", "year")})


@pytest.fixture(scope="module")
def page(results: Results, lines: xr.Dataset) -> str:
    return tower_explorer.explorer(results, lines).data


def data_of(page: str) -> dict:
    (text,) = re.findall(r"<script type=\"application/json\"[^>]*>(.*?)</script>", page, re.S)
    return json.loads(text)


def test_the_page_holds_the_stored_series(page: str, results: Results, lines: xr.Dataset) -> None:
    """Read as the script reads: observed, bounds, ensemble, booster of the flux, climatology."""
    data, best = data_of(page), strongest(results.sums)
    for tower in data["towers"]:
        whole = np.frombuffer(base64.b64decode(tower["data"]), "<i2").astype(float)
        values = np.where(whole == data["missing"], np.nan, whole * data["step"])
        own = lines.sel(site=tower["site"])
        for scale, n in zip(("season", "year"), data["steps"], strict=True):
            part, values = np.split(values, [6 * 3 * n])
            part = part.reshape(6, 3, n)
            for k, flux in enumerate(FLUXES):
                of = own.sel(flux=flux)
                names = (models.ENSEMBLE, best[flux], "climatology")
                first = of.sel(model=models.ENSEMBLE)
                expected = [of[f"{scale}_observed"]]
                expected += [first[f"{scale}_{edge}"] for edge in ("lower", "upper")]
                expected += [of[scale].sel(model=name) for name in names]
                np.testing.assert_allclose(part[:, k], expected, atol=0.0051)
        assert len(values) == 0
        assert tower["year"] == own["first"]


def test_scores_are_those_of_the_benchmark(page: str, results: Results) -> None:
    """Every tower, by model and flux; boosting is the strongest of each flux, which is named."""
    data, best = data_of(page), strongest(results.sums)
    table = score_towers(results.sums).set_index(["site", "model", "flux"])
    assert len(data["towers"]) == results.sums.sizes["site"]
    assert data["models"] == ["ensemble", "boosting", "climatology"]
    for tower in data["towers"]:
        for k, flux in enumerate(FLUXES):
            for m, name in enumerate((models.ENSEMBLE, best[flux], "climatology")):
                row = table.loc[(tower["site"], name, flux)]
                assert tower["r2"][m][k] == pytest.approx(row.R2, abs=0.0051)
                assert tower["rmse"][m][k] == pytest.approx(row.RMSE, abs=0.0051)
    assert all(f"{flux}: {name}" in page for flux, name in best.items())


def test_a_typical_tower_comes_first() -> None:
    """Nearest to the medians of all three fluxes; a short record only where there are no others."""
    made = [
        {"site": name, "days": days, "r2": [r2]}
        for name, days, r2 in (
            ("best", 900, [0.9, 0.9, 0.9]), ("odd", 900, [0.5, 0.5, -3.0]),
            ("short", 100, [0.5, 0.5, 0.5]), ("typical", 900, [0.6, 0.5, 0.45]),
            ("worst", 900, [0.1, 0.1, 0.1]),
        )
    ]  # fmt: skip
    assert tower_explorer.typical(made) == "typical"
    assert tower_explorer.typical([{**tower, "days": 99} for tower in made]) == "short"


def test_without_script_towers_are_coloured_linked_and_in_a_table(page: str) -> None:
    """Each mark is the target of a link, is coloured by its R² of NEE, and says its values."""
    towers = {tower["site"]: tower for tower in data_of(page)["towers"]}
    marks = re.findall(
        r'data-tower-mark="([^"]+)" data-skill="(\d)" id="([^"]+)"[^>]*><title>([^<]+)</title>',
        page,
    )
    assert {site for site, *_ in marks} == set(towers)
    for site, skill, link, words in marks:
        r2 = towers[site]["r2"][0][2]
        assert int(skill) == np.searchsorted(tower_explorer.SKILL, r2, side="right")
        assert link == site
        assert f"NEE {r2:.2f}".replace("-", "\N{MINUS SIGN}") in words
    assert page.count("<li data-skill=") == len(tower_explorer.SKILL) + 1
    for site, row in re.findall(r'<tr><th scope="row">([^<$]+)</th>(.*?)</tr>', page):
        cells = re.findall(r"<td>([^<]+)</td>", row)
        assert len(cells) == 2 + 3 * 4
        assert float(cells[3]) == towers.pop(site)["rmse"][0][0]
    assert not towers


def test_stored_towers_are_shown_with_bounds_and_the_page_is_light() -> None:
    """Below 700 kB; bounds hold about 90 % of the dots; no withheld tower among them."""
    page = tower_explorer.explorer(tables.read(STORED), series.read(STORED)).data
    assert len(page.encode()) < 700_000
    season, year = map(
        int, re.search(r"hold (\d+) % \(season\) and (\d+) % \(year\)", page).groups()
    )
    assert 85 <= year <= 95
    assert 85 <= season <= 95
    assert "US-Ha1" in {tower["site"] for tower in data_of(page)["towers"]}


def test_what_is_not_computed_is_left_out_or_named(results: Results, lines: xr.Dataset) -> None:
    """Without boosters and bounds the ensemble is shown alone; without it nothing is."""
    alone = lines.sel(model=[models.ENSEMBLE]) * np.nan
    alone["first"] = lines["first"]
    page = tower_explorer.explorer(results, alone).data
    assert data_of(page)["models"] == [models.ENSEMBLE]
    assert "bounds of 90 %" not in page
    assert "not computed" in page
    with pytest.raises(DataError, match="ensemble is not computed"):
        tower_explorer.explorer(results, lines.sel(model=["climatology"]))
    with pytest.raises(DataError, match="30 scored days"):
        tower_explorer.explorer(results, lines.assign_coords(site=lines.site + "x"))


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    """No source, link or import: the only address is the name of SVG's grammar."""
    assert set(re.findall(r"https?://[^\s\"'<>`]+", page)) == {"http://www.w3.org/2000/svg"}
    sources = r"<(?:script|img|link|iframe)[^>]+(?:src|href)=|@import|fetch\(|url\("
    assert not re.search(sources, page)
    assert "[[" not in page.partition("<script")[0]


def test_virtual_towers_are_called_so(page: str, results: Results, lines: xr.Dataset) -> None:
    """In the caption, on the map's name and in the data that the title is made of."""
    assert data_of(page)["virtual"] is True
    assert page.count("Virtual towers. ") == 2
    real = replace(results, attrs={**results.attrs, "virtual": 0})
    assert "Virtual" not in tower_explorer.explorer(real, lines).data


def test_names_cannot_break_out_of_the_page(results: Results, lines: xr.Dataset) -> None:
    evil = "</script><b>"
    mine = results.sums.site.values.astype("<U20")
    renamed = {str(mine[0]): evil}
    mine[0] = evil
    named = replace(results, sums=results.sums.assign_coords(site=mine))
    sites = [renamed.get(str(site), str(site)) for site in lines.site.values]
    page = tower_explorer.explorer(named, lines.assign_coords(site=sites)).data
    assert evil not in page
    assert page.count("</script") == 2


def test_land_is_where_land_is() -> None:
    """Hyytiala stands on land, the middle of the Atlantic does not; the south is cut off."""
    shapes = []
    for part in re.findall(r"M(-?\d+) (-?\d+)l([^z]+)z", page_of.land_path()):
        steps = np.array(re.findall(r"-?\d+", part[2]), int).reshape(-1, 2)
        shapes.append(Polygon(np.vstack([[int(part[0]), int(part[1])], steps]).cumsum(0)))
    places = ((24.3, 61.8), (-60, -3), (134, -25), (-35, 30), (0, -80))
    on_land = [
        any(s.buffer(0).contains(Point(*page_of.project(*place))) for s in shapes)
        for place in places
    ]
    assert on_land == [True, True, True, False, False]
