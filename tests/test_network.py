"""The next tower: greedy as it should be, and better than chance where it must be."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from trainingtable import training_table

from tamrl.errors import DataError
from tamrl.maps.applicability import dissimilarity_map
from tamrl.maps.network_design import Cover, greedy, next_towers
from tamrl.samples.arrays import Samples
from tamrl.shipped.applicability import span
from tamrl.study import trust


def scene(seed: int = 0, places: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (place, column), weights, and two towers."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(places, 3))
    return points, rng.uniform(0, 1, places), points[:2]


def mean_distance(points: np.ndarray, weight: np.ndarray, towers: np.ndarray) -> float:
    """Compute by definition, one distance at a time."""
    near = np.sqrt(((points[:, None] - towers) ** 2).sum(-1)).min(-1)
    return float((near * weight).sum() / weight.sum())


def test_each_step_is_the_best_that_there_is() -> None:
    """The lazy greedy takes the same places as trying them all, step by step."""
    points, weight, towers = scene()
    order, means = greedy(Cover(points, weight, towers), np.arange(40), 6)
    assert means[0] == pytest.approx(mean_distance(points, weight, towers), rel=1e-5)
    for place, mean in zip(order, means[1:], strict=True):
        more = (np.concatenate([towers, points[[k]]]) for k in range(40))
        after = [mean_distance(points, weight, network) for network in more]
        assert place == np.argmin(after)
        assert mean == pytest.approx(min(after), rel=1e-4)
        towers = np.concatenate([towers, points[[place]]])
    gains = -np.diff(means)
    assert (gains > 0).all()
    assert (np.diff(gains) < 1e-6).all()  # one tower more helps less and less


def test_only_what_counts_attracts_a_tower() -> None:
    """With all weight on one cluster, the first tower goes there."""
    points, _, towers = scene(3)
    weight = np.zeros(40)
    weight[[7, 19]] = 1, 0.01
    order, means = greedy(Cover(points, weight, towers), np.arange(40), 2)
    assert order.tolist() == [7, 19]
    assert means[-1] == pytest.approx(0, abs=2e-3)
    assert len(greedy(Cover(points, weight, towers), np.array([3, 4]), 5)[0]) == 2


@pytest.mark.slow
def test_the_globe_gets_towers_where_none_is_like_it(globe: xr.Dataset) -> None:
    """Towers of low EVI only: the rule goes to green land, and beats chance."""
    values = np.linspace(0.05, 0.25, 12)[:, None]
    space = span(values, np.ones(1), np.arange(12) % 3, ("EVI_grid_mean",))
    index = dissimilarity_map(space, globe)
    cells, curve = next_towers(space, index, globe, count=5)
    first = globe.sel(lat=cells["lat"][1], lon=cells["lon"][1])
    assert float(first["EVI"].max()) > 0.4
    assert float(first["land_fraction"]) > 0
    assert not set(cells["igbp"]) & {"SNO", "BSV"}
    assert (cells["gain"] > 0).all()
    assert (curve["rule"] <= curve["lowest"] + 1e-6).all()
    assert (curve[["lowest", "random", "highest"]].diff(axis=1).iloc[:, 1:] >= -1e-9).all(axis=None)
    assert curve["rule"].iloc[-1] < curve["random"].iloc[-1]
    south = globe["EVI"].isel(month=0, drop=True).where(globe["lat"] < 0)
    cells, _ = next_towers(space, index, globe, count=3, weight=south)
    assert (cells["lat"] < 0).all()  # land that counts nothing gets no tower
    with pytest.raises(DataError, match="no land cell"):
        next_towers(space, index, globe, weight=south * np.nan)


@pytest.mark.slow
def test_the_rule_wins_where_it_must_and_only_there(samples: Samples) -> None:
    """Most towers alike, a few of a kind of their own: taking in the rare ones pays.

    Where predictors tell nothing of the fluxes, no choice of towers can pay.
    """
    rng = np.random.default_rng(5)
    evi = np.where(rng.random(90) < 0.75, rng.uniform(0.2, 0.24, 90), rng.uniform(0.3, 1.0, 90))
    options = {"repeats": 6, "start": 15, "steps": (4, 8), "jobs": 1}
    table = training_table(evi)

    def of_towers(table: xr.Dataset) -> Samples:
        """Make samples of the same towers: their months' fluxes, and one attribute."""
        facts = table[["lat", "lon", "igbp"]].to_dataframe().reset_index()
        y = table["y"].to_numpy()
        known = np.ones(y.shape[:2], bool)
        bare = np.zeros((*y.shape[:2], 0), np.float32)
        return replace(
            samples, site=facts["site"].to_numpy(), table=facts.assign(koppen_main="Cold"), y=y,
            weight=90 * known.astype("f4"), scored=known, has_drivers=known, process=bare, x=bare,
            features=(), static=evi[:, None].astype("f4"), static_names=("EVI_mean",),
            time=(np.datetime64("2001-01") + np.arange(12)).astype("M8[D]"),
        )  # fmt: skip

    curve, verdict = trust.withheld_towers(table, of_towers(table), **options)
    gpp = verdict.set_index("flux").loc["GPP"]
    assert gpp["upper"] < 0, verdict
    assert gpp["change"] < -10
    first = curve[curve["added"] == 0]
    assert (first["rule"] == first["chance"]).all()
    blank = training_table(evi)
    blank["y"][:] = rng.normal(size=blank["y"].shape)
    _, verdict = trust.withheld_towers(blank, of_towers(blank), **options)
    assert (verdict["change"].abs() < 3).all()
    with pytest.raises(DataError, match="lower start or steps"):
        trust.withheld_towers(blank, of_towers(blank), start=80)
