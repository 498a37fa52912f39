"""Virtual cropland: sown by warmth, green in its season, watered where dry."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tamrl.virtual import crops
from tamrl.virtual.simulator import Simulation, simulate

TIME = pd.date_range("2001-01-01", "2003-12-31", freq="D")
MONTH = TIME.month.to_numpy()
PLACES = {"Dfa": 42.0, "Cfb": 50.0, "Csa": 38.0, "Aw": 10.0}


def farms(koppen: str, n: int = 60, igbp: str = "CRO", lat: float | None = None) -> pd.DataFrame:
    """Make facts of ``n`` places of one climate."""
    north = PLACES[koppen] if lat is None else lat
    codes = [f"{koppen}-{north:+.0f}-{i:03d}" for i in range(n)]
    return pd.DataFrame({"site": codes, "lat": north, "igbp": igbp, "koppen": koppen})


@pytest.fixture(scope="module")
def worlds() -> dict[str, Simulation]:
    return {koppen: simulate(farms(koppen), TIME) for koppen in PLACES}


def grown(world: Simulation, facts: pd.DataFrame) -> tuple[crops.Farms, np.ndarray, np.ndarray]:
    """Grow what was sown in a finished world: the same that it has grown itself."""
    made = crops.sow(world, facts, len(TIME), 0)
    return made, *crops.grow(world, made)


def test_summer_crops_leave_the_field_bare_and_are_green_when_cereals_are_cut(
    worlds: dict[str, Simulation],
) -> None:
    """In the north, cereals peak in spring, maize in July and August; in winter maize is not."""
    world, facts = worlds["Dfa"], farms("Dfa")
    made, canopy, gain = grown(world, facts)
    # The first midwinter of the record begins its second season year; January is left out.
    of = made.kind[:, TIME.year.to_numpy() - TIME.year[0] + 1]
    peak = {}
    for k, kind in enumerate(crops.KINDS):
        days = [m == MONTH for m in range(2, 13)]
        season = np.array([canopy[:, on][of[:, on] == k].mean() for on in days])
        peak[kind] = 2 + season.argmax()
        assert season.max() > 0.5
        if kind != "cereal":
            assert season[:2].max() < 0.05
    assert peak["cereal"] in (5, 6)
    assert peak["maize"] in (7, 8)
    assert peak["summer crop"] in (7, 8)
    assert set(np.unique(gain)) == {1.0, crops.C4_GAIN}


def test_seasons_follow_the_hemisphere() -> None:
    """South of the equator the same crops are green half a year later."""
    canopy = [
        grown(simulate(facts, TIME), facts)[1].mean(0)
        for facts in (farms("Dfa", lat=42.0), farms("Dfa", lat=-42.0))
    ]
    north, south = (pd.Series(series).groupby(MONTH).mean().to_numpy() for series in canopy)
    assert abs((int(np.argmax(north)) - int(np.argmax(south))) % 12 - 6) <= 1


def test_fields_are_watered_where_summers_are_dry(worlds: dict[str, Simulation]) -> None:
    """Most farms of a mediterranean climate water, few of an oceanic one; soils show it."""
    share = {k: grown(worlds[k], farms(k))[0].watered.mean() for k in ("Csa", "Cfb")}
    assert share["Csa"] > 0.4 > 0.15 > share["Cfb"]
    watered = grown(worlds["Csa"], farms("Csa"))[0].watered[:, 0]
    dry = worlds["Csa"]["soil"][:, (MONTH == 7) | (MONTH == 8)].mean(1)
    assert dry[watered].min() > dry[~watered].max()


def test_other_places_are_untouched(worlds: dict[str, Simulation]) -> None:
    """Grassland and the tropics are not sown, not watered, and gain nothing."""
    for facts in (farms("Dfa", igbp="GRA"), farms("Aw")):
        made, _, gain = grown(simulate(facts, TIME), facts)
        assert not made.sown.any()
        assert not made.watered.any()
        assert (gain == 1).all()
    assert worlds["Aw"]["GPP"].mean() > 1  # its cropland still grows


def test_a_farm_depends_on_itself_alone(worlds: dict[str, Simulation]) -> None:
    """The same farm among fewer others grows the same, day by day."""
    few = simulate(farms("Cfb").iloc[7:9], TIME)
    np.testing.assert_array_equal(few["FPAR"], worlds["Cfb"]["FPAR"][7:9])
    other = simulate(farms("Cfb").iloc[7:9], TIME, seed=1)
    assert np.abs(other["FPAR"] - few["FPAR"]).mean() > 0.05
