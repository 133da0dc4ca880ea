"""Families of inputs."""

from __future__ import annotations

import random
import re
from statistics import mean

import pytest

from constellation.tasks.inputs import FAMILIES, draw_input, draw_inputs, token_counts_vary


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_of_a_family(family: str):
    inputs = draw_inputs(random.Random(0), family, 300)
    assert len(set(inputs)) == 300
    assert inputs == draw_inputs(random.Random(0), family, 300) != draw_inputs(random.Random(1), family, 300)
    assert token_counts_vary(inputs)
    assert all(text.isascii() and text.isprintable() and text.strip() == text for text in inputs)
    assert 8 < mean(map(len, inputs)) < 26 and max(map(len, inputs)) < 60


@pytest.mark.parametrize("family", FAMILIES)
def test_excluded_inputs_are_not_drawn(family: str):
    first = draw_inputs(random.Random(0), family, 40)
    again = draw_inputs(random.Random(0), family, 40, frozenset(first[:20]))
    assert not set(first[:20]) & set(again) and first[20] == again[0]


def test_families_look_like_their_names():
    patterns = {
        "name": r"[A-Z]\w+,? ([A-Z]\w*\.? )?[A-Z]\w+",
        "phone": r"[-+() .x\d]+",
        "date": r"[-/:, \w]+",
        "path": r"(~?/)?(\w+/)+[-\w]+\.\w+",
        "email": r"[-.\w]+@[.a-z]+\.(com|org|edu|io)",
        "log": r"(INFO|WARN|ERROR|DEBUG):? [ \w]+",
        "price": r"[ A-Za-z]+(:| -)? \$?\d+\.\d\d( x\d+)?",
        "code": r"[A-Z0-9]+([-_:#/][A-Z0-9]+)+",
        "mixed": r"[-_,/:. \w]+",
    }
    assert set(patterns) == set(FAMILIES)
    for family, pattern in patterns.items():
        for seed in range(50):
            text = draw_input(random.Random(seed), family)
            assert re.fullmatch(pattern, text), (family, text)


def test_token_counts():
    assert token_counts_vary(["a b", "a-b", "a1 b c"])
    assert not token_counts_vary(["a b", "c, d", "(12) 3"])
