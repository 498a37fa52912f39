"""The command line: `tamrl predict | adapt | score | monitor | train | cube | map | study | …`.

Exit status 0: done. 1: the data, a file or a notebook is at fault; one line on stderr says what to
do. 2: the command was not understood, or asks for what cannot be; nothing was read or written.
130: interrupted (Ctrl-C).
"""

import atexit
import gc
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
from typer import Argument, Option

from tamrl import __version__
from tamrl.cli import maps, towers
from tamrl.cli.common import (
    Device,
    Epochs,
    Jobs,
    Names,
    Seed,
    Towers,
    say,
    several,
    usage,
)
from tamrl.cli.compare import compare
from tamrl.cli.cube import cube
from tamrl.errors import DataError, StudyError
from tamrl.files import check_writable

# What does the work is imported inside the commands: `tamrl --help` answers at once.


class _OneLine(typer.core.TyperGroup):
    """Turn what a user can mend into one line on stderr and exit status 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (DataError, StudyError, OSError) as error:
            typer.echo(f"tamrl: {error}", err=True)
            raise typer.Exit(1) from error


_LOOK: Any = {"rich_markup_mode": "markdown", "pretty_exceptions_enable": False}
app = typer.Typer(cls=_OneLine, no_args_is_help=True, **_LOOK)
for command in (towers.predict, towers.adapt, towers.score, towers.monitor, cube, compare):
    app.command()(command)
app.command("map")(maps.map_cube)

PARTS = {
    "towers": "fluxnet2015.zarr/", "predictors": "tower_predictors/", "grid": "grid/",
    "reference": "reference/", "annual": "towers_annual/", "methane": "towers_methane/",
}  # fmt: skip


def _version(asked: bool) -> None:
    if asked:
        say(f"tamrl {__version__}")
        raise typer.Exit


@app.callback()
def tamrl(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Carbon fluxes from towers to the globe with task-aware modulation (TAM-RL).

    With the model of the package: `tamrl predict my-tower.csv --table facts.csv -o fluxes.nc`,
    `tamrl score fluxes.nc my-tower.csv --table facts.csv`; to train one of your own, `tamrl fetch`
    and `tamrl train -o model.safetensors`.

    Data come from the cache (TAMRL_DATA_DIR), a mirror (TAMRL_DATA_MIRROR) or the network.
    """


@app.command()
def fetch(
    parts: Annotated[Names, Argument(help=f"Any of: {', '.join(PARTS)}. None means all.")] = None,
) -> None:
    """Fetch data into the cache, every file checked against its sha256.

    What is there already is not fetched again; a broken-off run goes on where it stopped.

    Examples: `tamrl fetch` · `tamrl fetch towers grid`
    """
    from tamrl.data import cache

    if unknown := set(parts or ()) - set(PARTS):
        raise typer.BadParameter(f"{', '.join(unknown)}: not one of {', '.join(PARTS)}")
    check_writable(cache.cache_dir() / "derived")
    for part in parts or PARTS:
        say(f"{part}: {len(cache.fetch(cache.registry_names(PARTS[part]), part))} files")
    say(f"In {cache.cache_dir()}")


_MODEL = "ensemble (shipped), without rescaling, network with rescaling, or network (TAM-RL alone)."
_VIRTUAL = "Towers of each simulated data set, learnt first; 0: none."
_CALIBRATE = "Folds of towers that intervals are calibrated on; 0: no intervals."


