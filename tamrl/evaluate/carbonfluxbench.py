"""The protocol of CarbonFluxBench: its splits, test days and scores, so that numbers agree.

As github.com/alexxxroz/CarbonFluxBench has it (MIT), with its peculiarities: a day without a label
breaks the windows of the next 29 days; the authors' trees were scored on all days with QC = 1.
"""

import pandas as pd
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from tamrl.data.carbonfluxbench import BANDS, Benchmark
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError

SPLITS = {"igbp": "IGBP", "koppen": "Koppen"}  # name: column of the labels
SEED, TEST_SHARE, RARE = 56, 0.2, 10
WINDOW = 30  # days
SCORES = ("R2", "RMSE", "nMAE", "RAE")


def split_sites(labels: pd.DataFrame, split: str) -> tuple[list[str], list[str]]:
    """Training and test towers, sorted, of a ``split`` in `SPLITS`: one in five is tested.

    ``koppen``: drawn by climate; ``igbp``: by vegetation class, of which those of at most ten
    towers are halved. No distance is kept between the sides. DataError: too few towers.
    """
    table = labels.groupby("site")[[SPLITS[split]]].first().set_axis(["kind"], axis=1).reset_index()
    count, test = table.kind.value_counts(), list[str]()
    rare = count[count <= RARE] if split == "igbp" else count[:0]
    for kind, n in rare.items():
        test += [*table[table.kind == kind].sample(n // 2, random_state=SEED).site]
    rest = table[~table.kind.isin(rare.index)]
    how = {"test_size": TEST_SHARE, "stratify": rest.kind, "random_state": SEED}
    try:
        test += [*train_test_split(rest.site, **how)[1]]
    except ValueError as error:
        raise DataError(f"{len(table)} towers are too few for split {split} ({error})") from error
    return sorted(set(table.site) - set(test)), sorted(test)


def find_test_days(bench: Benchmark, sites: list[str]) -> pd.DataFrame:
    """Days (site, date) that are scored: QC = 1, and the last of 30 with labels and drivers.

    Before a tower's first label drivers suffice. Of MODIS, which the authors interpolate, one value
    of each band at the tower does.
    """
    known = bench.era5[bench.minimal].notna().all(axis=1)
    weather = dict(list(bench.era5[known].groupby("site").date))
    seen = dict(list(bench.modis.set_index("date").groupby("site")[BANDS]))
    found = [pd.DataFrame({"site": [], "date": pd.to_datetime([])})]
    for site, rows in bench.labels[bench.labels.site.isin(sites)].groupby("site"):
        first = rows.date.min()
        days = pd.date_range(first - pd.Timedelta(WINDOW - 1, "D"), rows.date.max())
        row = days.isin(rows.date) | (days < first)
        if site in seen and seen[site].reindex(days[row]).notna().any().all():
            complete = pd.Series(row & days.isin(weather.get(site, [])), days)
            last = days[complete.rolling(WINDOW).sum() == WINDOW]
            found.append(rows.loc[(rows.NEE_QC >= 1) & rows.date.isin(last), ["site", "date"]])
    return pd.concat(found, ignore_index=True)


def score_sites(observed: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Scores by tower: site, target, R2, RMSE (gC m-2 d-1), nMAE, RAE.

    Both tables have GPP, RECO, NEE, gC m-2 d-1, by (site, date); labels are scored as they are.
    nMAE is the mean absolute error over the absolute mean flux, RAE over that of the mean flux.
    DataError if a day is not predicted.
    """
    predicted = predicted.reindex(observed.index)[[*FLUXES]].astype(float)
    both = observed[[*FLUXES]].join(predicted.add_suffix("_predicted"))
    if (missed := both.isna().any(axis=1)).any():
        first = both.index[missed.to_numpy()][0]
        raise DataError(f"{missed.sum()} of {len(both)} test days are not predicted: {first}, …")
    rows = []
    for target in FLUXES:
        for site, days in both.groupby("site"):
            y, p = days[target], days[f"{target}_predicted"]
            error, naive = mean_absolute_error(y, p), (y - y.mean()).abs().mean()
            r2 = r2_score(y, p) if len(days) > 1 else float("nan")
            relative = error / (abs(y.mean()) + 1e-9), error / naive if naive else float("inf")
            rows.append((site, target, r2, root_mean_squared_error(y, p), *relative))
    return pd.DataFrame(rows, columns=["site", "target", *SCORES])


def quantiles(scores: pd.DataFrame) -> pd.DataFrame:
    """Quartiles and mean over towers of `score_sites`: target, n_sites, R2_q25, …, RAE_mean."""
    by = scores.groupby("target", sort=False)
    table = {"n_sites": by.size()}
    for name in SCORES:
        table |= {f"{name}_q{100 * at:.0f}": by[name].quantile(at) for at in (0.25, 0.5, 0.75)}
        table[f"{name}_mean"] = by[name].mean()
    return pd.DataFrame(table).reset_index()
