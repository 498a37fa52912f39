"""Maps: the same bits however computed, resumed or laid out; bad cubes mended or refused."""

import os
import shutil
import subprocess
import sys
import time
import tracemalloc
import warnings
from datetime import timedelta
from pathlib import Path

import cftime
import numpy as np
import pytest
import xarray as xr
from mapworld import FEATURES, Ensemble, same, world
from zarr.errors import ZarrUserWarning

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError, InputWarning
from tamrl.evaluate.conformal import Conformal
from tamrl.maps import layout
from tamrl.maps.cubes import open_cube, stack_features
from tamrl.maps.layout import NO_LAND, QUALITY, export_netcdf
from tamrl.maps.monthly import BoostedMap
from tamrl.maps.upscale import DONE, upscale

INTERVALS = {
    flux: Conformal((0.5, 1.0, 0.1), {"ENF": 2.0}, {0.9: (-1.0, width)})
    for flux, width in (("GPP", 1.0), ("RECO", 1.25), ("NEE", 1.5))
}
DAYS = np.arange("2003-02-26", "2003-03-10", dtype="datetime64[D]").astype("datetime64[ns]")


@pytest.fixture(scope="module")
def cube() -> xr.Dataset:
    return world()


@pytest.fixture(scope="module")
def plain(cube, tmp_path_factory) -> xr.Dataset:
    """Return the map that all others are compared with: one strip a task, two threads."""
    out = tmp_path_factory.mktemp("map") / "map.zarr"
    return upscale(Ensemble(), cube, out, intervals=INTERVALS, workers=2).load()


@pytest.fixture(scope="module")
def stored(cube, tmp_path_factory) -> Path:
    """Return a map with intervals on disk, of virtual towers."""
    out = tmp_path_factory.mktemp("stored") / "m.zarr"
    upscale(Ensemble(), cube.assign_attrs(virtual=1), out, intervals=INTERVALS)
    return out


def test_map_is_the_models_own_word(cube, plain):
    """Mean, spread and bounds are those of the members, cell by cell, times the vegetated share.

    The size of the error is 0.5 + spread + a tenth of the mean, twice that in needleleaf forest.
    """
    x = stack_features(cube, FEATURES, ("lat", "lon"))
    each = Ensemble()(x).flux.reshape(3, 36, 72, 12, 3)
    bare = cube["igbp_fraction"].sel(igbp=["SNO", "BSV"]).sum("igbp").to_numpy()
    green = (1 - bare)[..., None, None]
    forest = 1 + (cube["igbp_fraction"].sel(igbp="ENF").to_numpy() > 0.3)[..., None]
    land = (cube["land_fraction"] > 0).to_numpy()
    for k, flux in enumerate(FLUXES):
        mean, sd = (each * green).mean(0)[..., k], (each * green).std(0, ddof=1)[..., k]
        suffixes = ("", "_sd", "_upper")
        got = {s: plain[flux + s].transpose("lat", "lon", "time").to_numpy() for s in suffixes}
        np.testing.assert_allclose(got[""][land], mean[land], rtol=2e-5, atol=1e-5)
        np.testing.assert_allclose(got["_sd"][land], sd[land], rtol=1e-3, atol=1e-5)
        assert np.isnan(got[""][~land]).all()
        size = 0.5 + each.std(0)[..., k] + 0.1 * abs(each.mean(0)[..., k])
        wide = INTERVALS[flux].quantiles[0.9][1] * size * forest * green[..., 0]
        np.testing.assert_allclose(got["_upper"][land], (mean + wide)[land], rtol=1e-3, atol=1e-4)
    assert float(plain["GPP_lower"].min()) >= 0
    closure = plain["NEE"] - (plain["RECO"] - plain["GPP"])
    assert float(abs(closure).max()) < 1e-5


def test_a_map_says_what_lies_outside_and_bounds_the_annual_mean(cube, tmp_path):
    """The share outside is the model's; bounds of the mean come from the members' means."""
    got = upscale(Ensemble(), cube, tmp_path / "m.zarr", of_mean=INTERVALS).load()
    land = (cube["land_fraction"] > 0).to_numpy()
    outside = np.broadcast_to(np.abs(cube["lon"].to_numpy()), land.shape)
    want = np.abs(cube["lat"].to_numpy())[:, None] / 90 + 0 * outside
    np.testing.assert_allclose(got["outside"].to_numpy()[land], want[land], rtol=1e-5)
    bare = cube["igbp_fraction"].sel(igbp=["SNO", "BSV"]).sum("igbp").to_numpy()
    member = got["RECO_member"].to_numpy() / (1 - bare)
    forest = 1 + (cube["igbp_fraction"].sel(igbp="ENF").to_numpy() > 0.3)
    size = (0.5 + member.std(0) + 0.1 * member.mean(0)) * forest
    upper = (member.mean(0) + 1.25 * size) * (1 - bare)
    np.testing.assert_allclose(got["RECO_mean_upper"].to_numpy()[land], upper[land], rtol=1e-3)
    assert "RECO_upper" not in got


