"""The stages of the critic: its tasks, gen_v0's candidates for them, training, scores of any candidates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from constellation.conductor import Stage
from constellation.domains.task import read_tasks, split
from constellation.experiments.stage_files import SCORES, TASKS, numbered, samples_of
from constellation.experiments.star_config import CRITIC, PRIOR_CRITIC, START
from constellation.experiments.star_stages import StarStages
from constellation.samples import SampleSet


def critic_tasks(study: StarStages) -> Stage:
    """The critic's tasks."""
    return study.training_tasks("critic", "critic", study.config.critic.max_atoms)


def critic_samples(study: StarStages) -> Stage:
    """gen_v0's candidates for the critic's tasks."""
    return study.samples(
        "critic_samples", critic_tasks(study), study.warm_start(), "critic.samples", "critic", START
    )


def critic(study: StarStages, blind: bool = False) -> Stage:
    """The second adapter: does this candidate generalise?

    Args:
        blind: it is never shown the examples, neither in training nor later; the labels are the same.
    """
    return critic_of(study, PRIOR_CRITIC if blind else CRITIC, critic_samples(study), blind)


def critic_of(
    study: StarStages,
    name: str,
    samples: Stage,
    blind: bool = False,
    trajectories: int | None = None,
    labels: Callable[[int, SampleSet], NDArray[np.bool_]] | None = None,
) -> Stage:
    """A critic trained on any candidates for the critic's tasks.

    Args:
        name: of the stage.
        samples: the stage that holds the candidates.
        blind: as for `critic`.
        trajectories: only the first ones.
        labels: (trajectory, its candidates) to which are labelled yes; those that generalise by default.
    """
    section, tasks = study.config.critic, critic_tasks(study)
    each = trajectories or study.trajectories

    def train(path: Path) -> None:
        from constellation.critic import answer_ids, critic_examples, no_examples

        shown, found = no_examples if blind else study.split, samples_of(samples)[:each]
        pools = [
            critic_examples(study.model, own, drawn, shown, labels(r, drawn) if labels else None)
            for r, (own, drawn) in enumerate(zip(study.tasks_of(tasks, each), found, strict=True))
        ]
        choices = answer_ids(study.model)
        study.train(path, name, None, pools, section.passes * section.tasks, choices=choices)

    fields = {"passes": section.passes, "tasks": section.tasks}
    return study.conductor.stage(
        name,
        fields=study.training_fields({"critic": fields}) | {"trajectories": each},
        inputs=[tasks, samples],
        version=2,
        run=train,
    )


def critic_scores(
    study: StarStages, bank: str, name: str, split_seed: int, samples: Stage, blind: bool = False
) -> Stage:
    """The critic's score of every surviving candidate of a sample set; `blind` as for `critic`."""
    stage_name = f"{'prior_' if blind else ''}scores_{name}_{bank}_{split_seed}"
    return scores_by(study, stage_name, critic(study, blind), bank, split_seed, samples, blind)


def scores_by(
    study: StarStages,
    stage_name: str,
    critic: Stage,
    bank: str,
    split_seed: int,
    samples: Stage,
    blind: bool = False,
    visible: int | None = None,
) -> Stage:
    """Any critic's scores of a bank's samples, in those of their trajectories that it was trained in.

    Args:
        visible: examples that samples and critic are shown, instead of the config's.
    """
    tasks, shown = study.bank(bank), visible or study.config.tasks.visible

    def score(path: Path) -> None:
        from constellation.critic import critic_scores, no_examples
        from constellation.model.lora import first
        from constellation.model.model import Generator
        from constellation.selftraining.finetune import load_adapters

        critics, metadata = load_adapters(critic.path)
        drawn = samples_of(samples)[: len(metadata["addresses"])]
        found = critic_scores(
            Generator(study.model, first(critics, len(drawn))),
            read_tasks(tasks.path / TASKS),
            drawn,
            no_examples if blind else lambda task: split(task, split_seed, shown),
        )
        for trajectory, own in enumerate(found):
            np.save(path / numbered(SCORES, trajectory), own)

    return study.conductor.stage(
        stage_name,
        fields={"model": study.model_fields()},
        inputs=[critic, tasks, samples],
        version=1,
        run=score,
    )
