"""The published list of cheap rivals: simple programs that must not explain a task of more atoms.

One-part rivals are the list below. For tasks of three parts or more, a rival may also put one constant
before or after a one-part rival. A task is rejected when a rival with fewer parts than its secret program
agrees with all of its examples.
"""

from __future__ import annotations

from functools import lru_cache

from constellation.domains.task import Example
from constellation.domains.trapdoor.language import Node, evaluate
from constellation.domains.trapdoor.language.syntax import CASES, TokenClass

X = Node("x")
LONGEST_CONSTANT = 4


def _with_cases(node: Node) -> list[Node]:
    return [node, *(Node(case, (node,)) for case in CASES)]


def _one_part_rivals() -> tuple[Node, ...]:
    indices = (1, 2, 3, 4, -1, -2, -3, -4)
    pieces = [X]
    pieces += [Node("GetToken", (X, pattern, i)) for pattern in TokenClass for i in indices]
    pieces += [Node("SubStr", (X, i, j)) for i in range(1, 7) for j in range(i, 10)]
    pieces += [Node("SubStr", (X, -i, -j)) for j in range(1, 7) for i in range(j, 10)]
    pieces += [Node("SubStr", (X, i, -j)) for i in range(1, 5) for j in range(1, 5)]
    pieces += [Node("Field", (X, delimiter, i)) for delimiter in " -_.,:/@#" for i in indices]
    outer = [(delimiter, i) for delimiter in " -_.,:/@" for i in (1, -1)]
    pieces += [Node(op, (X, delimiter, i)) for op in ("Before", "GetFrom") for delimiter, i in outer]
    return tuple(rival for piece in pieces for rival in _with_cases(piece))


ONE_PART = _one_part_rivals()


@lru_cache(maxsize=16)
def _outputs(text: str) -> dict[str, tuple[int, ...]]:
    """Which one-part rivals give which output on an input.

    Cached for the variants of one task, which share an input; inputs rarely come again.
    """
    table: dict[str, list[int]] = {}
    for number, rival in enumerate(ONE_PART):
        table.setdefault(evaluate(rival, (text,)).value, []).append(number)
    return {value: tuple(numbers) for value, numbers in table.items()}


def one_part_rival(examples: tuple[Example, ...]) -> bool:
    """Whether some one-part rival explains every example."""
    # Every rival's output is a piece of the input up to case: a cheap test that settles nearly all tasks.
    if any(example.output.lower() not in example.inputs[0].lower() for example in examples):
        return False
    first, *others = examples
    for number in _outputs(first.inputs[0]).get(first.output, ()):
        rival = ONE_PART[number]
        if all(evaluate(rival, example.inputs).value == example.output for example in others):
            return True
    return False


def has_rival(examples: tuple[Example, ...], parts: int) -> bool:
    """Whether a cheap rival of fewer than `parts` parts explains all the examples."""
    if parts < 2:
        return False
    if one_part_rival(examples):
        return True
    return parts > 2 and any(one_part_rival(stripped) for stripped in _without_outer_constant(examples))


def _without_outer_constant(examples: tuple[Example, ...]) -> list[tuple[Example, ...]]:
    """The examples less a constant that all outputs begin, or end, with: one variant a length."""
    outputs = [example.output for example in examples]
    variants = []
    for cut in range(1, LONGEST_CONSTANT + 1):
        if any(len(output) <= cut for output in outputs):
            break
        if len({output[:cut] for output in outputs}) == 1:
            variants.append(tuple(Example(example.inputs, example.output[cut:]) for example in examples))
        if len({output[-cut:] for output in outputs}) == 1:
            variants.append(tuple(Example(example.inputs, example.output[:-cut]) for example in examples))
    return variants
