"""Static attributes of sites: climate, vegetation and soil from the grid; annual fluxes elsewhere.

From the grid they mean the same at a training or a user's tower, in a cell of the map, and at
towers of other networks, with medians of annual sums alone (`tamrl.data.fetch_annual_towers`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from tamrl.data.grid import grid_at
from tamrl.data.physics import KELVIN, lloyd_taylor
from tamrl.data.schema import IGBP_CODES

Array = NDArray[np.float64]
DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class SiteAttributes:
    """Static attributes of the samples' towers, and of other sites with annual fluxes.

    ``x`` (site, attribute) of the samples' towers, NaN where unknown. Of other sites ``other_x``
    (place, attribute), ``other_y`` (place, 2) mean GPP, RECO gC m-2 d-1, ``other_lat/lon`` degrees,
    ``other_site`` their codes.
    """

    names: tuple[str, ...]
    x: Array
    other_x: Array = field(default_factory=lambda: np.empty((0, 0)))
    other_y: Array = field(default_factory=lambda: np.empty((0, 2)))
    other_lat: Array = field(default_factory=lambda: np.empty(0))
    other_lon: Array = field(default_factory=lambda: np.empty(0))
    other_site: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, str))


def features(lat: ArrayLike, igbp: ArrayLike, cells: xr.Dataset) -> pd.DataFrame:
    """Attributes of sites (rows, with named columns): of their grid cell, and of their own class.

    Mean, least and greatest month of variables of ``cells`` (as from `grid_at`); soil, terrain,
    vegetation shares; light x greenness x warmth (Monteith 1972, doi:10.2307/2401901), respiration
    relative to 10 degC (Lloyd & Taylor 1994, doi:10.2307/2389824), rain in warm months; vegetation
    class ``igbp`` and absolute ``lat``, degrees, of the site (site,).
    """
    columns: dict[str, NDArray] = {}
    for name, values in cells.data_vars.items():
        if "month" in values.dims:
            month = values.transpose("site", "month").to_numpy()
            columns |= {f"{name}_{of}": getattr(month, of)(1) for of in ("mean", "min", "max")}
        elif "igbp" in values.dims:
            share = values.transpose("site", "igbp").to_numpy()
            columns |= {f"share_{c}": share[:, i] for i, c in enumerate(values.igbp.to_numpy())}
        elif values.dims == ("site",) and values.dtype.kind == "f":
            columns[str(name)] = values.to_numpy()
    monthly = (cells[n].transpose("site", "month") for n in ("TA", "SW_IN", "PRCP", "EVI"))
    ta, sw, rain, evi = (values.to_numpy() for values in monthly)
    warm = np.clip(ta, 0, 25) / 25
    columns["light_greenness"] = (warm * sw * evi).mean(1)
    columns["respiration"] = lloyd_taylor(np.clip(ta, -30, 45) + KELVIN, above=56.02).mean(1)
    columns["warm_rain"] = (np.minimum(rain, 5) * warm).mean(1)
    columns |= {f"igbp_{code}": np.asarray(igbp).astype(str) == code for code in IGBP_CODES}
    columns["abs_lat"] = np.abs(np.asarray(lat, float))
    return pd.DataFrame(columns).astype(float)


def classes_only(table: pd.DataFrame, names: Sequence[str]) -> Array:
    """Attributes (site, attribute) without a grid: class and latitude; all others are NaN."""
    known = {f"igbp_{code}": table.igbp.to_numpy(str) == code for code in IGBP_CODES}
    known["abs_lat"] = np.abs(table.lat.to_numpy(float))
    nothing = np.full(len(table), np.nan)
    return np.stack([np.asarray(known.get(name, nothing), float) for name in names], 1)


def gather(
    table: pd.DataFrame, cube: xr.Dataset, others: xr.Dataset | None = None,
    cells: xr.Dataset | None = None,
) -> SiteAttributes:  # fmt: skip
    """Collect the attributes of towers and of other sites with annual fluxes.

    ``table`` has site, lat, lon, igbp, ``cells`` the towers' values of ``cube`` (month, lat, lon),
    if known. Of ``others`` (`tamrl.data.fetch_annual_towers`) count new ones with GPP and TER.
    """
    cells = grid_at(cube, table.lat, table.lon) if cells is None else cells
    x = features(table.lat, table.igbp, cells)
    names = tuple(map(str, x))
    if others is None:
        return SiteAttributes(names, x.to_numpy(), np.empty((0, x.shape[1])))
    known = np.isfinite(others.GPP.values) & np.isfinite(others.TER.values)
    others = others.isel(site=known & ~np.isin(others.site.values, table.site))
    lat, lon = others.lat.to_numpy(), others.lon.to_numpy()
    other_x = features(lat, others.igbp.to_numpy(), grid_at(cube, lat, lon))
    y = np.stack([others.GPP.values, others.TER.values], 1) / DAYS_PER_YEAR
    codes = others.site.to_numpy().astype(str)
    return SiteAttributes(names, x.to_numpy(), other_x.to_numpy(), y.astype(float), lat, lon, codes)
