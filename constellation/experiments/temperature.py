"""Temperatures: gen_v0 and the last round at several, and gen_v0 matched to it.

In the first `temperature.trajectories` trajectories, under the primary split. The hard bank is not sampled
again at the config's own temperature: the study has those samples. Tuning tasks say at which temperature a
model is best, and at which gen_v0's pass@1 is that of the last round. A model's draws here share their Gumbel
noise at all temperatures, so that its curve over them is smooth.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.evaluation.temperature import Match, Temperatures, match, solved_by_one
from constellation.experiments.config import START, Rule, at_least, trajectories_rule
from constellation.experiments.files import samples_of
from constellation.experiments.question import Question
from constellation.experiments.selection import TUNING
from constellation.experiments.star import last_round, warm_start
from constellation.experiments.study import Draw, Study
from constellation.samples import SampleSet

BANK = "hard"
MATCHED = "matched_temperature.json"

SampleStages = dict[tuple[str, float], Stage]  # (model, temperature) -> its samples


class Stages(NamedTuple):
    """The samples at several temperatures, and gen_v0 matched to the last round."""

    tuning: SampleStages  # of tuning tasks
    evaluated: SampleStages  # of the bank
    match: Stage  # finds the temperature at which gen_v0 matches the last round
    matched: Stage  # gen_v0's samples of the bank at that temperature


def rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of `config.temperature`."""
    section, evaluation, own = config.temperature, config.evaluation, config.sampling.temperature
    compared = list(section.compared)
    return [
        trajectories_rule(config, "temperature"),
        ("star.rounds", config.star.rounds >= 1, "at least 1 for temperature"),
        (
            "temperature.compared",
            len(compared) == 3 and increasing(compared) and own in compared[:2],
            "three temperatures above 0, increasing, sampling.temperature the first or second",
        ),
        (
            "temperature.matching",
            increasing([*section.matching, *compared[:1]]),
            "temperatures above 0, increasing, below those of temperature.compared",
        ),
        (
            "temperature.samples",
            2 * evaluation.large_k <= section.samples <= evaluation.samples,
            "from twice evaluation.large_k to evaluation.samples",
        ),
        at_least(config, "temperature.tuning_samples", 2),
    ]


def increasing(temperatures: Sequence[float]) -> bool:
    """Whether they are above 0 and each above the one before."""
    return all(before < after for before, after in itertools.pairwise([0, *temperatures]))


def stages(study: Study) -> Stages:
    """Both models on tuning tasks and on the bank, then gen_v0 at the temperature that matches it."""
    section, own = study.config.temperature, study.config.sampling.temperature
    both = [*itertools.product(models(study), section.compared)]
    further = [(START, lower) for lower in section.matching]  # gen_v0 alone
    tuned = samples_at(study, TUNING, [*both, *further], "temperature.tuning_samples")
    new = [(name, value) for name, value in both if value != own]
    evaluated = samples_at(study, BANK, new, "temperature.samples")
    match = matched_temperature(study, tuned)
    draw = Draw(
        "temperature.samples",
        "temperature",
        START,
        trajectories=section.trajectories,
        matched=(match, temperature_of),
    )
    stage = f"temperature_matched_{START}_{BANK}"
    matched = study.samples(stage, study.bank(BANK), warm_start(study), draw)
    return Stages(tuned, evaluated, match, matched)


def part(study: Study, found: Stages) -> Temperatures:
    """The question's part of what the evaluation reads."""
    section, own = study.config.temperature, study.config.sampling.temperature
    found_match, evaluated = match_of(found.match), _loaded(found.evaluated)
    if found_match.temperature != own:  # there the study's own samples serve
        evaluated[START, found_match.temperature] = samples_of(found.matched)
    return Temperatures(
        values=tuple(section.compared),
        own=own,
        samples=section.samples,
        evaluated=evaluated,
        tuning=_loaded(found.tuning),
        match=found_match,
    )


def models(study: Study) -> dict[str, Stage]:
    """gen_v0 and the last round."""
    last = last_round(study)
    return {START: warm_start(study), last.name: last.adapters}


def samples_at(study: Study, bank: str, wanted: Sequence[tuple[str, float]], count: str) -> SampleStages:
    """Samples of a bank by models at temperatures; `count` is the field that says how many a task."""
    generators, few = models(study), study.config.temperature.trajectories
    found = {}
    for name, value in wanted:
        stage = f"temperature_{value:g}_{name}_{bank}".replace(".", "_")
        draw = Draw(count, "temperature", name, temperature=value, trajectories=few)
        found[name, value] = study.samples(stage, study.bank(bank), generators[name], draw)
    return found


def matched_temperature(study: Study, tuned: SampleStages) -> Stage:
    """The temperature, to 3 decimals, at which gen_v0 has the last round's pass@1 of tuning tasks."""
    own = study.config.sampling.temperature
    (last,) = {name for name, _ in tuned} - {START}
    read = {key: stage for key, stage in tuned.items() if key[0] == START or key == (last, own)}

    def write(path: Path) -> None:
        sets = _loaded(read)
        temperature, clipped = match(solved_by_one(sets, START), solved_by_one(sets, last)[own])
        found = Match(round(temperature, 3), clipped)
        (path / MATCHED).write_text(json.dumps(found._asdict()) + "\n", encoding="utf-8")

    return study.conductor.stage(
        "matched_temperature",
        fields={"temperatures": sorted(value for name, value in read if name == START), "own": own},
        inputs=list(read.values()),
        version=1,
        run=write,
        derived=True,  # with another round the last one is another
    )


def match_of(stage: Stage) -> Match:
    """What `matched_temperature` found."""
    return Match(**json.loads((stage.path / MATCHED).read_text(encoding="utf-8")))


def temperature_of(stage: Stage) -> float:
    """The temperature that `matched_temperature` found."""
    return match_of(stage).temperature


def _loaded(stages: SampleStages) -> dict[tuple[str, float], list[SampleSet]]:
    return {key: samples_of(stage) for key, stage in stages.items()}


QUESTION = Question(stages, part, {"temperature": None}, rules)
