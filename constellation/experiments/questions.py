"""The questions that a study asks, and its whole graph: its own stages, and those that each question adds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from constellation.conductor import Stage, digest
from constellation.evaluation.questions import OF_STAGES
from constellation.experiments import star
from constellation.experiments.config import CRITIC, PRIOR_CRITIC, asks
from constellation.experiments.critic import critic, critic_samples, critic_tasks
from constellation.experiments.question import Question, stages_in
from constellation.experiments.study import Study

SKELETONS = "training_skeletons.txt"

QUESTIONS: dict[str, Question] = {name: import_module(f"{__package__}.{name}").QUESTION for name in OF_STAGES}


class Graph(NamedTuple):
    """Every stage of a study but its report.

    Attributes:
        samples: (bank, model, split seed) to a model's samples.
        rounds: those of the arm after the others.
        critics: name to the study's own critics.
        tasks: every stage of training tasks.
        skeletons: those of the pretraining tasks.
        questions: name to the stages that a question reads; None for one that is off.
    """

    samples: dict[tuple[str, str, int], Stage]
    rounds: list[star.Round]
    critics: dict[str, Stage]
    tasks: list[Stage]
    skeletons: Stage
    questions: dict[str, Any]


def graph(study: Study) -> Graph:
    """Asks the conductor for every stage of the study, in the order in which they run."""
    samples = {each.key: each.samples for each in star.evaluated(study)}
    trained = [*star.rounds(study), *star.arm_rounds(study)]
    questions = {
        name: question.stages(study) if question.is_on(name, study.config) else None
        for name, question in QUESTIONS.items()
    }
    own = {CRITIC: critic(study)}
    if asks(study.config, "selectors"):
        own[PRIOR_CRITIC] = critic(study, blind=True)
    tasks = [star.warm_start_tasks(study), *(each.tasks for each in trained), critic_tasks(study)]
    return Graph(samples, trained, own, tasks, pretraining_skeletons(study), questions)


def sources(study: Study, found: Graph) -> list[Stage]:
    """Every stage that a report reads."""
    pools = [(each.adapters, each.samples) for each in found.rounds]
    trained = [*pools, found.skeletons, star.warm_start(study), found.critics, critic_samples(study)]
    banks = [study.bank(bank) for bank in study.config.tasks.banks]
    return stages_in([found.samples, found.questions, trained, banks, found.tasks])


def pretraining_skeletons(study: Study) -> Stage:
    """Skeletons of the pretraining tasks, one a line, as far as the model's directory lists them."""
    listed = Path(study.config.model.dir) / SKELETONS
    text = listed.read_text(encoding="utf-8") if listed.exists() else ""

    def write(path: Path) -> None:
        (path / SKELETONS).write_text(text, encoding="utf-8")

    return study.conductor.stage(
        "pretraining_skeletons", fields={SKELETONS: digest(text)}, version=1, run=write, derived=True
    )
