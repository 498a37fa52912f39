"""From towers to arrays: drivers and labels with separate masks, scaling, windows.

One resident array per kind, indexed ``[site, time, feature]``. A missing label never costs a
driver day, and a missing driver is a masked input, not a dropped row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.schema import FLUXES, IGBP_CODES
from tamrl.data.solar import daylength, potential_radiation
from tamrl.samples.site_attributes import SiteAttributes, gather

Array = NDArray[np.float32]

TRAIN_QC = 0.5  # smallest share of measured or good half-hours of a day that is trained on
SCORE_QC = 0.8  # smallest share of a day that is scored

DAILY = ("TA", "TA_min", "TA_max", "VPD", "VPD_max", "SW_IN")
SATELLITE = ("FPAR", "LAI", "NDWI", "LST_day", "LST_night", "SNOW", "PRCP", "PET", "SIF", "SM")
SEASONAL = ("FPAR", "LAI", "NDWI", "SIF")  # satellite variables whose mean season is an input too
GRID_MONTHLY = ("EVI", "PRCP", "TA", "SW_IN")
GRID_STATIC = (
    "elevation",
    "awc",
    "sand",
    "clay",
    "soil_cn",
    "stand_age",
    "lma",
    "ndep",
    "fapar_mean",
)
KOPPEN_MAIN = ("Tropical", "Arid", "Temperate", "Cold", "Polar")
BY_SITE = ("site", "x", "static", "y", "weight", "scored", "has_drivers", "process", "maps")
FACTS = ("site", "lat", "lon", "igbp", "koppen", "koppen_main", "elevation")


@dataclass(frozen=True)
class Samples:
    """Everything a model sees, for all towers; missing drivers and labels are NaN.

    ``x`` (site, time, feature) drivers in their own units; ``static`` (site, static);
    ``y`` (site, time, flux) labels in gC m-2 d-1, fluxes in the order of ``targets``;
    ``weight`` (site, time) QC share of days trained on, else 0; ``scored`` (site, time) days scored;
    ``has_drivers`` (site, time) days with the minimal drivers TA, VPD and SW_IN;
    ``maps`` (site, 12, variable, 9, 9) the grid's climatology around each tower, if asked for;
    ``places`` what the grid knows of the towers (`tamrl.samples.site_attributes`), where there is one;
    ``process`` (site, time, 2) relative light-use and respiration factors (see `process_scalars`).
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
        for a in (self.x, self.static, self.y, self.weight, self.scored, self.process):
            digest.update(np.ascontiguousarray(a).tobytes())
        if self.places is not None:
            for known in (self.places.x, self.places.other_x, self.places.other_y):
                digest.update(np.ascontiguousarray(known).tobytes())
        return digest.hexdigest()[:16]

    def without(self, features: tuple[str, ...]) -> Samples:
        """Return the same samples with the named drivers removed everywhere (set missing)."""
        x = self.x.copy()
        x[..., [self.features.index(f) for f in features]] = np.nan
        return replace(self, x=x)

    def select(self, sites: NDArray, labelled: NDArray[np.bool_] | None = None) -> Samples:
        """Return the samples of some towers (indices), in that order.

        ``labelled`` (site, time): of their labels only these are left.
        """
        rows: dict[str, Any] = {
            name: None if (array := getattr(self, name)) is None else array[sites]
            for name in BY_SITE
        }
        if self.places is not None:
            rows["places"] = replace(self.places, x=self.places.x[sites])
        if labelled is not None:
            rows["y"] = np.where(labelled[..., None], rows["y"], np.float32(np.nan))
            rows["weight"] = np.where(labelled, rows["weight"], np.float32(0))
        return replace(self, table=self.table.iloc[sites].reset_index(drop=True), **rows)


