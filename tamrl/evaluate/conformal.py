"""Intervals that hold at towers never seen: conformal calibration with towers as the units.

Split conformal prediction (Vovk et al. 2005, doi:10.1007/b106715) ranks residuals of exchangeable
cases. Days of different towers are not exchangeable; towers are, when a new place is like one drawn
from all towers. So ranks are taken over towers, after Lee, Barber and Willett (2023,
arXiv:2306.06342): with K towers, the quantile p is read at p (K + 1) / K. MAPIE and crepes know no
towers, hence this code.

- ``weight="tower"``: a random day of a random new tower is inside with at least the stated
  probability (up to the few numbers that describe the size of errors, from the same towers).
- ``weight="day"``, the default: the same for the share of all tower-days, in which long records
  count more, as coverage is reported. It holds on average over towers, not as a bound.
- Strata (vegetation classes) have sizes of errors of their own, shrunk towards that of all towers
  as if `SHRINK` more towers had shown it; quantiles of the errors relative to their sizes are those
  of all towers: quantiles by class covered less on real towers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tamrl.errors import DataError

Array = NDArray[np.float64]
LEVELS = (0.5, 0.9)
SHRINK = 3.0  # towers; all towers against a stratum's own; 2 to 5 did alike in cross-validation


@dataclass(frozen=True)
class Conformal:
    """Calibrated intervals of one flux; plain numbers, so that they can be stored as JSON.

    The size of the error, in units of flux, is ``scale[0] + scale[1] spread + scale[2] abs(mean)``
    times the stratum's ``factor`` (1 if unseen); ``quantiles`` are of (observed - mean) / size.
    """

    scale: tuple[float, float, float]
    factor: dict[str, float]
    quantiles: dict[float, tuple[float, float]]

    @classmethod
    def fit(
        cls, observed: ArrayLike, mean: ArrayLike, spread: ArrayLike, group: ArrayLike,
        stratum: ArrayLike = "", levels: Sequence[float] = LEVELS, weight: str = "day",
    ) -> "Conformal":  # fmt: skip
        """Calibrate on cases (case,) of towers that the predicting models had not seen.

        ``observed``, ``mean`` and ``spread`` (standard deviation) of the ensemble are in one unit;
        ``group``: tower of each case; ``stratum``: class of each, e.g. IGBP; ``levels``:
        probabilities of the intervals; ``weight`` "day": every case counts once, "tower": every
        tower. DataError for values that are not finite, levels outside 0 to 1, or too few
        towers for a level: both tails of the 90 % interval need 19.
        """
        y, m, s = (np.asarray(v, float) for v in (observed, mean, spread))
        if not np.isfinite([y, m, s]).all():
            raise DataError("calibration: observed, mean and spread must be finite; drop the rest")
        if weight not in ("day", "tower"):
            raise DataError(f"calibration: weight {weight!r} is unknown; choose day or tower")
        if min(levels) <= 0 or max(levels) >= 1:
            raise DataError(f"calibration: levels {[*levels]} are not all between 0 and 1")
        tower = np.unique(np.asarray(group), return_inverse=True)[1]
        towers = tower.max(initial=-1) + 1
        needed = int(np.ceil(2 / (1 - max(levels)) - 1 - 1e-9))
        if towers < needed:
            many = f"{towers} towers cannot support a {max(levels):.0%} interval, {needed} are"
            raise DataError(f"calibration: {many} needed; add towers or lower the level")
        w = 1 / np.bincount(tower)[tower] if weight == "tower" else np.ones(len(y))
        scale = _error_size(np.abs(y - m), s, np.abs(m), w)
        r = (y - m) / _size(scale, m, s)
        classes = np.broadcast_to(np.asarray(stratum, dtype=str), len(y))
        names, at = np.unique(classes, return_inverse=True)
        factor, usual = np.ones(len(names)), np.average(np.abs(r), weights=w)
        for k in range(len(names)):
            inside = at == k
            count = len(np.unique(tower[inside]))
            size = np.average(np.abs(r[inside]), weights=w[inside]) / usual if usual > 0 else 1.0
            factor[k] = (count * size + SHRINK) / (count + SHRINK)
        ahead = (towers + 1) / towers  # for one more tower, yet to be seen
        quantiles = {level: _bounds(r / factor[at], w, level, ahead) for level in levels}
        return cls(scale, dict(zip(names.tolist(), factor.tolist(), strict=True)), quantiles)

    def interval(
        self, mean: ArrayLike, spread: ArrayLike, stratum: ArrayLike = "", level: float = 0.9
    ) -> tuple[Array, Array]:
        """Lower and upper bound, shaped and in the unit of ``mean``; NaN where that is NaN.

        With an error of 1 + 10 % of the mean, and bounds at 1.5 times that on either side:

        >>> calibrated = Conformal((1.0, 0.0, 0.1), {"": 1.0}, {0.9: (-1.5, 1.5)})
        >>> low, high = calibrated.interval([0.0, 10.0], [0.0, 0.0])
        >>> low.tolist(), high.tolist()
        ([-1.5, 7.0], [1.5, 13.0])
        """
        m, s = np.asarray(mean, float), np.asarray(spread, float)
        if level not in self.quantiles:
            known = ", ".join(map(str, self.quantiles))
            raise DataError(f"level {level} was not calibrated; choose from {known}")
        names, at = np.unique(np.asarray(stratum, dtype=str), return_inverse=True)
        factor = np.array([self.factor.get(str(name), 1.0) for name in names])
        size = _size(self.scale, m, s) * factor[at.reshape(np.shape(stratum))]
        low, high = self.quantiles[level]
        return m + low * size, m + high * size

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dicts for JSON."""
        quantiles = {str(level): list(pair) for level, pair in self.quantiles.items()}
        return {"scale": list(self.scale), "factor": self.factor, "quantiles": quantiles}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Conformal":
        """Undo `to_dict`."""
        a, b, c = plain["scale"]
        quantiles = {float(level): (low, high) for level, (low, high) in plain["quantiles"].items()}
        return cls((a, b, c), dict(plain["factor"]), quantiles)


def _error_size(error: Array, spread: Array, mean: Array, w: Array) -> tuple[float, float, float]:
    """Non-negative coefficients of |error| on 1, spread and |mean|: errors grow with the flux."""
    from scipy.optimize import nnls

    root = np.sqrt(w)
    columns = np.stack([np.ones_like(error), spread, mean], 1) * root[:, None]
    a, b, c = nnls(columns, error * root)[0]
    floor = 0.01 * np.average(error, weights=w) + 1e-9  # never 0: no division by nothing
    return max(float(a), float(floor)), float(b), float(c)


def _size(scale: tuple[float, float, float], mean: Array, spread: Array) -> Array:
    return scale[0] + scale[1] * spread + scale[2] * np.abs(mean)


def _bounds(r: Array, w: Array, level: float, ahead: float) -> tuple[float, float]:
    """Quantiles of both tails, at a probability moved outwards by the factor `ahead`."""
    p = min((1 + level) / 2 * ahead, 1.0)
    order = np.argsort(r)

    def first(order: NDArray[np.intp]) -> float:  # at which the share p of all weight is reached
        share = np.cumsum(w[order])
        return float(r[order[np.searchsorted(share, p * share[-1] * (1 - 1e-12))]])

    return first(order[::-1]), first(order)
