"""Shares of grid cells in regions; they sum to one: what belongs nowhere is "unassigned"."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.cube import cell_edges
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import IGBP_NAMES, KOPPEN_MAIN
from tamrl.errors import DataError

Floats = npt.NDArray[np.float64]

NATURAL_EARTH = Path(__file__).parents[1] / "natural_earth" / "shapefiles" / "natural_earth"
COUNTRIES = NATURAL_EARTH / "cultural" / "ne_110m_admin_0_countries.shp"
BANDS = (-90, -60, -30, 0, 30, 60, 90)  # edges, deg north
BLOCKS = {"10 degrees": 10, "20 degrees": 20}  # of latitude and longitude
FINE = 5  # sub-cells to a side by which a cell is shared out among countries
UNASSIGNED = "unassigned"

# RECCAP's regions by countries (ISO codes of Natural Earth's ADM0_A3) or by its columns; our
# approximation of Ciais et al. 2021, doi:10.1093/nsr/nwaa145, whose borders differ in places.
RECCAP_CODES = {
    "North America": "USA CAN MEX", "South Asia": "IND PAK BGD NPL BTN LKA", "Russia": "RUS",
    "East Asia": "CHN JPN MNG KOR PRK TWN", "Australia": "AUS",
    "SouthEast Asia": "MMR THA LAO KHM VNM MYS IDN PHL BRN TLS PNG",
}  # fmt: skip
RECCAP_CONTINENTS = ("Europe", "South America", "Africa")
NORTH = ("North America", "Europe", "Russia", "East Asia")  # regions of RECCAP; others: "rest"


@dataclass(frozen=True)
class Partition:
    """Which share of which cell lies in which region; cells are counted row by row."""

    names: tuple[str, ...]
    cell: npt.NDArray[np.intp]
    region: npt.NDArray[np.intp]
    share: Floats

    def sums(self, values: Floats) -> Floats:
        """Sum cells' amounts (..., cell) to regions (..., region)."""
        flat, n = values.reshape(-1, values.shape[-1]), len(self.names)
        out = [np.bincount(self.region, self.share * v[self.cell], n).astype(float) for v in flat]
        return np.stack(out).reshape(*values.shape[:-1], n)


