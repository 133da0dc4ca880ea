"""A second domain: what was done to the words of a sentence. All that a domain needs, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator

from constellation.domains.domain import Domain, Verdict
from constellation.domains.task import EXAMPLES, Example, Split, Task, addressed_random

STEPS: dict[str, Callable[[list[str]], list[str]]] = {
    "reverse": lambda words: words[::-1],
    "upper": lambda words: [word.upper() for word in words],
    "first": lambda words: words[:2],
    "initials": lambda words: [word[0] for word in words],
    "double": lambda words: [word * 2 for word in words],
}
WORDS = "ash birch cedar elm fir hazel larch maple oak pine rowan willow yew".split()


def run(program: str, text: str) -> str | None:
    """The sentence after every step of a program; None for what is no program."""
    words, steps = text.split(), program.split()
    if not steps or not set(steps) <= STEPS.keys():
        return None
    for step in steps:
        words = STEPS[step](words)
    return " ".join(words)


def tasks(name: str, most: int, *address: int) -> Iterator[Task]:
    """Random programs of at most so many steps on random sentences, no two of one stream alike."""
    rng = addressed_random("reverse words", name, *address)
    for number in itertools.count():
        program = " ".join(rng.choices(list(STEPS), k=rng.randint(1, most)))
        inputs = [" ".join(rng.choices(WORDS, k=4)) for _ in range(EXAMPLES)]
        yield Task(
            id=f"{name}_{number}_{'_'.join(map(str, address))}-{number}",
            examples=tuple(Example((text,), run(program, text) or "") for text in inputs),
            program=program,
            atoms=len(program.split()),
            role="evaluation" if name in ("easy", "hard") else name,
        )


def bank(name: str, seed: int) -> Iterator[Task]:
    """Two steps, or three."""
    return tasks(name, 2 if name.endswith("easy") else 3, seed)


def training(
    role: str, max_atoms: int, seed: int, batch: int, trajectory: int, withheld: bool
) -> Iterator[Task]:
    """A stream for every address; nothing is withheld."""
    return tasks(role, max_atoms, seed, batch, trajectory)


def answer_key(split: Split, text: str) -> Hashable:
    """The outputs on the held-out inputs."""
    outputs = tuple(run(text, example.inputs[0]) for example in split.held_out)
    return () if None in outputs else outputs


def judge(task: Task, split: Split, text: str) -> Verdict:
    """Right is what gives every output."""
    fits, right = (
        all(run(text, example.inputs[0]) == example.output for example in part)
        for part in (split.visible, split.held_out)
    )
    key = answer_key(split, text)
    return Verdict(valid=key != (), fits=fits, right=fits and right, key=key)


DOMAIN = Domain(
    name="tests.reverse_words",
    system="Answer with the steps that were taken: " + ", ".join(STEPS),
    bank=bank,
    training=training,
    judge=judge,
    answer_key=answer_key,
)
