"""What a text answers: its last line if that is as asked for, or else the last number in it."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from constellation.domains.domain import Verdict
from constellation.domains.equations.working import ANSWER
from constellation.domains.task import Split, Task

_ASKED = re.compile(rf"{ANSWER}(-?\d{{1,18}}(?:/\d{{1,18}})?)")
_NUMBER = re.compile(r"(?<![\d.])-?\d{1,18}(?:/\d{1,18}|\.\d{1,18})?(?!\d)")


class Answer(NamedTuple):
    """The value that a text ends with, None for none, and whether it stands as asked: `answer 3/2`."""

    value: Fraction | None
    as_asked: bool


def answer_in(text: str) -> Answer:
    """The answer in any text. An integer or fraction in lowest terms behind `answer ` is as asked."""
    lines = text.strip().splitlines()
    found = _ASKED.fullmatch(lines[-1]) if lines else None
    if found:
        value = _value(found[1])
        return Answer(value, value is not None and str(value) == found[1])
    numbers = _NUMBER.findall(text)
    return Answer(_value(numbers[-1]) if numbers else None, False)


def _value(number: str) -> Fraction | None:
    try:
        return Fraction(number)
    except ZeroDivisionError:
        return None


def judge(task: Task, split: Split, text: str) -> Verdict:
    """Right is the exact match: the right value, as asked. A flexible match is the value alone."""
    value, as_asked = answer_in(text)
    flexible = value is not None and value == Fraction(task.examples[0].output)
    return Verdict(
        valid=value is not None,
        faults=int(not as_asked),
        fits=as_asked,
        right=as_asked and flexible,
        key=str(value),
        flexible=flexible,
    )


def answer_key(split: Split, text: str) -> str:
    """The value, however it is written; the text itself where it holds none."""
    value, _ = answer_in(text)
    return text.strip() if value is None else str(value)
