"""The verdict of a row, the table's text, and the two distances, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from third_party.comparison.table import HEAD, LeftOut, Row, line, relative_norm, worst_position


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


def test_a_large_position_does_not_hide_a_small_one() -> None:
    theirs = np.array([[1000.0, 1.0], [2.0, -4.0]])
    assert worst_position(theirs + np.diag([1.0, 0.0]), theirs) == pytest.approx(1e-3)
    assert worst_position(theirs + np.diag([0.0, 1.0]), theirs) == pytest.approx(0.25)
    assert np.isnan(worst_position(theirs + np.nan, theirs))


def test_relative_norm_is_over_all_leaves() -> None:
    theirs = {"a": np.array([3.0]), "b": np.array([0.0, 4.0])}
    ours = {"a": np.array([3.0]), "b": np.array([0.5, 4.0])}
    assert relative_norm(ours, theirs) == pytest.approx(0.1)
