"""Every number of the report, computed from a `StudyResults`.

The report and its figures read nothing else, so whatever they show stands in findings.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.entries import Entry, plain
from constellation.evaluation.findings import adjust, findings, overall, primary_claims
from constellation.evaluation.methods import methods
from constellation.evaluation.question import Question, Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.statistics import Bootstrap, resample
from constellation.evaluation.study import AnalysisConfig, StudyResults
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]


def analyse(study: StudyResults, questions: Sequence[Question] = QUESTIONS) -> Results:
    """Answers the questions and judges the findings; what is not defined is None."""
    bootstrap = resamples(study)
    claims = primary_claims(study, bootstrap)
    rows: list[Entry] = []
    facts = {}
    for question in questions:
        part = question.part_of(study)
        if question.always or part:
            answer = question.answer(study, part, bootstrap)
            rows += [row._replace(question=question.name) for row in answer.entries]
            facts[question.name] = answer.facts
    entries, discoveries = adjust(rows, study.analysis.level)
    found = plain(facts), plain(findings(study, claims)), plain(overall(study, claims)), plain(discoveries)
    return Results(study, entries, *found, methods(study))


def resamples(study: StudyResults) -> Bootstrap:
    """The resamples that all statistics of a study share: of its trajectories, and of each bank's tasks."""
    sizes = {bank: len(tasks) for bank, tasks in study.tasks.items()}
    return bootstrap_of(study.analysis, study.trajectories, sizes)


def bootstrap_of(choice: AnalysisConfig, trajectories: int, sizes: Mapping[str, int]) -> Bootstrap:
    """Resamples of so many trajectories, and of each bank's tasks, by their number."""

    def drawn(units: int, *address: str) -> Array:
        return resample(units, choice.resamples, host_rng(choice.seed, "bootstrap", *address))

    return Bootstrap(
        drawn(trajectories, "trajectories"),
        {bank: drawn(size, bank) for bank, size in sizes.items()},
        choice.level,
    )
