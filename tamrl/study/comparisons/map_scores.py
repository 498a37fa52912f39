"""How good the map is at held-out towers, and whether bounds of months and years hold there.

Tables are those of `tamrl.study.comparisons.maps`: mean seasons by tower, model and flux.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.grid import grid_at
from tamrl.data.schema import FLUXES
from tamrl.evaluate.intervals import DIMS, calibrate, intervals, reliability
from tamrl.evaluate.scores import LEVEL, bootstrap_weights
from tamrl.maps.cubes import BARE
from tamrl.study.comparisons.effects import with_interval
from tamrl.study.comparisons.map_errors import GROUPS
from tamrl.study.comparisons.maps import (
    ANNUAL,
    AVERAGE,
    BOOSTED,
    CELL,
    MODELS,
    MONTHS,
    PRIOR,
    SATELLITES,
    WEATHER,
)

SHORT = {AVERAGE: "map", CELL: "cell", MONTHS: "months", WEATHER: "weather",
         SATELLITES: "satellites", BOOSTED: "boosted", PRIOR: "prior"}  # fmt: skip


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Score `seasons`: a row a model and flux, errors in gC m-2 d-1.

    Columns model, flux, towers, months, RMSE and bias of months, tower_RMSE (mean over towers), and
    annual_R2 and annual_RMSE between towers with all twelve months, which alone models of `ANNUAL`
    have.
    """
    rows = []
    for model in MODELS:
        for flux in FLUXES:
            if f"{flux} {model}" not in table:
                continue
            one = table[["site", f"{flux} observed", f"{flux} {model}"]].dropna()
            one.columns = pd.Index(["site", "observed", "predicted"])
            e = one.predicted - one.observed
            by = one.assign(square=e**2).groupby("site")
            year = by[["observed", "predicted"]].mean()[by.size() == 12]
            off = year.predicted - year.observed
            row = {"model": model, "flux": flux, "towers": by.ngroups, "months": len(one),
                   "RMSE": np.sqrt((e**2).mean()), "bias": e.mean(),
                   "tower_RMSE": np.sqrt(by.square.mean()).mean()}  # fmt: skip
            if model in ANNUAL:
                row |= dict.fromkeys(("RMSE", "bias", "tower_RMSE"), np.nan)
            square = ((year.observed - year.observed.mean()) ** 2).mean()
            row["annual_R2"], row["annual_RMSE"] = 1 - (off**2).mean() / square, off.std(ddof=0)
            rows.append(row | {"annual_RMSE": np.sqrt((off**2).mean())})
    return pd.DataFrame(rows)


