"""The commands that use a trained model at a user's towers; see `tamrl.cli.app`."""

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tamrl.cli.beside import beside
from tamrl.cli.common import Device, Facts, OwnTowers, draw, say, write_scores
from tamrl.errors import DataError, InputWarning
from tamrl.files import atomic_write, check_outputs

_MODEL = "Weights from `tamrl train`.  [default: the package's]"
_PLOT = "Picture (.png, .pdf, .svg) of the first tower; needs tamrl[maps]."
Weights = Annotated[Path | None, Option("--model", "-m", help=_MODEL)]
_SATELLITES = "Table of AppEEARS, the ORNL DAAC, or csv with site and date; repeatable."
Satellites = Annotated[list[Path] | None, Option("--satellites", help=_SATELLITES)]
_TARGET = "Another column to learn instead, case as given: CH4, N2O, ET, …"
_DRIVERS = "Hourly series of that place: ERA5 of CDS (csv, NetCDF), Open-Meteo, or as towers."


def predict(
    output: Annotated[Path, Option("--output", "-o", help="NetCDF file to write, or .csv.")],
    towers: Annotated[Path | None, Argument(help="csv file or folder, or a Zarr store.")] = None,
    model: Weights = None,
    table: Facts = None,
    satellites: Satellites = None,
    at: Annotated[str, Option(help="A place without a tower: LAT,LON in degrees.")] = "",
    igbp: Annotated[str, Option(help="Its vegetation: ENF, DBF, GRA, CRO, …")] = "",
    drivers: Annotated[Path | None, Option(help=_DRIVERS)] = None,
    device: Device = "auto",
    plot: Annotated[Path | None, Option(help=_PLOT)] = None,
) -> None:
    """Predict daily GPP, RECO and NEE at your own towers or places, measured there or not.

    Air temperature, vapour pressure deficit (or humidity) and shortwave radiation are needed on
    every day that is predicted; what else you have makes it better. Several places: a table with a
    column drivers. GPP_lower, GPP_upper, … bound 90 % of daily values, if the weights are
    calibrated. What was read, converted and filled is said on stderr. Beside the fluxes stand the
    share of days with each kind of input, the dissimilarity from the training towers, whether the
    weights have seen the tower or a place within 50 km, and the hashes of weights and inputs.

    Examples: `tamrl predict my-towers.csv --table facts.csv -o fluxes.nc --plot fluxes.png` ·
    `tamrl predict my-tower.csv --table facts.csv --satellites appeears.csv -o fluxes.nc` ·
    `tamrl predict --at 50.1,10.2 --igbp ENF --drivers era5.csv -o fluxes.nc`
    """
    files = (towers, table, drivers, model, *(satellites or ()))
    inputs = [path for path in files if path is not None]
    check_outputs([*inputs, *_listed(table)], output, plot, ends=("prediction", "picture"))
    place = _place(towers, table, at, igbp, drivers)
    draw_prediction = _picture() if plot else None
    if sys.stderr.isatty():  # as a bar of progress
        _say([f"reading {towers or drivers or table}"])
    loaded, samples = _open(model, device, towers or drivers, table, satellites, **place)
    fluxes = loaded.predict(samples)
    from tamrl.shipped import report  # not before the first line is said

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
    satellites: Satellites = None,
    target: Annotated[str, Option(help=_TARGET)] = "",
    unit: Annotated[str, Option(help="Unit of that column, if the table does not state it.")] = "",
    positive: Annotated[bool, Option("--positive", help="It is never below 0.")] = False,
    device: Device = "auto",
) -> None:
    """Adapt the ensemble to your own tower by the few days of fluxes that it has.

    Networks, trees and prior stay as they are: what places differ in was learnt across the training
    towers, and your labels say how far yours does; a month of winter says little of summer. NEE
    alone is enough. Several towers get one adaptation. Predict with the new weights: their bounds
    are narrower.

    With --target another daily flux is learnt instead, from 10 labelled days or more, and predicted
    beside GPP, RECO and NEE, which stay as they are. Whether it is better than the mean of your
    labels is said.

    Example: `tamrl adapt my-tower.csv --table facts.csv -o mine.safetensors`, then
    `tamrl predict my-tower.csv --table facts.csv -m mine.safetensors -o fluxes.nc` ·
    `tamrl adapt my-marsh.csv --table facts.csv --target CH4 --unit "mg m-2 d-1" -o ch4.safetensors`
    """
    from tamrl.shipped.weights_output import check_weights_output

    check_weights_output(output, [towers, table, model, *(satellites or ()), *_listed(table)])
    further: dict[str, Any] = {"targets": (target,)} if target else {}
    loaded, samples = _open(model, device, towers, table, satellites, **further)
    from tamrl.shipped.adaptation import worse
    from tamrl.shipped.new_target import sentence

    with warnings.catch_warnings(action="ignore", category=InputWarning):  # said below
        adapted = loaded.adapt(samples, target=target, unit=unit, positive=positive)
    adapted.save(output)
    about = adapted.header
    if target:
        say(f"{target}: {sentence(target, about['targets'][target])}: {output}")
        return
    days = f"{about['labelled_days']} labelled days{', of virtual towers' * about['virtual']}"
    say(f"Adapted to {about['adapted_to']} with {days}: {output}")
    errors = (
        f"{f} {before:.2f} -> {after:.2f}" for f, (before, after) in about["held_out"].items()
    )
    say(f"RMSE on labelled days left out in turn, gC m-2 d-1: {', '.join(errors)}")
    if said := worse(about["held_out"]):
        say(said)


