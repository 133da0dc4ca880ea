"""The stages of the selectors: what they read of a sample set, and tuning tasks to choose a rival on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from constellation.conductor import Stage
from constellation.domains.task import Split, Task, read_tasks, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor.generated_probes import probe_clusters
from constellation.experiments import bayes_stages
from constellation.experiments.critic_stages import critic_scores
from constellation.experiments.stage_files import TASKS, numbered, numbered_files, samples_of, scores_of
from constellation.experiments.star_config import START
from constellation.experiments.star_stages import StarStages
from constellation.samples import SampleSet

if TYPE_CHECKING:
    from constellation.model.model import Generator

COLUMNS = "columns.npz"
TUNING = "tuning_hard"  # the bank on which the critic's rival is chosen

Columns = dict[str, np.ndarray]


def columns(
    study: StarStages, bank: str, name: str, split_seed: int, samples: Stage, generator: Stage
) -> tuple[list[Columns], list[Stage]]:
    """What the selectors read of a generator's samples of a bank.

    Returns:
        of each trajectory, columns of `evaluation.selectors.COLUMNS`: the critic's; of gen_v0 the exact
        posterior's; if the config asks for them, all others. And the stages that hold them.
    """
    critic = critic_scores(study, bank, name, split_seed, samples)
    found, stages = [{"critic": scores} for scores in scores_of(critic)], [critic]
    if name == START:
        law = bayes_stages.bank_law(bank)
        exact = bayes_stages.candidate_posteriors(study, bank, name, split_seed, samples, law)
        stages.append(exact)
        for own, posterior in zip(found, bayes_stages.posteriors_of(exact), strict=True):
            own["posterior"] = posterior
    if study.config.critic.selectors:
        blind = critic_scores(study, bank, name, split_seed, samples, blind=True)
        unlearned = unlearned_columns(study, bank, name, split_seed, samples, generator)
        stages += [blind, unlearned]
        for own, scores, more in zip(found, scores_of(blind), columns_of(unlearned), strict=True):
            own |= {"prior_critic": scores, **more}
    return found, stages


def tuning(study: StarStages) -> tuple[list[tuple[SampleSet, Columns]], list[Stage]]:
    """gen_v0's samples of tuning tasks with what the unlearned selectors read; nothing unless asked for."""
    if not study.config.critic.selectors:
        return [], []
    generator, seed = study.warm_start(), study.config.tasks.split_seed
    samples = study.bank_samples(TUNING, START, generator, seed, "evaluation.tuning_samples")
    unlearned = unlearned_columns(study, TUNING, START, seed, samples, generator)
    return list(zip(samples_of(samples), columns_of(unlearned), strict=True)), [samples, unlearned]


def unlearned_columns(
    study: StarStages, bank: str, name: str, split_seed: int, samples: Stage, generator: Stage
) -> Stage:
    """Likelihood under its own generator, and behaviour on generated probes, of every surviving program."""
    tasks, visible = study.bank(bank), study.config.tasks.visible

    def compute(path: Path) -> None:
        from constellation.model.model import Generator
        from constellation.selftraining.finetune import load_adapters

        own, drawn = read_tasks(tasks.path / TASKS), samples_of(samples)
        adapters = load_adapters(generator.path)[0]

        def divided(task: Task) -> Split:
            return split(task, split_seed, visible)

        likelihoods = log_likelihoods(Generator(study.model, adapters), own, drawn, divided)
        for trajectory, (pool, likelihood) in enumerate(zip(drawn, likelihoods, strict=True)):
            clusters = probe_clusters(own, pool, divided)
            np.savez(path / numbered(COLUMNS, trajectory), log_likelihood=likelihood, probe_cluster=clusters)

    return study.conductor.stage(
        f"columns_{name}_{bank}_{split_seed}",
        fields={"model": study.model_fields(), "tasks": {"visible": visible, "split_seed": split_seed}},
        inputs=[tasks, generator, samples],
        version=1,
        run=compute,
    )


def columns_of(stage: Stage) -> list[Columns]:
    """A stage's columns, of each trajectory."""
    found = []
    for own in numbered_files(stage, COLUMNS):
        with np.load(own) as file:
            found.append(dict(file))
    return found


def log_likelihoods(
    generator: Generator,
    tasks: Sequence[Task],
    samples: Sequence[SampleSet],
    split: Callable[[Task], Split],
) -> list[np.ndarray]:
    """log p(answer | prompt) of every surviving program under the generator that drew it, at temperature 1.

    Args:
        samples: of each trajectory, all of the same tasks.

    Returns:
        of each trajectory [D] float64, in nats, of the tokens of its first appearance and a stop token; NaN
        where a program does not fit.
    """
    from constellation.model.score import log_prob

    model = generator.model
    prompts = [np.array(model.chat(trapdoor.messages(split(task))), np.int32) for task in tasks]
    rows = [
        [np.flatnonzero(own.fits[table]) + table.start for table in map(own.programs_of, range(len(tasks)))]
        for own in samples
    ]
    texts = []
    for own, of_task in zip(samples, rows, strict=True):
        first = np.unique(own.program, return_index=True)[1]  # [D] where each program appears first
        answers = [[own.sample_tokens(*divmod(int(first[row]), own.n)) for row in group] for group in of_task]
        texts.append([[np.append(answer, model.stop_ids[0]) for answer in group] for group in answers])
    found = log_prob(generator, [prompts] * len(samples), texts)
    result = [np.full(len(own.task), np.nan) for own in samples]
    for column, of_task, values in zip(result, rows, found, strict=True):
        for group, value in zip(of_task, values, strict=True):
            column[group] = value
    return result
