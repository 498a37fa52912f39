"""Models trained at towers, as a map model: for daily cubes, and for an average year.

A cell is taken for a tower of each class of vegetation that covers a relevant share of it, and its
fluxes are added by area. What is predicted, how and with which bounds is as at a tower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data.schema import DRIVERS, FLUXES
from tamrl.errors import DataError, expect
from tamrl.maps.cells import Cells
from tamrl.maps.cubefiles import open_source
from tamrl.maps.cubes import Floats, open_cube
from tamrl.maps.models import Mapped
from tamrl.maps.timeaxis import check_days
from tamrl.samples.arrays import DAILY, SATELLITE, SEASONAL
from tamrl.samples.average_year import AVERAGE, means_of_months
from tamrl.samples.missing import LEAVES, key
from tamrl.shipped.applicability import from_dict
from tamrl.shipped.bounds import intervals_for, intervals_of
from tamrl.shipped.pretrained import possible, suited
from tamrl.shipped.weights import digest, networks

GRID = ("TA", "land_fraction", "igbp_fraction", "igbp", "koppen", "elevation")  # of the grid's
MARGIN = 3.0  # degrees of the grid kept around a region


@dataclass
class EnsembleMap:
    """An ensemble trained at towers, for one cube; `ensemble_map` makes it.

    ``members``, ``header``: as `tamrl.shipped.weights_file.load` reads them. ``cells`` of the cube;
    drivers that are ``optional`` may be missing on some days.
    """

    members: Sequence[Any]
    header: Mapping[str, Any]
    cells: Cells
    optional: tuple[str, ...] = tuple(n for n in (*DAILY, *SATELLITE, "EVI") if n not in DRIVERS)

    @property
    def features(self) -> tuple[str, ...]:
        """Variables of the cube, then latitude, longitude."""
        return self.cells.features

    @property
    def grid(self) -> xr.Dataset | None:
        """What describes the cells."""
        return self.cells.grid

    @property
    def days(self) -> npt.NDArray[np.datetime64] | None:
        """Days of the cube that it was made for; None: an average year."""
        return self.cells.days

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""
        return [digest(member) for member in self.members]

    @property
    def inputs(self) -> str:
        """What places have, as bounds are calibrated by it (`tamrl.samples.missing.key`)."""
        if self.cells.days is None:
            return AVERAGE
        satellites = sum(name in self.features for name in SEASONAL) >= LEAVES
        grid = self.cells.grid is not None
        return key((satellites, "EVI" in self.features or grid, grid))

    def bounds(self, every: str = "step") -> dict[str, Any]:
        """Give `upscale` the intervals that were calibrated for these inputs and steps."""
        if self.cells.days is None:
            of_mean = intervals_for(self.header, AVERAGE, "year")
            return {"intervals": intervals_for(self.header, AVERAGE, "month"), "of_mean": of_mean}
        if every != "step":
            return {"intervals": intervals_for(self.header, self.inputs, every)}
        found = intervals_for(self.header, self.inputs, "day")
        return {"intervals": found or intervals_of(self.header)}

    def __call__(self, x: Floats) -> Mapped:
        """Map places (place, time, feature), time as the cube's; NaN without drivers."""
        parts = self.cells(x)
        samples = suited(parts.samples, self.header)
        every = np.arange(len(samples.site))
        each = possible(np.stack([m.predict(samples, every) for m in self.members]))
        each = each if self.cells.days is not None else means_of_months(each)
        flux = np.stack([parts.added(member) for member in each]).astype(np.float32)
        closed = np.nanmax(np.abs(each[..., 2] - (each[..., 1] - each[..., 0])), initial=0) < 1e-4
        if closed:  # members close, and so does the sum over classes
            flux[..., 2] = flux[..., 1] - flux[..., 0]
        if parts.vegetated is not None:  # nothing is known of land that the grid does not have
            flux[:, np.isnan(parts.vegetated)] = np.nan
        outside = None
        if "space" in self.header:
            space = from_dict(self.header["space"])
            beyond = parts.added(space.dissimilarity(samples) > space.threshold)
            outside = beyond.astype(np.float32)
        largest = samples.table.igbp.to_numpy(str)[parts.largest]
        return Mapped(flux, largest, outside, parts.vegetated)


def _described(grid: xr.Dataset) -> xr.Dataset:
    """Put the axes of a grid in order, from -90 and -180; DataError if it lacks something."""
    expect(grid, xr.Dataset, "grid", "a Dataset as of tamrl.data.fetch_grid")
    if lost := {*GRID, "lat", "lon"} - {*map(str, grid.variables)}:
        text = f"it has no {', '.join(sorted(lost))}; give one as of tamrl.data.fetch_grid"
        raise DataError(f"grid: {text}")
    east = ((grid["lon"] + 180) % 360 - 180).assign_attrs(grid["lon"].attrs)
    if (np.diff(east) > 0).all() and (np.diff(grid["lat"]) > 0).all():
        return grid
    return grid.assign_coords(lon=east).sortby(["lat", "lon"])


def ensemble_map(
    members: Sequence[Any], header: Mapping[str, Any], cube: xr.Dataset | str | Path,
    grid: xr.Dataset | None,
) -> EnsembleMap:  # fmt: skip
    """Make a map model of an ensemble trained at towers, for one cube (see `open_cube`).

    The cube is daily, or has twelve months of an average year. TA, VPD and SW_IN are needed, other
    drivers and satellite variables optional. DataError for another time axis, a cube that lacks a
    needed driver, or weights for other fluxes.
    """
    opened = open_cube(cube, DRIVERS)
    for network in (net.net for member in members for net in networks(member)):
        assert network is not None  # weights are loaded fitted
        config = network.config
        if config.targets != FLUXES:
            targets = ", ".join(config.targets)
            raise DataError(f"weights: they predict {targets}; a map needs {FLUXES}")
        if config.encoder in ("convlstm", "both"):
            raise DataError("weights: they read maps around each tower, which a cube does not give")
    time = opened.ds["time"].to_numpy()
    if not opened.climatology:
        check_days(time, opened.name)
    if grid is not None:
        grid = _described(grid)
        south, north = float(opened.ds["lat"][0]), float(opened.ds["lat"][-1])
        grid = grid.sel(lat=slice(south - MARGIN, north + MARGIN)).load()
    source = open_source(cube)
    names = [n for n in EnsembleMap.optional if n in source]  # beyond the needed drivers
    if opened.climatology:  # the rest of an average year is the grid's
        names = [n for n in names if n == "EVI"]
    more = open_cube(cube, names).ds if names else xr.Dataset()
    drivers = (*DRIVERS, *(n for n in names if "time" in more[n].dims))
    days = time.astype("datetime64[D]").astype("datetime64[ns]")
    features = (*drivers, "latitude", "longitude")
    cells = Cells(features, None if opened.climatology else days, grid)
    return EnsembleMap(members, header, cells)