def make_samples(
    towers: xr.Dataset,
    monthly: xr.Dataset | None = None,
    cube: xr.Dataset | None = None,
    targets: tuple[str, ...] = FLUXES,
    others: xr.Dataset | None = None,
) -> Samples:
    """Build the resident arrays from daily towers, monthly satellite data and the grid cube.

    Parameters
    ----------
    towers
        Daily Dataset (site, time), real, virtual or a user's own.
    monthly
        Monthly Dataset (site, month); towers without a row get missing values.
    cube
        Grid cube (month, lat, lon) sampled at the towers, so that its variables mean the same at a
        tower and on the map.
    targets
        Variables of ``towers`` to predict, in the order of the outputs. A day is scored with all of
        them; other targets than ``FLUXES`` are trained on wherever one of them is known.
    others
        SiteAttributes of which annual fluxes alone are known (`tamrl.data.fetch_annual_towers`).

    Returns
    -------
    Samples with the same features whatever is missing, so that one model fits all.
    """
    towers = towers.transpose("site", "time")
    time = towers.time.values.astype("datetime64[D]")
    lat = towers.lat.values.astype(float)
    raw = {n: towers[n].values for n in (*DAILY, *targets, "NEE_QC") if n in towers}
    empty = np.full((towers.sizes["site"], len(time)), np.nan, np.float32)
    has_drivers = np.logical_and.reduce(
        [np.isfinite(raw.get(n, empty)) for n in ("TA", "VPD", "SW_IN")]
    )
    season, month = _seasons(towers, monthly, cube), time.astype("datetime64[M]").astype(int) % 12
    daily_season = [n for n in season if n.endswith(("_season", "EVI_grid", "PRCP_grid"))]
    features = (*DAILY, "SW_POT", "DAYLENGTH", *SATELLITE, *daily_season)
    sat = None if monthly is None else monthly.reindex(site=towers.site.values)
    between = None if sat is None else _between_months(sat.month.values, time)
    doy = (time - time.astype("datetime64[Y]")).astype(int) + 1

    x = np.full((*empty.shape, len(features)), np.nan, np.float32)
    own = {n: np.full((len(lat), 12), np.nan) for n in ("TA", "VPD", "SW_IN")}
    for i, on in enumerate(has_drivers):  # only a tower's own days are filled: a quarter of all
        if not on.any():
            continue
        span = slice(*(np.flatnonzero(on)[[0, -1]] + [0, 1]))
        columns = [raw[n][i, span] if n in raw else empty[i, span] for n in DAILY]
        columns += [potential_radiation(lat[i], doy[span]), daylength(lat[i], doy[span])]
        for n in SATELLITE:
            if sat is None or between is None or n not in sat:
                columns.append(empty[i, span])
            else:
                columns.append(_interpolate(sat[n].values[i], *(b[span] for b in between)))
        columns += [_season_to_daily(season[n][i], doy[span]) for n in daily_season]
        x[i, span] = np.stack(columns, -1)
        for n in own:
            own[n][i] = _month_means(raw[n][i, span], month[span])

    place = {}
    for n, v in {**season, **own}.items():
        place[f"{n}_mean"], place[f"{n}_range"] = _mean_and_range(v)
    place |= _grid_statics(towers, cube)
    place["elevation"] = towers.elevation.values if "elevation" in towers.coords else empty[:, 0]
    place["abs_lat"] = np.abs(lat)
    place |= {f"igbp_{code}": towers.igbp.values == code for code in IGBP_CODES}
    place |= {f"koppen_{main}": towers.koppen_main.values == main for main in KOPPEN_MAIN}

    table = pd.DataFrame({n: towers[n].values for n in FACTS if n in towers.coords})
    y = np.stack([raw.get(f, empty) for f in targets], -1).astype(np.float32)
    some, every = np.isfinite(y).any(-1), np.isfinite(y).all(-1)
    usable = has_drivers & (every if targets == FLUXES else some)
    qc = raw.get("NEE_QC", empty)
    return Samples(
        site=towers.site.values.astype(str),
        time=time,
        x=x,
        features=features,
        static=np.stack([np.asarray(v, np.float32) for v in place.values()], -1),
        static_names=tuple(place),
        y=y,
        weight=np.where(usable & (qc >= TRAIN_QC), qc, 0).astype(np.float32),
        scored=usable & every & (qc >= SCORE_QC),
        has_drivers=has_drivers,
        process=process_scalars(*(x[..., features.index(n)] for n in ("TA", "VPD", "SW_IN"))),
        table=table,
        attrs={k: towers.attrs[k] for k in ("virtual", "tower_source") if k in towers.attrs},
        places=None if cube is None else gather(table, cube, others),
        targets=targets,
    )


