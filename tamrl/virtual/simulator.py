"""Process model behind the simulated towers: climate, weather, vegetation, fluxes, day by day.

Production follows a light-use-efficiency model (Monteith 1972, doi:10.2307/2401901), respiration
Lloyd & Taylor (1994, doi:10.2307/2389824) plus a share of production, NEE = RECO - GPP. Traits of a
tower follow from its climate and class, and can be inferred by drivers; not so `scatter`, and what
is sown (`tamrl.virtual.crops`). Rain falls from the clouds that dim the light, and soil water shows
in the air's humidity. Numbers without a source are chosen here: plausible, not calibrated.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from tamrl.data.physics import KELVIN, lloyd_taylor, potential_radiation
from tamrl.data.physics import saturation_pressure as saturation
from tamrl.virtual import crops
from tamrl.virtual.noise import Array, draw, memory, persistent

BLOCK = 256  # towers or cells simulated at once: bounds the memory
Simulation = dict[str, Array]  # arrays (site, time), or (site, 1) for what does not change

# Warmest and coldest month, degC, inside what each Koppen class allows (rules in Beck et al.
# 2018, doi:10.1038/sdata.2018.214). Key: main letter and letter of temperature.
TEMPERATURE = {
    "A": (27.5, 24.0), "Bh": (30.0, 15.0), "Bk": (23.0, -1.0), "Ca": (25.0, 7.0),
    "Cb": (18.5, 3.5), "Cc": (13.0, 2.0), "Da": (24.5, -5.0), "Db": (18.5, -7.0),
    "Dc": (14.0, -15.0), "Dd": (14.0, -39.0), "ET": (7.0, -16.0), "EF": (-2.0, -30.0),
}  # fmt: skip
# Precipitation mm yr-1, its season (1: summer, -1: winter), share of possible sunshine.
MOISTURE = {
    "Af": (2600, 0.1, 0.45), "Am": (2200, 0.5, 0.48), "Aw": (1250, 0.9, 0.58),
    "BW": (220, 0.2, 0.80), "BS": (400, 0.3, 0.68), "Cf": (1000, 0.0, 0.42),
    "Cs": (700, -0.8, 0.60), "Cw": (1100, 0.8, 0.55), "Df": (700, 0.2, 0.46),
    "Ds": (550, -0.6, 0.55), "Dw": (530, 0.8, 0.55), "ET": (330, 0.2, 0.42),
    "EF": (200, 0.0, 0.40),
}  # fmt: skip
# Light-use efficiency gC MJ-1 (APAR), least and greatest FPAR, plant-available water mm,
# RECO / GPP over the years. Ordered as in MOD17 (Running et al. 2004,
# doi:10.1641/0006-3568(2004)054[0547:ACSMOG]2.0.CO;2), at the level that flux towers show.
BIOME = {
    "ENF": (1.5, 0.55, 0.85, 200, 0.80), "EBF": (1.6, 0.75, 0.92, 300, 0.82),
    "DNF": (1.6, 0.10, 0.80, 150, 0.82), "DBF": (1.6, 0.08, 0.92, 200, 0.78),
    "MF": (1.5, 0.30, 0.90, 200, 0.80), "CSH": (1.5, 0.25, 0.65, 150, 0.90),
    "OSH": (1.4, 0.10, 0.45, 120, 0.90), "WSA": (1.8, 0.20, 0.70, 200, 0.85),
    "SAV": (2.2, 0.12, 0.65, 180, 0.92), "GRA": (1.8, 0.12, 0.80, 120, 0.92),
    "WET": (0.9, 0.10, 0.65, 300, 0.86), "CRO": (1.9, 0.05, 0.90, 180, 0.78),
    "CVM": (1.8, 0.12, 0.80, 150, 0.85), "SNO": (0.8, 0.00, 0.04, 100, 0.95),
}  # fmt: skip
SUNNY, OVERCAST = 0.50, 0.25  # Angstrom-Prescott: share of radiation (FAO-56 eq. 35)
PAR_SHARE = 0.45  # of shortwave energy (Monteith 1972)
MJ_PER_WATT_DAY, MM_PER_MJ = 0.0864, 1 / 2.45  # W m-2 for a day in MJ m-2; evaporated (FAO-56)
GPP_SHARE = 0.35  # of production is respired within the day
MIDWINTER = (21, 203)  # coldest day of the year, north and south
YEAR = 365.25  # days


def simulate(
    facts: pd.DataFrame, time: pd.DatetimeIndex, seed: int = 0, scatter: float = 0.0
) -> Simulation:
    """Simulate the towers `facts` (site, lat, igbp, koppen) on the days `time`.

    Returns (site, time) in the units of the tower schema, traits ``truth_*`` (site, 1), ``P`` and
    ``PET`` mm d-1, ``FPAR``, and shares of sunshine ``sun``, water ``soil``, ground ``snow``.
    """
    sim = _weather(facts, time, seed)
    lue, fpar_min, fpar_max, capacity, ratio = np.array([BIOME[c] for c in facts.igbp]).T[..., None]
    wet, crop = ((facts.igbp.to_numpy(str) == code)[:, None] for code in ("WET", "CRO"))
    farms = crops.sow(sim, facts, len(time), seed)
    _water(sim, capacity, wet | farms.watered)
    _humidity(sim)

    ta, vpd, soil = sim["TA"], sim["VPD"], sim["soil"]
    dry = np.tanh((vpd.mean(1, keepdims=True) - 7) / 7)
    cold = np.tanh((8 - ta.mean(1, keepdims=True)) / 12)
    swing = np.tanh((ta.std(1, keepdims=True) - 8) / 5)
    z = scatter * draw(facts.site, seed, "traits", (4, 1)).transpose(1, 0, 2)
    lue = lue * np.exp(0.15 * swing - 0.2 * dry + z[0])
    decay = 0.04 * np.exp(-0.4 * dry + z[1])  # hPa-1; dry places bear dry air
    ratio = np.maximum(ratio * np.exp(0.08 * dry - 0.05 * cold + z[2] / 2), GPP_SHARE + 0.1)
    e0 = 200 * np.exp(0.3 * cold + z[3] / 2)  # K; daily range of Reichstein et al. 2005,
    # doi:10.1111/j.1365-2486.2005.001002.x

    leafy = expit((memory(ta, 20) - 0.3 * sim["T_warm"] - 1) / 1.5)
    green, gain = crops.grow(sim, farms)
    leafy = np.where(farms.sown, green, leafy) * np.clip((memory(soil, 20) - 0.05) / 0.35, 0, 1)
    rich = np.where(wet | crop, 1, 1 - np.exp(-3.5 * sim["aridity"]))
    fpar = fpar_min * rich + (fpar_max - fpar_min) * rich * leafy
    late = crop & ~farms.sown  # in the tropics nothing is sown by warmth; it is harvested
    fpar *= np.where(late, 1 - 0.85 * expit((sim["season_day"] - 240) / 5), 1)
    apar = fpar * PAR_SHARE * MJ_PER_WATT_DAY * sim["SW_IN"]

    warm = memory(ta + 0.25 * (sim["TA_max"] - sim["TA_min"]), 7)  # photosynthesis acclimates
    best = 8 + 0.6 * sim["T_warm"]
    limit = np.exp(-(((warm - best) / 14) ** 2)) * expit((warm - 1) / 1.5)
    limit *= np.exp(-decay * np.maximum(vpd - 4, 0)) * np.clip(soil / 0.3, 0, 1)
    diffuse = 1 + 0.5 * (1 - sim["sun"])  # scattered light reaches more leaves
    gpp = lue * gain * diffuse * apar * limit

    soil_t = memory(ta, 5) * (1 - 0.8 * sim["snow"])  # snow insulates
    arrhenius = lloyd_taylor(np.maximum(soil_t, -40) + KELVIN, e0)
    arrhenius *= 0.3 + 0.7 * np.clip(soil / 0.3, 0, 1)
    # Respiration at the reference follows from what the place produces (ratio over the years).
    rb = (ratio - GPP_SHARE) * gpp.mean(1, keepdims=True) / arrhenius.mean(1, keepdims=True)
    reco = (rb := np.maximum(rb, 1e-3)) * arrhenius + GPP_SHARE * gpp
    sim |= {"FPAR": fpar, "GPP": gpp, "RECO": reco, "NEE": reco - gpp}
    sim |= {"truth_lue": lue, "truth_vpd_decay": decay, "truth_rb": rb, "truth_e0": e0}
    _gases(sim, rb * arrhenius, soil_t, wet, crop)
    return sim


def _weather(facts: pd.DataFrame, time: pd.DatetimeIndex, seed: int) -> Simulation:
    """Temperature, sunshine, radiation and rain; the climate from the Koppen class."""
    doy = time.day_of_year.to_numpy()[None]
    lat = facts.lat.to_numpy(float)[:, None]
    codes = facts.koppen.to_numpy(str)
    thermal = [c if c[0] == "E" else "A" if c[0] == "A" else c[0] + c[2] for c in codes]
    t_warm, t_cold = np.array([TEMPERATURE[c] for c in thermal]).T[..., None]
    rain, season, sunshine = np.array([MOISTURE[c[:2]] for c in codes]).T[..., None]
    deviation = draw(facts.site, seed, "climate", (3, 1)).transpose(1, 0, 2)
    t_warm = t_warm + 1.2 * deviation[0]
    half = np.maximum(t_warm - t_cold, 0.5) / 2 * np.exp(0.1 * deviation[1])
    rain = rain * np.exp(0.25 * deviation[2])

    season_day = (doy - np.where(lat >= 0, *MIDWINTER)) % YEAR  # days since midwinter
    summer = -np.cos(2 * np.pi * season_day / YEAR)
    z = draw(facts.site, seed, "weather", (5, len(time)))
    cloud = 0.9 * persistent(z[:, 0], 2) + 0.5 * persistent(z[:, 1], 45)
    cloud += 1.2 * season * summer - np.log(sunshine / (1 - sunshine))
    sun = expit(-1.2 * cloud)
    sw_in = potential_radiation(lat, doy) * (OVERCAST + SUNNY * sun)
    spell = 0.35 * half**0.5 * (1.2 - 0.4 * summer)  # degC; winters vary more
    ta = t_warm - half + half * summer
    ta += spell * (2 * persistent(z[:, 2], 4) + 0.8 * persistent(z[:, 3], 90))
    ta += 1.5 * summer * (sun - sun.mean(1, keepdims=True))
    swing = (4 + 10 * sun * np.sqrt(sw_in / 250)) * np.exp(0.08 * z[:, 4])  # daily range, degC
    falls = np.maximum(0.55 - sun, 0) ** 1.5 + 1e-9
    p = falls * rain / YEAR / falls.mean(1, keepdims=True)
    pet = 0.0135 * np.maximum(ta + 17.8, 0) * sw_in * MJ_PER_WATT_DAY * MM_PER_MJ
    # (Hargreaves 1975, doi:10.13031/2013.36722)
    sim = {"TA": ta, "TA_min": ta - swing / 2, "TA_max": ta + swing / 2, "SW_IN": sw_in}
    sim |= {"sun": sun, "P": p, "PET": pet, "T_warm": t_warm, "season_day": season_day}
    sim["aridity"] = p.mean(1, keepdims=True) / np.maximum(pet.mean(1, keepdims=True), 0.1)
    return sim


def _water(sim: Simulation, capacity: Array, wet: NDArray[np.bool_]) -> None:
    """Fill a snow store and a bucket day by day; where ``wet``, water comes from elsewhere, too."""
    p, pet, ta = (np.ascontiguousarray(sim[k].T) for k in ("P", "PET", "TA"))
    size, inflow = capacity[:, 0], np.where(wet[:, 0], 6.0, 0.0)  # mm d-1 where it dries
    water, store = 0.6 * size, np.zeros(len(size))
    soil, snow = np.empty_like(p), np.empty_like(p)
    for day in range(len(p)):
        share = water / size
        frozen = ta[day] < 0
        melt = np.minimum(store, np.maximum(3 * ta[day], 0))  # 3 mm per degree and day
        store = store + np.where(frozen, p[day], 0) - melt
        water = water + np.where(frozen, 0, p[day]) + melt + inflow * (1 - share)
        water = np.clip(water - pet[day] * np.minimum(share / 0.6, 1), 0, size)
        soil[day], snow[day] = water / size, np.minimum(store / 15, 1)
    sim["soil"], sim["snow"] = soil.T, snow.T


def _humidity(sim: Simulation) -> None:
    """Vapour pressure deficit: the dew point lies below the minimum, the more so the drier."""
    dry = 1 - memory(sim["soil"], 5)
    dew = sim["TA_min"] - 9 * dry**2 * np.clip((sim["TA"] + 5) / 20, 0, 1)
    vapour, top = saturation(dew), saturation(sim["TA_max"])
    sim["VPD"] = (top + saturation(sim["TA_min"])) / 2 - vapour  # FAO-56 eq. 12
    sim["VPD_max"] = top - vapour


def _gases(
    sim: Simulation, respired: Array, soil_t: Array, wet: NDArray[np.bool_], crop: NDArray[np.bool_]
) -> None:
    """Methane gC m-2 d-1 and nitrous oxide gN m-2 d-1 from soil water and temperature.

    CH4: a tenth of what is respired while the water table of a wetland is near the surface (Wania
    et al. 2010, doi:10.5194/gmd-3-565-2010), less what dry soil oxidises (Curry 2007,
    doi:10.1029/2006GB002818). N2O: a leak of mineralised nitrogen (C:N 15), widest in moist soil
    (Davidson et al. 2000, doi:10.1641/0006-3568(2000)050[0667:TACMOS]2.0.CO;2) and on cropland.
    """
    anoxic = wet * expit((sim["soil"] - 0.88) / 0.03)
    sink = 0.001 * (1 - anoxic) * np.clip(soil_t / 15, 0, 2)
    sim["CH4"] = 0.1 * anoxic * respired - sink
    moist = np.exp(-(((sim["soil"] - 0.65) / 0.2) ** 2))
    sim["N2O"] = respired / 15 * 0.005 * np.where(crop, 4, 1) * moist


def satellite(sim: Simulation) -> Simulation:
    """Show the same days (site, time) as a satellite and a reanalysis would."""
    fpar, soil = sim["FPAR"], sim["soil"]
    return {
        "FPAR": fpar,
        "LAI": -np.log(1 - np.minimum(fpar, 0.95)) / 0.5,  # Beer's law, extinction 0.5
        "NDWI": -0.25 + 0.5 * fpar + 0.2 * soil,
        "LST_day": sim["TA_max"] + 8 * (1 - soil) * sim["sun"],
        "LST_night": sim["TA_min"] - 1,
        "SNOW": 100 * sim["snow"],
        "PRCP": sim["P"],
        "PET": sim["PET"],
        "SIF": 0.055 * sim["GPP"] / np.sqrt(1 + sim["GPP"] / 8),  # saturates more slowly
        "SM": 0.08 + 0.32 * soil,
    }
