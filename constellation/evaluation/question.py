"""A question that the evaluation answers: its numbers, its figures and its section of the report.

Each lies in a file of its own, with the data that it reads beside the study's samples and a template of its
name in `templates/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


class Results(dict[str, Any]):
    """Everything that the report shows, with rounded numbers; as a mapping, what has no rows yet.

    Attributes:
        study: the study, for its models, banks and choices.
        entries: the rows of every question.
        facts: question -> its answer's facts, of those that were answered.
    """

    def __init__(
        self, study: StudyResults, entries: Entries, facts: dict[str, dict[str, Any]], others: dict[str, Any]
    ):
        super().__init__(others)
        self.study, self.entries, self.facts = study, entries, facts

    def as_json(self) -> dict[str, Any]:
        """What findings.json holds."""
        return {**self, "entries": plain(self.entries), "facts": self.facts}


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
