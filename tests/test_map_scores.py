"""How good the map is at held-out towers: scores, how far errors reach, bounds of groups."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tamrl.data.gridfiles import centres
from tamrl.data.schema import FLUXES
from tamrl.maps.uncertainty import Uncertainty
from tamrl.samples.splits import distance_km
from tamrl.study.comparisons import map_errors, map_scores, maps

CODES = ("ENF", "GRA", "CRO")


def towers(n: int = 120, seed: int = 0) -> pd.DataFrame:
    """Place towers at random in Europe, a third in each class."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({
        "site": [f"X{k:03d}" for k in range(n)], "lat": rng.uniform(40, 60, n),
        "lon": rng.uniform(0, 30, n), "igbp": np.array(CODES)[np.arange(n) % 3],
    })  # fmt: skip


def table(facts: pd.DataFrame, error: np.ndarray) -> pd.DataFrame:
    """Make seasons whose prediction is off by ``error`` (site,) in every month, the rival by 2."""
    site, month = (v.ravel() for v in np.meshgrid(range(len(facts)), range(12), indexing="ij"))
    wave = 3 + 2 * np.sin(month / 2) + 0.3 * site / len(facts)
    out = {"site": facts.site.to_numpy()[site], "fold": site % 5, "month": month + 1, "days": 60.0}
    for flux in FLUXES:
        out |= {f"{flux} observed": wave, f"{flux} {maps.AVERAGE}": wave + error[site]}
        out |= {f"{flux} {maps.BOOSTED}": wave + 2.0, f"{flux} spread": np.full(len(site), 0.1)}
    return pd.DataFrame(out)


def test_scores_are_of_months_and_of_means_between_towers() -> None:
    """A constant error of 2 has RMSE and bias 2; R² is what the variance between towers leaves."""
    facts = towers()
    scored = map_scores.scores(table(facts, np.zeros(120))).set_index(["model", "flux"])
    assert scored.RMSE[maps.AVERAGE, "GPP"] == pytest.approx(0)
    assert scored.annual_R2[maps.AVERAGE, "NEE"] == pytest.approx(1)
    rival = scored.loc[(maps.BOOSTED, "RECO")]
    assert rival[["RMSE", "bias", "tower_RMSE", "annual_RMSE"]].to_numpy() == pytest.approx(2)
    between = 0.3 * np.arange(120) / 120
    assert rival.annual_R2 == pytest.approx(1 - 4 / between.var())
    assert (rival.towers, rival.months) == (120, 1440)


@pytest.mark.parametrize(("length", "share"), [(100.0, 1.0), (100.0, 0.5), (400.0, 0.6)])
def test_the_reach_of_errors_is_found_again(length: float, share: float) -> None:
    """Errors with a known size, a part that neighbours share, and one that is a tower's alone."""
    facts = towers(300)
    km = distance_km(facts.lat.to_numpy(), facts.lon.to_numpy())
    root = np.linalg.cholesky(share * np.exp(-km / length) + (1 - share + 1e-9) * np.eye(300))
    found = []
    for seed in range(6):
        error = 0.7 * root @ np.random.default_rng(seed).normal(size=300)
        found.append(map_errors.local_error(table(facts, error), facts).loc["GPP"])
    mean = pd.DataFrame(found).median()
    assert mean.sd == pytest.approx(0.7, rel=0.1)
    assert mean.share == pytest.approx(share, abs=0.1)
    assert mean.length_km == pytest.approx(length, rel=0.4)
    assert mean.towers == 300


def test_errors_of_a_towers_own_are_no_regions() -> None:
    """What towers beside each other do not share is a nugget: it adds nothing to a region's sum."""
    facts = towers(300)
    error = np.random.default_rng(0).normal(0, 0.7, 300)
    local = map_errors.local_error(table(facts, error), facts)
    assert local.share.max() < 0.15
    assert local.sd.to_numpy() == pytest.approx(0.7, rel=0.1)
    folds = uncertainty(0.5, 0.0)[0].folds
    alone = Uncertainty(folds, local.assign(share=0.0))
    assert alone.own("GPP", np.array([1e6, 1e12])) == pytest.approx(0)


