"""Families of inputs."""

from __future__ import annotations

import random
import re
from statistics import mean

import pytest

from constellation.domains.trapdoor.inputs import (
    FAMILIES,
    SHAPE_DRAWS,
    draw_inputs,
    shape,
    token_counts_vary,
)


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


def test_shape():
    assert shape("Ann-Lee 42, x7") == "a-a 9, a9"
    assert shape("") == ""


@pytest.mark.parametrize("family", ["name", "phone", "date", "log"])
def test_inputs_are_as_alike_as_asked(family: str):
    def share(alike: float, model: str | None = None) -> float:
        inputs = draw_inputs(random.Random(0), family, 400, frozenset(), alike, model)
        return mean(shape(text) == shape(model or inputs[0]) for text in inputs)

    for model in (None, *draw_inputs(random.Random(1), family, 3)):
        chance = share(0.0, model)
        for alike in (0.3, 0.6, 0.9):
            redrawn = alike * (1 - (1 - chance) ** SHAPE_DRAWS)
            assert abs(share(alike, model) - (chance + (1 - chance) * redrawn)) < 0.1


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
            text = FAMILIES[family](random.Random(seed))
            assert re.fullmatch(pattern, text), (family, text)


def test_token_counts():
    assert token_counts_vary(["a b", "a-b", "a1 b c"])
    assert not token_counts_vary(["a b", "c, d", "(12) 3"])
