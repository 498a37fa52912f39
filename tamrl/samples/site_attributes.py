"""What is known of a place without a tower's days: climate, vegetation, soil, annual fluxes nearby.

All of it comes from the grid, so that it means the same at a training tower, at a tower of one's
own and in a cell of the map. Towers of other networks, of which only medians of annual sums are
known, join with the same features (`tamrl.data.fetch_annual_towers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from tamrl.data.grid import grid_at
from tamrl.data.schema import IGBP_CODES

Array = NDArray[np.float64]
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class SiteAttributes:
    """Features of towers, and of other places with annual fluxes.

    ``x`` (site, feature) of the samples' towers, NaN where unknown; ``other_x`` (place, feature),
    ``other_y`` (place, 2) GPP and RECO in gC m-2 d-1, ``other_lat`` and ``other_lon`` (place) in
    degrees: places that are none of the samples' towers.
    """

    names: tuple[str, ...]
    x: Array
    other_x: Array = field(default_factory=lambda: np.empty((0, 0)))
    other_y: Array = field(default_factory=lambda: np.empty((0, 2)))
    other_lat: Array = field(default_factory=lambda: np.empty(0))
    other_lon: Array = field(default_factory=lambda: np.empty(0))


def features(lat: ArrayLike, lon: ArrayLike, igbp: ArrayLike, cube: xr.Dataset) -> pd.DataFrame:
    """Describe places by their cell of the grid and their own vegetation class.

    Mean, least and greatest month of each monthly variable, soil, terrain, shares of vegetation
    classes; then three products that carbon uptake and respiration go with: light x greenness x
    warmth (Monteith 1972, doi 10.2307/2401901), respiration's temperature factor (Lloyd & Taylor
    1994, doi 10.2307/2389824), rain in warm months. Rows (place), columns named.
    """
    lat, lon = np.asarray(lat, float), np.asarray(lon, float)
    at = grid_at(cube, lat, lon)
    columns: dict[str, NDArray] = {}
    for name, values in at.data_vars.items():
        if "month" in values.dims:
            month = values.transpose("site", "month").to_numpy()
            columns |= {f"{name}_mean": month.mean(1), f"{name}_min": month.min(1)}
            columns[f"{name}_max"] = month.max(1)
        elif "igbp" in values.dims:
            share = values.transpose("site", "igbp").to_numpy()
            columns |= {f"share_{c}": share[:, i] for i, c in enumerate(values.igbp.to_numpy())}
        elif values.dims == ("site",) and values.dtype.kind == "f":
            columns[str(name)] = values.to_numpy()
    ta, sw, rain, evi = (
        at[n].transpose("site", "month").to_numpy() for n in ("TA", "SW_IN", "PRCP", "EVI")
    )
    warm = np.clip(ta, 0, 25) / 25
    kelvin = np.clip(ta, -30, 45) + 273.15
    columns["light_greenness"] = (warm * sw * evi).mean(1)
    columns["respiration"] = np.exp(308.56 * (1 / 56.02 - 1 / (kelvin - 227.13))).mean(1)
    columns["warm_rain"] = (np.minimum(rain, 5) * warm).mean(1)
    columns |= {f"igbp_{code}": np.asarray(igbp).astype(str) == code for code in IGBP_CODES}
    columns["abs_lat"] = np.abs(lat)
    return pd.DataFrame(columns).astype(float)


def classes_only(table: pd.DataFrame, names: Sequence[str]) -> Array:
    """Describe towers (site, feature) where there is no grid: vegetation class and latitude.

    What only the grid knows of ``names`` is NaN, which a model takes for the mean of its training.
    """
    known = {f"igbp_{code}": table.igbp.to_numpy(str) == code for code in IGBP_CODES}
    known["abs_lat"] = np.abs(table.lat.to_numpy(float))
    nothing = np.full(len(table), np.nan)
    return np.stack([np.asarray(known.get(name, nothing), float) for name in names], 1)


def gather(
    table: pd.DataFrame, cube: xr.Dataset, others: xr.Dataset | None = None
) -> SiteAttributes:
    """Describe towers and other places with annual fluxes.

    Parameters
    ----------
    table
        Facts of the towers: site, lat, lon, igbp.
    cube
        Predictors on the grid (month, lat, lon).
    others
        As `tamrl.data.fetch_annual_towers` returns them; those in ``table``, or without a median
        of GPP or RECO (TER), are left out. None: no others.
    """
    x = features(table.lat, table.lon, table.igbp, cube)
    names = tuple(map(str, x))
    if others is None:
        return SiteAttributes(names, x.to_numpy(), np.empty((0, x.shape[1])))
    known = np.isfinite(others.GPP.values) & np.isfinite(others.TER.values)
    others = others.isel(site=known & ~np.isin(others.site.values, table.site))
    lat, lon = others.lat.to_numpy(), others.lon.to_numpy()
    other_x = features(lat, lon, others.igbp.to_numpy(), cube)
    y = np.stack([others.GPP.values, others.TER.values], 1) / DAYS_PER_YEAR
    return SiteAttributes(names, x.to_numpy(), other_x.to_numpy(), y.astype(float), lat, lon)
