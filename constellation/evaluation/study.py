"""What an experiment hands to the evaluation: sample sets, the questions' parts and the facts around them.

An experiment fills one `StudyResults` from its stored stages; everything below it (`analysis`, `findings`,
`report`) is a pure function of that value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]


class SetKey(NamedTuple):
    """Identifies one sample set of the evaluation.

    A *trajectory* is one independent replicate of the whole training; the pretrained base, which all share,
    is sampled once, under trajectory 0.
    """

    bank: str
    model: str
    split_seed: int
    trajectory: int = 0


@dataclass(frozen=True)
class TaskInfo:
    """One evaluation task, as the report speaks of it; examples are (inputs, output) pairs."""

    id: str  # as in `SampleSet.task_ids`
    atoms: int  # concatenated parts of the secret program
    structures: tuple[str, ...]  # withheld structural classes it belongs to, usually none
    skeleton_seen: bool  # whether the secret program's skeleton occurs in any training role
    program: str  # the secret one
    visible: Sequence[tuple[tuple[str, ...], str]]  # what the generator sees under the primary split
    held_out: Sequence[tuple[tuple[str, ...], str]]  # decide whether a program generalises


@dataclass(frozen=True)
class StageSummary:
    """Counts of one training stage, None where one does not apply; the report averages those of one name."""

    name: str  # as the stage is called: "theta0", "gen_v0", "v1", ..., "critic"
    role: str  # the role that its tasks have
    tasks: int | None = None  # tasks that it used or sampled
    samples: int | None = None  # programs that it sampled for its data
    kept_tasks: int | None = None  # tasks with at least one example kept for training
    kept: int | None = None  # examples that it trained on
    updates: int | None = None
    answer_tokens: int | None = None  # tokens of answers that carried loss, over all updates
    losses: Sequence[float] = ()  # mean loss of each update, or of each logged stretch
    pool: SampleSet | None = None  # the samples that its data were chosen from, in STaR rounds only
    trajectory: int = 0


@dataclass(frozen=True)
class AnalysisConfig:
    """The choices of the analysis, fixed before any result is seen."""

    seed: int = 0  # of the bootstrap and of the null's halvings
    primary_bank: str = "hard"  # bank that the findings are read on; the others are exploratory
    small_k: int = 8  # where the crossover claims a gain, and where the other findings are read
    large_k: int = 64  # above small_k, where the crossover claims a loss
    max_k: int = 64  # pass@k curves run over k = 1..max_k
    selection_ks: tuple[int, ...] = (2, 4, 8, 16, 32, 64)  # group sizes of the selectors
    diversity_samples: int = 4  # m of the rarefied count of distinct programs
    margin: float = 0.01  # smallest effect of interest, as a share of tasks
    level: float = 0.95  # coverage of intervals and one-sided bounds; a family of tests errs at 1 - level
    power: float = 0.8  # of the minimum detectable effects
    resamples: int = 10_000  # of the bootstrap
    halvings: int = 200  # pseudo-studies that the null draws from a doubled pool
    reach_budgets: tuple[int, ...] = (64, 1024, 16384)  # sample budgets B that reach is tabulated for
    reach_at: int = 1024  # the B at which expansion of reach is decided
    shown_tasks: int = 4  # at most so many tasks are shown with their candidates


class Part:
    """The data that one question reads besides the study's samples; each has a dataclass of its own."""

    def check(self, study: StudyResults) -> None:
        """Refuses data that do not belong to the study, by a `UserError`."""

    def drawn(self) -> Iterable[tuple[str, str, int]]:
        """(purpose, model, number of samples) of what was sampled for the question alone."""
        return ()


