"""The command line's part for maps: `tamrl train-map` and `tamrl map`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tamrl.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

    from tamrl.maps.boosted import MapModel

KINDS = ("tam-rl", "boosting")


def _say(text: str) -> None:
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def train_map(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the weights go.")],
    model: Annotated[str, typer.Option(help="tam-rl or boosting (quicker).")] = "tam-rl",
    members: Annotated[int, typer.Option(min=1, help="Models in the ensemble.")] = 5,
    towers: Annotated[str, typer.Option(help="fluxnet2015, virtual, or auto.")] = "auto",
    resolution: Annotated[float, typer.Option(help="Of the predictor grid: 0.5 or 1.")] = 0.5,
    folds: Annotated[
        int, typer.Option(min=0, help="Folds of towers to calibrate the interval on; 0: none.")
    ] = 5,
    level: Annotated[float, typer.Option(help="Share of tower-months an interval holds.")] = 0.9,
    seed: Annotated[int, typer.Option(help="Of the ensemble and the folds.")] = 0,
) -> None:
    """Train an ensemble that maps monthly fluxes from gridded predictors (safetensors).

    The members differ by the towers they are trained on. With folds, as many ensembles more are
    trained to find how wide an interval must be at towers that were not seen.

    Examples: `tamrl train-map -o map.safetensors` ·
    `tamrl train-map -o map.safetensors --model boosting --folds 10`
    """
    from tqdm import tqdm

    from tamrl.maps import weights as map_weights
    from tamrl.maps.boosted import BoostedMap, monthly_training_table, out_of_fold, spread_factors
    from tamrl.maps.seasonal import TamRLMap
    from tamrl.sources import load_grid, load_towers

    if model not in KINDS:
        raise typer.BadParameter(f"{model!r} is not one of {', '.join(KINDS)}")
    kind: Any = TamRLMap if model == "tam-rl" else BoostedMap
    daily = load_towers(towers)
    table = monthly_training_table(daily, load_grid(daily, resolution))
    calibrate = folds > 1 and members > 1
    bar = tqdm(total=members * (1 + folds * calibrate), desc="Training", leave=False)

    def ensemble(table: xr.Dataset, train: Any = None) -> list[MapModel]:
        fitted: list[MapModel] = []
        for i in range(members):
            fitted.append(kind(seed=seed * 1000 + i).fit(table, train))
            bar.update()
        return fitted

    factors = None
    if calibrate:
        factors = spread_factors(out_of_fold(table, ensemble, folds, seed), level)
    models: Any = ensemble(table)
    bar.close()
    facts = {"seed": seed, "resolution": resolution}
    map_weights.save(models, output, table, factors, level if calibrate else None, **facts)
    _say(f"Trained {members} {model} model(s) for maps: {output}")
    if factors:
        widths = ", ".join(f"{flux} {factor:.1f}" for flux, factor in factors.items())
        _say(f"Half width of the {100 * level:.0f} % interval, in sd of the ensemble: {widths}")


def map_cube(
    weights: Annotated[Path, typer.Argument(help="From `tamrl train-map` or `tamrl train`.")],
    cube: Annotated[
        str | None,
        typer.Argument(help="Zarr store, NetCDF file or folder; the study's own grid if left out."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Zarr store to write or to go on with.")
    ] = Path("map.zarr"),
    netcdf: Annotated[Path | None, typer.Option(help="Also write one NetCDF file.")] = None,
    packed: Annotated[
        bool, typer.Option("--packed", help="int16 in the NetCDF file: half the size.")
    ] = False,
    members: Annotated[
        int | None, typer.Option(min=1, help="Use only so many models of the ensemble.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="local:N processes, or tcp://host:8786; threads if left out.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads without scheduler.")] = None,
    chunks: Annotated[int, typer.Option(min=1, help="Strips that a task takes at once.")] = 1,
    resolution: Annotated[float, typer.Option(help="Of the study's own grid: 0.5 or 1.")] = 0.5,
) -> None:
    """Map GPP, RECO and NEE wherever a cube has drivers; an interrupted map goes on.

    Weights from `tamrl train-map` read twelve months or monthly dates; weights from `tamrl train`
    read days (TA, VPD, SW_IN, and what else of the towers' drivers the cube has). The result is
    the same to the last bit whatever the scheduler and the chunks.

    Examples: `tamrl map map.safetensors -o globe.zarr --netcdf globe.nc` ·
    `tamrl map map.safetensors cube.zarr -o region.zarr --scheduler local:2` ·
    `tamrl map model.safetensors era5/ -o days.zarr --scheduler tcp://login1:8786 --chunks 4`
    """
    from tamrl.maps.layout import export_netcdf
    from tamrl.maps.upscale import DONE, upscale

    if output.suffix in (".nc", ".nc4", ".h5"):
        raise DataError(f"{output}: a map grows as a Zarr store; write -o map.zarr --netcdf FILE")
    if packed and netcdf is None:
        raise typer.BadParameter("--packed is of the NetCDF file: add --netcdf FILE")
    models, header, source = _prepare(weights, cube, resolution)
    factors = header.get("factors")
    if members is not None and members < len(models):
        models = models[:members]
        if factors:
            _say(f"No bounds: they were calibrated for {header['members']} members, not {members}")
            factors = None
    elif members is not None and members > len(models):
        raise DataError(f"{weights}: holds {len(models)} models; --members {members} is too many")
    done = output.with_name(output.name + ".part") / DONE
    if kept := len(list(done.glob("[0-9]*"))):
        _say(f"Going on with {output}: {kept} strip(s) are there if weights and cube are the same")
    attrs = {"virtual": 1} if header.get("virtual") else {}
    got = upscale(
        models, source, output, factors=factors, level=header.get("level"), chunk=chunks,
        scheduler=scheduler, workers=workers, attrs=attrs,
    )  # fmt: skip
    shape = " x ".join(str(got.sizes[d]) for d in ("time", "lat", "lon"))
    virtual = "virtual towers, " if got.attrs.get("virtual") else ""
    _say(f"Mapped {shape} (time, lat, lon) with {virtual}{len(models)} model(s): {output}")
    if netcdf is not None:
        _say(f"As NetCDF: {export_netcdf(output, netcdf, packed=packed)}")


def _prepare(
    weights: Path, cube: str | None, resolution: float
) -> tuple[list[MapModel], dict[str, Any], xr.Dataset | str]:
    """Load models that fit the cube, and the cube or its path."""
    from tamrl.data import fetch_grid
    from tamrl.maps import weights as map_weights
    from tamrl.shipped import pretrained
    from tamrl.virtual.grid import virtual_grid

    header = map_weights.read_header(weights)
    if "kind" in header:
        models, header = map_weights.load(weights)
        if cube is not None:
            return models, header, cube
        return models, header, virtual_grid() if header["virtual"] else fetch_grid(resolution)
    if cube is None:
        raise DataError(
            f"{weights}: these weights read daily weather; name a daily cube with TA, VPD and "
            "SW_IN, or train weights for months: tamrl train-map"
        )
    from tamrl.maps.daily import tower_maps

    networks, header = pretrained.load(weights, "cpu")
    try:
        grid = virtual_grid() if header.get("virtual") else fetch_grid()
    except DataError as error:
        typer.echo(f"tamrl: going on without facts about the places: {error}", err=True)
        grid = None
    return list(tower_maps(networks, header, cube, grid)), header, cube
