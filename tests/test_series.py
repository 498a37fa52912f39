"""Stored series are the towers' own means, with bounds that hold, and outlive other models."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.data.schema import FLUXES, SEALED
from tamrl.errors import DataError
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold, folds
from tamrl.study.comparisons import compute, series
from tamrl.virtual.towers import virtual_towers


@pytest.fixture(scope="module")
def many() -> Samples:
    """Return towers enough to calibrate bounds on; one ends early, one was never measured."""
    made = make_samples(virtual_towers(n=44, seed=1, years=(2001, 2003)))
    made.scored[3, 500:] = False
    made.scored[5] = False
    return made


@pytest.fixture(scope="module")
def parts(many: Samples) -> list[Fold]:
    return folds(many, 2)


def guess(samples: Samples, bias: float = 0.0) -> xr.Dataset:
    """Predict the truth by two members, with an error of each tower and one of each day."""
    rng = np.random.default_rng(0)
    shape = (2, *samples.y.shape)
    error = rng.normal(size=(1, shape[1], 1, 3)) + rng.normal(size=shape)
    days = np.where(samples.has_drivers[..., None], np.nan_to_num(samples.y), np.nan)
    flux = (days + bias + error)[None].astype(np.float32)
    axes = {"model": ["first, of a long name"], "seed": [0, 1], "site": samples.site}
    axes["time"] = samples.time
    return xr.Dataset({f: (tuple(axes), flux[..., k]) for k, f in enumerate(FLUXES)}, axes)


@pytest.fixture(scope="module")
def made(many: Samples, parts: list[Fold]) -> xr.Dataset:
    return series.series_of(guess(many), many, parts)


def test_series_are_means_of_months_and_of_eight_days(made: xr.Dataset, many: Samples) -> None:
    """Computed again by calendar: of labels, and of members on the days with labels."""
    site = many.site[0]
    index = pd.DatetimeIndex(many.time)
    label = pd.DataFrame(np.where(many.scored[0, :, None], many.y[0], np.nan), index)
    member = guess(many).isel(model=0).mean("seed").sel(site=site).to_dataframe()[[*FLUXES]]
    member.columns = label.columns
    own = made.isel(model=0).sel(site=site)

    month = label.index.month
    assert (label[0].groupby(month).count() >= 10).all()
    np.testing.assert_allclose(own.season_observed.T, label.groupby(month).mean(), atol=1e-4)
    at_labels = member.where(label.notna()).groupby(month).mean()
    np.testing.assert_allclose(own.season.T, at_labels, atol=1e-4)

    assert own["first"] == 2003
    slot = np.minimum((index.day_of_year - 1) // 8, 45)
    for values, shown in ((label, own.year_observed), (member, own.year)):
        year = values[index.year == 2003].groupby(slot[index.year == 2003])
        expected = year.mean().where(year.count() >= series.FEWEST)
        np.testing.assert_allclose(shown.T, expected, atol=1e-4)


def test_the_year_is_the_last_that_is_labelled_for_half(made: xr.Dataset, many: Samples) -> None:
    """A tower that ends in May 2002 shows 2001; one never measured is predicted all the same."""
    assert made["first"].sel(site=many.site[3]) == 2001
    never = made.isel(model=0).sel(site=many.site[5])
    assert not np.isfinite(never.season_observed).any()
    assert not np.isfinite(never.year_observed).any()
    assert np.isfinite(never.season).all()


def test_bounds_hold_nine_of_ten_means(made: xr.Dataset, many: Samples) -> None:
    """Of months and of eight days, by errors of the other fold's towers; else there are none."""
    one = made.isel(model=0)
    for scale in ("season", "year"):
        seen, low, high = (one[f"{scale}_{k}"] for k in ("observed", "lower", "upper"))
        inside = ((seen >= low) & (seen <= high)).where(np.isfinite(seen))
        assert float(inside.mean()) == pytest.approx(0.9, abs=0.06)
        assert (low <= one[scale]).where(np.isfinite(low), True).all()
    bare = series.series_of(guess(many), many, folds(many, 2), bounds=False)
    assert not np.isfinite(bare.year_lower).any()
    few = make_samples(virtual_towers(n=12, seed=0, years=(2001, 2001)))
    assert not np.isfinite(series.series_of(guess(few), few, folds(few, 2)).year_upper).any()


def test_models_are_added_and_replaced(made: xr.Dataset, tmp_path: Path) -> None:
    """By name, to 0.005; names keep their length; those of other days are removed."""
    path = tmp_path / series.FILE
    series.add(path, "days", "a", made)
    series.add(path, "days", "b", made.assign_coords(model=["second, of a longer name"]))
    series.add(path, "days", "c", made.assign(year=made.year + 1))
    both = series.read(tmp_path)
    assert list(both.model.values) == ["second, of a longer name", "first, of a long name"]
    apart = (both.year.isel(model=1) - both.year.isel(model=0)).values
    np.testing.assert_allclose(apart[np.isfinite(apart)], 1, atol=0.011)
    np.testing.assert_allclose(both.season_observed, made.season_observed, atol=0.0051)
    assert series.holds(path, "first, of a long name", "c")
    assert not series.holds(path, "first, of a long name", "a")
    assert not series.holds(tmp_path / "none.nc", "first, of a long name", "c")
    series.add(path, "other days", "d", made)
    assert series.read(tmp_path).sizes["model"] == 1


def test_withheld_towers_are_not_read(made: xr.Dataset, tmp_path: Path) -> None:
    sites = made.site.values.astype("<U20")
    sites[:2] = min(SEALED), max(SEALED).replace("-", "_").lower()
    series.add(tmp_path / series.FILE, "days", "a", made.assign_coords(site=sites))
    assert list(series.read(tmp_path).site.values) == list(sites[2:])


def test_none_or_a_torn_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no series\.nc"):
        series.read(tmp_path)
    (tmp_path / series.FILE).write_bytes(b"CDF torn")
    with pytest.raises(DataError, match=r"series\.nc: cannot be read"):
        series.read(tmp_path)


def test_a_comparison_writes_them_once(samples: Samples, tmp_path: Path) -> None:
    """Of the models asked for; a lost file is made anew from stored predictions, others stay."""
    models = {"a": Climatology, "b": partial(Climatology, 61), "c": partial(Climatology, 91)}
    parts = folds(samples, 2)

    def run() -> tuple[str, ...]:
        given = (samples, parts, (0, 1), tmp_path, tmp_path / "cv", 1, str, None, ("b", "a"))
        return compute.run(models, *given)

    assert run() == ("a", "b", "c")
    assert set(series.read(tmp_path).model.values) == {"a", "b"}
    assert run() == ()
    (tmp_path / series.FILE).unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cv").iterdir()}
    assert run() == ("a", "b")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cv").iterdir()}


def test_periods_begin_anew_each_year_and_need_half_their_days() -> None:
    """The last period of a year is short; a leap year has one day more in it."""
    time = np.arange("2003-01-01", "2005-01-01", dtype="datetime64[D]")
    values = np.arange(len(time), dtype=float)[:, None]
    values[8:13] = np.nan  # three of eight days of the second period are left
    first, means = series.period_means(values, time)
    assert (first, means.shape) == (2003, (92, 1))
    assert means[0, 0] == 3.5
    assert np.isnan(means[1, 0])
    assert means[45, 0] == np.arange(360, 365).mean()
    assert means[91, 0] == np.arange(365 + 360, 365 + 366).mean()
