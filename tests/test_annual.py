"""Annual means of places: nothing of a tower left out leaks, and what is there is learnt."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.errors import DataError
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.site_attributes import SiteAttributes, gather
from tamrl.samples.splits import folds
from tamrl.shipped.annual import ANNUAL, AnnualMeans, AnnualPrior, own_means
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers


@dataclass
class Listener:
    """Keep the statics it was told when it was trained, and predict the annual means."""

    told: dict[str, Any] = field(default_factory=dict)

    def fit(self, samples: Samples, train: Any, valid: Any, seed: int) -> Listener:
        self.told = {"static": samples.static, "names": samples.static_names}
        return self

    def predict(self, samples: Samples, sites: Any) -> np.ndarray:
        gpp, reco = samples.static[sites][:, -2:].T[:, :, None]
        flux = np.stack([gpp, reco, reco - gpp], -1)
        return np.broadcast_to(flux, (len(sites), len(samples.time), 3)).astype(np.float32)


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Sixty virtual towers over two years, with the grid of their world."""
    daily = virtual_towers(n=60, years=(2001, 2002))
    cube = virtual_grid(seed=daily.attrs["virtual_seed"])
    return make_samples(daily, virtual_predictors(daily), cube)


def test_own_means_weigh_months_alike(samples: Samples) -> None:
    """A month with few days counts as much as one with all; a short record has no annual mean."""
    y = np.zeros_like(samples.y)
    month = samples.time.astype("datetime64[M]").astype(int) % 12
    y[..., 0], y[..., 1] = month, 1.0
    weight = np.ones_like(samples.weight)
    day = np.arange(len(samples.time))
    weight[0, (month == 11) & (day % 3 > 0)] = 0
    weight[1, month > 8] = 0
    means = own_means(replace(samples, y=y, weight=weight))
    assert means[0] == pytest.approx([5.5, 1.0])
    assert np.isnan(means[1]).all()


def test_smooth_truth_is_recovered_where_features_are_missing() -> None:
    """The process learns a linear truth from noisy places, unknown features included."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4))
    truth = np.stack([4 + x[:, 0], 3 + x[:, 1]], 1)
    x[::17, 3] = np.nan
    fitted = AnnualMeans(("a", "b", "c", "igbp_ENF")).fit(
        x[:200], truth[:200] + rng.normal(0, 0.3, (200, 2))
    )
    error = fitted.predict(x[200:]) - truth[200:]
    assert np.sqrt((error**2).mean()) < 0.3
    assert (fitted.predict(x * 50) >= 0).all()


def test_no_tower_is_told_what_was_learnt_from_itself(samples: Samples) -> None:
    """A tower's labels change nothing of its own annual means, in training or in testing."""
    fold = folds(samples, 5)[0]
    first = AnnualPrior(Listener(), inner=3).fit(samples, fold.train, fold.valid)
    for tower in (fold.test[0], fold.train[0]):
        y = samples.y.copy()
        y[tower] = np.where(np.isfinite(y[tower]), 30.0, np.nan)
        # The kernel is learnt from all training towers; it is held fixed to see the rest.
        kernel = first.annual.kernel
        again = AnnualPrior(Listener(), inner=3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tamrl.shipped.annual.KERNEL", kernel)
            patch.setattr(AnnualMeans, "fit", _fixed(AnnualMeans.fit, kernel))
            same = AnnualPrior(Listener(), inner=3).fit(samples, fold.train, fold.valid)
            again.fit(replace(samples, y=y), fold.train, fold.valid)
        before, after = (w.fitted.told["static"][:, -2:] for w in (same, again))
        np.testing.assert_array_equal(before[tower], after[tower])
        if tower in fold.train:
            assert not np.array_equal(before, after)


def _fixed(fit: Any, kernel: Any) -> Any:
    return lambda self, x, y, _=None: fit(self, x, y, kernel)


def test_others_near_a_tower_that_is_left_out_are_left_out(samples: Samples) -> None:
    """A place beside a test tower must not tell its flux; elsewhere it may."""
    fold = folds(samples, 5)[0]
    tower = samples.table.iloc[fold.test[0]]
    kept = gather(samples.table, virtual_grid(seed=0))
    assert kept.names == samples.places.names

    def predicted(lat: float, gpp: float) -> np.ndarray:
        many = 30
        places = replace(
            samples.places,
            other_x=np.repeat(samples.places.x[fold.test[:1]], many, 0),
            other_y=np.full((many, 2), gpp),
            other_lat=np.full(many, lat),
            other_lon=np.full(many, float(tower.lon)),
        )
        model = AnnualPrior(Listener(), inner=3)
        told = replace(samples, places=places)
        return model.fit(told, fold.train, fold.valid).predict(told, fold.test[:1])[0, 0]

    near, far = float(tower.lat) + 0.1, -89.0
    np.testing.assert_array_equal(predicted(near, 0.0), predicted(near, 12.0))
    assert predicted(far, 12.0)[0] > predicted(far, 0.0)[0] + 1


def test_statics_are_classes_and_annual_means(samples: Samples) -> None:
    """The daily model sees vegetation class, climate and the two means, and nothing else."""
    fold = folds(samples, 5)[0]
    names = AnnualPrior(Listener(), inner=3).fit(samples, fold.train, fold.valid)
    names = names.fitted.told["names"]
    assert names[-2:] == ANNUAL
    assert all(name.startswith(("igbp_", "koppen_")) for name in names[:-2])


def test_without_places_it_says_what_is_missing(samples: Samples) -> None:
    """Samples without a grid cannot be used, and the error says how to make better ones."""
    with pytest.raises(DataError, match="with a cube"):
        AnnualPrior(Listener()).fit(replace(samples, places=None), np.arange(40), np.arange(40, 50))


def test_others_are_never_towers_of_the_table(samples: Samples) -> None:
    """Names are compared, medians that are missing drop a place, units become days."""
    n = 4
    others = xr.Dataset(
        {"GPP": ("site", [365.25, 1.0, np.nan, 730.5]), "TER": ("site", [365.25, 1.0, 1.0, 0.0])},
        {
            "site": ["XX-New", str(samples.site[0]), "XX-Gap", "XX-Two"],
            "lat": ("site", np.full(n, 50.0)),
            "lon": ("site", np.full(n, 10.0)),
            "igbp": ("site", ["ENF"] * n),
        },
    )
    table = pd.DataFrame(samples.table)
    places = gather(table, virtual_grid(seed=0), others)
    np.testing.assert_allclose(places.other_y, [[1, 1], [2, 0]])
    assert isinstance(places, SiteAttributes)
