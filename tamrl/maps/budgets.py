"""Totals of a map by region with intervals, beside what others have published.

Totals are sums of flux x cell area x land fraction x days; for their intervals see
`tamrl.maps.uncertainty`: errors that all towers share (few towers in the tropics, young forests, no
fire) are not in them.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from tamrl.data.cube import cell_area
from tamrl.data.grid import fetch_grid
from tamrl.data.gridfiles import MONTH_DAYS, block_mean
from tamrl.data.reference import carbon_budget_2019, fetch_reccap, fetch_reference_gpp
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.cubes import FULL
from tamrl.maps.regions import UNASSIGNED, partition
from tamrl.maps.timeaxis import time_edges
from tamrl.maps.uncertainty import Uncertainty

YEAR_DAYS = float(MONTH_DAYS.sum())  # d
PG = 1e15  # g
NPP_RH = ("NPP", "Soil Heterotrophic Respiration")


def annual(fluxes: xr.Dataset) -> xr.Dataset:
    """Annual sums of a map's GPP, RECO, NEE (lat, lon), g C m-2 yr-1; NaN where never predicted.

    Times count by their length (mean Gregorian months); one that was not predicted adds nothing.
    DataError for a map of less than four fifths of a year.
    """
    width, time = MONTH_DAYS, fluxes["time"].to_numpy()
    months = np.diff(time.astype("M8[M]")).astype(int)
    if "climatology" not in fluxes["time"].attrs | fluxes["time"].encoding and (
        len(time) != 12 or (months != 1).any()
    ):
        width = np.diff(time_edges(time)) / np.timedelta64(1, "D")
    if width.sum() < FULL * YEAR_DAYS:
        text = f"the map is of {width.sum():g} days, from {str(time[0])[:10]} on"
        raise DataError(f"annual sums: {text}; map a whole year")
    days = xr.DataArray(width, {"time": fluxes["time"]}, "time")
    year = (fluxes[[*FLUXES]] * days).sum("time", min_count=1) * (YEAR_DAYS / float(days.sum()))
    for flux in FLUXES:
        year[flux].attrs |= {"units": "g m-2 yr-1", "long_name": f"{flux}, annual sum"}
    return xr.Dataset(year.data_vars)


def land_area(fluxes: xr.Dataset, within: bool = False) -> xr.DataArray:
    """Land area of a map's cells (lat, lon), m2; ``within`` the area of applicability, if asked."""
    return _share(fluxes, within) * cell_area(fluxes["lat"], fluxes["lon"])


def _share(fluxes: xr.Dataset, within: bool = False) -> xr.DataArray:
    land = fluxes["land_fraction"].transpose("lat", "lon").fillna(0).astype(np.float64)
    return land * (1 - fluxes["outside"].fillna(0)) if within else land


def totals(
    fluxes: xr.Dataset, by: str = "globe", cube: xr.Dataset | None = None,
    errors: Uncertainty | None = None, within: bool = False, level: float = 0.9,
) -> pd.DataFrame:  # fmt: skip
    """Carbon totals of the regions (``by``, ``cube``: see `partition`) of a map from `upscale`.

    ``errors`` give normal intervals that hold at the ``level``; without them there are none.
    ``within``: only land within the area of applicability. Table: flux, region, total, lower, upper
    (PgC yr-1), mean (gC m-2 yr-1), area (million km2 of land), predicted (share of that area). Land
    in no region is "unassigned".
    """
    parts = partition(by, fluxes["lat"].to_numpy(), fluxes["lon"].to_numpy(), cube)
    flat, frames = land_area(fluxes, within).transpose("lat", "lon").to_numpy().ravel(), []
    year = annual(fluxes).transpose("lat", "lon")
    shared = {} if errors is None else errors.shared(by, cube, _share(fluxes, within))
    for flux in FLUXES:
        mean = year[flux].to_numpy().ravel().astype(np.float64)  # g m-2 yr-1
        known = np.isfinite(mean)
        total = parts.sums(np.nan_to_num(mean) * flat) / PG
        area, seen = parts.sums(np.stack([flat, flat * known]))
        half = np.full(len(total), np.nan)
        if errors is not None:
            sd = np.hypot(shared[flux], errors.own(flux, seen)) * YEAR_DAYS * seen / PG
            half = stats.norm.ppf(0.5 + level / 2) * sd
        with np.errstate(invalid="ignore", divide="ignore"):  # a region without land
            columns = {
                "flux": flux, "region": parts.names, "total": total, "lower": total - half,
                "upper": total + half, "mean": total * PG / seen, "area": area / 1e12,
                "predicted": seen / area,
            }  # fmt: skip
        frame = pd.DataFrame(columns)
        frames.append(frame[(area > 0) | (frame["region"] == UNASSIGNED)])
    table = pd.concat(frames, ignore_index=True)
    table.attrs = {"units": "PgC yr-1", "level": level}
    return table


