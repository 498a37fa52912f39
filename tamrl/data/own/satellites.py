"""A user's satellite tables as the monthly predictors and the daily index that models learn from.

Read are the formats of `tamrl.data.own.modis`, and csv with a column date, a column site where
there are several towers, and columns by the names of ``facts/vocabulary.csv``, by day, composite
or month. Which layers are read is in `tamrl.data.own.layers`.
"""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.own import modis
from tamrl.data.own.checks import check_warmth, say_odd
from tamrl.data.own.composites import Predictors, by_day, by_month, step_of
from tamrl.data.own.csvfiles import Table
from tamrl.data.own.layers import series_of, unscaled
from tamrl.data.own.oneflux import is_code
from tamrl.data.own.phases import PRODUCT as PHASES
from tamrl.data.own.stamps import dates
from tamrl.data.own.vocabulary import DAY, EXTRAS, convert, recognise
from tamrl.data.units import KNOWN, plausible, to_our_units
from tamrl.errors import DataError
from tamrl.files import check_regular

File = str | PathLike[str]
NEAR = 0.05  # degrees between a tower and the point of a table
FAR = 55  # km, from where on a point by the tower's code is not the tower's
MONTH = np.timedelta64(31, "D")
USED = (*EXTRAS, "EVI", "P")
SHOWN = 3


def read_satellites(
    files: File | Iterable[File] | xr.Dataset | None,
    towers: xr.Dataset,
    notes: dict[str, list[str]],
) -> Predictors:
    """Read satellite tables of the ``towers`` (site), which match by code or by position.

    ``files``: csv or JSON, one or several; or a Dataset (site, month) of monthly predictors in our
    units. What was read, masked and not used goes to ``notes`` by tower. Months are means of the
    composites whose middle they hold, of a daily product with at least 5 days. EVI is that of
    training where phases of MCD12Q2 are given, else linear between composites no more than 32 days
    apart, else missing. DataError, naming the file, for what cannot be read, is of no tower, or
    cannot be.
    """
    if files is None:
        return Predictors()
    if isinstance(files, xr.Dataset):
        if "month" not in files.dims or "site" not in files.dims:
            raise DataError("satellites: a Dataset has dimensions (site, month)")
        known = {str(n): (1.0, 0.0) for n in files.data_vars if n in KNOWN}
        if not np.isin(files.site.to_numpy().astype(str), towers.site.to_numpy().astype(str)).any():
            some = ", ".join(towers.site.to_numpy().astype(str)[:SHOWN])
            raise DataError(f"satellites: no site is any of the towers {some}; give their codes")
        return Predictors(to_our_units(files, known, "satellites"))
    paths = [Path(files)] if isinstance(files, str | PathLike) else [Path(str(f)) for f in files]
    try:
        return _read(paths, towers, notes)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        what = f"not readable as satellite tables ({error!r})"
        raise DataError(f"{', '.join(map(str, paths))}: {what}; get them again") from error


def _read(paths: list[Path], towers: xr.Dataset, notes: dict[str, list[str]]) -> Predictors:
    long: list[pd.DataFrame] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file; correct the path")
        check_regular(path, "a satellite table")
        found, table = modis.read_layers(path)
        if found is not None:
            long.append(_matched(found, towers, notes))
        elif table is not None:
            long.append(_plain(table, towers, notes))
    layers = [part for part in long if "layer" in part]
    parts = [part for part in long if "layer" not in part]
    if layers:
        parts.append(series_of(pd.concat(layers, ignore_index=True), notes))
    series = _one_index(pd.concat(parts, ignore_index=True), notes)
    if series.empty:
        said = [line for lines in notes.values() for line in lines]
        lost = [line for line in said if "without a value" in line]
        why = lost or [line for line in said if "not used: " in line]
        remedy = "; see the quality flags" if lost else ""
        what = f"no value is left ({'; '.join(why[:SHOWN])}){remedy}"
        raise DataError(f"{', '.join(map(str, paths))}: {what}")
    for name, some in series.groupby("name"):
        low, high = plausible(str(name))
        for row in some[(some["value"] < low) | (some["value"] > high)].itertuples():
            what = f"{name} of {row.site} is {row.value:.6g} on {row.date:%Y-%m-%d}"
            remedy = "check the units" + unscaled(str(name), some["value"].to_numpy(float))
            raise DataError(f"{row.file}: {what}, outside {low:g} to {high:g}; {remedy}")
    check_warmth(series, towers)
    series = say_odd(series, notes)
    _say_elsewhen(series, towers, notes)
    return Predictors(by_month(series), by_day(series[series["name"] == "EVI"]))


