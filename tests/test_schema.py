"""The schema refuses what later modules would silently get wrong."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from halfhours import Tower, facts

from tamrl.data import daily
from tamrl.data.schema import IGBP_NUMBER, koppen_main, tower_facts, validate
from tamrl.errors import DataError


@pytest.fixture
def ds() -> xr.Dataset:
    days = np.datetime64("2001-01-01") + np.arange(30)
    values = dict.fromkeys(("TA", "VPD", "SW_IN", "NEE", "GPP", "RECO", "NEE_QC"), np.ones(30))
    many = {"AA-Aaa": Tower(), "BB-Bbb": Tower()}
    return daily.assemble({s: daily.TowerDays(days, values) for s in many}, facts(many))


def spoilt(name: str, value: float) -> Callable[[xr.Dataset], xr.Dataset]:
    def spoil(ds: xr.Dataset) -> xr.Dataset:
        ds[name].values[1, 4] = value
        return ds

    return spoil


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda d: d.drop_vars("GPP"), "variable GPP is missing"),
    (lambda d: d.drop_vars("igbp"), r"coordinate igbp \(site\) is missing"),
    (lambda d: d.isel(site=[]), "dimension site is missing or empty"),
    (lambda d: d.isel(site=[1, 0]), "not sorted"),
    (lambda d: d.isel(site=[0, 0]), "AA-Aaa occurs twice"),
    (lambda d: d.isel(time=[0, 0, 1]), "2001-01-01 occurs twice"),
    (lambda d: d.isel(time=[0, 2, 1]), "goes back at 2001-01-02"),
    (lambda d: d.isel(time=[0, 2]), "not dense"),
    (lambda d: d.assign_coords(time=d.time + np.timedelta64(1, "h")), "not a whole day"),
    (lambda d: d.assign(GPP=d["GPP"].T), r"GPP has dims \('time', 'site'\)"),
    (lambda d: d.astype(float), "NEE is float64; expected float32"),
    (lambda d: d.assign(TA=d.TA.assign_attrs(units="K")), "TA is in 'K'; convert it to degC"),
    (spoilt("NEE", 101), "tower BB-Bbb, 2001-01-05: NEE is 101, outside -100 to 100"),
    (spoilt("TA", -9999), "TA is -9999, a code for missing left in"),
    (spoilt("NEE_QC", 1.5), "NEE_QC is 1.5, outside 0 to 1"),
    (lambda d: d.assign(VPD=d["VPD"].where(False)), "tower AA-Aaa has no valid day"),
    (lambda d: d.assign_coords(lat=d.lat + 73), "tower AA-Aaa: latitude 123"),
])  # fmt: skip
def test_faults(ds: xr.Dataset, spoil: Callable[[xr.Dataset], xr.Dataset], said: str) -> None:
    xr.testing.assert_identical(validate(ds, "x"), ds)  # unchanged
    with pytest.raises(DataError, match=rf"^file\.nc: .*({said})"):
        validate(spoil(ds), "file.nc")


def test_classes_are_those_of_the_map() -> None:
    """The numbers by which MODIS land cover (MCD12) knows the classes; towers use no other."""
    assert len(IGBP_NUMBER) == 17
    assert [IGBP_NUMBER[k] for k in ("WAT", "ENF", "CRO", "SNO", "BSV")] == [0, 1, 12, 15, 16]
    assert set(tower_facts()["igbp"]) <= set(IGBP_NUMBER)

    assert [koppen_main(k) for k in ("Af", "BSk", "Cfa", "Dfb", "ET", "BWh ", "", "?")] == [
        *("Tropical", "Arid", "Temperate", "Cold", "Polar", "Arid", "", "")
    ]
