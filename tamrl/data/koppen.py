"""Koppen-Geiger climate classes from monthly temperature and precipitation.

The rules are those of Peel et al. (2007, doi:10.5194/hess-11-1633-2007) as adopted by Beck et al.
(2018, doi:10.1038/sdata.2018.214): 0 degC parts temperate from cold, arid classes come first, and
a place that is dry by both rules takes the season that has less of the rain.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

# Class number = place in this list + 1, the numbering of Beck et al.; 0 stands for no data.
_CODES = """
Af Am Aw BWh BWk BSh BSk Csa Csb Csc Cwa Cwb Cwc Cfa Cfb Cfc
Dsa Dsb Dsc Dsd Dwa Dwb Dwc Dwd Dfa Dfb Dfc Dfd ET EF
"""
KOPPEN_CODES = tuple(_CODES.split())


def koppen_class(ta: npt.ArrayLike, prcp: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """Class numbers (...) of climates: 1 to 30 in the order of KOPPEN_CODES, 0 if a month lacks.

    ``ta`` (month=12, ...) is mean air temperature, degC, ``prcp`` precipitation, mm per month.

    >>> KOPPEN_CODES[koppen_class([27.0] * 12, [200.0] * 12) - 1]
    'Af'
    """
    t, p = np.asarray(ta, dtype=np.float64), np.asarray(prcp, dtype=np.float64)
    known = np.isfinite(t).all(axis=0) & np.isfinite(p).all(axis=0)
    number = np.zeros(known.shape, dtype=np.int8)
    number[known] = _numbers(t[:, known], p[:, known])
    return number


def _numbers(t: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> npt.NDArray[np.int8]:
    # Summer is the warmer of the two half-years April-September and October-March.
    april_september = np.isin(np.arange(1, 13), range(4, 10))[:, None]
    warmer = t[3:9].mean(axis=0) >= t[[9, 10, 11, 0, 1, 2]].mean(axis=0)
    summer = april_september == warmer
    rain_summer, rain_winter = (p * summer).sum(axis=0), (p * ~summer).sum(axis=0)
    driest_summer = np.where(summer, p, np.inf).min(axis=0)
    driest_winter = np.where(summer, np.inf, p).min(axis=0)
    wettest_summer = np.where(summer, p, -np.inf).max(axis=0)
    wettest_winter = np.where(summer, -np.inf, p).max(axis=0)
    mean, hottest, coldest = t.mean(axis=0), t.max(axis=0), t.min(axis=0)
    warm_months, rain, driest = (t >= 10).sum(axis=0), p.sum(axis=0), p.min(axis=0)

    # Aridity threshold, cm yr-1: 70 % of the rain in one half-year shifts it.
    seasonal = [rain_winter > 0.7 * rain, rain_summer > 0.7 * rain]
    threshold = 2 * mean + np.select(seasonal, [0.0, 28.0], default=14.0)
    rules = [rain < 10 * threshold, coldest >= 18, hottest <= 10, coldest > 0]
    first = np.select(rules, ["B", "A", "E", "C"], default="D")
    dry_summer = (driest_summer < 40) & (driest_summer < wettest_winter / 3)
    dry_winter = driest_winter < wettest_summer / 10
    dry_summer &= ~(dry_winter & (rain_summer > rain_winter))
    tropical = np.select([driest >= 60, driest >= 100 - rain / 25], ["f", "m"], default="w")
    arid, polar = np.where(rain < 5 * threshold, "W", "S"), np.where(hottest > 0, "T", "F")
    rules = [first == "A", first == "B", first == "E", dry_summer, dry_winter]
    second = np.select(rules, [tropical, arid, polar, "s", "w"], default="f")
    warmth, severe = np.where(mean >= 18, "h", "k"), (first == "D") & (coldest < -38)
    rules = [np.isin(first, ("A", "E")), first == "B", hottest >= 22, warm_months >= 4, severe]
    third = np.select(rules, ["", warmth, "a", "b", "d"], default="c")
    codes = np.char.add(np.char.add(first, second), third)
    return (pd.Index(KOPPEN_CODES).get_indexer(pd.Index(codes)) + 1).astype(np.int8)
