"""A map on which a tower is picked and its series appear: one piece of HTML that needs no server.

Without JavaScript the map and a table of all towers remain.
"""

import base64
import json
import re
from html import escape
from importlib.resources import files

import geopandas
import numpy as np
import pandas as pd
import xarray as xr
from IPython.display import HTML
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES, IGBP_NAMES
from tamrl.errors import DataError
from tamrl.evaluate.scores import score_towers, sum_up
from tamrl.maps.regions import NATURAL_EARTH
from tamrl.samples.arrays import Samples

PERIOD, PERIODS = 8, 46  # days averaged, from 1 January as MODIS does; a year, the last is shorter
FEWEST = 4  # days of a period that must be known
STEP = 0.01  # gC m-2 d-1: what a stored whole number stands for
MISSING = -32768  # a stored number that stands for none
UNIT = 10  # map units a degree
SHRINK = np.cos(np.radians(40))  # of degrees of longitude: true to shape at 40 degrees north
SOUTH, NORTH = -58, 84  # of the map, degrees; no tower stands further south
REGIONS = {"World": (-180, SOUTH, 180, NORTH), "North America": (-168, 5, -50, 75),
           "Europe": (-12, 34, 36, 71)}  # west, south, east, north (degrees)  # fmt: skip
Floats = NDArray[np.float64]


def tower_picker(predictions: xr.Dataset, samples: Samples, model: str = "TAM-RL") -> HTML:
    """Make the map of towers with their observed and predicted series.

    ``predictions`` of GPP, RECO and NEE (model, site, time), gC m-2 d-1, for towers of ``samples``
    that the models were not trained on; 5 kB a tower and 80 kB besides. DataError if the model is
    not among the predictions, or they hold no scored tower.
    """
    names = [str(name) for name in predictions.model.values]
    if model not in names:
        raise DataError(f"model {model!r} is not among the predictions: {', '.join(names)}")
    scores = score_towers(sum_up(predictions, samples))
    scores = scores[scores.model == model]
    table = samples.table.set_index("site")
    towers = []
    for site in sorted(scores.site.unique(), key=lambda s: (IGBP_NAMES[table.igbp[s]], s)):
        fact = table.loc[site]
        rows = scores[scores.site == site].set_index("flux")
        x, y = project(fact.lon, fact.lat)
        towers.append({
            "site": site, "biome": IGBP_NAMES[fact.igbp], "climate": fact.koppen_main,
            "lat": round(float(fact.lat), 2), "lon": round(float(fact.lon), 2),
            "x": x, "y": y, "days": int(rows.n.iloc[0]),
            "rmse": [_number(rows.RMSE[f]) for f in FLUXES],
            "r2": [_number(rows.R2[f]) for f in FLUXES],
            **_series(predictions.sel(model=model, site=site), samples),
        })  # fmt: skip
    return HTML(_page(towers, model, bool(samples.attrs.get("virtual", 0))))


def period_means(values: Floats, time: NDArray[np.datetime64]) -> tuple[int, Floats]:
    """First year and means (46 x years, …) over eight days; NaN where fewer than four are known."""
    year = time.astype("datetime64[Y]").astype(int) + 1970
    day = (time.astype("datetime64[D]") - time.astype("datetime64[Y]")).astype(int)
    slot = (year - year[0]) * PERIODS + np.minimum(day // PERIOD, PERIODS - 1)
    shape = ((year[-1] - year[0] + 1) * PERIODS, *values.shape[1:])
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, slot, np.nan_to_num(values))
    np.add.at(count, slot, np.isfinite(values))
    known = count >= FEWEST
    return int(year[0]), np.divide(total, count, out=np.full(shape, np.nan), where=known)


def project(lon: float, lat: float) -> tuple[int, int]:
    """Place degrees on the map: tenths of a degree to the right and downwards."""
    return round(UNIT * SHRINK * lon), round(-UNIT * lat)


def pack(values: Floats) -> str:
    """Fluxes as whole numbers of 0.01 gC m-2 d-1, 16 bits each, little-endian, base64."""
    whole = np.where(np.isfinite(values), np.clip(np.round(values / STEP), -32767, 32767), MISSING)
    return base64.b64encode(whole.astype("<i2").tobytes()).decode()


def _number(value: float) -> float | None:
    """Two decimals; None, which JSON knows, for what is not a number."""
    return round(float(value), 2) if np.isfinite(value) else None


