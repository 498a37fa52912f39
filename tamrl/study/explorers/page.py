"""What the explorers share: a map of the land as SVG, and one page of pieces of HTML."""

import json
import re
from importlib.resources import files

import geopandas
import numpy as np

from tamrl.maps.regions import NATURAL_EARTH

UNIT = 10  # map units a degree
SHRINK = np.cos(np.radians(40))  # of degrees of longitude: true to shape at 40 degrees north
SOUTH, NORTH = -58, 84  # of the map, degrees; no tower stands further south


def project(lon: float, lat: float) -> tuple[int, int]:
    """Place degrees on the map: tenths of a degree to the right and downwards."""
    return round(UNIT * SHRINK * lon), round(-UNIT * lat)


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
