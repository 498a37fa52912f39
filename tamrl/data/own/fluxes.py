"""Fluxes of one tower: NEE = RECO - GPP, and signs that are turned put right."""

from collections.abc import Mapping
from typing import NamedTuple

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
ENOUGH_RECORDS = 48  # of either: 0.3 % of five days at those towers exceed UPTAKE, 65 % negatively
# gC m-2 d-1 by which daily NEE of the brightest quarter exceeds that of the darkest, and how many
# of its standard errors that is (days within MEMORY count once). Of windows of 180 days at those
# 180 towers 0.1 % exceed both of the first two numbers, 30 % fall below their negatives; of windows
# of 30, 60 and 100 days as few exceed them, but only 3, 6 and 15 % fall below.
UPTAKE_DAYS, SURE, DOUBTFUL_DAYS, ENOUGH_DAYS, FEW_DAYS, MEMORY = 2.0, 3.0, 0.4, 180, 30, 10


def closed(
    tower: TowerDays, source: str, notes: list[str], nee: str = "NEE", sure: bool = False
) -> TowerDays:
    """Make NEE = RECO - GPP hold exactly, after a look at whether it held roughly.

    A turned sign of NEE or GPP that closes the balance is put right and said in ``notes``; any two
    fluxes give the third. ``nee`` is what the file calls NEE, whose sign is right if that is
    ``sure``. DataError where nothing closes it.
    """
    data = tower.data
    _turn_gpp(data, notes)
    _turn_reco(data, notes)
    if {"GPP", "RECO"} <= data.keys() and "NEE" not in data:
        _swap(data, notes)
    if "NEE" in data and not {"GPP", "RECO"} <= data.keys():
        _turn_nee(data, notes)
    if {"NEE", "GPP", "RECO"} <= data.keys():
        gap = _mean(data["RECO"] - data["GPP"] - data["NEE"])
        if gap > CLOSURE and _mean(data["RECO"] - data["GPP"] + data["NEE"]) < TURNED * gap:
            _turned_or_swapped(data, nee, sure, source, notes)
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


def _turn_reco(data: dict[str, Floats], notes: list[str]) -> None:
    """Turn a RECO that is negative throughout: respiration never is."""
    known = data.get("RECO", np.array([]))
    known = known[np.isfinite(known)]
    if known.size and known.mean() < -CLOSURE / 2 and (known < 0).mean() > MOSTLY:
        data["RECO"] = -data["RECO"]
        notes.append("RECO: sign turned; it was negative")


class Contrast(NamedTuple):
    """By how much a flux of bright days exceeds that of dark ones, gC m-2 d-1, and how surely."""

    size: float
    errors: float  # size in its standard errors
    days: int

    def __str__(self) -> str:
        return f"by {self.size:.2g} gC m-2 d-1, {self.errors:.1f} standard errors, {self.days} days"


def _contrast(flux: Floats, light: Floats) -> Contrast:
    """Compare the brightest quarter of days with the darkest; nought of too few days."""
    known = np.isfinite(flux) & np.isfinite(light)
    if known.sum() < FEW_DAYS:
        return Contrast(0.0, 0.0, int(known.sum()))
    dark, bright = np.quantile(light[known], [0.25, 0.75])
    parts = flux[known & (light >= bright)], flux[known & (light <= dark)]
    size = float(parts[0].mean() - parts[1].mean())
    error = np.sqrt(sum(part.var() / max(len(part) / MEMORY, 1) for part in parts))
    return Contrast(size, float(size / max(error, 1e-9)), int(known.sum()))


def _looks_turned(nee: Floats, light: Floats, notes: list[str], doubt: str) -> str:
    """Say how surely NEE has the wrong sign, "" if it has not; a doubt goes to ``notes``."""
    found = _contrast(nee, light)
    if found.size > UPTAKE_DAYS and found.errors > SURE and found.days >= ENOUGH_DAYS:
        return str(found)
    if found.size > DOUBTFUL_DAYS:
        notes.append(f"{doubt} ({found})")
    return ""


