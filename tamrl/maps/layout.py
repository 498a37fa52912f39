"""The map file: axes, variables and attributes after CF-1.11, and its export to NetCDF."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.cube import AXES, cell_area, lat_lon_axes
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError, InputWarning
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.learner import versions
from tamrl.files import atomic_write
from tamrl.maps.cubes import Cube

UNITS = "g m-2 d-1"  # of carbon, as the long names say: UDUNITS knows no "gC"
LONG_NAMES = {
    "GPP": "gross primary production, as carbon", "RECO": "ecosystem respiration, as carbon",
    "NEE": "net ecosystem exchange, as carbon (negative: uptake)",
}  # fmt: skip
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
_OWN = (
    "cells",
    "cubefiles",
    "cubes",
    "ensemble",
    "layout",
    "monthly",
    "timeaxis",
    "training",
    "upscale",
)
_OTHER = ("data/grid.py", "data/units.py", "shipped/applicability.py")
_ROOT = Path(__file__).parents[1]
_CODE = (
    *(_ROOT / "maps" / f"{name}.py" for name in _OWN), *map(_ROOT.joinpath, _OTHER),
    *sorted((_ROOT / "samples").glob("*.py")),
)  # fmt: skip
_EPOCH = np.datetime64("1991-01-01", "D")
STRIP_BYTES = 32e6  # inputs of one strip
STRIP_ROWS = 10  # at most
AGAIN_BYTES = 4e9  # read once more that are worth a warning
PACKED_STEP = 0.002  # g m-2 d-1; int16 then spans +-65, and no flux is near that


def strip_rows(cube: Cube) -> int:
    """Rows of a strip: whole chunks of the source where it has room, so that each is read once.

    InputWarning with a remedy where a source is read several times, and that takes a while.
    """
    sizes, rows = cube.ds.sizes, cube.stored_rows
    row_bytes = 4 * sizes["time"] * sizes["lon"] * len(cube.features)
    strip = int(np.clip(STRIP_BYTES // row_bytes, 1, STRIP_ROWS))
    if rows <= strip:
        return strip - strip % rows
    again = -(-min(rows, sizes["lat"]) // strip)
    if (again - 1) * row_bytes * sizes["lat"] > AGAIN_BYTES:
        what = f"chunks hold {rows} rows of latitude, so that the map reads each {again} times"
        text = f".chunk(time=-1, lat={strip}, lon=-1).drop_encoding().to_zarr('quick.zarr')"
        remedy = f"store it anew, open it with xarray and call {text}, then map that"
        warnings.warn(f"{cube.name}: {what}; to be quicker, {remedy}", InputWarning, stacklevel=4)
    return strip


def map_layout(
    cube: Cube, members: int, strip: int, bounds: tuple[bool, bool], attrs: Mapping[str, Any]
) -> tuple[xr.Dataset, xr.Dataset]:
    """Empty map of the cube's axes, ``strip`` rows to a chunk, with global ``attrs``.

    ``bounds``: whether steps have some, and means over all times.

    Returns axes and area, and lazy arrays of fluxes, quality (time, lat, lon), of the ``members``'
    means (member, lat, lon) and land fraction.
    """
    lat, lon = cube.ds["lat"].to_numpy(), cube.ds["lon"].to_numpy()
    about = {"long_name": "model of the ensemble", "units": "1"}
    axes = {**_axes(cube), "member": xr.Variable("member", np.arange(members), about)}
    small = xr.Dataset(coords=axes, attrs={"Conventions": "CF-1.11", **attrs})
    area = {"units": "m2", "standard_name": "cell_area", "long_name": "area of the cell"}
    small["area"] = (("lat", "lon"), cell_area(lat, lon), area)
    large = xr.Dataset(attrs=small.attrs)  # both are written to one group

    def add(name: str, lead: Sequence[str], fill: Any, about: Mapping[str, Any]) -> None:
        shape = tuple(small.sizes[d] for d in (*lead, "lat", "lon"))
        empty = da.full(shape, fill, dtype=fill.dtype, chunks=-1)  # nothing is computed
        about = {**about, "cell_measures": "area: area"}
        large[name] = xr.Variable((*lead, "lat", "lon"), empty, about)
        large[name].encoding = {"chunks": (*shape[:-2], strip, len(lon)), "_FillValue": fill}

    nan = np.float32(np.nan)
    time = "time: mean within years time: mean over years" if cube.climatology else "time: mean"
    on_land = {"units": UNITS, "cell_methods": f"{time} (mean over the land of the cell)"}
    texts = {"_sd": "standard deviation over the ensemble"}
    sides = {f"_{side}": f"{side} bound of the interval" for side in ("lower", "upper")}
    texts |= sides if bounds[0] else {}
    for flux in FLUXES:
        standard = {"standard_name": STANDARD_NAMES[flux]} if flux in STANDARD_NAMES else {}
        base = {"long_name": LONG_NAMES[flux], "ancillary_variables": "quality", **standard}
        add(flux, ["time"], nan, on_land | base)
        for suffix, text in texts.items():
            add(flux + suffix, ["time"], nan, on_land | {"long_name": f"{flux}, {text}"})
        text = f"{flux} of each model, mean over time; unpredicted times count as 0"
        add(f"{flux}_member", ["member"], nan, {"units": UNITS, "long_name": text})
        for suffix, text in sides.items() if bounds[1] else ():
            about = {"units": UNITS, "long_name": f"{flux}, mean over time, {text}"}
            add(f"{flux}_mean{suffix}", [], nan, about)
    masks = np.array(list(QUALITY.values()), dtype=np.uint8)
    words, text = " ".join(QUALITY), "quality of the prediction; 0: all inputs known"
    flags = {"flag_masks": masks, "flag_meanings": words, "long_name": text}
    add("quality", ["time"], np.uint8(NO_LAND), {"standard_name": "quality_flag", **flags})
    land = {"standard_name": "land_area_fraction", "long_name": "share of the cell that is land"}
    add("land_fraction", [], nan, {"units": "1", **land})
    text = "share of the vegetated land outside the area of applicability"
    add("outside", [], nan, {"units": "1", "long_name": text})
    return small, large


def _days(date: npt.NDArray[np.datetime64]) -> npt.NDArray[np.float64]:
    return (date.astype("datetime64[ns]") - _EPOCH) / np.timedelta64(1, "D")


def _axes(cube: Cube) -> dict[str, xr.Variable]:
    lat, lon = (cube.ds[name].to_numpy().astype(np.float64) for name in AXES)
    axes = lat_lon_axes(lat, lon)
    axes["lat_bnds"] = axes["lat_bnds"].clip(-90, 90)
    for name, (standard, _, _) in AXES.items():
        axes[name].attrs["long_name"] = standard
    if cube.climatology:  # a month spans the same month of all years (CF-1.11, section 7.4)
        years = (CLIMATOLOGY_YEARS[0], sum(CLIMATOLOGY_YEARS) // 2, CLIMATOLOGY_YEARS[1])
        first, middle, last = (np.datetime64(f"{y}-01", "M") + np.arange(12) for y in years)
        time, bounds = _days(middle) + 14, np.column_stack([_days(first), _days(last + 1)])
    else:
        time, edges = _days(cube.time), _days(cube.edges())
        bounds = np.column_stack([edges[:-1], edges[1:]])
    name = "climatology_bounds" if cube.climatology else "time_bnds"
    attrs = {
        "standard_name": "time", "long_name": "time", "axis": "T", "calendar": "standard",
        "units": f"days since {_EPOCH}", "units_metadata": "leap_seconds: none",
        "climatology" if cube.climatology else "bounds": name,
    }  # fmt: skip
    axes["time"] = xr.Variable("time", time, attrs)
    axes[name] = xr.Variable(("time", "bnds"), bounds)
    return axes


def map_facts(
    model: Any, cube: Cube, intervals: Sequence[Mapping[str, Conformal] | None], level: float
) -> dict[str, Any]:
    """Global attributes.

    The identity covers weights and what is stored with them, code, the grid that describes cells,
    the cube's axes and sampled rows.
    """
    digests, members, ds = model.digests, getattr(model, "members", ()), cube.ds
    weights = hashlib.sha256("".join(digests).encode()).hexdigest()
    code = hashlib.sha256(b"".join(file.read_bytes() for file in _CODE))
    axes = b"".join(ds[axis].to_numpy().tobytes() for axis in ("time", "lat", "lon"))
    data = [_digest(cube.sample()), hashlib.sha256(axes).hexdigest()]
    data += ["" if model.grid is None else _digest(model.grid)]
    data += [json.dumps(getattr(model, "header", {}), sort_keys=True, default=str)]
    made_by = [code.hexdigest(), cube.every, *map(versions, members)]
    bounds = [{flux: one.to_dict() for flux, one in (each or {}).items()} for each in intervals]
    what = json.dumps([weights, data, made_by, bounds, level])
    comment = (
        "NEE = RECO - GPP; negative NEE is uptake. Masses are of carbon, per area of land; snow, "
        "ice and barren ground count as without flux."
    )
    if "land_fraction" not in ds:
        comment += " Land fraction not given: cells taken as all land."
    if cube.climatology:
        text = (
            "A mean seasonal cycle from climatological predictors, not the cycle of any year; the"
        )
        comment = f"{text} climatology bounds are the years of the towers' fluxes. {comment}"
    kind = ", monthly climatology" if cube.climatology else ""
    facts: dict[str, Any] = {
        "title": f"Carbon fluxes of land, upscaled from flux towers{kind}",
        "institution": "computed by the user of tamrl",
        "history": "; ".join(filter(None, ("made by tamrl.maps.upscale", cube.note))),
        "source": f"ensemble of {len(digests)} map models on gridded predictors",
        "references": "doi:10.1038/s41597-020-0534-3", "comment": comment,
        "weights_sha256": weights, "code_version": code.hexdigest()[:12],
        "registry_sha256": str(ds.attrs.get("registry_sha256", "unknown")),
        "features": " ".join(cube.features), "identity": hashlib.sha256(what.encode()).hexdigest(),
    }  # fmt: skip
    text = "conformal, calibrated on towers that the members had not seen"
    return facts | ({} if not any(intervals) else {"interval": text, "interval_level": level})


def _digest(ds: xr.Dataset) -> str:
    """Hash names, dimensions, units and values of a loaded dataset."""
    data = hashlib.sha256()
    for name, variable in sorted(ds.variables.items(), key=lambda item: str(item[0])):
        data.update(f"{name} {variable.dims} {variable.attrs.get('units')}".encode())
        values = variable.to_numpy()
        data.update(values.astype(str).tobytes() if values.dtype.kind in "UO" else values.tobytes())
    return data.hexdigest()


def open_map(path: Path | str) -> xr.Dataset:
    """Open a map made by `upscale`, lazily."""
    ds = xr.open_zarr(path, consolidated=False, decode_coords="all")
    return ds[sorted(ds.data_vars)]


def export_netcdf(source: Path | str, path: Path | str, packed: bool = False) -> Path:
    """Write a map as one NetCDF-4 file for Panoply, CDO, GrADS or a GIS, strip by strip.

    ``packed``: fluxes as int16 in steps of 0.002 g m-2 d-1 (CF section 8.1): half of the size, an
    error of at most 0.001. DataError for a value that int16 cannot hold.
    """
    path, ds = Path(path), xr.open_zarr(source, consolidated=False, decode_cf=False)
    encoding: dict[str, dict[str, Any]] = {str(name): {"_FillValue": None} for name in ds.coords}
    for name, array in ds.variables.items():
        array.encoding, fill = {}, array.attrs.pop("_FillValue", None)
        if name in ds.coords:
            continue
        about = encoding[str(name)] = {"_FillValue": fill}
        if array.ndim > 1:
            about |= {"zlib": True, "complevel": 2}
        if packed and str(name).split("_")[0] in FLUXES:
            span, most = float(abs(ds[name]).max()), 32767 * PACKED_STEP
            if span > most:
                text = f"reaches {span:.4g} {UNITS}, beyond the {most:.4g} that int16 holds here"
                raise DataError(f"{source}: {name} {text}; export it unpacked")
            about |= {"dtype": "int16", "scale_factor": PACKED_STEP, "_FillValue": -32768}
        if "flag_masks" in array.attrs:  # Zarr keeps numbers, but not their kind
            array.attrs["flag_masks"] = np.asarray(array.attrs["flag_masks"], dtype=array.dtype)
    with atomic_write(path) as part:
        ds.to_netcdf(part, engine="netcdf4", encoding=encoding)
    return path
