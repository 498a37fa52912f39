"""A tower of one's own is judged: by the model, by labels that it learnt, on the command line."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from commandline import call, passed

from tamrl import load_pretrained, monitor
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.monitor import departures, newest
from tamrl.shipped.adaptation import day_of_year
from tamrl.shipped.error_model import ErrorModel, basis
from tamrl.shipped.monitoring import narrowing
from tamrl.shipped.pretrained import Pretrained
from tamrl.study import newest as study
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_towers

PLACE = ["lat", "lon", "igbp"]
COLUMNS = ["TA", "VPD", "SW_IN", "GPP", "RECO", "NEE"]
WIDE = {f: Conformal((0.1, 0.0, 0.0), {}, {0.9: (-1.0, 1.0)}) for f in FLUXES}


@pytest.fixture(scope="module")
def virtual_tower() -> pd.DataFrame:
    """Return six years of a virtual tower whose measured fluxes are half as large again."""
    daily = virtual_towers(n=20, years=(2001, 2006))
    one = daily.isel(site=int(np.isfinite(daily.TA.values).sum(1).argmax()))
    table = one[COLUMNS].to_dataframe()[COLUMNS].dropna(subset=COLUMNS[:3])
    table[["GPP", "RECO", "NEE"]] *= 1.5
    return table.assign(**{name: one[name].item() for name in PLACE})


@pytest.fixture(scope="module")
def tower(virtual_tower: pd.DataFrame) -> pd.DataFrame:
    return virtual_tower[COLUMNS]


@pytest.fixture(scope="module")
def place(virtual_tower: pd.DataFrame) -> dict[str, Any]:
    return {**virtual_tower[PLACE].iloc[0], "grid": virtual_grid(2.5)}


@pytest.fixture(scope="module")
def model() -> Pretrained:
    """Two members of the ensemble of the package: it is the slowest part."""
    whole = load_pretrained()
    return replace(whole, members=whole.members[:2])


def share_of(width: xr.Dataset, anomaly: str = "anomaly") -> np.ndarray:
    """Width of the intervals as a share of what the weights carry for this anomaly."""
    size = np.abs(width.usual)
    out = []
    for flux, plain in width.attrs["carried"].items():
        one = width.sel(flux=flux)
        low, high = Conformal.from_dict(plain).interval(one[anomaly], size.sel(flux=flux), "")
        out.append((one.upper - one.lower) / (high - low))
    return np.stack(out)


def test_labels_narrow_the_interval_and_never_below_the_noise_of_days(model, tower, place) -> None:
    """A season of labels by little, four years by more; the interval is centred as it was."""
    shares = []
    for days in (0, 90, 4 * 365):
        mine = model.adapt(tower.iloc[:days], **place) if days else model
        judged = mine.monitor(tower, **place)
        shares.append(share_of(judged.assign_attrs(carried=model.header["anomalies"])))
        assert ("narrowed by" in judged.attrs["intervals"]) == bool(days)
    known = np.isfinite(shares[0])
    assert known.any()
    none, season, years = (each[known] for each in shares)
    np.testing.assert_allclose(none, 1, rtol=0.1)  # usual is a mean of sizes over members
    assert (years < season + 1e-6).mean() > 0.9
    assert years.mean() < season.mean() < 1
    assert years.min() > 0.3


def case() -> tuple[ErrorModel, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Error model, a posterior, five years of a season (time, 2), time, and the judged days."""
    errors = ErrorModel().requires_grad_(False)
    errors.log_size -= 1.5  # or else days' noise hides what is tested
    time = np.arange("2001-01-01", "2006-01-01", dtype="datetime64[D]").astype("datetime64[ns]")
    rng = np.random.default_rng(0)
    slow = pd.DataFrame(rng.normal(0, 1, (len(time), 2))).rolling(60, min_periods=1).mean()
    season = 5 - 4 * np.cos(2 * np.pi * day_of_year(time) / 365.25)
    flux = np.maximum(season[:, None] * (1 + 2 * slow.to_numpy()), 0)
    half = errors.covariance().numpy() / 9
    return errors, half, flux, time, newest(time, 60)


def test_the_narrowing_is_that_of_the_exact_errors_of_anomalies() -> None:
    """By the matrix of anomalies of days: window, reference years and all noise between them."""
    errors, after, flux, time, judged = case()
    share = narrowing(errors, after, flux, 50.0, time, judged, 30)
    days = torch.as_tensor(time.astype("datetime64[D]").astype(float))
    noise = errors.noise(days, torch.as_tensor(np.ascontiguousarray(flux.T))).numpy()
    change = departures(np.eye(len(time)), time, judged)[0].T  # (judged day, day)
    none = np.zeros_like(change)
    gpp, reco = np.hstack([change, none]), np.hstack([none, change])
    terms, zero = basis(flux, day_of_year(time), 50.0), np.zeros((len(time), 4))
    by_weight = np.block([[terms[0], zero], [zero, terms[1]]])  # (2 days, weight)
    exact = []
    for one in (gpp, reco, reco - gpp):
        x, own = one @ by_weight, ((one @ noise) * one).sum(1)
        variance = [own + ((x @ c) * x).sum(1) for c in (after, errors.covariance().numpy())]
        exact.append(np.sqrt(variance[0] / variance[1]))
    np.testing.assert_allclose(share, exact, atol=0.03)
    assert share.min() < 0.9


