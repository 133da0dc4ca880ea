"""A question that the evaluation answers: its numbers, its figures and its section of the report.

Each question has a file of its own, which also defines the data that it reads besides the study's samples,
and a template of the same name in `templates/`.
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
    """What was found: numbers as rows, and JSON values for verdicts, sentences, lists and counts."""

    entries: list[Entry]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything that the report shows, with numbers as findings.json holds them."""

    study: StudyResults  # for its models, banks and choices
    entries: Entries  # the rows of every question
    facts: dict[str, dict[str, Any]]  # question -> the facts of its answer, if it was answered
    findings: dict[str, dict[str, Any]]  # name -> primary finding as judged
    overall: dict[str, Any]  # the verdict over them
    discoveries: dict[str, int]  # numbers "tested" as one exploratory family, and "discoveries" of these
    methods: dict[str, Any]  # the stages that were read, and the samples drawn

    def as_json(self) -> dict[str, Any]:
        """What findings.json holds: these fields, and what one needs to know of the study to read them."""
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
    """A question, as its module declares it."""

    name: str  # also of its template and of its section's anchor
    title: str  # of its section
    answer: Callable[[StudyResults, Any, Bootstrap], Answer]  # from the study, its `part_of` and resamples
    figures: Mapping[str, Callable[[Results], Figure | None]]  # by name; None where there is nothing to draw
    missing: str = ""  # why a study without its part has no answer, as in "Not measured: ..."
    always: bool = False  # whether it is answered for a study without its part, too
    part: str = ""  # name of the question whose part it reads, if that is another

    def part_of(self, study: StudyResults) -> Part | None:
        """The data that it reads besides the study's samples, if the study has them."""
        return study.parts.get(self.part or self.name)
