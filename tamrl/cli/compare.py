"""The command `tamrl compare`: long comparisons, resumable; see `tamrl.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def compare(
    experiment: Annotated[
        str,
        typer.Argument(help="ablation, benchmark, climates, biomes, no-satellites or directions."),
    ],
    towers: Annotated[str, typer.Option(help="fluxnet2015, virtual, or auto.")] = "auto",
    folds: Annotated[
        int | None, typer.Option(min=2, help="Folds by tower, 50 km apart.  [default: its own]")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Members averaged per fold.  [default: its own]")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training towers.  [default: each model's]")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Every n-th tower, for a quick look.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 2,
    device: Annotated[str, typer.Option(help="Of the networks: cpu, cuda, mps or auto.")] = "cpu",
    only: Annotated[
        list[str] | None, typer.Option(help="Name of a model. May be given repeatedly.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the tables.  [default: results/NAME]"),
    ] = None,
) -> None:
    """Compare many models at towers that none has seen; this takes hours and can be broken off.

    `ablation`: TAM-RL with one mechanism taken away or exchanged at a time. `benchmark`: all
    rivals. `climates`, `biomes`, `no-satellites`: a few of them, with folds balanced by climate,
    with a vegetation class left out at a time, and without satellite data at the tested towers.
    `directions`: what was tried for more skill; what failed is shown from stored tables and not
    computed.

    Run the same command again to go on; what is finished stays, what has changed is computed
    anew. Each model leaves one small csv, from which the book's chapters are made. With other
    settings than the experiment's own the tables go below `runs/`, unless --out says where.

    Examples: `tamrl compare ablation` · `tamrl compare benchmark --only XGBoost --only LightGBM` ·
    `tamrl compare ablation --folds 2 --seeds 1 --epochs 1 --every 6`
    """
    from rich.table import Table

    from tamrl.evaluate.scores import summarise
    from tamrl.evaluate.tables import read
    from tamrl.study.comparisons.models import EXPERIMENTS, compute

    console = Console(highlight=False, soft_wrap=True)
    try:
        folder = compute(
            experiment, towers, folds, seeds, epochs, every, only or (), out, jobs, device,
            say=lambda text: console.print(text, markup=False),
        )  # fmt: skip
    except ValueError as error:
        if type(error) is not ValueError:  # a DataError is told by all commands alike
            raise
        raise typer.BadParameter(str(error)) from error
    found = read(folder, EXPERIMENTS[experiment].names)
    pooled = summarise(found.sums).pivot_table("RMSE", "model", "flux", sort=False)
    virtual = ", virtual towers" if found.attrs["virtual"] else ""
    shown = Table(title=f"Pooled RMSE at unseen towers{virtual}; gC m-2 d-1")
    shown.add_column("model")
    for flux in pooled:
        shown.add_column(str(flux), justify="right")
    for model, row in pooled.iterrows():
        shown.add_row(str(model), *(f"{value:.3f}" for value in row))
    console.print(shown)
    if found.missing:
        console.print(f"Not yet computed: {', '.join(found.missing)}")
    console.print(f"Tables: {folder}")
