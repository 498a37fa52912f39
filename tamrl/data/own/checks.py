"""What towers of a user cannot be though each value could: days, clocks, further columns."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import schema
from tamrl.data.daily import NOON_OFF, Floats
from tamrl.data.own.fluxes import check_closure
from tamrl.data.physics import changed_unit, wrong_unit
from tamrl.data.units import KNOWN, plausible
from tamrl.errors import DataError

MOST_OFFSET = 14.0  # h between a local clock and UTC (Kiribati)
ENOUGH, WARMER = 6, 25.0  # dates, and K between their LST and the mean TA of these days
ORDERED = (("TA_min", "TA"), ("TA", "TA_max"), ("VPD", "VPD_max"))  # each below the next
ROOM, FEW = 0.5, 0.01  # degC or hPa by which they may not be; share of days that are only said


def check_extra(name: str, values: Floats, days: np.ndarray, source: str) -> None:
    """Refuse a value of a further column (day,) that is outside its range, where one is known."""
    low, high = plausible(name)
    for at in np.flatnonzero((values < low) | (values > high) | np.isinf(values)):
        unit = KNOWN[name].units if name in KNOWN else ""
        what = f"{name} is {values[at]:.6g}, outside {low:g} to {high:g} {unit}".rstrip()
        raise DataError(f"{source}, {days[at]}: {what}; check the units or drop the column")


def check_offset(hours: float, lon: float, source: str, notes: list[str]) -> None:
    """Refuse an offset of a clock to UTC that none on Earth has; say if it is not that of ``lon``.

    ``hours`` may be NaN. ``source`` names the offset.
    """
    if abs(hours) > MOST_OFFSET:
        what = f"{source} is {hours:g}, outside -{MOST_OFFSET:g} to {MOST_OFFSET:g} h"
        raise DataError(f"{what}; correct it, or leave it empty")
    if abs((hours - lon / 15 + 12) % 24 - 12) > NOON_OFF:
        notes.append(f"utc_offset_h is {hours:g}, but by its longitude about {lon / 15:.0f} h")


def check_tower(tower: xr.Dataset, source: str, notes: list[str]) -> None:
    """Refuse one tower (1, time) whose values, all possible, together are those of no place.

    That is a unit that no place shows, or that changes within the record; a daily mean beyond the
    day's extremes on more than 1 % of days (on fewer ``notes`` say it).
    """
    each = {n: tower[n].to_numpy()[0].astype(float) for n in schema.VARIABLES if n in tower}
    ta, vpd, sw, lat = each["TA"], each["VPD"], each["SW_IN"], float(tower.lat.item())
    time, doy = tower.time.to_numpy(), tower.time.dt.dayofyear.to_numpy()

    def fault(lat: float) -> str:
        return changed_unit(ta, vpd, sw, lat, time) or wrong_unit(ta, vpd, sw, lat, doy)

    if why := fault(lat):
        if "SW_IN" in why and not fault(-lat):
            why = f"light is that of latitude {-lat:g}, not {lat:g}; check the sign of lat ({why})"
        raise DataError(f"{source}: tower {tower.site.item()}: {why}")
    for below, above in ORDERED:
        wrong = each[below] > each[above] + ROOM
        if not wrong.any():
            continue
        both = np.isfinite(each[below] + each[above]).sum()
        day = str(tower.time.to_numpy()[wrong][0])[:10]
        what = f"{below} is above {above} on {wrong.sum()} of {both} days, first {day}"
        if wrong.sum() > FEW * both:
            remedy = "give the mean and the extremes of each day, in one unit"
            raise DataError(f"{source}: tower {tower.site.item()}: {what}; {remedy}")
        notes.append(what)


def check_warmth(series: pd.DataFrame, towers: xr.Dataset) -> None:
    """Refuse a surface that is on its dates far warmer or colder than the air at its tower.

    ``series`` (row,) has columns site, name, date, value (degC) and file.
    """
    lst = series[series["name"].str.startswith("LST")]
    for (site, name), some in lst.groupby(["site", "name"]) if "TA" in towers else ():
        air = towers.TA.sel(site=site).to_pandas().reindex(some["date"]).to_numpy(float)
        gap = some["value"].to_numpy(float) - air
        if np.isfinite(gap).sum() >= ENOUGH and abs(mean := np.nanmean(gap)) > WARMER:
            what = f"{name} of {site} differs from TA by {mean:+.0f} K on average"
            raise DataError(f"{some['file'].iloc[0]}: {what}; is it in degF? Give it in degC")


def checked_anew(ds: xr.Dataset) -> xr.Dataset:
    """Check towers that were read before and may have been changed; towers without days pass."""
    source, known = "Dataset", schema.VARIABLES
    used = {n: ds[n].transpose("site", "time").astype(np.float32) for n in known if n in ds}
    same = ds.assign({n: v.assign_attrs(units=known[n].units) for n, v in used.items()})
    whole = np.logical_and.reduce([np.isfinite(used[n]) for n in schema.DRIVERS]).any(1)
    schema.validate(same.isel(site=whole) if whole.any() else same, source)
    notes: list[str] = []
    for site in np.flatnonzero(whole):
        check_tower(one := same.isel(site=[site]), source, notes)
        fluxes = {n: one[n].to_numpy()[0].astype(float) for n in schema.FLUXES}
        check_closure(fluxes, f"{source}: tower {one.site.item()}")
    old: Iterable[str] = filter(None, str(ds.attrs.get("inputs", "")).splitlines())
    return ds.assign_attrs(inputs="\n".join([*old, *notes])) if notes else ds
