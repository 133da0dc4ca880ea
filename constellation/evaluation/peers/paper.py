"""Figures of "Peer-Predictive Self-Training" (2604.13356) beside those of a study, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from constellation.evaluation.entries import Entries, points
from constellation.evaluation.peers.results import BEFORE, MEAN, PST


class Row(NamedTuple):
    """A quantity as the paper has it, where that was read, and ours."""

    quantity: str
    paper: str
    mark: str
    ours: str


def comparison(rows: Entries, found: Mapping[str, Any]) -> list[Row]:
    """The rows of the table; what a study does not hold is a dash."""
    change = rows.first(quantity="change of exact match", models=(BEFORE, PST), of=MEAN)
    gap = f"{MEAN}, quantile {_first_quantile(rows)}"
    before = rows.first(quantity="GV-gap", models=(BEFORE,), of=gap)
    after = rows.first(quantity="GV-gap", models=(PST,), of=gap)
    fall = "-"
    if before and after and before.estimate > 0:
        fall = f"{100 * (after.estimate / before.estimate - 1):+.0f} %"
    return [
        Row(
            "exact match, mean of the peers, change by PST",
            "+2.2 to +4.3 points",
            "stated",
            f"{points(change.estimate, *change.interval)} points" if change else "-",
        ),
        Row("GV-gap, mean of the peers, change by PST", "-26 to -40 %", "stated", fall),
        Row("independent runs", "10", "secondary", str(found["trajectories"])),
    ]


def _first_quantile(rows: Entries) -> str:
    named = [row.of for row in rows.where(quantity="GV-gap") if row.of.startswith(f"{MEAN}, quantile ")]
    return named[0].rpartition(" ")[2] if named else ""