def monitor(
    towers: OwnTowers,
    output: Annotated[Path, Option("--output", "-o", help="Folder of the two files.")],
    model: Weights = None,
    table: Facts = None,
    satellites: Satellites = None,
    site: Annotated[str, Option(help="Which tower.  [default: whose record ends last]")] = "",
    recent: Annotated[int, Option(min=1, help="Newest days, which are judged.")] = 365,
    device: Device = "auto",
) -> None:
    """Judge whether a tower's newest weeks are unusual for it, measured there or not.

    Means over 30 days of predicted GPP, RECO and NEE are compared with the same days of the years
    before the judged ones, at least 3: what the model gets wrong every year cancels. The interval
    of 90 % was calibrated at towers that no model had seen; a flux whose interval leaves out 0 is
    above or below its normal range. Labels (weights of `tamrl adapt`) move the fluxes and narrow
    that interval by little, since what a place is always wrong by cancels without them.

    Written are the newest state of each flux (status.csv) and all judged days (anomalies.nc), each
    whole or not at all, so that a line of a crontab may keep a dashboard new.

    Examples: `tamrl monitor my-tower.csv --table facts.csv -o dashboard` ·
    `tamrl monitor my-tower.csv --table facts.csv --satellites modis.csv -m mine.safetensors -o d`
    """
    from tamrl.monitor import files, status, write

    inputs = [towers, table, model, *(satellites or ()), *_listed(table)]
    for virtual in (False, True):
        check_outputs(inputs, *files(output, virtual), ends=("NetCDF file", "table"))
    loaded, samples = _open(model, device, towers, table, satellites)
    judged = loaded.monitor(samples, site=site, recent=recent)
    write(judged, output)
    about, rows = judged.attrs, status(judged)
    name = f"{about['site']}{', virtual tower' * about['virtual']}"
    say(f"{name}, means of {about['window']} days, gC m-2 d-1:")
    for row in rows.itertuples():
        numbers = f"{row.anomaly:+.2f} ({row.lower:+.2f} to {row.upper:+.2f})"
        say(f"{row.flux} to {row.day}: {row.says}, anomaly {numbers}")
    say(f"Intervals of 90 %: {about['intervals']}")
    say(f"Written: {', '.join(map(str, files(output, bool(about['virtual']))))}")


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

    check_outputs([predicted, observed, table], output, ends="table")
    scores = score_file.score(predicted, observed, table)
    _say(scores.attrs["inputs"])
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
        library = str(error.name).partition(".")[0]
        text = f"--plot needs {library}; install it: pip install 'tamrl[maps]'"
        raise DataError(text) from error

    def save(fluxes: Any, measured: Any, path: Path) -> str:
        site = str(fluxes.site.values[0])
        plots.use_style(fluxes.attrs)
        figure = drawn(fluxes.sel(site=site), measured.sel(site=site))
        with atomic_write(path) as part:
            about = {"Software" if path.suffix.lower() == ".png" else "Creator": "tamrl"}
            figure.savefig(part, format=path.suffix[1:], metadata=about)
        return site

    return save


def _open(
    model: Path | None, device: str, towers: Path | None, table: Path | None,
    satellites: list[Path] | None, **place: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Load weights, and read a user's towers meanwhile; say what was found on stderr.

    The grid is used if it is there. Of two faults, that of the weights is said.
    """
    reading = beside(_own_samples, towers, table, satellites, **place)
    from tamrl.shipped.pretrained import open_weights
    from tamrl.shipped.weights import load_compiled

    loaded = open_weights(model, device)
    load_compiled(loaded.members)
    samples = reading()
    _say(samples.attrs["inputs"])
    return loaded, samples


def _own_samples(
    towers: Path | None, table: Path | None, satellites: list[Path] | None, **place: Any
) -> Any:
    from tamrl.shipped.inputs import own_samples

    return own_samples(towers, table, satellites or None, need_grid=False, **place)


def _listed(table: Path | None) -> list[Path]:
    """Files that a table of towers names; it is read in full, and judged, later."""
    from tamrl.data.own.csvfiles import read_csv

    if table is None or not table.is_file():
        return []
    named = read_csv(table).frame.get("drivers", ())
    return [table.parent / str(file) for file in named]


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
