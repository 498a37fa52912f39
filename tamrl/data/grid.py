"""The predictor cube: what is known of every land cell, month by month, on one global grid."""

import weakref
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.spatial import cKDTree

from tamrl.data import gridfiles
from tamrl.data.cache import fetch, registry_names, registry_sha256
from tamrl.data.cube import VARIABLES, make_cube, without_fill
from tamrl.data.derived import code_version, derived, derived_path
from tamrl.data.gridfiles import MONTH_DAYS, Array, block_mean, centres, unit_vectors
from tamrl.data.koppen import koppen_class
from tamrl.data.physics import potential_radiation, saturation_pressure
from tamrl.errors import DataError

RESOLUTIONS = (0.5, 1.0)  # deg
FARTHEST = 1.5  # cells between a tower and its nearest land cell (coasts, islands)
MADE_BY = (
    "gridfiles.py", "koppen.py", "physics.py", "cube.py", "grid.py",
    "facts/variables_grid.csv", "facts/igbp.csv",
)  # fmt: skip
_latest: dict[str, Any] = {}  # the grid that was read last, and its path


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

    ``resolution``, deg, is 0.5, or 1.0 by averaging with the land area of cells as exact weights.
    A process reads it once: assign to a copy, not to what is shared. Raises DataError for another
    resolution, or a file that is missing or not what it should be.
    """
    if resolution not in RESOLUTIONS:
        raise DataError(f"resolution {resolution}: the cube exists at 0.5 and 1.0 degrees")

    def build() -> xr.Dataset:
        cube = _build() if resolution == 0.5 else _coarsen(fetch_grid(0.5))
        code = code_version(MADE_BY)
        attrs = {"registry_sha256": registry_sha256(), "code_version": code}
        return cube.assign_attrs(history=f"built by tamrl.data.grid, code {code}", **attrs)

    name = f"grid-{resolution:g}deg"
    path = derived_path(name, MADE_BY)
    if _latest.get("path") != path or not path.is_file():
        ds = without_fill(derived(name, MADE_BY, build))
        for variable in ds.variables.values():
            variable.values.flags.writeable = False
        _latest.update(path=path, ds=ds)
    return _latest["ds"]


def is_stored() -> bool:
    """Whether `fetch_grid` has only to read what it computed before."""
    return derived_path("grid-0.5deg", MADE_BY).is_file()


def _build() -> xr.Dataset:
    paths = {p.name: p for p in fetch(registry_names("grid/"), "Fetching the predictor grid")}
    climate = gridfiles.biome4_climate(paths["BIOME4_inputdata.nc"])
    lat = centres()[0][:, None]
    first = np.r_[1, np.cumsum(MONTH_DAYS).round() + 1]  # of each month, day of the year
    month_days = [first[m] + np.arange(int(MONTH_DAYS[m])) for m in range(12)]
    sw_pot = np.stack([potential_radiation(lat, d).mean(1) for d in month_days])[:, :, None]
    rh = gridfiles.relative_humidity(paths["gpt_1wA.pickle"])
    land, igbp = gridfiles.land_cover(paths["MCD12C1.A2019001.006.tif"])
    evi = gridfiles.vegetation_index([p for name, p in paths.items() if "0.5rs-Raster" in name])
    sand, clay = gridfiles.clm_land_table(paths["gridinfo_soil_CLM5_GSWP3.csv"], ["sand", "clay"])
    (ndep,) = gridfiles.clm_land_table(paths["gridinfo_igbpz_CLM5_GSWP3.csv"], ["Ndep"])
    fields: dict[str, Array] = {
        **climate,
        "SW_POT": np.broadcast_to(sw_pot, climate["TA"].shape),
        "SW_IN": (0.25 + 0.50 * climate["SUN"] / 100) * sw_pot,
        "VPD": saturation_pressure(climate["TA"]) * (1 - rh),
        "EVI": np.where(np.isnan(evi), np.fmin.reduce(evi, axis=0), evi),
        "EVI_filled": np.isnan(evi).astype(np.float64),
        "elevation": gridfiles.elevation(paths["Altitude.h5"]),
        "awc": gridfiles.half_degree(paths["watergap_22e_tawc.nc4"], "tawc"),
        **{"sand": sand, "clay": clay, "ndep": ndep},
        "soil_cn": gridfiles.half_degree(paths["CNrt.nc"], "CNrt"),
        "stand_age": gridfiles.half_degree(paths["age.nc"], "age"),
        "lma": gridfiles.half_degree(paths["LMA.nc"], "LMA"),
        "fapar_mean": gridfiles.half_degree(paths["fAPAR.nc"], "fAPAR"),
    }
    fields["EVI_filled"][np.isnan(fields["EVI"])] = np.nan
    fields = {name: np.where(land > 0, field, np.nan) for name, field in fields.items()}
    classes = koppen_class(fields["TA"], fields["PRCP"] * MONTH_DAYS[:, None, None])
    return make_cube(fields | {"land_fraction": land, "igbp_fraction": igbp}, classes, 0.5)


def _coarsen(cube: xr.Dataset) -> xr.Dataset:
    """Average 0.5-degree cells to 1 degree with the exact area of their land as weight."""
    area, land = (cube[name].to_numpy().astype(float) for name in ("area", "land_fraction"))
    fields = {
        name: block_mean(cube[name].to_numpy().astype(np.float64), area * land, 2)
        for name in VARIABLES.keys() - {"area", "land_fraction"}
    }
    fields["land_fraction"] = block_mean(land, area, 2)
    # The class that covers most of the land, among those that are known.
    is_class = ((cube["koppen"].to_numpy() == k) * 1.0 for k in range(1, 31))
    cover = np.nan_to_num([block_mean(cells, area * land, 2) for cells in is_class])
    classes = np.where(cover.any(axis=0), cover.argmax(axis=0) + 1, 0)
    return make_cube(fields, classes.astype(np.int8), 1.0)


LandCells = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], cKDTree]  # row, column, search tree
_land_cells: dict[int, LandCells] = {}  # by the identity of the cube, as long as it lives


def _land(cube: xr.Dataset) -> LandCells:
    """Find the cells in which every monthly variable is known: once, for a tree takes its time."""
    if id(cube) not in _land_cells:
        monthly = [field.notnull().all("month") for field in cube.values() if "month" in field.dims]
        has_land = [cube["land_fraction"] > 0] if "land_fraction" in cube else []
        known = np.logical_and.reduce([k.transpose("lat", "lon") for k in (*monthly, *has_land)])
        row, col = np.nonzero(known)
        at = unit_vectors(cube["lat"].to_numpy()[row], cube["lon"].to_numpy()[col])
        _land_cells[id(cube)] = row, col, cKDTree(at)
        weakref.finalize(cube, _land_cells.pop, id(cube), None)
    return _land_cells[id(cube)]


def grid_at(cube: xr.Dataset, lat: npt.ArrayLike, lon: npt.ArrayLike) -> xr.Dataset:
    """Sample the cube (month, lat, lon), as from `fetch_grid`, at places ``lat``, ``lon`` (site,).

    Each place takes all its values from one cell: the nearest in which every monthly variable is
    known all year, so that a coastal tower is not lost; NaN (koppen 0) if none lies within
    1.5 cells. The search tree is made once a cube: do not change a cube in place after the first
    call, but copy it.

    Positions are in degrees; a DataArray's coordinate `site` is kept. Returns dims (site, month),
    statics (site,), igbp_fraction (site, igbp), and the cell's centre as coordinates cell_lat and
    cell_lon (site,).
    """
    place_lat = np.atleast_1d(np.asarray(lat, dtype=np.float64))
    place_lon = (np.atleast_1d(np.asarray(lon, dtype=np.float64)) + 180) % 360 - 180
    rows, cols, tree = _land(cube)
    distance, nearest = tree.query(unit_vectors(place_lat, place_lon))
    row, col = (np.append(at, 0)[nearest] for at in (rows, cols))  # without land there is no near
    cells_lat, cells_lon = cube["lat"].to_numpy(), cube["lon"].to_numpy()
    east = np.abs((cells_lon[col] - place_lon + 180) % 360 - 180)
    near = np.abs(cells_lat[row] - place_lat) <= FARTHEST * abs(cells_lat[1] - cells_lat[0])
    near &= np.isfinite(distance)
    near &= east <= FARTHEST * abs(cells_lon[1] - cells_lon[0])

    at = cube.drop_vars(["lat_bnds", "lon_bnds"], errors="ignore").isel(
        lat=xr.DataArray(row, dims="site"), lon=xr.DataArray(col, dims="site")
    )
    at = at.rename(lat="cell_lat", lon="cell_lon")
    inside = xr.DataArray(near, dims="site")
    for name, field in () if near.all() else at.data_vars.items():
        missing = np.nan if np.issubdtype(field.dtype, np.floating) else field.dtype.type(0)
        at[name] = field.where(inside, missing).astype(field.dtype).assign_attrs(field.attrs)
    if isinstance(lat, xr.DataArray) and "site" in lat.coords:
        at = at.assign_coords(site=lat["site"].to_numpy())
    return at.transpose("site", ...)
