"""Simulated globe: the cube of `tamrl.data.fetch_grid`, from the process model.

Land is where Natural Earth has land; every cell gets the climate and vegetation class of its
nearest tower, so that a simulated tower and the cell around it share one climate.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from tqdm import tqdm

from tamrl.data.cube import VARIABLES, make_cube
from tamrl.data.gridfiles import LAND_CLASSES, Array, centres, unit_vectors
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.physics import potential_radiation
from tamrl.data.schema import tower_facts
from tamrl.virtual.simulator import BIOME, simulate

_NATURAL_EARTH = Path(__file__).parents[1] / "natural_earth/shapefiles/natural_earth"
LAND = _NATURAL_EARTH / "physical/ne_110m_land.shp"
SOUTH = -60.0  # degrees; there is no tower beyond
BLOCK = 256  # cells simulated at once: bounds the memory
YEARS = ("2001-01-01", "2002-12-31")  # the second counts, the first lets soils fill


def virtual_grid(step: float = 2.0, seed: int = 0) -> xr.Dataset:
    """Monthly predictors (month, lat, lon) of the simulated globe in the layout of `fetch_grid`.

    ``step`` is the size of cells, degrees; ``seed`` as for `virtual_towers`. The attribute virtual
    is 1; variables that the simulator does not know are NaN.
    """
    import geopandas as gpd
    import shapely

    lat, lon = centres(step)
    at_lon, at_lat = np.meshgrid(lon, lat)
    shape = shapely.union_all(gpd.read_file(LAND).geometry.to_numpy())
    land = shapely.contains_xy(shape, at_lon, at_lat) & (at_lat > SOUTH)
    cells = _cells(at_lat[land], at_lon[land])
    monthly = _seasons(cells, seed)

    fields: dict[str, Array] = {}
    for name in VARIABLES:
        if name in monthly:
            fields[name] = np.full((12, *land.shape), np.nan)
            fields[name][:, land] = monthly[name]
        elif name != "area":
            fields[name] = np.full(land.shape, np.nan)
    fields["elevation"][land] = 200.0
    fields["awc"][land] = [BIOME[code][3] for code in cells.igbp]
    fields["fapar_mean"][land] = monthly["FPAR"].mean(0)
    fields["land_fraction"] = land.astype(float)
    share = np.where(land, 0.0, np.nan)
    fields["igbp_fraction"] = np.repeat(share[None], len(LAND_CLASSES), 0)
    fields["igbp_fraction"][:, land] = np.array(LAND_CLASSES)[:, None] == cells.igbp.to_numpy(str)
    classes = np.zeros(land.shape, np.int8)
    classes[land] = [KOPPEN_CODES.index(code) + 1 for code in cells.koppen]
    return make_cube(fields, classes, step).assign_attrs(
        title=f"Virtual globe: a process model with known truth, {step:g} degrees, seed {seed}",
        source="tamrl.virtual.grid, a model; no value is an observation",
        virtual=1,
    )


def _cells(lat: Array, lon: Array) -> pd.DataFrame:
    """Land cells with the vegetation and climate class of the nearest tower."""
    facts = tower_facts()
    near = unit_vectors(lat, lon) @ unit_vectors(facts.lat, facts.lon).T
    nearest = facts.iloc[near.argmax(1)][["igbp", "koppen"]].reset_index(drop=True)
    names = [f"CELL{north:+06.1f}{east:+07.1f}" for north, east in zip(lat, lon, strict=True)]
    return nearest.assign(site=names, lat=lat, lon=lon)


def _seasons(cells: pd.DataFrame, seed: int) -> dict[str, Array]:
    """Mean months (12, cell) of the second simulated year."""
    time = pd.date_range(*YEARS)
    month = np.flatnonzero((time.day == 1) & (time.year == time.year[-1]))
    days = np.diff([*month, len(time)])[:, None]
    parts: list[dict[str, Array]] = []
    for start in tqdm(range(0, len(cells), BLOCK), "virtual globe"):
        part = cells.iloc[start : start + BLOCK]
        sim = simulate(part, time, seed)
        sim |= {"PRCP": sim["P"], "SUN": sim["sun"]}
        sim["SW_POT"] = potential_radiation(part.lat.to_numpy()[:, None], time.day_of_year)
        mean = {
            name: np.add.reduceat(sim[name][:, month[0] :], month - month[0], axis=1).T / days
            for name in ("TA", "PRCP", "SUN", "SW_IN", "SW_POT", "VPD", "FPAR")
        }
        mean["SUN"] *= 100
        mean["EVI"] = greenness(mean["FPAR"])
        mean["EVI_filled"] = np.zeros_like(mean["EVI"])
        parts.append(mean)
    return {name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0]}


def greenness(fpar: Array) -> Array:
    """Vegetation index of a canopy: a plausible range, no more is asked of it."""
    return 0.05 + 0.6 * fpar
