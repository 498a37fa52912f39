"""Tables of intervals: honest about what they cover, made without the towers that they judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tamrl import plots
from tamrl.data.schema import FLUXES
from tamrl.evaluate import interval_coverage
from tamrl.evaluate.interval_coverage import interval_table
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold, folds
from tamrl.study.runner.verify import REFERENCE
from tamrl.virtual.towers import virtual_towers


@pytest.fixture(scope="module")
def case() -> tuple[Samples, list[Fold], xr.Dataset]:
    """Make predictions that are the labels plus an offset of the tower and noise of the day."""
    samples = make_samples(virtual_towers(n=60, years=(2001, 2002)), None, None)
    rng = np.random.default_rng(0)
    offset = rng.normal(0, 1, (1, 60, 1, 1))
    noise = rng.normal(0, 0.5, (2, *samples.y.shape))
    values = samples.y[None] + offset + noise
    coords = {"model": ["m"], "seed": [0, 1], "site": samples.site, "time": samples.time}
    dims = ("model", "seed", "site", "time")
    pred = xr.Dataset({f: (dims, values[None, ..., k]) for k, f in enumerate(FLUXES)}, coords)
    return samples, list(folds(samples, 4)), pred


def test_what_is_promised_is_covered(case: tuple[Samples, list[Fold], xr.Dataset]) -> None:
    """90 % hold about 90 % of days, months and years; a sum over a year is wider than a day."""
    table = interval_table(case[2], case[0], case[1])
    most = table[(table.stratum == "") & (table.level == 0.9)]
    assert set(most.period) == {"day", "month", "year"}
    assert most.coverage.between(0.8, 0.99).all()
    assert most.crps.gt(0).all()
    width = most.groupby("period").width.mean()
    assert width["day"] < width["month"] < width["year"]
    # The offset of a tower stays in the mean of a year: it does not average out like noise.
    assert width["year"] > 365 * width["day"] / np.sqrt(365)
    days = table[(table.period == "day") & (table.stratum == "") & (table.flux == "GPP")]
    assert days.sort_values("level").width.is_monotonic_increasing


def test_kept_tables_come_back(
    case: tuple[Samples, list[Fold], xr.Dataset], tmp_path: Path
) -> None:
    """One file a model; none is an empty table, not an error."""
    assert interval_coverage.read(tmp_path).empty
    table = interval_table(case[2], case[0], case[1])
    path = interval_coverage.write(tmp_path, "m", {"model": "m m", "key": "k"}, table)
    assert path.stat().st_size < 40_000
    again = interval_coverage.read(tmp_path)
    assert set(again.model) == {"m m"}
    np.testing.assert_allclose(again.coverage, table.coverage, rtol=1e-5)
    assert (again.stratum == table.stratum).all()


def test_figures_show_what_the_table_says(case: tuple[Samples, list[Fold], xr.Dataset]) -> None:
    """One line a flux that ends near the promise; one row a class, whichever periods it has."""
    table = interval_table(case[2], case[0], case[1])
    days = table[(table.stratum == "") & (table.period == "day")]
    (ax,) = plots.reliability(days).axes
    lines = {line.get_label(): line for line in ax.lines}
    assert set(lines) == {"nominal", *FLUXES}
    np.testing.assert_allclose(lines["GPP"].get_ydata()[-1], 0.9, atol=0.08)
    classes = table[(table.stratum != "") & (table.level == 0.9) & (table.towers >= 5)]
    figure = plots.coverage_by_class(classes)
    assert len(figure.axes) == classes.period.nunique()
    shown = [text.get_text().split(" ")[0] for text in figure.axes[0].get_yticklabels()]
    assert set(shown) == set(classes.stratum)


def test_where_too_few_towers_have_intervals_all_that_is_shown_stays_empty(tmp_path: Path) -> None:
    """A quick look has scores without intervals: tables, words and figures bear it."""
    none = interval_coverage.read(tmp_path)
    assert interval_coverage.sharpness(none).empty
    assert interval_coverage.overall(none, "ours").empty
    assert "not computed" in interval_coverage.in_words(none, "ours")
    assert "not computed" in interval_coverage.crps_in_words(none, "ours")
    assert plots.coverage_by_class(interval_coverage.by_class(none, "ours")).axes


def test_sharpness_has_a_row_a_model() -> None:
    """Fluxes stand side by side, models in their order."""
    kept = interval_coverage.read(REFERENCE.parent / "benchmark")
    table = interval_coverage.sharpness(kept)
    assert list(table.index) == list(kept.model.unique())
    assert table["coverage"].to_numpy(float).min() > 0.8
    assert table["crps"].notna().all(axis=None)
