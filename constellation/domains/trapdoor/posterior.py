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

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.domains.task import Example, Split, Splitter, Task
from constellation.domains.trapdoor.prior_mass import Atoms
from constellation.domains.trapdoor.verifier import extract, judge
from constellation.samples import SampleSet

Array = NDArray[np.float64]


def sampler_probability(split: Split, max_atoms: int, withheld: bool = False) -> float:
    """The chance that a program drawn from the posterior given the visible examples generalises.

    0 where no program of the law fits them. `max_atoms` is a key of `prior.ATOMS`; `withheld` says whether
    the law is of the withheld structural classes instead of all others. An example has one input string.
    """
    seen, shown = _columns(split.visible)
    unseen, hidden = _columns(split.held_out)
    fitting = Atoms(seen).mass(shown, max_atoms, withheld)
    return Atoms(seen + unseen).mass(shown + hidden, max_atoms, withheld) / fitting if fitting else 0.0


class OutputPosterior:
    """How probable held-out outputs are for the secret program, given the visible examples and all inputs."""

    def __init__(self, split: Split, max_atoms: int, withheld: bool = False):
        inputs, self._shown = _columns(split.visible)
        held_out, _ = _columns(split.held_out)
        self._atoms = Atoms(inputs + held_out, all_inputs=True)
        self._law = max_atoms, withheld
        self._fitting = self._atoms.mass([*self._shown, *[None] * len(held_out)], *self._law)

    def __call__(self, outputs: Sequence[str | None]) -> float:
        """The probability of these held-out outputs; 0 where one is None, a fault, or nothing fits."""
        if None in outputs or not self._fitting:
            return 0.0
        return self._atoms.mass([*self._shown, *outputs], *self._law) / self._fitting


def bayes_ceiling(
    tasks: Sequence[Task], split: Splitter, max_atoms: int, withheld: bool = False
) -> dict[str, Array]:
    """Each task's "sampler", the ideal sampler's pass@1, and "secret", the ideal critic's score of the secret
    program: [T] float64.
    """
    splits = [split(task) for task in tasks]
    sampler = [sampler_probability(shown, max_atoms, withheld) for shown in splits]
    secret = [OutputPosterior(shown, max_atoms, withheld)(_columns(shown.held_out)[1]) for shown in splits]
    return {"sampler": np.array(sampler), "secret": np.array(secret)}


def candidate_posterior(
    tasks: Sequence[Task],
    split: Splitter,
    samples: SampleSet,
    max_atoms: int,
    withheld: bool = False,
) -> Array:
    """The ideal critic's score of every stored candidate, the probability that it generalises: [D] float64.

    NaN where a program does not fit. Candidates with the same held-out outputs share it, whatever they look
    like.
    """
    scores = np.full(len(samples.text), np.nan)
    for t, task in enumerate(tasks):
        fitting = samples.rows_where(samples.fits, t)
        if not len(fitting):
            continue
        shown = split(task)
        posterior = OutputPosterior(shown, max_atoms, withheld)
        _, first, which = np.unique(samples.key[fitting], return_index=True, return_inverse=True)
        outputs = [judge(shown, extract(str(samples.text[row]))).key for row in fitting[first]]
        scores[fitting] = np.array([posterior(values) for values in outputs])[which]
    return scores


def _columns(examples: Sequence[Example]) -> tuple[list[str], list[str]]:
    """The inputs of examples, and their outputs."""
    return [example.inputs[0] for example in examples], [example.output for example in examples]
