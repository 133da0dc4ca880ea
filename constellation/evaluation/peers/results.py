"""What a study of peers hands to its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.study import AnalysisConfig
from constellation.samples import SampleSet

Array = NDArray[np.float64]
BEFORE, PST, MEAN, AGGREGATE = "before", "pst", "mean", "aggregate"
BANK = "bank"  # the one bank of problems, as the statistics name it


class InSequence(NamedTuple):
    """The verdicts on answers in sequence to T problems in one trajectory: [T, n], by place."""

    order: NDArray[np.int_]  # the peer that answered
    right: NDArray[np.bool_]
    flexible: NDArray[np.bool_]
    fits: NDArray[np.bool_]
    key: NDArray[np.int_]  # equal within a problem for answers that say the same
    reference: NDArray[np.int_]  # [T] its place

    def at_reference(self, column: NDArray[Any]) -> NDArray[Any]:
        """[T] a column where the reference stands."""
        found: NDArray[Any] = np.take_along_axis(column, self.reference[:, None], 1)[:, 0]
        return found

    def at_peer(self, column: NDArray[Any], peer: int) -> NDArray[Any]:
        """[T] a column where a peer answered."""
        found: NDArray[Any] = np.take_along_axis(column, (self.order == peer).argmax(1)[:, None], 1)[:, 0]
        return found


class RoundData(NamedTuple):
    """What happened in a round of an arm in which peers read one another, in each trajectory.

    Attributes:
        answers: the verdicts.
        pmi: [T, n], of arms that weigh; None of others.
        weight: [T, n] of every answer as it was learnt, 0 where it was not; None where others are learnt.
    """

    arm: str
    number: int
    answers: Sequence[InSequence]
    pmi: Sequence[Array] | None
    weight: Sequence[Array] | None


class Step(NamedTuple):
    """An answer on a problem's way through a round."""

    peer: str
    text: str
    right: bool
    pmi: float | None
    weight: float | None
    is_reference: bool


class Trace(NamedTuple):
    """A problem's way through a round: who answered what, in order, and what it weighed."""

    problem: str
    answer: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class PeersResults:
    """Everything that the evaluation reads.

    Attributes:
        peers: their names.
        models: "before", and every arm.
        problems: of the bank.
        samples, greedy: (model, peer) to the judged answers of each trajectory.
        verification: (model, peer) to p(yes) [D] of each trajectory.
        sequences: model to the greedy answers in sequence of each trajectory.
        rounds: of arms in which peers read one another.
        traces: a few problems of the first round.
        learnt: (arm, round) to the tokens of answers [K] that all peers learnt.
    """

    peers: tuple[str, ...]
    models: tuple[str, ...]
    problems: int
    samples: Mapping[tuple[str, str], Sequence[SampleSet]]
    greedy: Mapping[tuple[str, str], Sequence[SampleSet]]
    verification: Mapping[tuple[str, str], Sequence[Array]]
    sequences: Mapping[str, Sequence[InSequence]]
    rounds: Sequence[RoundData]
    traces: Sequence[Trace]
    quantiles: tuple[float, ...]
    thresholds: tuple[float, ...]
    analysis: AnalysisConfig
    learnt: Mapping[tuple[str, int], Array] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    title: str = "Do models that learn from one another's answers gain capability?"

    @property
    def trajectories(self) -> int:
        return len(self.sequences[BEFORE])

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(model for model in self.models if model != BEFORE)

    def per_problem(
        self, model: str, peer: str, statistic: Callable[[SampleSet], Array], greedy: bool = False
    ) -> Array:
        """[K, T, ...] a statistic of a peer's samples of each problem, or of its greedy answers.

        For "mean", it is averaged over the peers.
        """
        if peer == MEAN:
            return np.mean([self.per_problem(model, own, statistic, greedy) for own in self.peers], 0)
        sets = self.greedy if greedy else self.samples
        return np.stack([statistic(samples) for samples in sets[model, peer]])

    @property
    def n(self) -> int:
        """Samples a problem."""
        return min(samples.n for sets in self.samples.values() for samples in sets)
