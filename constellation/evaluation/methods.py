"""The report's account of its methods: the config in prose and the samples drawn."""

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
    """The methods in findings.json: the stages read, and the samples drawn by purpose and model."""
    purposes = ("training", "evaluation", "tuning", "controls", "variants", "null", "temperature")
    drawn: dict[str, Counter[str]] = {purpose: Counter() for purpose in purposes}
    for stage in study.stages:
        drawn["training"][stage.name] += stage.samples or 0
    for key, samples in study.samples.items():
        drawn["evaluation"][key.model] += samples.program.size
    for part in study.parts.values():
        for purpose, model, count in part.drawn():
            drawn.setdefault(purpose, Counter())[model] += count
    counts = {purpose: dict(+counter) for purpose, counter in drawn.items() if counter.total()}
    read = {name: content for stages in study.sources.values() for name, content in stages.items()}
    return {"sources": read, "samples": counts}


OPTIONAL = {"arm", *OF_STAGES} - {"selection"}  # sections of the config that only one question reads


class Choices:
    """A nested config's values for the prose, marked where the paper has one; it knows which were named."""

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

    def rest(self, chosen: Sequence[str]) -> dict[str, Any]:
        """The fields that were not named yet, without the sections of questions that were not chosen."""
        left = {field: value for field, value in self._values.items() if field not in self._named}
        return {
            name: value for name, value in left.items() if name.partition(".")[0] not in OPTIONAL - {*chosen}
        }
