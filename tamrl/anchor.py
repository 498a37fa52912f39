"""A daily model whose mean annual fluxes are drawn half-way to those expected of the place.

A network and the Gaussian process of `tamrl.annual` both tell the mean annual GPP and RECO of a
tower that neither has seen: one from 150 towers' days, the other from annual sums of several
hundred further places. They err by about as much and not quite alike, so that the mean of both errs
less than either. To tell the network the annual means as inputs does not do this: of towers that it
knows well it learns to overhear them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tamrl.annual import Array, WithAnnualMeans, own_means
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.samples import Samples

HALF = 0.5  # of the way, in logarithms: two estimates of one quantity that err by as much
MOST = 2.0  # a flux is at most doubled or halved
FLOOR = 0.3  # gC m-2 d-1; below, a ratio of means tells of noise


def factors(own: Array, expected: Array) -> Array:
    """Factors (site, 2) of GPP and RECO that move their means half-way to the expected ones.

    Parameters
    ----------
    own, expected
        Mean annual GPP and RECO (site, 2) in gC m-2 d-1; where ``own`` is NaN, because the days of
        a tower do not make a year, the factor is 1.

    Examples
    --------
    >>> factors(np.array([[2.0, 4.0]]), np.array([[4.0, 1.0]])).round(2).tolist()
    [[1.41, 0.5]]
    """
    ratio = np.maximum(expected, FLOOR) / np.maximum(own, FLOOR)
    return np.where(np.isfinite(own), np.clip(ratio**HALF, 1 / MOST, MOST), 1.0)


@dataclass(repr=False)
class Anchored(WithAnnualMeans):
    """A daily model, and the annual means of its place that it is drawn to (parameters as there).

    The model itself sees its samples as they are.
    """

    def __repr__(self) -> str:
        """Tell the settings, and the code of the model."""
        return super().__repr__().replace("WithAnnualMeans", "Anchored", 1)

    def predict(self, samples: Samples, sites: NDArray) -> NDArray[np.float32]:
        """Fluxes (site, time, flux) in gC m-2 d-1; NEE = RECO - GPP.

        Raises
        ------
        DataError
            When the targets are not GPP, RECO and NEE; as `WithAnnualMeans.tell`.
        """
        if samples.targets != FLUXES:
            raise DataError(f"annual means are known of GPP and RECO, not of {samples.targets}")
        self.tell(samples)  # refuses places it does not know
        assert self.annual is not None
        assert samples.places is not None
        flux = np.array(self.fitted.predict(samples, sites), np.float32)
        known = np.asarray(np.isfinite(flux).all(-1), np.float32)
        own = own_means(replace(samples, site=samples.site[sites], y=flux, weight=known))
        drawn = factors(own, self.annual.predict(samples.places.x[sites]))
        flux[..., :2] *= drawn[:, None].astype(np.float32)
        flux[..., 2] = flux[..., 1] - flux[..., 0]
        return flux

    def _tell(self, samples: Samples, annual: Array) -> Samples:
        """Leave the samples as they are."""
        return samples