def compare(fluxes: xr.Dataset, errors: Uncertainty | None = None) -> pd.DataFrame:
    """Global totals beside published ones.

    FLUXCOM's map is summed over the land of this one, unless cells are wider than a degree: then
    that row is left out, and caveats of this map say so. Table: flux, source, value, lower, upper
    (PgC yr-1; NaN where not published), period, doi, caveat, mapped (true of this map).
    """
    virtual = "virtual towers, " * bool(fluxes.attrs.get("virtual"))
    coarse = abs(float(fluxes["lat"][1] - fluxes["lat"][0])) > 1  # for coasts, or every n-th cell
    caveat = "errors at held-out towers; predictors are a mean year"
    caveat += "; cells wider than a degree, over which FLUXCOM's map is not summed" * coarse
    kinds = {"this study": False, "this study, within the area of applicability": True}
    each = {f"{virtual}{n}": totals(fluxes, errors=errors, within=w) for n, w in kinds.items()}
    mapped = pd.concat(each, names=["source"]).reset_index("source")
    mapped = mapped.rename(columns={"total": "value"}).assign(
        period="climatology", doi="", mapped=True, caveat=caveat
    )
    sink = carbon_budget_2019().sel(year=slice(2009, 2018))
    net = float((sink["land_use"] - sink["land_sink"]).mean())
    net_sd = float(np.hypot(sink["land_use_sd"].mean(), sink["land_sink_sd"].mean()))
    reccap = fetch_reccap()[["mean", "uncertainty"]].sel(region="Globe") / 1000
    npp, rh, nee = (float(reccap["mean"].sel(quantity=q)) for q in (*NPP_RH, "NEE"))
    reference = fetch_reference_gpp()["GPP"]
    mapped_land = fluxes["land_fraction"].reindex_like(reference, method="nearest", tolerance=0.5)
    land = land_area(fetch_grid(0.5)).where(mapped_land > 0, 0)  # in cells as small as FLUXCOM's
    with (files("tamrl.data") / "facts" / "published_totals.csv").open(encoding="utf-8") as stream:
        published = pd.read_csv(stream).assign(mapped=False)
    computed = {
        "FLUXCOM map, our land": (float((reference * land).sum()) * YEAR_DAYS / PG, np.nan),
        "Global Carbon Budget 2019": (net, net_sd),
        "RECCAP, stock change": (nee, float(reccap["uncertainty"].sel(quantity="NEE"))),
        "RECCAP, Rh - NPP": (rh + npp, np.nan),
    }
    for source, (value, sd) in computed.items():
        row = published["source"] == source
        published.loc[row, ["value", "lower", "upper"]] = value, value - sd, value + sd
    if coarse:
        published = published[published["source"] != "FLUXCOM map, our land"]
    table = pd.concat([mapped, published])[[*published.columns]]
    table["flux"] = pd.Categorical(table["flux"], FLUXES)
    return table.sort_values("flux", kind="stable", ignore_index=True).astype({"flux": object})


def compare_reccap(fluxes: xr.Dataset, errors: Uncertainty | None = None) -> pd.DataFrame:
    """NEE of RECCAP's nine regions (NEE, lower, upper) beside RECCAP's two ways to it, PgC yr-1.

    reccap_nee, reccap_sd: stock change and lateral export (fires, harvest, rivers); reccap_rh_npp.
    """
    mapped = totals(fluxes, "reccap", errors=errors).query("flux == 'NEE'").set_index("region")
    reccap: Any = fetch_reccap()[["mean", "uncertainty"]] / 1000
    mean = reccap["mean"].to_pandas()
    table = mapped[["total", "lower", "upper"]].rename(columns={"total": "NEE"})
    table["reccap_nee"] = mean["NEE"]
    table["reccap_sd"] = reccap["uncertainty"].sel(quantity="NEE").to_pandas()
    table["reccap_rh_npp"] = mean[NPP_RH[0]] + mean[NPP_RH[1]]
    return table.reindex([r for r in mean.index if r in mapped.index])


