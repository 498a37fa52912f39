"""The net sum of a map beside published terms of land's balance that towers do not see.

A tower measures what plants take up and what soils and plants respire around it. What burns, is
harvested and eaten elsewhere, is washed into rivers, or goes when forest is cleared leaves land
without passing by a tower; with these terms its NEE is comparable with a change of stocks.
"""

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from tamrl.data.reference import carbon_budget_2019, fetch_reccap
from tamrl.maps.budgets import totals
from tamrl.maps.regions import NORTH
from tamrl.maps.uncertainty import Uncertainty

UNSEEN = {  # quantities of RECCAP (Ciais et al. 2021, doi:10.1093/nsr/nwaa145), and their years
    "+ fires, but those of deforestation": (["Fire emissions"], "2000-2009"),
    "+ crops and wood, used or traded": (
        ["Crop product consumption", "Crop export", "Wood product decay", "Wood export"], "2004",
    ),
    "+ soil carbon, lost to rivers": (["Soil C export to rivers"], "no years stated"),
    "+ land-use change": (["Land use change"], "1990-2012"),
}  # fmt: skip
DECADE = slice(2009, 2018)
MAP, INSIDE, REST = "NEE of the map", "the same, applicable land alone", "the map with these terms"
STOCKS, BUDGET = "net flux by changes of stocks", "land-use emissions minus land sink"
WHERE = {"globe": "globe", "north": "north", "rest": "tropics and south"}
BOUNDS = tuple((k, f"{k}_lower", f"{k}_upper") for k in WHERE)  # columns that belong together
Pair = tuple[float, float]  # a value and its standard deviation, PgC yr-1


def net_terms(
    fluxes: xr.Dataset, errors: Uncertainty | None = None, level: float = 0.9
) -> pd.DataFrame:
    """Add what towers do not see to the NEE of a map from `upscale`, by `WHERE`.

    A row a term: source, then columns of `WHERE` with bounds ("globe", "globe_lower", ...), PgC
    yr-1, into the atmosphere positive. North are RECCAP's regions of `NORTH`, rest its others; the
    globe has land of neither. Of virtual towers there are the sums of the map alone.
    """
    rows: dict[str, dict[str, Pair]] = {}
    sources, z = {MAP: "this study", INSIDE: "this study"}, stats.norm.ppf(0.5 + level / 2)
    for name, within in ((MAP, False), (INSIDE, True)):
        mapped = [totals(fluxes, by, None, errors, within) for by in ("globe", "zone")]
        nee = pd.concat(mapped).query("flux == 'NEE'").set_index("region").reindex([*WHERE])
        rows[name] = {k: (nee.total[k], (nee.upper[k] - nee.total[k]) / z) for k in WHERE}
    if not fluxes.attrs.get("virtual"):
        rows |= {name: _published(of) for name, (of, _) in UNSEEN.items()}
        sources |= {name: f"RECCAP, {years}" for name, (_, years) in UNSEEN.items()}
        rows[REST] = {k: _sum([rows[name][k] for name in (MAP, *UNSEEN)]) for k in WHERE}
        rows[STOCKS] = _published(["Stock change"])
        sink = carbon_budget_2019().sel(year=DECADE).mean()
        net = float(sink["land_use"] - sink["land_sink"])
        rows[BUDGET] = {"globe": (net, float(np.hypot(sink["land_use_sd"], sink["land_sink_sd"])))}
        sources |= {REST: "sum", STOCKS: "RECCAP, 2000-2009"}
        sources[BUDGET] = f"Global Carbon Budget 2019, {DECADE.start}-{DECADE.stop}"
    table = pd.DataFrame({"source": sources}, [*rows])
    for k in WHERE:
        value, sd = np.array([row.get(k, (np.nan, np.nan)) for row in rows.values()]).T
        table[k], table[f"{k}_lower"], table[f"{k}_upper"] = value, value - z * sd, value + z * sd
    return table.rename_axis("term")


def with_sources(table: pd.DataFrame) -> pd.DataFrame:
    """Name the source of each term beside it, instead of in a column: it fits a page then."""
    sources = table.source.str.replace("-", "\N{EN DASH}")  # of years
    return table.drop(columns="source").rename(index=lambda t: f"{t} ({sources[t]})")


def _published(quantities: list[str]) -> dict[str, Pair]:
    """Sum quantities of RECCAP over its regions, their errors independent of each other."""
    of = fetch_reccap()[["mean", "uncertainty"]].sel(quantity=quantities).drop_sel(region="Globe")
    north = of["region"].isin(NORTH)
    parts = {"globe": of, "north": of.sel(region=north), "rest": of.sel(region=~north)}
    return {
        k: (float(p["mean"].sum()) / 1000, float((p["uncertainty"] ** 2).sum()) ** 0.5 / 1000)
        for k, p in parts.items()
    }


def _sum(terms: list[Pair]) -> Pair:
    values, sds = np.array(terms).T
    return float(values.sum()), float(np.sqrt((sds**2).sum()))


def values(table: pd.DataFrame) -> dict[str, str]:
    """Say in words what the page quotes of `net_terms`; dashes where nothing is published."""
    whole = table.reindex([MAP, INSIDE, *UNSEEN, REST, STOCKS])
    unseen = whole.loc[[*UNSEEN], [*WHERE]].sum(skipna=False)
    numbers = {
        "unseen": unseen.globe, "outside_NEE": whole.globe[MAP] - whole.globe[INSIDE],
        "excess": whole.globe[STOCKS] - whole.globe[MAP],
        **{f"left_{k}": whole[k][REST] for k in WHERE},
        **{f"stocks_{k}": whole[k][STOCKS] for k in WHERE},
    }  # fmt: skip
    inside = [
        whole[f"{k}_lower"][REST] <= whole[k][STOCKS] <= whole[f"{k}_upper"][REST] for k in WHERE
    ]
    said = {k: f"{v:.1f}" if np.isfinite(v) else "\N{EN DASH}" for k, v in numbers.items()}
    said["terms_inside"] = f"{sum(inside)} of {len(inside)}"
    return {k: v.replace("-", "\N{MINUS SIGN}") for k, v in said.items()}
