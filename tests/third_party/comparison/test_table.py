"""The verdict of a row, and the table's text."""

from __future__ import annotations

import pytest

from third_party.comparison.table import HEAD, LeftOut, Row, line


@pytest.mark.parametrize(
    "row, passed",
    [
        (Row("", "", 1e-4, 1e-4), True),
        (Row("", "", 1.01e-4, 1e-4), False),
        (Row("", "", float("nan"), 1e-4), False),
        (Row("", "", float("inf"), 1e-4), False),
        (Row("", "", 0.5, 1e-3, at_least=True), True),
        (Row("", "", 1e-4, 1e-3, at_least=True), False),
        (Row("", "", float("nan"), 1e-3, at_least=True), False),
    ],
)
def test_a_row_passes_within_its_tolerance(row: Row, passed: bool) -> None:
    assert row.passed is passed


def test_the_table() -> None:
    assert HEAD.split() == "row what was measured value tolerance".split()
    rows: dict[str, Row | LeftOut] = {
        "logits error 2.0e-06 <= 1.0e-04 pass": Row("logits", "error", 2e-6, 1e-4),
        "sampling p 2.0e-07 >= 0.001 FAIL": Row("sampling", "p", 2e-7, 1e-3, at_least=True),
        "greedy differing inf <= 0 FAIL": Row("greedy", "differing", float("inf"), 0),
        "int4 too large left out": LeftOut("int4", "too large"),
    }
    for text, row in rows.items():
        assert line(row).split() == text.split()
