"""The model card: what the shipped weights are, how good they are, and what they cannot do.

    python -m tamrl.study.comparisons.modelcard    # write it beside the weights, from them and the kept results

All numbers come from the header of the weights and from ``results/benchmark``; a test holds the
committed card against what this module makes.
"""

from __future__ import annotations

from pathlib import Path

from tamrl.evaluate import interval_coverage, tables
from tamrl.evaluate.sums import compare, summarise
from tamrl.files import atomic_write
from tamrl.shipped.pretrained import SHIPPED, load_pretrained
from tamrl.study.comparisons import models

HERE = Path(__file__).resolve().parents[2]
CARD = HERE / Path(SHIPPED).with_name("MODEL_CARD.md")
RESULTS = HERE.parent / "results" / "benchmark"
RARE = 5  # towers; of fewer no score by class is told
RIVALS = ("LightGBM", "LightGBM, classes only", models.PUBLISHED, models.NETWORK)


def text(results: Path = RESULTS) -> str:
    """Write the card as Markdown, from the shipped weights and the kept benchmark.

    Raises
    ------
    DataError
        Without the weights, or when the benchmark's tables lack the shipped model.
    """
    model = load_pretrained()
    header = model.header
    found = tables.read(results, models.EXPERIMENTS["benchmark"].names)
    scores = summarise(found.sums.select([models.OURS])).set_index("flux")
    about = found.about.loc[models.OURS]
    seeds = len(list(about.seeds))
    rows = [
        f"| {f} | {r.RMSE:.2f} | {r.R2:.2f} | {r.bias:+.2f} | {r.R2_25:.2f} | {r.R2_50:.2f} "
        f"| {r.R2_75:.2f} |"
        for f, r in scores.iterrows()
    ]
    changes = []
    for rival in (name for name in RIVALS if name in found.sums.models):
        for row in compare(found.sums, models.OURS, rival).itertuples():
            changes.append(
                f"| {rival} | {row.flux} | {row.change:+.1f} % | {row.lower:+.1f} to "
                f"{row.upper:+.1f} % |"
            )
    share = f"{100 * model.members[0].fitted.shares[0, 0]:.0f} %"
    number = found.sums.towers.igbp.value_counts()
    rare = ", ".join(f"{igbp} ({n})" for igbp, n in number[number < RARE].sort_index().items())
    return f"""# Model card: TAM-RL with boosted trees, for daily carbon fluxes

Written by `python -m tamrl.study.comparisons.modelcard`; every number comes from the weights or `results/benchmark`.

**What it is.** An ensemble of {header["members"]} members. Each is a mean: for {share} a TAM-RL
network (task-aware modulation with representation learning, arXiv:2603.09974), which learnt
simulated worlds before it saw a real tower; for the rest LightGBM trees. A Gaussian process, from
towers and several hundred further places, expects a mean annual GPP and RECO of the place: the
trees are told them, and the annual means of the whole are drawn half-way to them.
NEE = RECO - GPP, GPP >= 0 and RECO >= 0 hold.
File: `tamrl/{SHIPPED}` (safetensors), opened by `tamrl.load_pretrained()`.

**What it is for.** Daily GPP, RECO and NEE (gC m-2 d-1) of ecosystems without flux measurements,
from air temperature, vapour pressure deficit and shortwave radiation of the place, its vegetation
class, and whatever other drivers are known. It gives {_bounds(model.intervals)}.

**Trained on** {header["towers"]} towers of FLUXNET2015 (Pastorello et al. 2020,
doi:10.1038/s41597-020-0534-3), satellite and gridded predictors, and annual fluxes of further
towers; files and hashes are in `data_registry.txt` (its own sha256 begins with
`{str(header["registry"])[:16]}`). 24 towers were held back and not looked at.

## How good it is at towers that it has not seen

{about.folds} folds of towers, 50 km apart, with {seeds} member{"s" * (seeds > 1)} each;
{int(scores.days.iloc[0]):,} scored days of {int(scores.towers.iloc[0])} towers. RMSE and bias in
gC m-2 d-1; R2 over all days, and as quartiles over towers.

| Flux | RMSE | R2 | bias | R2, lower quartile | R2, median | R2, upper quartile |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

Change of RMSE against rivals on the same days, with 90 % intervals from drawing towers:

| Against | Flux | Change | Interval |
|---|---|---|---|
{chr(10).join(changes)}

{_coverage(results)}

## What it cannot do

- Half of all towers have an R2 below the median above. Most of the error at a new tower is a
  constant: the model does not know its age, its management, its water table.
- Of some vegetation classes it has seen fewer than {RARE} towers: {rare}. There it guesses.
- Bounds are of days as a tower would report them, calibrated on towers like those of FLUXNET2015.
  Errors of sums over months or years do not average out; their intervals are wider than those of
  days would make believe.
- A record of less than ten months has no annual mean to be drawn by: there it errs more.
- It has no memory of disturbance and knows no trend of CO2. Do not use it for trends, for lawns or
  lakes, or for carbon credits.

**Licence:** weights {header["licence"]}; code MIT. Cite the paper, the towers and this software
(`CITATION.cff`).
"""


def _bounds(intervals: object) -> str:
    return "bounds that hold 90 % of days" if intervals else "no bounds: they were not calibrated"


def _coverage(results: Path) -> str:
    """Tell what share the intervals of 90 % held, where that was kept."""
    table = interval_coverage.read(results)
    on = (table.model == models.OURS) & (table.stratum == "") & (table.level == 0.9)
    if not on.any():
        return "How much the bounds hold at towers left out has not been kept."
    wide = table[on].pivot_table("coverage", "period", "flux")
    rows = [
        f"| {period} | "
        + " | ".join(f"{100 * float(v):.1f} %" for v in wide.loc[period].to_numpy())
        + " |"
        for period in ("day", "month", "year")
    ]
    head = "| Values of a | " + " | ".join(map(str, wide)) + " |\n|---" + "|---" * wide.shape[1]
    body = "\n".join(rows)
    return f"Share inside intervals of 90 % that other folds' towers gave:\n\n{head}|\n{body}"


def main() -> None:
    """Write the card."""
    with atomic_write(CARD) as part:
        part.write_text(text())
    print(CARD)


if __name__ == "__main__":
    main()
