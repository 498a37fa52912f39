"""Boosted trees as LightGBM's text, predicted for many days at once, equal to the last bit.

A text is data: what is not a sound tree is refused, and nothing of it is executed.
"""

import lzma
from collections.abc import Mapping
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from tamrl.errors import DataError
from tamrl.rivals.kept import arrays_kept

HEAD = {"num_class": "1", "num_tree_per_iteration": "1", "objective": "regression"}
NODES = {"split_feature": int, "decision_type": int, "left_child": int, "right_child": int,
         "threshold": float}  # fmt: skip
DEFAULT_LEFT, MISSING_NONE, MISSING_NAN = 2, 0, 8  # of LightGBM's decision types
MOST_LEAVES = 256  # of a tree
MOST_INPUTS = 1 << 16
MOST_TREES = 1 << 14  # of a booster
NOT_NEEDED = (  # lines of LightGBM's text about how trees grew; half of it
    "split_gain=", "internal_value=", "internal_weight=", "internal_count=", "leaf_weight=",
    "leaf_count=", "tree_sizes=",
)  # fmt: skip
MOST_TEXT = 1 << 26  # bytes of a booster's text; what ships has a million
MOST_MEMORY = 1 << 28  # bytes that unpacking it may take

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]


class Forest:
    """Boosters by name that see the same inputs; DataError for a text that holds no such trees."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.names, self.texts = tuple(texts), dict(texts)
        self.splits = splits([read(text, f"trees of {name}") for name, text in texts.items()])

    @classmethod
    def unpack(cls, packed: Mapping[str, NDArray[np.uint8]]) -> Self:
        """Make the boosters again of what `packed` gave; DataError for what is broken."""
        forest = cls.__new__(cls)
        forest.names, forest.packed = tuple(packed), dict(packed)  # to pack them anew takes seconds
        forest.splits = Splits(**arrays_kept(packed, lambda: cls(forest.texts).splits))
        return forest

    @cached_property
    def texts(self) -> dict[str, str]:
        """LightGBM's text of each booster."""
        return {name: _unpacked(text.tobytes(), name) for name, text in self.packed.items()}

    @cached_property
    def packed(self) -> dict[str, NDArray[np.uint8]]:
        """Compressed texts, without lines about how trees grew."""
        out = {}
        for name, text in self.texts.items():
            needed, end, _ = text.partition("end of trees")
            lines = [line for line in needed.split("\n") if not line.startswith(NOT_NEEDED)]
            packed = lzma.compress(("\n".join(lines) + end).encode(), preset=9)
            out[name] = np.frombuffer(packed, np.uint8)
        return out

    def __call__(self, x: NDArray[np.float32]) -> dict[str, Floats]:
        """Each booster's prediction (day,) from inputs (day, input); DataError for too few."""
        from tamrl.rivals.bits import predict  # compiles: not where nothing is predicted

        if (
            x.dtype != np.float32
            or x.ndim != 2
            or x.shape[1] <= self.splits.features.max(initial=-1)
        ):
            need = (
                f"float32 (day, input) with every input, {self.splits.features.max(initial=-1) + 1}"
            )
            raise DataError(f"trees are given {x.dtype} {x.shape}; they need {need}")
        out = np.empty((len(self.names), len(x)))
        predict(np.require(x, requirements=("C", "W")), self.splits, out)
        return dict(zip(self.names, out, strict=True))


def _unpacked(packed: bytes, flux: str) -> str:
    """Text of trees; DataError for one that is broken, or would be too long (a few bytes can)."""
    try:
        reader = lzma.LZMADecompressor(memlimit=MOST_MEMORY)
        text = reader.decompress(packed, MOST_TEXT)
    except lzma.LZMAError as error:
        raise DataError(f"trees of {flux}: cannot be unpacked ({error})") from error
    if not reader.eof or reader.unused_data:
        raise DataError(f"trees of {flux}: cut off, or more than {MOST_TEXT} bytes unpacked")
    return text.decode()


class Trees(NamedTuple):
    """Trees one after the other; a child below zero is the leaf ``~child`` of the tree."""

    leaves: NDArray[np.intp]  # (tree,) how many it has; its nodes are one fewer
    split_feature: NDArray[np.intp]  # (node,)
    decision_type: NDArray[np.intp]
    left_child: NDArray[np.intp]
    right_child: NDArray[np.intp]
    threshold: Floats
    leaf_value: Floats  # (leaf,)


