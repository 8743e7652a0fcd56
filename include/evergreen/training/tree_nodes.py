"""LightGBM's trees as one TreeEnsembleRegressor of ONNX.

T trees; a tree of L leaves has L - 1 splits. In the graph a tree's splits are numbered first, then its leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

DEFAULT_LEFT = 2
MISSING_TYPE = 12
"""Bits of a split's decision type in LightGBM's format."""
Tree = dict[str, npt.NDArray[np.float64]]


def tree_attributes(text: str, *, weight: float) -> dict[str, Any]:
    """Attributes of the node whose output is `weight` times the sum of the leaves, for the model `text`."""
    trees = [_parsed(block) for block in text.split("end of trees")[0].split("\nTree=")[1:]]
    nodes = [_nodes(number, tree) for number, tree in enumerate(trees)]
    leaves = [tree["leaf_value"] * weight for tree in trees]
    joined = {name: [value for some in nodes for value in some[name]] for name in nodes[0]}
    return joined | {
        "target_treeids": [number for number, own in enumerate(leaves) for _ in own],
        "target_nodeids": [own.size - 1 + leaf for own in leaves for leaf in range(own.size)],
        "target_ids": [0] * sum(own.size for own in leaves),
        "target_weights": np.concatenate(leaves).astype(np.float32).tolist(),
        "n_targets": 1,
    }


def _parsed(block: str) -> Tree:
    """The arrays of one tree by name."""
    named = (line.split("=", 1) for line in block.splitlines() if "=" in line)
    wanted = ("split_feature", "threshold", "decision_type", "left_child", "right_child", "leaf_value")
    found = {name: np.array(values.split(), np.float64) for name, values in named if name in wanted}
    return {name: found.get(name, np.empty(0)) for name in wanted}


def _nodes(number: int, tree: Tree) -> dict[str, list[Any]]:
    """Splits, then leaves, of one tree."""
    leaves = tree["leaf_value"].size
    splits, none = leaves - 1, [0] * leaves
    return {
        "nodes_treeids": [number] * (splits + leaves),
        "nodes_nodeids": list(range(splits + leaves)),
        "nodes_modes": ["BRANCH_LEQ"] * splits + ["LEAF"] * leaves,
        "nodes_featureids": tree["split_feature"].astype(int).tolist() + none,
        "nodes_values": _rounded_down(tree["threshold"]).tolist() + [0.0] * leaves,
        "nodes_truenodeids": _child(tree["left_child"], splits) + none,
        "nodes_falsenodeids": _child(tree["right_child"], splits) + none,
        "nodes_missing_value_tracks_true": _missing_goes_left(tree) + none,
    }


def _child(child: npt.NDArray[np.float64], splits: int) -> list[int]:
    """LightGBM numbers leaves -1, -2, ...; here they follow the splits."""
    number = child.astype(int)
    return np.where(number < 0, splits + ~number, number).tolist()  # type: ignore[no-any-return]


def _missing_goes_left(tree: Tree) -> list[int]:
    """By the split's default where missing values were seen; elsewhere LightGBM takes them for 0."""
    decision = tree["decision_type"].astype(int)
    by_default, as_zero = decision & DEFAULT_LEFT > 0, tree["threshold"] >= 0
    return np.where(decision & MISSING_TYPE > 0, by_default, as_zero).astype(int).tolist()  # type: ignore[no-any-return]


def _rounded_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 not above each threshold: numbers of float32 then fall to the same sides."""
    with np.errstate(over="ignore"):
        near = threshold.astype(np.float32)
    return np.where(near > threshold, np.nextafter(near, np.float32(-np.inf)), near)
