"""The interpreter: operators by example, bounds on any tree, and strict mode against a raising one."""

from __future__ import annotations

import re
import sys
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.domains.trapdoor.language import Node, Side, TokenClass, evaluate, interpreter, parse
from constellation.domains.trapdoor.language.syntax import (
    MAX_DEPTH,
    MAX_INDEX,
    MAX_STEPS,
    MAX_STRING,
    SIGNATURES,
    VARIABLES,
    concat,
    walk,
)
from constellation.domains.trapdoor.language.tokens import cached_matches
from tests.domains.trapdoor.language.strategies import inputs as any_inputs
from tests.domains.trapdoor.language.strategies import malformed, programs

X = "Ada B. LOVELACE, tel 020-7946 0018"
SHORT = "a1b22"

# program, first input, value, faults: every value worked out by hand
EXAMPLES = [
    ("x", X, X, 0),
    ("x1", X, X, 0),
    ("x2", X, "", 1),
    ('Const("ab")', X, "ab", 0),
    ('Concat(x, Const("-"), x)', SHORT, "a1b22-a1b22", 0),
    # extraction
    ("GetToken(x, Word, 1)", X, "Ada", 0),
    ("GetToken(x, Word, -1)", X, "tel", 0),
    ("GetToken(x, Number, -2)", X, "7946", 0),
    ("GetToken(x, AllCaps, 2)", X, "B", 0),
    ('GetToken(x, ", ", 1)', X, ", ", 0),
    ("GetToken(x, Number, 4)", X, "", 1),
    ("GetToken(x, Number, -4)", X, "", 1),
    ("GetToken(x, Number, 3)", X, "0018", 0),
    ("GetToken(x, Number, -3)", X, "020", 0),
    ("GetSpan(x, Word, 1, start, Word, 2, end)", X, "Ada B", 0),
    ("GetSpan(x, Word, 1, end, Word, 2, start)", X, " ", 0),
    ('GetSpan(x, ".", 1, end, ",", 1, start)', X, " LOVELACE", 0),
    ('GetSpan(x, "-", 1, start, "-", 1, start)', X, "", 0),
    ('GetSpan(x, "-", 1, end, "-", 1, start)', X, "", 1),
    ('GetSpan(x, "#", 1, end, "-", 1, start)', X, "", 1),
    ('GetSpan(x, "#", 1, end, "#", 1, start)', X, "", 2),
    ("SubStr(x, 1, 1)", SHORT, "a", 0),
    ("SubStr(x, 2, 4)", SHORT, "1b2", 0),
    ("SubStr(x, -3, -2)", SHORT, "b2", 0),
    ("SubStr(x, 2, -1)", SHORT, "1b22", 0),
    ("SubStr(x, 1, 5)", SHORT, "a1b22", 0),
    ("SubStr(x, 1, 6)", SHORT, "", 1),
    ("SubStr(x, -6, 1)", SHORT, "", 1),
    ("SubStr(x, 3, 2)", SHORT, "", 1),
    ("SubStr(x, 1, -5)", SHORT, "a", 0),
    ("SubStr(x, 1, -6)", SHORT, "", 1),
    ("SubStr(x, 1, 1)", "", "", 1),
    ("GetUpto(x, Number, 1)", SHORT, "a1", 0),
    ("GetUpto(x, Number, -1)", SHORT, "a1b22", 0),
    ("GetUpto(x, Space, 1)", SHORT, "", 1),
    ("GetFrom(x, Number, 1)", SHORT, "b22", 0),
    ('GetFrom(x, ", ", 1)', X, "tel 020-7946 0018", 0),
    ("GetFrom(x, Number, 2)", SHORT, "", 0),
    ("GetFrom(x, Number, 3)", SHORT, "", 1),
    ("Before(x, Number, 2)", SHORT, "a1b", 0),
    ("Before(x, Word, 1)", SHORT, "", 0),
    ("Before(x, Word, 3)", SHORT, "", 1),
    ('Field(x, ",", 1)', "a,,c", "a", 0),
    ('Field(x, ",", 2)', "a,,c", "", 0),
    ('Field(x, ",", -1)', "a,,c", "c", 0),
    ('Field(x, ",", 3)', "a,,c", "c", 0),
    ('Field(x, ",", 4)', "a,,c", "", 1),
    ('Field(x, ",", -4)', "a,,c", "", 1),
    ('Field(x, " and ", 2)', "you and me", "me", 0),
    ('Field(x, "-", 1)', "abc", "abc", 0),
    # case and space
    ("Upper(x)", SHORT, "A1B22", 0),
    ("Lower(x)", "ÀB", "àb", 0),
    ("Upper(x)", "straße", "STRASSE", 0),
    ("Capitalize(x)", "aDA LOVELACE", "Ada lovelace", 0),
    ("Capitalize(x)", "", "", 0),
    ("Title(x)", "aDA LOVE-lace 3rd", "Ada Love-Lace 3Rd", 0),
    ("Title(x)", "müller, josé", "Müller, José", 0),
    ("Trim(x)", " \t a b\r\n", "a b", 0),
    ("Trim(x)", "\u00a0a\u00a0", "\u00a0a\u00a0", 0),
    # modification
    ('Replace(x, "2", "zz")', SHORT, "a1bzzzz", 0),
    ('Replace(x, "q", "z")', SHORT, "a1b22", 0),
    ('Replace(x, "you and", "")', "you and me", " me", 0),
    ('Substitute(x, Number, 2, "#")', SHORT, "a1b#", 0),
    ('Substitute(x, Number, -2, "")', SHORT, "ab22", 0),
    ('Substitute(x, Number, 3, "#")', SHORT, "a1b22", 1),
    ('SubstituteAll(x, Number, "#")', SHORT, "a#b#", 0),
    ('SubstituteAll(x, Digit, "#")', SHORT, "a#b##", 0),
    ('SubstituteAll(x, Space, "#")', SHORT, "a1b22", 0),
    ('SubstituteAll(x, "22", "1")', SHORT, "a1b1", 0),
    ("Remove(x, Letter, 2)", SHORT, "a122", 0),
    ("Remove(x, Letter, 3)", SHORT, "a1b22", 1),
    ("RemoveAll(x, Digit)", SHORT, "ab", 0),
    ("RemoveAll(x, Space)", SHORT, "a1b22", 0),
    ('GetAll(x, Number, "-")', X, "020-7946-0018", 0),
    ('GetAll(x, Number, "-")', "none", "", 0),
    ("GetFirst(x, AllCaps, 2)", X, "AB", 0),
    ("GetFirst(x, Digit, 4)", SHORT, "122", 1),
    ('PadLeft(x, 7, "0")', SHORT, "00a1b22", 0),
    ('PadLeft(x, 3, "0")', SHORT, "a1b22", 0),
    ('PadRight(x, 6, ".")', SHORT, "a1b22.", 0),
    ('StripLeft(x, "1a")', SHORT, "b22", 0),
    ('StripLeft(x, "2")', SHORT, "a1b22", 0),
    ('StripRight(x, "2b")', SHORT, "a1", 0),
    ('MapJoin(x, Word, SubStr(t, 1, 1), ".")', X, "A.B.L.t", 0),
    ('MapJoin(x, ",", Upper(t), ";")', "a,,c", "A;;C", 0),
    ('MapJoin(x, Number, SubStr(t, 2, 2), "")', SHORT, "2", 1),
    ('MapJoin(x, Space, t, "")', SHORT, "", 0),
    ("Count(x, Number)", X, "3", 0),
    ("Count(x, Space)", SHORT, "0", 0),
    ("Len(x)", SHORT, "5", 0),
    # conditions: only the chosen branch runs
    ('If(Contains(x, Digit), Const("y"), SubStr(x, 9, 9))', SHORT, "y", 0),
    ('If(Contains(x, Space), Const("y"), SubStr(x, 9, 9))', SHORT, "", 1),
    ('If(Contains(GetToken(x, Space, 1), Word), Const("y"), Const("n"))', SHORT, "n", 1),
]
# the same shape for predicates: predicate, input, truth
TRUTHS = [
    ("Contains(x, Number)", SHORT, True),
    ("Contains(x, Space)", SHORT, False),
    ('Contains(x, "b2")', SHORT, True),
    ("StartsWith(x, Lower)", SHORT, True),
    ("StartsWith(x, Number)", SHORT, False),
    ('StartsWith(x, "a1")', SHORT, True),
    ('StartsWith(x, "1")', SHORT, False),
    ("EndsWith(x, Number)", SHORT, True),
    ("EndsWith(x, Letter)", SHORT, False),
    ('EndsWith(x, "2")', SHORT, True),
    ('EndsWith(x, "aa")', "aaa", True),
    ('EndsWith(x, "b")', SHORT, False),
    ('Equals(x, "a1b22")', SHORT, True),
    ('Equals(x, "a1b2")', SHORT, False),
    ("CountAtLeast(x, Digit, 3)", SHORT, True),
    ("CountAtLeast(x, Digit, 4)", SHORT, False),
    ("LenAtLeast(x, 5)", SHORT, True),
    ("LenAtLeast(x, 6)", SHORT, False),
    ("EndsWith(x, Word)", "", False),
]


