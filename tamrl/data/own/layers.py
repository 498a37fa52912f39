"""Layers of satellite products in our units: which are used, their scale, fill values and flags.

Scale factors, valid ranges and flags of clouds are those of the products' guides
(``facts/satellite_layers.csv``, ``facts/satellite_quality.csv``). A layer of which users expect
more than the model can have from it is in ``facts/satellite_unused.csv``, with the reason.
"""

import re

import numpy as np
import pandas as pd

from tamrl.data import schema
from tamrl.data.daily import Floats
from tamrl.data.own import modis
from tamrl.data.own.composites import step_of
from tamrl.data.own.phases import daily_index, is_phase
from tamrl.data.own.vocabulary import SCALE, rescaled
from tamrl.data.own.water import is_band, with_ndwi
from tamrl.data.physics import KELVIN
from tamrl.data.units import plausible
from tamrl.errors import DataError

UNUSED = [*schema.facts("satellite_unused").astype(str).itertuples(index=False, name=None)]
SHOWN = 3


def series_of(layers: pd.DataFrame, notes: dict[str, list[str]]) -> pd.DataFrame:
    """Series (row,) in our units: site, product, name, date, value, step, file.

    ``layers`` are as of `tamrl.data.own.modis`, of all files. ``notes`` say by site what was
    masked, and of "" which layers are not used. DataError for what cannot be.
    """
    pairs = layers[["product", "layer"]].drop_duplicates().astype(str)
    kinds = {pair: _kind(*pair) for pair in pairs.itertuples(index=False, name=None)}
    _say_unused([pair for pair, kind in kinds.items() if not kind], notes[""])
    kind = pd.MultiIndex.from_frame(layers[["product", "layer"]].astype(str)).map(kinds)
    views = _judged(with_ndwi(layers[kind == "view"], notes), notes)
    return pd.concat([*views, *daily_index(layers[kind == "phase"], notes)] or [_NONE])


_NONE = pd.DataFrame({n: [] for n in ("site", "product", "name", "date", "value", "step", "file")})


def _kind(product: str, layer: str) -> str:
    if is_phase(product, layer):
        return "phase"
    used = modis.layer_row(product, layer) or modis.is_flag(layer) or is_band(product, layer)
    return "view" if used else ""


def _say_unused(pairs: list[tuple[str, str]], notes: list[str]) -> None:
    """Say which layers, as product and name, are not used, and why where that is known."""
    others: dict[str, list[str]] = {}
    for product, layer in pairs:
        why = [w for p, n, w in UNUSED if re.fullmatch(p, product) and re.fullmatch(n, layer)]
        if why:
            notes.append(f"not used: {layer} of {product}; {why[0]}")
        else:
            others.setdefault(product, []).append(layer)
    for product, names in others.items():
        rest = f" and {len(names) - SHOWN} others" if len(names) > SHOWN else ""
        notes.append(f"not used: {', '.join(names[:SHOWN])}{rest} of {product or 'no product'}")


