"""What the predictor cube looks like: its variables, units, ranges, sources and coordinates."""

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.gridfiles import LAND_CLASSES, Array, band_area, centres
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import IGBP_NAMES, Variable
from tamrl.errors import DataError

_CLIMATE = "BIOME4 input data (Kaplan et al. 2003, doi:10.1029/2002JD002559)"
_CN = "yunkepeng/CNuptake_MS"
_CLM = "CLM5 land table of the biogeochemical testbed (doi:10.1111/gcb.13979)"

# The cube's variables with units and possible range; then where each comes from and, where it was
# not read but computed, how.
VARIABLES: dict[str, Variable] = {
    "TA": Variable("degC", "air temperature, monthly mean", -75, 45, "air_temperature"),
    "PRCP": Variable("mm d-1", "precipitation, monthly mean", 0, 100, "lwe_precipitation_rate"),
    "SUN": Variable("%", "sunshine, share of the possible", 0, 100),
    "SW_POT": Variable("W m-2", "shortwave radiation at the top of the atmosphere", 0, 600),
    "SW_IN": Variable(
        "W m-2", "shortwave radiation received", 0, 450, "surface_downwelling_shortwave_flux_in_air"
    ),
    "VPD": Variable(
        "hPa", "vapour pressure deficit", 0, 90, "water_vapor_saturation_deficit_in_air"
    ),
    "EVI": Variable("1", "enhanced vegetation index", -0.21, 1),
    "EVI_filled": Variable("1", "share of the vegetation index that was filled", 0, 1 + 1e-6),
    "elevation": Variable("m", "elevation of the land", -451, 7000, "surface_altitude"),
    "awc": Variable("mm", "plant-available water capacity of the top metre", 0, 1000),
    "sand": Variable("1", "sand, mass fraction of the mineral soil", 0, 1),
    "clay": Variable("1", "clay, mass fraction of the mineral soil", 0, 1),
    "soil_cn": Variable("1", "carbon to nitrogen ratio of the soil", 1, 100),
    "stand_age": Variable("yr", "age of the forest stand", 0, 500),
    "lma": Variable("g m-2", "leaf mass per area", 10, 500),
    "ndep": Variable("g m-2 yr-1", "deposition of nitrogen", 0, 50),
    "fapar_mean": Variable("1", "absorbed share of photosynthetic radiation, mean", 0, 1),
    "land_fraction": Variable("1", "share of the cell that is land", 0, 1, "land_area_fraction"),
    "igbp_fraction": Variable("1", "share of the cell's land in an IGBP class", 0, 1 + 1e-6),
    "area": Variable("m2", "area of the cell", 0, 1e11, "cell_area"),
}
SOURCES = {
    "TA": _CLIMATE,
    "PRCP": _CLIMATE,
    "SUN": _CLIMATE,
    "EVI": "MOD13C2 of 2006 (doi:10.5067/MODIS/MOD13C2.006)",
    "elevation": "pvlib's altitude table (doi:10.21105/joss.00884); bedrock under ice sheets",
    "awc": "WaterGAP 2.2e (Mueller Schmied et al.), LGPL-3.0",
    "sand": _CLM,
    "clay": _CLM,
    "soil_cn": f"Batjes' soil data, through {_CN}",
    "stand_age": f"Global Forest Age Dataset, through {_CN}",
    "lma": f"Moreno-Martinez et al., through {_CN}",
    "ndep": f"{_CLM}; its unit is not stated, gN m-2 yr-1 by magnitude",
    "fapar_mean": f"mean MODIS fAPAR, through {_CN}",
    "land_fraction": "MCD12C1 of 2019 (doi:10.5067/MODIS/MCD12C1.006), classes other than water",
    "igbp_fraction": "MCD12C1 of 2019 (doi:10.5067/MODIS/MCD12C1.006)",
}
DERIVED = {
    "SW_POT": "orbital geometry (FAO-56 eq. 21), mean over the days of the month",
    "SW_IN": "Angstrom-Prescott (FAO-56 eq. 35): (0.25 + 0.50 SUN / 100) SW_POT",
    "VPD": "es(TA) (1 - RH), RH from GPT2w humidity and temperature (doi:10.1007/"
    "s10291-014-0403-7); of monthly means, so below the daytime deficit",
    "EVI_filled": "1 where the month had no index (polar night) and took the cell's lowest",
    "koppen": "Koppen-Geiger rules of Beck et al. 2018 (doi:10.1038/sdata.2018.214) on TA, PRCP",
    "area": "exact area between meridians and parallels on the authalic sphere, R = 6371007.2 m",
}