def test_wholly_bare_land_has_no_flux_and_is_not_asked_for(cube, tmp_path):
    """Snow, ice and rock alone: 0, not missing."""
    rock = cube.copy(deep=True)
    rock["igbp_fraction"][:] = np.where(rock["igbp"] == "BSV", 1.0, 0.0)[:, None, None]
    model = Ensemble()
    got = upscale(model, rock, tmp_path / "m.zarr").load()
    land = (got["land_fraction"] > 0).to_numpy()
    assert model.calls == 0
    assert (got["GPP"].to_numpy()[:, land] == 0).all()


def days_of(cube: xr.Dataset, first: str, days: int) -> xr.Dataset:
    """Make a daily cube of a few rows with weather that changes from day to day."""
    part = cube.isel(lat=slice(10, 14)).drop_vars("month")
    time = np.datetime64(first, "ns") + np.arange(days) * np.timedelta64(1, "D")
    wave = xr.DataArray(np.sin(np.arange(days) / 9), {"time": time}, "time")
    out = part.drop_vars([n for n in part.data_vars if "month" in part[n].dims])
    for name in ("TA", "PRCP", "VPD"):
        daily = (part[name].isel(month=0, drop=True) * (1 + 0.3 * wave)).astype(np.float32)
        out[name] = daily.transpose("time", "lat", "lon").assign_attrs(part[name].attrs)
    return out


def test_days_become_months_and_years_where_most_days_are_known(cube, tmp_path):
    """Means of the days of a calendar month; a part of a month at the end is not one."""
    daily = days_of(cube, "2003-01-01", 31 + 28 + 10)
    by_day = upscale(Ensemble(), daily, tmp_path / "d.zarr").load()
    got = upscale(Ensemble(), daily, tmp_path / "m.zarr", every="month").load()
    assert got["time"].dt.strftime("%F").to_numpy().tolist() == [
        "2003-01-01", "2003-02-01", "2003-03-01",
    ]  # fmt: skip
    bounds = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)["time_bnds"]
    assert bounds.dt.strftime("%F").to_numpy()[1].tolist() == ["2003-02-01", "2003-03-01"]
    for k, days in enumerate((slice(0, 31), slice(31, 59))):
        want = by_day["NEE"][days].mean("time", skipna=False)
        np.testing.assert_allclose(got["NEE"][k], want, atol=1e-5)
    assert np.isnan(got["NEE"][2]).all()
    assert "no mean of 2003-03: the cube has fewer" in got.attrs["history"]
    gap = got["NEE"] - (got["RECO"] - got["GPP"])
    assert float(abs(gap).max()) < 1e-5


def test_a_map_without_any_value_is_an_error_that_says_why(cube, tmp_path):
    """A fifth of a year gives no year, ten days no month; nor do days without a driver."""
    daily = days_of(cube, "2003-01-01", 31 + 28 + 10)
    for days, every in ((daily, "year"), (daily.isel(time=slice(49, 69)), "month")):
        first = str(days["time"].to_numpy()[0])[:10]
        with pytest.raises(DataError, match=f"no {every} has four fifths of .* between {first} "):
            upscale(Ensemble(), days, tmp_path / "m.zarr", every=every)
    holed = daily.isel(time=slice(31)).copy(deep=True)
    holed["TA"][:7] = np.nan
    with pytest.raises(DataError, match="missing on over a fifth of the days of each month"):
        upscale(Ensemble(), holed, tmp_path / "m.zarr", every="month")
    assert not list(tmp_path.iterdir())
    assert np.isfinite(upscale(Ensemble(), holed, tmp_path / "d.zarr")["GPP"]).any()


