"""What all tests share: no network, one thread, and the two sets of towers they may ask for."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

# Before anything imports numpy or torch: threads that wait must not spin (tests run in parallel).
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest
import xarray as xr

from tamrl.data import fetch_towers
from tamrl.data.cache import available, registry_names
from tamrl.samples.arrays import Samples, make_samples
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.towers import virtual_predictors, virtual_towers

LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True, scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Reach servers on this machine only, as if the cable were pulled, and pre-train anew.

    Weights stored by code of the same version would hide a change.
    """
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        remote = self.family in (socket.AF_INET, socket.AF_INET6)
        if remote and not str(address[0]).startswith(LOOPBACK):  # type: ignore[index]
            raise OSError(errno.ENETUNREACH, f"tests have no network ({address})")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setenv("TAMRL_PRETRAINING_DIR", str(tmp_path_factory.mktemp("pretraining")))
        yield


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Return an empty folder in which models note their fits."""
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


@pytest.fixture(scope="session")
def need() -> Callable[[str], None]:
    """Give tests `need("grid/")`: skip, with the reason, unless cache or mirror has these data."""

    def need(prefix: str) -> None:
        names = registry_names(prefix)
        assert names, f"data_registry.txt lists nothing under {prefix!r}"
        if not available(names):
            pytest.skip(
                f"needs {prefix}*, which neither the cache (TAMRL_DATA_DIR) nor a mirror "
                "(TAMRL_DATA_MIRROR) holds; with network, run `tamrl fetch` once"
            )

    return need


@pytest.fixture(scope="session")
def real_towers(need: Callable[[str], None]) -> xr.Dataset:
    """Return the 180 FLUXNET2015 towers, daily, dims (site, time)."""
    need("fluxnet2015.zarr/")
    return fetch_towers()


@pytest.fixture(scope="session")
def virtual() -> xr.Dataset:
    """Return twelve virtual towers over three years, dims (site, time)."""
    return virtual_towers(n=12, seed=0, years=(2001, 2003))


@pytest.fixture(scope="session")
def samples(virtual: xr.Dataset) -> Samples:
    """Return samples of the twelve virtual towers, with satellites, without a grid."""
    return make_samples(virtual, virtual_predictors(virtual))


@pytest.fixture(scope="session")
def globe() -> xr.Dataset:
    """Return the virtual globe, 2 degrees, dims (month, lat, lon)."""
    return virtual_grid()


@pytest.fixture(scope="session")
def gridded(virtual: xr.Dataset, globe: xr.Dataset) -> Samples:
    """Return samples of the twelve virtual towers with satellites, grid and places."""
    return make_samples(virtual, virtual_predictors(virtual), globe)
