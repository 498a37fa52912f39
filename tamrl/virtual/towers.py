"""Simulated towers, each by seed, code, place and classes alone: no value is an observation."""

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import ndtr, ndtri
from tqdm import tqdm

from tamrl.data.schema import (
    DRIVERS,
    FLUXES,
    OPTIONAL,
    VARIABLES,
    Variable,
    tower_facts,
    validate,
)
from tamrl.data.sites import MONTHLY_VARIABLES
from tamrl.errors import DataError
from tamrl.virtual.noise import Array, draw, monthly_means, persistent
from tamrl.virtual.simulator import BLOCK, Simulation, satellite, simulate

# Share of land in each main climate, % (Peel et al. 2007, doi:10.5194/hess-11-1633-2007).
LAND_SHARE = {"A": 19.0, "B": 30.2, "C": 13.4, "D": 24.6, "E": 12.8}
SATELLITE_SHARE = 0.8  # of towers have satellite rows; as in the real tables
REMEMBERED = 20_000  # towers whose months stay in memory, 6 kB a tower and six years
TRUTH = {
    "truth_lue": ("gC MJ-1", "light-use efficiency"),
    "truth_vpd_decay": ("hPa-1", "decay of production with vapour pressure deficit"),
    "truth_rb": ("gC m-2 d-1", "respiration at 15 degC besides the share of production"),
    "truth_e0": ("K", "temperature sensitivity of respiration"),
}
GASES = {
    "CH4": Variable("gC m-2 d-1", "methane flux (positive: emission)", -1, 10),
    "N2O": Variable("gN m-2 d-1", "nitrous oxide flux (positive: emission)", -1, 1),
}
CLOUDED = ("FPAR", "LAI", "NDWI", "LST_day", "LST_night")  # seen under clear sky only


def virtual_towers(
    n: int | None = None, years: tuple[int, int] = (2001, 2006), seed: int = 0, noise: bool = True,
    gases: Sequence[str] = (), scatter: float = 0.0,
) -> xr.Dataset:  # fmt: skip
    """Daily virtual towers: the contract of `tamrl.data.schema`, with the truth known.

    ``n`` towers; None: the 180 real positions and classes. Fewer: a sample, balanced over IGBP
    classes; a larger n contains a smaller one. More: the rest lie around real towers, by the main
    climates' share of land. ``years``: first and last. ``noise``: errors that grow with the flux
    (Richardson et al. 2006, doi:10.1016/j.agrformet.2006.01.007), short records, outages, days of
    low quality. ``gases``: any of "CH4" (gC m-2 d-1) and "N2O" (gN m-2 d-1). ``scatter``: sd of the
    logarithm of traits that do not follow from drivers. Returns (site, time) with attribute virtual
    = 1; RECO = NEE + GPP to the last bit; traits as coordinates ``truth_*`` (site).
    """
    for gas in set(gases) - set(GASES):
        raise DataError(f"virtual_towers: unknown gas {gas!r}; choose from {', '.join(GASES)}")
    if years[0] > years[1]:
        raise DataError(f"virtual_towers: years {years} run backwards; give (first, last)")
    facts, time = _places(n, seed), _days(years)
    if len(_months) + len(facts) > REMEMBERED:  # never in the middle of a data set
        _months.clear()
    names = [name for name in VARIABLES if name not in OPTIONAL] + list(gases)
    blocks = []
    for start in tqdm(range(0, len(facts), BLOCK), "virtual towers", disable=len(facts) <= BLOCK):
        part = facts.iloc[start : start + BLOCK]
        sim = _simulate(part, years, seed, scatter)
        sim["NEE_QC"] = np.ones_like(sim["NEE"])
        if noise:
            _observe(sim, part.site, time, seed, gases)
        blocks.append({k: sim[k].astype(np.float32) for k in [*names, *TRUTH]})
    data = {k: np.concatenate([block[k] for block in blocks]) for k in blocks[0]}
    data["RECO"] = data["NEE"] + data["GPP"]  # after rounding, so that labels close exactly
    ds = xr.Dataset(
        {k: (("site", "time"), data[k], (VARIABLES | GASES)[k].attrs) for k in names},
        {"site": facts.site.to_numpy(str), "time": time}
        | {k: ("site", facts[k].to_numpy(str)) for k in ("igbp", "koppen", "koppen_main")}
        | {k: ("site", facts[k].to_numpy(float)) for k in ("lat", "lon", "elevation", "utc_offset")}
        | {k: ("site", data[k][:, 0], {"units": u, "long_name": t}) for k, (u, t) in TRUTH.items()},
        {
            "title": f"Virtual towers: a process model with known truth, seed {seed}",
            "source": "tamrl.virtual.towers, a model; no value is an observation",
            "licence": "CC-BY-4.0", "citation": "see CITATION.cff",
            "history": f"virtual_towers(n={n}, years={years}, seed={seed}, noise={noise})",
            "Conventions": "CF-1.11", "tower_source": "virtual", "registry_sha256": "",
            "excluded": "none", "virtual": 1, "virtual_seed": seed, "virtual_years": list(years),
            "virtual_noise": int(noise), "virtual_scatter": scatter,
        },
    )  # fmt: skip
    return validate(ds, "virtual_towers")


