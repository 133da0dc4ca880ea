"""Which of k candidates to hand in: the critic, the selectors beside it, and divergence.

Paper A's loop at test time: k candidates, the verifier drops those that fail a visible example, a selector
picks one *survivor*, and the pick is judged on the held-out examples. A pool of n samples a task holds n // k
disjoint groups of k in sample order; every figure averages over all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from constellation.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """A pool cut into G disjoint groups of k candidates a task; arrays are [T, G, k].

    Attributes:
        survives: the candidate fits every visible example.
        correct: it also generalises (a generalising program fits by definition).
        program: int, index of its distinct program.
        cluster: int, candidates of a task with the same held-out outputs share it.
        length: int, its tokens.
        score: float64, the critic's logit(yes) - logit(no); 0 where no critic is given.
    """

    survives: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    program: NDArray[np.int32]
    cluster: NDArray[np.int32]
    length: NDArray[np.int32]
    score: Array

    def divergent(self) -> NDArray[np.bool_]:
        """[T, G] whether two survivors disagree on a held-out input; elsewhere every selector ties."""
        highest = np.where(self.survives, self.cluster, np.iinfo(np.int32).min).max(-1)
        lowest = np.where(self.survives, self.cluster, np.iinfo(np.int32).max).min(-1)
        return lowest < highest


def cut(samples: SampleSet, k: int, scores: Array | None = None) -> Groups:
    """Cut a pool into its n // k groups, in sample order.

    Args:
        samples: T tasks x n samples.
        k: candidates a group.
        scores: [D] critic score of each distinct program; may be NaN where a program does not fit.

    Raises:
        UserError: when k exceeds n, or a survivor has no score.
    """
    tasks, n = samples.program.shape
    if k > n:
        raise UserError(f"selection among {k} needs at least {k} samples a task, there are {n}: sample more")
    if scores is not None and np.isnan(np.asarray(scores)[samples.fits]).any():
        raise UserError("a program that fits has no critic score: score every survivor of this sample set")
    program = samples.program[:, : n // k * k].reshape(tasks, n // k, k)
    return Groups(
        survives=samples.fits[program],
        correct=samples.generalises[program],
        program=program,
        cluster=samples.output_cluster[program],
        length=samples.length[program],
        score=np.zeros(program.shape) if scores is None else np.asarray(scores, np.float64)[program],
    )


def pick(groups: Groups, preference: NDArray) -> Array:
    """[T, G] 1 where the survivor of highest preference [T, G, k] is correct; ties go to the earlier sample.

    A group without survivors hands in nothing, which counts as wrong.
    """
    chosen = np.where(groups.survives, preference, -np.inf).argmax(-1)[..., None]
    hit = np.take_along_axis(groups.correct & groups.survives, chosen, -1)[..., 0]
    return hit.astype(np.float64)


def naive(groups: Groups) -> Array:
    """The first survivor: paper A's baseline, verifier-filtered best of k."""
    return pick(groups, np.zeros(groups.survives.shape))


def uniform(groups: Groups) -> Array:
    """A survivor drawn uniformly among the *distinct* surviving programs, in expectation."""
    same = groups.program[..., :, None] == groups.program[..., None, :]  # [T, G, k, k]
    repeated = np.tril(same, -1).any(-1)
    distinct = groups.survives & ~repeated
    return (distinct & groups.correct).sum(-1) / np.maximum(distinct.sum(-1), 1)


def shortest(groups: Groups) -> Array:
    """The survivor of fewest tokens."""
    return pick(groups, -groups.length)


def majority(groups: Groups) -> Array:
    """A survivor of the largest output cluster, counted in samples (AlphaCode, MBR-exec).

    It runs the candidates on the held-out inputs, which the critic never sees.
    """
    same = groups.cluster[..., :, None] == groups.cluster[..., None, :]
    return pick(groups, (same & groups.survives[..., None, :]).sum(-1))


def critic(groups: Groups) -> Array:
    """The survivor of highest critic score."""
    return pick(groups, groups.score)


def oracle(groups: Groups) -> Array:
    """A correct survivor wherever there is one: the ceiling of every selector."""
    return pick(groups, groups.correct)


SELECTORS: Mapping[str, Callable[[Groups], Array]] = {
    "naive": naive,
    "uniform": uniform,
    "shortest": shortest,
    "majority": majority,
    "critic": critic,
    "oracle": oracle,
}


@dataclass(frozen=True)
class Selection:
    """Selection at one k, averaged over a task's groups (and over split seeds by `mean`).

    Attributes:
        accuracy: selector -> [T], chance that the pick is correct.
        divergent: [T], share of the task's groups whose survivors disagree on a held-out input.
        on_divergent: selector -> [T], chance that the group diverges *and* the pick is correct; accuracy on
            divergent groups is sum(on_divergent) / sum(divergent).
    """

    accuracy: dict[str, Array]
    divergent: Array
    on_divergent: dict[str, Array]

    @staticmethod
    def mean(selections: list[Selection]) -> Selection:
        """The average within each task over several split seeds."""
        names = selections[0].accuracy
        return Selection(
            {name: np.mean([s.accuracy[name] for s in selections], axis=0) for name in names},
            np.mean([s.divergent for s in selections], axis=0),
            {name: np.mean([s.on_divergent[name] for s in selections], axis=0) for name in names},
        )


def select(samples: SampleSet, k: int, scores: Array | None = None) -> Selection:
    """Every selector on every group of k; the critic only where its scores [D] are given."""
    groups = cut(samples, k, scores)
    divergent = groups.divergent()
    picks = {name: run(groups) for name, run in SELECTORS.items() if name != "critic" or scores is not None}
    return Selection(
        {name: hit.mean(1) for name, hit in picks.items()},
        divergent.mean(1),
        {name: (hit * divergent).mean(1) for name, hit in picks.items()},
    )


def divergence(samples: SampleSet, k: int) -> Array:
    """[T] share of a task's k-groups whose survivors disagree on a held-out input."""
    return cut(samples, k).divergent().mean(1)
