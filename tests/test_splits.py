"""No tower is trained on and tested, none has a neighbour on the other side."""

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from tamrl.data.schema import tower_facts
from tamrl.samples.arrays import Samples
from tamrl.samples.splits import (
    blocks,
    distance_km,
    folds,
    resplit_validation,
    validation_blocks,
)


def towers(some: np.ndarray | slice = slice(None)) -> Samples:
    """Return the real towers' places and classes, without their data."""
    table = tower_facts().reset_index().iloc[some].reset_index(drop=True)
    return cast(Samples, SimpleNamespace(site=table.site.to_numpy(str), table=table))


def distances(s: Samples) -> np.ndarray:
    return distance_km(s.table.lat.to_numpy(), s.table.lon.to_numpy())


@pytest.mark.parametrize("scheme", ["blocked", "koppen", "biome"])
@pytest.mark.parametrize("seed", [0, 3])
def test_no_leakage(scheme: str, seed: int) -> None:
    s = towers()
    far, igbp, parts = distances(s), s.table.igbp.to_numpy(str), folds(s, 10, scheme, seed)
    assert sorted(np.concatenate([f.test for f in parts])) == list(range(180))  # each once
    for f in parts:
        seen = np.concatenate([f.train, f.valid])
        assert len(set(seen) | set(f.test)) == len(seen) + len(f.test)
        assert len(f.valid) >= 5
        assert far[np.ix_(f.test, seen)].min() > 50
        assert far[np.ix_(f.valid, f.train)].min() > 50
        assert scheme != "biome" or (igbp[f.test] == f.name).all()
        assert scheme != "biome" or (igbp[seen] != f.name).all()


def test_folds_are_even_in_towers_and_classes_and_decided_by_the_seed() -> None:
    s = towers()
    parts = folds(s, 10)
    sizes, igbp = [len(f.test) for f in parts], s.table.igbp.to_numpy(str)
    assert max(sizes) - min(sizes) <= 6
    assert min((igbp[f.test] == "ENF").sum() for f in parts) >= 1
    other, again = (folds(s, 10, seed=1)[0] for _ in range(2))
    assert set(other.test) != set(parts[0].test)
    assert np.array_equal(other.train, again.train)


def test_folds_are_alike_in_what_they_are_stratified_by() -> None:
    s = towers()
    spread = {}
    for scheme in ("blocked", "koppen"):
        for name in ("igbp", "koppen_main"):
            of = s.table[name].to_numpy(str)
            count = [[(of[f.test] == c).sum() for c in set(of)] for f in folds(s, 10, scheme)]
            spread[scheme, name] = np.std(count, 0).mean()
    assert spread["blocked", "igbp"] < 0.9 * spread["koppen", "igbp"]
    assert spread["koppen", "koppen_main"] < 0.9 * spread["blocked", "koppen_main"]


def test_order_of_towers_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(180)
    a, b = towers(), towers(order)
    for f, g in zip(folds(a, 10), folds(b, 10), strict=True):
        assert set(a.site[f.test]) == set(b.site[g.test])
        assert set(a.site[f.valid]) == set(b.site[g.valid])


def test_the_largest_block_is_not_always_the_one_to_stop_by() -> None:
    """Ten towers of one landscape would else be half of all that stops, and never be learnt."""
    s = towers()
    block = blocks(s.table)
    largest = np.flatnonzero(block == np.argmax(np.bincount(block)))
    kept = [np.isin(largest, fold.valid).any() for fold in folds(s, 10)]
    assert 0 < sum(kept) < 5


def test_two_places_are_enough_to_train_and_to_stop_by() -> None:
    """One of them is whole on either side; a fold that stops by none is left as it is."""
    two = validation_blocks(np.array([0, 0, 1]), np.full(3, "ENF"), 0)
    assert set(two[:2]) == {not two[2]}
    with pytest.raises(ValueError, match="at least two separate blocks"):
        validation_blocks(np.zeros(3, int), np.full(3, "ENF"), 0)
    fold = replace(folds(towers(), 10)[0], valid=np.empty(0, np.intp))
    assert resplit_validation(fold, towers(), 1) is fold


def test_the_far_side_of_the_earth_is_half_its_girth_away() -> None:
    """From any place, and no farther."""
    lat = np.random.default_rng(0).uniform(-90, 90, 500)
    far = distance_km(np.concatenate([lat, -lat]), np.repeat([10.0, 190.0], 500))
    assert np.diagonal(far, 500) == pytest.approx(np.pi * 6371.0088)


def test_each_member_of_a_fold_is_stopped_by_towers_of_its_own() -> None:
    """So that in three members hardly a tower goes unlearnt; the test towers stay the same."""
    s = towers()
    far, turned = distances(s), towers(np.random.default_rng(2).permutation(180))
    for fold, same in zip(folds(s, 10), folds(turned, 10), strict=True):
        members = [resplit_validation(fold, s, seed) for seed in range(3)]
        assert members[0] is fold
        for seed, member in enumerate(members):
            assert sorted([*member.train, *member.valid]) == sorted([*fold.train, *fold.valid])
            assert far[np.ix_(member.valid, member.train)].min() > 50
            assert member.test is fold.test
            again = resplit_validation(same, turned, seed)
            assert set(turned.site[again.valid]) == set(s.site[member.valid])
        learnt = set.union(*(set(member.train) for member in members))
        assert len(learnt) > 0.98 * (len(fold.train) + len(fold.valid))


@pytest.mark.parametrize(("n", "k", "scheme", "text"), [
    (180, 500, "blocked", "separate blocks"),
    (180, 5, "random", "unknown"),
    (180, 1, "blocked", "1 folds asked for; .* allow 2 to"),
    (3, 4, "koppen", "4 f"),
])  # fmt: skip
def test_impossible_splits_are_refused(n: int, k: int, scheme: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        folds(towers(slice(n)), k, scheme)
