"""Arithmetic in several steps: `7*(3-8)+2=?`, a tree of sums, differences and products of small integers."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

from constellation.domains.equations.working import Working

LARGEST_OPERAND = 12
LARGEST_VALUE = 99  # of every step: what a step takes is a digit or two
_SIGNS = {"+": 1, "-": 1, "*": 2}  # the operators, and how tightly they bind
_OPERATORS: dict[type, str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


class Operation(NamedTuple):
    """`left operator right`; each side is an operation or an integer."""

    operator: str
    left: Any
    right: Any


Node = Operation | int


class Arithmetic(NamedTuple):
    """The question for the value of an expression."""

    tree: Node

    @classmethod
    def draw(cls, rng: random.Random, level: int) -> Arithmetic:
        """An expression of level + 1 operations, no step of which is beyond `LARGEST_VALUE`."""
        while True:
            drawn = cls(_draw(rng, level + 1))
            if all(abs(value) <= LARGEST_VALUE for value in _values(drawn.tree)):
                return drawn

    @classmethod
    def parse(cls, text: str) -> Arithmetic:
        """The inverse of `text`. Raises ValueError: it is no such question."""
        if not text.endswith("=?") or len(text) > 200:
            raise ValueError(f"not an expression and `=?`: {text[:40]!r}")
        try:
            return cls(_from_python(ast.parse(text[:-2], mode="eval").body))
        except (SyntaxError, RecursionError, MemoryError) as error:
            raise ValueError(f"not an expression: {text[:40]!r}") from error

    @property
    def text(self) -> str:
        return f"{_written(self.tree)}=?"

    @property
    def level(self) -> int:
        return max(sum(1 for _ in _values(self.tree)) - 1, 1)

    @property
    def kind(self) -> str:
        """What the report groups questions by."""
        return f"{self.level + 1} operations"

    @property
    def canonical(self) -> str:
        """Equal for expressions that differ in the order of summands and of factors alone."""
        return _canonical(self.tree)

    def solve(self, working: Working) -> Fraction:
        """The value, one operation after the other."""

        def value_of(node: Node) -> Fraction:
            if isinstance(node, int):
                return Fraction(node)
            return working.step(value_of(node.left), node.operator, value_of(node.right))

        return value_of(self.tree)


def _draw(rng: random.Random, operations: int) -> Node:
    if not operations:
        return rng.randint(1, LARGEST_OPERAND)
    left = rng.randrange(operations)
    return Operation(rng.choice("+-*"), _draw(rng, left), _draw(rng, operations - 1 - left))


def _values(node: Node) -> Iterator[int]:
    """The value of every operation; the last is that of the whole."""
    if isinstance(node, int):
        return
    yield from _values(node.left)
    yield from _values(node.right)
    yield _value(node)


def _value(node: Node) -> int:
    if isinstance(node, int):
        return node
    left, right = _value(node.left), _value(node.right)
    return {"+": left + right, "-": left - right, "*": left * right}[node.operator]


def _written(node: Node) -> str:
    """With no more parentheses than it takes to read the same tree again."""
    if isinstance(node, int):
        return str(node)
    left, right = _written(node.left), _written(node.right)
    binds = _SIGNS[node.operator]
    if isinstance(node.left, Operation) and _SIGNS[node.left.operator] < binds:
        left = f"({left})"
    if isinstance(node.right, Operation) and _SIGNS[node.right.operator] <= binds:
        right = f"({right})"
    return f"{left}{node.operator}{right}"


def _from_python(node: ast.expr) -> Node:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return Operation(_OPERATORS[type(node.op)], _from_python(node.left), _from_python(node.right))
    raise ValueError("not an expression of +, -, * and integers")


def _canonical(node: Node) -> str:
    if isinstance(node, int):
        return str(node)
    if node.operator == "*":
        return f"({'*'.join(sorted(_factors(node)))})"
    return f"({''.join(sorted(_summands(node, 1)))})"


def _factors(node: Node) -> Iterator[str]:
    if isinstance(node, Operation) and node.operator == "*":
        yield from _factors(node.left)
        yield from _factors(node.right)
    else:
        yield _canonical(node)


def _summands(node: Node, sign: int) -> Iterator[str]:
    if isinstance(node, Operation) and node.operator != "*":
        yield from _summands(node.left, sign)
        yield from _summands(node.right, sign if node.operator == "+" else -sign)
    else:
        yield f"{'+' if sign > 0 else '-'}{_canonical(node)}"
