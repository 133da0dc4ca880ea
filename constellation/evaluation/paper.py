"""What paper A (arXiv 2606.07856) reports, so that the report can set our figures beside it.

Marks: "stated" is the paper's own abstract, "secondary" a summary of its full text that may err in detail.
Figures are percentages of tasks, or points of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from constellation.evaluation.correctness import FIT
from constellation.evaluation.curves import PASS
from constellation.evaluation.divergence import DIVERGENCE
from constellation.evaluation.diversity import COUNTED
from constellation.evaluation.entries import Entry, points, signed
from constellation.evaluation.gains import GAIN
from constellation.evaluation.question import Results

DASH = "\N{EM DASH}"
STATED, SECONDARY = "stated", "secondary"


class Row(NamedTuple):
    """One quantity: the paper's value, where that value comes from, and ours."""

    quantity: str
    paper: str
    mark: str
    ours: str


def comparison(results: Results) -> list[Row]:
    """The table beside the paper's; a dash where the study did not measure a quantity.

    Args:
        results: of `analysis.analyse`.
    """
    return [*selection_rows(results), *pass_rows(results), *sample_rows(results)]


def selection_rows(results: Results) -> list[Row]:
    """What the critic is worth."""
    finding = results.findings["critic_gain"]
    gain, seeds, agreeing = DASH, DASH, DASH
    if finding["estimate"] is not None:
        gain = points(finding["estimate"], *finding["interval"])
        seeds = f"{finding['positive_splits']} of {len(finding['per_split'])}"
        agreeing = "nothing: all selectors tie there"
    return [
        Row("critic minus naive pick, points", "+9.1", STATED, gain),
        Row("split seeds on which the critic is ahead", "6 of 6", STATED, seeds),
        Row("what the critic gains on tasks whose survivors agree", "nothing", STATED, agreeing),
    ]


def pass_rows(results: Results) -> list[Row]:
    """pass@k before and after, and the gain of each round."""
    study = results.study
    small, large = study.deciding_ks
    rows = []
    for bank, paper_k, k, paper in (
        ("easy", 8, small, "46.0 → 53.0"),
        ("hard", 8, small, "38.0 → 46.0"),
        ("easy", 64, large, "68.0 → 61.5"),
        ("hard", 64, large, "57.5 → 52.5"),
    ):
        passed = results.entries.where(quantity=PASS, bank=bank, k=k)
        quantity = f"pass@{paper_k} on {bank}, gen_v0 to the last round"
        if k != paper_k:
            quantity += f" (ours: pass@{k})"
        ours = [passed.first(models=(model,)) for model in study.first_and_last]
        rows.append(Row(quantity, paper, SECONDARY, path(ours, percentage)))
    for bank, paper in (("easy", "+7.2 → +1.9"), ("hard", "+5.1 → +2.8")):
        gained = results.entries.where(quantity=GAIN, bank=bank, k=small, of="")
        quantity = (
            f"gain of each round on {bank}: “ceiling”, mean of four trajectories (ours: pass@{small}), points"
        )
        rows.append(Row(quantity, paper, SECONDARY, path(list(gained), signed)))
    return rows


def sample_rows(results: Results) -> list[Row]:
    """What the samples are like."""
    study = results.study
    (small, large), bank = study.deciding_ks, study.analysis.primary_bank
    fit, passed = (
        results.entries.first(quantity=quantity, bank=bank, models=(study.start,), k=large)
        for quantity in (FIT, PASS)
    )
    counted = results.entries.where(quantity=COUNTED)
    divergence = [
        results.entries.first(quantity=DIVERGENCE, bank=bank, models=(model,), k=small)
        for model in study.first_and_last
    ]
    return [
        Row(
            f"visible-fit@{large} minus pass@{large} of gen_v0 (ours: {bank}), points",
            "about +11",
            SECONDARY,
            DASH if fit is None or passed is None else signed(fit.estimate - passed.estimate),
        ),
        Row(
            "distinct generalising programs a solved task in the STaR data, first to last round",
            "2.79 → 4.05",
            SECONDARY,
            path([row for row in counted if row.models[0] in study.sequence], "{:.2f}".format),
        ),
        Row(
            f"divergent tasks at k = {small}, gen_v0 to the last round (ours: {bank}), %",
            "falls",
            SECONDARY,
            path(divergence, percentage),
        ),
    ]


def percentage(share: float) -> str:
    """A share as a percentage without its sign."""
    return f"{100 * share:.1f}"


def path(values: Sequence[Entry | None], write: Callable[[float], str]) -> str:
    """Values from first to last, or a dash where any is missing."""
    estimates = [value and value.estimate for value in values]
    known = [value for value in estimates if value is not None]
    return " → ".join(map(write, known)) if values and len(known) == len(values) else DASH
