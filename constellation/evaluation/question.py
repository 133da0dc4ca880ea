"""A question that the evaluation answers: its numbers, its figures and its section of the report.

Each lies in a file of its own, with the data that it reads beside the study's samples and a template of its
name in `templates/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from constellation.evaluation.entries import Entries, Entry, plain
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import Part, StudyResults


class Answer(NamedTuple):
    """What was found."""

    entries: list[Entry]  # every number
    facts: dict[str, Any]  # JSON-like, what is no number with an interval: verdicts, sentences, lists, counts


@dataclass(frozen=True)
class Results:
    """Everything that the report shows; numbers are as JSON holds them."""

    study: StudyResults  # for its models, banks and choices
    entries: Entries  # the rows of every question
    facts: dict[str, dict[str, Any]]  # question -> its answer's, of those that were answered
    findings: dict[str, dict[str, Any]]  # the primary ones
    overall: dict[str, Any]  # the verdict over them
    discoveries: dict[str, int]  # numbers "tested" as one exploratory family, and "discoveries" of these
    methods: dict[str, Any]  # the stages that were read, and the samples drawn

    def as_json(self) -> dict[str, Any]:
        """What findings.json holds: these, and what of the study tells how to read them."""
        study, banks = self.study, self.study.tasks
        found = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "study"} | {
            "models": study.models,
            "sequence": study.sequence,
            "trajectories": study.trajectories,
            "tasks": {bank: len(tasks) for bank, tasks in banks.items()},
            "splits": {bank: study.splits(bank) for bank in banks},
            "samples_per_task": {
                bank: {model: study.pool_size(bank, model) for model in study.models} for bank in banks
            },
            "analysis": asdict(study.analysis),
        }
        return {name: plain(value) for name, value in found.items()}


class Question(NamedTuple):
    """One question."""

    name: str  # of its template and of its section's anchor
    title: str  # of its section
    answer: Callable[[StudyResults, Any, Bootstrap], Answer]  # of its part of the study, its own dataclass
    figures: Mapping[str, Callable[[Results], Figure | None]]  # name -> None where there is nothing to draw
    missing: str = ""  # why a study without its part has no answer, as in "Not measured: ..."
    always: bool = False  # it reads nothing but the study's samples, and is answered of every study
    part: str = ""  # name of its part of the study, its own by default

    def part_of(self, study: StudyResults) -> Part | None:
        """What it reads beside the study's samples."""
        return study.parts.get(self.part or self.name)
