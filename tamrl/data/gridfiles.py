"""The raw grid files, read to one grid of 0.5 degrees, with their faults corrected.

Every reader returns arrays with latitude from south to north, longitude from -180, cell centres at
the quarter degrees; NaN where the source has nothing.
"""

import io
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.spatial import cKDTree

from tamrl.data.physics import KELVIN, saturation_pressure
from tamrl.data.schema import IGBP_CODES
from tamrl.errors import DataError

Array = npt.NDArray[np.float64]

EARTH_RADIUS = 6371007.2  # m, for the area of WGS84 (Moritz 2000, doi:10.1007/s001900050278)
# Mean length of the months in the Gregorian calendar, d.
MONTH_DAYS = np.array([31, 28.2425, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
MID_MONTH = np.cumsum(MONTH_DAYS) - MONTH_DAYS / 2  # day of the year
LAND_CLASSES = IGBP_CODES[1:]  # all but water
SHAPE = (360, 720)
REACH = 250e3  # m, from a cell to the nearest of a coarser table


def centres(step: float = 0.5) -> tuple[Array, Array]:
    """Latitudes (south to north) and longitudes (from -180) of the cells of a global grid, deg."""
    n, half = round(180 / step), step / 2
    return np.linspace(-90 + half, 90 - half, n), np.linspace(-180 + half, 180 - half, 2 * n)


def band_area(edges: npt.ArrayLike) -> Array:
    """Area of the bands between parallels (lat edge) per degree of longitude, m2: exact."""
    return EARTH_RADIUS**2 * np.deg2rad(1) * np.abs(np.diff(np.sin(np.deg2rad(edges))))


def block_mean(values: Array, weight: Array, factor: int) -> Array:
    """Weighted mean over blocks of factor x factor cells of (..., lat, lon); NaN takes no part."""
    *lead, n_lat, n_lon = values.shape
    blocks = (*lead, n_lat // factor, factor, n_lon // factor, factor)
    weight = np.where(np.isfinite(values), np.broadcast_to(weight, values.shape), 0.0)
    filled = np.where(weight > 0, values, 0.0) * weight
    total, mass = (x.reshape(blocks).sum(axis=(-3, -1)) for x in (filled, weight))
    with np.errstate(invalid="ignore"):  # 0 / 0 where a block has nothing: NaN is meant
        return total / mass


def _require(ok: bool, path: Path, what: str) -> None:
    if not ok:
        raise DataError(f"{path}: {what}; delete the cached file and fetch it again")


def biome4_climate(path: Path) -> dict[str, Array]:
    """TA (degC), PRCP (mm d-1) and SUN (%), each (month, lat, lon), from BIOME4's driver file.

    Temperature and sunshine are stored times ten without saying so; coordinates are the cells'
    south-western corners; missing sunshine over sea is 0 from February to November, so the land
    mask of temperature decides, and a cell without sun all year has none on record. The file's
    `tmin` is the lowest temperature ever seen and often above the coldest month: not used.
    Source: Kaplan et al. 2003, doi:10.1029/2002JD002559.
    """
    with xr.open_dataset(path, decode_times=False, mask_and_scale=False) as ds:
        _require(ds["temp"].shape == (12, *SHAPE), path, f"temp has shape {ds['temp'].shape}")
        corner = float(ds["lat"][-1]), float(ds["lon"][0])
        _require(corner == (-90.0, -180.0), path, f"the grid starts at {corner}")
        names = ("temp", "prec", "sun")
        temp, prec, sun = (ds[n].to_numpy()[:, ::-1].astype(np.float64) for n in names)
    missing = (temp == -9999) | (prec == -9999)
    return {
        "TA": np.where(missing, np.nan, temp / 10),
        "PRCP": np.where(missing, np.nan, prec / MONTH_DAYS[:, None, None]),
        "SUN": np.where(missing | (sun == -9999) | ~(sun > 0).any(axis=0), np.nan, sun / 10),
    }


def vegetation_index(paths: Sequence[Path]) -> Array:
    """EVI of 2006 (month, lat, lon), 1, from twelve zipped ESRI ASCII rasters of MOD13C2.

    Stored times 10000, north to south, -3000 where there is none (sea, and polar night).
    Source: Didan 2015, doi:10.5067/MODIS/MOD13C2.006; the index is EVI by its magnitude.
    """
    months = []
    for path in sorted(paths):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(archive.namelist()[0]).decode()
        *header, body = text.split("\n", 6)
        head = {key.upper(): float(value) for key, value in map(str.split, header)}
        _require(head["XLLCORNER"] == -180 and head["YLLCORNER"] == -90, path, "moved grid")
        values = np.loadtxt(io.StringIO(body))
        _require(values.shape == SHAPE, path, f"raster has shape {values.shape}")
        values[values == head["NODATA_VALUE"]] = np.nan
        months.append(values[::-1] / 10000)
    if len(months) != 12:
        raise DataError(f"vegetation index: {len(months)} months instead of 12; fetch the rest")
    return np.stack(months)


class _ArraysOnly(pickle.Unpickler):
    ADMITTED = ("numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")
        if f"{module}.{name}" not in self.ADMITTED:
            raise DataError(f"pickle asks for {module}.{name}; only numpy arrays are admitted")
        return super().find_class(module, name)


def load_arrays(path: Path) -> list[npt.NDArray[Any]]:
    """Load a pickled list of numpy arrays without running anything that the file may hold."""
    try:
        with path.open("rb") as stream:
            arrays = _ArraysOnly(stream).load()
    except DataError as error:
        raise DataError(f"{path}: {error}; do not trust this file") from None
    except (pickle.UnpicklingError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a pickle ({error}); fetch it again") from error
    ok = isinstance(arrays, list) and all(isinstance(a, np.ndarray) for a in arrays)
    _require(ok, path, "does not hold a list of arrays")
    return list(arrays)


def relative_humidity(path: Path) -> Array:
    """Relative humidity at mid-month (month, lat, lon), 0 to 1, from the GPT2w 1-degree harmonics.

    The table runs from north to south and from 0.5 E; each row holds a mean, then cosine and sine
    of the annual and the semi-annual wave, for pressure (Pa), temperature (K) and specific
    humidity (kg kg-1). Source: Boehm et al. 2015, doi:10.1007/s10291-014-0403-7.
    """
    arrays = load_arrays(path)
    _require(len(arrays) >= 3 and arrays[2].shape == (64800, 5), path, "not the GPT2w table")
    phase = 2 * np.pi * MID_MONTH / 365.25
    waves = [np.ones(12), np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)]
    pressure, temperature, humidity = (
        (table @ np.stack(waves)).T.reshape(12, 180, 360)[:, ::-1] for table in arrays[:3]
    )
    vapour = humidity * pressure / 100 / (0.622 + 0.378 * humidity)  # hPa
    rh = np.clip(vapour / saturation_pressure(temperature - KELVIN), 0.0, 1.0)
    # Bilinear to 0.5 degrees, round the dateline, the polar rows repeated.
    rh = np.pad(np.roll(rh, 180, axis=2), ((0, 0), (1, 1), (0, 0)), mode="edge")
    rh = np.pad(rh, ((0, 0), (0, 0), (1, 1)), mode="wrap")
    for axis in (1, 2):
        before, near, after = (rh.take(range(k, rh.shape[axis] - 2 + k), axis) for k in range(3))
        shape = [2 * n if i == axis else n for i, n in enumerate(near.shape)]
        pair = [0.25 * before + 0.75 * near, 0.25 * after + 0.75 * near]
        rh = np.stack(pair, axis=axis + 1).reshape(shape)
    return rh


def land_cover(path: Path) -> tuple[Array, Array]:
    """Land fraction (lat, lon) and share of that land by class (igbp, lat, lon), MCD12C1 of 2019.

    Class 0 is water, seas and lakes alike; a cell without land has NaN shares.
    Source: Friedl & Sulla-Menashe 2015, doi:10.5067/MODIS/MCD12C1.006.
    """
    import rasterio

    with rasterio.open(path) as raster:
        classes = raster.read(1)[::-1]
    _require(classes.shape == (3600, 7200), path, f"raster has shape {classes.shape}")
    _require(classes.max() <= 16, path, f"class {classes.max()} is none of IGBP's 0 to 16")
    weight = band_area(np.linspace(-90, 90, 3601)).reshape(360, 10)
    weight /= weight.sum(axis=1, keepdims=True)
    cells = classes.reshape(360, 10, 720, 10)
    cover = ((cells == k).mean(axis=3) for k in range(17))
    share = np.stack([np.einsum("arb,ar->ab", rows, weight) for rows in cover])
    land = 1.0 - share[0]
    land[land < 1e-9] = 0.0  # rounding
    with np.errstate(invalid="ignore"):
        return land, share[1:] / np.where(land > 0, land, np.nan)


def elevation(path: Path) -> Array:
    """Mean elevation of the land of a cell (lat, lon), m; bedrock where ice lies on it.

    Stored as bytes: 28 m a step from -450 m, 255 for none. Source: the table shipped with pvlib
    (Holmgren et al. 2018, doi:10.21105/joss.00884).
    """
    import h5py  # large, as rasterio is: not where a stored grid is read

    with h5py.File(path) as stream:
        raw = stream["Altitude"][:][::-1].astype(np.float64)
    _require(raw.shape == (2160, 4320), path, f"Altitude has shape {raw.shape}")
    metres = np.where(raw == 255, np.nan, raw * 28 - 450)
    return block_mean(metres, band_area(np.linspace(-90, 90, 2161))[:, None], 6)


def half_degree(path: Path, name: str) -> Array:
    """One static field (lat, lon) of a 0.5-degree NetCDF file, turned south to north."""
    with xr.open_dataset(path, decode_times=False) as ds:
        field = ds[name].squeeze(drop=True).sortby("lat").transpose("lat", "lon")
        lat, lon = centres()
        on_grid = field.shape == SHAPE and np.allclose(field["lat"], lat)
        _require(on_grid and np.allclose(field["lon"], lon), path, f"{name} is on another grid")
        return field.to_numpy().astype(np.float64)


def unit_vectors(lat: npt.ArrayLike, lon: npt.ArrayLike) -> Array:
    """Points on the unit sphere (..., 3) of positions in degrees."""
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def clm_land_table(path: Path, columns: Sequence[str]) -> list[Array]:
    """Columns of a table of CLM's 1.9 x 2.5 degree land cells, nearest cell within reach.

    Source: Wieder et al., biogeochemical testbed, doi:10.1111/gcb.13979.
    """
    table = pd.read_csv(path, index_col=False, skipinitialspace=True)  # rows end with a comma
    absent = [name for name in ("lat", "lon", *columns) if name not in table]
    _require(not absent, path, f"columns {', '.join(absent)} are missing")
    tree = cKDTree(unit_vectors(table["lat"], table["lon"]))
    points = unit_vectors(*np.meshgrid(*centres(), indexing="ij"))
    chord = 2 * np.sin(REACH / EARTH_RADIUS / 2)
    _, row = tree.query(points.reshape(-1, 3), distance_upper_bound=chord)
    values = table[list(columns)].to_numpy(dtype=np.float64)
    values = np.append(values, np.full((1, len(columns)), np.nan), axis=0)  # beyond reach
    return list(values[row].T.reshape(-1, *SHAPE))
