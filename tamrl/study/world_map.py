"""Parts of notebook 05: a map stepped by month, daily drivers, and what a large map takes."""

import base64
import html
import io
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from IPython.display import HTML

from tamrl.data.cube import cell_area
from tamrl.data.grid import grid_at
from tamrl.data.gridfiles import MID_MONTH, MONTH_DAYS
from tamrl.errors import DataError
from tamrl.study.attributes import spell

BELTS = {"north of 30 degrees north": 60, "in the tropics": 0, "south of 30 degrees south": -60}
DPI, QUALITY = 110, 90  # of the pictures (WebP)
UNITS = {"TA": "°C", "VPD": "hPa", "SW_IN": "W m⁻²"}  # of drivers, as tables have them
STORED = 12 * 4 + 1  # bytes of a place and day: three fluxes with sd and two bounds, quality
HOURS_BYTES = 4 * 24 * 4  # of a place and day of hourly weather: four variables
CORES = (1, 2, 16, 64, 256)  # a laptop's one and both, a server, a node of a cluster, a few


def drawable(
    ds: xr.Dataset | xr.DataArray, step: float = 1.0, land: xr.DataArray | None = None
) -> xr.Dataset | xr.DataArray:
    """Average cells to ``step`` degrees, for pictures only: a finer one shows no more on a page.

    Weights are areas of cells, times ``land`` (lat, lon), the share of each that is land, if given;
    land_fraction itself is a mean over whole cells.
    """
    factor = round(step / abs(float(ds["lat"][1] - ds["lat"][0])))
    if factor <= 1:
        return ds
    area = xr.DataArray(cell_area(ds["lat"], ds["lon"]), {d: ds[d] for d in ("lat", "lon")})
    if isinstance(ds, xr.Dataset):
        flat = [name for name, field in ds.items() if {"lat", "lon"} <= {*field.dims}]
        return ds[flat].map(lambda field: drawable(field, step, ds.get("land_fraction")))
    if land is not None and ds.name != "land_fraction":
        area = area * land.fillna(0)
    weight = area.where(ds.notnull())  # noqa: PD004
    total, of = (one.coarsen(lat=factor, lon=factor).sum() for one in (ds * weight, weight))
    return (total / of).transpose(*ds.dims).assign_attrs(ds.attrs).rename(ds.name)


def words(field: xr.DataArray, flux: str, month: str, land: xr.DataArray | None = None) -> str:
    """Alternative text of a month's map (lat, lon): its mean in three belts, over ``land``."""
    axes = {d: field[d] for d in ("lat", "lon")}
    area = xr.DataArray(cell_area(field["lat"], field["lon"]), axes)
    area = area if land is None else area * land.fillna(0)
    parts = []
    for name, middle in BELTS.items():  # each 60 degrees wide
        belt = field.where((field["lat"] >= middle - 30) & (field["lat"] < middle + 30))
        if np.isfinite(mean := float(belt.weighted(area).mean())):
            parts.append(f"{mean:.1f} {name}".replace("-", "\N{MINUS SIGN}"))
    text = f"World map of {flux} in {month}; mean over land in gC per square metre and day"
    return f"{text}: {', '.join(parts) or 'no land with values'}."


def stepped(fluxes: xr.Dataset, flux: str, name: str = "seasons", start: int = 7) -> HTML:
    """Draw a monthly climatology of a flux into HTML, stepped by radio buttons without script.

    Hatched where ``fluxes`` says that half of a cell or more is outside the area of applicability.
    ``name`` begins the ids of a page; month ``start`` (1 to 12) is shown first. DataError unless
    there are twelve times.
    """
    from tamrl.plots.maps import MONTHS, flux_maps, limits

    if fluxes.sizes["time"] != len(MONTHS):
        raise DataError(f"stepped seasons: {fluxes.sizes['time']} times; twelve months are needed")
    fields = fluxes[flux].transpose("time", "lat", "lon").load()
    span, outside = limits(fields, flux), fluxes.get("outside")
    virtual = "Virtual towers. " * bool(fluxes.attrs.get("virtual"))
    buttons, frames, rules = [], [], []
    for k, month in enumerate(MONTHS):
        stream = io.BytesIO()
        figure = flux_maps({f"{flux}, {month}": fields[k]}, flux, 1, span, outside)
        look: dict[str, Any] = {"bbox_inches": "tight", "pil_kwargs": {"quality": QUALITY}}
        figure.savefig(stream, format="webp", dpi=DPI, **look)
        picture = base64.b64encode(stream.getvalue()).decode()
        id_, checked = f"{name}-{k + 1}", " checked" if k + 1 == start else ""
        button = f'<input type="radio" name="{name}" id="{id_}"{checked}>'
        buttons.append(f'<span>{button}<label for="{id_}">{month[:3]}</label></span>')
        alt = html.escape(
            virtual + words(fields[k], flux, month, fluxes["land_fraction"]), quote=True
        )
        frames.append(f'<img class="{id_}" alt="{alt}" src="data:image/webp;base64,{picture}">')
        rules.append(f".tamrl-seasons:has(#{id_}:checked) .{id_}")
    common = (files("tamrl") / "web" / "seasons.css").read_text("utf-8")
    style = (
        f"{common}{','.join(rules)}{{display:block}}"
        f"@supports not selector(:has(a)){{.tamrl-seasons img.{name}-{start}{{display:block}}}}"
    )
    caption = f"{virtual}{flux} of an average year, month by month, all with the same colours."
    caption += " Hatched: outside the area of applicability." * (outside is not None)
    return HTML(
        f'<figure class="tamrl-seasons"><style>{style}</style><fieldset><legend>Month</legend>'
        f"{''.join(buttons)}</fieldset>{''.join(frames)}<figcaption>{caption} Choose a month, or "
        "step with the arrow keys.</figcaption></figure>"
    )


