"""The report's account of its methods: the config in prose, the samples drawn, what each figure shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from fnmatch import filter as matching
from typing import Any

from markupsafe import Markup

from constellation.evaluation.study import StudyResults

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
    for so_prompted in study.visible.values():
        drawn["variants"][study.selection_model] += sum(pool.program.size for pool, _ in so_prompted)
    evaluated = {"evaluation": study.samples, "controls": study.controls, "null": study.null_pools}
    for purpose, sets in evaluated.items():
        for key, samples in sets.items():
            drawn[purpose][key.model] += samples.program.size
    if study.tempered:
        tried = {"temperature": study.tempered.evaluated, "tuning": study.tempered.tuning}
        for purpose, heated in tried.items():
            for (model, _), each in heated.items():
                drawn[purpose][model] += sum(samples.program.size for samples in each)
    counts = {purpose: dict(+counter) for purpose, counter in drawn.items() if counter.total()}
    return {"sources": study.sources, "samples": counts}


def figure_sources(study: StudyResults, figure: str) -> dict[str, str]:
    """Of the stages read, those that a figure shows: name -> digest."""
    patterns = figure_stages(study)[figure]
    found = {name for pattern in patterns for name in matching(study.sources, pattern)}
    return {name: digest for name, digest in study.sources.items() if name in found}


def figure_stages(study: StudyResults) -> dict[str, list[str]]:
    """Figure -> patterns of the names that the stages it shows have."""
    bank, split = study.analysis.primary_bank, study.primary_split
    curves = [
        f"samples_{model}_{bank}_{seed}"
        for bank in study.tasks
        for seed in study.splits(bank)
        for model in study.models
    ]
    null, controls = [f"null_pool_{bank}"], list(dict.fromkeys(key.model for key in study.controls))
    chosen = [f"{kind}_*_{bank}_*" for kind in ("scores", "prior_scores", "columns", "posterior")]
    scored = {key[:3] for key in study.critic_scores}
    judged = [f"samples_{model}_{bank}_{seed}" for bank, model, seed in scored]
    variants = {study.selection_model, *(key.model for own in study.variant_scores.values() for key in own)}
    start_and_rounds = [f"samples_{model}_*_{split}" for model in (study.start, *study.rounds)]
    known = ["known_programs_*", "log_probs_*"]
    return {
        "pass_at_k": curves,
        "change_at_k": curves + null,
        "control_changes": [
            *(f"samples_{model}_*_{split}" for model in (study.start, *study.rounds[:1], *controls)),
            "controls_v*",
        ],
        "control_reach": ["controls_known_programs_*", "controls_log_probs_*"],
        "temperature_curves": [
            "temperature_*",
            "matched_temperature",
            *(f"samples_{model}_{bank}_*" for model in (study.start, study.sequence[-1])),
        ],
        "round_gains": curves + null,
        "headroom": curves + null,
        "reach_curves": known + [f"samples_{model}_{bank}_{split}" for model in study.models],
        "mass_ledger": [*known, f"samples_{study.start}_{bank}_{split}"],
        "selectors": [*judged, *chosen],
        "rivals": [*judged, *chosen, "*_tuning_*"],
        "reliability": [*judged, f"scores_*_{bank}_*"],
        "divergence": curves,
        "critic_variants": [
            "visible_*",
            *(f"samples_{model}_{bank}_{split}" for model in variants),
            *(f"scores_*{model}_{bank}_{split}" for model in variants),
        ],
        "forecast": [*start_and_rounds, "posterior_*", "ceiling_*"],
        "residual": [*start_and_rounds, "posterior_*"],
        "visible_fit": curves,
        "diversity": curves + [f"{stage.name}_samples" for stage in study.stages if stage.pool is not None],
        "learning_curves": [stage.name for stage in study.stages],
    }


class Choices:
    """A config's values for the prose, each marked where the paper gives one; knows which were not named.

    Args:
        config: nested, as `StudyResults.config`.
    """

    def __init__(self, config: Mapping[str, Any]):
        self._values = leaves(config)
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

    def rest(self) -> dict[str, Any]:
        """The fields that nothing has asked for yet."""
        return {field: value for field, value in self._values.items() if field not in self._named}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested mapping as dotted name -> value, in its own order."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= (
            leaves(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return found
