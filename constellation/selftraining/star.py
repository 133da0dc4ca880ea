"""A STaR round's data (2203.14465, our reconstruction): the generator's own programs that generalise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from constellation.model.model import Model
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.warm_start import generator_example
from constellation.tasks import trapdoor
from constellation.tasks.task import Split, Task


def star_examples(
    model: Model, tasks: Sequence[Task], samples: SampleSet, split: Callable[[Task], Split], keep: int
) -> list[TrainingExample]:
    """The round's pool: for each solved task, the first `keep` distinct programs that generalise, as sampled.

    Nothing is read of the secret program. Programs of a withheld structural class, or that behave like an
    evaluation task, are dropped. A task without a kept program contributes nothing; the pool may be empty.
    """
    pool = []
    for t, task in enumerate(tasks):
        rows = samples.programs_of(t)  # in order of first appearance
        generalising = np.flatnonzero(samples.generalises[rows]) + rows.start
        programs = dict.fromkeys(trapdoor.extract(str(samples.text[row])) for row in generalising)
        kept = [program for program in programs if not trapdoor.reserved(program)][:keep]
        if kept:
            pool.append(generator_example(model, split(task), kept))
    return pool
