"""Weights to maps on the command line: monthly and daily, threads, processes and a scheduler."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from mapworld import same
from typer.testing import CliRunner, Result

from tamrl import sources
from tamrl.cli.app import app
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps import seasonal, upscale, weights
from tamrl.maps.boosted import BoostedMap, monthly_training_table
from tamrl.maps.daily import tower_maps
from tamrl.maps.layout import open_map
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.shipped import pretrained
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def grid() -> xr.Dataset:
    """Return the virtual globe at 2.5 degrees."""
    return virtual_grid(2.5)


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    """Return forty virtual towers over two years."""
    return virtual_towers(n=40, years=(2001, 2002))


@pytest.fixture(scope="module")
def table(towers: xr.Dataset, grid: xr.Dataset) -> xr.Dataset:
    """Return their monthly training table."""
    return monthly_training_table(towers, grid)


@pytest.fixture
def study(towers, grid, monkeypatch) -> xr.Dataset:
    """Let the command line find these towers and this globe; give a piece of it as a cube."""
    monkeypatch.setattr(sources, "load_towers", lambda *_: towers)
    monkeypatch.setattr(sources, "load_grid", lambda *_: grid)
    return grid.sel(lat=slice(20, 70), lon=slice(-130, -60))


@pytest.mark.parametrize("kind", ["boosted", "network"])
def test_weights_come_back_to_the_last_bit(table, tmp_path, monkeypatch, kind) -> None:
    """Same digest, same fluxes, and the header says what goes with them."""
    monkeypatch.setattr(seasonal, "RECIPE", dataclasses.replace(seasonal.RECIPE, epochs=1))
    make = BoostedMap if kind == "boosted" else seasonal.TamRLMap
    models = [make(seed=k).fit(table) for k in range(2)]
    factors = {"GPP": 2.0, "RECO": 3.0, "NEE": 4.0}
    path = tmp_path / "map.safetensors"
    weights.save(models, path, table, factors, 0.9, seed=7)
    again, header = weights.load(path)
    x = table["x"].to_numpy()
    for a, b in zip(models, again, strict=True):
        assert a.digest == b.digest
        assert a.features == b.features
        assert a(x).tobytes() == b(x).tobytes()
    assert models[0].digest != models[1].digest
    assert header["factors"] == factors
    assert (header["level"], header["virtual"], header["seed"]) == (0.9, 1, 7)


def test_train_map_then_map_by_threads_processes_and_scheduler(study, tmp_path) -> None:
    """One walk from towers to NetCDF; two processes and a running scheduler give the same bits."""
    from distributed import LocalCluster

    weights, cube = tmp_path / "map.safetensors", tmp_path / "cube.nc"
    options = ("--model", "boosting", "--members", 2, "--folds", 2, "--level", 0.5)
    done = call("train-map", "-o", weights, *options)
    assert done.exit_code == 0, done.output
    assert "50 % interval" in done.stdout
    study.to_netcdf(cube)
    nc = tmp_path / "new" / "m.nc"
    nc.parent.mkdir()
    done = call("map", weights, cube, "-o", tmp_path / "m.zarr", "--netcdf", nc, "--packed")
    assert done.exit_code == 0, done.output
    assert "virtual towers" in done.stdout
    plain = open_map(tmp_path / "m.zarr").load()
    assert plain.attrs["title"].startswith("Virtual towers")
    assert {f"{f}_upper" for f in FLUXES} <= set(plain)
    assert float(abs(plain.NEE - plain.RECO + plain.GPP).max()) < 1e-5
    with xr.open_dataset(nc, decode_cf=False) as raw:
        assert raw["NEE"].dtype == np.int16

    done = call("map", weights, cube, "-o", tmp_path / "p.zarr", "--scheduler", "local:2")
    assert done.exit_code == 0, done.output
    with LocalCluster(1, processes=False, protocol="tcp://", dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        options = ("--scheduler", address, "--chunks", 3)
        done = call("map", weights, cube, "-o", tmp_path / "s.zarr", *options)
        assert done.exit_code == 0, done.output
    for name in ("p.zarr", "s.zarr"):
        same(plain, open_map(tmp_path / name).load())

    done = call("map", weights, cube, "-o", tmp_path / "one.zarr", "--members", 1)
    assert "were calibrated for 2 members" in done.stdout
    assert "GPP_upper" not in open_map(tmp_path / "one.zarr")
    done = call("map", weights, cube, "-o", tmp_path / "m.zarr")  # complete: only opened
    assert done.exit_code == 0, done.output


def test_an_interrupted_map_is_gone_on_with(study, table, tmp_path, monkeypatch) -> None:
    """After an error in the middle the next call takes up the strips that are there."""
    weights, cube = tmp_path / "w.safetensors", tmp_path / "cube.nc"
    weights.save([BoostedMap(rounds=5).fit(table)], weights, table)
    study.to_netcdf(cube)
    calls = []
    whole = BoostedMap.__call__

    def torn(self, x):
        calls.append(len(x))
        if len(calls) == 2:
            raise OSError("disk full")
        return whole(self, x)

    monkeypatch.setattr(BoostedMap, "__call__", torn)
    monkeypatch.setattr(upscale, "STRIP_ROWS", 5)
    one = ("map", weights, cube, "-o", tmp_path / "m.zarr", "--workers", 1)
    done = call(*one)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "tamrl: disk full")
    assert not (tmp_path / "m.zarr").exists()
    done = call(*one)
    assert done.exit_code == 0, done.output
    assert "1 strip(s) are there" in done.stdout
    done = call("map", weights, cube, "-o", tmp_path / "n.zarr")
    same(*(open_map(tmp_path / f"{n}.zarr").load() for n in "mn"))


def test_errors_teach(study, table, towers, tmp_path, monkeypatch) -> None:
    """Exit status 1, one line, and what to do."""
    monkeypatch.setattr(upscale, "CONNECT_SECONDS", 1)
    weights, cube = tmp_path / "w.safetensors", tmp_path / "cube.nc"
    weights.save([BoostedMap(rounds=5).fit(table)], weights, table)
    study.to_netcdf(cube)
    study.drop_vars("VPD").to_netcdf(tmp_path / "dry.nc")
    net = TamRLModel(recipe=Recipe(epochs=1), device="cpu")
    samples = make_samples(towers.isel(site=slice(8)), None, None)
    net.fit(samples, np.arange(6), np.arange(6, 8))
    daily = tmp_path / "daily.safetensors"
    pretrained.save([net], daily, samples, towers=8)
    out = ("-o", tmp_path / "m.zarr")
    for arguments, said in (
        ((tmp_path / "none.safetensors", cube), "tamrl train-map -o"),
        ((weights, cube, "-o", tmp_path / "m.nc"), "-o map.zarr --netcdf FILE"),
        ((weights, tmp_path / "dry.nc", *out), "variable VPD is missing, which the model needs"),
        ((weights, tmp_path / "no.nc", *out), "cannot be opened as a cube"),
        ((weights, cube, *out, "--members", 4), "holds 1 models"),
        ((weights, cube, *out, "--scheduler", "local:many"), "write local:2 for two processes"),
        ((weights, cube, *out, "--scheduler", "tcp://127.0.0.1:1"), "dask worker ADDRESS"),
        ((daily, cube, *out), "for months use weights from `tamrl train-map`"),
        ((daily,), "name a daily cube with TA, VPD and SW_IN"),
    ):
        done = call("map", *arguments)
        last = done.stderr.strip().splitlines()[-1]
        assert done.exit_code == 1, done.output
        assert last.startswith("tamrl: ")
        assert said in last
    assert not (tmp_path / "m.zarr").exists()
    assert call("map", weights, cube, *out, "--packed").exit_code == 2
    assert call("train-map", "-o", weights, "--model", "forest").exit_code == 2
    with pytest.raises(DataError, match="one year of twelve months"):
        seasonal.TamRLMap()(np.zeros((1, 24, 31), np.float32))


@pytest.fixture(scope="module")
def daily_weights(tmp_path_factory) -> tuple[Path, Samples]:
    """Train a network at virtual towers with satellite data for an epoch."""
    daily = virtual_towers(n=12, years=(2001, 2002))
    samples = make_samples(daily, virtual_predictors(daily), virtual_grid(2.5))
    model = TamRLModel(recipe=Recipe(epochs=1), device="cpu")
    model.fit(samples, np.arange(10), np.arange(10, 12))
    path = tmp_path_factory.mktemp("daily") / "model.safetensors"
    pretrained.save([model], path, samples, towers=12)
    return path, samples


def test_a_cell_is_a_tower(daily_weights, grid, tmp_path) -> None:
    """Put towers' days into cells: the map shows what the network predicts at such towers."""
    path, _ = daily_weights
    models, header = pretrained.load(path, "cpu")
    land = np.argwhere((grid["igbp_fraction"] > 0.9).any("igbp").to_numpy())
    row, col = land[len(land) // 2]
    rows, cols = slice(row, row + 2), slice(col, col + 3)
    lat, lon = grid["lat"].to_numpy()[rows], grid["lon"].to_numpy()[cols]
    source = virtual_towers(n=6, years=(2002, 2002), noise=False)
    seen = virtual_predictors(source)
    at = grid.isel(lat=rows, lon=cols)
    cells = [(i, j) for i in range(2) for j in range(3)]
    share = at["igbp_fraction"].transpose("lat", "lon", "igbp").fillna(0).to_numpy()
    from tamrl.data.koppen import KOPPEN_CODES
    from tamrl.data.schema import KOPPEN_MAIN

    codes = [("", *KOPPEN_CODES)[int(k)] for k in at["koppen"].to_numpy().ravel()]
    known = share.reshape(6, -1).any(axis=1)
    igbp = np.where(known, grid["igbp"].to_numpy()[share.reshape(6, -1).argmax(axis=1)], "")
    towers = source.drop_vars(["igbp", "koppen", "koppen_main"]).assign_coords(
        lat=("site", [lat[i] for i, _ in cells]),
        lon=("site", [lon[j] for _, j in cells]),
        igbp=("site", igbp),
        koppen=("site", codes),
        koppen_main=("site", [KOPPEN_MAIN.get(c[:1], "") for c in codes]),
        elevation=("site", at["elevation"].to_numpy().ravel()),
    )
    months = seen.sel(month="2002")
    fields = {
        name: (("lat", "lon", "time"), towers[name].to_numpy().reshape(2, 3, -1))
        for name in ("TA", "TA_min", "TA_max", "VPD", "SW_IN")
    }
    month = towers["time"].dt.month.to_numpy() - 1
    fields["FPAR"] = ("lat", "lon", "time"), months["FPAR"].to_numpy()[:, month].reshape(2, 3, -1)
    cube = xr.Dataset(fields, {"lat": lat, "lon": lon, "time": towers["time"]})
    for name, units in (("TA", "degC"), ("TA_min", "degC"), ("TA_max", "degC"), ("VPD", "hPa"),
                        ("SW_IN", "W m-2"), ("FPAR", "1")):  # fmt: skip
        cube[name].attrs["units"] = units
    cube["TA_max"] = (cube["TA_max"] + 273.15).assign_attrs(units="K")
    made = tower_maps(models, header, cube, grid)
    assert set(made[0].features) == {*fields, "latitude", "longitude"}

    got = upscale.upscale(made, cube, tmp_path / "m.zarr").load()
    without = towers.drop_vars("VPD_max")
    want = models[0].predict(make_samples(without, months[["FPAR"]], grid), np.arange(6))
    for k, flux in enumerate(FLUXES):
        values = got[flux].transpose("lat", "lon", "time").to_numpy().reshape(6, -1)
        np.testing.assert_allclose(values, want[..., k], atol=2e-4, equal_nan=True)
    assert np.isfinite(want).mean() > 0.9

    holed = cube.copy(deep=True)
    holed["FPAR"][0, 0, :100] = np.nan  # the network can do without
    holed["TA"][0, 1, :100] = np.nan  # but not without temperature
    some = upscale.upscale(made, holed, tmp_path / "h.zarr").load()
    assert np.isfinite(some["GPP"][:, 0, 0]).all()
    assert np.isnan(some["GPP"][:100, 0, 1]).all()
    done = call("map", path, _write(cube, tmp_path), "-o", tmp_path / "cli.zarr")
    assert done.exit_code == 0, done.output


def _write(cube: xr.Dataset, folder: Path) -> Path:
    """Write a cube as a folder of files, one a variable."""
    (folder / "days").mkdir()
    for name in cube.data_vars:
        cube[[name]].to_netcdf(folder / "days" / f"{name}.nc")
    return folder / "days"
