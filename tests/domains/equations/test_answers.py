"""The answer in a text, exact beside flexible matches, and a judge that never raises."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.equations import DOMAIN
from constellation.domains.equations.answers import answer_in
from constellation.domains.equations.questions import parse, task_of
from constellation.domains.task import split

TASK = task_of(parse("2x+4y=1, x-y=2, x=?"))  # 3/2
INTEGER = task_of(parse("3-5=?"))  # -2


@pytest.mark.parametrize(
    "text, exact, flexible",
    [
        ("answer 3/2", True, True),
        ("2*-1=-2\nanswer 3/2", True, True),
        ("  answer 3/2\n", True, True),
        ("answer 6/4", False, True),  # not in lowest terms
        ("answer 1.5", False, True),
        ("= 3/2", False, True),
        ("answer 3/2.", False, True),
        ("Answer 3/2", False, True),
        ("answer 3/2\nanswer 2", False, False),  # what is said last counts
        ("answer 2/3", False, False),
        ("3/2 is the answer, I am 9", False, False),
        ("", False, False),
        ("answer", False, False),
        ("answer 3/0", False, False),
    ],
)
def test_exact_and_flexible_match(text, exact, flexible):
    verdict = DOMAIN.verdict(TASK, split(TASK, 0), text)
    assert (verdict.right, verdict.flexible) == (exact, flexible)
    assert verdict.faults == 0 if exact else True
    assert DOMAIN.in_format(text) == verdict.fits


def test_one_key_for_one_value():
    shown = split(TASK, 0)
    same = [DOMAIN.answer_key(shown, text) for text in ("answer 3/2", "so 6/4", "1.5")]
    assert len(set(same)) == 1
    assert DOMAIN.answer_key(shown, "answer 2") != same[0]
    assert DOMAIN.answer_key(shown, "none") == "none"


def test_integers():
    for text, exact in (("answer -2", True), ("answer -2/1", False), ("answer -4/2", False), ("-2.0", False)):
        verdict = DOMAIN.verdict(INTEGER, split(INTEGER, 0), text)
        assert verdict.right == exact and verdict.flexible


@given(st.text() | st.text("answer -/0123456789.\n", max_size=60) | st.just("answer " + "9" * 5000))
@settings(deadline=None, max_examples=300)
def test_the_judge_is_total(text):
    verdict = DOMAIN.verdict(TASK, split(TASK, 0), text)
    assert verdict.valid or not (verdict.fits or verdict.right or verdict.flexible)
    assert hash(DOMAIN.answer_key(split(TASK, 0), text)) is not None


@given(st.fractions(min_value=-999, max_value=999, max_denominator=99))
def test_what_is_written_as_asked_is_read_exactly(value):
    assert answer_in(f"1+1=2\nanswer {value}") == (Fraction(value), True)
