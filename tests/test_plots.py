"""Figures show what they are given: units, both signs of NEE, one colour a model, "virtual"."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from tamrl import plots
from tamrl.data.schema import IGBP_CODES, tower_facts
from tamrl.plots.style import FLUX_COLOURS, MODEL_COLOURS, SPARE, model_colours

DAYS = pd.date_range("2001-01-01", periods=30)
FRAME = pd.DataFrame({"TAM-RL": np.arange(30.0), "observed": np.arange(30.0)}, DAYS)


@pytest.fixture(autouse=True)
def real() -> Iterator[None]:
    yield plots.use_style({"virtual": 0})
    plots.use_style({"virtual": 0})


def words(fig: Figure) -> str:
    fig.canvas.draw()
    return "\n".join(t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text")))


def field(offset: float = 0.0) -> xr.DataArray:
    lat, lon = np.arange(-88.0, 90, 4), np.arange(-178.0, 180, 4)
    values = np.cos(np.radians(lat))[:, None] * np.linspace(-4, 1, lon.size)[None] + offset
    values[:5] = np.nan
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("lat", "lon"))


def test_every_vegetation_class_has_a_look_of_its_own() -> None:
    assert set(plots.BIOMES) == set(IGBP_CODES)
    assert len(set(plots.BIOMES.values())) == len(IGBP_CODES)


def test_towers_map_counts_every_tower_once() -> None:
    table = tower_facts().reset_index()
    entries = [text.get_text() for text in plots.towers_map(table).legends[0].get_texts()]
    assert sum(int(entry.split("(")[1][:-1]) for entry in entries) == len(table) == 180


def test_nee_maps_diverge_around_zero_and_share_their_limits() -> None:
    """A sink and a source of one size must be equally strong in colour, on every panel."""
    fig = plots.flux_maps({"July": field(), "January": field(1.0)}, "NEE")
    assert "gC m$^{-2}$ d$^{-1}$" in words(fig)
    drawn = [c for ax in fig.axes for c in ax.collections]
    first, second = (c.get_clim() for c in drawn if type(c).__name__ == "GeoQuadMesh")
    assert first == second
    assert first[0] == -first[1]


def test_figures_of_virtual_towers_say_so() -> None:
    assert "virtual" not in words(plots.series({"XX-Abc": FRAME}))
    plots.use_style({"virtual": 1})
    assert "virtual towers" in words(plots.series({"XX-Abc": FRAME}))


def test_a_model_has_one_colour_in_all_figures() -> None:
    """Whatever stands beside it, in whatever order and letter case."""
    names = ["ensemble", "LightGBM", "TAM-RL as published", "climatology"]
    colours = model_colours(names)
    assert len(set(colours.values())) == len(names)
    assert model_colours(reversed(names)) == colours
    assert model_colours(["Climatology"])["Climatology"] == colours["climatology"]
    many = [f"model {k}" for k in range(8)]
    assert len(set(model_colours(many).values())) == 8
    informed, other = "LightGBM, annual prior", "LightGBM, annual prior and rescaling"
    assert model_colours([informed])[informed] == MODEL_COLOURS["lightgbm"]
    assert len(set(model_colours([informed, other]).values())) == 2


def as_seen(colour: str) -> list[np.ndarray]:
    """CIELAB of a colour as most people, deuteranopes and protanopes see it.

    Matrices of Machado et al. (2009, doi:10.1109/TVCG.2009.113), for linear sRGB.
    """
    deutan = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
              [-0.011820, 0.042940, 0.968881]]  # fmt: skip
    protan = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
              [-0.003882, -0.048116, 1.051998]]  # fmt: skip
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
              [0.0193339, 0.1191920, 0.9503041]]  # fmt: skip
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = []
    for eye in (np.eye(3), deutan, protan):
        part = to_xyz @ np.clip(eye @ linear, 0, 1) / [0.95047, 1.0, 1.08883]
        f = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
        seen.append(np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]))
    return seen


def test_models_and_fluxes_share_no_colour_and_differ_to_the_colour_blind() -> None:
    """A distance of 9 in CIELAB is some four times what the eye just tells apart."""
    models = set(MODEL_COLOURS.values())
    assert not {*models, *SPARE} & {*FLUX_COLOURS.values()}
    for one, other in combinations([*models, *FLUX_COLOURS.values()], 2):
        for a, b in zip(as_seen(one), as_seen(other), strict=True):
            assert np.linalg.norm(a - b) > 9, (one, other)


@pytest.mark.parametrize("columns", [["observed", "TAM-RL"], ["TAM-RL", "observed"]])
def test_what_was_observed_is_dots_and_a_model_a_line(columns: list[str]) -> None:
    """By its name, not by its place in the table."""
    lines = {a.get_label(): a for a in plots.series({"XX-Abc": FRAME[columns]}).axes[0].lines}
    assert (lines["observed"].get_marker(), lines["observed"].get_linestyle()) == (".", "None")
    assert (lines["TAM-RL"].get_marker(), lines["TAM-RL"].get_linestyle()) == ("None", "-")
    assert to_hex(lines["TAM-RL"].get_color()) == model_colours(["TAM-RL"])["TAM-RL"].lower()


def test_axes_carry_units_and_models() -> None:
    pairs = [(m, f) for m in ("TAM-RL", "Boosting") for f in ("GPP", "NEE")]
    scores = pd.DataFrame(pairs * 9, columns=["model", "flux"]).assign(R2=np.linspace(0, 1, 36))
    bounds = {"lower": [-5.0, -1.0], "upper": [-1.0, 3.0]}
    fluxes = pd.DataFrame({"flux": ["GPP", "NEE"], "rival": "Boosting", **bounds})
    budget = fluxes.assign(source=["this study", "other"], value=[-3.0, 1.0], mapped=[True, False])
    imbalance = pd.DataFrame({"violation": [0.5, 1e-7]}, index=["none", "hard"])
    unit = "gC m$^{-2}$ d$^{-1}$"
    for fig, shown in (
        (plots.score_boxes(scores, "R2", "R2"), {"TAM-RL", "Boosting", "GPP", "NEE"}),
        (plots.differences(fluxes.assign(change=[-3.0, 1.0]), "%"), {"NEE against Boosting"}),
        (plots.budget_bars(budget), {"PgC yr$^{-1}$"}),
        (
            plots.violations(imbalance),
            {f"mean |NEE \N{MINUS SIGN} (RECO \N{MINUS SIGN} GPP)| ({unit})", "0 to rounding"},
        ),
    ):
        assert shown <= set(words(fig).splitlines())


def test_a_step_that_is_resolved_is_filled_and_towers_have_the_colour_of_the_better() -> None:
    """A waterfall shows its sizes, dumbbells the count of towers on each side."""
    steps = pd.DataFrame({
        "flux": "GPP", "step": ["one", "two"], "before": [2.0, 1.9], "after": [1.9, 1.95],
        "change": [-5.0, 2.6], "lower": [-7.0, -1.0], "upper": [-1.0, 4.0],
    })  # fmt: skip
    fig = plots.waterfall(steps, "first", "last", "RMSE")
    assert {"\N{MINUS SIGN}5.0 %", "+2.6 %", "2.00", "1.95", "first"} <= set(
        words(fig).splitlines()
    )
    shades = [to_hex(bar.get_facecolor()) for bar in fig.axes[0].patches]
    assert shades == [FLUX_COLOURS["GPP"].lower(), "#ffffff"]
    towers = pd.DataFrame({"flux": "NEE", "ensemble": [1.0, 3, 1], "boosting": [2.0, 2, 3]})
    fig = plots.dumbbells(towers, "ensemble", "boosting")
    assert "NEE: ensemble better at 2 of 3 towers" in words(fig)
    shades = [to_hex(colour) for colour in fig.axes[0].collections[0].get_colors()]
    colours = model_colours(["ensemble", "boosting"])
    assert shades == [colours[n].lower() for n in ("ensemble", "ensemble", "boosting")]


def test_the_drawing_of_the_model_is_described_for_those_who_cannot_see() -> None:
    assert "<title" in plots.model().data
    assert "NEE equals RECO minus GPP" in plots.model().data


def test_a_scorecard_can_be_read() -> None:
    """Names of neighbouring columns leave each other room, and nothing rounds to minus zero."""
    kinds = ["all days", "between towers", "seasonal cycle", "daily anomalies", "between years"]
    scores = pd.DataFrame(
        [[0.7, 0.6, 0.9, -0.001, -0.26]], ["LightGBM, annual prior and rescaling"], kinds
    )
    fig = plots.scorecard({"GPP": scores, "NEE": scores}, "R²")
    fig.canvas.draw()
    last = fig.axes[1]
    boxes = [label.get_window_extent() for label in last.get_xticklabels()]
    assert all(a.x1 + 5 < b.x0 for a, b in pairwise(boxes))
    numbers = [text.get_text() for text in last.texts]
    assert numbers == ["0.70", "0.60", "0.90", "0.00", "\N{MINUS SIGN}0.26"]


def test_only_plots_imports_cartopy() -> None:
    """Training and prediction must run where no map can be drawn."""
    modules = "tamrl.samples.arrays, tamrl.model.train, tamrl.study.runner.run"
    code = f"import sys, {modules}; assert 'cartopy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ratios_to_the_authors_code_have_their_ranges_and_a_line_of_equal_time() -> None:
    """On a logarithmic axis twice as fast lies as far from 1 as half as fast; numbers are there."""
    table = pd.DataFrame({"what": ["training", "training", "evaluation"], "times": [7.3, 16, 11.5],
                          "precision": ["fp32", "bf16", "fp32"], "lower": [6.5, 13, np.nan],
                          "upper": [7.5, 17, np.nan]})  # fmt: skip
    fig = plots.against_peer(table)
    (ax,) = fig.axes
    assert ax.get_xscale() == "log"
    assert {"7.3", "16", "11.5", "training", "evaluation"} <= set(words(fig).splitlines())
    spans = [path.get_extents() for c in ax.collections for path in c.get_paths()]
    assert {(6.5, 7.5), (13.0, 17.0)} <= {(span.x0, span.x1) for span in spans}
