"""Weights to maps on the command line: monthly and daily, threads, processes and a scheduler."""

from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import xarray as xr
from mapworld import same
from typer.testing import CliRunner, Result

from tamrl import data, sources
from tamrl.cli.app import app
from tamrl.data.grid import grid_at
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.schema import FLUXES, KOPPEN_MAIN
from tamrl.errors import DataError
from tamrl.maps import upscale
from tamrl.maps.daily import daily_map
from tamrl.maps.layout import open_map
from tamrl.maps.monthly import BoostedMap, fit_members
from tamrl.maps.training import monthly_training_table, table_samples
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.phenology import from_season, with_phenology
from tamrl.shipped import pretrained
from tamrl.virtual.towers import virtual_predictors, virtual_towers

UNITS = {"TA": "degC", "TA_min": "degC", "TA_max": "degC", "VPD": "hPa", "SW_IN": "W m-2",
         "FPAR": "1"}  # fmt: skip


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def passed(*arguments: object) -> Result:
    """Run it without an error."""
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done


def by_cell(field: xr.DataArray) -> np.ndarray:
    """Values (cell, time)."""
    return field.transpose("lat", "lon", "time").to_numpy().reshape(6, -1)


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    return virtual_towers(n=40, years=(2001, 2002))


@pytest.fixture(scope="module")
def seasons(towers: xr.Dataset, globe: xr.Dataset) -> Samples:
    return table_samples(monthly_training_table(towers, globe))


@pytest.fixture
def study(towers, globe, monkeypatch) -> xr.Dataset:
    """Let the command line find these towers and this globe; give a piece of it as a cube."""
    monkeypatch.setattr(sources, "load_towers", lambda *_: towers)
    monkeypatch.setattr(sources, "load_grid", lambda *_: globe)
    return globe.sel(lat=slice(20, 70), lon=slice(-130, -60))


@pytest.mark.slow
def test_train_map_then_map_by_threads_processes_and_scheduler(study, tmp_path) -> None:
    """One walk from towers to NetCDF; two processes and a running scheduler give the same bits."""
    from distributed import LocalCluster

    weights, cube, nc = (tmp_path / n for n in ("map.safetensors", "cube.nc", "m.nc"))
    options = ("--model", "boosting", "--members", 2, "--folds", 2, "--level", 0.5)
    done = passed("train-map", "-o", weights, *options)
    assert "50 %" in done.stdout
    study.to_netcdf(cube)
    done = passed("map", weights, cube, "-o", tmp_path / "m.zarr", "--netcdf", nc, "--packed")
    assert "virtual towers" in done.stdout
    plain = open_map(tmp_path / "m.zarr").load()
    assert plain.attrs["title"].startswith("Virtual towers")
    assert plain.attrs["interval_level"] == 0.5
    assert {f"{f}_upper" for f in FLUXES} <= set(plain)
    assert float(abs(plain.NEE - plain.RECO + plain.GPP).max()) < 1e-5
    with xr.open_dataset(nc, decode_cf=False) as raw:
        assert raw["NEE"].dtype == np.int16

    done = passed("map", weights, cube, "-o", tmp_path / "p.zarr", "--scheduler", "local:2")
    with LocalCluster(1, processes=False, protocol="tcp://", dashboard_address=None) as cluster:
        options = ("--scheduler", cluster.scheduler_address, "--chunks", 3)
        passed("map", weights, cube, "-o", tmp_path / "s.zarr", *options)
    for name in ("p.zarr", "s.zarr"):
        same(plain, open_map(tmp_path / name).load())

    done = call("map", weights, cube, "-o", tmp_path / "one.zarr", "--members", 1)
    assert "were calibrated for 2 members" in done.stdout
    assert "GPP_upper" not in open_map(tmp_path / "one.zarr")
    done = passed("map", weights, cube, "-o", tmp_path / "m.zarr")  # complete: only opened


def quick_weights(seasons: Samples, folder: Path) -> Path:
    """Store one boosted map of five trees."""
    path = folder / "w.safetensors"
    fit_members(BoostedMap(rounds=5), seasons, 1).save(path, seasons)
    return path


