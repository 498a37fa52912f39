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
        cells = [v[:, None] * np.array([1.0, np.nan])  # one at sea
                 for v in (ta, vpd * saturation_pressure(ta), light * top)]  # fmt: skip
        whole = () if step == 1 else (step,)
        assert (words in wrong_unit(*cells, 10.0, doy[:, None], *whole)) == said


@pytest.mark.parametrize(("vpd", "light", "words"), [
    (1.4, 0.5, "of saturation or more"), (-0.08, 0.5, "looks like kPa"),
    (0.3, 1.05, "of the radiation above the air or more"), (0.3, -0.1, "looks like MJ"),
    (0.3, -0.42, "of the radiation above the air"),
])  # fmt: skip
def test_what_some_tower_shows_is_no_fault(vpd: float, light: float, words: str) -> None:
    """At the limit itself nothing is said, a hundredth beyond it is; most limits are of few days.

    Limits from below have a minus.
    """
    ta, doy = np.full(400, 20.0), np.full(400, 172.0)
    air = saturation_pressure(ta)
    skies = ((lat, potential_radiation(lat, doy)) for lat in range(40))
    lat, sky = next((y, sky) for y, sky in skies if (abs(light) * sky / sky == abs(light)).all())
    assert (abs(vpd) * air / air == abs(vpd)).all()
    for beyond in (0.0, 0.01):
        share, sun = (abs(v) * (1 + np.sign(v) * beyond) for v in (vpd, light))
        values = share * air, sun * sky
        for v, limit, usual in zip(values, (vpd, light), (0.3 * air, 0.5 * sky), strict=True):
            if limit > 0:  # on 1 day of 8 is enough
                v[50:] = usual[50:]
        assert (words in wrong_unit(ta, *values, lat, doy)) == (beyond > 0)


def test_shares_are_of_warm_and_bright_days() -> None:
    """Above 5 degC and 50 W m-2: cold air holds little, and twilight is a guess."""
    n, latitude = 100, np.linspace(50, 65, 1001)
    winter = potential_radiation(latitude, 355)
    for warm, bright in ((5.0, 45.0), (5.1, 55.0)):
        lat = latitude[np.argmin(np.abs(winter - bright))]
        ta, doy, sky = np.full(n, warm), np.full(n, 355.0), potential_radiation(lat, 355)
        kilo = wrong_unit(ta, 0.05 * saturation_pressure(ta), np.full(n, np.nan), lat, doy)
        mega = wrong_unit(ta, np.full(n, np.nan), np.full(n, 0.05 * sky), lat, doy)
        assert ("kPa" in kilo, "MJ" in mega) == (warm > 5, bright > 50)


@pytest.mark.parametrize("first", ["2001-02-01", "2001-08-15"])
def test_light_is_compared_with_that_of_its_own_day(first: str) -> None:
    """At 65 degrees north a day earlier in February, or later in October, has 3 % less."""
    time = np.datetime64(first) + np.arange(80)
    doy = (time - np.datetime64("2001-01-01")).astype(int) + 1
    sky = potential_radiation(65.0, doy)
    dim = np.arange(80) >= 35 if first < "2001-05" else np.arange(80) < 45
    ta, dry = np.full(80, -5.0), np.full(80, np.nan)
    for share, words in ((1.04, ""), (1.06, "SW_IN is")):
        sw = sky * np.where(dim, 0.4, share)
        assert changed_unit(ta, dry, sw, 65.0, time).startswith(words)
        assert bool(changed_unit(ta, dry, sw, 65.0, time)) == bool(words)


def said(name: str, *parts: tuple[int, float] | np.ndarray) -> str:
    """Say what is said of a record of days from 2001 on whose shares are, part by part, these."""
    shares = np.concatenate([np.full(*p) if isinstance(p, tuple) else p for p in parts])
    time = np.datetime64("2001-01-01") + np.arange(len(shares))
    ta, doy = np.full(len(shares), 20.0), (time - time.astype("M8[Y]")).astype(int) + 1
    values = {"VPD": 0.5 * saturation_pressure(ta), "SW_IN": 0.5 * potential_radiation(30.0, doy)}
    values[name] = 2 * shares * values[name]
    return changed_unit(ta, values["VPD"], values["SW_IN"], 30.0, time)


@pytest.mark.parametrize(("name", "least"), [("VPD", 60), ("SW_IN", 30)])
def test_a_unit_changes_on_its_day(name: str, least: int) -> None:
    """From so many days on in either part; days of none are in neither, but on the calendar."""
    start = np.datetime64("2001-01-01")
    for before, after in ((least, least), (least, 200), (200, least), (150, 100), (100, 150)):
        for one, other, how in ((0.5, 0.05, "10 times smaller"), (0.05, 0.5, "10 times larger")):
            expected = f"{name} is {how} from {start + before + 5} on than before"
            assert expected in said(name, (5, 0.0), (before, one), (after, other), (5, 0.0))
    assert said(name, (least, 0.5), (least - 1, 0.05)) == ""
    if name == "VPD":  # a part is not shorter, though another day would part it better
        assert f"from {start + 60} on" in said(name, (61, 0.5), (59, 0.05))


@pytest.mark.parametrize(("shares", "found"), [
    (((100, 0.45), (100, 0.45 / 5.1)), True), (((100, 0.45), (100, 0.45 / 4.9)), False),
    (((100, 0.45), (100, 0.45 / 19.9)), True), (((100, 0.45), (100, 0.45 / 20.1)), False),
    (((100, 0.9), (100, 0.15)), False),  # a lower part that some place shows
    (((100, 0.5), (98, 0.05), (2, 0.2)), True), (((100, 0.5), (97, 0.05), (3, 0.2)), False),
    (((100, 1.5), (100, 0.5)), True),  # more than any place, from one day on
    (((11, 1.5), (89, 0.9), (100, 0.5)), True), (((9, 1.5), (91, 0.9), (100, 0.5)), False),
    (((100, 1.8), (11, 1.5), (89, 0.5)), True), (((100, 1.0), (100, 0.5)), False),
    (((100, 4.5), (89, 1.3), (11, 1.5)), False),
])  # fmt: skip
def test_what_another_unit_makes_of_a_record(shares, found: bool) -> None:
    """A tenth, a twelfth or ten times as much, as no season and no new sensor does."""
    assert bool(said("VPD", *shares)) == found


def test_a_slow_decline_is_a_season() -> None:
    """Thirtyfold over 400 days, the 30 days on either side of the middle are nearly alike."""
    slow, fast = (np.geomspace(0.5, 0.5 / 30, n) for n in (400, 200))
    assert said("VPD", slow) == said("VPD", slow[::-1]) == ""
    assert "smaller" in said("VPD", fast)
    assert "larger" in said("VPD", fast[::-1])


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
