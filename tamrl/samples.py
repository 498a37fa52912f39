"""From towers to arrays: drivers and labels with separate masks, scaling, windows, splits.

One resident array per kind, indexed ``[site, time, feature]``. A missing label never costs a
driver day, and a missing driver is a masked input, not a dropped row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.metrics.pairwise import haversine_distances

from tamrl.data.grid import grid_at
from tamrl.data.schema import FLUXES, IGBP_CODES
from tamrl.data.solar import daylength, potential_radiation

Array = NDArray[np.float32]

TRAIN_QC = 0.5  # smallest share of measured or good half-hours of a day that is trained on
SCORE_QC = 0.8  # smallest share of a day that is scored
EARTH_RADIUS_KM = 6371.0

DAILY = ("TA", "TA_min", "TA_max", "VPD", "VPD_max", "SW_IN")
SATELLITE = ("FPAR", "LAI", "NDWI", "LST_day", "LST_night", "SNOW", "PRCP", "PET", "SIF", "SM")
SEASONAL = ("FPAR", "LAI", "NDWI", "SIF")  # satellite variables whose mean season is an input too
GRID_MONTHLY = ("EVI", "PRCP", "TA", "SW_IN")
GRID_STATIC = (
    "elevation awc sand clay soil_cn stand_age lma ndep fapar_mean".split()  # fmt: skip
)
KOPPEN_MAIN = ("Tropical", "Arid", "Temperate", "Cold", "Polar")
FLUX_IN_TABLE = ("site", "lat", "lon", "igbp", "koppen", "koppen_main", "elevation")


@dataclass(frozen=True)
class Samples:
    """Everything a model sees, for all towers; missing drivers and labels are NaN.

    ``x`` (site, time, feature) drivers in their own units; ``static`` (site, static);
    ``y`` (site, time, flux) labels in gC m-2 d-1, fluxes in the order of ``FLUXES``;
    ``weight`` (site, time) QC share of days trained on, else 0; ``score`` (site, time) days scored;
    ``active`` (site, time) days with the minimal drivers TA, VPD and SW_IN;
    ``process`` (site, time, 2) relative light-use and respiration factors (see `process_factors`).
    """

    site: NDArray[np.str_]
    time: NDArray[np.datetime64]
    x: Array
    features: tuple[str, ...]
    static: Array
    static_names: tuple[str, ...]
    y: Array
    weight: Array
    score: NDArray[np.bool_]
    active: NDArray[np.bool_]
    process: Array
    table: pd.DataFrame
    attrs: dict[str, object] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Digest of drivers, labels and names: equal data give equal keys for cached results."""
        digest = hashlib.sha256(repr((self.features, self.static_names, list(self.site))).encode())
        for a in (self.x, self.static, self.y, self.weight, self.score, self.process):
            digest.update(np.ascontiguousarray(a).tobytes())
        return digest.hexdigest()[:16]

    def without(self, features: tuple[str, ...]) -> Samples:
        """Return the same samples with the named drivers removed everywhere (set missing)."""
        x = self.x.copy()
        x[..., [self.features.index(f) for f in features]] = np.nan
        return replace(self, x=x)


