"""The commands that use a trained model at a user's towers; see `tamrl.cli.app`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.common import Device, Facts, OwnTowers, draw, not_an_input, say, write_scores
from tamrl.errors import DataError
from tamrl.files import atomic_write

_MODEL = "Weights from `tamrl train`.  [default: the package's]"
_PLOT = "Picture (.png, .pdf, .svg) of the first tower; needs tamrl[maps]."
Weights = Annotated[Path | None, Option("--model", "-m", help=_MODEL)]


def predict(
    towers: OwnTowers,
    output: Annotated[Path, Option("--output", "-o", help="NetCDF file to write, or .csv.")],
    model: Weights = None,
    table: Facts = None,
    device: Device = "auto",
    plot: Annotated[Path | None, Option(help=_PLOT)] = None,
) -> None:
    """Predict daily GPP, RECO and NEE at your own towers, with or without measured fluxes.

    Air temperature, vapour pressure deficit and shortwave radiation are needed on every day that
    is predicted. GPP_lower, GPP_upper, … bound 90 % of daily values, if the weights are calibrated.
    Beside the fluxes stand the share of days with each kind of input, the dissimilarity from the
    training towers, whether the weights have seen the tower or a place within 50 km, and the hashes
    of weights and inputs.

    Examples: `tamrl predict my-towers.csv --table facts.csv -o fluxes.nc --plot fluxes.png` ·
    `tamrl predict store.zarr --table facts.csv -m model.safetensors -o fluxes.nc`
    """
    from tamrl.shipped import report
    from tamrl.shipped.pretrained import load_pretrained

    inputs = [path for path in (towers, table, model) if path is not None]
    not_an_input(inputs, output, plot)
    draw_prediction = _picture() if plot else None
    loaded = load_pretrained(model, device)
    samples = _own_samples(towers, table)
    fluxes = loaded.predict(samples)
    report.write(fluxes, output, inputs)
    days = int(fluxes.NEE.notnull().sum())
    bounds = "with bounds of 90 %" if loaded.intervals else "without bounds (not calibrated)"
    virtual = "from virtual towers, " * bool(fluxes.attrs["virtual"])
    say(f"{days} days at {fluxes.sizes['site']} tower(s), {virtual}{bounds}: {output}")
    for line in report.sentences(fluxes):
        say(line)
    if draw_prediction and plot:
        site = draw_prediction(fluxes, report.labels(samples), plot)
        say(f"Picture of {site}, the first of {fluxes.sizes['site']} tower(s): {plot}")


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
    predicted: Annotated[Path, Argument(help="NetCDF or csv file from `tamrl predict`.")],
    observed: Annotated[Path, Argument(help="NetCDF with daily fluxes, or towers as for predict.")],
    table: Facts = None,
    output: Annotated[Path | None, Option("--output", "-o", help="csv, by tower too.")] = None,
) -> None:
    """Score predictions against measured fluxes, on the days that both have.

    Days count of which at least 0.8 was measured or well filled by the quality flag; where a tower
    has no flag, all days count, which is said. NEE alone is enough. Where predictions have bounds,
    the table has the share of days inside them. A tower that the weights have learnt from, or that
    has such a place within 50 km, is "seen": its score is no test of the model.

    Example: `tamrl score fluxes.nc my-towers.csv --table facts.csv -o scores.csv`
    """
    from tamrl.evaluate import score_file

    scores = score_file.score(predicted, observed, table)
    pooled = scores[scores.site == "all"]
    columns = [c for c in scores if c not in ("site", "towers") and pooled[c].notna().any()]
    draw(f"{int(pooled.towers.max())} tower(s)", pooled[columns], scores.attrs["virtual"])
    for line in score_file.cautions(scores):
        say(line)
    if output is not None:
        write_scores(scores, output, scores.attrs["virtual"])


def _picture() -> Any:
    """Make what draws and saves a picture; DataError now where a library for it is missing."""
    try:
        from tamrl import plots

        drawn = plots.prediction
    except ImportError as error:
        text = f"--plot needs {error.name}; install it: pip install 'tamrl[maps]'"
        raise DataError(text) from error

    def save(fluxes: Any, measured: Any, path: Path) -> str:
        site = str(fluxes.site.values[0])
        plots.use_style(fluxes.attrs)
        figure = drawn(fluxes.sel(site=site), measured.sel(site=site))
        with atomic_write(path) as part:
            figure.savefig(part, format=path.suffix[1:] or "png")
        return site

    return save


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
