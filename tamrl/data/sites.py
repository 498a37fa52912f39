"""What else is measured at towers: satellite series, annual fluxes, methane at marshes."""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import cache
from tamrl.data.schema import Variable, drop_sealed, facts, site_coords, tower_facts, variables

# Of each variable the column of its file; monthly ones with the factor and the offset that give
# their units. ERA5 counts evaporation as a downward flux, hence the negative factor of PET.
MONTHLY, ANNUAL, METHANE = (
    facts(f"variables_{name}").set_index("name") for name in ("monthly", "annual", "methane")
)
MONTHLY_VARIABLES: dict[str, Variable] = variables("monthly")  # named without the product
# Positions to 0.01 degree, from the towers' AmeriFlux pages.
_MARSHES = {
    "US-EDN": (37.62, -122.11), "US-LA1": (29.50, -90.44), "US-PLM": (42.73, -70.84),
    "US-SRR": (38.20, -122.03), "US-STJ": (39.09, -75.44),
}  # fmt: skip


def fetch_tower_predictors() -> xr.Dataset:
    """Fetch monthly satellite and reanalysis predictors at 144 of the 180 towers, 1994-2021.

    Variables (site, month), float32
        FPAR, LAI, NDWI (bands 2 and 6, see `tamrl.data.own.water`), LST_day and LST_night (degC),
        SNOW (%) of MODIS; PRCP (mm d-1) of ERA5-Land; PET (mm d-1, with the sign and size of
        ERA5-Land's, high in dry places); SIF (mW m-2 nm-1 sr-1) of CSIF; SM (m3 m-3) of ESA CCI;
        month is its first day; NaN missing.
    Rules
        A month that the authors imputed (gap_flag_month = 1, all of them before 2001) is missing
        in every variable; attrs["imputed_share"] says how many. 36 towers have no row.
    Source, licence, citation
        github.com/jcalz23/co2-flux-hourly-gpp-modeling, which states no licence: downloaded by
        each user, never redistributed. Cite that repository and the products named above.

    Raises DataError when the file cannot be had.
    """
    table = drop_sealed(_csv("tower_predictors/monthly-mvp-v2.csv"), "SITE_ID")
    table = table[table["SITE_ID"].isin(tower_facts().index)].rename(columns={"SITE_ID": "site"})
    table["month"] = pd.to_datetime(table[["year", "month"]].assign(day=1))
    measured = table["gap_flag_month"] == 0
    months = pd.date_range(table["month"].min(), table["month"].max(), freq="MS")
    values = table[measured].set_index(["site", "month"])[[*MONTHLY["column"]]].astype(float)
    values = values * MONTHLY["factor"].to_numpy() + MONTHLY["offset"].to_numpy()
    ds = values.set_axis(MONTHLY.index, axis=1).astype(np.float32).to_xarray()
    ds = ds.reindex(site=sorted(table["site"].unique()), month=months.to_numpy("datetime64[ns]"))
    for name, row in MONTHLY.iterrows():
        product = f" ({row['product']})" if row["product"] else ""
        ds[name].attrs = {"units": row["units"], "long_name": f"{row['long_name']}{product}"}
    return ds.assign_coords(site=ds["site"].to_numpy().astype(str)).assign_attrs(
        _common(),
        title="Monthly predictors at FLUXNET2015 towers",
        source="github.com/jcalz23/co2-flux-hourly-gpp-modeling, monthly-mvp-v2.csv",
        licence="none stated; not redistributed",
        citation="jcalz23, co2-flux-hourly-gpp-modeling; MODIS, ERA5-Land, CSIF, ESA CCI",
        imputed_share=float((~measured).mean()),
    )


