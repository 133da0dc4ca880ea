"""The known generalising programs of a bank, and how probable every model finds each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]


@dataclass(frozen=True)
class KnownPrograms:
    """D programs that generalise: each task's secret one, and all that some model was seen to write.

    Attributes:
        bank: whose tasks they are for.
        samples: how many of a pool's samples, the first ones, were looked at: as many of every model.
        task: [D] int, index into the bank's tasks; ascending.
        text: [D] str, distinct within a task.
        atoms: [D] int, parts that the program concatenates.
        structures: of each, the withheld classes it belongs to, usually none.
        secret: [D] bool, whether it is the secret program, however it is spelt.
        log_prob: (model, trajectory) -> [D] float64, ln of the probability that the model answers the task
            with it. A model without trajectories of its own has trajectory 0 alone.
    """

    bank: str
    samples: int
    task: NDArray[np.integer]
    text: NDArray[np.object_]
    atoms: NDArray[np.integer]
    structures: tuple[tuple[str, ...], ...]
    secret: NDArray[np.bool_]
    log_prob: Mapping[tuple[str, int], Array]

    @property
    def models(self) -> tuple[str, ...]:
        """Every model that was asked, in order."""
        return tuple(dict.fromkeys(model for model, _ in self.log_prob))

    def of(self, model: str, trajectory: int) -> Array:
        """[D] a model's `log_prob` in a trajectory; the base's is the same in all."""
        return self.log_prob.get((model, trajectory), self.log_prob[model, 0])


def generalising(samples: SampleSet, first: int) -> dict[tuple[int, str], int]:
    """How often each generalising program, by (task, text), is among each task's first samples.

    Raises:
        UserError: there are fewer samples a task.
    """
    if first > samples.n:
        raise UserError(
            f"reach compares {first} samples of every model, one has {samples.n}: lower "
            "reach.samples"
        )
    counts = np.bincount(samples.program[:, :first].ravel(), minlength=len(samples.text))
    rows = np.flatnonzero((counts > 0) & samples.generalises)
    return {(int(samples.task[row]), str(samples.text[row])): int(counts[row]) for row in rows}
