"""Clouds take what they say they take, and a model that practised doing without minds them less."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import xarray as xr

from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import SATELLITE, make_samples
from tamrl.samples.splits import folds
from tamrl.study.drivers.clouds import cloud, gap_curve
from tamrl.study.out_of_fold import fit_folds
from tamrl.virtual.towers import virtual_predictors, virtual_towers

NET = {"hidden": 24, "latent": 8, "embed": 8}


@pytest.fixture(scope="module")
def world() -> tuple[xr.Dataset, xr.Dataset]:
    towers = virtual_towers(n=40, seed=2, years=(2001, 2002))
    return towers, virtual_predictors(towers)


def known(monthly: xr.Dataset) -> xr.DataArray:
    return np.isfinite(monthly[list(SATELLITE)]).to_dataarray().any("variable")


def test_clouds_take_whole_months_and_grow(world: tuple[xr.Dataset, xr.Dataset]) -> None:
    _, monthly = world
    before = known(monthly).sum("month")
    last = monthly
    for share in (0.0, 0.3, 0.6, 1.0):
        left = cloud(monthly, share, seed=5)
        assert (abs(known(left).sum("month") - (1 - share) * before) <= 0.5).all()
        assert not (known(left) & ~known(last)).any()  # what was lost stays lost
        kept = known(left)
        for name in SATELLITE:  # a month that is left keeps every variable
            assert left[name].where(kept).equals(monthly[name].where(kept))
        last = left
    assert cloud(monthly, 0.0).identical(monthly)
    some = monthly.isel(site=[3, 7])
    assert cloud(some, 0.4, 5).equals(cloud(monthly, 0.4, 5).isel(site=[3, 7]))
    assert not cloud(monthly, 0.4, 5).equals(cloud(monthly, 0.4, 6))


def test_practice_helps_where_satellites_are_missing(
    world: tuple[xr.Dataset, xr.Dataset],
) -> None:
    """Without any cloud the curve is the plain error; under full cover practice pays."""
    towers, monthly = world
    samples = make_samples(towers, monthly)
    parts = folds(samples, 2)
    recipes = {
        "practised": Recipe(epochs=12, drop_satellite=0.5, drop_driver=0),
        "not": Recipe(epochs=12, drop_satellite=0, drop_driver=0),
    }
    models = {
        name: fit_folds(partial(TamRLModel, NET, recipe), samples, parts)
        for name, recipe in recipes.items()
    }
    curve = gap_curve(models, towers, monthly, shares=(0.0, 0.5, 1.0), n_boot=100)
    table = curve.set_index(["model", "flux", "share"])

    sees = known(monthly).any("month").reindex(site=towers.site, fill_value=False).values
    assert 0 < sees.sum() == curve.towers.max() < len(samples.site)
    plain = np.concatenate(
        [
            (model.predict(samples, test) - samples.y[test])[
                samples.scored[test] & sees[test, None]
            ]
            for model, test in models["not"]
        ]
    )
    expected = np.sqrt((plain.astype(float) ** 2).mean(0))
    first = [table.RMSE["not", flux, 0.0] for flux in ("GPP", "RECO", "NEE")]
    np.testing.assert_allclose(first, expected, rtol=1e-4)

    assert (table.change.xs(0.0, level="share") == 0).all()
    assert 0 < table.change["practised", "GPP", 1.0] < table.change["not", "GPP", 1.0]
    inside = curve.RMSE.between(curve.lower, curve.upper)
    assert inside.mean() > 0.9
