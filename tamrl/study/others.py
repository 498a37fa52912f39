"""Models by other hands beside the ensemble, and how far labels agree: ``results/published``.

The tables are of real towers, whatever the rest of the book is made with: nobody else has predicted
virtual ones. `tamrl.study.comparisons.published` computes them and says what their columns mean.
They have no intervals, so a word for a difference is that of the two numbers alone.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tamrl.data.published import OZFLUX
from tamrl.data.schema import FLUXES, facts
from tamrl.errors import DataError
from tamrl.evaluate.carbonfluxbench import SPLITS
from tamrl.evaluate.tables import read_csv, stored
from tamrl.study.comparisons import carbonfluxbench
from tamrl.study.comparisons.models import ENSEMBLE
from tamrl.study.comparisons.published import FLUXNET, HELD_OUT

NAMES = ("networks", "pmodel", "products", "labels", "partitionings", "processings")
NOT_UNSEEN = "AusEFlux"  # has learnt from the labels that it is scored against
IN_FIGURES = f"{NOT_UNSEEN} (learnt OzFlux's labels)"  # its name in figures
POOLED, TOWERS = "RMSE", "tower_RMSE"
MARKS = {POOLED: "pooled over days", TOWERS: "mean over towers"}
WORDS = ("lower than", "higher than", "equal to")
ABSENT = "\N{EN DASH}"
PEER = "tam-rl"  # TAM-RL of the authors of CarbonFluxBench
SPELT = {  # their names of models in those of this book
    PEER: "TAM-RL", "ctlstm": "CT-LSTM", "ctgru": "CT-GRU", "lstm": "LSTM", "gru": "GRU",
    "lgbm": "LightGBM", "xgb": "XGBoost", "patch_transformer": "patch transformer",
}  # fmt: skip
Tables = Mapping[str, pd.DataFrame]


def load(folder: Path | str = "") -> dict[str, pd.DataFrame]:
    """Read the tables, by `NAMES`, of a ``folder`` ("": the stored ones).

    DataError when one is missing, or when they are of different towers or data.
    """
    folder = Path(folder) if folder else stored("published")
    paths = {name: folder / f"{name}.csv" for name in NAMES}
    how = "compute all of them on real towers, in hours, with: tamrl compare published"
    if absent := [path.name for path in paths.values() if not path.is_file()]:
        raise DataError(f"{folder} lacks {', '.join(absent)}; {how}")
    read = {name: read_csv(path) for name, path in paths.items()}
    if any(about != read["networks"][0] for about, _ in read.values()):
        raise DataError(f"{folder}: its tables are of different towers or data; {how}")
    return {name: table for name, (_, table) in read.items()}


def sizes(tables: Tables) -> pd.DataFrame:
    """Count towers, and days or months, of each table: the most of a row."""
    counts = {name: table.max(numeric_only=True) for name, table in tables.items()}
    table = pd.DataFrame(counts).T.reindex(columns=["towers", "days", "months"])
    return table.astype("Int64")


def beside(table: pd.DataFrame) -> pd.DataFrame:
    """Index flux, labels, model; what differs, then numbers; without columns of a single value."""
    constant = table.columns[table.nunique() < 2]
    keys = table.columns.intersection(["flux", "labels", "model"]).difference(constant)
    rest = table.columns.difference([*keys, *constant], sort=False)
    return table.set_index([*keys])[["differs", *rest.drop("differs")]]


def daily(tables: Tables) -> pd.DataFrame:
    """RMSE of daily GPP, gC m-2 d-1, beside networks and the P-model: panel, model, mark, value."""
    titles = {"networks": "{} towers; the same days", "pmodel": "{} towers; days differ"}
    parts = []
    for name, title in titles.items():
        table = tables[name]
        for score, mark in MARKS.items():
            part = table[["model"]].assign(mark=mark, value=table[score])
            parts.append(part.assign(panel=title.format(table.towers.max())))
    return pd.concat(parts, ignore_index=True)


def monthly(tables: Tables, score: str = POOLED) -> pd.DataFrame:
    """Errors of monthly sums, gC m-2 month-1, against both labels: panel, model, mark, value."""
    table = tables["products"]
    table = table[~table.model.isin((OZFLUX, FLUXNET))]
    mark = "against " + table.labels + "'s labels"
    named = {"panel": table.flux, "mark": mark, "value": table[score]}
    table = table[["model"]].assign(**named).replace({"model": {NOT_UNSEEN: IN_FIGURES}})
    return table.reset_index(drop=True)


def gap(tables: Tables) -> dict[str, float]:
    """RMSE of one processing's monthly sums against the other's by flux, gC m-2 month-1."""
    table = tables["products"]
    return dict(table[table.model == OZFLUX].set_index("flux")[POOLED])


def peers(split: str = "igbp") -> pd.DataFrame:
    """Medians over test towers of CarbonFluxBench that its authors committed, a row a model.

    Columns as of `tamrl.study.comparisons.carbonfluxbench.medians`; ``split`` is igbp or koppen.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")
    committed = facts("carbonfluxbench").query(f"split == '{SPLITS[split]}'")
    spelt = committed.assign(of=carbonfluxbench.AUTHORS, model=committed.model.replace(SPELT))
    return carbonfluxbench.medians(spelt)


def word(error: float, rival: float) -> str:
    """Word for an error beside a rival's, one of `WORDS`.

    >>> word(1.6, 2.0)
    'lower than'
    """
    return WORDS[0] if error < rival else WORDS[1] if error > rival else WORDS[2]


