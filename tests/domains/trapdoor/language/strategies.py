"""Hypothesis strategies: every well-typed program within the limits, and trees that no parser made."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from constellation.domains.trapdoor.language import Node, Side, TokenClass, to_text
from constellation.domains.trapdoor.language.syntax import (
    MAX_DEPTH,
    MAX_INDEX,
    MAX_LITERAL,
    MAX_NODES,
    MAX_PARTS,
    MAX_PATTERN,
    MAX_TEXT,
    MAX_WIDTH,
    PREDICATES,
    SIGNATURES,
    VARIABLES,
    Kind,
)

CHILD_KINDS = (Kind.STRING, Kind.PREDICATE, Kind.TEMPLATE)

# Half of all characters are ones that programs, JSON strings or token classes treat specially.
_character = st.sampled_from('aZq09 .,-:/"\\\n\t\x00\x7f()[]_é') | st.characters(exclude_categories=["Cs"])
_pattern_literal = st.text(_character, min_size=1, max_size=MAX_PATTERN)

ARGUMENTS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.PATTERN: st.sampled_from(TokenClass) | _pattern_literal,
    Kind.INDEX: st.integers(1, MAX_INDEX).flatmap(lambda i: st.sampled_from([i, -i])),
    Kind.COUNT: st.integers(1, MAX_WIDTH),
    Kind.LITERAL: st.text(_character, max_size=MAX_LITERAL),
    Kind.DELIMITER: st.text(_character, min_size=1, max_size=MAX_LITERAL),
    Kind.CHARACTER: _character,
    Kind.SIDE: st.sampled_from(Side),
}

# What tasks look like: words, numbers and separators; and now and then anything at all.
inputs = st.lists(
    st.lists(
        st.sampled_from(
            ["Ada", "LOVELACE", "byron", "12", "3.50", " ", "  ", "-", ", ", "a1", "/", "é", "\n"]
        )
        | st.text(_character, max_size=3),
        max_size=12,
    ).map("".join)
    | st.text(max_size=1500),
    min_size=1,
    max_size=4,
).map(tuple)


def _children(op: str) -> list[Kind]:
    return [kind for kind in SIGNATURES[op] if kind in CHILD_KINDS]


def _smallest(kind: Kind) -> int:
    """Nodes, and levels too, of the smallest sub-program of a kind: a predicate needs a string under it."""
    return 2 if kind is Kind.PREDICATE else 1


def _fits(op: str, size: int, levels: int) -> bool:
    children = _children(op) + ([Kind.STRING] if op == "Concat" else [])
    nodes_needed = 1 + sum(map(_smallest, children))
    levels_needed = 1 + max(map(_smallest, children), default=0)
    return nodes_needed <= size and levels_needed <= levels


@st.composite
def programs(
    draw: st.DrawFn, max_nodes: int = MAX_NODES, max_depth: int = MAX_DEPTH, max_text: int = MAX_TEXT
) -> Node:
    """A well-typed program within every limit."""

    def tree(kind: Kind, size: int, levels: int, in_template: bool) -> Node:
        if kind is Kind.PREDICATE:
            choices = sorted(op for op in PREDICATES if _fits(op, size, levels))
        else:
            choices = ["t"] if in_template else list(VARIABLES)
            choices += [
                op
                for op in SIGNATURES
                if op not in PREDICATES
                and _fits(op, size, levels)
                and not (in_template and op == "MapJoin")
                and (op != "Const" or draw(st.booleans()))
            ]
            if size > 1 and levels > 1 and draw(st.integers(0, 9)):
                choices = [op for op in choices if op in SIGNATURES and _children(op)]
            if size > 2 * levels > 4:  # more than a chain of one operator on another can hold
                choices += ["Concat"] * len(choices)
        op = draw(st.sampled_from(choices))
        if op not in SIGNATURES:
            return Node(op)
        signature = SIGNATURES[op]
        if op == "Concat":
            signature = (Kind.STRING,) * draw(st.integers(2, min(MAX_PARTS, size - 1)))
        kinds = [kind for kind in signature if kind in CHILD_KINDS]
        spare = size - 1 - sum(map(_smallest, kinds))
        args = []
        for wanted in signature:
            if wanted not in CHILD_KINDS:
                args.append(draw(ARGUMENTS[wanted]))
                continue
            kinds.pop()
            extra = draw(st.integers(0, spare)) if kinds else spare  # the last one takes what is left
            spare -= extra
            args.append(
                tree(wanted, _smallest(wanted) + extra, levels - 1, in_template or wanted is Kind.TEMPLATE)
            )
        return Node(op, tuple(args))

    size, levels = draw(st.integers(1, max_nodes)), draw(st.integers(1, max_depth))
    program = tree(Kind.STRING, size, levels, in_template=False)
    # many long literals can exceed the text limit though every other one is kept
    while len(to_text(program)) > max_text:
        program = next(arg for arg in program.args if isinstance(arg, Node))
        if program.op in PREDICATES:
            program = program.args[0]
    return program


_junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 10**30, -(10**30), 2**63]),
    st.floats(),
    st.binary(max_size=4),
    st.text(st.characters(), max_size=40),
    st.lists(st.integers(), max_size=3),
    st.sampled_from(TokenClass),
    st.sampled_from(Side),
)
_operators = (
    st.sampled_from([*SIGNATURES, *VARIABLES, "t", "Eval", "x9", "xx", ""]) | st.none() | st.integers()
)

malformed = st.recursive(
    _junk | st.sampled_from(VARIABLES).map(Node),
    lambda children: st.builds(Node, _operators, st.lists(children | _junk, max_size=9).map(tuple)),
    max_leaves=60,
)


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    """A program's text with a few slices cut, doubled, swapped for junk: almost programs."""
    text = to_text(draw(programs(max_nodes=12)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 6)))
        middle = draw(
            st.sampled_from(
                ["", text[start:stop] * 2, "(", ")", ",", '"', "\\", "x", "t", "-0", "10", "Word"]
            )
            | st.text(st.characters(), max_size=3)
        )
        text = text[:start] + middle + text[stop:]
    return text
