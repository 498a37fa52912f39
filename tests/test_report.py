"""What a prediction says beside its fluxes is true, and the file that holds it can be read."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from tamrl import load_pretrained
from tamrl.cli.app import app
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError, InputWarning
from tamrl.evaluate.score_file import cautions, open_fluxes, seen_by_weights
from tamrl.evaluate.score_file import score as score_file
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.shipped import pretrained, report, weights_file
from tamrl.shipped.applicability import attribute_space, from_dict, to_dict
from tamrl.shipped.pretrained import SHIPPED, Pretrained
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

TREES = partial(Boosting, trees=10, tune=False, lags=False, statics=("igbp_",))
WEATHER = ("TA", "TA_min", "TA_max", "VPD", "VPD_max", "SW_IN")
HYYTIALA = {"lat": 61.8474, "lon": 24.2948, "igbp": "ENF", "koppen": "Dfc", "elevation": 181.0}


@pytest.fixture(scope="module")
def daily() -> xr.Dataset:
    return virtual_towers(n=24, years=(2001, 2002))


@pytest.fixture(scope="module")
def samples(daily: xr.Dataset) -> Samples:
    return make_samples(daily, virtual_predictors(daily), virtual_grid(2.5))


@pytest.fixture(scope="module")
def model(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """Weights that have learnt from 20 of the 24 virtual towers, and say so."""
    known, path = samples.select(np.arange(20)), tmp_path_factory.mktemp("w") / "w.safetensors"
    fitted = TREES().fit(known, np.arange(16), np.arange(16, 20), 1)
    facts: dict[str, Any] = {"towers": 20, "virtual": 1}
    weights_file.save(
        [fitted], path, replace(known, attrs={}), **facts, **report.about_training(known)
    )
    return load_pretrained(path)


@pytest.fixture(scope="module")
def fluxes(model: Pretrained, samples: Samples) -> xr.Dataset:
    return model.predict(samples)


@pytest.fixture(scope="module")
def shipped() -> Pretrained:
    return load_pretrained()


def tower(
    code: str, ta: float, vpd: float, sw: float, amplitude: float, **facts: Any
) -> xr.Dataset:
    """Two years of smooth weather at one place."""
    one = virtual_towers(n=1, years=(2001, 2002))
    season = np.sin(2 * np.pi * (one.time.dt.dayofyear.values - 105) / 365)[None]
    values = {
        "TA": ta + amplitude * season,
        "VPD": vpd * (1 + season / 2),
        "SW_IN": sw + 60 * season,
    }
    for name, value in values.items():
        one[name] = ("site", "time"), value.astype(np.float32), one[name].attrs
    one = one.drop_vars(["TA_min", "TA_max", "VPD_max"])
    about = {n: ("site", [v]) for n, v in facts.items()}
    return one.assign_coords({"site": [code]} | about)


def reported(one: xr.Dataset, header: dict[str, Any], cube: xr.Dataset | None = None) -> xr.Dataset:
    """Report of a tower's days without their fluxes, for which no model has to run."""
    samples = pretrained.suited(make_samples(one, None, cube), header)
    return report.with_report(xr.Dataset({"NEE": one.TA}), samples, header)


