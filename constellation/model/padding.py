"""Sizes rounded up to few, so that few shapes are compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def power_of_two(count: int) -> int:
    """The least power of two that is at least `count`; 1 for 0."""
    return 1 << max(count - 1, 0).bit_length()


def multiple(count: int, step: int) -> int:
    """The least multiple of `step` that is at least `count`."""
    return -(-count // step) * step


def join_few(
    by_length: Mapping[int, Sequence[T]], fills: Callable[[int, Sequence[T]], bool]
) -> dict[int, list[T]]:
    """What is padded to each length, ascending; what fills no batch of its own goes with what is next longer.

    To compile for a length costs more than such padding. `fills` says whether so many fill a batch.
    """
    joined: dict[int, list[T]] = {}
    few: list[T] = []
    for length, own in sorted(by_length.items()):
        few = [*few, *own]
        if fills(length, few) or length == max(by_length):
            joined[length], few = few, []
    return joined
