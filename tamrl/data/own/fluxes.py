"""Fluxes of one tower: NEE = RECO - GPP, and signs that are turned put right."""

import numpy as np
import pandas as pd

from tamrl.data.daily import Floats, TowerDays
from tamrl.errors import DataError

CLOSURE = 1.0  # gC m-2 d-1; a mean |RECO - GPP - NEE| above it is a wrong sign or unit
TURNED = 0.1  # share of that gap which is left when a turned sign explains it
# Share of the GPP further from 0 than a standard deviation (nights are noise about 0) that has one
# sign: of half-hours of 170 FLUXNET2015 towers, whose mean is above CLOSURE / 2, two have less.
MOSTLY = 0.8
DARK, BRIGHT = 5.0, 200.0  # W m-2, radiation of nights and of days
# umol m-2 s-1 by which NEE of bright days exceeds that of nights: of 180 FLUXNET2015 towers the
# most is 1.4 (CN-Sw2), three exceed 0.4; where photosynthesis outweighs this, it is negative.
UPTAKE, DOUBTFUL = 3.0, 0.4
# gC m-2 d-1 by which daily NEE of the brightest quarter exceeds that of the darkest: of those 180
# towers the most is 1.2 (ES-Amo), five exceed 0.4; 44 % lie below -2.
UPTAKE_DAYS, DOUBTFUL_DAYS, ENOUGH_DAYS = 2.0, 0.4, 180


def closed(tower: TowerDays, source: str, notes: list[str], nee: str = "NEE") -> TowerDays:
    """Make NEE = RECO - GPP hold exactly, after a look at whether it held roughly.

    A turned sign of NEE or GPP that closes the balance is put right and said in ``notes``; any two
    fluxes give the third. ``nee`` is what the file calls NEE. DataError where nothing closes it.
    """
    data = tower.data
    _turn_gpp(data, notes)
    if "NEE" in data and not {"GPP", "RECO"} <= data.keys():
        _turn_nee(data, notes)
    if {"NEE", "GPP", "RECO"} <= data.keys():
        gap = _mean(data["RECO"] - data["GPP"] - data["NEE"])
        if gap > CLOSURE and _mean(data["RECO"] - data["GPP"] + data["NEE"]) < TURNED * gap:
            data["NEE"] = -data["NEE"]
            notes.append(f"NEE: sign turned; {nee} counted uptake as positive")
        elif gap > CLOSURE:
            what = f"{nee} is not RECO - GPP (mean gap {gap:.3g} gC m-2 d-1)"
            raise DataError(f"{source}: {what}; check signs (negative NEE is uptake) and units")
    if {"NEE", "GPP"} <= data.keys():
        data["RECO"] = data["NEE"] + data["GPP"]
    for lost, known in (("GPP", "NEE"), ("NEE", "GPP")):
        if lost not in data and {"RECO", known} <= data.keys():
            data[lost] = data["RECO"] - data[known]
    return tower


def _turn_gpp(data: dict[str, Floats], notes: list[str]) -> None:
    """Turn a GPP that is negative as a flux into the ecosystem is."""
    gpp = data.get("GPP", np.array([]))
    known = gpp[np.isfinite(gpp)]
    light = data["SW_IN"][np.isfinite(gpp)]
    if known.size < 2 or known.std() == 0 or known.mean() > -CLOSURE / 2:
        return
    with_light = pd.Series(known).corr(pd.Series(light))
    large = known[np.abs(known) > known.std()]
    if (large < 0).mean() > MOSTLY and with_light < 0:
        data["GPP"] = -gpp
        notes.append("GPP: sign turned; it was negative and grew more so with light")


def _turn_nee(data: dict[str, Floats], notes: list[str]) -> None:
    """Turn a daily NEE that no balance checks, where it is far greater on bright days than dark."""
    nee, light = data["NEE"], data["SW_IN"]
    known = np.isfinite(nee) & np.isfinite(light)
    if known.sum() < ENOUGH_DAYS:
        return
    dark, bright = np.quantile(light[known], [0.25, 0.75])
    contrast = nee[known & (light >= bright)].mean() - nee[known & (light <= dark)].mean()
    if contrast > UPTAKE_DAYS:
        data["NEE"] = -nee
        notes.append("NEE: sign turned; it counted uptake as positive (greater on bright days)")
    elif contrast > DOUBTFUL_DAYS:
        notes.append("NEE is greater on bright days than on dark ones; is uptake negative in it?")


def turn_records(values: dict[str, Floats], notes: list[str]) -> None:
    """Turn NEE of half-hours or hours (umol m-2 s-1) that is positive by day; and so GPP."""
    if "SW_IN" in values:
        _turn_gpp(values, notes)
    if not {"NEE", "SW_IN"} <= values.keys():
        return
    nee, light = values["NEE"], values["SW_IN"]
    day, night = nee[light > BRIGHT], nee[light < DARK]
    day, night = day[np.isfinite(day)], night[np.isfinite(night)]
    if min(day.size, night.size) < 24:
        return
    contrast = day.mean() - night.mean()
    if contrast > UPTAKE:
        values["NEE"] = -nee
        notes.append("NEE: sign turned; it counted uptake as positive (greater by day than night)")
    elif contrast > DOUBTFUL:
        notes.append("NEE is greater by day than by night; is uptake negative, as it should be?")


def _mean(gap: Floats) -> float:
    return float(pd.Series(gap).abs().mean())