def virtual_predictors(towers: xr.Dataset) -> xr.Dataset:
    """Monthly predictors (site, month) of `virtual_towers`, as from `fetch_tower_predictors`.

    With noise, one tower in five has no row and clouds hide months: NaN. DataError for real towers.
    """
    if towers.attrs.get("virtual") != 1:
        raise DataError("virtual_predictors: these towers are not virtual; use the real predictors")
    attrs, mean = towers.attrs, simulated_months(towers)
    if attrs["virtual_noise"]:
        z = draw(towers.site.values, attrs["virtual_seed"], "clouds", (mean["sun"].shape[1] + 1,))
        cloudy = ndtr(z[:, 1:]) < 1 - 2.2 * mean["sun"]  # the duller the month, the likelier
        lost = ndtr(z[:, :1]) > SATELLITE_SHARE
        for k in MONTHLY_VARIABLES:
            mean[k] = np.where(lost | (cloudy & (k in CLOUDED)), np.nan, mean[k])
    days, dims = _days(attrs["virtual_years"]), ("site", "month")
    same = {k: attrs[k] for k in ("source", "licence", "citation", "Conventions", "virtual")}
    ds = xr.Dataset(
        {k: (dims, mean[k].astype(np.float32), v.attrs) for k, v in MONTHLY_VARIABLES.items()},
        {"site": towers.site.values, "month": days[days.day == 1]},
        {"title": f"Virtual towers: monthly predictors, seed {attrs['virtual_seed']}"} | same,
    )
    return ds.sel(month=slice(pd.Timestamp(towers.time.values[0]).replace(day=1), towers.time[-1]))


def simulated_months(towers: xr.Dataset) -> dict[str, Array]:
    """Give true means (site, month) of satellites, ``sun``; ``FPAR_season`` (site, 12) too."""
    facts = pd.DataFrame({k: towers[k].values for k in ("site", "lat", "igbp", "koppen")})
    how = [towers.attrs[f"virtual_{name}"] for name in ("years", "seed", "scatter")]
    keys = _keys(facts, *how)
    if len(_months) + len(facts) > REMEMBERED:
        _months.clear()
    new = facts[[key not in _months for key in keys]]
    for start in range(0, len(new), BLOCK):
        _simulate(new.iloc[start : start + BLOCK], *how)
    rows = [_months[key] for key in keys]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


Key = tuple[Any, ...]
_months: dict[Key, dict[str, Array]] = {}  # of each tower of each data set


def _keys(facts: pd.DataFrame, years: Sequence[int], seed: int, scatter: float) -> list[Key]:
    places = facts[["site", "lat", "igbp", "koppen"]].itertuples(index=False, name=None)
    return [(*place, *years, seed, scatter) for place in places]


def _days(years: Sequence[int]) -> pd.DatetimeIndex:
    return pd.date_range(f"{years[0]}-01-01", f"{years[1]}-12-31", freq="D")


def _simulate(facts: pd.DataFrame, years: Sequence[int], seed: int, scatter: float) -> Simulation:
    """Simulate towers, and remember their months for `simulated_months`."""
    time = _days(years)
    sim = simulate(facts, time, seed, scatter)
    daily = satellite(sim) | {"sun": sim["sun"]}
    mean = {name: monthly_means(values, time) for name, values in daily.items()}
    fpar = sim["FPAR"]
    mean["FPAR_season"] = np.stack([fpar[:, time.month == m].mean(1) for m in range(1, 13)], 1)
    for i, key in enumerate(_keys(facts, years, seed, scatter)):
        _months[key] = {name: values[i].copy() for name, values in mean.items()}
    return sim