def partition(
    by: str, lat: npt.ArrayLike, lon: npt.ArrayLike, cube: xr.Dataset | None = None
) -> Partition:
    """Share out the cells of a grid with centres ``lat``, ``lon`` (deg) among regions.

    ``by``: "globe", "band" (30 degrees of latitude, shared exactly), one of `BLOCKS` (by centres),
    "country" (Natural Earth 1:110 million, by area of sub-cells on land), "reccap" (nine regions),
    "zone" (its "north" and "rest"); with ``cube`` "biome" (IGBP, shares of the land), "koppen",
    "koppen_main". DataError for another name, or a cube that is absent or on another grid.
    """
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    count = len(lat) * len(lon)
    if by == "globe":
        return _from_labels(np.zeros(count, dtype=int), ("globe",))
    if by == "band":
        edges = [f"{abs(e)}{'N' if e > 0 else 'S' if e < 0 else ''}" for e in BANDS]
        names = tuple(f"{a} to {b}" for a, b in pairwise(edges))
        return _bands(lat, len(lon), names)
    if size := BLOCKS.get(by):
        south, west = range(-90, 90, size), range(-180, 180, size)
        row = np.clip((lat + 90) // size, 0, len(south) - 1).astype(int)
        column = ((lon + 180) % 360 // size).astype(int)
        names = tuple(f"from {s:+d}, {w:+d}" for s in south for w in west)
        return _from_labels((row[:, None] * len(west) + column).ravel(), names)
    if by in ("country", "reccap", "zone"):
        return _countries(lat, lon, by)
    if by not in ("biome", "koppen", "koppen_main"):
        raise DataError(f"no partition is called {by!r}")
    variable = "igbp_fraction" if by == "biome" else "koppen"
    if cube is None or variable not in cube:
        raise DataError(f"partition by {by}: a cube with {variable} is needed")
    same = cube.sizes["lat"] == len(lat) and cube.sizes["lon"] == len(lon)
    if not (same and np.allclose(cube["lat"], lat) and np.allclose(cube["lon"], lon)):
        raise DataError(f"partition by {by}: cube and map are on different grids; regrid one")
    values = np.nan_to_num(cube[variable].transpose(..., "lat", "lon").to_numpy())
    if by == "biome":
        share = values.reshape(-1, count).astype(np.float64)
        share = np.vstack([share, np.maximum(1 - share.sum(axis=0), 0)])
        share /= share.sum(axis=0)
        names = (*(IGBP_NAMES[code] for code in cube["igbp"].to_numpy()), UNASSIGNED)
        region, cell = np.nonzero(share)
        return Partition(names, cell, region, share[region, cell])
    number = values.ravel().astype(int)
    names, label = KOPPEN_CODES, np.arange(len(KOPPEN_CODES))
    if by == "koppen_main":
        names = tuple(KOPPEN_MAIN.values())
        label = np.array([list(KOPPEN_MAIN).index(code[0]) for code in KOPPEN_CODES])
    return _from_labels(np.append(label, len(names))[number - 1], (*names, UNASSIGNED))


def _from_labels(label: npt.NDArray[np.intp], names: tuple[str, ...]) -> Partition:
    return Partition(names, np.arange(len(label)), label, np.ones(len(label)))


def _bands(lat: Floats, columns: int, names: tuple[str, ...]) -> Partition:
    """Share out rows among `BANDS`: a cell that reaches over an edge by its area on either side."""
    edges = np.clip(cell_edges(lat), -90, 90)
    south, north = np.sort(np.sin(np.deg2rad(np.stack([edges[:-1], edges[1:]]))), axis=0)
    limits = np.sin(np.deg2rad(BANDS))
    low, high = np.maximum(south[:, None], limits[:-1]), np.minimum(north[:, None], limits[1:])
    share = np.maximum(high - low, 0) / (north - south)[:, None]
    share[share < 1e-9] = 0  # rounding, at an edge of both
    share /= share.sum(axis=1, keepdims=True)
    row, band = np.nonzero(share)
    cell = row[:, None] * columns + np.arange(columns)
    each = (np.repeat(v, columns) for v in (band, share[row, band]))
    return Partition(names, cell.ravel(), *each)


def reccap_region(parts: Any) -> Any:
    """RECCAP region of parts of countries (rows of Natural Earth's table), or "unassigned"."""
    codes = {code: name for name, text in RECCAP_CODES.items() for code in text.split()}
    continent = parts["CONTINENT"].where(parts["CONTINENT"].isin(RECCAP_CONTINENTS))
    # French Guiana is part of France's shape.
    overseas = (parts["ADM0_A3"] == "FRA") & (parts.geometry.bounds["maxy"] < 20)
    continent = continent.mask(overseas, "South America")
    return parts["ADM0_A3"].map(codes).fillna(continent).fillna(UNASSIGNED)


def _countries(lat: Floats, lon: Floats, by: str) -> Partition:
    import geopandas
    import regionmask

    table = geopandas.read_file(COUNTRIES)
    if by != "country":
        table = table.explode(ignore_index=True)
        table["NAME"] = reccap_region(table)
        if by == "zone":
            known = table["NAME"] != UNASSIGNED
            zone = np.where(table["NAME"].isin(NORTH), "north", "rest")
            table["NAME"] = np.where(known, zone, UNASSIGNED)
        table = table.dissolve("NAME", as_index=False)  # parts of one name become one region
    table = table[table["NAME"] != UNASSIGNED].reset_index(drop=True)
    fine = [_fine(axis) for axis in (lat, lon)]
    # Without `overlap=False` regionmask would build one mask a country: gigabytes.
    shapes = regionmask.from_geopandas(table[["NAME", "geometry"]], names="NAME", overlap=False)
    mask = shapes.mask((fine[1] + 180) % 360 - 180, fine[0], wrap_lon=False).to_numpy()
    names = (*map(str, table["NAME"]), UNASSIGNED)
    # Sub-cells to cells: the area of those of each region among the sub-cells that lie in any.
    cells = np.arange(len(lat) * len(lon)).reshape(len(lat), -1)
    cells, inside = cells.repeat(FINE, axis=0).repeat(FINE, axis=1), np.isfinite(mask)
    area = np.broadcast_to(np.cos(np.deg2rad(fine[0]))[:, None], inside.shape)[inside]
    pair = cells[inside] * len(names) + mask[inside].astype(int)
    pairs, of = np.unique(pair, return_inverse=True)
    areas = np.bincount(of, area, len(pairs))
    cell, region = np.divmod(pairs, len(names))
    whole = np.bincount(cell, areas, len(lat) * len(lon))
    nowhere = np.flatnonzero(whole == 0)
    cell, share = np.append(cell, nowhere), np.append(areas / whole[cell], np.ones(len(nowhere)))
    outer = np.full(len(nowhere), len(names) - 1, region.dtype)
    return Partition(names, cell, np.append(region, outer), share)


def _fine(centre: Floats) -> Floats:
    edges = cell_edges(centre)  # those beyond a pole lie in no country
    return np.linspace(edges[:-1], edges[1:], 2 * FINE + 1, axis=1)[:, 1::2].ravel()
