"""What the shipped base is pretrained on: the language's lexemes, the atom prior and a wide one.

The wide prior draws programs over the whole language of one input. The base is pretrained on more than the
banks ask for (more operators, deeper, longer), so that it holds capability which the warm-started generator
does not yet express.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from constellation.domains.domain import Pretraining
from constellation.domains.task import Task
from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.language import Node, Side, TokenClass, evaluate, parse, syntax, to_text
from constellation.domains.trapdoor.language.syntax import Kind, concat
from constellation.domains.trapdoor.synthesis import synthesise

PARTS = (1, 1, 2, 2, 3)
# Relative frequency of operators in what is not an atom of the atom prior.
OPERATORS: dict[str, int] = {
    "GetToken": 6, "GetSpan": 2, "SubStr": 5, "GetUpto": 3, "GetFrom": 3, "Before": 3, "Field": 4,
    "Upper": 2, "Lower": 2, "Capitalize": 2, "Title": 2, "Trim": 1, "Replace": 3, "Substitute": 2,
    "SubstituteAll": 2, "Remove": 3, "RemoveAll": 2, "GetAll": 3, "GetFirst": 2, "PadLeft": 2, "PadRight": 1,
    "StripLeft": 1, "StripRight": 1, "MapJoin": 3, "Count": 1, "Len": 1, "If": 2,
}  # fmt: skip
_NAMES, _WEIGHTS = list(OPERATORS), list(OPERATORS.values())
_PREDICATES = sorted(syntax.PREDICATES)
MOST_CHANGES = 20  # until one shows
_TEMPLATES = ("Upper", "Lower", "Capitalize", "SubStr", "GetToken")
_TEMPLATE_VARIABLE = Node("t")


def draw_wide_program(rng: random.Random) -> Node:
    """A program of one to three parts, each a constant or an expression at most three operators deep."""
    return concat(*(_draw_part(rng) for _ in range(rng.choice(PARTS))))


def _draw_part(rng: random.Random) -> Node:
    return prior.draw_atom(rng) if rng.random() < 0.4 else _draw_expression(rng, rng.choice((1, 1, 2, 3)))


def _draw_expression(rng: random.Random, depth: int) -> Node:
    if depth == 0:
        return prior.X
    op = rng.choices(_NAMES, _WEIGHTS)[0]
    return Node(op, tuple(_draw_argument(rng, kind, depth) for kind in syntax.SIGNATURES[op]))


def _draw_leaves(rng: random.Random, op: str) -> Iterator[Any]:
    return (_draw_argument(rng, kind, 0) for kind in syntax.SIGNATURES[op][1:])


def _draw_argument(rng: random.Random, kind: Kind, depth: int) -> Any:
    if kind is Kind.STRING:
        return _draw_expression(rng, depth - 1)
    if kind is Kind.PREDICATE:
        op = rng.choice(_PREDICATES)
        return Node(op, (prior.X, *_draw_leaves(rng, op)))
    if kind is Kind.TEMPLATE:
        op = rng.choice(_TEMPLATES)
        return Node(op, (_TEMPLATE_VARIABLE, *_draw_leaves(rng, op)))
    if kind is Kind.PATTERN:
        return prior.CLASS.draw(rng) if rng.random() < 0.7 else rng.choice(prior.ANCHOR_DELIMITERS)
    if kind is Kind.INDEX:
        return prior.INDEX.draw(rng)
    if kind is Kind.COUNT:
        return rng.randint(1, 12)
    if kind is Kind.SIDE:
        return prior.SIDE.draw(rng)
    if kind is Kind.CHARACTER:
        return rng.choice("0 *-")
    if kind is Kind.DELIMITER:
        return rng.choice(prior.ANCHOR_DELIMITERS)
    return rng.choice(("", *prior.DELIMITERS))


def wrong_program(task: Task, rng: random.Random) -> str:
    """The secret program, one of whose nodes has other patterns, indices or constants; it shows in an output.

    A program without such a node, or of which no change shows, becomes `x`.
    """
    program = parse(task.program)
    changeable = {op for op, kinds in syntax.SIGNATURES.items() if kinds[1:] and op != "If"}
    nodes = [node for node in syntax.walk(program) if node.op in changeable]
    for _ in range(MOST_CHANGES if nodes else 0):
        old = rng.choice(nodes)
        changed = _replaced(program, old, Node(old.op, (old.args[0], *_draw_leaves(rng, old.op))))
        if any(evaluate(changed, example.inputs).value != example.output for example in task.examples):
            return to_text(changed)
    return to_text(prior.X)


def _replaced(node: Node, old: Node, new: Node) -> Node:
    """The tree with `new` in every place of `old`."""
    if node == old:
        return new
    args = (_replaced(arg, old, new) if isinstance(arg, Node) else arg for arg in node.args)
    return Node(node.op, tuple(args))


_INTEGERS = (*range(-syntax.MAX_INDEX, 0), *range(1, syntax.MAX_WIDTH + 1))
_PRIORS: dict[str, Callable[[random.Random], Node]] = {
    "wide": draw_wide_program,
    **{f"atoms{most}": partial(prior.draw_program, max_atoms=most) for most in prior.ATOMS},
}

PRETRAINING = Pretraining(
    operators=tuple(f'{op}("' if op == "Const" else f"{op}(" for op in syntax.SIGNATURES),
    leaves=("x", "t", *(name.value for names in (Side, TokenClass) for name in names), *map(str, _INTEGERS)),
    quotes=('", ', '")'),
    sources={
        name: partial(synthesise, draw_program=draw_program, roles=("pretraining",))
        for name, draw_program in _PRIORS.items()
    },
    wrong=wrong_program,
)
