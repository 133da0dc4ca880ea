"""Samples of gen_v0 again, drawn afresh, that stand for a round that learned nothing.

In the trajectories that have the controls.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from constellation.conductor import Stage
from constellation.evaluation.study import SetKey
from constellation.experiments.config import START, asks
from constellation.experiments.files import samples_of
from constellation.experiments.star import warm_start
from constellation.experiments.study import Draw, Study

BANK = "hard"


class Stages(NamedTuple):
    """The fresh samples."""

    pool: Stage

    def all(self) -> list[Stage]:
        """What a report of it reads."""
        return [self.pool]


def stages(study: Study) -> Stages | None:
    """None where they are not asked for."""
    if not asks(study.config, "null"):
        return None
    few = study.config.controls.trajectories
    draw = Draw("null.samples", "null pool", START, trajectories=few)
    return Stages(study.samples(f"null_pool_{BANK}", study.bank(BANK), warm_start(study), draw))


def part(study: Study, found: Stages) -> dict[str, Any]:
    """The null's field of a `StudyResults`."""
    seed = study.config.tasks.split_seed
    pools = {SetKey(BANK, START, seed, r): own for r, own in enumerate(samples_of(found.pool))}
    return {"null_pools": pools}
