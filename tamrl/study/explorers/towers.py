"""A map on which a tower is picked and its series appear: one piece of HTML that needs no server.

Shown are the ensemble with its bounds, the booster that is strongest for each flux, and the
climatology. Without JavaScript the map and a table of all towers remain.
"""

import base64
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from IPython.display import HTML
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES, IGBP_NAMES
from tamrl.errors import DataError
from tamrl.evaluate.scores import MIN_DAYS, score_towers
from tamrl.evaluate.tables import Results
from tamrl.plots.style import model_colours
from tamrl.study.benchmark import strongest
from tamrl.study.comparisons.models import ENSEMBLE
from tamrl.study.comparisons.series import DAYS, STEP
from tamrl.study.explorers.page import NORTH, SOUTH, box, embedded, fill, land_path, project

MISSING = -32768  # a stored number that stands for none
CLIMATOLOGY, BOOSTING = "climatology", "boosting"
SKILL = (0.0, 0.25, 0.5, 0.75)  # R² between the colours of the map
FIRST = "NEE"  # the flux whose skill the map shows at first
TYPICAL = 365  # scored days that the tower shown first has at least
REGIONS = {"World": (-180, SOUTH, 180, NORTH), "North America": (-168, 5, -50, 75),
           "Europe": (-12, 34, 36, 71)}  # west, south, east, north (degrees)  # fmt: skip
Floats = NDArray[np.float64]


def explorer(results: Results, series: xr.Dataset) -> HTML:
    """Make the explorer of the towers of a benchmark, 3.5 kB a tower and 80 kB besides.

    ``series`` are of the same experiment, as `tamrl.study.comparisons.series.read` gives them. The
    ensemble is shown beside those rivals that were computed. DataError without the ensemble, or
    without a tower that both have.
    """
    if ENSEMBLE not in series.model or ENSEMBLE not in results.models:
        raise DataError(f"towers: the {ENSEMBLE} is not computed; run `tamrl compare benchmark`")
    there = results.sums.sel(model=np.isin(results.sums.model, series.model))
    names = {ENSEMBLE: dict.fromkeys(FLUXES, ENSEMBLE)}  # by what they are called here and by flux
    names |= {BOOSTING: best} if (best := strongest(there)) else {}
    if CLIMATOLOGY in there.model:
        names[CLIMATOLOGY] = dict.fromkeys(FLUXES, CLIMATOLOGY)
    scores = score_towers(there)
    scores = scores[(scores.n >= MIN_DAYS) & scores.site.isin(series.site.values)]
    if scores.empty:
        raise DataError(f"towers: none of the series has {MIN_DAYS} scored days")
    by = scores.set_index(["site", "model", "flux"])[["R2", "RMSE"]]
    lines, at = _lines(series, names), {str(s): i for i, s in enumerate(series.site.values)}
    towers = []
    for site, fact in scores.drop_duplicates("site").set_index("site").iterrows():
        skill = [by.loc[[(site, of[f], f) for f in FLUXES]] for of in names.values()]
        x, y = project(fact.lon, fact.lat)
        towers.append({
            "site": site, "biome": IGBP_NAMES[fact.igbp], "climate": fact.koppen_main,
            "lat": round(float(fact.lat), 2), "lon": round(float(fact.lon), 2), "x": x, "y": y,
            "days": int(fact.n), "year": int(series["first"].sel(site=site)),
            "r2": [[_number(v) for v in one.R2] for one in skill],
            "rmse": [[_number(v) for v in one.RMSE] for one in skill],
            "data": pack(np.concatenate([part[:, :, at[str(site)]].ravel() for part in lines])),
        })  # fmt: skip
    towers.sort(key=lambda tower: (tower["biome"], tower["site"]))
    return HTML(_page(towers, names, series, bool(results.attrs.get("virtual"))))


def typical(towers: list[dict[str, Any]]) -> str:
    """Name the tower whose R² are nearest to the medians over towers, of those with a year of days.

    >>> made = [{"site": s, "days": 400, "r2": [[r] * 3]} for s, r in zip("abc", (0.1, 0.5, 0.9))]
    >>> typical(made)
    'b'
    """
    r2 = np.array([tower["r2"][0] for tower in towers], float)
    away = np.nansum(np.abs(r2 - np.nanmedian(r2, 0)), 1)
    long = np.array([tower["days"] >= TYPICAL for tower in towers])
    return str(towers[int(np.argmin(np.where(long | ~long.any(), away, np.inf)))]["site"])


def _lines(series: xr.Dataset, names: dict[str, dict[str, str]]) -> list[Floats]:
    """Season and year (line, flux, site, step): observed, lower, upper, then the models shown."""
    flux = xr.DataArray([*FLUXES], dims="flux")
    out = []
    for scale in ("season", "year"):
        lines = [series[f"{scale}_observed"].sel(flux=flux)]
        lines += [series[f"{scale}_{k}"].sel(model=ENSEMBLE, flux=flux) for k in ("lower", "upper")]
        for of in names.values():
            model = xr.DataArray([of[f] for f in FLUXES], dims="flux")
            lines.append(series[scale].sel(model=model, flux=flux))
        out.append(np.stack([line.transpose("flux", "site", ...).values for line in lines]))
    return out


