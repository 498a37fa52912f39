"""What `tamrl.maps.upscale` asks of a model, and gets."""

from typing import NamedTuple, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from tamrl.maps.cubes import Floats


class Mapped(NamedTuple):
    """What a model says of places."""

    flux: Floats  # (member, place, time, 3): GPP, RECO, NEE of vegetated land, gC m-2 d-1
    stratum: NDArray[np.str_]  # (place,): by it the width of intervals is calibrated
    outside: Floats | None = None  # (place,): share outside the area of applicability
    vegetated: Floats | None = None  # (place,): share of land that can have fluxes


class MapModel(Protocol):
    """An ensemble: named features of a cube in, fluxes of each member out."""

    optional: tuple[str, ...]  # drivers that may be missing on some days

    @property
    def features(self) -> tuple[str, ...]:
        """What it reads of a cube, in this order."""

    @property
    def grid(self) -> xr.Dataset | None:
        """Predictors (lat, lon) that describe cells beside the cube; they know land from sea."""

    @property
    def days(self) -> NDArray[np.datetime64] | None:
        """Days of the cube that it was made for; None for any cube."""

    @property
    def digests(self) -> list[str]:
        """Hex digest of each member's weights."""

    def __call__(self, x: Floats) -> Mapped:
        """Map places (place, time, feature), NaN missing."""
