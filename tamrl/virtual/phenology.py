"""Daily vegetation index of simulated towers: what a satellite pixel over them would show."""

import numpy as np
import xarray as xr
from scipy.special import ndtr

from tamrl.data.schema import VARIABLES
from tamrl.virtual.grid import greenness
from tamrl.virtual.noise import draw
from tamrl.virtual.towers import simulated_months

SHARE = 0.65  # of towers have it; of the real ones 128 of 180
# How a pixel of 500 m differs from what the tower sees: sd of a factor, and of an offset in EVI,
# both constant in time, and of an error of each month.
FACTOR, OFFSET, MONTH = 0.15, 0.03, 0.015


def virtual_phenology(towers: xr.Dataset) -> xr.DataArray:
    """EVI (site, time) of `virtual_towers`, as of `tamrl.data.phenology.fetch_phenology`.

    Months of the simulated canopy, linear between their middles; with noise, a third of the towers
    has none, and a pixel differs from the tower. DataError for real towers.
    """
    fpar, time = simulated_months(towers)["FPAR"], towers.time.values.astype("datetime64[D]")
    evi = greenness(fpar)
    if towers.attrs["virtual_noise"]:
        z = draw(towers.site.values, towers.attrs["virtual_seed"], "phenology", (3 + evi.shape[1],))
        evi = evi * np.exp(FACTOR * z[:, :1]) + OFFSET * z[:, 1:2] + MONTH * z[:, 3:]
        evi[ndtr(z[:, 2]) > SHARE] = np.nan
    first = np.datetime64(f"{towers.attrs['virtual_years'][0]}-01")
    middle = (first + np.arange(evi.shape[1])).astype("datetime64[D]").astype(int) + 14
    daily = np.stack([np.interp(time.astype(int), middle, row) for row in evi])
    coords = {"site": towers.site.values, "time": towers.time.values}
    return xr.DataArray(
        daily.astype(np.float32), coords, ("site", "time"), "EVI", VARIABLES["EVI"].attrs
    )