def test_nothing_of_zarr_leaks(cube, tmp_path):
    """What notes finished strips is no part of the store that is written."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ZarrUserWarning)
        upscale(Ensemble(), cube, tmp_path / "m.zarr")


def leapless(cube: xr.Dataset, calendar: str) -> xr.Dataset:
    """Put twelve days around the end of February 2004 on another calendar."""
    start = cftime.datetime(2004, 2, 23, calendar=calendar)
    dates = [start + timedelta(days=k) for k in range(12)]
    return cube.rename(month="time").assign_coords(time=dates)


@pytest.mark.parametrize("kind", ["memory", "netcdf", "zarr"])
def test_a_calendar_without_leap_days_is_filled(cube, tmp_path, kind):
    """29 February is the mean of its neighbours, is said, and all other days keep their date."""
    days = leapless(cube, "noleap")
    source = days if kind == "memory" else tmp_path / "days"
    if kind == "netcdf":
        days.to_netcdf(source)
    elif kind == "zarr":
        days.to_zarr(source, zarr_format=2, consolidated=False)
    opened = open_cube(source, FEATURES)
    assert kind == "memory" or not opened.ds["TA"].variable._in_memory
    got = opened.rows(slice(None))
    assert (got["time"].to_numpy() == np.arange("2004-02-23", "2004-03-07", dtype="M8[D]")).all()
    ta, want = got["TA"].to_numpy(), cube["TA"].to_numpy()
    np.testing.assert_array_equal(np.delete(ta, 6, axis=0), want)
    np.testing.assert_allclose(ta[6], (want[5] + want[6]) / 2, rtol=1e-6)
    mapped = upscale(Ensemble(), source, tmp_path / "m.zarr")
    assert "29 February (2004) is the mean of its neighbours" in mapped.attrs["history"]
    whole = got.drop_vars("EVI_filled", errors="ignore")
    same(mapped, upscale(Ensemble(), whole, tmp_path / "n.zarr"))


def test_a_calendar_of_thirty_day_months_is_refused_by_name(cube, tmp_path):
    with pytest.raises(DataError, match=r"calendar 360_day; interpolate .*interp_calendar"):
        upscale(Ensemble(), leapless(cube, "360_day"), tmp_path / "m.zarr")


def test_hours_and_doubled_days_are_named(cube, tmp_path):
    """An hourly file of the Climate Data Store, by its own names; the first date that is twice."""
    hours = np.datetime64("2003-01-01", "ns") + np.arange(12) * np.timedelta64(1, "h")
    store = cube[["TA"]].rename(month="valid_time", TA="t2m").assign_coords(valid_time=hours)
    store.to_netcdf(tmp_path / "era5.nc")
    with pytest.raises(DataError, match=r"is hourly; make it daily: tamrl cube \S+era5\.nc -o"):
        upscale(Ensemble(), tmp_path / "era5.nc", tmp_path / "m.zarr")
    daily = cube.rename(month="time").assign_coords(time=DAYS)
    twice = xr.concat([daily, daily.isel(time=[4, 7])], "time", data_vars="minimal")
    with pytest.raises(DataError, match="2003-03-02 occurs twice"):
        upscale(Ensemble(), twice, tmp_path / "m.zarr")


def test_a_month_lacks_no_more_than_a_fifth_of_its_days(cube, tmp_path):
    """Six days of January missing: its mean stands, with a flag; seven: it does not."""
    daily = days_of(cube, "2003-01-01", 31)
    row, col = np.argwhere((daily["land_fraction"] == 1).to_numpy())[0]
    for missing in (6, 7):
        holed = daily.copy(deep=True)
        holed["TA"][:missing, row, col] = np.nan
        out = tmp_path / f"{missing}.zarr"
        one = upscale(Ensemble(), holed, out, every="month").load().isel(lat=row, lon=col, time=0)
        assert bool(np.isfinite(one["GPP"])) == (missing == 6)
        assert int(one["quality"]) & QUALITY["driver_missing"]


def test_an_average_year_is_not_averaged_further(cube, tmp_path):
    with pytest.raises(DataError, match="not averaged further"):
        upscale(Ensemble(), cube, tmp_path / "m.zarr", every="year")
    with pytest.raises(DataError, match="choose from step, month, year"):
        upscale(Ensemble(), cube, tmp_path / "m.zarr", every="week")


def test_quality_says_why(plain):
    """Sea has none; a missing static predictor is flagged; all else is 0."""
    quality = plain["quality"].transpose("lat", "lon", "time").fillna(NO_LAND).to_numpy()
    want = np.where((plain["land_fraction"] == 0).to_numpy(), NO_LAND, 0)
    want[3, 7] = want[3, 7] or QUALITY["static_missing"]
    assert (quality == want[..., None]).all()


def test_holes_are_masked_in_place_and_time(cube, plain, tmp_path):
    """A month without rain data is not predicted there and then; other cells do not notice."""
    holed = cube.copy(deep=True)
    row, col = np.argwhere((cube["land_fraction"] == 1).to_numpy())[40]
    holed["PRCP"][5, row, col] = np.nan
    got = upscale(Ensemble(), holed, tmp_path / "m.zarr").load()
    hole = {"lat": row, "lon": col}
    assert np.isnan(got["GPP"].isel(hole)).to_numpy().tolist() == [t == 5 for t in range(12)]
    assert got["quality"].isel(hole | {"time": 5}) == QUALITY["driver_missing"]
    cells = (m["NEE"].to_numpy().reshape(12, -1) for m in (got, plain))
    a, b = (np.delete(values, row * 72 + col, axis=1) for values in cells)
    assert a.tobytes() == b.tobytes()


def test_a_model_without_an_answer_is_flagged(cube, tmp_path):
    """NaN from a model where all drivers are known has its own quality."""

    class Shy(Ensemble):
        def __call__(self, x):
            out = super().__call__(x)
            out.flux[:, :, 3] = np.nan
            return out

    got = upscale(Shy(0), cube, tmp_path / "m.zarr").load()
    land = (got["land_fraction"] > 0).to_numpy()
    assert (got["quality"].to_numpy()[3][land].astype(int) & QUALITY["model_gave_none"]).all()
    assert np.isnan(got["GPP_sd"]).all()  # one model has no spread


@pytest.mark.parametrize(("chunk", "workers"), [(1, 1), (3, 2), (50, 1)])
def test_chunks_and_threads_change_nothing(cube, plain, tmp_path, chunk, workers):
    """Any number of strips a task and of threads gives the same bits."""
    same(upscale(Ensemble(), cube, tmp_path / "m.zarr", chunk=chunk, workers=workers), plain)


@pytest.mark.slow
def test_processes_and_a_scheduler_change_nothing(cube, plain, tmp_path):
    """A cluster of two processes, and a scheduler by its address, give the same bits."""
    from distributed import LocalCluster

    same(upscale(Ensemble(), cube, tmp_path / "local.zarr", scheduler="local:2"), plain)
    with LocalCluster(1, processes=False, protocol="tcp://", dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tcp://")
        same(upscale(Ensemble(), cube, tmp_path / "tcp.zarr", scheduler=address), plain)


@pytest.mark.parametrize(("rows", "strip", "said"), [(1, 10, 0), (6, 6, 0), (4, 8, 0), (36, 10, 4)])
def test_strips_are_whole_chunks_of_the_source_or_a_remedy_is_named(
    cube, tmp_path, monkeypatch, rows, strip, said
) -> None:
    """No chunk is read twice where strips have room for it; else it is said how to store anew."""
    monkeypatch.setattr(layout, "AGAIN_BYTES", 0)
    path = tmp_path / "cube.zarr"
    encoding = {n: {"chunks": tuple(rows if d == "lat" else s for d, s in v.sizes.items())}
                for n, v in cube.items() if "lat" in v.dims}  # fmt: skip
    cube.drop_encoding().to_zarr(path, encoding=encoding, zarr_format=2, consolidated=False)
    opened = open_cube(path, FEATURES)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        assert layout.strip_rows(opened) == strip
    text = "".join(str(w.message) for w in caught if w.category is InputWarning)
    parts = f"hold {rows} rows of latitude, so that the map reads each {said} times", ", lat=10, "
    assert [part in text for part in parts] == [said > 0] * 2
    assert bool(text) == (said > 0)


@pytest.mark.slow
def test_killed_and_resumed(cube, plain, tmp_path, monkeypatch):
    """After SIGKILL the map goes on where it was, and ends in the same bits."""
    source, store, part = (tmp_path / n for n in ("cube.zarr", "map.zarr", "map.zarr.part"))
    cube.to_zarr(source, zarr_format=2, consolidated=False)
    script = Path(__file__).with_name("mapworld.py")
    command = [sys.executable, str(script), str(store), str(source), "0.4"]
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=paths, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(part.glob(f"{DONE}/[0-9]*"))) < 1:
            assert process.poll() is None, "finished before it could be killed"
            assert time.monotonic() < deadline, "no strip was written"
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert not store.exists()
    monkeypatch.setattr("tamrl.maps.upscale.BATCH", 1024)  # one call a strip
    before, model = len(list(part.glob(f"{DONE}/[0-9]*"))), Ensemble()
    same(upscale(model, source, store), plain)
    assert 1 <= before < 4  # 36 rows in strips of 10
    assert model.calls == 4 - before
    assert not part.exists()
    assert not (store / DONE).exists()


def test_a_finished_map_is_only_opened(cube, plain, tmp_path):
    """The same call again computes nothing; another map does not overwrite it."""
    out = tmp_path / "m.zarr"
    upscale(Ensemble(), cube, out)
    model = Ensemble()
    same(upscale(model, cube, out), plain)
    assert model.calls == 0
    model.members = [BoostedMap()]  # the same weights in a learner that uses them otherwise
    for other in (Ensemble(9), model):
        with pytest.raises(DataError, match="holds another map"):
            upscale(other, cube, out)


def test_what_is_begun_of_other_data_is_kept(cube, tmp_path, monkeypatch):
    """Hours of work are not removed by a slip; what was changed meanwhile is named."""
    out, source = tmp_path / "m.zarr", tmp_path / "cube.nc"
    cube.to_netcdf(source)
    monkeypatch.setattr("tamrl.maps.upscale.BATCH", 1024)  # one call a strip

    class Broken(Ensemble):
        def __call__(self, x):
            if self.calls:
                raise RuntimeError("killed")
            return super().__call__(x)

    with pytest.raises(RuntimeError, match="killed"):
        upscale(Broken(), source, out, workers=1)
    begun = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"m\.zarr\.part: is there already, begun with other"):
        upscale(Ensemble(9), source, out)
    assert sorted(tmp_path.rglob("*")) == begun
    os.utime(source, (time.time() + 9, time.time() + 9))
    with pytest.warns(InputWarning, match=r"cube\.nc: was changed after .*m\.zarr was begun; remo"):
        upscale(Ensemble(), source, out)
    with pytest.warns(InputWarning, match="was changed after"):
        upscale(Ensemble(), source, out)
    (out / ".zattrs").write_text("{broken")
    with pytest.raises(DataError, match=r"m\.zarr: holds another map, or something else"):
        upscale(Ensemble(), source, out)
    shutil.rmtree(out)
    with pytest.raises(RuntimeError, match="killed"):
        upscale(Broken(), source, out, workers=1)
    shutil.rmtree(tmp_path / "m.zarr.part" / "store" / "GPP")
    with pytest.raises(DataError, match="or damaged; remove it"):
        upscale(Ensemble(), source, out)


def test_two_maps_on_one_output(cube, plain, tmp_path):
    """The second is refused while the first is at work, whose map is whole afterwards."""
    out, refused = tmp_path / "map.zarr", []

    class Second(Ensemble):
        def __call__(self, x):
            if not refused:
                refused.append(True)
                with pytest.raises(DataError, match="another map is being written there"):
                    upscale(Ensemble(), cube, out, workers=1)
            return super().__call__(x)

    same(upscale(Second(), cube, out, intervals=INTERVALS, workers=1), plain)
    assert refused
    assert [path.name for path in tmp_path.iterdir()] == ["map.zarr"]


def test_a_failure_leaves_no_map(cube, tmp_path):
    """An error in a strip is raised; what bears the final name is complete or absent."""

    class Broken(Ensemble):
        def __call__(self, x):
            if self.calls == 1:
                raise RuntimeError("out of memory")
            return super().__call__(x)

    with pytest.raises(RuntimeError, match="out of memory"):
        upscale(Broken(0), cube, tmp_path / "m.zarr", workers=1)
    assert not (tmp_path / "m.zarr").exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_area(tmp_path):
    """Five times the rows need no more memory, when the cube lies on disk."""
    base = world(5.0)
    peaks = []
    for rows in (40, 200):
        big = base.isel(lat=np.arange(rows) % 36, lon=np.arange(360) % 72)
        big = big.assign_coords(lat=np.linspace(-80, 80, rows), lon=np.arange(360) - 180.0)
        source = tmp_path / f"{rows}.zarr"
        big.chunk(lat=10).to_zarr(source, zarr_format=2, consolidated=False)
        del big
        tracemalloc.start()
        upscale(Ensemble(0), source, tmp_path / f"map{rows}.zarr", workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks


def renamed(ds: xr.Dataset) -> xr.Dataset:
    """Axes by other names, known by their attributes."""
    y = ("nav_y", ds["lat"].to_numpy(), {"standard_name": "latitude"})
    x = ("nav_x", ds["lon"].to_numpy(), {"units": "degrees_east"})
    return ds.rename(lat="nav_y", lon="nav_x").assign_coords(nav_y=y, nav_x=x)


@pytest.mark.parametrize("change", [
    lambda ds: ds.isel(lat=slice(None, None, -1)),
    lambda ds: ds.isel(lat=np.random.default_rng(0).permutation(36)),
    lambda ds: ds.assign_coords(lon=ds["lon"] % 360).sortby("lon"),
    lambda ds: ds.isel(month=slice(None, None, -1)),
    lambda ds: ds.transpose("lon", "igbp", "lat", "month"),
    lambda ds: ds.astype(np.float64).assign(koppen=ds["koppen"]),
    renamed,
    lambda ds: ds.chunk(lat=7, lon=20),
])  # fmt: skip
def test_layouts_that_are_put_right(cube, plain, tmp_path, change):
    """Order and names of axes are no error and change no bit."""
    same(upscale(Ensemble(), change(cube), tmp_path / "m.zarr"), plain)


def convert(ds: xr.Dataset, name: str, factor: float, offset: float, units: str) -> xr.Dataset:
    """Write a variable in another unit."""
    ds = ds.copy(deep=True)
    ds[name] = (ds[name].astype(np.float64) * factor + offset).astype(np.float32)
    ds[name].attrs = {"units": units} if units else {}
    return ds


@pytest.mark.parametrize(("name", "factor", "offset", "units"), [
    ("TA", 1, 273.15, "K"), ("TA", 1, 273.15, ""), ("TA", 1, 0, ""),
    ("PRCP", 1 / 86400, 0, "kg m-2 s-1"), ("PRCP", 1e-3, 0, "m d-1"),
    ("VPD", 0.1, 0, "kPa"), ("VPD", 100, 0, "Pa"), ("elevation", 1e-3, 0, "km"),
])  # fmt: skip
def test_units_that_are_converted(cube, plain, tmp_path, name, factor, offset, units):
    """Known units are converted; a missing one is inferred where only one can be meant."""
    got = upscale(Ensemble(), convert(cube, name, factor, offset, units), tmp_path / "m.zarr")
    np.testing.assert_allclose(got["NEE"], plain["NEE"], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("change", "message"), [
    (lambda ds: ds.drop_vars("VPD"), "variable VPD is missing"),
    (lambda ds: ds.drop_vars("igbp_fraction"), "variable igbp_fraction is missing"),
    (lambda ds: convert(ds, "VPD", 0.1, 0, ""), "VPD has no units"),
    (lambda ds: convert(ds, "VPD", 1, 0, "inHg"), "VPD is in 'inHg'"),
    (lambda ds: convert(ds, "TA", 1, 273.15, "degC"), "TA is .* 'degC', but -90 to 60"),
    (lambda ds: ds.fillna({"TA": -9999}), r"TA is -9999"),
    (lambda ds: ds.assign_coords(lat=ds["lat"] ** 3 / 8100), "lat is not equally spaced"),
    (lambda ds: xr.concat([ds, ds.isel(lon=[0])], "lon"), "value twice"),
    (lambda ds: ds.assign_coords(lat=ds["lat"] + 30), "latitude .* off the Earth"),
    (lambda ds: ds.isel(month=slice(1, None)), "expected 1 to 12"),
    (lambda ds: ds.isel(month=0, drop=True), "neither month nor time"),
    (lambda ds: ds.expand_dims(level=3), "dimensions .*level"),
    (lambda ds: ds.rename(lat="north"), "0 dimensions look like latitude"),
    (lambda ds: ds.assign_attrs(virtual="no"), "the attribute virtual is 'no'; give 0 or 1"),
])  # fmt: skip
def test_cubes_that_are_refused(cube, tmp_path, change, message):
    """What could mean two things, or nothing, is one clear error before anything is written."""
    with pytest.raises(DataError, match=message):
        upscale(Ensemble(), change(cube), tmp_path / "m.zarr")
    assert not list(tmp_path.iterdir())


def test_a_code_for_missing_deep_in_the_cube_is_found(cube, tmp_path):
    """What the first sample does not show is found when its strip is read."""
    bad = cube.copy(deep=True)
    row = 1 + int(np.argwhere((cube["land_fraction"] == 1).to_numpy()[1:3])[0, 0])
    bad["PRCP"][2, row] = -999
    with pytest.raises(DataError, match="PRCP is -999"):
        upscale(Ensemble(), bad, tmp_path / "m.zarr")
    assert not (tmp_path / "m.zarr").exists()


def test_a_region_across_the_dateline(cube, plain, tmp_path):
    """Fiji's longitudes, written from 170 to 190 or in two pieces, are one region."""
    near = np.abs(cube["lon"]) > 165
    pieces = cube.isel(lon=near.to_numpy())  # -178 ... and ... 178
    whole = pieces.assign_coords(lon=pieces["lon"] % 360).sortby("lon")
    a = upscale(Ensemble(), pieces, tmp_path / "a.zarr").load()
    same(a, upscale(Ensemble(), whole, tmp_path / "b.zarr"))
    assert (np.diff(a["lon"]) == 5).all()
    assert float(a["lon"][0]) == 167.5
    globe = plain.assign_coords(lon=plain["lon"] % 360)["NEE"].sel(lon=a["lon"])
    np.testing.assert_allclose(a["NEE"], globe, rtol=1e-5, atol=1e-6)
    assert float(a["area"].sum()) == pytest.approx(float(plain["area"].isel(lon=near).sum()))


