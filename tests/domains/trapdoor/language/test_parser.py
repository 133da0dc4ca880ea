"""The parser: exact inverse of the printer, free white space, every limit, and nothing but ParseError."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.domains.trapdoor.language import Node, ParseError, Side, TokenClass, parse, to_text
from constellation.domains.trapdoor.language.syntax import MAX_DEPTH, MAX_NODES, MAX_TEXT, depth, walk
from tests.domains.trapdoor.language.strategies import mutated_texts, programs

LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|-?[A-Za-z0-9]+|[(),]')


@given(programs())
def test_parse_inverts_the_printer(program: Node) -> None:
    assert parse(to_text(program)) == program


@given(programs(max_nodes=16, max_text=400), st.data())
def test_white_space_between_lexemes_is_free(program: Node, data: st.DataObject) -> None:
    text = to_text(program)
    lexemes = LEXEME.findall(text)
    space = st.text(" \t\r\n", max_size=3)
    spaced = "".join(data.draw(space) + lexeme for lexeme in lexemes) + data.draw(space)
    assert parse("".join(lexemes)) == program
    if len(spaced) <= MAX_TEXT:
        assert parse(spaced) == program


def check_total(text: str) -> None:
    """A program within the limits that reads back from its canonical text, or a ParseError."""
    try:
        program = parse(text)
    except ParseError:
        return
    assert len(list(walk(program))) <= MAX_NODES
    assert depth(program) <= MAX_DEPTH
    to_text(program).encode("utf-8")
    assert parse(to_text(program)) == program


@given(st.text(st.characters()) | st.text('xt()",\\ -19SubConcatrWord'))
def test_any_text_parses_or_raises_parse_error(text: str) -> None:
    check_total(text)


@given(mutated_texts())
def test_almost_programs_parse_or_raise_parse_error(text: str) -> None:
    check_total(text)


def nested(levels: int) -> str:
    """A program of that many levels."""
    return "Upper(" * (levels - 1) + "x" + ")" * (levels - 1)


def wide(nodes: int) -> str:
    """A shallow program of that many nodes: Concats of Concats of x."""
    parts = []
    nodes -= 1
    while nodes:
        size = min(nodes, 8)
        parts.append("x" if size < 3 else f"Concat({', '.join(['x'] * (size - 1))})")
        nodes -= 1 if size < 3 else size
    return f"Concat({', '.join(parts)})"


def concat(parts: int) -> str:
    return f"Concat({', '.join(['x'] * parts)})"


LIMITS = {
    "depth": (nested(10), nested(11)),
    "nodes": (wide(64), wide(65)),
    "parts": (concat(8), concat(9)),
    "fewest parts": (concat(2), concat(1)),
    "text": (" " * (MAX_TEXT - 1) + "x", " " * MAX_TEXT + "x"),
    "literal": (f'Const("{"a" * 32}")', f'Const("{"a" * 33}")'),
    "escaped literal": (f'Const("{chr(92) + "u0041"}{"a" * 31}")', f'Const("{chr(92) + "u0041"}{"a" * 32}")'),
    "delimiter": (f'Field(x, "{"a" * 32}", 1)', f'Field(x, "{"a" * 33}", 1)'),
    "empty delimiter": ('Field(x, ",", 1)', 'Field(x, "", 1)'),
    "pattern": ('RemoveAll(x, "abcd")', 'RemoveAll(x, "abcde")'),
    "empty pattern": ('RemoveAll(x, "a")', 'RemoveAll(x, "")'),
    "character": ('PadLeft(x, 3, "0")', 'PadLeft(x, 3, "00")'),
    "no character": ('PadLeft(x, 3, "0")', 'PadLeft(x, 3, "")'),
    "index": ("SubStr(x, 9, -9)", "SubStr(x, 1, 10)"),
    "negative index": ("SubStr(x, -9, -1)", "SubStr(x, -10, -1)"),
    "zero index": ("SubStr(x, 1, 1)", "SubStr(x, 0, 1)"),
    "width": ('PadLeft(x, 32, "0")', 'PadLeft(x, 33, "0")'),
    "count": ("GetFirst(x, Word, 1)", "GetFirst(x, Word, 0)"),
    "negative count": ("GetFirst(x, Word, 1)", "GetFirst(x, Word, -1)"),
}


@pytest.mark.parametrize(("within", "beyond"), LIMITS.values(), ids=LIMITS.keys())
def test_limits(within: str, beyond: str) -> None:
    parse(within)
    with pytest.raises(ParseError):
        parse(beyond)


def test_wide_programs_have_the_nodes_they_say() -> None:
    assert len(list(walk(parse(wide(64))))) == 64
    assert depth(parse(nested(10))) == 10


X = Node("x")
TREES: dict[str, Any] = {
    "x": X,
    " x4\n": Node("x4"),
    'Const("")': Node("Const", ("",)),
    'Const("\\u0041\\/\\n\\"")': Node("Const", ('A/\n"',)),
    'Const("\\ud83d\\ude00")': Node("Const", ("\U0001f600",)),
    'Const("Word")': Node("Const", ("Word",)),
    "SubStr ( x ,-3,-1 )": Node("SubStr", (X, -3, -1)),
    "GetToken(x, Lower, 2)": Node("GetToken", (X, TokenClass.LOWER, 2)),
    "GetToken(Lower(x), Lower, 2)": Node("GetToken", (Node("Lower", (X,)), TokenClass.LOWER, 2)),
    'GetToken(x, "Wo", 2)': Node("GetToken", (X, "Wo", 2)),
    'GetSpan(x, "(", 1, end, Digit, -1, start)': Node(
        "GetSpan", (X, "(", 1, Side.END, TokenClass.DIGIT, -1, Side.START)
    ),
    'If(Equals(x, ""), x1, x2)': Node("If", (Node("Equals", (X, "")), Node("x1"), Node("x2"))),
    'MapJoin(x, Word, Lower(t), ", ")': Node(
        "MapJoin", (X, TokenClass.WORD, Node("Lower", (Node("t"),)), ", ")
    ),
}


@pytest.mark.parametrize("text", TREES)
def test_trees(text: str) -> None:
    assert parse(text) == TREES[text]


REFUSED = [
    "",
    " ",
    "y",
    "X",
    "x5",
    "x x",
    "x()",
    "x,",
    "(x)",
    "t",
    "Upper",
    "Upper()",
    "Upper(x",
    "Upper(x))",
    "Upper(x, x)",
    "Upper(t)",
    'Upper("a")',
    "upper(x)",
    "Contains(x, Word)",
    "Upper(Contains(x, Word))",
    "If(x, x, x)",
    "If(Upper(x), x, x)",
    "If(Contains(x, Word), Contains(x, Word), x)",
    'MapJoin(x, Word, x, "")',
    'MapJoin(t, Word, t, "")',
    'MapJoin(x, Word, MapJoin(t, Word, t, ""), "")',
    "GetToken(x, word, 1)",
    "GetToken(x, Words, 1)",
    "GetToken(x, start, 1)",
    "GetToken(x, Word, +1)",
    "GetToken(x, Word, 01)",
    "GetToken(x, Word, -0)",
    "GetToken(x, Word, - 1)",
    "GetToken(x, Word, 1.0)",
    "GetToken(x, Word, 1_0)",
    "GetToken(x, Word, ²)",
    "GetToken(x, Word, ١)",
    "GetSpan(x, Word, 1, Start, Word, 1, end)",
    "Const('a')",
    'Const("a" "b")',
    'Const("a',
    'Const("\\q")',
    'Const("\\u00")',
    'Const("\n")',
    'Const("\x00")',
    'Const("\\ud800")',
    'Const("\ud800")',
    'Const("\\udc00\\ud800")',
    "Const(1)",
    "Const(x)",
    "x\x00",
    "x\u00a0",
    "\ufeffx",
    "x # comment",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 1_000_000,
        "Upper(" * 330,
        "Upper(" * 1_000_000,
        "If(Contains(" * 160,
        "Concat(x, " * 200,
        "Concat(" + "x, " * 660,
        "-" * 2000,
        f"SubStr(x, {'9' * 1900}, 1)",
        f"SubStr(x, {'9' * 1_000_000}, 1)",
        f'Const("{"a" * 1900}")',
        'Const("' + "\\" * 1900,
        "A" * 2000,
        " " * 2000,
        "\ud800" * 2000,
        "\x00" * 2000,
    ],
    ids=lambda text: f"{text[:12]!a} x{len(text)}",
)
def test_adversarial_text_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


def test_message_says_where() -> None:
    with pytest.raises(ParseError, match=r"'Wrod' is none of Number, Word.*"):
        parse("GetToken(x, Wrod, 1)")
    with pytest.raises(ParseError, match=r"unexpected text at 1"):
        parse("x)")
