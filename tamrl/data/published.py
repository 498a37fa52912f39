"""Fluxes of others at the same towers, predicted or processed anew: to compare, never to train."""

import numpy as np
import pandas as pd
import rdata
import xarray as xr

from tamrl.data import cache
from tamrl.data.schema import FLUXES, VARIABLES, drop_sealed, facts
from tamrl.errors import DataError

NETWORKS = {"LSTM, GECO Bern": "lstm", "FCN, GECO Bern": "fcn"}
OZFLUX = "OzFlux"  # the source of `fetch_ozflux` that was measured; the others are products
WEATHER = {"TA": "Ta_EC", "VPD": "VPD_EC", "SW_IN": "Fsd_EC"}
PRODUCTS = {
    "FLUXCOM-RS": "FLUXCOM_RS", "GOSIF": "GOSIF", "MODIS": "MODIS", "DIFFUSE": "DIFFUSE",
    "CABLE": "CABLE_BIOS", "AusEFlux": "This_Study",
}  # fmt: skip


def fetch_network_gpp() -> xr.Dataset:
    """Fetch daily GPP of two networks at 46 towers, each left out of its network's training.

    GPP (model, site, time), float32, gC m-2 d-1, NaN missing: a recurrent (LSTM) and a fully
    connected network (FCN), trained on the other 52 of 53 FLUXNET2015 towers, however near, with
    weather measured there (long-wave, wind, rain and pressure too) and FPAR. The seven among them
    that are held back are dropped. Source: github.com/geco-bern/mlflx3_R, AGPL-3. Raises DataError
    when the files cannot be had or hold other columns.
    """
    paths = cache.fetch([f"reference/mlflx3_leave_site_out_{k}.rds" for k in NETWORKS.values()])
    read = {**rdata.conversion.DEFAULT_CLASS_MAP, "Date": lambda days, _: days}  # since 1970
    parts = []
    for path in paths:
        table = rdata.read_rds(path, constructor_dict=read)
        _require(["sitename", "date", "GPP_pred"], table, str(path))
        table = drop_sealed(table.rename(columns={"sitename": "site", "GPP_pred": "GPP"}))
        table["time"] = pd.to_datetime(table["date"], unit="D").astype("datetime64[ns]")
        keyed = table.astype({"site": object}).set_index(["site", "time"])
        parts.append(keyed[["GPP"]].astype(np.float32).to_xarray())
    ds = xr.concat(parts, "model", join="outer").assign_coords(model=[*NETWORKS])
    ds["GPP"].attrs = {"units": "gC m-2 d-1", "long_name": "GPP predicted at towers left out"}
    ds.attrs = {"source": "github.com/geco-bern/mlflx3_R", "licence": "AGPL-3"}
    return ds.assign_coords(site=ds["site"].to_numpy().astype(str))


def fetch_ozflux() -> xr.Dataset:
    """Fetch monthly fluxes of 27 Australian towers as OzFlux processed them, and of six products.

    GPP, RECO, NEE (source, site, month), gC m-2 month-1, NaN missing (NEE as published; it is not
    RECO - GPP in every month); month is its first day; TA degC, VPD hPa, SW_IN W m-2 (site, month)
    measured beside them; lat, lon of the towers. ``source``: `OZFLUX`, measured, gaps filled
    and partitioned by neural networks (SOLO), or one of `PRODUCTS` at the tower; GOSIF, MODIS and
    DIFFUSE give GPP alone, AusEFlux learnt from these very towers. 16 are among the towers of
    `fetch_towers`, none is held back. Source: github.com/cbur24/NEE_modelling (Apache-2.0), tower
    data by OzFlux and TERN (CC-BY); Burton et al. (2023), doi:10.5194/bg-20-4109-2023. Raises
    DataError when the files cannot be had or hold other columns.
    """
    towers = drop_sealed(facts("ozflux"))
    paths = cache.fetch([f"reference/ozflux/harmonized_{file}.csv" for file in towers["file"]])
    tables = {}
    for site, path in zip(towers["site"], paths, strict=True):
        table = pd.read_csv(path)
        _require(["time", *_columns("GPP").values(), *WEATHER.values()], table, str(path))
        month = pd.to_datetime(table["time"]).to_numpy().astype("datetime64[M]")
        tables[site] = table.set_index(pd.Index(month.astype("datetime64[ns]"), name="month"))
    wide, ds = pd.concat(tables, names=["site"]), xr.Dataset()
    for flux in FLUXES:
        columns = _columns(flux)
        values = wide.reindex(columns=[*columns.values()]).set_axis([*columns], axis=1)
        ds[flux] = values.to_xarray().to_dataarray("source").assign_attrs(units="gC m-2 month-1")
    for name, column in WEATHER.items():
        ds[name] = wide[column].to_xarray().assign_attrs(units=VARIABLES[name].units)
    for name, column in (("lat", "y_coord"), ("lon", "x_coord")):
        ds[name] = wide[column].groupby("site").first().to_xarray()
    ds = ds.set_coords(["lat", "lon"])
    ds.attrs = {"source": "github.com/cbur24/NEE_modelling", "licence": "Apache-2.0, data CC-BY"}
    return ds.assign_coords(site=ds["site"].to_numpy().astype(str))


def pmodel_scores() -> pd.DataFrame:
    """Scores of the calibrated P-model of daily GPP at 49 towers left out, as published.

    Indexed by site: ``r2`` (squared correlation, which no bias lowers), ``rmse`` and ``bias``
    (gC m-2 d-1), ``slope``, ``days``: those of the authors.
    Source: Stocker et al. (2020), doi:10.5194/gmd-13-1545-2020, figure 2 (facts shipped here).
    """
    return drop_sealed(facts("pmodel_oob")).set_index("site")


def _columns(flux: str) -> dict[str, str]:
    short = {"RECO": "ER"}.get(flux, flux)
    return {OZFLUX: f"{short}_SOLO_EC"} | {k: f"{v}_{short}" for k, v in PRODUCTS.items()}


def _require(columns: list[str], table: pd.DataFrame, source: str) -> None:
    if absent := set(columns) - set(table):
        raise DataError(f"{source}: columns {sorted(absent)} are missing; fetch the file again")