def fetch_annual_towers() -> xr.Dataset:
    """Fetch annual medians of carbon fluxes at towers of all networks, most not among the daily.

    Variables (site), float32
        NEP, GPP, TER in gC m-2 yr-1 (positive NEP is uptake; medians are taken one by one, so
        that NEP differs from GPP - TER), and the number of years behind each; above-ground
        biomass (Mg ha-1) and aridity index. Coordinates lat, lon, igbp, partition ("NT" or "DT")
        and in_daily, which marks the towers that `fetch_towers` has days of; NaN missing.
    Rules
        Towers without any of the three medians are left out. Years and processing differ from the
        daily towers': expect r = 0.95 and +70 gC m-2 yr-1 against annual sums of those. A tower
        held out for a test must be dropped here too.
    Source, licence, citation
        github.com/EcosystemEcologyLab/fluxnet-annual-2026, from FLUXNET, AmeriFlux and ICOS
        (mostly CC-BY-4.0, each tower's own terms apply); biomass of ESA CCI.

    Raises DataError when the files cannot be had.
    """
    files = ("site_flux_medians_shuttle", "site_biomass_cci_v7", "site_aridity")
    table, *extra = (
        drop_sealed(_csv(f"towers_annual/{f}.csv"), "site_id").set_index("site_id") for f in files
    )
    for part in extra:
        new = part[part.columns.intersection(list(ANNUAL["column"]))]
        table = table.merge(new, "left", left_index=True, right_index=True, validate="1:1")
    table = table.dropna(subset=["nep_median", "gpp_median", "ter_median"], how="all").sort_index()
    data = {
        name: ("site", table[row["column"]].to_numpy(np.float32), dict(row[["units", "long_name"]]))
        for name, row in ANNUAL.iterrows()
    }
    places = (table[column] for column in ("location_lat", "location_long", "igbp_class"))
    coords = site_coords(table.index, *places) | {
        "partition": ("site", table["gpp_partition"].fillna("").to_numpy(str), {}),
        "in_daily": ("site", table.index.isin(tower_facts().index), {}),
    }
    paper = "Pastorello et al. (2020), doi:10.1038/s41597-020-0534-3"
    return xr.Dataset(data, coords, _common()).assign_attrs(
        title="Annual medians of carbon fluxes at towers",
        source="github.com/EcosystemEcologyLab/fluxnet-annual-2026",
        licence="terms of the towers' networks, mostly CC-BY-4.0",
        citation=f"EcosystemEcologyLab, fluxnet-annual-2026; {paper}",
    )


def fetch_methane_towers() -> xr.Dataset:
    """Fetch daily CO2 and CH4 fluxes of five tidal marshes of the USA, 2011-2021.

    Variables (site, time), float32
        NEE, GPP, RECO, CH4 in gC m-2 d-1; TA degC; PAR (umol m-2 s-1 by its magnitude, although
        the column says per day); EVI; WTD cm above the soil; salinity g kg-1. Its column of LAI is
        empty. Coordinates lat, lon (to 0.01 degree) and igbp. Days are dense; NaN missing.
    Rules
        GPP has its sign turned: positive here, with NEE = RECO - GPP; US-LA1 has no NEE. Codes are
        written as networks do (US-EDN for US_EDN).
    Source, licence, citation
        github.com/abbylewis/PEPRMT-Tidal, MIT; Oikawa et al. (2024), doi:10.1029/2023JG007943.

    Raises DataError when the file cannot be had.
    """
    table = drop_sealed(_csv("towers_methane/All_sites_master.csv"), "site_char")
    table["site"] = table["site_char"].str.replace("_", "-")
    first = pd.to_datetime({"year": table["Year"], "month": 1, "day": 1})
    table["time"] = first + pd.to_timedelta(table["DOY_disc"] - 1, unit="D")
    table["GPP_gC_m2_day"] *= -1
    columns = dict(zip(METHANE["column"], METHANE.index, strict=True))
    frame = table.set_index(["site", "time"])[[*columns]].rename(columns=columns)
    ds = frame.astype(np.float32).to_xarray()
    days = pd.date_range(*ds.time.to_numpy()[[0, -1]])
    ds = ds.reindex(time=days.to_numpy("datetime64[ns]"))
    for name, row in METHANE.iterrows():
        ds[name].attrs = dict(row[["units", "long_name"]])
    lat, lon = np.transpose([_MARSHES[site] for site in ds["site"].to_numpy()])
    coords = site_coords(ds["site"], lat, lon, ["WET"] * len(lat))
    return ds.assign_coords(coords).assign_attrs(
        _common(),
        title="Tidal marshes: daily CO2 and CH4 fluxes",
        source="github.com/abbylewis/PEPRMT-Tidal, All_sites_master.csv",
        licence="MIT",
        citation="Oikawa et al. (2024), PEPRMT-Tidal, doi:10.1029/2023JG007943",
    )


def _csv(name: str) -> pd.DataFrame:
    (path,) = cache.fetch([name], Path(name).name)
    return pd.read_csv(path, keep_default_na=False, na_values=["", "NA", "NaN"])


def _common() -> dict[str, str | int]:
    history = "read and converted by tamrl.data.sites"
    digest = cache.registry_sha256()
    return {"history": history, "Conventions": "CF-1.11", "virtual": 0, "registry_sha256": digest}