def cell_area(lat: npt.ArrayLike, lon: npt.ArrayLike) -> Array:
    """Exact areas (lat, lon), m2, of the cells of a regular grid with these centres, degrees.

    R^2 x (difference of the sines of the edges) x (width in radians) on the sphere of the WGS84
    ellipsoid's area, R = 6371007.2 m (Moritz 2000, doi:10.1007/s001900050278).

    Examples
    --------
    A degree at the equator, in km2, and all cells of the globe together, in million km2:

    >>> area = cell_area(np.arange(-89.5, 90), np.arange(-179.5, 180))
    >>> round(float(area[90, 0]) / 1e6, 1), round(float(area.sum()) / 1e12, 3)
    (12363.7, 510.066)
    """
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    edges = np.clip(cell_edges(lat), -90, 90)
    return band_area(edges)[:, None] * np.abs(np.diff(cell_edges(lon)))


def cell_edges(centre: Array) -> Array:
    """Edges (n + 1) of n cells with equally spaced centres, deg."""
    if len(centre) < 2:
        raise DataError("a grid axis needs at least two cells, or its cell size is unknown")
    step = (centre[-1] - centre[0]) / (len(centre) - 1)
    return centre[0] + step * (np.arange(len(centre) + 1) - 0.5)


def make_cube(fields: dict[str, Array], classes: npt.NDArray[np.int8], step: float) -> xr.Dataset:
    """Label the fields of a global grid of `step` degrees, after checking their ranges.

    Parameters
    ----------
    fields
        Name -> (month, lat, lon), (igbp, lat, lon) or (lat, lon), for all VARIABLES but `area`.
    classes
        Koppen class numbers (lat, lon), 0 for none.

    Raises
    ------
    DataError
        For a value that cannot be.
    """
    lat, lon = centres(step)
    fields = fields | {"area": cell_area(lat, lon)}
    ds = xr.Dataset(coords=_coordinates(lat, lon))
    for name, variable in VARIABLES.items():
        values = fields[name]
        outside = (values < variable.low) | (values > variable.high)
        if outside.any():
            raise DataError(
                f"grid: {name} is {values[outside][0]:.6g}, outside {variable.low:g} to "
                f"{variable.high:g} {variable.units}; a source file or its reader is wrong"
            )
        lead = {2: (), 3: ("igbp",) if name == "igbp_fraction" else ("month",)}[values.ndim]
        dtype = np.float64 if name == "area" else np.float32
        ds[name] = ((*lead, "lat", "lon"), values.astype(dtype), variable.attrs)
        for key, notes in (("source", SOURCES), ("derived", DERIVED)):
            if name in notes:
                ds[name].attrs[key] = notes[name]
        if name != "area":
            ds[name].attrs["cell_measures"] = "area: area"
    ds["TA"].attrs["units_metadata"] = "temperature: on_scale"
    ds = without_fill(ds)
    ds["EVI"].attrs["ancillary_variables"] = "EVI_filled"
    ds["koppen"] = (("lat", "lon"), classes)
    ds["koppen"].attrs = {
        "long_name": "Koppen-Geiger climate class",
        "flag_values": np.arange(31, dtype=np.int8),
        "flag_meanings": " ".join(("none", *KOPPEN_CODES)),
        "derived": DERIVED["koppen"],
        "cell_measures": "area: area",
    }
    return ds.assign_attrs(
        Conventions="CF-1.11",
        title=f"Monthly climatology of predictors of carbon fluxes, {step:g} degrees",
        source="see the attribute `source` or `derived` of each variable",
        references="see the attribute `source` or `derived` of each variable",
        comment="A mean seasonal cycle, not years: normals of climate, vegetation index of 2006.",
        institution="computed locally from public files",
        licence="none stated for several sources: for use, not for redistribution",
        citation="see the attribute `source` or `derived` of each variable",
        resolution=step,
    )


def without_fill(ds: xr.Dataset) -> xr.Dataset:
    """Keep xarray from giving coordinates a fill value when saved: CF has none missing there."""
    for name in ("lat", "lon", "lat_bnds", "lon_bnds"):
        ds[name].encoding["_FillValue"] = None
    return ds


def _coordinates(lat: Array, lon: Array) -> dict[str, xr.Variable]:
    def bounds(axis: Array) -> Array:
        edges = cell_edges(axis)
        return np.stack([edges[:-1], edges[1:]], axis=1)

    north = {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"}
    east = {"standard_name": "longitude", "units": "degrees_east", "axis": "X"}
    names = " ".join(IGBP_NAMES[code].replace(" ", "_") for code in LAND_CLASSES)
    return {
        "month": xr.Variable("month", np.arange(1, 13), {"long_name": "month", "units": "1"}),
        "lat": xr.Variable("lat", lat, north | {"bounds": "lat_bnds"}),
        "lon": xr.Variable("lon", lon, east | {"bounds": "lon_bnds"}),
        "lat_bnds": xr.Variable(("lat", "bnds"), bounds(lat)),
        "lon_bnds": xr.Variable(("lon", "bnds"), bounds(lon)),
        "igbp": xr.Variable(
            "igbp", np.array(LAND_CLASSES), {"long_name": "IGBP class", "comment": names}
        ),
    }
