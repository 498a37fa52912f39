"""A user's own towers, through the same schema as the shipped ones."""

import warnings
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import daily, oneflux, schema, store
from tamrl.data.daily import TowerDays
from tamrl.data.physics import saturation_pressure
from tamrl.errors import DataError

PathArg = str | PathLike[str]
Read = dict[str, tuple[TowerDays, str]]  # site -> its days, and the file they are from

SHOWN = 5  # faults named in a warning; attrs["excluded"] names all
# Wrong units that no range can catch, inferred from the tower's days (at least this many).
ENOUGH_DAYS = 60
VPD_SHARE = 0.1  # of saturation, never exceeded by VPD in kPa read as hPa; real towers reach 0.25
SW_LIMIT = 60.0  # W m-2, never exceeded by MJ m-2 d-1 read as W m-2; real towers exceed 250


def open_towers(
    path: PathArg | Iterable[PathArg], table: PathArg | pd.DataFrame | None = None
) -> xr.Dataset:
    """Open your own towers as the daily Dataset that `fetch_towers` returns.

    ``path`` is either a Zarr store (format 2 or 3) laid out like FLUXNET2015's: dims (site, time),
    `time` in UTC at the END of each half-hour or hour, ta degC, vpd hPa, sw_in W m-2 and, where
    known, nee and gpp_nt in umol CO2 m-2 s-1 with the flag nee_qc. Or it is ONEFlux csv files
    (FULLSET or SUBSET; DD, HH or HR): one, several, or a folder of them. A file's name holds its
    tower's code, such as US-Ha1; a single file may have any name if ``table`` has one row. Of
    several of a tower the half-hours are used. TA_F, VPD_F, SW_IN_F suffice; labels need no flag.

    ``table`` is a csv file or DataFrame with columns site, lat, lon, igbp, and for a store
    utc_offset_h (h, which turns its UTC into local standard time); koppen and elevation_m where
    known. By default it is `towers.csv` beside the data, or the store's name with .csv; towers of
    FLUXNET2015 are known without.

    Returns local days (site, time), see `tamrl.data.schema`; RECO = NEE + GPP; TA_min, TA_max,
    VPD_max are NaN where only daily means are known. attrs["excluded"] names broken site-years
    (without labels) and towers left out, as does a warning. DataError if nothing can be used.
    """
    paths = [Path(path)] if isinstance(path, str | PathLike) else [Path(p) for p in path]
    if not paths:
        raise DataError("open_towers: the list of files is empty; name at least one")
    for each in (p for p in paths if not p.exists()):
        raise DataError(f"{each}: no such file or folder; correct the path")
    marks = (".zgroup", "zarr.json")
    is_store = len(paths) == 1 and paths[0].is_dir()
    is_store &= paths[0].suffix == ".zarr" or any((paths[0] / mark).exists() for mark in marks)
    facts, name = _facts(paths[0], table, is_store)
    unused: list[str] = []
    if is_store:
        read, left_out = _from_store(paths[0], facts, name)
    else:
        listed = facts.index[facts["listed"]]
        alone = str(listed[0]) if len(listed) == len(paths) == 1 and paths[0].is_file() else ""
        read, left_out, unused = _from_csv(paths, alone)
    for site in sorted(read.keys() - set(facts.index)):
        left_out[site] = f"{read.pop(site)[1]}: tower {site} is not in {name}; add a row for it"
    ds, faults = _assembled(read, facts, name)
    left_out |= faults
    if ds is None:
        whys = "; ".join(left_out.values()) or "no tower found"
        many = f"{paths[0]}: none of {len(left_out)} towers can be used: "
        raise DataError(whys if len(left_out) == 1 else many + whys)
    ds = daily.without_labels(ds, daily.broken_years(ds))
    if left_out:
        reasons = [left_out[site] for site in sorted(left_out)]
        years = ds.attrs["excluded"]
        ds.attrs["excluded"] = f"{len(reasons)} towers: {'; '.join(reasons)}; {years}"
        rest = [f"{len(reasons) - SHOWN} more in attrs['excluded']"] if len(reasons) > SHOWN else []
        what = f"left out {len(reasons)} of {len(reasons) + ds.sizes['site']} towers"
        warnings.warn(f"open_towers: {what}: {'; '.join(reasons[:SHOWN] + rest)}", stacklevel=2)
    history = "local days by tamrl.data.user" + "".join(f"; {file} not used" for file in unused)
    return ds.assign_attrs(
        title=f"Towers of {', '.join(p.name for p in paths[:3])}",
        source="; ".join(map(str, paths)), history=history,
        licence="that of the towers' owners", citation="the towers' owners",
        virtual=0, tower_source="user", registry_sha256="",
    )  # fmt: skip


def _assembled(
    read: Read, facts: pd.DataFrame, name: str
) -> tuple[xr.Dataset | None, dict[str, str]]:
    """Put sound towers side by side; of the others, say why they are not."""
    faults, sound = dict[str, str](), dict[str, TowerDays]()
    for site, (days, source) in read.items():
        try:
            if "NEE" in days.data:  # labels without a flag all count
                days.data.setdefault("NEE_QC", np.where(np.isfinite(days.data["NEE"]), 1.0, np.nan))
            row = facts.loc[site].to_dict()
            place = float(row["lat"]), float(row["lon"]), str(row["igbp"])
            schema.check_place(f"{name}: tower {site}", *place)
            _check_units(schema.validate(daily.assemble({site: days}, facts), source), source)
            sound[site] = days
        except DataError as error:
            faults[site] = str(error)
    return daily.assemble(sound, facts) if sound else None, faults


