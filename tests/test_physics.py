"""Sun geometry: worked examples of FAO-56, and what must hold on any planet with seasons."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from tamrl.data.physics import (
    KELVIN,
    SOLAR_CONSTANT,
    changed_unit,
    daylength,
    lloyd_taylor,
    potential_radiation,
    saturation_pressure,
    wrong_unit,
)

LATITUDE = st.floats(-90, 90)
DAY = st.integers(1, 366)


# Worked examples of FAO-56: 10 (Rio de Janeiro), 17 (Bangkok), 18 (Uccle).
@pytest.mark.parametrize(
    ("lat", "doy", "radiation", "hours"),
    [(-22.9, 135, 25.1, 10.9), (13.73, 105, 38.06, 12.31), (50.8, 187, 41.09, 16.1)],
)
def test_worked_examples(lat: float, doy: int, radiation: float, hours: float) -> None:
    """To their last digit, MJ m-2 d-1 and h, but for the rounding on the way."""
    assert float(potential_radiation(lat, doy)) * 0.0864 == pytest.approx(radiation, abs=0.06)
    assert float(daylength(lat, doy)) == pytest.approx(hours, abs=0.06)


@given(LATITUDE, DAY)
def test_bounds_and_mirror(lat: float, doy: int) -> None:
    """No day gets more than half the solar constant; day here is night at the mirrored latitude."""
    assert 0 <= daylength(lat, doy) <= 24
    assert 0 <= potential_radiation(lat, doy) < SOLAR_CONSTANT / 2
    assert float(daylength(lat, doy) + daylength(-lat, doy)) == pytest.approx(24, abs=1e-6)


@given(DAY, st.floats(68, 90))
def test_polar_day_and_night(doy: int, lat: float) -> None:
    midsummer, midwinter = 172, 355
    assert daylength(lat, midsummer) == daylength(-lat, midwinter) == 24
    assert daylength(lat, midwinter) == 0
    assert potential_radiation(lat, midwinter) == pytest.approx(0, abs=1e-6)
    assert (potential_radiation(lat, doy) > 1e-6) == (daylength(lat, doy) > 0)


@given(LATITUDE)
def test_southern_summer_is_nearer_to_the_sun(lat: float) -> None:
    """Half a year apart the geometry mirrors; the orbit gives the south's summer 7 % more."""
    north, south = potential_radiation(abs(lat), 172), potential_radiation(-abs(lat), 355)
    assert float(south / north) == pytest.approx(1.033 / 0.967, rel=0.01)


def test_shapes_broadcast_and_poles_are_finite() -> None:
    lat, doy = np.linspace(-90, 90, 7)[:, None], np.arange(1, 366)[None]
    assert potential_radiation(lat, doy).shape == daylength(lat, doy).shape == (7, 365)
    assert np.isfinite(potential_radiation(lat, doy)).all()


def test_respiration_doubles_and_more_with_ten_degrees() -> None:
    """Lloyd & Taylor (1994), eq. 11: relative to 10 degC, or to 15 as here."""
    rate = lloyd_taylor(np.array([0.0, 10.0, 20.0]) + KELVIN, above=56.02)
    assert rate == pytest.approx([0.302, 1.0, 2.303], abs=2e-3)
    assert lloyd_taylor(15.0 + KELVIN) == pytest.approx(1)
    assert lloyd_taylor(25.0 + KELVIN) == pytest.approx(2.04, abs=0.01)


@pytest.mark.parametrize(("vpd", "light", "days", "words"), [
    (2.0, 0.5, 10, "of saturation or more"), (0.05, 0.5, 60, "looks like kPa"),
    (0.3, 1.5, 10, "of the radiation above the air or more"), (0.3, 0.05, 16, "looks like MJ"),
    (0.3, 0.35, 300, "of the radiation above the air"),
])  # fmt: skip
def test_a_unit_is_judged_from_so_many_days_on(vpd, light, days: int, words: str) -> None:
    """One day fewer may be fog or a dry spell; of longer steps the same days do, but for a year."""
    longer = days // 2, 2.0, days < 300
    for n, step, said in ((days, 1.0, True), (days - 1, 1.0, False), longer):
        doy = 150.0 + np.arange(n) * 0.1
        ta, top = np.full(n, 20.0), potential_radiation(10.0, doy)
        why = wrong_unit(ta, vpd * saturation_pressure(ta), light * top, 10.0, doy, step)
        assert (words in why) == said


def test_a_unit_that_changes_is_found_and_no_real_tower_has_one(real_towers: xr.Dataset) -> None:
    """Of all FLUXNET2015 towers none is refused; with half a record in another unit 9 of 10 are."""
    time, found = real_towers.time.to_numpy(), []
    for site in range(real_towers.sizes["site"]):
        one = real_towers.isel(site=site)
        ta, vpd, sw = (one[n].to_numpy().astype(float) for n in ("TA", "VPD", "SW_IN"))
        known, lat = np.flatnonzero(np.isfinite(ta + vpd + sw)), float(one.lat)
        assert changed_unit(ta, vpd, sw, lat, time) == "", one.site.item()
        after = np.arange(len(time)) >= known[len(known) // 2]
        kilo, mega = vpd * np.where(after, 0.1, 1), sw * np.where(after, 1, 0.0864)
        found += [changed_unit(ta, kilo, sw, lat, time), changed_unit(ta, vpd, mega, lat, time)]
    assert np.mean(["smaller" in said for said in found[::2]]) > 0.9
    assert np.mean(["larger" in said for said in found[1::2]]) > 0.9
