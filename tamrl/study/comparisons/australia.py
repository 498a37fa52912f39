"""A test apart: eleven Australian towers, beside products, by an ensemble that never saw them.

Of the towers of OzFlux (Burton et al. 2023, doi:10.5194/bg-20-4109-2023) these are not in
FLUXNET2015. The ensemble is trained anew without them and all places near them in its annual prior;
nothing was chosen by the result. It draws the average year of the map, and months of real years
from the towers' own monthly weather; products see the months of real years, too.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data import fetch_annual_towers, fetch_grid
from tamrl.data.grid import grid_at
from tamrl.data.koppen import KOPPEN_CODES
from tamrl.data.published import OZFLUX, fetch_ozflux
from tamrl.data.schema import DRIVERS, FLUXES, KOPPEN_MAIN
from tamrl.errors import DataError
from tamrl.evaluate.tables import read_plain, stored
from tamrl.files import atomic_write
from tamrl.maps.cells import ALIKE
from tamrl.samples.arrays import Samples, between_months, interpolate, make_samples
from tamrl.samples.average_year import at_towers, means_of_months
from tamrl.samples.phenology import from_season, with_phenology
from tamrl.samples.splits import BUFFER_KM, distance_km
from tamrl.shipped import ensemble, pretrained, weights_file
from tamrl.sources import load_training

CLASSES = {"AU-Col": "EBF"}  # jarrah forest; the others' are listed with the annual towers
AVERAGE, WEATHER = "ensemble, average year", "ensemble, the months' weather"
EVERY, TABLE = "all", "months.csv"
UNSEEN = "AusEFlux"  # is not: it learnt from these towers


def compute(
    out: Path | None = None, members: int = 3, jobs: int = 2, device: str = "cpu",
    weights: Path = Path("runs/australia.safetensors"),
) -> Path:  # fmt: skip
    """Train the ensemble without these towers, unless ``weights`` exist, and predict their months.

    Returns the path of the table: site, month, model, and GPP, RECO, NEE in gC m-2 d-1.
    """
    ozflux, (samples, training) = fetch_ozflux(), load_training("fluxnet2015")
    ozflux = ozflux.isel(site=~np.isin(ozflux["site"].values, samples.site))
    if not weights.exists():
        apart = _without(training, ozflux)
        models = ensemble.train(apart, ensemble.factory(device=device), members, 0, jobs)
        weights_file.save(models, weights, apart, towers=len(apart.site))
    loaded, header = weights_file.load(weights, "cpu")
    grid, towers = fetch_grid(), _towers(ozflux)
    real, months = _real_years(towers, grid)
    average = means_of_months(_predict(loaded, header, at_towers(real, grid)))
    daily = _predict(loaded, header, real)
    calendar = months.astype(int) % 12
    weather = _monthly(daily, real.time, months)
    found: dict[str, NDArray] = {AVERAGE: average[:, calendar], WEATHER: weather}
    days = (months + 1).astype("M8[D]") - months.astype("M8[D]")
    products = ozflux.reindex(month=months.astype("M8[ns]"))
    for name in ozflux["source"].values:
        each = [products[f].sel(source=name).transpose("site", "month").values for f in FLUXES]
        found[str(name)] = np.stack(each, -1) / days.astype(int)[:, None]
    rows = []
    for name, values in found.items():
        i, m = np.nonzero(np.isfinite(values).any(-1))
        columns = {f: values[i, m, k] for k, f in enumerate(FLUXES)}
        about = {"site": towers["site"].values[i], "month": months[m].astype(str), "model": name}
        rows.append(pd.DataFrame({**about, **columns}))
    path = (out or Path("results/australia")) / TABLE
    with atomic_write(path) as part:
        pd.concat(rows).to_csv(part, index=False, float_format="%.4g")
    return path


def _without(training: Samples, ozflux: xr.Dataset) -> Samples:
    """Drop places within 50 km of the towers from those with annual fluxes."""
    places = training.places
    assert places is not None
    lat = np.r_[places.other_lat, ozflux["lat"].values]
    lon = np.r_[places.other_lon, ozflux["lon"].values]
    n = len(places.other_lat)
    stay = (distance_km(lat, lon)[:n, n:] > BUFFER_KM).all(1)
    stay &= ~np.isin(places.other_site, ozflux["site"].values)
    names = ("other_x", "other_y", "other_lat", "other_lon", "other_site")
    kept = {name: getattr(places, name)[stay] for name in names}
    return replace(training, places=replace(places, **kept))


def _towers(ozflux: xr.Dataset) -> xr.Dataset:
    """Give what is known of the towers, with class, climate and elevation."""
    annual = fetch_annual_towers()
    listed = dict(zip(annual["site"].values, annual["igbp"].values.astype(str), strict=True))
    igbp = [CLASSES.get(site) or listed.get(site, "") for site in ozflux["site"].values]
    igbp = [ALIKE.get(code, code) for code in igbp]
    if "" in igbp:
        raise DataError(f"{ozflux['site'].values[igbp.index('')]}: no vegetation class is known")
    at = grid_at(fetch_grid(), ozflux["lat"], ozflux["lon"])
    koppen = np.array(("", *KOPPEN_CODES))[at["koppen"].to_numpy().astype(int)]
    main = [KOPPEN_MAIN.get(code[:1], "") for code in koppen]
    columns = {"igbp": np.array(igbp), "koppen": koppen, "koppen_main": np.array(main)}
    columns["elevation"] = at["elevation"].to_numpy()
    return ozflux.assign_coords({name: ("site", v) for name, v in columns.items()})


def _real_years(towers: xr.Dataset, grid: xr.Dataset) -> tuple[Samples, NDArray[np.datetime64]]:
    """Make samples of days between the months of the towers' weather; also their months."""
    first, last = towers["month"].values.astype("M8[M]")[[0, -1]]
    months = np.arange(first, last + 1)
    known = towers.reindex(month=months.astype("M8[ns]"))
    days = np.arange(first.astype("M8[D]"), (last + 1).astype("M8[D]"))
    between = between_months(months, days)
    daily = {}
    for name in DRIVERS:
        rows = known[name].transpose("site", "month").to_numpy().astype(np.float32)
        daily[name] = (("site", "time"), np.stack([interpolate(row, *between) for row in rows]))
    coords = {n: c for n, c in towers.coords.items() if c.dims == ("site",)}
    made = xr.Dataset(daily, {**coords, "time": days.astype("M8[ns]")}, {"virtual": 0})
    at = grid_at(grid, made["lat"], made["lon"])
    evi = from_season(at["EVI"], made["time"].to_numpy())
    return with_phenology(make_samples(made, None, grid), evi), months