@dataclass(frozen=True)
class StudyResults:
    """Everything the evaluation reads.

    pass@k of a bank averages, within each task, over the split seeds for which *every* model of `models` has
    sets, so models are always compared on the same splits.
    """

    base: str  # name of the pretrained model, "theta0"
    start: str  # name of the generator that the rounds are compared with, "gen_v0"
    rounds: tuple[str, ...]  # names of the STaR rounds in order, "v1", "v2", ...; may be empty
    tasks: Mapping[str, Sequence[TaskInfo]]  # bank -> its tasks, in the order of `SampleSet.task_ids`
    samples: Mapping[SetKey, SampleSet]  # of every trajectory; of the base under trajectory 0 alone
    primary_split: int  # the split seed of the tasks shown in the report
    trajectories: int = 1  # K, replicates of the training, numbered 0..K-1
    arms: tuple[str, ...] = ()  # models self-trained on other tasks; no finding reads them
    parts: Mapping[str, Part] = field(default_factory=dict)  # question -> the data that it reads besides
    stages: Sequence[StageSummary] = ()  # training stages in order
    roles: Mapping[str, int] = field(default_factory=dict)  # role -> its tasks, disjoint by construction
    config: Mapping[str, Any] = field(default_factory=dict)  # the experiment's, as JSON values
    provenance: Mapping[str, Any] = field(default_factory=dict)  # without times: reports repeat to the byte
    # question -> stored stage that it read -> hash of the stage's content; under "study" stand the stages of
    # the samples that every question may read
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    analysis: AnalysisConfig = AnalysisConfig()
    probes: int = 64  # inputs that each generalising program was run on
    title: str = "Does a model that learns from its own verified programs gain capability?"

    def __post_init__(self) -> None:
        for key, samples in self.samples.items():
            self.check_tasks(key.bank, key.model, key.split_seed, samples)
        self.check_trajectories(self.samples, "samples")
        for bank in self.tasks:
            self.splits(bank)
        for part in self.parts.values():
            part.check(self)

    def check_tasks(self, bank: str, model: str, split_seed: int, samples: SampleSet) -> None:
        """Refuses samples of other tasks than the bank's, by a `UserError`."""
        if list(map(str, samples.task_ids)) != [task.id for task in self.tasks[bank]]:
            raise UserError(
                f"the samples of {model} on {bank} (split {split_seed}) are of other tasks "
                "than the bank's: evaluate every model on the same bank"
            )

    def check_trajectories(self, keys: Iterable[SetKey], what: str, only: int | None = None) -> None:
        """Refuses a (bank, model, split seed) of which a trajectory is missing or one too many.

        The `UserError` says `what` the sets are. There must be the first `only` trajectories, or all.
        """
        found: dict[tuple[str, str, int], set[int]] = {}
        for key in keys:
            found.setdefault(key[:3], set()).add(key.trajectory)
        for (bank, model, split_seed), numbers in found.items():
            wanted = self.trajectories_of(model)[:only]
            if numbers != set(wanted):
                raise UserError(
                    f"{what} of {model} on {bank} (split {split_seed}) are of trajectories "
                    f"{sorted(numbers)}, not of {list(wanted)}: every trajectory needs them"
                )

    def first_trajectories(self, trajectories: int) -> StudyResults:
        """The study of the first trajectories alone, without training stages and the questions' parts."""
        kept = {key: samples for key, samples in self.samples.items() if key.trajectory < trajectories}
        return replace(self, trajectories=trajectories, samples=kept, parts={}, stages=())

    @property
    def models(self) -> tuple[str, ...]:
        """Every model with a curve: the base, the start, the rounds in order, then the arms."""
        return self.sequence + self.arms

    @property
    def sequence(self) -> tuple[str, ...]:
        """Base, start and rounds, each trained after the one before."""
        return (self.base, self.start, *self.rounds)

    @property
    def first_and_last(self) -> tuple[str, str]:
        """The start and the last round, which is the start where none was run."""
        return self.start, self.sequence[-1]

    @property
    def deciding_ks(self) -> list[int]:
        """The k that the findings are read at."""
        return [self.analysis.small_k, self.analysis.large_k]

    @property
    def scope(self) -> str:
        """What a verdict is about: never about other bases, since all trajectories start from one."""
        return "this trajectory" if self.trajectories == 1 else "trajectories from this base"

    def trajectories_of(self, model: str) -> range:
        """The trajectories that a model was sampled in: all, except for the base, which has the first."""
        return range(1 if model == self.base else self.trajectories)

    def primary_keys(self, bank: str, model: str, trajectories: int | None = None) -> list[SetKey]:
        """A model's sets under the primary split in the first `trajectories`, or in all."""
        count = self.trajectories if trajectories is None else trajectories
        return [SetKey(bank, model, self.primary_split, k) for k in range(count)]

    def splits(self, bank: str) -> list[int]:
        """The split seeds for which every model was sampled on the bank."""
        seeds = [
            {key.split_seed for key in self.samples if key[:2] == (bank, model)} for model in self.models
        ]
        shared = sorted(set.intersection(*seeds))
        if not shared:
            raise UserError(f"no split seed of bank {bank} was sampled by every model: use one for all")
        return shared

    def per_task(self, bank: str, model: str, statistic: Callable[[SampleSet], Array]) -> Array:
        """[K, T, ...] a statistic of each task, averaged over the bank's split seeds."""
        rows = [
            np.mean([statistic(self.samples[SetKey(bank, model, seed, k)]) for seed in self.splits(bank)], 0)
            for k in self.trajectories_of(model)
        ]
        return np.broadcast_to(rows, (self.trajectories, *rows[0].shape))

    def pool_size(self, bank: str, *models: str) -> int:
        """The smallest n of these models' sets on the bank: the largest k that all of them can answer."""
        splits = self.splits(bank)
        return min(
            samples.n
            for key, samples in self.samples.items()
            if key.bank == bank and key.model in models and key.split_seed in splits
        )


def trajectory_count(keys: Iterable[SetKey]) -> int:
    """How many trajectories these sets are of, counted from trajectory 0 to the last that occurs."""
    return max((key.trajectory + 1 for key in keys), default=0)
