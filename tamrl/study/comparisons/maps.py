"""The map as a rival among rivals: mean seasons at towers that its members never saw.

Each fold's ensemble draws an average year at its own test towers, from their cells of the grid: as
the towers' class, and as the map shows the cell, a mixture of classes. Beside it stand the same
ensembles with the towers' own weather, boosted trees on the grid (FLUXCOM-style), and FLUXCOM.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.grid import grid_at
from tamrl.data.reference import fetch_reference_gpp
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.learner import walk
from tamrl.evaluate.tables import read_plain, stored
from tamrl.files import atomic_write
from tamrl.maps import monthly
from tamrl.maps.cells import AVERAGE_YEAR, Cells
from tamrl.maps.cubes import stack_features
from tamrl.maps.ensemble import EnsembleMap
from tamrl.maps.training import monthly_training_table, table_samples, with_fluxes
from tamrl.maps.upscale import upscale
from tamrl.samples.arrays import Samples
from tamrl.samples.average_year import mean_season
from tamrl.samples.missing import without
from tamrl.samples.phenology import from_season, with_phenology, without_phenology
from tamrl.shipped import pretrained, weights_file
from tamrl.shipped.annual import AnnualPrior, AnnualRescaling
from tamrl.shipped.calibration import average_cases
from tamrl.shipped.out_of_fold import FoldEnsemble, predict_held_out
from tamrl.sources import load_grid, load_towers
from tamrl.study.comparisons.of_folds import of_folds

AVERAGE, CELL = "average year", "average year, the cell's classes"
MONTHS = "average year, the tower's own months"
WEATHER, SATELLITES = "own weather", "own weather and satellites"
BOOSTED, PRIOR, FLUXCOM = "boosted trees on the grid", "annual prior alone", "FLUXCOM"
MODELS = (AVERAGE, CELL, MONTHS, WEATHER, SATELLITES, BOOSTED, PRIOR, FLUXCOM)
ANNUAL = (PRIOR, FLUXCOM)  # have no months: one mean of the year stands in all of them
SEASONS, FOLD_MAPS = "seasons.csv", "folds.nc"
STRIDE = 4  # every fourth cell in each direction is mapped by all folds


def compute(
    towers: str = "auto", out: Path | None = None, every: int = 1, members: int = 3,
    jobs: int = 2, **settings: Any,
) -> Path:  # fmt: skip
    """Predict the mean season of every tower by models without it, map each fold's ensemble.

    Arguments as of `tamrl.study.comparisons.of_folds.of_folds`. Returns the folder of the tables:
    seasons.csv (site, fold, month, days, then flux and model, gC m-2 d-1) and folds.nc (flux by
    fold, lat, lon).
    """
    settings |= {"every": every, "members": members, "jobs": jobs}
    samples, each, source, folder = of_folds("map", towers, out, **settings)
    daily = load_towers(towers).isel(site=slice(None, None, every))
    grid = load_grid(daily)
    with atomic_write(folder / SEASONS) as part:
        table = seasons(daily, samples, each, grid, members, jobs)
        table.to_csv(part, index=False, float_format="%.4g")
    stride = 1 if samples.attrs["virtual"] else STRIDE
    maps = fold_maps(each, grid, source / "map-of-folds", stride)
    with atomic_write(folder / FOLD_MAPS) as part:
        pack = {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768, "zlib": True}
        maps.to_netcdf(part, encoding=dict.fromkeys(FLUXES, pack))
    return folder


def seasons(
    towers: xr.Dataset, samples: Samples, ensembles: Sequence[FoldEnsemble], grid: xr.Dataset,
    members: int = 3, jobs: int = 1,
) -> pd.DataFrame:  # fmt: skip
    """Tabulate observed and predicted mean seasons: site, month, days, "GPP observed", ...

    A row for each month of a tower with ten good days; ``spread`` is that of the members' average
    year. FLUXCOM has GPP alone.
    """
    average = average_cases(samples, ensembles, grid, jobs)
    at = pd.Index(average.site.values)
    found: dict[str, NDArray] = {AVERAGE: np.moveaxis(average["mean"].to_numpy(), 0, -1)}
    rows = pd.Index(samples.site).get_indexer(at)
    found[CELL] = _of_cells(samples, ensembles, grid)[rows]
    own = average_cases(samples, ensembles, grid, jobs, own=True)
    found[MONTHS] = np.moveaxis(own["mean"].to_numpy(), 0, -1)
    lacking = without_phenology(without(samples, ("satellites",)))
    cells = grid_at(grid, xr.DataArray(samples.table.lat, {"site": samples.site}, "site"),
                    samples.table.lon)  # fmt: skip
    green = with_phenology(lacking, from_season(cells["EVI"], samples.time.astype("M8[ns]")))
    for name, given in ((WEATHER, green), (SATELLITES, samples)):
        found[name] = _mean_season(samples, predict_held_out(given, ensembles, jobs))
    found[BOOSTED] = _boosted(towers, samples, ensembles, grid, members, jobs, at)
    found[PRIOR] = np.repeat(_prior(samples, ensembles)[rows][:, None], 12, 1)
    if not samples.attrs["virtual"]:
        reference = fetch_reference_gpp()["GPP"]
        cell = {n: cells[f"cell_{n}"].to_numpy()[rows] for n in ("lat", "lon")}
        where = {n: xr.DataArray(values, dims="site") for n, values in cell.items()}
        gpp = reference.sel(where, method="nearest").to_numpy()
        found[FLUXCOM] = np.full(found[AVERAGE].shape, np.nan)
        found[FLUXCOM][..., 0] = gpp[:, None]
    observed, days = np.moveaxis(average["observed"].to_numpy(), 0, -1), average["days"].to_numpy()
    i, month = np.nonzero(days > 0)
    fold = {s: k for k, each in enumerate(ensembles) for s in samples.site[each.test]}
    columns = {"site": at[i], "fold": at.map(fold)[i], "month": month + 1, "days": days[i, month]}
    spread = np.moveaxis(average["spread"].to_numpy(), 0, -1)
    for name, values in ({"observed": observed, "spread": spread} | found).items():
        columns |= {f"{f} {name}": values[i, month, k] for k, f in enumerate(FLUXES)}
    return pd.DataFrame(columns).dropna(axis=1, how="all")


def _mean_season(samples: Samples, predicted: xr.Dataset) -> NDArray:
    """Mean season (site, 12, flux) of predictions on the days that the observed one is of."""
    at = pd.Index(samples.site).get_indexer(predicted.site.values)
    mean = np.stack([predicted[f].mean("seed").to_numpy() for f in FLUXES], -1)
    weight = np.where(np.isfinite(mean).all(-1), samples.weight[at], 0)
    return mean_season(mean, weight, samples.time)[0]


def _of_cells(samples: Samples, ensembles: Sequence[FoldEnsemble], grid: xr.Dataset) -> NDArray:
    """Mean season (site, 12, flux) of the towers' cells, as a map shows them."""
    out = np.full((len(samples.site), 12, len(FLUXES)), np.nan)
    for each in ensembles:
        table = samples.table.iloc[each.test]
        cells = grid_at(grid, table.lat.to_numpy(), table.lon.to_numpy())
        x = stack_features(cells, AVERAGE_YEAR, ("site",))
        known = np.isfinite(x).all((1, 2))
        model = _map_of(each, grid)
        out[each.test[known]] = model(x[known]).flux.mean(0)
    return out


