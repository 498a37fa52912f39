"""The commands that use a trained model at a user's towers; see `tamrl.cli.app`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.common import Device, Facts, OwnTowers, draw, say, write_scores
from tamrl.errors import DataError
from tamrl.files import atomic_write

_MODEL = "Weights from `tamrl train`.  [default: the package's]"
Weights = Annotated[Path | None, Option("--model", "-m", help=_MODEL)]


def predict(
    towers: OwnTowers,
    output: Annotated[Path, Option("--output", "-o", help="NetCDF file to write.")],
    model: Weights = None,
    table: Facts = None,
    device: Device = "auto",
) -> None:
    """Predict daily GPP, RECO and NEE at your own towers, with or without measured fluxes.

    Air temperature, vapour pressure deficit and shortwave radiation are needed on every day that
    is predicted. GPP_lower, GPP_upper, … bound 90 % of daily values, if the weights are calibrated.

    Examples: `tamrl predict my-towers.csv --table facts.csv -o fluxes.nc` ·
    `tamrl predict store.zarr --table facts.csv -m model.safetensors -o fluxes.nc`
    """
    from tamrl.shipped.pretrained import load_pretrained

    loaded = load_pretrained(model, device)
    fluxes = loaded.predict(_own_samples(towers, table))
    with atomic_write(output) as part:
        fluxes.to_netcdf(part, engine="netcdf4")
    days = int(fluxes.NEE.notnull().sum())
    bounds = "with bounds of 90 %" if loaded.intervals else "without bounds (not calibrated)"
    virtual = "from virtual towers, " * bool(fluxes.attrs["virtual"])
    say(f"{days} days at {fluxes.sizes['site']} tower(s), {virtual}{bounds}: {output}")


def adapt(
    towers: OwnTowers,
    output: Annotated[Path, Option("--output", "-o", help="Where the adapted weights go.")],
    model: Weights = None,
    table: Facts = None,
    device: Device = "auto",
) -> None:
    """Adapt the ensemble to your own tower by the few days of fluxes that it has.

    Networks, trees and prior stay as they are: what places differ in was learnt across the training
    towers, and your labels say how far yours does; a month of winter says little of summer. NEE
    alone is enough. Several towers get one adaptation. Predict with the new weights: their bounds
    are narrower.

    Example: `tamrl adapt my-tower.csv --table facts.csv -o mine.safetensors`, then
    `tamrl predict my-tower.csv --table facts.csv -m mine.safetensors -o fluxes.nc`
    """
    from tamrl.shipped.pretrained import load_pretrained

    adapted = load_pretrained(model, device).adapt(_own_samples(towers, table))
    adapted.save(output)
    about = adapted.header
    days = f"{about['labelled_days']} labelled days{', of virtual towers' * about['virtual']}"
    say(f"Adapted to {about['adapted_to']} with {days}: {output}")
    errors = (
        f"{f} {before:.2f} -> {after:.2f}" for f, (before, after) in about["held_out"].items()
    )
    say(f"RMSE on labelled days left out in turn, gC m-2 d-1: {', '.join(errors)}")


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
    pooled = scores[scores.site == "all"]
    columns = [c for c in scores if c not in ("site", "towers") and pooled[c].notna().any()]
    draw(f"{int(pooled.towers.max())} tower(s)", pooled[columns], scores.attrs["virtual"])
    if output is not None:
        write_scores(scores, output, scores.attrs["virtual"])


def _own_samples(towers: Path, table: Path | None) -> Any:
    """Read a user's towers, with the drivers of the grid at their places if it is there."""
    from tamrl.data import open_towers
    from tamrl.samples.arrays import make_samples
    from tamrl.samples.phenology import with_phenology
    from tamrl.shipped.pretrained import own_samples

    daily = open_towers(towers, table)
    try:
        return own_samples(daily)
    except DataError as error:
        typer.echo(f"tamrl: going on without gridded drivers: {error}", err=True)
        return with_phenology(make_samples(daily), daily.get("EVI"))
