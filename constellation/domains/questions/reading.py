"""What an answer says, by math-verify. It may take for ever: `answers.py` runs it where it can be ended."""

from __future__ import annotations

import functools
import logging
import re
from typing import Any

from latex2sympy2_extended.math_normalization import extract_boxed_content
from math_verify import parse, verify
from sympy import Eq, Expr, FiniteSet, Interval, Symbol, Tuple

from constellation.domains.questions.answers import Reading

MOST_VALUES = 4  # of a list that is searched for the one value in question
_BOX = re.compile(r"\\boxed\s*{")
_DECIMALS = re.compile(r"\.(\d+)")

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time-outs are off


def read(text: str, gold: str | None) -> Reading | None:
    """What stands in a text's last box or, without one, comes last; None where nothing is found.

    Boxes that are close together, or have a comma, `and` or `or` between them, are one list.
    """
    boxed = _BOX.search(text) is not None
    found = _parse(extract_boxed_content(text, "last")) if boxed else parse(text, parsing_timeout=None)
    if not found:
        return None
    wanted = [] if gold is None else _gold(gold)
    equal = _equal(gold, wanted, found)
    return Reading(_key(found), boxed, equal, not equal and _lists(gold, wanted, found))


def _parse(latex: str) -> list[Any]:
    return parse(rf"\boxed{{{latex}}}", parsing_timeout=None)


@functools.cache
def _gold(gold: str) -> list[Any]:
    return _parse(gold)


def _equal(gold: str | None, wanted: list[Any], found: list[Any]) -> bool:
    """Whether the gold answer, which math-verify has to be given first, is what was found.

    Where one of both is a decimal, both are rounded to as many places as the gold answer has, if these are
    two to four, so that `83.33` is 250/3; and to four places where it has none.
    """
    places = max(map(len, _DECIMALS.findall(gold or "")), default=4)
    return verify(wanted, found, float_rounding=min(max(places, 2), 4), timeout_seconds=None)


def _lists(gold: str | None, wanted: list[Any], found: list[Any]) -> bool:
    if not (wanted and isinstance(wanted[0], Expr) and wanted[0].is_number):
        return False
    values = found[0].args if isinstance(found[0], (FiniteSet, Tuple)) else ()
    if isinstance(found[0], Interval) and found[0].left_open and found[0].right_open:
        values = found[0].args[:2]  # a pair, `(9, 15)`, is read as an interval
    return len(values) <= MOST_VALUES and any(_equal(gold, wanted, [value]) for value in values)


def _key(found: list[Any]) -> str:
    """The value with its numbers to twelve digits; the text where it has no value."""
    try:
        return _canonical(found[0])
    except Exception:  # SymPy raises many kinds where an expression has no value
        return str(found[-1])


def _canonical(value: Any) -> str:
    if isinstance(value, Tuple):
        return f"({', '.join(map(_canonical, value))})"
    if isinstance(value, Eq) and isinstance(value.lhs, Symbol):
        value = value.rhs
    return str(value.evalf(12))
