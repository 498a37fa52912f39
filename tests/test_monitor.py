"""Anomalies: a repeated year has none, signs and balance hold, the judged days do not leak."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl import monitor
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.monitor import Record, anomalies, calibrate, climatology, running_mean
from tamrl.samples.arrays import Samples, make_samples
from tamrl.study import newest
from tamrl.virtual.towers import virtual_towers

TIME = pd.date_range("2001-01-01", "2006-12-31")
SEASON = 5 - 4 * np.cos(2 * np.pi * TIME.day_of_year.to_numpy() / 365.25)
WIDE = {f: Conformal((0.1, 0.0, 0.0), {}, {0.9: (-1.0, 1.0)}) for f in FLUXES}


def record(gpp: np.ndarray, reco: np.ndarray, members: int = 2) -> Record:
    """Make a record whose members and labels are these fluxes (time,)."""
    fluxes = {"GPP": gpp, "RECO": reco, "NEE": reco - gpp}
    labels = xr.Dataset({f: ("time", v) for f, v in fluxes.items()}, {"time": TIME.values})
    return Record(labels.expand_dims(seed=members), labels, "XX-Abc", virtual=True)


def test_a_repeated_year_has_no_anomaly_and_a_change_has_its_sign() -> None:
    """2 gC m-2 d-1 more GPP in the last weeks: an anomaly of +2, and of -2 in NEE."""
    year = SEASON[:365]
    same = np.insert(np.tile(year, 6), 4 * 365, year[-1])  # 2004 is a leap year
    found = anomalies(record(same, 0.8 * same), WIDE)
    assert float(abs(found.anomaly).max()) < 0.05  # the leap day moves the season by a day
    more = same.copy()
    more[-60:] += 2
    changed = anomalies(record(more, 0.8 * same), WIDE)
    last = changed.isel(time=-1)
    np.testing.assert_allclose(last.anomaly, [2, 0, -2], atol=0.02)
    np.testing.assert_allclose(last.observed, [2, 0, -2], atol=0.02)
    assert float(last.lower[0]) > 0
    says = monitor.status(changed).says.str.split().str[0]
    assert says.tolist() == ["above", "within", "below"]


@pytest.mark.parametrize("given", [{}, {"GPP": 1}, {"GPP": WIDE["GPP"]}])
def test_intervals_of_some_fluxes_are_refused(given: dict) -> None:
    with pytest.raises(
        DataError, match=r"the interval of (GPP|RECO) is of the kind (int|NoneType)"
    ):
        anomalies(record(SEASON, 0.8 * SEASON), given)


def test_anomalies_balance_as_fluxes_do() -> None:
    """The anomaly of NEE is that of RECO minus that of GPP."""
    rng = np.random.default_rng(0)
    gpp, reco = SEASON + rng.normal(0, 1, (2, len(TIME)))
    found = anomalies(record(gpp, reco), WIDE).anomaly
    np.testing.assert_allclose(found[2], found[1] - found[0], atol=1e-6)


def test_judged_days_do_not_reach_their_climatology() -> None:
    """Whatever happens in the judged year, what is usual stays as it is."""
    changed = SEASON.copy()
    changed[-365:] *= 3
    before, after = (anomalies(record(g, SEASON), WIDE) for g in (SEASON, changed))
    xr.testing.assert_equal(before.usual, after.usual)
    xr.testing.assert_equal(before.usual_sd, after.usual_sd)
    reference = np.arange(len(TIME)) < 3 * 365
    usual, _, years = climatology(running_mean(SEASON[None]), TIME.values, reference)
    assert years.max() == 3
    assert np.isfinite(usual).all()


def test_windows_with_many_gaps_are_unknown() -> None:
    """A mean of 30 days needs 24 of them."""
    values = np.ones(100)
    values[40:47] = np.nan
    means = running_mean(values)
    assert np.isnan(means[:23]).all()
    assert np.isnan(means[46:69]).all()
    assert (means[np.isfinite(means)] == 1).all()


def test_a_short_record_is_refused() -> None:
    """Two years before the judged one are no climatology."""
    members, observed, *facts = record(SEASON, SEASON)
    some = {"time": slice("2004-01-01", "2006-12-31")}
    with pytest.raises(DataError, match=r"XX-Abc.*a climatology needs 3"):
        anomalies(Record(members.sel(some), observed.sel(some), *facts), WIDE)


@pytest.fixture(scope="module")
def study() -> tuple[Samples, xr.Dataset]:
    """Make virtual towers, and predictions that are the labels' season and half their noise."""
    daily = virtual_towers(n=100, years=(2001, 2008))
    samples = make_samples(daily)
    noise = np.random.default_rng(1).normal(0, 0.3, samples.y.shape)
    flat = pd.DataFrame(samples.y.swapaxes(1, 2).reshape(-1, len(samples.time)))
    filled = flat.interpolate(axis=1, limit_direction="both").to_numpy()
    values = filled.reshape(-1, 3, len(samples.time)).swapaxes(1, 2) * 0.9 + noise
    coords = {"seed": [0], "site": samples.site, "time": samples.time.astype("datetime64[ns]")}
    fields = {f: (tuple(coords), values[None, ..., k]) for k, f in enumerate(FLUXES)}
    return samples, xr.Dataset(fields, coords)


