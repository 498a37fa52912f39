"""Own towers become the samples of the benchmark; what is wrong is put right and said, or refused."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.data import fetch_grid, fetch_tower_predictors
from tamrl.data.cache import cache_dir
from tamrl.data.phenology import fetch_phenology
from tamrl.data.schema import tower_facts
from tamrl.samples.arrays import make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.shipped.inputs import own_samples

SITES = ["AU-Tum", "CH-Dav", "FI-Hyy", "US-Ha1"]  # US-Ha1 measures by the hour
STORE = {"ta": "TA_F", "vpd": "VPD_F", "sw_in": "SW_IN_F", "nee": "NEE_VUT_REF"}
STORE |= {"gpp_nt": "GPP_NT_VUT_REF", "nee_qc": "NEE_VUT_REF_QC"}


@dataclass
class Real:
    """Four real towers as files of a user, beside what the benchmark makes of them."""

    folder: Path
    towers: xr.Dataset
    monthly: Path
    evi: Path


@pytest.fixture(scope="module")
def real(need, real_towers: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """Write half-hours or hours, table, and satellite tables of four real towers as csv."""
    need("grid/")
    need("tower_predictors/")
    folder = tmp_path_factory.mktemp("real")
    facts = tower_facts().loc[SITES]
    store = xr.open_zarr(cache_dir() / "fluxnet2015.zarr", consolidated=False, chunks=None)
    place = {site: i for i, site in enumerate(store.site.values.astype(str))}
    for site in SITES:
        half = {new: store[old][place[site]].values for old, new in STORE.items()}
        minutes = 60 if site.startswith("US") else 30
        local = store.time.values + np.timedelta64(int(60 * facts.utc_offset_h[site]), "m")
        on = np.flatnonzero(np.isfinite(half["TA_F"]))
        keep = slice(on[0], on[-1] + 1)
        table = pd.DataFrame({name: x[keep] for name, x in half.items()})
        start = pd.DatetimeIndex(local[keep] - np.timedelta64(minutes, "m"))
        table.insert(0, "TIMESTAMP_START", start.strftime("%Y%m%d%H%M"))
        if minutes == 60:
            table = table[start.minute == 0]
        tag = {30: "HH", 60: "HR"}[minutes]
        table.to_csv(folder / f"FLX_{site}_FLUXNET2015_{tag}.csv", index=False, na_rep="-9999")
    names = ["lat", "lon", "igbp", "utc_offset_h"]
    facts[names].to_csv(folder / "towers.csv")
    monthly = fetch_tower_predictors().reindex(site=SITES).to_dataframe().reset_index()
    monthly.rename(columns={"month": "date"}).to_csv(folder / "monthly.csv.txt", index=False)
    evi = fetch_phenology().reindex(site=SITES).to_dataframe().reset_index().dropna()
    evi.rename(columns={"time": "date"}).to_csv(folder / "evi.csv.txt", index=False)
    towers = real_towers.sel(site=SITES)
    return Real(folder, towers, folder / "monthly.csv.txt", folder / "evi.csv.txt")


@pytest.mark.slow
@pytest.mark.parametrize("with_satellites", [False, True])
def test_files_become_the_samples_of_the_benchmark_bit_for_bit(
    real: Real, with_satellites: bool
) -> None:
    """Half-hours, a table without climate or elevation, satellite tables: x and static are equal."""
    monthly = fetch_tower_predictors() if with_satellites else None
    expected = make_samples(real.towers, monthly, fetch_grid())
    evi = fetch_phenology().reindex(time=real.towers.time) if with_satellites else None
    expected = with_phenology(expected, evi)
    own = own_samples(real.folder, None, [real.monthly, real.evi] if with_satellites else None)
    assert own.site.tolist() == expected.site.tolist()
    assert own.features == expected.features
    same = np.isin(expected.time, own.time)
    assert not expected.has_drivers[:, ~same].any()
    np.testing.assert_array_equal(own.has_drivers, expected.has_drivers[:, same])
    np.testing.assert_array_equal(own.x, expected.x[:, same])
    np.testing.assert_array_equal(own.static, expected.static)
    if with_satellites:
        known = np.isfinite(own.x[..., own.features.index("LAI")]).mean((1,))
        assert (known > 0).sum() >= 2
