"""Annual means of places: nothing of a tower left out leaks, and daily fluxes gain from them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from settings import QUICK, SMALL

from tamrl.errors import DataError
from tamrl.evaluate.crossval import cross_validate
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Climatology
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.site_attributes import gather
from tamrl.samples.splits import Fold, folds
from tamrl.shipped import annual
from tamrl.shipped.annual import AnnualMeans, AnnualPrior, AnnualRescaling, own_means
from tamrl.shipped.blend import Blend
from tamrl.shipped.weights import pack, unpack
from tamrl.virtual.towers import virtual_predictors, virtual_towers

means = st.floats(0.3, 15)


@dataclass
class Listener:
    """Remember the static attributes it was trained on, and predict the annual means in them."""

    static: Any = None
    names: tuple[str, ...] = ()

    def fit(self, samples: Samples, train: Any, valid: Any, seed: int = 0) -> Self:
        self.static, self.names = samples.static, samples.static_names
        return self

    def predict(self, samples: Samples, sites: Any) -> np.ndarray:
        gpp, reco = samples.static[sites][:, -2:].T[:, :, None]
        flux = np.stack([gpp, reco, reco - gpp], -1)
        return np.broadcast_to(flux, (len(sites), len(samples.time), 3)).astype(np.float32)


@pytest.fixture(scope="module")
def samples(globe: xr.Dataset) -> Samples:
    """Make sixty virtual towers over two years, with their grid."""
    daily = virtual_towers(n=60, years=(2001, 2002))
    return make_samples(daily, virtual_predictors(daily), globe)


@pytest.fixture(scope="module")
def fold(samples: Samples) -> Fold:
    return folds(samples, 5)[0]


def prior() -> AnnualPrior:
    return AnnualPrior(Listener(), inner=3)


def test_own_means_weigh_months_alike(samples: Samples) -> None:
    """A month with few days counts as much as one with all; a short record has no annual mean."""
    y, weight = np.ones_like(samples.y), np.ones_like(samples.weight)
    y[..., 0] = month = samples.time.astype("datetime64[M]").astype(int) % 12
    weight[0, (month == 11) & (np.arange(len(month)) % 3 > 0)] = 0
    weight[1, month > 8], weight[2, month > 9] = 0, 0
    for site, days in ((3, 8), (4, 7)):  # of two Januaries
        weight[site, np.flatnonzero(month == 0)[days:]] = 0
    mean = own_means(replace(samples, y=y, weight=weight))
    assert mean[[0, 2, 3]] == pytest.approx(np.array([[5.5, 1.0], [4.5, 1.0], [5.5, 1.0]]))
    assert mean[4] == pytest.approx([6.0, 1.0])  # of eleven months
    assert np.isnan(mean[1]).all()


def test_smooth_truth_is_recovered_where_features_are_missing() -> None:
    """The process learns a linear truth from noisy places, unknown features included."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    truth = np.stack([4 + x[:, 0], 3 + x[:, 1]], 1)
    x[::17, 3] = np.nan
    fitted = AnnualMeans(("a", "b", "c", "igbp_ENF"))
    fitted.fit(x[:200], truth[:200] + rng.normal(0, 0.3, (200, 2)))
    assert np.sqrt(((fitted.predict(x[200:]) - truth[200:]) ** 2).mean()) < 0.3
    assert (fitted.predict(x * 50) >= 0).all()
    low = AnnualMeans(fitted.names).fit(x[:200], truth[:200] / 10, fitted.kernel)
    np.testing.assert_allclose(low.predict(x[200:]), truth[200:] / 10, atol=0.2)
    mean, sd = x[:200].mean(0), x[:200].std(0)
    far = [np.where(np.arange(4) == 0, mean + k * sd, x[200])[None] for k in (3, 4, 5, -3, -4, -5)]
    at = [fitted.predict(place)[0, 0] for place in far]
    assert at[1] == at[2] > at[0] > at[3] > at[4] == at[5]  # beyond 4 sd a feature says no more


