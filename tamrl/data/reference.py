"""Published maps and totals of carbon fluxes: for comparison, never to train on."""

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.cache import fetch, registry_sha256
from tamrl.data.cube import lat_lon_axes
from tamrl.data.gridfiles import centres
from tamrl.data.schema import facts
from tamrl.errors import DataError


def fetch_reference_gpp() -> xr.Dataset:
    """Mean GPP of FLUXCOM on the 0.5-degree grid of `fetch_grid`.

    ============  ============================================================================
    Variables     GPP (lat, lon), g of carbon m-2 d-1 by its magnitude; NaN over deserts, ice, sea
    Traps         version, years and land fraction are not stated; a few cells are slightly
                  negative; 3,476 cells that the compilers filtered out elsewhere are kept
    Caveat        machine learning from many of the same towers: never a training target
    Total         108.1 PgC yr-1 with whole cells, 103.7 with the land fraction of MCD12C1
    Source        PNNL-TES/GlobalC; FLUXCOM: Jung et al. 2020, doi:10.5194/bg-17-1343-2020
    Licence       none stated: for use here, not for redistribution
    ============  ============================================================================

    Raises DataError when the file cannot be had or is not on the 0.5-degree grid.
    """
    (path,) = fetch(["reference/Fluxcom_summarized_GPP.csv"], "Fetching FLUXCOM's mean GPP")
    table = pd.read_csv(path)
    lat, lon = centres()
    if not (table["Latitude"].isin(lat) & table["Longitude"].isin(lon)).all():
        raise DataError(f"{path}: a position is off the 0.5-degree grid; fetch the file again")
    if table.duplicated(["Latitude", "Longitude"]).any():
        raise DataError(f"{path}: a cell occurs twice; fetch the file again")
    gpp = table.pivot_table("FLUXCOM_GPP", "Latitude", "Longitude").reindex(lat, columns=lon)
    attrs = {
        "units": "g m-2 d-1",  # UDUNITS knows no gC
        "long_name": "gross primary production, as carbon, FLUXCOM mean",
        "standard_name": "gross_primary_productivity_of_biomass_expressed_as_carbon",
    }
    fields = {"GPP": (("lat", "lon"), gpp.to_numpy(np.float32), attrs)}
    return xr.Dataset(fields, lat_lon_axes(lat, lon, bounds=False)).assign_attrs(
        _common(),
        title="FLUXCOM mean GPP",
        comment="Version and years are not stated, the unit is inferred from the magnitude. Made "
        "by machine learning from many of the same towers: a comparison, not the truth, "
        "and never a training target.",
        source="PNNL-TES/GlobalC, Fluxcom_summarized_GPP.csv",
        citation="Jung et al. 2020, Biogeosciences, doi:10.5194/bg-17-1343-2020",
    )


def fetch_reccap() -> xr.Dataset:
    """Carbon balances of nine land regions and the globe, compiled by RECCAP.

    ============  ============================================================================
    Variables     mean, uncertainty (1 sigma), Tg of carbon yr-1; period: (region, quantity)
    Traps         a decimal comma among points; missing numbers are NaN
    Signs         positive into the atmosphere: NPP and uptake are negative
    Caveat        NEE there is the change of carbon stocks plus lateral export, thus after fire,
                  harvest and rivers: not what a tower measures. Rh + NPP comes nearer, but Rh is
                  itself a remainder of the mass balance. Periods differ (mostly 2000-2009)
    Source        GlobalCarbonAtlas/reccap v3.15.2; Ciais et al. 2021, doi:10.1093/nsr/nwaa145
    Licence       none stated: for use here, not for redistribution
    ============  ============================================================================

    Raises DataError when the file cannot be had or lacks a region or quantity.
    """
    (path,) = fetch(["reference/reccap_app_master_v3.15.2.csv"], "Fetching RECCAP's balances")
    table = pd.read_csv(path, sep="\t", encoding="utf-8")
    if absent := {"Region", "Name", "Period", "Mean", "Uncert"} - set(table.columns):
        raise DataError(f"{path}: columns {sorted(absent)} are missing; fetch the file again")
    table["Name"] = table["Name"].str.replace("\N{INCREMENT}C", "Stock change").str.strip()
    table["Region"] = table["Region"].str.strip()
    if table.duplicated(["Region", "Name"]).any() or not {"NEE", "NPP"} <= set(table["Name"]):
        raise DataError(f"{path}: a region has a quantity twice, or no NEE; fetch the file again")
    regions, quantities = list(table["Region"].unique()), list(table["Name"].unique())
    cells = table.set_index(["Region", "Name"]).to_xarray().reindex(Region=regions, Name=quantities)
    names = {"Region": "region", "Name": "quantity", "Mean": "mean", "Uncert": "uncertainty"}
    ds = cells[["Mean", "Uncert", "Period"]].rename(names | {"Period": "period"})
    what = ("flux into the atmosphere", "standard uncertainty of the flux")
    for name, of in zip(("mean", "uncertainty"), what, strict=True):
        ds[name] = ds[name].astype(str).str.replace(",", ".").astype(float)
        ds[name].attrs = {"units": "Tg yr-1", "long_name": f"{of}, as carbon"}
    ds["period"] = ds["period"].fillna("").astype(str).str.strip()
    ds["period"].attrs = {"long_name": "period"}
    return ds.assign_attrs(
        _common(),
        title="RECCAP regional carbon balances",
        comment="NEE is stock change plus lateral export, not the exchange that a tower sees.",
        source="GlobalCarbonAtlas/reccap, reccap_app_master_v3.15.2.csv",
        citation="Ciais et al. 2021, National Science Review, doi:10.1093/nsr/nwaa145",
    )


def _common() -> dict[str, str]:
    history = "read from the registry's file by tamrl.data.reference"
    common = {"Conventions": "CF-1.11", "history": history, "licence": "none stated"}
    return common | {"registry_sha256": registry_sha256()}


def carbon_budget_2019() -> xr.Dataset:
    """Global Carbon Budget 2019: annual land sink and land-use emissions, 1959-2018, PgC yr-1.

    Variables (year,): land_sink and land_use with their spread over models land_sink_sd and
    land_use_sd. The land sink (positive: uptake) is not minus NEE: it is what models of undisturbed
    land give, without land use, rivers and trade.
    Source: Friedlingstein et al. 2019, doi:10.5194/essd-11-1783-2019 (facts shipped here), which
    gives the land sink of the decade 2009 to 2018:

    >>> round(float(carbon_budget_2019().land_sink.sel(year=slice(2009, 2018)).mean()), 1)
    3.2
    """
    ds = xr.Dataset()
    for name, column in (("land_sink", "Terrestrial-Sink"), ("land_use", "Land-Use-Change")):
        table = facts(f"gcb2019_{column.lower()}").set_index("Year")
        models = table.drop(columns=[column, *table.filter(like="MMM")])
        unit = {"units": "PgC yr-1"}
        ds[name] = ("year", table[column].to_numpy(dtype=np.float64), unit)
        ds[f"{name}_sd"] = ("year", models.std(axis=1).to_numpy(dtype=np.float64), unit)
        ds = ds.assign_coords(year=table.index.to_numpy())
    return ds.assign_attrs(
        title="Global Carbon Budget 2019, land",
        citation="Friedlingstein et al. 2019, ESSD, doi:10.5194/essd-11-1783-2019",
    )
