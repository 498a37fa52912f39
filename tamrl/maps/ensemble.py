"""Models trained at towers, as a map model: for daily cubes, and for an average year.

A cell is taken for a tower of each class of vegetation that covers a relevant share of it, and its
fluxes are added by area. Weather and satellite series come from the cube, site attributes and mean
seasons from the study's grid. What is predicted, how and with which bounds is as at a tower.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import DRIVERS, FLUXES, KOPPEN_MAIN
from tamrl.errors import DataError
from tamrl.maps.cubes import BARE, Floats, open_cube, open_source
from tamrl.maps.models import Mapped
from tamrl.samples.arrays import (
    DAILY,
    PHENOLOGY,
    SATELLITE,
    SEASONAL,
    Samples,
    make_samples,
)
from tamrl.samples.average_year import AVERAGE, average_year, means_of_months
from tamrl.samples.missing import key
from tamrl.samples.phenology import from_season, with_phenology
from tamrl.shipped.applicability import from_dict
from tamrl.shipped.bounds import intervals_for, intervals_of
from tamrl.shipped.pretrained import suited
from tamrl.shipped.weights import digest, networks

MARGIN = 3.0  # degrees of the grid kept around a region
RELEVANT = 0.2  # share of a cell's vegetated land from which a class counts, or the largest
ALIKE = {"DNF": "DBF", "URB": "GRA", "CVM": "CRO"}  # for classes in which no tower stands


@dataclass
class EnsembleMap:
    """An ensemble trained at towers, for one cube; `ensemble_map` makes it.

    ``members``, ``header``: as `tamrl.shipped.pretrained.load` reads them. ``features``: variables
    of the cube out of DAILY, SATELLITE and EVI, then latitude, longitude; ``days``: its time axis,
    None for twelve months of an average year. ``grid``: predictors (month, lat, lon); None: site
    attributes are missing. Drivers that are ``optional`` may be missing on some days.
    """

    members: Sequence[Any]
    header: Mapping[str, Any]
    features: tuple[str, ...]
    days: NDArray[np.datetime64] | None
    grid: xr.Dataset | None
    optional: tuple[str, ...] = tuple(n for n in (*DAILY, *SATELLITE, "EVI") if n not in DRIVERS)

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""
        return [digest(member) for member in self.members]

    @property
    def inputs(self) -> str:
        """What places have, as bounds are calibrated by it (`tamrl.samples.missing.key`)."""
        if self.days is None:
            return AVERAGE
        satellites = any(name in self.features for name in SEASONAL)
        evi = "EVI" in self.features or self.grid is not None
        return key((satellites, evi, self.grid is not None))

    def bounds(self, every: str = "step") -> dict[str, Any]:
        """Give `upscale` the intervals that were calibrated for these inputs and steps."""
        if self.days is None:
            of_mean = intervals_for(self.header, AVERAGE, "year")
            return {"intervals": intervals_for(self.header, AVERAGE, "month"), "of_mean": of_mean}
        if every != "step":
            return {"intervals": intervals_for(self.header, self.inputs, every)}
        found = intervals_for(self.header, self.inputs, "day")
        return {"intervals": found or intervals_of(self.header)}

    def __call__(self, x: Floats) -> Mapped:
        """Map places (place, time, feature), time as the cube's; NaN without drivers."""
        cells = self._cells(x)
        place, igbp, share = self._tiles(cells, len(x))
        samples = suited(self._samples(x, cells, place, igbp), self.header)
        each = np.stack([m.predict(samples, np.arange(len(place))) for m in self.members])
        each = each if self.days is not None else means_of_months(each)
        first = np.searchsorted(place, np.arange(len(x)))
        flux = np.add.reduceat(each * share[:, None, None], first, axis=1, dtype=np.float64)
        closed = np.nanmax(np.abs(each[..., 2] - (each[..., 1] - each[..., 0])), initial=0) < 1e-4
        flux = flux.astype(np.float32)
        if closed:  # members close, and so does the sum over classes
            flux[..., 2] = flux[..., 1] - flux[..., 0]
        largest = igbp[np.lexsort((-share, place))][first]
        return Mapped(flux, largest, self._outside(samples, share, first), _vegetated(cells))

    def _cells(self, x: Floats) -> xr.Dataset | None:
        """Give the grid's cells of places (site,), None without a grid."""
        lat, lon = (x[:, 0, k].astype(float) for k in (-2, -1))
        return None if self.grid is None else grid_at(self.grid, lat, lon)

    def _tiles(
        self, cells: xr.Dataset | None, n: int
    ) -> tuple[NDArray[np.intp], NDArray[np.str_], NDArray]:
        """Give parts of places: which place (tile,), its class, its share; an empty text: none."""
        if cells is None:
            return np.arange(n), np.full(n, "", "<U3"), np.ones(n)
        codes = cells["igbp"].to_numpy().astype("<U3")
        cover = np.nan_to_num(cells["igbp_fraction"].transpose("site", "igbp").to_numpy())
        cover = cover.astype(float) * ~np.isin(codes, BARE)
        used = cover >= RELEVANT * cover.sum(1, keepdims=True)
        used &= cover > 0
        used[np.arange(n), cover.argmax(1)] = True
        place, k = np.nonzero(used)
        igbp = np.array([ALIKE.get(code, code) for code in codes])[k]
        bare = ~cover.any(1)[place]
        share = np.where(bare, 1.0, cover[place, k])
        return place, np.where(bare, "", igbp), share / np.bincount(place, share)[place]

    def _samples(
        self, x: Floats, cells: xr.Dataset | None, place: NDArray[np.intp], igbp: NDArray[np.str_]
    ) -> Samples:
        """Make samples of parts of places with one class each, as of towers."""
        x, cells = x[place], None if cells is None else cells.isel(site=place)
        columns = {n: np.ascontiguousarray(x[..., k]) for k, n in enumerate(self.features[:-2])}
        places = _attributes(x, cells, igbp)
        if self.days is None:
            return average_year(columns, places, self.grid)
        coords = {**places, "time": self.days}
        series = {n: (("site", "time"), v) for n, v in columns.items()}
        towers = xr.Dataset({n: v for n, v in series.items() if n in DAILY}, coords)
        seen = {n: v for n, v in series.items() if n in SATELLITE}
        monthly = _by_month(xr.Dataset(seen, coords)) if seen else None
        samples = make_samples(towers, monthly, self.grid)
        if PHENOLOGY[0] in self.header["features"]:
            samples = with_phenology(samples, self._evi(towers, series, cells))
        return samples

    def _evi(
        self, towers: xr.Dataset, series: Mapping[str, Any], cells: xr.Dataset | None
    ) -> xr.DataArray | None:
        """Give the cube's vegetation index, or else the mean season of the grid's."""
        if "EVI" in series:
            return xr.DataArray(series["EVI"][1], towers.coords, ("site", "time"))
        if cells is None or self.days is None:
            return None
        return from_season(cells["EVI"].assign_coords(site=towers["site"]), self.days)

    def _outside(self, samples: Samples, share: NDArray, first: NDArray) -> Floats | None:
        """Share (place,) of vegetated land that is unlike all towers; None: cannot be said."""
        if "space" not in self.header:
            return None
        space, names = from_dict(self.header["space"])
        at = [samples.static_names.index(name) for name in names]
        far = space.index(samples.static[:, at].astype(float)) > space.threshold
        return np.add.reduceat(far * share, first).astype(np.float32)


