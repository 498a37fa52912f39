"""What the predictor cube looks like: its variables, units, ranges, sources and coordinates."""

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.gridfiles import LAND_CLASSES, Array, band_area, centres
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import IGBP_NAMES, facts, variables
from tamrl.errors import DataError

VARIABLES = variables("grid")  # with units and possible range
AXES = {  # of cubes: standard name, unit, what they are called
    "lat": ("latitude", "degrees_north", ("lat", "latitude", "y")),
    "lon": ("longitude", "degrees_east", ("lon", "longitude", "x")),
}
_NOTES = facts("variables_grid").set_index("name")[["source", "derived"]]


def cell_area(lat: npt.ArrayLike, lon: npt.ArrayLike) -> Array:
    """Exact areas (lat, lon), m2, of the cells of a regular grid with these centres, degrees.

    R^2 x (difference of the sines of the edges) x (width in radians), R = 6371007.2 m. A degree at
    the equator, in km2, and all cells of the globe together, in million km2:

    >>> area = cell_area(np.arange(-89.5, 90), np.arange(-179.5, 180))
    >>> round(float(area[90, 0]) / 1e6, 1), round(float(area.sum()) / 1e12, 3)
    (12363.7, 510.066)
    """
    edges = np.clip(cell_edges(np.asarray(lat, float)), -90, 90)
    return band_area(edges)[:, None] * np.abs(np.diff(cell_edges(np.asarray(lon, float))))


def cell_edges(centre: Array) -> Array:
    """Edges (n + 1) of n cells with equally spaced centres, deg."""
    if len(centre) < 2:
        raise DataError("a grid axis needs at least two cells, or its cell size is unknown")
    step = (centre[-1] - centre[0]) / (len(centre) - 1)
    return centre[0] + step * (np.arange(len(centre) + 1) - 0.5)


def make_cube(fields: dict[str, Array], classes: npt.NDArray[np.int8], step: float) -> xr.Dataset:
    """Label the fields of a global grid of `step` degrees, after checking their ranges.

    ``fields`` holds (month, lat, lon), (igbp, lat, lon) or (lat, lon) of all VARIABLES but `area`;
    ``classes`` Koppen class numbers (lat, lon), 0 for none. Raises DataError for a value that
    cannot be.
    """
    fields = fields | {"area": cell_area(*centres(step))}
    names = " ".join(IGBP_NAMES[code].replace(" ", "_") for code in LAND_CLASSES)
    month = ("month", np.arange(1, 13), {"long_name": "month", "units": "1"})
    igbp = ("igbp", np.array(LAND_CLASSES), {"long_name": "IGBP class", "comment": names})
    ds = xr.Dataset(coords={"month": month, **lat_lon_axes(*centres(step)), "igbp": igbp})
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
        ds[name].attrs |= {key: note for key, note in _NOTES.loc[name].items() if note}
        if name != "area":
            ds[name].attrs["cell_measures"] = "area: area"
    ds["TA"].attrs["units_metadata"] = "temperature: on_scale"
    ds["EVI"].attrs["ancillary_variables"] = "EVI_filled"
    rules = "Koppen-Geiger rules of Beck et al. 2018 (doi:10.1038/sdata.2018.214) on TA, PRCP"
    flags = {
        "long_name": "Koppen-Geiger climate class", "flag_values": np.arange(31, dtype=np.int8),
        "flag_meanings": " ".join(("none", *KOPPEN_CODES)), "derived": rules,
        "cell_measures": "area: area",
    }  # fmt: skip
    ds["koppen"] = (("lat", "lon"), classes, flags)
    see = "see the attribute `source` or `derived` of each variable"
    return ds.assign_attrs(
        Conventions="CF-1.11", source=see, references=see, citation=see, resolution=step,
        title=f"Monthly climatology of predictors of carbon fluxes, {step:g} degrees",
        comment="A mean seasonal cycle, not years: normals of climate, vegetation index of 2006.",
        institution="computed locally from public files",
        licence="none stated for several sources: for use, not for redistribution",
    )  # fmt: skip


def find_axes(ds: xr.Dataset) -> dict[str, list[str]]:
    """Dimensions by axis of `AXES` that are it by their standard name, unit or else their name.

    Those of a projection, a rotated pole or a curvilinear grid are none, whatever they are called:

    >>> km = xr.Dataset(coords={"y": ("y", [0.0, 25.0], {"units": "km"}), "lon": [1.0, 2.0]})
    >>> find_axes(km)
    {'lat': [], 'lon': ['lon']}
    """
    flat = {str(n).lower() for n, v in ds.variables.items() if v.ndim > 1}
    return {
        axis: [str(d) for d in ds.dims if d in ds.coords and _looks_like(ds[d], axis)]
        if flat.isdisjoint(names) else []
        for axis, (_, _, names) in AXES.items()
    }  # fmt: skip


def _looks_like(coordinate: xr.DataArray, axis: str) -> bool:
    standard, unit, names = AXES[axis]
    said, units = (str(coordinate.attrs.get(n, "")) for n in ("standard_name", "units"))
    if said or units in (unit, *(other for _, other, _ in AXES.values())):
        return said.lower() in (standard, *names) if said else units == unit
    return str(coordinate.name).lower() in names and bool(re.search("deg|°|^1?$", units.lower()))


def lat_lon_axes(lat: Array, lon: Array, bounds: bool = True) -> dict[str, xr.Variable]:
    """CF coordinates of a regular grid with these cell centres, degrees; none has a fill value.

    With ``bounds`` come ``lat_bnds`` (lat, bnds) and ``lon_bnds`` (lon, bnds), the edges of cells.
    """
    axes = {}
    for name, long, unit, axis, values in (
        ("lat", "latitude", "degrees_north", "Y", lat),
        ("lon", "longitude", "degrees_east", "X", lon),
    ):
        attrs: dict[str, Any] = {"standard_name": long, "units": unit, "axis": axis}
        axes[name] = xr.Variable(name, values, attrs, {"_FillValue": None})
        if bounds:
            edges = cell_edges(values)
            axes[name].attrs["bounds"] = f"{name}_bnds"
            pairs = np.stack([edges[:-1], edges[1:]], axis=1)
            axes[f"{name}_bnds"] = xr.Variable((name, "bnds"), pairs, {}, {"_FillValue": None})
    return axes


def without_fill(ds: xr.Dataset) -> xr.Dataset:
    """Keep xarray from giving coordinates a fill value when saved again."""
    for name in {"lat", "lon", "lat_bnds", "lon_bnds"} & set(ds.variables):
        ds[name].encoding["_FillValue"] = None
    return ds
