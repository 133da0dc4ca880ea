"""The Bayes ceiling: what the visible examples of a task leave open, exactly.

Two readings of "given the visible examples" differ in what else is known, and in the rules of synthesis that
`prior_mass` can then apply:

- the *ideal sampler* sees what a generator sees, the visible examples. It draws a program from the prior
  given that it fits them; the chance p that this program reproduces all outputs is its pass@1, and its pass@k
  is 1 - (1 - p)^k.
- the *ideal critic* also knows the held-out inputs, as a majority vote over outputs does. The probability
  that the secret program's held-out outputs are those of a candidate is the best score there is.

Both know the law the tasks are drawn from, `max_atoms` included, and neither knows the rules that
`prior_mass` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.domains.task import Split, Task
from constellation.domains.trapdoor.extraction import extract
from constellation.domains.trapdoor.prior_mass import Atoms
from constellation.domains.trapdoor.verifier import judge
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Outputs = tuple[str | None, ...]


def sampler_probability(split: Split, max_atoms: int, withheld: bool = False) -> float:
    """The chance that a program drawn from the posterior given the visible examples generalises.

    Args:
        split: of a task with one input string an example.
        max_atoms: of the law the task is drawn from, a key of `prior.ATOMS`.
        withheld: whether that law is of the withheld structural classes instead of all others.

    Returns:
        A probability; 0 where no program of the law fits the visible examples.
    """
    seen, shown = _columns(split, visible=True)
    unseen, hidden = _columns(split, visible=False)
    fitting = Atoms(seen).mass(shown, max_atoms, withheld)
    return Atoms(seen + unseen).mass(shown + hidden, max_atoms, withheld) / fitting if fitting else 0.0


class OutputPosterior:
    """How probable held-out outputs are for the secret program, given the visible examples and all inputs."""

    def __init__(self, split: Split, max_atoms: int, withheld: bool = False):
        """The arguments are those of `sampler_probability`."""
        inputs, self._shown = _columns(split, visible=True)
        held_out, _ = _columns(split, visible=False)
        self._atoms = Atoms(inputs + held_out, all_inputs=True)
        self._law = max_atoms, withheld
        self._fitting = self._atoms.mass([*self._shown, *[None] * len(held_out)], *self._law)

    def __call__(self, outputs: Sequence[str | None]) -> float:
        """The probability of these held-out outputs; 0 where one is None, a fault, or nothing fits."""
        if None in outputs or not self._fitting:
            return 0.0
        return self._atoms.mass([*self._shown, *outputs], *self._law) / self._fitting


def bayes_ceiling(
    tasks: Sequence[Task], split: Callable[[Task], Split], max_atoms: int, withheld: bool = False
) -> dict[str, Array]:
    """What is best possible on each task of a bank.

    Returns:
        "sampler": [T] float64, the ideal sampler's pass@1.
        "secret": [T] float64, the ideal critic's score of the secret program.
    """
    splits = [split(task) for task in tasks]
    return {
        "sampler": np.array([sampler_probability(of, max_atoms, withheld) for of in splits]),
        "secret": np.array(
            [
                OutputPosterior(of, max_atoms, withheld)([example.output for example in of.held_out])
                for of in splits
            ]
        ),
    }


def candidate_posterior(
    tasks: Sequence[Task],
    split: Callable[[Task], Split],
    samples: SampleSet,
    max_atoms: int,
    withheld: bool = False,
) -> Array:
    """The ideal critic's score of every stored candidate: the probability that it generalises.

    Candidates with the same held-out outputs share it, whatever they look like.

    Returns:
        [D] float64 beside the program table of `samples`; NaN where a program does not fit.
    """
    scores = np.full(len(samples.text), np.nan)
    for t, task in enumerate(tasks):
        of, rows = split(task), samples.programs_of(t)
        fitting = np.flatnonzero(samples.fits[rows]) + rows.start
        if not len(fitting):
            continue
        posterior = OutputPosterior(of, max_atoms, withheld)
        clusters = samples.key[fitting]
        _, first, which = np.unique(clusters, return_index=True, return_inverse=True)
        outputs = [judge(of, extract(str(samples.text[row]))).key for row in fitting[first]]
        scores[fitting] = np.array([posterior(each) for each in outputs])[which]
    return scores


def _columns(split: Split, visible: bool) -> tuple[list[str], list[str]]:
    """Inputs and outputs of one side of a split."""
    examples = split.visible if visible else split.held_out
    return [example.inputs[0] for example in examples], [example.output for example in examples]