def _check_units(tower: xr.Dataset, source: str) -> None:
    """Refuse one tower whose values, all possible, are never as high as they must be at times."""
    vpd, ta, sw = (tower[v].to_numpy()[0].astype(float) for v in ("VPD", "TA", "SW_IN"))
    share = vpd / saturation_pressure(ta)
    share = share[(ta > 5) & np.isfinite(share)]
    source = f"{source}: tower {tower.site.item()}"
    if share.size >= ENOUGH_DAYS and share.max() < VPD_SHARE:
        most = f"{np.nanmax(vpd):.3g}, {share.max():.0%} of saturation"
        raise DataError(f"{source}: VPD never exceeds {most}; it looks like kPa, convert it to hPa")
    sw = sw[np.isfinite(sw)]
    if sw.size >= 6 * ENOUGH_DAYS and sw.max() < SW_LIMIT:
        like = "it looks like MJ m-2 d-1, convert it to W m-2 (1 MJ m-2 d-1 = 11.57 W m-2)"
        raise DataError(f"{source}: SW_IN never exceeds {sw.max():.3g} in {sw.size} days; {like}")


def _facts(
    path: Path, table: PathArg | pd.DataFrame | None, is_store: bool
) -> tuple[pd.DataFrame, str]:
    """Facts of the user's towers, completed by those that we know; and where they are from."""
    known = schema.tower_facts()
    if table is None:
        folder = path if path.is_dir() and not is_store else path.parent
        beside = [*([path.with_suffix(".csv")] if is_store else []), folder / "towers.csv"]
        table = next((p for p in beside if p.is_file()), None)
    if table is None:
        name = "the known towers; hand in a table with site, lat, lon, igbp, utc_offset_h"
        return known.assign(listed=False), name
    name = "table" if isinstance(table, pd.DataFrame) else str(table)
    try:
        if not isinstance(table, pd.DataFrame):
            table = pd.read_csv(table, keep_default_na=False, na_values=["", "-9999"])
    except (OSError, ValueError) as error:
        raise DataError(f"{name}: not a readable table of towers ({error})") from error
    listed = table.reset_index() if table.index.name == "site" else table.copy()
    for column in ("site", "lat", "lon", "igbp", *(["utc_offset_h"] if is_store else [])):
        if column not in listed:
            raise DataError(f"{name}: column {column} is missing; have {list(listed.columns)}")
    listed["site"] = listed["site"].astype(str).str.strip()
    for site in listed["site"][listed["site"].duplicated()]:
        raise DataError(f"{name}: tower {site} is listed twice; keep one row")
    listed = listed.set_index("site")
    for column in listed.columns.intersection(["lat", "lon", "utc_offset_h", "elevation_m"]):
        # What is no number is unknown, and refused where it is needed.
        listed[column] = pd.to_numeric(listed[column], errors="coerce")
    listed["igbp"] = listed["igbp"].astype(str).str.strip()
    others = known.loc[known.index.difference(listed.index)].assign(listed=False)
    return pd.concat([listed.assign(listed=True), others]), name


def _from_store(path: Path, facts: pd.DataFrame, name: str) -> tuple[Read, dict[str, str]]:
    there = store.sites_with_data(path)
    described = facts[facts["listed"] if facts["listed"].any() else facts.index.isin(there)]
    absent = there.difference(described.index)
    left_out = {s: f"{path}: tower {s} is not in {name}; add a row for it" for s in absent}
    placed = np.isfinite(described["utc_offset_h"])
    for site in described.index[~placed]:
        left_out[site] = f"{name}: tower {site} has no utc_offset_h; add it"
    towers, unread = store.read_store(path, described[placed])
    return {site: (days, str(path)) for site, days in towers.items()}, left_out | unread


def _from_csv(paths: list[Path], alone: str) -> tuple[Read, dict[str, str], list[str]]:
    """Read files; ``alone`` is the tower of a single file whose name holds no code, "" if open."""
    files: list[Path] = []
    for path in paths:
        inside = [p for p in sorted(path.glob("*.csv")) if oneflux.is_candidate(p)]
        if path.is_dir() and not inside:
            raise DataError(f"{path}: no daily or half-hourly ONEFlux csv file in this folder")
        files += inside if path.is_dir() else [path]
    read, left_out, unused = Read(), dict[str, str](), list[str]()
    for file in sorted(files, key=oneflux.rank):  # the first readable file of a tower counts
        key = file.name
        try:
            key = oneflux.site_code(file, alone)
            if key in read:
                unused.append(file.name)
            else:
                read[key] = oneflux.read_oneflux(file), str(file)
        except DataError as error:
            left_out[key] = str(error)
    unused += [left_out.pop(key) for key in left_out.keys() & read.keys()]  # a sound file stood in
    return read, left_out, unused
