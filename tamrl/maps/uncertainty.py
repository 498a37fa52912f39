"""How sure means over regions are, from errors at held-out towers.

Two parts, independent of each other. What all places of a region share: the choice of towers, as
far as leaving out a fold of them moves the region's mean (delete-a-group jackknife, Kott 2001,
J. Off. Stat. 17, 521). And what a place shares with its neighbours alone: the part of the error of
its annual mean that is correlated over some way, which averages out over many places; the rest of
that error is the tower's own (measurement, footprint), and no region's. Biases that all towers
share are in neither.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.cube import cell_area
from tamrl.data.schema import FLUXES
from tamrl.maps.regions import partition

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Uncertainty:
    """What `tamrl.study.comparisons.maps` measured: errors of annual means, gC m-2 d-1.

    ``folds``: GPP, RECO, NEE (fold, lat, lon) of maps by the ensembles of folds, on some cells;
    ``local``: by flux ``sd`` of a tower's error, the ``share`` of its variance that is the error of
    places around it, too, and ``length_km`` over which that is correlated.
    """

    folds: xr.Dataset
    local: pd.DataFrame

    def own(self, flux: str, area: Floats) -> Floats:
        """Find what places err with their neighbours (region,), in the mean over ``area`` m2."""
        length = 1000 * float(self.local.length_km[flux])  # m
        # The integral of exp(-d / L) over the plane is 2 pi L^2: so much land errs as one place.
        alike = np.minimum(2 * np.pi * length**2 / np.maximum(area, 1.0), 1.0)
        return self.local.sd[flux] * np.sqrt(self.local.share[flux] * alike)

    def shared(
        self, by: str, cube: xr.Dataset | None = None, land: xr.DataArray | None = None
    ) -> dict[str, Floats]:
        """Find what the choice of towers does by flux (region,): of one cell where none was mapped.

        ``by`` and ``cube`` as of `tamrl.maps.regions.partition`; ``land`` (lat, lon) is the share
        of a cell's area that counts, on the grid of a map: cells beyond it do not.
        """
        lat, lon = self.folds["lat"].to_numpy(), self.folds["lon"].to_numpy()
        some = None
        if cube is not None:
            some = cube.sel(lat=lat, lon=lon, method="nearest").assign_coords(lat=lat, lon=lon)
        parts, area, out = partition(by, lat, lon, some), cell_area(lat, lon).ravel(), {}
        if land is not None:
            land = land.assign_coords(lon=(land["lon"] + 180) % 360 - 180).sortby(["lat", "lon"])
            reach = 0.501 * max(float(land[d][1] - land[d][0]) for d in ("lat", "lon"))
            here = land.reindex(lat=lat, lon=lon, method="nearest", tolerance=reach)
            area = area * here.transpose("lat", "lon").fillna(0).to_numpy().ravel()
        for flux in FLUXES:
            mean = self.folds[flux].transpose("fold", "lat", "lon").to_numpy().astype(float)
            mean = mean.reshape(len(mean), -1)
            known = np.isfinite(mean).all(axis=0)
            n, total = parts.sums(area * known), parts.sums(np.nan_to_num(mean) * area * known)
            weight = area[known] if area[known].any() else np.ones(int(known.sum()))
            cell = np.average(jackknife(mean[:, known]) ** 2, weights=weight) ** 0.5
            with np.errstate(invalid="ignore"):
                error = jackknife(total / n)
            out[flux] = np.where(np.isnan(error), cell, error)  # NaN: without a mapped cell
        return out


def jackknife(theta: Floats) -> Floats:
    """Find the standard error (…) of a statistic (group, …), each without a group of towers."""
    k = len(theta)
    return np.asarray(np.sqrt((k - 1) / k * ((theta - theta.mean(axis=0)) ** 2).sum(axis=0)))
