"""The syntax tree, the operators' signatures and the limits every program keeps.

A program is a `Node(op, args)`. The kind of every argument is fixed by `SIGNATURES`, which parser, printer
and the random generators all read: an operator is added here and in the interpreter, nowhere else.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

MAX_TEXT = 2000  # characters of a program's text
MAX_NODES = 64
MAX_DEPTH = 10
MAX_LITERAL = 32  # characters of a string literal
MAX_PATTERN = 4  # characters of a literal used as a pattern
MAX_STRING = 1024  # characters of an intermediate string; longer ones are cut, which is a fault
MAX_MATCHES = 256  # tokens a scan returns; a scan sees nothing of the text behind the last of them
MAX_STEPS = 4096  # steps of one evaluation
MAX_INDEX = 9  # indices run over +-1..+-9
MAX_PARTS = 8  # arguments of Concat
MAX_WIDTH = 32  # target width of a padding


class TokenClass(enum.Enum):
    """A named character run; `tokens.PATTERNS` says which."""

    NUMBER = "Number"
    WORD = "Word"
    ALPHANUM = "Alphanum"
    ALL_CAPS = "AllCaps"
    PROP_CASE = "PropCase"
    LOWER = "Lower"
    DIGIT = "Digit"
    CHAR = "Char"
    SPACE = "Space"
    NON_SPACE = "NonSpace"
    DECIMAL = "Decimal"
    LETTER = "Letter"


class Side(enum.Enum):
    """Which edge of a match a position refers to."""

    START = "start"
    END = "end"


class Kind(enum.Enum):
    """The kinds of argument an operator takes."""

    STRING = "S"  # a sub-program that evaluates to a string
    PREDICATE = "B"  # a sub-program that evaluates to a truth value
    TEMPLATE = "T"  # a sub-program over the variable t
    PATTERN = "R"  # a token class or a literal of 1..MAX_PATTERN characters
    INDEX = "i"  # +-1..+-MAX_INDEX, 1-based, negative from the end
    COUNT = "n"  # 1..MAX_WIDTH
    LITERAL = "str"  # 0..MAX_LITERAL characters
    DELIMITER = "delimiter"  # 1..MAX_LITERAL characters
    CHARACTER = "ch"  # exactly one character
    SIDE = "b"


class Node(NamedTuple):
    """An operator applied to its arguments: nodes, token classes, sides, ints or strings."""

    op: str
    args: tuple[Any, ...] = ()


_S, _B, _T, _R = Kind.STRING, Kind.PREDICATE, Kind.TEMPLATE, Kind.PATTERN
_I, _N, _L, _D, _C, _E = Kind.INDEX, Kind.COUNT, Kind.LITERAL, Kind.DELIMITER, Kind.CHARACTER, Kind.SIDE

VARIABLES = ("x", "x1", "x2", "x3", "x4")
MAP_VARIABLE = "t"

# Concat is the one variadic operator: 2..MAX_PARTS sub-programs.
SIGNATURES: dict[str, tuple[Kind, ...]] = {
    "Const": (_L,),
    "Concat": (_S,),
    # extraction
    "GetToken": (_S, _R, _I),
    "GetSpan": (_S, _R, _I, _E, _R, _I, _E),
    "SubStr": (_S, _I, _I),
    "GetUpto": (_S, _R, _I),
    "GetFrom": (_S, _R, _I),
    "Before": (_S, _R, _I),
    "Field": (_S, _D, _I),
    # case and space
    "Upper": (_S,),
    "Lower": (_S,),
    "Capitalize": (_S,),
    "Title": (_S,),
    "Trim": (_S,),
    # modification
    "Replace": (_S, _D, _L),
    "Substitute": (_S, _R, _I, _L),
    "SubstituteAll": (_S, _R, _L),
    "Remove": (_S, _R, _I),
    "RemoveAll": (_S, _R),
    "GetAll": (_S, _R, _L),
    "GetFirst": (_S, _R, _N),
    "PadLeft": (_S, _N, _C),
    "PadRight": (_S, _N, _C),
    "StripLeft": (_S, _D),
    "StripRight": (_S, _D),
    "MapJoin": (_S, _R, _T, _L),
    "Count": (_S, _R),
    "Len": (_S,),
    "If": (_B, _S, _S),
    # predicates
    "Contains": (_S, _R),
    "StartsWith": (_S, _R),
    "EndsWith": (_S, _R),
    "Equals": (_S, _L),
    "CountAtLeast": (_S, _R, _N),
    "LenAtLeast": (_S, _N),
}
PREDICATES = frozenset({"Contains", "StartsWith", "EndsWith", "Equals", "CountAtLeast", "LenAtLeast"})
CASES = ("Upper", "Lower", "Capitalize", "Title")


def concat(*parts: Node) -> Node:
    """Concat of the parts, or the part itself when there is only one."""
    return parts[0] if len(parts) == 1 else Node("Concat", tuple(parts))


def parts_of(program: Node) -> tuple[Node, ...]:
    """The parts a program concatenates; a program without Concat is one part."""
    return program.args if program.op == "Concat" else (program,)


def walk(node: Node) -> Iterator[Node]:
    """Every node of the tree, parents first."""
    stack = [node]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(arg for arg in reversed(current.args) if isinstance(arg, Node))


def depth(node: Node) -> int:
    """Levels of nodes; a leaf has one."""
    deepest, stack = 0, [(node, 1)]
    while stack:
        current, level = stack.pop()
        deepest = max(deepest, level)
        stack.extend((arg, level + 1) for arg in current.args if isinstance(arg, Node))
    return deepest


def skeleton(node: Node) -> str:
    """The tree's shape with constants, patterns and indices abstracted away: `Concat(SubStr(x),Const)`.

    Results are reported by whether a task's skeleton occurred in training.
    """
    children = [skeleton(arg) for arg in node.args if isinstance(arg, Node)]
    return node.op + (f"({','.join(children)})" if children else "")


def to_text(node: Node) -> str:
    """The program's one canonical spelling, so that equal texts are equal trees; `parse` is its inverse."""
    if node.op in VARIABLES or node.op == MAP_VARIABLE:
        return node.op
    return f"{node.op}({', '.join(_argument(arg) for arg in node.args)})"


def _argument(arg: Any) -> str:
    if isinstance(arg, Node):
        return to_text(arg)
    if isinstance(arg, TokenClass | Side):
        return arg.value
    if isinstance(arg, int):
        return str(arg)
    return json.dumps(arg, ensure_ascii=False)
