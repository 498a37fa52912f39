"""Weights as files: what comes back is what was trained; intervals, scores, own towers."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import save_file
from settings import QUICK, SMALL
from typer.testing import CliRunner

from tamrl import load_pretrained
from tamrl.cli.app import app
from tamrl.data.cache import registry_sha256
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError, InputWarning
from tamrl.evaluate.score_file import open_fluxes
from tamrl.evaluate.score_file import score as score_file
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.missing import INPUTS, without
from tamrl.samples.phenology import with_phenology
from tamrl.samples.splits import folds
from tamrl.shipped import (
    bounds,
    calibration,
    ensemble,
    error_model,
    pretrained,
    weights,
    weights_file,
)
from tamrl.shipped.adaptation import Adapted
from tamrl.shipped.annual import AnnualPrior
from tamrl.shipped.blend import Blend
from tamrl.shipped.error_model import ErrorModel
from tamrl.shipped.out_of_fold import fold_ensembles, predict_held_out
from tamrl.sources import load_grid, load_phenology, load_predictors
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

GOLDEN = Path(__file__).parent / "golden" / "shipped.npz"
NET, TREES = partial(TamRLModel, SMALL, QUICK), partial(Boosting, trees=10, tune=False)
MAKE = {
    "trees": lambda: TREES(lags=False, statics=("igbp_",)),
    "prior of a part": lambda: Blend((NET(), AnnualPrior(TREES(), inner=3)), (1, 1)),
    "prior of all": lambda: AnnualPrior(Blend((NET(), TREES()), (1, 1)), inner=3),
}
ALL = np.arange(24)


@pytest.fixture(scope="module")
def daily() -> xr.Dataset:
    return virtual_towers(n=24, years=(2001, 2002))


@pytest.fixture(scope="module")
def samples(daily: xr.Dataset) -> Samples:
    return make_samples(daily, virtual_predictors(daily), virtual_grid(2.5))


@pytest.fixture(scope="module")
def fitted(samples: Samples) -> dict[str, Any]:
    return {name: make().fit(samples, ALL[:20], ALL[20:], 1) for name, make in MAKE.items()}


def test_files_of_others_are_refused(fitted, samples: Samples, tmp_path: Path) -> None:
    """One error that names the file; nothing that is read is executed."""
    path = tmp_path / "w.safetensors"
    with pytest.raises(DataError, match="no such file of weights"):
        weights_file.load(path, "cpu")
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(DataError, match=r"w\.safetensors: not weights of tamrl"):
        weights_file.load(path, "cpu")
    with pytest.raises(DataError, match="holds something else than weights"):
        weights_file.save([fitted["trees"]], path, samples, towers=24)
    path.unlink()
    weights_file.save([fitted["trees"]], path, samples, towers=24)
    with pytest.raises(DataError, match="hold no network"):
        weights.networks_alone(weights_file.load(path, "cpu")[0])
    arrays: weights.Arrays = {}
    about, header = weights.pack(fitted["trees"], "0", arrays), weights_file.load(path, "cpu")[1]
    for wrong, message in (({"kind": "os.system"}, "unknown to this version"), ({}, "not weights")):
        model = {k: v for k, v in (about | wrong).items() if wrong or k != "fluxes"}
        save_file(arrays, path, {"tamrl": json.dumps({**header, "models": [model]})})
        with pytest.raises(DataError, match=message):
            weights_file.load(path, "cpu")
    for unfitted in (NET(), TREES(), AnnualPrior(NET())):
        with pytest.raises(ValueError, match="fit the model before saving"):
            weights.pack(unfitted, "0", {})


def test_what_ships_works_for_any_tower(samples: Samples, daily: xr.Dataset) -> None:
    """Small, calibrated, exact in its balance; at virtual towers too, with a grid or without."""
    model = load_pretrained()
    path = Path(pretrained.__file__).parents[1] / pretrained.SHIPPED
    assert path.stat().st_size < 12e6
    assert (model.header["virtual"], model.header["registry"]) == (0, registry_sha256())
    bare = make_samples(daily)
    out = model.predict(bare)
    np.testing.assert_array_equal(np.isfinite(out.NEE), bare.has_drivers)
    np.testing.assert_array_equal(out.NEE, out.RECO - out.GPP)
    assert min(out.GPP.min(), out.RECO.min()) >= 0
    assert (out.NEE_lower < out.NEE_upper).where(out.NEE.notnull(), True).all()
    assert score_file(out, daily).set_index("site").loc["all"].R2.max() > 0.3


def test_what_ships_uses_a_vegetation_index_that_is_brought(daily, globe, monkeypatch) -> None:
    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: globe)
    model, few = load_pretrained(), daily.isel(site=[0, 1])
    green = few.assign(EVI=few.TA * 0 + 0.5)
    without, seen = model.predict(few), model.predict(green)
    assert abs(seen.GPP - without.GPP).mean() > 0.05
    np.testing.assert_array_equal(np.isfinite(seen.GPP), np.isfinite(without.GPP))


def expect_golden(label: str, samples: Samples, every: int) -> None:
    predicted = load_pretrained().predict(samples)
    with np.load(GOLDEN) as golden:
        names = [name for name in golden.files if name.startswith(f"{label}, ")]
        assert len(names) >= 3
        for name in names:
            values = predicted[name.removeprefix(f"{label}, ")].values[:, ::every]
            np.testing.assert_allclose(values, golden[name], rtol=0, atol=1e-4, err_msg=name)


def test_what_ships_predicts_as_when_it_was_trained() -> None:
    """Fluxes and bounds of simulated towers, without a grid."""
    towers = virtual_towers(n=6, seed=0, years=(2001, 2002))
    expect_golden("virtual", make_samples(towers, virtual_predictors(towers)), 10)


def test_what_ships_predicts_real_towers_as_when_it_was_trained(need, real_towers) -> None:
    need("grid/")
    need("tower_predictors/")
    towers = real_towers.sel(site=["US-Ha1", "FI-Hyy", "AU-Tum", "DE-Tha"])
    samples = make_samples(towers, load_predictors(towers), load_grid(towers))
    expect_golden("real", with_phenology(samples, load_phenology(towers)), 30)


def test_bounds_come_with_calibrated_weights(
    samples: Samples, daily: xr.Dataset, globe: xr.Dataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Calibrated at towers held out; stored in the file; about 90 % of days inside, NEE closed.

    Without the grid and satellites bounds are others; after adapting narrower.
    """
    make, path = MAKE["prior of all"], tmp_path / "w.safetensors"
    monkeypatch.setattr(error_model, "STEPS", 3)
    held_out = fold_ensembles(samples, make, folds(samples, 3), 2, tmp_path / "folds")
    predicted = predict_held_out(samples, held_out)
    part = held_out[0]  # what is scored is what the weights of a fold predict for a user
    own = load_pretrained(part.members[0]).predict(samples.select(part.test))
    xr.testing.assert_equal(
        own.GPP.drop_vars(own.GPP.coords),
        predicted.GPP.sel(seed=0, site=own.site).drop_vars(
            ["seed", *own.GPP.coords], errors="ignore"
        ),
    )
    facts = calibration.calibration(samples, held_out, predicted, globe)
    table = calibration.average_cases(samples, held_out, globe)
    fitted = calibration.average_year_intervals(table, samples)
    for flux in FLUXES:  # means of months, not sums; nine of ten of them inside
        mean, spread, seen = (table[n].sel(flux=flux) for n in ("mean", "spread", "observed"))
        low, high = fitted["month"][flux].interval(mean, spread)
        inside = ((low <= seen) & (seen <= high)).where(seen.notnull())
        assert 0.85 <= float(inside.mean()) <= 1
        assert float(abs(mean).max()) < 30
    weights_file.save(ensemble.train(samples, make, 2), path, samples, **facts, towers=24)
    model = load_pretrained(path)
    means = model.header["intervals_of_means"]
    assert set(means) == {*model.header["intervals_by_inputs"], "average year"}
    assert all(set(each) == {"month", "year"} for each in means.values())
    of_year = bounds.intervals_for(model.header, "EVI, grid", "year")
    assert of_year == {}  # fewer than 19 of these towers have a whole year of labels
    assert bounds.intervals_for({}, "EVI, grid", "year") == {}
    out = model.predict(samples)
    np.testing.assert_allclose(out.NEE, out.RECO - out.GPP, atol=1e-5)
    for flux in FLUXES:
        lower, middle, upper = (out[f"{flux}{end}"] for end in ("_lower", "", "_upper"))
        assert ((lower <= middle) & (middle <= upper) | middle.isnull()).all()
        assert lower.attrs["units"] == "gC m-2 d-1"
    scores = score_file(out, daily)
    assert scores[scores.site == "all"].inside.between(0.8, 1).all()
    bare = model.predict(without(samples, INPUTS))
    assert score_file(bare, daily).inside[:3].between(0.8, 1).all()
    assert not np.allclose(out.GPP_upper - out.GPP, bare.GPP_upper - bare.GPP, equal_nan=True)
    adapted = model.adapt(samples.select(ALL[:1]))
    adapted.save(path)
    again = load_pretrained(path).predict(samples)
    xr.testing.assert_equal(again, adapted.predict(samples))
    widths = [(each.NEE_upper - each.NEE_lower).mean() for each in (again, out)]
    assert widths[0] < 0.99 * widths[1]
    np.testing.assert_allclose(again.NEE, again.RECO - again.GPP, atol=1e-5)


