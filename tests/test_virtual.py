"""Simulated towers and globe: physics, truth, noise; no tower depends on which others there are."""

import sys
import time

import numpy as np
import pytest
import xarray as xr

from tamrl.data.cube import VARIABLES
from tamrl.data.grid import grid_at
from tamrl.data.physics import potential_radiation
from tamrl.data.schema import SEALED, validate
from tamrl.errors import DataError
from tamrl.virtual import simulator, towers
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return virtual_towers(noise=False, gases=("CH4", "N2O"))


@pytest.fixture(scope="module")
def noisy() -> xr.Dataset:
    return virtual_towers()


def test_real_places_valid_and_named_virtual(truth: xr.Dataset, noisy: xr.Dataset) -> None:
    for ds in (truth, noisy):
        validate(ds, "test")
        assert ds.sizes == {"site": 180, "time": 2191}
        assert ds.attrs["virtual"] == 1
        assert ds.attrs["tower_source"] == "virtual"
        assert ds.title.startswith("Virtual towers")
        assert not SEALED & set(ds.site.values)
        xr.testing.assert_equal(ds.RECO, (ds.NEE + ds.GPP).rename("RECO"))  # to the last bit
        assert float(abs(ds.NEE - (ds.RECO - ds.GPP)).max()) < 1e-5
    assert float(truth.lat.sel(site="FI-Hyy")) == pytest.approx(61.85, abs=0.01)
    assert truth.igbp.sel(site="US-Ha1") == "DBF"


def test_truth_is_complete_possible_and_of_the_right_sign(truth: xr.Dataset) -> None:
    assert all(np.isfinite(truth[name]).all() for name in truth.data_vars)
    assert min(truth.GPP.min(), truth.RECO.min()) >= 0
    assert (truth.NEE_QC == 1).all()
    forests = truth.NEE.isel(site=np.isin(truth.igbp, ["ENF", "DBF", "MF", "EBF"]))
    assert forests.mean() < -0.2  # uptake is negative
    assert ((truth.TA_min <= truth.TA) & (truth.TA_max >= truth.TA)).all()
    assert (truth.VPD_max >= truth.VPD).all()
    doy = truth.time.dt.dayofyear.values
    sky = potential_radiation(truth.lat.values[:, None], doy[None])
    assert (truth.SW_IN.values <= 0.7501 * sky + 1e-3).all()


def test_seasons_follow_the_hemisphere(truth: xr.Dataset) -> None:
    temperate = truth.isel(site=np.isin(truth.koppen, ["Cfa", "Cfb", "Dfb", "Dfc"]))
    season = temperate[["TA", "GPP", "SW_IN"]].groupby("time.month").mean()
    north = season.isel(site=season.lat.values > 0)
    south = season.isel(site=season.lat.values < 0)
    assert south.sizes["site"] >= 2
    assert set((north.TA.argmax("month") + 1).values) <= {7, 8}
    assert set((south.TA.argmax("month") + 1).values) <= {1, 2}
    midwinter, midsummer = (north.sel(month=m).mean("month") for m in ([12, 1], [6, 7]))
    june, december = (south.sel(month=m) for m in (6, 12))
    for name in ("GPP", "SW_IN"):
        assert (midwinter[name] < midsummer[name]).all()
    assert (june.SW_IN < december.SW_IN).all()
    assert june.GPP.mean() < december.GPP.mean()


def test_biomes_are_plausible(truth: xr.Dataset) -> None:
    """Half to twice the median daily GPP, gC m-2 d-1, that flux towers of the class show."""
    mean = truth[["GPP", "RECO"]].mean("time").groupby("igbp").mean()
    for igbp, median in {
        "CRO": 3.75, "DBF": 4.4, "EBF": 6.3, "ENF": 4.1, "GRA": 3.6, "OSH": 1.1, "SAV": 2.75,
        "WET": 1.95,
    }.items():  # fmt: skip
        gpp, reco = (float(mean[name].sel(igbp=igbp)) for name in ("GPP", "RECO"))
        assert median / 2 < gpp < 2 * median, igbp
        assert 0.6 < reco / gpp < 1.1, igbp