def test_shares_are_those_of_the_days_that_had_an_input(
    model: Pretrained, samples: Samples
) -> None:
    """Half of the days without EVI or one of ten satellites, and no extremes: said by tower."""
    x, first = samples.x.copy(), samples.features.index("LAI")
    on = samples.has_drivers[0]
    half = np.flatnonzero(on)[: on.sum() // 2]
    x[0, half, first] = np.nan
    for name in ("TA_min", "TA_max", "VPD_max"):
        x[1, :, samples.features.index(name)] = np.nan
    before, out = model.predict(samples), model.predict(replace(samples, x=x))
    lost = np.isfinite(samples.x[0, half, first]).sum() / on.sum() / 10
    change = (before.share_satellites - out.share_satellites).values
    np.testing.assert_allclose(change, [lost, *[0] * 23], atol=1e-6)
    assert 0.02 < lost <= 0.051
    assert out.share_extremes.values[:3].tolist() == [1, 0, 1]
    assert (out.share_weather == 1).all()
    assert (out.share_grid > 0.5).all()  # soil is not known of the virtual grid
    assert (out.share_EVI == 0).all()


def test_the_grid_and_the_vegetation_index_are_said_to_lack(shipped: Pretrained, daily) -> None:
    few = daily.isel(site=[0, 1])
    days = few.time.dt.dayofyear <= 182
    evi = xr.full_like(few.TA, 0.4).where(days)
    bare = shipped.predict(with_phenology(make_samples(few), evi))
    on = np.isfinite(bare.NEE)
    want = (on & days).sum("time") / on.sum("time")
    np.testing.assert_allclose(bare.share_EVI, want, atol=0.05)  # a gap of days is bridged
    assert (bare.attrs["grid"], float(bare.share_grid.max())) == ("missing", 0)
    assert "Bounds of 90 %: calibrated at" in "\n".join(report.sentences(bare))
    full = shipped.predict(make_samples(few, None, virtual_grid(2.5)))
    assert full.attrs["grid"] == "present"


def test_a_tower_that_was_learnt_from_is_named(fluxes: xr.Dataset, model: Pretrained) -> None:
    """Twenty towers are known, at their own place and inside; a score of them is no test."""
    sites, seen = fluxes.site.values, fluxes.seen.values
    assert (seen[:20] == report.SEEN.index("training_tower")).all()
    assert (seen[20:] < report.SEEN.index("annual_place")).all()
    assert fluxes.nearest_learnt.values[:20].tolist() == sites[:20].tolist()
    np.testing.assert_allclose(fluxes.nearest_learnt_km[:20], 0, atol=0.02)
    np.testing.assert_allclose(fluxes.dissimilarity[:20], 0, atol=1e-3)
    assert (fluxes.outside[:20] == 0).all()
    assert (fluxes.dissimilarity[20:] > 1e-2).all()
    words = seen_by_weights(fluxes)
    assert words[sites[0]] == "yes"
    assert sites[0] in next(line for line in report.sentences(fluxes) if "Seen" in line)


def test_a_place_within_50_km_is_named_and_how_far(shipped: Pretrained) -> None:
    """A tower by another name beside FI-Hyy; one in the ocean; the annual places; a same name."""
    finland = {**HYYTIALA, "ta": 4, "vpd": 3, "sw": 110, "amplitude": 13}

    def seen(code: str, **place: Any) -> str:
        facts = {**finland, **place}
        return seen_by_weights(reported(tower(code, **facts), shipped.header))[code]

    assert seen("XX-Own", lat=61.8474 + 0.1) == "near FI-Hyy, 11 km"
    assert seen("FI-Hyy") == "yes"
    assert seen("FI-Hyy", lat=0.0, lon=-140.0).startswith("yes, but ")
    assert seen("XX-Own", lat=0.0, lon=-140.0) == "no"
    assert seen("fi-hyy", lat=0.0, lon=-140.0) == "no"
    places = shipped.header["learnt"]["places"]
    assert (
        seen(places["site"][0], lat=places["lat"][0], lon=places["lon"][0]) == "its annual fluxes"
    )


def test_a_desert_called_rainforest_is_outside(shipped: Pretrained, need) -> None:
    """And a northern pine forest is inside, with the grid or without it."""
    need("grid/")
    from tamrl.data import fetch_grid

    forest = tower("XX-For", 4, 3, 110, 13, **HYYTIALA)
    about = {"lat": 23.0, "lon": 12.0, "igbp": "EBF", "koppen": "Af", "koppen_main": "Tropical"}
    desert = tower("XX-Sah", 27, 35, 270, 10, elevation=500.0, **about)
    grid = fetch_grid()
    for cube in (None, grid):
        inside, outside = (reported(one, shipped.header, cube) for one in (forest, desert))
        assert float(outside.dissimilarity[0]) > float(inside.dissimilarity[0])
        assert int(inside.outside[0]) == 0
    assert int(outside.outside[0]) == 1
    assert any("XX-Sah" in line and "outside" in line for line in report.sentences(outside))


def test_the_space_of_attributes_survives_its_header(samples: Samples) -> None:
    """Missing attributes count as the mean; unimportant ones not at all."""
    space = attribute_space(samples)
    back = from_dict(to_dict(space))
    moved = replace(samples, static=samples.static * 1.3)
    np.testing.assert_allclose(back.dissimilarity(moved), space.dissimilarity(moved), atol=1e-3)
    assert 0 < (space.training <= space.threshold).mean() <= 1
    unknown, mean = (samples.static.copy() for _ in range(2))
    unknown[:] = np.nan
    mean[:, [samples.static_names.index(name) for name in back.names]] = back.mean
    got, want = (back.dissimilarity(replace(samples, static=s)) for s in (unknown, mean))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_the_file_says_what_it_was_made_of(fluxes: xr.Dataset, shipped, tmp_path: Path) -> None:
    """Hashes are those of the weights and inputs; version and history are there."""
    own, folder = tmp_path / "own.csv", tmp_path / "towers"
    own.write_text("a,b\n")
    folder.mkdir()
    report.write(fluxes, tmp_path / "f.nc", [own, folder])
    with xr.open_dataset(tmp_path / "f.nc") as ds:
        attrs = ds.attrs
    assert (
        attrs["inputs"]
        == f"own.csv sha256:{hashlib.sha256(b'a,b' + bytes([10])).hexdigest()}, towers"
    )
    assert "predicted by tamrl" in attrs["history"]
    assert attrs["weights_sha256"] == fluxes.attrs["weights_sha256"]
    weights = Path(pretrained.__file__).parents[1] / SHIPPED
    assert shipped.header["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert attrs["weights_sha256"] != shipped.header["weights_sha256"]


@pytest.mark.parametrize("name", ["f.nc", "f.csv", "f.NC", "f.CSV"])
def test_a_file_is_read_back_as_it_was_written(name: str, fluxes, daily, tmp_path: Path) -> None:
    """Fluxes, bounds and what was seen; scored alike, as are files of the former layout."""
    bounded = fluxes.assign(NEE_lower=fluxes.NEE - 1, NEE_upper=fluxes.NEE + 1)
    for flux in ("NEE_lower", "NEE_upper"):
        bounded[flux].attrs = {"units": "gC m-2 d-1", "long_name": flux}
    report.write(bounded, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(b"#") == name.lower().endswith("csv")
    back = open_fluxes(tmp_path / name)
    days = {"site": bounded.site, "time": back.time}
    for flux in (*FLUXES, "NEE_lower"):
        want = bounded[flux].sel(days)
        np.testing.assert_allclose(back[flux].transpose("site", "time"), want, rtol=1e-5, atol=1e-5)
    assert seen_by_weights(back) == seen_by_weights(bounded)
    scores = score_file(tmp_path / name, daily)
    pd.testing.assert_frame_equal(scores, score_file(bounded, daily), atol=1e-4, rtol=1e-4)
    assert scores[scores.site == "all"].seen.iloc[0].endswith("of 24")
    old = bounded[[*FLUXES, "NEE_lower", "NEE_upper"]]
    old.to_netcdf(tmp_path / "old.nc")
    former = score_file(tmp_path / "old.nc", daily)
    assert (former.seen == "unknown").all()
    np.testing.assert_allclose(former.RMSE, scores.RMSE, atol=1e-4)
    assert "unknown" in cautions(former)[0]


def test_what_others_expect_of_a_station_file(fluxes: xr.Dataset, tmp_path: Path) -> None:
    """Time first and unlimited, places as the coordinates, no text on an axis, units of UDUNITS."""
    cf_units = pytest.importorskip("cf_units", reason="comes with the compliance checker")
    report.write(fluxes, tmp_path / "f.nc")
    with xr.open_dataset(tmp_path / "f.nc", decode_cf=False) as ds:
        assert ds.encoding["unlimited_dims"] == {"time"}
        assert ds.NEE.dims == ("time", "station")
        assert ds.NEE.attrs["coordinates"] == "lat lon"
        assert not any(v.dtype.kind in "SUO" for v in ds.variables.values() if v.ndim == 1)
        assert ds.site.attrs["cf_role"] == "timeseries_id"
        per_day = cf_units.Unit(ds.GPP.attrs["units"]).convert(1.0, "kg m-2 s-1")
        assert per_day == pytest.approx(1e-3 / 86400)
        assert "carbon" in ds.NEE.attrs["long_name"]
        np.testing.assert_array_equal(np.diff(ds.time_bnds.values, axis=1), 1)


def test_the_checker_finds_no_fault(fluxes: xr.Dataset, tmp_path: Path) -> None:
    """Of CF-1.11, in a file of several towers and of one."""
    pytest.importorskip("compliance_checker", reason="of the extra dev")
    checker = Path(sys.executable).with_name("compliance-checker")
    for name, part in (("all.nc", fluxes), ("one.nc", fluxes.isel(site=[0]))):
        report.write(part, tmp_path / name)
        command = [checker, "-t", "cf:1.11", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert "All tests passed!" in done, done


def test_labels_without_a_flag_count_and_that_is_said(fluxes: xr.Dataset, daily) -> None:
    """A flag that is missing or always 1; NEE alone; with a flag some days are left out."""
    flagged = score_file(fluxes, daily)
    assert flagged.attrs["unflagged"] == []
    bare = daily.drop_vars("NEE_QC")
    for seen in (
        bare,
        daily.assign(NEE_QC=daily.NEE_QC * np.nan),
        daily.assign(NEE_QC=daily.NEE * 0 + 1),
    ):
        scores = score_file(fluxes, seen)
        days = int((np.isfinite(daily.NEE) & np.isfinite(fluxes.NEE)).sum())
        assert scores.query("site == 'all' and flux == 'NEE'").days.item() == days
        assert scores.attrs["unflagged"] == list(daily.site.values)
        assert any("all labelled days count" in line for line in cautions(scores))
    assert flagged.query("site == 'all' and flux == 'NEE'").days.item() < days
    alone = score_file(fluxes, bare[["NEE"]])
    assert set(alone.flux) == {"NEE"}
    with pytest.raises(DataError, match="none of GPP, RECO, NEE"):
        score_file(fluxes, daily[["TA"]])


def test_adapted_weights_have_seen_the_tower_too(shipped, samples: Samples, tmp_path: Path) -> None:
    header = report.learnt_too(shipped.header, samples.select(np.array([0])))
    assert header["learnt"]["towers"]["site"][-1] == samples.site[0]
    assert len(header["learnt"]["towers"]["site"]) == 181
    assert len(shipped.header["learnt"]["towers"]["site"]) == 180
    assert header["space"] == shipped.header["space"]
    assert report.learnt_too({}, samples) == {}


def csv_of(daily: xr.Dataset, path: Path) -> None:
    one = daily.isel(site=0)
    columns = {"TA_F": "TA", "VPD_F": "VPD", "SW_IN_F": "SW_IN", "NEE_VUT_REF": "NEE"}
    table = pd.DataFrame({"TIMESTAMP": one.time.dt.strftime("%Y%m%d").values})
    for column, name in columns.items():
        table[column] = one[name].fillna(-9999).values
    table.to_csv(path, index=False)


@pytest.fixture
def own(daily: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the arguments of a csv file of NEE and weather with its table, and a virtual grid."""
    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: virtual_grid(2.5))
    csv_of(daily, tmp_path / "own.csv")
    lat, lon, igbp = (daily[n].values[0] for n in ("lat", "lon", "igbp"))
    (tmp_path / "facts.csv").write_text(f"site,lat,lon,igbp\nXX-Own,{lat},{lon},{igbp}\n")
    return [str(tmp_path / "own.csv"), "--table", str(tmp_path / "facts.csv")]


def test_predict_and_score_on_the_command_line(own: list[str], tmp_path: Path) -> None:
    """Report in words, a picture, NEE alone scored."""
    out, picture = tmp_path / "f.nc", tmp_path / "f.png"
    call = ["predict", *own, "-o", str(out), "--plot", str(picture)]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "Inputs on the predicted days: weather 100%, extremes 0%" in done.output
    assert "Picture of XX-Own" in done.output
    assert matplotlib.image.imread(picture).shape[0] > 1000
    attrs = open_fluxes(out).attrs
    assert all(f"{name} sha256:" in attrs["inputs"] for name in ("own.csv", "facts.csv"))
    done = CliRunner().invoke(app, ["score", str(out), *own])
    assert done.exit_code == 0, done.output
    assert "No quality flag below 1, so that all labelled days count: XX-Own" in done.output
    assert "GPP" not in done.output


def test_a_picture_without_its_library_is_one_sentence(own, tmp_path, monkeypatch) -> None:
    """Before any work, with what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [n for n in sys.modules if n.startswith(("matplotlib.", "tamrl.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("tamrl.plots", raising=False)
    call = ["predict", *own, "-o", str(tmp_path / "f.nc"), "--plot", str(tmp_path / "f.png")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 1
    assert done.output == "tamrl: --plot needs matplotlib; install it: pip install 'tamrl[maps]'\n"
    assert not (tmp_path / "f.nc").exists()


def test_python_says_what_was_made_of_the_inputs(
    shipped, own: list[str], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Predicting, adapting and scoring: all notes in the result, what is odd once as a warning."""
    table = pd.read_csv(own[0], dtype={"TIMESTAMP": str}).replace(-9999, np.nan)
    table["TIMESTAMP"] = pd.to_datetime(table["TIMESTAMP"])
    table = table.set_index("TIMESTAMP").assign(NEE_QC=1.0)
    place = pd.read_csv(own[2]).iloc[0].drop("site").to_dict()
    fluxes = shipped.predict(table.drop(columns="NEE_VUT_REF"), **place)
    assert "read TA (TA_F), VPD (VPD_F), SW_IN (SW_IN_F)" in fluxes.attrs["input_notes"]
    assert not [w for w in recwarn if w.category is InputWarning]
    odd = table.assign(TA_F=table.TA_F + 273.15, albedo=0.2).drop(columns="NEE_QC")
    said = ("TA: converted from K", "not used: albedo", "without a quality flag all count")
    results = []
    for use in (shipped.predict, shipped.score, shipped.adapt):
        with pytest.warns(InputWarning) as caught:
            results.append(use(odd, **place))
        (about,) = [w for w in caught if "got WORSE on labels" not in str(w.message)]
        assert about.filename == __file__
        assert all(text in str(about.message) for text in said)
        assert "read TA" not in str(about.message)
    notes = [result.attrs["input_notes"] for result in results[:2]]
    notes.append(results[2].header["input_notes"])
    assert all(text in note for note in notes for text in (*said, "read TA (TA_F)"))
    report.write(results[0], tmp_path / "f.csv")
    assert "converted from K (TA_F) | " in open_fluxes(tmp_path / "f.csv").attrs["input_notes"]
    results[2].save(tmp_path / "w.safetensors")
    assert "input_notes" not in load_pretrained(tmp_path / "w.safetensors").header


@pytest.mark.parametrize("taken", ["own.csv", "facts.csv"])
def test_an_input_is_not_written_over(taken: str, own: list[str], tmp_path: Path) -> None:
    """Neither by fluxes nor by the picture, and before any work."""
    before = (tmp_path / taken).read_bytes()
    for call in (["-o", str(tmp_path / taken)], ["-o", "x.nc", "--plot", str(tmp_path / taken)]):
        done = CliRunner().invoke(app, ["predict", *own, *call])
        assert done.exit_code == 1
        assert f"{taken}: is read as an input" in done.output
    assert (tmp_path / taken).read_bytes() == before


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_one_error(device: str, own: list[str]) -> None:
    """In Python and on the command line; the weights are not called broken."""
    with pytest.raises(DataError, match=rf"device '{device}' is not there"):
        load_pretrained(device=device)
    done = CliRunner().invoke(app, ["predict", *own, "-o", "x.nc", "--device", device])
    assert done.exit_code == 2
    assert "weights" not in done.output