def _vegetated(cells: xr.Dataset | None) -> Floats | None:
    """Share (place,) of land that can have fluxes, by the grid; None without one."""
    if cells is None:
        return None
    bare = cells["igbp_fraction"].sel(igbp=cells["igbp"].isin(BARE)).sum("igbp")
    return (1 - bare).to_numpy().astype(np.float32)


def _attributes(x: Floats, cells: xr.Dataset | None, igbp: NDArray[np.str_]) -> dict[str, Any]:
    """Give coordinates (site,) that a tower has."""
    lat, lon = (x[:, 0, k].astype(float) for k in (-2, -1))
    koppen, elevation = np.full(len(lat), "", "<U3"), np.full(len(lat), np.nan)
    if cells is not None:
        koppen = np.array(("", *KOPPEN_CODES))[cells["koppen"].to_numpy().astype(int)]
        elevation = cells["elevation"].to_numpy()
    main = np.array([KOPPEN_MAIN.get(code[:1], "") for code in koppen])
    columns = {"lat": lat, "lon": lon, "igbp": igbp, "koppen": koppen, "koppen_main": main}
    columns |= {"site": np.arange(len(x)).astype(str), "elevation": elevation}
    return {name: ("site", v) for name, v in columns.items()}


def _by_month(daily: xr.Dataset) -> xr.Dataset:
    """Average days to months (site, month), as satellite data come for towers."""
    first, start = np.unique(daily["time"].to_numpy().astype("M8[M]"), return_index=True)
    out = {}
    for name, series in daily.data_vars.items():
        values = series.to_numpy()
        known = np.isfinite(values)
        n = np.add.reduceat(known, start, axis=1, dtype=float)
        total = np.add.reduceat(np.where(known, values, 0), start, axis=1)
        mean = total / np.where(n > 0, n, np.nan)
        out[name] = (("site", "month"), mean.astype(np.float32))
    return xr.Dataset(out, {"site": daily["site"], "month": first.astype("datetime64[ns]")})


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
    if not opened.climatology and (np.diff(time) != np.timedelta64(1, "D")).any():
        text = "neither daily without a gap, nor twelve months of an average year (dimension month)"
        raise DataError(f"{opened.name}: the cube is {text}; make it daily: tamrl cube")
    if grid is not None:
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
    return EnsembleMap(members, header, features, None if opened.climatology else days, grid)
