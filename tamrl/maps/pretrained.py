"""The trained ensemble with all that a user does with it: predict, adapt, score, save, and map."""

from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

import xarray as xr

from tamrl.data import fetch_grid
from tamrl.errors import DataError
from tamrl.files import check_store
from tamrl.maps.cubefiles import open_source
from tamrl.maps.ensemble import ensemble_map
from tamrl.maps.upscale import upscale
from tamrl.shipped.pretrained import Pretrained, open_weights
from tamrl.virtual.grid import virtual_grid


class Model(Pretrained):
    """A trained ensemble that draws maps, too; `tamrl.load_pretrained` gives it."""

    def map(
        self, cube: xr.Dataset | str | PathLike[str] | None = None,
        output: str | PathLike[str] = "map.zarr", grid: xr.Dataset | None = None,
        every: str = "step", need_grid: bool = True, **options: Any,
    ) -> xr.Dataset:  # fmt: skip
        """Map GPP, RECO and NEE wherever a daily ``cube`` (time, lat, lon) has TA, VPD and SW_IN.

        Without a ``cube``, or with twelve months, an average year is mapped month by month.
        ``output``: a Zarr store to write; a map that was broken off goes on. ``grid``: what
        describes the cells, None: `tamrl.data.fetch_grid`, or nothing unless ``need_grid``;
        ``every`` "month" or "year": means over the days of a cube; ``options`` as of
        `tamrl.upscale`. Returns the map, opened, gC m-2 d-1, with 90 % bounds by flux where the
        weights hold them. Errors as of `tamrl.upscale`, and DataError without cube and grid.
        """
        check_store(Path(output), cube)
        virtual, given = bool(self.header.get("virtual")), grid
        if given is None and need_grid:
            given = virtual_grid() if virtual else fetch_grid()
        if isinstance(cube, str | PathLike):
            with closing(open_source(Path(cube))) as ds:  # once: it is not opened again
                return self.map(ds, output, given, every, need_grid, **options)
        if (source := given if cube is None else cube) is None:
            raise DataError("an average year is drawn from the grid; give it, or a cube")
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
