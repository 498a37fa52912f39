"""The model card: what the shipped weights are, how good they are, and what they cannot do.

    python -m tamrl.study.comparisons.modelcard    # write it beside the weights

The template lies beside the card; numbers come from the weights, ``results/benchmark`` and, without
satellites, ``results/no-satellites``. A test compares the committed card with what this makes.
"""

from pathlib import Path

import pandas as pd

from tamrl.evaluate import tables
from tamrl.evaluate.scores import summarise
from tamrl.files import atomic_write
from tamrl.shipped.pretrained import SHIPPED, open_weights
from tamrl.study.comparisons import models
from tamrl.study.comparisons.effects import main_score, paired
from tamrl.study.comparisons.models import ENSEMBLE

HERE = Path(__file__).resolve().parents[2]
CARD = HERE / Path(SHIPPED).with_name("MODEL_CARD.md")
FEW = 5  # towers; classes of fewer are named
RIVALS = (*models.INFORMED, "climatology")


def text() -> str:
    """Fill the template from the shipped weights and the stored benchmark, as Markdown."""
    model = open_weights()
    stored = ("benchmark", "no-satellites")
    results, without = (tables.read(HERE.parent / "results" / name) for name in stored)
    scores, bare = (summarise(each.sums.sel(model=[ENSEMBLE])) for each in (results, without))
    counts = [len(each.about.seeds[ENSEMBLE]) for each in (results, without)]
    seeds, bare_seeds = (f"{n} member{'s' * (n > 1)}" for n in counts)
    changes = main_score(paired(results.sums, [(ENSEMBLE, rival) for rival in RIVALS]))
    weights = model.members[0].fitted[0].weights  # of the network and the trees
    towers = results.sums.igbp.to_series().value_counts().sort_index()
    return CARD.with_name("MODEL_CARD.template.md").read_text("utf-8").format(
        members=model.header["members"], towers=model.header["towers"], file=SHIPPED,
        registry=str(model.header["registry"])[:16], licence=model.header["licence"],
        share=f"{100 * weights[0] / sum(weights):.0f} %", weight=model.members[0].weight,
        bounds="bounds that hold 90 % of days" if model.intervals else "no bounds",
        folds=results.about.folds[ENSEMBLE], seeds=seeds, bare_seeds=bare_seeds,
        bare=", ".join(f"{row.RMSE:.2f} ({row.flux})" for row in bare.itertuples()),
        days=int(scores.days[0]), scored=int(scores.towers[0]),
        scores=_rows(scores, "{0.flux} | {0.RMSE:.2f} | {0.tower_RMSE:.2f} | {0.R2:.2f} | "
                     "{0.bias:+.2f} | {0.R2_25:.2f} | {0.R2_50:.2f} | {0.R2_75:.2f}"),
        changes=_rows(changes, "{0.rival} | {0.flux} | {0.change:+.1f} % | "
                      "{0.lower:+.1f} to {0.upper:+.1f} % | {0.without_top:+.1f} %"),
        coverage=_coverage(results), few=FEW,
        rare=", ".join(f"{name} ({n})" for name, n in towers[towers < FEW].items()),
    )  # fmt: skip


def _rows(table: pd.DataFrame, cells: str) -> str:
    return "\n".join(f"| {cells.format(row)} |" for row in table.itertuples())


def _coverage(results: tables.Results) -> str:
    """Table of the share of days, months and years that the 90 % intervals contain."""
    table = results.intervals
    on = (table.model == ENSEMBLE) & (table.stratum == "") & (table.level == 0.9)
    wide = (100 * table[on].pivot_table("coverage", "period", "flux")).map("{:.1f} %".format)
    rows = [["Values of a", *wide], ["---"] * (1 + wide.shape[1]), *wide.reset_index().to_numpy()]
    title = "Share inside intervals of 90 % that other folds' towers gave:\n\n"
    return title + "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    with atomic_write(CARD) as part:
        part.write_text(text(), "utf-8")
    print(CARD)