@app.command()
def train(
    output: Annotated[Path, Option("--output", "-o", help="Where the weights go.")],
    towers: Towers = "auto",
    model: Annotated[str, Option(help=_MODEL)] = "ensemble",
    seed: Seed = 0,
    members: Annotated[int, Option(min=1, help="Models in the ensemble.")] = 1,
    epochs: Epochs = None,
    virtual: Annotated[int, Option(min=0, help=_VIRTUAL)] = 1000,
    calibrate: Annotated[int, Option(min=0, callback=several, help=_CALIBRATE)] = 0,
    jobs: Jobs = 2,
    device: Device = "auto",
) -> None:
    """Train a model on all towers and save the weights (safetensors).

    The ensemble has trees of XGBoost: `pip install 'tamrl[rivals]'`. One tower in eight is held out
    to stop early. Members differ by seed. With --calibrate, errors of ensembles without the towers
    of each fold, stored in `runs/`, set the bounds of 90 % and what labels of a new tower say.

    Examples: `tamrl train -o model.safetensors --model network` ·
    `tamrl train -o m.safetensors --members 5 --calibrate 10`
    """
    from tamrl import monitor
    from tamrl.data.cache import registry_sha256
    from tamrl.samples.splits import folds
    from tamrl.shipped import calibration, ensemble, out_of_fold, report, weights_file
    from tamrl.sources import load_grid, load_towers, load_training

    weights_file.check_weights_output(output)
    with usage():
        make = ensemble.factory(model, _recipe(epochs), device, virtual)
    samples, training = load_training(towers)
    ensemble.ready(make)
    facts: dict[str, Any] = {}
    learnt = report.about_training(training)
    if calibrate:
        parts = folds(samples, calibrate, seed=seed)
        where = members, _folds(samples), seed, jobs
        held_out = out_of_fold.fold_ensembles(training, make, parts, *where)
        predicted = out_of_fold.predict_held_out(samples, held_out, jobs)
        grid = load_grid(load_towers(towers))
        facts = calibration.calibration(samples, held_out, predicted, grid, jobs)
        anomalies = monitor.calibrate(predicted, samples)
        facts["anomalies"] = {flux: each.to_dict() for flux, each in anomalies.items()}
    models = ensemble.train(training, make, members, seed, jobs)
    facts |= {"seed": seed, "towers": len(samples.site), "model": model, "folds": calibrate}
    facts |= {"licence": "CC-BY-4.0", "registry": registry_sha256()}
    weights_file.save(models, output, samples, **facts, **learnt)
    on = f"{len(samples.site)} {'virtual ' * bool(samples.attrs['virtual'])}towers"
    say(f"Trained {members} {model}(s) on {on}: {output}")


def _recipe(epochs: int | None) -> Any:
    from tamrl.model.train import Recipe

    return Recipe() if epochs is None else Recipe(epochs=epochs)


def _folds(samples: Any) -> Path:
    """Folder of the ensembles of folds, those of virtual towers apart."""
    return Path("runs") / str(samples.attrs["tower_source"]) / "folds"


@app.command()
def study(
    profile: Annotated[str, Option(help="smoke, reference or paper.")] = "reference",
    towers: Towers = "auto",
    only: Annotated[Names, Option(help="A notebook's name or number, as 03.")] = None,
    param: Annotated[Names, Option(help="name=value, with --only; repeatable.")] = None,
    force: Annotated[bool, Option("--force", help="Run even what is up to date.")] = False,
    book: Annotated[bool, Option(help="Build the book afterwards.")] = True,
) -> None:
    """Execute the notebooks that changed, then build the book.

    Examples: `tamrl study` · `tamrl study --profile smoke` ·
    `tamrl study --only 03 --param seed=7 --param folds=5`
    """
    import yaml

    from tamrl.study.runner import run as notebooks

    pairs = [text.partition("=") for text in param or []]
    if not all(equals for _, equals, _ in pairs):
        raise typer.BadParameter("a parameter is of the form name=value")
    names = [name for name, _, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1} | ({*names} & {"towers"}):
        raise typer.BadParameter(f"{min(twice)}: give it once, towers by --towers")
    if pairs and not only:
        raise typer.BadParameter("--param needs --only: which notebook is meant?")
    try:
        values = {
            name: value if "#" in value else yaml.safe_load(value) for name, _, value in pairs
        }  # what follows a # is no comment here
    except yaml.YAMLError as error:
        raise typer.BadParameter(f"a parameter's value cannot be read: {error}") from error
    with usage():
        notebooks.choose(profile, only or (), values)
    check_writable(Path("runs") / profile)
    done = notebooks.run(profile, towers, only or (), values, build=book, force=force)
    ran, unchanged = ", ".join(done.executed) or "none", ", ".join(done.unchanged) or "none"
    say(f"Executed: {ran}. Unchanged: {unchanged}.")
    say("Computed results: runs/. Executed notebooks: book/notebooks/.")
    if done.page:
        say(f"The book: {done.page} (open it in a browser, or: make serve)")


def main() -> None:
    """Run the command line; `python -m tamrl`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ("stdout", "stderr"):  # closed, as in some crontabs, or of few letters
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream := getattr(sys, name), TextIOWrapper):  # not a notebook's
            stream.reconfigure(errors="replace")
    gc.set_threshold(100_000, 50, 100)  # what libraries load is no garbage: a tenth of their time
    atexit.register(gc.freeze)  # nor at the end, where to look through it all takes a second
    app(prog_name="tamrl")