def make_samples(
    towers: xr.Dataset, monthly: xr.Dataset | None = None, cube: xr.Dataset | None = None
) -> Samples:
    """Build the resident arrays from daily towers, monthly satellite data and the grid cube.

    Parameters
    ----------
    towers : daily Dataset (site, time) as from ``fetch_towers``, ``open_towers``, ``virtual_towers``.
    monthly : monthly Dataset (site, month); towers without a row get missing values.
    cube : grid cube (month, lat, lon) sampled at the towers, so that its variables mean the same
        at a tower and on the map.

    Returns
    -------
    Samples with the same features whatever is missing, so that one model fits all.
    """
    towers = towers.transpose("site", "time")
    time = towers.time.values.astype("datetime64[D]")
    shape = (towers.sizes["site"], towers.sizes["time"])
    missing = np.full(shape, np.nan, np.float32)
    lat = towers.lat.values.astype(float)
    doy = (time - time.astype("datetime64[Y]")).astype(int) + 1

    x = {name: towers[name].values.astype(np.float32) if name in towers else missing for name in DAILY}
    x["SW_POT"] = potential_radiation(lat[:, None], doy[None]).astype(np.float32)
    x["DAYLENGTH"] = daylength(lat[:, None], doy[None]).astype(np.float32)
    place: dict[str, NDArray[np.floating]] = {}

    sat = None if monthly is None else monthly.reindex(site=towers.site.values)
    for name in SATELLITE:
        have = sat is not None and name in sat
        x[name] = _monthly_to_daily(sat.month.values, sat[name].values, time) if have else missing
        season = _season(sat, name) if have else np.full((shape[0], 12), np.nan)
        if name in SEASONAL:
            x[f"{name}_season"] = _season_to_daily(season, time)
        if name in (*SEASONAL, "PRCP", "PET"):
            place[f"{name}_mean"] = season.mean(1)
            place[f"{name}_range"] = np.ptp(season, 1)

    at = None if cube is None else grid_at(cube, lat, towers.lon.values.astype(float))
    for name in GRID_MONTHLY:
        season = np.full((shape[0], 12), np.nan) if at is None else at[name].transpose("site", "month").values
        if name in ("EVI", "PRCP"):
            x[f"{name}_grid"] = _season_to_daily(season, time)
        place[f"{name}_grid_mean"] = season.mean(1)
        place[f"{name}_grid_range"] = np.ptp(season, 1)
    for name in GRID_STATIC:
        place[f"{name}_grid"] = np.full(shape[0], np.nan) if at is None else at[name].values
    for name in ("TA", "VPD", "SW_IN"):
        season = _tower_season(x[name], time)
        place[f"{name}_mean"], place[f"{name}_range"] = season.mean(1), np.ptp(season, 1)
    place["elevation"] = towers.elevation.values if "elevation" in towers.coords else missing[:, 0]
    place["abs_lat"] = np.abs(lat)
    for code in IGBP_CODES:
        place[f"igbp_{code}"] = (towers.igbp.values == code).astype(float)
    for main in KOPPEN_MAIN:
        place[f"koppen_{main}"] = (towers.koppen_main.values == main).astype(float)

    y = np.stack([towers[f].values if f in towers else missing for f in FLUXES], -1).astype(np.float32)
    qc = towers["NEE_QC"].values if "NEE_QC" in towers else missing
    labelled = np.isfinite(y).all(-1)
    active = np.isfinite(x["TA"]) & np.isfinite(x["VPD"]) & np.isfinite(x["SW_IN"])
    usable = labelled & active
    table = pd.DataFrame({n: towers[n].values for n in FLUX_IN_TABLE if n in towers.coords})
    return Samples(
        site=towers.site.values.astype(str),
        time=time,
        x=np.stack([x[n] for n in x], -1),
        features=tuple(x),
        static=np.stack([place[n] for n in place], -1).astype(np.float32),
        static_names=tuple(place),
        y=y,
        weight=np.where(usable & (qc >= TRAIN_QC), qc, 0).astype(np.float32),
        score=usable & (qc >= SCORE_QC),
        active=active,
        process=process_factors(x["TA"], x["VPD"], x["SW_IN"]),
        table=table,
        attrs={k: towers.attrs[k] for k in ("virtual", "tower_source") if k in towers.attrs},
    )


def process_factors(ta: Array, vpd: Array, sw_in: Array) -> Array:
    """Relative potential of light use and respiration, (…, 2), both about 1 on a mild sunny day.

    Light: absorbed-light saturation sw / (sw + 150 W m-2) x temperature ramp x VPD decay, the form
    of a light-use-efficiency model (Monteith 1972, doi 10.2307/2401901; Running et al. 2004,
    doi 10.1641/0006-3568(2004)054[0547:ACSMOG]2.0.CO;2). Respiration: Lloyd & Taylor (1994,
    doi 10.2307/2389824), relative to 15 degC. Missing where a driver is missing.
    """
    light = 2 * sw_in / (sw_in + 150.0)
    warm = 1 / (1 + np.exp(-(ta - 6.0) / 3.0)) * 0.97 + 0.03
    humid = np.exp(-np.clip(vpd - 8.0, 0, None) / 25.0)
    t = np.clip(ta, -30, 45) + 273.15
    reco = np.exp(308.56 * (1 / (288.15 - 227.13) - 1 / (t - 227.13)))
    return np.stack([light * warm * humid, np.clip(reco, 0.05, None)], -1).astype(np.float32)


def _monthly_to_daily(month: NDArray, values: Array, time: NDArray) -> Array:
    """Interpolate (site, month) to (site, time) between mid-months; never across a missing month."""
    centre = month.astype("datetime64[D]") + np.timedelta64(14, "D")
    right = np.searchsorted(centre, time)
    left = np.clip(right - 1, 0, len(centre) - 1)
    right = np.clip(right, 0, len(centre) - 1)
    gap = np.maximum((centre[right] - centre[left]).astype(int), 1)
    w = np.clip((time - centre[left]).astype(int) / gap, 0, 1)
    a, b = values[:, left], values[:, right]
    near = np.where(w < 0.5, a, b)  # beside a gap: the value of the day's own half-month
    outside = (time < month[0]) | (time > centre[-1] + np.timedelta64(16, "D"))
    daily = np.where(np.isfinite(a) & np.isfinite(b), a * (1 - w) + b * w, near)
    return np.where(outside, np.nan, daily).astype(np.float32)


def _season(monthly: xr.Dataset, name: str) -> NDArray:
    """Mean season (site, 12) of a monthly variable; NaN where a calendar month never has a value."""
    season = monthly[name].groupby("month.month").mean()
    return season.reindex(month=np.arange(1, 13)).transpose("site", "month").values


