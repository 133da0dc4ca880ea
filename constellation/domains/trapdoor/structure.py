"""Structural classes of programs that no round's training sees: generalisation beyond the seen structures.

Tasks whose secret program belongs to one are drawn only for the withheld bank, and for two controls that are
trained on such tasks and from which no other model starts; a round of self-training drops the generator's own
programs that do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from constellation.domains.trapdoor.language.syntax import CASES, Node, parts_of, walk


@lru_cache(maxsize=1 << 12)  # a prior draws the same parts again and again
def _cases(part: Node) -> frozenset[str]:
    return frozenset(node.op for node in walk(part) if node.op in CASES)


@lru_cache(maxsize=1 << 12)
def _from_the_end(part: Node) -> frozenset[str]:
    """Which of substring and token are counted from the end of the input."""
    return frozenset(
        node.op for node in walk(part) if node.op in ("SubStr", "GetToken") and node.args[-1] < 0
    )


def two_cases(program: Node) -> bool:
    """Two different case operators in one program."""
    return len(frozenset().union(*map(_cases, parts_of(program)))) > 1


def outer_constants(program: Node) -> bool:
    """At least three parts, of which the first and the last are constants."""
    parts = parts_of(program)
    return len(parts) >= 3 and parts[0].op == "Const" and parts[-1].op == "Const"


def twice_from_the_end(program: Node) -> bool:
    """Both a substring and a token counted from the end of the input."""
    return len(frozenset().union(*map(_from_the_end, parts_of(program)))) == 2


WITHHELD: dict[str, Callable[[Node], bool]] = {
    "two_cases": two_cases,
    "outer_constants": outer_constants,
    "twice_from_the_end": twice_from_the_end,
}


def withheld_classes(program: Node) -> tuple[str, ...]:
    """The names of the withheld classes the program belongs to."""
    return tuple(name for name, belongs in WITHHELD.items() if belongs(program))
