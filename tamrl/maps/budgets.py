"""Adding the map up: totals by region with intervals, beside what others have published.

Totals are sums of flux x cell area x land fraction x days. Intervals come from summing each model
of the ensemble first and only then taking the spread, since the errors of cells are not
independent and do not cancel. They show what the choice of training towers and seeds does; errors
that all models share (drivers, the climate of other years, a network that misses the tropics) are
not in them.
"""

from importlib.resources import files

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy import stats

from tamrl.data.cube import cell_area
from tamrl.data.gridfiles import MONTH_DAYS, block_mean
from tamrl.data.reference import carbon_budget_2019, fetch_reccap, fetch_reference_gpp
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.regions import UNASSIGNED, partition

Floats = npt.NDArray[np.float64]

YEAR_DAYS = float(MONTH_DAYS.sum())  # d
PG = 1e15  # g
_NPP_RH = ("NPP", "Soil Heterotrophic Respiration")


def annual(fluxes: xr.Dataset) -> xr.Dataset:
    """Annual sums of a map's GPP, RECO, NEE (lat, lon), g C m-2 yr-1; NaN where never predicted.

    Months count by their length (CF time bounds of a climatology span years, so the mean Gregorian
    month is taken); a time that was not predicted adds nothing.
    """
    days = _step_days(fluxes)
    out = xr.Dataset()
    for flux in FLUXES:
        rate = fluxes[flux]
        total = (rate * days).sum("time", min_count=1) * (YEAR_DAYS / float(days.sum()))
        out[flux] = total.assign_attrs(units="g m-2 yr-1", long_name=f"{flux}, annual sum")
    return out


def _step_days(fluxes: xr.Dataset) -> xr.DataArray:
    if (
        "climatology" in fluxes["time"].attrs | fluxes["time"].encoding
        or fluxes.sizes["time"] == 12
    ):
        return xr.DataArray(MONTH_DAYS, dims="time", coords={"time": fluxes["time"]})
    bounds = fluxes["time_bnds"]
    width = bounds.isel(bnds=1) - bounds.isel(bnds=0)
    if np.issubdtype(width.dtype, np.timedelta64):
        width = width / np.timedelta64(1, "D")
    return width.drop_vars("time_bnds", errors="ignore")


def totals(
    fluxes: xr.Dataset, by: str = "globe", cube: xr.Dataset | None = None, level: float = 0.9
) -> pd.DataFrame:
    """Carbon totals of regions.

    Parameters
    ----------
    fluxes
        Map as from `upscale`.
    by
        "globe", "band", "biome", "koppen", "koppen_main", "country" or "reccap".
    cube
        On the same grid, where the partition needs one.
    level
        Of the intervals: mean -+ Student's t x standard deviation of the members' totals.

    Returns
    -------
    pandas.DataFrame
        One row a flux and region: flux, region, total, lower, upper (PgC yr-1), mean
        (gC m-2 yr-1), area (million km2 of land), predicted (share of that area). The rows of a
        flux add up to the globe; land in no region is "unassigned".
    """
    lat, lon = fluxes["lat"].to_numpy(), fluxes["lon"].to_numpy()
    parts = partition(by, lat, lon, cube)
    land = np.nan_to_num(fluxes["land_fraction"].transpose("lat", "lon").to_numpy())
    land = (cell_area(lat, lon) * land).ravel()  # m2
    frames = []
    for flux in FLUXES:
        member = fluxes[f"{flux}_member"].transpose("member", "lat", "lon").to_numpy()
        member = member.reshape(len(member), -1).astype(np.float64) * YEAR_DAYS  # g m-2 yr-1
        known = np.isfinite(member).all(axis=0)
        sums = parts.sums(np.nan_to_num(member) * land) / PG  # (member, region)
        total = sums.mean(axis=0)
        n = len(sums)
        spread = sums.std(axis=0, ddof=1) if n > 1 else np.full(total.shape, np.nan)
        half = stats.t.ppf(0.5 + level / 2, n - 1) * spread if n > 1 else spread
        area, seen = parts.sums(np.stack([land, land * known]))
        with np.errstate(invalid="ignore", divide="ignore"):  # a region without land has no mean
            frame = pd.DataFrame(
                {
                    "flux": flux,
                    "region": parts.names,
                    "total": total,
                    "lower": total - half,
                    "upper": total + half,
                    "mean": total * PG / seen,
                    "area": area / 1e12,
                    "predicted": seen / area,
                }
            )
        frames.append(frame[(area > 0) | (frame["region"] == UNASSIGNED)])
    table = pd.concat(frames, ignore_index=True)
    table.attrs = {"units": "PgC yr-1", "level": level, "members": n}
    return table


