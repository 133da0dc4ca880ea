"""The wide prior: all of the language, within its limits."""

from __future__ import annotations

import math
import random

from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.language import Node, parse, to_text
from constellation.domains.trapdoor.language.syntax import SIGNATURES, parts_of, walk
from constellation.domains.trapdoor.pretraining import draw_wide_program

RNG = random.Random(0)
PROGRAMS = [draw_wide_program(RNG) for _ in range(3000)]


def levels(node: Node) -> int:
    """Operators on the longest path of strings, those of predicates and templates aside."""
    if not node.args:
        return 0
    return 1 + max((levels(arg) for arg in node.args if isinstance(arg, Node)), default=0)


def test_every_program_is_in_the_language():
    for program in PROGRAMS:
        assert parse(to_text(program)) == program


def test_every_operator_occurs():
    assert {node.op for program in PROGRAMS for node in walk(program)} == {*SIGNATURES, "x", "t"}


def test_one_to_three_parts_of_at_most_three_operators_and_a_leaf():
    assert {len(parts_of(program)) for program in PROGRAMS} == {1, 2, 3}
    deepest = {levels(part) for program in PROGRAMS for part in parts_of(program)}
    assert max(deepest) == 4  # three, and a template's or predicate's own


def test_it_is_wider_than_the_atom_prior():
    outside = [program for program in PROGRAMS if prior.log_density(program, 3) == -math.inf]
    assert 0.5 < len(outside) / len(PROGRAMS) < 0.95
