"""A further target for the ensemble: learnt from few labels; fluxes stay as they are."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from settings import QUICK, SMALL
from typer.testing import CliRunner

from tamrl import load_pretrained
from tamrl.cli.app import app
from tamrl.data.schema import FLUXES, VARIABLES
from tamrl.errors import DataError
from tamrl.maps.pretrained import Model
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import make_samples
from tamrl.shipped import new_target, pretrained, report, weights_file
from tamrl.shipped.annual import AnnualPrior
from tamrl.shipped.blend import Blend
from tamrl.shipped.error_model import ErrorModel
from tamrl.virtual.towers import virtual_predictors

PLACE = {"lat": -28.24, "lon": -56.19, "igbp": "WET"}  # of the first virtual tower
DRIVERS = ["TA", "VPD", "SW_IN"]
LEARNT = 400  # labelled days of 650


@pytest.fixture(scope="module")
def weights(virtual: xr.Dataset, globe: xr.Dataset, tmp_path_factory) -> Path:
    """Return a file of a small ensemble: networks and trees, blended, with a prior."""
    samples = make_samples(virtual, virtual_predictors(virtual), globe)
    net = partial(TamRLModel, SMALL, replace(QUICK, epochs=8))
    trees = partial(Boosting, trees=10, tune=False)
    members = [AnnualPrior(Blend((net(), trees()), (1, 1)), inner=3) for _ in range(2)]
    for seed, member in enumerate(members):
        member.fit(samples, np.arange(9), np.arange(9, 12), seed)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    facts = {"error_model": ErrorModel().store(), **report.about_training(samples)}
    weights_file.save(members, path, samples, towers=12, **facts)
    return path


@pytest.fixture
def model(weights: Path, globe: xr.Dataset, monkeypatch) -> Model:
    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: globe)
    return load_pretrained(weights)


@pytest.fixture(scope="module")
def table(virtual: xr.Dataset) -> pd.DataFrame:
    """Return 650 days of a tower, with a gas that follows warmth and light."""
    tower = virtual.isel(site=0).to_dataframe().dropna(subset=[*DRIVERS, "NEE"]).iloc[:650]
    return tower[[*DRIVERS, *FLUXES, "NEE_QC"]].assign(
        CH4=tower.TA.clip(0) + 0.05 * tower.SW_IN + 5
    )


def test_it_is_learnt_and_no_flux_moves(model: Model, table: pd.DataFrame, tmp_path: Path) -> None:
    """Labels of 400 days tell later ones better than their mean; files hold all of it."""
    few = table[[*DRIVERS, "CH4"]].iloc[:LEARNT]
    few.attrs["units"] = {"CH4": "nmol m-2 s-1"}
    mine = model.adapt(few, target="CH4", **PLACE)
    about = mine.header["targets"]["CH4"]
    assert (about["labelled_days"], about["unit"]) == (LEARNT, "nmol m-2 s-1")
    before, after = about["held_out"]
    assert after < before
    rest = table.iloc[LEARNT:]
    plain, out = model.predict(rest, **PLACE), mine.predict(rest, **PLACE)
    for flux in FLUXES:
        np.testing.assert_array_equal(out[flux], plain[flux])
    assert out.CH4.attrs["units"] == "nmol m-2 s-1"
    assert "no bounds" in out.CH4.attrs["comment"]
    learnt = out.CH4.isel(site=0).sel(time=rest.index).to_numpy()
    errors = (np.sqrt(np.mean((p - rest.CH4) ** 2)) for p in (learnt, few.CH4.mean()))
    assert next(errors) < 0.9 * next(errors)

    mine.save(own := tmp_path / "own.safetensors")
    xr.testing.assert_equal(load_pretrained(own).predict(rest, **PLACE), out)
    scores = mine.score(rest, **PLACE).set_index(["site", "flux"])
    assert scores.loc[("all", "CH4"), "days"] == len(rest)
    assert (scores.loc["all"].seen == "1 of 1").all()
    for name in ("out.nc", "out.csv"):
        report.write(out, tmp_path / name)
        seen = rest.CH4.to_xarray().expand_dims(site=out.site.values).to_dataset(name="CH4")
        (row, _) = pretrained.score(tmp_path / name, seen).itertuples()
        assert (row.flux, row.days) == ("CH4", len(rest))
        assert pytest.approx(scores.loc[("all", "CH4"), "R2"], abs=1e-3) == row.R2
    stored = xr.open_dataset(tmp_path / "out.nc")
    assert (stored.CH4.units, stored.NEE.units) == ("nmol m-2 s-1", "g m-2 d-1")
    assert "CH4 in nmol m-2 s-1" in (tmp_path / "out.csv").read_text()
    seen.CH4.attrs["units"] = "mg m-2 d-1"
    with pytest.raises(DataError, match="predicted in 'nmol m-2 s-1' and measured in 'mg m-2 d-1'"):
        pretrained.score(out, seen)


def test_noise_is_not_called_learnt(model: Model, table: pd.DataFrame) -> None:
    """Nothing tells noise, and too few labels tell nothing of the error: both are said."""
    noise = np.random.default_rng(0).normal(3, 1, len(table))
    mine = model.adapt(table.assign(ET=noise).iloc[:100], target="ET", unit="mm d-1", **PLACE)
    before, after = mine.header["targets"]["ET"]["held_out"]
    assert after == pytest.approx(before, rel=0.1)
    words = new_target.sentence("ET", mine.header["targets"]["ET"])
    assert ("NO better" in words) == (after >= before)
    few = model.adapt(table.assign(ET=noise).iloc[:15], target="ET", **PLACE).header["targets"][
        "ET"
    ]
    assert (few["held_out"], few["unit"]) == (None, "as in the labels")
    assert "its error is unknown" in new_target.sentence("ET", few)
    worse = few | {"held_out": (1.0, 1.1)}
    assert "NO better" in new_target.sentence("ET", worse)
    assert "NO better" not in new_target.sentence("ET", few | {"held_out": (1.1, 1.0)})


def test_what_cannot_be_a_target_is_refused(model: Model, table: pd.DataFrame) -> None:
    short, inf = table.iloc[:9], table.iloc[:50].assign(CH4=np.inf)
    negative = table.iloc[:50].assign(CH4=lambda t: -t.CH4)
    for towers, options, words in (
        (table, {"target": "N2O"}, "no column N2O"),
        (table, {"target": "ch4"}, "no column ch4"),
        (table, {"target": "TA_F"}, r"TA_F \(TA\) is read or written already"),
        (table, {"target": "GPP"}, "GPP is predicted already"),
        (table, {"target": "seen"}, "seen is read or written already"),
        (table, {"target": "NEE_lower"}, "is read or written already"),
        (table.assign(**{"a b": 1.0}), {"target": "a b"}, "cannot be the name of a variable"),
        (table, {"unit": "g"}, "name the target"),
        (short, {"target": "CH4"}, "9 days with CH4, TA, VPD and SW_IN; at least 10"),
        (table.assign(CH4=np.nan), {"target": "CH4"}, "0 days with CH4"),
        (table.assign(CH4=0.0), {"target": "CH4"}, "CH4 is 0 on all 650 labelled days"),
        (inf, {"target": "CH4"}, "CH4 is inf"),
        (negative, {"target": "CH4", "positive": True}, "not positive; turn its sign"),
    ):
        with pytest.raises(DataError, match=words):
            model.adapt(towers, **PLACE, **options)
    table = table.copy()
    table.attrs["units"] = {"CH4": "g"}
    with pytest.raises(DataError, match="CH4 is in 'g' by its table, not in 'kg'"):
        model.adapt(table, target="CH4", unit="kg", **PLACE)


def test_further_steps(model: Model, table: pd.DataFrame, globe: xr.Dataset, tmp_path) -> None:
    """A second target and the tower's fluxes can be learnt besides; maps are refused."""
    two = table.assign(ET=table.TA.clip(0) / 10 + 0.1).iloc[:60]
    first = model.adapt(two, target="CH4", **PLACE)
    second = first.adapt(two, target="ET", positive=True, unit="mm d-1", **PLACE)
    alone, both = first.predict(table, **PLACE), second.predict(table, **PLACE)
    for name in (*FLUXES, "CH4"):
        np.testing.assert_array_equal(both[name], alone[name])
    assert float(both.ET.min()) >= 0
    with pytest.raises(DataError, match="predict CH4 already"):
        second.adapt(two, target="CH4", **PLACE)
    mine, plain = (each.adapt(two, **PLACE) for each in (second, model))
    mine.save(own := tmp_path / "own.safetensors")
    adapted, other = load_pretrained(own).predict(table, **PLACE), plain.predict(table, **PLACE)
    for flux in FLUXES:
        np.testing.assert_array_equal(adapted[flux], other[flux])
    np.testing.assert_array_equal(adapted.ET, both.ET)
    after = plain.adapt(two, target="CH4", **PLACE).predict(table, **PLACE)
    np.testing.assert_array_equal(after.GPP, other.GPP)
    np.testing.assert_array_equal(after.CH4, alone.CH4)
    cube = virtual_cube(table)
    with pytest.raises(DataError, match="CH4; a map needs"):
        first.map(cube, tmp_path / "map.zarr", globe)


