"""The trained ensemble with all that a user does with it: predict, adapt, score, save, and map."""

from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from tamrl.data import fetch_grid
from tamrl.maps.ensemble import ensemble_map
from tamrl.maps.upscale import upscale
from tamrl.shipped.pretrained import Pretrained, open_weights
from tamrl.virtual.grid import virtual_grid


class Model(Pretrained):
    """A trained ensemble that draws maps, too; `tamrl.load_pretrained` gives it."""

    def map(
        self, cube: xr.Dataset | str | PathLike[str] | None = None,
        output: str | PathLike[str] = "map.zarr", grid: xr.Dataset | None = None,
        every: str = "step", **options: Any,
    ) -> xr.Dataset:  # fmt: skip
        """Map GPP, RECO and NEE wherever a daily ``cube`` (time, lat, lon) has TA, VPD and SW_IN.

        Without a ``cube``, or with twelve months, an average year is mapped month by month.
        ``output``: a Zarr store to write; a map that was broken off goes on. ``grid``: what
        describes the cells, None: `tamrl.data.fetch_grid`; ``every`` "month" or "year": means over
        the days of a cube; ``options`` as of `tamrl.upscale`. Returns the map, opened, gC m-2 d-1,
        with 90 % bounds by flux where the weights hold them. Errors as of `tamrl.upscale`.
        """
        virtual = bool(self.header.get("virtual"))
        given = grid if grid is not None else virtual_grid() if virtual else fetch_grid()
        source = given if cube is None else cube if isinstance(cube, xr.Dataset) else Path(cube)
        model = ensemble_map(self.members, self.header, source, given)
        known = {"attrs": {"virtual": int(virtual)} if virtual else None, **model.bounds(every)}
        return upscale(model, source, Path(output), every=every, **known | options)


def load_pretrained(path: str | PathLike[str] | None = None, device: str = "cpu") -> Model:
    """Load a trained ensemble: the one of this package, or one of your own.

    Arguments and errors as of `tamrl.shipped.pretrained.open_weights`.

    >>> model = load_pretrained()
    >>> model.header["towers"], sorted(model.intervals)
    (180, ['GPP', 'NEE', 'RECO'])
    """
    return Model(**vars(open_weights(path, device)))
