"""What an ensemble's bounds and its adaptation rest on: errors at towers that it never saw.

A user may lack satellites, a vegetation index or the grid. Bounds are calibrated for every such
combination, by taking away from all towers what is missing, so that 90 % mean 90 % there, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.intervals import DIMS, PERIODS, calibrate, cases
from tamrl.samples.arrays import Samples
from tamrl.samples.average_year import AVERAGE, at_towers, mean_season, means_of_months
from tamrl.samples.missing import INPUTS, key, without
from tamrl.shipped.adaptation import day_of_year, labelled_days
from tamrl.shipped.error_model import ErrorModel, Window, basis, learn, window
from tamrl.shipped.out_of_fold import FoldEnsemble, predict_held_out

LENGTHS = (30, 90, 365)  # labelled days of the windows that adaptation is learnt from
DAYS = {30: 30, 90: 45, 365: 73}  # of a window that are looked at: neighbours err alike
STARTS = 3  # windows of each length a tower, at random
GAP = 10  # days beside labelled ones that are not scored either: weather lasts
MIN_SCORED = 180  # days left to score
FEWEST = 19  # towers that both tails of 90 % need


Bounds = dict[str, dict[str, Conformal]]  # by period and flux


def intervals_without(
    samples: Samples, ensembles: Sequence[FoldEnsemble], jobs: int = 1
) -> dict[str, Bounds]:
    """Calibrate bounds by `key` of what is there, period and flux; all there: as the towers are.

    Periods are day, month and year, all in gC m-2 d-1: means, not sums.
    """
    igbp, out = samples.table.igbp.to_numpy(str), {}
    for missing in (m for n in range(len(INPUTS) + 1) for m in combinations(INPUTS, n)):
        predicted = predict_held_out(without(samples, missing), ensembles, jobs)
        at = np.searchsorted(samples.site, predicted.site.values)
        name = key(each not in missing for each in INPUTS)
        tables = {p: _means(cases(predicted, samples, p)) for p in PERIODS}
        out[name] = {p: _fitted(table, igbp[at], p) for p, table in tables.items()}
    return out


def _fitted(table: xr.Dataset, igbp: NDArray[np.str_], period: str) -> dict[str, Conformal]:
    """Calibrate bounds; of means, none where too few towers have a whole month or year."""
    known = (table["observed"] + table["mean"] + table["spread"]).notnull().any("time")  # noqa: PD004
    few = int(known.sum("site").min()) < FEWEST
    return {} if few and period != "day" else calibrate(table, igbp)


def _means(table: xr.Dataset) -> xr.Dataset:
    """Turn sums over the periods of `cases` into means over their days."""
    unit = PERIODS[table.attrs["period"]]
    first = table.time.values.astype(f"datetime64[{unit}]")
    days = np.diff(np.stack([first, first + 1]).astype("datetime64[D]"), axis=0)[0].astype(int)
    return table if unit == "D" else table / xr.DataArray(days, {"time": table.time}, "time")


def average_cases(samples: Samples, ensembles: Sequence[FoldEnsemble], grid: xr.Dataset,
                  jobs: int = 1, own: bool = False) -> xr.Dataset:  # fmt: skip
    """Mean seasons of every tower, by members without it that know its cell of the grid alone.

    ``own``: and the mean months of its own weather.

    Returns observed, mean and spread (flux, site, time) of twelve months as `cases` does, gC m-2
    d-1, and the days (site, time) behind what was observed.
    """
    predicted = predict_held_out(at_towers(samples, grid, own), ensembles, jobs)
    each = np.stack([predicted[f].transpose("seed", "site", "time").to_numpy() for f in FLUXES], -1)
    months = np.moveaxis(means_of_months(each), -1, 0)  # (flux, seed, site, month)
    at = pd.Index(samples.site).get_indexer(predicted.site.values)
    observed, days = mean_season(samples.y, samples.weight, samples.time)
    values = {"observed": np.moveaxis(observed[at], -1, 0), "mean": months.mean(1)}
    fields = {n: (DIMS, v) for n, v in (values | {"spread": months.std(1)}).items()}
    axes = {"flux": list(FLUXES), "site": predicted.site.values, "time": np.arange(1, 13)}
    return xr.Dataset(fields | {"days": (DIMS[1:], days[at])}, axes)


def average_year_intervals(table: xr.Dataset, samples: Samples) -> Bounds:
    """Calibrate bounds of months, and of the mean over all twelve, on `average_cases`."""
    igbp = samples.table.igbp.to_numpy(str)[pd.Index(samples.site).get_indexer(table.site.values)]
    months = table[["observed", "mean", "spread"]]
    whole = months.mean("time", skipna=False).expand_dims(time=[0], axis=2)
    return {"month": _fitted(months, igbp, "month"), "year": _fitted(whole, igbp, "year")}


def split_days(
    samples: Samples, tower: int, days: int, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Days (time,) of a tower to learn from, a random run of labelled ones, and days to score.

    These are more than 10 days from those. None for a record too short for both.
    """
    on = np.flatnonzero(labelled_days(samples, least=0)[tower])
    if len(on) < days:
        return None
    first = rng.integers(len(on) - days + 1)
    chosen = on[first : first + days]
    given, scored = np.zeros(len(samples.time), bool), samples.scored[tower].copy()
    given[chosen] = True
    scored[max(chosen[0] - GAP, 0) : chosen[-1] + GAP + 1] = False
    return (given, scored) if scored.sum() >= MIN_SCORED else None


