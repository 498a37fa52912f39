"""Schema of tower Datasets: variables, units, ranges, classes; and the check of them all."""

from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from tamrl.errors import DataError

FLUXES = ("GPP", "RECO", "NEE")
DRIVERS = ("TA", "VPD", "SW_IN")  # a day without one of these cannot be predicted

# 1 umol CO2 m-2 s-1 held for a day, in gC m-2 d-1: molar mass of carbon 12.011 g mol-1
# (IUPAC 2021, doi:10.1515/pac-2019-0603) x 1e-6 mol umol-1 x 86400 s d-1.
UMOL_TO_GC = 12.011e-6 * 86400.0


class Variable(NamedTuple):
    """Units, names and the physically possible range of one variable."""

    units: str
    long_name: str
    low: float
    high: float
    standard_name: str = ""

    @property
    def attrs(self) -> dict[str, str]:
        """CF attributes."""
        cf = ("units", "long_name", "standard_name")
        return {name: value for name in cf if (value := getattr(self, name))}


def facts(name: str) -> pd.DataFrame:
    """Table of facts of this package (``facts/<name>.csv``); an empty cell of text is ""."""
    with (files("tamrl.data") / "facts" / f"{name}.csv").open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, keep_default_na=False, na_values=[""])
    text = table.columns[[not pd.api.types.is_numeric_dtype(t) for t in table.dtypes]]
    return table.fillna(dict.fromkeys(text, ""))


def variables(name: str) -> dict[str, Variable]:
    """Read the variables of ``facts/variables_<name>.csv``."""
    table = facts(f"variables_{name}")
    fields = [c for c in Variable._fields if c in table]
    rows = table[["name", *fields]].itertuples(index=False, name=None)
    return {key: Variable(**dict(zip(fields, row, strict=True))) for key, *row in rows}


# Ranges bound what a day anywhere on Earth can show, with room for noise: they catch wrong units.
VARIABLES = variables("daily")
OPTIONAL = ("P", "EVI")  # only some users' towers bring them
GPP_MEAN_RANGE = (-5.0, 40.0)  # gC m-2 d-1; the mean over a tower's days cannot lie outside

# IGBP classes by the number that MODIS MCD12 uses (doi:10.5067/MODIS/MCD12C1.006).
_IGBP = facts("igbp").set_index("code")
IGBP_NUMBER = {str(code): int(number) for code, number in _IGBP["number"].items()}
IGBP_NAMES = {str(code): str(name) for code, name in _IGBP["name"].items()}
IGBP_CODES = tuple(IGBP_NUMBER)
KOPPEN_MAIN = {"A": "Tropical", "B": "Arid", "C": "Temperate", "D": "Cold", "E": "Polar"}

# Towers withheld for one independent test at the end; no reader of shipped data returns them.
_SEALED_CODES = """
AT-Neu AU-Stp AU-Wom BR-Sa3 CA-Gro CA-NS7 CA-Obs CN-HaM CN-Qia CZ-BK1 CZ-wet DE-Geb
DE-Hai ES-LJu FI-Jok FR-LBr SD-Dem US-ARM US-Blo US-Goo US-Ivo US-Prr US-WCr ZM-Mon
"""
SEALED = frozenset(_SEALED_CODES.split())


def koppen_main(code: str) -> str:
    """Koppen main class ("Cold") of a code ("Dfb"); "" if the code is empty or unknown."""
    return KOPPEN_MAIN.get(code.strip()[:1], "")


def tower_facts() -> pd.DataFrame:
    """Facts about the 180 FLUXNET2015 towers, indexed by site code; an unknown number is NaN."""
    table = facts("towers")
    table["koppen"] = table["koppen"].str.strip()
    table["koppen_main"] = table["koppen"].map(koppen_main)
    return table.set_index("site").sort_index()


def site_coords(sites: Any, lat: ArrayLike, lon: ArrayLike, igbp: ArrayLike) -> dict[str, Any]:
    """Coordinates (site,) of a Dataset of towers: codes, positions in degrees, IGBP classes."""
    role = {"long_name": "tower", "cf_role": "timeseries_id"}
    return {
        "site": ("site", np.asarray(sites, str), role),
        "lat": ("site", np.asarray(lat, float), {"units": "degrees_north"}),
        "lon": ("site", np.asarray(lon, float), {"units": "degrees_east"}),
        "igbp": ("site", np.asarray(igbp, str), {"long_name": "IGBP class"}),
    }


def drop_sealed(table: pd.DataFrame, column: str = "site") -> pd.DataFrame:
    """Leave out the rows of sealed towers; codes compare without case, and with "_" as "-"."""
    codes = table[column].astype(str).str.replace("_", "-").str.casefold()
    return table.loc[~codes.isin([code.casefold() for code in SEALED])]


