"""The trained ensemble with all that a user does with it: predict, adapt, score, save, and map."""

from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from tamrl.data import fetch_grid
from tamrl.maps.daily import daily_map
from tamrl.maps.upscale import upscale
from tamrl.shipped.pretrained import Pretrained, open_weights


class Model(Pretrained):
    """A trained ensemble that draws maps, too; `tamrl.load_pretrained` gives it."""

    def map(
        self, cube: xr.Dataset | str | PathLike[str], output: str | PathLike[str],
        grid: xr.Dataset | None = None, **options: Any,
    ) -> xr.Dataset:  # fmt: skip
        """Map GPP, RECO and NEE wherever a daily ``cube`` (time, lat, lon) has TA, VPD and SW_IN.

        ``output``: a Zarr store to write; a map that was broken off goes on. ``grid``: what
        describes the cells, None: `tamrl.data.fetch_grid`; ``options`` as of `tamrl.upscale`.
        Returns the map, opened, gC m-2 d-1, with bounds by flux. Errors as of `tamrl.upscale`.
        """
        source = cube if isinstance(cube, xr.Dataset) else Path(cube)
        given = fetch_grid() if grid is None else grid
        model = daily_map(self.members, self.header, source, given)
        return upscale(model, source, Path(output), intervals=self.intervals or None, **options)


def load_pretrained(path: str | PathLike[str] | None = None, device: str = "cpu") -> Model:
    """Load a trained ensemble: the one of this package, or one of your own.

    Arguments and errors as of `tamrl.shipped.pretrained.open_weights`.

    >>> model = load_pretrained()
    >>> model.header["towers"], sorted(model.intervals)
    (180, ['GPP', 'NEE', 'RECO'])
    """
    return Model(**vars(open_weights(path, device)))