def _seasons(
    towers: xr.Dataset, monthly: xr.Dataset | None, cube: xr.Dataset | None
) -> dict[str, NDArray]:
    """Mean seasons (site, 12) from satellites at the tower and from the grid; NaN where unknown."""
    unknown = np.full((towers.sizes["site"], 12), np.nan)
    out = {}
    sat = None if monthly is None else monthly.reindex(site=towers.site.values)
    for name in SEASONAL:
        out[f"{name}_season"] = unknown
        if sat is not None and name in sat:
            season = sat[name].groupby("month.month").mean().reindex(month=np.arange(1, 13))
            out[f"{name}_season"] = season.transpose("site", "month").values
    at = None if cube is None else grid_at(cube, towers.lat.values, towers.lon.values)
    for name in GRID_MONTHLY:
        values = unknown if at is None else at[name].transpose("site", "month").values
        out[f"{name}_grid"] = values
    return out


def _grid_statics(towers: xr.Dataset, cube: xr.Dataset | None) -> dict[str, NDArray]:
    """Soil, vegetation and terrain of the tower's grid cell (site,)."""
    if cube is None:
        return {f"{n}_grid": np.full(towers.sizes["site"], np.nan) for n in GRID_STATIC}
    at = grid_at(cube, towers.lat.values, towers.lon.values)
    return {f"{n}_grid": at[n].values for n in GRID_STATIC}


def process_scalars(ta: Any, vpd: Any, sw_in: Any, xp: Any = np) -> Any:
    """Relative potential of light use and respiration, (…, 2), both about 1 on a mild sunny day.

    Light: absorbed-light saturation sw / (sw + 150 W m-2) x temperature ramp x VPD decay, the form
    of a light-use-efficiency model (Monteith 1972, doi 10.2307/2401901; Running et al. 2004,
    doi 10.1641/0006-3568(2004)054[0547:ACSMOG]2.0.CO;2). Respiration: Lloyd & Taylor (1994,
    doi 10.2307/2389824), relative to 15 degC. Missing where a driver is missing.
    ``xp`` is the library of the arrays: numpy, or torch where gradients are wanted.

    Examples
    --------
    A mild sunny day, and a night at the same temperature: no light, and respiration as by day.

    >>> day = process_scalars(np.array(15.0), np.array(8.0), np.array(150.0))
    >>> night = process_scalars(np.array(15.0), np.array(8.0), np.array(0.0))
    >>> day.round(2).tolist(), night.round(2).tolist()
    ([0.95, 1.0], [0.0, 1.0])
    """
    light = 2 * sw_in / (sw_in + 150.0)
    warm = 1 / (1 + xp.exp(-(ta - 6.0) / 3.0)) * 0.97 + 0.03
    humid = xp.exp(-xp.clip(vpd - 8.0, 0, None) / 25.0)
    t = xp.clip(ta, -30, 45) + 273.15
    reco = xp.exp(308.56 * (1 / (288.15 - 227.13) - 1 / (t - 227.13)))
    return xp.stack((light * warm * humid, xp.clip(reco, 0.05, None)), -1)  # noqa: PD013


def _between_months(month: NDArray, time: NDArray) -> tuple[NDArray, NDArray, Array]:
    """For each day the months before and after, by mid-month, and the weight of the later one.

    Outside the months on record the weight is NaN.
    """
    centre = month.astype("datetime64[D]") + np.timedelta64(14, "D")
    right = np.searchsorted(centre, time)
    left = np.clip(right - 1, 0, len(centre) - 1)
    right = np.clip(right, 0, len(centre) - 1)
    gap = np.maximum((centre[right] - centre[left]).astype(int), 1)
    w = np.clip((time - centre[left]).astype(int) / gap, 0, 1).astype(np.float32)
    w[(time < month[0]) | (time > centre[-1] + np.timedelta64(16, "D"))] = np.nan
    return left, right, w


