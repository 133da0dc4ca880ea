"""Signatures depend on behaviour alone, and they alone decide the role."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from constellation.domains.trapdoor.inputs import FAMILIES
from constellation.domains.trapdoor.language import Node, evaluate, parse
from constellation.domains.trapdoor.signature import INPUTS, MIN_DISTINCT_OUTPUTS, ROLES, role_of, signature
from tests.domains.trapdoor.language.strategies import programs


def sign(text: str) -> str | None:
    return signature(parse(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x", "SubStr(x, 1, -1)"),
        ("x", "x1"),
        ("Upper(x)", "Upper(Lower(x))"),
        ("Concat(x, x)", 'MapJoin(Concat(x, x), Char, t, "")'),
        ('Concat(x, Const("ab"))', 'Concat(x, Const("a"), Const("b"))'),
        ("GetToken(x, Word, 2)", "GetSpan(x, Word, 2, start, Word, 2, end)"),
    ],
)
def test_what_behaves_alike_has_one_signature(one: str, other: str):
    assert sign(one) == sign(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x", "Upper(x)"),
        ('Concat(x, Const("a"))', 'Concat(x, Const("b"))'),
        # the same values, but only the first faults
        ("Remove(x, Number, 3)", "If(CountAtLeast(x, Number, 3), Remove(x, Number, 3), x)"),
    ],
)
def test_what_behaves_differently_has_another(one: str, other: str):
    assert sign(one) != sign(other)


def test_a_signature_that_says_too_little_is_none():
    for text in ('Const("a")', "Count(x, Word)", "GetToken(x, Word, 9)"):
        assert sign(text) is None
    kept = [text for text in (f"SubStr(x, 1, {i})" for i in range(1, 10)) if sign(text)]
    for text in kept:
        values = [
            result.value for result in (evaluate(parse(text), (x,)) for x in INPUTS) if not result.faults
        ]
        assert len(set(values)) >= MIN_DISTINCT_OUTPUTS
    assert kept


def test_fault_free_outputs_alone_are_counted():
    # 64 values, but each but a few comes with a fault
    text = "Remove(x, Number, 4)"
    assert len({evaluate(parse(text), (x,)).value for x in INPUTS}) == 64
    assert sign(text) is None


def signature_of_the_whole(program: Node) -> str | None:
    results = [evaluate(program, (text,)) for text in INPUTS]
    if len({result.value for result in results if not result.faults}) < MIN_DISTINCT_OUTPUTS:
        return None
    text = "\x1e".join(f"{result.value}\x1f{result.faults > 0}" for result in results)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


# Four of them are cut, take more steps than there are, or lie too deep; one of them does not.
LONG = 'MapJoin(x, Char, Const("01234567890123456789012345678901"), "")'
SLOW = f'MapJoin({LONG}, Digit, RemoveAll(Lower(Lower(Lower(Lower(Lower(t))))), Digit), "")'


@given(st.lists(programs(max_nodes=12, max_depth=6), min_size=1, max_size=4))
def test_a_concatenation_behaves_as_its_parts_together(parts: list[Node]):
    program = Node("Concat", (parse("x"), *parts))
    assert signature(program) == signature_of_the_whole(program)


@pytest.mark.parametrize("part", [LONG, SLOW, "Lower(" * 9 + "x" + ")" * 9])
def test_the_interpreters_limits_are_those_of_the_whole(part: str):
    program = Node("Concat", (parse("x"), *[parse(part)] * 4))
    cut = [evaluate(program, (text,)).faults for text in INPUTS]
    assert any(cut) and not all(evaluate(parse(part), (text,)).faults for text in INPUTS)
    assert signature(program) == signature_of_the_whole(program)


def test_fixed_inputs_cover_every_family_and_never_change():
    assert len(set(INPUTS)) == 64 and len(FAMILIES) == 9
    # A new value here moves every task to another role: all banks and all training change.
    assert sign("x") == "7ab98c53e9c94f5a"


def test_roles_own_their_shares():
    rng, draws = random.Random(0), 20_000
    counts = Counter(role_of(f"{rng.getrandbits(64):016x}") for _ in range(draws))
    assert set(counts) == set(ROLES) and sum(ROLES.values()) == pytest.approx(1)
    assert stats.chisquare([counts[r] for r in ROLES], [draws * s for s in ROLES.values()]).pvalue > 1e-3
    assert role_of("0" * 16) == "pretraining" and role_of("f" * 16) == "evaluation"


def test_roles_are_intervals_that_meet_without_gap():
    shares, at = list(ROLES.items()), 0.0
    for (role, share), (following, _) in itertools.pairwise(shares):
        at += share
        assert role_of(f"{int(at * 2**32) - 1:08x}00000000") == role
        assert role_of(f"{int(at * 2**32) + 1:08x}00000000") == following
