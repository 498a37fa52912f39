"""Daily TAM-RL, trained at towers, as a map model for daily cubes.

A cell is taken for a tower: its weather and satellite series come from the cube, the facts about
the place and the mean seasons from the study's own predictor grid, both through
`tamrl.samples.arrays.make_samples`, the very code that prepared the towers. The class of vegetation is
the one that covers most of the cell; a tower has one, a cell is a mixture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from tamrl.samples.arrays import DAILY, GRID_STATIC, SATELLITE, make_samples
from tamrl.shipped.weights import digest, networks

Floats = NDArray[np.float32]

STATIC = (*GRID_STATIC, "igbp_fraction", "koppen", "land_fraction")
MARGIN = 3.0  # degrees of the grid kept around a region


class TowerMap:
    """One network: ``features`` names what it reads of a cube, calling it gives fluxes.

    Parameters
    ----------
    model
        From `tamrl.shipped.pretrained.load`.
    trained
        Drivers that it was trained on.
    drivers
        Daily variables that the cube has, out of `tamrl.samples.arrays.DAILY` and ``SATELLITE``.
    time
        Days of the cube.
    grid
        Predictor grid (month, lat, lon), or None: facts about the places are then missing.
    """

    def __init__(
        self,
        model: Any,
        trained: Sequence[str],
        drivers: Sequence[str],
        time: NDArray[np.datetime64],
        grid: xr.Dataset | None,
    ) -> None:
        self.model, self.trained = model, tuple(trained)
        self.features = (*drivers, "latitude", "longitude")
        self.optional = tuple(set(drivers) - set(DRIVERS))
        self.time = time.astype("datetime64[D]")
        self.grid = grid
        self.digest = digest(model)

    def __call__(self, x: Floats) -> Floats:
        """Map (place, day, feature) to (place, day, 3) in gC m-2 d-1, each place on its own.

        A day without temperature, radiation or VPD is NaN.
        """
        *drivers, lat, lon = np.moveaxis(x, -1, 0)
        weather = {
            name: (("site", "time"), np.ascontiguousarray(values))
            for name, values in zip(self.features, drivers, strict=False)
        }
        coords = {
            "site": np.arange(len(x)).astype(str),
            "time": self.time.astype("datetime64[ns]"),
            **self._facts(lat[:, 0].astype(float), lon[:, 0].astype(float)),
        }
        towers = xr.Dataset({n: v for n, v in weather.items() if n in DAILY}, coords)
        seen = {n: v for n, v in weather.items() if n in SATELLITE}
        monthly = _by_month(xr.Dataset(seen, coords)) if seen else None
        samples = make_samples(towers, monthly, self.grid)
        if samples.features != self.trained:
            unknown = sorted(set(samples.features) ^ set(self.trained))
            raise DataError(f"weights: trained on other drivers, they differ in {unknown}")
        return self.model.predict(samples, np.arange(len(x)))

    def _facts(self, lat: NDArray, lon: NDArray) -> dict[str, tuple[str, NDArray]]:
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
        facts = {"lat": lat, "lon": lon, "igbp": igbp, "koppen": koppen, "koppen_main": main}
        return {n: ("site", v) for n, v in {**facts, "elevation": elevation}.items()}


def _by_month(daily: xr.Dataset) -> xr.Dataset:
    """Average days to months (site, month), as satellite data come for towers."""
    month = daily["time"].to_numpy().astype("datetime64[M]")
    first, start = np.unique(month, return_index=True)
    out = {}
    for name, series in daily.data_vars.items():
        values = series.transpose("site", "time").to_numpy()
        known = np.isfinite(values)
        n = np.add.reduceat(known, start, axis=1, dtype=float)
        total = np.add.reduceat(np.where(known, values, 0), start, axis=1)
        mean = np.divide(total, n, out=np.full(n.shape, np.nan), where=n > 0)
        out[name] = (("site", "month"), mean.astype(np.float32))
    return xr.Dataset(out, {"site": daily["site"], "month": first.astype("datetime64[ns]")})


def tower_maps(
    models: Sequence[Any],
    header: Mapping[str, Any],
    cube: xr.Dataset | str | Path,
    grid: xr.Dataset | None,
) -> list[TowerMap]:
    """Make map models of networks trained at towers, for one daily cube.

    Parameters
    ----------
    models, header
        From `tamrl.shipped.pretrained.load`.
    cube
        As for `tamrl.maps.cubes.open_cube`, daily; TA, VPD and SW_IN are needed, the other drivers and
        satellite variables taken where they are there.
    grid
        Predictor grid from `fetch_grid`, or None.

    Raises
    ------
    DataError
        For a cube that is not daily or lacks a needed driver, or weights for other fluxes.
    """
    opened = open_cube(cube, DRIVERS)
    for network in (net.net for model in models for net in networks(model)):
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
    drivers = [*DRIVERS, *_more(cube)]
    if grid is not None:
        south, north = float(opened.ds["lat"][0]), float(opened.ds["lat"][-1])
        # All that varies by month stays: it decides which cell a place takes its facts from.
        keep = [n for n, v in grid.data_vars.items() if "month" in v.dims or n in STATIC]
        grid = grid[keep].sel(lat=slice(south - MARGIN, north + MARGIN)).load()
    days, trained = pd.DatetimeIndex(time).values, header["features"]
    return [TowerMap(model, trained, drivers, days, grid) for model in models]


def _more(cube: xr.Dataset | str | Path) -> list[str]:
    """Name the drivers beyond the needed ones that a cube has in time and place."""
    source = open_source(cube)
    names = [n for n in (*DAILY, *SATELLITE) if n in source and n not in DRIVERS]
    opened = open_cube(source, names) if names else None
    return [n for n in names if opened is not None and "time" in opened.ds[n].dims]
