"""The stages of the exact posterior: the Bayes ceiling of a bank, and how probably each candidate is right.

Two laws matter. A bank's tasks are drawn from the *bank's*, so its ceiling and the ideal critic rest on that.
A round trains on tasks of the *STaR* tasks' law, so the forecast filters by that, wherever it is measured.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from constellation.conductor import Stage
from constellation.domains.task import read_tasks, split
from constellation.domains.trapdoor import banks
from constellation.domains.trapdoor.posterior import bayes_ceiling, candidate_posterior
from constellation.evaluation.study import Exact, SetKey
from constellation.experiments.stage_files import TASKS, numbered, numbered_files, of_each, samples_of
from constellation.experiments.star_config import START
from constellation.experiments.star_stages import StarStages

CEILING, POSTERIOR = "ceiling.npz", "posterior.npy"


class Law(NamedTuple):
    """What a task is drawn from: its most atoms, and whether it is of a withheld class."""

    max_atoms: int
    withheld: bool = False

    @property
    def name(self) -> str:
        """For names of stages."""
        return f"{self.max_atoms}_atoms{'_withheld' if self.withheld else ''}"


def bank_law(bank: str) -> Law:
    """The law of a bank's tasks."""
    return Law(banks.BANKS[bank].max_atoms, banks.BANKS[bank].withheld)


def star_law(study: StarStages) -> Law:
    """The law of the STaR tasks."""
    return Law(study.config.star.max_atoms)


def exact(study: StarStages, samples: dict[str, Stage]) -> tuple[Exact, list[Stage]]:
    """What the evaluation reads, and the stages that hold it.

    Args:
        samples: bank -> gen_v0's samples under the primary split.
    """
    star, primary = study.config.star, study.config.tasks.split_seed
    ceilings = {bank: ceiling(study, bank) for bank in study.config.tasks.banks}
    filters = {
        bank: candidate_posteriors(study, bank, START, primary, drawn, star_law(study))
        for bank, drawn in samples.items()
    }
    found = {}
    for bank, stage in ceilings.items():
        with np.load(stage.path / CEILING) as file:
            found[bank] = dict(file)
    return Exact(
        ceiling=found,
        bank_atoms={bank: bank_law(bank).max_atoms for bank in study.config.tasks.banks},
        filter={
            SetKey(bank, START, primary, trajectory): posterior
            for bank, stage in filters.items()
            for trajectory, posterior in enumerate(posteriors_of(stage))
        },
        star_atoms=star_law(study).max_atoms,
        star_samples=star.samples,
        star_keep=star.keep,
    ), [*ceilings.values(), *filters.values()]


def ceiling(study: StarStages, bank: str) -> Stage:
    """What is best possible on each task of a bank under the primary split, by the bank's own law."""
    tasks, law, own = study.bank(bank), bank_law(bank), study.config.tasks

    def compute(path: Path) -> None:
        found = bayes_ceiling(read_tasks(tasks.path / TASKS), study.split, *law)
        np.savez(path / CEILING, sampler=found["sampler"], secret=found["secret"])

    return study.conductor.stage(
        f"ceiling_{bank}",
        fields={"tasks": {"visible": own.visible, "split_seed": own.split_seed}, "law": law._asdict()},
        inputs=[tasks],
        version=1,
        run=compute,
    )


def candidate_posteriors(
    study: StarStages, bank: str, name: str, split_seed: int, samples: Stage, law: Law
) -> Stage:
    """The exact probability that a surviving candidate generalises, of every one of a sample set."""
    tasks, visible = study.bank(bank), study.config.tasks.visible
    stage_name = f"posterior_{law.name}_{name}_{bank}_{split_seed}"

    def compute(path: Path) -> None:
        own, divided = read_tasks(tasks.path / TASKS), partial(split, split_seed=split_seed, visible=visible)
        jobs = [(own, divided, drawn, *law) for drawn in samples_of(samples)]
        for trajectory, found in enumerate(of_each(candidate_posterior, jobs, stage_name)):
            np.save(path / numbered(POSTERIOR, trajectory), found)

    return study.conductor.stage(
        stage_name,
        fields={"tasks": {"visible": visible, "split_seed": split_seed}, "law": law._asdict()},
        inputs=[tasks, samples],
        version=1,
        run=compute,
    )


def posteriors_of(stage: Stage) -> list[np.ndarray]:
    """A stage's posteriors, of each trajectory."""
    return [np.load(file) for file in numbered_files(stage, POSTERIOR)]
