"""Streams of questions. A question's canonical form decides its one role, so that roles are disjoint."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Container, Iterator

from constellation.domains.equations.arithmetic import Arithmetic
from constellation.domains.equations.systems import System
from constellation.domains.equations.working import Working, draw_slip
from constellation.domains.task import Example, Task, addressed_random, owner
from constellation.runtime.errors import UserError, unknown

LEVELS = range(1, 6)
# bank -> its levels; those of the tuning role are "tuning_<bank>"
BANKS = {"easy": range(1, 5), "hard": range(5, 6)}
# source of a pretraining corpus -> its levels
SOURCES = {f"level{level}": range(1, level + 1) for level in LEVELS}
SOURCES |= {"level2_to_4": range(2, 5), "level4_to_5": range(4, 6)}
# The share of the canonical forms that each role owns.
ROLES: dict[str, float] = {
    "pretraining": 0.50,
    "warm_start": 0.08,
    "star": 0.14,
    "critic": 0.06,
    "calibration": 0.02,
    "tuning": 0.08,
    "evaluation": 0.12,
}
MOST_REPEATED = 1000  # questions in turn, after which a canonical form comes again
TRAINING_ROLES = ("warm_start", "star", "critic", "calibration")

Question = Arithmetic | System


def parse(text: str) -> Question:
    """The question that a text spells. Raises ValueError: it spells none."""
    return (System if ", " in text else Arithmetic).parse(text)


def bank_stream(name: str, seed: int = 0) -> Iterator[Task]:
    """A bank's questions without end, no two of one canonical form. Raises UserError: no such bank."""
    bank = name.removeprefix("tuning_")
    if bank not in BANKS:
        raise unknown("bank", name, [*BANKS, *(f"tuning_{other}" for other in BANKS)])
    role = "evaluation" if bank == name else "tuning"
    return _distinct(stream(addressed_random("equations", "bank", seed, name), (role,), BANKS[bank]))


def training_stream(
    role: str, max_atoms: int, seed: int = 0, batch: int = 0, trajectory: int = 0, withheld: bool = False
) -> Iterator[Task]:
    """A training role's questions up to the level `max_atoms`; every batch of a trajectory has its own.

    A canonical form comes once in a batch, as long as others are left to find.

    Raises UserError: there is no such role or level, or withheld classes are asked for: there are none.
    """
    if role not in TRAINING_ROLES:
        raise unknown("training role", role, TRAINING_ROLES)
    if max_atoms not in LEVELS or withheld:
        raise UserError(f"max_atoms is {max_atoms}: levels are 1 to {max(LEVELS)}, and none is withheld")
    address = ("equations", "training", seed, role, max_atoms, batch, trajectory)
    return _distinct(stream(addressed_random(*address), (role,), range(1, max_atoms + 1)))


def _distinct(tasks: Iterator[Task]) -> Iterator[Task]:
    """The tasks without repeated canonical forms, until nothing else comes."""
    seen: set[str] = set()
    repeated = 0
    for task in tasks:
        repeated = repeated + 1 if task.signature in seen else 0
        if not 0 < repeated < MOST_REPEATED:
            seen.add(task.signature)
            yield task


def stream(rng: random.Random, roles: Container[str], levels: range) -> Iterator[Task]:
    """Questions of these roles, of every level and of both kinds alike."""
    while True:
        level = rng.choice(levels)
        question = rng.choice((Arithmetic, System)).draw(rng, level)
        signature = hashlib.blake2b(question.canonical.encode(), digest_size=8).hexdigest()
        role = owner(ROLES, signature)
        # Small numbers can make a question easier than the level that it is drawn at.
        if role in roles and question.level in levels:
            yield task_of(question, signature, role)


def task_of(question: Question, signature: str = "", role: str = "") -> Task:
    """The question as a task: one example, whose input is shown and whose output is the answer."""
    working = Working()
    answer = question.solve(working)
    text = question.text
    return Task(
        id=f"{signature}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}",
        examples=(Example((text,), str(answer)),),
        program=working.text(answer),
        atoms=question.level,
        skeleton=question.kind,
        role=role,
    )


def wrong_answer(task: Task, rng: random.Random) -> str:
    """A worked solution with a slip in a step, and what follows from it."""
    question = parse(task.examples[0].inputs[0])
    while True:
        working = Working(draw_slip(rng, task.program.count("\n")))
        try:
            answer = question.solve(working)
        except ZeroDivisionError:  # a determinant that the slip made 0
            continue
        if str(answer) != task.examples[0].output:
            return working.text(answer)
