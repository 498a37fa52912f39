"""Physics that several parts share: the sun, vapour pressure, the temperature of respiration.

Numbers of equations refer to FAO-56: Allen et al. (1998), Crop evapotranspiration, FAO Irrigation
and Drainage Paper 56, chapter 3, https://www.fao.org/4/x0490e/x0490e07.htm.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SOLAR_CONSTANT = 0.0820e6 / 60  # W m-2, FAO-56 eq. 21 gives 0.0820 MJ m-2 min-1
YEAR = 365.0  # days, as FAO-56 counts; the 366th of a leap year is close to the first
KELVIN = 273.15  # 0 degC, K (BIPM SI brochure, 9th edition)
T0 = 227.13  # K, lower limit of respiration (Lloyd & Taylor 1994)
E0 = 308.56  # K, temperature sensitivity of respiration (Lloyd & Taylor 1994, eq. 11)
ABOVE = 288.15 - T0  # K, the reference of 15 degC above that limit

# What no place shows. In parentheses: the most or least at 180 towers of FLUXNET2015 in any 30 days
# (60 for the least VPD, 16 for the least light, their whole record for the light's 99 %).
VPD_HIGH, VPD_LOW = 1.4, 0.08  # of saturation: 90 % of days (1.30); the highest (0.08)
LIGHT_HIGH, LIGHT_LOW = 1.05, 0.1  # of that above the air: 90 % of days (1.01); the highest (0.12)
LIGHT_PAR = 0.42  # of that above the air: 99 % of a year's days (0.59)
WARM, LIT = 5.0, 50.0  # degC, W m-2: days of which shares are taken
# Where a record falls into two parts by its shares, none of the 180 has one part below these, of
# which the other is 5 to 20 times: a unit that changed (kPa and hPa: 10, MJ m-2 d-1: 12).
PART_LOW = {"VPD": 0.1, "SW_IN": 0.12}  # of saturation, of the light above the air: 98 % of days
JUMP, JUMP_DAYS = 1.4, 30  # times that days beside the step differ
PART_DAYS, TIMES = {"VPD": 60, "SW_IN": 30}, (5.0, 20.0)  # days of a part, at least


def potential_radiation(lat: ArrayLike, doy: ArrayLike) -> NDArray[np.float64]:
    """Daily mean shortwave radiation on a level surface above the atmosphere (Ra, eq. 21), W m-2.

    Latitude ``lat``, degrees north, and day of the year ``doy``, 1 to 366, broadcast.
    FAO-56 example 8: 20 degrees south on 3 September, 32.2 MJ m-2 d-1.

    >>> round(float(potential_radiation(-20, 246)) * 0.0864, 1)
    32.2
    """
    phi, declination, sunset, doy = _angles(lat, doy)
    distance = 1 + 0.033 * np.cos(2 * np.pi * doy / YEAR)  # inverse relative, squared; eq. 23
    height = sunset * np.sin(phi) * np.sin(declination)
    height += np.cos(phi) * np.cos(declination) * np.sin(sunset)
    return np.maximum(SOLAR_CONSTANT / np.pi * distance * height, 0.0)


def daylength(lat: ArrayLike, doy: ArrayLike) -> NDArray[np.float64]:
    """Hours from sunrise to sunset (eq. 34), without refraction.

    Latitude ``lat``, degrees north, and day of the year ``doy`` broadcast; 0 in the polar night, 24
    in the polar day. FAO-56 example 9: 20 degrees south on 3 September, 11.7 hours.

    >>> round(float(daylength(-20, 246)), 1)
    11.7
    """
    return 24 / np.pi * _angles(lat, doy)[2]


def _angles(lat: ArrayLike, doy: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """Latitude, declination (eq. 24) and sunset hour angle (eq. 25) in rad; day of the year."""
    phi, day = np.radians(np.asarray(lat, float)), np.asarray(doy, float)
    declination = 0.409 * np.sin(2 * np.pi * day / YEAR - 1.39)
    # Beyond the polar circles the cosine leaves -1..1: the sun does not set, or does not rise.
    sunset = np.arccos(np.clip(-np.tan(phi) * np.tan(declination), -1, 1))
    return phi, declination, sunset, day


def saturation_pressure(ta: Any) -> Any:
    """Saturation vapour pressure over water, hPa, of temperature in degC (Tetens; eq. 11).

    >>> round(float(saturation_pressure(24.5)) / 10, 3)
    3.075
    """
    return 6.108 * np.exp(17.27 * ta / (ta + 237.3))


def _shares(ta: Any, vpd: Any, sw: Any, lat: Any, doy: Any) -> tuple[Any, Any]:
    """VPD as a share of saturation on warm days, light as one of that above the air; else NaN."""
    top = potential_radiation(lat, doy)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(ta > WARM, vpd / saturation_pressure(ta), np.nan)
        return share, np.where(top > LIT, sw / top, np.nan)


def wrong_unit(ta: Any, vpd: Any, sw: Any, lat: Any, doy: Any, step: float = 1.0) -> str:
    """Say of VPD or SW_IN that it is in another unit, by what no place on Earth shows; "" if not.

    ``ta`` degC, ``vpd`` hPa and ``sw`` W m-2 (time, …), means over ``step`` days, NaN missing;
    ``lat`` degrees north and ``doy`` broadcast with them.
    """
    share, light = _shares(ta, vpd, sw, lat, doy)
    days = [step * np.isfinite(v).reshape(len(v), -1).any(1).sum() for v in (share, light)]
    (vpd_90, vpd_most), (light_90, light_most) = (
        np.nanquantile(v, [0.9, 1]) if n else (np.nan, np.nan)
        for v, n in zip((share, light), days, strict=True)
    )
    mj = "convert it to W m-2 (1 MJ m-2 d-1 = 11.57 W m-2)"
    if days[0] >= 10 and vpd_90 > VPD_HIGH:
        return f"VPD is {vpd_90:.0%} of saturation or more on 1 day of 10; check its unit, and TA's"
    if days[0] >= 60 and vpd_most < VPD_LOW:
        most = f"{np.nanmax(vpd):.3g}, {vpd_most:.0%} of saturation"
        return f"VPD never exceeds {most}; it looks like kPa, convert it to hPa"
    if days[1] >= 10 and light_90 > LIGHT_HIGH:
        what = f"SW_IN is {light_90:.0%} of the radiation above the air or more on 1 day of 10"
        return f"{what}; it looks like PAR in umol m-2 s-1, or as a sum; give a mean in W m-2"
    if days[1] >= 16 and light_most < LIGHT_LOW:
        return f"SW_IN never exceeds {np.nanmax(sw):.3g}; it looks like MJ m-2 d-1, {mj}"
    if days[1] >= 300 * step and np.nanquantile(light, 0.99) < LIGHT_PAR:
        what = f"SW_IN never exceeds {light_most:.0%} of the radiation above the air"
        return f"{what}; it looks like PAR, give all shortwave radiation in W m-2"
    return ""


def changed_unit(ta: Any, vpd: Any, sw: Any, lat: float, time: NDArray[np.datetime64]) -> str:
    """Say of VPD or SW_IN that its unit changes within a record of days (time,), and when; or "".

    Arguments as of `wrong_unit`. The record is parted where its mean shares differ most.
    """
    doy = (time.astype("M8[D]") - time.astype("M8[Y]")).astype(int) + 1
    both = zip(_shares(ta, vpd, sw, lat, doy), (VPD_HIGH, LIGHT_HIGH), strict=True)
    for name, (share, high) in zip(("VPD", "SW_IN"), both, strict=True):
        known = np.flatnonzero(share > 0)
        logs, least = np.log(share[known]), PART_DAYS[name]
        if len(known) < 2 * least:
            continue
        k, sums = np.arange(least, len(known) - least + 1), logs.cumsum()
        gap = sums[k - 1] / k - (sums[-1] - sums[k - 1]) / (len(known) - k)
        at = int(k[np.argmax(k * (len(known) - k) * gap**2)])
        before, after = share[known[:at]], share[known[at:]]
        low, top = sorted((before, after), key=np.median)
        times = np.median(top) / np.median(low)
        beside = np.median(before[-JUMP_DAYS:]), np.median(after[:JUMP_DAYS])
        step = max(beside) / min(beside)
        if step < JUMP:  # a season
            continue
        fell = np.quantile(low, 0.98) < PART_LOW[name] and TIMES[0] < times < TIMES[1]
        if fell or np.quantile(top, 0.9) > high > np.quantile(low, 0.9):
            how = f"{step:.0f} times {'smaller' if low is after else 'larger'}"
            when = f"from {str(time[known[at]])[:10]} on"
            return f"{name} is {how} {when} than before: its unit changes; use one throughout"
    return ""


def lloyd_taylor(kelvin: Any, e0: Any = E0, above: float = ABOVE, xp: Any = np) -> Any:
    """Respiration relative to that ``above`` K above T0 (Lloyd & Taylor 1994, doi:10.2307/2389824).

    Temperature ``kelvin`` and sensitivity ``e0`` are in K; ``xp`` is numpy or torch.
    """
    return xp.exp(e0 * (1 / above - 1 / (kelvin - T0)))
