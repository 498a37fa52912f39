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


def lloyd_taylor(kelvin: Any, e0: Any = E0, above: float = ABOVE, xp: Any = np) -> Any:
    """Respiration relative to that ``above`` K above T0 (Lloyd & Taylor 1994, doi:10.2307/2389824).

    Temperature ``kelvin`` and sensitivity ``e0`` are in K; ``xp`` is numpy or torch.
    """
    return xp.exp(e0 * (1 / above - 1 / (kelvin - T0)))
