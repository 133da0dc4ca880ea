"""The atom prior: paper A's program family as a factorised density.

A program concatenates n independent atoms; an atom is a constant, a substring between absolute positions,
a substring between token-match positions, or a case change of a substring. Every choice is drawn from a
table below, independently of the others given the atom's kind, so an atom's probability is a product of
table entries and sums over programs factorise. No program can be drawn in two ways. The tables are ours: the
paper's prior is unknown.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Hashable, Mapping
from typing import Any, Generic, TypeVar

from constellation.domains.trapdoor.language import Node, Side, TokenClass
from constellation.domains.trapdoor.language.syntax import CASES, MAX_INDEX, concat, parts_of

X = Node("x")

T = TypeVar("T", bound=Hashable)


class Table(Generic[T]):
    """A finite distribution, given by weights that need not sum to one."""

    def __init__(self, weights: Mapping[T, float]):
        total = sum(weights.values())
        self.values = list(weights)
        self._log = {value: math.log(weight / total) for value, weight in weights.items()}
        self._cumulative = list(itertools.accumulate(weights.values()))

    def draw(self, rng: random.Random) -> T:
        """One value, for one uniform number: that of `rng.choices`, which takes three times as long."""
        at = bisect.bisect(self._cumulative, rng.random() * self._cumulative[-1], 0, len(self.values) - 1)
        return self.values[at]

    def log_density(self, value: T) -> float:
        """Natural log of a value's probability; -inf for what is not in the table."""
        return self._log.get(value, -math.inf)


KIND = Table({"Const": 0.22, "SubStr": 0.26, "GetToken": 0.42, "GetSpan": 0.10})
CASE = Table({"": 0.62, "Upper": 0.14, "Lower": 0.12, "Capitalize": 0.07, "Title": 0.05})
DELIMITERS = (" ", "-", "_", ".", ",", ":", "/", "#", "@", "|", "; ", ", ", ". ", ": ", " - ", "::")
DELIMITER_CONSTANT = 0.75  # otherwise 1..3 letters, all of one case
WORD_LENGTH = Table({1: 0.4, 2: 0.3, 3: 0.3})
CLASS = Table(
    {
        TokenClass.WORD: 0.22,
        TokenClass.NUMBER: 0.22,
        TokenClass.ALPHANUM: 0.14,
        TokenClass.PROP_CASE: 0.10,
        TokenClass.LOWER: 0.08,
        TokenClass.ALL_CAPS: 0.06,
        TokenClass.NON_SPACE: 0.06,
        TokenClass.DIGIT: 0.05,
        TokenClass.LETTER: 0.04,
        TokenClass.DECIMAL: 0.03,
    }
)
INDEX = Table({1: 0.32, 2: 0.18, 3: 0.08, 4: 0.03, -1: 0.24, -2: 0.11, -3: 0.04})
ANCHOR_DELIMITERS = (" ", "-", "_", ".", ",", ":", "/", "@")
ANCHOR_IS_CLASS = 0.5  # a span's end is anchored on a token class, otherwise on a delimiter
SIDE = Table({Side.START: 0.5, Side.END: 0.5})
# A substring's positions: (sign of the start, sign of the end), an offset from its edge, and a length.
SIGNS = Table({(1, 1): 0.5, (-1, -1): 0.25, (1, -1): 0.25})
OFFSET = Table({1: 0.4, 2: 0.2, 3: 0.15, 4: 0.1, 5: 0.08, 6: 0.07})
LENGTH = Table({1: 0.3, 2: 0.3, 3: 0.25, 4: 0.15})
# Number of atoms of a program of at most m atoms: proportional to these weights on 1..m. Longer
# programs are rejected more often: of accepted tasks of at most 4 atoms, 15..35 % have each number of them.
_ATOM_WEIGHTS = {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0, 5: 4.0, 6: 4.0}
ATOMS = {most: Table({n: _ATOM_WEIGHTS[n] for n in range(1, most + 1)}) for most in _ATOM_WEIGHTS}


def draw_program(rng: random.Random, max_atoms: int) -> Node:
    """A program of 1..max_atoms atoms from the prior, before any rejection; max_atoms is a key of `ATOMS`."""
    return concat(*(draw_atom(rng) for _ in range(ATOMS[max_atoms].draw(rng))))


