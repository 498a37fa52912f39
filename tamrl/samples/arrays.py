"""From towers to arrays ``[site, time, feature]``: drivers and labels with separate masks.

A missing label never costs a driver day, and a missing driver is a masked input, not a dropped row.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.physics import KELVIN, daylength, lloyd_taylor, potential_radiation
from tamrl.data.schema import DRIVERS, FLUXES, IGBP_CODES, KOPPEN_MAIN
from tamrl.errors import DataError
from tamrl.samples.site_attributes import SiteAttributes, gather

Array = NDArray[np.float32]

TRAIN_QC = 0.5  # smallest share of measured or good half-hours of a day that is trained on
SCORE_QC = 0.8  # smallest share of a day that is scored

DAILY = ("TA", "TA_min", "TA_max", "VPD", "VPD_max", "SW_IN")
SATELLITE = ("FPAR", "LAI", "NDWI", "LST_day", "LST_night", "SNOW", "PRCP", "PET", "SIF", "SM")
SEASONAL = ("FPAR", "LAI", "NDWI", "SIF")  # satellite variables whose mean season is an input too
PHENOLOGY = ("EVI", "EVI_anomaly", "EVI_amplitude")  # of `tamrl.samples.phenology`
PHENOLOGY_STATIC = ("EVI_mean", "EVI_range")
GRID_MONTHLY = ("EVI", "PRCP", "TA", "SW_IN")
GRID_STATIC = (
    "elevation", "awc", "sand", "clay", "soil_cn", "stand_age", "lma", "ndep", "fapar_mean",
)  # fmt: skip
FACTS = ("site", "lat", "lon", "igbp", "koppen", "koppen_main", "elevation")


@dataclass(frozen=True)
class Samples:
    """Everything a model sees, for all towers; missing drivers and labels are NaN.

    ``x`` (site, time, feature) drivers in their own units; ``static`` (site, static); ``y`` (site,
    time, flux) labels in gC m-2 d-1, fluxes in the order of ``targets``; ``weight`` (site, time) QC
    share of days trained on, else 0; ``scored`` (site, time) days that are scored; ``has_drivers``
    (site, time) days with the minimal drivers TA, VPD and SW_IN; ``process`` (site, time, 2)
    relative light-use and respiration scalars (`process_scalars`); ``table`` facts of the towers;
    ``maps`` (site, 12, variable, 9, 9) the grid's climatology around each tower, if asked for;
    ``places`` attributes of the sites from the grid (`SiteAttributes`), where there is one.
    """

    site: NDArray[np.str_]
    time: NDArray[np.datetime64]
    x: Array
    features: tuple[str, ...]
    static: Array
    static_names: tuple[str, ...]
    y: Array
    weight: Array
    scored: NDArray[np.bool_]
    has_drivers: NDArray[np.bool_]
    process: Array
    table: pd.DataFrame
    attrs: dict[str, object] = field(default_factory=dict)
    maps: Array | None = None
    places: SiteAttributes | None = None
    targets: tuple[str, ...] = FLUXES

    @cached_property
    def fingerprint(self) -> str:
        """Digest of drivers, labels and names: equal data give equal keys for cached results."""
        digest = hashlib.sha256(repr((self.features, self.static_names, list(self.site))).encode())
        for name in ("x", "static", "y", "weight", "scored", "process"):
            digest.update(np.ascontiguousarray(getattr(self, name)).tobytes())
        for name in () if self.places is None else ("x", "other_x", "other_y"):
            digest.update(np.ascontiguousarray(getattr(self.places, name)).tobytes())
        return digest.hexdigest()[:16]

    def select(self, towers: NDArray[np.intp], labelled: NDArray[np.bool_] | None = None) -> Self:
        """Take towers (indices) in that order; labels of the days ``labelled`` (tower, time)."""
        names = ("site", "x", "static", "y", "weight", "scored", "has_drivers", "process")
        part: dict[str, Any] = {name: getattr(self, name)[towers] for name in names}
        if labelled is not None:
            part["y"] = np.where(labelled[..., None], part["y"], np.float32(np.nan))
            part["weight"] = np.where(labelled, part["weight"], np.float32(0))
        if self.maps is not None:
            part["maps"] = self.maps[towers]
        if self.places is not None:
            part["places"] = replace(self.places, x=self.places.x[towers])
        return replace(self, table=self.table.iloc[towers].reset_index(drop=True), **part)

    def without(self, features: tuple[str, ...]) -> Self:
        """Return the same samples with the named drivers removed everywhere (set missing)."""
        x = self.x.copy()
        x[..., [self.features.index(f) for f in features]] = np.nan
        return replace(self, x=x)


def make_samples(
    towers: xr.Dataset, monthly: xr.Dataset | None = None, cube: xr.Dataset | None = None,
    targets: tuple[str, ...] = FLUXES, others: xr.Dataset | None = None,
    cells: xr.Dataset | None = None,
) -> Samples:  # fmt: skip
    """Build the arrays from daily towers, monthly satellite data and the grid cube.

    ``towers`` (site, time) are daily, real, virtual or a user's own; ``monthly`` (site, month) are
    satellite data, in which a tower may lack; ``cube`` (month, lat, lon) is the grid, sampled at
    the towers. ``targets`` are the variables of ``towers`` to predict: a day is scored with all of
    them; other targets than ``FLUXES`` are trained on wherever one of them is known. ``others`` are
    towers with annual fluxes alone (`tamrl.data.fetch_annual_towers`); ``cells`` the towers' values
    of ``cube``, if known. Features are the same
    whatever is missing, so that one model fits all.
    """
    towers = towers.transpose("site", "time")
    time = towers.time.values.astype("datetime64[D]")
    lat = towers.lat.values.astype(float)
    raw = {n: towers[n].values for n in (*DAILY, *targets, "NEE_QC") if n in towers}
    empty = np.full((len(lat), len(time)), np.nan, np.float32)
    has_drivers = np.logical_and.reduce([np.isfinite(raw.get(n, empty)) for n in DRIVERS])
    sat = xr.Dataset() if monthly is None else monthly.reindex(site=towers.site.values)
    if cube is not None and cells is None:
        cells = grid_at(cube, lat, towers.lon.values)
    names = [*(f"{n}_season" for n in SEASONAL), *(f"{n}_grid" for n in GRID_MONTHLY)]
    blank = np.full((len(lat), 12), np.nan)
    season = dict.fromkeys(names, blank)
    for n in (name for name in SEASONAL if name in sat):
        mean = sat[n].groupby("month.month").mean().reindex(month=np.arange(1, 13))
        season[f"{n}_season"] = mean.transpose("site", "month").values
    if cells is not None:
        season |= {f"{n}_grid": cells[n].transpose("site", "month").values for n in GRID_MONTHLY}
    month = time.astype("datetime64[M]").astype(int) % 12
    daily_season = [n for n in season if n.endswith(("_season", "EVI_grid", "PRCP_grid"))]
    features = (*DAILY, "SW_POT", "DAYLENGTH", *SATELLITE, *daily_season)
    between = between_months(sat.month.values, time) if sat else ()
    doy = (time - time.astype("datetime64[Y]")).astype(int) + 1

    x = np.full((*empty.shape, len(features)), np.nan, np.float32)
    driver_season = {n: blank.copy() for n in DRIVERS}
    for i, on in enumerate(has_drivers):  # only a tower's own days are filled: a quarter of all
        if not on.any():
            continue
        span = slice(*(np.flatnonzero(on)[[0, -1]] + [0, 1]))
        columns = [raw[n][i, span] if n in raw else empty[i, span] for n in DAILY]
        columns += [potential_radiation(lat[i], doy[span]), daylength(lat[i], doy[span])]
        for n in SATELLITE:
            at = [b[span] for b in between]
            columns.append(interpolate(sat[n].values[i], *at) if n in sat else empty[i, span])
        columns += [season_to_daily(season[n][i], doy[span]) for n in daily_season]
        x[i, span] = np.stack(columns, -1)
        for n in DRIVERS:
            driver_season[n][i] = month_means(raw[n][i, span], month[span])

    static: dict[str, NDArray] = {}
    for n, v in {**season, **driver_season}.items():
        static[f"{n}_mean"], static[f"{n}_range"] = mean_and_range(v)
    none = np.full(len(lat), np.nan)
    static |= {f"{n}_grid": none if cells is None else cells[n].values for n in GRID_STATIC}
    static["elevation"] = towers.elevation.values if "elevation" in towers.coords else none
    static["abs_lat"] = np.abs(lat)
    static |= {f"igbp_{code}": towers.igbp.values == code for code in IGBP_CODES}
    static |= {f"koppen_{main}": towers.koppen_main.values == main for main in KOPPEN_MAIN.values()}

    table = pd.DataFrame({n: towers[n].values for n in FACTS if n in towers.coords})
    y = np.stack([raw.get(f, empty) for f in targets], -1).astype(np.float32)
    every, qc = np.isfinite(y).all(-1), raw.get("NEE_QC", empty)
    usable = has_drivers & (every if targets == FLUXES else np.isfinite(y).any(-1))
    return Samples(
        site=towers.site.values.astype(str), time=time, x=x, features=features, y=y,
        static=np.stack([np.asarray(v, np.float32) for v in static.values()], -1),
        static_names=tuple(static), table=table, targets=targets, has_drivers=has_drivers,
        weight=np.where(usable & (qc >= TRAIN_QC), qc, 0).astype(np.float32),
        scored=usable & every & (qc >= SCORE_QC),
        process=process_scalars(*(x[..., features.index(n)] for n in DRIVERS)),
        attrs={k: _plain(v) for k, v in towers.attrs.items() if k in ("virtual", "tower_source")},
        places=None if cube is None else gather(table, cube, others, cells),
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """Give a number of a file's attributes as Python's own, which weights can carry."""
    return value.item() if isinstance(value, np.generic) else value


def between_months(month: NDArray, time: NDArray) -> tuple[NDArray, NDArray, Array]:
    """Months before and after each day, by mid-month, and the later one's weight; NaN outside."""
    centre = month.astype("datetime64[D]") + np.timedelta64(14, "D")
    right = np.searchsorted(centre, time)
    left = np.clip(right - 1, 0, len(centre) - 1)
    right = np.clip(right, 0, len(centre) - 1)
    gap = np.maximum((centre[right] - centre[left]).astype(int), 1)
    w = np.clip((time - centre[left]).astype(int) / gap, 0, 1).astype(np.float32)
    w[(time < month[0]) | (time > centre[-1] + np.timedelta64(16, "D"))] = np.nan
    return left, right, w


