"""Other facts measured at towers: monthly satellite series, annual medians, methane at marshes."""

from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import cache
from tamrl.data.schema import KELVIN, Variable, drop_sealed, tower_facts

# Variable, column of the file, factor and offset that give the variable's units.
_MONTHLY: dict[str, tuple[Variable, str, float, float]] = {
    "FPAR": (Variable("1", "fraction of absorbed PAR (MODIS)", 0, 1), "Fpar", 1, 0),
    "LAI": (Variable("m2 m-2", "leaf area index (MODIS)", 0, 10), "Lai", 1, 0),
    "NDWI": (Variable("1", "normalised difference water index (MODIS)", -1, 1), "NDWI", 1, 0),
    "LST_day": (
        Variable("degC", "land surface temperature by day (MODIS)", -80, 80),
        "LST_Day",
        1,
        -KELVIN,
    ),
    "LST_night": (
        Variable("degC", "land surface temperature by night (MODIS)", -80, 60),
        "LST_Night",
        1,
        -KELVIN,
    ),
    "SNOW": (Variable("%", "snow cover (MODIS)", 0, 100), "Percent_Snow", 1, 0),
    "PRCP": (Variable("mm d-1", "precipitation (ERA5-Land)", 0, 100), "prcp", 1000, 0),
    # ERA5 counts evaporation as a downward flux, so that it is negative in the file.
    "PET": (Variable("mm d-1", "potential evaporation", -1, 100), "PET", -1000, 0),
    "SIF": (
        Variable("mW m-2 nm-1 sr-1", "sun-induced fluorescence, daily mean (CSIF)", -1, 5),
        "CSIF-SIFdaily",
        1,
        0,
    ),
    "SM": (Variable("m3 m-3", "surface soil moisture (ESA CCI)", 0, 1), "ESACCI-sm", 1, 0),
}
MONTHLY_VARIABLES = {name: entry[0] for name, entry in _MONTHLY.items()}

_ANNUAL = {
    "NEP": ("nep_median", "gC m-2 yr-1", "net ecosystem production (-NEE), median of years"),
    "GPP": ("gpp_median", "gC m-2 yr-1", "gross primary production, median of years"),
    "TER": ("ter_median", "gC m-2 yr-1", "ecosystem respiration (RECO), median of years"),
    "n_years_NEP": ("n_years_nee", "1", "years behind the median of NEP"),
    "n_years_GPP": ("n_years_gpp", "1", "years behind the median of GPP"),
    "n_years_TER": ("n_years_ter", "1", "years behind the median of TER"),
    "biomass": ("biomass_value_mg_ha", "Mg ha-1", "above-ground biomass (ESA CCI version 7)"),
    "aridity": ("ai_value", "1", "aridity index: precipitation over potential evaporation"),
}

_METHANE = {
    "NEE": ("CO2_gC_m2_day", "gC m-2 d-1", "net ecosystem exchange of CO2 (negative: uptake)"),
    "GPP": ("GPP_gC_m2_day", "gC m-2 d-1", "gross primary production"),
    "RECO": ("Reco_gC_m2_day", "gC m-2 d-1", "ecosystem respiration"),
    "CH4": ("CH4_gC_m2_day", "gC m-2 d-1", "methane flux (positive: emission)"),
    "TA": ("TA_C", "degC", "air temperature"),
    "PAR": ("PAR_umol_m2_day", "umol m-2 s-1", "photosynthetically active radiation, daily mean"),
    "EVI": ("EVI", "1", "enhanced vegetation index"),
    "WTD": ("WTD_cm", "cm", "water table relative to the soil surface (positive: above)"),
    "salinity": ("Salinity_daily_ave_ppt", "g kg-1", "salinity"),
}
# Positions to 0.01 degree, from the towers' AmeriFlux pages.
_MARSHES = {
    "US-EDN": (37.62, -122.11),
    "US-LA1": (29.50, -90.44),
    "US-PLM": (42.73, -70.84),
    "US-SRR": (38.20, -122.03),
    "US-STJ": (39.09, -75.44),
}