def compare(fluxes: xr.Dataset, level: float = 0.9) -> pd.DataFrame:
    """Global totals beside published ones, each with period, DOI and what to mind.

    Returns
    -------
    pandas.DataFrame
        flux, source, value, lower, upper (PgC yr-1; NaN where not published), period, doi,
        caveat, ours (bool).
    """
    columns = ["flux", "source", "value", "lower", "upper", "period", "doi", "caveat"]
    virtual = "virtual towers, " if fluxes.attrs.get("virtual") else ""
    ours = totals(fluxes, level=level).rename(columns={"total": "value"})
    ours = ours[["flux", "value", "lower", "upper"]].assign(
        source=f"{virtual}this study",
        period="climatology",
        doi="",
        caveat="spread of the ensemble only; predictors are a mean year",
    )
    sink = carbon_budget_2019().sel(year=slice(2009, 2018))
    net = float((sink["land_use"] - sink["land_sink"]).mean())
    sd = float(np.hypot(sink["land_use_sd"].mean(), sink["land_sink_sd"].mean()))
    reccap = fetch_reccap().sel(region="Globe")
    nee, nee_sd = (float(reccap[k].sel(quantity="NEE")) / 1000 for k in ("mean", "uncertainty"))
    npp, rh = (float(reccap["mean"].sel(quantity=q)) / 1000 for q in _NPP_RH)
    reference = fetch_reference_gpp()["GPP"]
    land = _land_on(fluxes, reference)
    whole = float((reference * land).sum()) * YEAR_DAYS / PG
    others = [
        (
            "GPP",
            "FLUXCOM map, our land",
            whole,
            np.nan,
            np.nan,
            "not stated",
            "10.5194/bg-17-1343-2020",
            "version and years not stated; where this map has land",
        ),
        (
            "NEE",
            "Global Carbon Budget 2019",
            net,
            net - sd,
            net + sd,
            "2009-2018",
            "10.5194/essd-11-1783-2019",
            "land use minus land sink: not NEE, since fires, harvest and rivers are in it",
        ),
        (
            "NEE",
            "RECCAP, stock change",
            nee,
            nee - nee_sd,
            nee + nee_sd,
            "2000-2009",
            "10.1093/nsr/nwaa145",
            "stock change plus lateral export: after fires, harvest and rivers",
        ),
        (
            "NEE",
            "RECCAP, Rh - NPP",
            rh + npp,
            np.nan,
            np.nan,
            "2000-2009",
            "10.1093/nsr/nwaa145",
            "Rh is itself the remainder of a mass balance; the Middle East is not in",
        ),
    ]
    with (files("tamrl.data") / "facts" / "published_totals.csv").open() as stream:
        published = pd.read_csv(stream)
    computed = pd.DataFrame(others, columns=columns)
    parts = [ours.assign(ours=True), published.assign(ours=False), computed.assign(ours=False)]
    table = pd.concat(parts, ignore_index=True)
    order = table["flux"].map({flux: i for i, flux in enumerate(FLUXES)})
    return table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)[[*columns, "ours"]]


def compare_reccap(fluxes: xr.Dataset, level: float = 0.9) -> pd.DataFrame:
    """NEE of RECCAP's nine regions beside RECCAP's two ways to it, PgC yr-1.

    Returns
    -------
    pandas.DataFrame
        region: NEE, lower, upper (ours); reccap_nee with reccap_sd (stock change plus lateral
        export: after fires, harvest and rivers); reccap_rh_npp (Rh - NPP, nearer to what a tower
        sees, but Rh is a remainder). Regions are approximated by countries.
    """
    ours = totals(fluxes, "reccap", level=level)
    ours = ours[ours["flux"] == "NEE"].set_index("region")
    reccap = fetch_reccap()
    theirs = reccap["mean"].to_pandas() / 1000
    table = pd.DataFrame(
        {
            "NEE": ours["total"],
            "lower": ours["lower"],
            "upper": ours["upper"],
            "reccap_nee": theirs["NEE"],
            "reccap_sd": reccap["uncertainty"].sel(quantity="NEE").to_pandas() / 1000,
            "reccap_rh_npp": theirs[_NPP_RH[0]] + theirs[_NPP_RH[1]],
        }
    )
    return table.reindex([r for r in theirs.index if r in ours.index])


