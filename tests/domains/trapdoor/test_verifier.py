"""The verifier: strict, total, exact."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.domain import Verdict
from constellation.domains.task import Example, Split
from constellation.domains.trapdoor.language import ParseError, parse
from constellation.domains.trapdoor.language.syntax import MAX_TEXT
from constellation.domains.trapdoor.verifier import judge
from tests.domains.trapdoor.language.strategies import mutated_texts

SPLIT = Split(
    visible=(Example(("ann lee",), "LEE"), Example(("bob kay",), "KAY")),
    held_out=(Example(("carla de wit",), "WIT"), Example(("dan fox",), "FOX")),
)
PROBES = (*(Example((f"{name} van {name}",), name.upper()) for name in "abc"), Example(("q r s",), "R"))
RIGHT, FITTING = "Upper(GetToken(x, Word, -1))", "Upper(GetToken(x, Word, 2))"


def test_a_generalising_program():
    assert judge(SPLIT, RIGHT) == Verdict(True, 0, True, True, ("WIT", "FOX"), -1)


def test_a_program_that_fits_but_does_not_generalise():
    assert judge(SPLIT, FITTING, PROBES) == Verdict(True, 0, True, False, ("DE", "FOX"), -1)


def test_held_out_examples_alone_do_not_make_a_program_right():
    swapped = Split(SPLIT.held_out, SPLIT.visible)
    assert judge(swapped, FITTING) == Verdict(True, 0, False, False, ("LEE", "KAY"), -1)


def test_probes_find_what_twelve_examples_do_not():
    assert judge(SPLIT, RIGHT, PROBES).probe_correct == 3
    assert judge(Split(SPLIT.visible, SPLIT.held_out[1:]), FITTING, PROBES).probe_correct == 1


@pytest.mark.parametrize("text", ["", "Upper(y)", f"{RIGHT})", "Upper(" * 5000, "é", "\ud800", "x" * 10**6])
def test_what_is_no_program(text: str):
    assert judge(SPLIT, text, PROBES) == Verdict(valid=False)


def test_a_fault_fails_although_the_value_is_right():
    # `Remove` without a match returns its argument and faults
    examples = (Example(("a1b",), "ab"), Example(("ab",), "ab"))
    text = "Remove(x, Number, 1)"
    seen = judge(Split(examples, examples[:1]), text)
    assert (seen.faults, seen.fits, seen.right, seen.key) == (1, False, False, ("ab",))
    held_out = judge(Split(examples[:1], examples), text)
    assert (held_out.faults, held_out.fits, held_out.right) == (1, True, False)
    assert held_out.key == ("ab", None)


def test_an_empty_output_is_an_answer_and_a_fault_is_not():
    examples = Split((Example(("a,",), ""),), (Example(("b,",), ""),))
    assert judge(examples, 'Field(x, ",", 2)').right
    assert not judge(examples, "GetToken(x, Number, 1)").fits


def test_a_fault_on_a_probe_is_a_wrong_probe():
    probes = (Example(("7",), ""), Example(("a b",), "B"))
    verdict = judge(SPLIT, RIGHT, probes)
    assert verdict.faults == 0 and verdict.right and verdict.probe_correct == 1


def test_several_inputs():
    split = Split((Example(("a", "b"), "ba"),), (Example(("c", "d"), "dc"),))
    assert judge(split, "Concat(x2, x1)").right
    assert judge(split, "Concat(x3, x1)").faults == 2


@settings(deadline=None, max_examples=300)
@given(st.text() | mutated_texts() | st.text('GetUpper(x1,2) "', max_size=MAX_TEXT + 5))
def test_any_text_has_a_verdict(text: str):
    verdict = judge(SPLIT, text, PROBES)
    try:
        parse(text)
    except ParseError:
        assert verdict == Verdict(valid=False)
        return
    assert verdict.valid and len(verdict.key) == 2 and verdict.faults >= 0
    assert verdict.fits or not verdict.right
    assert (verdict.probe_correct >= 0) == verdict.right
    assert judge(SPLIT, text, PROBES) == verdict
