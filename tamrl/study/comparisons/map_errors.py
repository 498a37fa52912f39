"""What held-out towers say of sums of the map: errors of neighbours, and whether bounds hold.

Tables are those of `tamrl.study.comparisons.maps`: mean seasons by tower, model and flux.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import norm

from tamrl.data.schema import FLUXES
from tamrl.maps.regions import UNASSIGNED, partition
from tamrl.maps.uncertainty import Uncertainty
from tamrl.samples.splits import distance_km
from tamrl.study.comparisons.maps import AVERAGE

GROUPS = {"biome": "groups_inside", "country": "groups_country_inside",
          "10 degrees": "groups_10_inside", "20 degrees": "groups_20_inside"}  # fmt: skip
LENGTHS = np.geomspace(4.0, 1000.0, 16)  # km over which errors may be alike
SHARES = np.linspace(0.0, 1.0, 51)  # of the variance that neighbours may share
FEWEST = 10  # towers from which errors are estimated


def local_error(table: pd.DataFrame, facts: pd.DataFrame, model: str = AVERAGE) -> pd.DataFrame:
    """Size and reach of a place's annual error, by flux: sd (gC m-2 d-1), share, length_km, towers.

    Errors of two towers at the distance d > 0 are correlated by share * exp(-d / length_km): what
    is left, 1 - share, is a tower's alone (its measurement, its footprint), a nugget.
    The most likely values for normal errors around zero; ``facts`` has site, lat, lon.
    """
    years = {flux: _annual(table, flux, model) for flux in FLUXES}
    error = pd.DataFrame({flux: year.predicted - year.observed for flux, year in years.items()})
    error = error.dropna()
    km, least = _km(facts.set_index("site"), error.index), dict.fromkeys(FLUXES, np.inf)
    rows: dict[str, dict[str, float]] = {}
    for length in LENGTHS:
        alike, axes = np.linalg.eigh(np.exp(-km / length))
        spread = np.maximum(1 + SHARES[:, None] * (alike - 1), 1e-9)  # (share, axis)
        for flux in FLUXES:
            variance = ((error[flux].to_numpy() @ axes) ** 2 / spread).mean(axis=1)
            surprise = np.log(variance) + np.log(spread).mean(axis=1)
            if surprise[best := int(surprise.argmin())] < least[flux]:
                least[flux] = float(surprise[best])
                rows[flux] = {"sd": variance[best] ** 0.5, "share": SHARES[best],
                              "length_km": length, "towers": len(error)}  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis("flux").loc[[*FLUXES]]


def uncertainty(table: pd.DataFrame, maps: xr.Dataset, facts: pd.DataFrame) -> Uncertainty:
    """Errors for `tamrl.maps.budgets.totals`; arguments as of `load` and `local_error`."""
    return Uncertainty(maps, local_error(table, facts))


def held_out_groups(
    table: pd.DataFrame, facts: pd.DataFrame, errors: Uncertainty, cube: xr.Dataset,
    level: float = 0.9, least: int = 5, kinds: Sequence[str] = tuple(GROUPS),
) -> pd.DataFrame:  # fmt: skip
    """Check intervals of means on groups of held-out towers: of a class of vegetation, of a place.

    Towers of a group are taken for the places of a region: what they share errs as the region does,
    and each has an error of its own, partly like its neighbours', as towers of no part in the group
    say. ``kinds`` of `partition`. Columns by, group, flux, towers, observed, predicted, sd (gC m-2
    d-1) and inside.
    """
    rows, half, place = [], norm.ppf(0.5 + level / 2), facts.set_index("site")
    years = {flux: _annual(table, flux) for flux in FLUXES}
    for by in kinds:
        region, names = _regions(by, facts, cube)
        shared = errors.shared(by, cube, cube.get("land_fraction"))
        at = pd.Series(region, facts.site)
        for k in np.unique(region):
            others = table[~table.site.isin(at.index[at == k])]
            local = None
            for flux, year in years.items():
                group = year[at.reindex(year.index) == k]
                if len(group) < least or names[k] == UNASSIGNED:
                    continue
                if local is None:
                    many = others.site.nunique() >= FEWEST
                    local = local_error(others, facts) if many else errors.local
                observed, predicted = group.mean()
                alike = np.exp(-_km(place, group.index) / local.length_km[flux]).mean()  # of pairs
                alike = (1 - local.share[flux]) / len(group) + local.share[flux] * alike
                sd = np.hypot(shared[flux][k], local.sd[flux] * np.sqrt(alike))
                rows.append({"by": by, "group": names[k], "flux": flux, "towers": len(group),
                             "observed": observed, "predicted": predicted, "sd": sd,
                             "inside": abs(predicted - observed) <= half * sd})  # fmt: skip
    return pd.DataFrame(rows)


def _annual(table: pd.DataFrame, flux: str, model: str = AVERAGE) -> pd.DataFrame:
    """Annual means (site,), observed and predicted, of towers with all twelve months."""
    one = table[["site", f"{flux} observed", f"{flux} {model}"]].dropna()
    by = one.set_axis(["site", "observed", "predicted"], axis=1).groupby("site")
    return by.mean()[by.size() == 12]


def _km(place: pd.DataFrame, sites: pd.Index) -> NDArray[np.float64]:
    at = place.loc[sites]
    return distance_km(at.lat.to_numpy(), at.lon.to_numpy())


def _regions(
    by: str, facts: pd.DataFrame, cube: xr.Dataset
) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Find the region (site,) of towers, and names of regions: their own class, or their cell's."""
    if by == "biome":
        codes = [str(code) for code in cube["igbp"].to_numpy()]
        names = (*codes, UNASSIGNED)
        return np.array([names.index(c if c in codes else UNASSIGNED) for c in facts.igbp]), names
    lat, lon = cube["lat"].to_numpy(), cube["lon"].to_numpy()
    parts = partition(by, lat, lon, cube)
    largest = np.empty(len(lat) * len(lon), np.intp)
    order = np.argsort(parts.share, kind="stable")
    largest[parts.cell[order]] = parts.region[order]  # the last one written stays
    row, column = (
        np.abs(axis - facts[name].to_numpy()[:, None]).argmin(1)
        for name, axis in (("lat", lat), ("lon", lon))
    )
    return largest[row * len(lon) + column], parts.names
