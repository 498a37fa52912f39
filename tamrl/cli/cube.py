"""The command line's part for cubes of weather: `tamrl cube`."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tamrl.cli.common import one_of

_SOURCE = "arco-era5, an address, a Zarr store, NetCDF or GRIB files, or a folder of them."
_REGION = "South,west,north,east, degrees; across the dateline if west > east. None: all of it."
_YEARS = "2015, 2015-2020, or 2015-03-01:2016-02-29. None: all that are there."
_VEGETATION = "EVI of composites or months, any grid; several: --vegetation again."
_SUMS = "J m-2 and m since the stamp before (step), since 00 UTC (day), or by the values (auto)."


def _edges(text: str | None) -> tuple[float, float, float, float] | None:
    """Read a region, "47,5.5,55.5,15.5"."""
    if text is None:
        return None
    try:
        south, west, north, east = (float(part) for part in text.split(","))
    except ValueError as error:
        form = "write south,west,north,east, as 47,5.5,55.5,15.5; or --region=-35,… after a minus"
        raise typer.BadParameter(f"{text!r} is no region: {form}") from error
    return south, west, north, east


def cube(
    source: Annotated[list[str], Argument(help=_SOURCE)],
    output: Annotated[Path, Option("--output", "-o", help="Zarr store to write or to go on with.")],
    region: Annotated[str | None, Option(help=_REGION)] = None,
    years: Annotated[str | None, Option(help=_YEARS)] = None,
    vegetation: Annotated[list[str] | None, Option(help=_VEGETATION)] = None,
    sums: Annotated[str, Option(callback=one_of("auto", "step", "day"), help=_SUMS)] = "auto",
    workers: Annotated[int | None, Option(min=1, help="Threads; none: up to four.")] = None,
) -> None:
    """Make a cube of days for `tamrl map` from hourly weather: ERA5, ERA5-Land or CF files.

    Temperature, dew point (or humidity), solar radiation and, if there, rain become means and
    extremes of local days. Only the region and the hours that are needed are read. An interrupted
    cube goes on where it was. arco-era5 needs `pip install 'tamrl[cloud]'`, and keeps each hour of
    the globe in one piece: a year is 35,000 pieces of 4 MB, less as packed, whatever the region.

    Examples: `tamrl cube arco-era5 --region 47,5.5,55.5,15.5 --years 2015-2020 -o days.zarr` ·
    `tamrl cube era5-folder/ -o days.zarr --vegetation evi.nc`
    """
    from tamrl.data.weather.daily_cube import build_cube

    edges = _edges(region)
    made = build_cube(
        source, output, region=edges, years=years, vegetation=vegetation or None, sums=sums,
        workers=workers,
    )  # fmt: skip
    for line in str(made.attrs["inputs"]).splitlines():
        typer.echo(line)
    shape = " x ".join(str(made.sizes[d]) for d in ("time", "lat", "lon"))
    names = ", ".join(str(n) for n in made.data_vars)
    typer.echo(f"Cube of {shape} (time, lat, lon) with {names}: {output}")
