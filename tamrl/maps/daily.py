"""Models trained at towers, as a map model for daily cubes.

A cell is taken for a tower: weather and satellite series come from the cube, site attributes and
mean seasons from the study's grid; its class of vegetation is the one that covers most of it.
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
from tamrl.maps.cubes import Floats, open_cube, open_source
from tamrl.samples.arrays import DAILY, PHENOLOGY, SATELLITE, make_samples
from tamrl.samples.phenology import from_season, with_phenology
from tamrl.shipped.pretrained import suited
from tamrl.shipped.weights import digest, networks

MARGIN = 3.0  # degrees of the grid kept around a region


@dataclass
class DailyMap:
    """An ensemble trained at towers, for one daily cube; `daily_map` makes it.

    ``members``, ``header``: as `tamrl.shipped.pretrained.load` reads them. ``features``: variables
    of the cube out of DAILY, SATELLITE and EVI, then latitude, longitude; ``days``: its time axis.
    ``grid``: predictors (month, lat, lon); None: site attributes are missing. Drivers that are
    ``optional`` may be missing on some days.
    """

    members: Sequence[Any]
    header: Mapping[str, Any]
    features: tuple[str, ...]
    days: NDArray[np.datetime64]
    grid: xr.Dataset | None
    optional: tuple[str, ...] = tuple(n for n in (*DAILY, *SATELLITE, "EVI") if n not in DRIVERS)

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""
        return [digest(member) for member in self.members]

    def __call__(self, x: Floats) -> Floats:
        """Map (place, day, feature) to (member, place, day, 3), gC m-2 d-1; NaN without drivers."""
        columns = {n: np.ascontiguousarray(x[..., k]) for k, n in enumerate(self.features[:-2])}
        series = {n: (("site", "time"), v) for n, v in columns.items()}
        coords = {"site": np.arange(len(x)).astype(str), "time": self.days, **self._attributes(x)}
        towers = xr.Dataset({n: v for n, v in series.items() if n in DAILY}, coords)
        seen = {n: v for n, v in series.items() if n in SATELLITE}
        monthly = _by_month(xr.Dataset(seen, coords)) if seen else None
        samples = make_samples(towers, monthly, self.grid)
        if PHENOLOGY[0] in self.header["features"]:
            samples = with_phenology(samples, self._evi(towers, series))
        samples = suited(samples, self.header)
        return np.stack([m.predict(samples, np.arange(len(x))) for m in self.members])

    def _evi(self, towers: xr.Dataset, series: Mapping[str, Any]) -> xr.DataArray | None:
        """Give the cube's vegetation index, or else the mean season of the grid's."""
        if "EVI" in series:
            return xr.DataArray(series["EVI"][1], towers.coords, ("site", "time"))
        if self.grid is None:
            return None
        at = grid_at(self.grid, towers["lat"], towers["lon"])
        return from_season(at["EVI"], self.days)

    def classes(self, x: Floats) -> NDArray[np.str_]:
        """Class of vegetation (place,): by it the width of intervals is calibrated."""
        return self._attributes(x)["igbp"][1]

    def _attributes(self, x: Floats) -> dict[str, tuple[str, NDArray]]:
        """Give coordinates (site,) that a tower has; an empty text is no class."""
        lat, lon = (x[:, 0, k].astype(float) for k in (-2, -1))
        igbp, koppen = np.full(len(lat), "", "<U3"), np.full(len(lat), "", "<U3")
        elevation = np.full(len(lat), np.nan)
        if self.grid is not None:
            at = grid_at(self.grid, lat, lon)
            share = np.nan_to_num(at["igbp_fraction"].transpose("site", "igbp").to_numpy())
            known = share.any(axis=1)
            igbp[known] = at["igbp"].to_numpy()[share.argmax(axis=1)][known]
            koppen = np.array(("", *KOPPEN_CODES))[at["koppen"].to_numpy().astype(int)]
            elevation = at["elevation"].to_numpy()
        main = np.array([KOPPEN_MAIN.get(code[:1], "") for code in koppen])
        columns = {"lat": lat, "lon": lon, "igbp": igbp, "koppen": koppen, "koppen_main": main}
        return {name: ("site", v) for name, v in (columns | {"elevation": elevation}).items()}


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


def daily_map(
    members: Sequence[Any], header: Mapping[str, Any], cube: xr.Dataset | str | Path,
    grid: xr.Dataset | None,
) -> DailyMap:  # fmt: skip
    """Make a map model of an ensemble trained at towers, for one daily cube (see `open_cube`).

    TA, VPD and SW_IN are needed, other drivers and satellite variables optional. DataError for a
    cube that is not daily or lacks a needed driver, or weights for other fluxes.
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
    if opened.climatology or (np.diff(time) != np.timedelta64(1, "D")).any():
        text = "these weights read daily weather, and the cube is not daily without a gap"
        raise DataError(f"{opened.name}: {text}; for months use weights from `tamrl train-map`")
    if grid is not None:
        south, north = float(opened.ds["lat"][0]), float(opened.ds["lat"][-1])
        grid = grid.sel(lat=slice(south - MARGIN, north + MARGIN)).load()
    source = open_source(cube)
    names = [n for n in DailyMap.optional if n in source]  # beyond the needed drivers
    more = open_cube(source, names).ds if names else xr.Dataset()
    drivers = (*DRIVERS, *(n for n in names if "time" in more[n].dims))
    days = time.astype("datetime64[D]").astype("datetime64[ns]")
    return DailyMap(members, header, (*drivers, "latitude", "longitude"), days, grid)