def test_noise_is_tower_like(truth: xr.Dataset, noisy: xr.Dataset) -> None:
    """Errors have mean zero and grow with the flux; quality and gaps resemble the real towers."""
    error, size = noisy.NEE - truth.NEE, abs(truth.NEE)
    assert abs(error.mean()) < 0.01
    assert error.where(size > 4).std() > 2 * error.where(size < 0.5).std()
    running = np.isfinite(noisy.NEE_QC)
    qc = noisy.NEE_QC.values[running.values]
    assert 0.7 < (qc >= 0.5).mean() < 0.9  # 0.81 of the real days
    assert 0.6 < (qc >= 0.8).mean() < 0.85  # 0.76 of the real days
    assert noisy.GPP.min() < 0  # labels are never clipped
    for name in ("TA", "VPD", "SW_IN"):  # what is recorded of the weather is true
        recorded = np.isfinite(noisy[name])
        xr.testing.assert_equal(noisy[name], truth[name].where(recorded))
        assert 0 < 1 - (recorded & running).sum() / running.sum() < 0.05


def test_the_seed_decides() -> None:
    a, b, other = (virtual_towers(3, seed=seed) for seed in (7, 7, 8))
    xr.testing.assert_identical(a, b)
    assert not np.allclose(a.TA, other.TA, equal_nan=True)


def test_a_data_set_is_simulated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(towers, "simulate", lambda *a: calls.append(a) or simulator.simulate(*a))
    data = virtual_towers(4, (2001, 2002), seed=31)
    virtual_predictors(data)
    season = towers.simulated_months(data.isel(site=[2]))["FPAR_season"]
    assert len(calls) == 1
    assert season.shape == (1, 12)


@pytest.mark.slow
def test_a_tower_does_not_depend_on_the_others(noisy: xr.Dataset) -> None:
    few, more, many = virtual_towers(10), virtual_towers(40), virtual_towers(300)
    a, b, c, d = (set(ds.site.values) for ds in (few, more, noisy, many))
    assert a < b < c < d
    for ds in (few, more):
        xr.testing.assert_equal(ds, noisy.sel(site=ds.site))
        xr.testing.assert_equal(ds, many.sel(site=ds.site))
    assert len(set(few.igbp.values)) >= 6  # a sample is balanced over classes
    xr.testing.assert_equal(virtual_towers(10, gases=("CH4",)).drop_vars("CH4"), few)


@pytest.mark.slow
def test_more_towers_than_real_ones_fill_the_land(noisy: xr.Dataset) -> None:
    many = virtual_towers(1200, years=(2001, 2001), noise=False)  # validated: sites are sorted
    main = many.koppen_main.values[~np.isin(many.site, noisy.site)]
    assert len(main) == 1020
    assert (main == "Arid").mean() == pytest.approx(0.302, abs=0.05)
    assert (main == "Tropical").mean() == pytest.approx(0.19, abs=0.05)


def test_traits_can_be_found_unless_scattered() -> None:
    """Without scatter, traits are functions of climate and class: alike at equal inputs."""
    plain = virtual_towers(60, noise=False)
    wild = virtual_towers(60, noise=False, scatter=0.3)
    xr.testing.assert_equal(plain.TA.reset_coords(drop=True), wild.TA.reset_coords(drop=True))
    ratio, warmth = np.log(wild.truth_lue / plain.truth_lue), plain.TA.mean("time")
    assert 0.2 < float(ratio.std()) < 0.4
    assert np.corrcoef(plain.truth_e0, warmth)[0, 1] < -0.9
    assert abs(np.corrcoef(ratio, warmth)[0, 1]) < 0.4


def test_respiration_knows_temperature(truth: xr.Dataset) -> None:
    """In moist temperate forests warm days respire more, at the rate of the hidden parameters."""
    forest = truth.isel(site=(truth.igbp.values == "ENF") & (truth.koppen.values == "Cfb"))
    rest = (forest.RECO - 0.35 * forest.GPP) / forest.truth_rb
    at_reference = rest.where(abs(forest.TA.rolling(time=10).mean() - 15) < 0.5)
    assert float(at_reference.median()) == pytest.approx(1, abs=0.1)


