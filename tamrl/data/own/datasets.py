"""Towers handed in from Python: a DataFrame of one tower, or an xarray Dataset of several."""

import pandas as pd
import xarray as xr

from tamrl.data.own.csvfiles import Table
from tamrl.data.schema import OPTIONAL, VARIABLES
from tamrl.errors import DataError

PLACES = {n: axis for axis in ("latitude", "longitude") for n in (axis[:3], axis)}
_COORDS = ("lat", "lon", "igbp", "koppen", "koppen_main", "elevation", "utc_offset")


def is_ours(ds: xr.Dataset) -> bool:
    """Whether a Dataset is one that `open_towers` or `fetch_towers` returned: checked already."""
    made = "tower_source" in ds.attrs and all(name in ds.coords for name in _COORDS)
    return made and all(name in ds for name in VARIABLES if name not in OPTIONAL)


def facts_of(ds: xr.Dataset) -> pd.DataFrame:
    """Table of towers from what a Dataset (site, time) says about them; DataError if too little."""
    if "site" not in ds.dims:
        raise DataError("Dataset: no dimension site; name the place (lat, lon, igbp)")
    names = {"elevation": "elevation_m", "utc_offset": "utc_offset_h"}
    of_site = {str(n): v.to_numpy() for n, v in ds.variables.items() if v.dims == ("site",)}
    return pd.DataFrame({names.get(n, n): v for n, v in of_site.items()})


def tables(towers: pd.DataFrame | xr.Dataset, listed: list[str], source: str) -> dict[str, Table]:
    """Tables by tower; the only one of ``listed`` is that of a DataFrame, or of a Dataset (time).

    Units are those of the variables' attributes ``units``, or of a DataFrame's attrs["units"].
    DataError where it is open which tower it is.
    """
    if isinstance(towers, pd.DataFrame):
        if len(listed) != 1:
            raise DataError(f"{source}: {len(listed)} towers listed; a DataFrame is of one tower")
        return {listed[0]: Table(towers, source, dict(towers.attrs.get("units", {})))}
    if "time" not in towers.dims:
        raise DataError(f"{source}: no dimension time; have {[*map(str, towers.dims)]}")
    for dim in (n for n in PLACES if n in towers.dims and towers.sizes[n] > 1):
        many = f"{dim} has {towers.sizes[dim]} entries; site and time are expected"
        raise DataError(f"{source}: {many} (for cubes there is tamrl map)")
    units = {str(n): str(v.attrs["units"]) for n, v in towers.items() if v.attrs.get("units")}
    at = {"site", "time", *PLACES}
    series = towers[[n for n, v in towers.items() if "time" in v.dims and at.issuperset(v.dims)]]
    if "site" not in towers.dims:
        if len(listed) != 1:
            raise DataError(f"{source}: no dimension site, and {len(listed)} towers listed")
        one = [
            a for a in PLACES if a in towers and towers[a].size == 1 and pd.notna(towers[a].item())
        ]
        own = {PLACES[a]: str(towers[a].item()) for a in one}
        return {listed[0]: Table(_frame(series), source, units, facts=own)}
    sites = towers["site"].to_numpy().astype(str)
    return {s: Table(_frame(series.isel(site=i)), source, units) for i, s in enumerate(sites)}


def _frame(ds: xr.Dataset) -> pd.DataFrame:
    """Table of one place, without the days before its first value and after its last."""
    frame = ds.squeeze(drop=True).reset_coords(drop=True).to_dataframe()
    known = frame.notna().any(axis=1).to_numpy().nonzero()[0]
    return frame.iloc[known[0] : known[-1] + 1] if known.size else frame.iloc[:0]
