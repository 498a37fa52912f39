"""What a cube cannot be though each of its values could: dimensions, units, order of extremes."""

from collections import Counter
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data import schema
from tamrl.data.own.checks import FEW, ORDERED, ROOM
from tamrl.data.physics import changed_unit, wrong_unit
from tamrl.data.schema import DRIVERS, IGBP_CODES
from tamrl.maps.timeaxis import time_edges
from tamrl.samples.arrays import SATELLITE

SAMPLE_COLUMNS = 60  # columns of the sample whose weather is compared with what physics allows
CELLS = 50  # of these that are looked at one by one, too,
LONG = 300  # d, each by a year: a wet season alone may be damper than what `wrong_unit` allows
CHANGED = 0.25  # of these, in which a unit changes: in fewer it may be the onset of a monsoon
FIXED = ("land_fraction", "igbp_fraction", "koppen")  # facts of a cell, the same at all times
SERIES = (*schema.VARIABLES, *SATELLITE)  # what changes in time


def wrong_dims(ds: xr.Dataset, needed: Collection[str]) -> str:
    """Say which variable lacks a dimension or has one too many, or which IGBP class is none."""
    for name in sorted({*FIXED, *needed} & {*map(str, ds)}):
        dims = ds[name].dims
        if name in FIXED and "time" in dims:
            return f"{name} changes in time, but is a fact of the cell; give it one value a cell"
        if name in SERIES and "time" not in dims:
            return f"{name} has no dimension time (it has {', '.join(map(str, dims))}); give series"
        if (name == "igbp_fraction") != ("igbp" in dims):
            has = "an odd" if "igbp" in dims else "no"
            return f"{name} has {has} dimension igbp; igbp_fraction alone is by class"
    classes = Counter(ds["igbp"].to_numpy().tolist()) if "igbp" in ds.dims else Counter[str]()
    for code, times in classes.items():
        if code not in IGBP_CODES or times > 1:
            fault = "occurs twice" if times > 1 else "is no class"
            return f"the class {code!r} of igbp {fault}; name each once, of {', '.join(IGBP_CODES)}"
    return ""


def impossible(sample: xr.Dataset, step: npt.NDArray[np.float64]) -> str:
    """Say what no place on Earth shows of a sample (time, lat, lon) in our units; "" if nothing.

    ``step`` (time,), d. That is what `tamrl.data.physics` calls a wrong unit, in all cells together
    or, of days, in one of some; a unit that changes; and means beyond the day's extremes.
    """
    return _wrong_unit(sample, step) or _disordered(sample)


def _wrong_unit(sample: xr.Dataset, step: npt.NDArray[np.float64]) -> str:
    if step.mean() < 1 or not {*DRIVERS} <= {n for n in sample if "time" in sample[n].dims}:
        return ""
    few = sample.isel(lon=slice(None, None, sample.sizes["lon"] // SAMPLE_COLUMNS + 1))
    time = few["time"].to_numpy()
    middle = np.cumsum(step) - step / 2
    if time.dtype.kind == "M":
        middle = (time_edges(time)[0] - time[0].astype("M8[Y]")) / np.timedelta64(1, "D") + middle
    ta, vpd, sw = (few[n].transpose("time", "lat", "lon").to_numpy() for n in DRIVERS)
    lat, doy = few["lat"].to_numpy()[:, None], (middle % 365.25 + 1)[:, None, None]
    why = wrong_unit(ta, vpd, sw, lat, doy, float(step.mean()))
    if why or time.dtype.kind != "M" or step.max() > 1 or len(time) < LONG:
        return why
    cells = np.argwhere(np.isfinite(ta + vpd + sw).any(0))
    cells = cells[np.unique(np.linspace(0, max(len(cells) - 1, 0), CELLS, dtype=int))[: len(cells)]]
    changed = []
    for i, j in cells:
        one, y = (ta[:, i, j], vpd[:, i, j], sw[:, i, j]), float(lat[i, 0])
        where = f"at {y:g}, {float(few['lon'][j]):g} (lat, lon)"
        if why := changed_unit(*one, y, time):
            changed.append(f"{where} {why}")
        elif why := wrong_unit(*one, y, doy[:, 0, 0]):
            return f"{where} {why}"
    return changed[0] if len(changed) > CHANGED * len(cells) else ""


def _disordered(sample: xr.Dataset) -> str:
    for below, above in (pair for pair in ORDERED if {*pair} <= {*sample}):
        gap = sample[below] - sample[above]
        wrong, known = int((gap > ROOM).sum()), int(np.isfinite(gap).sum())
        if wrong > FEW * known:
            text = f"{below} is above {above} in {wrong} of {known} values looked at"
            return f"{text}; give the mean and the extremes of each day, in one unit"
    return ""