def test_gases_by_process(truth: xr.Dataset) -> None:
    wet = truth.igbp.values == "WET"
    assert truth.CH4.isel(site=wet).mean() > 0.01
    dry = truth.CH4.isel(site=~wet)
    assert -0.003 < dry.min() < dry.max() <= 0  # a small sink
    assert truth.N2O.min() >= 0
    crop, grass = (truth.N2O.isel(site=truth.igbp.values == c).mean() for c in ("CRO", "GRA"))
    assert crop > 2 * grass
    assert (truth.CH4.units, truth.N2O.units) == ("gC m-2 d-1", "gN m-2 d-1")


def test_predictors_show_the_same_towers(truth: xr.Dataset, noisy: xr.Dataset) -> None:
    months = virtual_predictors(truth)
    assert months.sizes == {"site": 180, "month": 72}
    assert all(np.isfinite(months[name]).all() for name in months.data_vars)
    assert float(months.FPAR.max()) <= 1
    assert months.title.startswith("Virtual towers")
    gpp = truth.GPP.resample(time="MS").mean().rename(time="month")
    leafy = np.isin(truth.igbp, ["DBF", "GRA", "CRO"])
    r = xr.corr(gpp, months.FPAR, "month").isel(site=leafy)
    assert float(r.median()) > 0.7
    warm = truth.TA.resample(time="MS").mean().rename(time="month")
    assert float(xr.corr(warm, months.LST_day, "month").median()) > 0.9
    assert ((months.LST_night < warm) & (warm < months.LST_day)).all()
    gappy = virtual_predictors(noisy)
    no_row = np.isnan(gappy.PRCP).all("month")
    assert 0.1 < float(no_row.mean()) < 0.3
    rows = gappy.isel(site=~no_row.values)
    assert 0.03 < float(np.isnan(rows.FPAR).mean()) < 0.4
    # Clouds hide the surface, not the rain, which is known in every month.
    xr.testing.assert_equal(rows.PRCP, months.PRCP.sel(site=rows.site))


def test_predictors_of_a_part(noisy: xr.Dataset) -> None:
    part = noisy.isel(site=[3, 50]).sel(time=slice("2002-03-10", "2003-01-31"))
    months = slice("2002-03-01", "2003-01-01")
    whole = virtual_predictors(noisy).sel(site=part.site.values, month=months)
    xr.testing.assert_equal(virtual_predictors(part), whole)


@pytest.mark.slow
def test_fast_enough() -> None:
    start = time.process_time()
    virtual_towers()
    assert time.process_time() - start < 5


@pytest.mark.parametrize(("wrong", "message"), [
    ({"gases": ("CO",)}, "unknown gas 'CO'"),
    ({"n": 0}, "n is 0"),
    ({"years": (2006, 2001)}, "run backwards"),
])  # fmt: skip
def test_wrong_input(truth: xr.Dataset, wrong: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        virtual_towers(**wrong)
    with pytest.raises(DataError, match="not virtual"):
        virtual_predictors(truth.assign_attrs(virtual=0))


def test_the_globe_has_the_layout_of_the_real_cube(globe: xr.Dataset, monkeypatch) -> None:
    """All variables, twelve months, ascending axes, about the right share of land."""
    assert set(VARIABLES) <= set(globe)
    assert globe.sizes["month"] == 12
    assert min(np.diff(globe.lat).min(), np.diff(globe.lon).min()) > 0
    land = float((globe.area * globe.land_fraction).sum()) / 1e12
    assert 125 < land < 142  # million km2, land without Antarctica: 135
    share = globe.igbp_fraction.sum("igbp").where(globe.land_fraction > 0)
    np.testing.assert_allclose(share.values[np.isfinite(share)], 1)
    assert (globe.attrs["virtual"], globe.attrs["title"][:7]) == (1, "Virtual")
    monkeypatch.setitem(sys.modules, "geopandas", None)
    with pytest.raises(DataError, match=r"pip install 'tamrl\[maps\]'"):
        virtual_grid()


def test_towers_and_their_cells_share_one_climate(truth: xr.Dataset, globe: xr.Dataset) -> None:
    at = grid_at(globe, truth.lat, truth.lon)
    for name, tolerance in (("TA", 4.0), ("SW_IN", 20.0)):
        difference = truth[name].mean("time").values - at[name].mean("month").values
        assert np.nanmedian(np.abs(difference)) < tolerance
