"""The null: gen_v0 against itself, by as many samples again of the hard bank, of draws of their own."""

from __future__ import annotations

from typing import NamedTuple

from constellation.conductor import Stage
from constellation.evaluation.null import NullPools
from constellation.evaluation.study import SetKey
from constellation.experiments.config import START, asks
from constellation.experiments.files import samples_of
from constellation.experiments.star import warm_start
from constellation.experiments.study import Draw, Study

BANK = "hard"


class Stages(NamedTuple):
    """Fresh samples of gen_v0, in the trajectories of the controls."""

    pool: Stage

    def all(self) -> list[Stage]:
        """What a report of them reads."""
        return [self.pool]


def stages(study: Study) -> Stages | None:
    """The only one; None where the null is not asked for."""
    if not asks(study.config, "null"):
        return None
    few = study.config.controls.trajectories
    draw = Draw("null.samples", "null pool", START, trajectories=few)
    return Stages(study.samples(f"null_pool_{BANK}", study.bank(BANK), warm_start(study), draw))


def part(study: Study, found: Stages) -> NullPools:
    """What the evaluation reads."""
    seed = study.config.tasks.split_seed
    return NullPools({SetKey(BANK, START, seed, r): own for r, own in enumerate(samples_of(found.pool))})