def test_bounds_of_other_folds_hold_nine_of_ten() -> None:
    """By month, and of the mean over the year, overall."""
    facts = towers()
    rng = np.random.default_rng(1)
    held = map_scores.coverage(table(facts, rng.normal(0, 0.5, 120)), facts)
    whole = held[held.stratum == ""]
    assert set(whole.period) == {"month", "year"}
    assert whole.coverage.between(0.85, 0.97).all()
    assert (whole.towers == 120).all()


def numbers(text: str) -> list[float]:
    """Read a change and its interval."""
    return [float(n) for n in re.findall(r"[-+.\d]+", text.replace("\N{MINUS SIGN}", "-"))]


def uncertainty(sd: float, shared: float) -> tuple[Uncertainty, xr.Dataset]:
    lat, lon = centres(10.0)
    size = shared / np.sqrt(0.5 * 2)  # two folds: (k - 1) / k of the squares
    maps_ = np.array([-size, size])[:, None, None] + np.ones((2, len(lat), len(lon)))
    axes = {"fold": [0, 1], "lat": lat, "lon": lon}
    folds = xr.Dataset({f: (tuple(axes), maps_) for f in FLUXES}, axes)
    local = pd.DataFrame({"sd": sd, "share": 1.0, "length_km": 50.0}, index=[*FLUXES])
    share = np.full((3, len(lat), len(lon)), 1 / 3)
    cube = xr.Dataset({"igbp_fraction": (("igbp", "lat", "lon"), share)},
                      {"igbp": list(CODES), "lat": lat, "lon": lon})  # fmt: skip
    return Uncertainty(folds, local), cube


def test_groups_of_towers_err_by_what_they_share_and_by_their_own() -> None:
    """The sd of a mean over 40 towers: what the biome shares, and what other towers' errors say."""
    facts = towers()
    errors, cube = uncertainty(sd=0.8, shared=0.3)
    made = table(facts, np.where(facts.igbp == "CRO", 1.5, 0.1))
    groups = map_errors.held_out_groups(made, facts, errors, cube)
    by_class = groups[groups.by == "biome"].set_index(["group", "flux"])
    here = (facts.igbp == "ENF").to_numpy()
    km = distance_km(*(facts[here][n].to_numpy() for n in ("lat", "lon")))
    local = map_errors.local_error(made[~made.site.isin(facts.site[here])], facts).loc["GPP"]
    alike = local.share * np.exp(-km / local.length_km) + (1 - local.share) * np.eye(40)
    own = local.sd * np.sqrt(alike.mean())
    assert own > 0.1
    assert by_class.sd["ENF", "GPP"] == pytest.approx(np.hypot(0.3, own))
    calm = by_class.sd["CRO", "GPP"]  # by the others, whose errors are the same everywhere
    assert 0.3 < calm < np.hypot(0.3, 0.11)
    assert not by_class.inside["CRO", "GPP"]
    assert by_class.inside["ENF", "NEE"]
    quoted = map_scores.values(
        map_scores.scores(with_all(made)), map_scores.coverage(made, facts), groups, with_all(made)
    )
    assert quoted["groups_inside"] == "6 of 9"
    gain = 100 * (1 - np.sqrt((1.5**2 + 2 * 0.01) / 3) / 2)
    assert quoted["gain_GPP"] == pytest.approx(gain)
    change, low, high = numbers(str(quoted["gain_GPP_interval"]))
    assert low < change < high
    assert change == pytest.approx(-gain, abs=0.05)
    assert numbers(str(quoted["cell_gain_NEE_interval"])) == [-75, -75, -75]  # 0.5 against 2


