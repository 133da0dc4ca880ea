"""A name for the law that a domain's tasks are drawn from: a hash of what decides which they are."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

_WITHOUT_EFFECT = ("annotation", "returns", "type_comment", "kind")  # fields of syntax trees


def law_of(*parts: ModuleType | Callable[..., Any] | int) -> str:
    """32 hexadecimal digits that name what these modules, functions and numbers do.

    Modules and functions enter by the syntax trees of their definitions, in any order. Another comment,
    docstring, annotation or import, and another place for a definition, leave the law as it is; every other
    change makes another law, even one by which the same tasks are drawn.
    """
    definitions = []
    for part in parts:
        if isinstance(part, int):
            definitions.append(str(part))
        else:
            definitions += [_written(node) for node in _with_effect(ast.parse(inspect.getsource(part)).body)]
    return hashlib.blake2b("\n".join(sorted(definitions)).encode(), digest_size=16).hexdigest()


def _with_effect(nodes: list[Any]) -> list[Any]:
    """The nodes without imports and docstrings."""
    return [
        node
        for node in nodes
        if not isinstance(node, (ast.Import, ast.ImportFrom))
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


def _written(node: Any) -> str:
    """A syntax tree as text; unlike `ast.dump`, the same in every version of Python."""
    if isinstance(node, list):
        return f"[{', '.join(map(_written, _with_effect(node)))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if name not in _WITHOUT_EFFECT}
    parts = [f"{name}={_written(value)}" for name, value in fields.items() if value not in (None, [])]
    return f"{type(node).__name__}({', '.join(parts)})"
