"""Where a curve over temperatures takes a value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.evaluation.tempered import Match, match, pooled_curves, solved_by_one
from tests.evaluation.counted import chance, counted

CURVE = {0.5: 0.6, 0.7: 0.5, 1.0: 0.4, 1.4: 0.1}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (0.5, (0.7, False)),
        (0.45, (0.85, False)),
        (0.25, (1.2, False)),
        (0.6, (0.5, False)),
        (0.7, (0.5, True)),
        (0.0, (1.4, True)),
    ],
)
def test_straight_lines_between_the_points(target: float, expected: tuple[float, bool]) -> None:
    found = match(CURVE, target)
    assert found.temperature == pytest.approx(expected[0]) and found.clipped == expected[1]


def test_the_highest_of_several_and_the_nearest_of_none() -> None:
    bent = {0.5: 0.2, 0.7: 0.5, 1.0: 0.3, 1.4: 0.1}
    assert match(bent, 0.4).temperature == pytest.approx(0.85)
    assert match(bent, 0.2).temperature == pytest.approx(1.2)
    assert match(bent, 0.6) == Match(0.7, True)
    assert match({1.0: 0.3}, 0.4) == Match(1.0, True)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0, 1))
def test_the_curve_is_met_there_unless_it_never_comes_so_high_or_low(
    passed: list[float], target: float
) -> None:
    temperatures = [0.2 * (i + 1) for i in range(len(passed))]
    found = match(dict(zip(temperatures, passed, strict=True)), target)
    assert found.clipped == (not min(passed) <= target <= max(passed))
    there = np.interp(found.temperature, temperatures, passed)
    if found.clipped:
        assert abs(there - target) == min(abs(value - target) for value in passed)
    else:
        assert there == pytest.approx(target, abs=1e-9)


def test_curves_of_sets_of_unlike_size() -> None:
    found = pooled_curves([counted([4, 0, 32], 32), counted([1, 2, 16], 16)], [1, 3])
    wanted = [[(4, 32), (0, 32), (32, 32)], [(1, 16), (2, 16), (16, 16)]]
    np.testing.assert_allclose(found, [[[chance(c, k, n) for k in (1, 3)] for c, n in row] for row in wanted])


def test_pass_at_1_over_trajectories_and_tasks_by_temperature() -> None:
    tuning = {
        ("v1", 1.0): [counted([1], 4)],
        ("gen_v0", 1.4): [counted([1, 1], 4), counted([0, 0], 4)],
        ("gen_v0", 0.7): [counted([4, 2], 4), counted([4, 0], 4)],
    }
    found = solved_by_one(tuning, "gen_v0")
    assert list(found.items()) == [(0.7, 0.625), (1.4, 0.125)]
