"""CarbonFluxBench, the benchmark of TAM-RL's authors: its files checked and made towers of.

Rozanov, Renganathan and Kumar (2026), arXiv 2603.09974; each user downloads `URL` (MIT). Rows are
cleaned as in github.com/alexxxroz/CarbonFluxBench, so that splits and test days agree.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data import daily, schema
from tamrl.data.physics import KELVIN, saturation_pressure
from tamrl.errors import DataError

URL = "https://huggingface.co/datasets/alexroz/CarbonFluxBench"
TOWERS = 474  # of the whole benchmark, as published
FLUXES, MODIS, ERA5 = "target_fluxes_v2.parquet", "MOD09GA.parquet", "ERA5.parquet"
JSON = ("feature_sets.json", "koppen_sites.json", "koppen_sites_short.json")
FIRST_DAY = pd.Timestamp("2000-02-24")  # of MODIS; the authors leave earlier labels out
PAST = pd.Timedelta(90, "D")  # of drivers before the first label: the longest past mean of a model
LABELS = {f"{n}_VUT_USTAR50": n[:4].rstrip("_") for n in ("GPP_NT", "RECO_NT", "NEE")}
LABELS["NEE_VUT_USTAR50_QC"] = "NEE_QC"
PLACE = ["lat", "lon", "IGBP", "Koppen", "Koppen_short"]
REFLECTANCE = [f"sur_refl_b0{band}" for band in range(1, 8)]
BANDS = [*REFLECTANCE, "SensorZenith", "SensorAzimuth", "SolarZenith", "SolarAzimuth", "clouds"]
TA, DEW, SUN = "temperature_2m", "dewpoint_temperature_2m", "surface_solar_radiation_downwards_sum"
RAIN = "total_precipitation_sum"
LIGHT, WET, SCALED = 1e6, 0.1, 200.0  # least greatest SUN, J m-2 d-1; mean RAIN, m d-1; 1e-4
EXTREMES = {"TA_min": f"{TA}_min", "TA_max": f"{TA}_max"}  # not in the minimal set
# Of ERA5-Land and MODIS; wide, to catch wrong units and codes of missing values.
RANGES = {TA: ("K", 170.0, 340.0), DEW: ("K", 150.0, 320.0), SUN: ("J m-2 d-1", -1e5, 4.8e7)}
RANGES |= {RAIN: ("m d-1", -1e-3, 2.0)} | dict.fromkeys(EXTREMES.values(), ("K", 170.0, 345.0))
RANGES |= dict.fromkeys(REFLECTANCE, ("(share, or its 1e-4)", -100.0, 16000.0))
for _file, _name in LABELS.items():
    RANGES[_file] = (v := schema.VARIABLES[_name]).units, v.low, v.high
NUMBERS = (*RANGES, *BANDS, "lat", "lon")


class Benchmark(NamedTuple):
    """Tables with a row a tower-day (site, date), each once.

    ``labels``: `PLACE`, GPP, RECO, NEE (gC m-2 d-1, as they are: they need not close), NEE_QC
    (share), none missing; ``era5`` in its own units; ``modis``: `BANDS`; ``minimal``: the authors'
    least drivers; ``towers``, ``days`` of the label file; ``doubled``: rows left out of all files.
    """

    folder: Path
    labels: pd.DataFrame
    era5: pd.DataFrame
    modis: pd.DataFrame
    minimal: list[str]
    towers: int
    days: int
    doubled: int


def read_benchmark(folder: Path | str) -> Benchmark:
    """Read a folder; DataError: a file, a column or pyarrow lacks, or a value is not possible."""
    folder = Path(folder)
    absent = [n for n in (FLUXES, MODIS, ERA5, *JSON) if not (folder / n).is_file()]
    if absent:
        how = "(MIT) into this folder, e.g. git clone it with Git LFS, and name it by --folder"
        raise DataError(f"{folder}: no {', '.join(absent)}; download {URL} {how}")
    try:
        sets, main, short = (json.loads((folder / name).read_text("utf-8")) for name in JSON)
        minimal = list(sets["minimal"])
        classes = {"Koppen": dict(main), "Koppen_short": dict(short)}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: {', '.join(JSON)} are damaged ({error!r})") from error
    raw, twice = _table(folder / FLUXES, "TIMESTAMP", ["lat", "lon", "IGBP", *LABELS])
    named = {name: raw.site.map(of) for name, of in classes.items()}
    labels = raw[raw.date >= FIRST_DAY].assign(**named).rename(columns=LABELS).dropna()
    labels[["lat", "lon"]] = labels[["lat", "lon"]].round(3)
    era5, more = _table(folder / ERA5, "date", [TA, DEW, SUN, RAIN, *minimal])
    modis, most = _table(folder / MODIS, "date", BANDS)
    if why := _impossible(labels, era5, modis):
        raise DataError(f"{folder}: {why}; download it again, or convert it back")
    counts = raw.site.nunique(), len(raw), twice + more + most
    return Benchmark(folder, labels, era5, modis, minimal, *counts)


def _impossible(labels: pd.DataFrame, era5: pd.DataFrame, modis: pd.DataFrame) -> str:
    """Say what no such tables hold though each value could be; "" if nothing."""
    if modis.empty:
        return f"{MODIS} has no row"
    if era5[SUN].max() < LIGHT:
        return f"{SUN} never exceeds {era5[SUN].max():.4g}, so it is not in J m-2 d-1"
    if era5[RAIN].mean() > WET:
        return f"{RAIN} is {era5[RAIN].mean():.3g} in the mean, so it is not in m d-1"
    if (era5[DEW] > era5[TA] + 1).mean() > 0.5:
        return f"{DEW} is above {TA} on most days"
    scaled = modis[REFLECTANCE].max().dropna() > 2  # whole numbers of 1e-4, or shares
    if scaled.any() and (not scaled.all() or modis[REFLECTANCE].max().min() < SCALED):
        return f"the reflectances {', '.join(REFLECTANCE)} are not all in 1e-4, or all shares"
    net = labels.RECO - labels.GPP
    if (labels.NEE - net).abs().sum() > 2 * (labels.NEE + net).abs().sum():
        return "NEE is GPP - RECO, so its sign is turned"
    return ""


def _table(path: Path, date: str, columns: list[str]) -> tuple[pd.DataFrame, int]:
    """Columns beside site and date, in range, each tower-day once; and how many rows doubled."""
    columns = list(dict.fromkeys(["site", date, *columns]))
    try:
        import pyarrow.parquet as pq

        there = pq.read_schema(path).names
        columns += [n for n in EXTREMES.values() if n in there and n not in columns]
        table = pd.read_parquet(path, columns=[n for n in columns if n in there])
    except ImportError as error:
        raise DataError(f"{path}: install pyarrow: pip install 'tamrl[benchmark]'") from error
    except (OSError, ValueError) as error:  # a pointer of Git LFS, for one
        raise DataError(f"{path}: not a readable table ({error}); download it again") from error
    for name in (n for n in columns if n not in there):
        raise DataError(f"{path}: column {name} is missing; have {', '.join(there[:20])}")
    if date == "TIMESTAMP":  # as 20040131
        table = table.replace(-9999, np.nan).astype({date: str})
    try:
        table["date"] = pd.to_datetime(table.pop(date)).dt.tz_localize(None)
        codes = {s: s.split("_")[1] if "_" in s else s for s in table.site.unique()}
        words = table[[n for n in NUMBERS if n in table]].select_dtypes(exclude="number")
        table = table.astype(dict.fromkeys(words, float))
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not as published ({error}); download it again") from error
    table["site"] = table.site.map(codes)  # FLX_, AMF_, ICOSETC_ or JPX_ stand before the code
    if len(odd := table.date[table.date != table.date.dt.normalize()]):
        raise DataError(f"{path}: {odd.iloc[0]} is no day; a row is a day")
    for name, (unit, low, high) in RANGES.items():
        if name in table and (bad := (table[name] < low) | (table[name] > high)).any():
            site, day, value = table.loc[bad, ["site", "date", name]].iloc[0]
            where = f"{path}: tower {site}, {day:%Y-%m-%d}: {name} is {value:.6g}"
            raise DataError(f"{where}, outside {low:g} to {high:g} {unit}; check the units")
    doubled = table.duplicated(["site", "date"])
    return table[~doubled].reset_index(drop=True), int(doubled.sum())


def benchmark_towers(bench: Benchmark) -> xr.Dataset:
    """Daily towers (site, time) as `tamrl.data.fetch_towers` gives them, drivers of ERA5-Land.

    TA of 2 m; VPD of daily means of TA and dew point; SW_IN the mean of the day's sum. Days are of
    UTC in ERA5-Land, local in the labels. Drivers span from 90 days before a tower's first label to
    its last, days without a label too. attrs["excluded"] names towers without drivers, left out.
    """
    era5, labels = bench.era5, bench.labels
    ta, dew = era5[TA] - KELVIN, saturation_pressure(era5[DEW] - KELVIN)
    columns = {"site": era5.site, "date": era5.date, "TA": ta, "SW_IN": era5[SUN] / 86400}
    columns |= {n: era5[c] - KELVIN for n, c in EXTREMES.items() if c in era5}
    for name, warm in (("VPD", "TA"), ("VPD_max", "TA_max")):
        if warm in columns:
            columns[name] = (saturation_pressure(columns[warm]) - dew).clip(lower=0)
    weather = pd.DataFrame(columns).dropna(subset=[*schema.DRIVERS]).set_index("date")
    own, towers = dict(list(weather.groupby("site"))), dict[str, daily.TowerDays]()
    for site, rows in labels.set_index("date").groupby("site"):
        span = slice(rows.index.min() - PAST, rows.index.max())
        drivers = own[site].sort_index().loc[span] if site in own else weather[:0]
        if len(drivers):
            both = rows[[*LABELS.values()]].join(drivers.drop(columns="site"), how="outer")
            data = {str(name): both[name].to_numpy() for name in both}
            towers[str(site)] = daily.TowerDays(both.index.to_numpy().astype("M8[D]"), data)
    if not towers:
        raise DataError(f"{bench.folder}: no tower has both labels in {FLUXES} and days in {ERA5}")
    facts = labels.groupby("site")[PLACE].first()
    facts = facts.rename(columns={"IGBP": "igbp", "Koppen_short": "koppen"})
    ds = schema.validate(daily.assemble(towers, facts), str(bench.folder))
    return ds.assign_attrs(
        title="Towers of CarbonFluxBench", source=URL, licence="MIT", virtual=0,
        citation="Rozanov, Renganathan and Kumar (2026), arXiv 2603.09974", registry_sha256="",
        tower_source="carbonfluxbench", excluded=", ".join(sorted(set(facts.index) - set(towers))),
    )  # fmt: skip


def benchmark_predictors(bench: Benchmark) -> xr.Dataset:
    """Predictors (site, month) for `tamrl.samples.arrays.make_samples`, and daily EVI beside them.

    PRCP, mm d-1, of ERA5-Land; NDWI, the month's median, of MODIS bands 2 and 6, as the towers'
    (`tamrl.data.own.water`); EVI (site, time) of bands 1 to 3 (Huete et al. 2002,
    doi 10.1016/S0034-4257(02)00096-2), the median of 31 days with at least three clear ones, linear
    between, for `tamrl.samples.phenology`. NaN where nothing was seen.
    """
    scale = 1e-4 if np.nanmax(bench.modis[REFLECTANCE].to_numpy()) > 2 else 1.0  # MOD09GA's
    red, nir, blue, swir = (scale * bench.modis[REFLECTANCE[i]] for i in (0, 1, 2, 5))
    evi = 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)
    seen = pd.DataFrame({"EVI": evi, "NDWI": (nir - swir) / (nir + swir)})
    seen = seen.where(seen.abs() <= 1).join(bench.modis[["site", "date"]])
    rain, month = bench.era5, pd.Grouper(key="date", freq="MS")
    prcp = rain.groupby(["site", month])[RAIN].mean().clip(lower=0) * 1000
    monthly = pd.DataFrame({"PRCP": prcp, "NDWI": seen.groupby(["site", month]).NDWI.median()})
    ds = monthly.astype(np.float32).to_xarray().rename(date="month")
    wide = seen.pivot_table("EVI", "date", "site").resample("D").asfreq()
    smooth = wide.rolling(31, center=True, min_periods=3).median()
    smooth = smooth.interpolate(limit=60, limit_area="inside").astype(np.float32)
    axes = {"site": smooth.columns.to_numpy(str), "time": smooth.index.to_numpy()}
    ds = ds.assign_coords(site=ds.site.to_numpy().astype(str))
    ds["EVI"] = xr.DataArray(smooth.to_numpy().T, axes, ("site", "time"))
    for name, unit in (("PRCP", "mm d-1"), ("NDWI", "1"), ("EVI", "1")):
        ds[name].attrs["units"] = unit
    return ds.assign_attrs(source=URL)