def fluxcom_gpp(fluxes: xr.Dataset) -> xr.DataArray:
    """FLUXCOM's mean GPP (lat, lon) on the grid of a map, gC m-2 d-1; DataError if they misalign.

    Version and years are not stated; it is machine learning from many of the same towers.
    """
    reference = fetch_reference_gpp()["GPP"]
    step = float(fluxes["lat"][1] - fluxes["lat"][0])
    if (factor := round(step / 0.5)) > 1:
        land = land_area(fetch_grid(0.5)).to_numpy()
        values = block_mean(reference.to_numpy().astype(np.float64), land, factor)
        axes = {d: reference[d].coarsen({d: factor}).mean().to_numpy() for d in ("lat", "lon")}
        reference = xr.DataArray(values, axes, ("lat", "lon"), name="GPP")
    grid = fluxes["land_fraction"].transpose("lat", "lon")
    reference = reference.reindex_like(grid, method="nearest", tolerance=step / 10)
    if not np.isfinite(reference).any():
        raise DataError("comparison of GPP: the map's grid does not line up with FLUXCOM's cells")
    return reference


def compare_gpp(
    fluxes: xr.Dataset, reference: xr.DataArray, name: str = "FLUXCOM"
) -> tuple[pd.Series, xr.Dataset, pd.DataFrame]:
    """Compare the mean GPP of a map with a reference (lat, lon), where both have values, by area.

    Returns r, RMSE, bias (map minus reference, gC m-2 d-1), cells, and both totals (PgC yr-1);
    difference (lat, lon); means by latitude ("this study" and ``name``), gC m-2 d-1.
    """
    mapped = (annual(fluxes)["GPP"] / YEAR_DAYS).transpose("lat", "lon").load()
    both = np.isfinite(mapped) & np.isfinite(reference)
    weights = land_area(fluxes) * both
    a, b, w = (one.to_numpy()[both].astype(np.float64) for one in (mapped, reference, weights))
    cov = np.cov(np.stack([a, b]), aweights=w)
    statistics = {
        "r": cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]),
        "RMSE": np.sqrt(np.average((a - b) ** 2, weights=w)),
        "bias": np.average(a - b, weights=w), "cells": int(both.sum()),
        "total": (a * w).sum() * YEAR_DAYS / PG, f"total_{name}": (b * w).sum() * YEAR_DAYS / PG,
    }  # fmt: skip
    fields = {"this study": mapped, name: reference}
    zonal = {n: field.weighted(weights).mean("lon").to_pandas() for n, field in fields.items()}
    difference = xr.Dataset({"difference": mapped - reference})
    return pd.Series(statistics), difference, pd.DataFrame(zonal)


def by_latitude(fluxes: xr.Dataset, flux: str) -> pd.DataFrame:
    """Mean flux by latitude (index, deg) and month (columns 1 to 12), gC m-2 d-1, by land area."""
    mean = fluxes[flux].weighted(land_area(fluxes)).mean("lon").transpose("lat", "time").to_numpy()
    return pd.DataFrame(mean, fluxes["lat"].to_numpy(), range(1, mean.shape[1] + 1))


def zonal_means(maps: Mapping[str, xr.Dataset], flux: str) -> pd.DataFrame:
    """Annual mean flux by latitude (index, deg), a column a map, gC m-2 d-1, by land area."""
    means = {n: annual(m)[flux].weighted(land_area(m)).mean("lon") for n, m in maps.items()}
    return pd.DataFrame({name: mean.to_pandas() / YEAR_DAYS for name, mean in means.items()})


def zonal_totals(fluxes: xr.Dataset) -> pd.DataFrame:
    """Totals by degree of latitude, PgC yr-1 deg-1: index lat (deg), a column for each flux."""
    width = abs(float(fluxes["lat"][1] - fluxes["lat"][0]))
    sums = (annual(fluxes) * land_area(fluxes)).sum("lon") / PG / width
    return sums.to_dataframe()[list(FLUXES)]


def values(whole: pd.DataFrame, inner: pd.DataFrame) -> dict[str, object]:
    """Gather what the pages quote of global `totals`, of all land and within the area."""
    one, part = whole.set_index("flux"), inner.set_index("flux")
    out: dict[str, object] = {"share_out": 100 * float(1 - part.area["NEE"] / one.area["NEE"])}
    for flux in FLUXES:
        out[f"total_{flux}"], out[f"inside_{flux}"] = (
            float(one.total[flux]),
            float(part.total[flux]),
        )
        out[f"half_{flux}"] = float(one.upper[flux] - one.total[flux])
    return out


def largest_sinks(nee: pd.Series, n: int = 3) -> dict[str, object]:
    """Name the ``n`` classes with the most negative NEE (class,), PgC yr-1."""
    largest = nee.drop(UNASSIGNED, errors="ignore").nsmallest(n)
    named = ", ".join(f"{str(name).lower()} ({value:.1f})" for name, value in largest.items())
    return {"nee_where": named.replace("-", "\N{MINUS SIGN}")}
