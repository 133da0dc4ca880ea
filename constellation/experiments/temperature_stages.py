"""The stages behind the temperatures: gen_v0 and the last round at several, and gen_v0 matched to it.

In the first `temperatures.trajectories` trajectories, under the primary split. The hard bank is not sampled
again at the config's own temperature: the study has those samples. Tuning tasks say at which temperature a
model is best, and at which gen_v0's pass@1 is that of the last round. A model's draws here share their Gumbel
noise at all temperatures, so that its curve over them is smooth.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

from constellation.conductor import Stage
from constellation.evaluation.temperature import Match, Temperatures, match, solved_by_one
from constellation.experiments.selection_stages import TUNING
from constellation.experiments.stage_files import samples_of
from constellation.experiments.star_config import START
from constellation.experiments.star_stages import StarStages
from constellation.samples import SampleSet

BANK = "hard"
MATCHED = "matched_temperature.json"

SampleStages = dict[tuple[str, float], Stage]  # (model, temperature) -> its samples


def temperatures(study: StarStages) -> tuple[Temperatures | None, list[Stage]]:
    """What the evaluation reads, and the stages that hold it; None where temperatures.trajectories is 0."""
    section, own = study.config.temperatures, study.config.sampling.temperature
    if not section.trajectories:
        return None, []
    generators = models(study)
    tuned = tuning_samples(study, generators)
    matched = matched_temperature(study, tuned)
    found = match_of(matched)
    wanted = [*itertools.product(generators, section.compared), (START, found.temperature)]
    evaluated = {
        (name, value): samples_at(study, BANK, name, generators[name], value, "temperatures.samples")
        for name, value in dict.fromkeys(wanted)
        if value != own
    }
    return Temperatures(
        values=tuple(section.compared),
        own=own,
        samples=section.samples,
        evaluated=_loaded(evaluated),
        tuning=_loaded(tuned),
        match=found,
    ), [*tuned.values(), matched, *evaluated.values()]


def models(study: StarStages) -> dict[str, Stage]:
    """gen_v0 and the last round."""
    star = study.config.star
    last = study.round_name(star.rounds, star.max_atoms)
    return {START: study.warm_start(), last: study.round(star.rounds, star.max_atoms)}


def tuning_samples(study: StarStages, generators: Mapping[str, Stage]) -> SampleStages:
    """Of the tuning tasks: both models at every value, gen_v0 at the further, lower ones too."""
    section = study.config.temperatures
    wanted = [*itertools.product(generators, section.compared), *((START, t) for t in section.matching)]
    return {
        (name, value): samples_at(study, TUNING, name, generators[name], value, "temperatures.tuning_samples")
        for name, value in wanted
    }


def matched_temperature(study: StarStages, tuned: SampleStages) -> Stage:
    """Where gen_v0's pass@1 on the tuning tasks is that of the last round at the config's temperature.

    To three decimals, as a stage's name spells it.
    """
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
        derived=True,  # another round has another last one
    )


def match_of(stage: Stage) -> Match:
    """What `matched_temperature` found."""
    return Match(**json.loads((stage.path / MATCHED).read_text(encoding="utf-8")))


def samples_at(
    study: StarStages, bank: str, name: str, generator: Stage, temperature: float, count: str
) -> Stage:
    """A model's samples of a bank at a temperature; `count` as for `StarStages.samples`."""
    return study.samples(
        f"temperature_{temperature:g}_{name}_{bank}".replace(".", "_"),
        study.bank(bank),
        generator,
        count,
        "temperature",
        name,
        trajectories=study.config.temperatures.trajectories,
        temperature=temperature,
    )


def _loaded(stages: SampleStages) -> dict[tuple[str, float], list[SampleSet]]:
    return {key: samples_of(stage) for key, stage in stages.items()}