def test_sources(cube, plain, tmp_path):
    """A Zarr store, a NetCDF file and a folder of files read the same."""
    cube.to_zarr(tmp_path / "zarr", zarr_format=2, consolidated=False)
    cube.to_netcdf(tmp_path / "netcdf")
    (tmp_path / "folder").mkdir()
    for name in cube.data_vars:
        cube[[name]].to_netcdf(tmp_path / "folder" / f"{name}.nc")
    for kind in ("zarr", "netcdf", "folder"):
        same(upscale(Ensemble(), tmp_path / kind, tmp_path / f"map-{kind}.zarr"), plain)
    assert not open_cube(tmp_path / "zarr", FEATURES).ds["TA"].variable._in_memory
    with pytest.raises(DataError, match=r"nothing\.nc"):
        upscale(Ensemble(), tmp_path / "nothing.nc", tmp_path / "n.zarr")


def test_days_keep_their_dates(cube, tmp_path):
    """A daily cube gives a daily map with time bounds and no word of a climatology."""
    daily = cube.rename(month="time").assign_coords(time=DAYS)
    got = upscale(Ensemble(), daily, tmp_path / "m.zarr")
    assert (got["time"].to_numpy() == DAYS).all()
    assert "climatology" not in str(got.attrs) + str(got["time"].attrs)
    export_netcdf(tmp_path / "m.zarr", tmp_path / "m.nc")
    with xr.open_dataset(tmp_path / "m.nc", decode_cf=False) as raw:
        width = np.diff(raw["time_bnds"].to_numpy(), axis=1)
        assert (width == 1).all()
        assert raw["time"].attrs["bounds"] == "time_bnds"


