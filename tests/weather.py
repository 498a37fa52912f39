"""Hourly weather that one can compute, in the layouts of those who hand it out."""

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.physics import potential_radiation, saturation_pressure

UNITS = {"t2m": "K", "d2m": "K", "ssrd": "J m**-2", "tp": "m"}
LONG = {"t2m": "2m_temperature", "d2m": "2m_dewpoint_temperature", "tp": "total_precipitation",
        "ssrd": "surface_solar_radiation_downwards"}  # fmt: skip


def truth(stamps: np.ndarray, lat: np.ndarray, lon: np.ndarray) -> dict[str, np.ndarray]:
    """Hours (hour, lat, lon) that end at ``stamps`` UTC: degC, W m-2, mm."""
    hour = stamps.astype("M8[h]").astype(int)[:, None, None] - 0.5
    y, x = lat[None, :, None], lon[None, None, :]
    solar = hour + x / 15
    ta = 12 - 0.3 * y + 6 * np.sin((solar % 24 - 9) / 12 * np.pi) + 3 * np.sin(hour / 90)
    dew = ta - 2 - 1.5 * (1 + np.sin(hour / 17 + x))
    doy = pd.DatetimeIndex(stamps).day_of_year.to_numpy()[:, None, None]
    sky = 0.3 + 0.2 * np.sin(hour / 60 + y)
    sun = np.maximum(0, np.sin((solar % 24 - 6) / 12 * np.pi)) * np.pi * sky
    sw = sun * np.broadcast_to(potential_radiation(y, doy), sun.shape)
    rain = np.maximum(0, 0.7 * np.sin(hour / 11 + x / 3 + y / 5))
    return {"TA": ta, "TDEW": dew, "SW_IN": sw, "P": rain}


def expected(
    days: np.ndarray, lat: np.ndarray, lon: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """Local days (day, lat, lon) column by column, from the truth: an independent calculation."""
    columns = []
    for x, offset in zip(lon, offsets, strict=True):
        first = days[0].astype("M8[m]") + np.timedelta64(60, "m")  # end of the first local hour
        stamps = first + np.arange(24 * len(days)) * np.timedelta64(60, "m")
        utc = stamps - np.timedelta64(int(60 * np.floor(offset)), "m")
        hours = truth(utc, lat, np.array([x]))
        vpd = saturation_pressure(hours["TA"]) - saturation_pressure(hours["TDEW"])
        by_day = {n: v.reshape(len(days), 24, -1) for n, v in {**hours, "VPD": vpd}.items()}
        columns.append({
            "TA": by_day["TA"].mean(1), "TA_min": by_day["TA"].min(1),
            "TA_max": by_day["TA"].max(1), "VPD": by_day["VPD"].mean(1),
            "VPD_max": by_day["VPD"].max(1), "SW_IN": by_day["SW_IN"].mean(1),
            "PRCP": by_day["P"].sum(1),
        })  # fmt: skip
    return {name: np.stack([c[name] for c in columns], -1) for name in columns[0]}


def cds(
    first: str, hours: int, lat: np.ndarray, lon: np.ndarray, step: int = 1, land: bool = False
) -> xr.Dataset:
    """Make a download of the new CDS layout: valid_time, north first, K, J m-2 and m of the hour.

    ``land``: sums from 00 UTC, as ERA5-Land has them.
    """
    stamps = np.datetime64(first, "h") + np.arange(0, hours, step)
    lat = np.sort(lat)[::-1]
    our = truth(stamps, lat, (lon + 180) % 360 - 180)
    values = {"t2m": our["TA"] + 273.15, "d2m": our["TDEW"] + 273.15,
              "ssrd": our["SW_IN"] * 3600, "tp": our["P"] / 1000}  # fmt: skip
    axes = {
        "valid_time": ("valid_time", stamps.astype("M8[ns]"), {"standard_name": "time"}),
        "latitude": ("latitude", lat, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("longitude", lon, {"units": "degrees_east", "standard_name": "longitude"}),
        "number": 0, "expver": ("valid_time", np.full(len(stamps), "0001")),
    }  # fmt: skip
    if land:
        day = (stamps - 1).astype("M8[D]")
        for name in ("ssrd", "tp"):
            for one in np.unique(day):
                values[name][day == one] = values[name][day == one].cumsum(0)
    dims = ("valid_time", "latitude", "longitude")
    ds = xr.Dataset({n: (dims, v, {"units": UNITS[n]}) for n, v in values.items()}, axes)
    return ds.assign_attrs(Conventions="CF-1.7", institution="ECMWF")


def arco(ds: xr.Dataset) -> xr.Dataset:
    """Turn the download into the layout of ARCO-ERA5: long names, time, an axis beyond the data."""
    ds = ds.drop_vars(["number", "expver"]).rename(valid_time="time", **LONG)
    stamps = ds["time"].to_numpy()
    more = np.append(stamps, stamps[-1] + np.arange(1, 49) * np.timedelta64(1, "h"))
    last = str(stamps[-1])[:10]
    ds["100m_u_component_of_wind"] = ds["2m_temperature"] * 0
    ds = ds.reindex(time=more)
    ds["temperature"] = ds["2m_temperature"].expand_dims(level=[500, 1000]) - 10
    return ds.assign_attrs(valid_time_start=str(stamps[0])[:10], valid_time_stop=last)
