"""Build small stores and files of half-hours whose daily truth is known."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

START = np.datetime64("2003-01-01")
# Scale and offset as in FLUXNET2015's store: 16 bits over the range of the variable.
PACKING = {
    "nee": (0.0025, -90.0), "gpp_nt": (0.0025, -40.0), "nee_qc": (3 / 65532, 0.0),
    "ta": (0.0015, -50.0), "vpd": (0.0015, 0.0), "sw_in": (0.02, -5.0),
}  # fmt: skip


@dataclass
class Tower:
    """Records of one tower, beginning at local midnight of START."""

    days: int = 5
    minutes: int = 30
    offset: float = 0.0  # h, local minus UTC
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = self.days * 1440 // self.minutes
        hour = np.arange(n) * self.minutes / 60 % 24
        sun = np.maximum(0, np.sin((hour - 6) / 12 * np.pi))
        rng = np.random.default_rng(n)
        weather = {
            "ta": 12 + 6 * np.sin((hour - 9) / 12 * np.pi) + rng.normal(0, 1, n),
            "vpd": 1 + 8 * sun + rng.uniform(0, 1, n),
            "sw_in": 250 * sun,  # as in January at 50 degrees north
        }
        fluxes = {"nee": 3 - 12 * sun + rng.normal(0, 1, n), "gpp_nt": 12 * sun}
        self.values = weather | fluxes | {"nee_qc": np.zeros(n)} | self.values

    @property
    def start(self) -> np.ndarray:
        """Local time at which each record begins."""
        minutes = np.arange(0, self.days * 1440, self.minutes).astype("timedelta64[m]")
        return START.astype("datetime64[m]") + minutes


def write_store(path: Path, towers: dict[str, Tower], **encoding: dict[str, object]) -> Path:
    """Write towers as FLUXNET2015's store has them: UTC stamps of interval ends, 16-bit values.

    The record of an hourly tower has the stamp of its hour's end, and again half an hour later.
    """
    half = np.timedelta64(30, "m")
    after = [np.timedelta64(int(t.minutes - 60 * t.offset), "m") for t in towers.values()]
    ends = [t.start + later for t, later in zip(towers.values(), after, strict=True)]
    first = min(end[0] for end in ends)
    time = np.arange(first, max(end[-1] for end in ends) + 2 * half, half)
    data = {name: np.full((len(towers), len(time)), np.nan) for name in PACKING}
    for i, tower in enumerate(towers.values()):
        at = ((ends[i] - first) / half).astype(int)
        for name in PACKING:
            data[name][i, at] = tower.values[name]
            if tower.minutes == 60:
                data[name][i, at + 1] = tower.values[name]
    axes = {"site": list(towers), "time": time.astype("datetime64[ns]")}
    ds = xr.Dataset({name: (("site", "time"), x) for name, x in data.items()}, axes)
    code = {"dtype": "uint16", "_FillValue": 65535}
    pack = {n: code | {"scale_factor": s, "add_offset": o} for n, (s, o) in PACKING.items()}
    pack |= {name: how if "dtype" in how else pack[name] | how for name, how in encoding.items()}
    ds.to_zarr(path, zarr_format=2, consolidated=False, encoding=pack)
    return path


def facts(towers: dict[str, Tower], **columns: object) -> pd.DataFrame:
    """Make the table of towers that goes with a store."""
    offsets = [tower.offset for tower in towers.values()]
    table = pd.DataFrame({"utc_offset_h": offsets}, pd.Index([*towers], name="site"))
    return table.assign(lat=50.0, lon=10.0, igbp="ENF").assign(**columns)


def daily_csv(n: int = 400, **columns: object) -> pd.DataFrame:
    """Make a daily ONEFlux table of n days whose fluxes close."""
    days = pd.date_range("2005-01-01", periods=n)
    season = np.sin((days.day_of_year.to_numpy() - 100) / 365 * 2 * np.pi)
    rng = np.random.default_rng(n)
    gpp = 5 + 4 * season + rng.normal(0, 0.5, n)
    reco = 4 + 2 * season
    weather = {"TA_F": 10 + 10 * season, "VPD_F": 5 + 4 * season, "SW_IN_F": 100 + 80 * season}
    fluxes = {"NEE_VUT_REF": reco - gpp, "GPP_NT_VUT_REF": gpp, "RECO_NT_VUT_REF": reco}
    rest = {"P_F": rng.exponential(2, n), "NEE_VUT_REF_QC": np.ones(n)}
    table = pd.DataFrame({"TIMESTAMP": days.strftime("%Y%m%d")} | weather | fluxes | rest)
    return table.assign(**columns)
