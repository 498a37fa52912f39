"""Every fetch_* is found, run and held to the same standard; then what each one must know."""

import inspect
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import tamrl.data
from tamrl.data import fetch_annual_towers, fetch_methane_towers, fetch_tower_predictors
from tamrl.data.schema import IGBP_CODES, SEALED, drop_sealed

FUNCTIONS = inspect.getmembers(tamrl.data, inspect.isfunction)
FETCHES = {name: function for name, function in FUNCTIONS if name.startswith("fetch_")}


@pytest.mark.parametrize("name", FETCHES)
def test_every_fetch_is_exported_and_documents_its_data(name: str) -> None:
    """A docstring is the data sheet: what it is, from where, under which licence."""
    assert name in tamrl.data.__all__
    sheet = (inspect.getdoc(FETCHES[name]) or "").lower()
    for word in ("source", "licence", "raises"):
        assert word in sheet, f"{name} does not give its {word}"


@pytest.mark.parametrize("name", FETCHES)
def test_every_fetch_yields_described_data(name: str, need: Callable[[str], None]) -> None:
    need("")
    ds = FETCHES[name]()
    assert isinstance(ds, xr.Dataset)
    for key in ("title", "source", "licence", "citation"):
        assert ds.attrs.get(key), f"{name}: attribute {key} is empty"
    for variable in ds.data_vars.values():
        assert variable.attrs.get("long_name"), f"{name}: {variable.name} has no long_name"
        if variable.dtype.kind == "f":
            assert variable.attrs.get("units"), f"{name}: {variable.name} has no units"
    if "site" in ds.coords:
        sites = {str(s).replace("_", "-").upper() for s in ds.site.values}
        assert not {s.upper() for s in SEALED} & sites
        assert sorted(ds.site.values) == list(ds.site.values)
        assert (np.abs(ds.lat) <= 90).all() if "lat" in ds.coords else True


def test_sealed_towers_are_known_in_any_spelling() -> None:
    table = pd.DataFrame({"site": ["US-WCr", "us_wcr", "US-Ha1", "DE-HAI"]})
    assert drop_sealed(table)["site"].tolist() == ["US-Ha1"]


def test_monthly_predictors(need: Callable[[str], None]) -> None:
    need("tower_predictors/")
    monthly = fetch_tower_predictors()
    assert monthly.sizes["site"] == 144
    assert {"GL-NuF", "GL-ZaF", "GL-ZaH", "SJ-Adv"} <= set(monthly.site.values)
    assert not {"US-Ha1", "US-MMS", "US-PFa"} & set(monthly.site.values)  # no satellite rows
    assert monthly.attrs["imputed_share"] == pytest.approx(0.265, abs=0.001)
    assert (monthly.month.dt.day == 1).all()
    assert np.unique(np.diff(monthly.month.values)).max() <= np.timedelta64(31, "D")
    assert monthly["FPAR"].sel(month=slice(None, "2000-12")).count() == 0  # before MODIS: imputed
    for name in monthly:
        assert monthly[name].dtype == np.float32
        assert monthly[name].count() == 10_776
    # Boreal forest: green and warm in July, dark and snowy in January, dry deserts elsewhere.
    pine = monthly.sel(site="FI-Hyy").groupby("month.month").mean()
    january, july = pine.sel(month=1), pine.sel(month=7)
    assert july["FPAR"] > january["FPAR"]
    assert july["SIF"] > 3 * january["SIF"]
    assert -20 < january["LST_day"] < 0 < 15 < july["LST_day"] < 30
    assert (pine["LST_night"] < pine["LST_day"]).all()
    assert january["SNOW"] > 50 > july["SNOW"]
    desert, rain = (monthly["PRCP"].sel(site=s).mean() * 365 for s in ("US-Whs", "GF-Guy"))
    assert 150 < desert < 600 < 2000 < rain < 4500  # mm yr-1
    assert monthly["PET"].mean() > monthly["PRCP"].mean() > 0


def test_annual_towers(need: Callable[[str], None], real_towers: xr.Dataset) -> None:
    need("towers_annual/")
    annual = fetch_annual_towers()
    both = np.isfinite(annual["GPP"].values + annual["TER"].values)
    assert both.sum() == 617 - 18  # the sealed are gone
    assert (both & annual.in_daily.values).sum() == 111
    assert set(annual.igbp.values) <= set(IGBP_CODES)
    assert (annual["n_years_GPP"].values[both] >= 1).all()
    gap = annual["NEP"] - (annual["GPP"] - annual["TER"])
    assert abs(float(gap.median())) < 10  # signs agree; medians of years need not close
    # Other years and processing than the daily towers', the same places: sums must go together.
    a, b = xr.align(annual["GPP"], real_towers["GPP"].mean("time") * 365.25)
    assert float(xr.corr(a, b)) > 0.9
    assert abs(float((a - b).mean())) < 150


def test_methane_towers(need: Callable[[str], None]) -> None:
    need("towers_methane/")
    marshes = fetch_methane_towers()
    assert marshes.site.values.tolist() == ["US-EDN", "US-LA1", "US-PLM", "US-SRR", "US-STJ"]
    assert int(marshes["CH4"].count()) == 4593
    assert (np.diff(marshes.time.values) == np.timedelta64(1, "D")).all()
    gap = marshes["NEE"] - (marshes["RECO"] - marshes["GPP"])
    assert float(np.abs(gap).max()) < 1e-5  # only with the sign of GPP turned
    assert marshes["NEE"].sel(site="US-LA1").count() == 0
    assert float(marshes["GPP"].mean()) > 0
    fresh, salt = (marshes["CH4"].sel(site=site).mean() for site in ("US-LA1", "US-EDN"))
    assert fresh > 10 * salt  # sulphate of sea water holds methane down
