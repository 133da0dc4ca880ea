"""Sizes rounded up to few, so that few shapes are compiled."""


def power_of_two(count: int) -> int:
    """The least power of two that is at least `count`; 1 for 0."""
    return 1 << max(count - 1, 0).bit_length()


def multiple(count: int, step: int) -> int:
    """The least multiple of `step` that is at least `count`."""
    return -(-count // step) * step
