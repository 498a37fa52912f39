"""Monthly series and mean seasons, and what they are on a day."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def between_months(month: NDArray, time: NDArray) -> tuple[NDArray, NDArray, Array]:
    """For each day the months before and after, by mid-month, and the weight of the later one.

    Outside the months on record the weight is NaN.
    """
    centre = month.astype("datetime64[D]") + np.timedelta64(14, "D")
    right = np.searchsorted(centre, time)
    left = np.clip(right - 1, 0, len(centre) - 1)
    right = np.clip(right, 0, len(centre) - 1)
    gap = np.maximum((centre[right] - centre[left]).astype(int), 1)
    w = np.clip((time - centre[left]).astype(int) / gap, 0, 1).astype(np.float32)
    w[(time < month[0]) | (time > centre[-1] + np.timedelta64(16, "D"))] = np.nan
    return left, right, w


def interpolate(values: Array, left: NDArray, right: NDArray, w: Array) -> Array:
    """Interpolate a monthly series to days; beside a missing month only the near half is filled."""
    a, b = values[left], values[right]
    near = np.where(w < 0.5, a, b)
    return np.where(np.isfinite(w), np.where(np.isfinite(a + b), a + (b - a) * w, near), np.nan)


def month_means(values: Array, month: NDArray) -> NDArray:
    """Mean season (12,) of a daily series; NaN for a calendar month without a value."""
    ok = np.isfinite(values)
    n = np.bincount(month[ok], minlength=12)
    total = np.bincount(month[ok], values[ok], 12)
    return np.divide(total, n, out=np.full(12, np.nan), where=n > 0)


def mean_and_range(season: NDArray) -> tuple[NDArray, NDArray]:
    """Mean and range (site,) of seasons (site, 12) with at least half of their months."""
    ok = np.isfinite(season)
    known = ok.sum(1) >= 6
    mean = np.where(ok, season, 0).sum(1) / np.maximum(ok.sum(1), 1)
    span = np.where(ok, season, -np.inf).max(1) - np.where(ok, season, np.inf).min(1)
    return np.where(known, mean, np.nan), np.where(known, span, np.nan)


def season_to_daily(season: NDArray, doy: NDArray) -> NDArray[np.float64]:
    """Interpolate a cyclic season (12,), monthly means, to days of the year (day,).

    Linear between the middles of months of equal length; NaN beside a missing month.
    """
    position = (doy - 1) / 365.25 * 12 - 0.5
    left = np.floor(position).astype(int)
    w = position - left  # np.interp differs in the last bit, and so would the samples' fingerprint
    return np.asarray(season[left % 12] * (1 - w) + season[(left + 1) % 12] * w)
