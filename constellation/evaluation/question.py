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
    """What was found.

    Attributes:
        entries: every number.
        facts: what is no number with an interval, JSON-like: verdicts with their sentences, lists, counts.
    """

    entries: list[Entry]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Everything that the report shows; numbers are as JSON holds them.

    Attributes:
        study: the study, for its models, banks and choices.
        entries: the rows of every question.
        facts: question -> its answer's facts, of those that were answered.
        findings, overall: the primary findings and the verdict over them, as `findings` says.
        discoveries: how many numbers were "tested" as one exploratory family; how many are "discoveries".
        methods: the stages that were read, and the samples drawn.
    """

    study: StudyResults
    entries: Entries
    facts: dict[str, dict[str, Any]]
    findings: dict[str, dict[str, Any]]
    overall: dict[str, Any]
    discoveries: dict[str, int]
    methods: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What findings.json holds: these, and what of the study tells how to read them."""
        study = self.study
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "study"}
        sizes = {
            bank: {model: study.pool_size(bank, model) for model in study.models} for bank in study.tasks
        }
        read: dict[str, Any] = plain(
            own
            | {
                "models": study.models,
                "sequence": study.sequence,
                "trajectories": study.trajectories,
                "tasks": {bank: len(tasks) for bank, tasks in study.tasks.items()},
                "splits": {bank: study.splits(bank) for bank in study.tasks},
                "samples_per_task": sizes,
                "analysis": asdict(study.analysis),
            }
        )
        return read


class Question(NamedTuple):
    """One question.

    Attributes:
        name: of its template and of its section's anchor.
        title: of its section.
        answer: (study, its part, bootstrap) -> the answer; the part is of the question's own dataclass.
        figures: name -> how it is drawn; None where there is nothing to draw.
        missing: why a study without its part has no answer, as the report ends "Not measured: ...".
        always: it reads nothing but the study's samples, and is answered of every study.
        part: name of its part of the study, its own by default.
    """

    name: str
    title: str
    answer: Callable[[StudyResults, Any, Bootstrap], Answer]
    figures: Mapping[str, Callable[[Results], Figure | None]]
    missing: str = ""
    always: bool = False
    part: str = ""

    def part_of(self, study: StudyResults) -> Part | None:
        """What it reads beside the study's samples."""
        return study.parts.get(self.part or self.name)
