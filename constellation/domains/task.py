"""A task is a hidden program seen through examples; a split decides which of them are visible."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from constellation.runtime.errors import UserError, is_integer

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
    """A task and, where it was made from a secret program, what is known of that; a real task has none.

    Attributes:
        id: the behavioural signature and a hash of the examples.
        examples: 12 input/output pairs; rejection rules saw all of them and no split.
        program: the secret program's text; never a target of self-training.
        atoms: number of concatenated parts of the secret program, the difficulty.
        skeleton: the program with constants, patterns and indices abstracted away.
        structures: the withheld structural classes the program belongs to (usually none).
        role: what the signature reserves the task for.
        family: the family of inputs.
        probes: 64 further pairs, empty where a task is for training only.
    """

    id: str
    examples: tuple[Example, ...]
    program: str = ""
    atoms: int = 0
    skeleton: str = ""
    structures: tuple[str, ...] = ()
    role: str = ""
    family: str = ""
    probes: tuple[Example, ...] = ()

    @property
    def signature(self) -> str:
        """Hash of the secret program's behaviour; unique within a bank."""
        return self.id.partition("-")[0]


Splitter = Callable[[Task], Split]


def split(task: Task, split_seed: int, visible: int = 2) -> Split:
    """Divides a task's examples by a split seed, independently for every task (paper A: 1234 for pass@64).

    A task of one example is a question: its input is visible, its output held out, whatever the seed.

    Raises UserError: unless some examples are visible and some held out.
    """
    if len(task.examples) == 1:
        return Split((Example(task.examples[0].inputs, ""),), task.examples)
    if not 1 <= visible < len(task.examples):
        raise UserError(
            f"{visible} visible examples of {len(task.examples)}: choose 1..{len(task.examples) - 1}"
        )
    order = list(task.examples)
    addressed_random("split", split_seed, task.id).shuffle(order)
    return Split(tuple(order[:visible]), tuple(order[visible:]))


def examples_text(examples: Sequence[Example]) -> str:
    """One line an example, strings as JSON literals: `"john smith" -> "J. smith"`."""
    return "\n".join(
        f"{', '.join(map(_quote, example.inputs))} -> {_quote(example.output)}" for example in examples
    )


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def addressed_random(*address: str | int) -> random.Random:
    """A standard-library generator seeded by its address alone (synthesis draws too often for numpy's)."""
    digest = hashlib.blake2b("\x1f".join(map(str, address)).encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))


def owner(roles: Mapping[str, float], signature: str) -> str:
    """Whose share of all signatures one belongs to, read from its leading 32 bits."""
    point = int(signature[:8], 16) / 2**32
    for role, share in roles.items():
        point -= share
        if point < 0:
            return role
    return role


def write_tasks(path: str | os.PathLike[str], tasks: Iterable[Task]) -> None:
    """Writes tasks as JSON lines."""
    with open(path, "w", encoding="utf-8") as file:
        for task in tasks:
            file.write(json.dumps(asdict(task), ensure_ascii=True) + "\n")


def read_tasks(path: str | os.PathLike[str]) -> list[Task]:
    """Reads what `write_tasks` wrote. Raises UserError: there is no such file, or a line is not a task."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"cannot read the tasks in {path}: {error.strerror}; write them again") from None
    tasks = []
    for number, line in enumerate(lines, 1):
        try:
            tasks.append(_task(json.loads(line)))
        except ValueError as error:
            raise UserError(f"{path}, line {number} is not a task: {error}; write it again") from None
    return tasks


def _task(record: Any) -> Task:
    """The task of a line's JSON value. Raises ValueError, which names the field that is wrong."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    if wrong := record.keys() ^ {field.name for field in fields(Task)}:
        raise ValueError(f"missing or unknown fields: {', '.join(sorted(wrong))}")
    for field in fields(Task):
        if not _CHECKS[str(field.type)](record[field.name]):
            raise ValueError(f"{field.name} is not of type {field.type}")
    for name in ("examples", "probes"):
        record[name] = tuple(Example(tuple(inputs), output) for inputs, output in record[name])
    return Task(**record | {"structures": tuple(record["structures"])})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are_examples(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and _are_texts(pair[0]) and _is_text(pair[1])
        for pair in value
    )


# How a field's type is told from the JSON value.
_CHECKS: dict[str, Callable[[Any], bool]] = {
    "str": _is_text,
    "int": is_integer,
    "tuple[str, ...]": _are_texts,
    "tuple[Example, ...]": _are_examples,
}