class Splits(NamedTuple):
    """Trees as `tamrl.rivals.bits.predict` walks them; nodes, then leaves of a tree are its slots.

    A node stands before those below it, on its left before those on its right. A condition is a
    threshold, and where missing values go.
    """

    features: Ints  # (feature,) columns that any tree uses
    start: Ints  # (feature + 1,) where its thresholds begin
    thresholds: NDArray[np.float32]  # sorted within a feature
    first: Ints  # (feature + 1,) where its conditions begin
    rank: Ints  # (condition,) of its threshold within the feature
    missing: NDArray[np.bool_]  # (condition,) whether missing values go to the left
    condition: Ints  # (node,)
    nodes: Ints  # (tree + 1,) where its nodes begin
    left: Ints  # (node,) slot of its child
    right: Ints
    after: Ints  # (node,) the next one that is not below it
    values: Floats  # (leaf,)
    trees: Ints  # (output + 1,) where its trees begin


def read(text: str, what: str) -> Trees:
    """Read a regression booster; DataError for another kind, and lines of the wrong length."""
    head, *parts = (
        dict(line.partition("=")[::2] for line in part.split("\n"))
        for part in text.partition("end of trees")[0].split("\nTree=")
    )
    for key, value in HEAD.items():
        if head.get(key) != value:
            raise DataError(f"{what}: {key} is {head.get(key)}, and must be {value}")
    if "average_output" in head:
        raise DataError(f"{what}: a random forest's; boosted ones are needed")
    try:
        for key in ("num_cat", "is_linear"):
            if any(int(tree[key]) for tree in parts):
                raise DataError(f"{what}: {key} is not 0; grow them without")
        leaves = np.array([int(tree["num_leaves"]) for tree in parts], int)
        if not 0 < len(leaves) <= MOST_TREES:
            raise DataError(f"{what}: there are {len(leaves)} trees; 1 to {MOST_TREES} are read")
        split = [tree for tree, n in zip(parts, leaves, strict=True) if n != 1]
        numbers = {key: _numbers(split, key, leaves[leaves != 1] - 1) for key in NODES}
        most = numbers["split_feature"].max(initial=0)
        if not most <= int(head["max_feature_idx"]) < MOST_INPUTS:
            raise DataError(f"{what}: split_feature {most} is beyond max_feature_idx")
        return Trees(leaves=leaves, leaf_value=_numbers(parts, "leaf_value", leaves), **numbers)
    except (KeyError, ValueError, OverflowError) as error:
        raise DataError(f"{what}: cannot be read ({error!r})") from error


def _numbers(trees: list[dict[str, str]], key: str, count: NDArray[np.intp]) -> NDArray:
    """Join a line of each tree, which has ``count`` (tree,) numbers; ValueError if not."""
    lines = [tree[key].strip() for tree in trees]
    numbers: NDArray = np.fromstring(" ".join(lines), NODES.get(key, float), sep=" ")
    alike = [line.count(" ") + 1 for line in lines] == count.tolist() and len(
        numbers
    ) == count.sum()
    # What cannot be read ends the numbers: in the middle they are too few, at the end another.
    if not alike or (lines and not np.isclose(float(lines[-1].split(" ")[-1]), numbers[-1])):
        raise ValueError(f"{key} has more or fewer numbers than the tree")
    return numbers


