"""Trees are predicted as LightGBM predicts them, to the last bit, or refused."""

import lzma
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tamrl import load_pretrained
from tamrl.errors import DataError
from tamrl.evaluate.learner import walk
from tamrl.rivals.boosting import Boosting
from tamrl.rivals.forest import MOST_LEAVES, Forest

HEAD = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=3
objective=regression
feature_names=a b c d
feature_infos=none none none none
"""
INPUTS = 4
EDGES = [0.0, -0.0, 1e-45, -1e-45, 1e-35, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 0.1, 1 / 3]
inputs = st.sampled_from(EDGES) | st.floats(width=32)
thresholds = st.sampled_from([e for e in EDGES if e == e] + [1e300, -1e300, 1e-300, 0.1 + 1e-12])
thresholds |= st.floats(allow_nan=False)


@st.composite
def trees(draw: Callable) -> str:
    """Draw a tree of LightGBM's text, of any shape, in which numbers of nodes grow downwards."""
    leaves = draw(st.integers(1, 40))
    children, open_ends = [[0, 0] for _ in range(leaves - 1)], [(-1, 0)]
    for node in range(leaves - 1):
        parent, side = open_ends.pop(draw(st.integers(0, len(open_ends) - 1)))
        if parent >= 0:
            children[parent][side] = node
        open_ends += [(node, 0), (node, 1)]
    for leaf, (parent, side) in enumerate(draw(st.permutations(open_ends))):
        if parent >= 0:
            children[parent][side] = ~leaf
    times = partial(st.lists, min_size=leaves - 1, max_size=leaves - 1)
    lines = {
        "split_feature": draw(times(st.integers(0, INPUTS - 1))),
        "threshold": draw(times(thresholds)),
        "decision_type": draw(times(st.sampled_from([0, 2, 8, 10]))),
        "left_child": [left for left, _ in children],
        "right_child": [right for _, right in children],
    }
    values = st.floats(-1e3, 1e3, allow_subnormal=False)
    lines["leaf_value"] = draw(st.lists(values, min_size=leaves, max_size=leaves))
    body = "\n".join(f"{k}={' '.join(map(repr, v))}" for k, v in lines.items() if v)
    return f"num_leaves={leaves}\nnum_cat=0\n{body}\nis_linear=0\nshrinkage=1\n"


def text_of(*bodies: str) -> str:
    """Make a booster of trees."""
    return HEAD + "".join(f"\nTree={k}\n{t}\n" for k, t in enumerate(bodies)) + "\nend of trees\n"


def by_lightgbm(text: str, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """Predict with the library itself."""
    return np.asarray(lightgbm.Booster(model_str=text).predict(x, num_threads=1))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(trees(), min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.lists(inputs, min_size=INPUTS, max_size=INPUTS), min_size=1, max_size=40),
)
def test_any_tree_is_predicted_as_by_lightgbm(boosters: list[list[str]], rows: list) -> None:
    """Thresholds beyond 32 bits, ties, infinite and missing values, whichever way these go."""
    x = np.array(rows, np.float32)
    texts = {str(k): text_of(*bodies) for k, bodies in enumerate(boosters)}
    predicted = Forest(texts)(x)
    for name, text in texts.items():
        np.testing.assert_array_equal(predicted[name], by_lightgbm(text, x))


def grown(x: NDArray[np.float32], leaves: int, n: int = 21) -> str:
    """Grow trees as the study does."""
    y = 7 + 2 * np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1]) ** 2
    options = {"num_leaves": leaves, "min_child_samples": 2, "verbosity": -1, "num_threads": 1}
    return lightgbm.train(options, lightgbm.Dataset(x, y), n).model_to_string()


@pytest.fixture(scope="module")
def days() -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, 2], x[:1000, 3] = 1.5, -2  # constant in every block, and in some
    x[:700, 4] = np.nan
    return x


def test_days_are_predicted_alike_whichever_stand_beside_them(days: NDArray[np.float32]) -> None:
    """Alone, in parts, in another order or memory layout: the same to the last bit."""
    texts = {"few": grown(days, 3), "many": grown(days, MOST_LEAVES), "one": grown(days[:3], 2)}
    forest, whole = Forest(texts), {n: by_lightgbm(text, days) for n, text in texts.items()}
    order = np.random.default_rng(1).permutation(len(days))
    wide = np.asfortranarray(np.hstack([days, days]))
    wide.flags.writeable = False
    for name, values in whole.items():
        np.testing.assert_array_equal(forest(days)[name], values)
        np.testing.assert_array_equal(forest(days[order])[name], values[order])
        np.testing.assert_array_equal(forest(wide)[name], values)
        for cut in ([0, 1, 512, 513, 3000], [0, 511, 1024, 3000]):
            parts = [forest(days[a:b])[name] for a, b in pairwise(cut)]
            np.testing.assert_array_equal(np.concatenate(parts), values)
    assert forest(days[:0])["few"].shape == (0,)
    for wrong in (days[:, :1], days.astype(float), days[0]):
        with pytest.raises(ValueError, match="float32"):
            forest(wrong)


