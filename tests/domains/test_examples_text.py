"""Examples as a prompt shows them."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.task import Example, examples_text

EXAMPLES = (Example(("john smith",), "J. smith"), Example(('a "b"\n', "é"), ""))


def test_examples_are_lines_of_json_strings():
    lines = examples_text(EXAMPLES).split("\n")
    assert lines == ['"john smith" -> "J. smith"', r'"a \"b\"\n", "é" -> ""']


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4))
def test_examples_can_be_read_back(pairs):
    decoder = json.JSONDecoder()
    for line, pair in zip(
        examples_text([Example((x,), y) for x, y in pairs]).split("\n"), pairs, strict=True
    ):
        first, end = decoder.raw_decode(line)
        assert line[end:].startswith(" -> ")
        assert (first, json.loads(line[end + 4 :])) == pair
