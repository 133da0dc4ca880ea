"""The report's account of its methods: the config in prose, the samples drawn, what each figure shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from constellation.evaluation.questions import OF_STAGES
from constellation.evaluation.study import StudyResults
from constellation.runtime.nested import dotted

PAPER = {  # field -> the value of paper A, from its abstract or a summary of it
    "trajectories": 4,
    "tasks.bank_size": 200,
    "tasks.visible": 2,
    "tasks.split_seed": 1234,
    "lora.rank": 16,
    "warm_start.max_atoms": 3,
    "star.rounds": 2,
    "evaluation.small_k": 8,
    "evaluation.large_k": 64,
}


def methods(study: StudyResults) -> dict[str, Any]:
    """What findings.json holds of the methods: the stages read, and samples drawn by purpose and model."""
    purposes = ("training", "evaluation", "tuning", "controls", "variants", "null", "temperature")
    drawn: dict[str, Counter[str]] = {purpose: Counter() for purpose in purposes}
    for stage in study.stages:
        drawn["training"][stage.name] += stage.samples or 0
    evaluated = {"evaluation": study.samples}
    for purpose, sets in evaluated.items():
        for key, samples in sets.items():
            drawn[purpose][key.model] += samples.program.size
    for part in study.parts.values():
        for purpose, model, count in part.drawn():
            drawn.setdefault(purpose, Counter())[model] += count
    counts = {purpose: dict(+counter) for purpose, counter in drawn.items() if counter.total()}
    return {"sources": stages_read(study), "samples": counts}


def stages_read(study: StudyResults) -> dict[str, str]:
    """Every stored stage that was read -> the hash of its content."""
    return {name: content for stages in study.sources.values() for name, content in stages.items()}


OPTIONAL = {"arm", *OF_STAGES} - {"selection"}  # the sections that are read where the question is asked


def section(field: str) -> str:
    """That of a dotted name."""
    return field.partition(".")[0]


class Choices:
    """A config's values for the prose, each marked where the paper gives one; knows which were not named.

    Args:
        config: nested, as `StudyResults.config`.
    """

    def __init__(self, config: Mapping[str, Any]):
        self._values = dotted(config)
        self._named: set[str] = set()

    def __call__(self, field: str) -> Markup:
        """The value as the page spells it, with its mark."""
        value = self.value(field)
        text = Markup("<b>{}</b>").format(", ".join(map(str, value)) if isinstance(value, list) else value)
        if field not in PAPER:
            return text
        same = value == PAPER[field]
        return text + Markup('<span class="mark"> (A{})</span>').format("" if same else f": {PAPER[field]}")

    def value(self, field: str) -> Any:
        """The bare value, for what the prose does with it."""
        self._named.add(field)
        return self._values[field]

    def rest(self, asked: Sequence[str]) -> dict[str, Any]:
        """The fields that nothing has named yet, but for the sections of questions that are not asked."""
        return {
            field: value
            for field, value in self._values.items()
            if field not in self._named and (section(field) in asked or section(field) not in OPTIONAL)
        }