def _observe(
    sim: Simulation, codes: Iterable[str], time: pd.DatetimeIndex, seed: int, gases: Sequence[str]
) -> None:
    """Turn the truth into what a tower records: errors, quality, outages, a few years only."""
    size = (len(time),)
    error = draw(codes, seed, "errors", (2 + len(GASES), *size), "laplace") / np.sqrt(2)  # sd 1
    # Errors of daily sums, gC m-2 d-1: double exponential, growing with the flux as in Richardson
    # et al. 2006 (half-hours); levels are chosen here. Partitioning hands most of it to GPP.
    nee_error = error[:, 0] * (0.15 + 0.08 * np.abs(sim["NEE"]))
    sim["NEE"] = sim["NEE"] + nee_error
    sim["GPP"] = sim["GPP"] - 0.8 * nee_error + error[:, 1] * (0.05 + 0.05 * sim["GPP"])
    for k, gas in enumerate(GASES):
        sim[gas] = sim[gas] * (1 + 0.2 * error[:, 2 + k])

    z = draw(codes, seed, "gaps", (6, *size))
    level = 1.0 + 0.4 * z[:, 5, :1]  # a tower's own quality
    quality = np.round(48 * ndtr(3.8 * (level + 0.9 * persistent(z[:, 0], 3)))) / 48  # half-hours
    outage = persistent(z[:, 1], 12) < ndtri(0.06)
    years = time.year.to_numpy() - time.year[0]
    count = years[-1] + 1
    length = np.minimum(2 + np.floor(ndtr(z[:, 5, 1:2]) * (count - 1)), count)
    first = np.floor(ndtr(z[:, 5, 2:3]) * (count - length + 1))
    off = (years < first) | (years >= first + length)
    for name in (*FLUXES, *gases):
        sim[name] = np.where(off | outage, np.nan, sim[name])
    sim["NEE_QC"] = np.where(off, np.nan, np.where(outage, 0, quality))
    for k, driver in enumerate(DRIVERS):
        lost = off | (persistent(z[:, 2 + k], 8) < ndtri(0.01))
        for name in (v for v in VARIABLES if v.startswith(driver)):
            sim[name] = np.where(lost, np.nan, sim[name])


def _places(n: int | None, seed: int) -> pd.DataFrame:
    """Codes, positions and classes of the n towers, sorted by code."""
    names = {"elevation_m": "elevation", "utc_offset_h": "utc_offset"}
    facts = tower_facts().rename(columns=names).reset_index()
    if n is None or n == len(facts):
        return facts
    if n < 1:
        raise DataError(f"virtual_towers: n is {n}; ask for at least one tower")
    if n < len(facts):
        # Every class is run through evenly in an order of its own: nested in n, balanced at any n.
        key = pd.Series([crc32(site.encode()) for site in facts.site]).groupby(facts.igbp)
        place = (key.rank() - 0.5) / key.transform("size")
        return facts.loc[place.sort_values(kind="stable").index[:n]].sort_values("site")
    main = facts.koppen.str[0]
    share = main.map(LAND_SHARE) / main.map(main.value_counts())
    rows = []
    for code in (f"ZZ-{i:05d}" for i in range(n - len(facts))):
        rng = np.random.default_rng([seed, crc32(code.encode())])
        near = facts.iloc[rng.choice(len(facts), p=share / share.sum())]
        igbp = rng.choice(sorted(set(facts.igbp[facts.koppen_main == near.koppen_main])))
        lat = np.clip(near.lat + 3 * rng.standard_normal(), -60, 82)
        lon = (near.lon + 5 * rng.standard_normal() + 180) % 360 - 180
        rows.append(near.to_dict() | {"site": code, "igbp": igbp, "lat": lat, "lon": lon})
    more = pd.DataFrame(rows)
    more["utc_offset"] = (more.lon / 15).round()
    return pd.concat([facts, more], ignore_index=True).sort_values("site")
