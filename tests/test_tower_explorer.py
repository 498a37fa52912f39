"""The tower picker is one piece of HTML that holds the true numbers and asks nobody for more."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from shapely import Point, Polygon

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.samples.arrays import Samples
from tamrl.study import tower_explorer


@pytest.fixture(scope="module")
def predictions(samples: Samples) -> xr.Dataset:
    """Return a model that is 0.5 gC m-2 d-1 too high in all fluxes, and one that is right."""
    days = np.where(samples.has_drivers[..., None], np.nan_to_num(samples.y), np.nan)
    both = np.stack([days + 0.5, days])
    axes = {"model": ["high", "right"], "site": samples.site, "time": samples.time}
    return xr.Dataset({f: (tuple(axes), both[..., k]) for k, f in enumerate(FLUXES)}, axes)


@pytest.fixture(scope="module")
def page(samples: Samples, predictions: xr.Dataset) -> str:
    return tower_explorer.tower_picker(predictions, samples, "high").data


def data_of(page: str) -> dict:
    (text,) = re.findall(r"<script type=\"application/json\"[^>]*>(.*?)</script>", page, re.S)
    return json.loads(text)


def test_the_page_holds_observed_and_predicted_means(page: str, samples: Samples) -> None:
    """Read back from the HTML, a summer's eight days are those of the tower, to 0.005."""
    data = data_of(page)
    tower = data["towers"][0]
    whole = np.frombuffer(base64.b64decode(tower["data"]), "<i2").astype(float)  # as the script
    series = np.where(whole == data["missing"], np.nan, whole * data["step"])
    series = series.reshape(-1, tower["periods"])
    row = list(samples.site).index(tower["site"])
    flux = np.where(samples.scored[row, :, None], samples.y[row], np.nan)
    days = pd.DataFrame(flux, pd.DatetimeIndex(samples.time))[str(tower["first"]) :]
    period = days.groupby([days.index.year, np.minimum((days.index.day_of_year - 1) // 8, 45)])
    expected = period.mean().where(period.count() >= 4).to_numpy()[: tower["periods"]]
    assert np.isfinite(expected).sum() > 100
    np.testing.assert_allclose(series[:3].T, expected, atol=0.0051)
    both = np.isfinite(series[0]) & np.isfinite(series[3])
    assert np.nanmedian((series[3] - series[0])[both]) == pytest.approx(0.5, abs=0.02)


def test_every_scored_tower_is_on_the_map_and_in_the_table(page: str, samples: Samples) -> None:
    """Without JavaScript nothing of the scores is lost; each mark has a name for its listener."""
    scored = {str(s) for s in samples.site[samples.scored.any(1)]}
    assert set(re.findall(r'data-tower-mark="([^"]+)"', page)) == scored
    assert set(re.findall(r'<th scope="row">([^<$]+)</th>', page)) == scored
    named = re.findall(r"<circle role=\"option\"[^>]*><title>[^<]{8,}</title>", page)
    assert len(named) == len(scored)
    assert data_of(page)["towers"][0]["rmse"] == [0.5, 0.5, 0.5]


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    """No source, link or import: the only address is the name of SVG's grammar."""
    assert set(re.findall(r"https?://[^\s\"'<>`]+", page)) == {"http://www.w3.org/2000/svg"}
    sources = r"<(?:script|img|link|iframe)[^>]+(?:src|href)=|@import|fetch\(|url\("
    assert not re.search(sources, page)
    assert "[[" not in page


def test_virtual_towers_are_called_so(page: str) -> None:
    """In the caption, on the map's name and in the data that the title is made of."""
    assert data_of(page)["virtual"] is True
    assert page.count("Virtual towers. ") == 2


def test_names_cannot_break_out_of_the_page(samples: Samples, predictions: xr.Dataset) -> None:
    evil = "</script><b>"
    mine = samples.site.astype("<U20")
    mine[0] = evil
    named = replace(samples, site=mine, table=samples.table.assign(site=mine))
    page = tower_explorer.tower_picker(predictions.assign_coords(site=mine), named, "high").data
    assert evil not in page
    assert page.count("</script") == 2


def test_an_unknown_model_is_named(samples: Samples, predictions: xr.Dataset) -> None:
    with pytest.raises(DataError, match="'TAM-RL' is not among the predictions: high, right"):
        tower_explorer.tower_picker(predictions, samples)


def test_periods_begin_anew_each_year_and_need_half_their_days() -> None:
    """The last period of a year is short; a leap year has one day more in it."""
    time = np.arange("2003-01-01", "2005-01-01", dtype="datetime64[D]")
    values = np.arange(len(time), dtype=float)[:, None]
    values[8:13] = np.nan  # three of eight days of the second period are left
    first, means = tower_explorer.period_means(values, time)
    assert (first, means.shape) == (2003, (92, 1))
    assert means[0, 0] == 3.5
    assert np.isnan(means[1, 0])
    assert means[45, 0] == np.arange(360, 365).mean()
    assert means[91, 0] == np.arange(365 + 360, 365 + 366).mean()


def test_land_is_where_land_is() -> None:
    """Hyytiala stands on land, the middle of the Atlantic does not; the south is cut off."""
    shapes = []
    for part in re.findall(r"M(-?\d+) (-?\d+)l([^z]+)z", tower_explorer.land_path()):
        steps = np.array(re.findall(r"-?\d+", part[2]), int).reshape(-1, 2)
        shapes.append(Polygon(np.vstack([[int(part[0]), int(part[1])], steps]).cumsum(0)))
    places = ((24.3, 61.8), (-60, -3), (134, -25), (-35, 30), (0, -80))
    on_land = [
        any(s.buffer(0).contains(Point(*tower_explorer.project(*place))) for s in shapes)
        for place in places
    ]
    assert on_land == [True, True, True, False, False]