def virtual_cube(table: pd.DataFrame) -> xr.Dataset:
    days = table[DRIVERS].iloc[:30].to_xarray()
    for name in DRIVERS:
        days[name].attrs["units"] = VARIABLES[name].units
    return days.expand_dims(lat=[-28.5, -28.0], lon=[-56.5, -56.0])


def test_on_the_command_line(model: Model, weights: Path, table: pd.DataFrame, tmp_path: Path):
    """A csv whose head states the unit, without any flux; then it is predicted and scored."""
    file, own, out = (tmp_path / name for name in ("XX-Mar.csv", "own.safetensors", "out.nc"))
    written = table[[*DRIVERS, "CH4"]].rename(columns={"CH4": "CH4 (mg m-2 d-1)"})
    written.to_csv(file, index_label="date")
    facts = tmp_path / "facts.csv"
    facts.write_text("site,lat,lon,igbp\nXX-Mar,-28.24,-56.19,WET\n")
    towers = [str(file), "--table", str(facts)]
    run, quiet = CliRunner().invoke, ["-m", str(weights), "-o", str(own), "--device", "cpu"]
    done = run(app, ["adapt", *towers, *quiet, "--target", "CH4"])
    assert done.exit_code == 0, done.output
    assert "CH4: learnt from 650 labelled days of XX-Mar" in done.output
    assert "mg m-2 d-1" in done.output
    call = ["predict", *towers, "-m", str(own), "-o", str(out), "--device", "cpu"]
    done = run(app, call)
    assert done.exit_code == 0, done.output
    assert "CH4: learnt from 650 labelled days of XX-Mar" in done.output
    done = run(app, ["score", str(out), *towers])
    assert done.exit_code == 0, done.output
    assert "CH4" in done.output
