"""Figures say what they show: units on every axis, both signs of NEE, "virtual" where it is due."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure

from tamrl import plots
from tamrl.data.schema import IGBP_CODES, tower_facts
from tamrl.plots.diagram import model_diagram


@pytest.fixture(autouse=True)
def real() -> Iterator[None]:
    """Draw as for real towers unless a test says otherwise."""
    plots.use_style({"virtual": 0})
    yield
    plots.use_style({"virtual": 0})


def words(fig: Figure) -> str:
    """Return all text of a figure after drawing it."""
    fig.canvas.draw()
    return "\n".join(t.get_text() for t in fig.findobj(lambda a: hasattr(a, "get_text")))


def world(offset: float = 0.0) -> xr.DataArray:
    """Return a field (lat, lon) between -4 and 1, with a hole."""
    lat, lon = np.arange(-88.0, 90, 4), np.arange(-178.0, 180, 4)
    values = np.cos(np.radians(lat))[:, None] * np.linspace(-4, 1, lon.size)[None] + offset
    values[:5] = np.nan
    return xr.DataArray(values, {"lat": lat, "lon": lon}, ("lat", "lon"))


def test_every_vegetation_class_has_a_look_of_its_own() -> None:
    """Two classes that share colour and marker could not be told apart."""
    assert set(plots.BIOMES) == set(IGBP_CODES)
    assert len(set(plots.BIOMES.values())) == len(IGBP_CODES)


def test_towers_map_counts_every_tower_once() -> None:
    """The legend's counts add up to the table."""
    table = tower_facts().reset_index()
    entries = [text.get_text() for text in plots.towers_map(table).legends[0].get_texts()]
    counts = [int(entry.split("(")[1][:-1]) for entry in entries]
    assert sum(counts) == len(table) == 180


def test_nee_maps_diverge_around_zero_and_share_their_limits() -> None:
    """A sink and a source of one size must be equally strong in colour, on every panel."""
    fig = plots.flux_maps({"July": world(), "January": world(1.0)}, "NEE")
    assert "gC m$^{-2}$ d$^{-1}$" in words(fig)
    drawn = [c for ax in fig.axes for c in ax.collections]
    meshes = [c.get_clim() for c in drawn if type(c).__name__ == "GeoQuadMesh"]
    assert len(meshes) == 2
    assert len(set(meshes)) == 1
    assert meshes[0][0] == -meshes[0][1]


def test_figures_of_virtual_towers_say_so() -> None:
    """One call of style() marks every figure drawn after it."""
    index = pd.date_range("2001-01-01", periods=30)
    frame = pd.DataFrame({"observed": np.arange(30.0), "TAM-RL": np.arange(30.0)}, index)
    assert "virtual" not in words(plots.series({"XX-Abc": frame}))
    plots.use_style({"virtual": 1})
    assert "virtual towers" in words(plots.series({"XX-Abc": frame}))


def test_axes_carry_units_and_models() -> None:
    """Labels, units and legends are there for scores, differences, budgets and imbalance."""
    scores = pd.DataFrame(
        [
            (m, f, s, 0.1 * s)
            for m in ("TAM-RL", "Boosting")
            for f in ("GPP", "NEE")
            for s in range(9)
        ],
        columns=["model", "flux", "site", "R2"],
    )  # fmt: skip
    assert {"TAM-RL", "Boosting", "GPP", "NEE"} <= set(
        words(plots.score_boxes(scores, "R2", "R2")).splitlines()
    )
    differences = pd.DataFrame(
        {"flux": ["GPP", "NEE"], "rival": "Boosting", "change": [-3.0, 1.0], "lower": [-5.0, -1.0],
         "upper": [-1.0, 3.0]}
    )  # fmt: skip
    assert "NEE against Boosting" in words(plots.differences(differences, "change in RMSE (%)"))
    budget = pd.DataFrame(
        {"flux": ["GPP"] * 2, "source": ["this study", "other"], "value": [110.0, 120.0],
         "lower": [105.0, 106.0], "upper": [115.0, 130.0], "ours": [True, False]}
    )  # fmt: skip
    assert "PgC yr$^{-1}$" in words(plots.budget_bars(budget))
    imbalance = pd.DataFrame({"violation": [0.5, 1e-7]}, index=["none", "hard"])
    assert "gC m$^{-2}$ d$^{-1}$" in words(plots.violations(imbalance))
    assert "RECO" in words(model_diagram())


def test_only_plots_imports_cartopy() -> None:
    """Training and prediction must run where no map can be drawn."""
    code = "import sys, tamrl.samples.arrays, tamrl.model.train, tamrl.study.runner.run; print('cartopy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stdout.strip() == "False", done.stderr
