"""What towers of a user cannot be though each value could: days, clocks, further columns."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import schema
from tamrl.data.daily import NOON_OFF, Floats
from tamrl.data.own.fluxes import check_closure
from tamrl.data.physics import (
    LIT,
    WARM,
    changed_unit,
    potential_radiation,
    saturation_pressure,
    wrong_unit,
)
from tamrl.data.units import KNOWN, plausible
from tamrl.errors import DataError

MOST_OFFSET = 14.0  # h between a local clock and UTC (Kiribati)
NEGATIVE = -5.0  # W m-2; no day of 180 FLUXNET2015 towers has less than -2
MOST_SHARE = 2.0  # of saturation, on days above WARM; there at most 1.33
STILL = 12  # days in a row with one number: there at most 11, but for fluxes
# The brightest of 5 days is there at least 2.5 W m-2, which no light and kW m-2 are not; but for
# MJ m-2 d-1 it takes 16 days, of which one is above `physics.LIGHT_LOW` at any tower, as of 5 none.
FEW_DAYS, NO_LIGHT = 5, 0.5
OF_JOULE = "SW_IN: converted from J m-2 ("  # how a note begins
MOST_NEE = 40.0  # gC m-2 d-1; there at most 26
MOST_RAIN = 40.0  # mm a day of a year: 26.5 m fell in the wettest year known
YEAR = 365  # days
# K between months and the climate, there at most 8.7 (of 30 days 18), and in their season (3.2);
FAR, FAR_SHORT, SEASON, DOUBT = 15.0, 30.0, 6.0, 4.0
MOST_MONTHS = 9  # beyond which a season is known
DIGIT = 0.015  # K, to which files of MODIS and VIIRS are rounded
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


def without_zeros(data: dict[str, Floats], notes: list[str]) -> None:
    """Leave out days (day,) on which TA, VPD and SW_IN are all exactly 0: gaps that were filled so.

    None of 180 FLUXNET2015 towers has such a day.
    """
    drivers = [data[name] for name in schema.DRIVERS if name in data]
    empty = np.logical_and.reduce([x == 0 for x in drivers])
    if len(drivers) == len(schema.DRIVERS) and empty.any():
        for name in schema.DRIVERS:
            data[name] = np.where(empty, np.nan, data[name])
        notes.append(f"{empty.sum()} days on which TA, VPD and SW_IN are all 0: left out as gaps")


def _check_course(each: Mapping[str, Floats], top: Floats, source: str, notes: list[str]) -> None:
    """Refuse a variable (day,) that stands still, or a VPD beyond reason; say where some days do.

    ``top`` is the light above the air, W m-2; ``source`` names file and tower.
    """
    sw, ta, vpd = (each[name] for name in ("SW_IN", "TA", "VPD"))
    moist = (ta > WARM) & (vpd > MOST_SHARE * saturation_pressure(ta))
    if moist.any():
        what = (
            f"VPD is {vpd[moist].max():.4g} hPa, more than the air can lack, on {moist.sum()} days"
        )
        if moist.sum() > FEW * np.isfinite(vpd).sum():
            raise DataError(f"{source}: {what}; is it a code for missing? Replace it by NaN")
        notes.append(f"{what}; is it a code for missing?")
    seen = {
        "TA": ta,
        "VPD": np.where(vpd > 0, vpd, np.nan),
        "SW_IN": np.where(top > LIT, sw, np.nan),
    }
    for name, x in (seen | {n: each[n] for n in schema.FLUXES if n in each}).items():
        known = x[np.isfinite(x)]
        change = np.flatnonzero(np.diff(known, prepend=np.nan, append=np.nan) != 0)
        runs = np.diff(change)
        if not runs.size or runs.max() < STILL:
            continue
        k, days = int(np.argmax(runs)), int(runs[runs >= STILL].sum())
        what = f"{name} is {known[change[k]]:.4g} on {runs[k]} days in a row"
        if name in ("TA", "VPD") and days > len(known) / 2:
            raise DataError(f"{source}: {what}; give values of every day")
        notes.append(f"{what}: a sensor that stood still, or a gap filled with one number?")
    nee = each.get("NEE", np.zeros(0))
    for odd, how in ((nee == 0, "exactly 0"), (np.abs(nee) > MOST_NEE, f"beyond {MOST_NEE:g}")):
        if odd.sum() > (0 if how.startswith("b") else FEW * np.isfinite(nee).sum()):
            notes.append(f"NEE is {how} on {odd.sum()} days; are these gaps, filled with a number?")
    year = [x[YEAR:] == x[:-YEAR] for x in (ta, vpd, sw)]
    if len(ta) > YEAR and (again := int(np.logical_and.reduce(year).sum())) > STILL:
        notes.append(f"{again} days have the very TA, VPD and SW_IN of {YEAR} days before")


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
        if (dark := (sw < NEGATIVE).sum()) > FEW * np.isfinite(sw).sum():
            what = f"SW_IN is below {NEGATIVE:g} W m-2 on {dark} days, as net radiation is"
            return f"{what}; give the shortwave radiation that comes in"
        seen = sw[potential_radiation(lat, doy) > LIT]
        if np.isfinite(seen).sum() >= FEW_DAYS and (most := np.nanmax(seen)) < NO_LIGHT:
            return f"SW_IN never exceeds {most:.3g}; give it in W m-2"
        return changed_unit(ta, vpd, sw, lat, time) or wrong_unit(ta, vpd, sw, lat, doy)

    rain = each.get("P", np.zeros(0))
    if np.nansum(rain) > MOST_RAIN * max(YEAR, np.isfinite(rain).sum()):
        most = f"P is {np.nanmean(rain):.0f} mm a day on average, more than rains anywhere"
        raise DataError(f"{source}: tower {tower.site.item()}: {most}; check its unit")
    if why := fault(lat):
        column = next((n.removeprefix(OF_JOULE)[:-1] for n in notes if n.startswith(OF_JOULE)), "")
        if column and why.startswith("SW_IN never exceeds"):
            what = f"{why.partition(';')[0]} W m-2 as converted from J m-2 ({column})"
            why = f"{what}; if it is in another unit, state that in the head: {column} (W m-2)"
        if "SW_IN" in why and not fault(-lat):
            why = f"light is that of latitude {-lat:g}, not {lat:g}; check the sign of lat ({why})"
        raise DataError(f"{source}: tower {tower.site.item()}: {why}")
    top = potential_radiation(lat, doy)
    _check_course(each, top, f"{source}: tower {tower.site.item()}", notes)
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


def check_surface(name: str, lst: Floats, ta: Floats, source: str) -> None:
    """Refuse a surface's warmth (day,), degC, that is TA itself, or far from it."""
    gap = (lst - ta)[np.isfinite(lst + ta)]
    if gap.size < ENOUGH:
        return
    if (same := np.abs(gap) < DIGIT).mean() > 0.5:
        what = f"TA is {name} on {same.sum()} of {gap.size} days, to {DIGIT:g} K"
        raise DataError(f"{source}: {what}; give the temperature of the air as TA")
    if abs(gap.mean()) > WARMER:
        what = f"{name} differs from TA by {gap.mean():+.0f} K on average"
        raise DataError(f"{source}: {what}; is it in degF? Give it in degC")