def pack(values: Floats) -> str:
    """Fluxes as whole numbers of 0.01 gC m-2 d-1, 16 bits each, little-endian, base64."""
    whole = np.where(np.isfinite(values), np.clip(np.round(values / STEP), -32767, 32767), MISSING)
    return base64.b64encode(whole.astype("<i2").tobytes()).decode()


def _number(value: float) -> float | None:
    """Two decimals; None, which JSON knows, for what is not a number."""
    return round(float(value), 2) if np.isfinite(value) else None


def _page(
    towers: list[dict[str, Any]],
    names: dict[str, dict[str, str]],
    series: xr.Dataset,
    virtual: bool,
) -> str:
    """Put the pieces together; what stands here works without JavaScript."""
    regions = {name: box(*edges) for name, edges in REGIONS.items()}
    colours = model_colours(names)
    data = {"virtual": virtual, "step": STEP, "missing": MISSING, "days": DAYS, "skill": SKILL,
            "steps": [series.sizes[k] for k in ("month", "period")], "fluxes": list(FLUXES),
            "models": list(names), "regions": regions, "first": FIRST, "start": typical(towers),
            "towers": towers}  # fmt: skip
    flux = list(FLUXES).index(FIRST)
    marks = "".join(
        f'<circle role="option" aria-selected="false" data-tower-mark="{escape(t["site"])}" '
        f'data-skill="{_class(t["r2"][0][flux])}" id="{escape(t["site"])}" '
        f'cx="{t["x"]}" cy="{t["y"]}" r="14"><title>{escape(_words(t))}</title></circle>'
        for t in towers
    )
    best = names.get(BOOSTING, {})
    rivals = "; ".join(f"{f}: {name}" for f, name in best.items()) or "not computed"
    heads = [f"{f} {of}" for f in FLUXES for of in ("R²", *(f"RMSE {name}" for name in names))]
    return fill("picker", {
        "virtual": "Virtual towers. " if virtual else "", "boosting": escape(rivals),
        "colours": "".join(f"--tp-{name}:{colour};" for name, colour in colours.items()),
        "legend": _legend(),
        "bounds": _kept(series), "view": " ".join(map(str, regions["World"])), "land": land_path(),
        "marks": marks, "rows": "".join(map(_row, towers)), "count": str(len(towers)),
        "heads": "".join(f'<th scope="col">{head}</th>' for head in heads),
        "data": embedded(data),
    })  # fmt: skip


def _class(r2: float | None) -> int:
    """Colour of the map, counted from the poorest: how many limits of `SKILL` are reached."""
    return sum(r2 >= limit for limit in SKILL) if r2 is not None else 0


def _legend() -> str:
    """List the colours of the map."""
    pairs = (f"{low:g} to {high:g}" for low, high in pairwise(SKILL))
    words = (f"below {SKILL[0]:g}", *pairs, f"{SKILL[-1]:g} or more")
    return "".join(f'<li data-skill="{k}">{one}</li>' for k, one in enumerate(words))


def _words(tower: dict[str, Any]) -> str:
    r2 = ", ".join(f"{f} {_cell(v)}" for f, v in zip(FLUXES, tower["r2"][0], strict=True))
    return f"{tower['site']}, {tower['biome']}; R² {r2}"


def _kept(series: xr.Dataset) -> str:
    """Say what the band is and what share of all towers' dots it holds; nothing without one."""
    shares = []
    for scale in ("season", "year"):
        seen, one = series[f"{scale}_observed"], series.sel(model=ENSEMBLE)
        known = np.isfinite(seen) & np.isfinite(one[f"{scale}_lower"])
        inside = (seen >= one[f"{scale}_lower"]) & (seen <= one[f"{scale}_upper"])
        if known.any():
            shares.append(f"{100 * float(inside.where(known).mean()):.0f} %")
    hold = " (season) and ".join(shares)
    return f"; band, bounds of 90 %, which hold {hold} (year) of these dots" if shares else ""


def _row(tower: dict[str, Any]) -> str:
    """One line of the table that every reader gets."""
    scores = [
        _cell(v)
        for r2, *rmse in zip(tower["r2"][0], *tower["rmse"], strict=True)
        for v in (r2, *rmse)
    ]
    cells = [tower["biome"], f"{tower['days']:,}", *scores]
    head = f'<th scope="row">{escape(tower["site"])}</th>'
    return f"<tr>{head}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _cell(value: float | None) -> str:
    """Two decimals, with a minus sign, and a dash for nothing."""
    return "\N{EN DASH}" if value is None else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
