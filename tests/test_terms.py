"""The net sum beside terms of land's balance that towers do not see."""

import numpy as np
import pytest
from test_budgets import errors, uniform

from tamrl.data.gridfiles import EARTH_RADIUS
from tamrl.maps import budgets, terms
from tamrl.maps.terms import BUDGET, INSIDE, MAP, REST, STOCKS, UNSEEN


def test_terms_add_up_to_a_sum_comparable_with_a_change_of_stocks(need) -> None:
    """By hand: fires of four northern regions in RECCAP's table; all terms and their errors."""
    need("reference/")
    ds = uniform(2.0, rate=-0.1)
    ds["outside"] = ds["outside"] + 0.25
    table = terms.net_terms(ds, errors())
    whole = -0.1 * 4 * np.pi * EARTH_RADIUS**2 * 365.2425 / 1e15
    assert table.globe[MAP] == pytest.approx(whole, rel=1e-6)
    assert table.globe[INSIDE] == pytest.approx(0.75 * whole, rel=1e-6)
    fires, goods, rivers, land_use = UNSEEN
    assert table.north[fires] == pytest.approx(0.088 + 0.020 + 0.114 + 0.004)
    assert table.globe[goods] == pytest.approx(1.542 + 0.046 + 0.357 + 0.004, abs=2e-3)
    assert table.globe[rivers] == pytest.approx(1.269, abs=3e-3)
    assert table.globe[land_use] == pytest.approx(0.919, abs=3e-3)
    assert table.globe[STOCKS] == pytest.approx(-1.287, abs=3e-3)
    # The error of RECCAP's globe is that of its regions, independent of each other.
    sd = (table.globe_upper - table.globe) / 1.6449
    assert sd[[rivers, land_use, STOCKS]].to_numpy() == pytest.approx(
        [0.179, 0.184, 0.601], abs=2e-3
    )
    assert sd[BUDGET] == pytest.approx(np.hypot(0.7, 0.8), abs=0.05)
    for k in ("globe", "north", "rest"):
        assert table[k][REST] == pytest.approx(table[k][[MAP, *UNSEEN]].sum())
        assert table[k][[fires, STOCKS]].notna().all()
    assert sd[REST] == pytest.approx(np.sqrt((sd[[MAP, *UNSEEN]] ** 2).sum()))
    zones = table.loc[[*UNSEEN, STOCKS], ["north", "rest"]].sum(axis=1)
    assert zones.to_numpy() == pytest.approx(table.globe[[*UNSEEN, STOCKS]].to_numpy())
    named = terms.with_sources(table)
    assert named.index[2] == f"{fires} (RECCAP, 2000\N{EN DASH}2009)"
    assert named.shape == (9, 9)
    said = terms.values(table)
    assert said["unseen"] == f"{table.globe[[*UNSEEN]].sum():.1f}" == "5.8"
    assert said["outside_NEE"] == f"\N{MINUS SIGN}{-0.25 * whole:.1f}"
    assert said["terms_inside"] == "3 of 3"  # of wide bounds
    sure = terms.net_terms(ds, errors(0.01, length=1.0))
    assert terms.values(sure)["terms_inside"] == "0 of 3"
    assert said["excess"] == f"{-1.287 - whole:.1f}"


def test_zones_are_regions_of_reccap() -> None:
    """What lies in the north and in the rest is what lies in the nine regions."""
    ds = uniform(2.0)
    region = budgets.totals(ds, "reccap").query("flux == 'NEE'").set_index("region").area
    zone = budgets.totals(ds, "zone").query("flux == 'NEE'").set_index("region").area
    north = region[["North America", "Europe", "Russia", "East Asia"]].sum()
    assert zone["north"] == pytest.approx(north)
    assert zone["unassigned"] == pytest.approx(region["unassigned"])
    assert zone.sum() == pytest.approx(region.sum())


def test_of_virtual_towers_nothing_is_published() -> None:
    """Their sums stand alone."""
    table = terms.net_terms(uniform(2.0).assign_attrs(virtual=1))
    assert [*table.index] == [MAP, INSIDE]
    assert table.globe_lower.isna().all()
    said = terms.values(table)
    assert said.pop("terms_inside") == "0 of 3"
    assert set(said.values()) == {"\N{EN DASH}", "0.0"}