def test_intervals_hold_the_true_anomaly(study) -> None:
    """At half of the towers, calibrated on the other half, about 90 % are inside."""
    samples, unseen = study
    half = np.arange(len(samples.site)) % 2 == 0
    fitted = calibrate(unseen.isel(site=half), samples)
    inside: list[np.ndarray] = []
    for site in unseen.site.values[~half]:
        one = monitor.study_record(unseen, samples, str(site))
        try:
            found = anomalies(one, fitted)
        except DataError:
            continue  # too short a record
        known = np.isfinite(found.observed.values) & np.isfinite(found.anomaly.values)
        ok = (found.observed >= found.lower) & (found.observed <= found.upper)
        inside.append(ok.values[known])
    assert len(inside) > 5
    assert 0.8 < np.concatenate(inside).mean() <= 1
    names = ("x", "y", "weight", "scored", "has_drivers", "process")
    cut = {n: getattr(samples, n)[:, :700] for n in names}
    with pytest.raises(DataError, match="labelled years"):
        calibrate(unseen.isel(time=slice(700)), replace(samples, **cut, time=samples.time[:700]))


def test_the_newest_tower_is_taken_and_an_unknown_one_is_named(study) -> None:
    """Without a name the record that ends last is monitored."""
    samples, unseen = study
    one = monitor.study_record(unseen, samples)
    ends = [samples.time[on][-1] for on in samples.has_drivers]
    assert one.members.time.values[-1] == max(ends)
    assert one.virtual
    with pytest.raises(DataError, match="'QQ-Qqq' is not among"):
        monitor.study_record(unseen, samples, "QQ-Qqq")


@pytest.mark.parametrize(
    "days",
    [{"recent": 0}, {"window": 0}, {"recent": 10**9}, {"recent": 10**20}, {"window": 10**20}],
)
def test_no_days_are_refused(days: dict[str, int]) -> None:
    with pytest.raises(DataError, match="both are days, 1 or more"):
        anomalies(record(SEASON, SEASON), WIDE, **days)
    with pytest.raises(DataError, match="is of the kind float; expected a whole number"):
        anomalies(record(SEASON, SEASON), WIDE, recent=1.5)


def test_a_drought_is_judged_as_if_its_year_were_the_newest(study) -> None:
    """Later years say nothing of what is usual; a tower that is not there gives way to another."""
    samples, unseen = study
    whole = monitor.study_record(unseen, samples)
    fitted = calibrate(unseen, samples)
    judged = anomalies(whole, fitted).assign_attrs(tower_source="virtual")
    last = pd.DatetimeIndex(whole.members.time.values)[-1].year
    cases = {whole.site: last - 1, "QQ-Qqq": 2003}
    real = replace(samples, attrs=samples.attrs | {"virtual": 0})
    one, other = newest.droughts(lambda: (real, unseen), judged, cases)
    assert str(one.time.values[-1])[:10] == f"{last - 1}-12-31"
    assert float(one.years.max()) < float(judged.years.max())
    xr.testing.assert_identical(other, judged)
    virtual = newest.droughts(lambda: study, judged, {whole.site: 2003})
    xr.testing.assert_identical(virtual[0], judged)
    said = newest.drought_values([one])["drought_GPP"]
    wide = newest.drought_values([one.assign(lower=one.lower - 99, upper=one.upper + 99)])
    assert wide["alarms_GPP"] == "0 of 1"
    assert newest.drought_values([one.assign(lower=one.upper + 99)])["alarms_GPP"] == "1 of 1"
    value = float(one.anomaly.sel(flux="GPP", time=f"{last - 1}-08-31"))
    assert f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") in said

    def never() -> tuple[Samples, xr.Dataset]:
        raise AssertionError

    mine = judged.assign_attrs(tower_source="user")
    assert newest.droughts(never, mine, cases) == [mine]
