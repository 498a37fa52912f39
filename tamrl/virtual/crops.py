"""Crop calendar of the simulator: what is sown, when it is green, and whether it is watered.

Autumn-sown cereals are green in spring and ripe in midsummer; summer crops, among them maize (C4),
are sown in warm soil and green when cereals are cut; what is sown differs between years. Thermal
time: Bonhomme 2000, doi:10.1016/S1161-0301(00)00058-7. Other numbers: plausible, not calibrated.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from tamrl.virtual.noise import Array, draw, memory

KINDS = ("cereal", "summer crop", "maize")
# Shares of the three kinds of crop, and shares of farms with that main crop that water it.
COOL = ((0.60, 0.20, 0.20), (0.00, 0.10, 0.10))
HOT_SUMMER = ((0.20, 0.35, 0.45), (0.00, 0.30, 0.30))  # and a cold winter
DRY = ((0.45, 0.30, 0.25), (0.20, 0.95, 0.95))  # dry summers, or too little rain all year
HOT, COLD = 21.0, 3.0  # degC of the warmest and coldest month of the second row
ARID, DRY_CLIMATES = 0.55, ("BS", "BW", "Cs", "Ds")  # the third; precipitation / PET
FAITHFUL = 0.5  # share of years in which a farm grows its main crop whatever the rotation
C4_GAIN = 1.5  # light-use efficiency of maize beside that of a C3 crop
SOWN_AT = 12.0  # degC, mean of two weeks, at which summer crops are sown
EARLIEST = 75  # days after midwinter
# Thermal time, degC d, above a base, degC: at half canopy, at half senescence, and width of either.
CEREAL = (0.0, 450.0, 1500.0, 100.0)  # from midwinter
SUMMER = (8.0, 330.0, 1100.0, 70.0)  # from sowing
MAIZE = (8.0, 380.0, 1350.0, 70.0)
WINTER_GREEN = 0.15  # share of the full canopy that a cereal has in winter, and stubble after it
STUBBLE_AT = 1900.0  # degC d


class Farms(NamedTuple):
    """What is grown: ``sown``, ``watered`` (site, 1); ``kind``, ``early`` (site, season year)."""

    sown: NDArray[np.bool_]  # cropland outside the tropics
    watered: NDArray[np.bool_]
    kind: NDArray[np.intp]  # number in `KINDS`
    early: Array  # factor of thermal times


def sow(sim: dict[str, Array], facts: pd.DataFrame, days: int, seed: int) -> Farms:
    """Choose crops for each season year of the towers ``facts``, from T_warm, TA and aridity."""
    climate = facts.koppen.str[:2]
    sown = (facts.igbp.to_numpy(str) == "CRO") & ~climate.str.startswith("A").to_numpy(bool)
    cold = 2 * sim["TA"].mean(1) - (warm := sim["T_warm"][:, 0])
    dry = (sim["aridity"][:, 0] < ARID) | climate.isin(DRY_CLIMATES).to_numpy(bool)
    case = np.where(dry, 2, np.where((warm > HOT) & (cold < COLD), 1, 0))
    share, water = np.array([COOL, HOT_SUMMER, DRY])[case].transpose(1, 0, 2)  # (site, kind)
    years = days // 365 + 2
    farm = ndtr(draw(facts.site, seed, "farm", (2,)))
    year = draw(facts.site, seed, "crops", (3, years))
    chance, bound = ndtr(year), share.cumsum(1)[:, None, :-1]
    main = (farm[:, :1, None] > bound).sum(-1)
    rotated = (chance[:, 1, :, None] > bound).sum(-1)
    kind = np.where(chance[:, 0] < FAITHFUL, main, rotated).astype(np.intp)
    watered = farm[:, 1:] < np.take_along_axis(water, main.astype(np.intp), 1)
    return Farms(sown[:, None], sown[:, None] & watered, kind, np.exp(0.12 * year[:, 2]))


def grow(sim: dict[str, Array], farms: Farms) -> tuple[Array, Array]:
    """Grow the crops: canopy (site, time) as a share of the full one, and gain of light use."""
    ta, day = sim["TA"], sim["season_day"]
    new = np.diff(day, axis=1, prepend=day[:, :1]) < 0  # midwinter
    year = np.cumsum(new, 1, dtype=np.intp)
    kind = np.take_along_axis(farms.kind, year, 1)
    early = np.take_along_axis(farms.early, year, 1)
    mild = (memory(ta, 15) > SOWN_AT) & (day > EARLIEST)
    season = _since(mild.astype(float), new) > 0  # once sown, until the next midwinter
    frost = expit((memory(ta, 10) - 5) / 1.5)
    base, rise, fall, over = CEREAL
    heat = _since(np.maximum(ta - base, 0), new) / early
    cereal = WINTER_GREEN + (1 - WINTER_GREEN) * expit((heat - rise) / over)
    cereal *= expit((fall - heat) / over)
    canopy = [np.maximum(cereal, WINTER_GREEN * expit((heat - STUBBLE_AT) / over))]
    for base, rise, fall, over in (SUMMER, MAIZE):
        heat = _since(np.where(season, np.maximum(ta - base, 0), 0), new) / early
        canopy.append(expit((heat - rise) / over) * expit((fall - heat) / over) * frost)
    gain = np.where(farms.sown & (kind == KINDS.index("maize")), C4_GAIN, 1.0)
    return np.choose(kind, canopy), gain


def _since(x: Array, new: NDArray[np.bool_]) -> Array:
    """Sum of ``x`` (site, time) since the last day on which ``new`` is true."""
    total = np.cumsum(x, 1)
    start = np.maximum.accumulate(np.where(new, np.arange(x.shape[1]), 0), 1)
    return total - np.take_along_axis(total, start, 1)
