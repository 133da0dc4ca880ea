"""A STaR round's data (2203.14465, our reconstruction): the generator's own programs that generalise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.warm_start import generator_example
from constellation.tasks import trapdoor
from constellation.tasks.task import Split, Task

if TYPE_CHECKING:
    from constellation.model.model import Model


def star_examples(
    model: Model,
    tasks: Sequence[Task],
    samples: SampleSet,
    split: Callable[[Task], Split],
    keep: int,
    right: NDArray[np.bool_] | None = None,
    reserved: Callable[[str], bool] = trapdoor.reserved,
) -> list[TrainingExample]:
    """The round's pool: for each solved task, the first `keep` distinct programs that generalise, as sampled.

    Nothing is read of the secret program. Reserved programs are dropped. A task without a kept program
    contributes nothing; the pool may be empty.

    Args:
        right: [D] bool, which programs count as right; those that generalise by default.
        reserved: whether a program is; by default those of a withheld structural class, and those that behave
            like an evaluation task.
    """
    right = samples.generalises if right is None else right
    pool = []
    for t, task in enumerate(tasks):
        rows = samples.programs_of(t)  # in order of first appearance
        accepted = np.flatnonzero(right[rows]) + rows.start
        programs = dict.fromkeys(trapdoor.extract(str(samples.text[row])) for row in accepted)
        kept = [program for program in programs if not reserved(program)][:keep]
        if kept:
            pool.append(generator_example(model, split(task), kept))
    return pool