def check_climate(
    site: str, ta: Floats, month: np.ndarray, usual: Floats, notes: list[str]
) -> None:
    """Compare TA (day,) in months 1 to 12 (day,) with the climate of its place (12,); all degC.

    DataError where the mean of months is farther from it, or differs in its season more, than at
    any tower; a lesser difference is said.
    """
    months = pd.Series(ta).groupby(month).agg(["mean", "count"]).query("count >= 15")["mean"]
    gap = (months - usual[months.index - 1]).dropna()
    if gap.empty:
        return
    whole, apart = len(gap) > MOST_MONTHS, gap.abs().mean()
    season = (gap - gap.mean()).abs().mean() if whole else 0.0
    worst = int(str(gap.abs().idxmax()))
    most = f"{months[worst]:.0f} instead of {usual[worst - 1]:.0f} degC in month {worst}"
    what = f"TA differs by {apart:.0f} K from the climate of its place, {most}"
    what = f"{what}; check the unit of TA, its dates, lat and lon"
    if apart > (FAR if whole else FAR_SHORT) or season > SEASON:
        raise DataError(f"tower {site}: {what}")
    if season > DOUBT:
        notes.append(what)


def say_odd(series: pd.DataFrame, notes: dict[str, list[str]]) -> pd.DataFrame:
    """Say which satellite series (row,), as of `check_warmth`, stand still; drop EVI of 0."""
    empty = pd.Series(False, series.index)
    for (site, name), some in series.groupby(["site", "name"]):
        said, n = notes.setdefault(str(site), []), len(some)
        if n >= STILL and np.ptp(some["value"]) == 0:
            said.append(f"{name}: all {n} dates are {some['value'].iloc[0]:.4g}; is that measured?")
        zero = (some["value"] == 0) & (name == "EVI")
        if FEW * n < zero.sum() < n:
            empty |= zero.reindex(series.index, fill_value=False)
            said.append(f"{name}: {zero.sum()} of {n} dates are exactly 0: left out as gaps")
    return series[~empty]


def check_warmth(series: pd.DataFrame, towers: xr.Dataset) -> None:
    """Refuse a surface that is on its dates far warmer or colder than the air at its tower.

    ``series`` (row,) has columns site, name, date, value (degC) and file.
    """
    lst = series[series["name"].str.startswith("LST")]
    for (site, name), some in lst.groupby(["site", "name"]) if "TA" in towers else ():
        air = towers.TA.sel(site=site).to_pandas().reindex(some["date"]).to_numpy(float)
        values = some["value"].to_numpy(float)
        check_surface(f"{name} of {site}", values, air, str(some["file"].iloc[0]))


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
