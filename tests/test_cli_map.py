"""Weights to maps on the command line: an average year, days, threads, processes, a scheduler."""

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cftime
import numpy as np
import pytest
import xarray as xr
from commandline import call, passed
from mapworld import same

from tamrl import data
from tamrl.data.grid import grid_at
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.physics import potential_radiation
from tamrl.data.schema import FLUXES, KOPPEN_MAIN
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.maps import layout, upscale
from tamrl.maps.cells import ALIKE, AVERAGE_YEAR, Cells
from tamrl.maps.cubes import stack_features
from tamrl.maps.ensemble import EnsembleMap, ensemble_map
from tamrl.maps.layout import open_map
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.average_year import at_towers, means_of_months
from tamrl.samples.phenology import from_season, with_phenology
from tamrl.shipped import pretrained, weights_file
from tamrl.shipped.bounds import intervals_for
from tamrl.virtual.towers import virtual_predictors, virtual_towers

UNITS = {"TA": "degC", "TA_min": "degC", "TA_max": "degC", "VPD": "hPa", "SW_IN": "W m-2",
         "FPAR": "1"}  # fmt: skip


def by_cell(field: xr.DataArray) -> np.ndarray:
    """Values (cell, time)."""
    return field.transpose("lat", "lon", "time").to_numpy().reshape(6, -1)


