"""Models trained at towers, as a map model for daily cubes.

A cell is taken for a tower: its weather and satellite series come from the cube, its site
attributes and mean seasons from the study's own predictor grid, both through
`tamrl.samples.arrays.make_samples`, the very code that prepared the towers. The class of vegetation
is the one that covers most of the cell; a tower has one, a cell is a mixture.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import DRIVERS, FLUXES, KOPPEN_MAIN
from tamrl.errors import DataError
from tamrl.maps.cubes import open_cube, open_source
from tamrl.samples.arrays import DAILY, SATELLITE, make_samples
from tamrl.shipped.pretrained import placed
from tamrl.shipped.weights import digest, networks

Floats = NDArray[np.float32]

MARGIN = 3.0  # degrees of the grid kept around a region


@dataclass(frozen=True)
class DailyMap:
    """An ensemble trained at towers, for one daily cube; `daily_map` makes it.

    ``members``, ``header``: as `tamrl.shipped.pretrained.load` reads them. ``drivers``: daily
    variables of the cube, out of `tamrl.samples.arrays.DAILY` and ``SATELLITE``; ``days``: its time
    axis. ``grid``: predictor grid (month, lat, lon), or None: site attributes are then missing.
    """

    members: Sequence[Any]
    header: Mapping[str, Any]
    drivers: tuple[str, ...]
    days: NDArray[np.datetime64]
    grid: xr.Dataset | None

    @property
    def features(self) -> tuple[str, ...]:
        """What it reads of a cube."""
        return (*self.drivers, "latitude", "longitude")

    @property
    def optional(self) -> tuple[str, ...]:
        """Drivers that may be missing on some days."""
        return tuple(set(self.drivers) - set(DRIVERS))

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""
        return [digest(member) for member in self.members]

    def __call__(self, x: Floats) -> Floats:
        """Map (place, day, feature) to (member, place, day, 3) in gC m-2 d-1.

        Each place on its own; a day without temperature, radiation or VPD is NaN. Satellite
        series are averaged to months and interpolated back, as they were in training.
        """
        *drivers, lat, lon = np.moveaxis(x, -1, 0)
        series = {
            name: (("site", "time"), np.ascontiguousarray(values))
            for name, values in zip(self.drivers, drivers, strict=True)
        }
        coords = {
            "site": np.arange(len(x)).astype(str),
            "time": self.days,
            **self._attributes(lat[:, 0].astype(float), lon[:, 0].astype(float)),
        }
        towers = xr.Dataset({n: v for n, v in series.items() if n in DAILY}, coords)
        seen = {n: v for n, v in series.items() if n in SATELLITE}
        monthly = _by_month(xr.Dataset(seen, coords)) if seen else None
        samples = placed(make_samples(towers, monthly, self.grid), self.header)
        if list(samples.features) != list(self.header["features"]):
            unknown = sorted(set(samples.features) ^ set(self.header["features"]))
            raise DataError(f"weights: trained on other drivers, they differ in {unknown}")
        return np.stack([m.predict(samples, np.arange(len(x))) for m in self.members])

    def classes(self, x: Floats) -> NDArray[np.str_]:
        """Class of vegetation (place,): by it the width of intervals is calibrated."""
        lat, lon = (x[:, 0, k].astype(float) for k in (-2, -1))
        return self._attributes(lat, lon)["igbp"][1]

    def _attributes(self, lat: NDArray, lon: NDArray) -> dict[str, tuple[str, NDArray]]:
        """Give coordinates (site,) that a tower has; an empty text is no class."""
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
        names = ("lat", "lon", "igbp", "koppen", "koppen_main", "elevation")
        values = (lat, lon, igbp, koppen, main, elevation)
        return {name: ("site", value) for name, value in zip(names, values, strict=True)}


def _by_month(daily: xr.Dataset) -> xr.Dataset:
    """Average days to months (site, month), as satellite data come for towers."""
    first, start = np.unique(daily["time"].to_numpy().astype("M8[M]"), return_index=True)
    out = {}
    for name, series in daily.data_vars.items():
        values = series.to_numpy()
        known = np.isfinite(values)
        n = np.add.reduceat(known, start, axis=1, dtype=float)
        total = np.add.reduceat(np.where(known, values, 0), start, axis=1)
        mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
        out[name] = (("site", "month"), mean.astype(np.float32))
    return xr.Dataset(out, {"site": daily["site"], "month": first.astype("datetime64[ns]")})


def daily_map(
    members: Sequence[Any],
    header: Mapping[str, Any],
    cube: xr.Dataset | str | Path,
    grid: xr.Dataset | None,
) -> DailyMap:
    """Make a map model of an ensemble trained at towers, for one daily cube.

    ``members``, ``header`` from `tamrl.shipped.pretrained.load`. ``cube`` as for
    `tamrl.maps.cubes.open_cube`, daily: TA, VPD and SW_IN are needed, the other drivers and
    satellite variables are taken where they are there. ``grid`` from `fetch_grid`, or None.
    DataError for a cube that is not daily or lacks a needed driver, or weights for other fluxes.
    """
    opened = open_cube(cube, DRIVERS)
    for network in (net.net for member in members for net in networks(member)):
        assert network is not None  # weights are loaded fitted
        config = network.config
        if config.targets != FLUXES:
            raise DataError(
                f"weights: they predict {', '.join(config.targets)}; a map needs {FLUXES}"
            )
        if config.encoder in ("convlstm", "both"):
            raise DataError("weights: they read maps around each tower, which a cube does not give")
    time = opened.ds["time"].to_numpy()
    if opened.climatology or (np.diff(time) != np.timedelta64(1, "D")).any():
        raise DataError(
            f"{opened.name}: these weights read daily weather, and the cube is not daily without "
            "a gap; for months use weights from `tamrl train-map`"
        )
    if grid is not None:
        south, north = float(opened.ds["lat"][0]), float(opened.ds["lat"][-1])
        grid = grid.sel(lat=slice(south - MARGIN, north + MARGIN)).load()
    # Drivers beyond the needed ones that the cube has in time and place.
    source = open_source(cube)
    names = [n for n in (*DAILY, *SATELLITE) if n in source and n not in DRIVERS]
    more = open_cube(source, names).ds if names else xr.Dataset()
    drivers = (*DRIVERS, *(n for n in names if "time" in more[n].dims))
    days = pd.DatetimeIndex(time).to_numpy().astype("datetime64[D]").astype("datetime64[ns]")
    return DailyMap(members, header, drivers, days, grid)