def weather_difference(towers: xr.Dataset, cube: xr.Dataset) -> pd.DataFrame:
    """Monthly means of grid minus those of towers, by variable: n (tower-months), bias, RMSE, r."""
    at, rows = grid_at(cube, towers["lat"], towers["lon"]), {}
    for name, unit in UNITS.items():
        tower = towers[name].groupby("time.month").mean().transpose("site", "month").to_numpy()
        grid = at[name].transpose("site", "month").to_numpy()
        both = np.isfinite(tower) & np.isfinite(grid)
        gap, r = grid[both] - tower[both], np.corrcoef(grid[both], tower[both])[0, 1]
        scores = (both.sum(), float(gap.mean()), float(np.sqrt((gap**2).mean())), r)
        rows[spell(name)] = (unit, *scores)
    columns = ["units", "n", "bias", "RMSE", "r"]
    return pd.DataFrame(rows, columns).T.infer_objects().rename_axis("variable")


def daily_drivers(
    cube: xr.Dataset, lat: slice, lon: slice, step: float = 0.25, year: int = 2001
) -> xr.Dataset:
    """Interpolate a monthly climatology to days (time, lat, lon) on a finer grid, both in deg.

    Linear between the middles of months; a fine cell has the values of its cell of ``cube``.
    """
    axes: dict[Any, Any] = {
        name: span.start + step * (np.arange(round((span.stop - span.start) / step)) + 0.5)
        for name, span in (("lat", lat), ("lon", lon))
    }
    part = cube.drop_vars(["lat_bnds", "lon_bnds"], errors="ignore")
    part = part.sel(axes, method="nearest", tolerance=abs(float(cube["lat"][1] - cube["lat"][0])))
    part = part.assign_coords(axes)
    days = pd.date_range(f"{year}-01-01", f"{year}-12-31")
    at, length = days.day_of_year.to_numpy() - 0.5, float(MONTH_DAYS.sum())
    between = [np.interp(at, MID_MONTH, unit, period=length) for unit in np.eye(12)]
    weights = xr.DataArray(np.array(between, np.float32), {"time": days}, ("month", "time"))
    monthly = [str(name) for name, v in part.data_vars.items() if "month" in v.dims]
    out = part.drop_vars([*monthly, "area"], errors="ignore").drop_vars("month")
    for name in monthly:
        days_of = xr.dot(weights, part[name].drop_vars("month"), dim="month").astype(np.float32)
        out[name] = days_of.transpose("time", "lat", "lon").assign_attrs(part[name].attrs)
    title = "Daily drivers interpolated from a monthly climatology: no weather in them"
    return out.assign_attrs(cube.attrs | {"title": title})


def every_cell(cube: xr.Dataset, stride: int) -> xr.Dataset:
    """Take every ``stride``-th cell of a grid in both directions."""
    part = cube.drop_vars(["lat_bnds", "lon_bnds"], errors="ignore")
    return part.isel({d: slice(stride // 2, None, stride) for d in ("lat", "lon")})


def land_cells(cube: xr.Dataset, step: float) -> int:
    """Count the land cells of a grid of ``step`` degrees: all in a coarse cell with drivers."""
    known = (cube["land_fraction"] > 0) & (cube["TA"].count("month") == 12)
    coarse = abs(float(cube["lat"][1] - cube["lat"][0]))
    return int(known.sum()) * round(coarse / step) ** 2


def plan(
    rates: pd.Series, cells: int, step: float, days: int = 365, cores: Sequence[int] = CORES
) -> pd.DataFrame:
    """Plan a year of days of the globe from `tamrl.study.cost.tables.daily_rates`, by cores.

    hours to map the ``cells`` with land, from a cube of days on disk to fluxes on disk; hours to
    make that cube of hourly weather, of all cells of ``step`` degrees, sea included; core-hours of
    both; GB read of hours (four variables of 32 bits) and written, before they are packed. Cores
    go by twos as fast as two processes do here, one as one; without that measure like one.
    """
    whole = cells_of_globe(step)
    table = pd.DataFrame(index=[f"{n} core{'s' * (n > 1)}" for n in cores])
    pace = [rates["one"] if n == 1 or np.isnan(rates["two"]) else rates["two"] / 2 for n in cores]
    table["map (h)"] = [
        cells * days / (n * each) / 3600 for n, each in zip(cores, pace, strict=True)
    ]
    table["days of hours (h)"] = [whole * days / (n * rates["cube"]) / 3600 for n in cores]
    table["core-hours"] = table.sum(axis=1, skipna=False) * np.array(cores)
    table["read (GB)"] = whole * days * HOURS_BYTES / 1e9
    table["written (GB)"] = cells * days * STORED / 1e9
    return table.rename_axis("machine")


def cells_of_globe(step: float) -> int:
    """Count all cells of a global grid of ``step`` degrees."""
    return 2 * round(180 / step) ** 2
