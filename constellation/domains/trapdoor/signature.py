"""Behavioural signatures: what a program does on 64 fixed inputs, and the one role that reserves it for.

Programs that behave alike share a signature and therefore a role, whatever they look like: training and
evaluation tasks are disjoint by construction, not by comparing texts.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
from functools import lru_cache
from typing import NamedTuple

from constellation.domains.task import addressed_random, owner
from constellation.domains.trapdoor.inputs import FAMILIES, draw_inputs
from constellation.domains.trapdoor.language import Node, evaluate
from constellation.domains.trapdoor.language.syntax import MAX_DEPTH, MAX_STEPS, MAX_STRING, depth

FIXED_INPUTS = 64
MIN_DISTINCT_OUTPUTS = 16  # fewer distinct fault-free outputs say too little about a program

# The share of signature space each role owns.
ROLES: dict[str, float] = {
    "pretraining": 0.50,
    "warm_start": 0.10,
    "star": 0.12,
    "critic": 0.08,
    "calibration": 0.02,
    "tuning": 0.04,
    "evaluation": 0.14,
}


def _fixed_inputs() -> tuple[str, ...]:
    rng = addressed_random("signature inputs")
    families = list(FAMILIES)
    share = [FIXED_INPUTS // len(families) + (i < FIXED_INPUTS % len(families)) for i in range(len(families))]
    shares = zip(families, share, strict=True)
    return tuple(text for family, count in shares for text in draw_inputs(rng, family, count))


INPUTS = _fixed_inputs()


class Behaviour(NamedTuple):
    """What a program does on the fixed inputs; steps are the most that it takes on one of them."""

    values: tuple[str, ...]
    faulted: tuple[bool, ...]
    steps: int


def signature(program: Node) -> str | None:
    """Hex hash of the total-mode (value, faulted) pairs on the fixed inputs; None if it says too little."""
    values, faulted, _ = _behaviour(program)
    if len(set(itertools.compress(values, map(operator.not_, faulted)))) < MIN_DISTINCT_OUTPUTS:
        return None
    behaviour = "\x1e".join(map("\x1f".join, zip(values, map(str, faulted), strict=True)))
    return hashlib.blake2b(behaviour.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _behaviour(program: Node) -> Behaviour:
    """A concatenation's is put together from its parts', for a prior draws the same parts again and again.

    The interpreter's limits are those of the whole, which is run itself where it may come to one of them.
    """
    if program.op != "Concat" or depth(program) > MAX_DEPTH:
        return _run(program)
    parts = [_run(part) for part in program.args]
    values = tuple(map("".join, zip(*(part.values for part in parts), strict=True)))
    steps = 1 + sum(part.steps for part in parts)
    if steps > MAX_STEPS or max(map(len, values)) > MAX_STRING:
        return _run(program)
    return Behaviour(values, tuple(map(any, zip(*(part.faulted for part in parts), strict=True))), steps)


@lru_cache(maxsize=1 << 12)
def _run(program: Node) -> Behaviour:
    results = [evaluate(program, (text,)) for text in INPUTS]
    return Behaviour(
        tuple(result.value for result in results),
        tuple(result.faults > 0 for result in results),
        max(result.steps for result in results),
    )


def role_of(signature: str) -> str:
    """The role a signature is reserved for."""
    return owner(ROLES, signature)


assert abs(sum(ROLES.values()) - 1) < 1e-9