def _series(predicted: xr.Dataset, samples: Samples) -> dict[str, int | str]:
    """First year, number of periods, and packed series: observed and predicted of each flux."""
    row = list(samples.site).index(str(predicted.site.item()))
    columns = [samples.targets.index(flux) for flux in FLUXES]
    observed = np.where(samples.scored[row][:, None], samples.y[row][:, columns], np.nan)
    days = pd.Index(samples.time.astype("datetime64[D]"))
    at = days.get_indexer(pd.Index(predicted.time.values.astype("datetime64[D]")))
    model = np.full(observed.shape, np.nan)
    model[at] = np.stack([predicted[flux].values for flux in FLUXES], -1)
    first, means = period_means(np.concatenate([observed, model], 1), samples.time)
    known = np.flatnonzero(np.isfinite(means).any(1)) // PERIODS
    span = means[known[0] * PERIODS : (known[-1] + 1) * PERIODS]
    return {"first": first + int(known[0]), "periods": len(span), "data": pack(span.T)}


def land_path() -> str:
    """Outline of the land, as the path of an SVG in map units, at 1:110 million."""
    return svg_path(geopandas.read_file(NATURAL_EARTH / "physical" / "ne_110m_land.shp").geometry)


def svg_path(shapes: geopandas.GeoSeries, grid: int = 1) -> str:
    """Draw shapes (deg) as the path of an SVG, in map units, by multiples of ``grid``.

    Neighbours that share points before share them afterwards.
    """
    path = []
    shapes = shapes.clip_by_rect(-180, SOUTH, 180, NORTH).explode()
    for shape in shapes[~shapes.is_empty]:
        points = np.array([project(*at) for at in shape.exterior.coords])
        points = np.round(points / grid).astype(int) * grid
        steps = np.diff(points, axis=0)
        steps = steps[steps.any(1)]
        if len(steps) > 2:
            line = " ".join(f"{x} {y}" for x, y in steps).replace(" -", "-")
            path.append("M{} {}l".format(*points[0]) + line + "z")
    return "".join(path)


def box(west: float, south: float, east: float, north: float) -> list[int]:
    """Left, top, width and height of a part of the map, in map units."""
    (left, bottom), (right, top) = project(west, south), project(east, north)
    return [left, top, right - left, bottom - top]


def _page(towers: list[dict], model: str, virtual: bool) -> str:
    """Put the pieces together; what stands here works without JavaScript."""
    regions = {name: box(*edges) for name, edges in REGIONS.items()}
    data = {"model": model, "virtual": virtual, "step": STEP, "missing": MISSING,
            "periods": PERIODS, "period_days": PERIOD, "fluxes": list(FLUXES), "regions": regions,
            "towers": towers}  # fmt: skip
    marks = "".join(
        f'<circle role="option" aria-selected="false" data-tower-mark="{escape(t["site"])}" '
        f'id="tamrl-tower-{escape(t["site"])}" cx="{t["x"]}" cy="{t["y"]}" r="14">'
        f"<title>{escape(t['site'])}, {escape(t['biome'])}</title></circle>"
        for t in towers
    )
    return fill("picker", {
        "virtual": "Virtual towers. " if virtual else "",
        "model": escape(model), "view": " ".join(map(str, regions["World"])), "land": land_path(),
        "marks": marks, "rows": "".join(map(_row, towers)), "count": str(len(towers)),
        "data": embedded(data),
    })  # fmt: skip


def embedded(data: object) -> str:
    """Write data as JSON that nothing in them can end early within a page."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def fill(name: str, parts: dict[str, str]) -> str:
    """Fill ``parts`` and the explorers' shared look and script into the page ``name`` of web/."""
    web = files("tamrl") / "web"
    html, css, js, shared_css, shared_js = (
        (web / file).read_text(encoding="utf-8")
        for file in (f"{name}.html", f"{name}.css", f"{name}.js", "explorer.css", "explorer.js")
    )
    script = f"(() => {{\n{shared_js}{js}}})();"
    parts = {**parts, "style": shared_css + css, "script": script}
    return re.sub(r"\[\[(\w+)\]\]", lambda gap: parts[gap[1]], html)


def _row(tower: dict) -> str:
    """One line of the table that every reader gets, with a minus sign and a dash for nothing."""
    values = [v for pair in zip(tower["rmse"], tower["r2"], strict=True) for v in pair]
    scores = ["\N{EN DASH}" if v is None else f"{v:.2f}".replace("-", "\N{MINUS SIGN}")
              for v in values]  # fmt: skip
    last = tower["first"] + tower["periods"] // PERIODS - 1
    cells = [tower["biome"], f"{tower['first']}\N{EN DASH}{last}", f"{tower['days']:,}", *scores]
    head = f'<th scope="row">{escape(tower["site"])}</th>'
    return f"<tr>{head}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
