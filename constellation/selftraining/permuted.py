"""Verdicts permuted within a task: as many programs of each task count as right, but at random which.

What a training gains from permuted verdicts, it does not gain from the verifier.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from constellation.domains.domain import Domain
from constellation.samples import SampleSet

Mask = NDArray[np.bool_]


def permuted_star_verdicts(domain: Domain, samples: SampleSet, rng: np.random.Generator) -> Mask:
    """Verdicts for `star_examples`, which then keeps as many programs of each task as by the true ones.

    They are exchanged among the task's distinct programs that a round may keep at all: answers that are
    programs, not reserved, and those of one program counted once.

    Returns:
        [D] bool.
    """
    eligible = np.zeros(len(samples.task), np.bool_)
    for t in np.unique(samples.task[samples.right]):  # elsewhere there is nothing to exchange
        rows = samples.programs_of(int(t))
        first: dict[str, int] = {}
        for row in np.flatnonzero(samples.valid[rows]) + rows.start:
            first.setdefault(domain.extract(str(samples.text[row])), row)
        eligible[[row for program, row in first.items() if not domain.reserved(program)]] = True
    return permuted(samples.right, samples.task, eligible, rng)


def permuted_labels(samples: SampleSet, rng: np.random.Generator) -> Mask:
    """Labels for `critic_examples`, exchanged among the survivors of each task: [D] bool."""
    return permuted(samples.right, samples.task, samples.fits, rng)


def permuted(right: Mask, task: NDArray[np.int32], among: Mask, rng: np.random.Generator) -> Mask:
    """Verdicts exchanged at random within each task.

    Args:
        right: [D] the true ones.
        task: [D] whose program each is.
        among: [D] the programs that exchange theirs; those of all others become False.

    Returns:
        [D] bool.
    """
    result = np.zeros_like(right)
    for t in np.unique(task[among]):
        rows = np.flatnonzero(among & (task == t))
        result[rows] = rng.permutation(right[rows])
    return result