def test_what_is_known_of_no_place_or_the_same_of_all_says_nothing() -> None:
    """A place without either is one whose feature is nought, or that of all others."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    x[:, 1], x[:, 2], x[:, 3] = np.nan, 5.0, np.arange(60) % 2
    y = 4 + x[:, [0, 0]] + x[:, [3, 3]] + rng.normal(0, 0.2, (60, 2))
    fitted = AnnualMeans(("a", "b", "c", "igbp_ENF")).fit(x, y)
    assert fitted.arrays["mean"][1:3].tolist() == [0, 5]
    assert fitted.arrays["sd"][1:3].tolist() == [1, 1]
    one = np.array([0.3, 0.0, 5.0, 1.0])
    same = fitted.predict(np.array([[0.3, np.nan, np.nan, 1.0], one]))
    np.testing.assert_array_equal(same[0], same[1])
    gap = fitted.predict(np.stack([one, [*one[:3], 0.0], [*one[:3], np.nan]]))
    assert gap[0] != pytest.approx(gap[1])
    np.testing.assert_array_equal(gap[1], gap[2])


@pytest.mark.parametrize("part", ["test", "train"])
def test_the_prior_of_a_tower_knows_none_of_its_labels(samples, fold, part, monkeypatch) -> None:
    """A tower's labels change nothing of its own prior, in training or in testing."""
    fit = AnnualMeans.fit  # all training towers decide the kernel, which must not change here
    monkeypatch.setattr(AnnualMeans, "fit", lambda s, x, y, _=None: fit(s, x, y, annual.KERNEL))
    tower, y = getattr(fold, part)[0], samples.y.copy()
    y[tower] = np.where(np.isfinite(y[tower]), 30.0, np.nan)
    given = samples, replace(samples, y=y)
    models = [prior().fit(s, fold.train, fold.valid) for s in given]
    before, after = (model.fitted[0].static[:, -2:] for model in models)
    np.testing.assert_array_equal(before[tower], after[tower])
    assert np.array_equal(before, after) == (part == "test")


@pytest.mark.parametrize("part", ["test", "train"])
def test_others_near_a_tower_left_out_are_left_out(samples, fold, part, monkeypatch) -> None:
    """The flux of a place beside a tower must not reach its prior; from afar it may."""
    fit = AnnualMeans.fit
    monkeypatch.setattr(AnnualMeans, "fit", lambda s, x, y, _=None: fit(s, x, y, annual.KERNEL))
    site = getattr(fold, part)[:1]
    tower = samples.table.iloc[site[0]]

    def predicted(lat: float, gpp: float) -> np.ndarray:
        many = 30
        places = replace(
            samples.places, other_x=np.repeat(samples.places.x[site], many, 0),
            other_y=np.full((many, 2), gpp), other_lat=np.full(many, lat),
            other_lon=np.full(many, float(tower.lon)),
        )  # fmt: skip
        given = replace(samples, places=places)
        model = prior().fit(given, fold.train, fold.valid)
        if part == "train":  # what it was shown of the tower
            return model.fitted[0].static[site[0], -2:]
        return model.predict(given, site)[0, 0]

    near, far = (float(tower.lat) + km / 111.2 for km in (49, 51))
    np.testing.assert_array_equal(predicted(near, 0.0), predicted(near, 12.0))
    assert predicted(far, 12.0)[0] > predicted(far, 0.0)[0] + 1


def test_two_places_are_needed_and_enough(samples: Samples, fold: Fold) -> None:
    """To predict either without it: towers of one landscape have no other to learn from."""
    near = samples.table.assign(lat=50.0, lon=10.0)
    with pytest.raises(DataError, match=r"all towers to train on lie within 50 km"):
        prior().fit(replace(samples, table=near), fold.train, fold.valid)
    near.loc[fold.train[::2], "lat"] = 51.0
    shown = prior().fit(replace(samples, table=near), fold.train, fold.valid).fitted[0].static
    assert np.isfinite(shown[:, -2:]).all()


def test_statics_are_classes_and_annual_means(samples: Samples, fold: Fold) -> None:
    names = prior().fit(samples, fold.train, fold.valid).fitted[0].names
    assert names[-2:] == annual.ANNUAL
    assert all(name.startswith(("igbp_", "koppen_")) for name in names[:-2])


def test_samples_that_do_not_fit_are_refused(samples: Samples, fold: Fold) -> None:
    with pytest.raises(DataError, match="with a cube"):
        prior().fit(replace(samples, places=None), fold.train, fold.valid)
    with pytest.raises(ValueError, match="fit before"):
        prior().predict(samples, fold.test)
    gas = replace(samples, targets=("GPP", "RECO", "CH4"))
    with pytest.raises(DataError, match="not of"):
        AnnualRescaling(Climatology()).fit(gas, fold.train, fold.valid)


