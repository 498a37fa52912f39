"""The commands that use a trained model at a user's towers; see `tamrl.cli.app`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.common import Device, Facts, OwnTowers, draw, say, write_scores
from tamrl.files import atomic_write

_FROZEN = "Adapt a few hundred offsets, or all weights."
_MODEL = "Weights from `tamrl train`.  [default: the package's]"
Weights = Annotated[Path | None, Option("--model", "-m", help=_MODEL)]
_SATELLITES = "Table of AppEEARS, the ORNL DAAC, or csv with site and date; repeatable."
Satellites = Annotated[list[Path] | None, Option("--satellites", help=_SATELLITES)]
_DRIVERS = "Hourly series of that place: ERA5 of CDS (csv, NetCDF), Open-Meteo, or as towers."


def predict(
    output: Annotated[Path, Option("--output", "-o", help="NetCDF file to write.")],
    towers: Annotated[Path | None, Argument(help="csv file or folder, or a Zarr store.")] = None,
    model: Weights = None,
    table: Facts = None,
    satellites: Satellites = None,
    at: Annotated[str, Option(help="A place without a tower: LAT,LON in degrees.")] = "",
    igbp: Annotated[str, Option(help="Its vegetation: ENF, DBF, GRA, CRO, …")] = "",
    drivers: Annotated[Path | None, Option(help=_DRIVERS)] = None,
    device: Device = "auto",
) -> None:
    """Predict daily GPP, RECO and NEE at your own towers or places, measured there or not.

    Air temperature, vapour pressure deficit (or humidity) and shortwave radiation are needed on
    every day that is predicted; what else you have makes it better. Several places: a table with a
    column drivers. GPP_lower, GPP_upper, … bound 90 % of daily values, if the weights are
    calibrated. What was read, converted and filled is said on stderr.

    Examples: `tamrl predict my-towers.csv --table facts.csv -o fluxes.nc` ·
    `tamrl predict my-tower.csv --table facts.csv --satellites appeears.csv -o fluxes.nc` ·
    `tamrl predict --at 50.1,10.2 --igbp ENF --drivers era5.csv -o fluxes.nc`
    """
    from tamrl.shipped.pretrained import load_pretrained

    place = _place(towers, table, at, igbp, drivers)
    loaded = load_pretrained(model, device)
    fluxes = loaded.predict(_own_samples(towers or drivers, table, satellites, **place))
    with atomic_write(output) as part:
        fluxes.to_netcdf(part, engine="netcdf4")
    days = int(fluxes.NEE.notnull().sum())
    bounds = "with bounds of 90 %" if loaded.intervals else "without bounds (not calibrated)"
    virtual = "from virtual towers, " * bool(fluxes.attrs["virtual"])
    say(f"{days} days at {fluxes.sizes['site']} tower(s), {virtual}{bounds}: {output}")


def finetune(
    towers: OwnTowers,
    output: Annotated[Path, Option("--output", "-o", help="Where the adapted weights go.")],
    model: Weights = None,
    table: Facts = None,
    frozen: Annotated[bool, Option("--frozen/--full", help=_FROZEN)] = True,
    device: Device = "auto",
) -> None:
    """Adapt trained weights to your own tower with the few days of fluxes that it has.

    Parts of those days are left out in turn to see whether adapting helps; if not, the weights stay
    as they are. Several towers get one adaptation. Only networks are adapted; bounds are left out.

    Example: `tamrl finetune my-tower.csv --table facts.csv -o mine.safetensors`
    """
    from tamrl.shipped.pretrained import finetune as adapt
    from tamrl.shipped.pretrained import load_pretrained

    loaded = load_pretrained(model, device)
    about = adapt(_own_samples(towers, table), output, model=loaded, frozen=frozen).header
    days = f"{about['labelled_days']} labelled days{', of virtual towers' * about['virtual']}"
    say(f"Adapted to {about['adapted_to']} with {days}: {output}")
    before, after = about["held_out"]
    say(f"Error on days left out, in sd of the fluxes: {before:.3f} -> {after:.3f}")


def score(
    predicted: Annotated[Path, Argument(help="NetCDF file from `tamrl predict`.")],
    observed: Annotated[Path, Argument(help="NetCDF with daily fluxes, or towers as for predict.")],
    table: Facts = None,
    output: Annotated[Path | None, Option("--output", "-o", help="csv, by tower too.")] = None,
) -> None:
    """Score predictions against measured fluxes, on the days that both have.

    Days count of which at least 0.8 was measured by the quality flag; labels without a flag all
    count. Where predictions have bounds, the table has the share of days inside them.

    Example: `tamrl score fluxes.nc my-towers.csv --table facts.csv -o scores.csv`
    """
    from tamrl.evaluate import score_file

    scores = score_file.score(predicted, observed, table)
    _say(scores.attrs["inputs"])
    pooled = scores[scores.site == "all"]
    columns = [c for c in scores if c not in ("site", "towers") and pooled[c].notna().any()]
    draw(f"{int(pooled.towers.max())} tower(s)", pooled[columns], scores.attrs["virtual"])
    if output is not None:
        write_scores(scores, output, scores.attrs["virtual"])


def _own_samples(
    towers: Path | None, table: Path | None, satellites: list[Path] | None = None, **place: Any
) -> Any:
    """Read a user's towers, with the grid if it is there; say what was found on stderr."""
    from tamrl.shipped.inputs import own_samples

    samples = own_samples(towers, table, satellites or None, need_grid=False, **place)
    _say(samples.attrs["inputs"])
    return samples


def _say(lines: Any) -> None:
    for line in lines:
        typer.echo(f"tamrl: {line}", err=True)


def _place(
    towers: Path | None, table: Path | None, at: str, igbp: str, drivers: Path | None
) -> dict[str, Any]:
    """Keywords of `own_samples` for a place without a tower; what is asked must be whole."""
    if not at:
        if igbp or drivers:
            raise typer.BadParameter("--igbp and --drivers belong to --at LAT,LON")
        if towers is None and table is None:
            raise typer.BadParameter("name a file of towers, or --at, --igbp and --drivers")
        return {}
    if towers is not None or table is not None or not igbp or drivers is None:
        raise typer.BadParameter("--at needs --igbp and --drivers, and no towers or table")
    try:
        lat, lon = map(float, at.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"--at {at}: two numbers are expected, as 50.1,10.2") from error
    return {"lat": lat, "lon": lon, "igbp": igbp}
