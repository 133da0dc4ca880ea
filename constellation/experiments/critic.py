"""The critic's stages: tasks, gen_v0's candidates for them, training, and scores of any candidates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from constellation.conductor import Stage
from constellation.domains.task import Split, Task, read_tasks
from constellation.experiments.config import CRITIC, PRIOR_CRITIC, START
from constellation.experiments.files import SCORES, TASKS, samples_of, write_arrays
from constellation.experiments.star import Sampled, warm_start
from constellation.experiments.study import Base, Draw, Pools, Recipe, Study
from constellation.experiments.work import Judging, Scoring
from constellation.samples import SampleSet

SURVIVORS = 1 / 4  # roughly, the share of samples that are distinct and fit; only a plan counts with it

Labels = Callable[[int, SampleSet], NDArray[np.bool_]]


def no_examples(task: Task) -> Split:
    """The split of a critic that is shown the program alone, and can learn no more than its prior."""
    return Split((), ())


def critic_tasks(study: Study) -> Stage:
    """Fresh tasks of the critic's role."""
    return study.training_tasks("critic", "critic", study.config.critic.max_atoms)


def critic_samples(study: Study) -> Stage:
    """gen_v0's candidates for the critic's tasks."""
    draw = Draw("critic.samples", "critic", START)
    return study.samples("critic_samples", critic_tasks(study), warm_start(study), draw)


def critic(study: Study, blind: bool = False) -> Stage:
    """The second adapter: does this candidate generalise?

    Args:
        blind: it is never shown the examples, neither in training nor later; the labels are the same.
    """
    return critic_of(study, PRIOR_CRITIC if blind else CRITIC, critic_samples(study), blind)


def critic_of(
    study: Study,
    name: str,
    samples: Stage,
    blind: bool = False,
    trajectories: int | None = None,
    labels: Labels | None = None,
    base: Base | None = None,
) -> Stage:
    """A critic trained on any candidates for the critic's tasks.

    Args:
        labels: (trajectory, its candidates) -> which are labelled yes; by default those that generalise.
        base: whose adapter it is; the generator's by default.
    """
    section, tasks = study.config.critic, critic_tasks(study)

    def examples() -> Pools:
        from constellation.critic import critic_examples

        model = (base or study.base).model
        found = samples_of(samples)[: trajectories or study.trajectories]
        return [
            critic_examples(
                model,
                study.domain,
                own,
                drawn,
                no_examples if blind else study.split,
                labels(r, drawn) if labels else None,
            )
            for r, (own, drawn) in enumerate(zip(study.tasks_of(tasks, len(found)), found, strict=True))
        ]

    recipe = Recipe(
        name,
        {"critic": {"passes": section.passes, "tasks": section.tasks}},
        examples,
        section.passes * section.tasks,
        is_critic=True,
        candidates=SURVIVORS * section.samples,
        trajectories=trajectories,
        version=2,
    )
    return study.train(recipe, [tasks, samples], base)


def scores(
    study: Study,
    name: str,
    critic: Stage,
    sampled: Sampled,
    blind: bool = False,
    base: Base | None = None,
) -> Stage:
    """A critic's score of every surviving candidate of a bank, in the trajectories that it was trained in.

    Args:
        base: whose adapter the critic is; the generator's by default.
    """
    tasks, base = study.bank(sampled.bank), base or study.base

    def score(path: Path) -> None:
        drawn = samples_of(sampled.samples)
        critics = study.generator(critic, len(drawn), base)
        found = study.compute.critic_scores(
            critics,
            study.domain,
            read_tasks(tasks.path / TASKS),
            drawn[: critics.trajectories],
            no_examples if blind else study.splitting(sampled.split_seed, sampled.visible),
        )
        write_arrays(path, SCORES, found)

    return study.conductor.stage(
        name,
        fields={"model": base.fields()},
        inputs=[critic, tasks, sampled.samples],
        version=1,
        run=score,
        work=scoring_of(sampled.samples),
    )


def scoring_of(samples: Stage) -> Scoring:
    """The work of reading every surviving candidate of a sample set."""
    assert isinstance(samples.work, Judging)
    return Scoring(samples.work.tasks, SURVIVORS * samples.work.n)


def critic_scores(study: Study, sampled: Sampled, blind: bool = False) -> Stage:
    """The study's critic's scores of a model's samples; `blind` as for `critic`."""
    name = f"{'prior_' if blind else ''}scores_{sampled.label}"
    return scores(study, name, critic(study, blind), sampled, blind)
