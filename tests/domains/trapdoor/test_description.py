"""What the description says of the language is true of it."""

from __future__ import annotations

import re

import pytest

from constellation.domains.trapdoor.description import DESCRIPTION, WORKED
from constellation.domains.trapdoor.language import TokenClass, evaluate, parse, to_text
from constellation.domains.trapdoor.language.syntax import SIGNATURES


@pytest.mark.parametrize("op", SIGNATURES)
def test_every_operator_is_described_with_its_arguments(op: str) -> None:
    calls = re.findall(rf"\b{op}\(([^()]*)\)", DESCRIPTION.partition("Three tasks")[0])
    assert calls, op
    arity = len(SIGNATURES[op])
    assert all(call.count(",") + 1 == arity or op == "Concat" for call in calls), calls


def test_every_class_is_named() -> None:
    assert all(re.search(rf"\b{kind.value}\b", DESCRIPTION) for kind in TokenClass)


@pytest.mark.parametrize(("examples", "program"), WORKED)
def test_worked_examples_are_right(examples, program: str) -> None:
    tree = parse(program)
    assert to_text(tree) == program and program in DESCRIPTION
    for example in examples:
        result = evaluate(tree, example.inputs)
        assert (result.value, result.faults) == (example.output, 0)
