"""Simultaneous linear equations: `3x+2y=12, x-y=-1, y=?`, in two unknowns, or in three.

Of two equations in two unknowns the one that is asked for is N / D by Cramer's rule. A third equation gives a
third unknown by one of the others.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from fractions import Fraction
from typing import NamedTuple

from constellation.domains.equations.working import Working

UNKNOWNS = "xyz"
LARGEST_SOLUTION = 5
COEFFICIENTS = {1: 2, 2: 4, 3: 5, 4: 3, 5: 5}  # level -> the largest coefficient
LARGEST_CONSTANT, LARGEST_DETERMINANT = 12, 9  # where the solution need not be an integer
_TERM = re.compile(r"([+-]?)(\d*)([a-z])")

Row = tuple[tuple[int, ...], int]  # coefficients of the unknowns in alphabetical order, and the constant


class System(NamedTuple):
    """The question for one unknown of as many equations as there are unknowns."""

    unknowns: str
    rows: tuple[Row, ...]
    asked: str

    @classmethod
    def draw(cls, rng: random.Random, level: int) -> System:
        """Two unknowns with integer solutions (levels 1 and 2) or rational ones (3), or three (4 and 5)."""
        while True:
            drawn = _draw_three(rng, level) if level >= 4 else _draw_two(rng, level)
            # Small numbers can make a system easier than what was drawn.
            if drawn is not None and drawn.level == level:
                return drawn

    @classmethod
    def parse(cls, text: str) -> System:
        """The inverse of `text`. Raises ValueError: it is no such question, or has no single solution."""
        *equations, question = text.split(", ")
        sides = [equation.split("=") for equation in equations]
        if len(sides) not in (2, 3) or any(len(side) != 2 for side in sides):
            raise ValueError(f"not two or three equations and a question: {text[:40]!r}")
        terms = [_terms(left) for left, _ in sides]
        unknowns = "".join(sorted({name for found in terms for name in found}))
        rows = tuple(
            (tuple(found.get(name, 0) for name in unknowns), int(right))
            for found, (_, right) in zip(terms, sides, strict=True)
        )
        system = cls(unknowns, rows, question.removesuffix("=?"))
        if question != f"{system.asked}=?" or system.asked not in unknowns or not system._is_solvable():
            raise ValueError(f"not a system with a single solution: {text[:40]!r}")
        return system

    @property
    def text(self) -> str:
        equations = (f"{_left_side(self.unknowns, row)}={constant}" for row, constant in self.rows)
        return ", ".join([*equations, f"{self.asked}=?"])

    @property
    def level(self) -> int:
        largest = max(abs(value) for row, _ in self.rows for value in row)
        if len(self.unknowns) == 3:
            return 4 if largest <= COEFFICIENTS[4] else 5
        if self.solve(Working()).denominator > 1:
            return 3
        return 1 if largest <= COEFFICIENTS[1] else 2

    @property
    def kind(self) -> str:
        """What the report groups questions by."""
        rational = ", rational" if self.level == 3 else ""
        return f"{len(self.unknowns)} unknowns{rational}"

    @property
    def canonical(self) -> str:
        """Equal for systems that differ in names, in order or by factors of equations alone."""
        return min(self._under(names) for names in itertools.permutations(range(len(self.unknowns))))

    def _under(self, names: tuple[int, ...]) -> str:
        rows = sorted(_primitive(tuple(row[i] for i in names), constant) for row, constant in self.rows)
        return f"{rows} {names.index(self.unknowns.index(self.asked))}"

    def solve(self, working: Working) -> Fraction:
        """The unknown that is asked for: by Cramer's rule, and from there by the third equation."""
        core, link = self._core_and_link()
        if link is None:
            return _cramer(core, self.unknowns.index(self.asked), working)
        row, constant = link
        own = self.unknowns.index(self.asked)
        if not row[own]:
            return _cramer(core, own, working)
        other = next(i for i, value in enumerate(row) if value and i != own)
        found = _cramer(core, other, working)
        moved = working.step(Fraction(row[other]), "*", found)
        rest = working.step(Fraction(constant), "-", moved)
        return rest if row[own] == 1 else working.step(rest, "/", Fraction(row[own]))

    def _core_and_link(self) -> tuple[list[Row], Row | None]:
        """Two equations in two unknowns, and the third one, in one of these and another."""
        if len(self.unknowns) == 2:
            return list(self.rows), None
        for link in self.rows:
            core = [row for row in self.rows if row is not link]
            used = {i for row, _ in core for i, value in enumerate(row) if value}
            mine = {i for i, value in enumerate(link[0]) if value}
            if len(used) == 2 and len(mine) == 2 and len(mine & used) == 1:
                return core, link
        raise ValueError("no two of the three equations are in two unknowns")

    def _is_solvable(self) -> bool:
        if len(self.rows) != len(self.unknowns):
            return False
        try:
            core, _ = self._core_and_link()
        except ValueError:
            return False
        used = [i for i in range(len(self.unknowns)) if any(row[i] for row, _ in core)]
        return len(used) == 2 and _determinant(core, *used) != 0


