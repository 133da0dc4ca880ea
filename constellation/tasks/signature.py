"""Behavioural signatures: what a program does on 64 fixed inputs, and the one role that reserves it for.

Programs that behave alike share a signature and therefore a role, whatever they look like: training and
evaluation tasks are disjoint by construction, not by comparing texts.
"""

from __future__ import annotations

import hashlib

from constellation.language import Node, evaluate
from constellation.tasks.inputs import FAMILIES, draw_inputs
from constellation.tasks.task import addressed_random

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


def signature(program: Node) -> str | None:
    """Hex hash of the total-mode (value, faulted) pairs on the fixed inputs; None if it says too little."""
    results = [evaluate(program, (text,)) for text in INPUTS]
    if len({result.value for result in results if not result.faults}) < MIN_DISTINCT_OUTPUTS:
        return None
    behaviour = "\x1e".join(f"{result.value}\x1f{result.faults > 0}" for result in results)
    return hashlib.blake2b(behaviour.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def role_of(signature: str) -> str:
    """The role a signature is reserved for, read from its leading 32 bits."""
    point = int(signature[:8], 16) / 2**32
    for role, share in ROLES.items():
        point -= share
        if point < 0:
            return role
    return role


assert abs(sum(ROLES.values()) - 1) < 1e-9
