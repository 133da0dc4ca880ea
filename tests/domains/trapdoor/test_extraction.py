"""Answers as chat models write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.trapdoor.extraction import extract
from constellation.domains.trapdoor.language import to_text
from tests.domains.trapdoor.language.strategies import programs

PIECES = ["```", "`", "\n", "<think>", "</think>", "Upper(", "x", ")"]
PROGRAM = 'Concat(Upper(GetToken(x, Word, 1)), Const(": `a`"))'


@pytest.mark.parametrize(
    "answer",
    [
        PROGRAM,
        f"  {PROGRAM}\n",
        f"<think>\nMaybe Lower(x)? No.\n</think>\n\n{PROGRAM}",
        f"The rule takes the first word.\n\n```\n{PROGRAM}\n```\nIt fits both examples.",
        f"```python\n{PROGRAM}\n```",
        f"```{PROGRAM}```",
        f"First I tried Lower(x).\n```\nLower(x)\n```\nBetter:\n```text\n{PROGRAM}\n```",
        f"Program: {PROGRAM}",
        f"Sure! Here it is:\n{PROGRAM}\nHope that helps.",
        f"x\n{PROGRAM}",
    ],
)
def test_finds_the_program(answer: str) -> None:
    assert extract(answer) == PROGRAM


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
def test_never_raises(text: str) -> None:
    extract(text)


def test_an_adversarial_answer_costs_little() -> None:
    begun = time.process_time()
    for text in ("```" * 100_000, "Upper(\n" * 100_000, "`Concat(" * 100_000):
        extract(text)
    assert time.process_time() - begun < 5
