"""Vegetation index of MODIS or VIIRS, composites or months on a grid, as days on another grid.

Cells are means of the pixels in them, or take the nearest pixel where pixels are larger; days are
linear between composites no more than 32 days apart, as at towers (`tamrl.data.own.composites`).
"""

import re
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tamrl.data.cube import cell_edges
from tamrl.data.daily import Floats
from tamrl.data.own.composites import GAP, between
from tamrl.data.own.vocabulary import FILLS, LEAST, SCALE
from tamrl.data.units import plausible
from tamrl.data.weather.gridsource import (
    Opened,
    Region,
    Source,
    Window,
    check_dims,
    open_sources,
    window,
)
from tamrl.errors import DataError

COMPOSITE, MONTH = 16, 14  # days: the longest composite; from the first of a month to its middle
SAMPLES = 5  # dates looked at before a long computation starts
UNCLEAR = 1000  # whole numbers up to it may be percent, bytes or thousandths: no scale is guessed


@dataclass
class Vegetation:
    """EVI of composites; ``days`` gives it by day on the cells (lat, lon) it was opened for."""

    views: list[tuple[NDArray[np.datetime64], Opened, Window]]  # middles of composites
    name: str  # of the variable
    north: sparse.csr_array  # (lat, row), ones where a row of pixels is in a row of cells
    east: sparse.csr_array
    scale: float = 1.0

    @property
    def span(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last day of a composite's middle."""
        return min(m.min() for m, _, _ in self.views), max(m.max() for m, _, _ in self.views)

    def days(self, days: NDArray[np.datetime64]) -> NDArray[np.float32]:
        """EVI (day, lat, lon); NaN where no two composites are within 32 days."""
        shape = (self.north.shape[0], self.east.shape[0])
        middles, fields = [], []
        for middle, opened, cells in self.views:
            near = (middle >= days[0] - GAP) & (middle <= days[-1] + GAP)
            for k in np.flatnonzero(near):
                middles.append(middle[k])
                fields.append(self._regridded(opened, cells, int(k)).ravel())
        out = np.full((len(days), shape[0] * shape[1]), np.nan, np.float32)
        if fields:
            order = np.argsort(np.array(middles), kind="stable")
            at, values = np.array(middles)[order], np.stack(fields)[order]
            known = np.isfinite(values)
            for cell in np.flatnonzero(known.any(axis=0)):
                on = known[:, cell]
                out[:, cell] = between(at[on], values[on, cell], days)
        return out.reshape(len(days), *shape)

    @property
    def identity(self) -> bytes:
        """What this index is known by: its dates, and sums of the first and the last."""
        _, opened, cells = self.views[0]
        ends = (self.raw(opened, cells, k) for k in (0, opened.ds.sizes["time"] - 1))
        dates = [middle.tobytes() for middle, _, _ in self.views]
        return b"".join([*dates, np.array([np.nansum(field) for field in ends]).tobytes()])

    def raw(self, opened: Opened, cells: Window, k: int) -> Floats:
        """Pixels (lat, lon) of one date, as the file has them, fills NaN."""
        values = cells.take(opened.ds[self.name], np.array([k]), opened.zarr)[0].astype(float)
        first, last = FILLS["EVI"]
        fill = (values >= first) & (values <= last)
        fill |= np.isclose(values, first * SCALE["EVI"], rtol=0, atol=1e-6)
        return np.where(fill, np.nan, values)

    def _regridded(self, opened: Opened, cells: Window, k: int) -> Floats:
        values = self.raw(opened, cells, k) * self.scale
        known = np.isfinite(values)
        low, high = plausible("EVI")
        if (bad := (values < low) | (values > high)).any():
            when = str(opened.ds["time"].to_numpy()[k])[:10]
            text = f"{self.name} is {values[bad][0] / self.scale:.6g} on {when}, outside {low:g} to"
            raise DataError(
                f"{opened.file}: {text} {high:g}; apply its scale factor and fill value"
            )
        total = self.north @ np.where(known, values, 0) @ self.east.T
        count = self.north @ known.astype(float) @ self.east.T
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def open_vegetation(
    source: Source, lat: NDArray[np.float64], lon: NDArray[np.float64], notes: list[str],
    files: ExitStack,
) -> Vegetation:  # fmt: skip
    """Open a vegetation index (time, lat, lon) for cells with these centres, degrees.

    ``source`` and ``files`` as for `tamrl.data.weather.gridsource.open_sources`; the variable's
    name ends in EVI. Dates are the first day of composites, the first of months, or days. A missing
    scale factor of 1e-4 is applied. DataError for another variable, coarser dates, another place.
    """
    opened = open_sources(source, notes, files)
    name, views = "", []
    for one in opened:
        found = [str(v) for v in one.ds.data_vars if re.search(r"(^|[\W_])EVI$", str(v), re.I)]
        if len(found) != 1 or name not in ("", found[0]):
            text = f"{len(found)} variables are an EVI; it has {', '.join(map(str, one.ds))}"
            raise DataError(f"{one.file}: {text}; leave one, of one name in all files")
        name = found[0]
        check_dims(one, name)
        if one.ds[name].dtype.kind not in "iuf":
            text = f"{name} holds values of {one.ds[name].dtype}; numbers are expected"
            raise DataError(f"{one.file}: {text}")
        views.append((_middle(one), one, window(one, _around(one, lat, lon))))
    _, first, cells = views[0]
    for _, one, own in views[1:]:
        if any(getattr(own, a).tolist() != getattr(cells, a).tolist() for a in ("lat", "lon")):
            raise DataError(f"{one.file}: its pixels are not those of {first.file}; regrid one")
    every = np.concatenate([middle for middle, _, _ in views])
    if len(np.unique(every)) < len(every):
        raise DataError(f"{first.file}: a date is there twice; keep one of each")
    gap = int(np.median(np.diff(np.sort(every)).astype(int))) if len(every) > 1 else 0
    if not 0 < gap <= GAP:
        text = f"{name} comes every {gap} days; {GAP} days are the most that are interpolated"
        raise DataError(f"{first.file}: {text}")
    middle_lon = (lon[0] + lon[-1]) / 2
    pixels = middle_lon + (cells.lon - middle_lon + 180) % 360 - 180
    axes = _members(cells.lat, lat, first.file), _members(pixels, lon, first.file)
    evi = Vegetation(views, name, *axes)
    if bare := int((np.diff(axes[0].indptr) == 0).sum() + (np.diff(axes[1].indptr) == 0).sum()):
        notes.append(f"EVI: {bare} rows or columns of cells lie beyond its pixels, and have none")
    return _scaled(evi, notes)


def _around(
    one: Opened, lat: NDArray[np.float64], lon: NDArray[np.float64]
) -> Region | None:  # fmt: skip
    """Region two pixels wider than the cells, so that the nearest one is in it; None: a circle."""
    pixel = one.ds["lat"].to_numpy().astype(float)
    wider = 2 * float(abs(np.diff(pixel)).max(initial=1e-6))
    south, north = cell_edges(lat)[[0, -1]] + [-wider, wider]
    west, east = cell_edges(lon)[[0, -1]] + [-wider, wider]
    if east - west >= 360:
        return None
    west, east = ((x + 180) % 360 - 180 for x in (west, east))
    return max(-90.0, south), west, min(90.0, north), east


def _middle(one: Opened) -> NDArray[np.datetime64]:
    """Middle days of composites and months; days themselves."""
    date = one.ds["time"].to_numpy().astype("datetime64[D]")
    bounds = one.ds.get(str(one.ds["time"].attrs.get("bounds", "")))
    if bounds is not None and bounds.dtype.kind == "M":
        edges = bounds.to_numpy().astype("datetime64[D]")
        return np.asarray(edges[:, 0] + (edges[:, 1] - edges[:, 0]) // 2)
    step = int(np.median(np.diff(np.sort(date)).astype(int))) if len(date) > 1 else 0
    first_of_month = (date == date.astype("datetime64[M]").astype("datetime64[D]")).all()
    within = step // 2 if step <= COMPOSITE else MONTH * int(first_of_month)
    return (date.astype(int) + within).astype("datetime64[D]")


def _members(pixel: NDArray[np.float64], cell: NDArray[np.float64], file: str) -> sparse.csr_array:
    """Ones (cell, pixel) where a pixel's centre is in a cell, else at the nearest pixel."""
    edges, half = cell_edges(cell), abs(np.diff(pixel)[0]) / 2
    inside = np.searchsorted(edges, pixel, side="right") - 1
    pairs = [(int(c), p) for p, c in enumerate(inside) if 0 <= c < len(cell)]
    for c in {*range(len(cell))} - {c for c, _ in pairs}:
        p = int(np.argmin(abs(pixel - cell[c])))
        if abs(pixel[p] - cell[c]) <= 1.001 * half:
            pairs.append((c, p))
    if not pairs:
        text = f"its pixels, {pixel.min():g} to {pixel.max():g}, are not where the cells are"
        raise DataError(f"{file}: {text} ({cell[0]:g} to {cell[-1]:g}); get those of the region")
    rows, columns = np.array(sorted(pairs)).T
    ones = np.ones(len(rows))
    return sparse.csr_array((ones, (rows, columns)), shape=(len(cell), len(pixel)))


def _scaled(evi: Vegetation, notes: list[str]) -> Vegetation:
    """Apply the factor of 1e-4 if the values are raw integers."""
    sample = []
    for _, opened, cells in evi.views[:SAMPLES]:
        size = opened.ds.sizes["time"]
        for k in np.unique(np.linspace(0, size - 1, SAMPLES, dtype=int)):
            sample.append(evi.raw(opened, cells, int(k)).ravel())
    known = np.concatenate(sample)
    known = known[np.isfinite(known)]
    if not known.size:
        raise DataError(f"{evi.views[0][1].file}: {evi.name} has no value in the dates looked at")
    if 0 < known.max() < LEAST["EVI"]:
        text = f"{evi.name} is at most {known.max():.2g}; was its scale factor applied twice?"
        raise DataError(f"{evi.views[0][1].file}: {text} Give it as a number up to 1")
    if known.max() > UNCLEAR and (known == known.round()).all():
        notes.append(f"EVI: scale factor {SCALE['EVI']:g} applied ({evi.name})")
        evi.scale = SCALE["EVI"]
    return evi
