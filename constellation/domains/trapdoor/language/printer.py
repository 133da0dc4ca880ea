"""Programs to text. One canonical spelling, so that equal texts are equal trees."""

from __future__ import annotations

import json
from typing import Any

from constellation.domains.trapdoor.language.syntax import MAP_VARIABLE, VARIABLES, Node, Side, TokenClass


def to_text(node: Node) -> str:
    """The program's text; `parser.parse` is its exact inverse."""
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
