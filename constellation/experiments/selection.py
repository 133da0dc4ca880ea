"""The selectors: what they read of a sample set, and tuning tasks on which the critic's rival is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.domains.task import Splitter, Task, read_tasks
from constellation.evaluation.selection import Selectors
from constellation.evaluation.study import SetKey
from constellation.experiments import filtering
from constellation.experiments.config import BASE, START, Rule, asks, programs_rule
from constellation.experiments.critic import critic_scores, scoring_of
from constellation.experiments.files import SCORES, TASKS, arrays_of, numbered, numbered_files, samples_of
from constellation.experiments.question import Question
from constellation.experiments.star import Sampled, arm, bank_samples, evaluated, warm_start
from constellation.experiments.study import Study
from constellation.samples import SampleSet

if TYPE_CHECKING:
    from constellation.model.model import Generator

Columns = dict[str, np.ndarray]

COLUMNS = "columns.npz"
TUNING = "tuning_hard"  # the bank on which the critic's rival is chosen


class Scored(NamedTuple):
    """What the selectors read of a generator's samples of a bank; None for what the config leaves out."""

    critic: Stage
    posterior: Stage | None
    blind: Stage | None
    unlearned: Stage | None


class Stages(NamedTuple):
    """The stages that the selectors read.

    Attributes:
        scored: (bank, model, split seed) -> the columns of that set.
        samples: of these sets, by the same keys, those that are drawn for the selectors alone.
        tuning: gen_v0's samples of tuning tasks, and what the unlearned selectors read of them.
    """

    scored: dict[tuple[str, str, int], Scored]
    samples: dict[tuple[str, str, int], Stage]
    tuning: tuple[Stage, Stage] | None


def rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of a study that compares other selectors with the critic."""
    return [programs_rule(domain, "selectors")] if asks(config, "selectors") else []


def stages(study: Study) -> Stages:
    """The scores of every round's and gen_v0's samples; under the other split seeds of gen_v0's alone."""
    config, scored = study.config, {}
    for sampled in evaluated(study):
        if sampled.split_seed == config.tasks.split_seed:
            wanted = sampled.bank != "withheld" and sampled.model not in (BASE, *arm(study))
        else:  # there the selectors are compared on gen_v0's candidates alone
            wanted = sampled.model == START and sampled.split_seed in config.selection.split_seeds
        if wanted:
            scored[sampled.key] = columns(study, sampled)
    further = {}
    for seed in config.selection.split_seeds:
        if seed not in config.evaluation.split_seeds:
            sampled = bank_samples(study, "hard", START, warm_start(study), seed, "selection.samples")
            further[sampled.key] = sampled.samples
            scored[sampled.key] = columns(study, sampled)
    return Stages(scored, further, tuning(study) if asks(config, "selectors") else None)


def part(study: Study, found: Stages) -> Selectors:
    """The question's part of what the evaluation reads."""
    tuned: list[tuple[SampleSet, Columns]] = []
    if found.tuning:
        samples, unlearned = found.tuning
        tuned = list(zip(samples_of(samples), columns_of(unlearned), strict=True))
    return Selectors(
        START,
        {
            SetKey(*key, trajectory): own
            for key, scored in found.scored.items()
            for trajectory, own in enumerate(columns_of_all(scored))
        },
        tuned,
    )


def columns(study: Study, sampled: Sampled) -> Scored:
    """The critic's scores, for gen_v0 the exact posterior, and if the config asks for them the others."""
    critic, exact = critic_scores(study, sampled), None
    if sampled.model == START and study.domain.exact:
        law = filtering.bank_law(study, sampled.bank)
        exact = filtering.candidate_posteriors(study, sampled, law)
    if not asks(study.config, "selectors"):
        return Scored(critic, exact, None, None)
    return Scored(critic, exact, critic_scores(study, sampled, blind=True), unlearned_columns(study, sampled))


def columns_of_all(scored: Scored) -> list[Columns]:
    """The columns of each trajectory, by their names in `evaluation.selectors.COLUMNS`."""
    found: list[Columns] = [{"critic": own} for own in arrays_of(scored.critic, SCORES)]
    if scored.posterior:
        for columns, own in zip(found, arrays_of(scored.posterior, filtering.POSTERIOR), strict=True):
            columns["posterior"] = own
    if scored.blind and scored.unlearned:
        more = zip(found, arrays_of(scored.blind, SCORES), columns_of(scored.unlearned), strict=True)
        for columns, own, unlearned in more:
            columns |= {"prior_critic": own, **unlearned}
    return found


def tuning(study: Study) -> tuple[Stage, Stage]:
    """gen_v0's samples of tuning tasks, and what the unlearned selectors read of them."""
    count = "selection.tuning_samples"
    sampled = bank_samples(study, TUNING, START, warm_start(study), count=count)
    return sampled.samples, unlearned_columns(study, sampled)


def unlearned_columns(study: Study, sampled: Sampled) -> Stage:
    """Likelihood under its own generator, and behaviour on generated probes, of every surviving program."""
    tasks, samples, generator = study.bank(sampled.bank), sampled.samples, sampled.generator
    assert generator is not None

    def compute(path: Path) -> None:
        assert study.domain.provenance is not None
        own, drawn = read_tasks(tasks.path / TASKS), samples_of(samples)
        drawer = study.generator(generator, len(drawn))
        divided = study.splitting(sampled.split_seed)
        found = log_likelihoods(drawer, study.domain, own, drawn, divided, study.compute.log_prob)
        for trajectory, (pool, likelihood) in enumerate(zip(drawn, found, strict=True)):
            clusters = study.domain.provenance.probe_clusters(own, pool, divided)
            np.savez(path / numbered(COLUMNS, trajectory), log_likelihood=likelihood, probe_cluster=clusters)

    return study.conductor.stage(
        f"columns_{sampled.label}",
        fields={"model": study.base.fields(), "tasks": study.split_fields(sampled.split_seed)},
        inputs=[tasks, generator, samples],
        version=1,
        run=compute,
        work=scoring_of(samples),
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
    domain: Domain,
    tasks: Sequence[Task],
    samples: Sequence[SampleSet],
    split: Splitter,
    log_prob: Callable[..., Any],
) -> list[np.ndarray]:
    """log p(answer | prompt) of every surviving program under the generator that drew it, at temperature 1.

    Args:
        samples: of each trajectory, all of the same tasks.
        log_prob: of `model.score`.

    Returns:
        for each trajectory [D] float64, in nats: of the tokens of a program's first appearance and a stop
        token; NaN where a program does not fit.
    """
    model = generator.model
    prompts = [np.array(model.chat(domain.messages(split(task))), np.int32) for task in tasks]
    rows = [[own.rows_where(own.fits, t) for t in range(len(tasks))] for own in samples]
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


QUESTION = Question(stages, part, {"selectors": None}, rules)