def test_no_labels_narrow_nothing_and_all_labels_leave_the_noise() -> None:
    errors, after, flux, time, judged = case()
    prior = errors.covariance().numpy()
    shares = [narrowing(errors, c, flux, 50.0, time, judged, 30) for c in (prior, after, 0 * prior)]
    np.testing.assert_allclose(shares[0], 1)
    assert (shares[1] < 1).all()
    assert (shares[2] < shares[1]).all()
    assert (shares[2] > 0.1).all()
    flux[40:60] = np.nan  # gaps in the reference leave it as it is, those of a window are left out
    flux[-3:] = np.nan
    gaps = narrowing(errors, after, flux, 50.0, time, judged, 30)
    assert np.isfinite(gaps).all()
    np.testing.assert_allclose(gaps, shares[1], atol=0.1)


def test_what_the_weights_do_not_carry_is_said_before_anything_is_read(model, tower, place) -> None:
    """Another window, or weights without calibration; intervals may be given for both."""
    with pytest.raises(
        DataError, match=r"window 7: the weights carry .* 30 days alone; .*calibrate"
    ):
        model.monitor("none.csv", window=7)
    header = {name: v for name, v in model.header.items() if name != "anomalies"}
    with pytest.raises(DataError, match="no intervals of anomalies; train with --calibrate"):
        replace(model, header=header).monitor("none.csv")
    judged = model.monitor(tower, **place, window=7, recent=50, intervals=WIDE)
    assert judged.attrs["window"] == 7
    assert judged.sizes["time"] == 50
    with pytest.raises(DataError, match="'QQ-Qqq' is not among"):
        model.monitor(tower, **place, site="QQ-Qqq")


def test_satellites_reach_the_model(model, tower, place, tmp_path: Path) -> None:
    """They change what is predicted, and what is said of the interval."""
    months = pd.date_range("2001-01-01", "2006-12-01", freq="MS").strftime("%Y-%m-%d")
    leaves = pd.DataFrame({"date": months, "LAI": 4.0, "FPAR": 0.8})
    leaves.to_csv(tmp_path / "lai.csv", index=False)
    plain = model.monitor(tower, **place)
    with_leaves = model.monitor(tower, satellites=tmp_path / "lai.csv", **place)
    assert "that had satellites, EVI, too" in plain.attrs["intervals"]
    assert "that had EVI, too" in with_leaves.attrs["intervals"]
    assert not np.allclose(plain["mean"], with_leaves["mean"], equal_nan=True)


@pytest.fixture
def files(tower, place, tmp_path: Path, monkeypatch) -> list[str]:
    """Write the tower and its facts; the arguments that name them."""
    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: place["grid"])
    tower.rename_axis("date").to_csv(tmp_path / "own.csv")
    lat, lon, igbp = (place[name] for name in PLACE)
    (tmp_path / "facts.csv").write_text(f"site,lat,lon,igbp\nXX-Own,{lat},{lon},{igbp}\n")
    return [str(tmp_path / "own.csv"), "--table", str(tmp_path / "facts.csv"), "--device", "cpu"]


def test_monitor_on_the_command_line(files: list[str], tmp_path: Path) -> None:
    """The state in a few lines, two whole files; the same as in Python."""
    out = tmp_path / "new" / "dashboard"
    for _ in range(2):  # as every morning
        done = passed("monitor", *files, "-o", out)
    assert sorted(p.name for p in out.iterdir()) == ["anomalies.nc", "status.csv"]
    judged = load_pretrained().monitor(files[0], files[2])
    xr.testing.assert_allclose(xr.load_dataset(out / "anomalies.nc"), judged)
    status = pd.read_csv(out / "status.csv")
    assert status.flux.tolist() == list(FLUXES)
    for row in status.itertuples():
        assert f"{row.flux} to {row.day}: {row.says}, anomaly {row.anomaly:+.2f}" in done.stdout
    assert len(done.stdout.splitlines()) <= 6
    assert "XX-Own, means of 30 days" in done.stdout


def test_outputs_are_judged_before_work(files: list[str], tmp_path: Path, monkeypatch) -> None:
    """A file in the way, a protected table, or an input of that name: nothing is read."""
    monkeypatch.setattr("tamrl.shipped.inputs.own_samples", Mock(side_effect=AssertionError))
    (tmp_path / "file").write_text("")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "status.csv").touch(0o444)
    (tmp_path / "status.csv").write_text(Path(files[0]).read_text())
    inside = [str(tmp_path / "status.csv"), *files[1:]]
    ways = ((files, "file", "cannot be written"), (files, "kept", "write-protected"))
    for given, folder, text in (*ways, (inside, ".", "is read as an input")):
        failed = call("monitor", *given, "-o", tmp_path / folder)
        assert failed.exit_code == 1
        assert text in failed.stderr
    assert call("monitor", *files, "-o", tmp_path / "x", "--recent", 0).exit_code == 2


def test_the_study_is_not_loaded_for_a_tower_of_ones_own(files: list[str], place) -> None:
    """The weights carry its interval; another window is calibrated at the study's towers."""
    unseen = Mock(side_effect=LookupError("the study was loaded"))
    judged = study.judge(unseen, files[0], files[2], recent=100)
    assert judged.sizes["time"] == 100
    assert judged.attrs["tower_source"] == "user"
    for other in ({"window": 7}, {"data": ""}):
        own: Mapping[str, Any] = {"data": files[0], "table": files[2]} | other
        with pytest.raises(LookupError):
            study.judge(unseen, **own)


def test_virtual_towers_say_so_in_their_files(model, tmp_path: Path) -> None:
    """The tower is virtual, though the weights are of real ones."""
    daily = virtual_towers(n=3, years=(2001, 2007))
    judged = model.monitor(daily, grid=virtual_grid(2.5), recent=200)
    assert judged.attrs["virtual"]
    monitor.write(judged, tmp_path)
    names = ["virtual_anomalies.nc", "virtual_status.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert pd.read_csv(tmp_path / names[1]).virtual.tolist() == [1, 1, 1]