def _judged(layers: pd.DataFrame, notes: dict[str, list[str]]) -> list[pd.DataFrame]:
    """Values in our units with clouds and fill values masked: site, name, date, value, file."""
    parts = []
    flags = layers[layers["layer"].map(modis.is_flag)].drop_duplicates(
        ["site", "product", "layer", "date"]
    )
    for keys, some in layers.groupby(["site", "product", "layer"]):
        site, product, layer = map(str, keys)
        if (row := modis.layer_row(product, layer)) is None:
            continue
        some = some.sort_values("date").drop_duplicates(["date", "value"])
        for day in some["date"][some["date"].duplicated()]:
            what = f"{layer} of {site} has two values on {day:%Y-%m-%d}{modis.mixed(some)}"
            raise DataError(f"{some['file'].iloc[0]}: {what}; keep one")
        said = notes.setdefault(site, [])
        raw = _raw(some["value"].to_numpy(float), bool(some["raw"].iloc[0]), row, said)
        valid = (raw >= row.low - 0.5) & (raw <= row.high + 0.5)
        clear, judged = _clear(some, flags, site, product, row.name)
        values = np.where(valid & clear, raw * row.scale + row.offset, np.nan)
        values = rescaled(values, row.name, said)
        counts = f"{np.isfinite(values).sum()} of {len(values)} dates"
        lost = f"{(valid & ~clear).sum()} cloudy or bad, {(~valid).sum()} without a value"
        if not valid.any():
            lost += unscaled(row.name, some["value"].to_numpy(float))
        unflagged = "" if judged else "; no quality flags in the file, clouds are not masked"
        what = f"{row.name}: {product} {layer}, {counts} ({lost})"
        said.append(what + modis.mixed(some) + unflagged)
        step = step_of(some["date"])
        parts.append(pd.DataFrame({
            "site": site, "product": product, "name": row.name, "date": some["date"],
            "value": values, "step": step, "file": some["file"],
        }).dropna(subset=["value"]))  # fmt: skip
    return parts


def unscaled(name: str, values: Floats) -> str:
    """Name a scale factor as likely cause, where it alone makes most values possible.

    Whole numbers are scaled without a word of the user's; a factor of decimals is hers to know.
    """
    known, (low, high) = values[np.isfinite(values)], plausible(name)
    scaled = known * SCALE.get(name, np.nan) - (KELVIN if name.startswith("LST") else 0)
    as_is, better = (np.mean((x >= low) & (x <= high)) if x.size else 1 for x in (known, scaled))
    if not as_is < 0.5 < better or (known == known.round()).all():
        return ""
    return f"; are they {1 / SCALE[name]:g} times as large? Multiply by {SCALE[name]:g}"


def _raw(values: Floats, raw: bool, row: modis.Layer, notes: list[str]) -> Floats:
    """Raw numbers of a layer, whichever its file holds: the documented, or what values show."""
    _, _, name, scale, offset, low, high = row
    shift = 273.15 if offset else 0.0  # files hold kelvin
    known = values[np.isfinite(values)]
    whole = bool(known.size and (known == known.round()).all())
    as_raw = np.mean((known >= low) & (known <= high)) if known.size else 1.0
    scaled = (known >= low * scale) & (known <= high * scale)
    as_scaled = np.mean(scaled) if known.size else 1.0
    if raw and not whole and as_scaled >= 0.5:
        notes.append(f"{name}: values were scaled already")
        raw = False
    elif not raw and whole and scale != 1 and as_scaled < 0.5 <= as_raw:
        notes.append(f"{name}: scale factor {scale:g} applied, which the file should have had")
        raw = True
    elif not raw and shift and known.size and np.mean((known > -90) & (known < 80)) > 0.5:
        notes.append(f"{name}: values were in degC already")
        return np.asarray((values + shift) / scale)
    return values if raw else np.asarray(values / scale)


def _clear(
    some: pd.DataFrame, flags: pd.DataFrame, site: str, product: str, name: str
) -> tuple[np.ndarray, bool]:
    """Dates that no quality flag calls cloudy or bad, and whether there is any flag."""
    clear, judged = np.ones(len(some), bool), False
    for rule in (flag for flag in modis.FLAGS if flag.name == name):
        if product and not re.fullmatch(rule.products, product):
            continue
        here = (flags["site"] == site) & (flags["product"] == product)
        mine = flags[here & flags["layer"].astype(str).str.fullmatch(rule.flag)]
        if mine.empty:
            continue
        judged = True
        number = mine.set_index("date")["value"].reindex(some["date"]).to_numpy(float)
        bits = np.where(np.isfinite(number), number, -1).astype(int) >> rule.first_bit
        good = np.isin(bits & ((1 << rule.bits) - 1), [*map(int, rule.good.split())])
        clear &= good & np.isfinite(number)
    return clear, judged
