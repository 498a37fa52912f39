"""The predictor cube: what is known of every land cell, month by month, on one global grid.

`fetch_grid` builds it from the registry's files and stores it in the cache; `grid_at` samples it
at towers, so that a predictor means the same at a tower and on the map.
"""

import weakref
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.spatial import cKDTree

from tamrl.data import gridfiles
from tamrl.data.cache import fetch, registry_names, registry_sha256
from tamrl.data.cube import VARIABLES, make_cube, without_fill
from tamrl.data.derived import code_version, derived
from tamrl.data.gridfiles import MONTH_DAYS, Array, block_mean, centres, unit_vectors
from tamrl.data.koppen import koppen_class
from tamrl.data.physics import potential_radiation, saturation_pressure
from tamrl.errors import DataError

RESOLUTIONS = (0.5, 1.0)  # deg
FARTHEST = 1.5  # cells between a tower and its nearest land cell (coasts, islands)
MADE_BY = (
    *("gridfiles.py", "koppen.py", "physics.py", "cube.py", "grid.py"),
    *("facts/variables_grid.csv", "facts/igbp.csv"),
)


def fetch_grid(resolution: float = 0.5) -> xr.Dataset:
    """Monthly climatology of predictors for all land outside Antarctica.

    =============  ==========================================================================
    Shape          (month=12, lat, lon), statics (lat, lon), igbp_fraction (igbp, lat, lon);
                   lat ascending, lon from -180; float32, NaN for missing
    Monthly        TA, PRCP, SUN, SW_POT, SW_IN, VPD, EVI, EVI_filled
    Static         elevation, awc, sand, clay, soil_cn, stand_age, lma, ndep, fapar_mean,
                   land_fraction, igbp_fraction, koppen, area
    Time           a mean seasonal cycle, no years: climate normals of the 20th century,
                   vegetation index of 2006, land cover of 2019
    Source         each variable's attribute `source`, or `derived` where it was computed
    Licence        none stated for several sources: for use here, not for redistribution
    =============  ==========================================================================

    The result is stored in the cache directory under the registry's hash and the code's version.
    ``resolution``, deg, is 0.5, or 1.0 by averaging with the land area of cells as exact weights.

    Raises DataError for another resolution, or a file that is missing or not what it should be.
    """
    if resolution not in RESOLUTIONS:
        raise DataError(f"resolution {resolution}: the cube exists at 0.5 and 1.0 degrees")

    def build() -> xr.Dataset:
        cube = _build() if resolution == 0.5 else _coarsen(fetch_grid(0.5))
        code = code_version(MADE_BY)
        return cube.assign_attrs(
            history=f"built by tamrl.data.grid, code {code}",
            registry_sha256=registry_sha256(),
            code_version=code,
        )

    return without_fill(derived(f"grid-{resolution:g}deg", MADE_BY, build))


def _build() -> xr.Dataset:
    paths = {p.name: p for p in fetch(registry_names("grid/"), "Fetching the predictor grid")}
    climate = gridfiles.biome4_climate(paths["BIOME4_inputdata.nc"])
    lat, _ = centres()
    sw_pot = np.stack([_potential(lat, month) for month in range(12)])[:, :, None]
    rh = gridfiles.relative_humidity(paths["gpt_1wA.pickle"])
    land, igbp = gridfiles.land_cover(paths["MCD12C1.A2019001.006.tif"])
    evi = gridfiles.vegetation_index([p for name, p in paths.items() if "0.5rs-Raster" in name])
    sand, clay = gridfiles.clm_land_table(paths["gridinfo_soil_CLM5_GSWP3.csv"], ["sand", "clay"])
    (ndep,) = gridfiles.clm_land_table(paths["gridinfo_igbpz_CLM5_GSWP3.csv"], ["Ndep"])
    days = MONTH_DAYS[:, None, None]
    fields: dict[str, Array] = {
        **climate,
        "SW_POT": np.broadcast_to(sw_pot, climate["TA"].shape),
        "SW_IN": (0.25 + 0.50 * climate["SUN"] / 100) * sw_pot,
        "VPD": saturation_pressure(climate["TA"]) * (1 - rh),
        "EVI": np.where(np.isnan(evi), np.fmin.reduce(evi, axis=0), evi),
        "EVI_filled": np.isnan(evi).astype(np.float64),
        "elevation": gridfiles.elevation(paths["Altitude.h5"]),
        "awc": gridfiles.half_degree(paths["watergap_22e_tawc.nc4"], "tawc"),
        "sand": sand,
        "clay": clay,
        "soil_cn": gridfiles.half_degree(paths["CNrt.nc"], "CNrt"),
        "stand_age": gridfiles.half_degree(paths["age.nc"], "age"),
        "lma": gridfiles.half_degree(paths["LMA.nc"], "LMA"),
        "ndep": ndep,
        "fapar_mean": gridfiles.half_degree(paths["fAPAR.nc"], "fAPAR"),
    }
    fields["EVI_filled"][np.isnan(fields["EVI"])] = np.nan
    fields = {name: np.where(land > 0, field, np.nan) for name, field in fields.items()}
    classes = koppen_class(fields["TA"], fields["PRCP"] * days)
    return make_cube(fields | {"land_fraction": land, "igbp_fraction": igbp}, classes, 0.5)