def _tower_season(values: Array, time: NDArray) -> NDArray:
    """Mean season (site, 12) of a daily variable."""
    month = time.astype("datetime64[M]").astype(int) % 12
    frame = pd.DataFrame(values.T).groupby(month).mean().reindex(range(12))
    return frame.to_numpy().T


def _season_to_daily(season: NDArray, time: NDArray) -> Array:
    """Interpolate a cyclic season (site, 12) to (site, time)."""
    year = time.astype("datetime64[Y]")
    doy = (time - year).astype(int)
    position = doy / 365.25 * 12 - 0.5
    left = np.floor(position).astype(int)
    w = position - left
    return (season[:, left % 12] * (1 - w) + season[:, (left + 1) % 12] * w).astype(np.float32)


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
        x = samples.x[towers][samples.active[towers]]
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


@dataclass(frozen=True)
class Fold:
    """Towers to train on, to stop early on, and to test on (indices into ``Samples.site``)."""

    name: str
    train: NDArray[np.intp]
    valid: NDArray[np.intp]
    test: NDArray[np.intp]


def distance_km(lat: NDArray, lon: NDArray) -> NDArray:
    """Great-circle distances (site, site) in km."""
    points = np.radians(np.stack([lat, lon], 1).astype(float))
    return haversine_distances(points) * EARTH_RADIUS_KM


def blocks(table: pd.DataFrame, buffer_km: float = 50.0) -> NDArray[np.intp]:
    """Label towers (site,) so that two towers within ``buffer_km`` always share a block."""
    near = distance_km(table.lat.to_numpy(), table.lon.to_numpy()) <= buffer_km
    return np.asarray(connected_components(near, directed=False)[1], np.intp)


def _deal(block: NDArray, stratum: NDArray, k: int, seed: int) -> NDArray[np.intp]:
    """Deal blocks to k folds, largest first, each to the fold poorest in its stratum, then in towers."""
    rng = np.random.default_rng(seed)
    labels, size = np.unique(block, return_counts=True)
    order = rng.permutation(len(labels))
    order = order[np.argsort(-size[order], kind="stable")]
    strata = {s: i for i, s in enumerate(sorted(set(stratum)))}
    count = np.zeros((len(strata), k))
    fold = np.empty(len(block), np.intp)
    for b in labels[order]:
        members = np.flatnonzero(block == b)
        rows = [strata[stratum[m]] for m in members]
        cost = count[rows].sum(0) + 0.01 * count.sum(0)
        best = int(np.argmin(cost))
        fold[members] = best
        np.add.at(count, (rows, best), 1)
    return fold


def folds(
    samples: Samples, k: int = 10, scheme: str = "blocked", seed: int = 0, buffer_km: float = 50.0
) -> list[Fold]:
    """Split towers so that no test tower lies within ``buffer_km`` of a training tower.

    ``blocked``: k folds, strata by IGBP. ``koppen``: the same, strata by climate.
    ``biome``: one fold per IGBP class, which is absent from training and validation.
    The result depends on the towers' codes and places and the seed, not on their order.
    The early-stopping towers are whole blocks, about one in eight of the rest.

    Raises
    ------
    ValueError for an unknown scheme, or fewer blocks than folds.
    """
    order = np.argsort(samples.site)
    table = samples.table.iloc[order].reset_index(drop=True)
    block = blocks(table, buffer_km)
    igbp, climate = table.igbp.to_numpy(str), table.koppen_main.to_numpy(str)
    if scheme == "biome":
        names = sorted(set(igbp))
        test_of = [igbp == name for name in names]
    elif scheme in ("blocked", "koppen"):
        if k < 2 or k > block.max() + 1:
            raise ValueError(f"{k} folds asked for, {block.max() + 1} separate blocks of towers exist")
        dealt = _deal(block, climate if scheme == "koppen" else igbp, k, seed)
        names = [f"{i}" for i in range(k)]
        test_of = [dealt == i for i in range(k)]
    else:
        raise ValueError(f"unknown scheme {scheme!r}; choose blocked, koppen or biome")
    out = []
    for i, (name, test) in enumerate(zip(names, test_of, strict=True)):
        rest = np.flatnonzero(~test & ~np.isin(block, block[test]))
        valid = hold_out(block[rest], igbp[rest], seed + i)
        out.append(Fold(name, order[rest[~valid]], order[rest[valid]], order[np.flatnonzero(test)]))
    return out


def hold_out(
    block: NDArray[np.intp], stratum: NDArray, seed: int, share: int = 8
) -> NDArray[np.bool_]:
    """Choose whole blocks, about one tower in ``share``, as a mask (site,) for early stopping."""
    k = min(share, len(np.unique(block)))
    if k < 2:
        raise ValueError("early stopping needs at least two separate blocks of towers")
    return _deal(block, stratum, k, seed) == 0
