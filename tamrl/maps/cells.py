"""Cells of a grid taken for towers: one for each class of vegetation that counts in a cell.

Weather and satellite series come from a cube, site attributes and mean seasons from the study's
grid, and go through the code that prepares towers.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import DRIVERS, KOPPEN_MAIN
from tamrl.maps.cubes import BARE, Floats
from tamrl.samples.arrays import DAILY, SATELLITE, Samples, make_samples
from tamrl.samples.average_year import average_year
from tamrl.samples.phenology import from_season, with_phenology

RELEVANT = 0.2  # share of a cell's vegetated land from which a class counts, or the largest
ALIKE = {"DNF": "DBF", "URB": "GRA", "CVM": "CRO"}  # for classes in which no tower stands
AVERAGE_YEAR = (*DRIVERS, "EVI", "latitude", "longitude")  # what it reads of the study's grid


class Parts(NamedTuple):
    """Towers that stand for cells: parts in the order of their cells."""

    samples: Samples  # of the parts
    share: NDArray[np.float64]  # (part,): of the cell's vegetation
    first: NDArray[np.intp]  # (cell,): its first part
    vegetated: Floats | None  # (cell,): share of land that can have fluxes, NaN where the grid has
    # no land nearby; None without a grid

    @property
    def largest(self) -> NDArray[np.intp]:
        """Part (cell,) of the largest share."""
        cell = np.repeat(np.arange(len(self.first)), np.diff(self.first, append=len(self.share)))
        return np.lexsort((-self.share, cell))[self.first]

    def added(self, values: NDArray) -> NDArray[np.float64]:
        """Add values (part, …) of the parts of each cell, by share."""
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return np.add.reduceat(values * share, self.first, axis=0, dtype=np.float64)


@dataclass(frozen=True)
class Cells:
    """Makes towers of cells.

    ``features``: variables of a cube out of DAILY, SATELLITE and EVI, then latitude, longitude;
    ``days``: its time axis, None for twelve months of an average year. ``grid``: predictors (month,
    lat, lon); None: site attributes are missing.
    """

    features: tuple[str, ...]
    days: NDArray[np.datetime64] | None
    grid: xr.Dataset | None

    def __call__(self, x: Floats) -> Parts:
        """Take cells (cell, time, feature) for towers."""
        lat, lon = (x[:, 0, k].astype(float) for k in (-2, -1))
        if self.grid is None:
            each = np.arange(len(x))
            samples = self._samples(x, None, np.full(len(x), "", "<U3"))
            return Parts(samples, np.ones(len(x)), each, None)
        found = grid_at(self.grid, lat, lon)
        cell, igbp, share = _classes(found)
        samples = self._samples(x[cell], found.isel(site=cell), igbp)
        bare = found["igbp_fraction"].sel(igbp=found["igbp"].isin(BARE)).sum("igbp")
        vegetated = (1 - bare).where(found["TA"].notnull().all("month")).to_numpy().astype("f4")
        return Parts(samples, share, np.searchsorted(cell, np.arange(len(x))), vegetated)

    def _samples(self, x: Floats, cells: xr.Dataset | None, igbp: NDArray[np.str_]) -> Samples:
        """Make samples of parts with one class each."""
        columns = {n: np.ascontiguousarray(x[..., k]) for k, n in enumerate(self.features[:-2])}
        places = _attributes(x, cells, igbp)
        if self.days is None:
            return average_year(columns, places, self.grid, cells)
        coords = {**places, "time": self.days}
        series = {n: (("site", "time"), v) for n, v in columns.items()}
        towers = xr.Dataset({n: v for n, v in series.items() if n in DAILY}, coords)
        seen = {n: v for n, v in series.items() if n in SATELLITE}
        monthly = _by_month(xr.Dataset(seen, coords)) if seen else None
        evi = None
        if "EVI" in series:
            evi = xr.DataArray(series["EVI"][1], towers.coords, ("site", "time"))
        elif cells is not None:  # the mean season of the grid's
            evi = from_season(cells["EVI"].assign_coords(site=towers["site"]), self.days)
        return with_phenology(make_samples(towers, monthly, self.grid, cells=cells), evi)


def _classes(cells: xr.Dataset) -> tuple[NDArray[np.intp], NDArray[np.str_], NDArray[np.float64]]:
    """Give parts of cells (site,): which cell, its class, its share; an empty text: none."""
    codes = cells["igbp"].to_numpy().astype("<U3")
    cover = np.nan_to_num(cells["igbp_fraction"].transpose("site", "igbp").to_numpy())
    cover = cover.astype(float) * ~np.isin(codes, BARE)
    used = cover >= RELEVANT * cover.sum(1, keepdims=True)
    used &= cover > 0
    used[np.arange(len(cover)), cover.argmax(1)] = True
    cell, k = np.nonzero(used)
    igbp = np.array([ALIKE.get(code, code) for code in codes])[k]
    bare = ~cover.any(1)[cell]
    share = cover[cell, k] + bare  # of land without any, one part has it all
    return cell, np.where(bare, "", igbp), share / np.bincount(cell, share)[cell]


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
