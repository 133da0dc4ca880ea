"""Every number of the report, computed from a `StudyResults` and returned as plain JSON values.

The report and its plots read nothing else, so whatever they show stands in findings.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.entries import plain
from constellation.evaluation.findings import adjust, findings, overall, primary_claims
from constellation.evaluation.methods import methods
from constellation.evaluation.question import Question, Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.statistics import Bootstrap, resample
from constellation.evaluation.study import StudyResults
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]


def analyse(study: StudyResults, questions: Sequence[Question] = QUESTIONS) -> Results:
    """All results, with rounded floats, string keys and None for what is not defined."""
    choice = study.analysis
    bootstrap = resamples(study)
    claims = primary_claims(study, bootstrap)
    results: dict[str, Any] = {
        "findings": findings(study, claims),
        "overall": overall(study, claims),
        "methods": methods(study),
        "splits": {bank: study.splits(bank) for bank in study.tasks},
        "samples_per_task": {
            bank: {model: study.pool_size(bank, model) for model in study.models} for bank in study.tasks
        },
        "tasks": {bank: len(tasks) for bank, tasks in study.tasks.items()},
        "models": study.models,
        "sequence": study.sequence,
        "trajectories": study.trajectories,
        "analysis": dataclasses.asdict(choice),
    }
    rows, facts = [], {}
    for question in questions:
        part = question.part_of(study)
        if question.always or part:
            answer = question.answer(study, part, bootstrap)
            rows += [row._replace(question=question.name) for row in answer.entries]
            facts[question.name] = plain(answer.facts)
    entries, results["discoveries"] = adjust(rows, choice.level)
    return Results(study, entries, facts, plain(results))


def resamples(study: StudyResults) -> Bootstrap:
    """The resamples of a study: the trajectories' for all banks, each bank's tasks' its own."""
    choice = study.analysis

    def drawn(units: int, *address: str) -> Array:
        return resample(units, choice.resamples, host_rng(choice.seed, "bootstrap", *address))

    return Bootstrap(
        drawn(study.trajectories, "trajectories"),
        {bank: drawn(len(tasks), bank) for bank, tasks in study.tasks.items()},
        choice.level,
    )
