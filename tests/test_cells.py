"""Cells of a map as towers: their classes, the months of their satellites, sums over parts."""

import numpy as np
import pytest
import xarray as xr
from settings import DEFINED

from tamrl.maps.cells import Cells, Parts

pytestmark = DEFINED
FEATURES = ("TA", "VPD", "SW_IN", "FPAR", "latitude", "longitude")
DAYS = np.arange("2002-05-01", "2002-08-01", dtype="M8[D]")


def weather(cells: int) -> np.ndarray:
    """Make days (cell, time, feature) of places in middle latitudes."""
    x = np.full((cells, len(DAYS), len(FEATURES)), 10.0, np.float32)
    x[..., 2], x[..., 3], x[..., 4] = 200, 0.4, 45
    x[..., 5] = np.arange(cells)[:, None] * 2 + 1
    return x


def test_months_are_means_of_the_days_that_are_known() -> None:
    """Days without a view count for nothing, and a month without any is not known."""
    x = weather(3)
    x[0, :10, 3], x[1, 31:61, 3] = np.nan, np.nan
    x[2, :31, 3] = np.arange(31) / 100
    parts = Cells(FEATURES, DAYS, None)(x)
    fpar = parts.samples.x[..., parts.samples.features.index("FPAR")]
    np.testing.assert_allclose(fpar[0, :61], 0.4, rtol=1e-6)
    known = np.isfinite(fpar[1])
    assert known[[0, 20, 75, 91]].all()
    assert not known[40:50].any()
    assert fpar[2, 14] == pytest.approx(0.15)  # in the middle of May
    assert (parts.vegetated, parts.share.tolist(), parts.first.tolist()) == (
        None,
        [1] * 3,
        [0, 1, 2],
    )
    assert parts.samples.table[["lat", "lon"]].to_numpy().tolist() == [[45, 1], [45, 3], [45, 5]]


@pytest.mark.parametrize(("cover", "classes", "shares", "vegetated"), [
    ({"ENF": 0.5, "GRA": 0.125, "BSV": 0.375}, ["ENF", "GRA"], [0.8, 0.2], 0.625),
    ({"ENF": 0.5, "GRA": 0.12, "BSV": 0.38}, ["ENF"], [1], 0.62),  # less than a fifth
    ({"ENF": 0.5, "DNF": 0.5}, ["DBF", "ENF"], [0.5, 0.5], 1),  # no tower stands in larch
    ({"BSV": 0.75, "SNO": 0.25}, [""], [1], 0), ({"BSV": 0.75, "CVM": 0.01}, ["CRO"], [1], 0.25),
])  # fmt: skip
def test_a_cell_is_its_classes_that_count(globe, cover, classes, shares, vegetated) -> None:
    """By their share of what is not bare; the others of the same place are as they were."""
    some = globe.copy()
    igbp = xr.zeros_like(globe["igbp_fraction"])
    for code, share in cover.items():
        igbp.loc[{"igbp": code}] = share
    some["igbp_fraction"] = igbp
    parts = Cells(FEATURES, DAYS, some)(weather(2))
    assert sorted(parts.samples.table.igbp[: len(classes)]) == sorted(classes)
    of = dict(zip(parts.samples.table.igbp, parts.share, strict=True))
    assert [of[name] for name in classes] == pytest.approx(shares)
    assert parts.first.tolist() == [0, len(classes)]
    assert np.nanmax(parts.vegetated) == pytest.approx(vegetated, abs=1e-6)


def test_parts_are_added_by_their_share_and_the_largest_is_known() -> None:
    parts = Parts(None, np.array([0.3, 0.7, 1.0, 0.5, 0.25, 0.25]), np.array([0, 2, 3]), None)
    assert parts.largest.tolist() == [1, 2, 3]
    values = np.arange(1.0, 7)
    assert parts.added(values).tolist() == pytest.approx([1.7, 3, 4.75])
    deep = np.stack([values, 10 * values], -1)[:, None]  # (part, day, flux)
    np.testing.assert_allclose(parts.added(deep)[:, 0], [[1.7, 17], [3, 30], [4.75, 47.5]])