def tower_rng(samples: Samples, tower: int, seed: int = 0) -> np.random.Generator:
    """Random numbers of a tower that do not depend on which other towers there are."""
    return np.random.default_rng([seed, *(ord(letter) for letter in samples.site[tower])])


def windows(
    samples: Samples, flux: NDArray[np.float32], towers: Iterable[int], starts: int = STARTS
) -> dict[int, list[Window]]:
    """Windows of labels, by length, of towers (indices) that predicted ``flux`` has not seen.

    ``flux`` (site, time, flux), gC m-2 d-1, missing where labels do not count. See `split_days`.
    """
    out = {days: list[Window]() for days in LENGTHS}
    time, doy = samples.time.astype("datetime64[D]").astype(float), day_of_year(samples.time)
    for tower in towers:
        own, lat = flux[tower, :, :2].astype(float), float(samples.table.lat.iloc[tower])
        terms, rng = basis(own, doy, lat), tower_rng(samples, tower)
        for days, _ in product(LENGTHS, range(starts)):
            if (split := split_days(samples, tower, days, rng)) is not None:
                labels = samples.y[tower, :, :2].astype(float)
                out[days].append(window(time, own, labels, terms, *split, DAYS[days]))
    return out


def learn_errors(
    samples: Samples, predicted: xr.Dataset, towers: Iterable[int] | None = None,
    progress: str = "",
) -> ErrorModel:  # fmt: skip
    """Learn an `ErrorModel` from held-out predictions (seed, site, time) of towers (None: all)."""
    flux = mean_flux(predicted, samples)
    towers = np.flatnonzero(np.isfinite(flux).any((1, 2))) if towers is None else towers
    return learn(windows(samples, flux, towers), progress=progress)


def mean_flux(predicted: xr.Dataset, samples: Samples) -> NDArray[np.float32]:
    """Mean over members (site, time, flux) of predictions (seed, site, time), as samples are."""
    predicted = predicted.reindex(site=samples.site)
    mean = [predicted[f].mean("seed").transpose("site", "time").to_numpy() for f in FLUXES]
    return np.stack(mean, -1).astype(np.float32)


def calibration(
    samples: Samples, ensembles: Sequence[FoldEnsemble], predicted: xr.Dataset, grid: xr.Dataset,
    jobs: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Make what `tamrl.shipped.weights_file.save` takes: intervals, by inputs too, error model.

    Intervals are of days; those of means over months and years are for maps, also of an average
    year of the ``grid`` (month, lat, lon).
    """
    every = intervals_without(samples, ensembles, jobs)
    average = average_year_intervals(average_cases(samples, ensembles, grid, jobs), samples)
    means = {name: {p: _plain(each[p]) for p in ("month", "year")} for name, each in every.items()}
    means[AVERAGE] = {period: _plain(each) for period, each in average.items()}
    errors = learn_errors(samples, predicted, None, "errors")
    return {
        "intervals": every[key(True for _ in INPUTS)]["day"],
        "intervals_by_inputs": {name: _plain(each["day"]) for name, each in every.items()},
        "intervals_of_means": means,
        "error_model": errors.store(),
    }


def _plain(fitted: Mapping[str, Conformal]) -> dict[str, Any]:
    return {flux: each.to_dict() for flux, each in fitted.items()}