def _say_elsewhen(series: pd.DataFrame, towers: xr.Dataset, notes: dict[str, list[str]]) -> None:
    """Say which series end before a tower's days begin, or begin after they end."""
    if "TA" not in towers:
        return
    for (site, name), at in series.groupby(["site", "name"])["date"]:
        there = towers.time.to_numpy()[np.isfinite(towers.TA.sel(site=site).to_numpy())]
        if len(there) and (at.max() < there[0] - MONTH or at.min() > there[-1] + MONTH):
            span, days = f"{at.min():%Y-%m-%d} to {at.max():%Y-%m-%d}", str(there[0])[:10]
            what = f"no date of its {span} is within the tower's days ({days} to"
            notes[str(site)].append(f"{name}: {what} {str(there[-1])[:10]})")


def _one_index(series: pd.DataFrame, notes: dict[str, list[str]]) -> pd.DataFrame:
    """Leave out other EVI where phases of MCD12Q2 give that of training: levels of both differ."""
    mine = series["product"] == PHASES
    sites = [*series["site"][mine].unique()]
    beside = ~mine & (series["name"] == "EVI") & series["site"].isin(sites)
    for site, n in series[beside].groupby("site").size().items():
        what = f"EVI: {n} other dates not used, as MCD12Q2 gives that of training"
        notes.setdefault(str(site), []).append(what)
    return series[~beside]


def _matched(table: pd.DataFrame, towers: xr.Dataset, notes: dict[str, list[str]]) -> pd.DataFrame:
    """Rows of the towers, by code or position; a table without either is of the only tower."""
    sites = towers.site.to_numpy().astype(str)
    lat, lon = towers.lat.to_numpy().astype(float), towers.lon.to_numpy().astype(float)
    own: dict[str, str] = {}
    site, lat_text, lon_text = (table[name].map(str) for name in ("site", "lat", "lon"))
    key = site + "|" + lat_text + "|" + lon_text  # also of what is missing
    points = table.loc[~key.duplicated(), ["site", "lat", "lon"]]
    for name, (code, y, x) in zip(key.unique(), points.itertuples(index=False), strict=True):
        apart = np.hypot(lat - y, ((lon - x + 180) % 360 - 180) * np.cos(np.radians(lat)))
        if code in sites:
            own[name] = str(code)
            km = 111 * float(apart[sites == code][0])
            if km > FAR:
                what = f"{code} is by its position {km:.0f} km from the tower {code}"
                raise DataError(f"{table['file'].iloc[0]}: {what}; get the series of the tower")
        elif np.isfinite(apart).any() and np.nanmin(apart) <= NEAR:
            own[name] = str(sites[np.nanargmin(apart)])
        elif len(sites) == len(points) == 1 and not np.isfinite(apart).any():
            if is_code(str(code)) and is_code(str(sites[0])):  # those of two towers
                continue
            own[name] = str(sites[0])
            if str(code) not in ("", "nan"):
                notes.setdefault(str(sites[0]), []).append(
                    f"satellites of {code} taken for its own"
                )
    file, lost = table["file"].iloc[0], [name for name in key.unique() if name not in own]
    where = ", ".join(name.replace("|nan", "").strip("|") for name in lost[:SHOWN])
    if not own:
        what = f"its places ({where}) are none of the towers {', '.join(sites[:SHOWN])}"
        raise DataError(f"{file}: {what}; give them the towers' codes, or positions within 5 km")
    if lost:
        notes[""].append(f"not used in {file}: {len(lost)} other places ({where})")
    table = table.assign(site=key.map(own))
    return table.dropna(subset=["site"])


