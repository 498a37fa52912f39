"""Real towers where they can be had; virtual ones only when nothing yields them, and aloud."""

import pytest
import xarray as xr

from tamrl import sources
from tamrl.data import towers
from tamrl.errors import DataError


def unreachable(*_: object) -> xr.Dataset:
    raise DataError("no network")


def test_without_data_the_first_line_says_virtual(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(towers, "available", lambda: False)
    ds = sources.load_towers("auto")
    assert ds.attrs["virtual"] == 1
    assert capsys.readouterr().err.startswith("VIRTUAL TOWERS: ")
    assert sources.load_predictors(ds).attrs["virtual"] == 1


def test_a_download_that_fails_halfway_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(towers, "available", lambda: True)
    monkeypatch.setattr(sources, "fetch_towers", unreachable)
    assert sources.load_towers("auto").attrs["virtual"] == 1
    assert "(no network)" in capsys.readouterr().err


def test_real_towers_asked_for_are_real_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "fetch_towers", unreachable)
    with pytest.raises(DataError, match="no network"):
        sources.load_towers("fluxnet2015")


def test_virtual_on_request_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert sources.load_towers("virtual").attrs["tower_source"] == "virtual"
    assert "VIRTUAL TOWERS" not in capsys.readouterr().err


def test_unknown_source() -> None:
    with pytest.raises(DataError, match="towers='ameriflux' is unknown; use one of auto"):
        sources.load_towers("ameriflux")


def test_real_towers_are_preferred(
    real_towers: xr.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    ds = sources.load_towers("auto")
    assert ds.attrs["tower_source"] == "fluxnet2015"
    assert "VIRTUAL" not in capsys.readouterr().err
    assert sources.load_predictors(ds).sizes["site"] == 144
