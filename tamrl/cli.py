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

from tamrl import cli_map
from tamrl.atomic import whole
from tamrl.cli_compare import compare
from tamrl.errors import DataError, StudyError

if TYPE_CHECKING:
    from tamrl.samples import Samples

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

app.command("train-map")(cli_map.train_map)
app.command("map")(cli_map.map_cube)

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
    seed: Seed = 0,
    members: Annotated[int, typer.Option(min=1, help="Networks in the ensemble.")] = 1,
    epochs: Epochs = None,
    device: Device = "auto",
) -> None:
    """Train TAM-RL on all towers and save the weights (safetensors).

    One tower in eight is held out to stop early. The ensemble's members differ by seed.

    Examples: `tamrl train -o model.safetensors` · `tamrl train -o m.safetensors --members 5`
    """
    import numpy as np

    from tamrl import pretrained
    from tamrl.sources import load_samples
    from tamrl.splits import blocks, hold_out
    from tamrl.train import Recipe, TamRLModel

    samples = load_samples(towers)
    held = hold_out(blocks(samples.table), samples.table.igbp.to_numpy(str), seed)
    recipe = Recipe() if epochs is None else Recipe(epochs=epochs)
    models = []
    for member in range(members):
        model = TamRLModel(recipe=recipe, device=device, progress=True)
        model.fit(samples, np.flatnonzero(~held), np.flatnonzero(held), seed + member)
        models.append(model)
    pretrained.save(models, output, samples, seed=seed, towers=len(samples.site))
    _out().print(f"Trained {members} network(s) on {len(samples.site)} towers: {output}")


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

    from tamrl.baselines import Boosting, Climatology
    from tamrl.evaluate import cross_validate, summarise
    from tamrl.sources import load_samples
    from tamrl.splits import folds as split
    from tamrl.train import Recipe, TamRLModel

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
    table = summarise(predictions, samples)
    with whole(output) as part:
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
def predict(
    towers: Annotated[Path, typer.Argument(help="ONEFlux csv file or folder, or a Zarr store.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="NetCDF file to write.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Weights from `tamrl train`.")],
    table: Annotated[
        Path | None, typer.Option(help="csv of the towers: site, lat, lon, igbp, …")
    ] = None,
    device: Device = "auto",
) -> None:
    """Predict daily GPP, RECO and NEE at your own towers, with or without measured fluxes.

    Air temperature, vapour pressure deficit and shortwave radiation are needed; a day without
    one of them stays missing. Other drivers may be absent.

    Example: `tamrl predict my-towers.csv --table facts.csv -m model.safetensors -o fluxes.nc`
    """
    from tamrl import pretrained

    models, header = pretrained.load(model, device)
    fluxes = pretrained.predict(models, _own_samples(towers, table), header)
    with whole(output) as part:
        fluxes.to_netcdf(part, engine="netcdf4")
    days = int(fluxes.NEE.notnull().sum())
    _out().print(f"{days} days at {fluxes.sizes['site']} tower(s): {output}")


@app.command()
def finetune(
    towers: Annotated[Path, typer.Argument(help="ONEFlux csv file or folder, or a Zarr store.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the adapted weights go.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Weights from `tamrl train`.")],
    table: Annotated[
        Path | None, typer.Option(help="csv of the towers: site, lat, lon, igbp, …")
    ] = None,
    frozen: Annotated[
        bool, typer.Option("--frozen/--full", help="Adapt a few hundred offsets, or all weights.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Adapt trained weights to your own tower with the few days of fluxes that it has.

    Parts of those days are left out in turn to see whether adapting helps; if it does not, the
    weights stay as they are. Several towers get one common adaptation.

    Example: `tamrl finetune my-tower.csv -m model.safetensors -o mine.safetensors`
    """
    import numpy as np

    from tamrl import pretrained
    from tamrl.adapt import finetune as adapt

    models, header = pretrained.load(model, device)
    samples = _own_samples(towers, table)
    sites = np.arange(len(samples.site))
    adapted = [adapt(each, samples, sites, frozen=frozen) for each in models]
    facts = {name: header[name] for name in ("seed", "towers") if name in header}
    names = ", ".join(samples.site)
    pretrained.save(adapted, output, samples, **facts, adapted_to=names)
    days, logs = int((samples.weight > 0).sum()), [each.log for each in adapted]
    before = np.mean([log[0]["held_out"] for log in logs]) ** 0.5
    after = np.mean([[e["held_out"] for e in log if e["taken"]][-1] for log in logs]) ** 0.5
    _out().print(f"Adapted to {names} with {days} labelled days: {output}")
    _out().print(f"Error on days left out, in sd of the fluxes: {before:.3f} -> {after:.3f}")


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
    `tamrl study --only 03 --param seed=7 --param n_folds=5`
    """
    import yaml

    from tamrl import study as notebooks

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


def _own_samples(towers: Path, table: Path | None) -> Samples:
    """Read a user's towers, with the drivers that the grid has for their places if it is there."""
    from tamrl.data import fetch_grid, open_towers
    from tamrl.samples import make_samples

    daily = open_towers(towers, table)
    try:
        return make_samples(daily, None, fetch_grid())
    except DataError as error:
        typer.echo(f"tamrl: going on without gridded drivers: {error}", err=True)
        return make_samples(daily)


app.command()(compare)


def main() -> None:
    """Run the command line; `python -m tamrl`."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app(prog_name="tamrl")


if __name__ == "__main__":
    main()