@pytest.mark.parametrize("kind", ["prior of all", "prior of a part"])
def test_without_a_grid_the_prior_is_the_mean_of_the_class(kind, fitted, daily, samples, tmp_path):
    """Finite on every day with the minimal drivers; the features that are known still count."""
    path = tmp_path / "w.safetensors"
    weights_file.save([fitted[kind]], path, samples, towers=24)
    model = load_pretrained(path)
    bare = make_samples(daily, virtual_predictors(daily))
    out = model.predict(bare)
    np.testing.assert_array_equal(np.isfinite(out.NEE), bare.has_drivers)
    assert not np.allclose(out.NEE, model.predict(samples).NEE, equal_nan=True)
    placed = pretrained.suited(bare, model.header).places
    assert placed.names == samples.places.names
    known = np.isfinite(placed.x).all(0)
    np.testing.assert_allclose(placed.x[:, known], samples.places.x[:, known])
    other = replace(samples, places=replace(samples.places, names=("a",)))
    with pytest.raises(DataError, match="described by other features"):
        model.predict(other)
    for use in (model.predict, model.adapt):
        with pytest.raises(DataError, match=r"other site attributes; they differ in \['new'\]"):
            use(replace(bare, static_names=(*bare.static_names, "new")))


def test_a_library_that_is_missing_is_found_before_the_training(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    monkeypatch.setattr(TamRLModel, "fit", lambda *_: pytest.fail("trained first"))
    make = ensemble.factory(n_virtual=0)
    with pytest.raises(DataError, match=r"pip install 'tamrl\[rivals\]'"):
        ensemble.train(samples, make)


def test_members_side_by_side_are_those_in_turn(samples: Samples) -> None:
    each = [ensemble.train(samples, NET, 2, 3, jobs) for jobs in (1, 2)]
    in_turn, at_once = ([m.predict(samples, ALL[:3]) for m in models] for models in each)
    np.testing.assert_array_equal(in_turn, at_once)
    assert not np.array_equal(in_turn[0], in_turn[1], equal_nan=True)


def test_scores_of_a_file(daily: xr.Dataset, tmp_path: Path) -> None:
    """Truth scores 1, an offset is a bias, poor days do not count, nothing shared is an error."""
    truth = daily[list(FLUXES)].reset_coords(drop=True)
    pooled = score_file(truth, daily).set_index("site").loc["all"].set_index("flux")
    assert ((pooled.R2 == 1) & (pooled.RMSE == 0) & pooled.inside.isna()).all()
    assert pooled.days["NEE"] == int(((daily.NEE_QC >= 0.8) & daily.NEE.notnull()).sum())
    moved = score_file(truth + 0.5, daily)
    np.testing.assert_allclose(moved.bias, 0.5, atol=1e-6)
    assert set(moved.site) == {"all", *daily.site.values}
    elsewhere = truth.assign_coords(site=[f"XX-{i:03d}" for i in range(24)])
    for wrong, text in ((elsewhere, "share no tower and day"), (truth * np.nan, "no day has both")):
        with pytest.raises(DataError, match=text):
            score_file(wrong, daily)

    path, seen, out = (tmp_path / name for name in ("p.nc", "o.nc", "s.csv"))
    truth.to_netcdf(path)
    (truth + 1).to_netcdf(seen)
    done = CliRunner().invoke(app, ["score", str(path), str(seen), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert all(text in done.output for text in ("-1.000", "virtual"))
    assert out.read_text().partition("\n")[0].endswith(",virtual")
    (tmp_path / "bad.nc").write_text("no")
    truth.mean("time").to_netcdf(tmp_path / "flat.nc")
    for name, text in (("bad.nc", r"bad.nc: cannot be read"), ("flat.nc", "by site and time")):
        with pytest.raises(DataError, match=text):
            open_fluxes(tmp_path / name)


@pytest.mark.parametrize("grid", [True, False])
def test_adapt_on_the_command_line(grid, fitted, daily, samples, tmp_path: Path, monkeypatch):
    """Networks, trees and prior are adapted together, with or without a grid."""
    fetch_grid = Mock(side_effect=[virtual_grid(2.5) if grid else DataError("not here")])
    path, own = tmp_path / "w.safetensors", tmp_path / "own.safetensors"
    errors = ErrorModel().store()
    weights_file.save([fitted["prior of all"]], path, samples, error_model=errors, towers=24)
    own_tower = daily.isel(site=[3]).assign_attrs(virtual=0, tower_source="user")
    monkeypatch.setattr("tamrl.data.fetch_grid", fetch_grid)
    monkeypatch.setattr("tamrl.data.open_towers", lambda path, table, further: own_tower)
    call = ["adapt", "x.csv", "-m", str(path), "-o", str(own), "--device", "cpu"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "labelled days, of virtual towers" in done.output
    (adapted,), header = weights_file.load(own, "cpu")
    read = [header[name] for name in ("adapted_to", "virtual", "tower_source")]
    assert read == [str(samples.site[3]), 1, samples.attrs["tower_source"]]
    assert [type(m) for m in (adapted, *adapted.fitted)] == [Adapted, AnnualPrior]
    before, after = (load_pretrained(each).predict(samples) for each in (path, own))
    errors = [abs(p - daily).GPP.isel(site=3).mean() for p in (before, after)]
    assert errors[1] < errors[0]


def test_adapting_that_does_harm_is_called_so(
    fitted, samples: Samples, monkeypatch, tmp_path: Path
) -> None:
    """One flux was met worse on labels left out: it is named, with what to do; in Python alike."""
    worse = {"GPP": (2.0, 1.5), "RECO": (1.10, 1.31), "NEE": (1.2, 1.2004)}
    about = {"virtual": 0, "labelled_days": 60, "adapted_to": "XX-One", "held_out": worse}
    model = Mock(**{"adapt.return_value.header": about})
    monkeypatch.setattr("tamrl.cli.towers._open", lambda *_: (model, None))
    done = CliRunner().invoke(app, ["adapt", "x.csv", "-o", str(tmp_path / "w.safetensors")])
    assert done.exit_code == 0, done.output
    said = "RECO got WORSE on labels left out: give labels of more seasons, or"
    assert said in done.output
    weights_file.save([fitted["prior of all"]], tmp_path / "m.safetensors", samples, towers=24)
    monkeypatch.setattr("tamrl.shipped.pretrained.adapt", lambda members, *_: (members, about))
    with pytest.warns(InputWarning, match=said):
        load_pretrained(tmp_path / "m.safetensors").adapt(samples)


@pytest.mark.parametrize("name", ensemble.MODELS)
def test_models_by_name(name: str) -> None:
    """The ensemble rescales a blend; each other name leaves out what it says."""
    plain, made = (repr(ensemble.factory(name, n_virtual=n)()) for n in (0, 9))
    shares, weight = ensemble.MODELS[name]
    assert ("AnnualRescaling" in made) == (weight > 0)
    assert ("Blend" in made) == (np.count_nonzero(shares) > 1)
    for part, share in zip(("TamRLModel", "Boosting", "XGBoost"), shares, strict=True):
        assert (f"model={part}(" in plain) == (share > 0)
    assert ("SyntheticPretraining" in made) == (shares[0] > 0)
    assert "SyntheticPretraining" not in plain
    with pytest.raises(ValueError, match="unknown model 'best'"):
        ensemble.factory("best")


REPEATS = 10 * int(os.environ.get("TAMRL_TEST_KILLS", "5"))  # 200 in the long run of all tests
OFTEN = """
import os, sys
import tamrl
from halfhours import daily_csv
from test_user import TABLE

model, towers = tamrl.load_pretrained(), daily_csv(120)
for k in range(1, 26 + (repeats := int(sys.argv[1]))):
    model.predict(towers, TABLE, need_grid=False)
    if k in (25, 25 + repeats):
        with open("/proc/self/statm") as held:
            print(int(held.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_service_that_predicts_again_and_again_does_not_grow() -> None:
    """After a warm-up, 50 (200) more predictions in one process add less than 1 % to its memory."""
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", OFTEN, str(REPEATS)],
        env=paths,
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(int, done.stdout.split())
    assert after < 1.01 * before
