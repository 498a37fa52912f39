"""The map file: axes, variables and attributes after CF-1.11, and its export to NetCDF."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.cube import cell_area, cell_edges
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.files import atomic_write
from tamrl.maps.cubes import AXES, Cube, time_edges

# CF has no name for carbon; UDUNITS reads "gC" as no unit at all. The long names say carbon.
UNITS = "g m-2 d-1"
LONG_NAMES = {
    "GPP": "gross primary production, as carbon",
    "RECO": "ecosystem respiration, as carbon",
    "NEE": "net ecosystem exchange, as carbon (negative: uptake)",
}
# RECO and NEE of all ecosystem processes have no standard name; the nearest cover less or more.
STANDARD_NAMES = {"GPP": "gross_primary_productivity_of_biomass_expressed_as_carbon"}
QUALITY = {
    "driver_missing": 1,  # not predicted: a monthly or daily input of this cell and time is absent
    "static_missing": 2,  # predicted without one or more facts about the cell
    "vegetation_index_filled": 4,  # polar night: the cell's lowest value stands in
    "model_gave_none": 8,  # not predicted although all drivers were there
}
NO_LAND = 255
CLIMATOLOGY_YEARS = (1991, 2014)  # of the towers' fluxes (Pastorello et al. 2020)
_EPOCH = np.datetime64("1991-01-01", "D")
PACKED_STEP = 0.002  # g m-2 d-1; int16 then spans +-65, and no flux is near that

Template = tuple[xr.Dataset, xr.Dataset]


def map_layout(
    cube: Cube, members: int, strip: int, bounds: bool, attrs: Mapping[str, Any]
) -> Template:
    """Describe an empty map of the cube's axes, ``strip`` rows of latitude to a chunk.

    Returns what is known beforehand (axes, area), and lazy arrays of fluxes (time, lat, lon), with
    ``bounds`` or without, of the ``members``' means over time (member, lat, lon), quality and land
    fraction. ``attrs`` are global.
    """
    lat, lon = cube.ds["lat"].to_numpy(), cube.ds["lon"].to_numpy()
    small = xr.Dataset(coords=_axes(cube), attrs={"Conventions": "CF-1.11", **attrs})
    area = {"units": "m2", "standard_name": "cell_area", "long_name": "area of the cell"}
    small["area"] = (("lat", "lon"), cell_area(lat, lon), area)
    about = {"long_name": "model of the ensemble", "units": "1"}
    small = small.assign_coords(member=("member", np.arange(members), about))

    large = xr.Dataset(attrs=small.attrs)  # both are written to one group
    sizes = {"time": cube.ds.sizes["time"], "member": members}

    def add(name: str, lead: str, fill: Any, about: Mapping[str, Any]) -> None:
        shape = (*((sizes[lead],) if lead else ()), len(lat), len(lon))
        empty = da.full(shape, fill, dtype=fill.dtype, chunks=-1)  # nothing is computed
        dims = (lead, "lat", "lon") if lead else ("lat", "lon")
        large[name] = xr.Variable(dims, empty, {**about, "cell_measures": "area: area"})
        large[name].encoding["chunks"] = (*shape[:-2], strip, len(lon))

    nan = np.float32(np.nan)
    time = "time: mean within years time: mean over years" if cube.climatology else "time: mean"
    on_land = {"units": UNITS, "cell_methods": f"{time} (mean over the land of the cell)"}
    texts = {"": "", "_sd": "standard deviation over the ensemble"}
    if bounds:
        texts |= {f"_{side}": f"{side} bound of the interval" for side in ("lower", "upper")}
    for flux in FLUXES:
        standard = {"standard_name": STANDARD_NAMES[flux]} if flux in STANDARD_NAMES else {}
        base = {"long_name": LONG_NAMES[flux], "ancillary_variables": "quality", **standard}
        for suffix, text in texts.items():
            about = {"long_name": f"{flux}, {text}"} if suffix else base
            add(flux + suffix, "time", nan, {**on_land, **about})
        text = f"{flux} of each model, mean over time; unpredicted times count as 0"
        add(f"{flux}_member", "member", nan, {"units": UNITS, "long_name": text})
    flags = {
        "long_name": "quality of the prediction; 0: all inputs known",
        "standard_name": "quality_flag",
        "flag_masks": np.array(list(QUALITY.values()), dtype=np.uint8),
        "flag_meanings": " ".join(QUALITY),
    }
    add("quality", "time", np.uint8(NO_LAND), flags)
    land = {"standard_name": "land_area_fraction", "long_name": "share of the cell that is land"}
    add("land_fraction", "", nan, {"units": "1", **land})
    return small, large


def _axes(cube: Cube) -> dict[str, xr.Variable]:
    axes: dict[str, xr.Variable] = {}
    for name, (standard, unit, _) in AXES.items():
        values = cube.ds[name].to_numpy().astype(np.float64)
        edges = cell_edges(values)
        edges = np.clip(edges, -90, 90) if name == "lat" else edges
        attrs = {"standard_name": standard, "long_name": standard, "units": unit}
        attrs |= {"axis": "Y" if name == "lat" else "X", "bounds": f"{name}_bnds"}
        axes[name] = xr.Variable(name, values, attrs)
        axes[f"{name}_bnds"] = xr.Variable((name, "bnds"), np.stack([edges[:-1], edges[1:]], 1))
    time, bounds = _time(cube)
    name = "climatology_bounds" if cube.climatology else "time_bnds"
    attrs = {
        "standard_name": "time",
        "long_name": "time",
        "axis": "T",
        "units": f"days since {_EPOCH}",
        "calendar": "standard",
        "units_metadata": "leap_seconds: none",
        "climatology" if cube.climatology else "bounds": name,
    }
    axes["time"] = xr.Variable("time", time, attrs)
    axes[name] = xr.Variable(("time", "bnds"), bounds)
    return axes


def _time(cube: Cube) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give times (time,) and their bounds (time, 2) in days since the epoch.

    A climatology's month spans the same month of all years (CF-1.11, section 7.4).
    """

    def days(date: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float64]:
        return (date - _EPOCH) / np.timedelta64(1, "D")

    if not cube.climatology:
        edges = days(time_edges(cube.ds["time"].to_numpy()))
        return days(cube.ds["time"].to_numpy()), np.stack([edges[:-1], edges[1:]], axis=1)
    first, last = CLIMATOLOGY_YEARS
    month = np.arange(12)
    start = np.datetime64(f"{first}-01", "M") + month
    end = np.datetime64(f"{last}-01", "M") + month + 1
    middle = np.datetime64(f"{(first + last) // 2}-01", "M") + month
    times = days(middle.astype("datetime64[D]")) + 14
    bounds = [days(edge.astype("datetime64[D]")) for edge in (start, end)]
    return times, np.stack(bounds, axis=1)


