"""The model drawn by code: boxes and arrows, no data."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ORANGE, GREEN, BLUE, RED = "#E69F00", "#009E73", "#0072B2", "#D55E00"


def model_diagram() -> Figure:
    """Draw TAM-RL: support set to task embedding, which modulates the decoder of the query."""
    fig, ax = plt.subplots(figsize=(8.2, 4.0), layout="none")
    ax.set(xlim=(0, 100), ylim=(0, 48))
    ax.axis("off")
    fig.subplots_adjust(0, 0, 1, 0.96)
    ax.text(1, 45, "What kind of place is this?", color=BLUE, weight="bold")
    ax.text(1, 20.5, "What does it do today?", color="#00664B", weight="bold")
    for x, y, w, text, colour in (
        (1, 30, 20, "support set\nwindows of the place's\nown drivers, no fluxes", BLUE),
        (27, 30, 16, "BiLSTM encoder\npooled over\nwindows", BLUE),
        (49, 30, 16, "task embedding\n$z$", BLUE),
        (1, 5, 20, "query\ndrivers of each day,\nmask of missing ones", GREEN),
        (27, 5, 16, "FiLM at input\n$\\gamma_1(z)\\,x+\\beta_1(z)$", ORANGE),
        (49, 5, 12, "LSTM\ndecoder", GREEN),
        (66, 5, 14, "FiLM at state\n$\\gamma_2(z)\\,h+\\beta_2(z)$\ngate per flux", ORANGE),
        (85, 5, 14.5, "GPP $\\geq$ 0\nRECO $\\geq$ 0\nNEE = RECO $-$ GPP", RED),
    ):
        _box(ax, x, y, w, 11, text, colour)
    for start, stop in (
        ((21, 35.5), (27, 35.5)), ((43, 35.5), (49, 35.5)), ((21, 10.5), (27, 10.5)),
        ((43, 10.5), (49, 10.5)), ((61, 10.5), (66, 10.5)), ((80, 10.5), (85, 10.5)),
        ((53, 30), (35, 16)), ((61, 30), (73, 16)),
    ):  # fmt: skip
        ax.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=12, lw=1.2))
    ax.text(66, 25, "modulates", style="italic", fontsize=8)
    ax.text(85, 17.5, "in gC m$^{-2}$ d$^{-1}$", fontsize=8)
    plt.close(fig)
    return fig


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    """Draw a labelled box with its lower-left corner at (x, y)."""
    shape = FancyBboxPatch(
        (x, y),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=1.2",
        fc="white",
        ec=colour,
        lw=1.8,
    )
    ax.add_patch(shape)
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)