def test_conventions(stored, tmp_path):
    """CF's demands on a climatology, flags, bounds and names; the title names virtual towers."""
    nc = export_netcdf(stored, tmp_path / "m.nc")
    with xr.open_dataset(nc, decode_cf=False) as raw:
        assert raw.attrs["Conventions"] == "CF-1.11"
        assert raw.attrs["title"].startswith("Virtual towers: ")
        assert "not the cycle of any year" in raw.attrs["comment"]
        for name in ("weights_sha256", "registry_sha256", "code_version", "interval"):
            assert raw.attrs[name]
        bounds = raw["climatology_bounds"]
        assert raw["time"].attrs["climatology"] == "climatology_bounds"
        start, end = cftime.num2date(bounds[1].to_numpy(), raw["time"].attrs["units"])
        assert (start.year, start.month, end.year, end.month) == (1991, 2, 2014, 3)
        assert cftime.num2date(raw["time"][1].item(), raw["time"].attrs["units"]).month == 2
        for flux in FLUXES:
            assert raw[flux].attrs["units"] == "g m-2 d-1"
            assert "time: mean over years" in raw[flux].attrs["cell_methods"]
            assert raw[flux].attrs["ancillary_variables"] == "quality"
        masks = raw["quality"].attrs["flag_masks"]
        assert masks.dtype == raw["quality"].dtype == np.uint8
        assert len(raw["quality"].attrs["flag_meanings"].split()) == len(masks)
        assert "_FillValue" not in raw["lat"].attrs
        assert raw["lat_bnds"].to_numpy()[[0, -1], [0, 1]].tolist() == [-90, 90]


