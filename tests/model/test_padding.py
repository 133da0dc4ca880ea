"""Sizes rounded up, against the definition."""

from __future__ import annotations

import pytest

from constellation.model.padding import multiple, power_of_two


@pytest.mark.parametrize("count", range(70))
def test_the_least_that_is_large_enough(count: int) -> None:
    assert power_of_two(count) == next(2**i for i in range(9) if 2**i >= count)
    for step in (1, 3, 4, 32):
        assert multiple(count, step) == next(size for size in range(0, 200, step) if size >= count)