def test_towers_of_a_place_are_a_group_as_well() -> None:
    """In blocks and countries: one block whose map is off fails, whatever its towers' classes."""
    facts = towers().assign(lat=48.0, lon=np.where(np.arange(120) % 4, 2.4, 14.4))
    far = facts.lon > 10  # Austria, and a block of its own; the others are in France
    errors, cube = uncertainty(sd=0.5, shared=0.1)
    lat, lon = centres(1.0)
    fine = cube.interp(lat=lat, lon=lon, method="nearest", kwargs={"fill_value": 1 / 3})
    made = table(facts, np.where(far, 2.0, 0.05))
    groups = map_errors.held_out_groups(made, facts, errors, fine).set_index(["by", "group"])
    groups = groups[groups.flux == "GPP"]
    for by, off, near in (
        ("country", "Austria", "France"), ("10 degrees", "from +40, +10", "from +40, +0"),
    ):  # fmt: skip
        assert groups.loc[by].towers.to_dict() == {off: 30, near: 90}
        assert groups.loc[by].inside.to_dict() == {off: False, near: True}
    assert groups.loc["20 degrees"].towers.to_dict() == {"from +30, +0": 120}


def test_scores_by_class_are_those_of_its_towers() -> None:
    """An error of 1.5 in crops and of 0.1 elsewhere; classes with few towers are left out."""
    facts = towers()
    made = table(facts, np.where(facts.igbp == "CRO", 1.5, 0.1))
    facts = facts.assign(igbp=facts.igbp.where(facts.site != "X000", "WET"))
    found = map_scores.scores_by(made, facts, "igbp", [maps.AVERAGE, maps.BOOSTED])
    assert found[("", "towers")].to_dict() == {"CRO": 40, "ENF": 39, "GRA": 40}
    assert found[("NEE", maps.AVERAGE)].to_numpy() == pytest.approx([1.5, 0.1, 0.1])
    assert found[("GPP", maps.BOOSTED)].to_numpy() == pytest.approx(2)


def test_a_towers_class_has_a_share_of_its_cell() -> None:
    """Of the vegetation there: a third each of three classes, rock left out."""
    _, cube = uncertainty(0.5, 0.1)
    rock = xr.full_like(cube["igbp_fraction"].isel(igbp=[0]), 0.25).assign_coords(igbp=["BSV"])
    cover = xr.concat([0.75 * cube["igbp_fraction"], rock], "igbp")
    month = xr.zeros_like(cover.isel(igbp=0, drop=True)).expand_dims(month=range(1, 13))
    grid = xr.Dataset({"igbp_fraction": cover, "TA": month})
    assert map_scores.class_share(towers(9), grid) == pytest.approx(100 / 3)


def with_all(made: pd.DataFrame) -> pd.DataFrame:
    """Add the models that the pages quote beside these."""
    quoted = (maps.CELL, maps.MONTHS, maps.WEATHER, maps.SATELLITES, maps.PRIOR)
    more = {f"{f} {m}": made[f"{f} observed"] + 0.5 for f in FLUXES for m in quoted}
    return made.assign(**more)


def test_southern_seasons_are_moved_by_half_a_year() -> None:
    """A peak in January south of the equator counts as July."""
    facts = towers(12).assign(igbp="GRA", lat=np.where(np.arange(12) < 6, 50.0, -50.0))
    made = table(facts, np.zeros(12))
    peak = np.where(made.site.map(facts.set_index("site").lat) > 0, 7, 1)
    made["GPP observed"] = np.where(made.month == peak, 10.0, 1.0)
    drawn = map_scores.class_seasons(made, facts, [maps.AVERAGE])
    gpp = drawn[drawn.flux == "GPP"].set_index("month").observed
    assert gpp[7] == 10
    assert (gpp.drop(7) == 1).all()


@pytest.mark.slow
def test_seasons_are_computed_from_towers_to_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every second virtual tower: each model has a season at towers that it never saw."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(maps, "fold_maps", lambda *_: uncertainty(0.5, 0.1)[0].folds)
    seasons, folds = maps.load("virtual", every=2, n_folds=2, members=2, epochs=1, jobs=1)
    assert set(map_scores.scores(seasons).model) == set(maps.MODELS) - {maps.FLUXCOM}
    assert seasons.groupby("site").fold.nunique().max() == 1
    assert set(seasons.fold) == {0, 1}
    gap = seasons[f"NEE {maps.CELL}"] - seasons[f"RECO {maps.CELL}"] + seasons[f"GPP {maps.CELL}"]
    assert gap.abs().max() < 0.01
    assert set(folds) == set(FLUXES)
    assert not (tmp_path / "results").exists()
