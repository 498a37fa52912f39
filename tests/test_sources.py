"""Real towers where they can be had; else, with a warning, simulated ones."""

import pytest
import xarray as xr

from tamrl import sources
from tamrl.data import towers
from tamrl.errors import DataError


def unreachable(*_: object) -> xr.Dataset:
    raise DataError("no network")


@pytest.mark.parametrize(("available", "why"), [(False, "neither cache, mirror"), (True, "(no ne")])
def test_without_data_the_first_line_says_virtual(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], available: bool, why: str
) -> None:
    """Nothing at hand, or a download that fails halfway."""
    monkeypatch.setattr(towers, "available", lambda: available)
    monkeypatch.setattr(sources, "fetch_towers", unreachable)
    monkeypatch.setattr(sources, "virtual_towers", lambda: xr.Dataset(attrs={"virtual": 1}))
    assert sources.load_towers("auto").attrs["virtual"] == 1
    message = capsys.readouterr().err
    assert message.startswith("VIRTUAL TOWERS: ")
    assert why in message


def test_what_is_asked_for_comes_or_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "fetch_towers", unreachable)
    for source, why in (("fluxnet2015", "no network"), ("ameriflux", "unknown; use one of auto")):
        with pytest.raises(DataError, match=why):
            sources.load_towers(source)
    assert sources.load_towers("virtual").attrs["tower_source"] == "virtual"
    assert "VIRTUAL TOWERS" not in capsys.readouterr().err


def test_real_come_first(real_towers: xr.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    ds = sources.load_towers("auto")
    assert ds.attrs["tower_source"] == "fluxnet2015"
    assert "VIRTUAL" not in capsys.readouterr().err
    assert sources.load_predictors(ds).sizes["site"] == 144
