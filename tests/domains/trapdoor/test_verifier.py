"""The verifier: the program in an answer as chat models write it; strict, total, exact."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.domain import Verdict
from constellation.domains.task import Example, Split
from constellation.domains.trapdoor.language import ParseError, parse, to_text
from constellation.domains.trapdoor.language.syntax import MAX_TEXT
from constellation.domains.trapdoor.verifier import extract, judge
from tests.domains.trapdoor.language.strategies import mutated_texts, programs

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


PIECES = ["```", "`", "\n", "<think>", "</think>", "Upper(", "x", ")"]
ANSWER = 'Concat(Upper(GetToken(x, Word, 1)), Const(": `a`"))'


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        f"  {ANSWER}\n",
        f"<think>\nMaybe Lower(x)? No.\n</think>\n\n{ANSWER}",
        f"The rule takes the first word.\n\n```\n{ANSWER}\n```\nIt fits both examples.",
        f"```python\n{ANSWER}\n```",
        f"```{ANSWER}```",
        f"First I tried Lower(x).\n```\nLower(x)\n```\nBetter:\n```text\n{ANSWER}\n```",
        f"Program: {ANSWER}",
        f"Sure! Here it is:\n{ANSWER}\nHope that helps.",
        f"x\n{ANSWER}",
    ],
)
def test_finds_the_program(answer: str) -> None:
    assert extract(answer) == ANSWER


def test_a_code_span() -> None:
    assert extract("Use `Lower(x)`; or, better, `Upper(x)` here.") == "Upper(x)"


def test_thoughts_are_no_answer() -> None:
    assert extract("<think>\nUpper(x)") == ""
    assert extract("<think>Upper(x)</think>") == ""
    assert extract("<think>Upper(x)</think>\nI do not know x") == "I do not know x"


def test_a_bare_variable_counts_alone_only() -> None:
    assert extract("x") == "x"
    assert extract("It is\nx") == "It is\nx"


@settings(deadline=None, max_examples=60)
@given(programs())
def test_every_program_is_its_own_answer(program) -> None:
    text = to_text(program)
    assert extract(text) == text
    if "`" not in text and "think>" not in text:
        assert extract(f"<think>a</think>\n```\n{text}\n```") == text


@settings(deadline=None, max_examples=200)
@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_extraction_never_raises(text: str) -> None:
    extract(text)


def test_an_adversarial_answer_costs_little() -> None:
    begun = time.process_time()
    for text in ("```" * 100_000, "Upper(\n" * 100_000, "`Concat(" * 100_000):
        extract(text)
    assert time.process_time() - begun < 5
