"""What filtering alone would do: the Bayes ceiling of a bank, and how probably each candidate is right.

Two laws matter. A bank's tasks are drawn from the *bank's*, so its ceiling and the ideal critic rest on that.
A round trains on tasks of the *STaR* tasks' law, so the forecast filters by that, wherever it is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from constellation.conductor import Stage
from constellation.domains.domain import load_domain
from constellation.domains.task import Splitter, Task, read_tasks
from constellation.evaluation.filtering import ExactPosterior
from constellation.experiments.config import START
from constellation.experiments.files import TASKS, arrays_of, by_trajectory, samples_of, write_arrays
from constellation.experiments.question import Question
from constellation.experiments.star import Sampled, bank_samples, warm_start
from constellation.experiments.study import Study
from constellation.experiments.work import Judging
from constellation.runtime.processes import in_processes
from constellation.runtime.progress import Progress
from constellation.samples import SampleSet

CEILING, POSTERIOR = "ceiling.npz", "posterior.npy"


class Law(NamedTuple):
    """What a task is drawn from: its most atoms, and whether it is of a withheld class."""

    max_atoms: int
    withheld: bool = False

    @property
    def name(self) -> str:
        """As it stands in the names of stages."""
        return f"{self.max_atoms}_atoms{'_withheld' if self.withheld else ''}"


class Stages(NamedTuple):
    """By bank, the ceiling, and the posterior of gen_v0's candidates under the STaR tasks' law."""

    ceilings: dict[str, Stage]
    filters: dict[str, Stage]


def bank_law(study: Study, bank: str) -> Law:
    """The law of a bank's tasks."""
    assert study.domain.exact is not None
    return Law(*study.domain.exact.bank_law(bank))


def star_law(study: Study) -> Law:
    """The law of the STaR tasks."""
    return Law(study.config.star.max_atoms)


def stages(study: Study) -> Stages | None:
    """Every stage; None where the domain's law is not tractable."""
    if study.domain.exact is None:
        return None
    filters = {}
    for bank in study.config.tasks.banks:
        sampled = bank_samples(study, bank, START, warm_start(study))
        filters[bank] = candidate_posteriors(study, sampled, star_law(study))
    return Stages({bank: ceiling(study, bank) for bank in filters}, filters)


def part(study: Study, found: Stages) -> ExactPosterior:
    """The question's part of what the evaluation reads."""
    star, primary = study.config.star, study.config.tasks.split_seed
    ceilings = {}
    for bank, stage in found.ceilings.items():
        with np.load(stage.path / CEILING) as file:
            ceilings[bank] = dict(file)
    return ExactPosterior(
        ceiling=ceilings,
        bank_atoms={bank: bank_law(study, bank).max_atoms for bank in found.ceilings},
        filter={
            key: posterior
            for bank, stage in found.filters.items()
            for key, posterior in by_trajectory(bank, START, primary, arrays_of(stage, POSTERIOR)).items()
        },
        star_atoms=star_law(study).max_atoms,
        star_samples=star.samples,
        star_keep=star.keep,
    )


def ceiling(study: Study, bank: str) -> Stage:
    """What is best possible on each task of a bank under the primary split, by the bank's own law."""
    tasks, law = study.bank(bank), bank_law(study, bank)

    def compute(path: Path) -> None:
        assert study.domain.exact is not None
        found = study.domain.exact.ceiling(read_tasks(tasks.path / TASKS), study.split, *law)
        np.savez(path / CEILING, sampler=found["sampler"], secret=found["secret"])

    return study.conductor.stage(
        f"ceiling_{bank}",
        fields={"tasks": study.split_fields(), "law": law._asdict()},
        inputs=[tasks],
        version=1,
        run=compute,
        work=Judging(study.config.tasks.bank_size, 1),
    )


def candidate_posteriors(study: Study, sampled: Sampled, law: Law) -> Stage:
    """The exact probability that it generalises, for every surviving candidate of a sample set."""
    tasks, samples = study.bank(sampled.bank), sampled.samples
    stage = f"posterior_{law.name}_{sampled.label}"

    def compute(path: Path) -> None:
        own, divided = read_tasks(tasks.path / TASKS), study.splitting(sampled.split_seed)
        jobs = [(study.domain.name, own, divided, drawn, *law) for drawn in samples_of(samples)]
        progress = Progress(stage, len(jobs), "trajectories")
        found = in_processes(_posterior, jobs, progress, study.compute.processes)
        write_arrays(path, POSTERIOR, found)

    assert isinstance(samples.work, Judging)
    return study.conductor.stage(
        stage,
        fields={"tasks": study.split_fields(sampled.split_seed), "law": law._asdict()},
        inputs=[tasks, samples],
        version=1,
        run=compute,
        work=samples.work,
    )


def _posterior(
    domain: str, tasks: list[Task], split: Splitter, samples: SampleSet, *law: Any
) -> np.ndarray:
    exact = load_domain(domain).exact
    assert exact is not None
    return exact.posterior(tasks, split, samples, *law)


QUESTION = Question(stages, part)
