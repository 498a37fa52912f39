"""The command line: `tamrl fetch | train | evaluate | compare | predict | finetune | map | study`.

Exit status 0: done. 1: the data, a file or a notebook is at fault; one line on stderr says what to
do. 2: the command was not understood.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
from rich.console import Console

from tamrl.cli import maps
from tamrl.cli.compare import compare
from tamrl.cli.towers import finetune, predict, score
from tamrl.errors import DataError, StudyError
from tamrl.files import atomic_write

if TYPE_CHECKING:
    pass

# The modules that do the work are imported inside the commands: `tamrl --help` answers at once.


class _OneLine(typer.core.TyperGroup):
    """Turn what a user can mend into one line on stderr and exit status 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, StudyError, OSError) as error:
            typer.echo(f"tamrl: {error}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_OneLine,
    name="tamrl",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Carbon fluxes from towers to the globe with task-aware modulation (TAM-RL).

    A first walk: `tamrl fetch`, `tamrl train -o model.safetensors`,
    `tamrl predict my-towers.csv --model model.safetensors -o fluxes.nc`.

    Data come from the cache (TAMRL_DATA_DIR), a mirror (TAMRL_DATA_MIRROR) or the network.
    """,
)

app.command("train-map")(maps.train_map)
app.command("map")(maps.map_cube)

Towers = Annotated[str, typer.Option(help="fluxnet2015, virtual, or auto: real where available.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result on a CPU.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto: the fastest at hand.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training towers.")]

PARTS = {
    "towers": "fluxnet2015.zarr/",
    "predictors": "tower_predictors/",
    "grid": "grid/",
    "reference": "reference/",
    "annual": "towers_annual/",
    "methane": "towers_methane/",
}


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True)


@app.command()
def fetch(
    parts: Annotated[
        list[str] | None, typer.Argument(help=f"Any of: {', '.join(PARTS)}. None means all.")
    ] = None,
) -> None:
    """Fetch data into the cache, every file checked against its sha256.

    What is there already is not fetched again; a broken-off run goes on where it stopped.

    Examples: `tamrl fetch` · `tamrl fetch towers grid`
    """
    from tamrl.data import cache

    for part in parts or PARTS:
        if part not in PARTS:
            raise typer.BadParameter(f"{part!r} is not one of {', '.join(PARTS)}")
    for part in parts or PARTS:
        files = cache.fetch(cache.registry_names(PARTS[part]), part)
        _out().print(f"{part}: {len(files)} files")
    _out().print(f"In {cache.cache_dir()}")


@app.command()
def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the weights go.")],
    towers: Towers = "auto",
    model: Annotated[
        str,
        typer.Option(
            help="blend: what won the benchmark. network: TAM-RL alone; or undrawn, anchored."
        ),
    ] = "blend",
    seed: Seed = 0,
    members: Annotated[int, typer.Option(min=1, help="Models in the ensemble.")] = 1,
    epochs: Epochs = None,
    virtual: Annotated[
        int, typer.Option(min=0, help="Towers of each virtual world, learnt first; 0: none.")
    ] = 1000,
    calibrate: Annotated[
        int, typer.Option(help="Folds of towers that intervals are calibrated on; 0: no intervals.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Models trained at a time.")] = 2,
    device: Device = "auto",
) -> None:
    """Train a model on all towers and save the weights (safetensors).

    One tower in eight is held out to stop early. The ensemble's members differ by seed. With
    --calibrate, ensembles like it are first trained without the towers of each fold, and their
    errors there say how wide the bounds of 90 % must be; what was computed so is kept in `runs/`.

    Examples: `tamrl train -o model.safetensors --model network` ·
    `tamrl train -o m.safetensors --members 5 --calibrate 10`
    """
    from tamrl.data.cache import registry_sha256
    from tamrl.model.train import Recipe
    from tamrl.shipped import ensemble, pretrained
    from tamrl.sources import load_samples

    recipe = Recipe() if epochs is None else Recipe(epochs=epochs)
    try:
        make = ensemble.factory(model, recipe, device, virtual)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    samples, intervals = load_samples(towers), None
    if calibrate:
        kept = Path("runs") / str(samples.attrs["tower_source"]) / "cv"
        intervals = ensemble.calibrated(samples, make, members, calibrate, kept, seed, jobs)
    models = ensemble.train(samples, make, members, seed, jobs)
    facts = {"seed": seed, "towers": len(samples.site), "model": model, "folds": calibrate}
    licence = {"licence": "CC-BY-4.0", "registry": registry_sha256()}
    pretrained.save(models, output, samples, intervals, **facts, **licence)
    _out().print(f"Trained {members} {model}(s) on {len(samples.site)} towers: {output}")


@app.command()
def evaluate(
    towers: Towers = "auto",
    folds: Annotated[int, typer.Option(min=2, help="Folds by tower, 50 km apart.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Networks that are averaged per fold.")] = 1,
    epochs: Epochs = None,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time.")] = 2,
    output: Annotated[Path, typer.Option("--output", "-o", help="csv of all scores.")] = Path(
        "scores.csv"
    ),
) -> None:
    """Score TAM-RL, boosting and climatology at towers that they have not seen.

    What has been computed before, with the same code, data and settings, is read from `runs/`.

    Examples: `tamrl evaluate --folds 10 --seeds 3` · `tamrl evaluate --towers virtual --epochs 2`
    """
    from functools import partial

    from rich.table import Table

    from tamrl.evaluate.crossval import cross_validate
    from tamrl.evaluate.scores import sum_up, summarise
    from tamrl.model.train import Recipe, TamRLModel
    from tamrl.rivals.boosting import Boosting, Climatology
    from tamrl.samples.splits import folds as split
    from tamrl.sources import load_samples

    samples = load_samples(towers)
    recipe = Recipe() if epochs is None else Recipe(epochs=epochs)
    models: dict[str, Callable[[], Any]] = {
        "TAM-RL": partial(TamRLModel, recipe=recipe),
        "Boosting": Boosting,
        "Climatology": Climatology,
    }
    parts = split(samples, folds, seed=seed)
    kept = Path("runs") / str(samples.attrs["tower_source"]) / "cv"
    predictions = cross_validate(samples, models, parts, range(seed, seed + seeds), kept, jobs)
    table = summarise(sum_up(predictions, samples))
    with atomic_write(output) as part:
        table.to_csv(part, index=False)
    virtual = ", virtual towers" if samples.attrs["virtual"] else ""
    shown = Table(title=f"Pooled over unseen towers{virtual}; gC m-2 d-1")
    columns = ["model", "flux", "RMSE", "bias", "MAE", "R2"]
    for name in columns:
        shown.add_column(name, justify="left" if name in columns[:2] else "right")
    for row in table[columns].itertuples(index=False):
        shown.add_row(*(v if isinstance(v, str) else f"{v:.3f}" for v in row))
    _out().print(shown)
    _out().print(f"All scores: {output}")


@app.command()
def study(
    profile: Annotated[str, typer.Option(help="smoke, reference or paper.")] = "reference",
    towers: Towers = "auto",
    only: Annotated[
        list[str] | None, typer.Option(help="Beginning of a notebook's name, such as 03.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="name=value; needs --only. May be given repeatedly.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run even what is up to date.")] = False,
    book: Annotated[bool, typer.Option(help="Build the book afterwards.")] = True,
) -> None:
    """Execute the notebooks that changed, then build the book.

    Examples: `tamrl study` · `tamrl study --profile smoke` ·
    `tamrl study --only 03 --param seed=7 --param folds=5`
    """
    import yaml

    from tamrl.study.runner import run as notebooks

    values: dict[str, Any] = {}
    for text in param or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not of the form name=value")
        values[name] = yaml.safe_load(value)
    if values and not only:
        raise typer.BadParameter("--param needs --only: which notebook is meant?")
    try:
        done = notebooks.run(profile, towers, only or (), values, build=book, force=force)
    except DataError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    ran, kept = ", ".join(done.executed) or "none", ", ".join(done.kept) or "none"
    _out().print(f"Executed: {ran}. Unchanged: {kept}.")
    _out().print("Computed results: runs/. Executed notebooks: book/notebooks/.")
    if done.page:
        _out().print(f"The book: {done.page} (open it in a browser, or: make serve)")


for command in (compare, predict, finetune, score):
    app.command()(command)


def main() -> None:
    """Run the command line; `python -m tamrl`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app(prog_name="tamrl")


if __name__ == "__main__":
    main()