def _plain(table: Table, towers: xr.Dataset, notes: dict[str, list[str]]) -> pd.DataFrame:
    """Series of a plain csv: site, product (none), name, date, value, step, file."""
    frame = table.frame
    heads = {str(c).casefold(): c for c in frame.columns}
    found = {n: c for n, c in recognise(frame.columns, table.units).items() if n in USED}
    date = next((heads[n] for n in ("date", "time", "month", "timestamp") if n in heads), None)
    if date is None or not found:
        known = f"a column date and any of {', '.join(USED)}, or a file of AppEEARS or ORNL"
        raise DataError(f"{table.source}: no satellite table; expected is {known}")
    if frame.empty:
        raise DataError(f"{table.source}: no row below the heads; get the file again")
    days = dates(frame[date], str(date), table.source)
    place = {n: heads[a] for n, also in _PLACE.items() for a in also if a in heads}
    used = {date, *place.values(), *(c.column for c in found.values())}
    if rest := [str(c) for c in frame.columns if c not in used]:
        notes[""].append(f"not used in {table.source}: {', '.join(rest[:SHOWN])}")
    rows = pd.DataFrame({
        "site": frame[place["site"]].astype(str).str.strip() if "site" in place else "",
        **{n: _degrees(frame, place, n, table.source) for n in ("lat", "lon")},
        "date": days, "file": table.source, "row": np.arange(len(frame)),
    })  # fmt: skip
    parts = []
    for site, mine in _matched(rows, towers, notes).groupby("site"):
        said, counts = notes.setdefault(str(site), []), dict[str, list[str]]()
        for name, column in found.items():
            given = frame[column.column].iloc[mine["row"]]
            numbers = pd.to_numeric(given, errors="coerce")
            if (text := numbers.isna() & given.notna()).any():
                what = f"{text.sum()} values such as {given[text].iloc[0]!r} are no numbers"
                said.append(f"{name}: {what} and were left out")
            values = convert(numbers.to_numpy(float), column, DAY, table.source, said)
            part = mine[["site", "date", "file"]].assign(
                product="", name="PRCP" if name == "P" else name, value=values
            )
            part = part.dropna(subset=["value"]).sort_values("date").drop_duplicates()
            for day in part["date"][part["date"].duplicated()]:
                what = f"{name} of {site} has two values on {day:%Y-%m-%d}"
                raise DataError(f"{table.source}: {what}; keep one")
            if part.empty:
                continue
            parts.append(part.assign(step=step_of(part["date"])))
            counts.setdefault(f"{len(part)} dates", []).append(parts[-1]["name"].iloc[0])
        held = "; ".join(f"{', '.join(names)}, {count}" for count, names in counts.items())
        said.append(f"read {held} ({Path(table.source).name})")
    if not parts:
        raise DataError(f"{table.source}: no values in {', '.join(found)}")
    return pd.concat(parts, ignore_index=True)


def _degrees(frame: pd.DataFrame, place: dict[str, str], axis: str, source: str) -> pd.Series:
    given = frame[place[axis]] if axis in place else pd.Series(np.nan, frame.index)
    degrees = pd.to_numeric(given, errors="coerce")
    for text in given[degrees.isna() & given.notna()]:
        raise DataError(f"{source}: {axis} is {text!r}; give degrees, south and west negative")
    return degrees


_PLACE = {"site": ("site", "id"), "lat": ("lat", "latitude"), "lon": ("lon", "longitude")}