def log_density(program: Node, max_atoms: int) -> float:
    """Natural log of the prior probability of a program; -inf outside the prior's support."""
    atoms = parts_of(program)
    return ATOMS[max_atoms].log_density(len(atoms)) + sum(log_atom_density(atom) for atom in atoms)


def draw_atom(rng: random.Random) -> Node:
    """One atom from the prior."""
    kind = KIND.draw(rng)
    if kind == "Const":
        return Node("Const", (_draw_constant(rng),))
    if kind == "SubStr":
        atom = Node("SubStr", (X, *_draw_positions(rng)))
    elif kind == "GetToken":
        atom = Node("GetToken", (X, CLASS.draw(rng), INDEX.draw(rng)))
    else:
        atom = Node("GetSpan", (X, *_draw_anchor(rng), *_draw_anchor(rng)))
    case = CASE.draw(rng)
    return Node(case, (atom,)) if case else atom


def log_atom_density(atom: Node) -> float:
    """Natural log of the prior probability of one atom."""
    if atom.op == "Const":
        return KIND.log_density("Const") + _log_constant(atom.args[0])
    case, inner = (atom.op, atom.args[0]) if atom.op in CASES else ("", atom)
    if inner.op not in ("SubStr", "GetToken", "GetSpan") or inner.args[0] != X:
        return -math.inf
    total = KIND.log_density(inner.op) + CASE.log_density(case)
    if inner.op == "SubStr":
        return total + _log_positions(*inner.args[1:])
    if inner.op == "GetToken":
        return total + CLASS.log_density(inner.args[1]) + INDEX.log_density(inner.args[2])
    return total + log_anchor_density(*inner.args[1:4]) + log_anchor_density(*inner.args[4:7])


def log_anchor_density(pattern: TokenClass | str, index: int, side: Side) -> float:
    """Natural log of the probability of one end of a span; the two ends are independent."""
    if isinstance(pattern, TokenClass):
        log_pattern = math.log(ANCHOR_IS_CLASS) + CLASS.log_density(pattern)
    elif pattern in ANCHOR_DELIMITERS:
        log_pattern = math.log((1 - ANCHOR_IS_CLASS) / len(ANCHOR_DELIMITERS))
    else:
        return -math.inf
    return log_pattern + INDEX.log_density(index) + SIDE.log_density(side)


def _draw_constant(rng: random.Random) -> str:
    if rng.random() < DELIMITER_CONSTANT:
        return rng.choice(DELIMITERS)
    alphabet = rng.choice(("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    return "".join(rng.choice(alphabet) for _ in range(WORD_LENGTH.draw(rng)))


def _log_constant(text: str) -> float:
    if text in DELIMITERS:
        return math.log(DELIMITER_CONSTANT / len(DELIMITERS))
    one_case = text.isascii() and text.isalpha() and (text.islower() or text.isupper())
    if not one_case:
        return -math.inf
    log_case = math.log((1 - DELIMITER_CONSTANT) / 2)
    return log_case + WORD_LENGTH.log_density(len(text)) - len(text) * math.log(26)


def _draw_positions(rng: random.Random) -> tuple[int, int]:
    start_sign, end_sign = SIGNS.draw(rng)
    offset, length = OFFSET.draw(rng), LENGTH.draw(rng)
    if start_sign != end_sign:
        return offset, -length
    return (offset, offset + length - 1) if start_sign > 0 else (-(offset + length - 1), -offset)


def _log_positions(i: int, j: int) -> float:
    signs = SIGNS.log_density((1 if i > 0 else -1, 1 if j > 0 else -1))
    if i > 0 > j:
        return signs + OFFSET.log_density(i) + LENGTH.log_density(-j)
    near, far = (i, j) if i > 0 else (-j, -i)
    return signs + OFFSET.log_density(near) + LENGTH.log_density(far - near + 1)


def _draw_anchor(rng: random.Random) -> tuple[Any, int, Side]:
    pattern = CLASS.draw(rng) if rng.random() < ANCHOR_IS_CLASS else rng.choice(ANCHOR_DELIMITERS)
    return pattern, INDEX.draw(rng), SIDE.draw(rng)


# Every position drawn is one the language can spell.
assert max(OFFSET.values) + max(LENGTH.values) - 1 <= MAX_INDEX
