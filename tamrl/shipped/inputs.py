"""Whatever a user has of her towers or places, as the samples that the model was trained on.

`own_samples` is the one way in for predicting, adapting, scoring and monitoring: towers, satellite
tables, the grid. What it found, converted, filled and left out it says in ``attrs["inputs"]``.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from numbers import Real
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.grid import grid_at, is_stored
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.own import oneflux
from tamrl.data.own.checks import check_climate
from tamrl.data.own.composites import Predictors, from_towers, whole_evi
from tamrl.data.own.labels import say_labels
from tamrl.data.own.places import one_place, summary
from tamrl.data.own.satellites import read_satellites
from tamrl.data.schema import FLUXES, IGBP_NAMES, koppen_main, tower_facts
from tamrl.errors import DataError, expect
from tamrl.files import check_regular
from tamrl.samples.arrays import SCORE_QC, TRAIN_QC, Samples, make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.shipped.target_names import check_name

File = str | PathLike[str]
PATH = (str, PathLike, NoneType)
TOWERS = (*PATH, pd.DataFrame, xr.Dataset)
NEAR = 0.05  # degrees, some 5 km: the same landscape under another name
SAME = 0.02  # degrees between two statements of one tower's position
RARE = 2  # towers of a vegetation class, below which their lack is said
EARTH = 111.2  # km of a degree of latitude


def own_samples(
    towers: File | pd.DataFrame | xr.Dataset | None, table: File | pd.DataFrame | None = None,
    satellites: File | Iterable[File] | xr.Dataset | None = None, *,
    lat: float | None = None, lon: float | None = None, igbp: str | None = None,
    grid: xr.Dataset | None = None, need_grid: bool = True, targets: Sequence[str] = (),
) -> Samples:  # fmt: skip
    """Read a user's towers with all that she has; samples as those that the model learnt from.

    ``towers`` and ``table`` are what `tamrl.data.open_towers` reads, or ``lat``, ``lon`` (degrees)
    and ``igbp`` of a single one stand for the table. ``satellites`` are files that
    `tamrl.data.own.satellites.read_satellites` reads, or monthly predictors (site, month) as of
    `fetch_tower_predictors`; columns of the towers' own tables fill what they lack. Koppen class
    and elevation that are not known come from the grid: ``grid`` (month, lat, lon), None for that
    of `fetch_grid`; without ``need_grid`` its absence is said, and no fault. ``targets`` are
    columns to be labels besides GPP, RECO and NEE, case as given, in their own unit; those that are
    not there are passed over.

    Returns `Samples` whose attrs["inputs"] are lines for the user, attrs["units"] what the table
    states of ``targets``. DataError where something cannot
    be read, cannot be, or the grid cannot be had.
    """
    from tamrl.data import fetch_grid, open_towers

    if isinstance(towers, Iterable) and not isinstance(towers, (*TOWERS, bytes)):
        towers = [*towers]
        for one in towers:
            expect(one, (str, PathLike), "one of the towers", "a path")
    expect(towers, (*TOWERS, list), "towers", "paths, a DataFrame or a Dataset")
    expect(table, (*PATH, pd.DataFrame), "table", "a path or a DataFrame")
    expect(satellites, (*PATH, Iterable), "satellites", "paths or a Dataset")
    expect(grid, (xr.Dataset, NoneType), "grid", "a Dataset")
    for name, value in (("lat", lat), ("lon", lon)):
        expect(value, (Real, np.ndarray, xr.DataArray, NoneType), name, "a number, degrees")
        if np.ndim(value):  # type: ignore[arg-type]
            raise DataError(f"{name} is an array {np.shape(value)}; expected a number, degrees")  # type: ignore[arg-type]
    if isinstance(table, str | PathLike):
        check_regular(table, "a table of towers")
    if lat is not None and lon is not None and igbp is not None:
        file = Path(towers) if isinstance(towers, str | PathLike) else Path()
        table = one_place(lat, lon, igbp, oneflux.site_code(file) if oneflux.has_code(file) else "")
    elif (lat, lon, igbp) != (None, None, None):
        raise DataError("a place needs all three of lat, lon and igbp")
    for name in targets:
        check_name(name, {})
    with ThreadPoolExecutor(1) as pool:  # two threads must not read NetCDF: beside a folder alone
        folder = grid is None and isinstance(towers, str | PathLike) and Path(towers).is_dir()
        read = pool.submit(fetch_grid).result if folder and is_stored() else fetch_grid
        daily = open_towers(towers, table, targets)
    lines = [line for line in str(daily.attrs.get("inputs", "")).splitlines() if line]
    notes: dict[str, list[str]] = {"": []}
    if grid is None:
        try:
            grid = read()
        except DataError as error:
            if need_grid:
                raise
            notes[""].append(f"going on without gridded drivers: {error}")
    daily = with_places(daily, grid, notes)
    seen = read_satellites(satellites, daily, notes)
    seen = from_towers(daily, seen, notes)
    samples = _with_nee_alone(make_samples(daily, seen.monthly, grid), daily)
    say_labels(daily, samples.weight > 0, TRAIN_QC, notes)
    samples = with_phenology(samples, _daily_evi(daily, seen, notes))
    there = [name for name in targets if name in daily]
    more = [daily[n].transpose("site", "time").to_numpy()[..., None] for n in there]
    units = {name: str(daily[name].attrs.get("units", "")) for name in there}
    y = np.concatenate([samples.y, *more], -1).astype(np.float32)
    attrs = {**samples.attrs, "inputs": [*lines, *summary(notes)], "units": units}
    return replace(samples, y=y, targets=(*samples.targets, *there), attrs=attrs)


def with_places(
    daily: xr.Dataset, grid: xr.Dataset | None, notes: dict[str, list[str]]
) -> xr.Dataset:
    """Fill Koppen class and elevation: of known towers from their facts, else from the grid.

    DataError for a place in the sea whose swapped position is on land. Says where a tower lies
    beside one that the weights learnt from, under another name.
    """
    if daily.attrs.get("virtual"):
        return daily
    known, sites = tower_facts(), daily.site.to_numpy().astype(str)
    lat, lon = daily.lat.to_numpy().astype(float), daily.lon.to_numpy().astype(float)
    koppen, elevation = _text(daily, "koppen"), _number(daily, "elevation")
    koppen[~np.isin(koppen.astype(str), KOPPEN_CODES)] = ""  # as the weights know no other
    cells = None if grid is None else grid_at(grid, lat, lon)
    month = daily.time.dt.month.to_numpy()
    classes = ("", *KOPPEN_CODES)
    for i, site in enumerate(sites):
        said = notes.setdefault(str(site), [])
        if cells is not None and daily.attrs.get("tower_source") == "user":
            usual = cells.TA.transpose(..., "month").to_numpy()[i].astype(float)
            check_climate(str(site), daily.TA.to_numpy()[i].astype(float), month, usual, said)
        same = site in known.index and _apart(lat[i], lon[i], *known.loc[site, ["lat", "lon"]])[0]
        if site in known.index and same <= SAME:  # as in training, whatever the table lacks
            koppen[i] = koppen[i] or str(known.loc[site, "koppen"])
            if not np.isfinite(elevation[i]):
                elevation[i] = known.loc[site, "elevation_m"]
            continue
        igbp = str(daily.igbp.to_numpy()[i])
        if (count := int((known.igbp == igbp).sum())) < RARE:
            what = f"{IGBP_NAMES[igbp]} ({igbp}) is the class of {count} of {len(known)} towers"
            said.append(f"{what} of FLUXNET2015: little was learnt of it")
        degrees, km = _apart(lat[i], lon[i], known.lat.to_numpy(float), known.lon.to_numpy(float))
        near = int(np.argmin(km))
        if degrees[near] <= NEAR:
            beside = f"{km[near]:.1f} km from {known.index[near]}"
            said.append(f"lies {beside}, a tower that the weights of the package learnt from")
        if cells is None or grid is None:
            continue
        if cells.koppen.to_numpy()[i] == 0 and not np.isfinite(cells.elevation.to_numpy()[i]):
            _refuse_swapped(site, lat[i], lon[i], grid)
            said.append("the grid knows no land within 1.5 cells: gridded drivers are missing")
            continue
        filled = []
        if not koppen[i] and (number := int(cells.koppen.to_numpy()[i])):
            koppen[i] = classes[number]
            filled.append(f"Koppen class {koppen[i]}")
        if not np.isfinite(elevation[i]) and np.isfinite(cells.elevation.to_numpy()[i]):
            elevation[i] = float(cells.elevation.to_numpy()[i])
            filled.append(f"elevation {elevation[i]:.0f} m")
        if filled:
            said.append(f"{' and '.join(filled)} from the grid")
    main = np.array([koppen_main(code) for code in koppen])
    return daily.assign_coords(
        koppen=("site", koppen.astype(str)), koppen_main=("site", main),
        elevation=("site", elevation, {"units": "m"}),
    )  # fmt: skip


def _apart(lat: Any, lon: Any, other_lat: Any, other_lon: Any) -> tuple[Any, Any]:
    """Distance in degrees of latitude, and in km."""
    east = ((other_lon - lon + 180) % 360 - 180) * np.cos(np.radians(lat))
    degrees = np.hypot(other_lat - lat, east)
    return degrees, degrees * EARTH


def _refuse_swapped(site: str, lat: float, lon: float, grid: xr.Dataset) -> None:
    """Refuse a place in the sea that is on land with its latitude and longitude swapped."""
    if abs(lon) > 90:
        return
    if np.isfinite(grid_at(grid, [lon], [lat]).elevation.to_numpy()[0]):
        where = f"lat {lat:g}, lon {lon:g} is in the sea, but lat {lon:g}, lon {lat:g} on land"
        raise DataError(f"tower {site}: {where}; swap the columns lat and lon of the table")


def _text(ds: xr.Dataset, name: str) -> np.ndarray:
    values = ds[name].to_numpy() if name in ds.coords else np.full(ds.sizes["site"], "")
    return np.array([str(v).strip() for v in values], dtype=object)


def _number(ds: xr.Dataset, name: str) -> np.ndarray:
    empty = np.full(ds.sizes["site"], np.nan)
    return ds[name].to_numpy().astype(float).copy() if name in ds.coords else empty


def _with_nee_alone(samples: Samples, daily: xr.Dataset) -> Samples:
    """Let days count as labelled that have NEE without partitioned fluxes."""
    if samples.targets != FLUXES or "NEE" not in daily:
        return samples
    nee, qc = (daily[name].transpose("site", "time").to_numpy() for name in ("NEE", "NEE_QC"))
    alone = samples.has_drivers & np.isfinite(nee) & (samples.weight == 0) & (qc >= TRAIN_QC)
    alone &= ~np.isfinite(samples.y).all(-1)
    weight = np.where(alone, qc, samples.weight).astype(np.float32)
    return replace(samples, weight=weight, scored=samples.scored | (alone & (qc >= SCORE_QC)))


def _daily_evi(
    daily: xr.Dataset, seen: Predictors, notes: dict[str, list[str]]
) -> xr.DataArray | None:
    """Daily EVI of the satellite files, of the towers' own columns where these have none."""
    own, parts = daily.get("EVI"), [] if seen.evi is None else [seen.evi]
    if own is not None:
        lacking = [s for s in own.site.to_numpy() if not parts or s not in parts[0].site.to_numpy()]
        own = own.sel(site=lacking).transpose("site", "time")
        if daily.attrs.get("tower_source") == "user":
            own = whole_evi(own, notes)
        parts += [own] if lacking else []
    return xr.concat(parts, "site", join="outer") if parts else None
