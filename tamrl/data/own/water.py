"""NDWI from the reflectances that users get: bands 2 (near infrared) and 6 (1.64 um) of MODIS.

The towers' own table names no bands. Over snow (0.6 to 0.8), dense leaves (0.34) and bare ground
(-0.15) its NDWI is (band 2 - band 6) / (band 2 + band 6); with band 5 (1.24 um; Gao 1996, doi
10.1016/S0034-4257(96)00067-3) snow would be near 0.4, with band 7 (2.1 um) leaves near 0.6.
"""

import numpy as np
import pandas as pd

# Of Aqua (MYD09) band 6 is not read: most of its detectors are dead.
BANDS = {
    "MOD09A1": ("sur_refl_b02", "sur_refl_b06"),
    "MCD43A4": ("Nadir_Reflectance_Band2", "Nadir_Reflectance_Band6"),
}
MADE = "bands 2 and 6"  # the layer that they become
SCALE = 1e-4
HIGH = 1.6  # the highest reflectance of the products' guides
FILL = 32767  # of MCD43A4; that of MOD09A1, -28672, is below 0
USUAL = (0.003, HIGH)  # within which the median of any landscape is


def is_band(product: str, layer: str) -> bool:
    """Whether a layer is one of the two bands.

    >>> is_band("MOD09A1", "sur_refl_b06"), is_band("MYD09A1", "sur_refl_b06")
    (True, False)
    """
    return layer in BANDS.get(product, ())


def with_ndwi(layers: pd.DataFrame, notes: dict[str, list[str]]) -> pd.DataFrame:
    """Put NDWI in the place of its two bands; ``layers`` as of `tamrl.data.own.modis`.

    A date has it where both bands have a value. Bands that were scaled not at all, or twice, are
    put right; ``notes`` say so by site, and where one of the bands is absent.
    """
    pairs = layers[["product", "layer"]].drop_duplicates().itertuples(index=False)
    mine = [(p, b) for p, b in pairs if is_band(str(p), str(b))]
    if not mine:
        return layers
    bands = pd.MultiIndex.from_frame(layers[["product", "layer"]]).isin(mine)
    made = [layers[~bands]]
    for (site, product), some in layers[bands].groupby(["site", "product"]):
        near, far = (some[some["layer"] == band] for band in BANDS[str(product)])
        if near.empty or far.empty:
            there, lacking = BANDS[str(product)][:: 1 if far.empty else -1]
            what = f"not used: {there} of {product}; NDWI needs {lacking} as well"
            notes.setdefault(str(site), []).append(what)
            continue
        said = notes.setdefault(str(site), [])
        near, far = (_reflectance(part, said) for part in (near, far))
        both = near.merge(far[["date", "version", "value"]], on=["date", "version"], how="left")
        total = both["value_x"] + both["value_y"]
        ndwi = (both["value_x"] - both["value_y"]) / total.where(total > 0)
        both = both.drop(columns=["value_x", "value_y"])
        made.append(both.assign(layer=MADE, value=ndwi, raw=False))
    return pd.concat(made, ignore_index=True)


def _reflectance(band: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Rows of one band of one place as reflectance, NaN where it is none, whatever its scale."""
    band = band.drop_duplicates(["date", "version", "value"])
    values = band["value"].to_numpy(float)
    values = np.where(np.isclose(values, FILL) | np.isclose(values, FILL * SCALE), np.nan, values)
    for factor, words in ((1.0, ""), (SCALE, "applied"), (1 / SCALE, "had been applied twice")):
        scaled = values * factor
        known = scaled[(scaled >= 0) & (scaled <= HIGH)]
        if known.size and USUAL[0] <= np.median(known) and 2 * known.size >= np.sum(scaled >= 0):
            if words and not (factor == SCALE and band["raw"].all()):
                notes.append(f"NDWI: {band['layer'].iloc[0]}, scale factor {SCALE:g} {words}")
            return band.assign(value=np.where((scaled >= 0) & (scaled <= HIGH), scaled, np.nan))
    return band.assign(value=np.nan)
