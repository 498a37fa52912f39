"""The commands that use a trained model at one's own towers; see `tamrl.cli.app`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tamrl.errors import DataError
from tamrl.files import atomic_write

if TYPE_CHECKING:
    from tamrl.samples.arrays import Samples

Own = Annotated[Path, typer.Argument(help="ONEFlux csv file or folder, or a Zarr store.")]
Table = Annotated[Path | None, typer.Option(help="csv of the towers: site, lat, lon, igbp, …")]
Weights = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Weights from `tamrl train`.  [default: the package's]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def _say(text: str) -> None:
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def predict(
    towers: Own,
    output: Annotated[Path, typer.Option("--output", "-o", help="NetCDF file to write.")],
    model: Weights = None,
    table: Table = None,
    device: Device = "auto",
) -> None:
    """Predict daily GPP, RECO and NEE at your own towers, with or without measured fluxes.

    Air temperature, vapour pressure deficit and shortwave radiation are needed; a day without
    one of them stays missing. Other drivers may be absent. GPP_lower, GPP_upper, … bound 90 % of
    daily values, where the weights hold a calibration.

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
    _say(f"{days} days at {fluxes.sizes['site']} tower(s), {bounds}: {output}")


def finetune(
    towers: Own,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the adapted weights go.")],
    model: Weights = None,
    table: Table = None,
    frozen: Annotated[
        bool, typer.Option("--frozen/--full", help="Adapt a few hundred offsets, or all weights.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Adapt trained weights to your own tower with the few days of fluxes that it has.

    Parts of those days are left out in turn to see whether adapting helps; if it does not, the
    weights stay as they are. Several towers get one common adaptation. Only networks can be
    adapted: of an ensemble that has trees beside them the networks alone are taken, and bounds,
    which were calibrated for other weights, are left out.

    Example: `tamrl finetune my-tower.csv --table facts.csv -o mine.safetensors`
    """
    import numpy as np

    from tamrl.model.adapt import finetune as adapt
    from tamrl.shipped import pretrained
    from tamrl.shipped.weights import networks_alone

    loaded = pretrained.load_pretrained(model, device)
    samples = _own_samples(towers, table)
    if loaded.header["features"] != list(samples.features):
        raise DataError(f"{towers}: the weights were trained on other drivers")
    samples = pretrained.placed(samples, loaded.header)
    sites = np.arange(len(samples.site))
    logs, adapted = [], []
    for member in networks_alone(loaded.members):
        told = member.tell(samples) if hasattr(member, "tell") else samples
        network = adapt(getattr(member, "fitted", member), told, sites, frozen=frozen)
        logs.append(network.log)
        adapted.append(replace(member, fitted=network) if hasattr(member, "tell") else network)
    facts = {name: loaded.header[name] for name in ("seed", "towers") if name in loaded.header}
    names = ", ".join(samples.site)
    pretrained.save(adapted, output, samples, **facts, adapted_to=names)
    days = int((samples.weight > 0).sum())
    before = np.mean([log[0]["held_out"] for log in logs]) ** 0.5
    after = np.mean([[e["held_out"] for e in log if e["taken"]][-1] for log in logs]) ** 0.5
    _say(f"Adapted to {names} with {days} labelled days: {output}")
    _say(f"Error on days left out, in sd of the fluxes: {before:.3f} -> {after:.3f}")


def score(
    predicted: Annotated[Path, typer.Argument(help="NetCDF file from `tamrl predict`.")],
    observed: Annotated[
        Path, typer.Argument(help="NetCDF with daily fluxes, or towers as for `tamrl predict`.")
    ],
    table: Table = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="csv of all scores, by tower too.")
    ] = None,
) -> None:
    """Score predictions against measured fluxes, on the days that both have.

    Days count whose quality flag says that at least 0.8 of the day was measured, as everywhere in
    this study; labels without a flag all count. Where predictions have bounds, the share of
    days inside them is told.

    Example: `tamrl score fluxes.nc my-towers.csv --table facts.csv -o scores.csv`
    """
    from rich.table import Table as Shown

    from tamrl.evaluate.score_file import open_fluxes, score_file

    scores = score_file(predicted, open_fluxes(observed, table))
    if output is not None:
        with atomic_write(output) as part:
            scores.to_csv(part, index=False)
    pooled = scores[scores.site == "all"]
    shown = Shown(title=f"{int(pooled.towers.max())} tower(s); gC m-2 d-1")
    columns = [c for c in scores if c not in ("site", "towers") and pooled[c].notna().any()]
    for name in columns:
        shown.add_column(str(name), justify="left" if name == "flux" else "right")
    for row in pooled[columns].itertuples(index=False):
        shown.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    console = Console(highlight=False, soft_wrap=True)
    console.print(shown)
    if output is not None:
        _say(f"All scores: {output}")


def _own_samples(towers: Path, table: Path | None) -> Samples:
    """Read a user's towers, with the drivers that the grid has for their places if it is there."""
    from tamrl.data import open_towers
    from tamrl.samples.arrays import make_samples
    from tamrl.shipped.pretrained import own_samples

    daily = open_towers(towers, table)
    try:
        return own_samples(daily)
    except DataError as error:
        typer.echo(f"tamrl: going on without gridded drivers: {error}", err=True)
        return make_samples(daily)