def _interpolate(values: Array, left: NDArray, right: NDArray, w: Array) -> Array:
    """Interpolate a monthly series to days; beside a missing month only its own half is filled."""
    a, b = values[left], values[right]
    near = np.where(w < 0.5, a, b)
    return np.where(np.isfinite(w), np.where(np.isfinite(a + b), a + (b - a) * w, near), np.nan)


def _month_means(values: Array, month: NDArray) -> NDArray:
    """Mean season (12,) of a daily series; NaN for a calendar month without a value."""
    ok = np.isfinite(values)
    n = np.bincount(month[ok], minlength=12)
    total = np.bincount(month[ok], values[ok], 12)
    return np.divide(total, n, out=np.full(12, np.nan), where=n > 0)


def _mean_and_range(season: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and range (site,) of seasons (site, 12) with at least half of their months."""
    ok = np.isfinite(season)
    known = ok.sum(1) >= 6
    mean = np.where(ok, season, 0).sum(1) / np.maximum(ok.sum(1), 1)
    span = np.where(ok, season, -np.inf).max(1) - np.where(ok, season, np.inf).min(1)
    return np.where(known, mean, np.nan), np.where(known, span, np.nan)


def _season_to_daily(season: NDArray, doy: NDArray) -> Array:
    """Interpolate a cyclic season (12,) to days of the year."""
    position = (doy - 1) / 365.25 * 12 - 0.5
    left = np.floor(position).astype(int)
    w = position - left
    return season[left % 12] * (1 - w) + season[(left + 1) % 12] * w


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of drivers, statics and fluxes over training towers only."""

    x_mean: Array
    x_sd: Array
    s_mean: Array
    s_sd: Array
    y_mean: Array
    y_sd: Array

    @classmethod
    def fit(cls, samples: Samples, towers: NDArray[np.intp]) -> Scaler:
        """Fit on the given towers; a feature that is constant or absent there gets sd 1."""
        x = samples.x[towers][samples.has_drivers[towers]]
        y = samples.y[towers][samples.weight[towers] > 0]
        x_mean, x_sd = _moments(x)
        s_mean, s_sd = _moments(samples.static[towers])
        y_mean, y_sd = _moments(y)
        return cls(x_mean, x_sd, s_mean, s_sd, y_mean, y_sd)

    def drivers(self, x: Array) -> Array:
        """Scale drivers (…, feature), clipped to 8 sd; missing stays NaN."""
        return np.clip((x - self.x_mean) / self.x_sd, -8, 8)

    def statics(self, s: Array) -> Array:
        """Scale statics (site, static), clipped to 5 sd, missing -> 0 (the training mean)."""
        return np.nan_to_num(np.clip((s - self.s_mean) / self.s_sd, -5, 5))


def _moments(a: Array) -> tuple[Array, Array]:
    """Column means and sds ignoring NaN; (0, 1) for a column without values or spread."""
    ok = np.isfinite(a)
    n = np.maximum(ok.sum(0), 1)
    mean = np.where(ok, a, 0).sum(0, dtype=np.float64) / n
    sd = np.sqrt(np.where(ok, (a - mean) ** 2, 0).sum(0, dtype=np.float64) / n)
    return mean.astype(np.float32), np.where(sd > 1e-6, sd, 1).astype(np.float32)


def windows(days: NDArray[np.bool_], length: int, stride: int) -> NDArray[np.intp]:
    """Index windows (tower, start) of ``length`` days that hold a day of ``days`` (site, time).

    Windows step by ``stride`` from each tower's first such day; a window without one is left out.
    """
    found = []
    for tower, row in enumerate(days):
        on = np.flatnonzero(row)
        if on.size:
            start = np.arange(on[0], on[-1] + 1, stride)
            cum = np.concatenate([[0], np.cumsum(row)])
            stop = np.minimum(start + length, row.size)
            start = start[cum[stop] > cum[start]]
            found.append(np.stack([np.full_like(start, tower), start], 1))
    return np.concatenate(found) if found else np.empty((0, 2), np.intp)
