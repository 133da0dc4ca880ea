"""What paper A (arXiv 2606.07856) reports, for the report's comparison with it.

"stated" marks what the paper's own abstract says, "secondary" what a summary of its full text says, which may
err in detail. Numbers are percentages of tasks, or percentage points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from constellation.evaluation.correctness import FIT
from constellation.evaluation.curves import PASS
from constellation.evaluation.divergence import DIVERGENCE
from constellation.evaluation.diversity import COUNTED
from constellation.evaluation.entries import Entry, points, signed
from constellation.evaluation.gains import GAIN
from constellation.evaluation.page import DASH
from constellation.evaluation.question import Results

STATED, SECONDARY = "stated", "secondary"


class Row(NamedTuple):
    """One quantity: the paper's value, where that value comes from, and ours."""

    quantity: str
    paper: str
    mark: str
    ours: str


def comparison(results: Results) -> list[Row]:
    """The rows of the comparison; a dash where the study did not measure a quantity."""
    entries, study, finding = results.entries, results.study, results.findings["critic_gain"]
    (small, large), primary = study.deciding_ks, study.analysis.primary_bank
    gain, seeds, agreeing = DASH, DASH, DASH
    if finding["estimate"] is not None:
        gain = points(finding["estimate"], *finding["interval"])
        seeds = f"{finding['positive_splits']} of {len(finding['per_split'])}"
        agreeing = "nothing: all selectors tie there"
    rows = [
        Row("critic minus naive pick, points", "+9.1", STATED, gain),
        Row("split seeds on which the critic is ahead", "6 of 6", STATED, seeds),
        Row("what the critic gains on tasks whose survivors agree", "nothing", STATED, agreeing),
    ]

    def first_and_last(**fields: Any) -> str:
        found = [entries.first(models=(model,), **fields) for model in study.first_and_last]
        return path(found, lambda share: f"{100 * share:.1f}")

    for bank, paper_k, k, paper in (
        ("easy", 8, small, "46.0 → 53.0"),
        ("hard", 8, small, "38.0 → 46.0"),
        ("easy", 64, large, "68.0 → 61.5"),
        ("hard", 64, large, "57.5 → 52.5"),
    ):
        quantity = f"pass@{paper_k} on {bank}, gen_v0 to the last round"
        quantity += f" (ours: pass@{k})" if k != paper_k else ""
        rows.append(Row(quantity, paper, SECONDARY, first_and_last(quantity=PASS, bank=bank, k=k)))
    for bank, paper in (("easy", "+7.2 → +1.9"), ("hard", "+5.1 → +2.8")):
        quantity = (
            f"gain of each round on {bank}: “ceiling”, mean of four trajectories (ours: pass@{small}), points"
        )
        gained = entries.where(quantity=GAIN, bank=bank, k=small, of="")
        rows.append(Row(quantity, paper, SECONDARY, path(gained, signed)))
    fit, passed = (
        entries.first(quantity=quantity, bank=primary, models=(study.start,), k=large)
        for quantity in (FIT, PASS)
    )
    unfit = DASH if fit is None or passed is None else signed(fit.estimate - passed.estimate)
    quantity = f"visible-fit@{large} minus pass@{large} of gen_v0 (ours: {primary}), points"
    rows.append(Row(quantity, "about +11", SECONDARY, unfit))
    quantity = "distinct generalising programs a solved task in the STaR data, first to last round"
    counted = [row for row in entries.where(quantity=COUNTED) if row.models[0] in study.sequence]
    rows.append(Row(quantity, "2.79 → 4.05", SECONDARY, path(counted, "{:.2f}".format)))
    quantity = f"divergent tasks at k = {small}, gen_v0 to the last round (ours: {primary}), %"
    falls = first_and_last(quantity=DIVERGENCE, bank=primary, k=small)
    return [*rows, Row(quantity, "falls", SECONDARY, falls)]


def path(rows: Sequence[Entry | None], write: Callable[[float], str]) -> str:
    """Estimates from first to last, or a dash where any is missing."""
    known = [row.estimate for row in rows if row is not None and row.estimate is not None]
    return " → ".join(map(write, known)) if rows and len(known) == len(rows) else DASH
