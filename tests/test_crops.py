"""Virtual cropland: sown by warmth, green in its season, watered where dry."""

import numpy as np
import pandas as pd
import pytest

from tamrl.virtual import crops
from tamrl.virtual.simulator import Simulation, simulate

TIME = pd.date_range("2001-01-01", "2003-12-31", freq="D")
MONTH = TIME.month.to_numpy()
PLACES = {"Dfa": 42.0, "Cfb": 50.0, "Csa": 38.0, "Aw": 10.0}
Simulations = dict[str, Simulation]


def farms(koppen: str, igbp: str = "CRO", lat: float | None = None) -> pd.DataFrame:
    """Make facts of sixty places of one climate."""
    north = PLACES[koppen] if lat is None else lat
    codes = [f"{koppen}-{north:+.0f}-{i:03d}" for i in range(60)]
    return pd.DataFrame({"site": codes, "lat": north, "igbp": igbp, "koppen": koppen})


@pytest.fixture(scope="module")
def simulated() -> Simulations:
    return {koppen: simulate(farms(koppen), TIME) for koppen in PLACES}


def grown(sim: Simulation, facts: pd.DataFrame) -> tuple[crops.Farms, np.ndarray, np.ndarray]:
    """Grow what was sown in a finished simulation: the same that it has grown itself."""
    sown = crops.sow(sim, facts, len(TIME), 0)
    return sown, *crops.grow(sim, sown)


def test_summer_crops_are_green_when_cereals_are_cut(simulated: Simulations) -> None:
    """In the north, cereals peak in spring, maize in July and August; in winter maize is not."""
    sown, canopy, gain = grown(simulated["Dfa"], farms("Dfa"))
    # The first midwinter of the record begins its second season year; January is left out.
    kinds = sown.kind[:, TIME.year.to_numpy() - TIME.year[0] + 1]
    for k, kind in enumerate(crops.KINDS):
        season = [canopy[:, m == MONTH][kinds[:, m == MONTH] == k].mean() for m in range(2, 13)]
        assert max(season) > 0.5
        assert kind == "cereal" or max(season[:2]) < 0.05
        assert 2 + np.argmax(season) in ((5, 6) if kind == "cereal" else (7, 8))
    assert set(np.unique(gain)) == {1.0, crops.C4_GAIN}


def test_seasons_follow_the_hemisphere() -> None:
    """South of the equator the same crops are green half a year later."""
    peaks = []
    for facts in (farms("Dfa"), farms("Dfa", lat=-42.0)):
        canopy = grown(simulate(facts, TIME), facts)[1].mean(0)
        peaks.append(pd.Series(canopy).groupby(MONTH).mean().idxmax())
    assert abs((peaks[0] - peaks[1]) % 12 - 6) <= 1


def test_fields_are_watered_where_summers_are_dry(simulated: Simulations) -> None:
    """Most farms of a mediterranean climate water, few of an oceanic one; soils show it."""
    share = {k: grown(simulated[k], farms(k))[0].watered.mean() for k in ("Csa", "Cfb")}
    assert share["Csa"] > 0.4 > 0.15 > share["Cfb"]
    watered = grown(simulated["Csa"], farms("Csa"))[0].watered[:, 0]
    dry = simulated["Csa"]["soil"][:, (MONTH == 7) | (MONTH == 8)].mean(1)
    assert dry[watered].min() > dry[~watered].max()


def test_other_places_are_untouched(simulated: Simulations) -> None:
    """Grassland and the tropics are not sown, not watered, and gain nothing."""
    for facts in (farms("Dfa", igbp="GRA"), farms("Aw")):
        sown, _, gain = grown(simulate(facts, TIME), facts)
        assert not (sown.sown | sown.watered).any()
        assert (gain == 1).all()
    assert simulated["Aw"]["GPP"].mean() > 1  # its cropland still grows


def test_a_farm_depends_on_itself_alone(simulated: Simulations) -> None:
    """The same farm among fewer others grows the same, day by day."""
    few = simulate(farms("Cfb").iloc[7:9], TIME)
    np.testing.assert_array_equal(few["FPAR"], simulated["Cfb"]["FPAR"][7:9])
    other = simulate(farms("Cfb").iloc[7:9], TIME, seed=1)
    assert np.abs(other["FPAR"] - few["FPAR"]).mean() > 0.05
