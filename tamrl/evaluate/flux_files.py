"""Daily fluxes that are to be scored: files of them, and what must hold before they are compared.

Each side, predictions and measurements, is checked alike: days and towers once, values in one unit
and possible, bounds in pairs, a quality flag that is a share. What can be read in one way alone is
put right and said; all else is one error.
"""

from collections.abc import Iterable, Sequence
from io import StringIO
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import open_towers
from tamrl.data.own.csvfiles import encoding_of
from tamrl.data.own.labels import check_size, shares
from tamrl.data.schema import FLUXES, VARIABLES
from tamrl.data.units import UNITS, spelled
from tamrl.errors import DataError, expect
from tamrl.files import check_regular

Source = str | PathLike[str]
ENDS = ("lower", "upper")
OF_SEEN = ("seen", "nearest_learnt", "nearest_learnt_km")  # what weights have learnt from
TURNED = 0.1  # of the error of a balance, below which that of the other sign is meant
MONTHLY = 20  # days of a month that are one number: a mean of the month
LOOK = 1 << 16  # bytes of a csv file in which its heads stand
DAY = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?"
_OURS = UNITS[VARIABLES["NEE"].units]


def open_fluxes(
    path: Source, table: Source | None = None, further: Sequence[str] = ()
) -> xr.Dataset:
    """Open daily fluxes (site, time), and ``further`` targets; DataError for none.

    They are NetCDF by site or by station (`tamrl.shipped.report.station_file`), a csv file of
    `tamrl predict`, or towers as `tamrl.data.open_towers` reads them.
    """
    expect(path, (str, PathLike), "a file of fluxes", "a Dataset or a path")
    if isinstance(table, str | PathLike):
        check_regular(table, "a table of towers")
    path = Path(path)
    if path.suffix.lower() not in (".nc", ".nc4"):
        return _predicted_csv(path) if _of_predict(path) else open_towers(path, table, further)
    try:
        with xr.open_dataset(path, engine="netcdf4") as opened:
            fluxes = opened.load()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as NetCDF ({error})") from error
    if "station" in fluxes.dims and "site" in fluxes:
        fluxes = fluxes.set_coords("site").swap_dims(station="site")
        fluxes = fluxes.assign_coords(site=fluxes.site.astype(str))
    names = (*FLUXES, *further)
    if not any(f in fluxes and "time" in fluxes[f].dims for f in names):
        raise DataError(f"{path}: none of {', '.join(names)} by site and time is in it")
    return fluxes


def _of_predict(path: Path) -> bool:
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open("rb") as stream:
        return _text(stream.read(LOOK)).startswith("# ")


def _text(data: bytes) -> str:
    return data.decode(encoding_of(data[:LOOK]), errors="replace")


