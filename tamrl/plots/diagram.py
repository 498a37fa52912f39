"""The model drawn by code: boxes and arrows, no data."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ORANGE, GREEN, BLUE, RED = "#E69F00", "#009E73", "#0072B2", "#D55E00"
SIZE = 11.5  # points: read without effort at the width of a page


def model_diagram() -> Figure:
    """Draw TAM-RL: support set to task embedding, which modulates the decoder of the query."""
    fig, ax = plt.subplots(figsize=(8.0, 6.0), layout="none")
    ax.set(xlim=(0, 100), ylim=(0, 75))
    ax.axis("off")
    fig.subplots_adjust(0, 0, 1, 1)
    ax.text(1, 71, "What kind of place is this?", color=BLUE, weight="bold", fontsize=SIZE + 1)
    ax.text(1, 37, "What does it do today?", color="#00664B", weight="bold", fontsize=SIZE + 1)
    for x, y, w, text, colour in (
        (1, 54, 29, "support set\nwindows of the place's\nown drivers, no fluxes", BLUE),
        (40, 54, 25, "BiLSTM encoder\nmean over windows", BLUE),
        (75, 54, 24, "task embedding\n$z$", BLUE),
        (1, 20, 29, "query\ndrivers of each day,\nmask of missing ones", GREEN),
        (36, 20, 29, "FiLM at the input\n$\\gamma_1(z)\\,x+\\beta_1(z)$", ORANGE),
        (75, 20, 24, "LSTM decoder\nday by day", GREEN),
        (59, 1, 40, "FiLM at the state, gate per flux\n$g_k(z)\\,(\\gamma_2(z)\\,h+\\beta_2(z))$",
         ORANGE),
        (1, 1, 47, "GPP $\\geq$ 0,  RECO $\\geq$ 0\nNEE = RECO $-$ GPP   (gC m$^{-2}$ d$^{-1}$)",
         RED),
    ):  # fmt: skip
        _box(ax, x, y, w, 13, text, colour)
    for start, stop in (
        ((30, 60.5), (40, 60.5)), ((65, 60.5), (75, 60.5)), ((30, 26.5), (36, 26.5)),
        ((65, 26.5), (75, 26.5)), ((91, 20), (91, 14)), ((59, 7.5), (48, 7.5)),
    ):  # fmt: skip
        _arrow(ax, start, stop, "-")
    ax.plot([87, 87, 50.5], [54, 46, 46], "--", color="black", lw=1.4)
    for x_at, y_at in ((50.5, 33), (70, 14)):
        _arrow(ax, (x_at, 46), (x_at, y_at), "--")
    ax.text(78.5, 47.5, "modulates", style="italic", fontsize=SIZE, ha="center")
    plt.close(fig)
    return fig


def _arrow(ax: Axes, start: tuple[float, float], stop: tuple[float, float], line: str) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            stop,
            arrowstyle="-|>",
            mutation_scale=16,
            lw=1.4,
            ls=line,
            color="black",
            shrinkA=0,
            shrinkB=0,
        )
    )


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """Draw a labelled box with its lower-left corner at (x, y)."""
    shape = FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=1.2",
        fc="white",
        ec=colour,
        lw=2.0,
    )
    ax.add_patch(shape)
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=SIZE)
