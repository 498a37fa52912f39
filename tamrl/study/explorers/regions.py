"""A map on which a region is picked and its mean seasons and sums appear, beside two others.

One piece of HTML that needs no server; without JavaScript a table of all regions remains.
"""

from html import escape
from typing import Any

import geopandas
import numpy as np
import shapely
import xarray as xr
from IPython.display import HTML
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.maps.budgets import land_area, totals
from tamrl.maps.regions import BANDS, COUNTRIES, UNASSIGNED, partition, reccap_region
from tamrl.maps.uncertainty import Uncertainty
from tamrl.plots.style import FLUX_COLOURS
from tamrl.study.explorers.page import box, embedded, fill, project, svg_path

KINDS = {  # by partition: what one region is called, and all of them
    "globe": ("all land", "Globe"), "reccap": ("RECCAP region", "RECCAP regions"),
    "band": ("belt of latitude", "Belts of latitude"),
    "biome": ("vegetation class", "Vegetation classes"),
    "koppen_main": ("climate", "Climates"), "country": ("country", "Countries"),
}  # fmt: skip
BELTS = {"globe": (-90, 90), "band": BANDS}  # edges of what covers the map from side to side
GRID = 5  # tenths of a degree of latitude: to which borders on the small map are rounded
PARTS = {"World": (-180, -58, 180, 84), "Americas": (-130, -56, -30, 60),
         "Europe": (-12, 34, 42, 71), "Africa": (-20, -36, 55, 38),
         "Asia": (40, -12, 150, 56)}  # west, south, east, north (degrees)  # fmt: skip
MINUS = "\N{MINUS SIGN}"
UNITS = (
    "Sums in PgC yr\u207b\u00b9, means in gC m\u207b\u00b2 yr\u207b\u00b9; applicable: share "
    "of the land within the area of applicability."
)
DIGITS = 4  # significant ones that are stored
Floats = NDArray[np.float64]


def explorer(fluxes: xr.Dataset, cube: xr.Dataset, errors: Uncertainty | None = None) -> HTML:
    """Make the explorer of the regions of a map, about 200 kB.

    ``fluxes``: twelve months of an average year from `tamrl.maps.upscale.upscale`; ``cube`` has its
    classes of vegetation and climate (igbp_fraction, koppen) on the same grid; ``errors`` give the
    bounds of 90 % of annual sums, without them there are none. DataError for other times or
    another grid.
    """
    if fluxes.sizes["time"] != 12:
        times = fluxes.sizes["time"]
        raise DataError(f"region explorer: the map has {times} times; twelve months are needed")
    found = regions(fluxes[[*FLUXES, "land_fraction", "outside"]].load(), cube, errors)
    return HTML(_page(found, bool(fluxes.attrs.get("virtual", 0))))


def regions(
    fluxes: xr.Dataset, cube: xr.Dataset, errors: Uncertainty | None = None
) -> list[dict[str, Any]]:
    """List the regions with mapped land, each a record that JSON can hold.

    name (unique), of (its name in the partition), kind, area (million km2 of land), mapped and
    inside (shares of the land: mapped, and mapped within the area of applicability); by flux months
    (mean of mapped land, gC m-2 d-1), mean (gC m-2 yr-1), total, lower, upper (PgC yr-1).
    """
    land = land_area(fluxes).to_numpy().ravel()
    lat, lon = fluxes["lat"].to_numpy(), fluxes["lon"].to_numpy()
    within = 1 - fluxes["outside"].transpose("lat", "lon").fillna(0).to_numpy().ravel()
    months = np.stack([fluxes[f].transpose("time", "lat", "lon").to_numpy() for f in FLUXES])
    months = months.reshape(len(FLUXES), 12, -1).astype(np.float64)
    mapped = land * np.isfinite(months).any(axis=(0, 1))
    names: dict[str, dict[str, Any]] = {}
    for kind in reversed(KINDS):  # countries first: theirs are the names without an addition
        parts = partition(kind, lat, lon, cube)
        area, inside = parts.sums(np.stack([mapped, mapped * within]))
        with np.errstate(invalid="ignore"):  # a region without land
            mean = parts.sums(np.nan_to_num(months) * land) / area
        table = totals(fluxes, kind, cube, errors).set_index(["region", "flux"])
        for k, name in enumerate(parts.names):
            if name == UNASSIGNED or not area[k] > 0:
                continue
            rows = table.loc[name].loc[list(FLUXES)]
            title = name if kind == "country" else name[0].upper() + name[1:]
            whole = float(rows["area"].iloc[0]) * 1e12  # m2
            unique = title if title not in names else f"{title} ({KINDS[kind][0]})"
            names[unique] = {
                "of": name, "kind": kind, "area": _number(whole / 1e12),
                "mapped": round(area[k] / whole, 3), "inside": round(inside[k] / whole, 3),
                "months": [[round(float(v), 2) for v in year] for year in mean[:, :, k]],
                **{c: [_number(v) for v in rows[c]] for c in ("mean", "total", "lower", "upper")},
            }  # fmt: skip
            if kind in BELTS:
                south, north = BELTS[kind][k : k + 2]
                names[unique]["belt"] = box(-180, south, 180, north)
    every = [{"name": name, **about} for name, about in names.items()]
    return sorted(every, key=lambda region: list(KINDS).index(region["kind"]))