@pytest.mark.parametrize(("program", "text", "value", "faults"), EXAMPLES)
def test_operators_by_example(program: str, text: str, value: str, faults: int) -> None:
    assert evaluate(parse(program), (text,))[:2] == (value, faults)


@pytest.mark.parametrize(("predicate", "text", "truth"), TRUTHS)
def test_predicates_by_example(predicate: str, text: str, truth: bool) -> None:
    program = parse(f'If({predicate}, Const("y"), Const("n"))')
    assert evaluate(program, (text,))[:2] == ("y" if truth else "n", 0)


def test_every_operator_has_an_example() -> None:
    trees = [parse(example[0]) for example in EXAMPLES]
    trees += [parse(f"If({example[0]}, x, x)") for example in TRUTHS]
    assert {node.op for tree in trees for node in walk(tree)} >= set(SIGNATURES)


def test_several_inputs() -> None:
    program = parse("Concat(x4, x3, x2, x1, x)")
    assert evaluate(program, ("a", "b", "c", "d"))[:2] == ("dcbaa", 0)
    assert evaluate(program, ("a", "b"))[:2] == ("baa", 2)
    assert evaluate(program, ())[:2] == ("", 5)


def test_steps_count_the_nodes_that_run() -> None:
    assert evaluate(parse("Upper(x)"), ("a",)).steps == 2
    assert evaluate(parse('If(Contains(x, "a"), x, Concat(x, x))'), ("a",)).steps == 4
    assert evaluate(parse('MapJoin(x, Word, Upper(t), "")'), ("a b c",)).steps == 2 + 3 * 2


