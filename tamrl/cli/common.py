"""What commands share: options, how they speak and draw a table, checks of what is asked."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from tamrl.errors import DataError
from tamrl.files import atomic_write

WIDE = 160  # columns of a file or pipe
Names = list[str] | None


def say(text: str | Table) -> None:
    """Write a line or a table to standard output, whatever the width of the terminal."""
    width = None if sys.stdout.isatty() else WIDE
    Console(highlight=False, soft_wrap=True, width=width).print(text, markup=False)


def draw(title: str, rows: Any, virtual: Any = False) -> None:
    """Draw a DataFrame of fluxes: words to the left, numbers to the right with three digits."""
    table = Table(title=f"{title}{', virtual towers' * bool(virtual)}; gC m-2 d-1")
    for name in rows:
        words = isinstance(rows[name].iloc[0], str)
        table.add_column(str(name), justify="left" if words else "right")
    for row in rows.itertuples(index=False):
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row))
    say(table)


def write_scores(scores: Any, path: Path, virtual: Any) -> None:
    """Write a DataFrame as csv, whole or not at all, with a column ``virtual``; say where."""
    with atomic_write(path) as part:
        scores.assign(virtual=int(bool(virtual))).to_csv(part, index=False)
    say(f"All scores: {path}")


@contextmanager
def usage() -> Iterator[None]:
    """Let a ValueError that is not about data end as a command that was not understood."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def known_device(name: str) -> str:
    """Refuse a device that does not exist, or that this machine lacks."""
    kind, _, number = name.partition(":")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise typer.BadParameter(f"{name!r} is not one of auto, cpu, cuda, cuda:1, …, mps")
    if kind in ("cuda", "mps"):
        import torch

        there = torch.cuda if kind == "cuda" else torch.backends.mps
        if not there.is_available() or (number and int(number) >= torch.cuda.device_count()):
            raise typer.BadParameter(f"PyTorch finds no {name} device here; use cpu or auto")
    return name


def one_of(*allowed: Any) -> Callable[[Any], Any]:
    """Make a check that refuses what is not among these values (None: not given)."""

    def check(value: Any) -> Any:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value} is not one of {', '.join(map(str, allowed))}")
        return value

    return check


def several(folds: int) -> int:
    """Refuse a single fold, which leaves no tower to train on."""
    if folds == 1:
        raise typer.BadParameter("1 fold leaves nothing to train on: at least 2, or 0 for none")
    return folds


_DEVICE = "auto (the fastest at hand), cpu, cuda or mps."
Device = Annotated[str, Option(callback=known_device, help=_DEVICE)]
_TOWERS = "fluxnet2015, virtual, or auto: real where available."
_CHECK_TOWERS = one_of("auto", "fluxnet2015", "virtual")
Towers = Annotated[str, Option(callback=_CHECK_TOWERS, help=_TOWERS)]
OwnTowers = Annotated[Path, Argument(help="ONEFlux csv file or folder, or a Zarr store.")]
Facts = Annotated[Path | None, Option("--table", help="csv of towers: site, lat, lon, igbp, …")]
_SEED = "The same seed gives the same result on a CPU."
Seed = Annotated[int, Option(min=0, max=2**31 - 1, help=_SEED)]  # as LightGBM and XGBoost take it
_EPOCHS = "Passes over the towers.  [default: each model's]"
Epochs = Annotated[int | None, Option(min=1, help=_EPOCHS)]
Jobs = Annotated[int, Option(min=1, help="Processes at a time.")]
