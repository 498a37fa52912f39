"""The command line's part for maps: `tamrl train-map` and `tamrl map`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.common import Jobs, Seed, Towers, one_of, several
from tamrl.errors import DataError
from tamrl.files import check_outputs


def _share(level: float) -> float:
    if not 0.01 <= level <= 0.99:  # which refuses nan as well
        raise typer.BadParameter(f"{level} is not a share between 0.01 and 0.99")
    return level


def _known_scheduler(name: str | None) -> str | None:
    if name and not re.fullmatch(r"local:[1-9]\d*|\w+://\S+", name):
        raise typer.BadParameter(f"{name!r} is neither local:N, as local:2, nor tcp://host:8786")
    return name


Store = Annotated[Path, Option("--output", "-o", help="Zarr store to write or to go on with.")]
_SCHEDULER = "local:N or tcp://host:8786; none: threads."
Scheduler = Annotated[str | None, Option(callback=_known_scheduler, help=_SCHEDULER)]
_RESOLUTION = "Of the study's own grid: 0.5 or 1."
Resolution = Annotated[float, Option(callback=one_of(0.5, 1.0), help=_RESOLUTION)]
_FOLDS = "Of towers, for intervals; 0: no intervals."
_CUBE = "Zarr store, NetCDF file or folder; none: the study's own grid."
Cube = Annotated[str | None, Argument(help=_CUBE)]


def train_map(
    output: Annotated[Path, Option("--output", "-o", help="Where the weights go.")],
    model: Annotated[str, Option(help="tam-rl or boosting (quicker).")] = "tam-rl",
    members: Annotated[int, Option(min=1, help="Models in the ensemble.")] = 5,
    towers: Towers = "auto",
    resolution: Resolution = 0.5,
    folds: Annotated[int, Option(min=0, callback=several, help=_FOLDS)] = 5,
    level: Annotated[float, Option(callback=_share, help="Share of months in an interval.")] = 0.9,
    seed: Seed = 0,
    jobs: Jobs = 1,
) -> None:
    """Train an ensemble that maps monthly fluxes from gridded predictors (safetensors).

    The members differ by the towers they are trained on. With folds, as many ensembles more are
    trained to calibrate how wide an interval must be at towers that were not seen.

    Examples: `tamrl train-map -o map.safetensors` ·
    `tamrl train-map -o map.safetensors --model boosting --folds 10`
    """
    from tamrl.maps.monthly import KINDS, calibrate, fit_members, out_of_fold
    from tamrl.maps.training import monthly_training_table, table_samples, tower_folds
    from tamrl.sources import load_grid, load_towers

    check_outputs((), output)
    if model not in KINDS:
        raise typer.BadParameter(f"{model!r} is not one of {', '.join(KINDS)}")
    if folds and members == 1:
        raise typer.BadParameter("intervals need two members; or give --folds 0")
    daily = load_towers(towers)
    table = monthly_training_table(daily, load_grid(daily, resolution))
    samples, settings, intervals = table_samples(table), (members, seed, jobs), None
    if folds:
        fold = tower_folds(table, folds, seed)
        intervals = calibrate(out_of_fold(KINDS[model](), samples, fold, *settings), level)
    fitted = fit_members(KINDS[model](), samples, *settings)
    fitted.save(output, samples, intervals, level=level, seed=seed, resolution=resolution)
    virtual = " on virtual towers" * bool(daily.attrs["virtual"])
    typer.echo(f"Trained {members} {model} model(s){virtual} for maps: {output}")
    if intervals:
        typer.echo(f"With intervals of {100 * level:.0f} %, calibrated on {folds} folds of towers")


def map_cube(
    weights: Annotated[Path, Argument(help="From `tamrl train-map` or `tamrl train`.")],
    cube: Cube = None,
    output: Store = Path("map.zarr"),
    netcdf: Annotated[Path | None, Option(help="Also write one NetCDF file.")] = None,
    packed: Annotated[bool, Option("--packed", help="int16 in it: half the size.")] = False,
    members: Annotated[int | None, Option(min=1, help="Use only so many models.")] = None,
    scheduler: Scheduler = None,
    workers: Annotated[int | None, Option(min=1, help="Threads without scheduler.")] = None,
    chunks: Annotated[int, Option(min=1, help="Strips that a task takes at once.")] = 1,
    resolution: Resolution = 0.5,
) -> None:
    """Map GPP, RECO and NEE wherever a cube has drivers; an interrupted map goes on.

    Weights from `tamrl train-map` read months, weights from `tamrl train` days (TA, VPD, SW_IN, and
    other drivers). The result is the same to the last bit whatever the scheduler and the chunks.

    Examples: `tamrl map map.safetensors -o globe.zarr --netcdf globe.nc` ·
    `tamrl map map.safetensors cube.zarr -o region.zarr --scheduler local:2` ·
    `tamrl map model.safetensors era5/ -o days.zarr --scheduler tcp://login1:8786 --chunks 4`
    """
    from tamrl.maps.layout import export_netcdf
    from tamrl.maps.upscale import DONE, upscale
    from tamrl.shipped import pretrained

    check_outputs([weights, Path(cube) if cube else None], output, netcdf)
    if output.suffix in (".nc", ".nc4", ".h5"):
        raise DataError(f"{output}: a map grows as a Zarr store; write -o map.zarr --netcdf FILE")
    if packed and netcdf is None:
        raise typer.BadParameter("--packed is of the NetCDF file: add --netcdf FILE")
    if not weights.is_file():
        text = f"tamrl train-map -o {weights} (for monthly cubes) or tamrl train -o {weights}"
        raise DataError(f"{weights}: no such file of weights; train some: {text} (for daily ones)")
    stored, header = pretrained.load(weights, "cpu")
    intervals, count = pretrained.intervals_of(header), len(stored)
    if members is not None and members > count:
        raise DataError(f"{weights}: holds {count} models; --members {members} is too many")
    model, source = _fitting(stored, header, weights, cube, resolution)
    if members is not None and members < count:
        model = replace(model, members=model.members[:members])
        if intervals:
            typer.echo(f"No bounds: they were calibrated for {count} members, not {members}")
            intervals = {}
    done = output.with_name(output.name + ".part") / DONE
    if strips := len(list(done.glob("[0-9]*"))):
        typer.echo(f"Going on with {output}: {strips} strip(s) there, if of this cube and weights")
    fluxes = upscale(
        model, source, output, attrs={"virtual": 1} if header.get("virtual") else {},
        intervals=intervals or None, level=header.get("level", 0.9),
        chunk=chunks, scheduler=scheduler, workers=workers,
    )  # fmt: skip
    shape = " x ".join(str(fluxes.sizes[d]) for d in ("time", "lat", "lon"))
    models = f"{'virtual towers, ' * bool(fluxes.attrs.get('virtual'))}{len(fluxes.member)}"
    typer.echo(f"Mapped {shape} (time, lat, lon) with {models} model(s): {output}")
    if netcdf is not None:
        typer.echo(f"As NetCDF: {export_netcdf(output, netcdf, packed=packed)}")


def _fitting(stored: Any, header: Any, weights: Path, cube: str | None, resolution: float) -> Any:
    """Make a map model that fits the cube, and give the cube, its path, or the study's own."""
    from tamrl.data import fetch_grid
    from tamrl.maps.daily import daily_map
    from tamrl.maps.monthly import MonthlyMap
    from tamrl.virtual.grid import virtual_grid

    if "map" in header:
        source: Any = cube or (virtual_grid() if header["virtual"] else fetch_grid(resolution))
        return MonthlyMap.restore(stored, header), source
    if cube is None:
        text = f"{weights}: these weights read daily weather; name a daily cube with TA, VPD and"
        raise DataError(f"{text} SW_IN, or train weights for months: tamrl train-map")
    grid = None
    try:
        grid = virtual_grid() if header.get("virtual") else fetch_grid()
    except DataError as error:
        typer.echo(f"tamrl: going on without site attributes: {error}", err=True)
    return daily_map(stored, header, cube, grid), cube