def validate(ds: xr.Dataset, source: str) -> xr.Dataset:
    """Check a daily tower Dataset (site, time) against the schema and hand it back unchanged.

    Raises DataError, naming ``source`` (a file or a reader), at the first fault: missing variable
    or coordinate, wrong dims, dtype or units, days doubled or out of order, a place off the Earth,
    an unknown IGBP class, a value that no day on Earth shows, a tower without a usable day.
    """
    _check_axes(ds, source)
    for name, variable in VARIABLES.items():
        if name in ds:
            _check_variable(ds[name], variable, source)
        elif name not in OPTIONAL:
            raise DataError(f"{source}: variable {name} is missing; add it (NaN where unknown)")
    gpp = ds["GPP"].mean("time", skipna=True)
    low, high = GPP_MEAN_RANGE
    for site in ds.site.to_numpy()[((gpp < low) | (gpp > high)).to_numpy()]:
        raise DataError(
            f"{source}: tower {site} has a mean GPP of {float(gpp.sel(site=site)):.4g}, outside "
            f"{low:g} to {high:g} gC m-2 d-1; check the units (daily sums of carbon are expected)"
        )
    usable = np.logical_and.reduce([np.isfinite(ds[name]) for name in DRIVERS]).any(axis=1)
    for site in ds.site.to_numpy()[~usable]:
        raise DataError(
            f"{source}: tower {site} has no valid day, i.e. none with {', '.join(DRIVERS)}; "
            "leave it out or fill its drivers"
        )
    return ds


def _check_axes(ds: xr.Dataset, source: str) -> None:
    for dim in ("site", "time"):
        if dim not in ds.coords or ds.sizes.get(dim, 0) == 0:
            raise DataError(f"{source}: dimension {dim} is missing or empty")
    sites = pd.Index(ds.site.to_numpy().astype(str))
    for site in sites[sites.duplicated()]:
        raise DataError(f"{source}: tower {site} occurs twice; merge it")
    if not sites.is_monotonic_increasing:
        raise DataError(f"{source}: towers are not sorted by code; sort them")
    check_days(pd.DatetimeIndex(ds.time.to_numpy()), source)
    if (np.diff(ds.time.to_numpy()) != np.timedelta64(1, "D")).any():
        raise DataError(f"{source}: days are not dense; fill absent days with NaN")
    for name in ("lat", "lon", "igbp", "koppen", "koppen_main", "elevation", "utc_offset"):
        if name not in ds.coords or ds[name].dims != ("site",):
            raise DataError(f"{source}: coordinate {name} (site) is missing")
    places = (ds[name].to_numpy() for name in ("lat", "lon", "igbp"))
    for site, lat, lon, igbp in zip(sites, *places, strict=True):
        check_place(f"{source}: tower {site}", float(lat), float(lon), str(igbp))


def check_days(time: pd.DatetimeIndex, source: str) -> None:
    """Raise DataError unless the time stamps are calendar days, ascending and each there once."""
    for stamp in time[time != time.normalize()]:
        raise DataError(f"{source}: time {stamp} is not a whole day")
    for day in time[time.duplicated()]:
        raise DataError(f"{source}: time {day:%Y-%m-%d} occurs twice; keep one record a day")
    for day in time[1:][np.diff(time.to_numpy()) < np.timedelta64(0)]:
        raise DataError(f"{source}: time goes back at {day:%Y-%m-%d}; sort the records")


def check_place(source: str, lat: float, lon: float, igbp: str) -> None:
    """Raise DataError unless the place is on Earth and its vegetation class is an IGBP code."""
    if not -90 <= lat <= 90:
        raise DataError(f"{source}: latitude {lat:g} is outside -90 to 90; correct lat")
    if not -180 <= lon <= 180:
        raise DataError(f"{source}: longitude {lon:g} is outside -180 to 180; correct lon")
    if igbp not in IGBP_CODES:
        known = ", ".join(IGBP_CODES)
        raise DataError(f"{source}: unknown IGBP class {igbp!r}; use one of {known}")


def _check_variable(array: xr.DataArray, variable: Variable, source: str) -> None:
    name = array.name
    if array.dims != ("site", "time"):
        raise DataError(f"{source}: {name} has dims {array.dims}; expected ('site', 'time')")
    if array.dtype != np.float32:
        raise DataError(f"{source}: {name} is {array.dtype}; expected float32")
    if (units := array.attrs.get("units")) != variable.units:
        raise DataError(f"{source}: {name} is in {units!r}; convert it to {variable.units}")
    values = array.to_numpy()
    bad = (values < variable.low) | (values > variable.high)  # NaN compares False: missing is fine
    for i, t in np.argwhere(bad):
        value, day = float(values[i, t]), str(array.time.to_numpy()[t])[:10]
        place = f"{source}: tower {array.site.to_numpy()[i]}, {day}: {name} is"
        if value in (-9999, -6999, -999):
            raise DataError(f"{place} {value:g}, a code for missing left in; replace it by NaN")
        raise DataError(
            f"{place} {value:.6g}, outside {variable.low:g} to {variable.high:g} "
            f"{variable.units}; check the units"
        )