def _prior(samples: Samples, ensembles: Sequence[FoldEnsemble]) -> NDArray:
    """Mean annual fluxes (site, flux) by the prior of members that never saw the tower."""
    out = np.full((len(samples.site), len(FLUXES)), np.nan)
    for each in ensembles:
        held = samples.select(each.test)
        priors = []
        for path in each.members:
            (member,), header = weights_file.load(path, "cpu")
            given = pretrained.suited(held, header)
            parts = (p for p in walk(member, True) if isinstance(p, AnnualPrior | AnnualRescaling))
            priors.append(next(parts).prior_of(given))  # one prior serves all parts of a member
        mean = np.mean(priors, 0)
        out[each.test] = np.column_stack([mean, mean[:, 1] - mean[:, 0]])
    return out


def _map_of(fold: FoldEnsemble, grid: xr.Dataset) -> EnsembleMap:
    """Make a map model of an average year of the members of a fold."""
    loaded = [weights_file.load(path, "cpu") for path in fold.members]
    members = [member for stored_, _ in loaded for member in stored_]
    return EnsembleMap(members, loaded[0][1], Cells(AVERAGE_YEAR, None, grid))


def _boosted(
    towers: xr.Dataset, samples: Samples, ensembles: Sequence[FoldEnsemble], grid: xr.Dataset,
    members: int, jobs: int, site: pd.Index,
) -> NDArray:  # fmt: skip
    """Mean season (site, 12, flux) by boosted trees that learn from the same towers."""
    table = with_fluxes(monthly_training_table(towers, grid))
    seasonal = table_samples(table)
    fold = np.full(len(seasonal.site), -1)
    for k, each in enumerate(ensembles):
        fold[np.isin(seasonal.site, samples.site[each.test])] = k
    mean = monthly.out_of_fold(monthly.BoostedMap(), seasonal, fold, members, 0, jobs)["mean"]
    return mean.reindex(site=site).to_numpy()


def fold_maps(
    ensembles: Sequence[FoldEnsemble], grid: xr.Dataset, folder: Path, stride: int = STRIDE
) -> xr.Dataset:
    """Annual mean GPP, RECO, NEE (fold, lat, lon) of every ``stride``-th cell, by each fold.

    Their spread says how far the choice of towers moves the map (block jackknife over folds).
    """
    some = grid.drop_vars(["lat_bnds", "lon_bnds"], errors="ignore")
    some = some.isel({d: slice(stride // 2, None, stride) for d in ("lat", "lon")})
    maps = []
    for k, each in enumerate(ensembles):
        model = _map_of(each, grid)
        drawn = upscale(model, some, folder / f"{k}-{model.digests[0][:12]}.zarr")
        maps.append(xr.Dataset({f: drawn[f"{f}_member"].mean("member") for f in FLUXES}).load())
    return xr.concat(maps, xr.Variable("fold", np.arange(len(maps))), coords="minimal").astype(
        np.float32
    )


def load(towers: str = "auto", **settings: Any) -> tuple[pd.DataFrame, xr.Dataset]:
    """Read the stored tables of real towers, or compute those of virtual ones."""
    auto = towers == "auto"
    if towers == "virtual" or (auto and load_towers(towers).attrs["virtual"]):
        folder = compute(towers, **settings)
    else:
        folder = stored("map")
    if not (folder / SEASONS).exists():
        raise DataError(f"{folder}: no tables of the map; compute them: tamrl compare map")
    return read(folder), xr.load_dataset(folder / FOLD_MAPS)


def read(folder: Path) -> pd.DataFrame:
    """Read `seasons` that `compute` wrote to a folder."""
    return read_plain(folder / SEASONS, "site", "fold", "month", "days")