def test_an_interrupted_map_is_gone_on_with(study, seasons, tmp_path, monkeypatch) -> None:
    """After an error in the middle the next call takes up the strips that are there."""
    weights, cube = quick_weights(seasons, tmp_path), tmp_path / "cube.nc"
    study.to_netcdf(cube)
    calls, whole = [], BoostedMap.predict

    def torn(self, samples, sites):
        calls.append(len(sites))
        if len(calls) == 2:
            raise OSError("disk full")
        return whole(self, samples, sites)

    monkeypatch.setattr(BoostedMap, "predict", torn)
    monkeypatch.setattr(upscale, "STRIP_ROWS", 5)
    one = ("map", weights, cube, "-o", tmp_path / "m.zarr", "--workers", 1)
    done = call(*one)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "tamrl: disk full")
    assert not (tmp_path / "m.zarr").exists()
    done = passed(*one)
    assert "1 strip(s) there" in done.stdout
    done = call("map", weights, cube, "-o", tmp_path / "n.zarr")
    same(*(open_map(tmp_path / f"{n}.zarr").load() for n in "mn"))


def test_errors_teach(study, seasons, samples, tmp_path, monkeypatch) -> None:
    """Exit status 1, one line, and what to do."""
    monkeypatch.setattr(upscale, "CONNECT_SECONDS", 1)
    weights, cube = quick_weights(seasons, tmp_path), tmp_path / "cube.nc"
    study.to_netcdf(cube)
    study.drop_vars("VPD").to_netcdf(tmp_path / "dry.nc")
    net = TamRLModel(recipe=Recipe(epochs=1), device="cpu")
    net.fit(samples, np.arange(6), np.arange(6, 8))
    daily = tmp_path / "daily.safetensors"
    pretrained.save([net], daily, samples, towers=8)
    out = ("-o", tmp_path / "m.zarr")
    for arguments, expected in (
        ((tmp_path / "none.safetensors", cube), "tamrl train-map -o"),
        ((weights, cube, "-o", tmp_path / "m.nc"), "-o map.zarr --netcdf FILE"),
        ((weights, tmp_path / "dry.nc", *out), "variable VPD is missing, which the model needs"),
        ((weights, tmp_path / "no.nc", *out), "cannot be opened as a cube"),
        ((weights, cube, *out, "--members", 4), "holds 1 models"),
        ((weights, cube, *out, "--scheduler", "tcp://127.0.0.1:1"), "dask worker ADDRESS"),
        ((daily, cube, *out), "for months use weights from `tamrl train-map`"),
        ((daily,), "name a daily cube with TA, VPD and SW_IN"),
    ):
        done = call("map", *arguments)
        last = done.stderr.strip().splitlines()[-1]
        assert (done.exit_code, last[:7]) == (1, "tamrl: "), done.output
        assert expected in last
    assert not (tmp_path / "m.zarr").exists()
    assert call("map", weights, cube, *out, "--packed").exit_code == 2
    assert call("map", weights, cube, *out, "--scheduler", "local:many").exit_code == 2
    assert call("train-map", "-o", weights, "--model", "forest").exit_code == 2


