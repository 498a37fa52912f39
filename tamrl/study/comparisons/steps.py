"""What single steps towards the ensemble gave, and whether what is left of the error has a pattern.

Steps are of data and labels, so they are tried with trees, which fit in seconds: each adds one
thing to the step before. What is left are the mean errors of towers: `by_distance` asks whether
towers near each other err alike, as kriging of residuals would need, `by_attribute` whether a
static map separates them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr

from tamrl.evaluate import tables
from tamrl.evaluate.scores import MIN_DAYS
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import Samples
from tamrl.samples.labels import with_mean_labels, with_tower_weights
from tamrl.samples.phenology import with_phenology
from tamrl.samples.splits import distance_km, folds
from tamrl.shipped.annual import AnnualPrior
from tamrl.sources import load_daytime_gpp, load_phenology, load_towers, load_training
from tamrl.study.comparisons import models
from tamrl.study.comparisons.compute import run

BEFORE = "LightGBM, annual prior"
STEPS = (BEFORE, "and daily phenology", "and labels of both partitionings", "and tower weights")
# Drivers that were added to the last step and did not help: their stored tables are shown.
DRIVERS = ("and rain and leaf area of CARDAMOM", "and daily rain and FPAR at 39 towers")
KM = (50.0, 200.0, 500.0, 1000.0, np.inf)  # upper ends of classes of distance
FOLDS = 10
LEAST = 30  # towers of which an attribute is known


def compute(
    towers: str = "auto", out: Path | None = None, jobs: int = 2,
    say: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Cross-validate each of `STEPS`, one member a fold, and return the folder of its tables.

    On real towers the folder ``left`` in it gets what the stored ensemble leaves. Arguments and
    errors are those of `tamrl.study.comparisons.models.compute`.
    """
    daily = load_towers(towers)
    bare, _ = load_training(towers, phenology=False)
    seen = with_phenology(bare, load_phenology(daily))
    both = with_mean_labels(seen, load_daytime_gpp(daily))
    source = Path("runs") / str(bare.attrs["tower_source"])
    folder = source / "compare" / "steps" if bare.attrs["virtual"] else Path("results/steps")
    make, parts = partial(AnnualPrior, Boosting()), folds(bare, FOLDS)
    for name, training in zip(STEPS, (bare, seen, both, with_tower_weights(both)), strict=True):
        run({name: make}, bare, parts, (0,), out or folder, source / "cv", jobs, say, training)
    if not bare.attrs["virtual"]:
        sums = tables.read(tables.stored("benchmark")).sums
        write_residuals(sums, seen, models.ENSEMBLE, (out or folder) / "left")
    return out or folder


def write_residuals(sums: xr.Dataset, samples: Samples, model: str, folder: Path) -> None:
    """Write `by_distance` and `by_attribute` of a model's stored sums to ``folder``."""
    about = {"model": model, "samples": samples.fingerprint}
    tables.write_csv(folder / "distance.csv", about, by_distance(sums.sel(model=model)))
    tables.write_csv(folder / "attributes.csv", about, by_attribute(sums.sel(model=model), samples))


def by_distance(sums: xr.Dataset) -> pd.DataFrame:
    """Correlation of the mean errors of two towers by flux and their distance.

    ``sums`` (site, flux) are of one model. Columns: flux, km (upper end of the class), pairs,
    correlation: mean product of standardised errors. Near 0, errors of neighbours say nothing.
    """
    own = sums.sel(site=sums.n >= MIN_DAYS)
    apart = distance_km(own.lat.values, own.lon.values)
    pair = np.triu(np.ones(apart.shape, bool), 1)
    rows = []
    for flux in own.flux.values:
        bias = (own.error.sel(flux=flux) / own.n).values
        z = (bias - bias.mean()) / bias.std()
        for low, high in zip((0.0, *KM[:-1]), KM, strict=True):
            on = pair & (apart >= low) & (apart < high)
            mean = np.outer(z, z)[on].mean() if on.any() else np.nan
            rows.append((flux, high, int(on.sum()), mean))
    return pd.DataFrame(rows, columns=["flux", "km", "pairs", "correlation"])


def by_attribute(sums: xr.Dataset, samples: Samples) -> pd.DataFrame:
    """Rank correlation (Spearman) of the mean error of towers with each static attribute.

    ``sums`` (site, flux) are of one model. Columns: attribute, flux, towers, rho, p; attributes
    known of at least 30 towers that differ in it, by falling |rho|.
    """
    own = sums.sel(site=sums.n >= MIN_DAYS)
    static = samples.static[pd.Index(samples.site).get_indexer(own.site.values)]
    rows = []
    for k, name in enumerate(samples.static_names):
        on = np.isfinite(static[:, k])
        if on.sum() < LEAST or np.ptp(static[on, k]) == 0:
            continue
        for flux in own.flux.values:
            bias = (own.error.sel(flux=flux) / own.n).values[on]
            found = spearmanr(static[on, k], bias)
            rows.append((name, flux, int(on.sum()), found.statistic, found.pvalue))
    table = pd.DataFrame(rows, columns=["attribute", "flux", "towers", "rho", "p"])
    return table.sort_values("rho", key=abs, ascending=False, ignore_index=True)