def splits(boosters: list[Trees], what: str = "trees") -> Splits:
    """Order boosters as they are walked; DataError for numbers that make no tree."""
    t = Trees(*map(np.concatenate, zip(*boosters, strict=True)))
    nodes, begin = _offsets(t.leaves - 1), _offsets(2 * t.leaves - 1)  # of nodes, of slots
    tree = np.repeat(np.arange(len(t.leaves)), t.leaves - 1)
    own, inner = np.arange(nodes[-1]) - nodes[tree], (t.leaves - 1)[tree]
    _check(t, own, inner, what)
    node, left, right = (
        begin[tree] + np.where(k >= 0, k, inner + ~k) for k in (own, t.left_child, t.right_child)
    )
    if np.bincount(np.concatenate([left, right]), minlength=1).max() > 1:
        raise DataError(f"{what}: a node has two parents")
    place, size = _order(node, left, right, begin)
    at = nodes[tree] + place[node]
    by_place = np.argsort(at)
    children = (
        np.where(k >= 0, place[slot], slot - begin[tree])[by_place]
        for k, slot in ((t.left_child, left), (t.right_child, right))
    )
    *conditions, condition = _conditions(t)
    after = (at + size[node] - 1)[by_place]
    trees = _offsets(np.array([len(each.leaves) for each in boosters], int))
    walked = (*conditions, condition[by_place], nodes, *children, after, t.leaf_value, trees)
    kinds = {"thresholds": np.float32, "missing": bool, "values": np.float64}
    each = zip(Splits._fields, walked, strict=True)
    return Splits(*(np.ascontiguousarray(v, kinds.get(name, np.int32)) for name, v in each))


def _offsets(count: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(count)]).astype(np.intp)


def _check(t: Trees, own: NDArray[np.intp], inner: NDArray[np.intp], what: str) -> None:
    """Refuse (DataError) what cannot be; ``inner`` (node,) is how many nodes the tree has."""
    kind = t.decision_type & ~DEFAULT_LEFT
    fair = {
        "leaves": (t.leaves >= 1) & (t.leaves <= MOST_LEAVES),
        "split_feature": (t.split_feature >= 0) & (t.split_feature < MOST_INPUTS),
        "decision_type": (kind == MISSING_NONE) | (kind == MISSING_NAN),
        "threshold": ~np.isnan(t.threshold),  # infinite ones part missing values from all others
        "leaf_value": np.isfinite(t.leaf_value),
    }
    for name, child in (("left_child", t.left_child), ("right_child", t.right_child)):
        fair[name] = np.where(child < 0, ~child <= inner, (child > own) & (child < inner))
    for name, good in fair.items():
        if not good.all():
            raise DataError(f"{what}: {name} cannot be {getattr(t, name)[~good][0]}")


def _order(
    node: NDArray[np.intp], left: NDArray[np.intp], right: NDArray[np.intp], begin: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Place of nodes (slot,) in the order of their tree, and how many leaves are below a slot."""
    at = np.full(begin[-1], -1)
    at[node] = np.arange(len(node))
    level = at[begin[:-1]]
    levels = []
    while len(level := level[level >= 0]):
        levels.append(level)
        level = at[np.concatenate([left[level], right[level]])]
    place, size = np.zeros(len(at), np.intp), np.ones(len(at), np.intp)
    for level in reversed(levels):
        size[node[level]] = size[left[level]] + size[right[level]]
    for level in levels:
        place[left[level]] = place[node[level]] + 1
        place[right[level]] = place[node[level]] + size[left[level]]
    return place, size


def _conditions(t: Trees) -> tuple[NDArray, ...]:
    """Features, thresholds and conditions of `Splits`, and the condition of each node."""
    with np.errstate(over="ignore"):
        threshold = t.threshold.astype(np.float32)
    # The next smaller number of 32 bits: inputs have no more, so that days fall on the same side.
    above = threshold > t.threshold
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
    threshold += np.float32(0)  # not -0, which sorts apart
    nan = t.decision_type & MISSING_NAN > 0  # else a missing value counts as 0
    missing = np.where(nan, t.decision_type & DEFAULT_LEFT > 0, t.threshold >= 0)
    order = np.lexsort((missing, threshold, t.split_feature))
    keys = [v[order] for v in (t.split_feature, threshold, missing)]
    news = [np.append(True, v[1:] != v[:-1])[: len(v)] for v in keys]
    feature = news[0]
    value = feature | news[1]
    new = value | news[2]
    condition = np.empty(len(order), np.intp)
    condition[order] = np.cumsum(new) - 1
    at = np.flatnonzero(feature)
    start, first = (np.append((np.cumsum(v) - 1)[at], v.sum()) for v in (value, new))
    rank = (np.cumsum(value) - 1)[new]
    rank -= np.repeat(start[:-1], np.diff(first))
    return keys[0][at], start, keys[1][value], first, rank, keys[2][new], condition