def _turn_nee(data: dict[str, Floats], notes: list[str]) -> None:
    """Turn a daily NEE that no balance checks, where it is far greater on bright days than dark."""
    doubt = "NEE is greater on bright days than on dark ones; is uptake negative in it?"
    if how := _looks_turned(data["NEE"], data["SW_IN"], notes, doubt):
        data["NEE"] = -data["NEE"]
        notes.append(
            f"NEE: sign turned; it counted uptake as positive (greater on bright days {how})"
        )


def _swap(data: dict[str, Floats], notes: list[str]) -> None:
    """Swap GPP and RECO where it is respiration that has the light of summer days."""
    doubt = "RECO - GPP is greater on bright days than on dark ones; are the two swapped?"
    if how := _looks_turned(data["RECO"] - data["GPP"], data["SW_IN"], notes, doubt):
        data["GPP"], data["RECO"] = data["RECO"], data["GPP"]
        notes.append(f"GPP and RECO: swapped; RECO - GPP was greater on bright days {how}")


def _turned_or_swapped(
    data: dict[str, Floats], nee: str, sure: bool, source: str, notes: list[str]
) -> None:
    """Decide by light why NEE is GPP - RECO: its sign, or that GPP and RECO are swapped."""
    found = _contrast(data["NEE"], data["SW_IN"])
    if sure or found.size < -DOUBTFUL_DAYS:
        data["GPP"], data["RECO"] = data["RECO"], data["GPP"]
        notes.append(f"GPP and RECO: swapped; {nee} is RECO - GPP only so")
    elif found.size > DOUBTFUL_DAYS:
        data["NEE"] = -data["NEE"]
        notes.append(f"NEE: sign turned; {nee} counted uptake as positive")
    else:
        what = f"{nee} is GPP - RECO: its sign is turned, or GPP and RECO are swapped"
        remedy = "light does not say which; correct the table (negative NEE is uptake)"
        raise DataError(f"{source}: {what}; {remedy}")


def turn_records(values: dict[str, Floats], notes: list[str]) -> bool:
    """Turn NEE of half-hours or hours (umol m-2 s-1) that is positive by day; and so GPP, RECO.

    A flux that lacks is made of two others. Returns whether light says surely which sign NEE has.
    """
    if "SW_IN" in values:
        _turn_gpp(values, notes)
    _turn_reco(values, notes)
    if "NEE" not in values and {"RECO", "GPP"} <= values.keys():
        values["NEE"] = values["RECO"] - values["GPP"]
    contrast, sure = 0.0, False
    if {"NEE", "SW_IN"} <= values.keys():
        light, known = values["SW_IN"], np.isfinite(values["NEE"])
        day, night = values["NEE"][known & (light > BRIGHT)], values["NEE"][known & (light < DARK)]
        if min(day.size, night.size):
            contrast = day.mean() - night.mean()
            sure = abs(contrast) > UPTAKE and min(day.size, night.size) >= ENOUGH_RECORDS
    if sure and contrast > 0:
        values["NEE"] = -values["NEE"]
        notes.append("NEE: sign turned; it counted uptake as positive (greater by day than night)")
    elif contrast > DOUBTFUL:
        how = f"by {contrast:.2g} umol m-2 s-1, {day.size} and {night.size} records"
        doubt = "is uptake negative, as it should be?"
        notes.append(f"NEE is greater by day than by night; {doubt} ({how})")
    if "GPP" not in values and {"RECO", "NEE"} <= values.keys():
        values["GPP"] = values["RECO"] - values["NEE"]
    return sure


def check_closure(data: Mapping[str, Floats], source: str) -> None:
    """Refuse fluxes (day,), gC m-2 d-1, whose NEE is not RECO - GPP where all three are known."""
    if (gap := _mean(data["RECO"] - data["GPP"] - data["NEE"])) > CLOSURE:
        what = f"NEE is not RECO - GPP (mean gap {gap:.3g} gC m-2 d-1)"
        raise DataError(f"{source}: {what}; check signs (negative NEE is uptake) and units")


def _mean(gap: Floats) -> float:
    return float(pd.Series(gap).abs().mean())