# bounds


def check_bounds(program: Any, inputs: Any) -> None:
    result = evaluate(program, inputs)
    assert type(result.value) is str
    assert len(result.value) <= MAX_STRING
    assert result.faults >= 0
    assert 0 <= result.steps <= MAX_STEPS
    cached_matches.cache_clear()
    assert evaluate(program, inputs) == result


@given(programs(), any_inputs)
def test_any_program_on_any_inputs_is_bounded_and_deterministic(
    program: Node, inputs: tuple[str, ...]
) -> None:
    check_bounds(program, inputs)


@given(malformed, any_inputs | st.just(()) | st.tuples(st.none() | st.integers() | st.binary()))
def test_any_tree_on_any_inputs_is_bounded_and_deterministic(tree: Any, inputs: Any) -> None:
    check_bounds(tree, inputs)


@given(programs(), any_inputs)
def test_no_exception_is_swallowed_on_a_program_that_parses(program: Node, inputs: tuple[str, ...]) -> None:
    def fault(run: Any, value: Any = "") -> Any:
        assert sys.exc_info() == (None, None, None)
        run.faults += 1
        return value

    with mock.patch.object(interpreter._Run, "fault", fault):
        evaluate(program, inputs)


ALPHABET = "ab " * 341
BLOWUPS = {
    "concat": "Concat(" * 9 + "x" + ", x, x, x, x)" * 9,
    "map of concats": 'MapJoin(x, " ", Concat(t, t, t, t, t, t, t, t), "' + "-" * 32 + '")',
    "map of maps": 'MapJoin(MapJoin(MapJoin(x, Char, Concat(t, t), ""), Char, t, ""), Char, t, "")',
    "substitute": "SubstituteAll(" * 9 + "x" + f', Char, "{"a" * 32}")' * 9,
    "replace": "Replace(" * 9 + "x" + f', "a", "{"a" * 32}")' * 9,
    "get all": "GetAll(" * 9 + "x" + f', Char, "{"a" * 32}")' * 9,
    "upper": "Upper(" * 9 + "x" + ")" * 9,
}


@pytest.mark.parametrize("name", BLOWUPS)
@pytest.mark.parametrize("text", [ALPHABET, "\u0390" * 1024, "a" * 100_000, "\x00\ud800"], ids=ascii)
def test_blow_ups_are_cut(name: str, text: str) -> None:
    check_bounds(parse(BLOWUPS[name]), (text,))


