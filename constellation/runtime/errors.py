"""The one exception that means the user, not the program, has to change something, and two checks for it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave: a config, a flag, a file.

    The message is one line that says what is wrong and how to put it right; launch programs print it
    without a traceback and exit with code 2.
    """


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a `name` that is not among the `known` ones of its `kind`: it says which is nearest."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
    return UserError(f"unknown {kind} {name!r}; {hint}")


def is_integer(value: Any) -> bool:
    """Whether a value read from JSON is an integer, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value read from JSON is a number that a float can hold: not true, not NaN, not infinite."""
    return (is_integer(value) or isinstance(value, float)) and abs(value) <= sys.float_info.max