def checked(path: Path) -> str:
    """Run the IOOS compliance checker for CF-1.11 on a file; return its report."""
    pytest.importorskip("compliance_checker", reason="of the extra dev")
    checker = Path(sys.executable).with_name("compliance-checker")
    command = [checker, "-t", "cf:1.11", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
def test_checker_finds_no_fault(cube, stored, tmp_path):
    """The maps of months and of days, packed and not, pass without error or warning."""
    daily = cube.rename(month="time").assign_coords(time=DAYS)
    upscale(Ensemble(), daily, tmp_path / "d.zarr", intervals=INTERVALS)
    for out in (stored, tmp_path / "d.zarr"):
        for packed in (False, True):
            nc = export_netcdf(out, tmp_path / f"{out.stem}{packed}.nc", packed=packed)
            report = checked(nc)
            assert "All tests passed!" in report, report
    with xr.open_dataset(nc) as ds:
        ds["NEE"].attrs["units"] = "gC per day"
        ds.to_netcdf(tmp_path / "worse.nc")
    assert "gC per day" in checked(tmp_path / "worse.nc")  # it does look


@pytest.mark.slow
def test_what_is_fetched_passes_the_checker_too(need, tmp_path):
    """Predictor cube and reference data, saved as NetCDF by a reader, have no error."""
    need("reference/")
    need("grid/")
    from tamrl.data import fetch_grid, fetch_reccap, fetch_reference_gpp

    for fetch in (fetch_reference_gpp, fetch_reccap, fetch_grid):
        fetch().to_netcdf(tmp_path / f"{fetch.__name__}.nc")
        report = checked(tmp_path / f"{fetch.__name__}.nc")
        assert "    Errors    " not in report, report
        assert "Conventions field" not in report
        assert "history should exist" not in report


def test_cdo_opens_maps(plain, stored, tmp_path):
    """The Climate Data Operators, where they are installed, know grid, area, time and values."""
    cdo = shutil.which("cdo")
    if cdo is None:
        pytest.skip("cdo is not installed; it is no Python package")
    nc = export_netcdf(stored, tmp_path / "m.nc", packed=True)

    def run(*arguments: str) -> str:
        command = [cdo, "-s", *arguments, str(nc)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "72x36" in run("sinfon")
    assert "cellbounds area" in run("sinfon")
    mean = np.array(run("output", "-fldmean", "-selname,GPP").split(), dtype=float)
    want = plain["GPP"].weighted(plain["area"]).mean(("lat", "lon"))
    np.testing.assert_allclose(mean, want, rtol=2e-3)


def test_packing_costs_half_a_step(plain, stored, tmp_path):
    """Int16 is off by at most 0.001, says how to unpack, and keeps missing values missing."""
    nc = export_netcdf(stored, tmp_path / "m.nc", packed=True)
    with xr.open_dataset(nc, decode_cf=False) as raw:
        assert raw["GPP"].dtype == np.int16
        assert raw["GPP"].attrs["scale_factor"] == 0.002
    with xr.open_dataset(nc) as packed:
        for flux in FLUXES:
            error = abs(packed[flux] - plain[flux])
            assert float(error.max()) <= 0.001 + 1e-6
            assert (packed[flux].isnull() == plain[flux].isnull()).all()
    assert [p.name for p in tmp_path.iterdir()] == ["m.nc"]


def test_packing_refuses_what_int16_cannot_hold(cube, tmp_path):
    """A bound beyond 65 g m-2 d-1 is an error, not a number with another sign."""
    huge = Conformal((100.0, 0.0, 0.0), {"": 1.0}, {0.9: (-2.0, 2.0)})
    upscale(Ensemble(), cube, tmp_path / "m.zarr", intervals=INTERVALS | {"NEE": huge})
    with pytest.raises(DataError, match=r"NEE_(lower|upper)"):
        export_netcdf(tmp_path / "m.zarr", tmp_path / "m.nc", packed=True)
    assert not (tmp_path / "m.nc").exists()


def test_an_ensemble_has_members_and_its_intervals_all_fluxes(cube, tmp_path):
    """No member, intervals for a flux too few or of another level: one clear error."""
    empty, gpp = Ensemble(), {"GPP": INTERVALS["GPP"]}
    empty.digests = []
    with pytest.raises(DataError, match="no member"):
        upscale(empty, cube, tmp_path / "m.zarr")
    for intervals, level in ((gpp, 0.9), (INTERVALS, 0.5)):
        with pytest.raises(DataError, match="not calibrated"):
            upscale(Ensemble(), cube, tmp_path / "m.zarr", intervals=intervals, level=level)


@pytest.mark.parametrize("east", [-180, 90])
def test_weather_over_the_sea_makes_no_land(tmp_path: Path, east: int) -> None:
    """A reanalysis knows the sea's weather; the grid knows that it is sea, beyond 180 degrees, too.

    Where nothing is land, as at a pole that the grid does not reach, there is no map.
    """
    whole, model = world(), Ensemble()
    model.grid = whole[["land_fraction"]]
    weather = whole.drop_vars("land_fraction")
    cube = weather.fillna(weather.mean())
    if east == 90:  # from 90 to 270 degrees
        cube = cube.assign_coords(lon=cube["lon"] % 360).sortby("lon").sel(lon=slice(90, 270))
    got = upscale(model, cube, tmp_path / "m.zarr").load()
    at = (got["lon"] + 180) % 360 - 180
    share = whole["land_fraction"].sel(lon=at).to_numpy()
    np.testing.assert_allclose(got["land_fraction"], share, atol=1e-6)
    assert 0.1 < (share == 0).mean() < 0.9
    known = np.isfinite(got["GPP"]).any("time").to_numpy()
    assert not known[share == 0].any()
    assert known[share > 0].all()
    assert np.isnan(got["quality"].to_numpy()[:, share == 0]).all()  # NO_LAND, as stored
    model.grid = whole[["land_fraction"]].sel(lat=slice(0, 0))
    with pytest.raises(DataError, match="all is sea"):
        upscale(model, cube, tmp_path / "pole.zarr")
