"""A user's own towers, through the same schema as the shipped ones."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import daily, schema, store
from tamrl.data.daily import TowerDays
from tamrl.data.own import datasets, oneflux, points
from tamrl.data.own.checks import (
    check_extra,
    check_offset,
    check_surface,
    check_tower,
    checked_anew,
    without_zeros,
)
from tamrl.data.own.labels import check_size, say_broken
from tamrl.data.own.places import place, summary, tower_table
from tamrl.data.own.tables import Table, tower_days
from tamrl.data.units import KNOWN
from tamrl.errors import DataError

PathArg = str | PathLike[str]
Read = dict[str, tuple[TowerDays, str]]  # site -> its days, and the file they are from
Notes = dict[str, list[str]]  # site -> what was found, converted, left out; "": of all

SHOWN = 5  # faults named in a warning; attrs["excluded"] names all


def open_towers(
    path: PathArg | Iterable[PathArg] | pd.DataFrame | xr.Dataset | None,
    table: PathArg | pd.DataFrame | None = None,
    further: Iterable[str] = (),
) -> xr.Dataset:
    """Open your own towers as the daily Dataset that `fetch_towers` returns.

    ``path`` is one of: a Zarr store (format 2 or 3) laid out like FLUXNET2015's: dims (site, time),
    `time` in UTC at the END of each half-hour or hour, ta degC, vpd hPa, sw_in W m-2 and, where
    known, nee and gpp_nt in umol CO2 m-2 s-1 with the flag nee_qc. Tables, one, several, or a
    folder of them: csv of ONEFlux (DD, HH, HR), AmeriFlux BASE, FluxDataKit, Open-Meteo, or CDS
    (csv or NetCDF of one point, hourly, in UTC), by the names of ``facts/vocabulary.csv``; a file's
    name holds its tower's code, such as US-Ha1, or has any name if ``table`` has one row; of
    several of a tower the half-hours are used. A DataFrame of one tower. A Dataset (time) or
    (site, time). None: the files in the column ``drivers`` of ``table``. TA, SW_IN and VPD (or
    humidity, or dew point) suffice; labels need no flag.

    ``table`` is a csv file or DataFrame with columns site, lat, lon, igbp, and for a store
    utc_offset_h (h, which turns its UTC into local standard time); koppen and elevation_m where
    known. By default it is `towers.csv` beside the data, or the store's name with .csv; towers of
    FLUXNET2015 are known without. ``further`` names columns of tables to be read besides, case as
    given, in whatever unit they have: from days or, where a day is whole, from its records.

    Returns local days (site, time), see `tamrl.data.schema`; RECO = NEE + GPP; TA_min, TA_max,
    VPD_max are NaN where only daily means are known; other predictors of the model as the tables
    have them. attrs["inputs"] says in lines what was read, converted and not used;
    attrs["excluded"] names broken site-years (without labels) and towers left out, as does a
    warning. DataError if nothing can be used.
    """
    notes: Notes = defaultdict(list)
    unused: list[str] = []
    if isinstance(path, pd.DataFrame | xr.Dataset):
        if isinstance(path, xr.Dataset) and datasets.is_ours(path):
            return checked_anew(path)
        sources = ["DataFrame" if isinstance(path, pd.DataFrame) else "Dataset"]
        if isinstance(path, xr.Dataset) and table is None:
            table = datasets.facts_of(path)
        facts, name = tower_table(table, [], False, notes[""])
        listed = [*map(str, facts.index[facts["listed"]])]
        each = datasets.tables(path, listed, sources[0])
        read, left_out = _from_tables(each, facts, notes, further)
    else:
        paths, is_store = _paths(path, table)
        sources = [*map(str, paths)]
        folder = paths[0] if paths[0].is_dir() and not is_store else paths[0].parent
        beside = [*([paths[0].with_suffix(".csv")] if is_store else []), folder / "towers.csv"]
        facts, name = tower_table(table, beside, is_store, notes[""])
        if is_store:
            read, left_out = _from_store(paths[0], facts, name, notes[""])
        else:
            codes = _codes(paths, facts, table)
            read, left_out, unused = _from_files(paths, codes, facts, notes, further)
    for site in sorted(read.keys() - set(facts.index)):
        left_out[site] = f"{read.pop(site)[1]}: tower {site} is not in {name}; add a row for it"
    ds, faults = _assembled(read, facts, name, notes)
    left_out |= faults
    if ds is None:
        whys = "; ".join(left_out.values()) or "no tower found"
        many = f"{sources[0]}: none of {len(left_out)} towers can be used: "
        raise DataError(whys if len(left_out) == 1 else many + whys)
    broken = daily.broken_years(ds)
    say_broken(ds, broken, notes)
    ds = daily.without_labels(ds, broken)
    if left_out:
        reasons = [left_out[site] for site in sorted(left_out)]
        years = ds.attrs["excluded"]
        ds.attrs["excluded"] = f"{len(reasons)} towers: {'; '.join(reasons)}; {years}"
        rest = [f"{len(reasons) - SHOWN} more in attrs['excluded']"] if len(reasons) > SHOWN else []
        what = f"left out {len(reasons)} of {len(reasons) + ds.sizes['site']} towers"
        warnings.warn(f"open_towers: {what}: {'; '.join(reasons[:SHOWN] + rest)}", stacklevel=2)
    if unused:
        notes[""].append(f"not used, as another file of the tower was: {', '.join(unused)}")
    history = "local days by tamrl.data.own.user" + "".join(f"; {file} not used" for file in unused)
    there = set(ds.site.to_numpy().astype(str)) | {""}
    return ds.assign_attrs(
        title=f"Towers of {', '.join(Path(s).name for s in sources[:3])}",
        source="; ".join(sources), history=history,
        licence="that of the towers' owners", citation="the towers' owners",
        virtual=0, tower_source="user", registry_sha256="",
        inputs="\n".join(summary({s: lines for s, lines in notes.items() if s in there})),
    )  # fmt: skip


def _paths(
    path: PathArg | Iterable[PathArg] | None, table: PathArg | pd.DataFrame | None
) -> tuple[list[Path], bool]:
    """Files to read, and whether it is a store."""
    if path is None:
        path = _drivers(table).tolist()
    paths = [Path(path)] if isinstance(path, str | PathLike) else [Path(p) for p in path]
    if not paths:
        raise DataError("open_towers: the list of files is empty; name at least one")
    for each in (p for p in paths if not p.exists()):
        raise DataError(f"{each}: no such file or folder; correct the path")
    marks = (".zgroup", "zarr.json")
    is_store = len(paths) == 1 and paths[0].is_dir()
    is_store &= paths[0].suffix == ".zarr" or any((paths[0] / mark).exists() for mark in marks)
    return paths, is_store


def _drivers(table: PathArg | pd.DataFrame | None) -> pd.Series:
    """Files of the places in a table, by site; relative ones lie beside it."""
    if table is None:
        raise DataError("name the towers' files, or a table with a column drivers")
    folder = Path() if isinstance(table, pd.DataFrame) else Path(table).parent
    listed, name = tower_table(table, [], False, [])
    listed = listed[listed["listed"]]
    if "drivers" not in listed or listed["drivers"].isna().any():
        raise DataError(f"{name}: column drivers is missing or has gaps; name the file of each row")
    return listed["drivers"].map(lambda file: str(folder / str(file)))


def _codes(
    paths: list[Path], facts: pd.DataFrame, table: PathArg | pd.DataFrame | None
) -> dict[Path, list[str]]:
    """Which towers a file is of, where not its name but the table says so; places may share one."""
    if "drivers" in facts and facts["drivers"][facts["listed"]].notna().all():
        codes: dict[Path, list[str]] = {}
        for site, file in _drivers(table).items():
            codes.setdefault(Path(file), []).append(str(site))
        return codes
    listed = facts.index[facts["listed"]]
    alone = len(listed) == len(paths) == 1 and paths[0].is_file()
    alone &= not oneflux.has_code(paths[0])
    return {paths[0]: [str(listed[0])]} if alone else {}


def _assembled(
    read: Read, facts: pd.DataFrame, name: str, notes: Notes
) -> tuple[xr.Dataset | None, dict[str, str]]:
    """Put sound towers side by side; of the others, say why they are not."""
    faults, sound = dict[str, str](), dict[str, TowerDays]()
    extras: dict[str, dict[str, daily.Floats]] = {}
    for site, (days, source) in read.items():
        try:
            more = {n: days.data.pop(n) for n in days.data.keys() - schema.VARIABLES.keys()}
            for extra, values in more.items():
                check_extra(extra, values, days.days, f"{source}: tower {site}")
                if extra.startswith("LST"):
                    check_surface(extra, values, days.data["TA"], f"{source}: tower {site}")
            fluxes = [np.isfinite(days.data[f]) for f in schema.FLUXES if f in days.data]
            if fluxes and "NEE_QC" not in days.data:  # labels without a flag all count
                known = np.logical_or.reduce(fluxes)
                days.data["NEE_QC"] = np.where(known, 1.0, np.nan)
                notes[site].append(f"{known.sum()} labelled days without a quality flag all count")
            without_zeros(days.data, notes[site])
            check_size(days.data, f"{source}: tower {site}", notes[site])
            row = facts.loc[site].to_dict()
            where = float(row["lat"]), float(row["lon"]), str(row["igbp"])
            schema.check_place(f"{name}: tower {site}", *where)
            clock = float(row.get("utc_offset_h", np.nan))
            check_offset(clock, where[1], f"{name}: tower {site}: utc_offset_h", notes[site])
            tower = schema.validate(daily.assemble({site: days}, facts), source)
            check_tower(tower, source, notes[site])
            sound[site], extras[site] = days, more
        except DataError as error:
            faults[site] = str(error)
    if not sound:
        return None, faults
    return _with_extras(daily.assemble(sound, facts), sound, extras), faults


def _with_extras(
    ds: xr.Dataset, towers: dict[str, TowerDays], extras: dict[str, dict[str, daily.Floats]]
) -> xr.Dataset:
    """Add predictors that are not of the schema, (site, time), as far as any tower has them."""
    begin = ds.time.to_numpy()[0].astype("datetime64[D]")
    for name in sorted({n for more in extras.values() for n in more}):
        values = np.full((ds.sizes["site"], ds.sizes["time"]), np.nan, np.float32)
        for i, site in enumerate(ds.site.to_numpy().astype(str)):
            if name in extras[site]:
                values[i, (towers[site].days - begin).astype(int)] = extras[site][name]
        stated = {u for tower in towers.values() if (u := tower.units.get(name))}
        if len(stated) > 1:
            what = f"{name} is in {' and in '.join(sorted(stated))}"
            raise DataError(f"{what}; units of further columns are not converted: use one of them")
        attrs = KNOWN[name].attrs if name in KNOWN else {"units": "".join(stated)}
        ds[name] = (("site", "time"), values, attrs)
    return ds


def _from_store(
    path: Path, facts: pd.DataFrame, name: str, notes: list[str]
) -> tuple[Read, dict[str, str]]:
    """Read the towers of the table, a choice from the store if all are in it, else all known."""
    there = store.sites(path)
    if (listed := facts.index[facts["listed"]]).isin(there).all() and len(listed):
        if rest := len(there.difference(listed)):
            some = f"{len(listed)} towers of {name}"
            notes.append(f"read the {some}; {rest} others of the store are not in it")
        there = there.intersection(listed)
    else:
        there = store.sites_with_data(path, there.difference(listed))
    described = facts[facts["listed"] if len(listed) else facts.index.isin(there)]
    absent = there.difference(described.index)
    left_out = {s: f"{path}: tower {s} is not in {name}; add a row for it" for s in absent}
    placed = np.isfinite(described["utc_offset_h"])
    for site in described.index[~placed]:
        left_out[site] = f"{name}: tower {site} has no utc_offset_h; add it"
    towers, unread = store.read_store(path, described[placed])
    return {site: (days, str(path)) for site, days in towers.items()}, left_out | unread


def _from_tables(
    tables: dict[str, Table], facts: pd.DataFrame, notes: Notes, further: Iterable[str]
) -> tuple[Read, dict[str, str]]:
    read, left_out = Read(), dict[str, str]()
    for site, table in tables.items():
        try:
            days = tower_days(table, place(facts, site), notes[site], further, site)
            read[site] = days, table.source
        except DataError as error:
            left_out[site] = str(error)
    return read, left_out


def _from_files(
    paths: list[Path],
    codes: dict[Path, list[str]],
    facts: pd.DataFrame,
    notes: Notes,
    further: Iterable[str],
) -> tuple[Read, dict[str, str], list[str]]:
    """Read files; ``codes`` are the towers of those whose names do not say it."""
    files: list[Path] = []
    for path in paths:
        inside = [p for p in sorted(path.glob("*.csv")) if oneflux.is_candidate(p)]
        if path.is_dir() and not inside:
            raise DataError(f"{path}: no daily or half-hourly ONEFlux csv file in this folder")
        files += inside if path.is_dir() else [path]
    read, left_out, unused = Read(), dict[str, str](), list[str]()
    ordered = sorted(dict.fromkeys(files), key=oneflux.rank)
    pairs = [(file, code) for file in ordered for code in codes.get(file, [""])]
    for file, code in pairs:
        key = code or file.name  # the first readable file of a tower counts
        try:
            key = code or oneflux.site_code(file)
            if key in read:
                unused.append(file.name)
                continue
            notes.pop(key, None)
            table = points.read_point(file, notes[key], further)
            days = tower_days(table, place(facts, key), notes[key], further, key)
            read[key] = days, str(file)
        except DataError as error:
            left_out[key] = str(error)
    unused += [left_out.pop(key) for key in left_out.keys() & read.keys()]  # a sound file stood in
    return read, left_out, unused