def _number(value: float) -> float | None:
    """Few significant digits; None, which JSON knows, for what is not a number."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def _map(found: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Draw the countries, and list a place {name, x, y} of each that was found.

    Those can be chosen, and know their RECCAP region; the largest come first, so that a country
    within another one lies on top of it.
    """
    known = {(r["kind"], r["of"]): r["name"] for r in found}
    table = geopandas.read_file(COUNTRIES).explode(ignore_index=True)
    table["reccap"], table["part"] = reccap_region(table), shapely.area(table.geometry.values)
    table["whole"] = table.groupby("NAME")["part"].transform("sum")
    table = table.sort_values(["whole", "part"], ascending=False)
    marks: list[str] = []
    places: dict[str, tuple[int, int]] = {}
    for (name, reccap), parts in table.groupby(["NAME", "reccap"], sort=False):
        outline, country = svg_path(parts.geometry, GRID), known.get(("country", name))
        if not outline or country is None:
            marks.append(f'<path aria-hidden="true" d="{outline}"/>' * bool(outline))
            continue
        role, title = 'aria-hidden="true"', ""
        if country not in places:  # what lies elsewhere (French Guiana) is no option of its own
            role = f'role="option" aria-selected="false" id="tamrl-region-{len(places)}"'
            title = f"<title>{escape(country)}</title>"
            inner = parts.geometry.iloc[0].representative_point()
            places[country] = project(inner.x, inner.y)
        of = escape(known.get(("reccap", reccap), ""))
        marks.append(f'<path {role} data-of="{escape(country)}" data-in="{of}" d="{outline}">'
                     f"{title}</path>")  # fmt: skip
    return "".join(marks), [{"name": n, "x": x, "y": y} for n, (x, y) in places.items()]


def _page(found: list[dict[str, Any]], virtual: bool) -> str:
    """Put the pieces together; what stands here works without JavaScript."""
    (shapes, places), view = _map(found), {name: box(*edges) for name, edges in PARTS.items()}
    data = {"virtual": virtual, "fluxes": list(FLUXES), "parts": view, "kinds": KINDS,
            "places": places,
            "regions": [{k: v for k, v in r.items() if k != "of"} for r in found]}  # fmt: skip
    bounds = any(v is not None for region in found for v in region["lower"])
    return fill("regions", {
        "virtual": "Virtual towers. " if virtual else "",
        "bounds": "; in brackets and as thin lines: bounds of 90 %" if bounds else "",
        "colours": "".join(f"--tr-{f}:{colour};" for f, colour in FLUX_COLOURS.items()),
        "view": " ".join(map(str, view["World"])), "shapes": shapes, "count": str(len(places)),
        "tables": "".join(_table(kind, [r for r in found if r["kind"] == kind]) for kind in KINDS),
        "data": embedded(data),
    })  # fmt: skip


def _table(kind: str, found: list[dict[str, Any]]) -> str:
    """Fold a table of the regions of one kind, which every reader gets."""
    heads = ["region", *(f"{f} {of}" for of in ("sum", "mean") for f in FLUXES), "applicable"]
    rows = []
    for r in sorted(found, key=lambda r: r["name"]) if kind == "country" else found:
        sums = map(_sum, r["total"], r["lower"], r["upper"])
        cells = [*sums, *(f"{v:.0f}" for v in r["mean"]), f"{100 * r['inside']:.0f} %"]
        cells = [f"<td>{cell.replace('-', MINUS)}</td>" for cell in cells]
        rows.append(f'<tr><th scope="row">{escape(r["name"])}</th>{"".join(cells)}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        f"<details><summary>{KINDS[kind][1]} ({len(rows)})</summary>"
        f'<div class="tp-scroll" tabindex="0" role="region" aria-label="{KINDS[kind][1]}">'
        f"<table><caption>{UNITS}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _sum(total: float, *bounds: float | None) -> str:
    """Write a total and its bounds to three significant digits of the largest of them."""
    known = [v for v in bounds if v is not None]
    largest = max(map(abs, [total, *known, 1e-9]))
    digits = int(np.clip(2 - np.floor(np.log10(largest)), 0, 4))
    words = ", ".join(f"{v:.{digits}f}" for v in known)
    return f"{total:.{digits}f}" + f" [{words}]" * bool(known)