def test_a_cut_is_a_fault() -> None:
    assert evaluate(Node("x"), ("a" * 1024,))[:2] == ("a" * 1024, 0)
    assert evaluate(Node("x"), ("a" * 1025,))[:2] == ("a" * 1024, 1)
    assert evaluate(parse("Concat(x, x)"), ("a" * 513,))[:2] == ("a" * 1024, 1)
    assert evaluate(parse("Upper(x)"), ("\u0390" * 1000,)).faults == 1  # one character becomes three


def test_the_step_budget_is_a_fault() -> None:
    program = parse('MapJoin(x, " ", Concat(t, t, t, t, t, t, t, t), "")')
    within, beyond = evaluate(program, ("a " * 400,)), evaluate(program, ("a " * 500,))
    assert within == ("a" * 1024, 1, 2 + 9 * 401)  # the text is cut, the steps are not
    assert beyond.steps == MAX_STEPS
    assert beyond.faults > 1
    quiet = parse('MapJoin(x, " ", SubStr(Concat(t, t, t, t, t, t, t), 1, 1), "")')
    assert evaluate(quiet, ("a " * 453 + "a",)) == ("a" * 454, 0, 2 + 9 * 454)
    assert evaluate(quiet, ("a " * 454 + "a",)) == (
        "a" * 455,
        1,
        MAX_STEPS,
    )  # one t of the last seven is missing


def test_what_lies_deeper_than_the_limit_is_a_fault() -> None:
    deepest = Node("x")
    for _ in range(MAX_DEPTH - 1):
        deepest = Node("Upper", (deepest,))
    assert evaluate(deepest, ("ab",)) == ("AB", 0, MAX_DEPTH)
    assert evaluate(Node("Upper", (deepest,)), ("ab",)) == ("", 1, MAX_DEPTH)


def test_shared_and_deep_trees_that_no_parser_made() -> None:
    shared = Node("x")
    for _ in range(60):
        shared = Node("Concat", (shared,) * 8)
    check_bounds(shared, ("ab",))
    deep = Node("x")
    for _ in range(100_000):
        deep = Node("Upper", (deep,))
    assert evaluate(deep, ("ab",))[:2] == ("", 1)


@pytest.mark.parametrize(
    "tree",
    [
        None,
        7,
        "x",
        Node("Eval", (Node("x"),)),
        Node("Upper"),
        Node("Upper", (Node("x"), Node("x"))),
        Node("Upper", (None,)),
        Node("Const", (1,)),
        Node("t"),
        Node("Contains", (Node("x"), "a")),
        Node("If", (Node("x"), Node("x"), Node("x"))),
        Node("SubStr", (Node("x"), 0, 1)),
        Node("SubStr", (Node("x"), 1, 10**30)),
        Node("SubStr", (Node("x"), "1", "1")),
        Node("GetToken", (Node("x"), TokenClass.CHAR, 0)),
        Node("GetToken", (Node("x"), TokenClass.CHAR, 10**30)),
        Node("GetToken", (Node("x"), ["a"], 1)),
        Node("Field", (Node("x"), "", 1)),
        Node("Field", (Node("x"), "b", 0)),
        Node("Replace", (Node("x"), "", "z")),
        Node("PadLeft", (Node("x"), 10**30, "0")),
        Node("PadRight", (Node("x"), 5, "00")),
        Node("MapJoin", (Node("x"), TokenClass.CHAR, Node("t"), 3)),
        Node("MapJoin", (Node("x"), TokenClass.CHAR, Node("MapJoin", (Node("t"), "a", Node("t"), "")), "")),
    ],
    ids=ascii,
)
def test_what_a_malformed_tree_cannot_do_is_a_fault(tree: Any) -> None:
    assert evaluate(tree, ("abc",)).faults > 0


# laws that tie the operators together

patterns = st.sampled_from(TokenClass) | st.text("a -,", min_size=1, max_size=3)
indices = st.integers(1, MAX_INDEX).flatmap(lambda i: st.sampled_from([i, -i]))
texts = st.text(st.sampled_from("aB1 -,.é"), max_size=60)


def run(op: str, text: str, *args: Any) -> tuple[str, int]:
    return evaluate(Node(op, (Node("x"), *args)), (text,))[:2]


@given(texts, patterns, indices)
def test_extractions_around_a_match_tile_the_text(text: str, pattern: Any, index: int) -> None:
    before, token, upto, after = (
        run(op, text, pattern, index) for op in ("Before", "GetToken", "GetUpto", "GetFrom")
    )
    assert before[1] == token[1] == upto[1] == after[1]
    assert upto[0] == before[0] + token[0]
    if not token[1]:
        assert upto[0] + after[0] == text
        assert run("Remove", text, pattern, index) == (before[0] + after[0], 0)
        assert run("Substitute", text, pattern, index, "##") == (before[0] + "##" + after[0], 0)
        assert run("GetSpan", text, pattern, index, Side.START, pattern, index, Side.END) == token
    else:
        assert (upto[0], after[0]) == ("", "")
        assert (
            run("Remove", text, pattern, index) == run("Substitute", text, pattern, index, "##") == (text, 1)
        )


