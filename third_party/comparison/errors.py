"""How far two results are from each other."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np


def worst_position(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest error of a position, [P, D] each, relative to the largest component of that position.

    By position, because a few positions of a trained model, as the first of a text, are far larger than all
    others and would hide these.
    """
    error = np.abs(ours - theirs).max(-1) / np.abs(theirs).max(-1)
    return float(error.max())


def relative_norm(ours: Any, theirs: Any) -> float:
    """|ours - theirs| / |theirs| over all leaves of two trees of arrays."""

    def norm(tree: Any) -> float:
        leaves = jax.tree.leaves(tree)
        return float(np.sqrt(sum(np.square(np.asarray(leaf), dtype=float).sum() for leaf in leaves)))

    difference = jax.tree.map(lambda a, b: np.asarray(a, float) - np.asarray(b), ours, theirs)
    return norm(difference) / norm(theirs)
