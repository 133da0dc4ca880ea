"""The printer's one canonical spelling, against Python's own parser: the syntax is Python-like calls."""

from __future__ import annotations

import ast
from typing import Any

from hypothesis import given

from constellation.domains.trapdoor.language import Node, Side, TokenClass, to_text
from tests.domains.trapdoor.language.strategies import programs

CLASSES = {member.value: member for member in TokenClass}
SIDES = {member.value: member for member in Side}


def from_python(tree: ast.expr) -> Any:
    """The argument or node that a Python expression spells."""
    if isinstance(tree, ast.Call):
        assert isinstance(tree.func, ast.Name) and not tree.keywords
        return Node(tree.func.id, tuple(from_python(arg) for arg in tree.args))
    if isinstance(tree, ast.Name):
        return CLASSES.get(tree.id) or SIDES.get(tree.id) or Node(tree.id)
    return ast.literal_eval(tree)


@given(programs())
def test_python_reads_the_same_tree(program: Node) -> None:
    assert from_python(ast.parse(to_text(program), mode="eval").body) == program


def test_spelling() -> None:
    first = Node("Upper", (Node("SubStr", (Node("GetToken", (Node("x"), TokenClass.WORD, 1)), 1, 1)),))
    program = Node(
        "Concat", (first, Node("Const", (". ",)), Node("GetToken", (Node("x1"), TokenClass.WORD, -1)))
    )
    assert to_text(program) == (
        'Concat(Upper(SubStr(GetToken(x, Word, 1), 1, 1)), Const(". "), GetToken(x1, Word, -1))'
    )
    span = Node("GetSpan", (Node("x"), TokenClass.ALL_CAPS, 2, Side.START, ", ", -1, Side.END))
    assert to_text(span) == 'GetSpan(x, AllCaps, 2, start, ", ", -1, end)'
    assert to_text(Node("MapJoin", (Node("x"), "-", Node("t"), ""))) == 'MapJoin(x, "-", t, "")'


def test_literals_are_json() -> None:
    assert to_text(Node("Const", ('"\\\n\x00é',))) == 'Const("\\"\\\\\\n\\u0000é")'
