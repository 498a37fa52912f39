"""Made-up monthly training tables whose fluxes follow predictors that a test chooses."""

import numpy as np
import xarray as xr

from tamrl.data.schema import FLUXES
from tamrl.maps.training import MAP_FEATURES


def training_table(
    evi: np.ndarray, noise: float = 0.1, seed: int = 0, spacing: float = 5.0
) -> xr.Dataset:
    """Towers (site,) with this mean EVI; GPP is 10 x EVI in the month, RECO is 2.

    All other predictors are noise; towers stand ``spacing`` degrees apart.
    """
    rng = np.random.default_rng(seed)
    n = len(evi)
    x = rng.normal(size=(n, 12, len(MAP_FEATURES))).astype(np.float32)
    statics = slice(6, None)
    x[..., statics] = x[:, :1, statics]
    green = evi[:, None] * (1 + 0.3 * np.sin(np.arange(12) / 6 * np.pi))
    x[..., MAP_FEATURES.index("EVI")] = green
    gpp = 10 * green + rng.normal(0, noise, green.shape)
    reco = 2 + rng.normal(0, noise, green.shape)
    y = np.stack([gpp, reco, reco - gpp], axis=-1).astype(np.float32)
    place = np.arange(n)
    lat, lon = (place % 20) * spacing - 50.0, (place // 20) * spacing - 100.0
    towers = {"lat": lat, "lon": lon, "igbp": np.where(place % 2, "GRA", "ENF"),
              "cell_lat": np.round(lat), "cell_lon": np.round(lon)}  # fmt: skip
    coords = {
        "site": [f"XX-{k:03d}" for k in place], "month": np.arange(1, 13),
        "feature": list(MAP_FEATURES), "flux": list(FLUXES),
        **{name: ("site", values) for name, values in towers.items()},
    }  # fmt: skip
    fields = {
        "x": (("site", "month", "feature"), x), "y": (("site", "month", "flux"), y),
        "weight": (("site", "month"), np.full((n, 12), 90.0)),
    }  # fmt: skip
    return xr.Dataset(fields, coords, {"virtual": 1, "tower_source": "made up"})