def days_in_cells(grid: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    """Put the days of six towers into cells: the cube, those towers, their satellite months."""
    land = np.argwhere((grid["igbp_fraction"] > 0.9).any("igbp").to_numpy())
    row, col = land[len(land) // 2]
    at = grid.isel(lat=slice(row, row + 2), lon=slice(col, col + 3))
    flat = at.stack(site=("lat", "lon")).reset_index("site")
    share = flat["igbp_fraction"].transpose("site", "igbp").fillna(0).to_numpy()
    codes = [("", *KOPPEN_CODES)[int(k)] for k in flat["koppen"]]
    source = virtual_towers(n=6, years=(2002, 2002), noise=False)
    months = virtual_predictors(source).sel(month="2002")
    places = {name: flat[name].to_numpy() for name in ("lat", "lon", "elevation")}
    places["igbp"] = np.where(share.any(1), grid["igbp"].to_numpy()[share.argmax(1)], "")
    places |= {"koppen": codes, "koppen_main": [KOPPEN_MAIN.get(c[:1], "") for c in codes]}
    towers = source.drop_vars(["igbp", "koppen", "koppen_main"])
    towers = towers.assign_coords({name: ("site", values) for name, values in places.items()})
    values = {n: towers[n].to_numpy() for n in UNITS if n != "FPAR"}
    values["FPAR"] = months["FPAR"].to_numpy()[:, towers["time"].dt.month.to_numpy() - 1]
    axes = {"lat": at["lat"], "lon": at["lon"], "time": towers["time"]}
    cells = {n: v.reshape(2, 3, -1) for n, v in values.items()}
    cube = xr.Dataset({n: (tuple(axes), v, {"units": UNITS[n]}) for n, v in cells.items()}, axes)
    cube["TA_max"] = (cube["TA_max"] + 273.15).assign_attrs(units="K")
    return cube, towers.drop_vars("VPD_max"), months[["FPAR"]]


def test_a_cell_is_a_tower(gridded, globe, tmp_path) -> None:
    """The map of cells with towers' days shows what the network predicts at such towers."""
    model = TamRLModel(recipe=Recipe(epochs=1), device="cpu")
    model.fit(gridded, np.arange(10), np.arange(10, 12))
    path = tmp_path / "model.safetensors"
    pretrained.save([model, deepcopy(model)], path, gridded, towers=12)
    members, header = pretrained.load(path, "cpu")
    cube, towers, months = days_in_cells(globe)
    mapped = daily_map(members, header, cube, globe)
    assert set(mapped.features) == {*cube, "latitude", "longitude"}

    got = upscale.upscale(mapped, cube, tmp_path / "m.zarr").load()
    assert float(got["GPP_sd"].max()) == 0  # twice the same member
    want = model.predict(make_samples(towers, months, globe), np.arange(6))
    for k, flux in enumerate(FLUXES):
        np.testing.assert_allclose(by_cell(got[flux]), want[..., k], atol=2e-4)
    assert np.isfinite(want).mean() > 0.9

    holed = cube.copy(deep=True)
    holed["FPAR"][0, 0, :100] = np.nan  # the network can do without
    holed["TA"][0, 1, :100] = np.nan  # but not without temperature
    some = upscale.upscale(mapped, holed, tmp_path / "h.zarr").load()
    assert np.isfinite(some["GPP"][:, 0, 0]).all()
    assert np.isnan(some["GPP"][:100, 0, 1]).all()
    (tmp_path / "days").mkdir()
    for name in cube.data_vars:  # a folder of files, one a variable
        cube[[name]].to_netcdf(tmp_path / "days" / f"{name}.nc")
    passed("map", path, tmp_path / "days", "-o", tmp_path / "cli.zarr")


@pytest.mark.parametrize("grid", ["virtual", "real", "none"])
def test_the_shipped_weights_map_a_daily_cube(grid, globe, need, tmp_path, monkeypatch) -> None:
    """With a grid or without one: fluxes everywhere, within bounds; they are what towers get."""
    if grid == "real":
        need("grid/")
    elif grid == "virtual":
        monkeypatch.setattr(data, "fetch_grid", lambda: globe)
    else:
        monkeypatch.setattr(data, "fetch_grid", Mock(side_effect=DataError("no network")))
    cube, towers, months = days_in_cells(globe)
    cube = cube.isel(time=slice(150, 180))
    cube.to_netcdf(tmp_path / "days.nc")
    weights = files("tamrl") / pretrained.SHIPPED
    done = passed("map", weights, tmp_path / "days.nc", "-o", tmp_path / "m.zarr")
    assert ("without site attributes" in done.stderr) == (grid == "none")
    got = open_map(tmp_path / "m.zarr").load()
    assert np.isfinite(got["GPP"]).all()
    for flux in FLUXES:
        assert (got[f"{flux}_lower"] <= got[flux]).all()
        assert (got[flux] <= got[f"{flux}_upper"]).all()
    if grid == "virtual":
        some, seen = towers.isel(time=slice(150, 180)), months.isel(month=slice(4, 6))
        season = from_season(grid_at(globe, some.lat, some.lon)["EVI"], some.time.values)
        same = with_phenology(make_samples(some, seen, globe), season)
        want = pretrained.open_weights().predict(same)
        np.testing.assert_allclose(by_cell(got["GPP_upper"]), want["GPP_upper"], atol=0.05)
