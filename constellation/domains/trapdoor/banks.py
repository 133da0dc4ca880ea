"""Banks and streams of tasks. Every one is an endless deterministic stream: a smaller one is a prefix."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from constellation.domains.task import Task, addressed_random
from constellation.domains.trapdoor.prior import ATOMS, draw_program
from constellation.domains.trapdoor.structure import WITHHELD
from constellation.domains.trapdoor.synthesis import synthesise
from constellation.runtime.errors import UserError, unknown


@dataclass(frozen=True)
class Stream:
    """What a stream of tasks is drawn from."""

    role: str
    max_atoms: int
    withheld: bool = False  # tasks of the withheld structural classes, in turn, instead of all others
    probes: bool = False


BANKS: dict[str, Stream] = {
    "easy": Stream("evaluation", 3, probes=True),
    "hard": Stream("evaluation", 4, probes=True),
    "withheld": Stream("evaluation", 4, withheld=True, probes=True),
    "tuning_easy": Stream("tuning", 3),
    "tuning_hard": Stream("tuning", 4),
}
ALIKE = 0.6  # share of a task's inputs that have one shape; the pretraining corpus draws all independently
TRAINING_ROLES = ("warm_start", "star", "critic", "calibration")


def bank_stream(name: str, seed: int = 0) -> Iterator[Task]:
    """A bank's tasks without end, no two of which behave alike. Raises UserError: there is no such bank."""
    if name not in BANKS:
        raise unknown("bank", name, BANKS)
    stream = BANKS[name]
    address = ("bank", seed, name) if stream.withheld else ("bank", seed, name, "")
    return _distinct(_accepted(stream, *address))


def training_stream(
    role: str, max_atoms: int, seed: int = 0, batch: int = 0, trajectory: int = 0, withheld: bool = False
) -> Iterator[Task]:
    """A training role's tasks without end; every `batch` of every trajectory has a stream of its own.

    Unlike a bank's, training tasks may behave alike: common behaviours recur with other inputs, as the prior
    has it. `withheld` asks for tasks of the withheld structural classes, in turn, instead of all others; for
    controls.

    Raises UserError: there is no such role, or max_atoms is more than the prior draws.
    """
    if role not in TRAINING_ROLES:
        raise unknown("training role", role, TRAINING_ROLES)
    if max_atoms not in ATOMS:
        raise UserError(f"max_atoms is {max_atoms}: the prior draws {min(ATOMS)}..{max(ATOMS)} atoms")
    replicate = (trajectory,) if trajectory else ()  # the first one's are those of a study of one
    stream = Stream(role, max_atoms, withheld)
    return _accepted(stream, "training tasks", seed, role, max_atoms, batch, *replicate)


def _distinct(tasks: Iterable[Task]) -> Iterator[Task]:
    """The tasks less those that behave like an earlier one."""
    seen: set[str] = set()
    for task in tasks:
        if task.signature not in seen:
            seen.add(task.signature)
            yield task


def _accepted(stream: Stream, *address: str | int) -> Iterator[Task]:
    """A stream's tasks, drawn at an address; the withheld classes, each at one of its own, take turns."""

    def source(withheld: str | None, *address: str | int) -> Iterator[Task]:
        return synthesise(
            addressed_random(*address),
            lambda rng: draw_program(rng, stream.max_atoms),
            roles=(stream.role,),
            withheld=withheld,
            probes=stream.probes,
            alike=ALIKE,
        )

    if not stream.withheld:
        return source(None, *address)
    classes = [source(name, *address, name) for name in WITHHELD]
    return itertools.chain.from_iterable(zip(*classes, strict=True))
