"""Half-hours and hours before they become days: what no record shows, how many are absent."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tamrl.data.daily import Floats
from tamrl.data.physics import daylength, saturation_pressure
from tamrl.errors import DataError

# What a record can show, with room for noise, in degC, hPa, %, W m-2, mm, umol m-2 s-1. In the
# half-hours of 180 FLUXNET2015 towers TA is -53 to 46, VPD 0 to 97, SW_IN 0 to 1342, NEE -94 to 69
# and GPP -68 to 105.
RANGES = {
    "TA": (-95, 65), "TDEW": (-95, 45), "VPD": (-5, 160), "RH": (-5, 110), "SW_IN": (-50, 1600),
    "P": (0, 500), "NEE": (-150, 150), "GPP": (-150, 150), "RECO": (-150, 150),
}  # fmt: skip
HUMIDITY = ("TDEW", "RH")  # which become VPD, and are looked at in daily tables, too
FEW = 0.01  # share of known records that may be impossible, and are left out
NIGHT, SHORT, ENOUGH = 15.0, 14.0, 20  # W m-2; h of light; records
ABOVE = 2.0  # K by which a dew point may exceed the temperature, as sensors err


def without_impossible(
    values: dict[str, Floats], time: NDArray[np.datetime64], source: str, notes: list[str]
) -> None:
    """Leave out records that cannot be, infinite ones included; ``notes`` say how many.

    ``values`` (record,) by name, in our units. DataError, naming the first, for more than 1 %.
    """
    for name, x in values.items():
        low, high = RANGES.get(name, (-np.inf, np.inf))
        bad = (x < low) | (x > high) | np.isinf(x)
        if not bad.any():
            continue
        known = int((~np.isnan(x)).sum())
        first = f"{x[bad][0]:.6g} at {str(time[bad][0])[:16]}"
        what = f"{bad.sum()} of {known} records are outside {low:g} to {high:g}, first {first}"
        if bad.sum() > FEW * known:
            raise DataError(f"{source}: {name} is {first}: {what}; check the units")
        values[name] = np.where(bad, np.nan, x)
        notes.append(f"{name}: {what}: left out")


def say_absent(time: NDArray[np.datetime64], minutes: int, notes: list[str]) -> None:
    """Say how many records of ``minutes`` lack between the first and the last."""
    expected = int((time[-1] - time[0]) / np.timedelta64(minutes, "m")) + 1
    if absent := expected - len(time):
        notes.append(f"{absent} of {expected} records of {minutes} min are not in the table")


def check_night(start: NDArray[np.datetime64], sw: Floats, lat: float, source: str) -> None:
    """Refuse a light (record,), W m-2, that is not dark about midnight of days below 14 hours.

    ``start`` (record,) is local. Of 33 FLUXNET2015 towers the most is 3 W m-2.
    """
    day = start.astype("datetime64[D]")
    hour = (start - day).astype("timedelta64[h]").astype(int)
    doy = (day - start.astype("datetime64[Y]")).astype(int) + 1
    dark = np.isfinite(sw) & np.isin(hour, (23, 0))
    dark[dark] = daylength(lat, doy[dark]) < SHORT
    if dark.sum() >= ENOUGH and abs(mean := sw[dark].mean()) > NIGHT:
        what = f"SW_IN is {mean:.0f} W m-2 on average about midnight"
        raise DataError(f"{source}: {what}; give the shortwave radiation that comes in, 0 by night")


def check_dew(values: Mapping[str, Floats], source: str) -> None:
    """Refuse a dew point (record,) above the temperature in more than 1 % of records."""
    dew = values.get("TDEW", np.zeros(0))
    if dew.size and (share := np.mean(dew > values["TA"] + ABOVE)) > FEW:
        what = f"the dew point is above TA in {share:.0%} of records"
        raise DataError(f"{source}: {what}; check units and columns of both")


def add_deficit(values: dict[str, Floats], notes: list[str]) -> None:
    """Put VPD in the place of the dew point or the relative humidity, record by record; hPa."""
    dew, humidity = values.pop("TDEW", None), values.pop("RH", None)
    if "VPD" in values:
        return
    saturated = saturation_pressure(values["TA"])
    if dew is not None:
        values["VPD"] = np.maximum(saturated - saturation_pressure(dew), 0)
    elif humidity is not None:
        values["VPD"] = np.maximum(saturated * (1 - humidity / 100), 0)
    notes.append(f"VPD: made of TA and the {'relative humidity' if dew is None else 'dew point'}")