def test_others_are_never_towers_of_the_table(samples: Samples, globe: xr.Dataset) -> None:
    """Names are compared, medians that are missing drop a place, units become days."""
    site, gpp = ["XX-New", str(samples.site[0]), "XX-Gap", "XX-Two"], [365.25, 1.0, np.nan, 730.5]
    columns = {"site": site, "GPP": gpp, "TER": [365.25, 1.0, 1.0, 0.0]}
    others = pd.DataFrame({**columns, "lat": 50.0, "lon": 10.0, "igbp": "ENF"})
    others = others.set_index("site").to_xarray()
    places = gather(pd.DataFrame(samples.table), globe, others)
    np.testing.assert_allclose(places.other_y, [[1, 1], [2, 0]])


@given(means, means)
def test_rescaling_meets_half_way_whichever_comes_first(one: float, other: float) -> None:
    """From either side two means meet in the middle, unless a factor would pass its bound."""
    a, b = np.array([[one, one]]), np.array([[other, other]])
    there, back = annual.rescaling_factors(a, b), annual.rescaling_factors(b, a)
    np.testing.assert_allclose(there * back, 1, rtol=1e-9)
    assert ((there >= 0.5) & (there <= 2)).all()
    assert (
        annual.rescaling_factors(a * 0 + 0.1, b) == annual.rescaling_factors(a * 0 + 0.3, b)
    ).all()
    if 1 / 4 < one / other < 4:
        np.testing.assert_allclose(a * there, b * back, rtol=1e-9)
    assert (annual.rescaling_factors(a * np.nan, b) == 1).all()  # a record that makes no year


def test_one_factor_a_tower_and_flux(samples: Samples, fold: Fold) -> None:
    """Rescaled fluxes are nearer to the prior of their place, and missing days stay missing."""
    model = AnnualRescaling(TamRLModel(SMALL, QUICK)).fit(samples, fold.train, fold.valid, 0)
    plain, rescaled = (m.predict(samples, fold.test) for m in (model.fitted[0], model))
    np.testing.assert_array_equal(np.isnan(rescaled), np.isnan(plain))
    np.testing.assert_array_equal(rescaled[..., 2], rescaled[..., 1] - rescaled[..., 0])
    ratio = rescaled[..., :2] / np.where(plain[..., :2] > 1e-2, plain[..., :2], np.nan)
    assert np.nanmax(np.nanstd(ratio, 1)) < 1e-4
    assert np.nanstd(ratio) > 0.01
    known = np.isfinite(rescaled).all(-1).astype(np.float32)
    given = replace(samples, site=samples.site[fold.test], weight=known)
    expected = model.prior_of(samples)[fold.test]
    own = [own_means(replace(given, y=flux)) for flux in (plain, rescaled)]
    away = [np.nanmean(np.abs(np.log(means / expected))) for means in own]
    assert away[1] < 0.75 * away[0]


def test_a_comparison_rescales_what_it_has_computed(samples: Samples, tmp_path: Path) -> None:
    """In cross-validation a model is fitted once, for itself and for its rescaling."""
    parts = folds(samples, 2)
    models = {"plain": Climatology, "rescaled": lambda: AnnualRescaling(Climatology())}
    stored = cross_validate(samples, models, parts, [0], tmp_path, 1)
    assert not list(tmp_path.glob("part_of_*"))
    model, fold = AnnualRescaling(Climatology()), parts[0]
    anew = model.fit(samples, fold.train, fold.valid, 0).predict(samples, fold.test)
    flux = stored.sel(model="rescaled").isel(site=fold.test)[["GPP", "RECO", "NEE"]].to_array()
    np.testing.assert_array_equal(flux.transpose("site", "time", "variable"), anew)


def test_members_that_were_loaded_evaluate_one_prior_once(samples: Samples, fold: Fold) -> None:
    """Equal processes are one object, which remembers what it predicted for the same places."""
    arrays, about = dict[str, Any](), []
    for member in range(2):
        model = AnnualRescaling(Blend((AnnualPrior(TamRLModel(SMALL, QUICK), inner=3),), (1.0,)))
        about.append(pack(model.fit(samples, fold.train, fold.valid, member), str(member), arrays))
    assert sum(name.endswith("annual.points") for name in arrays) == 1
    first, second = unpack(about, arrays, "cpu")
    assert first.annual is second.annual is second.fitted[0].fitted[0].annual
    calls, kernel = [], first.annual.kernel
    first.annual.kernel = lambda x, points: calls.append(len(x)) or kernel(x, points)
    for model in (first, second, second):
        model.predict(samples, fold.test)
    assert calls == [len(samples.site)]
