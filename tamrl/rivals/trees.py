"""XGBoost's trees as LightGBM's text: what ships needs one library, one reader, one format."""

import json

import numpy as np
import xgboost
from numpy.typing import NDArray

MISSING_RIGHT, MISSING_LEFT = 8, 10  # LightGBM's decision types of numbers whose NaN goes there


def as_lightgbm(booster: xgboost.Booster) -> str:
    """Write a regression booster as a text that ``lightgbm.Booster(model_str=...)`` reads.

    XGBoost goes left where x < threshold, LightGBM where x <= threshold: for 32-bit inputs the
    next smaller number is the same. The base score joins the first tree's leaves.
    """
    model = json.loads(booster.save_raw("json"))["learner"]
    parameters, n = model["learner_model_param"], int(model["learner_model_param"]["num_feature"])
    names = " ".join(f"x{k}" for k in range(n))
    head = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
    head += f"max_feature_idx={n - 1}\nobjective=regression\nfeature_names={names}\n"
    head += f"feature_infos={' '.join(['[-inf:inf]'] * n)}\n\n"
    base = float(str(parameters["base_score"]).strip("[]"))
    trees = model["gradient_booster"]["model"]["trees"]
    texts = [_tree(k, tree, base if k == 0 else 0.0) for k, tree in enumerate(trees)]
    return head + "\n\n".join(texts) + "\n\nend of trees\n"


def _tree(number: int, tree: dict[str, list[float]], base: float) -> str:
    """Write one tree: inner nodes and leaves are numbered apart, leaves below zero."""
    left = np.array(tree["left_children"])
    right, leaf = np.array(tree["right_children"]), left < 0
    at = np.where(leaf, -1 * np.cumsum(leaf), np.cumsum(~leaf) - 1)
    condition = np.array(tree["split_conditions"], np.float32)
    below = np.nextafter(condition, np.float32(-np.inf)).astype(float)
    kind = np.where(np.array(tree["default_left"]) > 0, MISSING_LEFT, MISSING_RIGHT)
    lines: dict[str, NDArray] = {
        "split_feature": np.array(tree["split_indices"])[~leaf], "threshold": below[~leaf],
        "decision_type": kind[~leaf], "left_child": at[left[~leaf]],
        "right_child": at[right[~leaf]], "leaf_value": condition[leaf].astype(float) + base,
    }  # fmt: skip
    text = "\n".join(f"{k}={' '.join(map(repr, v.tolist()))}" for k, v in lines.items())
    return f"Tree={number}\nnum_leaves={leaf.sum()}\nnum_cat=0\n{text}\nis_linear=0\nshrinkage=1"
