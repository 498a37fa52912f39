"""The command line's part for maps; see `tamrl.cli.app`."""

import re
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.common import Device, one_of
from tamrl.errors import DataError
from tamrl.files import DONE, check_outputs, check_store, origins


def _known_scheduler(name: str | None) -> str | None:
    if name and not re.fullmatch(r"local:[1-9]\d*|\w+://\S+", name):
        raise typer.BadParameter(f"{name!r} is neither local:N, as local:2, nor tcp://host:8786")
    return name


Store = Annotated[Path, Option("--output", "-o", help="Zarr store to write or to go on with.")]
_SCHEDULER = "local:N or tcp://host:8786; none: threads."
Scheduler = Annotated[str | None, Option(callback=_known_scheduler, help=_SCHEDULER)]
_RESOLUTION = "Of the average year without a cube: 0.5 or 1.  [default: 0.5]"
Resolution = Annotated[float | None, Option(callback=one_of(0.5, 1.0), help=_RESOLUTION)]
_CUBE = "Zarr store, NetCDF file or folder; none: an average year of the globe."
_WEIGHTS = "Of `tamrl train` or `tamrl adapt`.  [default: the package's own]"
Weights = Annotated[Path | None, Option("--weights", "-w", help=_WEIGHTS)]
_EVERY = "Means over: step (days of the cube), month or year."
Every = Annotated[str, Option(callback=one_of("step", "month", "year"), help=_EVERY)]
Cube = Annotated[str | None, Argument(help=_CUBE)]


def map_cube(
    cube: Cube = None,
    weights: Weights = None,
    output: Store = Path("map.zarr"),
    every: Every = "step",
    netcdf: Annotated[Path | None, Option(help="Also write one NetCDF file.")] = None,
    packed: Annotated[bool, Option("--packed", help="int16 in it: half the size.")] = False,
    scheduler: Scheduler = None,
    workers: Annotated[int | None, Option(min=1, help="Threads without scheduler.")] = None,
    chunks: Annotated[int, Option(min=1, help="Strips that a task takes at once.")] = 1,
    resolution: Resolution = None,
    device: Device = "cpu",
) -> None:
    """Map GPP, RECO and NEE wherever a cube has drivers; an interrupted map goes on.

    A cube is daily and has TA, VPD and SW_IN; other drivers and satellite variables help. Without
    one, an average year of the globe is mapped by month. The model is that of `tamrl predict`, its
    bounds of 90 % were calibrated at held-out towers. The result is the same to the last bit
    whatever the scheduler and the chunks. On a GPU (--device cuda) trees stay on the CPU.

    Examples: `tamrl map -o globe.zarr --netcdf globe.nc` ·
    `tamrl map cube.zarr -o region.zarr --every month --scheduler local:2` ·
    `tamrl map era5/ -o days.zarr --scheduler tcp://login1:8786 --chunks 4`
    """
    from tamrl.data import fetch_grid
    from tamrl.maps.layout import export_netcdf
    from tamrl.maps.pretrained import load_pretrained
    from tamrl.virtual.grid import virtual_grid

    check_outputs([weights, *origins(cube)], output, netcdf, ends=("Zarr store", "NetCDF file"))
    check_store(output, cube)
    if resolution is not None and cube is not None:
        raise typer.BadParameter("--resolution is of the average year; a cube has its own")
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("--workers is of threads; a scheduler has workers of its own")
    if packed and netcdf is None:
        raise typer.BadParameter("--packed is of the NetCDF file: add --netcdf FILE")
    model, start = load_pretrained(weights, device), time.perf_counter()
    done = output.with_name(output.name + ".part") / DONE
    if strips := len(list(done.glob("[0-9]*"))):
        typer.echo(f"Going on with {output}: {strips} strip(s) there, if of this cube and weights")
    options: Any = {"chunk": chunks, "scheduler": scheduler, "workers": workers}
    try:
        real = not model.header.get("virtual")
        grid = fetch_grid(resolution or 0.5) if real else virtual_grid()
    except DataError as error:
        if cube is None:
            raise
        typer.echo(f"tamrl: going on without site attributes: {error}", err=True)
        grid, options["need_grid"] = None, False
    there = output.exists()
    fluxes = model.map(cube, output, grid, every, **options)
    shape = " x ".join(str(fluxes.sizes[d]) for d in ("time", "lat", "lon"))
    models = f"{'virtual towers, ' * bool(fluxes.attrs.get('virtual'))}{len(fluxes.member)}"
    bounds = "bounds of 90 %" if "GPP_lower" in fluxes else "no bounds: the weights hold none"
    typer.echo(f"Mapped {shape} (time, lat, lon) with {models} model(s), {bounds}: {output}")
    for note in str(fluxes.attrs.get("history")).split("; ")[1:]:
        typer.echo(note)
    if not (strips or there):
        seconds = time.perf_counter() - start
        mapped = int(fluxes.GPP.isel(time=0).notnull().sum()) * fluxes.sizes["time"]
        typer.echo(
            f"It took {seconds:.0f} s: {mapped / seconds:,.0f} steps of cells with fluxes a second"
        )
    if netcdf is not None:
        typer.echo(f"As NetCDF: {export_netcdf(output, netcdf, packed=packed)}")
