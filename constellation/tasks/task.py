"""A task is a hidden program seen through examples; a split decides which of them are visible."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from constellation.errors import UserError

EXAMPLES = 12  # examples a task, as in paper A
PROBES = 64  # further inputs a bank task carries, to measure how many "generalising" programs are wrong


class Example(NamedTuple):
    """One input/output pair; `inputs` binds x (or x1, x2, ...)."""

    inputs: tuple[str, ...]
    output: str


class Split(NamedTuple):
    """The visible examples, and the held-out ones that decide whether a program generalises."""

    visible: tuple[Example, ...]
    held_out: tuple[Example, ...]


@dataclass(frozen=True)
class Task:
    """A task and what is known of its secret program.

    Attributes:
        id: the behavioural signature and a hash of the examples.
        examples: 12 input/output pairs; rejection rules saw all of them and no split.
        probes: 64 further pairs, empty where a task is for training only.
        program: the secret program's text; never a target of self-training.
        atoms: number of concatenated parts of the secret program, the difficulty.
        skeleton: the program with constants, patterns and indices abstracted away.
        structures: the withheld structural classes the program belongs to (usually none).
        role: what the signature reserves the task for.
        family: the family of inputs.
    """

    id: str
    examples: tuple[Example, ...]
    program: str
    atoms: int
    skeleton: str
    structures: tuple[str, ...]
    role: str
    family: str
    probes: tuple[Example, ...] = ()

    @property
    def signature(self) -> str:
        """Hash of the secret program's behaviour; unique within a bank."""
        return self.id.partition("-")[0]


def split(task: Task, split_seed: int, visible: int = 2) -> Split:
    """Divide a task's examples by a split seed, independently for every task.

    Args:
        task: the task.
        split_seed: the experiment's split seed (paper A: 1234 for pass@64).
        visible: how many examples the generator sees.

    Raises:
        UserError: unless some examples are visible and some held out.
    """
    if not 1 <= visible < len(task.examples):
        raise UserError(
            f"{visible} visible examples of {len(task.examples)}: choose 1..{len(task.examples) - 1}"
        )
    order = list(task.examples)
    addressed_random("split", split_seed, task.id).shuffle(order)
    return Split(tuple(order[:visible]), tuple(order[visible:]))


def addressed_random(*address: str | int) -> random.Random:
    """A standard-library generator seeded by its address alone (synthesis draws too often for numpy's)."""
    digest = hashlib.blake2b("\x1f".join(map(str, address)).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def write_tasks(path: str | os.PathLike[str], tasks: Iterable[Task]) -> None:
    """Write tasks as JSON lines."""
    with open(path, "w", encoding="utf-8") as file:
        for task in tasks:
            file.write(json.dumps(asdict(task), ensure_ascii=True) + "\n")


def read_tasks(path: str | os.PathLike[str]) -> list[Task]:
    """Read tasks from JSON lines.

    Raises:
        UserError: when a line is not a task.
    """
    tasks = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        try:
            fields = json.loads(line)
            for name in ("examples", "probes"):
                fields[name] = tuple(Example(tuple(inputs), output) for inputs, output in fields[name])
            fields["structures"] = tuple(fields["structures"])
            tasks.append(Task(**fields))
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}, line {number} is not a task: {error}; write it again") from None
    return tasks
