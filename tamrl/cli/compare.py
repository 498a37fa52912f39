"""The command that compares models at towers that none has seen; see `tamrl.cli.app`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.common import Device, Epochs, Jobs, Names, Towers, draw, one_of, say, usage
from tamrl.files import check_writable

_EXPERIMENTS = (
    "ablation, benchmark, climates, biomes, no-satellites, adaptation, map, support, steps, "
)
_EXPERIMENTS += "published, carbonfluxbench."
_FOLDER = "Folder of the tables.  [default: results/EXPERIMENT; below runs/ with other settings or "
_FOLDER += "virtual towers]"
_SPLIT = "igbp or koppen; as --folder.  [default: igbp]"
_REPEATS = "Assignments of towers to folds.  [default: its own]"
_BENCH = {"epochs", "seeds", "only", "out", "jobs", "device", "folder", "split"}
_TAKEN = {  # options of an experiment; the others have all but --folder and --split
    "carbonfluxbench": _BENCH,
    "steps": {"towers", "out", "jobs"},
    "published": {"towers", "out", "jobs", "device"},
    "australia": {"out", "jobs", "device"},
    "adaptation": {"towers", "folds", "seeds", "epochs", "every", "jobs", "device", "out"},
    "map": {"towers", "folds", "seeds", "epochs", "every", "jobs", "device", "out"},
    "support": {"towers", "folds", "seeds", "epochs", "every", "jobs", "device", "out"},
}
_FILES = "Folder of CarbonFluxBench's files; for carbonfluxbench alone."


def compare(
    ctx: typer.Context,
    experiment: Annotated[str, Argument(help=_EXPERIMENTS)],
    towers: Towers = "auto",
    folds: Annotated[int | None, Option(min=2, help="Folds by tower.  [default: its own]")] = None,
    seeds: Annotated[int | None, Option(min=1, help="Members a fold.  [default: its own]")] = None,
    repeats: Annotated[int | None, Option(min=1, help=_REPEATS)] = None,
    epochs: Epochs = None,
    every: Annotated[int, Option(min=1, help="Every n-th tower, for a quick look.")] = 1,
    jobs: Jobs = 2,
    device: Device = "cpu",
    only: Annotated[Names, Option(help="Name of a model; repeatable.")] = None,
    out: Annotated[Path | None, Option("--out", "-o", help=_FOLDER)] = None,
    folder: Annotated[Path | None, Option("--folder", help=_FILES)] = None,
    split: Annotated[str | None, Option(callback=one_of("igbp", "koppen"), help=_SPLIT)] = None,
) -> None:
    """Compare many models at towers that none has seen; this takes hours and can be broken off.

    `ablation`: TAM-RL with one mechanism taken away or exchanged at a time. `benchmark`: all
    rivals. `climates`, `biomes`, `no-satellites`: a few of them, with folds by climate, a
    vegetation class left out at a time, no satellites at the tested towers. `adaptation`: what
    a month, a season, a year of labels are worth. `map`: how good the map is at them.
    `support`: what the support set is worth to the networks of the ensemble. `steps`: what new
    drivers and labels gave. `published`: what others' models reach at the same towers, beside the
    benchmark's predictions. `australia`: the map's model at eleven towers apart, beside products.
    `carbonfluxbench`: a few of them on the benchmark of TAM-RL's authors, by its own splits, test
    days and scores; download it (MIT; <https://huggingface.co/datasets/alexroz/CarbonFluxBench>)
    and name the folder. Written are predictions and tables below `runs/carbonfluxbench`.

    Run the command again to go on: only what is missing or has changed is computed. Each model
    leaves one csv. With other settings than the experiment's own these go below `runs/`.

    Examples: `tamrl compare ablation` · `tamrl compare benchmark --only XGBoost --only LightGBM` ·
    `tamrl compare ablation --folds 2 --seeds 1 --epochs 1 --every 6` ·
    `tamrl compare carbonfluxbench --folder CarbonFluxBench --split koppen`
    """
    given = {n for n in ctx.params if "COMMANDLINE" in str(ctx.get_parameter_source(n))}
    taken = _TAKEN.get(experiment, set(ctx.params) - {"folder", "split"})
    if idle := sorted(f"--{name}" for name in given - taken - {"experiment"}):
        raise typer.BadParameter(f"{experiment} has no {', '.join(idle)}")
    check_writable((out or Path("runs")) / experiment)
    if experiment == "carbonfluxbench":
        own: dict[str, Any] = {"split": split or "igbp", "epochs": epochs, "seeds": seeds or 3}
        own |= {"only": only or (), "out": out, "jobs": jobs, "device": device}
        return _carbonfluxbench(folder or Path("CarbonFluxBench"), **own)
    if experiment == "steps":
        from tamrl.study.comparisons import steps

        say(f"Tables: {steps.compute(towers, out, jobs, say)}")
        return None
    if experiment in ("adaptation", "map", "support"):
        own = {"n_folds": folds or 10, "members": seeds or 3, "epochs": epochs, "every": every}
        return _of_folds(experiment, {"towers": towers, "out": out, "jobs": jobs} | own, device)
    if experiment == "australia":
        from tamrl.study.comparisons import australia

        path = australia.compute(out, jobs=jobs, device=device)
        draw("Months at eleven towers apart", australia.scores(australia.read(path)))
        return say(f"Table: {path}")
    if experiment == "published":
        from tamrl.study.comparisons import published

        for name, scores in published.compute(towers, out, jobs, device).items():
            draw(f"Published: {name}", scores.drop(columns="differs", errors="ignore"))
        return None
    from tamrl.evaluate.scores import summarise
    from tamrl.evaluate.tables import read
    from tamrl.study.comparisons.models import EXPERIMENTS, chosen, compute

    settings = (towers, folds, seeds, epochs, every, only or (), out, jobs, device, repeats)
    with usage():
        chosen(experiment, epochs, device, only or ())
    folder = compute(experiment, *settings, say=say)
    results = read(folder, EXPERIMENTS[experiment].names)
    pooled = summarise(results.sums).pivot_table("tower_RMSE", "model", "flux", sort=False)
    draw("RMSE at unseen towers, mean over towers", pooled.reset_index(), results.attrs["virtual"])
    if results.missing:
        say(f"Not yet computed: {', '.join(results.missing)}")
    say(f"Tables: {folder}")


def _of_folds(experiment: str, settings: dict[str, Any], device: str) -> None:
    """Run what asks the ensembles of the folds, and draw its table."""
    import pandas as pd

    from tamrl.study import adaptation
    from tamrl.study.comparisons import map_scores, maps, support

    if experiment == "map":
        path = maps.compute(**settings, device=device)
        draw("Mean seasons at held-out towers", map_scores.scores(maps.read(path)))
    elif experiment == "support":
        path = support.compute(**settings, device=device)
        draw("Another support set, change of RMSE, %", support.changes(pd.read_csv(path)))
    else:
        path = adaptation.compute(**settings, device=device)
        draw("RMSE after adapting, %", adaptation.changes(path))
    say(f"Table: {path}")


def _carbonfluxbench(folder: Path, **settings: Any) -> None:
    from tamrl.study.comparisons import carbonfluxbench

    with usage():
        table, whole = carbonfluxbench.compute(folder, **settings, say=say)
    title = f"CarbonFluxBench{', NOT COMPARABLE' * (not whole)}, medians over test towers"
    draw(title, carbonfluxbench.medians(table))
    if not whole:
        say("This is not the whole benchmark: the authors' scores are of other towers")