def _land_on(fluxes: xr.Dataset, reference: xr.DataArray) -> xr.DataArray:
    """Land area of the reference's cells, m2, by the land fraction of the map's cell around it."""
    fraction = fluxes["land_fraction"].reindex_like(reference, method="nearest", tolerance=0.5)
    area = cell_area(reference["lat"].to_numpy(), reference["lon"].to_numpy())
    return fraction.fillna(0) * area


def compare_gpp(fluxes: xr.Dataset) -> tuple[pd.Series, xr.Dataset, pd.DataFrame]:
    """Hold the GPP map against FLUXCOM's mean GPP, cell by cell.

    Where both have values, weighted by land area. FLUXCOM's version and years are not stated; it is
    others' machine learning from many of the same towers: a comparison, not the truth.

    Returns
    -------
    statistics, difference, zonal
        r, RMSE, bias (ours minus FLUXCOM, gC m-2 d-1), n cells, totals over common cells
        (PgC yr-1); Dataset with ours, FLUXCOM and difference (lat, lon); means by latitude
        (index lat, columns "this study", "FLUXCOM"), gC m-2 d-1.
    """
    reference = fetch_reference_gpp()["GPP"]
    ours = (annual(fluxes)["GPP"] / YEAR_DAYS).transpose("lat", "lon").load()
    step = float(np.diff(ours["lat"][:2])[0])
    factor = round(step / 0.5)
    if factor > 1:
        area = cell_area(reference["lat"].to_numpy(), reference["lon"].to_numpy())
        values = block_mean(reference.to_numpy().astype(np.float64), area, factor)
        axes = {d: reference[d].coarsen({d: factor}).mean().to_numpy() for d in ("lat", "lon")}
        reference = xr.DataArray(values, coords=axes, dims=("lat", "lon"), name="GPP")
    theirs = reference.reindex_like(ours, method="nearest", tolerance=step / 10)
    if not np.isfinite(theirs.to_numpy()).any():
        raise DataError("comparison of GPP: the map's grid does not line up with FLUXCOM's cells")
    land = fluxes["land_fraction"].transpose("lat", "lon").fillna(0).to_numpy()
    land = land * cell_area(ours["lat"].to_numpy(), ours["lon"].to_numpy())
    both = np.isfinite(ours.to_numpy()) & np.isfinite(theirs.to_numpy())
    a, b, w = ours.to_numpy()[both], theirs.to_numpy()[both].astype(np.float64), land[both]
    cov = np.cov(np.stack([a, b]), aweights=w)
    statistics = pd.Series(
        {
            "r": cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]),
            "RMSE": np.sqrt(np.average((a - b) ** 2, weights=w)),
            "bias": np.average(a - b, weights=w),
            "cells": int(both.sum()),
            "total": (a * w).sum() * YEAR_DAYS / PG,
            "total_FLUXCOM": (b * w).sum() * YEAR_DAYS / PG,
        }
    )
    weights = xr.DataArray(np.where(both, land, 0.0), coords=ours.coords, dims=("lat", "lon"))
    zonal = pd.DataFrame(
        {
            name: ((field.fillna(0) * weights).sum("lon") / weights.sum("lon")).to_pandas()
            for name, field in (("this study", ours), ("FLUXCOM", theirs))
        }
    )
    maps = xr.Dataset({"ours": ours, "FLUXCOM": theirs, "difference": ours - theirs})
    return statistics, maps.assign_attrs(units="gC m-2 d-1"), zonal


def zonal_totals(fluxes: xr.Dataset) -> pd.DataFrame:
    """Totals by degree of latitude, PgC yr-1 deg-1: index lat (deg), a column for each flux."""
    lat, lon = fluxes["lat"].to_numpy(), fluxes["lon"].to_numpy()
    land = fluxes["land_fraction"].fillna(0) * cell_area(lat, lon)
    width = abs(float(lat[1] - lat[0]))
    sums = (annual(fluxes) * land).sum("lon") / PG / width
    return sums.to_dataframe()[list(FLUXES)]
