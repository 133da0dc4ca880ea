"""Comparisons between selectors: over k, with the best unlearned one, and as a share of what there is to win.

Arrays are per task, [T]; stacked over trajectories, [K, T], they go into the crossed bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.selection import SELECTORS, Columns, Selection, select
from constellation.samples import SampleSet

Array = NDArray[np.float64]


def selection_over_k(
    sets: Sequence[tuple[SampleSet, Array | Columns | None]], ks: Sequence[int]
) -> dict[int, Selection]:
    """Every selector at every k, averaged within each task over one model's sets of a bank.

    Args:
        sets: the model's samples of the bank under each split seed, with the columns that selectors read.
        ks: group sizes, none larger than the smallest pool.

    Returns:
        k -> `Selection`, in the order of `ks`.

    Raises:
        UserError: as `selection.cut`.
    """
    return {k: Selection.mean([select(samples, k, columns) for samples, columns in sets]) for k in ks}


def best_unlearned(tuning: Selection, rival: str = "critic") -> str:
    """The unlearned selector that a learned one must beat: the most accurate on tuning tasks.

    It may know no more than its rival does: the one that knows less is no worse a rival for that. Ties go to
    the earlier in `SELECTORS`.

    Args:
        tuning: selection among the candidates of *tuning* tasks; on the tasks of the comparison itself the
            best of several would be best by luck, too.
        rival: the learned selector.
    """
    allowed = SELECTORS[rival].information
    eligible = [
        name
        for name, selector in SELECTORS.items()
        if name in tuning.accuracy and not selector.learned and selector.information <= allowed
    ]
    return max(eligible, key=lambda name: tuning.accuracy[name].mean())


def gain(selection: Selection, selector: str = "critic") -> Array:
    """[T] accuracy of a selector minus that of the first survivor."""
    return selection.accuracy[selector] - selection.accuracy["naive"]


def room(selection: Selection) -> tuple[Array, Array]:
    """What the critic wins over the first survivor, and what the oracle would: [T] each.

    The share of the room is the ratio of their means; a task's own ratio is undefined where there is nothing
    to win. `statistics.Bootstrap` gives it, with its interval, for (values, within) = these two.
    """
    return gain(selection), gain(selection, "oracle")
