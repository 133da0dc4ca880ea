"""Text to programs: recursive descent with every limit applied while parsing.

Python's own `eval` and `ast` crash on adversarial nesting; this parser never recurses past `MAX_DEPTH`.
"""

from __future__ import annotations

import json
import re
from typing import Any

from constellation.domains.trapdoor.language import syntax
from constellation.domains.trapdoor.language.syntax import Kind, Node, Side, TokenClass

_JSON = json.JSONDecoder()
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}")
_INTEGER = re.compile(r"-?[0-9]{1,3}(?![0-9])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACES = frozenset(" \t\r\n")
_CLASSES = {member.value: member for member in TokenClass}
_SIDES = {member.value: member for member in Side}
_STRING_LENGTHS = {
    Kind.LITERAL: (0, syntax.MAX_LITERAL),
    Kind.DELIMITER: (1, syntax.MAX_LITERAL),
    Kind.CHARACTER: (1, 1),
}


class ParseError(ValueError):
    """The text is not a program; the message says where and why."""


def parse(text: str) -> Node:
    """The program that `text` spells; white space between lexemes is free.

    Raises ParseError: on anything that is not a program within the limits of `syntax`.
    """
    if len(text) > syntax.MAX_TEXT:
        raise ParseError(f"longer than {syntax.MAX_TEXT} characters")
    parser = _Parser(text)
    program = parser.node(Kind.STRING, level=1, in_template=False)
    parser.skip_space()
    if parser.at != len(text):
        raise ParseError(f"unexpected text at {parser.at}")
    return program


class _Parser:
    def __init__(self, text: str):
        self.text, self.at, self.nodes = text, 0, 0

    def skip_space(self) -> None:
        while self.text[self.at : self.at + 1] in _SPACES:
            self.at += 1

    def expect(self, symbol: str) -> None:
        self.skip_space()
        if not self.text.startswith(symbol, self.at):
            raise ParseError(f"expected {symbol!r} at {self.at}")
        self.at += len(symbol)

    def name(self) -> str:
        self.skip_space()
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise ParseError(f"expected a name at {self.at}")
        self.at = match.end()
        return match.group()

    def node(self, kind: Kind, level: int, in_template: bool) -> Node:
        self.nodes += 1
        if self.nodes > syntax.MAX_NODES:
            raise ParseError(f"more than {syntax.MAX_NODES} nodes")
        if level > syntax.MAX_DEPTH:
            raise ParseError(f"deeper than {syntax.MAX_DEPTH} levels")
        op = self.name()
        if kind is not Kind.PREDICATE and (
            op == syntax.MAP_VARIABLE if in_template else op in syntax.VARIABLES
        ):
            return Node(op)
        signature = syntax.SIGNATURES.get(op)
        if signature is None or (op in syntax.PREDICATES) != (kind is Kind.PREDICATE):
            raise ParseError(f"{op!r} is not allowed here")
        if op == "MapJoin" and in_template:
            raise ParseError("MapJoin inside a MapJoin")
        self.expect("(")
        args: list[Any] = []
        for position, wanted in enumerate(signature):
            if position:
                self.expect(",")
            args.append(self.argument(wanted, level, in_template))
        if op == "Concat":
            args.extend(self.further_parts(level, in_template))
        self.expect(")")
        return Node(op, tuple(args))

    def further_parts(self, level: int, in_template: bool) -> list[Node]:
        parts: list[Node] = []
        while not parts or self.text.startswith(",", self.at):
            self.expect(",")
            parts.append(self.node(Kind.STRING, level + 1, in_template))
            if len(parts) >= syntax.MAX_PARTS:
                raise ParseError(f"Concat of more than {syntax.MAX_PARTS} parts")
            self.skip_space()
        return parts

    def argument(self, kind: Kind, level: int, in_template: bool) -> Any:
        if kind in (Kind.STRING, Kind.PREDICATE):
            return self.node(kind, level + 1, in_template)
        if kind is Kind.TEMPLATE:
            return self.node(Kind.STRING, level + 1, in_template=True)
        if kind in (Kind.INDEX, Kind.COUNT):
            return self.integer(kind)
        if kind is Kind.SIDE:
            return self.one_of(_SIDES)
        self.skip_space()
        if kind is Kind.PATTERN:
            if not self.text.startswith('"', self.at):
                return self.one_of(_CLASSES)
            return self.string(1, syntax.MAX_PATTERN)
        return self.string(*_STRING_LENGTHS[kind])

    def one_of(self, members: dict[str, Any]) -> Any:
        name = self.name()
        if name not in members:
            raise ParseError(f"{name!r} is none of {', '.join(members)}")
        return members[name]

    def integer(self, kind: Kind) -> int:
        self.skip_space()
        match = _INTEGER.match(self.text, self.at)
        if match is None:
            raise ParseError(f"expected an integer at {self.at}")
        value = int(match.group())
        legal = 1 <= abs(value) <= syntax.MAX_INDEX if kind is Kind.INDEX else 1 <= value <= syntax.MAX_WIDTH
        # "-0" and "01" would be second spellings of an integer
        if not legal or match.group() != str(value):
            raise ParseError(f"{match.group()} is out of range at {self.at}")
        self.at = match.end()
        return value

    def string(self, shortest: int, longest: int) -> str:
        if not self.text.startswith('"', self.at):
            raise ParseError(f"expected a string at {self.at}")
        try:
            value, end = _JSON.raw_decode(self.text, self.at)
        except ValueError as error:
            raise ParseError(f"bad string literal at {self.at}: {error}") from None
        if not shortest <= len(value) <= longest:
            raise ParseError(
                f"a string of {len(value)} characters at {self.at}, {shortest}..{longest} allowed"
            )
        if _SURROGATE.search(value):
            # JSON can escape half a character, which no file or stream could be given as UTF-8
            raise ParseError(f"a lone surrogate in the string at {self.at}")
        self.at = end
        return value