def test_what_ships_is_predicted_as_by_lightgbm() -> None:
    """Every booster of the package, on values around its own thresholds, some of them missing."""
    rng = np.random.default_rng(0)
    model = load_pretrained(device="cpu")
    boosters = [m for each in model.members for m in walk(each, True) if isinstance(m, Boosting)]
    assert len(boosters) == 6
    for each in boosters:
        assert each.forest is not None
        s = each.forest.splits
        x = np.full((700, s.features.max() + 1), np.nan, np.float32)
        for j, feature in enumerate(s.features):
            x[:, feature] = rng.choice(s.thresholds[s.start[j] : s.start[j + 1]], len(x))
        x += rng.choice(np.float32([0, 0, 1e-3, np.nan]), x.shape)
        for flux, values in each.forest(x).items():
            text = each.forest.texts[flux]
            x_all = np.pad(x, ((0, 0), (0, 62 - x.shape[1])))
            np.testing.assert_array_equal(values, by_lightgbm(text, x_all))


GOOD = """num_leaves=4
num_cat=0
split_feature=0 1 2
threshold=0.5 1.5 2.5
decision_type=2 8 10
left_child=1 -1 -3
right_child=2 -2 -4
leaf_value=1 2 3 4
is_linear=0
shrinkage=1
"""
WRONG = {
    "a child that is not there": ("right_child=2 -2 -4", "right_child=2 -2 -5"),
    "a node beyond the last": ("left_child=1", "left_child=3"),
    "a circle": ("left_child=1 -1 -3", "left_child=1 -1 0"),
    "a node that is its own child": ("left_child=1 -1 -3", "left_child=1 1 -3"),
    "two parents": ("right_child=2 -2 -4", "right_child=1 -2 -4"),
    "a leaf that is met twice": ("right_child=2 -2 -4", "right_child=2 -1 -4"),
    "a feature below zero": ("split_feature=0", "split_feature=-1"),
    "a feature beyond all": ("split_feature=0", "split_feature=4000000000"),
    "a feature of no number": ("split_feature=0 1 2", "split_feature=0 1 x"),
    "too few thresholds": ("threshold=0.5 1.5", "threshold=0.5"),
    "too many leaves": ("leaf_value=1", "leaf_value=1 1"),
    "leaves without number": ("num_leaves=4", "num_leaves=-4"),
    "more leaves than a byte counts": ("num_leaves=4", "num_leaves=999999999999"),
    "a threshold that is none": ("threshold=0.5", "threshold=nan"),
    "a leaf that is infinite": ("leaf_value=1", "leaf_value=inf"),
    "classes": ("decision_type=2", "decision_type=1"),
    "zero as missing": ("decision_type=2", "decision_type=6"),
    "classes announced": ("num_cat=0", "num_cat=1"),
    "linear leaves": ("is_linear=0", "is_linear=1"),
    "another objective": ("objective=regression", "objective=poisson"),
    "several classes": ("num_class=1", "num_class=3"),
    "a random forest": ("label_index=0", "average_output"),
    "no line": ("threshold=0.5 1.5 2.5\n", ""),
    "no tree": ("Tree=", "Bush="),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_tree_is_refused(what: str) -> None:
    """A text may come from anywhere: nothing is read or written beyond the trees."""
    sound, (old, new) = text_of(GOOD, GOOD), WRONG[what]
    x = np.zeros((1, INPUTS), np.float32)
    assert Forest({"GPP": sound})(x)["GPP"] == by_lightgbm(sound, x)
    assert old in sound
    with pytest.raises(DataError, match="trees"):
        Forest({"GPP": sound.replace(old, new)})


def test_weights_whose_trees_are_broken_are_refused() -> None:
    packed = lzma.compress(text_of(GOOD).replace("left_child=1", "left_child=0").encode())
    about = {"fluxes": ["GPP"], "lags": False, "process": False, "statics": []}
    with pytest.raises(DataError, match="left_child cannot be 0"):
        Boosting.restore(about, {"GPP": np.frombuffer(packed, np.uint8)}, "cpu")
