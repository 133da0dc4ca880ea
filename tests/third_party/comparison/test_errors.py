"""The two distances, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from third_party.comparison.errors import relative_norm, worst_position


def test_a_large_position_does_not_hide_a_small_one() -> None:
    theirs = np.array([[1000.0, 1.0], [2.0, -4.0]])
    assert worst_position(theirs + np.diag([1.0, 0.0]), theirs) == pytest.approx(1e-3)
    assert worst_position(theirs + np.diag([0.0, 1.0]), theirs) == pytest.approx(0.25)
    assert np.isnan(worst_position(theirs + np.nan, theirs))


def test_relative_norm_is_over_all_leaves() -> None:
    theirs = {"a": np.array([3.0]), "b": np.array([0.0, 4.0])}
    ours = {"a": np.array([3.0]), "b": np.array([0.5, 4.0])}
    assert relative_norm(ours, theirs) == pytest.approx(0.1)
