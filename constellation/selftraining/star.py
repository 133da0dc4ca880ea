"""A STaR round's data (2203.14465, our reconstruction): the generator's own programs that generalise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from constellation.domains.domain import Domain
from constellation.domains.task import Split, Task
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.warm_start import generator_example

if TYPE_CHECKING:
    from constellation.model.model import Model


def star_examples(
    model: Model,
    domain: Domain,
    tasks: Sequence[Task],
    samples: SampleSet,
    split: Callable[[Task], Split],
    keep: int,
    right: NDArray[np.bool_] | None = None,
    reserved: Callable[[str], bool] | None = None,
) -> list[TrainingExample]:
    """The round's pool: each solved task with its `kept_programs`. It may be empty."""
    kept = kept_programs(domain, tasks, samples, keep, right, reserved)
    return [
        generator_example(model, domain, split(task), programs)
        for task, programs in zip(tasks, kept, strict=True)
        if programs
    ]


def kept_programs(
    domain: Domain,
    tasks: Sequence[Task],
    samples: SampleSet,
    keep: int,
    right: NDArray[np.bool_] | None = None,
    reserved: Callable[[str], bool] | None = None,
) -> list[list[str]]:
    """For each task, the first `keep` distinct programs that generalise, as sampled; perhaps none.

    Nothing is read of the secret program. Reserved programs are dropped.

    Args:
        right: [D] bool, which programs count as right; those that generalise by default.
        reserved: whether a program is; by default as the domain says.
    """
    right = samples.right if right is None else right
    reserved = reserved or domain.reserved
    result = []
    for t in range(len(tasks)):
        rows = samples.programs_of(t)  # in order of first appearance
        accepted = np.flatnonzero(right[rows]) + rows.start
        programs = dict.fromkeys(domain.extract(str(samples.text[row])) for row in accepted)
        result.append([program for program in programs if not reserved(program)][:keep])
    return result
