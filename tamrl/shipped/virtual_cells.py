"""What the grid knows of a virtual tower: its own vegetation, mixed with what else grows around.

The virtual globe has the class of the nearest real tower in each cell, which is seldom that of a
virtual tower beside it. Real towers are mostly built in what covers their cell. Where satellites
see nothing of a tower, the greenness of its cell is all that tells when it is green; a network can
only learn so in a world in which it is true.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from scipy.special import ndtr

from tamrl.data.grid import grid_at
from tamrl.samples.arrays import Samples
from tamrl.virtual.grid import greenness
from tamrl.virtual.noise import draw
from tamrl.virtual.simulator import YEAR
from tamrl.virtual.towers import simulated_months

OWN = (0.3, 0.9)  # least and greatest share of a cell that is like the tower
# How the grid errs about the rest: sd of a factor of all months, and of each month, in EVI.
FACTOR, MONTH = 0.1, 0.02
MIDDLE = (np.arange(12) + 0.5) / 12 * YEAR + 1  # of months, days of the year


def with_own_cells(samples: Samples, towers: xr.Dataset, cube: xr.Dataset) -> Samples:
    """Let the greenness of each tower's cell be partly its own.

    Parameters
    ----------
    samples
        Of all ``towers``, made with ``cube``; of their drivers ``EVI_grid`` changes, of their
        statics its mean and range and ``fapar_mean_grid``.
    towers
        From `tamrl.virtual.towers.virtual_towers`.
    cube
        From `tamrl.virtual.grid.virtual_grid`.
    """
    fpar = simulated_months(towers)["FPAR_season"]
    site, seed = towers.site.values, towers.attrs["virtual_seed"]
    z = draw(site, seed, "cell", (14,))
    share = OWN[0] + (OWN[1] - OWN[0]) * ndtr(z[:, :1])
    cell = grid_at(cube, towers.lat.values, towers.lon.values)
    own = greenness(fpar) * np.exp(FACTOR * z[:, 1:2]) + MONTH * z[:, 2:]
    evi = share * own + (1 - share) * cell.EVI.transpose("site", "month").to_numpy()
    mean = share[:, 0] * fpar.mean(1) + (1 - share[:, 0]) * cell.fapar_mean.to_numpy()

    x, static = samples.x.copy(), samples.static.copy()
    day = (samples.time - samples.time.astype("datetime64[Y]")).astype(int) + 1
    daily = np.stack([np.interp(day, MIDDLE, season, period=YEAR) for season in evi])
    at = samples.features.index("EVI_grid")
    x[..., at] = np.where(np.isfinite(x[..., at]), daily, np.nan)
    for name, values in (
        ("EVI_grid_mean", evi.mean(1)),
        ("EVI_grid_range", np.ptp(evi, axis=1)),
        ("fapar_mean_grid", mean),
    ):
        column = samples.static_names.index(name)
        static[:, column] = np.where(np.isfinite(static[:, column]), values, np.nan)
    return replace(samples, x=x, static=static)
