"""Trees: measures, parts, the one spelling (Python-like calls), and signatures that name every operator."""

from __future__ import annotations

import ast
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from constellation.domains.trapdoor.language import Node, Side, TokenClass, parse, to_text
from constellation.domains.trapdoor.language.syntax import (
    MAX_DEPTH,
    MAX_NODES,
    PREDICATES,
    SIGNATURES,
    VARIABLES,
    Kind,
    concat,
    depth,
    parts_of,
    skeleton,
    walk,
)
from tests.domains.trapdoor.language.strategies import programs

PROGRAM = parse('Concat(Upper(SubStr(GetToken(x, Word, 1), 1, 1)), Const(". "), GetToken(x1, "-", -1))')


def test_measures_by_hand() -> None:
    assert [node.op for node in walk(PROGRAM)] == [
        "Concat", "Upper", "SubStr", "GetToken", "x", "Const", "GetToken", "x1",
    ]  # fmt: skip
    assert depth(PROGRAM) == 5
    assert skeleton(PROGRAM) == "Concat(Upper(SubStr(GetToken(x))),Const,GetToken(x1))"
    assert depth(Node("x")) == 1


def test_skeleton_forgets_constants_patterns_and_indices_alone() -> None:
    assert skeleton(parse('Field(x, ",", 1)')) == skeleton(parse('Field(x, "; ", -2)'))
    assert skeleton(parse("Upper(x)")) != skeleton(parse("Lower(x)"))
    assert skeleton(parse("Upper(x1)")) != skeleton(parse("Upper(x2)"))
    assert skeleton(parse('If(Contains(x, Word), x, Const(""))')) == "If(Contains(x),x,Const)"


@given(programs())
def test_measures_agree_with_their_recursive_definitions(program: Node) -> None:
    def children(node: Node) -> list[Node]:
        return [arg for arg in node.args if isinstance(arg, Node)]

    def count(node: Node) -> int:
        return 1 + sum(map(count, children(node)))

    def levels(node: Node) -> int:
        return 1 + max(map(levels, children(node)), default=0)

    def preorder(node: Node) -> list[Node]:
        return [node] + [below for child in children(node) for below in preorder(child)]

    assert len(list(walk(program))) == count(program) <= MAX_NODES
    assert depth(program) == levels(program) <= MAX_DEPTH
    assert list(walk(program)) == preorder(program)


@given(st.lists(programs(max_nodes=4, max_depth=3), min_size=1, max_size=8))
def test_concat_inverts_parts_of(parts: list[Node]) -> None:
    if len(parts) == 1:
        assert concat(*parts) == parts[0]
    else:
        assert parts_of(concat(*parts)) == tuple(parts)
    assert concat(*parts_of(concat(*parts))) == concat(*parts)


def test_vocabulary() -> None:
    for op, signature in SIGNATURES.items():
        assert op[0].isupper()
        assert len(op) <= 16
        # the first argument of every operator that has sub-programs is one of them
        assert signature[0] is {"Const": Kind.LITERAL, "If": Kind.PREDICATE}.get(op, Kind.STRING)
    assert set(SIGNATURES) >= PREDICATES
    names = [*SIGNATURES, *VARIABLES, "t"]
    assert len(names) == len(set(names))
    # a bare word is a class where a pattern may stand and an operator where a program may
    assert {member.value for member in TokenClass} & set(SIGNATURES) == {"Lower"}


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
