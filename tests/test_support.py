"""What the support set is worth, and the test at towers apart: arithmetic, and who is left out."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from tamrl.samples.arrays import make_samples
from tamrl.study.comparisons import australia, support
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_towers


def table(**factors: float) -> pd.DataFrame:
    """Make squared errors of 40 towers: 1 with the own support set, elsewhere that factor."""
    kinds = {support.OWN: 1.0, support.EXCHANGED: 1.0, support.ABSENT: 1.0} | factors
    return pd.DataFrame([
        {"support": kind, "site": f"X{k}", "flux": flux, "n": 50 + k, "square": (50 + k) * factor}
        for kind, factor in kinds.items() for k in range(40) for flux in ("GPP", "RECO", "NEE")
    ])  # fmt: skip


def test_changes_are_of_the_mean_over_towers_of_rmse() -> None:
    """A squared error of 1.21 for 1 is 10 % more RMSE, at each tower and for certain."""
    made = support.changes(table(**{support.EXCHANGED: 1.21}))
    exchanged = made[made.support == support.EXCHANGED]
    assert exchanged.change.to_numpy() == pytest.approx(10.0)
    assert exchanged[["lower", "upper", "pooled"]].to_numpy() == pytest.approx(10.0)
    assert made[made.support == support.ABSENT].change.to_numpy() == pytest.approx(0.0)
    quoted = support.values(made)
    assert quoted["support_exchanged_NEE"].startswith("+10.0 %")


def test_towers_without_scored_days_do_not_count() -> None:
    made = table()
    nothing = made[made.site == "X0"].assign(site="none", n=0, square=0.0)
    again = support.changes(pd.concat([made, nothing]))
    assert (again.towers == 40).all()


def test_a_support_set_is_exchanged_or_taken_away_and_the_towers_own_stays() -> None:
    """All towers get that of another one; the data that were given are not touched."""
    x = torch.arange(5.0).reshape(5, 1, 1, 1).repeat(1, 2, 3, 4)
    usable = np.ones((5, 2), bool)
    data = SimpleNamespace(support=SimpleNamespace(x=x, seen=x * 0 + 1, usable=usable))
    other = support._with(data, support.EXCHANGED)  # type: ignore[arg-type]
    assert (other.support.x != x).all()
    assert sorted(other.support.x[:, 0, 0, 0].tolist()) == [0, 1, 2, 3, 4]
    assert not support._with(data, support.ABSENT).support.usable.any()  # type: ignore[arg-type]
    assert torch.equal(data.support.x, x)
    assert data.support.usable.all()


def test_places_near_towers_of_a_test_apart_are_left_out_of_the_prior() -> None:
    """By their code wherever they are said to stand, and by distance whatever their code."""
    towers = virtual_towers(n=6, seed=0, years=(2001, 2002))
    grid = virtual_grid()
    land = np.argwhere((grid["land_fraction"] > 0).values)
    lat, lon = grid["lat"].values[land[:, 0]], grid["lon"].values[land[:, 1]]
    at = [0, len(lat) // 2, len(lat) - 1]
    codes = np.array(["AA-Far", "BB-Near", "CC-Same"])
    others = xr.Dataset(
        {"GPP": ("site", [900.0] * 3), "TER": ("site", [800.0] * 3)},
        {"site": codes, "lat": ("site", lat[at]), "lon": ("site", lon[at]),
         "igbp": ("site", ["GRA"] * 3)},
    )  # fmt: skip
    samples = make_samples(towers, None, grid, others=others)
    apart = xr.Dataset(coords={"site": ["CC-Same", "DD-New"],
                               "lat": ("site", [lat[at[0]] - 60.0, lat[at[1]] + 0.1]),
                               "lon": ("site", [lon[at[0]], lon[at[1]]])})  # fmt: skip
    left = australia._without(samples, apart).places
    assert left is not None
    assert left.other_site.tolist() == ["AA-Far"]
    assert len(left.other_x) == len(left.other_y) == len(left.other_lat) == 1


def test_products_apart_are_scored_on_their_own_months_and_the_ensemble_on_the_same() -> None:
    """A product of one tower and year, another of both: neither costs the other months."""
    rows = []
    for site, month in product("AB", range(24)):
        when = str(np.datetime64("2010-01") + month)
        rows += [
            (site, when, australia.OZFLUX, 5.0, 4.0, -1.0),
            (site, when, australia.AVERAGE, 6.0 if month < 12 else 10.0, 4.0, -2.0),
            (site, when, australia.WEATHER, 5.0, 4.5, -1.5),
            (site, when, "GOSIF", 9.0, np.nan, np.nan),
        ]
        if site == "A" and month < 12:
            rows.append((site, when, "CABLE", 3.0, 4.0, -1.25))
    table = pd.DataFrame(rows, columns=["site", "month", "model", "GPP", "RECO", "NEE"])
    scored = australia.scores(table)
    by = scored.set_index(["months_of", "model", "flux"]).sort_index()
    assert by.months["CABLE", "CABLE", "GPP"] == by.months["CABLE", australia.AVERAGE, "GPP"] == 12
    assert by.months["GOSIF", "GOSIF", "GPP"] == by.months["all", australia.WEATHER, "NEE"] == 48
    assert by.RMSE["CABLE", "CABLE", "GPP"] == pytest.approx(2)
    assert by.RMSE["CABLE", australia.AVERAGE, "GPP"] == pytest.approx(1)
    assert by.RMSE["GOSIF", australia.AVERAGE, "GPP"] == pytest.approx(np.sqrt(13))
    assert ("GOSIF", "GOSIF", "NEE") not in by.index
    said = australia.values(scored)
    assert said["apart_cable_GPP"] == "2.00 (1.00, 0.00)"
    assert said["apart_cable"] == "12 of 1 towers"
    assert said["apart_all_NEE"] == "1.00, 0.50"
    assert said["apart_lower_RMSE"] == "CABLE (NEE)"