def _predicted_csv(path: Path) -> xr.Dataset:
    lines = _text(path.read_bytes()).splitlines(keepends=True)
    first = next((k for k, line in enumerate(lines) if not line.startswith("#")), len(lines))
    try:
        as_text = {"site": str, "time": str}
        table = pd.read_csv(StringIO("".join(lines[first:])), converters=as_text)
        days = pd.to_datetime(
            table.time.where(table.time.str.fullmatch(DAY)), format="ISO8601", errors="coerce"
        )
        for time in table.time[days.isna()]:
            raise DataError(f"{path}: time {time!r} is no local day; write it as 2005-01-31")
        table = table.assign(time=days).set_index(["site", "time"])
        for site, day in table.index[table.index.duplicated()]:
            raise DataError(f"{path}: {site} has {day:%Y-%m-%d} twice; keep one line a day")
        fluxes = table.to_xarray()
    except (ValueError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a csv file of `tamrl predict` ({error})") from error
    for name in set(fluxes.data_vars) & {*OF_SEEN}:
        fluxes[name] = "site", table[name].groupby("site").first().to_numpy()
    facts = (line[2:].rstrip().split(": ", 1) for line in lines[:first] if line.startswith("# "))
    attrs = {one[0]: one[-1] for one in facts}
    if (virtual := attrs.get("virtual", "0")) not in ("0", "1"):
        raise DataError(f"{path}: virtual is {virtual!r}; write 0 for real towers, 1 for others")
    of_fluxes = attrs.get("units", "").partition(";")[0].removeprefix("fluxes in ")
    for name in (n for n in fluxes.data_vars if str(n).startswith(FLUXES) and of_fluxes):
        fluxes[name].attrs["units"] = of_fluxes
    return fluxes.assign_attrs(attrs, virtual=int(virtual))


def checked(
    fluxes: xr.Dataset, side: str, further: Sequence[str], notes: list[str], measured: bool
) -> xr.Dataset:
    """Daily fluxes (site, time) in gC m-2 d-1 of one ``side``, a file or a word, fit to be scored.

    ``further`` targets keep their unit. What was converted goes to ``notes``. DataError, naming
    side, variable, place and value, for all that cannot be scored as days; of what is ``measured``,
    monthly means on every day, too.
    """
    fluxes = _by_day(fluxes, side, notes)
    for flux in FLUXES + tuple(further):
        ends = [f"{flux}_{end}" for end in ENDS if f"{flux}_{end}" in fluxes]
        if len(ends) == 1:
            raise DataError(f"{side}: {ends[0]} is there alone; give both bounds, or neither")
        for name in [flux, *ends] if flux in fluxes else ends:
            fluxes[name] = _numbers(fluxes[name], side)
            if flux in FLUXES:
                fluxes[name] = _in_our_unit(fluxes[name], VARIABLES[flux].units, side, notes)
        if ends:
            low, high = (fluxes[name] for name in ends)
            where, n = _first(low > high)
            if n:
                what = f"{ends[0]} is above {ends[1]} on {n} days, first {where}"
                raise DataError(f"{side}: {what}; swap the bounds")
    if "NEE_QC" in fluxes:
        flag = _numbers(fluxes.NEE_QC, side)
        values = shares(flag.to_numpy(), flag.attrs.get("units", ""), side, notes)
        fluxes["NEE_QC"] = flag.copy(data=values)
    there = {f: fluxes[f].to_numpy().ravel() for f in FLUXES if f in fluxes}
    check_size(there, side, notes)
    _refuse_turned(fluxes, side)
    if measured:
        if "weights_sha256" in fluxes.attrs:
            remedy = "name the predictions first, and then measured fluxes"
            raise DataError(f"{side}: are predicted by weights, not measured; {remedy}")
        _refuse_months(fluxes, there, side)
    return fluxes


def _refuse_turned(fluxes: xr.Dataset, side: str) -> None:
    """Refuse NEE that is GPP - RECO beside them: here uptake is negative."""
    if not all(flux in fluxes for flux in FLUXES):
        return
    nee, exact = fluxes.NEE.to_numpy(), (fluxes.RECO - fluxes.GPP).to_numpy()
    known = np.isfinite(nee) & np.isfinite(exact)
    error, turned = (np.abs(nee + k * exact)[known].sum() for k in (-1, 1))
    if turned < TURNED * error:
        what = "NEE is GPP - RECO in the file; it is RECO - GPP here, negative for uptake"
        raise DataError(f"{side}: {what}: turn its sign")


def _by_day(fluxes: xr.Dataset, side: str, notes: list[str]) -> xr.Dataset:
    """Give fluxes one axis of towers and one of whole days, each once."""
    if "site" in fluxes.coords and "site" not in fluxes.dims:
        fluxes = fluxes.expand_dims("site")
    for axis in ("site", "time"):
        if axis not in fluxes.dims or axis not in fluxes.coords:
            have = ", ".join(map(str, fluxes.dims))
            raise DataError(f"{side}: no coordinate {axis} (dimensions: {have}); name each {axis}")
    if fluxes.time.dtype.kind != "M" or np.isnat(fluxes.time.values).any():
        raise DataError(f"{side}: time holds {fluxes.time.dtype} or gaps; dates are expected")
    days = fluxes.time.to_numpy().astype("datetime64[D]")
    names = fluxes.site.to_numpy().astype(str)
    for axis, values in (("site", names), ("time", days)):
        kinds, count = np.unique(values, return_counts=True)
        if (count > 1).any():
            twice = f"{axis} {kinds[count > 1][0]} occurs {count.max()} times"
            raise DataError(f"{side}: {twice}; keep one value a tower and day")
    if "time_bnds" in fluxes and fluxes.time_bnds.dtype.kind == "M":
        steps = np.diff(fluxes.time_bnds.to_numpy(), axis=-1).astype("timedelta64[D]").ravel()
    else:
        steps = np.diff(np.sort(days))[: len(days) if len(days) > 2 else 0]
    if steps.size and (step := int(np.median(steps.astype(int)))) > 1:
        remedy = "daily values are expected; single days go on an axis of every day, NaN between"
        raise DataError(f"{side}: values are {step} days apart; {remedy}")
    if (days != fluxes.time.to_numpy()).any():
        notes.append(f"{side}: times of day were cut off, as values are of days")
    return fluxes.assign_coords(site=names, time=days.astype("datetime64[ns]"))


def _numbers(values: xr.DataArray, side: str) -> xr.DataArray:
    if values.dtype.kind not in "iuf":
        what = f"{values.name} holds values of {values.dtype}; numbers are expected"
        raise DataError(f"{side}: {what}")
    if set(values.dims) != {"site", "time"}:
        what = f"{values.name} has dimensions {', '.join(map(str, values.dims))}"
        raise DataError(f"{side}: {what}; site and time are expected")
    return values.transpose("site", "time")


def _in_our_unit(values: xr.DataArray, wanted: str, side: str, notes: list[str]) -> xr.DataArray:
    """Convert a flux or its bound as its attribute says, and refuse what no day shows."""
    unit = str(values.attrs.get("units", wanted))
    if (known := spelled(unit, _OURS)) is None:
        remedy = f"convert it to {wanted} (known: {', '.join(_OURS)})"
        raise DataError(f"{side}: {values.name} is in {unit!r}; {remedy}")
    factor, attrs = _OURS[known][0], {**values.attrs, "units": wanted}
    if factor != 1:
        values = values * factor
        notes.append(f"{side}: {values.name} converted from {unit}")
    about = VARIABLES[str(values.name).partition("_")[0]]
    where, n = _first((values < about.low) | (values > about.high))
    if n:
        worst = float(values.where((values < about.low) | (values > about.high)).max())
        what = f"{values.name} is outside {about.low:g} to {about.high:g} {wanted} on {n} days"
        remedy = "check the units, and mark missing values by NaN"
        raise DataError(f"{side}: {what}, {worst:.6g} at most, first {where}; {remedy}")
    return values.assign_attrs(attrs)


def _first(bad: xr.DataArray) -> tuple[str, int]:
    """Where a mask (site, time) is first true, in words, and how often."""
    at = np.argwhere(bad.to_numpy())
    if not len(at):
        return "", 0
    return f"at {bad.site.values[at[0][0]]}, {str(bad.time.values[at[0][1]])[:10]}", len(at)


def _refuse_months(fluxes: xr.Dataset, names: Iterable[str], side: str) -> None:
    """Refuse a flux that is one number on all days of every month: a mean that was repeated."""
    month = fluxes.time.to_numpy().astype("datetime64[M]")
    for name in names:
        days = pd.DataFrame(fluxes[name].to_numpy().T).groupby(month)
        whole = days.count().to_numpy() >= MONTHLY
        flat = (days.max() == days.min()).to_numpy()[whole]
        if flat.size > 1 and flat.all():
            what = f"{name} is one number on all days of a month, in each of {flat.size} months"
            raise DataError(f"{side}: {what}; daily values are expected, not means of months")
