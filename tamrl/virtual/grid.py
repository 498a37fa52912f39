"""Simulated globe: the cube of `tamrl.data.fetch_grid`, from the process model."""

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
from tamrl.errors import DataError
from tamrl.virtual.noise import monthly_means
from tamrl.virtual.simulator import BIOME, BLOCK, simulate

LAND = "natural_earth/shapefiles/natural_earth/physical/ne_110m_land.shp"
SOUTH = -60.0  # degrees; there is no tower beyond
YEARS = ("2001-01-01", "2002-12-31")  # the second counts, the first lets soils fill


def virtual_grid(step: float = 2.0, seed: int = 0) -> xr.Dataset:
    """Monthly predictors (month, lat, lon) of the simulated globe in the layout of `fetch_grid`.

    ``step`` is the size of cells, degrees. Every cell of land gets the climate and vegetation class
    of its nearest tower; virtual is 1; what is not simulated is NaN. DataError without geopandas.
    """
    try:
        import geopandas as gpd
        import shapely
    except ImportError as error:
        raise DataError("the virtual globe needs: pip install 'tamrl[maps]'") from error
    at_lat, at_lon = np.meshgrid(*centres(step), indexing="ij")
    shape = shapely.union_all(gpd.read_file(Path(__file__).parents[1] / LAND).geometry.to_numpy())
    land = shapely.contains_xy(shape, at_lon, at_lat) & (at_lat > SOUTH)
    cells = _cells(at_lat[land], at_lon[land])
    known = _seasons(cells, seed)
    known["igbp_fraction"] = np.array(LAND_CLASSES)[:, None] == cells.igbp.to_numpy(str)
    known["awc"] = np.array([BIOME[code][3] for code in cells.igbp], float)
    known |= {"elevation": np.full(len(cells), 200.0), "fapar_mean": known["FPAR"].mean(0)}
    fields: dict[str, Array] = {}
    for name in VARIABLES.keys() - {"area"}:
        values = known.get(name, np.full(len(cells), np.nan))
        fields[name] = np.full((*values.shape[:-1], *land.shape), np.nan)
        fields[name][..., land] = values
    fields["land_fraction"] = land.astype(float)
    classes = np.zeros(land.shape, np.int8)
    classes[land] = [KOPPEN_CODES.index(code) + 1 for code in cells.koppen]
    title = f"Virtual globe: a process model with known truth, {step:g} degrees, seed {seed}"
    source = "tamrl.virtual.grid, a model; no value is an observation"
    return make_cube(fields, classes, step).assign_attrs(title=title, source=source, virtual=1)


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
    parts: list[dict[str, Array]] = []
    for start in tqdm(range(0, len(cells), BLOCK), "virtual globe"):
        part = cells.iloc[start : start + BLOCK]
        sim = simulate(part, time, seed)
        sim["SW_POT"] = potential_radiation(part.lat.to_numpy()[:, None], time.day_of_year)
        daily = {name: sim[name] for name in ("TA", "SW_IN", "SW_POT", "VPD", "FPAR")}
        daily |= {"PRCP": sim["P"], "SUN": sim["sun"]}
        parts.append({name: monthly_means(x, time)[:, -12:].T for name, x in daily.items()})
    mean = {name: np.concatenate([p[name] for p in parts], axis=1) for name in parts[0]}
    mean |= {"SUN": 100 * mean["SUN"], "EVI": greenness(mean["FPAR"])}
    return mean | {"EVI_filled": np.zeros_like(mean["EVI"])}


def greenness(fpar: Array) -> Array:
    """Vegetation index of a canopy: a plausible range, no more is asked of it."""
    return 0.05 + 0.6 * fpar
