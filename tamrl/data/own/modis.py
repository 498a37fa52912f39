"""Layers of MODIS and VIIRS at points, as AppEEARS and the ORNL DAAC hand them out.

AppEEARS (https://appeears.earthdatacloud.nasa.gov/help) writes a csv with columns ID, Date,
Latitude, Longitude and product_version_layer, values scaled. The ORNL DAAC's subset service
(https://modis.ornl.gov/rst/ui/) gives raw integers with a scale factor: as JSON (`subset`; its
`statistics` are scaled), as csv by MODISTools (modis_date, calendar_date, band, scale, value), or,
from its order tool, as csv without a head (name of the HDF file, product, date, place, pixels).

All become one long table: file, site, lat, lon, product, version, layer, date, value, raw.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from tamrl.data import schema
from tamrl.data.own.csvfiles import Table, read_csv
from tamrl.data.own.stamps import dates
from tamrl.errors import DataError


class Layer(NamedTuple):
    """A layer that the model has a use for: raw x scale + offset is in our unit."""

    products: str
    layer: str
    name: str
    scale: float
    offset: float
    low: float
    high: float


class Flag(NamedTuple):
    """A quality flag of a variable: which bits of which layer, and their good values."""

    products: str
    name: str
    flag: str
    first_bit: int
    bits: int
    good: str


def _rows(name: str) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in schema.facts(name).to_dict("records")]


LAYERS = [Layer(**row) for row in _rows("satellite_layers")]
FLAGS = [Flag(**row) for row in _rows("satellite_quality")]
_COLUMN = re.compile(r"^((?:M[OCY]D|V(?:NP|J\d))\w+?)_(\d{3})_{1,2}(\w+)$")
_PRODUCT = re.compile(r"\b((?:M[OCY]D|V(?:NP|J\d))\d\d\w*)")
_HDF = re.compile(r"^[\"']?(?:M[OCY]D|V(?:NP|J\d))\w+\.A\d{7}\.")
_BESIDE = re.compile(r"Line_Y_|Sample_X_")  # columns of AppEEARS that are no layer
_PLACE = re.compile(r"Lat(-?[\d.]+)Lon(-?[\d.]+)")


def layer_row(product: str, layer: str) -> Layer | None:
    """Facts of a layer, or None if the model has no use for it."""
    for row in LAYERS:
        known = not product or re.fullmatch(row.products, product)
        if known and re.fullmatch(row.layer, layer):
            return row
    return None


def is_flag(layer: str) -> bool:
    """Whether a layer is one of the quality flags that are looked at."""
    return any(re.fullmatch(flag.flag, layer) for flag in FLAGS)


def mixed(rows: pd.DataFrame) -> str:
    """Name the versions of a product that ``rows`` are of, where there are several.

    >>> mixed(pd.DataFrame({"version": ["006", "061", ""]}))
    ' of versions 006 and 061, whose levels may differ'
    """
    versions = sorted({*map(str, rows["version"])} - {"", "nan"})
    return f" of versions {' and '.join(versions)}, whose levels may differ" * (len(versions) > 1)


def read_layers(path: Path) -> tuple[pd.DataFrame | None, Table | None]:
    """Long table of one file of either service; else None and the plain table that it holds."""
    if path.suffix.lower() == ".json":
        return _json(path), None
    with path.open("rb") as stream:
        first = stream.readline(400).decode("latin-1").lstrip("\ufeff")
    if first.lstrip().startswith("{"):
        return _json(path), None
    if _HDF.match(first):
        return _headless(path), None
    table = read_csv(path)
    frame = table.frame
    if any(_COLUMN.match(str(c)) for c in frame.columns):
        return _appeears(frame, path), None
    if {"calendar_date", "value"} <= set(frame.columns):
        return _modistools(table, path), None
    return None, table


def _appeears(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    for column in ("Date", "ID"):
        if column not in frame:
            raise DataError(f"{path}: column {column} is missing; is it a csv of AppEEARS?")
    parts = []
    names = [*map(str, frame.columns)]
    decoded = tuple(n.removesuffix("bitmask") for n in names if n.endswith("_bitmask"))
    for column in names:
        match = _COLUMN.match(column)
        if match is None or _BESIDE.match(match[3]) or column.startswith(decoded):
            continue
        parts.append(pd.DataFrame({
            "site": frame["ID"].astype(str), "lat": frame.get("Latitude", np.nan),
            "lon": frame.get("Longitude", np.nan), "product": match[1], "version": match[2],
            "layer": match[3], "date": frame["Date"], "value": frame[column], "raw": False,
        }))  # fmt: skip
    return _long(parts, path)


def _modistools(table: Table, path: Path) -> pd.DataFrame:
    """Long table of what MODISTools wrote, facts as columns or in comment lines; centre pixels."""
    frame, facts = table.frame, table.facts

    def of(name: str, otherwise: object = "") -> Any:
        return frame[name] if name in frame else facts.get(name, otherwise)

    if "pixel" in frame:
        pixel = pd.to_numeric(frame["pixel"], errors="coerce")
        frame = frame[pixel == (pixel.max() + 1) // 2]
    product = of("product")
    if isinstance(product, str) and not product:
        product = _product(path.name)
    scale = pd.to_numeric(pd.Series(of("scale", np.nan)), errors="coerce")
    part = pd.DataFrame({
        "site": of("site"), "lat": of("latitude", np.nan), "lon": of("longitude", np.nan),
        "product": product, "version": "", "layer": of("band"), "date": frame["calendar_date"],
        "value": frame["value"], "raw": True,
    })  # fmt: skip
    _check_scales(part, scale, path)
    return _long([part], path)


def _json(path: Path) -> pd.DataFrame:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        records = content.get("subset") or content.get("statistics")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); get the file again") from error
    except AttributeError:
        records = None  # a list, a number
    values = {"data", "value_center"}
    if not isinstance(records, list) or not records or not all(values & {*r} for r in records):
        what = "no list subset or statistics of dates with their data"
        raise DataError(f"{path}: {what}, as the ORNL DAAC gives it; get the file again")
    centre = [r["value_center"] if "value_center" in r else _centre(r["data"]) for r in records]
    where = {key: pd.to_numeric(content.get(key), errors="coerce") for key in _AXES}
    header = str(content.get("header", ""))
    part = pd.DataFrame({
        "site": str(content.get("site", "")), "lat": where["latitude"], "lon": where["longitude"],
        "product": _product(header) or _product(path.name), "version": "",
        "layer": [r.get("band", content.get("band", "")) for r in records],
        "date": [r["calendar_date"] for r in records], "value": centre,
        "raw": "subset" in content,
    })  # fmt: skip
    _check_scales(part, pd.to_numeric(pd.Series([content.get("scale")]), errors="coerce"), path)
    return _long([part], path)


_AXES = ("latitude", "longitude")


def _centre(pixels: list[Any]) -> Any:
    return pixels[len(pixels) // 2]


def _headless(path: Path) -> pd.DataFrame:
    """Rows of the order tool: HDF name, product, A2002185, Lat..Lon..Samp..Line.., made, pixels."""
    frame = pd.read_csv(path, header=None, dtype=str)
    name = frame[0].str.strip("\"'")
    place = frame[3].str.extract(_PLACE).astype(float)
    pixels = frame.iloc[:, 5:]
    part = pd.DataFrame({
        "site": "", "lat": place[0], "lon": place[1], "product": frame[1].str.strip(),
        "version": name.str.split(".", n=4).str[3],
        "layer": name.str.split(".", n=5).str[5],
        "date": pd.to_datetime(frame[2].str.strip().str[1:], format="%Y%j", errors="coerce"),
        "value": pd.to_numeric(pixels.iloc[:, pixels.shape[1] // 2], errors="coerce"),  # F: masked
        "raw": "scaled" not in path.name,
    })  # fmt: skip
    return _long([part], path)


def _product(text: str) -> str:
    return match[1] if (match := _PRODUCT.search(text)) else ""


def _check_scales(part: pd.DataFrame, scale: pd.Series, path: Path) -> None:
    """Refuse a file whose own scale factor is not that of the product's guide."""
    for layer, product in part[["layer", "product"]].drop_duplicates().itertuples(index=False):
        row = layer_row(str(product), str(layer))
        own = scale[(part["layer"] == layer).to_numpy()] if len(scale) == len(part) else scale
        own = own[np.isfinite(own.to_numpy(float))]
        if row is not None and len(own) and not np.allclose(own, row.scale, rtol=1e-4):
            what = f"{layer} has the scale factor {own.iloc[0]:g}"
            raise DataError(f"{path}: {what}, {row.scale:g} is expected; get the file again")


def _long(parts: list[pd.DataFrame], path: Path) -> pd.DataFrame:
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise DataError(f"{path}: no row below the heads; get the file again")
    numbers = {n: pd.to_numeric(table[n], errors="coerce") for n in ("lat", "lon", "value")}
    return table.assign(date=dates(table["date"], "date", str(path)), **numbers, file=str(path))
