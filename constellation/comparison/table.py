"""The table of a comparison: what was measured, what it may be, and whether it is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison.

    Attributes:
        name: of what is compared.
        measured: in words, what `value` is.
        value: of the measurement.
        limit: the tolerance: the largest value that passes, or the least where `at_least`.
        at_least: as for a p-value.
    """

    name: str
    measured: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the value is within the tolerance; NaN is not."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit


class LeftOut(NamedTuple):
    """A comparison that this model does not get, and why."""

    name: str
    reason: str


def lines(rows: Iterable[Row | LeftOut]) -> list[str]:
    """The table as text, a line a row."""
    rows = list(rows)
    cells = [
        (row.name, row.reason, "", "", "left out")
        if isinstance(row, LeftOut)
        else (
            row.name,
            row.measured,
            _number(row.value),
            f"{'>=' if row.at_least else '<='} {_number(row.limit)}",
            "pass" if row.passed else "FAIL",
        )
        for row in rows
    ]
    cells.insert(0, ("row", "what was measured", "value", "tolerance", ""))
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return [
        f"{name:{widths[0]}}  {measured:{widths[1]}}  {value:>{widths[2]}}  {limit:>{widths[3]}}  {verdict}".rstrip()
        for name, measured, value, limit, verdict in cells
    ]


def _number(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) and value == round(value, 4) else f"{value:.2e}"