def interpolate(values: Array, left: NDArray, right: NDArray, w: Array) -> Array:
    """Interpolate a monthly series to days; beside a missing month only the near half is filled."""
    a, b = values[left], values[right]
    near = np.where(w < 0.5, a, b)
    return np.where(np.isfinite(w), np.where(np.isfinite(a + b), a + (b - a) * w, near), np.nan)


def month_means(values: Array, month: NDArray) -> NDArray:
    """Mean season (12,) of a daily series; NaN for a calendar month without a value."""
    ok = np.isfinite(values)
    n, total = np.bincount(month[ok], minlength=12), np.bincount(month[ok], values[ok], 12)
    return np.divide(total, n, out=np.full(12, np.nan), where=n > 0)


def mean_and_range(season: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and range (site,) of seasons (site, 12) with at least half of their months."""
    ok = np.isfinite(season)
    known = np.where(ok.sum(1) >= 6, ok.sum(1), np.nan)  # months of a season that has enough
    mean = np.where(ok, season, 0).sum(1) / known
    span = np.where(ok, season, -np.inf).max(1) - np.where(ok, season, np.inf).min(1)
    return mean, np.where(np.isfinite(known), span, np.nan)


def season_to_daily(season: NDArray, doy: NDArray) -> NDArray[np.float64]:
    """Interpolate cyclic seasons (…, 12) of monthly means between mid-months to days (…, day)."""
    position = (doy - 1) / 365.25 * 12 - 0.5
    left = np.floor(position).astype(int)
    w = position - left  # np.interp differs in the last bit, and so would the samples' fingerprint
    return np.asarray(season[..., left % 12] * (1 - w) + season[..., (left + 1) % 12] * w)


def process_scalars(ta: Any, vpd: Any, sw_in: Any, xp: Any = np) -> Any:
    """Relative potential of light use and respiration, (…, 2), both about 1 on a mild sunny day.

    Light: absorbed-light saturation sw / (sw + 150 W m-2) x temperature ramp x VPD decay, the form
    of a light-use-efficiency model (Monteith 1972, doi 10.2307/2401901; Running et al. 2004,
    doi 10.1641/0006-3568(2004)054[0547:ACSMOG]2.0.CO;2). Respiration: Lloyd & Taylor (1994,
    doi 10.2307/2389824), relative to 15 degC. Missing where a driver is missing.
    ``xp`` is the library of the arrays: numpy, or torch where gradients are wanted.

    >>> mild_day = process_scalars(np.array(15.0), np.array(8.0), np.array(150.0))
    >>> mild_night = process_scalars(np.array(15.0), np.array(8.0), np.array(0.0))
    >>> mild_day.round(2).tolist(), mild_night.round(2).tolist()
    ([0.95, 1.0], [0.0, 1.0])
    """
    light = 2 * sw_in / (sw_in + 150.0)
    warm = 1 / (1 + xp.exp(-(ta - 6.0) / 3.0)) * 0.97 + 0.03
    humid = xp.exp(-xp.clip(vpd - 8.0, 0, None) / 25.0)
    reco = lloyd_taylor(xp.clip(ta, -30, 45) + KELVIN, xp=xp)
    return xp.stack((light * warm * humid, xp.clip(reco, 0.05, None)), -1)  # noqa: PD013


def require_same(names: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Raise DataError, which says ``what`` is wrong and which names differ, unless they agree."""
    given, wanted = tuple(names), tuple(expected)
    if given != wanted:
        other = sorted(set(given) ^ set(wanted))
        raise DataError(f"{what} {other or 'their order'}")


def windows(days: NDArray[np.bool_], length: int, stride: int) -> NDArray[np.intp]:
    """Windows (tower, start) of ``length`` days that hold a day of ``days`` (site, time)."""
    parts = []
    for tower, row in enumerate(days):
        on = np.flatnonzero(row)
        if on.size:
            start = np.arange(on[0], row.size, stride)
            cum = np.concatenate([[0], np.cumsum(row)])
            stop = np.minimum(start + length, row.size)
            start = start[cum[stop] > cum[start]]
            parts.append(np.stack([np.full_like(start, tower), start], 1))
    return np.concatenate(parts) if parts else np.empty((0, 2), np.intp)
