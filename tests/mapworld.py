"""A small world for tests of maps: a cube with coasts and holes, and a model one can compute."""

import time

import numpy as np
import xarray as xr

from tamrl.data.gridfiles import centres
from tamrl.data.schema import FLUXES
from tamrl.maps.models import Mapped

FEATURES = ("TA", "PRCP", "VPD", "elevation", "igbp_ENF", "koppen_Cold", "abs_lat")


class Ensemble:
    """Deterministic stand-ins for networks, whose calls are counted and may be slowed down."""

    features = FEATURES
    optional = ()
    days = None
    grid = None
    days = None

    def __init__(self, *seeds: int, pause: float = 0.0) -> None:
        self.seeds = seeds or (0, 1, 2)
        self.digests = [f"recurrent-{seed}" for seed in self.seeds]
        self.pause = pause
        self.calls = 0

    def __call__(self, x: np.ndarray) -> Mapped:
        self.calls += 1
        time.sleep(self.pause)
        flux = np.stack([recurrent(x, seed) for seed in self.seeds])
        forest = np.where(x[:, 0, FEATURES.index("igbp_ENF")] > 0.3, "ENF", "")
        return Mapped(flux, forest, np.abs(x[:, 0, FEATURES.index("abs_lat")]) / 90)


def recurrent(x: np.ndarray, seed: int) -> np.ndarray:
    """Fluxes (place, time, flux) of one member, whose state runs on in time."""
    rng = np.random.default_rng(seed)
    inner = rng.normal(size=(len(FEATURES), 16)).astype(np.float32) / 30
    outer = rng.normal(size=(16, 2)).astype(np.float32)
    state, out = np.zeros((len(x), 16), np.float32), []
    for t in range(x.shape[1]):
        state = np.tanh(0.5 * state + np.nan_to_num(x[:, t]) @ inner)
        gpp, reco = 20 / (1 + np.exp(-(state @ outer).T))
        out.append(np.stack([gpp, reco, reco - gpp], axis=-1))
    return np.stack(out, axis=1)


def world(step: float = 5.0, seed: int = 1) -> xr.Dataset:
    """Make a cube (month, lat, lon) with sea, coasts, bare ground and missing facts."""
    rng = np.random.default_rng(seed)
    lat, lon = centres(step)
    shape = (len(lat), len(lon))
    land = np.clip(rng.uniform(-0.7, 1.6, shape), 0, 1)
    sea = land == 0

    def field(low: float, high: float, *lead: int) -> np.ndarray:
        values = rng.uniform(low, high, (*lead, *shape)).astype(np.float32)
        return np.where(sea, np.float32(np.nan), values)

    share = rng.dirichlet(np.ones(4), shape).transpose(2, 0, 1)
    share = np.where(sea, np.nan, share).astype(np.float32)
    place = ("lat", "lon")
    fields = {
        "TA": (("month", *place), field(-30, 35, 12), {"units": "degC"}),
        "PRCP": (("month", *place), field(0, 20, 12), {"units": "mm d-1"}),
        "VPD": (("month", *place), field(0, 40, 12), {"units": "hPa"}),
        "elevation": (place, field(0, 3000), {"units": "m"}),
        "land_fraction": (place, land.astype(np.float32), {"units": "1"}),
        "igbp_fraction": (("igbp", *place), share, {"units": "1"}),
        "koppen": (place, np.where(sea, 0, rng.integers(1, 31, shape)).astype("i1")),
    }
    axes = {"month": np.arange(1, 13), "lat": lat, "lon": lon, "igbp": ["ENF", "GRA", "SNO", "BSV"]}
    ds = xr.Dataset(fields, axes, {"registry_sha256": "0123456789abcdef"})
    ds["elevation"][3, 7] = np.nan
    return ds


def same(a: xr.Dataset, b: xr.Dataset) -> None:
    """Assert that two maps hold the same bits."""
    for name in (*FLUXES, *(f"{f}_sd" for f in FLUXES), "GPP_member", "quality", "land_fraction"):
        x, y = a[name].to_numpy(), b[name].to_numpy()
        assert x.tobytes() == y.tobytes(), f"{name} differs by {np.nanmax(np.abs(x - y))}"


if __name__ == "__main__":  # map slowly, to be killed
    import sys

    from tamrl.maps.upscale import upscale

    upscale(Ensemble(pause=float(sys.argv[3])), sys.argv[2], sys.argv[1], workers=1)