def map_facts(
    digests: Sequence[str],
    cube: Cube,
    intervals: Mapping[str, Conformal] | None,
    level: float,
    code_files: Sequence[Path],
) -> dict[str, Any]:
    """Give global attributes, among them the identity of the map: equal inputs, equal map.

    The cube counts by its axes and by a sample of rows, so that it need not be read twice.
    """
    weights = hashlib.sha256("".join(digests).encode()).hexdigest()
    code = hashlib.sha256(b"".join(file.read_bytes() for file in code_files))
    ds, sample = cube.ds, cube.sample()
    data = hashlib.sha256()
    for name, variable in sorted(sample.variables.items(), key=lambda item: str(item[0])):
        data.update(f"{name} {variable.dims} {variable.attrs.get('units')}".encode())
        values = variable.to_numpy()
        data.update(values.astype(str).tobytes() if values.dtype.kind in "UO" else values.tobytes())
    for axis in ("time", "lat", "lon"):
        data.update(ds[axis].to_numpy().tobytes())
    bounds = {flux: one.to_dict() for flux, one in (intervals or {}).items()}
    what = json.dumps([weights, data.hexdigest(), code.hexdigest(), bounds, level])
    mean_year = (
        "A mean seasonal cycle from climatological predictors, not the cycle of any year; the "
        "climatology bounds are the years of the towers' fluxes. "
    )
    facts: dict[str, Any] = {
        "title": "Carbon fluxes of land, upscaled from flux towers"
        + (", monthly climatology" if cube.climatology else ""),
        "institution": "computed by the user of tamrl",
        "source": f"ensemble of {len(digests)} map models on gridded predictors",
        "history": "made by tamrl.maps.upscale",
        "references": "doi:10.1038/s41597-020-0534-3",
        "comment": (mean_year if cube.climatology else "")
        + "NEE = RECO - GPP; negative NEE is uptake. Masses are of carbon, per area of land; "
        "snow, ice and barren ground count as without flux."
        + ("" if "land_fraction" in ds else " Land fraction not given: cells taken as all land."),
        "weights_sha256": weights,
        "code_version": code.hexdigest()[:12],
        "registry_sha256": str(ds.attrs.get("registry_sha256", "unknown")),
        "features": " ".join(cube.features),
        "identity": hashlib.sha256(what.encode()).hexdigest(),
    }
    if intervals is not None:
        facts["interval"] = "conformal, calibrated on towers that the members had not seen"
        facts["interval_level"] = level
    return facts