def fetch_tower_predictors() -> xr.Dataset:
    """Fetch monthly satellite and reanalysis predictors at 144 of the 180 towers, 1994-2021.

    Data sheet
    ----------
    Format
        One csv file, a row per tower and month, for 234 towers; the daily towers' rows are kept.
    Variables (site, month)
        FPAR, LAI, NDWI, LST_day and LST_night (degC), SNOW (%) of MODIS; PRCP (mm d-1) of
        ERA5-Land; PET (mm d-1, with the sign and size of ERA5-Land's, high in dry places); SIF
        (mW m-2 nm-1 sr-1) of CSIF; SM (m3 m-3) of ESA CCI.
    Rules
        A month that the authors imputed (gap_flag_month = 1, all of them before 2001) is missing
        in every variable; attrs["imputed_share"] says how many. 36 towers have no row.
    Source, licence, citation
        github.com/jcalz23/co2-flux-hourly-gpp-modeling, which states no licence: downloaded by
        each user, never redistributed. Cite that repository and the products named above.

    Returns
    -------
    xr.Dataset
        dims (site, month), float32, NaN missing; month is the first day of the month.

    Raises
    ------
    DataError
        When the file cannot be had.
    """
    table = _csv("tower_predictors/monthly-mvp-v2.csv").rename(columns={"SITE_ID": "site"})
    table = drop_sealed(table)
    table = table[table["site"].isin(tower_facts().index)]
    table["month"] = pd.to_datetime(table[["year", "month"]].assign(day=1))
    imputed = table["gap_flag_month"] != 0
    index = pd.MultiIndex.from_frame(table.loc[~imputed, ["site", "month"]])
    months = pd.date_range(table["month"].min(), table["month"].max(), freq="MS", name="month")
    sites = pd.Index(sorted(table["site"].unique()), name="site")
    full = pd.MultiIndex.from_product([sites, months])
    stamps = months.to_numpy("datetime64[ns]")
    shape = (len(sites), len(months))
    data = {}
    for name, (variable, column, factor, offset) in _MONTHLY.items():
        values = table.loc[~imputed, column].to_numpy(float) * factor + offset
        series = pd.Series(values, index).reindex(full).to_numpy(np.float32).reshape(shape)
        data[name] = (("site", "month"), series, variable.attrs)
    attrs = {
        "title": "Monthly predictors at FLUXNET2015 towers",
        "source": "github.com/jcalz23/co2-flux-hourly-gpp-modeling, monthly-mvp-v2.csv",
        "licence": "none stated; not redistributed",
        "citation": "jcalz23, co2-flux-hourly-gpp-modeling; MODIS, ERA5-Land, CSIF, ESA CCI",
        "imputed_share": float(imputed.mean()),
    }
    return xr.Dataset(data, {"site": sites.to_numpy(str), "month": stamps}, attrs | _common())


def fetch_annual_towers() -> xr.Dataset:
    """Fetch annual medians of carbon fluxes at towers of all networks, most not among the daily.

    Data sheet
    ----------
    Format
        Three csv files with a row per tower: fluxes, biomass, aridity.
    Variables (site)
        NEP, GPP, TER in gC m-2 yr-1 (positive NEP is uptake; medians are taken one by one, so
        that NEP differs from GPP - TER), and the number of years behind each; above-ground
        biomass (Mg ha-1) and aridity index. Coordinates lat, lon, igbp, partition ("NT" or "DT")
        and in_daily, which marks the towers that `fetch_towers` has days of.
    Rules
        Towers without any of the three medians are left out. Years and processing differ from the
        daily towers': expect r = 0.95 and +70 gC m-2 yr-1 against annual sums of those. A tower
        held out for a test must be dropped here too.
    Source, licence, citation
        github.com/EcosystemEcologyLab/fluxnet-annual-2026, from FLUXNET, AmeriFlux and ICOS
        (mostly CC-BY-4.0, each tower's own terms apply); biomass of ESA CCI.

    Returns
    -------
    xr.Dataset
        dims (site,), float32, NaN missing, sites sorted.

    Raises
    ------
    DataError
        When the files cannot be had.
    """
    files = ("site_flux_medians_shuttle", "site_biomass_cci_v7", "site_aridity")
    parts = [drop_sealed(_csv(f"towers_annual/{f}.csv"), "site_id") for f in files]
    extra = [p[["site_id", *(c for c, *_ in _ANNUAL.values() if c in p)]] for p in parts[1:]]
    table = reduce(lambda a, b: a.merge(b, "left", "site_id", validate="1:1"), extra, parts[0])
    table = table.dropna(subset=["nep_median", "gpp_median", "ter_median"], how="all")
    table = table.set_index("site_id").sort_index()
    data = {
        name: ("site", table[column].to_numpy(np.float32), {"units": u, "long_name": text})
        for name, (column, u, text) in _ANNUAL.items()
    }
    sites = table.index.to_numpy(str)
    coords = {
        "site": ("site", sites, {"long_name": "tower", "cf_role": "timeseries_id"}),
        "lat": ("site", table["location_lat"].to_numpy(float), {"units": "degrees_north"}),
        "lon": ("site", table["location_long"].to_numpy(float), {"units": "degrees_east"}),
        "igbp": ("site", table["igbp_class"].to_numpy(str), {"long_name": "IGBP class"}),
        "partition": ("site", table["gpp_partition"].fillna("").to_numpy(str), {}),
        "in_daily": ("site", np.isin(sites, tower_facts().index.to_numpy(str)), {}),
    }
    attrs = {
        "title": "Annual medians of carbon fluxes at towers",
        "source": "github.com/EcosystemEcologyLab/fluxnet-annual-2026",
        "licence": "terms of the towers' networks, mostly CC-BY-4.0",
        "citation": "EcosystemEcologyLab, fluxnet-annual-2026; Pastorello et al. (2020), "
        "doi:10.1038/s41597-020-0534-3",
    }
    return xr.Dataset(data, coords, attrs | _common())