def _draw_two(rng: random.Random, level: int) -> System | None:
    """None where the system has no single solution, or too large a determinant."""
    largest, solution = COEFFICIENTS[level], [_nonzero(rng, LARGEST_SOLUTION) for _ in range(2)]
    rows: list[Row] = []
    for _ in range(2):
        row = (_nonzero(rng, largest), _nonzero(rng, largest))
        constant = row[0] * solution[0] + row[1] * solution[1]
        if level == 3:
            constant = rng.randint(-LARGEST_CONSTANT, LARGEST_CONSTANT)
        rows.append((row, constant))
    unknowns = "".join(sorted(rng.sample(UNKNOWNS, 2)))
    if not 0 < abs(_determinant(rows, 0, 1)) <= (LARGEST_DETERMINANT if level == 3 else 99):
        return None
    return System(unknowns, tuple(rows), rng.choice(unknowns))


def _draw_three(rng: random.Random, level: int) -> System | None:
    names = rng.sample(range(3), 3)  # two of the core, and the one that the third equation adds
    solution = [_nonzero(rng, LARGEST_SOLUTION) for _ in range(3)]
    largest = COEFFICIENTS[level]
    used = [names[:2], names[:2], [names[2], rng.choice(names[:2])]]
    rows: list[Row] = []
    for own in used:
        row = [0, 0, 0]
        for name in own:
            row[name] = _nonzero(rng, largest)
        if own is used[2]:
            row[own[0]] = 1
        rows.append((tuple(row), sum(a * b for a, b in zip(row, solution, strict=True))))
    if not _determinant(rows[:2], *sorted(names[:2])):
        return None
    rng.shuffle(rows)
    return System(UNKNOWNS, tuple(rows), UNKNOWNS[names[2]])


def _nonzero(rng: random.Random, largest: int) -> int:
    return rng.randint(1, largest) * rng.choice((-1, 1))


def _determinant(rows: list[Row], first: int, second: int) -> int:
    (one, _), (other, _) = rows
    return one[first] * other[second] - one[second] * other[first]


def _cramer(rows: list[Row], asked: int, working: Working) -> Fraction:
    """N / D, both determinants; in N the constants stand in the place of the unknown's coefficients."""
    first, second = (i for i, value in enumerate(rows[0][0]) if value)
    columns = {i: [Fraction(row[i]) for row, _ in rows] for i in (first, second)}

    def determinant() -> Fraction:
        (a, d), (b, e) = columns[first], columns[second]
        return working.step(working.step(a, "*", e), "-", working.step(b, "*", d))

    below = determinant()
    columns[asked] = [Fraction(constant) for _, constant in rows]
    return working.step(determinant(), "/", below)


def _terms(side: str) -> dict[str, int]:
    """`3x-y` -> {"x": 3, "y": -1}. Raises ValueError: it is no sum of terms, or names one unknown twice."""
    found = _TERM.findall(side)
    terms = {name: int(f"{sign}{size or 1}") for sign, size, name in found}
    whole = "".join(map("".join, found)) == side and all(sign for sign, *_ in found[1:])
    if not found or not whole or len(terms) < len(found) or 0 in terms.values():
        raise ValueError(f"not a sum of terms: {side[:40]!r}")
    return terms


def _left_side(unknowns: str, row: tuple[int, ...]) -> str:
    terms = []
    for name, value in zip(unknowns, row, strict=True):
        if value:
            size = "" if abs(value) == 1 else str(abs(value))
            terms.append(f"{'-' if value < 0 else '+'}{size}{name}")
    return "".join(terms).removeprefix("+")


def _primitive(row: tuple[int, ...], constant: int) -> tuple[int, ...]:
    """The equation less its common factor, its first coefficient positive."""
    factor = math.gcd(*row, constant)
    sign = 1 if next(value for value in row if value) > 0 else -1
    return tuple(sign * value // factor for value in (*row, constant))
