"""Cheap rivals, against a plain scan of the whole list."""

from __future__ import annotations

import itertools
import random

import pytest

from constellation.domains.task import Example
from constellation.domains.trapdoor.inputs import draw_inputs
from constellation.domains.trapdoor.language import Node, evaluate, parse
from constellation.domains.trapdoor.language.syntax import parts_of
from constellation.domains.trapdoor.prior import draw_program
from constellation.domains.trapdoor.rivals import LONGEST_CONSTANT, ONE_PART, has_rival

WORDS = ("ann bo", "carl dee eve", "fay gus", "hal ida joe")


def examples_of(program: Node, inputs: list[str] | tuple[str, ...]) -> tuple[Example, ...]:
    return tuple(Example((text,), evaluate(program, (text,)).value) for text in inputs)


def explained(examples: tuple[Example, ...]) -> bool:
    """A one-part rival, by trying all of them."""
    return any(all(evaluate(rival, e.inputs).value == e.output for e in examples) for rival in ONE_PART)


def explained_with_constant(examples: tuple[Example, ...]) -> bool:
    """... with a constant before or after it, of whatever length leaves something."""
    for cut in range(1, LONGEST_CONSTANT + 1):
        for constant, rest in ((slice(cut), slice(cut, None)), (slice(-cut, None), slice(-cut))):
            constants = {e.output[constant] for e in examples}
            rests = tuple(Example(e.inputs, e.output[rest]) for e in examples)
            if len(constants) == 1 and all(e.output for e in rests) and explained(rests):
                return True
    return False


def test_the_list_is_of_distinct_one_part_programs():
    assert len(set(ONE_PART)) == len(ONE_PART) > 1000
    assert all(len(parts_of(rival)) == 1 for rival in ONE_PART)


@pytest.mark.parametrize(
    ("text", "parts", "found"),
    [
        ("GetToken(x, Word, 1)", 2, True),
        ("Upper(GetToken(x, Word, -1))", 2, True),
        ("GetToken(x, Word, 1)", 1, False),  # a rival has fewer parts than the task
        ('Concat(GetToken(x, Word, 1), Const("!"))', 3, True),
        ('Concat(Const("(no)"), Title(x))', 3, True),
        ('Concat(Const("(no)"), Title(x))', 2, False),
        ('Concat(Const("(no) "), Title(x))', 3, False),  # five characters
        ('Concat(Const("("), Title(x), Const(")"))', 3, False),
        ("Concat(GetToken(x, Word, 2), GetToken(x, Word, 1))", 4, False),
    ],
)
def test_rivals_of_given_programs(text: str, parts: int, found: bool):
    assert has_rival(examples_of(parse(text), WORDS), parts) is found


def test_the_quick_search_finds_what_a_scan_finds():
    rng = random.Random(0)
    found = []
    for family in itertools.islice(itertools.cycle(("name", "code", "mixed")), 60):
        examples = examples_of(draw_program(rng, 2), draw_inputs(rng, family, 4))
        if any(example.output == "" for example in examples):
            continue
        assert has_rival(examples, 2) == explained(examples)
        assert has_rival(examples, 3) == (explained(examples) or explained_with_constant(examples))
        found.append(has_rival(examples, 3))
    assert 5 < sum(found) < len(found) - 5
