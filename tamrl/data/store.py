"""Read a Zarr store of half-hours laid out like FLUXNET2015's, tower by tower, into local days."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from tqdm import tqdm

from tamrl.data.daily import Floats, TowerDays, record_minutes, to_days
from tamrl.data.schema import DRIVERS
from tamrl.errors import DataError

# Variables of the store and what they are called here.
STORE_NAMES = {"ta": "TA", "vpd": "VPD", "sw_in": "SW_IN", "nee": "NEE"}
STORE_NAMES |= {"gpp_nt": "GPP", "nee_qc": "NEE_QC"}
_DAMAGE = (RuntimeError, ValueError, OSError, KeyError)  # what decoders raise on broken files
REPEATED = 0.99  # share of half-hours that only repeat their hour, above which a tower is hourly


def read_store(
    path: Path, facts: pd.DataFrame, names: Mapping[str, str] = STORE_NAMES
) -> tuple[dict[str, TowerDays], dict[str, str]]:
    """Local daily values of every tower in `facts` that the store (see `open_towers`) holds.

    ``facts`` is indexed by site; its utc_offset_h turns UTC into local time. ``names``: variables
    of the store to read beside ta, and what `to_days` calls them. Returns site -> its days, and
    site -> why it could not be read. Raises DataError when the store cannot be opened or lacks a
    driver altogether.
    """
    store = _open(path)
    names = {old: new for old, new in names.items() if old in store}
    ends: NDArray[np.datetime64] = store["time"].to_numpy().astype("datetime64[m]")
    offsets = facts["utc_offset_h"].astype(float).to_dict()
    place = {site: i for i, site in enumerate(store["site"].to_numpy().astype(str))}

    def read(site: str) -> TowerDays | str:
        if site not in place:
            return f"{path}: tower {site} is not in this store"
        try:
            offset = np.timedelta64(int(60 * offsets[site]), "m")
            return _read_tower(store, names, place[site], ends + offset, f"{path}: tower {site}")
        except DataError as error:
            return str(error)
        except _DAMAGE as error:
            return f"{path}: tower {site} cannot be decoded ({error}); get its files again"

    # Decompression and numpy release the lock: two threads halve the time, memory stays small.
    with ThreadPoolExecutor(2) as pool:
        days = tqdm(pool.map(read, facts.index), "half-hours to days", len(facts), disable=None)
        results = dict(zip(facts.index, days, strict=True))
    towers = {site: days for site, days in results.items() if isinstance(days, TowerDays)}
    return towers, {site: why for site, why in results.items() if isinstance(why, str)}


def sites(path: Path) -> set[str]:
    """Codes of a store's towers; DataError as of `read_store`."""
    return set(_open(path)["site"].to_numpy().astype(str).tolist())


def sites_with_data(path: Path, among: set[str]) -> set[str]:
    """Those of the towers that hold any air temperature; the others of a store are not there."""
    store = _open(path)

    def has_data(i: int) -> bool:
        try:
            return bool(np.isfinite(store["ta"][i].to_numpy()).any())
        except _DAMAGE:
            return True  # and read_store says what is wrong with it

    codes = store["site"].to_numpy().astype(str).tolist()
    return {code for i, code in enumerate(codes) if code in among and has_data(i)}


def _open(path: Path) -> xr.Dataset:
    try:
        store = xr.open_zarr(path, consolidated=False, chunks=None)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable Zarr store ({error})") from error
    for name in ("site", "time"):
        if name not in store.coords:
            raise DataError(f"{path}: coordinate {name} is missing; have {[*store.coords]}")
    for old, new in STORE_NAMES.items():
        if new in DRIVERS and (old not in store or store[old].dims != ("site", "time")):
            raise DataError(f"{path}: variable {old} (site, time) is missing; have {[*store]}")
    codes = pd.Index(store["site"].to_numpy().astype(str))
    for code in codes[codes.duplicated()]:
        raise DataError(f"{path}: tower {code} is there twice; merge it")
    return store


def _read_tower(
    store: xr.Dataset, names: Mapping[str, str], i: int, ends: NDArray[np.datetime64], source: str
) -> TowerDays | str:
    temperature = store["ta"][i].to_numpy()  # spans the tower's years: nowhere missing within them
    at = np.flatnonzero(np.isfinite(temperature))
    if not at.size:
        return f"{source}: no valid day, ta is missing throughout"
    span = slice(at[0], at[-1] + 1)
    half = {new: store[old][i, span].to_numpy() for old, new in names.items() if old != "ta"}
    half["TA"] = temperature[span]
    ends = ends[span]
    minutes = record_minutes(ends, f"{source}: records are")
    if minutes == 30 and (keep := _on_the_hour(half, ends)) is not None:
        minutes, ends = 60, ends[keep]
        half = {name: x[keep] for name, x in half.items()}
    return to_days(ends - np.timedelta64(minutes, "m"), minutes, half, source)


def _on_the_hour(
    half: Mapping[str, Floats], ends: NDArray[np.datetime64]
) -> NDArray[np.bool_] | None:
    """Find the records that end an hour, if the tower measured hours; else None.

    An hourly tower has pairs in a half-hourly store: the hour at the stamp of its own end, and 30
    minutes later the same value again, or nothing. Half-hours are hours when those second records
    hold nothing new in any variable. Taken for half-hours, its day would begin half an hour early.
    """
    late = (ends.astype(int) // 30) % 2
    hourly: dict[int, bool] = {}  # by which of the half-hours repeats: the UTC offset decides
    for x in half.values():
        there = np.isfinite(x)
        if not there.any() or np.ptp(x[there]) == 0:  # a constant has no news
            continue
        news, known = there[1:] & (x[1:] != x[:-1]), there[:-1]
        for parity in (0, 1):
            second = late[1:] == parity
            share = np.count_nonzero(news & second) / (np.count_nonzero(known & second) or 1)
            hourly[parity] = bool(hourly.get(parity, True) and share < 1 - REPEATED)
        if not any(hourly.values()):  # most towers: seen in the first variable
            return None
    return next((late != parity for parity, so in hourly.items() if so), None)