def open_map(path: Path | str) -> xr.Dataset:
    """Open a map made by `upscale`, lazily."""
    ds = xr.open_zarr(path, consolidated=False, decode_coords="all")
    return ds[sorted(ds.data_vars)]


def export_netcdf(
    source: Path | str, path: Path | str, packed: bool = False, names: Sequence[str] = ()
) -> Path:
    """Write a map as one NetCDF-4 file for Panoply, CDO, GrADS or a GIS, strip by strip.

    ``source`` is a Zarr store made by `upscale`; ``path`` appears complete or not at all.
    ``packed`` stores fluxes as int16 in steps of 0.002 g m-2 d-1 (CF section 8.1, scale_factor):
    half of the size, an error of at most 0.001. ``names`` are the variables to write; all by
    default. DataError for a value that int16 cannot hold.
    """
    path = Path(path)
    ds = xr.open_zarr(source, consolidated=False, decode_cf=False)
    if names:
        ds = ds[[*names, "area", "land_fraction", *(["quality"] if "quality" in ds else [])]]
    encoding: dict[str, dict[str, Any]] = {}
    for name, array in ds.variables.items():
        fill = array.attrs.pop("_FillValue", None)
        flux = str(name).split("_")[0] in FLUXES
        encoding[str(name)] = {"_FillValue": fill if name in ds.data_vars else None}
        if array.ndim > 1 and name in ds.data_vars:
            encoding[str(name)] |= {"zlib": True, "complevel": 2}
        if flux and packed and name in ds.data_vars:
            span = float(abs(ds[name]).max()) if array.dtype.kind == "f" else 0.0
            if span > 32767 * PACKED_STEP:
                raise DataError(
                    f"{source}: {name} reaches {span:.4g} {UNITS}, beyond the "
                    f"{32767 * PACKED_STEP:.4g} that int16 holds here; export it unpacked"
                )
            pack = {"dtype": "int16", "scale_factor": PACKED_STEP, "_FillValue": -32768}
            encoding[str(name)] |= pack
        array.encoding = {}
        if "flag_masks" in array.attrs:  # Zarr keeps numbers, but not their kind
            array.attrs["flag_masks"] = np.asarray(array.attrs["flag_masks"], dtype=array.dtype)
    with atomic_write(path) as part:
        ds.to_netcdf(part, engine="netcdf4", encoding=encoding)
    return path