@pytest.fixture(autouse=True)
def made_once(globe: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every command the virtual globe that is there."""
    monkeypatch.setattr("tamrl.virtual.grid.virtual_grid", lambda *_: globe)


@pytest.fixture(scope="module")
def weights(gridded: Samples, tmp_path_factory) -> Path:
    """Store twice a network of one pass, with made-up bounds of an average year."""
    model = TamRLModel(recipe=Recipe(epochs=1), device="cpu")
    model.fit(gridded, np.arange(10), np.arange(10, 12))
    one = Conformal((0.5, 1.0, 0.1), {"": 1.0}, {0.9: (-1.0, 1.0)}).to_dict()
    bounds = {"month": dict.fromkeys(FLUXES, one), "year": dict.fromkeys(FLUXES, one)}
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    facts = {"towers": 12, "intervals_of_means": {"average year": bounds}}
    weights_file.save([model, deepcopy(model)], path, gridded, **facts)
    return path


@pytest.fixture
def cube(globe: xr.Dataset, tmp_path: Path) -> Path:
    """Write a piece of the globe, twelve months of an average year."""
    path = tmp_path / "cube.nc"
    globe.sel(lat=slice(20, 45), lon=slice(-110, -80)).to_netcdf(path)
    return path


@pytest.mark.slow
def test_an_average_year_by_threads_processes_and_scheduler(weights, cube, tmp_path) -> None:
    """From months to NetCDF; two processes and a running scheduler give the same bits."""
    from distributed import LocalCluster

    nc, one = tmp_path / "m.nc", ("map", cube, "-w", weights)
    done = passed(*one, "-o", tmp_path / "m.zarr", "--netcdf", nc, "--packed")
    assert "virtual towers" in done.stdout
    assert "bounds of 90 %" in done.stdout
    plain = open_map(tmp_path / "m.zarr").load()
    assert plain.attrs["title"].startswith("Virtual towers")
    assert plain.attrs["interval_level"] == 0.9
    assert {f"{f}{side}" for f in FLUXES for side in ("_upper", "_mean_lower")} <= set(plain)
    assert float(abs(plain.NEE - plain.RECO + plain.GPP).max()) < 1e-5
    with xr.open_dataset(nc, decode_cf=False) as raw:
        assert raw["NEE"].dtype == np.int16

    passed(*one, "-o", tmp_path / "p.zarr", "--scheduler", "local:2")
    with LocalCluster(1, processes=False, protocol="tcp://", dashboard_address=None) as cluster:
        options = ("--scheduler", cluster.scheduler_address, "--chunks", 3)
        passed(*one, "-o", tmp_path / "s.zarr", *options)
    for name in ("p.zarr", "s.zarr"):
        same(plain, open_map(tmp_path / name).load())
    passed(*one, "-o", tmp_path / "m.zarr")  # complete: only opened


def test_an_interrupted_map_is_gone_on_with(weights, cube, tmp_path, monkeypatch) -> None:
    """After an error in the middle the next call takes up the strips that are there."""
    calls, whole = [], TamRLModel.predict

    def torn(self, samples, sites, *rest, **more):
        calls.append(len(sites))
        if len(calls) == 3:  # of two members
            raise OSError("disk full")
        return whole(self, samples, sites, *rest, **more)

    monkeypatch.setattr(TamRLModel, "predict", torn)
    monkeypatch.setattr(layout, "STRIP_ROWS", 5)
    one = ("map", cube, "-w", weights, "-o", tmp_path / "m.zarr", "--workers", 1)
    done = call(*one)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "tamrl: disk full")
    assert not (tmp_path / "m.zarr").exists()
    done = passed(*one)
    assert "1 strip(s) there" in done.stdout
    passed("map", cube, "-w", weights, "-o", tmp_path / "n.zarr")
    same(*(open_map(tmp_path / f"{n}.zarr").load() for n in "mn"))


def test_errors_teach(weights, cube, tmp_path, monkeypatch) -> None:
    """Exit status 1, one line, and what to do."""
    monkeypatch.setattr(upscale, "CONNECT_SECONDS", 1)
    with xr.open_dataset(cube) as whole:
        whole.drop_vars("VPD").to_netcdf(tmp_path / "dry.nc")
        hours = np.datetime64("2001-01-01", "ns") + np.arange(12) * np.timedelta64(1, "h")
        hourly = whole[["TA", "VPD", "SW_IN"]].rename(month="time").assign_coords(time=hours)
        hourly.to_netcdf(tmp_path / "hourly.nc")
    out = ("-w", weights, "-o", tmp_path / "m.zarr")
    for arguments, expected in (
        ((cube, "-w", tmp_path / "none.safetensors"), "tamrl train -o"),
        ((cube, "-w", weights, "-o", tmp_path / "m.nc"), "a Zarr store needs m.zarr"),
        ((tmp_path / "dry.nc", *out), "variable VPD is missing, which the model needs"),
        ((tmp_path / "hourly.nc", *out), "make it daily: tamrl cube"),
        ((tmp_path / "no.nc", *out), "no such file or folder"),
        ((cube, *out, "--scheduler", "tcp://127.0.0.1:1"), "dask worker ADDRESS"),
        ((cube, *out, "--every", "year"), "not averaged further"),
    ):
        done = call("map", *arguments)
        last = done.stderr.strip().splitlines()[-1]
        assert (done.exit_code, last[:7]) == (1, "tamrl: "), done.output
        assert expected in last
    assert not (tmp_path / "m.zarr").exists()
    for wrong in (("--packed",), ("--scheduler", "local:many"), ("--every", "week")):
        assert call("map", cube, *out, *wrong).exit_code == 2


def mixed(globe: xr.Dataset) -> xr.Dataset:
    """Give every cell of the globe four classes, one of them small, and some rock."""
    out = globe.copy(deep=True)
    land = np.isfinite(out["igbp_fraction"].sum("igbp", skipna=False))
    cover = {"ENF": 0.4, "CVM": 0.3, "GRA": 0.1, "BSV": 0.2}
    for code in out["igbp"].to_numpy():
        out["igbp_fraction"].loc[{"igbp": code}] = land.where(land, np.nan) * cover.get(code, 0.0)
    return out


def some_cells(globe: xr.Dataset, n: int) -> np.ndarray:
    """Make predictors (cell, 12, feature) of an average year in cells of the globe."""
    rows = np.flatnonzero(globe["TA"].notnull().all("month").transpose("lat", "lon"))[::300][:n]
    return stack_features(globe, AVERAGE_YEAR, ("lat", "lon"))[rows]


def test_a_cell_is_its_classes_by_area(weights, globe) -> None:
    """Each as a tower of that class at the cell; small shares are left out, the rest fills up."""
    (members, header), globe = weights_file.load(weights, "cpu"), mixed(globe)
    model, x = EnsembleMap(members, header, Cells(AVERAGE_YEAR, None, globe)), some_cells(globe, 4)
    parts = model.cells(x)
    place, igbp, share = np.repeat(range(4), 2), parts.samples.table.igbp.to_numpy(), parts.share
    assert parts.first.tolist() == parts.largest.tolist() == [0, 2, 4, 6]
    assert igbp.tolist() == ["ENF", ALIKE["CVM"]] * 4  # grass has an eighth of what is green
    np.testing.assert_allclose(share, [4 / 7, 3 / 7] * 4, rtol=1e-6)
    np.testing.assert_allclose(model(x).vegetated, 0.8, rtol=1e-6)
    assert model(x).stratum.tolist() == ["ENF"] * 4
    assert model.inputs == "average year"

    flux = model(x).flux
    assert (flux[..., 2] == flux[..., 1] - flux[..., 0]).all()
    cells = grid_at(globe, x[:, 0, -2].astype(float), x[:, 0, -1].astype(float))
    codes = [("", *KOPPEN_CODES)[int(k)] for k in cells["koppen"].to_numpy()[place]]
    facts = {"lat": x[place, 0, -2].astype(float), "lon": x[place, 0, -1].astype(float)}
    facts |= {"igbp": igbp, "elevation": cells["elevation"].to_numpy()[place], "koppen": codes}
    facts |= {"koppen_main": [KOPPEN_MAIN.get(code[:1], "") for code in codes]}
    towers = virtual_towers(n=len(place), years=(2001, 2001), noise=False)
    towers = towers.drop_vars(["igbp", "koppen", "koppen_main"])
    towers = towers.assign_coords({name: ("site", v) for name, v in facts.items()})
    as_towers = at_towers(make_samples(towers, None, globe), globe)
    given = pretrained.suited(as_towers, header)
    days = members[0].predict(given, np.arange(len(place)))
    seasons = means_of_months(days).reshape(-1, 36)
    want = np.stack([np.bincount(place, share * month) for month in seasons.T], 1)
    np.testing.assert_allclose(flux[0].reshape(len(x), 36), want, atol=1e-4)


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
    doy = towers["time"].dt.dayofyear.to_numpy()
    top = np.stack([potential_radiation(lat, doy) for lat in flat["lat"].to_numpy()])
    towers["SW_IN"] = towers["SW_IN"].clip(max=xr.DataArray(0.7 * top, dims=("site", "time")))
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
    weights_file.save([model, deepcopy(model)], path, gridded, towers=12)
    members, header = weights_file.load(path, "cpu")
    cube, towers, months = days_in_cells(globe)
    mapped = ensemble_map(members, header, cube, globe)
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
    passed("map", tmp_path / "days", "-w", path, "-o", tmp_path / "cli.zarr")


@pytest.mark.parametrize(
    "grid", ["virtual", *(pytest.param(name, marks=pytest.mark.slow) for name in ("real", "none"))]
)
def test_the_shipped_weights_map_a_daily_cube(grid, globe, need, tmp_path, monkeypatch) -> None:
    """With a grid or without one: fluxes everywhere, within bounds; they are what towers get."""
    if grid == "real":
        need("grid/")
    elif grid == "virtual":
        monkeypatch.setattr(data, "fetch_grid", lambda *_: globe)
    else:
        monkeypatch.setattr(data, "fetch_grid", Mock(side_effect=DataError("no network")))
    cube, towers, months = days_in_cells(globe)
    cube = cube.isel(time=slice(150, 180))
    cube.to_netcdf(tmp_path / "days.nc")
    done = passed("map", tmp_path / "days.nc", "-o", tmp_path / "m.zarr")
    assert "steps of cells with fluxes a second" in done.output
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


def test_a_map_on_another_grid_or_of_other_code_is_another_map(
    weights, cube, globe, tmp_path, monkeypatch
) -> None:
    """Classes and soil come from the grid; what turns them into towers is code of the map."""
    (members, header), out = weights_file.load(weights, "cpu"), tmp_path / "m.zarr"
    first = upscale.upscale(ensemble_map(members, header, cube, globe), cube, out)
    again = upscale.upscale(ensemble_map(members, header, cube, globe), cube, out)
    assert again.attrs["identity"] == first.attrs["identity"]
    soil = globe.copy(deep=True)
    soil["elevation"] += 1.0
    far = globe.copy(deep=True)
    far["elevation"].loc[{"lat": slice(60, 90)}] = 0.0  # not of this region
    upscale.upscale(ensemble_map(members, header, cube, far), cube, out)
    for grid in (mixed(globe), soil, None):
        with pytest.raises(DataError, match="holds another map"):
            upscale.upscale(ensemble_map(members, header, cube, grid), cube, out)
    root = Path(upscale.__file__).parents[1]
    covered = {path.relative_to(root).as_posix() for path in layout._CODE}
    assert {"maps/cells.py", "maps/timeaxis.py", "data/grid.py"} <= covered
    assert {f"samples/{path.name}" for path in (root / "samples").glob("*.py")} <= covered
    changed = tmp_path / "cells.py"
    changed.write_text("RELEVANT = 0.5")
    monkeypatch.setattr(layout, "_CODE", (*layout._CODE[1:], changed))
    with pytest.raises(DataError, match="holds another map"):
        upscale.upscale(ensemble_map(members, header, cube, globe), cube, out)


def test_a_grid_on_other_axes_describes_the_same_cells(weights, globe, tmp_path) -> None:
    """From 0 to 360 degrees and north first it is the same; one that lacks something is refused."""
    (members, header), cube = weights_file.load(weights, "cpu"), days_in_cells(globe)[0]
    cube = cube.isel(time=slice(40, 60))
    turned = (
        globe.assign_coords(lon=globe["lon"] % 360).sortby("lon").isel(lat=slice(None, None, -1))
    )
    maps = [
        upscale.upscale(
            ensemble_map(members, header, cube, grid), cube, tmp_path / f"{k}.zarr"
        ).load()
        for k, grid in enumerate((globe, turned))
    ]
    same(*maps)
    for wrong, words in ((globe.drop_vars("land_fraction"), "it has no land_fraction; give one"),
                         (xr.Dataset(), "it has no TA, elevation"),
                         ("grid.nc", "grid is of the kind str; expected a Dataset")):  # fmt: skip
        with pytest.raises(DataError, match=words):
            ensemble_map(members, header, cube, wrong)


def test_days_with_a_gap_in_joules_and_without_leap_days(weights, globe, tmp_path) -> None:
    """The first gap is named; J m-2 of a day are W m-2; what a calendar lacks is said."""
    cube = days_in_cells(globe)[0].isel(time=slice(40, 80))

    def mapped(name: str, days: xr.Dataset, run: Callable = passed) -> Any:
        days.to_netcdf(tmp_path / f"{name}.nc")
        return run("map", tmp_path / f"{name}.nc", "-w", weights, "-o", tmp_path / f"{name}.zarr")

    last = mapped("gap", cube.drop_isel(time=[5, 9]), call).stderr.strip().splitlines()[-1]
    assert "gap.nc: time has a gap: after 2002-02-14 comes 2002-02-16; fill" in last
    mapped("watts", cube)
    mapped("joules", cube.assign(SW_IN=(cube["SW_IN"] * 86400).assign_attrs(units="J m-2")))
    watts, joules = (open_map(tmp_path / f"{n}.zarr").load() for n in ("watts", "joules"))
    np.testing.assert_allclose(joules["GPP"], watts["GPP"], atol=1e-3)
    dates = [cftime.DatetimeNoLeap(2004, 2, 10) + timedelta(days=k) for k in range(40)]
    done = mapped("leap", cube.assign_coords(time=dates))
    assert "365-day calendar: 29 February (2004) is the mean of its neighbours" in done.stdout
    assert open_map(tmp_path / "leap.zarr").sizes["time"] == 41


def test_bounds_and_what_lies_outside_are_those_of_the_inputs_at_hand(globe) -> None:
    """With satellites, with the grid alone, with nothing, in an average year; by day or month."""
    model, (days, _, _) = pretrained.open_weights(), days_in_cells(globe)
    few = days.drop_vars("FPAR")
    rain = few.assign(PRCP=xr.zeros_like(few["TA"]).assign_attrs(units="mm d-1"))
    leaves = days.assign(LAI=(4 * days["FPAR"]).assign_attrs(units="m2 m-2"))
    for cube, grid, inputs in (
        (leaves, globe, "satellites, EVI, grid"), (few, globe, "EVI, grid"), (few, None, ""),
        (days, globe, "EVI, grid"),  # one index is no satellite view, nor is rain
        (rain, globe, "EVI, grid"),
    ):  # fmt: skip
        mapped = ensemble_map(model.members, model.header, cube, grid)
        assert mapped.inputs == inputs
        for every, period in (("step", "day"), ("month", "month"), ("year", "year")):
            want = intervals_for(model.header, inputs, period)
            assert set(want) == set(FLUXES)
            assert mapped.bounds(every) == {"intervals": want}
    months = globe.isel(lat=slice(60, 62))
    mapped = ensemble_map(model.members, model.header, months, globe)
    bounds = mapped.bounds()
    assert bounds["of_mean"] == intervals_for(model.header, "average year", "year")
    assert bounds["intervals"] == intervals_for(model.header, "average year", "month")
    x = some_cells(globe, 6)
    cells = Cells(AVERAGE_YEAR, None, globe)
    near = EnsembleMap(model.members, model.header, cells)
    space = model.header["space"]
    all_far = model.header | {"space": space | {"threshold": 0.0}}
    far = EnsembleMap(model.members, all_far, cells)
    some = near(x).outside
    assert some is not None
    assert ((some >= 0) & (some <= 1)).all()
    np.testing.assert_array_equal(far(x).outside, 1)
