"""Static attributes of places (`tamrl.samples`) in words, for tables and sentences of the book."""

from tamrl.data.schema import IGBP_NAMES

VARIABLES = {
    "FPAR": "absorbed light", "fapar": "absorbed light", "LAI": "leaf area",
    "NDWI": "water index (NDWI)", "SIF": "fluorescence", "EVI": "vegetation index",
    "PRCP": "precipitation", "TA": "air temperature", "SW_IN": "shortwave radiation",
    "VPD": "vapour pressure deficit", "elevation": "elevation", "awc": "available water capacity",
    "sand": "sand in the soil", "clay": "clay in the soil", "soil_cn": "C/N of the soil",
    "stand_age": "stand age", "lma": "leaf mass per area", "ndep": "nitrogen deposition",
    "abs_lat": "distance from the equator",
}  # fmt: skip
STATISTICS = {"_mean": "mean", "_range": "range over the year"}


def spell(name: str) -> str:
    """Spell the name of an attribute of `tamrl.samples` in words; one that is not known stays.

    >>> spell("EVI_grid_range"), spell("igbp_MF"), spell("elevation")
    ('vegetation index, range over the year (grid)', 'mixed forest', 'elevation')
    """
    kind, _, code = name.partition("_")
    if kind in ("igbp", "koppen"):
        return IGBP_NAMES.get(code, f"{code.lower()} climate")
    where = " (grid)" * ("_grid" in name)
    bare, said = name.replace("_grid", "").replace("_season", ""), ""
    for ending, word in STATISTICS.items():
        if bare.endswith(ending):
            bare, said = bare.removesuffix(ending), f", {word}"
    return VARIABLES[bare] + said + where if bare in VARIABLES else name
