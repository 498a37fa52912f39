"""What a cube cannot be though each of its values could: dimensions, units, order of extremes."""

from collections import Counter
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import xarray as xr

from tamrl.data import schema
from tamrl.data.own.checks import FEW, ORDERED, ROOM
from tamrl.data.own.vocabulary import FILLS, LEAST, SCALE
from tamrl.data.physics import changed_unit, wrong_unit
from tamrl.data.schema import DRIVERS, IGBP_CODES
from tamrl.maps.timeaxis import time_edges
from tamrl.samples.arrays import SATELLITE

SAMPLE_COLUMNS = 60  # columns of the sample whose weather is compared with what physics allows
CELLS = 50  # of these that are looked at one by one, too,
MONTH = 30  # d, at least, in which days are compared with the day before
LONG = 300  # d, each by a year: a wet season alone may be damper than what `wrong_unit` allows
SAME, SPREAD = 0.5, 0.01  # at 180 towers TA is that of the day before, or TA_max - TA_min less
# than so many K, on 0.2 % of days at most; of more than SAME, months or days were repeated
RAIN = (5e-4, 40.0)  # mm d-1, a year's mean where it rains: Arica has 2e-3, Mawsynram 32
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
    or, of days, in one of some; a unit that changes; means beyond the day's extremes; values
    repeated from day to day; an index scaled twice, or a rain that no year has.
    """
    return (
        _wrong_unit(sample, step) or _disordered(sample) or _repeated(sample, step)
        or _wrong_scale(sample, step)
    )  # fmt: skip


def _repeated(sample: xr.Dataset, step: npt.NDArray[np.float64]) -> str:
    if {"TA_min", "TA_max"} <= {*sample}:
        spread = (sample["TA_max"] - sample["TA_min"]).to_numpy()
        if (spread < SPREAD).sum() > SAME * np.isfinite(spread).sum() > 0:
            text = "TA_min and TA_max are the same on most days"
            return f"{text}; give the extremes of hours, or leave them out"
    if "TA" not in sample or step.max() > 1 or len(step) < MONTH:
        return ""
    change = np.diff(sample["TA"].transpose("time", "lat", "lon").to_numpy(), axis=0)
    same, known = (change == 0).sum(0), np.isfinite(change).sum(0)
    for i, j in np.argwhere((same > SAME * known) & (known >= MONTH - 1)):
        where = f"at {float(sample['lat'][i]):g}, {float(sample['lon'][j]):g} (lat, lon)"
        text = f"{where} TA is that of the day before on {same[i, j]} of {known[i, j]} days"
        return f"{text}; give a mean of each day, and mark what is missing by NaN"
    return ""


def _wrong_scale(sample: xr.Dataset, step: npt.NDArray[np.float64]) -> str:
    for name in LEAST.keys() & {*sample}:
        if 0 < (most := float(sample[name].max())) < LEAST[name]:
            return f"{name} is at most {most:.2g}; was its scale factor applied twice? Divide by it"
    if (
        "EVI" in sample
        and np.isclose(sample["EVI"], FILLS["EVI"][0] * SCALE["EVI"], atol=1e-6).any()
    ):
        return "EVI is -0.3 in places, the fill value of MODIS; mark what is missing by NaN"
    if "PRCP" in sample and step.sum() >= LONG:
        rain = float(sample["PRCP"].mean())
        if rain > RAIN[1] or 0 < rain < RAIN[0]:
            return f"PRCP is {rain:.3g} mm d-1 in the mean, as it is nowhere; check its unit"
    return ""


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