@given(texts, st.text("aB -,", min_size=1, max_size=3), st.text("z", max_size=2))
def test_literal_patterns_agree_with_str(text: str, literal: str, new: str) -> None:
    assert run("SubstituteAll", text, literal, new) == run("Replace", text, literal, new)
    assert run("SubstituteAll", text, literal, new) == (text.replace(literal, new), 0)
    assert run("RemoveAll", text, literal) == (text.replace(literal, ""), 0)
    assert run("Count", text, literal) == (str(text.count(literal)), 0)
    assert run("MapJoin", text, literal, Node("t"), literal) == (text, 0)
    assert [run("Field", text, literal, i + 1)[0] for i in range(9)] == (text.split(literal) + [""] * 9)[:9]


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_case_changes_agree_with_str_on_ascii(text: str) -> None:
    assert run("Title", text) == (text.title(), 0)
    assert run("Capitalize", text) == (text.capitalize(), 0)
    assert run("Upper", text) == (text.upper(), 0)
    assert run("Lower", text) == (text.lower(), 0)


# strict mode: on paper A's atom subset, faults are exactly where an interpreter that raises would raise


class OutOfRange(Exception):
    pass


REFERENCE_PATTERNS = {
    TokenClass.WORD: "[a-zA-Z]+",
    TokenClass.NUMBER: "[0-9]+",
    TokenClass.ALL_CAPS: "[A-Z]+",
}


def reference(atom: Node, text: str) -> str:
    """An atom interpreter that raises on an out-of-range position, written from the paper's description."""

    def position(count: int, index: int) -> int:
        if not 1 <= abs(index) <= count:
            raise OutOfRange
        return index - 1 if index > 0 else count + index

    def token(pattern: TokenClass, index: int) -> re.Match[str]:
        found = list(re.finditer(REFERENCE_PATTERNS[pattern], text))
        return found[position(len(found), index)]

    match atom.op, atom.args:
        case "Const", (literal,):
            return str(literal)
        case "SubStr", (_, i, j):
            start, stop = position(len(text), i), position(len(text), j)
            if start > stop:
                raise OutOfRange
            return text[start : stop + 1]
        case "GetToken", (_, pattern, i):
            return token(pattern, i).group()
        case "GetSpan", (_, first, i, side, last, j, other):
            start = token(first, i).start() if side is Side.START else token(first, i).end()
            stop = token(last, j).start() if other is Side.START else token(last, j).end()
            if start > stop:
                raise OutOfRange
            return text[start:stop]
        case ("Upper" | "Lower") as case, (inner,):
            return getattr(reference(inner, text), case.lower())()
    raise AssertionError(atom)


classes = st.sampled_from(list(REFERENCE_PATTERNS))
small = st.integers(1, 4).flatmap(lambda i: st.sampled_from([i, -i]))
plain_atoms = st.one_of(
    st.builds(lambda literal: Node("Const", (literal,)), st.text("-. ", max_size=2)),
    st.builds(lambda i, j: Node("SubStr", (Node("x"), i, j)), small, small),
    st.builds(lambda r, i: Node("GetToken", (Node("x"), r, i)), classes, small),
    st.builds(
        lambda *args: Node("GetSpan", (Node("x"), *args)),
        classes, small, st.sampled_from(Side), classes, small, st.sampled_from(Side),
    ),
)  # fmt: skip
atoms = plain_atoms | st.builds(
    lambda op, atom: Node(op, (atom,)), st.sampled_from(["Upper", "Lower"]), plain_atoms
)


@given(st.lists(atoms, min_size=1, max_size=4), st.text(st.sampled_from("abAB12- ."), max_size=20))
def test_strict_mode_fails_where_the_paper_raises(parts: list[Node], text: str) -> None:
    value, faults, _ = evaluate(concat(*parts), (text,))
    try:
        expected = "".join(reference(atom, text) for atom in parts)
    except OutOfRange:
        assert faults > 0
    else:
        assert (value, faults) == (expected, 0)


def test_variables_are_the_four_inputs() -> None:
    assert VARIABLES == ("x", "x1", "x2", "x3", "x4")
