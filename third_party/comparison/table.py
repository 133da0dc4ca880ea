"""The table of a comparison: how far two results are from each other, how far they may be, the verdict."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np


class Row(NamedTuple):
    """One comparison."""

    name: str  # of what is compared
    measured: str  # what `value` is, in words
    value: float
    limit: float  # the largest value that passes, or with `at_least` the least one, as of a p-value
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance; NaN is not."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


class LeftOut(NamedTuple):
    """A comparison that this model does not get, and why."""

    name: str
    reason: str


def line(row: Row | LeftOut) -> str:
    """A row as text under HEAD; widths are fixed, so that rows can be printed as they are measured."""
    if isinstance(row, LeftOut):
        return f"{row.name:30}{row.reason:96}{'':23}left out"
    tolerance = f"{'>=' if row.at_least else '<='} {_number(row.limit)}"
    verdict = "pass" if row.passed else "FAIL"
    return f"{row.name:30}{row.measured:96}{_number(row.value):>10}  {tolerance:11}{verdict}"


HEAD = f"{'row':30}{'what was measured':96}{'value':>10}  tolerance"


def _number(value: float) -> str:
    return f"{value:g}" if value == round(value, 3) else f"{value:.1e}"


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