def coverage(table: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Check bounds of the average year at towers of other folds than those that set them.

    Columns period (month, year), flux, stratum (class of vegetation; "": all), towers, coverage and
    others of `tamrl.evaluate.intervals.reliability`, at 90 %.
    """
    index = pd.MultiIndex.from_frame(table[["site", "month"]], names=["site", "time"])
    wide = table.set_index(index)
    names = {"observed": "observed", "mean": AVERAGE, "spread": "spread"}
    each = {n: [wide[f"{f} {of}"].to_xarray() for f in FLUXES] for n, of in names.items()}
    months = xr.Dataset({n: xr.concat(v, pd.Index(FLUXES, name="flux")) for n, v in each.items()})
    igbp = facts.set_index("site").igbp.reindex(months.site.values).to_numpy(str)
    fold = table.groupby("site").fold.first().reindex(months.site.values).to_numpy()
    year = months.mean("time", skipna=False).expand_dims(time=[0]).transpose(*DIMS)
    out = []
    for period, cases in (("month", months.transpose(*DIMS)), ("year", year)):
        parts = []
        for k in np.unique(fold):
            rest = calibrate(cases.isel(site=fold != k), igbp[fold != k], (LEVEL,))
            parts.append(intervals(cases.isel(site=fold == k), rest, igbp[fold == k]))
        bounds = xr.concat(parts, "site").reindex(site=months.site)
        out.append(reliability(cases, bounds, igbp).assign(period=period))
    return pd.concat(out, ignore_index=True)


def scores_by(
    table: pd.DataFrame, facts: pd.DataFrame, by: str, models: Sequence[str], least: int = 5
) -> pd.DataFrame:
    """RMSE of months by ``by``, a column of ``facts`` (igbp, koppen_main), on the same months.

    A row a group with ``least`` towers: towers, and for each flux and model the RMSE, gC m-2 d-1.
    """
    out: dict[tuple[str, str], pd.Series] = {}
    group = table.site.map(facts.set_index("site")[by])
    for flux in FLUXES:
        one = table[["site", f"{flux} observed", *(f"{flux} {model}" for model in models)]].dropna()
        here = group[one.index]
        many = one.site.groupby(here).nunique()
        out[("", "towers")] = many  # alike in all fluxes, for NEE is RECO - GPP
        for model in models:
            square = (one[f"{flux} {model}"] - one[f"{flux} observed"]) ** 2
            out[(flux, model)] = square.groupby(here).mean()[many >= least] ** 0.5
    return pd.DataFrame(out).dropna().astype({("", "towers"): int}).rename_axis(by)


def gain_interval(
    table: pd.DataFrame, flux: str, model: str = AVERAGE, rival: str = BOOSTED
) -> tuple[float, float]:
    """Bounds of 90 %, over towers, of how much lower (%) a model's RMSE of months is."""
    names = [f"{flux} {name}" for name in ("observed", model, rival)]
    one = table[["site", *names]].dropna()
    square = one[names[1:]].sub(one[names[0]], axis=0) ** 2
    sums = square.groupby(one.site).sum().to_numpy()
    drawn = bootstrap_weights(len(sums)) @ sums
    gain = 100 * (1 - np.sqrt(drawn[:, 0] / drawn[:, 1]))
    low, high = np.quantile(gain, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def class_seasons(
    table: pd.DataFrame, facts: pd.DataFrame, models: Sequence[str], least: int = 5
) -> pd.DataFrame:
    """Average mean seasons over the towers of each class of vegetation with ``least`` towers.

    Southern towers are moved by half a year. Columns class, towers, month, flux, observed, models.
    """
    place = facts.set_index("site")
    south = table.site.map(place.lat) < 0
    month = np.where(south, (table.month + 5) % 12 + 1, table.month)
    moved = table.assign(month=month, igbp=table.site.map(place.igbp))
    parts = []
    for flux in FLUXES:
        names = {f"{flux} {name}": name for name in ("observed", *models)}
        known = moved.dropna(subset=[*names]).rename(columns=names)
        groups = known.groupby("igbp")
        many = groups.site.nunique()
        for code in many[many >= least].index:
            mean = groups.get_group(code).groupby("month")[[*names.values()]].mean()
            about = {"class": code, "towers": many[code], "flux": flux}
            parts.append(mean.reset_index().assign(**about))
    return pd.concat(parts, ignore_index=True)


def class_share(facts: pd.DataFrame, cube: xr.Dataset) -> float:
    """Mean share (%) of a tower's class in the vegetation of its cell of the grid."""
    cover = grid_at(cube, facts.lat.to_numpy(), facts.lon.to_numpy())["igbp_fraction"]
    cover = cover.sel(igbp=~cover["igbp"].isin(BARE)).transpose("site", "igbp").fillna(0)
    own = (cover["igbp"].to_numpy() == facts.igbp.to_numpy()[:, None]) * cover.to_numpy()
    return 100 * float((own.sum(1) / np.maximum(cover.to_numpy().sum(1), 1e-9)).mean())


def values(
    scored: pd.DataFrame, held: pd.DataFrame, groups: pd.DataFrame, table: pd.DataFrame
) -> dict[str, object]:
    """Gather what the pages quote of `scores`, `coverage`, `held_out_groups` and the seasons."""
    out: dict[str, object] = {}
    by = scored.set_index(["model", "flux"])
    for model, name in SHORT.items():
        for flux in FLUXES:
            if model not in ANNUAL:
                out[f"rmse_{name}_{flux}"] = float(by.RMSE[model, flux])
            out[f"r2_{name}_{flux}"] = float(by.annual_R2[model, flux])
    for flux, (model, name) in product(FLUXES, {AVERAGE: "gain", CELL: "cell_gain"}.items()):
        gain = 100 * float(1 - by.RMSE[model, flux] / by.RMSE[BOOSTED, flux])
        low, high = gain_interval(table, flux, model)
        out[f"{name}_{flux}"] = gain
        change = pd.Series({"change": -gain, "lower": -high, "upper": -low})
        out[f"{name}_{flux}_interval"] = with_interval(change)
    cost = [100 * (by.RMSE[MONTHS, f] / by.RMSE[WEATHER, f] - 1) for f in FLUXES]
    out["cost_of_days"] = f"{min(cost):.1f} to {max(cost):.1f} %"
    for period in ("month", "year"):
        of = 100 * held[(held.stratum == "") & (held.period == period)].coverage
        least, most = f"{of.min():.0f}", f"{of.max():.0f}"
        out[f"held_{period}"] = f"{least} %" if least == most else f"{least} to {most} %"
    for kind, name in GROUPS.items():
        inside = groups[groups.by == kind].inside
        out[name] = f"{int(inside.sum())} of {len(inside)}"
    return out