def fetch_methane_towers() -> xr.Dataset:
    """Fetch daily CO2 and CH4 fluxes of five tidal marshes of the USA, 2011-2021.

    Data sheet
    ----------
    Format
        One csv file, 4,593 rows of tower and day.
    Variables (site, time)
        NEE, GPP, RECO, CH4 in gC m-2 d-1; TA degC; PAR (umol m-2 s-1 by its magnitude, although
        the column says per day); EVI; WTD cm above the soil; salinity g kg-1. Its column of LAI is
        empty. Coordinates lat, lon (to 0.01 degree) and igbp.
    Rules
        GPP has its sign turned: positive here, with NEE = RECO - GPP; US-LA1 has no NEE. Codes are
        written as networks do (US-EDN for US_EDN).
    Source, licence, citation
        github.com/abbylewis/PEPRMT-Tidal, MIT; Oikawa et al. (2024), doi:10.1029/2023JG007943.

    Returns
    -------
    xr.Dataset
        dims (site, time), float32, NaN missing; daily, dense.

    Raises
    ------
    DataError
        When the file cannot be had.
    """
    table = _csv("towers_methane/All_sites_master.csv")
    table["site"] = table["site_char"].str.replace("_", "-")
    table = drop_sealed(table)
    day = pd.to_timedelta(table["DOY_disc"] - 1, unit="D")
    table["time"] = pd.to_datetime({"year": table["Year"], "month": 1, "day": 1}) + day
    table["GPP_gC_m2_day"] *= -1
    columns = {column: name for name, (column, *_) in _METHANE.items()}
    frame = table.set_index(["site", "time"])[[*columns]].rename(columns=columns)
    ds = frame.astype(np.float32).to_xarray()
    days = pd.date_range(ds.time.to_numpy()[0], ds.time.to_numpy()[-1])
    ds = ds.reindex(time=days.to_numpy("datetime64[ns]"))
    for name, (_, units, text) in _METHANE.items():
        ds[name].attrs = {"units": units, "long_name": text}
    sites = ds["site"].to_numpy().astype(str)
    ds = ds.assign_coords(
        site=sites,
        lat=("site", [_MARSHES[s][0] for s in sites], {"units": "degrees_north"}),
        lon=("site", [_MARSHES[s][1] for s in sites], {"units": "degrees_east"}),
        igbp=("site", np.full(len(sites), "WET"), {"long_name": "IGBP class"}),
    )
    attrs = {
        "title": "Tidal marshes: daily CO2 and CH4 fluxes",
        "source": "github.com/abbylewis/PEPRMT-Tidal, All_sites_master.csv",
        "licence": "MIT",
        "citation": "Oikawa et al. (2024), PEPRMT-Tidal, doi:10.1029/2023JG007943",
    }
    return ds.assign_attrs(attrs | _common())


def _csv(name: str) -> pd.DataFrame:
    (path,) = cache.fetch([name], Path(name).name)
    return pd.read_csv(path, keep_default_na=False, na_values=["", "NA", "NaN"])


def _common() -> dict[str, str | int]:
    return {
        "history": "read and converted by tamrl.data.sites",
        "Conventions": "CF-1.11",
        "virtual": 0,
        "registry_sha256": cache.registry_sha256(),
    }