def _potential(lat: Array, month: int) -> Array:
    """Radiation at the top of the atmosphere, mean over the days of a month (lat,), W m-2."""
    start = int(np.round(MONTH_DAYS[:month].sum()))
    days = np.arange(start + 1, start + 1 + int(MONTH_DAYS[month]))
    return np.asarray(potential_radiation(lat[:, None], days[None])).mean(axis=1)


def _coarsen(cube: xr.Dataset) -> xr.Dataset:
    """Average 0.5-degree cells to 1 degree with the exact area of their land as weight."""
    area = cube["area"].to_numpy().astype(np.float64)
    land = cube["land_fraction"].to_numpy().astype(np.float64)
    names = VARIABLES.keys() - {"area", "land_fraction"}
    fields = {
        name: block_mean(cube[name].to_numpy().astype(np.float64), area * land, 2) for name in names
    }
    fields["land_fraction"] = block_mean(land, area, 2)
    number = cube["koppen"].to_numpy()
    # The class that covers most of the land, among those that are known.
    share = [block_mean((number == k) * 1.0, area * land, 2) for k in range(1, 31)]
    cover = np.nan_to_num(np.stack(share))
    classes = np.where(cover.any(axis=0), cover.argmax(axis=0) + 1, 0)
    return make_cube(fields, classes.astype(np.int8), 1.0)


class _LandCells(NamedTuple):
    """Cells of a cube in which every monthly variable is known, and their search tree."""

    row: npt.NDArray[np.intp]
    col: npt.NDArray[np.intp]
    tree: cKDTree


_land_cells: dict[int, _LandCells] = {}  # by the identity of the cube, as long as it lives


def _land(cube: xr.Dataset) -> _LandCells:
    """Find the land cells of a cube: once, since a tree of 60,000 cells takes its time."""
    if id(cube) not in _land_cells:
        known = np.ones((cube.sizes["lat"], cube.sizes["lon"]), dtype=bool)
        for name, field in cube.data_vars.items():
            if "month" in field.dims:
                known &= field.notnull().all("month").transpose("lat", "lon").to_numpy()
            elif name == "land_fraction":
                known &= (field > 0).transpose("lat", "lon").to_numpy()
        row, col = np.nonzero(known)
        at = unit_vectors(cube["lat"].to_numpy()[row], cube["lon"].to_numpy()[col])
        _land_cells[id(cube)] = _LandCells(row, col, cKDTree(at))
        weakref.finalize(cube, _land_cells.pop, id(cube), None)
    return _land_cells[id(cube)]


def grid_at(cube: xr.Dataset, lat: npt.ArrayLike, lon: npt.ArrayLike) -> xr.Dataset:
    """Sample the cube at places.

    Each place takes all its values from one cell: the nearest in which every monthly variable is
    known all year, so that a coastal tower is not lost; NaN (koppen 0) if none lies within
    1.5 cells. The search tree is made once a cube: do not change a cube in place after the first
    call, but copy it.

    ``cube`` is as from `fetch_grid`, dims (month, lat, lon); ``lat`` and ``lon`` (site,) are deg; a
    DataArray's coordinate `site` is kept. Returns dims (site, month), statics (site,),
    igbp_fraction (site, igbp), and the cell's centre as coordinates cell_lat and cell_lon (site,).
    """
    place_lat = np.atleast_1d(np.asarray(lat, dtype=np.float64))
    place_lon = (np.atleast_1d(np.asarray(lon, dtype=np.float64)) + 180) % 360 - 180
    land = _land(cube)
    _, nearest = land.tree.query(unit_vectors(place_lat, place_lon))
    row, col = land.row[nearest], land.col[nearest]
    cells_lat, cells_lon = cube["lat"].to_numpy(), cube["lon"].to_numpy()
    step = np.abs(np.diff(cells_lat[:2]))[0], np.abs(np.diff(cells_lon[:2]))[0]
    east = np.abs((cells_lon[col] - place_lon + 180) % 360 - 180)
    near = np.abs(cells_lat[row] - place_lat) <= FARTHEST * step[0]
    near &= east <= FARTHEST * step[1]

    at = cube.drop_vars(["lat_bnds", "lon_bnds"], errors="ignore").isel(
        lat=xr.DataArray(row, dims="site"), lon=xr.DataArray(col, dims="site")
    )
    at = at.rename(lat="cell_lat", lon="cell_lon")
    inside = xr.DataArray(near, dims="site")
    for name, field in at.data_vars.items():
        missing = np.nan if np.issubdtype(field.dtype, np.floating) else field.dtype.type(0)
        at[name] = field.where(inside, missing).astype(field.dtype).assign_attrs(field.attrs)
    if isinstance(lat, xr.DataArray) and "site" in lat.coords:
        at = at.assign_coords(site=lat["site"].to_numpy())
    return at.transpose("site", ...)
