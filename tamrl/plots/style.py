"""The look that all figures share: colours, fonts, panels, legends, globes.

A model has one colour and a flux another, which differ under colour blindness, too (most are of
Okabe & Ito 2008, https://jfly.uni-koeln.de/color/); vegetation classes differ by marker as well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec
from zlib import crc32

import cartopy
import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from cartopy import crs as ccrs
from cartopy import feature
from matplotlib.axes import Axes
from matplotlib.figure import Figure

cartopy.config["pre_existing_data_dir"] = str(Path(__file__).parents[1] / "natural_earth")

UNIT, MINUS = "gC m$^{-2}$ d$^{-1}$", "\N{MINUS SIGN}"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, RED, PINK, GREY = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"
WINE, RUST, ROSE = "#882255", "#C04A00", "#E08FC0"  # of models alone
MODEL_COLOURS = {  # names in lower case, without what stands in brackets
    "ensemble": WINE, "average year": WINE, "this study": WINE, "tam-rl": RUST,
    "hard closure": RUST, "tam-rl as published": ROSE, "boosting": SKY, "lightgbm": SKY,
    "boosted trees on the grid": SKY, "climatology": GREY, "fluxcom": GREY, "fluxcom-rs": GREY,
    "observed": "black", "true": "black",
}  # fmt: skip
SPARE = ("#44AA99", "#999933", YELLOW, "#332288", PINK, "#DDCC77", "#6699CC", "#661100")
FLUX_COLOURS = {"GPP": GREEN, "RECO": ORANGE, "NEE": BLUE}
COLOUR_MAPS = {"GPP": "viridis", "RECO": "cividis", "NEE": "BrBG_r"}
BIOMES = {  # colour by kind of vegetation, marker by class
    "ENF": (GREEN, "^"), "EBF": (GREEN, "s"), "DNF": (GREEN, "v"), "DBF": (GREEN, "o"),
    "MF": (GREEN, "D"), "CSH": (ORANGE, "P"), "OSH": (ORANGE, "X"), "WSA": (ORANGE, "s"),
    "SAV": (ORANGE, "o"), "GRA": (YELLOW, "o"), "WET": (BLUE, "o"), "CRO": (RED, "o"),
    "CVM": (RED, "s"), "URB": (PINK, "s"), "SNO": (SKY, "s"), "BSV": (SKY, "D"), "WAT": (SKY, "v"),
}  # fmt: skip
LAND = feature.NaturalEarthFeature("physical", "land", "110m")

_note = ""
P = ParamSpec("P")
Size = tuple[float, float]
FluxPanel = tuple[Axes, str, pd.DataFrame]


def use_style(attrs: Mapping[str, Any]) -> None:
    """Set the study's look; ``attrs`` of the towers decide whether figures say "virtual towers"."""
    global _note
    _note = "virtual towers" if int(attrs.get("virtual", 0)) else ""
    mpl.rcParams.update({
        "figure.dpi": 130, "figure.constrained_layout.use": True, "font.size": 11,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
        "axes.grid": False, "legend.frameon": False, "legend.fontsize": 10,
    })  # fmt: skip


def figure(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Finish a figure: a legend of several below unless it has one, a note of virtual towers."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        fig = draw(*args, **kwargs)
        labels = [ax.get_legend_handles_labels() for ax in fig.axes]
        named = {n: mark for marks, names in labels for mark, n in zip(marks, names, strict=True)}
        if len(named) > 1 and not fig.legends:
            marks, wide = list(named.values()), 0.65 + 0.075 * max(map(len, named))  # inches each
            count = max(1, min(len(named), int(fig.get_size_inches()[0] / wide)))
            fig.legend(marks, list(named), loc="outside lower center", ncols=count)
        if _note:
            fig.suptitle(_note, x=0.99, ha="right", fontsize=10, color=RED, weight="bold")
        plt.close(fig)
        return fig

    return drawn


def kind(name: str) -> str:
    """Name in `MODEL_COLOURS` of a model, or of the one that it is a variant of."""
    whole = name.lower().partition(" (")[0]
    return whole if whole in MODEL_COLOURS else whole.partition(",")[0]


def model_colours(names: Iterable[object]) -> dict[str, str]:
    """Give models their colours by name in any case, others spare ones, unlike while they last.

    A variant, "LightGBM, annual prior", has its model's colour where no other variant is shown.
    """
    shown, colours = list(dict.fromkeys(map(str, names))), dict[str, str]()
    kinds = [name.lower().partition(",")[0] for name in shown]
    for name, kind in zip(shown, kinds, strict=True):
        alone = MODEL_COLOURS.get(kind) if kinds.count(kind) == 1 else None
        known = MODEL_COLOURS.get(name.lower().partition(" (")[0], alone)
        first = crc32(name.lower().encode()) % len(SPARE)
        spare = SPARE[first:] + SPARE[:first]
        unused = [colour for colour in spare if colour not in colours.values()]
        colours[name] = known or (unused or spare)[0]
    return colours


def by_class(table: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Code, colour, marker and rows of each vegetation class (column igbp) of ``table``."""
    for code, look in BIOMES.items():
        if (table.igbp == code).any():
            yield code, *look, table[table.igbp == code]


def rows(panels: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make panels below each other, ``height`` inches in all."""
    fig, axes = plt.subplots(panels, 1, figsize=(7.6, height), squeeze=False, **options)
    return fig, list(axes[:, 0])


def columns(panels: int, size: Size, **options: Any) -> tuple[Figure, list[Axes]]:
    """Make panels side by side, ``size`` in inches; they share y unless ``sharey`` is False."""
    fig, axes = plt.subplots(1, panels, figsize=size, squeeze=False, **{"sharey": True, **options})
    return fig, list(axes[0])


def by_flux(table: pd.DataFrame, size: Size, **options: Any) -> tuple[Figure, list[FluxPanel]]:
    """Make a titled panel for each flux of ``table``, side by side, with the rows it shows."""
    groups = [(str(flux), part) for flux, part in table.groupby("flux", sort=False)]
    fig, axes = columns(max(len(groups), 1), size, **options)
    panels = [(ax, flux, part) for ax, (flux, part) in zip(axes, groups, strict=False)]
    for ax, flux, _ in panels:
        ax.set_title(flux)
    return fig, panels


def globe(fig: Figure, *place: Any) -> Any:
    """Add a world map in equal-area projection."""
    ax: Any = fig.add_subplot(*place, projection=ccrs.EqualEarth())
    ax.set_global()
    return land(ax)


def land(ax: Any) -> Any:
    """Draw grey land under coastlines, and a thin frame."""
    ax.add_feature(LAND, facecolor="#ececec", zorder=0)
    ax.coastlines("110m", linewidth=0.4, color="#555555", zorder=2)
    ax.spines["geo"].set(linewidth=0.4, color="#999999")
    return ax
