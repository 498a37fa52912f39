"""The FLUXNET2015 towers as local daily values, converted once and then cached."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from tamrl.data import cache, daily, schema, store
from tamrl.data.daily import TowerDays
from tamrl.data.derived import derived, derived_path
from tamrl.errors import DataError

STORE = "fluxnet2015.zarr"
DAYTIME = "gpp_dt"
_PARTS = (".zgroup", ".zattrs", "site/", "time/", *(f"{name}/" for name in store.STORE_NAMES))
MADE_BY = (
    "schema.py", "daily.py", "store.py", "towers.py", "facts/towers.csv",
    "facts/suspect_site_years.csv", "facts/variables_daily.csv",
)  # fmt: skip


def fetch_towers() -> xr.Dataset:
    """Fetch daily carbon fluxes and weather of 180 FLUXNET2015 towers, 1991-2014.

    Converted from a Zarr store of half-hours (UTC) to local days, and cached as NetCDF.

    Variables (site, time), float32, NaN missing
        NEE, GPP, RECO in gC m-2 d-1 with RECO = NEE + GPP (night-time partitioning, negative NEE
        is uptake); NEE_QC, the share of half-hours that are measured or well gap-filled; TA,
        TA_min, TA_max in degC; VPD, VPD_max in hPa; SW_IN in W m-2. Coordinates lat, lon, igbp,
        koppen, koppen_main, elevation, utc_offset (h, which turns the store's UTC into the
        tower's own days).
    Rules
        A day needs 47 half-hours (23 hours at hourly towers), counted per variable, so that a
        missing label costs no driver. Gap-filled drivers stay. Labels of broken site-years
        are missing: those that `daily.broken_years` finds, and those whose night-time and
        day-time partitionings differ by more than 3 gC m-2 d-1 (facts/suspect_site_years.csv);
        attrs["excluded"] counts and names them.
    Source, licence, citation
        FLUXNET2015, CC-BY-4.0; Pastorello et al. (2020), doi:10.1038/s41597-020-0534-3; the Zarr
        conversion is by the EXCITED project.

    Raises DataError when the files cannot be had, or do not hold what they should.
    """
    return derived("towers", MADE_BY, lambda: schema.validate(_convert(), STORE))


def fetch_daytime_gpp() -> xr.Dataset:
    """Fetch GPP by daytime partitioning: a second label, from the same NEE, never a predictor.

    GPP_DT (site, time), float32, gC m-2 d-1, on the sites and days of `fetch_towers` and missing
    wherever that has no GPP (by night-time partitioning), broken site-years included. Cached.
    GPP_DT_VUT_REF, after Lasslop et al. (2010), doi:10.1111/j.1365-2486.2009.02041.x. Raises
    DataError when the files cannot be had.
    """
    return derived("daytime_gpp", MADE_BY, _convert_daytime)


def available() -> bool:
    """Whether `fetch_towers` can be expected to succeed, answered within seconds."""
    return derived_path("towers", MADE_BY).exists() or cache.available(_names())


def _names() -> list[str]:
    return [n for part in _PARTS for n in cache.registry_names(f"{STORE}/{part}")]


def _read(files: list[str], names: Mapping[str, str]) -> dict[str, TowerDays]:
    cache.fetch(files, "FLUXNET2015 half-hours")
    path, facts = cache.cache_dir() / STORE, schema.tower_facts()
    towers, left_out = store.read_store(path, facts, names)
    for site, why in left_out.items():
        raise DataError(f"{STORE}: tower {site} cannot be read ({why}); fetch the files again")
    return towers


def _convert_daytime() -> xr.Dataset:
    days = _read([*_names(), *cache.registry_names(f"{STORE}/{DAYTIME}/")], {DAYTIME: "GPP"})
    towers = fetch_towers()
    gpp = daily.assemble(days, schema.tower_facts())["GPP"].reindex_like(towers)
    ds = gpp.where(np.isfinite(towers["GPP"])).to_dataset(name="GPP_DT")
    ds["GPP_DT"].attrs = {"units": "gC m-2 d-1", "long_name": "GPP by daytime partitioning"}
    title, source = "FLUXNET2015, daily GPP by daytime partitioning", "GPP_DT_VUT_REF, half-hours"
    return ds.assign_attrs(towers.attrs, title=title, source=source)


def _convert() -> xr.Dataset:
    ds = daily.assemble(_read(_names(), store.STORE_NAMES), schema.tower_facts())
    # Site-years whose two official partitionings disagree, by a list that ships with the package.
    listed = schema.facts("suspect_site_years")[["site", "year"]].itertuples(index=False, name=None)
    broken = dict.fromkeys(listed, "night-time and day-time partitioning differ")
    ds = daily.without_labels(ds, broken | daily.broken_years(ds))
    return ds.assign_attrs(
        title="FLUXNET2015 towers, daily", licence="CC-BY-4.0", virtual=0,
        source="FLUXNET2015 half-hours, NEE_VUT_REF and GPP_NT_VUT_REF; RECO = NEE + GPP",
        citation="Pastorello et al. (2020), Scientific Data 7, 225, doi:10.1038/s41597-020-0534-3",
        history="half-hours to local days by tamrl.data.towers",
        tower_source="fluxnet2015", registry_sha256=cache.registry_sha256(),
    )  # fmt: skip
