"""The total, bounded interpreter: every tree on every input gives a value and a count of faults.

*Total mode* reads the value alone; *strict mode* (paper A's interpreter, which raises on an out-of-range
position) fails a candidate with any fault. An index without a match is a fault: an extraction then gives
"", a modification returns its argument. Operators over all matches (`Replace`, `RemoveAll`, ...) never fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from constellation.domains.trapdoor.language.syntax import (
    MAP_VARIABLE,
    MAX_DEPTH,
    MAX_STEPS,
    MAX_STRING,
    MAX_WIDTH,
    VARIABLES,
    Node,
    Side,
    TokenClass,
)
from constellation.domains.trapdoor.language.tokens import matches


class Result(NamedTuple):
    """What a program does on one input: `faults == 0` is what strict mode demands."""

    value: str
    faults: int
    steps: int


def evaluate(program: Node, inputs: tuple[str, ...]) -> Result:
    """Runs a program on the strings bound to x (= x1), x2, x3, x4.

    Never raises, takes at most `MAX_STEPS` steps, and is deterministic. What a malformed tree asks for and
    cannot be done is a fault.
    """
    run = _Run(inputs)
    value = run.string(program, None, 1)
    return Result(value, run.faults, run.steps)


class _Run:
    def __init__(self, inputs: tuple[str, ...]):
        self.inputs, self.faults, self.steps = inputs, 0, 0

    def fault(self, value: Any = "") -> Any:
        self.faults += 1
        return value

    def string(self, node: Node, item: str | None, level: int) -> str:
        """Value of a sub-program; `item` is what t is bound to inside a MapJoin."""
        value = self.apply(node, item, level)
        if type(value) is not str:
            return self.fault()
        return value if len(value) <= MAX_STRING else self.fault(value[:MAX_STRING])

    def apply(self, node: Node, item: str | None, level: int) -> Any:
        if self.steps >= MAX_STEPS or level > MAX_DEPTH:
            return self.fault()
        self.steps += 1
        try:
            op, args = node
            if op == "x":
                return self.inputs[0]
            handler = _HANDLERS.get(op)
            if handler is not None:
                return handler(self, self.string(args[0], item, level + 1), *args[1:])
            return self.special(op, args, item, level)
        except Exception:
            # Never raising is the contract. Of the trees a parser made none gets here, given an input.
            return self.fault()

    def special(self, op: str, args: tuple[Any, ...], item: str | None, level: int) -> Any:
        """Operators that do not simply evaluate their first argument to a string."""
        if op == "Concat":
            return "".join([self.string(part, item, level + 1) for part in args])
        if op == "Const":
            return args[0]
        if op == MAP_VARIABLE:
            return self.fault() if item is None else item
        if op in VARIABLES:
            index = int(op[1:]) - 1
            return self.inputs[index] if index < len(self.inputs) else self.fault()
        if op == "If":
            condition = self.apply(args[0], item, level + 1)
            if type(condition) is not bool:
                condition = self.fault(False)
            return self.string(args[1] if condition else args[2], item, level + 1)
        if op == "MapJoin":
            return self.map_join(*args, item=item, level=level)
        return self.fault()

    def map_join(
        self, source: Node, pattern: Any, template: Node, separator: str, *, item: str | None, level: int
    ) -> str:
        text = self.string(source, item, level + 1)
        if item is not None:
            return self.fault(text)
        if isinstance(pattern, TokenClass):
            pieces = [text[start:end] for start, end in matches(text, pattern)]
        else:
            pieces = text.split(pattern)
        mapped: list[str] = []
        for piece in pieces:
            if self.steps >= MAX_STEPS:
                self.faults += 1
                break
            mapped.append(self.string(template, piece, level + 1))
        return separator.join(mapped)

    def match(self, text: str, pattern: Any, index: int) -> tuple[int, int] | None:
        """The index-th match, or None and a fault."""
        found = matches(text, pattern)
        if 1 <= index <= len(found):
            return found[index - 1]
        if -len(found) <= index <= -1:
            return found[index]
        return self.fault(None)


def _piece(cut: Callable[[str, int, int], str]) -> Callable[..., str]:
    """What is cut out around the index-th match; "" where there is none."""

    def handler(run: _Run, text: str, pattern: Any, index: int) -> str:
        span = run.match(text, pattern, index)
        return cut(text, *span) if span else ""

    return handler


def _get_span(
    run: _Run, text: str, first: Any, i: int, first_side: Side, last: Any, j: int, last_side: Side
) -> str:
    begin, end = run.match(text, first, i), run.match(text, last, j)
    if begin is None or end is None:
        return ""
    start, stop = begin[first_side is Side.END], end[last_side is Side.END]
    return text[start:stop] if start <= stop else run.fault()


def _sub_str(run: _Run, text: str, i: int, j: int) -> str:
    length = len(text)
    start = i if i > 0 else length + 1 + i
    stop = j if j > 0 else length + 1 + j
    return text[start - 1 : stop] if 1 <= start <= stop <= length else run.fault()


def _field(run: _Run, text: str, delimiter: str, index: int) -> str:
    fields = text.split(delimiter)
    if 1 <= index <= len(fields):
        return fields[index - 1]
    return fields[index] if -len(fields) <= index <= -1 else run.fault()


def _substitute(run: _Run, text: str, pattern: Any, index: int, new: str) -> str:
    span = run.match(text, pattern, index)
    return text[: span[0]] + new + text[span[1] :] if span else text


def _substitute_all(run: _Run, text: str, pattern: Any, new: str) -> str:
    pieces, at = [], 0
    for start, end in matches(text, pattern):
        pieces += [text[at:start], new]
        at = end
    return "".join(pieces) + text[at:]


def _get_first(run: _Run, text: str, pattern: Any, count: int) -> str:
    found = matches(text, pattern)[:count]
    value = "".join(text[start:end] for start, end in found)
    return value if len(found) == count else run.fault(value)


def _pad(run: _Run, text: str, width: int, fill: str, left: bool) -> str:
    if not 0 <= width <= MAX_WIDTH:
        return run.fault(text)
    return text.rjust(width, fill) if left else text.ljust(width, fill)


_HANDLERS: dict[str, Callable[..., Any]] = {
    "GetToken": _piece(lambda text, start, end: text[start:end]),
    "GetSpan": _get_span,
    "SubStr": _sub_str,
    "GetUpto": _piece(lambda text, start, end: text[:end]),
    "GetFrom": _piece(lambda text, start, end: text[end:]),
    "Before": _piece(lambda text, start, end: text[:start]),
    "Field": _field,
    "Upper": lambda run, text: text.upper(),
    "Lower": lambda run, text: text.lower(),
    "Capitalize": lambda run, text: text.capitalize(),
    "Title": lambda run, text: text.title(),
    "Trim": lambda run, text: text.strip(" \t\r\n"),
    "Replace": lambda run, text, old, new: text.replace(old, new) if old else run.fault(text),
    "Substitute": _substitute,
    "SubstituteAll": _substitute_all,
    "Remove": lambda run, text, pattern, index: _substitute(run, text, pattern, index, ""),
    "RemoveAll": lambda run, text, pattern: _substitute_all(run, text, pattern, ""),
    "GetAll": lambda run, text, pattern, sep: sep.join(text[a:b] for a, b in matches(text, pattern)),
    "GetFirst": _get_first,
    "PadLeft": lambda run, text, width, fill: _pad(run, text, width, fill, left=True),
    "PadRight": lambda run, text, width, fill: _pad(run, text, width, fill, left=False),
    "StripLeft": lambda run, text, characters: text.lstrip(characters),
    "StripRight": lambda run, text, characters: text.rstrip(characters),
    "Count": lambda run, text, pattern: str(len(matches(text, pattern))),
    "Len": lambda run, text: str(len(text)),
    "Contains": lambda run, text, pattern: bool(matches(text, pattern)),
    "StartsWith": lambda run, text, pattern: any(span[0] == 0 for span in matches(text, pattern)[:1]),
    "EndsWith": lambda run, text, pattern: (
        text.endswith(pattern)
        if isinstance(pattern, str)
        else any(span[1] == len(text) for span in matches(text, pattern)[-1:])
    ),
    "Equals": lambda run, text, literal: text == literal,
    "CountAtLeast": lambda run, text, pattern, count: len(matches(text, pattern)) >= count,
    "LenAtLeast": lambda run, text, count: len(text) >= count,
}
