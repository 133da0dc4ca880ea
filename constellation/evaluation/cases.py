"""A few tasks with their candidates, chosen by a rule so that nobody picks the flattering ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from constellation.evaluation.selection import selectors_of
from constellation.evaluation.selectors import SELECTORS, Groups, cut
from constellation.evaluation.study import SetKey, StudyResults, TaskInfo
from constellation.samples import SampleSet


@dataclass(frozen=True)
class Candidate:
    """One distinct program among a task's first k samples."""

    text: str  # as the model wrote it
    count: int  # how often it was drawn among the first k
    total: int  # how often it was drawn in the whole pool
    verdict: str  # "generalises", "fits only", "fails" or "no program"
    probes: int | None  # on how many probe inputs it is right, if it was run on them
    outputs: str  # a letter for its held-out outputs, shared by survivors that agree; "" for the others
    score: float | None  # the critic's logit(yes) - logit(no), if it was scored
    picked_by: tuple[str, ...]  # which of "first survivor" and "critic" hand it in


@dataclass(frozen=True)
class Case:
    """One task, why it is shown, and its candidates in order of first appearance."""

    reason: str
    task: TaskInfo
    candidates: list[Candidate]


def cases(study: StudyResults) -> list[Case]:
    """For each situation the first task of the primary bank that shows it in the first k of trajectory 0."""
    choice, part = study.analysis, selectors_of(study)
    key = SetKey(choice.primary_bank, part.model, study.primary_split)
    if key not in study.samples:
        return []
    samples, scores = study.samples[key], part.columns.get(key, {}).get("critic")
    groups = cut(samples, choice.small_k, scores)
    divergent, survivors = groups.divergent()[:, 0], groups.survives[:, 0].any(-1)
    first, chosen = (SELECTORS[name].hits(groups)[:, 0] > 0 for name in ("naive", "critic"))
    some = groups.correct[:, 0].any(-1)
    situations = {
        "Survivors disagree; the first one is wrong and the critic's pick right": divergent & chosen & ~first,
        "Survivors disagree; the first one is right and the critic's pick wrong": divergent & first & ~chosen,
        "Some survivor is right and neither pick finds it": divergent & some & ~first & ~chosen,
        "All survivors agree, and are wrong": survivors & ~divergent & ~some,
        "All survivors agree, and are right": survivors & ~divergent & some,
        "No candidate fits the visible examples": ~survivors,
    }
    shown = [
        Case(reason, study.tasks[choice.primary_bank][t], candidates(samples, scores, groups, t))
        for reason, holds in situations.items()
        if holds.any()
        for t in [int(holds.argmax())]
    ]
    return shown[: choice.shown_tasks]


def candidates(samples: SampleSet, scores: Any, groups: Groups, t: int) -> list[Candidate]:
    """The distinct programs of task t's first group."""
    drawn = groups.program[t, 0]
    survives = groups.survives[t, 0]
    picks: dict[int, list[str]] = {}
    if survives.any():
        picks.setdefault(int(drawn[survives.argmax()]), []).append("first survivor")
        if scores is not None:
            best = np.where(survives, groups.score[t, 0], -np.inf).argmax()
            picks.setdefault(int(drawn[best]), []).append("critic")
    letters: dict[int, str] = {}
    result = []
    for row in dict.fromkeys(drawn.tolist()):
        fits, right = bool(samples.fits[row]), bool(samples.right[row])
        unfit = "fails" if samples.valid[row] else "no program"
        cluster = int(samples.key[row])
        result.append(
            Candidate(
                text=str(samples.text[row]),
                count=int((drawn == row).sum()),
                total=int((samples.program[t] == row).sum()),
                verdict="generalises" if right else "fits only" if fits else unfit,
                probes=int(samples.probe_correct[row]) if samples.probe_correct[row] >= 0 else None,
                outputs=letters.setdefault(cluster, chr(ord("A") + len(letters))) if fits else "",
                score=round(float(scores[row]), 2) if scores is not None and fits else None,
                picked_by=tuple(picks.get(row, ())),
            )
        )
    return result