def _predict(members: list, header: dict, samples: Samples) -> NDArray[np.float32]:
    """Mean over the members (site, day, flux)."""
    given = pretrained.suited(samples, header)
    everyone = np.arange(len(given.site))
    return np.mean([member.predict(given, everyone) for member in members], 0)


def _monthly(daily: NDArray, time: NDArray, months: NDArray) -> NDArray[np.float64]:
    """Average days to months (site, month, flux), NaN where a day is missing."""
    first = np.searchsorted(time.astype("M8[M]"), months)
    length = np.diff(np.append(first, len(time)))
    return np.add.reduceat(daily.astype(float), first, axis=1) / length[:, None]


def load() -> pd.DataFrame:
    """Read the stored table."""
    path = stored("australia") / TABLE
    if not path.exists():
        raise DataError(f"{path}: no such table; compute it: tamrl compare australia")
    return read(path)


def read(path: Path) -> pd.DataFrame:
    """Read the table that `compute` wrote."""
    return read_plain(path, "site", "month", *FLUXES)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Score each product, and the ensemble on the same tower-months, against the measurements.

    Columns months_of (the product whose months they are, or `EVERY` for all that the ensemble
    has), model, flux, towers, months, RMSE, bias, tower_RMSE (mean over towers), gC m-2 d-1.
    """
    rows, own = [], [AVERAGE, WEATHER]
    for flux in FLUXES:
        wide = table.pivot_table(flux, ["site", "month"], "model").dropna(axis=1, how="all")
        for product in [EVERY, *wide.columns.drop([OZFLUX, *own])]:
            models = own if product == EVERY else [product, *own]
            here = wide[[OZFLUX, *models]].dropna()
            for model in models:
                e = here[model] - here[OZFLUX]
                by = (e**2).groupby("site").mean()
                rows.append({"months_of": product, "model": model, "flux": flux,
                             "towers": len(by), "months": len(e), "RMSE": np.sqrt((e**2).mean()),
                             "bias": e.mean(), "tower_RMSE": np.sqrt(by).mean()})  # fmt: skip
    return pd.DataFrame(rows)


def values(scored: pd.DataFrame) -> dict[str, str]:
    """Gather what the pages quote of `scores`: by product the RMSE, and in brackets the ensemble's.

    These are of the average year and of the months' weather, on the product's months; then on all
    months, how many these are, and which products have a lower RMSE than the average year.
    """
    out: dict[str, str] = {}
    lower: dict[str, list[str]] = {"RMSE": [], "tower_RMSE": []}
    for (product, flux), rows in scored.groupby(["months_of", "flux"], sort=False):
        of = rows.set_index("model").to_dict("index")
        texts = {model: f"{row['RMSE']:.2f}" for model, row in of.items()}
        both, name = f"{texts[AVERAGE]}, {texts[WEATHER]}", str(product).lower()
        out[f"apart_{name}"] = f"{of[AVERAGE]['months']} of {of[AVERAGE]['towers']} towers"
        if product == EVERY:
            out[f"apart_{name}_{flux}"] = both
            continue
        out[f"apart_{name}_{flux}"] = f"{texts[product]} ({both})"
        for score, found in lower.items():
            if product != UNSEEN and of[product][score] < of[AVERAGE][score]:
                found.append(f"{product} ({flux})")
    return out | {f"apart_lower_{score}": ", ".join(of) or "none" for score, of in lower.items()}
