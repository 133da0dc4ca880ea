"""The null: gen_v0 against itself, by as many samples again of the hard bank, of draws of their own."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import Stage
from constellation.domains.domain import Domain
from constellation.evaluation.null import NullPools
from constellation.experiments.config import START, Rule, at_least
from constellation.experiments.files import by_trajectory, samples_of
from constellation.experiments.question import Question
from constellation.experiments.star import warm_start
from constellation.experiments.study import Draw, Study

BANK = "hard"


class Stages(NamedTuple):
    """Fresh samples of gen_v0, in the trajectories of the controls."""

    pool: Stage


def rules(config: ConfigDict, domain: Domain) -> list[Rule]:
    """The rules of `config.null`."""
    return [at_least(config, "null.samples", config.evaluation.samples, "evaluation.samples")]


def stages(study: Study) -> Stages:
    """Fresh samples of the hard bank."""
    few = study.config.controls.trajectories
    draw = Draw("null.samples", "null pool", START, trajectories=few)
    return Stages(study.samples(f"null_pool_{BANK}", study.bank(BANK), warm_start(study), draw))


def part(study: Study, found: Stages) -> NullPools:
    """The question's part of what the evaluation reads."""
    seed = study.config.tasks.split_seed
    return NullPools(by_trajectory(BANK, START, seed, samples_of(found.pool)))


QUESTION = Question(stages, part, {"null": "controls"}, rules)
