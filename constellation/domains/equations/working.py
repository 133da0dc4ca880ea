"""Worked steps: one line a calculation, as `3*-4=-12`, then the answer; and the slips that spoil them."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

ANSWER = "answer "  # opens the line that the exact match asks for
OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


class Working:
    """Writes down the steps of a solution.

    `slip`: which step, from 0, is to get a wrong result, and what is added to it; what follows it is right
    given that.
    """

    def __init__(self, slip: tuple[int, int] | None = None):
        self.lines: list[str] = []
        self._slip = slip

    def step(self, left: Fraction, operator: str, right: Fraction) -> Fraction:
        """The result of a calculation, which becomes a line."""
        result = OPERATIONS[operator](left, right)
        if self._slip and self._slip[0] == len(self.lines):
            result += self._slip[1]
        self.lines.append(f"{left}{operator}{right}={result}")
        return result

    def text(self, answer: Fraction) -> str:
        """The steps and the answer, as a model is to write them."""
        return "\n".join([*self.lines, f"{ANSWER}{answer}"])


def draw_slip(rng: random.Random, steps: int) -> tuple[int, int]:
    """A step and an error as people and small models make them: by one or two, by ten, seldom by more."""
    error = rng.choice((1, 1, 1, 2, 2, 3, 5, 10, 10, 20))
    return rng.randrange(steps), error * rng.choice((-1, 1))
