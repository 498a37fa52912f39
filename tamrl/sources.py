"""Data of a study: real towers where they can be had, else simulated ones, with a warning."""

import sys

import xarray as xr

from tamrl.data import fetch_annual_towers, fetch_grid, fetch_tower_predictors, fetch_towers, towers
from tamrl.data.phenology import fetch_phenology
from tamrl.data.towers import fetch_daytime_gpp
from tamrl.errors import DataError
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.labels import with_mean_labels, with_tower_weights
from tamrl.samples.neighbourhood import with_neighbourhoods
from tamrl.samples.phenology import with_phenology
from tamrl.virtual.grid import virtual_grid
from tamrl.virtual.phenology import virtual_phenology
from tamrl.virtual.towers import virtual_predictors, virtual_towers

SOURCES = ("auto", "fluxnet2015", "virtual")


def load_towers(source: str = "auto") -> xr.Dataset:
    """Daily towers (site, time), real or virtual; attrs["virtual"] says which.

    ``source`` "fluxnet2015": the real towers or DataError; "virtual": the simulated ones; "auto":
    the real ones if cache, mirror or network have them, else, after a warning on the first line of
    standard error, the simulated ones. DataError for another source.
    """
    if source not in SOURCES:
        raise DataError(f"towers={source!r} is unknown; use one of {', '.join(SOURCES)}")
    if source == "fluxnet2015":
        return fetch_towers()
    if source == "auto":
        reason = "neither cache, mirror nor network has the FLUXNET2015 files"
        try:
            if towers.available():
                return fetch_towers()
        except DataError as error:
            reason = str(error)
        sys.stderr.write(
            "VIRTUAL TOWERS: every number, figure and file of this run comes from a simulation, "
            f"because the real towers could not be had ({reason}). Set TAMRL_DATA_MIRROR to a "
            "directory with the files, or connect to the network, for real ones.\n"
        )
    return virtual_towers()


def load_predictors(towers: xr.Dataset) -> xr.Dataset:
    """Monthly predictors (site, month) of these towers, real or virtual; errors as of `fetch`."""
    return virtual_predictors(towers) if towers.attrs["virtual"] else fetch_tower_predictors()


def load_phenology(towers: xr.Dataset) -> xr.DataArray:
    """Daily EVI (site, time) of these towers, real or virtual; errors as of `fetch`."""
    evi = virtual_phenology(towers) if towers.attrs["virtual"] else fetch_phenology()
    return evi.reindex(time=towers.time)


def load_daytime_gpp(towers: xr.Dataset) -> xr.DataArray:
    """GPP (site, time) by daytime partitioning, gC m-2 d-1; at virtual towers there is but one."""
    return towers.GPP if towers.attrs["virtual"] else fetch_daytime_gpp().GPP_DT


def load_grid(towers: xr.Dataset, resolution: float = 0.5) -> xr.Dataset:
    """Predictor cube (month, lat, lon) of the real globe, with a ``resolution`` of 0.5 or 1 degree.

    For virtual towers it is the simulated globe on which they were generated, at 2 degrees.
    """
    if towers.attrs["virtual"]:
        return virtual_grid(seed=towers.attrs["virtual_seed"])
    return fetch_grid(resolution)


def load_others(towers: xr.Dataset) -> xr.Dataset | None:
    """Towers with annual fluxes only, beside the real ones; simulated ones have none: None."""
    return None if towers.attrs["virtual"] else fetch_annual_towers()


def load_samples(source: str = "auto", every: int = 1) -> Samples:
    """Towers with their satellite and gridded predictors, ready for any model.

    Labels are those that are scored, by night-time partitioning. ``source`` and errors are those of
    `load_towers`; ``every`` = 3 takes a third of the towers.
    """
    return load_training(source, every)[0]


def load_training(
    source: str = "auto", every: int = 1, phenology: bool = True
) -> tuple[Samples, Samples]:
    """Make samples to score, and to learn from, with labels and weights of `tamrl.samples.labels`.

    Arguments and errors as of `load_samples`; without ``phenology`` there is no daily vegetation
    index, and labels and weights to learn from are those that are scored.
    """
    towers = load_towers(source).isel(site=slice(None, None, every))
    monthly, cube, others = load_predictors(towers), load_grid(towers), load_others(towers)
    samples = with_neighbourhoods(make_samples(towers, monthly, cube, others=others), cube)
    if not phenology:
        return samples, samples
    samples = with_phenology(samples, load_phenology(towers))
    return samples, with_tower_weights(with_mean_labels(samples, load_daytime_gpp(towers)))
