"""The report's account of its methods: the config in prose, the samples drawn, what each figure shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import filter as matching
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
    for tuned, _ in study.tuning:
        drawn["tuning"][study.start] += tuned.program.size
    evaluated = {"evaluation": study.samples}
    for purpose, sets in evaluated.items():
        for key, samples in sets.items():
            drawn[purpose][key.model] += samples.program.size
    for part in study.parts.values():
        for purpose, model, count in part.drawn():
            drawn.setdefault(purpose, Counter())[model] += count
    counts = {purpose: dict(+counter) for purpose, counter in drawn.items() if counter.total()}
    return {"sources": stages_read(study), "samples": counts}


def figure_sources(study: StudyResults, figure: str) -> dict[str, str]:
    """Of the stages read, those that a figure shows: name -> hash of its content."""
    patterns, sources = figure_stages(study)[figure], stages_read(study)
    found = {name for pattern in patterns for name in matching(sources, pattern)}
    return {name: content for name, content in sources.items() if name in found}


def stages_read(study: StudyResults) -> dict[str, str]:
    """Every stored stage that was read -> the hash of its content."""
    return {name: content for stages in study.sources.values() for name, content in stages.items()}


def figure_stages(study: StudyResults) -> dict[str, list[str]]:
    """Figure -> patterns of the names that the stages it shows have."""
    bank, split = study.analysis.primary_bank, study.primary_split

    def judged(models: Iterable[str], kinds: Iterable[str]) -> list[str]:
        sets = {key[1:3] for key in study.critic_scores if key.bank == bank and key.model in models}
        return [f"{kind}_{model}_{bank}_{seed}" for kind in kinds for model, seed in sorted(sets)]

    seeds = {of: study.splits(of) for of in study.tasks}
    curves = [f"samples_{m}_{of}_{seed}" for of in study.tasks for seed in seeds[of] for m in study.models]
    columns = ("samples", "scores", "prior_scores", "columns")
    return {
        "selectors": [
            *judged({study.selection_model}, columns),
            f"posterior_*_atoms_{study.selection_model}_{bank}_*",
            *([f"scores_permuted_critic_{bank}_{split}"] if "controls" in study.parts else []),
        ],
        "rivals": [
            *judged(study.models, columns),
            *(f"{kind}_{study.selection_model}_tuning_*" for kind in columns),
        ],
        "reliability": judged(study.models, ("samples", "scores")),
        "divergence": curves,
    }


OPTIONAL = ("arm", *OF_STAGES)  # the sections that are read where the question is asked


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
