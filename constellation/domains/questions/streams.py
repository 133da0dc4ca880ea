"""Streams of the questions that a role owns; there are as many as the files hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from constellation.domains.questions.files import LEVELS
from constellation.domains.task import Task, addressed_random
from constellation.runtime.errors import UserError, unknown

BANKS = {"hard": "evaluation", "tuning_hard": "tuning"}  # bank -> the role that owns its questions
TRAINING_ROLES = ("warm_start", "star", "critic", "calibration")


def bank_stream(tasks: Sequence[Task], name: str, seed: int = 0) -> Iterator[Task]:
    """A bank's questions, each once, in an order that the seed decides.

    Raises UserError: there is no such bank, or no further question in it.
    """
    if name not in BANKS:
        raise unknown("bank", name, BANKS)
    own = [task for task in tasks if task.role == BANKS[name]]
    addressed_random("questions", "bank", seed, name).shuffle(own)
    yield from own
    raise UserError(
        f"the files have {len(own)} questions for the bank {name}, and config.tasks.bank_size asks for more: "
        "lower it, or give more files"
    )


def training_stream(
    tasks: Sequence[Task],
    role: str,
    max_atoms: int,
    seed: int = 0,
    batch: int = 0,
    trajectory: int = 0,
    withheld: bool = False,
) -> Iterator[Task]:
    """A training role's questions up to the level `max_atoms`, in an order of their own for every batch.

    All batches have the same questions. When all have come they come again, in another order, and with other
    ids, so that other answers are drawn.

    Raises UserError: there is no such role, no such question, or withheld classes are asked for.
    """
    if role not in TRAINING_ROLES:
        raise unknown("training role", role, TRAINING_ROLES)
    own = [task for task in tasks if task.role == role and task.atoms <= max_atoms]
    if max_atoms not in LEVELS or withheld:
        raise UserError(f"max_atoms is {max_atoms}: levels are 1 to {max(LEVELS)}, and none is withheld")
    if not own:
        raise UserError(
            f"the files have no question of the role {role} and a level up to {max_atoms}: give more files, "
            f"or raise config.{role}.max_atoms"
        )
    rng = addressed_random("questions", "training", seed, role, max_atoms, batch, trajectory)
    again = ""
    while True:
        rng.shuffle(own)
        yield from (replace(task, id=f"{task.id}{again}") for task in own)
        again += "+"