def ahead(products: pd.DataFrame, score: str = POOLED) -> pd.DataFrame:
    """Rows of products with less error than the ensemble; not of those that learnt the labels."""
    own = products[products.model == ENSEMBLE].set_index(["labels", "flux"])[score]
    bar = own.loc[list(zip(products.labels, products.flux, strict=True))].to_numpy()
    return products[_rivals(products) & (products[score] < bar)]


def values(tables: Tables) -> dict[str, str]:
    """Values of the page: ``differs_<model>``, numbers by flux, and words for differences."""
    out = {f"differs_{_key(m)}": d for n in NAMES[:3] for m, d in _differs(tables[n]).items()}
    for name in ("networks", "pmodel"):
        table = tables[name].set_index("model")
        own, rivals = table[POOLED][ENSEMBLE], table.loc[table.differs != HELD_OUT, POOLED]
        change = _text(100 * (own / rivals.min() - 1), "+.0f", " %")
        out |= {f"{name}_word": word(own, rivals.min()), f"{name}_change": change}
        out |= {f"{name}_best": str(rivals.idxmin()), f"{name}_towers": str(table.towers.max())}
        out[f"{name}_days"] = f"{table.days.max():,}"
    return out | _product_values(tables) | _label_values(tables) | _peer_values()


def _product_values(tables: Tables) -> dict[str, str]:
    table, apart = tables["products"], tables["processings"].set_index("flux")
    first, better = ahead(table), ahead(table, TOWERS)
    out = {"n_products": str(table[_rivals(table)].model.nunique())}
    out |= {"n_ahead": str(first.model.nunique()), "ozflux_towers": str(table.towers.max())}
    for labels in (OZFLUX, FLUXNET):
        out |= {f"ahead_{labels}": _listed(first[first.labels == labels])}
        out |= {f"ahead_towers_{labels}": _listed(better[better.labels == labels])}
    for flux, difference in gap(tables).items():
        own = table[(table.model == ENSEMBLE) & (table.flux == flux)][POOLED]
        shares, row = sorted(100 * difference / own), apart.loc[flux]
        out[f"gap_share_{flux}"] = f"{shares[0]:.0f} to {shares[-1]:.0f} %"
        out |= {
            f"processings_{flux}": f"{row.RMS:.2f}",
            f"processings_worst_{flux}": str(row.worst),
        }
        out[f"processings_mean_{flux}"] = f"{row.mean_RMS:.2f}"
    return out | {"processings_months": f"{apart.months.max():,}"}


def _label_values(tables: Tables) -> dict[str, str]:
    split, table = tables["partitionings"].set_index("flux").loc["GPP"], tables["labels"]
    out = {"split": f"{split.RMS:.2f}", "split_mean": f"{split.mean_RMS:.2f}"}
    out |= {"split_towers": str(split.towers), "split_days": f"{split.days:,}"}
    wide = table.pivot_table(POOLED, ["flux", "labels"], "model")
    own, lead = wide[ENSEMBLE], wide.drop(columns=ENSEMBLE).min(axis=1) - wide[ENSEMBLE]
    for flux in FLUXES:
        out[f"label_range_{flux}"] = f"{own[flux].max() - own[flux].min():.2f}"
        ends = (_text(end, ".2f") for end in (lead[flux].min(), lead[flux].max()))
        out[f"lead_{flux}"] = " to ".join(ends)
    shares = sorted(100 * split.RMS / own["GPP"])
    out["split_share"] = f"{shares[0]:.0f} to {shares[-1]:.0f} %"
    ranks = table.assign(rank=table.groupby(["labels", "flux"])[POOLED].rank())
    same = ranks.groupby(["model", "flux"])["rank"].nunique().max() == 1
    return out | {"order_word": "is the same" if same else "changes"}


def _peer_values() -> dict[str, str]:
    out = {}
    for split in SPLITS:
        table = peers(split).set_index("model")
        table.index = table.index.str.removeprefix(f"{carbonfluxbench.AUTHORS}: ")
        for flux in FLUXES:
            r2 = table[f"{flux} R2"]
            own = r2[r2.index.str.startswith(SPELT[PEER])]
            key = f"peer_{split}_{flux}"
            out[f"{key}_{PEER}"] = f"{_text(own.min(), '.2f')} to {_text(own.max(), '.2f')}"
            out[f"{key}_best"] = f"{_text(r2.max(), '.2f')} ({r2.idxmax()})"
    return out


def _rivals(products: pd.DataFrame) -> pd.Series:
    return (products.differs != HELD_OUT) & ~products.model.isin((OZFLUX, FLUXNET, NOT_UNSEEN))


def _listed(rows: pd.DataFrame) -> str:
    """Name models by flux, as "GPP: MODIS; RECO: FLUXCOM-RS"."""
    by = rows.groupby("flux", sort=False).model.agg(", ".join)
    return "; ".join(f"{flux}: {models}" for flux, models in by.items()) or "none"


def _differs(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table.model, table.differs, strict=True))


def _key(model: object) -> str:
    """Short name of a model in the names of values: "lstm" for "LSTM, GECO Bern"."""
    return str(model).partition(",")[0].lower()


def _text(value: float, spec: str, unit: str = "") -> str:
    """Spell a number with a true minus sign; a dash where there is none."""
    if pd.isna(value):
        return ABSENT
    return f"{value:{spec}}{unit}".replace("-", "\N{MINUS SIGN}")
